/*
 * run.c
 *		One run: the seed chooses the cluster, its speed and its bad luck, then
 *		who takes the next step.
 *
 * After `steps` steps of trouble it becomes calm: no fault, no new
 * transaction, every node comes back; then all must settle.
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CALM_STEPS_MAX 400000

enum
{
	ACTOR_LOCAL,
	ACTOR_APPLY,
	ACTOR_SEND,
	ACTOR_RECEIVE,
	ACTOR_ANSWER,
	ACTOR_PUBLISH,
	ACTOR_FLUSH,
	ACTOR_BOUND,
	ACTOR_PERSIST,
	ACTOR_MAINTAIN,
	ACTOR_REBUILD,
	ACTOR_RELAY_BUILD,
	ACTOR_RELAY_DELIVER,
	ACTOR_GOSSIP,
	ACTOR_PURGE,
	ACTOR_BALLAST,
	ACTOR_KINDS
};

void
sim_print(const Sim *sim, const char *text, ...)
{
	va_list args;

	printf("# %6llu ", (unsigned long long) sim->step);
	va_start(args, text);
	vprintf(text, args);
	va_end(args);
	putchar('\n');
}

static uint32_t
pick(Rng *rng, uint32_t never, uint32_t low, uint32_t high)
{
	return rng_chance(rng, never, 100) ? 0 : low + rng_below(rng, high - low);
}

/* How often the kinds of actors get their turn. */
static const uint32_t usual[ACTOR_KINDS] = {
	[ACTOR_LOCAL] = 120,       [ACTOR_APPLY] = 40,  [ACTOR_SEND] = 20,
	[ACTOR_RECEIVE] = 12,      [ACTOR_ANSWER] = 6,  [ACTOR_PUBLISH] = 8,
	[ACTOR_FLUSH] = 1,         [ACTOR_BOUND] = 10,  [ACTOR_PERSIST] = 2,
	[ACTOR_MAINTAIN] = 4,      [ACTOR_REBUILD] = 8, [ACTOR_RELAY_BUILD] = 10,
	[ACTOR_RELAY_DELIVER] = 4, [ACTOR_GOSSIP] = 2,  [ACTOR_PURGE] = 6,
	[ACTOR_BALLAST] = 1,
};

/* Makes one kind of trouble likely. */
static void
aggravate(Sim *sim, Trouble trouble)
{
	Rng *rng = &sim->rng;
	Config *c = &sim->config;

	switch (trouble)
	{
		case TROUBLE_ANY:
		case TROUBLE_DIRECTED:
		case TROUBLE_EXPLORE:
			break;
		case TROUBLE_CRASH:
			c->keys = 1 + rng_below(rng, 3);
			c->crash_rate = 10 + rng_below(rng, 40);
			c->break_rate = 0;
			c->covered_mode = 2;
			c->async_share = 100;
			c->merge_stall = 500;
			c->weight[ACTOR_PUBLISH] = usual[ACTOR_PUBLISH];
			if (rng_chance(rng, 1, 2))
				break;
			c->drift_us = 100000;
			c->skew_us = 8000;
			c->lead_us = 50;
			c->weight[ACTOR_PERSIST] = 16;
			break;
		case TROUBLE_MERGE:
			c->keys = 1 + rng_below(rng, 2);
			c->crash_rate = 0;
			c->covered_mode = 2;
			c->merge_stall = 200 + rng_below(rng, 700);
			c->abort_share = c->idle_share = 0;
			c->duplicate_rate = 50 + rng_below(rng, 150);
			break;
		case TROUBLE_RELAY:
			c->keys = 5 + rng_below(rng, 4);
			c->crash_rate = 0;
			c->break_rate = 100 + rng_below(rng, 100);
			c->relay_rate = 100;
			c->weight[ACTOR_SEND] = 4;
			c->weight[ACTOR_RELAY_BUILD] = 60;
			c->weight[ACTOR_RELAY_DELIVER] = 30;
			break;
		case TROUBLE_PURGE:
			c->keys = 1 + rng_below(rng, 3);
			c->purge = true;
			c->antique = true;
			c->duplicate_rate = 50 + rng_below(rng, 150);
			c->merge_stall = rng_chance(rng, 1, 2) ? 0 : 300;
			c->weight[ACTOR_PURGE] = 40 + rng_below(rng, 100);
			c->weight[ACTOR_GOSSIP] = 10 + rng_below(rng, 20);
			c->weight[ACTOR_PERSIST] = 8 + rng_below(rng, 20);
			c->weight[ACTOR_FLUSH] = 8;
			c->weight[ACTOR_PUBLISH] = 60;
			c->weight[ACTOR_RECEIVE] = 60;
			c->weight[ACTOR_ANSWER] = 20;
			c->weight[ACTOR_SEND] = 80;
			c->queue_size = QUEUE_MAX - 1;
			c->idle_share = 0;
			break;
		case TROUBLE_TRUNCATE:
			c->keys = 1 + rng_below(rng, 4);
			if (rng_chance(rng, 1, 3))
			{
				c->drift_us = 100000;
				c->skew_us = 6000;
				c->lead_us = 8000;
			}
			c->truncate_share = 50 + rng_below(rng, 250);
			c->merge_stall = rng_chance(rng, 1, 2) ? 0 : 300;
			break;
	}
}

static void
configure(Sim *sim)
{
	Rng *rng = &sim->rng;
	Config *c = &sim->config;

	*c = (Config){.nodes = 3, .steps = 4000 + rng_below(rng, 8000)};
	c->keys = 1 + rng_below(rng, 6);
	c->queue_size = 1 + rng_below(rng, QUEUE_MAX - 1);
	c->covered_mode = rng_below(rng, 3);
	c->crash_rate = pick(rng, 30, 1, rng_chance(rng, 1, 4) ? 25 : 8);
	c->break_rate = pick(rng, 30, 1, rng_chance(rng, 1, 4) ? 60 : 15);
	c->duplicate_rate = pick(rng, 30, 1, 100);
	c->damage_rate = pick(rng, 50, 5, 200);
	c->owe_rate = pick(rng, 70, 1, 10);
	c->relay_rate = pick(rng, 30, 5, 80);
	c->async_share = pick(rng, 30, 1, 100);
	c->abort_share = pick(rng, 30, 1, 40);
	c->large_share = pick(rng, 50, 1, 30);
	c->idle_share = pick(rng, 50, 1, 15);
	c->truncate_share = pick(rng, 40, 1, 60);
	c->rekey_share = pick(rng, 30, 5, 60);
	c->savepoint_share = pick(rng, 40, 1, 40);
	c->purge = rng_chance(rng, 3, 4);
	c->key_shape = rng_chance(rng, 1, 2) ? KEYS_FIXED : rng_below(rng, 3);
	c->ballast = pick(rng, 97, 100, 5500);
	c->merge_stall = pick(rng, 30, 50, 700);
	c->drift_us = rng_chance(rng, 1, 2) ? 100000 : 20 + rng_below(rng, 100);
	c->skew_us = 1 + rng_below(rng, rng_chance(rng, 1, 2) ? 150 : 6000);
	c->clock_rate = pick(rng, 50, 1, 20);
	c->lead_us = 10 + rng_below(rng, 300);
	for (int i = 0; i < ACTOR_KINDS; i++)
		c->weight[i] = usual[i] << rng_below(rng, 5);
	if (sim->trouble != TROUBLE_ANY)
		aggravate(sim, sim->trouble);
	else if (rng_chance(rng, 1, 2))
		aggravate(sim, (Trouble) rng_below(rng, TROUBLE_DIRECTED));
}

/* ---- bad luck ----------------------------------------------------------- */

static void
deliver_duplicate(Sim *sim)
{
	Node *node = &sim->node[rng_below(&sim->rng, sim->config.nodes)];
	uint64_t kept =
		sim->history_count < HISTORY_MAX ? sim->history_count : HISTORY_MAX;
	const Batch *batch;
	uint64_t age;

	if (kept == 0 || !node->up || !node_tombs_loaded(sim, node))
		return;
	/* old ones, and often what went out just now */
	age = rng_below(&sim->rng, (uint32_t) kept);
	if (age > 4 && rng_chance(&sim->rng, 1, 2))
		age %= 4;
	batch = &sim->history[(sim->history_count - 1 - age) % HISTORY_MAX];
	if (sim->config.antique && rng_chance(&sim->rng, 2, 3))
		batch = &sim->antique[rng_below(&sim->rng, ANTIQUES)];
	if (batch->count > 0 && apply_start(sim, node, batch) >= 0)
		sim->stats.duplicates++;
}

static void
fault(Sim *sim)
{
	const Config *c = &sim->config;
	Rng *rng = &sim->rng;

	if (rng_chance(rng, c->crash_rate, 10000))
	{
		Node *node = &sim->node[rng_below(rng, c->nodes)];

		if (node->up)
			node_crash(sim, node);
	}
	if (rng_chance(rng, c->break_rate, 10000))
	{
		Link *link = &sim->link[rng_below(rng, c->nodes) * NODES_MAX +
								rng_below(rng, c->nodes)];

		if (link->up)
			link_break(sim, link);
	}
	if (rng_chance(rng, c->clock_rate, 10000))
	{
		sim->node[rng_below(rng, c->nodes)].skew_us =
			(int64_t) rng_below(rng, c->skew_us);
		sim->stats.clock_steps++;
	}
	if (rng_chance(rng, c->owe_rate, 10000))
		dc_stream_owe(&sim->link[rng_below(rng, c->nodes) * NODES_MAX +
								 rng_below(rng, c->nodes)]
						   .stream);
	if (rng_chance(rng, c->duplicate_rate, 10000))
		deliver_duplicate(sim);
}

/* ---- the scheduler ------------------------------------------------------ */

static Link *
link_of(Sim *sim, uint32_t from, uint32_t to)
{
	return &sim->link[from * NODES_MAX + to];
}

/* A busy worker, if there is one. */
static uint32_t
pick_worker(Sim *sim, const Node *node)
{
	uint32_t worker = rng_below(&sim->rng, WORKERS);

	for (uint32_t i = 0; i < WORKERS && !node->worker[worker].busy; i++)
		worker = (worker + 1) % WORKERS;
	return worker;
}

/*
 * Now and then a backend is not scheduled for a long while; in some runs most
 * often where it hurts, between the commit and its merge.
 */
static void
stall(Sim *sim, Txn *t)
{
	uint32_t per_mille = 6;

	if (sim->calm || t->state == TXN_IDLE || sim->step < t->stall_until)
		return;
	if (t->state == TXN_MERGE && t->next == 0)
		per_mille = sim->config.merge_stall;
	if (rng_chance(&sim->rng, per_mille, 1000))
	{
		t->stall_until = sim->step + 50 + rng_below(&sim->rng, 500);
		sim->stats.stalls++;
	}
}

static uint32_t
pick_actor(Sim *sim)
{
	uint32_t total = 0;
	uint32_t at;

	for (uint32_t i = 0; i < ACTOR_KINDS; i++)
		total += sim->config.weight[i];
	at = rng_below(&sim->rng, total);
	for (uint32_t i = 0; i < ACTOR_KINDS; i++)
	{
		if (at < sim->config.weight[i])
			return i;
		at -= sim->config.weight[i];
	}
	return ACTOR_KINDS;
}

static void
act(Sim *sim, Node *node)
{
	uint32_t nodes = sim->config.nodes;
	uint32_t other =
		(node->index + 1 + rng_below(&sim->rng, nodes - 1)) % nodes;
	uint32_t local = rng_below(&sim->rng, LOCALS);
	uint32_t worker = pick_worker(sim, node);

	switch (pick_actor(sim))
	{
		case ACTOR_LOCAL:
			local_step(sim, node, (int) local);
			stall(sim, &node->txn[local]);
			break;
		case ACTOR_APPLY:
			apply_step(sim, node, worker);
			stall(sim, &node->txn[LOCALS + worker]);
			break;
		case ACTOR_SEND:
			link_send_step(sim, link_of(sim, node->index, other));
			break;
		case ACTOR_RECEIVE:
			link_receive_step(sim, link_of(sim, other, node->index));
			break;
		case ACTOR_ANSWER:
			link_answer_step(sim, link_of(sim, node->index, other));
			break;
		case ACTOR_PUBLISH:
			node_publish_step(sim, node);
			break;
		case ACTOR_FLUSH:
			wal_flush(sim, node, node->wal_insert);
			break;
		case ACTOR_BOUND:
			node_bound_step(sim, node);
			break;
		case ACTOR_PERSIST:
			node_persist_step(sim, node);
			break;
		case ACTOR_MAINTAIN:
			node_maintain_step(sim, node);
			stall(sim, &node->txn[TXN_MAINTAIN]);
			break;
		case ACTOR_REBUILD:
			node_rebuild_step(sim, node);
			break;
		case ACTOR_RELAY_BUILD:
			relay_build_step(sim, node);
			break;
		case ACTOR_GOSSIP:
			purge_gossip_step(sim, node, &sim->node[other]);
			break;
		case ACTOR_BALLAST:
			meta_ballast_step(sim, node);
			break;
		case ACTOR_PURGE:
			purge_step(sim, node);
			purge_floor_step(sim, node);
			break;
		default:
			relay_deliver_step(sim, node);
			break;
	}
}

static void
tick(Sim *sim)
{
	Node *node = &sim->node[rng_below(&sim->rng, sim->config.nodes)];

	sim->step++;
	sim->now_us += rng_below(&sim->rng, 3);
	if (!sim->calm)
		fault(sim);
	if (!node->up)
	{
		if (sim->calm || sim->step >= node->down_until)
			node_restart(sim, node);
		return;
	}
	act(sim, node);
}

/* No more faults; now everybody gets a fair share. */
static void
calm_down(Sim *sim)
{
	sim->calm = true;
	for (int i = 0; i < ACTOR_KINDS; i++)
		sim->config.weight[i] = usual[i];
	sim->config.weight[ACTOR_PUBLISH] *= 3;
	sim->config.weight[ACTOR_GOSSIP] *= 3;
	sim->config.weight[ACTOR_PURGE] *= 3;
	sim->config.weight[ACTOR_RELAY_BUILD] = 0;
	sim->config.weight[ACTOR_RELAY_DELIVER] = 0;
}

static void
explain_unsettled(Sim *sim)
{
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		const Node *node = &sim->node[i];

		for (uint32_t key = 0; key < sim->config.keys; key++)
		{
			DcEntry entry = meta_get(node, key);

			if (node->reconcile & BIT(key))
				sim_fail(sim,
						 "does not settle: node %u key %u row %llu, entry %s "
						 "%llu",
						 node->id, key,
						 (unsigned long long) node->heap[key].row.stamp,
						 entry.dead ? "dead" : "live",
						 (unsigned long long) entry.stamp);
		}
	}
	sim_fail(sim, "does not settle");
}

void
sim_prepare(Sim *sim, uint64_t seed, Defect defect, Trouble trouble)
{
	Stats stats = sim->stats;

	memset(sim, 0, sizeof(*sim));
	sim->stats = stats;
	sim->seed = seed;
	sim->defect = defect;
	sim->trouble = trouble;
	sim->now_us = 1000;
	rng_seed(&sim->rng, seed);
	rng_seed(&sim->torment, ~seed);
	configure(sim);
	for (uint32_t i = 0; i < sim->config.nodes; i++)
		(void) dc_members_put(&sim->members,
							  (DcMember){.node_id = i + 1,
										 .state = DC_MEMBER_PRESENT,
										 .incarnation = 1});
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		node_init(sim, &sim->node[i], i);
		for (uint32_t to = 0; to < sim->config.nodes; to++)
			link_init(sim, link_of(sim, i, to), i, to);
	}
}

bool
sim_run(Sim *sim, uint64_t seed, Defect defect, Trouble trouble, bool trace)
{
	Explored explored = {.budget = EXPLORE_STATES};

	if (trouble == TROUBLE_EXPLORE)
		return explore_run(sim, (uint32_t) (seed - 1) % explore_count(), defect,
						   trace, &explored);
	sim_prepare(sim, seed, defect, trouble);
	sim->trace = trace;
	sim_trace(sim, "seed %llu: %u keys, queue %u, covered %u",
			  (unsigned long long) seed, sim->config.keys,
			  sim->config.queue_size, sim->config.covered_mode);
	if (trouble == TROUBLE_DIRECTED)
	{
		directed_run(sim);
		sim->stats.runs++;
		return sim->failure[0] == '\0';
	}
	while (sim->step < sim->config.steps && sim->failure[0] == '\0')
		tick(sim);
	calm_down(sim);
	while (sim->failure[0] == '\0')
	{
		tick(sim);
		if (sim->step % 64 != 0)
			continue;
		if (is_settled(sim))
			break;
		if (sim->step > sim->config.steps + CALM_STEPS_MAX)
			explain_unsettled(sim);
	}
	if (sim->failure[0] == '\0')
		check_settled(sim);
	sim->stats.runs++;
	sim->stats.steps += sim->step;
	return sim->failure[0] == '\0';
}
