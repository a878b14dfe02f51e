/*
 * commit.c
 *		How a transaction ends, step by step.
 *
 *	RECORD -> FLUSH -> VISIBLE -> MERGE ... MERGE -> QUEUE -> CLEAR -> DONE
 *	             \_ skipped with synchronous_commit = off
 *
 * Between VISIBLE and MERGE others see the rows, and write over them, while
 * the metadata does not know of them yet: PostgreSQL shows a transaction's
 * rows before it calls its COMMIT callback.
 */
#include "sim.h"

static void
check_record(Sim *sim, const Node *node, const Txn *t)
{
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		DcHlc stamp = t->entry[key].stamp;

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
		if (!t->entry[key].dead && stamp <= t->saw_death[key])
			sim_fail(sim, "P1: node %u inserts key %u at %llu, died at %llu",
					 node->id, key, (unsigned long long) stamp,
					 (unsigned long long) t->saw_death[key]);
	}
}

static void
step_record(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	WalRecord record = {.written = t->written,
						.marked = t->marked,
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
	t->births = node->births;
	if (t->written | t->marked)
		t->lsn = wal_append(sim, node, &record);
	if (txn < LOCALS)
	{
		sim->stats.commits++;
		sim->stats.operations += (uint64_t) __builtin_popcount(t->merged);
	}
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
	sim_trace(sim, "node %u txn %d: visible, keys %x", node->id, txn,
			  t->written | t->marked);
	t->held = 0;
	t->state = TXN_MERGE;
	t->merge_next = 0;
}

static void
step_merge(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key;

	while (t->merge_next < sim->config.keys &&
		   !(t->merged & BIT(t->merge_next)))
		t->merge_next++;
	if (t->merge_next >= sim->config.keys)
	{
		if (t->lsn > node->wal_merged)
			node->wal_merged = t->lsn;
		t->state = txn < LOCALS ? TXN_QUEUE : TXN_DONE;
		return;
	}

	key = t->merge_next++;
	DcEntry found = meta_merge(sim, node, key, t->entry[key]);
	sim_trace(sim, "node %u txn %d: merge key %u %s %llu, found %s %llu",
			  node->id, txn, key, t->entry[key].dead ? "dead" : "live",
			  (unsigned long long) t->entry[key].stamp,
			  found.dead ? "dead" : "live", (unsigned long long) found.stamp);
	if (dc_rule_needs_reconcile(found, t->entry[key], t->replaced[key]) ||
		(t->entry[key].dead && node->births != t->births))
	{
		node->reconcile |= BIT(key);
		sim->stats.reconciles++;
	}
}

static void
step_queue(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	QueueItem *item = &node->queue[node->queue_head % QUEUE_MAX];

	if (t->merged)
	{
		item->batch.count = 0;
		item->bytes = !t->large;
		for (uint32_t key = 0; key < sim->config.keys; key++)
		{
			if (t->merged & BIT(key))
				item->batch.change[item->batch.count++] =
					(Change){.key = key,
							 .entry = t->entry[key],
							 .value = t->pending[key].value};
		}
		node->queue_head++;
		if (node->queue_head - node->queue_oldest > sim->config.queue_size)
			node->queue_oldest++;
	}
	t->state = TXN_CLEAR;
}

bool
commit_step(Sim *sim, Node *node, int txn)
{
	switch (node->txn[txn].state)
	{
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
	return node->txn[txn].state == TXN_DONE;
}
