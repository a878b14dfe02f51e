/*
 * floor.c
 *		TRUNCATE: one stamp that is a death of every key of a keyspace.
 *
 * Why the maintainer looks at the heap once more: a row below the floor may be
 * written before the floor was announced and become visible after apply looked
 * for rows.  If its commit is merged after the floor was raised, the merge
 * loses and queues the key.  If before, a snapshot taken after the floor was
 * raised shows the row.
 */
#include "floor.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

#include "capture.h"
#include "guc.h"
#include "known.h"
#include "partition.h"
#include "sql.h"
#include "vector.h"

void
dc_floor_write(int slot, DcHlc stamp)
{
	const char *arguments[2] = {dc_sql_number(dc_keyspace(slot)->id),
								dc_sql_number(stamp)};
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);

	dc_sql("INSERT INTO datacake.floor (keyspace, stamp) "
		   "VALUES ($1::bigint, $2::datacake.hlc)",
		   2, arguments);
	dc_sql("DELETE FROM datacake.quarantine WHERE keyspace = $1::bigint "
		   "AND stamp::bigint <= $2::bigint",
		   2, arguments);
	dc_role_end(role);
}

void
dc_floor_known(int slot, StringInfo out)
{
	static DcVv vector;
	static DcMapItem items[DC_KNOWN_KEYS_MAX];
	static uint8 arena[DC_KNOWN_KEYS_MAX * 16 + DC_KEY_BYTES_MAX];
	DcMetadataCursor cursor;
	StringInfoData keys;
	uint32 count = 0;
	DcWriter w;
	int n;

	if (dc_phase() != DC_PHASE_READY)
		return; /* not all entries are there yet */
	dc_vector_read(&vector);
	vector.at[datacake_node_id] = DC_HLC_MAX; /* its own, to the last row */
	initStringInfo(&keys);
	dc_metadata_scan_begin(&cursor);
	while ((n = dc_metadata_scan(slot, &cursor, &vector, NULL, items,
								 DC_KNOWN_KEYS_MAX, arena, sizeof(arena))) > 0)
	{
		count += (uint32) n;
		if (count > DC_KNOWN_KEYS_MAX)
			return;
		for (int i = 0; i < n; i++)
		{
			enlargeStringInfo(&keys, (int) items[i].key.length + 16);
			dc_writer_init(&w, keys.data + keys.len,
						   (size_t) (keys.maxlen - keys.len));
			dc_known_key(&w, items[i].key, items[i].entry.stamp);
			keys.len += (int) w.length;
		}
	}
	dc_writer_init(&w, NULL, 0);
	dc_known_begin(&w, dc_floor(slot), &vector, count);
	enlargeStringInfo(out, (int) w.length);
	dc_writer_init(&w, out->data + out->len, w.length);
	dc_known_begin(&w, dc_floor(slot), &vector, count);
	out->len += (int) w.length;
	appendBinaryStringInfo(out, keys.data, keys.len);
}

void
dc_floor_load(void)
{
	uint64 rows = dc_sql("SELECT keyspace::text, pg_catalog.max(stamp::bigint)"
						 "::text FROM datacake.floor GROUP BY keyspace",
						 0, NULL);

	for (uint64 i = 0; i < rows; i++)
	{
		int slot = dc_keyspace_by_id(strtoull(dc_sql_text(i, 1), NULL, 10));

		/* the rebuild reads all rows, and tells when some lie below */
		if (slot >= 0)
			dc_floor_raise(slot, dc_keyspace(slot)->generation,
						   strtoull(dc_sql_text(i, 2), NULL, 10), true);
	}
}

/* Locks the row's last version into table->local. */
static TM_Result
lock_row(DcTable *table, TupleTableSlot *row, Snapshot snapshot)
{
	TM_FailureData ignored;

	return table_tuple_lock(table->relation, &row->tts_tid, snapshot,
							table->local, GetCurrentCommandId(false),
							LockTupleExclusive, LockWaitSkip,
							TUPLE_LOCK_FLAG_FIND_LAST_VERSION, &ignored);
}

/* A row that is locked: the maintainer waits for it in its own time. */
static void
push_row(DcRel *rel, TupleTableSlot *row)
{
	StringInfoData key;

	initStringInfo(&key);
	slot_getallattrs(row);
	dc_rel_key(rel, row->tts_values, row->tts_isnull, &key);
	dc_reconcile_push(rel->slot,
					  dc_key_make((uint8 *) key.data, (Size) key.len));
	pfree(key.data);
}

static void
erase_part(DcTable *whole, DcTable *table, DcHlc stamp, DcFloorVisitor visit,
		   void *arg)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(table->relation, snapshot, 0, NULL);
	TupleTableSlot *row = table_slot_create(table->relation, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		TM_Result result;

		CHECK_FOR_INTERRUPTS();
		ResetPerTupleExprContext(table->estate);
		if (dc_rel_stamp(table->rel, row) > stamp)
			continue;
		result = lock_row(table, row, snapshot);
		if (result == TM_Ok && dc_rel_stamp(table->rel, table->local) <= stamp)
		{
			dc_table_show(whole, table);
			if (visit != NULL)
				visit(whole, arg);
			(void) dc_table_delete(whole);
		}
		else if (result == TM_WouldBlock && visit == NULL)
			push_row(table->rel, row);
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
}

void
dc_floor_erase(DcTable *table, DcHlc stamp, DcFloorVisitor visit, void *arg)
{
	ListCell *cell;

	foreach (cell, dc_partition_leaves(RelationGetRelid(table->relation),
									   RowExclusiveLock))
		erase_part(table, dc_table_part(table, lfirst_oid(cell)), stamp, visit,
				   arg);
}

/* As the table's owner, and below our triggers. */
static void
erase_as_owner(Relation relation, DcRel *rel, DcHlc stamp)
{
	DcRole role = dc_role_begin(rel->owner, true);
	DcTable table;

	dc_applying = true;
	PG_TRY();
	{
		dc_table_open(&table, relation, rel, false);
		dc_floor_erase(&table, stamp, NULL, NULL);
		dc_table_close(&table);
	}
	PG_FINALLY();
	{
		dc_applying = false;
	}
	PG_END_TRY();
	dc_role_end(role);
}

void
dc_floor_sweep(int slot)
{
	DcKeyspace *keyspace = dc_keyspace(slot);
	uint32 generation = keyspace->generation;
	DcHlc floor = dc_floor(slot);
	Oid relid = keyspace->relid;
	Relation relation;
	DcRel *rel;

	if (pg_atomic_read_u64(&keyspace->swept) >= floor)
		return;
	if (OidIsValid(relid))
	{
		if (!dc_partition_try_lock(relid, RowExclusiveLock))
			return;
		relation = try_relation_open(relid, NoLock);
		rel = relation != NULL ? dc_rel(relation) : NULL;
		if (rel != NULL && rel->slot == slot)
			erase_as_owner(relation, rel, floor);
		if (relation != NULL)
			relation_close(relation, NoLock);
	}
	dc_floor_raise(slot, generation, floor, true);
}

void
dc_floor_thin(int slot, DcHlc stamp)
{
	const char *arguments[2] = {dc_sql_number(dc_keyspace(slot)->id),
								dc_sql_number(stamp)};

	dc_sql("DELETE FROM datacake.floor WHERE keyspace = $1::bigint "
		   "AND stamp::bigint < $2::bigint",
		   2, arguments);
	dc_sql("DELETE FROM datacake.tombstone WHERE keyspace = $1::bigint "
		   "AND stamp::bigint <= $2::bigint",
		   2, arguments);
}
