/*
 * measure.c
 *		What is asked of a world of gossip.
 */
#define _POSIX_C_SOURCE 200809L
#include "measure.h"

#include <string.h>
#include <time.h>

/* Hosts whose whole table is looked at. */
#define SAMPLES 20

double
cpu_seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec + (double) t.tv_nsec / 1e9;
}

uint32_t
news_budget(uint32_t nodes)
{
	uint32_t bits = 0;

	while (1u << bits < nodes)
		bits++;
	return 2 * bits + 4;
}

static void
sample_ages(World *w, Quiet *q)
{
	double interval_us = (double) w->interval_us;
	uint64_t count = 0;

	for (int i = 0; i < SAMPLES; i++)
	{
		const Host *host = &w->hosts[world_below(w, w->host_count)];
		uint64_t now_us = host->gossip->now_us;

		for (uint32_t j = 1; host->up && j < host->gossip->used; j++)
		{
			const DcGossipNode *node = &host->nodes[j];
			double life_rounds =
				(double) (now_us - node->heard_us) / interval_us;

			if (node->state != DC_GOSSIP_ALIVE)
				continue;
			count++;
			q->life_rounds += life_rounds;
			if (life_rounds > q->life_rounds_max)
				q->life_rounds_max = life_rounds;
			q->record_rounds += (double) (now_us - node->made_us) / interval_us;
		}
	}
	if (count == 0)
		return;
	q->life_rounds /= (double) count;
	q->record_rounds /= (double) count;
}

Quiet
measure_quiet(World *w, uint64_t duration_us)
{
	Counts before = w->counts;
	double cpu = cpu_seconds();
	double seconds = (double) duration_us / 1e6;
	Quiet q;

	memset(&q, 0, sizeof(q));
	w->counts.phi_max = 0;
	world_run(w, duration_us);
	cpu = cpu_seconds() - cpu;
	q.counts.datagrams = w->counts.datagrams - before.datagrams;
	q.counts.bytes = w->counts.bytes - before.bytes;
	q.counts.rounds = w->counts.rounds - before.rounds;
	q.counts.false_suspects = w->counts.false_suspects - before.false_suspects;
	q.counts.false_deaths = w->counts.false_deaths - before.false_deaths;
	q.counts.stalls = w->counts.stalls - before.stalls;
	q.counts.overflows = w->counts.overflows - before.overflows;
	q.counts.phi_max = w->counts.phi_max;
	q.node_hours = seconds / 3600 * w->up_count;
	q.bytes_per_second = (double) q.counts.bytes / seconds / w->up_count;
	q.datagrams_per_second =
		(double) q.counts.datagrams / seconds / w->up_count;
	q.cpu_us = cpu * 1e6 / (double) (q.counts.rounds + 1);
	sample_ages(w, &q);
	return q;
}

static void
stop_watching(World *w)
{
	memset(w->watches, 0, sizeof(w->watches));
}

Death
measure_death(World *w, uint32_t index, uint64_t limit_us)
{
	const Watch *watch;
	uint64_t start_us = w->now_us;
	Death d = {-1, -1, -1};

	stop_watching(w);
	watch = world_watch(w, 0, index);
	world_crash(w, index);
	while (watch->dead_count < w->up_count && w->now_us - start_us < limit_us)
		world_run(w, 10 * MS);
	if (watch->dead_count > 0)
		d.first_s = (double) (watch->dead_first_us - start_us) / 1e6;
	if (watch->suspect_count > 0)
		d.suspect_s = (double) (watch->suspect_us - start_us) / 1e6;
	if (watch->dead_count >= w->up_count)
		d.all_s = (double) (watch->dead_us - start_us) / 1e6;
	return d;
}

uint32_t
measure_news(World *w, uint32_t limit)
{
	uint32_t rounds = 0;
	uint32_t lacking = 1;

	while (lacking > 0 && rounds < limit)
	{
		world_run(w, w->interval_us);
		rounds++;
		lacking = 0;
		for (uint32_t i = 0; i < WATCHES; i++)
			lacking += w->watches[i].node_id != 0 &&
					   w->watches[i].known_count < w->up_count - 1;
	}
	return rounds;
}

uint32_t
measure_joins(World *w, uint32_t count, uint32_t limit)
{
	stop_watching(w);
	for (uint32_t i = 0; i < count; i++)
	{
		uint32_t index = w->host_count;

		world_start(w, index);
		world_watch(w, i, index);
	}
	return measure_news(w, limit);
}

uint32_t
measure_restart(World *w, uint32_t index, uint32_t limit)
{
	stop_watching(w);
	world_start(w, index);
	world_watch(w, 0, index);
	return measure_news(w, limit);
}

uint32_t
measure_move(World *w, uint32_t index, uint32_t limit)
{
	stop_watching(w);
	world_move(w, index);
	world_watch(w, 0, index);
	return measure_news(w, limit);
}
