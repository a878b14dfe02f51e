/*
 * directed.c
 *		Schedules too rare for chance.
 */
#include "cluster.h"

#include <string.h>

/* No bad luck but what the schedule makes. */
static void
quiet(Sim *sim, uint32_t nodes)
{
	Config *c = &sim->config;

	*c = (Config){.nodes = nodes,
				  .founders = nodes,
				  .keys = 1,
				  .keyspaces = 1,
				  .queue = QUEUE_MAX,
				  .delay_us = 20,
				  .skew_us = 1,
				  .drift_us = 30000,
				  .lead_us = 2000,
				  .repair = 0};
}

/* What nodes of the set do when nobody writes. */
static void
pump(Sim *sim, uint32_t set, uint32_t rounds)
{
	for (uint32_t i = 0; i < rounds; i++)
	{
		Node *node = &sim->node[rng_below(&sim->rng, sim->config.nodes)];
		uint32_t other = rng_below(&sim->rng, sim->config.nodes);

		sim->now_us += 10;
		net_deliver_step(sim);
		if (!(set & BIT(node->index)) || !node->up)
			continue;
		node_publish_step(sim, node);
		gossip_step(sim, node);
		horizon_step(sim, node);
		(void) node_persist_vector(sim, node);
		node_purge_step(sim, node);
		member_step(sim, node);
		if (other == node->index || !(set & BIT(other)))
			continue;
		link_step(sim, link_of(sim, node->index, other));
		peer_step(sim, link_of(sim, other, node->index));
	}
}

/*
 * R11.  Node 3 deletes a key; only node 1 hears of it, and node 3 is gone.
 * Node 2 still takes the session of node 3 for alive, so node 1 leaves the
 * source out of its catch-ups.  Removed without closing, node 3 holds nothing
 * back, node 1 forgets the death, and node 2 keeps the row.
 */
static void
removal(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];

	pump(sim, 7, 4000);
	work_write(sim, one, 0, false);
	pump(sim, 7, 4000);
	sim->cut[1][2] = sim->cut[2][1] = 1;
	work_write(sim, three, 0, true);
	pump(sim, 5, 2000);
	node_crash(sim, three, UINT32_MAX);
	pump(sim, 3, 2000);
	operator_remove(sim, one, 2);
	pump(sim, 3, 8000);
	sim->cut[1][2] = sim->cut[2][1] = 0;
}

/*
 * R13.  A key is deleted and forgotten everywhere; then the disk of node 3 is
 * set back to when the key was there.
 */
static void
ghost(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];
	State backup;

	pump(sim, 7, 4000);
	work_write(sim, one, 0, false);
	pump(sim, 7, 4000);
	backup = three->disk;
	work_write(sim, one, 0, true);
	pump(sim, 7, 8000);
	node_crash(sim, three, UINT32_MAX);
	node_restore(sim, three, &backup, true);
}

/*
 * R13.  Node 3, cut off, writes a key that node 1 deletes a little later; it
 * is removed, the death is forgotten, and it returns with its row.
 */
static void
outcast(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];

	pump(sim, 7, 4000);
	work_write(sim, one, 0, false);
	pump(sim, 7, 4000);
	for (uint32_t i = 0; i < 2; i++)
		sim->cut[i][2] = sim->cut[2][i] = 1;
	work_write(sim, three, 0, false);
	sim->now_us += 100;
	work_write(sim, one, 0, true);
	pump(sim, 3, 2000);
	operator_remove(sim, one, 2);
	pump(sim, 3, 8000);
	net_heal(sim);
	pump(sim, 7, 1000);
}

static void (*const schedules[])(Sim *) = {removal, ghost, outcast};
const uint32_t directed_count = sizeof(schedules) / sizeof(schedules[0]);

void
directed_prepare(Sim *sim, uint32_t number)
{
	(void) number;
	quiet(sim, 3);
}

void
directed_run(Sim *sim, uint32_t number)
{
	schedules[number](sim);
}
