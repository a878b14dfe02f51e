/*
 * catchup.c
 *		Reads the rows of a catch-up: entries above a vector, rows by key.
 *
 * What one entry becomes:
 *
 *	 dead                               -> its tombstone
 *	 live, row with the same stamp      -> the row
 *	 live, row is newer, merged by now  -> the row
 *	 live, no such row, dead by now     -> the tombstone
 *	 live, waits in the quarantine      -> the change that waits
 *	 live, truncated by now             -> nothing: its death is the floor
 *	 else: a commit is visible and not merged yet -> looked at again later
 *
 * A copy (copy.h) reads the rows of a table in the order of the heap instead,
 * and then the entries that changed meanwhile, and all dead ones, like this.
 */
#include "catchup.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "batch.h"
#include "clock.h"
#include "guc.h"
#include "keyspace.h"
#include "mend.h"
#include "message.h"
#include "partition.h"
#include "rel.h"
#include "sql.h"

#define CHUNK_ITEMS 1000
#define CHUNK_BYTES (512 * 1024)
#define TRIES_MAX   5

/* A key that must be looked at again. */
typedef struct Again
{
	uint16 tries;
	DcEntry entry;
	uint16 length;
	uint8 data[DC_KEY_BYTES_MAX];
} Again;

struct DcCatchup
{
	MemoryContext context;
	MemoryContext scratch;
	DcVv above;
	DcVv base;
	DcVv left;     /* up to here the rest was left to its sources */
	bool all_dead; /* `above` does not count for dead entries */
	int *slots;    /* in the order of sending */
	uint64 *ids;
	int slot_count;
	int at;
	DcMetadataCursor cursor;
	DcCatchupMark mark; /* everything before it was appended to a call */
	bool scanned;       /* cursor is at the end */
	bool floor_sent;    /* of this keyspace, */
	DcHlc floor;        /* ... and which */
	List *again;
	DcMapItem items[CHUNK_ITEMS];
	int item_count;
	int item_at; /* next item to be sent */
	uint8 keys[CHUNK_ITEMS * 64 + DC_KEY_BYTES_MAX];
};

DcCatchup *
dc_catchup_begin(MemoryContext context, const DcVv *above, const DcVv *base)
{
	MemoryContext own = AllocSetContextCreate(context, "datacake catch-up",
											  ALLOCSET_DEFAULT_SIZES);
	DcCatchup *catchup = MemoryContextAllocZero(own, sizeof(DcCatchup));

	catchup->context = own;
	catchup->scratch = AllocSetContextCreate(own, "datacake catch-up rows",
											 ALLOCSET_DEFAULT_SIZES);
	catchup->above = *above;
	catchup->base = *base;
	catchup->slots =
		MemoryContextAlloc(own, sizeof(int) * datacake_max_keyspaces);
	catchup->ids =
		MemoryContextAlloc(own, sizeof(uint64) * datacake_max_keyspaces);
	for (int pass = 0; pass < 2; pass++)
	{
		for (int slot = 0; slot < dc_keyspace_slots(); slot++)
		{
			uint64 id = dc_keyspace(slot)->id;

			if (id == 0 || (id == DC_CATALOGUE_ID) != (pass == 0))
				continue;
			catchup->slots[catchup->slot_count] = slot;
			catchup->ids[catchup->slot_count++] = id;
		}
	}
	dc_metadata_scan_begin(&catchup->cursor);
	return catchup;
}

DcCatchup *
dc_catchup_begin_changed(MemoryContext context, const DcVv *above)
{
	DcCatchup *catchup = dc_catchup_begin(context, above, above);

	catchup->all_dead = true;
	return catchup;
}

uint64
dc_catchup_keyspace(const DcCatchup *catchup)
{
	return catchup->at < catchup->slot_count ? catchup->ids[catchup->at] : 0;
}

const DcVv *
dc_catchup_left(const DcCatchup *catchup)
{
	return &catchup->left;
}

DcCatchupMark
dc_catchup_mark(const DcCatchup *catchup)
{
	return catchup->mark;
}

static void
drop_items(DcCatchup *catchup)
{
	catchup->item_at = catchup->item_count;
	list_free_deep(catchup->again);
	catchup->again = NIL;
}

void
dc_catchup_resume(DcCatchup *catchup, const DcCatchupMark *mark)
{
	catchup->mark = *mark;
	catchup->at = mark->at;
	catchup->cursor = mark->cursor;
	catchup->scanned = false;
	catchup->floor_sent = false;
	drop_items(catchup);
}

void
dc_catchup_end(DcCatchup *catchup)
{
	MemoryContextDelete(catchup->context);
}

void
dc_call_append(StringInfo call, int kind, const void *data, Size length)
{
	uint8 head[16];
	DcWriter w;

	dc_writer_init(&w, head, sizeof(head));
	dc_write_u8(&w, (uint8_t) kind);
	dc_write_varint(&w, length);
	appendBinaryStringInfo(call, (char *) head, (int) w.length);
	appendBinaryStringInfo(call, data, (int) length);
}

/* One keyspace's chunk under construction. */
typedef struct Chunk
{
	DcCatchup *catchup;
	int slot;
	uint64 id;
	Relation relation; /* NULL: no table here */
	DcRel *rel;
	TupleTableSlot *row;
	StringInfoData batch;   /* changes, without dictionary */
	StringInfoData waiting; /* parts from the quarantine */
	StringInfoData image;
	uint32 rows;
} Chunk;

static void
append_change(Chunk *chunk, DcKey key, DcEntry entry)
{
	DcChange change = {.keyspace = 0,
					   .entry = entry,
					   .key = {key.data, key.length},
					   .image = {(uint8 *) chunk->image.data,
								 (Size) chunk->image.len}};
	DcWriter w;

	dc_writer_init(&w, NULL, 0);
	dc_batch_change(&w, &change);
	enlargeStringInfo(&chunk->batch, (int) w.length);
	dc_writer_init(&w, chunk->batch.data + chunk->batch.len, w.length);
	dc_batch_change(&w, &change);
	chunk->batch.len += (int) w.length;
	chunk->rows++;
}

static void
append_row(Chunk *chunk, DcKey key, DcHlc stamp)
{
	slot_getallattrs(chunk->row);
	resetStringInfo(&chunk->image);
	dc_rel_image(chunk->rel, chunk->row->tts_values, chunk->row->tts_isnull,
				 &chunk->image);
	append_change(chunk, key, (DcEntry){.stamp = stamp, .dead = false});
}

static void
append_tombstone(Chunk *chunk, DcKey key, DcHlc stamp)
{
	resetStringInfo(&chunk->image);
	append_change(chunk, key, (DcEntry){.stamp = stamp, .dead = true});
}

/* Once for each keyspace, and before its rows. */
static void
append_floor(Chunk *chunk, DcHlc floor)
{
	resetStringInfo(&chunk->image);
	append_change(chunk, dc_key_make((const uint8 *) "", 0),
				  (DcEntry){.stamp = floor, .dead = true});
}

static bool
append_waiting(Chunk *chunk, DcKey key, DcHlc stamp)
{
	StringInfoData batch;
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	bool found;

	initStringInfo(&batch);
	found =
		dc_mend_find_waiting(chunk->id, key.data, key.length, stamp, &batch);
	dc_role_end(role);
	if (!found)
		return false;
	dc_call_append(&chunk->waiting, DC_PART_CATCHUP, batch.data,
				   (Size) batch.len);
	chunk->rows++;
	return true;
}

static void
look_again(DcCatchup *catchup, DcKey key, DcEntry entry, int tries)
{
	MemoryContext old;
	Again *again;

	if (tries >= TRIES_MAX)
	{
		ereport(WARNING,
				(errcode(ERRCODE_DATA_CORRUPTED),
				 errmsg("an entry of keyspace %llu has no row on this node",
						(unsigned long long) catchup->ids[catchup->at]),
				 errhint("Was a row deleted while \"datacake.capture\" was "
						 "off, or with its triggers disabled?")));
		dc_count(DC_COUNT_LOCAL_LOSSES, 1);
		return;
	}
	old = MemoryContextSwitchTo(catchup->context);
	again = palloc(sizeof(Again));
	again->tries = (uint16) (tries + 1);
	again->entry = entry;
	again->length = (uint16) key.length;
	memcpy(again->data, key.data, key.length);
	catchup->again = lappend(catchup->again, again);
	MemoryContextSwitchTo(old);
}

static void
send_entry(Chunk *chunk, DcKey key, DcEntry entry, int tries)
{
	DcHlc row = DC_HLC_NONE;
	DcEntry now;

	if (entry.dead)
	{
		append_tombstone(chunk, key, entry.stamp);
		return;
	}
	if (chunk->rel != NULL &&
		dc_rel_find(chunk->rel, chunk->relation, key.data, key.length,
					GetActiveSnapshot(), chunk->row))
		row = dc_rel_stamp(chunk->rel, chunk->row);
	if (row == entry.stamp)
	{
		append_row(chunk, key, row);
		return;
	}
	now = dc_metadata_get(chunk->slot, key);
	if (row > entry.stamp && now.stamp >= row)
		append_row(chunk, key, row);
	else if (now.dead && now.stamp > dc_floor(chunk->slot))
		append_tombstone(chunk, key, now.stamp);
	else if (now.dead || now.stamp == DC_HLC_NONE)
		return; /* truncated since: the floor follows; or purged since */
	else if (!append_waiting(chunk, key, now.stamp))
		look_again(chunk->catchup, key, now, tries);
}

static const DcVv *
limit_of(const DcCatchup *catchup)
{
	return catchup->ids[catchup->at] == DC_CATALOGUE_ID ? &catchup->base :
														  &catchup->above;
}

/* Is there a floor that the peer does not have? */
static bool
floor_is_due(const DcCatchup *catchup)
{
	DcHlc floor = dc_floor(catchup->slots[catchup->at]);

	return !catchup->floor_sent && floor != DC_HLC_NONE &&
		   !dc_vv_covers(limit_of(catchup), floor);
}

static void
send_chunk(Chunk *chunk)
{
	DcCatchup *catchup = chunk->catchup;
	List *again = catchup->again;
	ListCell *cell;

	catchup->again = NIL;
	if (floor_is_due(catchup))
	{
		catchup->floor = dc_floor(chunk->slot);
		append_floor(chunk, catchup->floor);
	}
	foreach (cell, again)
	{
		Again *a = lfirst(cell);

		send_entry(chunk, dc_key_make(a->data, a->length), a->entry, a->tries);
	}
	list_free_deep(again);
	while (catchup->item_at < catchup->item_count &&
		   chunk->batch.len < CHUNK_BYTES)
	{
		DcMapItem *item = &catchup->items[catchup->item_at++];

		send_entry(chunk, dc_key_make(item->key.data, item->key.length),
				   item->entry, 0);
	}
}

/* Puts dictionary and changes together as one part of the call. */
static void
finish_chunk(Chunk *chunk, StringInfo call)
{
	StringInfoData batch;
	uint8 head[16];
	DcWriter w;

	appendBinaryStringInfo(call, chunk->waiting.data, chunk->waiting.len);
	if (chunk->batch.len == 0)
		return;
	initStringInfo(&batch);
	dc_writer_init(&w, head, sizeof(head));
	dc_batch_begin(&w, 1);
	appendBinaryStringInfo(&batch, (char *) head, (int) w.length);
	if (chunk->rel != NULL)
		dc_rel_dictionary(chunk->rel, &batch);
	else
	{
		uint8 entry[32];
		DcBatchKeyspace keyspace = {.id = chunk->id};

		dc_writer_init(&w, entry, sizeof(entry));
		dc_batch_keyspace(&w, &keyspace);
		appendBinaryStringInfo(&batch, (char *) entry, (int) w.length);
	}
	appendBinaryStringInfo(&batch, chunk->batch.data, chunk->batch.len);
	appendStringInfoChar(&batch, '\0'); /* dc_batch_end */
	dc_call_append(call, DC_PART_CATCHUP, batch.data, (Size) batch.len);
}

/* False: the table is locked by somebody else. */
static bool
open_chunk(Chunk *chunk)
{
	Oid relid = dc_keyspace(chunk->slot)->relid;

	if (OidIsValid(relid))
	{
		if (!dc_partition_try_lock(relid, AccessShareLock))
			return false;
		chunk->relation = try_relation_open(relid, NoLock);
	}
	chunk->id = dc_keyspace(chunk->slot)->id;
	initStringInfo(&chunk->batch);
	initStringInfo(&chunk->waiting);
	initStringInfo(&chunk->image);
	if (chunk->relation != NULL)
		chunk->rel = dc_rel(chunk->relation);
	if (chunk->rel != NULL)
		chunk->row = table_slot_create(chunk->relation, NULL);
	return true;
}

static void
close_chunk(Chunk *chunk, StringInfo call, uint32 *rows)
{
	finish_chunk(chunk, call);
	*rows += chunk->rows;
	if (chunk->row != NULL)
		ExecDropSingleTupleTableSlot(chunk->row);
	if (chunk->relation != NULL)
		relation_close(chunk->relation, NoLock);
}

/* In a transaction.  False: the table is locked by somebody else. */
static bool
read_chunk(DcCatchup *catchup, int slot, StringInfo call, uint32 *rows)
{
	Chunk chunk = {.catchup = catchup, .slot = slot};

	if (!open_chunk(&chunk))
		return false;
	/* after its lock: it cannot end from here on; as an alias it goes on */
	if (dc_keyspace_by_id(catchup->ids[catchup->at]) == slot)
		send_chunk(&chunk);
	else
		drop_items(catchup); /* another keyspace may have the slot */
	close_chunk(&chunk, call, rows);
	catchup->floor_sent = true;
	return true;
}

void
dc_catchup_floor(int slot, StringInfo call)
{
	Chunk chunk = {.slot = slot};
	uint32 rows = 0;

	if (dc_floor(slot) == DC_HLC_NONE || !open_chunk(&chunk))
		return;
	append_floor(&chunk, dc_floor(slot));
	close_chunk(&chunk, call, &rows);
}

/* A row may be newer than its entry: it is committed and not merged yet. */
static DcKeyFound
send_key(Chunk *chunk, DcKey key)
{
	DcHlc row = DC_HLC_NONE;
	DcHlc floor;
	DcEntry now;

	if (chunk->rel != NULL &&
		dc_rel_find(chunk->rel, chunk->relation, key.data, key.length,
					GetActiveSnapshot(), chunk->row))
		row = dc_rel_stamp(chunk->rel, chunk->row);
	now = dc_metadata_get(chunk->slot, key);
	floor = dc_floor(chunk->slot);
	now = dc_rule_above_floor(now, floor);
	if (row > floor && (row > now.stamp || (row == now.stamp && !now.dead)))
		append_row(chunk, key, row);
	else if (now.stamp <= floor)
		return DC_KEY_ABSENT;
	else if (now.dead)
		append_tombstone(chunk, key, now.stamp);
	else if (!append_waiting(chunk, key, now.stamp))
		return DC_KEY_UNSETTLED;
	return DC_KEY_SENT;
}

uint32
dc_catchup_rows(int slot, const DcSlice *keys, uint32 count, Size bytes_max,
				StringInfo call, uint32 *rows, uint8 *found)
{
	Chunk chunk = {.slot = slot};
	uint32 at = 0;
	DcRole role;

	if (!open_chunk(&chunk))
		return 0;
	/* what types and domains run belongs to the table's owner */
	if (chunk.rel != NULL)
		role = dc_role_begin(chunk.rel->owner, true);
	PushActiveSnapshot(GetLatestSnapshot());
	while (at < count && (Size) chunk.batch.len < bytes_max)
	{
		DcKeyFound what;

		CHECK_FOR_INTERRUPTS();
		what = send_key(&chunk, dc_key_make(keys[at].data, keys[at].length));
		if (found != NULL)
			found[at] = (uint8) what;
		at++;
	}
	PopActiveSnapshot();
	if (chunk.rel != NULL)
		dc_role_end(role);
	close_chunk(&chunk, call, rows);
	return at;
}

static int
scan_items(DcCatchup *catchup, int slot)
{
	if (catchup->all_dead)
		return dc_metadata_scan_changed(slot, &catchup->cursor,
										limit_of(catchup), catchup->items,
										CHUNK_ITEMS, catchup->keys,
										sizeof(catchup->keys));
	return dc_metadata_scan(slot, &catchup->cursor, limit_of(catchup),
							&catchup->left, catchup->items, CHUNK_ITEMS,
							catchup->keys, sizeof(catchup->keys));
}

/*
 * What died by the keyspace's floor is not sent, and the floor may be younger
 * than the one that was sent, if one was.
 */
static void
leave_floor(DcCatchup *catchup)
{
	DcHlc floor = dc_floor(catchup->slots[catchup->at]);
	DcHlc *left = &catchup->left.at[dc_hlc_node_id(floor)];

	if (floor != catchup->floor)
		*left = Max(*left, floor);
}

/* Fills items; false: this keyspace has no more. */
static bool
fetch_items(DcCatchup *catchup)
{
	int slot = catchup->slots[catchup->at];

	if (catchup->item_at < catchup->item_count || catchup->again != NIL)
		return true;
	/* its id may have become an alias since (P16) */
	if (catchup->scanned ||
		dc_keyspace_by_id(catchup->ids[catchup->at]) != slot)
		return false;
	catchup->item_at = 0;
	catchup->item_count = scan_items(catchup, slot);
	catchup->scanned = catchup->item_count == 0;
	return !catchup->scanned || floor_is_due(catchup);
}

/* Goes to the next items; false: there are none. */
static bool
find_items(DcCatchup *catchup)
{
	while (catchup->at < catchup->slot_count && !fetch_items(catchup))
	{
		leave_floor(catchup);
		catchup->at++;
		catchup->scanned = false;
		catchup->floor_sent = false;
		catchup->floor = DC_HLC_NONE;
		dc_metadata_scan_begin(&catchup->cursor);
	}
	return catchup->at < catchup->slot_count;
}

/* What a read of the chunk came to: `done`, or a table was locked. */
static DcCatchupResult
end_chunk(DcCatchup *catchup, bool done, uint32 rows)
{
	if (!done)
		return DC_CATCHUP_LATER;
	if (catchup->again == NIL && catchup->item_at == catchup->item_count)
	{
		catchup->mark.at = catchup->at;
		catchup->mark.cursor = catchup->cursor;
	}
	else if (rows == 0)
		return DC_CATCHUP_LATER; /* until a commit has been merged */
	dc_flush_all(); /* rows are visible before their commit is flushed (P9) */
	return DC_CATCHUP_CHUNK;
}

DcCatchupResult
dc_catchup_next(DcCatchup *catchup, StringInfo call, uint32 *rows)
{
	MemoryContext old = CurrentMemoryContext;
	bool done;

	if (!find_items(catchup))
		return DC_CATCHUP_END;
	StartTransactionCommand();
	/* newer than the entries just read */
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	MemoryContextSwitchTo(catchup->scratch);
	done = read_chunk(catchup, catchup->slots[catchup->at], call, rows);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(old);
	MemoryContextReset(catchup->scratch);
	return end_chunk(catchup, done, *rows);
}

DcCatchupResult
dc_catchup_next_here(DcCatchup *catchup, StringInfo call, uint32 *rows)
{
	bool done;

	if (!find_items(catchup))
		return DC_CATCHUP_END;
	PushActiveSnapshot(GetLatestSnapshot());
	done = read_chunk(catchup, catchup->slots[catchup->at], call, rows);
	PopActiveSnapshot();
	return end_chunk(catchup, done, *rows);
}

/* --- a table in the order of its heap --- */

/* From here on the chunk is about this partition. */
static void
enter_partition(Chunk *chunk, Oid relid)
{
	if (relid == RelationGetRelid(chunk->relation))
		return;
	ExecDropSingleTupleTableSlot(chunk->row);
	relation_close(chunk->relation, NoLock);
	chunk->relation = relation_open(relid, NoLock);
	chunk->rel = dc_rel(chunk->relation);
	if (chunk->rel == NULL)
		elog(ERROR, "partition \"%s\" belongs to no keyspace",
			 RelationGetRelationName(chunk->relation));
	chunk->row = table_slot_create(chunk->relation, NULL);
}

static uint32
file_of(Oid relid)
{
	HeapTuple tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	uint32 file;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	file = ((Form_pg_class) GETSTRUCT(tuple))->relfilenode;
	ReleaseSysCache(tuple);
	return file;
}

/* The partition with the least file number of at least `from`; or InvalidOid. */
static Oid
next_partition(List *leaves, uint32 from)
{
	Oid found = InvalidOid;
	uint32 least = 0;
	ListCell *cell;

	foreach (cell, leaves)
	{
		uint32 file = file_of(lfirst_oid(cell));

		if (file >= from && (found == InvalidOid || file < least))
		{
			found = lfirst_oid(cell);
			least = file;
		}
	}
	return found;
}

/*
 * Where the scan begins.  A file that is not there any more was rewritten:
 * rows stand elsewhere, so all begins anew.  False: nothing is left.
 */
static bool
begin_range(Chunk *chunk, List *leaves, DcCopyPlace *place)
{
	Oid relid = next_partition(leaves, place->file);
	bool begun = place->block != 0 || place->offset != 0;
	DcHlc floor = dc_floor(chunk->slot);

	if (begun && (!OidIsValid(relid) || file_of(relid) != place->file))
		relid = next_partition(leaves, 0);
	if (!OidIsValid(relid))
		return false;
	enter_partition(chunk, relid);
	if (!begun || place->file != file_of(relid))
		*place = (DcCopyPlace){.file = file_of(relid)};
	if (place->block == 0 && place->offset == 0 && floor != DC_HLC_NONE)
		append_floor(chunk, floor);
	return true;
}

static TableScanDesc
begin_range_scan(Chunk *chunk, const DcCopyPlace *place)
{
	ItemPointerData first;
	ItemPointerData last;

	if (chunk->relation->rd_tableam->scan_set_tidrange == NULL)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("table \"%s\" cannot be read in ranges",
							   RelationGetRelationName(chunk->relation))));
	ItemPointerSet(&first, place->block, Max(place->offset, FirstOffsetNumber));
	ItemPointerSet(&last, InvalidBlockNumber - 1, MaxOffsetNumber);
	return table_beginscan_tidrange(chunk->relation, GetActiveSnapshot(),
									&first, &last);
}

/* A row without a stamp is the scrub's affair. */
static void
append_heap_row(Chunk *chunk, StringInfo key)
{
	DcHlc stamp;

	slot_getallattrs(chunk->row);
	stamp = dc_rel_stamp(chunk->rel, chunk->row);
	if (stamp == DC_HLC_NONE || stamp <= dc_floor(chunk->slot))
		return;
	resetStringInfo(key);
	dc_rel_key(chunk->rel, chunk->row->tts_values, chunk->row->tts_isnull, key);
	append_row(chunk,
			   (DcKey){.data = (uint8 *) key->data, .length = (Size) key->len},
			   stamp);
}

static bool
read_range(Chunk *chunk, DcCopyPlace *place, int bytes_max)
{
	StringInfo key = makeStringInfo();
	List *leaves =
		dc_partition_leaves(RelationGetRelid(chunk->relation), NoLock);
	TableScanDesc scan;
	bool more;

	if (!begin_range(chunk, leaves, place))
		return true;
	scan = begin_range_scan(chunk, place);
	while ((more = table_scan_getnextslot_tidrange(scan, ForwardScanDirection,
												   chunk->row)) &&
		   chunk->batch.len < bytes_max)
	{
		CHECK_FOR_INTERRUPTS();
		append_heap_row(chunk, key);
	}
	if (more)
	{
		place->block = ItemPointerGetBlockNumber(&chunk->row->tts_tid);
		place->offset = ItemPointerGetOffsetNumber(&chunk->row->tts_tid);
	}
	table_endscan(scan);
	if (more)
		return false;
	*place = (DcCopyPlace){.file = place->file + 1}; /* the next one */
	return !OidIsValid(next_partition(leaves, place->file));
}

DcCatchupResult
dc_catchup_range(int slot, DcCopyPlace *place, int bytes_max, StringInfo call,
				 uint32 *rows)
{
	Chunk chunk = {.slot = slot};
	bool end = true;

	if (!open_chunk(&chunk))
		return DC_CATCHUP_LATER;
	if (chunk.rel != NULL)
	{
		/* as dc_catchup_rows() does */
		DcRole role = dc_role_begin(chunk.rel->owner, true);

		end = read_range(&chunk, place, bytes_max);
		dc_role_end(role);
	}
	close_chunk(&chunk, call, rows);
	return end ? DC_CATCHUP_END : DC_CATCHUP_CHUNK;
}

/* --- what waits --- */

DcSlice
dc_catchup_waiting(int slot, DcSlice after, StringInfo call)
{
	Oid types[2] = {INT8OID, BYTEAOID};
	Datum values[2];
	DcSlice last = {NULL, 0};

	values[0] = Int64GetDatum((int64) dc_keyspace(slot)->id);
	values[1] =
		PointerGetDatum(cstring_to_text_with_len((const char *) after.data,
												 (int) after.length));
	if (SPI_execute_with_args("SELECT key, change FROM datacake.quarantine "
							  "WHERE keyspace = $1 AND key > $2 "
							  "ORDER BY key LIMIT 100",
							  2, types, values, NULL, true, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not read the quarantine");
	for (uint64 i = 0; i < SPI_processed && call->len < CHUNK_BYTES; i++)
	{
		HeapTuple tuple = SPI_tuptable->vals[i];
		bool null;
		bytea *key = DatumGetByteaPP(
			SPI_getbinval(tuple, SPI_tuptable->tupdesc, 1, &null));
		bytea *change = DatumGetByteaPP(
			SPI_getbinval(tuple, SPI_tuptable->tupdesc, 2, &null));

		dc_call_append(call, DC_PART_CATCHUP, VARDATA_ANY(change),
					   VARSIZE_ANY_EXHDR(change));
		last = (DcSlice){(uint8 *) VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key)};
	}
	return last;
}
