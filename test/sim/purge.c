/*
 * purge.c
 *		Floors by gossip, the durable horizon, and what it lets a node forget
 *		(R7, R8).
 *
 *	 durable V --m--> reports of all --least--> g durable -> g in memory
 *	                                                             |
 *	     tombstones, entries <- keys to mend: none <- apply in flight: ended
 *
 * Between the last two the node waits.  A change that was decided under an
 * older g may still be written; a row that outlived its death may still lie in
 * the heap and would look new without it.  Each box is a step of its own.
 */
#include "sim.h"

#include <string.h>

enum
{
	PURGE_COMPUTE,
	PURGE_ADOPT,
	PURGE_WAIT,
	PURGE_MEND,
	PURGE_TABLE,
	PURGE_SCAN,
	PURGE_REMOVE
};

/* R7: m of this node, as it tells it. */
static DcReport
report_of(Sim *sim, const Node *node)
{
	DcVv durable;

	if (DEFECT(sim, DEFECT_R7_MEMORY))
		durable = node->vector;
	else
		vv_of(sim, &node->disk_claims, &durable);
	return (DcReport){.node_id = node->id,
					  .incarnation = 1,
					  .epoch = dc_members_digest(&sim->members),
					  .floor = dc_members_floor(&sim->members, &durable)};
}

/* What one node says of itself and has heard of others. */
void
purge_gossip_step(Sim *sim, Node *node, Node *other)
{
	if (!sim->config.purge)
		return;
	node->report[node->index] = report_of(sim, node);
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		if (node->report[i].floor > other->report[i].floor)
			other->report[i] = node->report[i];
	}
}

/* Whom g counts: all there are. */
void
horizon_of(const Sim *sim, DcHlc stamp, DcHorizon *horizon)
{
	memset(horizon, 0, sizeof(*horizon));
	horizon->stamp = stamp;
	for (uint32_t id = 1; id <= sim->config.nodes; id++)
		horizon->counted[id] = true;
}

/* R8: g, after the reports that this node has. */
DcHlc
purge_horizon(const Sim *sim, const Node *node)
{
	DcHorizon horizon;

	horizon_of(sim, node->disk_horizon, &horizon);
	(void) dc_members_advance(&sim->members, node->report, sim->config.nodes,
							  &horizon);
	return horizon.stamp;
}

static void
compute(Sim *sim, Node *node)
{
	DcHlc horizon;

	node->report[node->index] = report_of(sim, node);
	horizon = purge_horizon(sim, node);
	if (DEFECT(sim, DEFECT_R8_CLOCK))
		horizon = node->watermark;
	if (DEFECT(sim, DEFECT_R8_GRACE) && node_now(sim, node) > 2000)
		horizon = dc_hlc_make(node_now(sim, node) - 2000, 0);
	node->purge_until = horizon;
	if (!DEFECT(sim, DEFECT_R8_CLOCK) && !DEFECT(sim, DEFECT_R8_GRACE))
		check_horizon(sim, node, horizon);
	if (!DEFECT(sim, DEFECT_R8_DURABLE))
	{
		sim->stats.horizons += horizon > node->disk_horizon;
		node->disk_horizon = horizon;
	}
	node->purge_state = PURGE_ADOPT;
}

/* From here on apply knows; who began before may not. */
static void
adopt(Sim *sim, Node *node)
{
	node->horizon = node->purge_until;
	for (int i = LOCALS; i < TXNS; i++)
		node->purge_waits[i] =
			node->txn[i].state != TXN_IDLE ? node->serial[i] + 1 : 0;
	node->purge_state =
		DEFECT(sim, DEFECT_PURGE_APPLY) ? PURGE_MEND : PURGE_WAIT;
}

static void
wait_for_apply(Node *node)
{
	for (int i = LOCALS; i < TXNS; i++)
	{
		if (node->purge_waits[i] == node->serial[i] + 1)
			return;
	}
	node->purge_state = PURGE_MEND;
}

/* The maintainer purges itself, when it has nothing left to mend. */
static void
wait_for_mending(Sim *sim, Node *node)
{
	if (!DEFECT(sim, DEFECT_PURGE_MEND) &&
		(node->reconcile != 0 || node->txn[TXN_MAINTAIN].state != TXN_IDLE))
		return;
	node->purge_state = PURGE_TABLE;
}

/* DELETE FROM datacake.tombstone WHERE stamp <= g, one transaction. */
static void
purge_table(Sim *sim, Node *node)
{
	WalRecord record = {.purged = node->purge_until};
	bool any = false;

	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		Heap *heap = &node->heap[key];

		if (heap->tomb == DC_HLC_NONE || heap->tomb > node->purge_until)
			continue;
		heap->tomb = DC_HLC_NONE;
		any = true;
	}
	if (any)
		(void) wal_append(sim, node, &record);
	node->purge_cursor = (DcMapCursor){0};
	node->purge_state = PURGE_SCAN;
}

static void
purge_scan(const Sim *sim, Node *node)
{
	DcMapFilter filter = {.until = node->purge_until, .skip_live = true};
	DcEntry entry;

	(void) sim;
	if (node->purge_until != DC_HLC_NONE &&
		meta_scan(node, &node->purge_cursor, &filter, &node->purge_key, &entry))
		node->purge_state = PURGE_REMOVE;
	else
		node->purge_state = PURGE_COMPUTE;
}

/* Under the partition's lock: is it still what the scan saw? */
static void
purge_remove(Sim *sim, Node *node)
{
	DcEntry entry = meta_get(node, node->purge_key);

	node->purge_state = PURGE_SCAN;
	if (node->pins > 0)
		return;
	if ((!entry.dead || entry.stamp > node->purge_until) &&
		!DEFECT(sim, DEFECT_PURGE_BLIND))
		return;
	sim->stats.purged += meta_remove(node, node->purge_key);
	sim_trace(sim, "node %u: forgets key %u, dead at %llu, g is %llu", node->id,
			  node->purge_key, (unsigned long long) entry.stamp,
			  (unsigned long long) node->horizon);
}

void
purge_step(Sim *sim, Node *node)
{
	if (!sim->config.purge || !node_rebuilt(sim, node))
		return;
	switch (node->purge_state)
	{
		case PURGE_COMPUTE:
			compute(sim, node);
			break;
		case PURGE_ADOPT:
			adopt(sim, node);
			break;
		case PURGE_WAIT:
			wait_for_apply(node);
			break;
		case PURGE_MEND:
			wait_for_mending(sim, node);
			break;
		case PURGE_TABLE:
			purge_table(sim, node);
			break;
		case PURGE_SCAN:
			if (DEFECT(sim, DEFECT_R8_DURABLE))
				node->disk_horizon = node->horizon; /* at last */
			purge_scan(sim, node);
			break;
		default:
			purge_remove(sim, node);
			break;
	}
}

/*
 * Entries at or below the floor of a TRUNCATE go whatever g says: the floor
 * stays, and answers for them.  One key at a time; then their tombstones.
 */
void
purge_floor_step(Sim *sim, Node *node)
{
	WalRecord record = {.purged = node->floor};
	uint32_t key = node->floor_key;
	DcEntry entry;

	if (!node_rebuilt(sim, node) || node->thinned == node->floor)
		return;
	entry = meta_get(node, key);
	if (entry.stamp != DC_HLC_NONE && entry.stamp <= node->floor)
	{
		if (node->pins > 0)
			return;
		(void) meta_remove(node, key);
	}
	node->floor_key = (key + 1) % sim->config.keys;
	if (node->floor_key != 0)
		return;
	for (key = 0; key < sim->config.keys; key++)
	{
		entry = meta_get(node, key);
		if (entry.stamp != DC_HLC_NONE && entry.stamp <= node->floor)
			return; /* the floor rose meanwhile */
		if (node->heap[key].tomb <= node->floor)
			node->heap[key].tomb = DC_HLC_NONE;
	}
	(void) wal_append(sim, node, &record);
	node->thinned = node->floor;
}

/* Nothing dead is left, in the table or in memory. */
bool
purge_done(const Sim *sim, const Node *node)
{
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		DcEntry entry = meta_get(node, key);

		if (entry.stamp != DC_HLC_NONE && entry.stamp <= node->floor)
			return false;
		if (sim->config.purge &&
			(node->heap[key].tomb != DC_HLC_NONE || entry.dead))
			return false;
	}
	return true;
}
