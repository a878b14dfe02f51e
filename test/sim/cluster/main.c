/*
 * main.c
 *		The suite: many seeds with all rules in place, then each rule left out.
 *
 *	sim-cluster --check [--seconds S]             TAP; what CI runs
 *	sim-cluster --seed N [--canary C] [--trace]   one run again
 *	sim-cluster --from N --runs M [--canary C]    stop at the first failure
 *	sim-cluster --canaries                        what finds each of them
 */
#define _POSIX_C_SOURCE 200809L
#include "cluster.h"
#include "seeds.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t dc_canaries;

typedef struct Canary
{
	const char *name;
	uint64_t canary;
	Defect defect;
	Trouble trouble;
	const char *claim;
	uint64_t seed; /* that found it last */
} Canary;

static const Canary canaries[] = {
	{"R2", DC_CANARY_R2, DEFECT_NONE, TROUBLE_ANY,
	 "the watermark ignores transactions in flight", 1},
	{"levels-settled", DC_CANARY_LEFT, DEFECT_NONE, TROUBLE_ANY,
	 "what a catch-up left to others counts as there", 18},
	{"levels-own", 0, DEFECT_LEFT_OWN, TROUBLE_DIRECTED + 17,
	 "a donor hands on no debts of its own", 1},
	{"levels-disk", 0, DEFECT_LEFT_DISK, TROUBLE_DIRECTED + 16,
	 "what is left to others is forgotten in a crash", 1},
	{"levels-void", 0, DEFECT_LEFT_VOID, TROUBLE_ANY,
	 "a catch-up takes back what others left", 3045},
	{"R3", 0, DEFECT_R3, TROUBLE_CRASH,
	 "a change is shipped before it is flushed", 1},
	{"R4-greatest", 0, DEFECT_R4_GREATEST, TROUBLE_ANY,
	 "V is the greatest stamp seen", 1},
	{"R4-disk", 0, DEFECT_R4_DISK, TROUBLE_CRASH,
	 "V is durable ahead of its rows", 4},
	{"R4-held", 0, DEFECT_R4_HELD, TROUBLE_CRASH,
	 "what was held back is acknowledged unflushed", 4},
	{"R5", DC_CANARY_R5, DEFECT_NONE, TROUBLE_PURGE,
	 "what was forgotten is taken again", 869},
	{"R5-order", 0, DEFECT_R5_DEAD, TROUBLE_ANY,
	 "the last comer wins, not the greater stamp", 1},
	{"R6", 0, DEFECT_R6, TROUBLE_ANY, "catch-up claims the V read at its end",
	 8},
	{"R6-base", 0, DEFECT_R6_BASE, TROUBLE_DIRECTED + 3,
	 "catch-up is adopted without the base check", 2},
	{"R6-session", 0, DEFECT_R6_SESSION, TROUBLE_CRASH,
	 "a session outlives a crash of one side", 1},
	{"R7", 0, DEFECT_R7, TROUBLE_CRASH,
	 "the floor comes from V not yet durable", 1},
	{"R8", DC_CANARY_R8, DEFECT_NONE, TROUBLE_PURGE,
	 "who is silent is not waited for", 1},
	{"R8-clock", 0, DEFECT_R8_CLOCK, TROUBLE_PURGE,
	 "purge when the deleter's own clock has passed", 1},
	{"R8-grace", 0, DEFECT_R8_GRACE, TROUBLE_PURGE,
	 "purge after a grace period", 16},
	{"R8-local", 0, DEFECT_R8_LOCAL, TROUBLE_PURGE, "purge at the local floor",
	 17},
	{"R8-durable", 0, DEFECT_R8_DURABLE, TROUBLE_CRASH,
	 "purge before g is durable", 637},
	{"R10", DC_CANARY_R10, DEFECT_NONE, TROUBLE_JOIN,
	 "floors count under any list", 43},
	{"R11", DC_CANARY_R11, DEFECT_NONE, TROUBLE_DIRECTED,
	 "removed without closing", 1},
	{"R11-durable", 0, DEFECT_R11_DURABLE, TROUBLE_REMOVE,
	 "a closing is acknowledged before its flush", 22},
	{"R11-list", 0, DEFECT_R11_LIST, TROUBLE_DIRECTED,
	 "closings count under any list", 2},
	{"R12", DC_CANARY_R12, DEFECT_NONE, TROUBLE_JOIN,
	 "a newcomer need not join", 156},
	{"R12-known", 0, DEFECT_R12_KNOWN, TROUBLE_DIRECTED + 11,
	 "who is in the peer's list need not join", 1},
	{"R12-adopt", 0, DEFECT_R12_ADOPT, TROUBLE_DIRECTED + 11,
	 "a catch-up leads a node over a horizon", 1},
	{"R12-open", 0, DEFECT_R12_OPEN, TROUBLE_DIRECTED + 12,
	 "a joiner's open transactions are not waited for", 1},
	{"R12-early", 0, DEFECT_R12_EARLY, TROUBLE_JOIN, "a joiner ships at once",
	 75},
	{"R12-joiner", 0, DEFECT_R12_JOINER, TROUBLE_DIRECTED + 9,
	 "a joiner's clock takes a newcomer in", 1},
	{"observe", 0, DEFECT_OBSERVE, TROUBLE_ANY,
	 "the clock does not follow what is taken", 1},
	{"R12-horizon", 0, DEFECT_R12_HORIZON, TROUBLE_JOIN,
	 "a joiner does not take the donor's g", 33},
	{"R13", DC_CANARY_R13, DEFECT_NONE, TROUBLE_DIRECTED + 1,
	 "a joiner keeps what others forgot", 1},
	{"R13-wait", 0, DEFECT_R13_WAIT, TROUBLE_DIRECTED + 6,
	 "who comes back does not wait for all", 1},
	{"R13-purge", 0, DEFECT_R13_PURGE, TROUBLE_DIRECTED + 5,
	 "a joiner purges before it has compared", 1},
	{"R13-deaths", 0, DEFECT_R13_DEATHS, TROUBLE_DIRECTED + 5,
	 "a joiner's own deaths are not judged", 1},
	{"R13-resort", 0, DEFECT_R13_RESORT, TROUBLE_RESTORE,
	 "nobody is a donor when all must compare", 25},
	{"R13-others", 0, DEFECT_R13_OTHERS, TROUBLE_DIRECTED + 10,
	 "entries of others are judged by R", 5},
	{"R13-ship", 0, DEFECT_R13_SHIP, TROUBLE_DIRECTED + 4,
	 "who was removed goes on as before", 1},
	{"R13-own", 0, DEFECT_R13_OWN, TROUBLE_DIRECTED + 5,
	 "the own watermark says which deaths others know", 1},
	{"R9-erase", 0, DEFECT_R9_ERASE, TROUBLE_TAMPER,
	 "what the peer claims purged is erased", 4},
	{"R9-take", 0, DEFECT_R9_TAKE, TROUBLE_TAMPER,
	 "what the peer claims purged is sent, or taken", 28},
	{"R9-third", 0, DEFECT_R9_THIRD, TROUBLE_TAMPER, "no third node is asked",
	 7},
	{"R14", 0, DEFECT_R14, TROUBLE_CRASH, "the clock restarts below its bound",
	 13},
	{"R15-restore", 0, DEFECT_R15, TROUBLE_RESTORE,
	 "a restored backup keeps its identity", 23},
	{"R15-own", 0, DEFECT_R15_OWN, TROUBLE_RESTORE,
	 "own writes are not asked back after a start", 421},
	{"R15-clock", 0, DEFECT_R15_CLOCK, TROUBLE_DIRECTED + 7,
	 "a new life writes before it met the others", 1},
	{"R15-owe", 0, DEFECT_R15_OWE, TROUBLE_DIRECTED + 8,
	 "own writes come back and no link owes a catch-up", 2},
	{"R15-verdict", 0, DEFECT_R15_VERDICT, TROUBLE_DIRECTED + 13,
	 "clones are nobody's business", 1},
	{"R15", DC_CANARY_R15, DEFECT_NONE, TROUBLE_DIRECTED + 15,
	 "a clone that is gone is waited for", 1},
	{"R15-peers", 0, DEFECT_R15_PEERS, TROUBLE_CLONE,
	 "a server that knows of its clone goes on", 11},
	{"R15-self", 0, DEFECT_R15_SELF, TROUBLE_CLONE,
	 "who knows of a clone goes on with both", 1},
	{"R15-early", 0, DEFECT_R15_EARLY, TROUBLE_CLONE,
	 "two servers are forgotten to be one node", 5},
	{"seal", 0, DEFECT_SEAL, TROUBLE_NET, "a damaged message is taken", 2},
	{"replay", 0, DEFECT_REPLAY, TROUBLE_NET, "a message is taken again", 82},
	{"truncate", 0, DEFECT_TRUNCATE, TROUBLE_ANY,
	 "a TRUNCATE kills only what is here", 3},
	{"full", 0, DEFECT_FULL, TROUBLE_CRASH,
	 "acknowledged though the disk is full", 133},
	{"tombstones", 0, DEFECT_P15_SKIP, TROUBLE_NET,
	 "catch-up leaves out tombstones", 2},
};
#define CANARIES (sizeof(canaries) / sizeof(canaries[0]))

static const char *const fault_names[FAULTS] = {
	[FAULT_LOSS] = "datagrams lost",
	[FAULT_DUPLICATE] = "datagrams doubled",
	[FAULT_REORDER] = "datagrams overtaken",
	[FAULT_DELAY] = "delays",
	[FAULT_CORRUPT] = "messages damaged",
	[FAULT_REPLAY] = "calls replayed",
	[FAULT_BREAK] = "sessions broken",
	[FAULT_PARTITION] = "partitions",
	[FAULT_ONE_WAY] = "one-way partitions",
	[FAULT_ISOLATE] = "nodes isolated",
	[FAULT_SLOW] = "slow peers",
	[FAULT_CRASH] = "crashes",
	[FAULT_OUTAGE] = "long outages",
	[FAULT_SKEW] = "clocks set forward",
	[FAULT_JUMP_BACK] = "clocks set back",
	[FAULT_DISK_FULL] = "disks full",
	[FAULT_BACKUP] = "backups restored",
	[FAULT_STANDBY] = "standbys promoted",
	[FAULT_ROLLBACK] = "disks set back unnoticed",
	[FAULT_JOIN] = "joins without rows",
	[FAULT_JOIN_ROWS] = "joins with rows",
	[FAULT_REMOVE] = "removals",
	[FAULT_RETURN] = "returns of removed nodes",
	[FAULT_ABORT] = "aborts",
	[FAULT_ASYNC] = "asynchronous commits",
	[FAULT_TRUNCATE] = "truncates",
	[FAULT_CLONE] = "clones",
	[FAULT_TAMPER_LOSS] = "rows lost behind a node's back",
	[FAULT_TAMPER_GHOST] = "rows brought back behind a node's back",
	[FAULT_GOODBYE] = "servers stopped with a goodbye",
	[FAULT_STRANGER] = "strangers",
	[FAULT_END_OF_TIME] = "clocks near the end of time",
};

static Sim *sim;
static unsigned claims;
static unsigned failed;
static bool tracing;

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
	dc_canaries = canary != NULL ? canary->canary : 0;
	return cluster_run(sim, seed, canary != NULL ? canary->defect : DEFECT_NONE,
					   canary != NULL ? canary->trouble : TROUBLE_ANY, trace);
}

static void
report_failure(const Canary *canary, uint64_t seed)
{
	printf("# seed %llu: %s\n", (unsigned long long) seed, sim->failure);
	printf("# again: build/sim-cluster --seed %llu%s%s --trace\n",
		   (unsigned long long) seed, canary != NULL ? " --canary " : "",
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
	return search(canary, 1, 20000, until);
}

static void
claim(bool holds, const char *name, const char *text)
{
	claims++;
	failed += !holds;
	printf("%sok %u - %s: %s\n", holds ? "" : "not ", claims, name, text);
	fflush(stdout);
}

#define NUMBER(x) ((unsigned long long) (x))

static void
print_stats(const Stats *s, double took)
{
	uint64_t faults = 0;

	printf("# %llu runs, %llu steps, %.0f runs/s, %.0f steps/s\n",
		   NUMBER(s->runs), NUMBER(s->steps), (double) s->runs / took,
		   (double) s->steps / took);
	printf("# %llu operations in %llu transactions, %.0f operations/s\n",
		   NUMBER(s->operations), NUMBER(s->commits),
		   (double) s->operations / took);
	printf("# %llu messages, %llu datagrams, %llu changes applied, %llu stale, "
		   "%llu catch-ups, %llu segments\n",
		   NUMBER(s->messages), NUMBER(s->datagrams), NUMBER(s->applied),
		   NUMBER(s->stale), NUMBER(s->catchups), NUMBER(s->segments));
	printf("# %llu horizons, %llu tombstones purged, %llu joined, %llu new "
		   "incarnations, %llu removals, %llu comparisons, %llu donors of last resort\n",
		   NUMBER(s->horizons), NUMBER(s->purged), NUMBER(s->joins),
		   NUMBER(s->rejoins), NUMBER(s->removals), NUMBER(s->repairs),
		   NUMBER(s->resorts));
	printf("# %llu ghosts erased, %llu rows issued anew, %llu set aside, %llu "
		   "mended by repair, %llu refusals, %llu waits for drift\n",
		   NUMBER(s->erased), NUMBER(s->reissued), NUMBER(s->quarantined),
		   NUMBER(s->mended), NUMBER(s->refused), NUMBER(s->waits));
	printf("# compared keys: %llu agree, %llu wait, %llu fetched, %llu pushed, %llu "
		   "kept, %llu alone; %llu settled by a third node, %llu reports\n",
		   NUMBER(s->action[0]), NUMBER(s->action[1]), NUMBER(s->action[2]),
		   NUMBER(s->action[3]), NUMBER(s->action[4]), NUMBER(s->action[5]),
		   NUMBER(s->thirds), NUMBER(s->reported));
	printf("# gossip: %llu moves, %llu restarts, %llu descriptions, %llu clashes, "
		   "%llu refusals, %llu full; %llu survivors\n",
		   NUMBER(s->event[0]), NUMBER(s->event[1]), NUMBER(s->event[2]),
		   NUMBER(s->event[3]), NUMBER(s->event[4]), NUMBER(s->event[5]),
		   NUMBER(s->survivors));
	for (int i = 0; i < FAULTS; i++)
	{
		faults += s->fault[i];
		printf("#   %10llu %s\n", NUMBER(s->fault[i]), fault_names[i]);
	}
	printf("# total: %llu operations, %llu crashes, %llu faults, %.0f faults/s\n",
		   NUMBER(s->operations),
		   NUMBER(s->fault[FAULT_CRASH] + s->fault[FAULT_OUTAGE]),
		   NUMBER(faults), (double) faults / took);
}

/* Each seed that once failed; the first that does again, or NULL. */
static const Seed *
replay_corpus(void)
{
	for (size_t i = 0; i < CORPUS; i++)
	{
		dc_canaries = 0;
		if (!cluster_run(sim, corpus[i].seed, DEFECT_NONE, corpus[i].trouble,
						 false))
			return &corpus[i];
	}
	return NULL;
}

/* Number (from 1) of the first schedule that fails, or 0. */
static uint64_t
run_schedules(void)
{
	dc_canaries = 0;
	for (uint32_t i = 0; i < directed_count; i++)
	{
		if (!cluster_run(sim, 1, DEFECT_NONE, TROUBLE_DIRECTED + i, false))
			return i + 1;
	}
	return 0;
}

/*
 * The first canary whose seed runs otherwise in a simulator that was used
 * before than in a new one, or NULL: a seed must decide everything.
 */
static const Canary *
unrepeatable(void)
{
	static Sim other;
	Sim *used = sim;
	const Canary *found = NULL;

	for (size_t i = 0; i < CANARIES && found == NULL; i++)
	{
		memset(&other, 0, sizeof(other));
		sim = &other;
		(void) run_with(&canaries[i], canaries[i].seed, false);
		sim = used;
		(void) run_with(&canaries[i], canaries[i].seed, false);
		if (memcmp(&sim->rng, &other.rng, sizeof(Rng)) != 0 ||
			sim->now_us != other.now_us ||
			strcmp(sim->failure, other.failure) != 0)
			found = &canaries[i];
	}
	return found;
}

/* Which classes of faults never happened. */
static unsigned
print_missing(const Stats *s)
{
	unsigned missing = 0;

	for (int i = 0; i < FAULTS; i++)
	{
		if (s->fault[i] > 0)
			continue;
		missing++;
		printf("# never: %s\n", fault_names[i]);
	}
	return missing;
}

static int
check(double budget)
{
	const Seed *old;
	const Canary *other;
	double start = seconds();
	char text[120];
	uint64_t seed;

	printf("1..%zu\n", CANARIES + 5);
	old = replay_corpus();
	claim(old == NULL, "corpus", "no seed fails that once failed");
	if (old != NULL)
		printf("# seed %llu: %s\n# again: build/sim-cluster --seed %llu "
			   "--trouble %u --trace\n",
			   NUMBER(old->seed), sim->failure, NUMBER(old->seed),
			   old->trouble);
	seed = search(NULL, 1, UINT64_MAX, start + budget * 0.5);
	claim(seed == 0, "all rules in place", "every run converges");
	if (seed != 0)
		report_failure(NULL, seed);
	print_stats(&sim->stats, seconds() - start);
	claim(print_missing(&sim->stats) == 0, "faults", "every class was drawn");
	seed = run_schedules();
	claim(seed == 0, "directed", "every schedule converges");
	if (seed != 0)
		printf("# schedule %llu: %s\n", NUMBER(seed), sim->failure);
	other = unrepeatable();
	claim(other == NULL, "repeatable", "a seed decides everything");
	if (other != NULL)
		printf("# seed %llu of %s runs otherwise after others\n",
			   NUMBER(other->seed), other->name);
	for (size_t i = 0; i < CANARIES; i++)
	{
		seed = find(&canaries[i], start + budget);
		snprintf(text, sizeof(text), "noticed that %s", canaries[i].claim);
		claim(seed != 0, canaries[i].name, text);
		if (seed != 0)
			report_failure(&canaries[i], seed);
	}
	return failed > 0;
}

static void
list_canaries(double budget)
{
	for (size_t i = 0; i < CANARIES; i++)
	{
		double start = seconds();
		uint64_t before = sim->stats.runs;
		uint64_t seed = find(&canaries[i], start + budget);

		printf("%-12s seed %-6llu runs %-6llu %5.1f s  %s -> %s\n",
			   canaries[i].name, NUMBER(seed), NUMBER(sim->stats.runs - before),
			   seconds() - start, canaries[i].claim,
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
	fprintf(stderr, "sim-cluster: no canary \"%s\"\n", name);
	exit(2);
}

int
main(int argc, char **argv)
{
	const Canary *canary = NULL;
	static Canary any = {"", 0, DEFECT_NONE, TROUBLE_ANY, "", 0};
	uint64_t seed = 0;
	uint64_t from = 1;
	uint64_t runs = UINT64_MAX;
	double budget = 100;
	bool suite = false;
	bool list = false;
	bool schedules = false;
	int status = 0;

	for (int i = 1; i < argc; i++)
	{
		const char *value = i + 1 < argc ? argv[i + 1] : "0";

		if (strcmp(argv[i], "--check") == 0)
			suite = true;
		else if (strcmp(argv[i], "--canaries") == 0)
			list = true;
		else if (strcmp(argv[i], "--directed") == 0)
			schedules = true;
		else if (strcmp(argv[i], "--trace") == 0)
			tracing = true;
		else if (strcmp(argv[i], "--seed") == 0 && ++i)
			seed = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--from") == 0 && ++i)
			from = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--runs") == 0 && ++i)
			runs = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0 && ++i)
			budget = strtod(value, NULL);
		else if (strcmp(argv[i], "--trouble") == 0 && ++i)
		{
			any.trouble = (Trouble) strtoul(value, NULL, 10);
			canary = &any;
		}
		else if (strcmp(argv[i], "--canary") == 0 && ++i)
			canary = canary_named(value);
		else
		{
			fprintf(stderr,
					"usage: sim-cluster --check [--seconds S]\n"
					"       sim-cluster --canaries | --directed\n"
					"       sim-cluster --seed N [--canary C] [--trace]\n"
					"       sim-cluster --from N --runs M [--canary C]\n");
			return 2;
		}
	}

	sim = calloc(1, sizeof(*sim));
	if (sim == NULL)
		return 2;
	if (suite)
		status = check(budget);
	else if (list)
		list_canaries(budget);
	else if (schedules)
		status = run_schedules() != 0;
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
