/*
 * run.c
 *		One run: the seed chooses the cluster, its speed and its bad luck, then
 *		who takes the next step.
 *
 * After `steps` steps of trouble it becomes calm: no fault, no new
 * transaction, every node comes back; then all must settle.
 */
#include "cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define CALM_STEPS_MAX 150000
#define TICK_US        12

void
sim_print(const Sim *sim, const char *text, ...)
{
	va_list args;

	printf("# %6llu %7llu ", (unsigned long long) sim->step,
		   (unsigned long long) sim->now_us);
	va_start(args, text);
	vprintf(text, args);
	va_end(args);
	putchar('\n');
}

/* ---- what the seed chooses ---------------------------------------------- */

/* Zero in `never` of 100 cases. */
static uint32_t
pick(Rng *rng, uint32_t never, uint32_t low, uint32_t high)
{
	return rng_chance(rng, never, 100) ? 0 : low + rng_below(rng, high - low);
}

/* Makes one kind of trouble likely. */
static void
aggravate(Sim *sim, Trouble trouble)
{
	Rng *rng = &sim->rng;
	Config *c = &sim->config;

	switch (trouble)
	{
		case TROUBLE_CRASH:
			c->crash = 20 + rng_below(rng, 60);
			c->async = 60;
			c->persist = 1 + rng_below(rng, 6);
			break;
		case TROUBLE_PURGE:
			c->keys = 1 + rng_below(rng, 3);
			c->deletes = 50;
			c->partition = 5 + rng_below(rng, 15);
			c->removal = c->restore = 0;
			c->gossip = 16;
			c->purge = 16;
			break;
		case TROUBLE_RESTORE:
			c->keys = 2 + rng_below(rng, 4);
			c->backup = 20 + rng_below(rng, 60);
			c->restore = 3 + rng_below(rng, 8);
			c->deletes = 40;
			break;
		case TROUBLE_JOIN:
			c->nodes = 3 + rng_below(rng, 2);
			c->founders = 1 + rng_below(rng, 2);
			c->join_rows = rng_chance(rng, 1, 2);
			c->keys = 1 + rng_below(rng, 4);
			c->deletes = 45;
			break;
		case TROUBLE_REMOVE:
			c->nodes = 3 + rng_below(rng, 2);
			c->founders = c->nodes - rng_below(rng, 2);
			c->removal = 5 + rng_below(rng, 20);
			c->partition = 5 + rng_below(rng, 15);
			c->deletes = 40;
			c->keys = 1 + rng_below(rng, 4);
			break;
		case TROUBLE_NET:
			c->loss = 500 + rng_below(rng, 2000);
			c->duplicate = 500;
			c->corrupt = 100 + rng_below(rng, 200);
			c->replay = 20;
			c->breaks = 50 + rng_below(rng, 200);
			break;
		case TROUBLE_CLONE:
			c->nodes = 3 + rng_below(rng, 2);
			c->founders = c->nodes;
			c->keys = 2 + rng_below(rng, 4);
			c->keyspaces = 1;
			c->clone = 10;
			c->removal = c->restore = c->outage = c->full = 0;
			c->crash /= 8;
			c->partition /= 4;
			c->round_us = 100;
			c->steps = 9000;
			c->repair = 100;
			c->by_gossip = true;
			break;
		case TROUBLE_TAMPER:
			c->nodes = c->founders = 3 + rng_below(rng, 2);
			c->keys = 4 + rng_below(rng, KEYS_MAX - 4);
			c->deletes = 35;
			c->removal = c->restore = c->truncate = c->full = c->hot = 0;
			c->crash /= 4;
			c->partition /= 4;
			c->work = 3;
			c->gossip = c->persist = c->purge = 16;
			c->tamper = 100 + rng_below(rng, 200);
			c->repair = 20 + rng_below(rng, 100);
			break;
		default:
			break;
	}
}

static void
configure(Sim *sim)
{
	Rng *rng = &sim->rng;
	Config *c = &sim->config;

	*c = (Config){.nodes = 2 + rng_below(rng, NODES_MAX - 1)};
	if (c->nodes > 4 && rng_chance(rng, 1, 2))
		c->nodes = 3;
	c->founders = c->nodes;
	if (rng_chance(rng, 1, 2))
		c->founders = 1 + rng_below(rng, c->nodes);
	c->join_rows = rng_chance(rng, 1, 2);
	c->keys = 1 + rng_below(rng, KEYS_MAX);
	c->keyspaces = 1 + rng_below(rng, KEYSPACES_MAX);
	c->steps = 3000 + rng_below(rng, 9000);
	c->queue = 1 + rng_below(rng, QUEUE_MAX);
	c->delay_us = 20 + rng_below(rng, rng_chance(rng, 1, 4) ? 3000 : 400);
	c->loss = pick(rng, 30, 10, 800);
	c->duplicate = pick(rng, 30, 10, 300);
	c->corrupt = pick(rng, 60, 2, 50);
	c->replay = pick(rng, 60, 1, 10);
	c->breaks = pick(rng, 40, 2, 60);
	c->partition = pick(rng, 40, 1, 12);
	c->slow = pick(rng, 60, 1, 8);
	c->crash = pick(rng, 30, 1, 30);
	c->outage = pick(rng, 60, 1, 6);
	c->full = pick(rng, 70, 1, 10);
	c->jump = pick(rng, 50, 1, 10);
	c->backup = pick(rng, 50, 2, 40);
	c->restore = pick(rng, 60, 1, 5);
	(void) rng_next(rng);
	c->removal = pick(rng, 70, 1, 6);
	c->truncate = pick(rng, 50, 5, 60);
	c->deletes = 10 + rng_below(rng, 50);
	c->aborts = pick(rng, 40, 1, 30);
	c->async = pick(rng, 40, 1, 100);
	c->hot = pick(rng, 50, 10, 80);
	c->skew_us = 1 + rng_below(rng, 20000);
	c->drift_us = 30000;
	c->lead_us = 200 + rng_below(rng, 5000);
	c->work = 4 + rng_below(rng, 24);
	c->link = 40 + rng_below(rng, 60);
	c->gossip = 1 + rng_below(rng, 10);
	c->persist = 1 + rng_below(rng, 10);
	c->purge = 1 + rng_below(rng, 8);
	c->repair = pick(rng, 30, 5, 100);
	c->round_us = 300 + rng_below(rng, 1200);
	c->by_gossip = rng_chance(rng, 1, 2);
	c->loopback = rng_chance(rng, 1, 3);
	c->stranger = pick(rng, 60, 2, 30);
	c->end_of_time = rng_chance(rng, 1, 100);
	c->tamper = c->clone = 0;
	if (sim->trouble != TROUBLE_ANY)
		aggravate(sim, sim->trouble);
	else if (rng_chance(rng, 1, 2))
		aggravate(sim, (Trouble) rng_below(rng, TROUBLE_KINDS));
	c->slots = c->nodes + (c->stranger > 0);
	if (c->end_of_time)
	{
		c->founders = c->nodes;
		c->removal = c->restore = c->clone = c->tamper = 0;
		c->repair = 50;
	}
	/* what a disk lost unnoticed only a comparison brings back */
	if (c->restore > 0 && c->repair == 0)
		c->repair = 50;
}

/* ---- the cluster -------------------------------------------------------- */

static void
node_init(Sim *sim, uint32_t index)
{
	Node *node = &sim->node[index];
	State *s = &node->disk;
	bool founder = index < sim->config.founders;

	memset(node, 0, sizeof(*node));
	node->index = node->self = index;
	node->used = true;
	node->contacts = founder;
	node->skew_us = (int64_t) rng_below(&sim->rng, sim->config.skew_us);
	s->incarnation = index + 1;
	s->settled = founder && sim->config.founders > 1;
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		if (i != index && (!founder || i >= sim->config.founders))
			continue;
		s->list.incarnation[i] = i + 1;
		s->list.state[i] = DC_MEMBER_PRESENT;
	}
	node_start(sim, node);
}

/* The operator shows a newcomer the way. */
static void
introduce(Sim *sim)
{
	for (uint32_t i = sim->config.founders; i < sim->config.nodes; i++)
	{
		Node *node = &sim->node[i];

		if (node->contacts || !node->up ||
			(!sim->calm && !rng_chance(&sim->rng, 1, 400)))
			continue;
		if (i > 0 && !sim->node[i - 1].contacts)
			return;
		node->contacts = true;
		count_fault(sim, sim->config.join_rows ? FAULT_JOIN_ROWS : FAULT_JOIN);
		sim_trace(sim, "node %u is told to join", i + 1);
		return;
	}
}

/* ---- faults ------------------------------------------------------------- */

static void
crash(Sim *sim, Node *node)
{
	Rng *rng = &sim->rng;
	bool outage = rng_chance(rng, sim->config.outage, 100);

	count_fault(sim, outage ? FAULT_OUTAGE : FAULT_CRASH);
	node_crash(sim, node,
			   outage ? 1000 + rng_below(rng, 4000) : rng_below(rng, 200));
}

/* A server that is stopped says goodbye, and is away for a while. */
static void
leave(Sim *sim, Node *node)
{
	Rng *rng = &sim->rng;

	if (node->leaves_at == 0 && node->contacts && !node->mem.outcast &&
		rng_chance(rng, sim->config.crash, 80000))
	{
		count_fault(sim, FAULT_GOODBYE);
		gossip_leave(sim, node);
		node->leaves_at = sim->step + 100 + rng_below(rng, 200);
	}
	if (node->leaves_at == 0 || sim->step < node->leaves_at)
		return;
	node->leaves_at = 0;
	node_crash(sim, node, rng_below(rng, 4000));
}

/*
 * What nobody can notice: that the stamps given out since are above the clock,
 * too.  Putting a snapshot back takes longer than clocks may differ.
 */
static void
keep_time(const Sim *sim, Node *node)
{
	uint64_t at = dc_hlc_time_us(node->clock) + 1;
	uint64_t now = node_now(sim, node);

	if (now < at)
		node->skew_us += (int64_t) (at - now);
}

static void
set_back(Sim *sim, Node *node)
{
	bool noticed = rng_chance(&sim->rng, 4, 5);
	State backup = node->backup;

	if (!node->has_backup)
		return;
	if (node->up)
		node_crash(sim, node, 50 + rng_below(&sim->rng, 500));
	count_fault(sim, !noticed                    ? FAULT_ROLLBACK :
					 rng_chance(&sim->rng, 1, 2) ? FAULT_BACKUP :
												   FAULT_STANDBY);
	if (!noticed)
		keep_time(sim, node);
	node_restore(sim, node, &backup, noticed);
}

static void
clock_jump(Sim *sim, Node *node)
{
	int64_t skew = (int64_t) rng_below(&sim->rng, sim->config.skew_us);

	if (!node->up)
		return;
	count_fault(sim, skew < node->skew_us ? FAULT_JUMP_BACK : FAULT_SKEW);
	node->skew_us = skew;
}

/* ---- clones --------------------------------------------------------------- */

/* The data directory is copied as it is, and a server is started from it. */
void
node_clone(Sim *sim, Node *original)
{
	Node *clone = &sim->node[sim->config.nodes];
	Voice *voice = &sim->voice[sim->config.nodes];

	count_fault(sim, FAULT_CLONE);
	memset(clone, 0, sizeof(*clone));
	clone->index = sim->config.nodes;
	clone->self = original->self;
	clone->used = clone->contacts = true;
	clone->skew_us = (int64_t) rng_below(&sim->rng, sim->config.skew_us);
	clone->disk = clone->mem = original->disk;
	sim->servers = sim->config.nodes + 1;
	sim->cloned = sim->was_cloned = true;
	gossip_stop(sim, original);
	memcpy(voice->saved, sim->voice[original->index].saved,
		   sizeof(voice->saved));
	voice->saved_count = sim->voice[original->index].saved_count;
	check_cloned(sim, original, clone);
	sim_trace(sim, "node %u is cloned", original->index + 1);
	node_start(sim, clone);
}

/* The administrator stops one of the two. */
void
node_retire(Sim *sim, Node *node)
{
	sim_trace(sim, "server %u is stopped for good", node->index + 1);
	if (node->up)
		node_crash(sim, node, UINT32_MAX);
	node->used = node->contacts = false;
	for (uint32_t i = 0; i < sim->servers; i++)
	{
		link_close(sim, link_of(sim, i, node->index), NULL);
		peer_end(&sim->node[i], node->index);
	}
	check_retired(sim, node);
	sim->cloned = sim->told = false;
}

static void
clone_faults(Sim *sim)
{
	Rng *rng = &sim->rng;
	Node *node = &sim->node[rng_below(rng, sim->config.nodes)];

	if (!sim->calm && sim->servers == sim->config.nodes &&
		rng_chance(rng, sim->config.clone, 10000) && !node->mem.joining &&
		!node->mem.outcast && node->contacts)
		node_clone(sim, node);
	if (!sim->cloned)
		return;
	check_told(sim);
	if (!rng_chance(rng, 1, sim->calm ? 2000 : 5000))
		return;
	node = &sim->node[sim->config.nodes];
	if (rng_chance(rng, 1, 2))
		node = &sim->node[node->self];
	node_retire(sim, node);
}

/* ---- behind a node's back -------------------------------------------------- */

/* A row that all have, and that no vector is behind of. */
static bool
is_common(const Sim *sim, uint32_t cell)
{
	Cell first = sim->node[0].mem.cell[cell];
	uint32_t source = dc_hlc_node_id(first.stamp) - 1;

	for (uint32_t i = 0; i < sim->servers; i++)
	{
		const Node *node = &sim->node[i];

		if (!node->up || node->mem.joining || node->mem.outcast ||
			node->rolled_back ||
			(first.stamp != DC_HLC_NONE &&
			 node->disk.vector[source] < first.stamp) ||
			node->disk.cell[cell].stamp != first.stamp)
			return false;
	}
	return is_equal(sim, cell);
}

/* A row that was deleted and forgotten by all, out of an old backup. */
static Cell
forgotten_row(const Sim *sim, uint32_t cell)
{
	for (uint32_t i = sim->last_of[cell]; i != 0; i = sim->older[i - 1])
	{
		Cell old = sim->version[i - 1].to;
		bool below = !old.dead;

		for (uint32_t n = 0; n < sim->servers && below; n++)
			below = old.stamp <= sim->node[n].disk.horizon;
		if (below)
			return old;
	}
	return (Cell){0};
}

/* With the triggers off, somebody deletes a row, or brings an old one back. */
static void
tamper(Sim *sim, Node *node)
{
	uint32_t cell = rng_below(&sim->rng, sim->config.keys);
	Cell here = node->mem.cell[cell];
	Cell to = {0};

	if (here.dead || sim->tampered != 0 || !is_common(sim, cell) ||
		!node_disk_takes(sim, node))
		return;
	if (here.stamp == DC_HLC_NONE)
		to = forgotten_row(sim, cell);
	if (to.stamp == here.stamp)
		return;
	count_fault(sim, to.stamp == DC_HLC_NONE ? FAULT_TAMPER_LOSS :
											   FAULT_TAMPER_GHOST);
	sim_trace(sim, "node %u: key %u %s behind its back", node->index + 1, cell,
			  to.stamp == DC_HLC_NONE ? "is lost" : "is brought back");
	node->mem.cell[cell] = node->disk.cell[cell] = to;
	sim->tampered |= BIT(cell);
}

/* Who read the report deletes or updates the row where it is. */
static void
settle_reported(Sim *sim, Node *node)
{
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		if (!(node->reported & BIT(key)))
			continue;
		for (uint32_t i = 0; i < sim->servers; i++)
		{
			Node *other = &sim->node[i];
			Cell here = other->mem.cell[key];

			if (!other->used || !other->up || here.stamp == DC_HLC_NONE ||
				here.dead || !member_writes(sim, other) || is_equal(sim, key))
				continue;
			work_write(sim, other, key, rng_chance(&sim->rng, 1, 2));
			break;
		}
	}
	node->reported = 0;
}

static void
back_faults(Sim *sim)
{
	Node *node = &sim->node[rng_below(&sim->rng, sim->servers)];

	if (!sim->calm && rng_chance(&sim->rng, sim->config.tamper, 10000))
		tamper(sim, node);
	if (node->reported != 0 && node->up && rng_chance(&sim->rng, 1, 200))
		settle_reported(sim, node);
	for (uint32_t key = 0; sim->tampered != 0 && key < KEYS_MAX; key++)
	{
		if ((sim->tampered & BIT(key)) && is_equal(sim, key))
			sim->tampered &= ~BIT(key);
	}
}

static void
node_faults(Sim *sim)
{
	const Config *c = &sim->config;
	Rng *rng = &sim->rng;
	Node *node = &sim->node[rng_below(rng, sim->servers)];

	if (!node->used)
		return;
	if (rng_chance(rng, c->stranger, 10000))
		gossip_stranger(sim);
	if (node->up)
		leave(sim, node);
	if (node->up && rng_chance(rng, c->crash, 10000))
		crash(sim, node);
	if (rng_chance(rng, c->jump, 10000))
		clock_jump(sim, node);
	if (rng_chance(rng, c->full, 10000))
	{
		node->full_until = sim->step + 50 + rng_below(rng, 800);
		count_fault(sim, FAULT_DISK_FULL);
	}
	if (rng_chance(rng, c->backup, 10000))
	{
		node->backup = node->disk;
		node->has_backup = true;
	}
	if (rng_chance(rng, c->restore, 10000))
		set_back(sim, node);
	if (rng_chance(rng, c->removal, 10000))
		operator_remove(sim, node, rng_below(rng, c->nodes));
}

/* ---- the scheduler ------------------------------------------------------ */

void
node_restart(Sim *sim, Node *node)
{
	bool set_back_seen = node->disk.timeline != node->mem.timeline;

	node->full_until = 0;
	node_start(sim, node);
	if (set_back_seen && !DEFECT(sim, DEFECT_R15) && !node->mem.outcast)
		(void) member_reincarnate(sim, node, "its timeline is another one");
}

static void
act_link(Sim *sim, Node *node)
{
	uint32_t other = rng_below(&sim->rng, sim->servers);

	if (other == node->index)
		return;
	link_step(sim, link_of(sim, node->index, other));
	peer_step(sim, link_of(sim, other, node->index));
}

static void
act(Sim *sim, Node *node)
{
	const Config *c = &sim->config;
	uint32_t weight[] = {c->work,    c->link,
						 c->gossip,  c->gossip,
						 c->persist, c->purge,
						 4,          3,
						 2,          c->repair > 0 ? 10 : 4};
	uint32_t total = 0;
	uint32_t at;
	uint32_t kind = 0;

	for (uint32_t i = 0; i < sizeof(weight) / sizeof(weight[0]); i++)
		total += weight[i];
	at = rng_below(&sim->rng, total);
	while (at >= weight[kind])
		at -= weight[kind++];
	switch (kind)
	{
		case 0:
			if (node->contacts || c->join_rows)
				work_step(sim, node);
			break;
		case 1:
			act_link(sim, node);
			break;
		case 2:
		case 3:
			horizon_step(sim, node);
			break;
		case 4:
			(void) node_persist_vector(sim, node);
			break;
		case 5:
			node_purge_step(sim, node);
			break;
		case 6:
			node_publish_step(sim, node);
			break;
		case 7:
			member_step(sim, node);
			break;
		case 8:
			node_bound_step(sim, node);
			break;
		default:
			repair_step(sim, node);
			break;
	}
}

static void
tick(Sim *sim)
{
	Node *node = &sim->node[rng_below(&sim->rng, sim->servers)];

	sim->step++;
	sim->now_us += rng_below(&sim->rng, 2 * TICK_US);
	net_deliver_step(sim);
	introduce(sim);
	if (!sim->calm)
	{
		net_faults(sim);
		node_faults(sim);
	}
	if (sim->config.clone > 0)
		clone_faults(sim);
	if (sim->config.tamper > 0 || sim->was_cloned)
		back_faults(sim);
	if (!node->used)
		return;
	if (!node->up)
	{
		if (sim->calm || sim->step >= node->down_until)
			node_restart(sim, node);
		return;
	}
	gossip_step(sim, node);
	act(sim, node);
}

static void
calm_down(Sim *sim)
{
	Config *c = &sim->config;

	sim_trace(sim, "calm");
	for (uint32_t i = 0; i < sim->servers; i++)
	{
		if (sim->node[i].leaves_at != 0)
			node_crash(sim, &sim->node[i], 0);
	}
	sim->calm = true;
	net_heal(sim);
	c->link = 60;
	c->gossip = 10;
	if (c->repair > 0)
		c->repair = 100;
	c->persist = 6;
	c->purge = 6;
	c->delay_us = 50;
}

static void
run_to_the_end(Sim *sim)
{
	while (sim->failure[0] == '\0')
	{
		tick(sim);
		if (sim->step % 128 != 0)
			continue;
		if (is_settled(sim, true))
			break;
		if (sim->step > sim->config.steps + CALM_STEPS_MAX)
			explain_unsettled(sim);
	}
	if (sim->failure[0] == '\0')
		check_settled(sim);
}

/*
 * All of it but the parameters and the sums: what a run left anywhere, in
 * scratch too, would let the next one depend on it.
 */
static void
reset(Sim *sim)
{
	memset(&sim->calm, 0, offsetof(Sim, stats) - offsetof(Sim, calm));
	sim->now_us = 1000;
	sim->epoch_us = 10000000;
	sim->next_number = 100;
}

bool
cluster_run(Sim *sim, uint64_t seed, Defect defect, Trouble trouble, bool trace)
{
	sim->seed = seed;
	sim->defect = defect;
	sim->trouble = trouble;
	sim->trace = trace;
	reset(sim);
	rng_seed(&sim->rng, seed);
	configure(sim);
	if (trouble >= TROUBLE_DIRECTED)
		directed_prepare(sim, trouble - TROUBLE_DIRECTED);
	sim->servers = sim->config.nodes;
	if (sim->config.end_of_time)
	{
		sim->epoch_us = DC_HLC_US_MAX - 5 * (uint64_t) sim->config.steps;
		count_fault(sim, FAULT_END_OF_TIME);
	}
	for (uint32_t i = 0; i < SERVERS_MAX; i++)
	{
		for (uint32_t to = 0; to < SERVERS_MAX; to++)
			link_init(link_of(sim, i, to), i, to);
	}
	for (uint32_t i = 0; i < sim->config.nodes; i++)
		node_init(sim, i);
	sim_trace(sim, "seed %llu: %u nodes, %u founders, %u keys in %u keyspaces",
			  (unsigned long long) seed, sim->config.nodes,
			  sim->config.founders, sim->config.keys, sim->config.keyspaces);
	if (trouble >= TROUBLE_DIRECTED)
		directed_run(sim, trouble - TROUBLE_DIRECTED);
	else
	{
		while (sim->step < sim->config.steps && sim->failure[0] == '\0')
			tick(sim);
	}
	calm_down(sim);
	run_to_the_end(sim);
	sim->stats.runs++;
	sim->stats.steps += sim->step;
	return sim->failure[0] == '\0';
}
