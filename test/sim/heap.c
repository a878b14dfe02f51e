/*
 * heap.c
 *		Rows, row locks and the write-ahead log of a simulated node.
 *
 * A key has one committed row that everybody sees and at most one transaction
 * that holds it and has its own version.  What a commit record says is durable
 * once the log is flushed up to it, whether or not anybody sees it yet.
 */
#include "sim.h"

#include <string.h>

static void
replay(Sim *sim, Node *node, const WalRecord *record)
{
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		if (record->written & BIT(key))
			node->disk_row[key] = record->row[key];
		if ((record->marked & BIT(key)) &&
			record->tomb[key] > node->disk_tomb[key])
			node->disk_tomb[key] = record->tomb[key];
		if (node->disk_tomb[key] <= record->purged)
			node->disk_tomb[key] = DC_HLC_NONE;
	}
	if (record->floor > node->disk_floor)
		node->disk_floor = record->floor;
	if (record->vector)
		node->disk_claims = record->claims;
}

/* Makes everything up to record `lsn` durable. */
void
wal_flush(Sim *sim, Node *node, uint64_t lsn)
{
	while (node->wal_flushed < lsn)
	{
		const WalRecord *record = &node->wal[node->wal_flushed % WAL_MAX];

		node->wal_flushed++;
		replay(sim, node, record);
		check_flushed(sim, node, record);
	}
}

/* The number of the record, counted from 1. */
uint64_t
wal_append(Sim *sim, Node *node, const WalRecord *record)
{
	if (node->wal_insert - node->wal_flushed == WAL_MAX)
		wal_flush(sim, node, node->wal_insert); /* the buffers are full */
	node->wal[node->wal_insert % WAL_MAX] = *record;
	return ++node->wal_insert;
}

/* True, and the transaction waits, while another one holds the key. */
bool
heap_blocked(Sim *sim, Node *node, int txn, uint32_t key)
{
	Txn *t = &node->txn[txn];
	int holder = node->heap[key].holder;

	if (holder < 0 || holder == txn)
	{
		t->waits_for = -1;
		t->waited = 0;
		return false;
	}
	t->waits_for = holder;
	t->waited += !sim->explore;
	return true;
}

/* Takes the key, or waits. */
bool
heap_lock(Sim *sim, Node *node, int txn, uint32_t key)
{
	Txn *t = &node->txn[txn];
	Heap *heap = &node->heap[key];

	if (heap_blocked(sim, node, txn, key))
		return false;
	if (heap->holder < 0)
	{
		heap->holder = txn;
		t->held |= BIT(key);
		t->pending[key] = heap->row;
		t->replaced[key] = heap->row.stamp;
	}
	return true;
}

/* The row as this transaction sees it with a new snapshot. */
Row
heap_sees(const Node *node, int txn, uint32_t key)
{
	const Txn *t = &node->txn[txn];

	return t->held & BIT(key) ? t->pending[key] : node->heap[key].row;
}

/*
 * Takes the lock of the table, as each statement does first; true, and the
 * transaction waits, while somebody is in the way.
 */
bool
table_blocked(const Sim *sim, Node *node, int txn, TableLock lock)
{
	Txn *t = &node->txn[txn];

	for (int i = 0; i < TXNS; i++)
	{
		TableLock other = node->txn[i].table;

		if (i == txn || other == TABLE_NONE ||
			(other == TABLE_WRITE && lock == TABLE_WRITE))
			continue;
		t->waits_for = i;
		t->waited += !sim->explore;
		return true;
	}
	t->waits_for = -1;
	t->waited = 0;
	if (lock > t->table)
		t->table = lock;
	return false;
}

void
txn_savepoint(Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	Savepoint *s = &t->savepoint;

	s->set = true;
	s->held = t->held;
	s->written = t->written;
	s->marked = t->marked;
	s->merged = t->merged;
	memcpy(s->pending, t->pending, sizeof(s->pending));
	memcpy(s->tomb, t->tomb, sizeof(s->tomb));
	memcpy(s->entry, t->entry, sizeof(s->entry));
	memcpy(s->replaced, t->replaced, sizeof(s->replaced));
	memcpy(s->saw_death, t->saw_death, sizeof(s->saw_death));
	s->floor = t->floor;
	s->table = t->table;
}

/* Its locks go, the stamps that it drew stay. */
void
txn_rollback_to(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	const Savepoint *s = &t->savepoint;

	for (uint32_t key = 0; key < KEYS_MAX; key++)
	{
		if ((t->held & ~s->held) & BIT(key))
			node->heap[key].holder = -1;
	}
	t->held = s->held;
	t->written = s->written;
	t->marked = s->marked;
	memcpy(t->pending, s->pending, sizeof(s->pending));
	memcpy(t->tomb, s->tomb, sizeof(s->tomb));
	memcpy(t->replaced, s->replaced, sizeof(s->replaced));
	memcpy(t->saw_death, s->saw_death, sizeof(s->saw_death));
	t->table = s->table;
	if (!DEFECT(sim, DEFECT_SAVEPOINT))
	{
		t->merged = s->merged;
		memcpy(t->entry, s->entry, sizeof(s->entry));
		t->floor = s->floor;
	}
	sim->stats.rollbacks++;
}

/* Ends the transaction: lets its locks and its room go, and its deaths. */
void
txn_reset(Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	for (uint32_t key = 0; key < KEYS_MAX; key++)
	{
		if (node->heap[key].holder == txn)
			node->heap[key].holder = -1;
		if (t->reserved & BIT(key))
			meta_unreserve(node, key);
	}
	node->pins -= (uint32_t) __builtin_popcount(t->pinned);
	node->dying -= (uint32_t) (__builtin_popcount(t->early) +
							   __builtin_popcount(t->announced));
	if (txn < LOCALS)
		node->slot[txn] = DC_HLC_NONE;
	if (t->state != TXN_IDLE)
		node->serial[txn]++;
	*t = (Txn){.waits_for = -1};
}
