/*
 * repair.c
 *		Two nodes compared, key by key, with time in between.
 *
 * Between members it mends what the rules say cannot be.  In rejoin mode it
 * tells a joiner which of its rows the cluster has forgotten (R13).  The peer's
 * vector and horizon are read first; the conversation ends with either life or
 * either list.
 */
#include "cluster.h"

#include <string.h>

void
repair_begin(Sim *sim, Node *node, uint32_t peer, bool rejoin)
{
	Repair *r = &node->repair;
	Node *other = &sim->node[peer];
	State saved = node->mem;

	if (!other->up || other->mem.joining || other->mem.outcast ||
		net_cut(sim, node->index, peer) || net_cut(sim, peer, node->index) ||
		(node->mem.joining && !rejoin) || node->mem.outcast ||
		peer == node->index)
		return;
	*r = (Repair){.running = true,
				  .rejoin = rejoin,
				  .peer = peer,
				  .epoch = list_digest(sim, &node->mem.list),
				  .own_boot = node->boot,
				  .peer_boot = other->boot,
				  .peer_incarnation = other->mem.incarnation,
				  .horizon = other->mem.horizon};
	if (list_digest(sim, &other->mem.list) != r->epoch)
	{
		r->running = false;
		return;
	}
	memcpy(r->vector, other->mem.vector, sizeof(r->vector));
	memcpy(r->own, node->mem.vector, sizeof(r->own));
	if (rejoin && node->mem.horizon < r->horizon &&
		!DEFECT(sim, DEFECT_R12_HORIZON))
	{
		node->mem.horizon = r->horizon;
		node->mem.counted = other->mem.counted;
		if (!node_commit_state(sim, node))
		{
			node->mem = saved;
			r->running = false;
			return;
		}
	}
	sim->stats.repairs++;
	sim_trace(sim, "node %u compares with node %u%s", node->index + 1, peer + 1,
			  rejoin ? ", to rejoin" : "");
}

/* Same lives, same lists, and they reach each other? */
static bool
goes_on(Sim *sim, const Node *node, const Node *other)
{
	const Repair *r = &node->repair;

	return other->up && other->boot == r->peer_boot &&
		   node->boot == r->own_boot &&
		   other->mem.incarnation == r->peer_incarnation &&
		   !other->mem.joining && !other->mem.outcast &&
		   !net_cut(sim, node->index, other->index) &&
		   !net_cut(sim, other->index, node->index) &&
		   list_digest(sim, &node->mem.list) == r->epoch &&
		   list_digest(sim, &other->mem.list) == r->epoch;
}

/* What the donor has of a key, if no TRUNCATE of ours killed it. */
static Cell
donated(const Sim *sim, const Node *node, uint32_t cell)
{
	DcHlc floor = node->mem.cell[floor_cell(sim, cell)].stamp;

	return node->repair.answer.stamp > floor ? node->repair.answer : (Cell){0};
}

/*
 * R13: a live row that the donor has nothing of, or a death that it does not
 * know.  A death that is set aside gives way to what the donor has.
 */
static void
judge(Sim *sim, Node *node, uint32_t cell, Cell here)
{
	const Repair *r = &node->repair;
	uint32_t source = dc_hlc_node_id(here.stamp) - 1;
	bool newborn = source == node->self && node->mem.before == DC_MEMBER_ABSENT;
	uint32_t others = list_present(&node->mem.list) & ~BIT(node->self);
	bool all = (others & ~node->delivered) == 0;

	/* R bounds what this node wrote, not what it took from a member */
	if (!all && source != node->self && here.stamp > r->vector[source] &&
		here.stamp <= node->mem.registered && !DEFECT(sim, DEFECT_R13_OTHERS))
	{
		node->repair.running = false;
		return;
	}
	switch (dc_rule_rejoin(here.stamp, here.stamp <= r->vector[source],
						   all ? node->mem.horizon : node->mem.registered,
						   newborn))
	{
		case DC_REJOIN_KEEP:
			break;
		case DC_REJOIN_ERASE:
			if (here.dead)
				break; /* it goes with the next purge */
			check_erased(sim, node, cell, here);
			node->mem.cell[cell] = (Cell){0};
			sim->stats.erased++;
			sim_trace(sim, "node %u erases key %u at %llu", node->index + 1,
					  cell, (unsigned long long) here.stamp);
			break;
		case DC_REJOIN_REISSUE:
			check_set_aside(sim, node, cell, here);
			if (here.dead)
				node->mem.cell[cell] = donated(sim, node, cell);
			else
				work_write(sim, node, cell, false);
			sim->stats.reissued++;
			break;
		case DC_REJOIN_QUARANTINE:
			check_set_aside(sim, node, cell, here);
			node->mem.cell[cell] =
				here.dead ? donated(sim, node, cell) : (Cell){0};
			node->mem.quarantined++;
			sim->stats.quarantined++;
			sim_trace(sim, "node %u sets key %u at %llu aside", node->index + 1,
					  cell, (unsigned long long) here.stamp);
			break;
	}
}

static void
push(Sim *sim, Node *node, Node *other, uint32_t cell, Cell here)
{
	Change change = {cell, here};
	DcHlc horizon = other->mem.horizon;
	Cell was = other->mem.cell[cell];

	if (!node_disk_takes(sim, other))
		return;
	if (member_reach(sim, other->mem.counted, node->repair.own, horizon))
		horizon = DC_HLC_NONE;
	if (here.dead && was.stamp == DC_HLC_NONE &&
		here.stamp <= other->mem.horizon)
		return; /* forgotten there already */
	if (!node_observe(sim, other, here.stamp))
		return;
	check_shipped(sim, node, &change);
	(void) node_apply(sim, other, &change, horizon);
	(void) node_flush(sim, other);
	if (memcmp(&was, &other->mem.cell[cell], sizeof(was)) != 0)
		sim->stats.mended++;
}

static void
take(Sim *sim, Node *node, uint32_t cell, Cell answer)
{
	Change change = {cell, answer};
	DcHlc horizon = node->mem.horizon;

	if (member_reach(sim, node->mem.counted, node->repair.vector, horizon))
		horizon = DC_HLC_NONE;
	if (answer.dead && node->mem.cell[cell].stamp == DC_HLC_NONE &&
		answer.stamp <= node->mem.horizon)
		return;
	if (!node_observe(sim, node, answer.stamp))
		return;
	(void) node_apply(sim, node, &change, horizon);
}

static void
compare(Sim *sim, Node *node, Node *other)
{
	Repair *r = &node->repair;
	Cell here = node->mem.cell[r->cell];

	if (r->answer.stamp > here.stamp)
		take(sim, node, r->cell, r->answer);
	else if (r->rejoin && here.stamp > r->answer.stamp &&
			 ((here.dead && !DEFECT(sim, DEFECT_R13_DEATHS)) ||
			  (!here.dead && r->answer.stamp == DC_HLC_NONE)) &&
			 !is_floor(r->cell))
		judge(sim, node, r->cell, here);
	else if (!r->rejoin && here.stamp > r->answer.stamp &&
			 node_flush(sim, node))
		push(sim, node, other, r->cell, here);
}

void
repair_step(Sim *sim, Node *node)
{
	Repair *r = &node->repair;
	Node *other = &sim->node[r->peer];

	if (!r->running)
	{
		uint32_t peer = rng_below(&sim->rng, sim->config.nodes);

		if (node->mem.list.state[peer] == DC_MEMBER_PRESENT &&
			rng_chance(&sim->rng, sim->config.repair, 1000))
			repair_begin(sim, node, peer, false);
		return;
	}
	if (!goes_on(sim, node, other))
	{
		r->running = false;
		return;
	}
	if (!r->asked)
	{
		r->answer = node_read(sim, other, r->cell);
		if (!node_flush(sim, other))
			return;
		r->due_us =
			sim->now_us + 1 + rng_below(&sim->rng, sim->config.delay_us);
		r->asked = true;
		return;
	}
	if (sim->now_us < r->due_us)
		return;
	r->asked = false;
	if (!node_disk_takes(sim, node))
	{
		r->running = false;
		return;
	}
	compare(sim, node, other);
	(void) node_flush(sim, node);
	if (!r->running)
		return;
	if (++r->cell < CELLS_MAX)
		return;
	r->running = false;
	if (r->rejoin && node->mem.joining)
		member_end_joining(sim, node);
}
