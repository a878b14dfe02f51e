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
#include "sql.h"

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
			dc_floor_raise(slot, strtoull(dc_sql_text(i, 2), NULL, 10), true);
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

void
dc_floor_erase(DcTable *table, DcHlc stamp, bool push)
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
			dc_table_delete(table);
		else if (result == TM_WouldBlock && push)
			push_row(table->rel, row);
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
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
		dc_floor_erase(&table, stamp, true);
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
	DcHlc floor = dc_floor(slot);
	Oid relid = keyspace->relid;
	Relation relation;
	DcRel *rel;

	if (pg_atomic_read_u64(&keyspace->swept) >= floor)
		return;
	if (OidIsValid(relid))
	{
		if (!ConditionalLockRelationOid(relid, RowExclusiveLock))
			return;
		relation = try_relation_open(relid, NoLock);
		rel = relation != NULL ? dc_rel(relation) : NULL;
		if (rel != NULL && rel->slot == slot)
			erase_as_owner(relation, rel, floor);
		if (relation != NULL)
			relation_close(relation, NoLock);
	}
	dc_floor_raise(slot, floor, true);
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
