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
	c->repair = pick(rng, 30, 5, 300);
	if (sim->trouble != TROUBLE_ANY)
		aggravate(sim, sim->trouble);
	else if (rng_chance(rng, 1, 2))
		aggravate(sim, (Trouble) rng_below(rng, TROUBLE_KINDS));
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

static void
node_faults(Sim *sim)
{
	const Config *c = &sim->config;
	Rng *rng = &sim->rng;
	Node *node = &sim->node[rng_below(rng, c->nodes)];

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
		member_reincarnate(sim, node, "its timeline is another one");
}

static void
act_link(Sim *sim, Node *node)
{
	uint32_t other = rng_below(&sim->rng, sim->config.nodes);

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
			gossip_step(sim, node);
			break;
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
	Node *node = &sim->node[rng_below(&sim->rng, sim->config.nodes)];

	sim->step++;
	sim->now_us += rng_below(&sim->rng, 2 * TICK_US);
	net_deliver_step(sim);
	introduce(sim);
	if (!sim->calm)
	{
		net_faults(sim);
		node_faults(sim);
	}
	if (!node->up)
	{
		if (sim->calm || sim->step >= node->down_until)
			node_restart(sim, node);
		return;
	}
	act(sim, node);
}

static void
calm_down(Sim *sim)
{
	Config *c = &sim->config;

	sim_trace(sim, "calm");
	sim->calm = true;
	net_heal(sim);
	c->link = 60;
	c->gossip = 10;
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

static void
reset(Sim *sim)
{
	sim->calm = false;
	sim->step = 0;
	sim->now_us = 1000;
	sim->next_value = 0;
	sim->next_number = 100;
	sim->failure[0] = '\0';
	sim->healed_at = 0;
	memset(sim->cut, 0, sizeof(sim->cut));
	memset(sim->node, 0, sizeof(sim->node));
	memset(sim->last_of, 0, sizeof(sim->last_of));
	sim->version_count = 0;
	sim->last_call.length = 0;
	for (uint32_t i = 0; i < DATAGRAMS; i++)
		sim->datagram[i].used = false;
	for (uint32_t i = 0; i < SERVERS_MAX * SERVERS_MAX; i++)
		sim->link[i].up = false;
	for (int i = 0; i < 3; i++)
		dc_vv_init(&sim->vv[i]);
	memset(&sim->welcome, 0, sizeof(sim->welcome));
	memset(&sim->ack, 0, sizeof(sim->ack));
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
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		node_init(sim, i);
		for (uint32_t to = 0; to < sim->config.nodes; to++)
			link_init(link_of(sim, i, to), i, to);
	}
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
