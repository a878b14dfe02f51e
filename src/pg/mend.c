/*
 * mend.c
 *		What the maintainer does for rows that could not be settled at once.
 */
#include "mend.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "apply.h"
#include "capture.h"
#include "changes.h"
#include "compat.h"
#include "guc.h"
#include "keyspace.h"
#include "sql.h"
#include "table.h"

DC_SQL_FUNCTION(datacake_retry);

/* --- heap and metadata --- */

static bool
waits_in_quarantine(int slot, const uint8 *key, Size length, DcHlc stamp)
{
	StringInfoData ignored;

	initStringInfo(&ignored);
	return dc_mend_find_waiting(dc_keyspace(slot)->id, key, length, stamp,
								&ignored);
}

/* False: a commit is on its way that will settle it; look again later. */
static bool
mend_row(DcTable *table, int slot, const uint8 *bytes, Size length)
{
	DcKey key = dc_key_make(bytes, length);
	DcHlc row = dc_table_find(table, bytes, length);
	DcEntry entry = dc_metadata_get(slot, key);

	switch (dc_rule_reconcile(row, entry))
	{
		case DC_RECONCILE_NOTHING:
			return true;
		case DC_RECONCILE_ERASE_ROW:
			dc_table_delete(table);
			break;
		case DC_RECONCILE_MERGE_ROW:
			dc_change_apply(slot, key, (DcEntry){.stamp = row, .dead = false},
							entry.stamp);
			break;
		case DC_RECONCILE_FETCH_ROW:
			return waits_in_quarantine(slot, bytes, length, entry.stamp);
	}
	dc_count(DC_COUNT_RECONCILED, 1);
	return true;
}

bool
dc_mend_key(uint64 id, const uint8 *key, Size length)
{
	volatile bool mended = true;
	int slot = dc_keyspace_by_id(id);
	Relation relation;
	DcRel *rel;
	DcRole role;
	DcTable table;

	if (slot < 0)
		return true;
	relation = dc_keyspace_open_relation(slot, RowExclusiveLock);
	if (relation == NULL)
		return true;
	rel = dc_rel(relation);
	if (rel != NULL)
	{
		role = dc_role_begin(rel->owner, true);
		dc_applying = true;
		PG_TRY();
		{
			dc_table_open(&table, relation, rel, false);
			mended = mend_row(&table, rel->slot, key, length);
			dc_table_close(&table);
		}
		PG_FINALLY();
		{
			dc_applying = false;
		}
		PG_END_TRY();
		dc_role_end(role);
	}
	relation_close(relation, NoLock);
	return mended;
}

/* Queues the rows of one table that do not agree with their entries. */
static void
compare_table(int slot)
{
	Relation relation = dc_keyspace_open_relation(slot, AccessShareLock);
	DcRel *rel = relation != NULL ? dc_rel(relation) : NULL;
	TableScanDesc scan;
	TupleTableSlot *row;
	StringInfoData bytes;

	if (rel == NULL)
		return;
	initStringInfo(&bytes);
	scan = table_beginscan(relation, GetActiveSnapshot(), 0, NULL);
	row = table_slot_create(relation, NULL);
	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		DcKey key;

		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		resetStringInfo(&bytes);
		dc_rel_key(rel, row->tts_values, row->tts_isnull, &bytes);
		key = dc_key_make((uint8 *) bytes.data, (Size) bytes.len);
		if (dc_rule_reconcile(dc_rel_stamp(rel, row),
							  dc_metadata_get(slot, key)) !=
			DC_RECONCILE_NOTHING)
			dc_reconcile_push(slot, key);
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	relation_close(relation, NoLock);
}

void
dc_mend_all(void)
{
	for (int slot = 0; slot < datacake_max_keyspaces; slot++)
	{
		if (dc_keyspace(slot)->id != 0)
			compare_table(slot);
	}
}

/* --- the quarantine --- */

static void
retry_changes(bool all)
{
	const char *arguments[1] = {all ? "t" : "f"};
	uint64 rows;
	DcApplySet *set;

	dc_sql("CREATE TEMP TABLE IF NOT EXISTS datacake_due (keyspace bigint, "
		   "key bytea, stamp datacake.hlc, tries int) ON COMMIT DELETE ROWS",
		   0, NULL);
	dc_sql("INSERT INTO pg_temp.datacake_due "
		   "SELECT keyspace, key, stamp, tries FROM datacake.quarantine "
		   "WHERE $1::boolean OR retry_at <= pg_catalog.clock_timestamp() "
		   "ORDER BY retry_at LIMIT 1000",
		   1, arguments);
	rows = dc_sql("SELECT q.change FROM datacake.quarantine q "
				  "JOIN pg_temp.datacake_due d USING (keyspace, key)",
				  0, NULL);
	if (rows == 0)
		return;
	set = dc_apply_begin(true);
	for (uint64 i = 0; i < rows; i++)
	{
		bool null;
		bytea *change =
			DatumGetByteaP(SPI_getbinval(SPI_tuptable->vals[i],
										 SPI_tuptable->tupdesc, 1, &null));

		dc_apply_add(set,
					 (DcSlice){(const uint8_t *) VARDATA_ANY(change),
							   VARSIZE_ANY_EXHDR(change)},
					 false);
	}
	(void) dc_apply_run(set);
	/* what failed again has one try more */
	dc_sql("DELETE FROM datacake.quarantine q USING pg_temp.datacake_due d "
		   "WHERE q.keyspace = d.keyspace AND q.key = d.key "
		   "AND q.stamp = d.stamp AND q.tries = d.tries",
		   0, NULL);
}

static void
retry_definitions(bool all)
{
	uint64 rows = dc_sql("SELECT id::text FROM datacake.unrealized", 0, NULL);
	char **ids = palloc(sizeof(char *) * (rows + 1));

	for (uint64 i = 0; i < rows; i++)
		ids[i] = dc_sql_text(i, 1);
	for (uint64 i = 0; i < rows; i++)
	{
		const char *arguments[1] = {ids[i]};

		if (dc_apply_definition(strtoull(ids[i], NULL, 10)))
			dc_sql("DELETE FROM datacake.unrealized WHERE id = $1::bigint", 1,
				   arguments);
	}
}

uint64
dc_mend_waiting(bool all)
{
	retry_definitions(all);
	retry_changes(all);
	dc_sql("DELETE FROM datacake.conflict WHERE id <= "
		   "(SELECT pg_catalog.max(id) FROM datacake.conflict) - 10000",
		   0, NULL);
	dc_sql("SELECT pg_catalog.count(*) FROM datacake.quarantine", 0, NULL);
	return strtoull(dc_sql_text(0, 1), NULL, 10);
}

bool
dc_mend_find_waiting(uint64 id, const uint8 *key, Size length, DcHlc stamp,
					 StringInfo batch)
{
	Oid types[3] = {INT8OID, BYTEAOID, INT8OID};
	Datum values[3] = {Int64GetDatum((int64) id),
					   PointerGetDatum(
						   cstring_to_text_with_len((const char *) key,
													(int) length)),
					   Int64GetDatum((int64) stamp)};
	bytea *change;
	bool null;

	if (SPI_execute_with_args("SELECT change FROM datacake.quarantine WHERE keyspace = $1 AND "
							  "key = $2 AND stamp = $3::datacake.hlc",
							  3, types, values, NULL, true,
							  1) != SPI_OK_SELECT ||
		SPI_processed != 1)
		return false;
	change = DatumGetByteaP(
		SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, &null));
	appendBinaryStringInfo(batch, VARDATA_ANY(change),
						   (int) VARSIZE_ANY_EXHDR(change));
	return true;
}

/* SELECT datacake.retry(): asks for a retry of everything, now. */
Datum
datacake_retry(PG_FUNCTION_ARGS)
{
	uint64 waiting;
	DcRole role;

	dc_require_loaded();
	dc_require_ready();
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	waiting = dc_mend_waiting(true);
	dc_role_end(role);
	SPI_finish();
	PG_RETURN_INT64((int64) waiting);
}
