/*
 * main.c
 *		The suite: many seeds with all rules in place, then each rule left out.
 *
 *	sim --check [--seconds S]         TAP; what CI runs
 *	sim --seed N [--canary R] [--trace]   one run again
 *	sim --from N --runs M [--canary R]    many runs, stop at the first failure
 */
#define _POSIX_C_SOURCE 200809L
#include "sim.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

unsigned dc_canaries;

/* A rule left out; the suite claims that the simulator notices it. */
typedef struct Fault
{
	const char *name;
	unsigned canary;
	Defect defect;
	Trouble trouble;
	const char *claim;
} Fault;

static const Fault faults[] = {
	{"P1", DC_CANARY_P1, 0, TROUBLE_ANY,
	 "an insert ignores the deaths of its key"},
	{"P2", DC_CANARY_P2, 0, TROUBLE_MERGE,
	 "apply believes the metadata, not the heap"},
	{"R2", DC_CANARY_R2, 0, TROUBLE_ANY,
	 "the watermark ignores transactions in flight"},
	{"R4", DC_CANARY_R4, 0, TROUBLE_RELAY, "a vector moves over gaps"},
	{"R1", 0, DEFECT_R1, TROUBLE_ANY,
	 "the stamp is drawn before the slot is published"},
	{"R3", 0, DEFECT_R3, TROUBLE_ANY,
	 "a change is shipped before it is flushed"},
	{"R4-disk", 0, DEFECT_R4_DISK, TROUBLE_CRASH,
	 "V is durable ahead of its rows"},
	{"R6", 0, DEFECT_R6, TROUBLE_ANY,
	 "catch-up claims the V read after its scan"},
	{"R14", 0, DEFECT_R14, TROUBLE_CRASH, "the clock restarts below its bound"},
	{"R14-observe", 0, DEFECT_BOUND, TROUBLE_CRASH,
	 "stamps are taken in beyond the bound"},
	{"P1-after", 0, DEFECT_P1_AFTER, TROUBLE_ANY,
	 "AFTER does not look at dmax again"},
	{"P2-merge", 0, DEFECT_P2_MERGE, TROUBLE_MERGE,
	 "apply does not merge the row that made a change stale"},
	{"P2-birth", 0, DEFECT_P2_BIRTH, TROUBLE_DIRECTED,
	 "a late birth is not counted"},
	{"P6", 0, DEFECT_P6, TROUBLE_CRASH,
	 "rebuild reads tombstones and rows by two snapshots"},
	{"P8", 0, DEFECT_P8, TROUBLE_ANY, "the watermark overtakes queued batches"},
	{"P9", 0, DEFECT_P9, TROUBLE_ANY, "catch-up flushes only up to L"},
	{"P15", 0, DEFECT_P15, TROUBLE_MERGE,
	 "catch-up skips a live entry without a row"},
};
/* No fault: only its schedules. */
static const Fault directed = {"directed", 0, 0, TROUBLE_DIRECTED,
							   "no row outlives a death that merges late"};
#define FAULTS (sizeof(faults) / sizeof(faults[0]))

static Sim *sim;
static unsigned claims;
static unsigned failed;

static double
seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
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
	printf("# %llu runs, %llu steps, %.0f runs/s, %.0f steps/s\n",
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

static int
check(double budget)
{
	double start = seconds();
	char text[120];
	uint64_t seed;
	double took;

	printf("1..%zu\n", FAULTS + 2);
	seed = search(NULL, 1, UINT64_MAX, start + budget * 0.5);
	took = seconds() - start;
	claim(seed == 0, "all rules in place", "every run converges");
	if (seed != 0)
		report_failure(NULL, seed);
	print_stats(&sim->stats, took);

	seed = search(&directed, 1, 2, start + budget);
	claim(seed == 0, directed.name, directed.claim);
	if (seed != 0)
		report_failure(&directed, seed);

	for (size_t i = 0; i < FAULTS; i++)
	{
		seed = search(&faults[i], 1, 20000, start + budget);
		snprintf(text, sizeof(text), "noticed that %s", faults[i].claim);
		claim(seed != 0, faults[i].name, text);
		if (seed != 0)
			report_failure(&faults[i], seed);
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
	double budget = 50;
	bool suite = false;
	bool trace = false;
	int status = 0;

	for (int i = 1; i < argc; i++)
	{
		const char *value = i + 1 < argc ? argv[i + 1] : "0";

		if (strcmp(argv[i], "--check") == 0)
			suite = true;
		else if (strcmp(argv[i], "--trace") == 0)
			trace = true;
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
			fprintf(stderr, "usage: sim --check [--seconds S]\n"
							"       sim --seed N [--canary RULE] [--trace]\n"
							"       sim --from N --runs M [--canary RULE]\n");
			return 2;
		}
	}

	sim = calloc(1, sizeof(*sim));
	if (sim == NULL)
		return 2;
	if (suite)
		status = check(budget);
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
