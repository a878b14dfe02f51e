/*
 * quarantine.c
 *		Changes that cannot be in their table yet: put there, and looked at
 *		again.
 *
 * What waits for another row is not told when that row goes: it is looked at,
 * by its entries in the metadata.  So nothing is missed, whoever writes to the
 * table, and no writer pays for it.
 */
#include "quarantine.h"

#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/memutils.h"

#include "conflict.h"
#include "metadata.h"
#include "rival.h"
#include "sql.h"

#define LOOK_ROWS 5000 /* in one turn of the maintainer */

static bytea *
bytes_of(DcSlice slice)
{
	return (bytea *) cstring_to_text_with_len((const char *) slice.data,
											  (int) slice.length);
}

void
dc_quarantine_put(const DcWaiting *waiting)
{
	Oid types[9] = {INT8OID, BYTEAOID, INT8OID, BYTEAOID, TEXTOID,
					TEXTOID, BYTEAOID, INT8OID, BOOLOID};
	bool alone = waiting->other.length == 0;
	char nulls[10] = "         ";
	Datum values[9] = {Int64GetDatum((int64) dc_keyspace(waiting->slot)->id),
					   PointerGetDatum(bytes_of(waiting->key)),
					   Int64GetDatum((int64) waiting->stamp),
					   PointerGetDatum(waiting->change),
					   CStringGetTextDatum(waiting->sqlstate),
					   CStringGetTextDatum(waiting->message),
					   PointerGetDatum(bytes_of(waiting->other)),
					   Int64GetDatum((int64) waiting->other_stamp),
					   BoolGetDatum(waiting->told)};

	if (alone)
		nulls[6] = nulls[7] = 'n';
	/* what waits for a row is looked at anyway (dc_quarantine_look) */
	if (SPI_execute_with_args(
			"INSERT INTO datacake.quarantine AS q (keyspace, key, stamp, "
			"change, sqlstate, message, other, other_stamp, told, retry_at) "
			"VALUES ($1, $2, $3::datacake.hlc, $4, $5, $6, $7, "
			"$8::datacake.hlc, $9, pg_catalog.clock_timestamp() + "
			"CASE WHEN $7 IS NULL THEN interval '1 s' ELSE interval '10 min' END) "
			"ON CONFLICT (keyspace, key) DO UPDATE SET "
			"stamp = excluded.stamp, change = excluded.change, "
			"sqlstate = excluded.sqlstate, message = excluded.message, "
			"other = excluded.other, other_stamp = excluded.other_stamp, "
			"told = excluded.told OR (q.told AND q.stamp = excluded.stamp "
			"AND q.other = excluded.other), "
			"tries = q.tries + 1, "
			"retry_at = CASE WHEN $7 IS NULL THEN pg_catalog.clock_timestamp() + "
			"  least(60, pg_catalog.power(2, least(q.tries, 6))) "
			"  * interval '1 s' ELSE excluded.retry_at END "
			"WHERE q.stamp <= excluded.stamp",
			9, types, values, nulls, false, 0) < 0)
		elog(ERROR, "could not put a row into the quarantine");
}

bool
dc_quarantine_is_told(const DcWaiting *waiting)
{
	Oid types[4] = {INT8OID, BYTEAOID, INT8OID, BYTEAOID};
	Datum values[4] = {Int64GetDatum((int64) dc_keyspace(waiting->slot)->id),
					   PointerGetDatum(bytes_of(waiting->key)),
					   Int64GetDatum((int64) waiting->stamp),
					   PointerGetDatum(bytes_of(waiting->other))};

	if (SPI_execute_with_args("SELECT FROM datacake.quarantine WHERE keyspace = $1 AND key = $2 "
							  "AND stamp = $3::datacake.hlc AND other = $4 AND told",
							  4, types, values, NULL, true, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not read the quarantine");
	return SPI_processed == 1;
}

/* A command about a change: keyspace $1, key $2, stamp $3; what SPI answers. */
static int
about_change(const char *command, int slot, DcSlice key, DcHlc stamp,
			 bool read_only)
{
	Oid types[3] = {INT8OID, BYTEAOID, INT8OID};
	Datum values[3] = {Int64GetDatum((int64) dc_keyspace(slot)->id),
					   PointerGetDatum(bytes_of(key)),
					   Int64GetDatum((int64) stamp)};

	return SPI_execute_with_args(command, 3, types, values, NULL, read_only, 0);
}

bool
dc_quarantine_misfits(int slot, DcSlice key, DcHlc stamp)
{
	if (about_change("SELECT FROM datacake.quarantine WHERE keyspace = $1 AND key = $2 "
					 "AND stamp = $3::datacake.hlc AND sqlstate = 'YD023' LIMIT 1",
					 slot, key, stamp, true) != SPI_OK_SELECT)
		elog(ERROR, "could not read the quarantine");
	return SPI_processed == 1;
}

void
dc_quarantine_wake(int slot, DcSlice key, DcHlc stamp)
{
	if (about_change("UPDATE datacake.quarantine SET retry_at = "
					 "pg_catalog.clock_timestamp() WHERE keyspace = $1 AND "
					 "key = $2 AND stamp = $3::datacake.hlc",
					 slot, key, stamp, false) != SPI_OK_UPDATE)
		elog(ERROR, "could not have a waiting row tried again");
}

/* --- looking at what waits for another row --- */

/* Columns of the rows looked at. */
enum
{
	LOOK_KEYSPACE = 1,
	LOOK_KEY,
	LOOK_STAMP,
	LOOK_OTHER,
	LOOK_OTHER_STAMP,
	LOOK_OTHER_WAITS,
	LOOK_TOLD
};

static Datum
value(HeapTuple tuple, TupleDesc descriptor, int column)
{
	bool null;

	return SPI_getbinval(tuple, descriptor, column, &null);
}

static DcSlice
slice_of(Datum datum)
{
	bytea *bytes = DatumGetByteaPP(datum);

	return (DcSlice){(const uint8 *) VARDATA_ANY(bytes),
					 VARSIZE_ANY_EXHDR(bytes)};
}

static DcEntry
entry_of(int slot, DcSlice key)
{
	return dc_metadata_get(slot, dc_key_make(key.data, key.length));
}

static bool
is_due(HeapTuple tuple, TupleDesc descriptor, int slot)
{
	DcSlice other = slice_of(value(tuple, descriptor, LOOK_OTHER));
	DcRivalWaiting waiting =
		{.stamp = (DcHlc) DatumGetInt64(value(tuple, descriptor, LOOK_STAMP)),
		 .entry = entry_of(slot, slice_of(value(tuple, descriptor, LOOK_KEY))),
		 .other =
			 (DcHlc) DatumGetInt64(value(tuple, descriptor, LOOK_OTHER_STAMP)),
		 .other_entry = entry_of(slot, other),
		 .other_put_aside =
			 DatumGetBool(value(tuple, descriptor, LOOK_OTHER_WAITS))};

	if (!dc_rival_waits(&waiting))
		return true;
	return !DatumGetBool(value(tuple, descriptor, LOOK_TOLD)) &&
		   dc_conflict_is_certain(waiting.stamp, waiting.other);
}

void
dc_quarantine_look(void)
{
	static DcStatement look = {
		"SELECT q.keyspace, q.key, q.stamp::bigint, q.other, "
		"q.other_stamp::bigint, o.key IS NOT NULL, q.told "
		"FROM datacake.quarantine q LEFT JOIN datacake.quarantine o "
		"ON o.keyspace = q.keyspace AND o.key = q.other AND "
		"o.stamp::bigint = q.other_stamp::bigint "
		"WHERE (q.keyspace, q.key) > ($1, $2) AND q.other IS NOT NULL "
		"AND q.retry_at > pg_catalog.clock_timestamp() "
		"ORDER BY q.keyspace, q.key LIMIT " CppAsString2(LOOK_ROWS)};
	static uint64 last_id; /* where the last look ended */
	static StringInfoData last_key;
	Oid types[2] = {INT8OID, BYTEAOID};
	Datum values[2];
	SPITupleTable *rows;
	uint64 count;

	if (last_key.data == NULL)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);

		initStringInfo(&last_key);
		MemoryContextSwitchTo(old);
	}
	values[0] = Int64GetDatum((int64) last_id);
	values[1] = PointerGetDatum(
		bytes_of((DcSlice){(uint8 *) last_key.data, (Size) last_key.len}));
	if (SPI_execute_plan(dc_sql_plan(&look, 2, types), values, NULL, true, 0) !=
		SPI_OK_SELECT)
		elog(ERROR, "could not read the quarantine");
	rows = SPI_tuptable;
	count = SPI_processed;
	last_id = 0;
	resetStringInfo(&last_key);
	for (uint64 i = 0; i < count; i++)
	{
		HeapTuple tuple = rows->vals[i];
		uint64 id =
			(uint64) DatumGetInt64(value(tuple, rows->tupdesc, LOOK_KEYSPACE));
		DcSlice key = slice_of(value(tuple, rows->tupdesc, LOOK_KEY));
		int slot = dc_keyspace_by_id(id);

		if (slot >= 0 && is_due(tuple, rows->tupdesc, slot))
			dc_quarantine_wake(slot, key,
							   (DcHlc) DatumGetInt64(
								   value(tuple, rows->tupdesc, LOOK_STAMP)));
		if (i + 1 < LOOK_ROWS)
			continue;
		last_id = id; /* there may be more: go on behind this one */
		appendBinaryStringInfo(&last_key, (const char *) key.data,
							   (int) key.length);
	}
}
