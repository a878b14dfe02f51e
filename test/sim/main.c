/*
 * main.c
 *		The suite: many seeds with all rules in place, then each rule left out.
 *
 *	sim --check [--seconds S]         TAP; what CI runs
 *	sim --seed N [--canary R] [--trace]   one run again
 *	sim --from N --runs M [--canary R]    many runs, stop at the first failure
 *	sim --canaries [--canary R]       search for each canary from seed 1 on
 *	sim --explore [--scenario NAME] [--runs STATES]   every order of few steps
 */
#define _POSIX_C_SOURCE 200809L
#include "bulk.h"
#include "copy.h"
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

uint64_t dc_canaries;

/* A rule left out; the suite claims that the simulator notices it. */
typedef struct Fault
{
	const char *name;
	uint64_t canary;
	Defect defect;
	Trouble trouble;
	const char *claim;
} Fault;

static const Fault faults[] = {
	{"P1", DC_CANARY_P1, DEFECT_NONE, TROUBLE_ANY,
	 "an insert ignores the deaths of its key"},
	{"P2", DC_CANARY_P2, DEFECT_NONE, TROUBLE_MERGE,
	 "apply believes the metadata, not the heap"},
	{"R2", DC_CANARY_R2, DEFECT_NONE, TROUBLE_ANY,
	 "the watermark ignores transactions in flight"},
	{"R4", DC_CANARY_R4, DEFECT_NONE, TROUBLE_RELAY,
	 "a vector moves over gaps"},
	{"R5", DC_CANARY_R5, DEFECT_NONE, TROUBLE_EXPLORE,
	 "what was forgotten is taken again"},
	{"R8", DC_CANARY_R8, DEFECT_NONE, TROUBLE_PURGE,
	 "who does not answer is not waited for"},
	{"R1", 0, DEFECT_R1, TROUBLE_ANY,
	 "the stamp is drawn before the slot is published"},
	{"R3", 0, DEFECT_R3, TROUBLE_ANY,
	 "a change is shipped before it is flushed"},
	{"R4-disk", 0, DEFECT_R4_DISK, TROUBLE_CRASH,
	 "V is durable ahead of its rows"},
	{"R4-seen", 0, DEFECT_R4_SEEN, TROUBLE_ANY, "V is the greatest stamp seen"},
	{"R6", 0, DEFECT_R6, TROUBLE_ANY,
	 "catch-up claims the V read after its scan"},
	{"session", 0, DEFECT_SESSION, TROUBLE_CRASH,
	 "a session survives the crash of one side"},
	{"resume", 0, DEFECT_RESUME, TROUBLE_RELAY,
	 "a catch-up goes on behind what was not acknowledged"},
	{"R14", 0, DEFECT_R14, TROUBLE_CRASH, "the clock restarts below its bound"},
	{"R14-observe", 0, DEFECT_BOUND, TROUBLE_CRASH,
	 "stamps are taken in beyond the bound"},
	{"observe", 0, DEFECT_OBSERVE, TROUBLE_TRUNCATE,
	 "the clock ignores the stamps that come in"},
	{"P1-after", 0, DEFECT_P1_AFTER, TROUBLE_ANY,
	 "AFTER does not look at the deaths again"},
	{"P1-dying", 0, DEFECT_P1_DYING, TROUBLE_ANY,
	 "the exact look at the deaths ignores those under way"},
	{"P1-settle", 0, DEFECT_P1_SETTLE, TROUBLE_MERGE,
	 "a death is settled before it is merged"},
	{"P2-merge", 0, DEFECT_P2_MERGE, TROUBLE_MERGE,
	 "apply does not merge the row that made a change stale"},
	{"P2-birth", 0, DEFECT_P2_BIRTH, TROUBLE_EXPLORE,
	 "a late birth is not counted"},
	{"P5", 0, DEFECT_P5, TROUBLE_EXPLORE,
	 "a commit does not pin keys that are present"},
	{"P6", 0, DEFECT_P6, TROUBLE_CRASH,
	 "rebuild reads tombstones and rows by two snapshots"},
	{"P8", 0, DEFECT_P8, TROUBLE_ANY, "the watermark overtakes queued batches"},
	{"P9", 0, DEFECT_P9, TROUBLE_ANY, "catch-up flushes only up to L"},
	{"P15", 0, DEFECT_P15, TROUBLE_MERGE,
	 "catch-up skips a live entry without a row"},
	{"savepoint", 0, DEFECT_SAVEPOINT, TROUBLE_ANY,
	 "what was rolled back to a savepoint is shipped"},
	{"rekey", 0, DEFECT_REKEY, TROUBLE_ANY,
	 "a change of the key ships no death"},
	{"R7", 0, DEFECT_R7_MEMORY, TROUBLE_PURGE,
	 "a floor is told from a V that is not yet durable"},
	{"R8-durable", 0, DEFECT_R8_DURABLE, TROUBLE_EXPLORE,
	 "a purge comes before its horizon is durable"},
	{"R8-clock", 0, DEFECT_R8_CLOCK, TROUBLE_PURGE,
	 "a purge follows the own watermark"},
	{"R8-grace", 0, DEFECT_R8_GRACE, TROUBLE_PURGE,
	 "a purge follows the wall clock"},
	{"purge-apply", 0, DEFECT_PURGE_APPLY, TROUBLE_EXPLORE,
	 "a purge does not wait for apply in flight"},
	{"purge-mend", 0, DEFECT_PURGE_MEND, TROUBLE_EXPLORE,
	 "a purge does not wait for keys to be reconciled"},
	{"purge-blind", 0, DEFECT_PURGE_BLIND, TROUBLE_EXPLORE,
	 "a purge removes what it found some time ago"},
	{"R5-scan", 0, DEFECT_R5_SCAN, TROUBLE_EXPLORE,
	 "every scan is believed below the horizon"},
	{"floor-late", 0, DEFECT_FLOOR_LATE, TROUBLE_EXPLORE,
	 "a row that merges below the floor stays"},
	{"floor-sweep", 0, DEFECT_FLOOR_SWEEP, TROUBLE_TRUNCATE,
	 "rows that came beside a TRUNCATE stay"},
	{"floor-own", 0, DEFECT_FLOOR_OWN, TROUBLE_TRUNCATE,
	 "an insert after TRUNCATE keeps its stamp"},
	{"floor-stamp", 0, DEFECT_FLOOR_STAMP, TROUBLE_TRUNCATE,
	 "TRUNCATE draws no fresh stamp"},
	{"floor-scan", 0, DEFECT_FLOOR_SCAN, TROUBLE_EXPLORE,
	 "a floor that left entries out of a scan is not flushed"},
	{"floor-P1", 0, DEFECT_FLOOR_P1, TROUBLE_TRUNCATE,
	 "an insert ignores the floor"},
	{"seal", 0, DEFECT_SEAL, TROUBLE_ANY, "a damaged message gets through"},
};
/* No fault: only its schedules. */
static const Fault directed = {"directed", 0, DEFECT_NONE, TROUBLE_DIRECTED,
							   "no row outlives a death that merges late"};
#define FAULTS (sizeof(faults) / sizeof(faults[0]))

/* Seeds that found something once; see there. */
typedef struct Seed
{
	const char *name; /* of a canary, or "" */
	uint64_t seed;
	uint64_t runs; /* that the first search took */
} Seed;

static const Seed seeds[] = {
#include "seeds"
};
#define SEEDS (sizeof(seeds) / sizeof(seeds[0]))

static Sim *sim;
static unsigned claims;
static unsigned failed;

/* Of this process, so that a machine that is shared fails no claim. */
static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

static bool
run_with(const Fault *fault, uint64_t seed, bool trace)
{
	dc_canaries = fault != NULL ? fault->canary : 0;
	return sim_run(sim, seed, fault != NULL ? fault->defect : DEFECT_NONE,
				   fault != NULL ? fault->trouble : TROUBLE_ANY, trace);
}

static void
report_failure(const Fault *fault, uint64_t seed)
{
	printf("# seed %llu: %s\n", (unsigned long long) seed, sim->failure);
	printf("# again: build/sim --seed %llu%s%s --trace\n",
		   (unsigned long long) seed, fault != NULL ? " --canary " : "",
		   fault != NULL ? fault->name : "");
}

/* Runs seeds from `seed` on; the number of the first that fails, or 0. */
static uint64_t
search(const Fault *fault, uint64_t seed, uint64_t runs, double until)
{
	for (uint64_t i = 0; i < runs && seconds() < until; i++)
	{
		if (!run_with(fault, seed + i, false))
			return seed + i;
	}
	return 0;
}

static void
claim(bool holds, const char *name, const char *text)
{
	claims++;
	failed += !holds;
	printf("%sok %u - %s: %s\n", holds ? "" : "not ", claims, name, text);
}

/* Each class of fault, and how often it was drawn: never is a failure. */
static bool
print_faults(const Stats *s, double took)
{
	const struct
	{
		const char *name;
		uint64_t count;
	} classes[] = {
		{"crash with loss of what was not flushed", s->crashes},
		{"long outage", s->outages},
		{"session broken", s->breaks},
		{"old message delivered again", s->duplicates},
		{"segment relayed late or twice", s->relays},
		{"message damaged", s->damaged},
		{"step of a wall clock", s->clock_steps},
		{"stamp beyond the drift, link waits", s->waits},
		{"process stalled", s->stalls},
		{"deadlock or lock timeout", s->deadlocks},
		{"transaction aborted", s->aborts},
		{"rolled back to a savepoint", s->rollbacks},
		{"commit not flushed (asynchronous)", s->async},
		{"gap in the queue", s->gaps},
		{"closing refused", s->refused},
		{"no room in the map", s->full},
		{"catch-up resumed", s->resumed},
		{"TRUNCATE", s->truncates},
		{"change of a key", s->rekeys},
	};
	uint64_t total = 0;
	bool all = true;

	printf("# %-42s %12s\n", "fault", "drawn");
	for (size_t i = 0; i < sizeof(classes) / sizeof(classes[0]); i++)
	{
		printf("# %-42s %12llu\n", classes[i].name,
			   (unsigned long long) classes[i].count);
		total += classes[i].count;
		all = all && classes[i].count > 0;
	}
	printf("# %-42s %12llu, %.0f/s\n", "all", (unsigned long long) total,
		   (double) total / took);
	return all;
}

static void
print_stats(const Stats *s, double took)
{
	printf("# %llu runs, %llu steps, %.0f runs/s, %.0f steps/s of CPU time\n",
		   (unsigned long long) s->runs, (unsigned long long) s->steps,
		   (double) s->runs / took, (double) s->steps / took);
	printf("# %llu transactions, %llu operations, %.0f operations/s\n",
		   (unsigned long long) s->commits, (unsigned long long) s->operations,
		   (double) s->operations / took);
	printf("# %llu changes applied, %llu catch-ups, %llu late births, %llu "
		   "keys to reconcile, %llu rows erased, %llu waits for a merge, %llu "
		   "rows stamped again\n",
		   (unsigned long long) s->applied, (unsigned long long) s->catchups,
		   (unsigned long long) s->births, (unsigned long long) s->reconciles,
		   (unsigned long long) s->erased, (unsigned long long) s->fetches,
		   (unsigned long long) s->restamps);
	printf("# g rose %llu times, %llu deaths forgotten; at or below g: %llu "
		   "changes refused, %llu believed\n",
		   (unsigned long long) s->horizons, (unsigned long long) s->purged,
		   (unsigned long long) s->forgotten, (unsigned long long) s->believed);
}

static const Seed *
seed_of(const char *name)
{
	for (size_t i = 0; i < SEEDS; i++)
	{
		if (strcmp(seeds[i].name, name) == 0)
			return &seeds[i];
	}
	return NULL;
}

#define SEARCH_RUNS 40000

/* A line for one canary: which seed, after how many runs, what was said. */
static bool
find_canary(const Fault *fault, bool corpus, double until)
{
	const Seed *known = corpus ? seed_of(fault->name) : NULL;
	uint64_t seed = 0;
	uint64_t took = 0;

	if (known != NULL && !run_with(fault, known->seed, false))
	{
		seed = known->seed;
		took = known->runs;
	}
	if (seed == 0)
	{
		seed = search(fault, 1,
					  fault->trouble == TROUBLE_EXPLORE ? explore_count() :
														  SEARCH_RUNS,
					  until);
		took = seed;
	}
	if (seed == 0)
		printf("# %-14s not found\n", fault->name);
	else
		printf("# %-14s seed %6llu, found after %6llu runs: %s\n", fault->name,
			   (unsigned long long) seed, (unsigned long long) took,
			   sim->failure);
	return seed != 0;
}

/* Each scenario in all its orders. */
static bool
explore_all(Defect defect, uint64_t canary, const char *only, bool trace,
			uint64_t states)
{
	bool all = true;

	for (uint32_t i = 0; i < explore_count(); i++)
	{
		Explored e = {.budget = states};
		double start = seconds();

		if (only != NULL && strcmp(only, explore_name(i)) != 0)
			continue;
		dc_canaries = canary;
		all = explore_run(sim, i, defect, trace, &e) && all;
		printf("# %-16s %9llu states, %9llu steps, %.3g schedules%s, %.1f s%s%s\n",
			   explore_name(i), (unsigned long long) e.states,
			   (unsigned long long) e.steps, e.schedules,
			   e.complete ? "" : " (not all)", seconds() - start,
			   sim->failure[0] != '\0' ? ": " : "", sim->failure);
		fflush(stdout);
	}
	return all;
}

static int
list_canaries(const char *only)
{
	bool all = true;

	for (size_t i = 0; i < FAULTS; i++)
	{
		if (only == NULL || strcmp(only, faults[i].name) == 0)
			all = find_canary(&faults[i], false, seconds() + 60) && all;
		fflush(stdout);
	}
	return !all;
}

/* Whole maps; the first seed that fails, or 0. */
static uint64_t
bulk_all(uint64_t from, uint64_t runs, double until)
{
	BulkStats stats = {0};
	char failure[160] = "";
	double start = seconds();
	uint64_t failing = 0;

	dc_canaries = 0;
	for (uint64_t i = 0; i < runs && failing == 0 && seconds() < until; i++)
	{
		if (!bulk_run(from + i, &stats, failure))
			failing = from + i;
	}
	printf("# whole maps: %llu runs, %llu operations, %llu without room, %llu "
		   "messages of %llu bytes, %llu changed on the way, %llu truncates, "
		   "%.1f s\n",
		   (unsigned long long) stats.runs,
		   (unsigned long long) stats.operations,
		   (unsigned long long) stats.full, (unsigned long long) stats.messages,
		   (unsigned long long) stats.bytes, (unsigned long long) stats.lies,
		   (unsigned long long) stats.truncates, seconds() - start);
	if (failing != 0)
		printf("# seed %llu: %s\n# again: build/sim --bulk --seed %llu\n",
			   (unsigned long long) failing, failure,
			   (unsigned long long) failing);
	return failing;
}

#define COPY_RUNS 10000

/* Copies; the first seed that fails, or 0. */
static uint64_t
copy_all(CopyDefect defect, uint64_t from, uint64_t runs)
{
	CopyStats stats = {0};
	char failure[160] = "";
	double start = seconds();
	uint64_t failing = 0;

	dc_canaries = 0;
	for (uint64_t i = 0; i < runs && failing == 0; i++)
	{
		if (!copy_run(from + i, defect, &stats, failure))
			failing = from + i;
	}
	if (defect == COPY_SOUND)
		printf("# copies: %llu runs, %llu steps, %llu ranges, %llu rewrites, "
			   "%llu crashes of the donor, %llu of the joiner, %.1f s\n",
			   (unsigned long long) stats.runs,
			   (unsigned long long) stats.steps,
			   (unsigned long long) stats.ranges,
			   (unsigned long long) stats.rewrites,
			   (unsigned long long) stats.donor_crashes,
			   (unsigned long long) stats.joiner_crashes, seconds() - start);
	if (failing != 0)
		printf("# seed %llu: %s\n", (unsigned long long) failing, failure);
	return failing;
}

/* All rules in place, then each left out. */
static void
check_copies(void)
{
	char text[120];

	claim(copy_all(COPY_SOUND, 1, COPY_RUNS) == 0, "copies",
		  "an empty node copies one that goes on writing, and misses nothing");
	for (int d = COPY_SOUND + 1; d < COPY_DEFECTS; d++)
	{
		snprintf(text, sizeof(text), "noticed that %s",
				 copy_defect_claim((CopyDefect) d));
		claim(copy_all((CopyDefect) d, 1, COPY_RUNS) != 0,
			  copy_defect_name((CopyDefect) d), text);
	}
}

#define BULK_RUNS      120
#define OPERATIONS_MIN 1000000
#define CRASHES_MIN    10000

/* All rules in place: until enough was done. */
static void
check_rules(double until)
{
	double start = seconds();
	uint64_t failing = 0;
	double took;
	bool enough = false;

	for (size_t i = 0; i < SEEDS && failing == 0; i++)
	{
		if (seeds[i].name[0] == '\0')
			failing = search(NULL, seeds[i].seed, 1, until);
	}
	for (uint64_t seed = 1; failing == 0 && !enough && seconds() < until;
		 seed += 100)
	{
		failing = search(NULL, seed, 100, until);
		enough = sim->stats.operations >= OPERATIONS_MIN &&
				 sim->stats.crashes >= CRASHES_MIN;
	}
	took = seconds() - start;
	claim(failing == 0, "all rules in place", "every run converges");
	if (failing != 0)
		report_failure(NULL, failing);
	print_stats(&sim->stats, took);
	claim(print_faults(&sim->stats, took), "faults", "each class was drawn");
	claim(enough, "extent", "1,000,000 operations and 10,000 crashes");
}

static int
check(double budget)
{
	double until = seconds() + budget;
	char text[120];
	uint64_t seed;

	printf("1..%zu\n", FAULTS + 6 + COPY_DEFECTS);
	check_rules(until);

	claim(explore_all(DEFECT_NONE, 0, NULL, false, EXPLORE_STATES), "explore",
		  "every order of few actors ends with the last writes");

	seed = search(&directed, 1, 2, until + 10);
	claim(seed == 0, directed.name, directed.claim);
	if (seed != 0)
		report_failure(&directed, seed);

	claim(bulk_all(1, BULK_RUNS, until) == 0, "whole maps",
		  "two nodes compare up to 100,000 entries, and agree");
	check_copies();

	for (size_t i = 0; i < FAULTS; i++)
	{
		bool found = find_canary(&faults[i], true, until + 60);

		snprintf(text, sizeof(text), "noticed that %s", faults[i].claim);
		claim(found, faults[i].name, text);
	}
	return failed > 0;
}

static const Fault *
fault_named(const char *name)
{
	if (strcmp(directed.name, name) == 0)
		return &directed;
	for (size_t i = 0; i < FAULTS; i++)
	{
		if (strcmp(faults[i].name, name) == 0)
			return &faults[i];
	}
	fprintf(stderr, "sim: no canary \"%s\"\n", name);
	exit(2);
}

int
main(int argc, char **argv)
{
	const Fault *fault = NULL;
	uint64_t seed = 0;
	uint64_t from = 1;
	uint64_t runs = 0;
	double budget = 150;
	bool suite = false;
	bool trace = false;
	bool canaries = false;
	bool explore = false;
	bool bulk = false;
	bool copy = false;
	const char *scenario = NULL;
	int status = 0;

	for (int i = 1; i < argc; i++)
	{
		const char *value = i + 1 < argc ? argv[i + 1] : "0";

		if (strcmp(argv[i], "--check") == 0)
			suite = true;
		else if (strcmp(argv[i], "--trace") == 0)
			trace = true;
		else if (strcmp(argv[i], "--canaries") == 0)
			canaries = true;
		else if (strcmp(argv[i], "--explore") == 0)
			explore = true;
		else if (strcmp(argv[i], "--directed") == 0)
		{
			fault = &directed;
			runs = 2;
		}
		else if (strcmp(argv[i], "--bulk") == 0)
			bulk = true;
		else if (strcmp(argv[i], "--copy") == 0)
			copy = true;
		else if (strcmp(argv[i], "--scenario") == 0 && ++i)
			scenario = value;
		else if (strcmp(argv[i], "--seed") == 0 && ++i)
			seed = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--from") == 0 && ++i)
			from = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--runs") == 0 && ++i)
			runs = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0 && ++i)
			budget = strtod(value, NULL);
		else if (strcmp(argv[i], "--canary") == 0 && ++i)
			fault = fault_named(value);
		else
		{
			fprintf(stderr,
					"usage: sim --check [--seconds S]\n"
					"       sim --seed N [--canary RULE] [--trace]\n"
					"       sim --from N --runs M [--canary RULE]\n"
					"       sim --bulk [--seed N | --from N --runs M]\n"
					"       sim --copy [--seed N | --from N --runs M]\n"
					"       sim --canaries [--canary RULE]\n"
					"       sim --explore [--scenario NAME] [--runs STATES]"
					" [--canary RULE] [--trace]\n");
			return 2;
		}
	}

	sim = calloc(1, sizeof(*sim));
	if (sim == NULL)
		return 2;
	if (suite)
		status = check(budget);
	else if (canaries)
		status = list_canaries(fault != NULL ? fault->name : NULL);
	else if (bulk)
		status =
			bulk_all(seed != 0 ? seed : from, seed != 0 || runs == 0 ? 1 : runs,
					 seconds() + 1e9) != 0;
	else if (copy)
		status = copy_all(COPY_SOUND, seed != 0 ? seed : from,
						  seed != 0 || runs == 0 ? 1 : runs) != 0;
	else if (explore)
		status = !explore_all(fault != NULL ? fault->defect : DEFECT_NONE,
							  fault != NULL ? fault->canary : 0, scenario,
							  trace, runs);
	else
	{
		double start = seconds();

		seed = seed != 0 ? (run_with(fault, seed, trace) ? 0 : seed) :
						   search(fault, from, runs, start + 1e9);
		status = seed != 0;
		if (status)
			report_failure(fault, seed);
		print_stats(&sim->stats, seconds() - start);
		(void) print_faults(&sim->stats, seconds() - start);
	}
	free(sim);
	return status;
}
