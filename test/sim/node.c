/*
 * node.c
 *		The services of one node: clock, watermark, maintainer, rebuild, crash.
 */
#include "sim.h"

#include <string.h>

void
node_init(Sim *sim, Node *node, uint32_t index)
{
	memset(node, 0, sizeof(*node));
	node->index = index;
	node->id = index + 1;
	node->skew_us = (int64_t) rng_below(&sim->rng, sim->config.skew_us);
	meta_init(sim, node);
	node_restart(sim, node);
	node->rebuild = 2 * sim->config.keys;
}

uint64_t
node_now(const Sim *sim, const Node *node)
{
	return (uint64_t) ((int64_t) sim->now_us + node->skew_us);
}

/* The next stamp; DC_HLC_NONE when it lies beyond the bound (R14). */
DcHlc
node_draw(Sim *sim, Node *node)
{
	DcHlc stamp = dc_hlc_next(node->clock, node_now(sim, node), node->id);

	if (stamp > node->bound)
		return DC_HLC_NONE;
	node->clock = stamp;
	return stamp;
}

/* Memory, the unflushed log and every session are gone. */
void
node_crash(Sim *sim, Node *node)
{
	node->up = false;
	node->down_until =
		sim->step +
		rng_below(&sim->rng, rng_chance(&sim->rng, 1, 2) ? 20 : 600);
	sim->stats.outages += node->down_until > sim->step + 100;
	for (uint32_t i = 0; i < NODES_MAX * NODES_MAX; i++)
	{
		Link *link = &sim->link[i];

		if (link->from == node->index)
			link->kept = false;
		if (DEFECT(sim, DEFECT_SESSION) && link->to == node->index &&
			link->from != node->index)
		{
			link->receiving = false; /* who worked on it is gone */
			continue;
		}
		if (link->up && (link->from == node->index || link->to == node->index))
			link_break(sim, link);
	}
	sim->stats.crashes++;
	sim_trace(sim, "node %u: crash, %llu records lost", node->id,
			  (unsigned long long) (node->wal_insert - node->wal_flushed));
}

/* Crash recovery, then the cache starts out empty. */
void
node_restart(Sim *sim, Node *node)
{
	DcHlc wall = dc_hlc_make(node_now(sim, node), node->id);

	node->wal_insert = node->wal_merged = node->wal_flushed;
	for (uint32_t key = 0; key < KEYS_MAX; key++)
		node->heap[key] = (Heap){.row = node->disk_row[key],
								 .tomb = node->disk_tomb[key],
								 .holder = -1};
	meta_clear(sim, node);
	for (int i = 0; i < TXNS; i++)
		node->txn[i].reserved = node->txn[i].pinned = 0; /* gone with memory */
	for (int i = 0; i < TXNS; i++)
		txn_reset(node, i);
	memset(node->worker, 0, sizeof(node->worker));
	memset(node->slot, 0, sizeof(node->slot));
	node->dying = 0;
	node->pins = 0;
	node->thinned = DC_HLC_NONE;
	node->floor = node->heap_floor = node->disk_floor;
	node->horizon = node->disk_horizon;
	memset(node->report, 0, sizeof(node->report));
	node->purge_state = 0;

	node->bound = node->disk_bound;
	node->clock = wall > node->bound ? wall : node->bound;
	if (DEFECT(sim, DEFECT_R14))
	{
		node->clock = wall;
		node->bound = dc_hlc_make(node_now(sim, node) + 50, node->id);
	}
	node->dmax = node->clock;
	vv_of(sim, &node->disk_claims, &node->vector);
	node->watermark = node->vector.at[node->id];
	node->watermark_position = 0;
	node->queue_oldest = node->queue_head = 0;
	node->reconcile = 0;
	node->births = 0;
	node->rebuild = 0;
	node->publish_state = 0;
	node->relaying = false;
	node->relayed = (Claims){0};
	node->up = true;
	sim_trace(sim, "node %u: up, clock %llu", node->id,
			  (unsigned long long) node->clock);
}

bool
node_tombs_loaded(const Sim *sim, const Node *node)
{
	return node->rebuild >= sim->config.keys;
}

bool
node_rebuilt(const Sim *sim, const Node *node)
{
	return node->rebuild >= 2 * sim->config.keys;
}

/*
 * Tombstones first, then rows, while writes go on.  A row is read with its
 * tombstone by one snapshot, or a key whose deleter came in between would be
 * in neither.  At the end all is flushed that was read, or hidden by a
 * TRUNCATE: rows of others that were committed and not yet flushed.
 */
void
node_rebuild_step(Sim *sim, Node *node)
{
	uint32_t keys = sim->config.keys;
	uint32_t key = node->rebuild % keys;
	DcHlc row = node->heap[key].row.stamp;
	DcHlc tomb = node->heap[key].tomb;

	if (node_rebuilt(sim, node))
		return;
	if (tomb > node->floor && (node->rebuild < keys || !DEFECT(sim, DEFECT_P6)))
		(void) meta_merge(sim, node, key,
						  (DcEntry){.stamp = tomb, .dead = true}, false);
	if (node->rebuild >= keys && row != DC_HLC_NONE)
	{
		DcEntry found = {0};

		if (row > node->floor)
			found = meta_merge(sim, node, key,
							   (DcEntry){.stamp = row, .dead = false}, false);
		found = dc_rule_above_floor(found, node->floor);
		if (dc_rule_reconcile(row, found) == DC_RECONCILE_ERASE_ROW)
		{
			node->reconcile |= BIT(key);
			sim->stats.reconciles++;
		}
	}
	node->rebuild++;
	if (node_rebuilt(sim, node))
	{
		wal_flush(sim, node, node->wal_insert);
		node->wal_merged = node->wal_insert;
		check_coverage(sim, node, NULL);
		sim_trace(sim, "node %u: rebuilt", node->id);
	}
}

/* R2 and P9: draw, slots one by one, flush up to L, publish. */
void
node_publish_step(Sim *sim, Node *node)
{
	uint32_t state = node->publish_state;

	if (!node_rebuilt(sim, node))
		return;
	if (state == 0)
	{
		node->publish_drawn = node_draw(sim, node);
		if (node->publish_drawn == DC_HLC_NONE)
			return;
	}
	else if (state <= SLOTS)
		node->publish_slots[state - 1] = node->slot[state - 1];
	else if (state == SLOTS + 1)
	{
		wal_flush(sim, node, node->wal_merged);
		node->publish_result =
			dc_rule_watermark(node->publish_drawn, node->publish_slots, SLOTS,
							  node->bound, node->vector.at[node->id]);
	}
	else
	{
		if (node->publish_result < node->watermark)
			sim_fail(sim, "R2: watermark of node %u falls", node->id);
		node->watermark = node->publish_result;
		node->watermark_position =
			DEFECT(sim, DEFECT_P8) ? 0 : node->queue_head;
		node->vector.at[node->id] = node->watermark;
		if (node->watermark > node->published)
			node->published = node->watermark;
	}
	node->publish_state = (state + 1) % (SLOTS + 3);
}

/* R14: the bound moves ahead of the clock and of all that was taken in. */
void
node_bound_step(Sim *sim, Node *node)
{
	uint64_t now_us = node_now(sim, node);
	uint64_t clock_us = dc_hlc_time_us(node->clock);
	DcHlc bound;

	if (!DEFECT(sim, DEFECT_BOUND) && clock_us > now_us)
		now_us = clock_us;
	bound = dc_hlc_make(now_us + sim->config.lead_us, node->id);
	if (bound > node->bound)
		node->bound = node->disk_bound = bound;
}

/* P14: the vector goes to disk as a row, after the rows it covers. */
void
node_persist_step(Sim *sim, Node *node)
{
	WalRecord record = {.vector = true,
						.claims = claims_of(sim, &node->vector)};

	if (DEFECT(sim, DEFECT_R4_DISK))
		node->disk_claims = record.claims;
	else
		(void) wal_append(sim, node, &record);
	if (sim->calm)
		wal_flush(sim, node, node->wal_insert);
}

/* The key's lock and row are his: what shall they be? */
static void
reconcile(Sim *sim, Node *node, Txn *t)
{
	uint32_t key = t->key;
	DcHlc row = heap_sees(node, TXN_MAINTAIN, key).stamp;
	DcEntry entry = dc_rule_above_floor(meta_get(node, key), node->floor);

	if (row != DC_HLC_NONE && !(t->held & BIT(key)))
	{
		t->state = TXN_TAKE; /* it came after the look: lock it first */
		return;
	}
	t->state = TXN_RESERVE;
	t->next = 0;
	switch (dc_rule_reconcile(row, entry))
	{
		case DC_RECONCILE_NOTHING:
			txn_reset(node, TXN_MAINTAIN);
			break;
		case DC_RECONCILE_ERASE_ROW:
			t->pending[key] = (Row){0};
			t->written = BIT(key);
			sim->stats.erased++;
			break;
		case DC_RECONCILE_MERGE_ROW:
			t->entry[key] = (DcEntry){.stamp = row, .dead = false};
			t->merged = BIT(key);
			break;
		case DC_RECONCILE_FETCH_ROW:
			/* whoever wrote or erased that row is about to merge it */
			node->reconcile |= BIT(key);
			sim->stats.fetches++;
			txn_reset(node, TXN_MAINTAIN);
			break;
	}
}

void
node_maintain_step(Sim *sim, Node *node)
{
	Txn *t = &node->txn[TXN_MAINTAIN];
	uint32_t key;

	if (!node_rebuilt(sim, node) || sim->step < t->stall_until)
		return;
	switch (t->state)
	{
		case TXN_IDLE:
			key = sim->explore ?
					  (uint32_t) __builtin_ctz(node->reconcile | 256) :
					  rng_below(&sim->rng, sim->config.keys);
			if (!(node->reconcile & BIT(key)))
				break;
			txn_reset(node, TXN_MAINTAIN);
			node->reconcile &= ~BIT(key);
			t->key = key;
			t->state = TXN_TAKE;
			break;
		case TXN_TAKE:
			if (table_blocked(sim, node, TXN_MAINTAIN, TABLE_WRITE) ||
				heap_blocked(sim, node, TXN_MAINTAIN, t->key))
				break;
			if (node->heap[t->key].row.stamp != DC_HLC_NONE)
				(void) heap_lock(sim, node, TXN_MAINTAIN, t->key);
			t->state = TXN_RECONCILE;
			break;
		case TXN_RECONCILE:
			reconcile(sim, node, t);
			break;
		default:
			key = t->key;
			if (!commit_step(sim, node, TXN_MAINTAIN))
				break;
			if (t->state == TXN_FULL)
				node->reconcile |= BIT(key);
			txn_reset(node, TXN_MAINTAIN);
			break;
	}
}
