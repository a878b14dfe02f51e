/*
 * commit.c
 *		How a transaction ends, step by step.
 *
 *	{ RESERVE -> ANNOUNCE } -> RECORD -> FLUSH -> VISIBLE
 *	      key by key                  \_ skipped with synchronous_commit = off
 *	-> { MERGE -> LOOK } -> QUEUE -> CLEAR -> DONE
 *	      key by key
 *
 * Between VISIBLE and MERGE others see the rows, and write over them, while
 * the metadata does not know of them yet: PostgreSQL shows a transaction's
 * rows before it calls its COMMIT callback.  The table's lock goes after that
 * callback; only a large transaction merges without it.
 */
#include "sim.h"

/* P1: before a death can be seen, or before its row is sought. */
void
death_announce(Node *node, DcHlc stamp)
{
	node->dying++;
	if (node->dmax < stamp)
		node->dmax = stamp;
}

/* The greatest death of the key that is not older than `stamp`, or NONE. */
DcHlc
death_after(const Sim *sim, const Node *node, uint32_t key, DcHlc stamp)
{
	DcEntry entry;

	if (node->floor >= stamp && !DEFECT(sim, DEFECT_FLOOR_P1))
		return node->floor;
	if (node->dmax < stamp)
		return DC_HLC_NONE;
	if ((node->dying > 0 && !DEFECT(sim, DEFECT_P1_DYING)) ||
		!node_rebuilt(sim, node))
		return node->dmax;
	entry = meta_get(node, key);
	if (entry.stamp < stamp || !entry.dead)
		return DC_HLC_NONE;
	return entry.stamp;
}

static void
check_record(Sim *sim, const Node *node, const Txn *t)
{
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		DcHlc stamp = t->entry[key].stamp;

		if (t->floor != DC_HLC_NONE && t->floor <= t->replaced[key])
			sim_fail(sim, "floor: node %u truncates at %llu a row at %llu",
					 node->id, (unsigned long long) t->floor,
					 (unsigned long long) t->replaced[key]);
		if (!(t->merged & BIT(key)))
			continue;
		if (stamp <= node->published)
			sim_fail(sim, "R2: node %u commits key %u at %llu, W is %llu",
					 node->id, key, (unsigned long long) stamp,
					 (unsigned long long) node->published);
		if (stamp <= t->replaced[key])
			sim_fail(sim, "R1: node %u writes key %u at %llu over %llu",
					 node->id, key, (unsigned long long) stamp,
					 (unsigned long long) t->replaced[key]);
		if (!t->entry[key].dead && stamp <= t->floor)
			sim_fail(sim,
					 "floor: node %u commits key %u at %llu after its own "
					 "TRUNCATE at %llu",
					 node->id, key, (unsigned long long) stamp,
					 (unsigned long long) t->floor);
		if (!t->entry[key].dead && stamp <= t->saw_death[key])
			sim_fail(sim, "P1: node %u inserts key %u at %llu, died at %llu",
					 node->id, key, (unsigned long long) stamp,
					 (unsigned long long) t->saw_death[key]);
	}
}

/* The next key that goes to the metadata, from t->next on. */
static bool
next_key(const Sim *sim, Txn *t)
{
	while (t->next < sim->config.keys && !(t->merged & BIT(t->next)))
		t->next++;
	return t->next < sim->config.keys;
}

/*
 * P5: whatever can fail, fails here.  A key that is absent gets room; one that
 * is present is pinned, or a purge might take it away before the merge.
 */
static void
step_reserve(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key;

	if (!next_key(sim, t))
	{
		if (t->floor != DC_HLC_NONE && !(t->announced & BIT(KEY_FLOOR)))
		{
			death_announce(node, t->floor);
			t->announced |= BIT(KEY_FLOOR);
		}
		t->state = TXN_RECORD;
		t->next = 0;
		return;
	}
	key = t->next;
	if (meta_get(node, key).stamp == DC_HLC_NONE)
	{
		if (!meta_reserve(sim, node, key))
		{
			t->state = TXN_FULL; /* an ordinary error */
			return;
		}
		t->reserved |= BIT(key);
	}
	else if (!DEFECT(sim, DEFECT_P5))
	{
		t->pinned |= BIT(key);
		node->pins++;
	}
	t->births[key] = node->births;
	t->state = TXN_ANNOUNCE;
}

static void
step_announce(Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	if (t->entry[t->next].dead)
	{
		death_announce(node, t->entry[t->next].stamp);
		t->announced |= BIT(t->next);
	}
	t->next++;
	t->state = TXN_RESERVE;
}

static void
step_record(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	WalRecord record = {.written = t->written,
						.marked = t->marked,
						.floor = t->floor,
						.own = txn < LOCALS};

	if (record.own)
	{
		check_record(sim, node, t);
		/* deleted and inserted again: no tombstone */
		for (uint32_t key = 0; key < sim->config.keys; key++)
		{
			if (!t->entry[key].dead)
				t->marked &= ~BIT(key);
		}
		record.marked = t->marked;
	}
	for (uint32_t key = 0; key < KEYS_MAX; key++)
	{
		record.row[key] = t->pending[key];
		record.tomb[key] = t->tomb[key];
	}
	if ((t->written | t->marked) != 0 || t->floor != DC_HLC_NONE)
		t->lsn = wal_append(sim, node, &record);
	if (txn < LOCALS)
	{
		sim->stats.commits++;
		sim->stats.operations += (uint64_t) __builtin_popcount(t->merged);
	}
	sim->stats.async += t->async;
	t->state = t->async ? TXN_VISIBLE : TXN_FLUSH;
}

/*
 * A local commit flushes its own record.  Apply and the maintainer answer for
 * rows of others too, which they met committed but perhaps not flushed: they
 * flush all there is, even when they wrote nothing themselves.
 */
static void
step_flush(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	wal_flush(sim, node, txn < LOCALS ? t->lsn : node->wal_insert);
	t->state = TXN_VISIBLE;
}

static void
step_visible(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		Heap *heap = &node->heap[key];

		if (t->written & BIT(key))
		{
			if (heap->holder != txn)
				sim_fail(sim, "node %u txn %d: wrote key %u without its lock",
						 node->id, txn, key);
			if (t->pending[key].stamp != DC_HLC_NONE &&
				t->pending[key].stamp <= heap->row.stamp)
				sim_fail(sim,
						 "P2: node %u: row of key %u falls from %llu to "
						 "%llu",
						 node->id, key, (unsigned long long) heap->row.stamp,
						 (unsigned long long) t->pending[key].stamp);
			heap->row = t->pending[key];
		}
		if ((t->marked & BIT(key)) && t->tomb[key] > heap->tomb)
			heap->tomb = t->tomb[key];
		if (heap->holder == txn)
			heap->holder = -1;
	}
	if (t->floor > node->heap_floor)
		node->heap_floor = t->floor;
	sim_trace(sim, "node %u txn %d: visible, keys %x, floor %llu", node->id,
			  txn, t->written | t->marked, (unsigned long long) t->floor);
	t->held = 0;
	t->state = TXN_MERGE;
	t->next = 0;
}

static void
settle_death(Node *node, uint32_t *mask, uint32_t key)
{
	if (*mask & BIT(key))
		node->dying--;
	*mask &= ~BIT(key);
}

/*
 * The floor first.  Rows below it that its scan did not see are there when it
 * stands, or their merge sees it; all keys are looked at once more.
 */
static void
merge_floor(Sim *sim, Node *node, Txn *t)
{
	if (t->floor != DC_HLC_NONE && t->floor >= node->floor)
	{
		node->floor = t->floor;
		if (!DEFECT(sim, DEFECT_FLOOR_SWEEP))
			node->reconcile |= BIT(sim->config.keys) - 1;
		sim_trace(sim, "node %u: floor %llu", node->id,
				  (unsigned long long) node->floor);
	}
	settle_death(node, &t->early, KEY_FLOOR);
	settle_death(node, &t->announced, KEY_FLOOR);
}

/* Under the partition's lock; what lies below the floor goes nowhere. */
static void
merge_key(Sim *sim, Node *node, Txn *t, uint32_t key)
{
	bool reserved = (t->reserved & BIT(key)) != 0;
	DcHlc floor = DEFECT(sim, DEFECT_FLOOR_LATE) ? DC_HLC_NONE : node->floor;

	t->found = meta_get(node, key);
	if (t->entry[key].stamp > floor)
	{
		if (!reserved && t->found.stamp == DC_HLC_NONE)
			sim_fail(sim, "P5: node %u: no room for key %u at its commit",
					 node->id, key);
		(void) meta_merge(sim, node, key, t->entry[key], reserved);
	}
	else if (reserved)
		meta_unreserve(node, key);
	t->found = dc_rule_above_floor(t->found, floor);
	if (t->pinned & BIT(key))
		node->pins--;
	t->reserved &= ~BIT(key);
	t->pinned &= ~BIT(key);
}

static void
step_merge(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key;

	if (t->next == 0 && !t->settling)
	{
		/* the table's lock covers the floor; of a large one no more */
		merge_floor(sim, node, t);
		t->settling = true;
		if (t->large)
		{
			t->table = TABLE_NONE;
			return;
		}
	}
	if (!next_key(sim, t))
	{
		if (t->lsn > node->wal_merged)
			node->wal_merged = t->lsn;
		t->state = txn < LOCALS ? TXN_QUEUE : TXN_DONE;
		return;
	}

	key = t->next;
	settle_death(node, &t->early, key);
	if (DEFECT(sim, DEFECT_P1_SETTLE) && (t->announced & BIT(key)))
	{
		settle_death(node, &t->announced, key);
		return;
	}
	merge_key(sim, node, t, key);
	t->state = TXN_LOOK;
	sim_trace(sim, "node %u txn %d: merge key %u %s %llu, found %s %llu",
			  node->id, txn, key, t->entry[key].dead ? "dead" : "live",
			  (unsigned long long) t->entry[key].stamp,
			  t->found.dead ? "dead" : "live",
			  (unsigned long long) t->found.stamp);
}

/* After the merge: may heap and metadata disagree now? */
static void
step_look(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key = t->next;

	if (dc_rule_needs_reconcile(t->found, t->entry[key], t->replaced[key]) ||
		(t->entry[key].dead && node->births != t->births[key]))
	{
		node->reconcile |= BIT(key);
		sim->stats.reconciles++;
	}
	settle_death(node, &t->announced, key);
	t->next++;
	t->state = TXN_MERGE;
}

static void
step_queue(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	QueueItem *item = &node->queue[node->queue_head % QUEUE_MAX];

	if (t->merged != 0 || t->floor != DC_HLC_NONE)
	{
		item->batch.count = 0;
		item->bytes = !t->large;
		sim->stats.gaps += t->large;
		if (t->floor != DC_HLC_NONE)
			item->batch.change[item->batch.count++] =
				(Change){.key = KEY_FLOOR,
						 .entry = {.stamp = t->floor, .dead = true}};
		for (uint32_t key = 0; key < sim->config.keys; key++)
		{
			bool reborn = !t->entry[key].dead &&
						  t->replaced[key] == DC_HLC_NONE &&
						  t->saw_death[key] != DC_HLC_NONE;

			if ((t->merged & BIT(key)) &&
				!((t->moved & BIT(key)) && DEFECT(sim, DEFECT_REKEY)))
				item->batch.change[item->batch.count++] =
					(Change){.key = key,
							 .entry = t->entry[key],
							 .replaced =
								 reborn ? t->saw_death[key] : t->replaced[key],
							 .reborn = reborn,
							 .value = t->pending[key].value};
		}
		node->queue_head++;
		if (node->queue_head - node->queue_oldest > sim->config.queue_size)
			node->queue_oldest++;
	}
	t->state = TXN_CLEAR;
}

/* True once it is through, or, in state TXN_FULL, failed. */
bool
commit_step(Sim *sim, Node *node, int txn)
{
	switch (node->txn[txn].state)
	{
		case TXN_RESERVE:
			step_reserve(sim, node, txn);
			break;
		case TXN_ANNOUNCE:
			step_announce(node, txn);
			break;
		case TXN_RECORD:
			step_record(sim, node, txn);
			break;
		case TXN_FLUSH:
			step_flush(sim, node, txn);
			break;
		case TXN_VISIBLE:
			step_visible(sim, node, txn);
			break;
		case TXN_MERGE:
			step_merge(sim, node, txn);
			break;
		case TXN_LOOK:
			step_look(sim, node, txn);
			break;
		case TXN_QUEUE:
			step_queue(sim, node, txn);
			break;
		case TXN_CLEAR:
			node->slot[txn] = DC_HLC_NONE;
			node->txn[txn].state = TXN_DONE;
			break;
		default:
			break;
	}
	return node->txn[txn].state == TXN_DONE || node->txn[txn].state == TXN_FULL;
}
