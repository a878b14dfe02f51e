/*
 * bulk.c
 *		Rows of new keys, written into a table many at a time.
 *
 *	items --> key is not known here? --no--> row by row (apply.c)
 *	                 | yes
 *	                 v
 *	   slots, up to 100 --> table_multi_insert --> indexes --> entries noted
 *
 * That the entry is absent is only a guess at the heap (P2): a row may be
 * there that is not merged yet, or not committed.  The key's unique index
 * finds it, waiting for writers in progress.  So a row that got in had no
 * living rival, which is what the look at the heap says in apply.c; it only
 * comes later.  After it, as there, late births are announced, and what the
 * entry says by then the merge at commit finds out (dc_rule_needs_reconcile).
 */
#include "bulk.h"

#include "access/heapam.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "miscadmin.h"

#include "changes.h"
#include "floor.h"
#include "partition.h"
#include "vector.h"

/*
 * As COPY: pages are filled, and the rows of a batch stay in the cache.  A slot
 * costs more to make than it spares (its descriptor is pinned), so they are few
 * and used again.  Fewer rows than RING_MIN are not worth buffers of their own.
 */
#define SLOTS_MAX 100
#define BYTES_MAX (64 * 1024)
#define RING_MIN  64

typedef struct Bulk
{
	DcApplySet *set;
	DcTable *table;
	BulkInsertState state;
	TupleTableSlot **slots;
	DcIncoming **items;
	int capacity;
	int made; /* slots that exist */
	int count;
	Size bytes;
} Bulk;

/* --- what is suited --- */

bool
dc_bulk_suits(const DcTarget *target)
{
	/* of a partitioned table, each row finds its partition by itself */
	return !dc_is_partitioned(target->relation) &&
		   !dc_table_fires(target->relation, TRIGGER_TYPE_INSERT);
}

DcBulk
dc_bulk_choose(const DcApplySet *set, DcIncoming *item)
{
	int slot = item->target->slot;
	DcHlc stamp = item->change.entry.stamp;
	DcHlc floor = dc_incoming_floor(set, slot);

	if (set->retry || set->again || (item->change.entry.dead && !set->copied))
		return DC_BULK_NOT;
	/* what it replaced is not here: was that a TRUNCATE? (dc_conflict_observe) */
	if (item->exact && item->change.replaced != DC_HLC_NONE)
		return DC_BULK_NOT;
	item->row = DC_HLC_NONE;
	item->entry = dc_metadata_get(slot, item->key);
	if (set->copied && item->entry.stamp > floor && item->entry.stamp >= stamp)
	{
		item->decision = DC_APPLY_SAME;
		return DC_BULK_HERE;
	}
	if (item->change.entry.dead || item->entry.stamp > floor || stamp <= floor)
		return DC_BULK_NOT;
	/* after the entry: what was purged since lies below what is read now */
	if (!set->below_horizon && stamp <= pg_atomic_read_u64(&dc_shared->horizon))
		return DC_BULK_NOT;
	item->decision = DC_APPLY_STORE;
	return DC_BULK_STORE;
}

/* --- writing --- */

static void
note(Bulk *bulk, DcIncoming *item)
{
	DcApplySet *set = bulk->set;
	DcHlc stamp = item->change.entry.stamp;
	int slot = item->target->slot;

	if (dc_rule_late_birth(DC_HLC_NONE, item->change.entry,
						   dc_death_mark(slot, item->key.hash)))
		dc_birth_announce(slot, item->key.hash);
	if (dc_vv_covers(&set->vector, stamp))
		dc_count(DC_COUNT_LOCAL_LOSSES, 1);
	set->result.applied++;
	dc_change_apply_new(slot, item->key, item->change.entry);
}

static void
flush(Bulk *bulk)
{
	DcTable *table = bulk->table;
	EState *estate = table->estate;

	if (bulk->count == 0)
		return;
	table_multi_insert(table->relation, bulk->slots, bulk->count,
					   estate->es_output_cid, 0, bulk->state);
	for (int i = 0; i < bulk->count; i++)
	{
		if (table->result->ri_NumIndices > 0)
			list_free(ExecInsertIndexTuples(table->result, bulk->slots[i],
											estate, false, false, NULL, NIL));
		ExecClearTuple(bulk->slots[i]);
	}
	for (int i = 0; i < bulk->count; i++)
		note(bulk, bulk->items[i]);
	ResetPerTupleExprContext(estate);
	bulk->count = 0;
	bulk->bytes = 0;
}

static TupleTableSlot *
next_slot(Bulk *bulk)
{
	if (bulk->count == bulk->made)
		bulk->slots[bulk->made++] =
			table_slot_create(bulk->table->relation,
							  &bulk->table->estate->es_tupleTable);
	return bulk->slots[bulk->count];
}

/* Values live in the per-tuple context until the next flush. */
static void
add(Bulk *bulk, DcIncoming *item)
{
	DcTable *table = bulk->table;
	TupleTableSlot *slot = next_slot(bulk);
	MemoryContext old =
		MemoryContextSwitchTo(GetPerTupleMemoryContext(table->estate));

	dc_incoming_decode(item, slot);
	MemoryContextSwitchTo(old);
	dc_table_check_row(table, slot, CMD_INSERT);
	bulk->items[bulk->count++] = item;
	bulk->bytes += item->change.image.length;
	if (bulk->count == bulk->capacity || bulk->bytes >= BYTES_MAX)
		flush(bulk);
}

void
dc_bulk_store(DcApplySet *set, DcTable *table, DcIncoming *items, int count)
{
	Bulk *bulk = palloc0(sizeof(Bulk));

	bulk->set = set;
	bulk->table = table;
	bulk->capacity = Min(count, SLOTS_MAX);
	bulk->slots = palloc(sizeof(TupleTableSlot *) * bulk->capacity);
	bulk->items = palloc(sizeof(DcIncoming *) * bulk->capacity);
	bulk->state = count >= RING_MIN ? GetBulkInsertState() : NULL;
	for (int i = 0; i < count; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (items[i].bulk == DC_BULK_STORE)
			add(bulk, &items[i]);
	}
	flush(bulk);
	if (bulk->state != NULL)
		FreeBulkInsertState(bulk->state);
	pfree(bulk->items);
	pfree(bulk->slots);
	pfree(bulk);
}
