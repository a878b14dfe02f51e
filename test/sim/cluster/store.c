/*
 * store.c
 *		What a node holds, what of it is durable, and what a crash leaves.
 */
#include "cluster.h"

#include <string.h>

uint64_t
node_now(const Sim *sim, const Node *node)
{
	return (uint64_t) ((int64_t) (sim->now_us + sim->epoch_us) + node->skew_us);
}

/* ---- durability ---------------------------------------------------------- */

bool
node_disk_takes(const Sim *sim, const Node *node)
{
	return sim->calm || sim->step >= node->full_until;
}

/* The log up to now: all rows that were committed. */
bool
node_flush(Sim *sim, Node *node)
{
	if (!node_disk_takes(sim, node))
		return DEFECT(sim, DEFECT_FULL);
	memcpy(node->disk.cell, node->mem.cell, sizeof(node->disk.cell));
	node->disk.quarantined = node->mem.quarantined;
	check_flushed(sim, node);
	return true;
}

/* Everything but the vector, in one transaction; false: nothing changed. */
bool
node_commit_state(Sim *sim, Node *node)
{
	DcHlc vector[NODES_MAX];
	Owed owed = node->disk.owed;

	if (!node_disk_takes(sim, node) || !node_flush(sim, node))
		return false;
	memcpy(vector, node->disk.vector, sizeof(vector));
	node->disk = node->mem;
	memcpy(node->disk.vector, vector, sizeof(vector));
	node->disk.owed = owed;
	return true;
}

/* R11: of who was removed nobody has more than is here. */
static void
forgive(Sim *sim, Node *node)
{
	DcDebts *debts = &sim->debts[0];

	debts_expand(&node->mem.owed, debts);
	for (uint32_t i = 0; i < NODES_MAX; i++)
	{
		if (node->mem.list.state[i] == DC_MEMBER_REMOVED)
			dc_debts_forgive(debts, i + 1);
	}
	debts_compact(debts, &node->mem.owed);
}

/* P14: V after its rows, and g with it. */
bool
node_persist_vector(Sim *sim, Node *node)
{
	if (!node_disk_takes(sim, node))
		return false;
	if (!DEFECT(sim, DEFECT_R4_DISK) && !node_flush(sim, node))
		return false;
	forgive(sim, node);
	memcpy(node->disk.vector, node->mem.vector, sizeof(node->disk.vector));
	if (!DEFECT(sim, DEFECT_LEFT_DISK))
		node->disk.owed = node->mem.owed;
	if (!DEFECT(sim, DEFECT_R8_DURABLE))
	{
		node->disk.horizon = node->mem.horizon;
		node->disk.counted = node->mem.counted;
	}
	return true;
}

/* ---- life --------------------------------------------------------------- */

/* The part of a node that no crash survives. */
static void
forget_volatile(Sim *sim, Node *node)
{
	memset(node->txn, 0, sizeof(node->txn));
	node->head = node->oldest = 0;
	node->delivered = node->haunted = node->met = 0;
	node->born_us = sim->now_us;
	memset(node->report, 0, sizeof(node->report));
	memset(&node->repair, 0, sizeof(node->repair));
	memset(node->asker, 0, sizeof(node->asker));
	node->relayed = 0;
	node->closed = 0;
	node->closed_epoch = 0;
	if (!DEFECT(sim, DEFECT_R6_SESSION))
	{
		memset(node->served, 0, sizeof(node->served));
		memset(node->incoming, 0, sizeof(node->incoming));
	}
}

void
node_start(Sim *sim, Node *node)
{
	node->up = true;
	node->mem = node->disk;
	/* V may have moved since it began to join */
	node->mem.ghosts |= node->mem.joining;
	node->boot = ++sim->next_number;
	forget_volatile(sim, node);
	node->clock = dc_hlc_make(node_now(sim, node), node_id(node));
	if (!DEFECT(sim, DEFECT_R14))
		node->clock = dc_hlc_observe(node->clock, node->disk.bound);
	for (uint32_t cell = 0; cell < CELLS_MAX; cell++)
		node->death[cell] = node->clock;
	node->at_start = node->disk.vector[node->self];
	node->bound_at_start = node->disk.bound;
	gossip_start(sim, node);
	check_vector(sim, node, (DcHlc[NODES_MAX]){0});
	sim_trace(sim, "node %u starts, incarnation %llu, V[self] %llu",
			  node->index + 1, (unsigned long long) node->mem.incarnation,
			  (unsigned long long) node->at_start);
}

void
node_crash(Sim *sim, Node *node, uint64_t down_steps)
{
	sim_trace(sim, "node %u crashes for %llu steps", node->index + 1,
			  (unsigned long long) down_steps);
	check_crashed(sim, node);
	gossip_stop(sim, node);
	node->leaves_at = 0;
	node->up = false;
	node->down_until = sim->step + down_steps;
	node->mem = node->disk;
	node->versions_unflushed = 0;
	forget_volatile(sim, node);
	for (uint32_t i = 0; i < sim->servers; i++)
	{
		if (i != node->index && !DEFECT(sim, DEFECT_R6_SESSION))
			link_close(sim, link_of(sim, node->index, i), NULL);
	}
}

/*
 * The disk shows an earlier state.  Restoring from an archive, or promoting a
 * standby, begins a timeline that the server sees (`noticed`); a snapshot put
 * back does not.
 */
void
node_restore(Sim *sim, Node *node, const State *state, bool noticed)
{
	uint64_t timeline = node->disk.timeline;

	sim_trace(sim, "node %u: its disk is set back%s", node->index + 1,
			  noticed ? "" : ", unnoticed");
	node->disk = *state;
	node->mem = node->disk;
	if (noticed)
		node->disk.timeline = timeline + 1;
	check_rolled_back(sim, node, state);
}

/* ---- clock -------------------------------------------------------------- */

DcHlc
node_draw(Sim *sim, Node *node)
{
	DcHlc next = dc_hlc_next(node->clock, node_now(sim, node), node_id(node));

	if (next == DC_HLC_NONE)
		sim->time_is_up = true;
	if (next == DC_HLC_NONE)
		return DC_HLC_NONE;
	if (next > node->mem.bound)
	{
		node_bound_step(sim, node);
		if (next > node->mem.bound)
			return DC_HLC_NONE;
	}
	node->clock = next;
	return next;
}

/* R14: the bound leads the clock, and is on disk first. */
void
node_bound_step(Sim *sim, Node *node)
{
	uint64_t now = node_now(sim, node);
	uint64_t at = dc_hlc_time_us(node->clock);
	DcHlc previous = node->mem.bound;
	uint64_t until = (at > now ? at : now) + sim->config.lead_us;
	DcHlc bound = dc_hlc_make(until < DC_HLC_US_MAX ? until : DC_HLC_US_MAX,
							  DC_NODE_ID_MAX);

	if (bound <= previous)
		return;
	node->mem.bound = bound;
	if (!node_commit_state(sim, node))
		node->mem.bound = previous;
}

/* R14: a stamp is taken in when clock and bound cover it; else it waits. */
bool
node_observe(Sim *sim, Node *node, DcHlc stamp)
{
	if (dc_hlc_ahead(stamp, node_now(sim, node), sim->config.drift_us))
	{
		sim->stats.waits++;
		return false;
	}
	if (DEFECT(sim, DEFECT_OBSERVE))
		return true;
	node->clock = dc_hlc_observe(node->clock, stamp);
	if (stamp > node->mem.bound)
		node_bound_step(sim, node);
	return stamp <= node->mem.bound;
}

/* R1, R2, P9: draw, read the slots, flush, publish. */
void
node_publish_step(Sim *sim, Node *node)
{
	DcHlc slots[TXNS];
	DcHlc *published = &node->mem.vector[node->self];
	DcHlc drawn = node_draw(sim, node);
	DcHlc before[NODES_MAX];
	DcHlc watermark;

	for (uint32_t i = 0; i < TXNS; i++)
		slots[i] = node->txn[i].slot;
	if (drawn == DC_HLC_NONE || !member_owns_complete(sim, node))
		return;
	watermark =
		dc_rule_watermark(drawn, slots, TXNS, node->mem.bound, *published);
	if (!node_flush(sim, node))
		return;
	memcpy(before, node->mem.vector, sizeof(before));
	*published = watermark;
	check_vector(sim, node, before);
}

/* ---- rows --------------------------------------------------------------- */

Cell
node_read(const Sim *sim, const Node *node, uint32_t cell)
{
	(void) sim;
	return node->mem.cell[cell];
}

static void
raise(DcHlc *to, DcHlc stamp)
{
	if (*to < stamp)
		*to = stamp;
}

void
node_put(Sim *sim, Node *node, uint32_t cell, Cell to)
{
	node->mem.cell[cell] = to;
	if (to.dead)
		raise(&node->death[cell], to.stamp);
	if (!is_floor(cell))
		return;
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		if (floor_cell(sim, key) != cell)
			continue;
		raise(&node->death[key], to.stamp);
		if (node->mem.cell[key].stamp <= to.stamp)
			node->mem.cell[key] = (Cell){0};
	}
}

/* One change from elsewhere. */
DcApply
node_apply(Sim *sim, Node *node, const Change *change, DcHlc horizon)
{
	Cell here = node->mem.cell[change->cell];
	DcEntry entry = {here.stamp, here.dead};
	DcEntry incoming = {change->to.stamp, change->to.dead};
	DcHlc row = here.dead ? DC_HLC_NONE : here.stamp;
	DcHlc floor = DC_HLC_NONE;
	DcApply what;

	if (!is_floor(change->cell))
	{
		if (!DEFECT(sim, DEFECT_TRUNCATE))
			floor = node->mem.cell[floor_cell(sim, change->cell)].stamp;
		if (change->to.dead)
			raise(&node->death[change->cell], change->to.stamp);
	}
	else
		horizon = DC_HLC_NONE; /* a floor is never purged */
	what = dc_rule_apply(row, entry, incoming, horizon, floor);
	if (DEFECT(sim, DEFECT_R5_DEAD) && what == DC_APPLY_STALE &&
		here.stamp != DC_HLC_NONE && change->to.stamp > floor)
		what = DC_APPLY_STORE;
	if (what == DC_APPLY_STORE || what == DC_APPLY_ERASE ||
		what == DC_APPLY_MARK)
	{
		sim_trace(sim, "node %u takes key %u at %llu", node->index + 1,
				  change->cell, (unsigned long long) change->to.stamp);
		node_put(sim, node, change->cell, change->to);
		check_taken(sim, node, change->cell, change->to);
		sim->stats.applied++;
	}
	else
		sim->stats.stale++;
	return what;
}

/* ---- purge -------------------------------------------------------------- */

static DcHlc
forgettable(Sim *sim, const Node *node, DcHlc stamp)
{
	DcHlc floor = DC_HLC_MAX;
	uint64_t now = node_now(sim, node);

	if (DEFECT(sim, DEFECT_R8_CLOCK))
		return node->mem.vector[dc_hlc_node_id(stamp) - 1];
	if (DEFECT(sim, DEFECT_R8_GRACE))
		return dc_hlc_make(now - 20000, DC_NODE_ID_MAX);
	if (DEFECT(sim, DEFECT_R8_LOCAL))
	{
		for (uint32_t i = 0; i < sim->config.nodes; i++)
		{
			if (node->disk.list.state[i] == DC_MEMBER_PRESENT &&
				node->disk.vector[i] < floor)
				floor = node->disk.vector[i];
		}
		return floor;
	}
	if (DEFECT(sim, DEFECT_R8_DURABLE))
		return node->mem.horizon;
	return node->disk.horizon;
}

/* R8: each node on its own, some at a time. */
void
node_purge_step(Sim *sim, Node *node)
{
	uint32_t start = rng_below(&sim->rng, sim->config.keys);
	uint32_t count = 1 + rng_below(&sim->rng, sim->config.keys);

	/* R13: a joiner's own deaths may be news to the others */
	if (!node_disk_takes(sim, node) ||
		(node->mem.joining && !DEFECT(sim, DEFECT_R13_PURGE)))
		return;
	for (uint32_t i = 0; i < count; i++)
	{
		uint32_t key = (start + i) % sim->config.keys;
		Cell *cell = &node->mem.cell[key];

		if (!cell->dead || cell->stamp > forgettable(sim, node, cell->stamp))
			continue;
		sim_trace(sim, "node %u forgets key %u, dead %llu", node->index + 1,
				  key, (unsigned long long) cell->stamp);
		*cell = (Cell){0};
		sim->stats.purged++;
	}
}
