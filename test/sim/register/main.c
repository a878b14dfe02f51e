/*
 * main.c
 *		The suite: many seeds and every order of few messages with all rules
 *		in place, then each rule left out.
 *
 *	sim-register --check [--seconds S]             TAP; what CI runs
 *	sim-register --seed N [--canary C] [--trace]   one run again
 *	sim-register --from N --runs M [--canary C]    stop at the first failure
 *	sim-register --canaries                        what finds each of them
 *	sim-register --explore [--states N]            without the suite's limit
 */
#define _POSIX_C_SOURCE 200809L
#include "rsim.h"

#include "canary.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NUMBER(x) ((unsigned long long) (x))

uint64_t dc_canaries;

typedef struct Canary
{
	const char *name;
	uint64_t canary;
	Defect defect;
	Profile profile;
	const char *claim;
	uint64_t seed; /* that found it last; 0: search */
} Canary;

static const Canary canaries[] = {
	{"promise-durable", 0, DEFECT_PROMISE, PROFILE_DIRECTED + 2,
	 "a promise is forgotten in a crash", 1},
	{"accept-durable", 0, DEFECT_ACCEPT, PROFILE_DUEL,
	 "what was accepted is forgotten in a crash", 3},
	{"ballot", 0, DEFECT_BALLOT, PROFILE_DUEL,
	 "a ballot is drawn again after a crash", 21186},
	{"promise", DC_CANARY_REG_PROMISE, DEFECT_NONE, PROFILE_ANY,
	 "a list is accepted below the promise", 1},
	{"value", DC_CANARY_REG_VALUE, DEFECT_NONE, PROFILE_ANY,
	 "phase 1 ignores accepted lists", 14},
	{"highest", DC_CANARY_REG_HIGHEST, DEFECT_NONE, PROFILE_DUEL,
	 "the least ballot's list is chosen", 332},
	{"half", DC_CANARY_REG_HALF, DEFECT_NONE, PROFILE_ANY,
	 "half of the members decide", 1},
	{"next", DC_CANARY_REG_NEXT, DEFECT_NONE, PROFILE_ANY,
	 "the new list's members are counted", 2},
	{"member", DC_CANARY_REG_MEMBER, DEFECT_NONE, PROFILE_ANY,
	 "who is no member votes", 1},
	{"learn", DC_CANARY_REG_LEARN, DEFECT_NONE, PROFILE_ANY,
	 "one acceptance is taken for a decision", 1},
	{"clear", DC_CANARY_REG_CLEAR, DEFECT_NONE, PROFILE_ANY,
	 "votes of the former list are kept", 1},
	{"behind", DC_CANARY_REG_BEHIND, DEFECT_NONE, PROFILE_DUEL,
	 "one that is ahead votes on an older list's successor", 1343},
	{"restored", 0, DEFECT_LIFE, PROFILE_LIVES,
	 "a restored disk keeps its incarnation", 20},
	{"life", DC_CANARY_REG_LIFE, DEFECT_NONE, PROFILE_LIVES,
	 "a new life votes for the old one", 23},
	{"takeover-some", DC_CANARY_REG_SOME, DEFECT_NONE, PROFILE_LIVES,
	 "a new life among three takes over with some promises", 891},
	{"takeover-all", DC_CANARY_REG_TAKEOVER, DEFECT_NONE, PROFILE_DIRECTED + 1,
	 "a new life among three takes over with all promises", 1},
	{"takeover-look", 0, DEFECT_PEEK, PROFILE_DIRECTED,
	 "a new life among two takes over without a promise", 1},
	{"alone", DC_CANARY_REG_ALONE, DEFECT_NONE, PROFILE_LONE,
	 "a restored lone node goes on in its lineage", 79},
	{"abandon", DC_CANARY_REG_ABANDON, DEFECT_NONE, PROFILE_LONE,
	 "a group leaves its lineage", 174},
	{"generation", DC_CANARY_REG_GENERATION, DEFECT_NONE, PROFILE_FORCED,
	 "generations of forced recoveries are counted", 1970},
	{"overtaken", DC_CANARY_REG_OVERTAKEN, DEFECT_NONE, PROFILE_ANY,
	 "a command that others overtook is called undone", 296},
	{"number", DC_CANARY_REG_NUMBER, DEFECT_NONE, PROFILE_ANY,
	 "a command is given a number that is taken", 13},
	{"name", DC_CANARY_REG_NAME, DEFECT_NONE, PROFILE_ANY,
	 "lists are equal, whatever their commands", 187},
};
#define CANARIES (sizeof(canaries) / sizeof(canaries[0]))

static const char *const fault_names[FAULTS] = {
	[FAULT_LOSS] = "messages lost",
	[FAULT_DOUBLE] = "messages doubled",
	[FAULT_PARTITION] = "partitions",
	[FAULT_ONE_WAY] = "one-way partitions",
	[FAULT_CRASH] = "crashes",
	[FAULT_RESTORE] = "disks set back",
	[FAULT_WIPE] = "disks emptied",
	[FAULT_TIMEOUT] = "calls given up",
	[FAULT_FORCE] = "forced recoveries",
	[FAULT_ABANDON] = "lineages abandoned",
	[FAULT_TAKEOVER] = "votes taken over",
};

static Sim *sim;
static unsigned claims;
static unsigned failed;
static bool tracing;

void
say(Sim *of, const char *text, ...)
{
	va_list args;

	if (!of->trace)
		return;
	printf("%8llu  ", NUMBER(of->now_us));
	va_start(args, text);
	vprintf(text, args);
	va_end(args);
	putchar('\n');
}

/* The first failure counts. */
void
fail(Sim *of, const char *text, ...)
{
	va_list args;

	if (of->failure[0] != '\0')
		return;
	va_start(args, text);
	vsnprintf(of->failure, sizeof(of->failure), text, args);
	va_end(args);
	say(of, "FAILED: %s", of->failure);
}

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static bool
run_with(const Canary *canary, uint64_t seed, bool trace)
{
	bool held;

	dc_canaries = canary != NULL ? canary->canary : 0;
	held = run(sim, seed, canary != NULL ? canary->defect : DEFECT_NONE,
			   canary != NULL ? canary->profile : PROFILE_ANY, trace);
	dc_canaries = 0;
	return held;
}

static void
report_failure(const Canary *canary, uint64_t seed)
{
	printf("# seed %llu: %s\n", NUMBER(seed), sim->failure);
	printf("# again: build/sim-register --seed %llu%s%s --trace\n",
		   NUMBER(seed), canary != NULL ? " --canary " : "",
		   canary != NULL ? canary->name : "");
}

/* Runs seeds from `seed` on; the first that fails, or 0. */
static uint64_t
search(const Canary *canary, uint64_t seed, uint64_t runs, double until)
{
	for (uint64_t i = 0; i < runs && seconds() < until; i++)
	{
		if (!run_with(canary, seed + i, tracing))
			return seed + i;
	}
	return 0;
}

/* Tries the seed that found it last, then all from 1 on. */
static uint64_t
find(const Canary *canary, double until)
{
	if (canary->seed != 0 && !run_with(canary, canary->seed, false))
		return canary->seed;
	return search(canary, 1, UINT64_MAX, until);
}

static void
claim(bool holds, const char *name, const char *text)
{
	claims++;
	failed += !holds;
	printf("%sok %u - %s: %s\n", holds ? "" : "not ", claims, name, text);
	fflush(stdout);
}

static void
print_stats(const Stats *s, double took)
{
	printf("# %llu runs, %llu steps, %llu messages, %.0f messages/s\n",
		   NUMBER(s->runs), NUMBER(s->steps), NUMBER(s->messages),
		   (double) s->messages / took);
	printf("# %llu lists decided, %llu of them by a command; of changes %llu "
		   "done (%llu already), %llu without a majority, %llu open, %llu "
		   "outvoted\n",
		   NUMBER(s->decided), NUMBER(s->commands), NUMBER(s->completed),
		   NUMBER(s->already), NUMBER(s->none), NUMBER(s->undecided),
		   NUMBER(s->refused));
	printf("# %llu times calm, %llu lineages recovered in it\n",
		   NUMBER(s->liveness), NUMBER(s->forced_at_end));
	for (int i = 0; i < FAULTS; i++)
		printf("#   %10llu %s\n", NUMBER(s->fault[i]), fault_names[i]);
}

static bool
every_fault(const Stats *s)
{
	for (int i = 0; i < FAULTS; i++)
	{
		if (s->fault[i] == 0)
			return false;
	}
	return true;
}

static void
check_orders(uint64_t states_max)
{
	for (uint32_t i = 0; i < explore_count; i++)
	{
		const char *failure = "";
		bool all = false;
		uint64_t states = explore(i, states_max, &all, &failure);

		claim(states > 0, explore_names[i], "one list under every order");
		if (states > 0)
			printf("# %llu states%s\n", NUMBER(states),
				   all ? "" : " (not all)");
		else
			printf("# %s\n", failure);
	}
}

/* The same exploration notices the classical mistakes. */
static void
check_orders_noticed(void)
{
	for (size_t i = 0; i < CANARIES; i++)
	{
		const char *failure = "";
		char text[120];
		uint32_t scenario;
		bool all;

		if ((canaries[i].canary & (DC_CANARY_REG_PROMISE | DC_CANARY_REG_VALUE |
								   DC_CANARY_REG_HALF | DC_CANARY_REG_NAME)) ==
			0)
			continue;
		scenario =
			canaries[i].canary == DC_CANARY_REG_NAME ? explore_commands : 0;
		dc_canaries = canaries[i].canary;
		snprintf(text, sizeof(text), "noticed that %s", canaries[i].claim);
		claim(explore(scenario, 20000, &all, &failure) == 0, "every order",
			  text);
		dc_canaries = 0;
	}
}

static int
check(double budget)
{
	double start = seconds();
	char text[120];
	uint64_t seed = search(NULL, 1, UINT64_MAX, start + budget * 0.5);

	claim(seed == 0, "all rules in place",
		  "one list for each number, and changes complete when all is calm");
	if (seed != 0)
		report_failure(NULL, seed);
	print_stats(&sim->stats, seconds() - start);
	claim(every_fault(&sim->stats), "faults", "every class was drawn");
	claim(sim->stats.commands > 0, "commands", "some were decided");
	seed = 0;
	for (uint32_t i = 0; i < directed_count; i++)
	{
		if (!run(sim, 1, DEFECT_NONE, (Profile) (PROFILE_DIRECTED + i), false))
			seed = i + 1;
	}
	claim(seed == 0, "directed", "one list under every schedule");
	check_orders(21000);
	check_orders_noticed();
	for (size_t i = 0; i < CANARIES; i++)
	{
		seed = find(&canaries[i], seconds() + 20);
		snprintf(text, sizeof(text), "noticed that %s", canaries[i].claim);
		claim(seed != 0, canaries[i].name, text);
		if (seed != 0)
			report_failure(&canaries[i], seed);
	}
	printf("1..%u\n", claims);
	return failed > 0;
}

static void
list_canaries(double budget)
{
	for (size_t i = 0; i < CANARIES; i++)
	{
		double start = seconds();
		uint64_t seed = search(&canaries[i], 1, UINT64_MAX, start + budget);

		printf("%-16s seed %-7llu %5.1f s  %s -> %s\n", canaries[i].name,
			   NUMBER(seed), seconds() - start, canaries[i].claim,
			   seed != 0 ? sim->failure : "NOT FOUND");
		fflush(stdout);
	}
}

static const Canary *
canary_named(const char *name)
{
	for (size_t i = 0; i < CANARIES; i++)
	{
		if (strcmp(canaries[i].name, name) == 0)
			return &canaries[i];
	}
	fprintf(stderr, "sim-register: no canary \"%s\"\n", name);
	exit(2);
}

int
main(int argc, char **argv)
{
	const Canary *canary = NULL;
	uint64_t seed = 0;
	uint64_t from = 1;
	uint64_t runs = UINT64_MAX;
	uint64_t states = UINT64_C(1000000);
	double budget = 20;
	char mode = 'r';
	int status = 0;

	for (int i = 1; i < argc; i++)
	{
		const char *value = i + 1 < argc ? argv[i + 1] : "0";

		if (strcmp(argv[i], "--check") == 0)
			mode = 'c';
		else if (strcmp(argv[i], "--canaries") == 0)
			mode = 'l';
		else if (strcmp(argv[i], "--explore") == 0)
			mode = 'e';
		else if (strcmp(argv[i], "--trace") == 0)
			tracing = true;
		else if (strcmp(argv[i], "--seed") == 0 && ++i)
			seed = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--from") == 0 && ++i)
			from = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--runs") == 0 && ++i)
			runs = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--states") == 0 && ++i)
			states = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0 && ++i)
			budget = strtod(value, NULL);
		else if (strcmp(argv[i], "--canary") == 0 && ++i)
			canary = canary_named(value);
		else
		{
			fprintf(stderr, "usage: sim-register --check | --canaries | "
							"--explore [--states N] |\n"
							"       --seed N | --from N --runs M  "
							"[--canary C] [--trace] [--seconds S]\n");
			return 2;
		}
	}
	sim = calloc(1, sizeof(*sim));
	if (sim == NULL)
		return 2;
	if (mode == 'c')
		status = check(budget);
	else if (mode == 'l')
		list_canaries(budget);
	else if (mode == 'e')
		check_orders(states), status = failed > 0;
	else
	{
		double start = seconds();

		seed = seed != 0 ? (run_with(canary, seed, tracing) ? 0 : seed) :
						   search(canary, from, runs, start + budget);
		status = seed != 0;
		if (status)
			report_failure(canary, seed);
		print_stats(&sim->stats, seconds() - start);
	}
	free(sim);
	return status;
}
