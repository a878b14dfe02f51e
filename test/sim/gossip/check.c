/*
 * check.c
 *		What must hold in each world, and what is left out to see that it is
 *		noticed.
 *
 * Hosts stall in the quiet part of a trial only: who does not run for two
 * seconds cannot see a death in that time, and no claim is made of him.
 */
#define _POSIX_C_SOURCE 200809L /* mkstemp */

#include "check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Until all know of a death, at an interval of 250 ms. */
#define DEATH_S 6.5

/* A node sends no more bytes than this in a second. */
#define BYTES_MAX 16000

/* Nodes that join at once. */
#define JOINS 10

/* Rounds in which two halves that could not talk are one again. */
#define HEAL_ROUNDS 240

#define SECONDS(s) ((s) *SECOND)

static const Trial trials[] = {
	{2, 1, 0.05, SECONDS(600), HOUR / 60},
	{3, 2, 0.20, SECONDS(600), HOUR / 60},
	{10, 3, 0.20, SECONDS(300), HOUR / 60},
	{30, 4, 0.05, SECONDS(300), HOUR / 30},
	{100, 5, 0.05, SECONDS(120), HOUR / 12},
	{100, 6, 0.20, SECONDS(60), HOUR / 6},
	{300, 7, 0.05, SECONDS(40), HOUR / 12},
	{1000, 8, 0.05, SECONDS(20), HOUR / 6},
};

static const Canary canaries[] = {
	{"forward",
	 DC_CANARY_FORWARD,
	 "nobody speaks of others",
	 {30, 1, 0.05, SECONDS(30), 0}},
	{"refute",
	 DC_CANARY_REFUTE,
	 "answers do not go first",
	 {300, 1, 0.05, SECONDS(60), HOUR / 60}},
	{"floor",
	 DC_CANARY_FLOOR,
	 "phi has no floor",
	 {30, 1, 0.05, SECONDS(300), HOUR / 60}},
	{"rotate",
	 DC_CANARY_ROTATE,
	 "a datagram has always the same digests",
	 {200, 1, 0.05, SECONDS(40), 0}},
	{"age",
	 DC_CANARY_AGE,
	 "versions travel without their age",
	 {300, 1, 0.05, SECONDS(20), 0}},
	{"ask",
	 DC_CANARY_ASK,
	 "questions are kept to oneself",
	 {100, 1, 0.05, SECONDS(20), 0}},
	{"news",
	 DC_CANARY_NEWS,
	 "heartbeats go before news",
	 {100, 5, 0.20, SECONDS(1), 0}},
};

static char complaint[200];

#define FAIL(...)                                                              \
	return snprintf(complaint, sizeof(complaint), __VA_ARGS__), complaint

const Canary *
check_canary(const char *name)
{
	for (size_t i = 0; i < sizeof(canaries) / sizeof(canaries[0]); i++)
	{
		if (strcmp(canaries[i].name, name) == 0)
			return &canaries[i];
	}
	return NULL;
}

/* ---- what must hold ----------------------------------------------------- */

static const char *
check_quiet(World *w, const Trial *trial)
{
	Quiet q = measure_quiet(w, trial->quiet_us);
	double turns = 1 + (double) trial->nodes / DC_GOSSIP_DIGESTS_MAX;

	if (q.counts.false_deaths > 0)
		FAIL("%u who lived were declared dead",
			 (unsigned) q.counts.false_deaths);
	if (q.bytes_per_second > BYTES_MAX)
		FAIL("a node sends %.0f bytes in a second", q.bytes_per_second);
	if (q.life_rounds_max > 16 * turns)
		FAIL("somebody was not heard of for %.0f rounds", q.life_rounds_max);
	return NULL;
}

static const char *
check_death(World *w, uint32_t index)
{
	uint64_t deaths = w->counts.false_deaths;
	Death d = measure_death(w, index, SECONDS(20));

	if (d.all_s < 0)
		FAIL("a death was not seen by all in 20 s");
	if (d.all_s > DEATH_S)
		FAIL("a death was seen by all in %.1f s only", d.all_s);
	if (w->counts.false_deaths != deaths)
		FAIL("somebody else was declared dead with it");
	return NULL;
}

static const char *
check_news(World *w, uint32_t dead)
{
	uint32_t budget = news_budget(w->host_count);
	uint32_t rounds = measure_restart(w, dead, 10 * budget);

	if (rounds > budget)
		FAIL("a restart took %u rounds of %u", rounds, budget);
	world_run(w, SECONDS(10));
	rounds = measure_move(w, 0, 10 * budget);
	if (rounds > budget)
		FAIL("another address took %u rounds of %u", rounds, budget);
	world_run(w, SECONDS(2));
	budget = news_budget(w->host_count + 1);
	rounds = measure_joins(w, 1, 10 * budget);
	if (rounds > budget)
		FAIL("a join took %u rounds of %u", rounds, budget);
	world_run(w, SECONDS(2));
	budget = news_budget(w->host_count + JOINS);
	rounds = measure_joins(w, JOINS, 10 * budget);
	if (rounds > budget)
		FAIL("%d joins at once took %u rounds of %u", JOINS, rounds, budget);
	if (w->counts.false_deaths > 0)
		FAIL("somebody was declared dead meanwhile");
	return NULL;
}

const char *
check_trial(const Trial *trial)
{
	Network network = network_usual;
	uint32_t last = trial->nodes - 1;
	const char *failed;
	World *w;

	network.loss = trial->loss;
	network.stall_every = trial->stall_every;
	w = world_new(trial->seed, trial->nodes, &network, true);
	failed = check_quiet(w, trial);
	w->network.stall_every = 0;
	world_run(w, SECONDS(4));
	if (failed == NULL)
		failed = check_death(w, last);
	if (failed == NULL)
		failed = check_news(w, last);
	world_free(w);
	return failed;
}

/* Two halves that cannot talk, and then can. */
static const char *
check_partition(void)
{
	World *w = world_new(9, 100, &network_usual, true);
	const char *failed = NULL;
	uint64_t deaths = 0;
	uint32_t rounds;

	w->network.stall_every = 0;
	world_run(w, SECONDS(5));
	for (uint32_t i = 0; i < 50; i++)
		w->hosts[i].side = 1;
	world_run(w, SECONDS(40));
	for (uint32_t i = 0; i < 100; i++)
	{
		for (uint32_t j = 0; j < w->hosts[i].gossip->used; j++)
			deaths += w->hosts[i].nodes[j].state == DC_GOSSIP_DEAD;
	}
	for (uint32_t i = 0; i < 50; i++)
		w->hosts[i].side = 0;
	world_settle(w, HEAL_ROUNDS * w->interval_us);
	rounds = HEAL_ROUNDS;
	if (deaths != 2 * 50 * 50 || w->counts.false_deaths > 0)
		failed = "a half was wrong about the other or about itself";
	else if (!world_settled(w))
		failed = "they did not find each other";
	world_free(w);
	(void) rounds;
	return failed;
}

/* Everybody starts at once and knows one seed. */
static const char *
check_cold_start(void)
{
	World *w = world_new(10, 100, &network_usual, false);
	bool settled = world_settle(w, SECONDS(30));

	world_free(w);
	return settled ? NULL : "they did not find each other";
}

/* A world that was kept in a file goes on as if it had not been. */
static const char *
check_saved(void)
{
	World *w = world_new(11, 100, &network_usual, true);
	char path[] = "/tmp/sim-gossip.XXXXXX";
	int fd = mkstemp(path);
	World *loaded;
	bool alike;

	world_run(w, SECONDS(10));
	loaded = fd >= 0 && world_save(w, path) ? world_load(path) : NULL;
	if (fd >= 0)
	{
		close(fd);
		unlink(path);
	}
	world_run(w, SECONDS(20));
	if (loaded != NULL)
		world_run(loaded, SECONDS(20));
	alike = loaded != NULL && loaded->random == w->random &&
			memcmp(&loaded->counts, &w->counts, sizeof(w->counts)) == 0;
	world_free(w);
	if (loaded != NULL)
		world_free(loaded);
	return alike ? NULL : "it went another way";
}

/* ---- the suite ---------------------------------------------------------- */

static unsigned claims;
static unsigned failures;

static void
claim(const char *failed, const char *text)
{
	claims++;
	failures += failed != NULL;
	printf("%sok %u - %s\n", failed != NULL ? "not " : "", claims, text);
	if (failed != NULL)
		printf("# %s\n", failed);
	fflush(stdout);
}

int
check_all(void)
{
	char text[200];

	for (size_t i = 0; i < sizeof(trials) / sizeof(trials[0]); i++)
	{
		const Trial *t = &trials[i];

		snprintf(text, sizeof(text),
				 "gossip of %u nodes, %.0f %% loss: nobody dies who lives, all "
				 "see a death in %.1f s, news in %u rounds (seed %u)",
				 t->nodes, t->loss * 100, DEATH_S, news_budget(t->nodes),
				 (unsigned) t->seed);
		claim(check_trial(t), text);
	}
	claim(check_partition(), "gossip of two halves that cannot talk: each sees "
							 "the other as dead, and finds it again");
	claim(check_cold_start(), "gossip of 100 nodes that start with one seed: "
							  "all see all in 30 s");
	claim(check_saved(), "gossip of a world that was kept in a file goes on as "
						 "if it had not been");
	for (size_t i = 0; i < sizeof(canaries) / sizeof(canaries[0]); i++)
	{
		const Canary *c = &canaries[i];
		const char *found;

		dc_canaries = c->canary;
		found = check_trial(&c->trial);
		dc_canaries = 0;
		snprintf(text, sizeof(text), "gossip canary %s (%s) is noticed: %s",
				 c->name, c->claim, found != NULL ? found : "no");
		claim(found != NULL ? NULL : "nothing was wrong", text);
	}
	printf("1..%u\n", claims);
	return failures > 0;
}
