/*
 * tombstone.c
 *		Deaths as rows: the durable side of dead entries.
 */
#include "tombstone.h"

#include "access/heapam.h"
#include "access/table.h"
#include "executor/tuptable.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "sql.h"

/* Columns of datacake.tombstone. */
enum
{
	TOMBSTONE_KEYSPACE,
	TOMBSTONE_KEY,
	TOMBSTONE_STAMP,
	TOMBSTONE_COLUMNS
};

#define BUFFERED_ROWS 500

struct DcTombstoneWriter
{
	Relation relation;
	BulkInsertState bulk;
	MemoryContext scratch;
	DcHlc latest;
	int count;
	TupleTableSlot *slots[BUFFERED_ROWS];
};

DcTombstoneWriter *
dc_tombstone_begin(void)
{
	DcTombstoneWriter *writer = palloc0(sizeof(DcTombstoneWriter));

	writer->relation = table_open(dc_sql_relid("tombstone"), RowExclusiveLock);
	writer->bulk = GetBulkInsertState();
	writer->scratch =
		AllocSetContextCreate(CurrentMemoryContext, "datacake tombstones",
							  ALLOCSET_DEFAULT_SIZES);
	return writer;
}

static void
flush(DcTombstoneWriter *writer)
{
	MemoryContext old = MemoryContextSwitchTo(writer->scratch);

	if (writer->count > 0)
		table_multi_insert(writer->relation, writer->slots, writer->count,
						   GetCurrentCommandId(true), 0, writer->bulk);
	MemoryContextSwitchTo(old);
	for (int i = 0; i < writer->count; i++)
		ExecClearTuple(writer->slots[i]);
	MemoryContextReset(writer->scratch);
	writer->count = 0;
}

void
dc_tombstone_add(DcTombstoneWriter *writer, uint64 keyspace_id, DcKey key,
				 DcHlc stamp)
{
	MemoryContext old;
	TupleTableSlot *slot;

	if (writer->slots[writer->count] == NULL)
		writer->slots[writer->count] =
			table_slot_create(writer->relation, NULL);
	writer->latest = Max(writer->latest, stamp);
	slot = writer->slots[writer->count++];
	old = MemoryContextSwitchTo(writer->scratch);
	slot->tts_values[TOMBSTONE_KEYSPACE] = Int64GetDatum((int64) keyspace_id);
	slot->tts_values[TOMBSTONE_KEY] = PointerGetDatum(
		cstring_to_text_with_len((const char *) key.data, (int) key.length));
	slot->tts_values[TOMBSTONE_STAMP] = Int64GetDatum((int64) stamp);
	memset(slot->tts_isnull, false, sizeof(bool) * TOMBSTONE_COLUMNS);
	ExecStoreVirtualTuple(slot);
	MemoryContextSwitchTo(old);
	if (writer->count == BUFFERED_ROWS)
		flush(writer);
}

void
dc_tombstone_written(DcHlc stamp)
{
	DcHlc horizon = pg_atomic_read_u64(&dc_shared->horizon_durable);

	dc_raise(&dc_shared->last_tombstone, Max(stamp, horizon + 1));
}

void
dc_tombstone_end(DcTombstoneWriter *writer)
{
	flush(writer);
	dc_tombstone_written(writer->latest);
	for (int i = 0; i < BUFFERED_ROWS && writer->slots[i] != NULL; i++)
		ExecDropSingleTupleTableSlot(writer->slots[i]);
	FreeBulkInsertState(writer->bulk);
	table_close(writer->relation, NoLock);
	MemoryContextDelete(writer->scratch);
	pfree(writer);
}
