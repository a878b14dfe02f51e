/*
 * main.c
 *		Gossip of up to 1,000 nodes in virtual time.
 *
 *	sim-gossip --check                     TAP; what CI runs
 *	sim-gossip --day [--hours H] [--nodes N] [--seed S] [--seconds CPU]
 *		[--state FILE]                     a day that may be interrupted
 *	sim-gossip --curves FILE.csv           what doc/gossip.md shows
 *	sim-gossip --canary NAME [--seed S]    a trial with a rule left out
 */
#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- a day -------------------------------------------------------------- */

typedef struct Day
{
	uint32_t nodes;
	uint64_t seed;
	double hours;
	double seconds;    /* of the processor, at most; 0: no limit */
	const char *state; /* where the world is kept between runs; NULL: nowhere */
} Day;

/* The world of an interrupted day, or a new one. */
static World *
begin_day(const Day *day)
{
	World *w = day->state != NULL ? world_load(day->state) : NULL;

	return w != NULL ? w :
					   world_new(day->seed, day->nodes, &network_usual, true);
}

static void
keep_day(const Day *day, const World *w)
{
	if (day->state != NULL && !world_save(w, day->state))
		fprintf(stderr, "sim-gossip: cannot write \"%s\"\n", day->state);
}

/* Nobody dies; so nobody must be declared dead. */
static int
run_day(const Day *day)
{
	World *w = begin_day(day);
	double start = cpu_seconds();
	double minutes = (double) (w->now_us - WORLD_START) * 60 / HOUR;
	bool dead = w->counts.false_deaths > 0;

	while (minutes < day->hours * 60 && !dead &&
		   (day->seconds <= 0 || cpu_seconds() - start < day->seconds))
	{
		world_run(w, HOUR / 60);
		minutes++;
		dead = w->counts.false_deaths > 0;
		if ((uint32_t) minutes % 10 != 0 && !dead)
			continue;
		printf("# %.1f h: %u nodes, %.0f node hours, %u stalls; false: "
			   "%u dead, %u suspect; phi at most %.2f (away %.1f s); %.0f s\n",
			   minutes / 60, day->nodes, minutes / 60 * day->nodes,
			   (unsigned) w->counts.stalls, (unsigned) w->counts.false_deaths,
			   (unsigned) w->counts.false_suspects, w->counts.phi_max,
			   w->counts.phi_away_s, cpu_seconds() - start);
		fflush(stdout);
		if ((uint32_t) minutes % 60 == 0)
			keep_day(day, w);
	}
	printf("%sok 1 - %u nodes, %.0f %% loss, %.2f hours, seed %u: nobody dies "
		   "who lives\n1..1\n%d passed, %d failed\n",
		   dead ? "not " : "", day->nodes, w->network.loss * 100, minutes / 60,
		   (unsigned) day->seed, !dead, dead);
	world_free(w);
	return dead;
}

/* ---- curves ------------------------------------------------------------- */

#define DEATHS 3

typedef struct Point
{
	uint32_t nodes;
	uint32_t quiet_s;
} Point;

static const Point points[] = {{3, 7200},  {10, 3600}, {30, 900},
							   {100, 300}, {300, 100}, {1000, 60}};
static const double losses[] = {0, 0.05, 0.20};

static void
draw_point(FILE *f, const Point *p, double loss)
{
	Network network = network_usual;
	uint32_t limit = 20 * news_budget(p->nodes);
	Death sum = {0, 0, 0};
	double worst_s = 0;
	uint32_t restart = 0;
	uint32_t join;
	uint32_t joins;
	uint32_t move;
	World *w;
	Quiet q;

	network.loss = loss;
	w = world_new(p->nodes, p->nodes, &network, true);
	world_run(w, 10 * SECOND);
	q = measure_quiet(w, p->quiet_s * SECOND);
	w->network.stall_every = 0;
	world_run(w, 4 * SECOND);
	for (int i = 0; i < DEATHS; i++)
	{
		uint32_t index = world_below(w, p->nodes);
		Death d = measure_death(w, index, 60 * SECOND);
		uint32_t rounds = measure_restart(w, index, limit);

		sum.suspect_s += d.suspect_s / DEATHS;
		sum.first_s += d.first_s / DEATHS;
		sum.all_s += d.all_s / DEATHS;
		worst_s = d.all_s > worst_s ? d.all_s : worst_s;
		restart = rounds > restart ? rounds : restart;
		world_run(w, 15 * SECOND);
	}
	join = measure_joins(w, 1, limit);
	world_run(w, 20 * SECOND);
	joins = measure_joins(w, 10, limit);
	world_run(w, 20 * SECOND);
	move = measure_move(w, 1, limit);
	fprintf(f,
			"%u,%.2f,%.2f,%u,%u,%.2f,%.0f,%.1f,%.1f,%.2f,%.2f,%.2f,%.2f,%.2f,"
			"%.2f,%u,%u,%u,%u,%u\n",
			p->nodes, loss, q.node_hours, (unsigned) q.counts.false_suspects,
			(unsigned) q.counts.false_deaths, q.counts.phi_max,
			q.bytes_per_second, q.datagrams_per_second, q.cpu_us, q.life_rounds,
			q.record_rounds, sum.suspect_s, sum.first_s, sum.all_s, worst_s,
			restart, join, joins, move, news_budget(p->nodes));
	fflush(f);
	world_free(w);
}

static int
draw_curves(const char *name)
{
	FILE *f = fopen(name, "w");

	if (f == NULL)
	{
		perror(name);
		return 2;
	}
	fprintf(f, "nodes,loss,node_hours,false_suspects,false_deaths,phi_max,"
			   "bytes_per_second,datagrams_per_second,cpu_us_per_round,"
			   "life_rounds,record_rounds,suspect_s,death_first_s,"
			   "death_all_s,death_worst_s,restart_rounds,join_rounds,"
			   "joins10_rounds,move_rounds,budget_rounds\n");
	for (size_t l = 0; l < sizeof(losses) / sizeof(losses[0]); l++)
	{
		for (size_t p = 0; p < sizeof(points) / sizeof(points[0]); p++)
			draw_point(f, &points[p], losses[l]);
	}
	return fclose(f) != 0;
}

/* ---- the program -------------------------------------------------------- */

static int
run_canary(const char *name, uint64_t seed)
{
	const Canary *canary = check_canary(name);
	Trial trial;
	const char *found;

	if (canary == NULL)
	{
		fprintf(stderr, "sim-gossip: no canary \"%s\"\n", name);
		return 2;
	}
	trial = canary->trial;
	if (seed != 0)
		trial.seed = seed;
	dc_canaries = canary->canary;
	found = check_trial(&trial);
	printf("%s, seed %u: %s\n", canary->claim, (unsigned) trial.seed,
		   found != NULL ? found : "not noticed");
	return found == NULL;
}

int
main(int argc, char **argv)
{
	Day day = {1000, 1, 24, 0, NULL};
	const char *canary = NULL;
	bool is_day = false;
	uint64_t seed = 0;

	for (int i = 1; i < argc; i++)
	{
		const char *value = i + 1 < argc ? argv[i + 1] : "0";

		if (strcmp(argv[i], "--check") == 0)
			return check_all();
		if (strcmp(argv[i], "--curves") == 0 && i + 1 < argc)
			return draw_curves(value);
		if (strcmp(argv[i], "--day") == 0)
			is_day = true;
		else if (strcmp(argv[i], "--hours") == 0 && ++i)
			day.hours = strtod(value, NULL);
		else if (strcmp(argv[i], "--nodes") == 0 && ++i)
			day.nodes = (uint32_t) strtoul(value, NULL, 10);
		else if (strcmp(argv[i], "--seconds") == 0 && ++i)
			day.seconds = strtod(value, NULL);
		else if (strcmp(argv[i], "--seed") == 0 && ++i)
			day.seed = seed = strtoull(value, NULL, 10);
		else if (strcmp(argv[i], "--state") == 0 && i + 1 < argc && ++i)
			day.state = value;
		else if (strcmp(argv[i], "--canary") == 0 && ++i)
			canary = value;
		else
			is_day = false, canary = NULL, i = argc;
	}
	if (canary != NULL)
		return run_canary(canary, seed);
	if (is_day && day.nodes > 0 && day.nodes <= HOSTS_MAX)
		return run_day(&day);
	fprintf(stderr,
			"usage: sim-gossip --check\n"
			"       sim-gossip --day [--hours H] [--nodes N] [--seed S] "
			"[--seconds CPU] [--state FILE]\n"
			"       sim-gossip --curves FILE.csv\n"
			"       sim-gossip --canary NAME [--seed S]\n");
	return 2;
}
