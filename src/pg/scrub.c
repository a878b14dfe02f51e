/*
 * scrub.c
 *		Do the table and the metadata of this node agree?
 */
#include "scrub.h"

#include "sql.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "mend.h"
#include "partition.h"
#include "sketch.h"

#define BLOCKS_AT_ONCE 1024  /* 8 MB in one transaction */
#define SUSPECTS_MAX   20000 /* the rest is for the next time */
#define LOOKS          4     /* at a key that does not agree */
#define LOOK_MS        500   /* for commits to be merged */

/* --- lists of keys --- */

void
dc_key_list_init(DcKeyList *list, MemoryContext parent)
{
	memset(list, 0, sizeof(*list));
	list->context =
		AllocSetContextCreate(parent, "datacake keys", ALLOCSET_DEFAULT_SIZES);
}

void
dc_key_list_add(DcKeyList *list, const uint8 *key, Size length)
{
	uint8 *copy = MemoryContextAlloc(list->context, length);

	memcpy(copy, key, length);
	if (list->count == list->capacity)
	{
		uint32 capacity = Max(64, list->capacity * 2);
		DcSlice *keys =
			MemoryContextAllocHuge(list->context, sizeof(DcSlice) * capacity);

		if (list->count > 0)
			memcpy(keys, list->keys, sizeof(DcSlice) * list->count);
		list->keys = keys;
		list->capacity = capacity;
	}
	list->keys[list->count++] = (DcSlice){copy, length};
}

void
dc_key_list_clear(DcKeyList *list)
{
	MemoryContextReset(list->context);
	list->keys = NULL;
	list->count = list->capacity = list->at = 0;
}

/* --- the pass over the table --- */

/* The next blocks to be read: of one table, or partition after partition. */
typedef struct Place
{
	Oid relid;
	BlockNumber block;
} Place;

/* Rows of the blocks from `block` on; false at the end of this table. */
static bool
visit_blocks(Relation relation, DcRel *rel, BlockNumber block,
			 DcRowVisitor visit, void *arg, uint64 *rows)
{
	BlockNumber end = RelationGetNumberOfBlocks(relation);
	ItemPointerData from;
	ItemPointerData to;
	TableScanDesc scan;
	TupleTableSlot *row;
	StringInfoData key;

	if (block >= end)
		return false;
	initStringInfo(&key);
	ItemPointerSet(&from, block, FirstOffsetNumber);
	ItemPointerSet(&to, Min(block + BLOCKS_AT_ONCE, end) - 1, MaxOffsetNumber);
	row = table_slot_create(relation, NULL);
	scan = table_beginscan_tidrange(relation, GetActiveSnapshot(), &from, &to);
	while (table_scan_getnextslot_tidrange(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		resetStringInfo(&key);
		dc_rel_key(rel, row->tts_values, row->tts_isnull, &key);
		visit(rel, row, dc_key_make((uint8 *) key.data, (Size) key.len), arg);
		(*rows)++;
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(row);
	return true;
}

/* The table at the place, or the one after it; false: there is none. */
static bool
find_table(int slot, Place *place)
{
	Relation relation = dc_keyspace_open_relation(slot, AccessShareLock);
	ListCell *cell;
	Oid found = InvalidOid;

	if (relation == NULL)
		return false;
	foreach (cell,
			 dc_partition_leaves(RelationGetRelid(relation), AccessShareLock))
	{
		found = lfirst_oid(cell);
		if (found >= place->relid)
			break;
	}
	relation_close(relation, NoLock);
	if (found < place->relid)
		return false;
	if (found != place->relid)
		*place = (Place){.relid = found};
	return true;
}

/* In a transaction.  False: nothing is left. */
static bool
visit_next(int slot, Place *place, DcRowVisitor visit, void *arg, uint64 *rows)
{
	Relation relation;
	DcRel *rel;
	bool more;

	if (!find_table(slot, place))
		return false;
	relation = relation_open(place->relid, AccessShareLock);
	rel = dc_rel(relation);
	more = rel != NULL &&
		   visit_blocks(relation, rel, place->block, visit, arg, rows);
	relation_close(relation, NoLock);
	if (more)
		place->block += BLOCKS_AT_ONCE;
	else
		*place = (Place){.relid = place->relid + 1};
	return true;
}

uint64
dc_scrub_visit(int slot, DcRowVisitor visit, void *arg, void (*check)(void))
{
	MemoryContext context = CurrentMemoryContext;
	Place place = {0};
	uint64 rows = 0;
	bool more = true;

	while (more)
	{
		dc_transaction_begin();
		more = visit_next(slot, &place, visit, arg, &rows);
		dc_transaction_commit(context);
		if (check != NULL)
			check();
	}
	return rows;
}

/* --- what does not agree --- */

/* What the metadata holds of a key, and no TRUNCATE took. */
static DcEntry
entry_of(int slot, DcKey key)
{
	return dc_rule_above_floor(dc_metadata_get(slot, key), dc_floor(slot));
}

typedef struct Pass
{
	uint64 *sums; /* by leaf, of rows that agree */
	DcMapsView maps;
	DcKeyList *suspects;
} Pass;

static void
compare_row(DcRel *rel, TupleTableSlot *row, DcKey key, void *arg)
{
	Pass *pass = arg;
	DcHlc stamp = dc_rel_stamp(rel, row);
	DcEntry entry = entry_of(rel->slot, key);

	if (stamp != DC_HLC_NONE && entry.stamp == stamp && !entry.dead)
		pass->sums[dc_leaf_of(key.hash, DC_LEAF_BITS_MAX)] +=
			dc_map_fingerprint(pass->maps.env, key.data, key.length, stamp);
	else if (pass->suspects->count < SUSPECTS_MAX)
		dc_key_list_add(pass->suspects, key.data, key.length);
}

/* Does the table show the row of this entry?  In a transaction. */
static bool
has_row(DcRel *rel, Relation relation, TupleTableSlot *row, DcSlice key,
		DcHlc stamp)
{
	return dc_rel_find(rel, relation, key.data, key.length, GetActiveSnapshot(),
					   row) &&
		   dc_rel_stamp(rel, row) == stamp;
}

/* Live entries of some leaves that have no row; more, but no less. */
static void
suspect_rowless(int slot, Pass *pass, const DcLeafSet *leaves,
				void (*check)(void))
{
	MemoryContext context = CurrentMemoryContext;
	DcScopeRoom *room = palloc(sizeof(DcScopeRoom));
	DcScopeScan scan = {.from = 0};
	DcHlc floor = dc_floor(slot);

	while (dc_scope_next(&scan, &pass->maps, leaves, floor, room) &&
		   pass->suspects->count < SUSPECTS_MAX)
	{
		Relation relation;
		DcRel *rel;
		TupleTableSlot *row;

		if (room->count == 0)
			continue;
		dc_transaction_begin();
		relation = dc_keyspace_open_relation(slot, AccessShareLock);
		rel = relation != NULL ? dc_rel(relation) : NULL;
		if (rel != NULL)
		{
			row = table_slot_create(relation, NULL);
			for (size_t i = 0; i < room->count; i++)
			{
				DcSlice key = room->items[i].key;

				if (!has_row(rel, relation, row, key,
							 room->items[i].entry.stamp))
					dc_key_list_add(pass->suspects, key.data, key.length);
			}
			ExecDropSingleTupleTableSlot(row);
		}
		if (relation != NULL)
			relation_close(relation, NoLock);
		dc_transaction_commit(context);
		if (check != NULL)
			check();
	}
	pfree(room);
}

/* One pass; the keys that did not agree when they were met. */
static uint64
look_at_all(int slot, DcKeyList *suspects, void (*check)(void))
{
	Pass pass = {.suspects = suspects, .maps = dc_metadata_view(slot)};
	DcLeafSums *kept = palloc0(sizeof(DcLeafSums));
	DcLeafSet *leaves = palloc(sizeof(DcLeafSet));
	uint64 rows;

	pass.sums = palloc0(sizeof(uint64) * DC_LEAVES_MAX);
	rows = dc_scrub_visit(slot, compare_row, &pass, check);
	kept->view = &pass.maps;
	dc_leaf_set_init(leaves, DC_LEAF_BITS_MAX);
	for (uint32 leaf = 0; leaf < DC_LEAVES_MAX; leaf++)
	{
		if (dc_leaf_sum(kept, leaf, DC_LEAF_BITS_MAX) != pass.sums[leaf])
			dc_leaf_set_add(leaves, leaf);
	}
	suspect_rowless(slot, &pass, leaves, check);
	pfree(pass.sums);
	pfree(kept);
	pfree(leaves);
	return rows;
}

static int
compare_keys(const void *left, const void *right)
{
	const DcSlice *a = left;
	const DcSlice *b = right;
	int order = memcmp(a->data, b->data, Min(a->length, b->length));

	if (order == 0 && a->length != b->length)
		return a->length < b->length ? -1 : 1;
	return order;
}

/* A row that is too old was met, and its entry has no row. */
static void
remove_duplicates(DcKeyList *list)
{
	uint32 kept = 0;

	qsort(list->keys, list->count, sizeof(DcSlice), compare_keys);
	for (uint32 i = 0; i < list->count; i++)
	{
		if (kept == 0 ||
			compare_keys(&list->keys[kept - 1], &list->keys[i]) != 0)
			list->keys[kept++] = list->keys[i];
	}
	list->count = kept;
}

/* Keeps the keys whose row and entry still do not agree. */
static void
look_again(int slot, DcKeyList *suspects)
{
	MemoryContext context = CurrentMemoryContext;
	Relation relation;
	DcRel *rel;
	TupleTableSlot *row;
	uint32 kept = 0;

	dc_transaction_begin();
	relation = dc_keyspace_open_relation(slot, AccessShareLock);
	rel = relation != NULL ? dc_rel(relation) : NULL;
	row = rel != NULL ? table_slot_create(relation, NULL) : NULL;
	for (uint32 i = 0; i < suspects->count && rel != NULL; i++)
	{
		DcSlice key = suspects->keys[i];
		DcEntry entry = entry_of(slot, dc_key_make(key.data, key.length));
		bool found = dc_rel_find(rel, relation, key.data, key.length,
								 GetActiveSnapshot(), row);
		bool live = entry.stamp != DC_HLC_NONE && !entry.dead;

		if (found ? live && dc_rel_stamp(rel, row) == entry.stamp : !live)
			continue;
		suspects->keys[kept++] = key;
	}
	suspects->count = kept;
	if (row != NULL)
		ExecDropSingleTupleTableSlot(row);
	if (relation != NULL)
		relation_close(relation, NoLock);
	dc_transaction_commit(context);
}

/* One key in one transaction. */
static DcScrubVerdict
settle(int slot, DcSlice key)
{
	MemoryContext context = CurrentMemoryContext;
	volatile DcScrubVerdict verdict = DC_SCRUB_AGREES;

	PG_TRY();
	{
		dc_transaction_begin();
		verdict = dc_mend_scrubbed(slot, key.data, key.length);
		dc_transaction_commit(context);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(error);
		AbortCurrentTransaction();
		verdict = DC_SCRUB_AGREES; /* somebody writes it: the next time */
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return verdict;
}

DcScrubbed
dc_scrub(int slot, DcKeyList *lost, void (*check)(void))
{
	DcScrubbed done = {0};
	DcKeyList suspects;
	TimestampTz started = GetCurrentTimestamp();

	dc_key_list_init(&suspects, CurrentMemoryContext);
	done.rows = look_at_all(slot, &suspects, check);
	done.reading_us = (uint64) (GetCurrentTimestamp() - started);
	remove_duplicates(&suspects);
	for (int i = 0; i < LOOKS && suspects.count > 0; i++)
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 i == 0 ? 1 : LOOK_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		look_again(slot, &suspects);
	}
	for (uint32 i = 0; i < suspects.count; i++)
	{
		DcScrubVerdict verdict = settle(slot, suspects.keys[i]);

		done.mended += verdict == DC_SCRUB_MENDED;
		if (verdict == DC_SCRUB_LOST)
			dc_key_list_add(lost, suspects.keys[i].data,
							suspects.keys[i].length);
		if (check != NULL)
			check();
	}
	MemoryContextDelete(suspects.context);
	return done;
}

uint32
dc_scrub_count_lost(int slot, const DcKeyList *keys)
{
	DcKeyList left = *keys; /* counted over a copy of the slices */
	uint32 count;

	left.keys = palloc(sizeof(DcSlice) * (keys->count + 1));
	memcpy(left.keys, keys->keys, sizeof(DcSlice) * keys->count);
	look_again(slot, &left);
	count = left.count;
	pfree(left.keys);
	return count;
}
