/*
 * mend.c
 *		What the maintainer does for rows that could not be settled at once.
 */
#include "mend.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "apply.h"
#include "capture.h"
#include "changes.h"
#include "compat.h"
#include "conflict.h"
#include "guc.h"
#include "keyspace.h"
#include "quarantine.h"
#include "sql.h"
#include "table.h"
#include "transaction.h"

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

/* The newer version of a row is not in the table; FETCH_ROW of mend_row(). */
typedef struct Absent
{
	DcHlc row;   /* what is in the table instead */
	DcHlc entry; /* NONE: nothing is absent */
} Absent;

static Absent
mend_row(DcTable *table, int slot, const uint8 *bytes, Size length)
{
	DcKey key = dc_key_make(bytes, length);
	DcHlc row = dc_table_find(table, bytes, length);
	DcEntry entry = dc_metadata_get(slot, key);

	switch (dc_rule_reconcile(row, entry))
	{
		case DC_RECONCILE_NOTHING:
			return (Absent){0};
		case DC_RECONCILE_ERASE_ROW:
			(void) dc_table_delete(table);
			break;
		case DC_RECONCILE_MERGE_ROW:
			dc_change_apply(slot, key, (DcEntry){.stamp = row, .dead = false},
							entry.stamp);
			break;
		case DC_RECONCILE_FETCH_ROW:
			return (Absent){row, entry.stamp};
	}
	dc_count(DC_COUNT_RECONCILED, 1);
	return (Absent){0};
}

/*
 * False: a commit is on its way that will settle it; look again later.  What
 * waits instead is tried again: an older row may stand in its place.
 */
static bool
absent_waits(Absent absent, int slot, const uint8 *key, Size length)
{
	if (absent.entry == DC_HLC_NONE)
		return true;
	if (!waits_in_quarantine(slot, key, length, absent.entry))
		return false;
	if (absent.row != DC_HLC_NONE)
		dc_quarantine_wake(slot, (DcSlice){key, length}, absent.entry);
	return true;
}

bool
dc_mend_key(uint64 id, const uint8 *key, Size length)
{
	Absent *absent = palloc0(sizeof(Absent));
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
			*absent = mend_row(&table, rel->slot, key, length);
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
	return absent_waits(*absent, slot, key, length);
}

/* --- rows written behind our back --- */

void
dc_mend_reissue(DcTable *table)
{
	Relation relation = table->at->relation;
	Oid types[1] = {TIDOID};
	Datum values[1] = {PointerGetDatum(&table->at->local->tts_tid)};
	char *name = quote_qualified_identifier(get_namespace_name(
												RelationGetNamespace(relation)),
											RelationGetRelationName(relation));
	bool applying = dc_applying;

	dc_applying = false; /* stamped and captured like any write */
	if (SPI_execute_with_args(psprintf("UPDATE ONLY %s SET %s = %s WHERE ctid "
									   "OPERATOR(pg_catalog.=) $1",
									   name, DC_STAMP_COLUMN, DC_STAMP_COLUMN),
							  1, types, values, NULL, false,
							  0) != SPI_OK_UPDATE)
		elog(ERROR, "could not write a row of %s anew", name);
	dc_applying = applying;
}

/* Does the row in table->local bear a stamp of this transaction now? */
static void
check_reissued(DcTable *table, const uint8 *key, Size length)
{
	if (dc_transaction_owns(dc_table_find(table, key, length)))
		return;
	ereport(WARNING,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("row (%s) of table \"%s\" could not be taken in",
					dc_rel_key_text(table->rel, key, length),
					RelationGetRelationName(table->relation)),
			 errhint("Enable the triggers of the table: ALTER TABLE ... "
					 "ENABLE ALWAYS TRIGGER.")));
}

static DcScrubVerdict
scrub_row(DcTable *table, int slot, const uint8 *bytes, Size length)
{
	DcHlc row;
	DcEntry entry;
	bool found;

	ExecClearTuple(table->local);
	row = dc_table_find(table, bytes, length);
	found = !TTS_EMPTY(table->local);
	entry =
		dc_rule_above_floor(dc_metadata_get(slot, dc_key_make(bytes, length)),
							dc_floor(slot));
	if (found && row == entry.stamp && !entry.dead && row != DC_HLC_NONE)
		return DC_SCRUB_AGREES;
	if (!found && (entry.dead || entry.stamp == DC_HLC_NONE))
		return DC_SCRUB_AGREES;
	if (found && row <= entry.stamp && entry.dead && row != DC_HLC_NONE)
	{
		ereport(LOG,
				(errmsg("row (%s) of table \"%s\" was brought back after its "
						"death, and is deleted",
						dc_rel_key_text(table->rel, bytes, length),
						RelationGetRelationName(table->relation))));
		(void) dc_table_delete(table);
		return DC_SCRUB_MENDED;
	}
	if (found && (row > entry.stamp || row == DC_HLC_NONE))
	{
		dc_mend_reissue(table);
		CommandCounterIncrement();
		check_reissued(table, bytes, length);
		return DC_SCRUB_MENDED;
	}
	return DC_SCRUB_LOST;
}

DcScrubVerdict
dc_mend_scrubbed(int slot, const uint8 *key, Size length)
{
	volatile DcScrubVerdict verdict = DC_SCRUB_AGREES;
	Relation relation = dc_keyspace_open_relation(slot, RowExclusiveLock);
	DcRel *rel = relation != NULL ? dc_rel(relation) : NULL;
	DcRole role;
	DcTable table;

	if (rel != NULL)
	{
		role = dc_role_begin(rel->owner, true);
		dc_applying = true;
		PG_TRY();
		{
			dc_table_open(&table, relation, rel, false);
			verdict = scrub_row(&table, slot, key, length);
			dc_table_close(&table);
		}
		PG_FINALLY();
		{
			dc_applying = false;
		}
		PG_END_TRY();
		dc_role_end(role);
	}
	if (relation != NULL)
		relation_close(relation, NoLock);
	if (verdict == DC_SCRUB_LOST && /* the owner must not read it */
		waits_in_quarantine(slot, key, length,
							dc_metadata_get(slot, dc_key_make(key, length))
								.stamp))
		verdict = DC_SCRUB_AGREES;
	return verdict;
}

/* Queues a row that does not agree with its entry. */
static void
compare_row(DcRel *rel, TupleTableSlot *row, DcKey key, void *arg)
{
	if (dc_rule_reconcile(dc_rel_stamp(rel, row),
						  dc_metadata_get(rel->slot, key)) !=
		DC_RECONCILE_NOTHING)
		dc_reconcile_push(rel->slot, key);
}

void
dc_mend_all(void)
{
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		if (dc_keyspace(slot)->id != 0)
			(void) dc_keyspace_visit(slot, GetActiveSnapshot(), compare_row,
									 NULL);
	}
}

/* --- the quarantine --- */

/* Columns of the due rows, as retry_changes() selects them. */
enum
{
	DUE_KEYSPACE = 1,
	DUE_KEY,
	DUE_STAMP,
	DUE_TRIES,
	DUE_CHANGE
};

static Datum
due(SPITupleTable *rows, uint64 row, int column)
{
	bool null;

	return SPI_getbinval(rows->vals[row], rows->tupdesc, column, &null);
}

/* What failed again has one try more, and stays. */
static void
remove_settled(SPITupleTable *rows, uint64 count)
{
	Oid types[4] = {INT8OID, BYTEAOID, INT8OID, INT4OID};

	for (uint64 i = 0; i < count; i++)
	{
		Datum values[4] = {due(rows, i, DUE_KEYSPACE), due(rows, i, DUE_KEY),
						   due(rows, i, DUE_STAMP), due(rows, i, DUE_TRIES)};

		if (SPI_execute_with_args("DELETE FROM datacake.quarantine WHERE keyspace = $1 AND "
								  "key = $2 AND stamp = $3::datacake.hlc AND tries = $4",
								  4, types, values, NULL, false,
								  0) != SPI_OK_DELETE)
			elog(ERROR, "could not clear the quarantine");
	}
}

static void
retry_changes(void)
{
	static DcStatement find = {
		"SELECT keyspace, key, stamp::bigint, tries, change "
		"FROM datacake.quarantine "
		"WHERE retry_at <= pg_catalog.clock_timestamp() "
		"ORDER BY retry_at LIMIT 1000"};
	static DcStatement forget = {
		"DELETE FROM datacake.quarantine q WHERE q.keyspace <> 1 AND NOT EXISTS "
		"(SELECT FROM datacake.keyspace k WHERE k.id = q.keyspace)"};
	uint64 count = dc_sql_often(&find, 0, NULL);
	SPITupleTable *rows = SPI_tuptable;
	DcApplySet *set;

	/* some were put there while the table was made an ordinary one */
	if (count > 0 && dc_sql_often(&forget, 0, NULL) > 0)
	{
		count = dc_sql_often(&find, 0, NULL);
		rows = SPI_tuptable;
	}
	if (count == 0)
		return;
	set = dc_apply_begin(true);
	for (uint64 i = 0; i < count; i++)
	{
		bytea *change = DatumGetByteaP(due(rows, i, DUE_CHANGE));

		dc_apply_add(set,
					 (DcSlice){(const uint8_t *) VARDATA_ANY(change),
							   VARSIZE_ANY_EXHDR(change)},
					 false);
	}
	(void) dc_apply_run(set);
	remove_settled(rows, count);
}

static void
retry_definitions(void)
{
	static DcStatement find = {
		"SELECT id FROM datacake.unrealized "
		"WHERE retry_at <= pg_catalog.clock_timestamp()"};
	uint64 count = dc_sql_often(&find, 0, NULL);
	SPITupleTable *rows = SPI_tuptable;

	for (uint64 i = 0; i < count; i++)
	{
		uint64 id = (uint64) DatumGetInt64(due(rows, i, 1));
		const char *arguments[1] = {dc_sql_number(id)};

		if (dc_apply_definition(id))
			dc_sql("DELETE FROM datacake.unrealized WHERE id = $1::bigint", 1,
				   arguments);
	}
}

/* Returns how many changes wait. */
static int64
make_due(void)
{
	int64 waiting =
		(int64) dc_sql("UPDATE datacake.quarantine "
					   "SET retry_at = pg_catalog.clock_timestamp()",
					   0, NULL);

	dc_sql("UPDATE datacake.unrealized "
		   "SET retry_at = pg_catalog.clock_timestamp()",
		   0, NULL);
	dc_sql("UPDATE datacake.ddl_log "
		   "SET retry_at = pg_catalog.clock_timestamp() "
		   "WHERE state <> 'done'",
		   0, NULL);
	return waiting;
}

void
dc_retry_soon(void)
{
	dc_worker_wake_at_commit(DC_WORKER_MAINTAINER, &dc_shared->retry_wanted);
}

bool
dc_mend_waiting(void)
{
	bool definitions = !dc_sql_never_written("unrealized");
	bool changes = !dc_sql_never_written("quarantine");
	bool conflicts = !dc_sql_never_written("conflict");

	if (pg_atomic_exchange_u32(&dc_shared->retry_wanted, 0) != 0)
		(void) make_due();
	if (definitions)
		retry_definitions();
	if (changes)
	{
		dc_quarantine_look();
		retry_changes();
	}
	if (conflicts)
		dc_conflict_trim();
	return definitions || changes || conflicts;
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

/* SELECT datacake.retry(): the maintainer tries everything again, now. */
Datum
datacake_retry(PG_FUNCTION_ARGS)
{
	int64 waiting;
	DcRole role;

	dc_require_loaded();
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	waiting = make_due();
	dc_role_end(role);
	SPI_finish();
	PG_RETURN_INT64(waiting);
}
