/*
 * purge.c
 *		Forgetting deaths that every member knows (R8).
 */
#include "purge.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "guc.h"
#include "metadata.h"
#include "sql.h"
#include "standing.h"

#define LOOK_MS  2   /* until it is looked again whether somebody acted */
#define PATIENCE 200 /* looks in one step; the rest is for the next */

/* What this process works on; a new one begins anew. */
static DcHlc working; /* horizon of the pass under way */
static DcHlc purged;  /* up to here nothing is left */
static DcHlc swept;   /* the same of rows of datacake.tombstone */

static bool
in_use(int slot)
{
	return dc_keyspace(slot)->id != 0;
}

static void
look_later(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 LOOK_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* Who decides from now on sees the horizon; true when the others have acted. */
static bool
await_readers(void (*check)(void))
{
	int patience = PATIENCE;

	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		while (in_use(slot) && dc_metadata_readers_before(slot) > 0)
		{
			if (patience-- == 0)
				return false;
			look_later();
			check();
		}
	}
	return true;
}

/* A change that waits, and whose key has gone on, would come back alive. */
static void
drop_overtaken(void)
{
	static DcStatement find = {
		"SELECT keyspace, key, stamp::bigint FROM datacake.quarantine "
		"WHERE stamp::bigint <= $1::bigint"};
	MemoryContext context = CurrentMemoryContext;
	const char *arguments[1];
	SPITupleTable *rows;
	uint64 count;

	dc_transaction_begin();
	arguments[0] = dc_sql_number(working);
	count = dc_sql_often(&find, 1, arguments);
	rows = SPI_tuptable;
	for (uint64 i = 0; i < count; i++)
	{
		Oid types[3] = {INT8OID, BYTEAOID, INT8OID};
		Datum values[3];
		bool null;
		bytea *key;
		int slot;

		for (int k = 0; k < 3; k++)
			values[k] =
				SPI_getbinval(rows->vals[i], rows->tupdesc, k + 1, &null);
		slot = dc_keyspace_by_id((uint64) DatumGetInt64(values[0]));
		key = DatumGetByteaPP(values[1]);
		if (slot < 0 ||
			dc_metadata_get(slot, dc_key_make((uint8 *) VARDATA_ANY(key),
											  VARSIZE_ANY_EXHDR(key)))
					.stamp == (DcHlc) DatumGetInt64(values[2]))
			continue;
		if (SPI_execute_with_args("DELETE FROM datacake.quarantine WHERE "
								  "keyspace = $1 AND key = $2 AND "
								  "stamp = $3::datacake.hlc",
								  3, types, values, NULL, false,
								  0) != SPI_OK_DELETE)
			elog(ERROR, "could not clear the quarantine");
	}
	dc_transaction_commit(context);
}

/* False: commits under way relied on some entries for all the time. */
static bool
purge_entries(int slot, void (*check)(void))
{
	DcMetadataCursor cursor;
	int patience = PATIENCE;

	dc_metadata_scan_begin(&cursor);
	for (;;)
	{
		switch (dc_metadata_purge(slot, &cursor, working))
		{
			case DC_PURGE_MORE:
				check();
				break;
			case DC_PURGE_PINNED:
				if (patience-- == 0)
					return false;
				look_later();
				check();
				break;
			case DC_PURGE_DONE:
				return true;
		}
	}
}

/* The table has no index: it is read only where there is something to find. */
static void
purge_rows(void)
{
	static DcStatement forget = {"DELETE FROM datacake.tombstone "
								 "WHERE stamp::bigint <= $1::bigint"};
	MemoryContext context = CurrentMemoryContext;
	const char *arguments[1];

	if (pg_atomic_read_u64(&dc_shared->last_tombstone) <= swept)
		return;
	dc_transaction_begin();
	arguments[0] = dc_sql_number(working);
	(void) dc_sql_often(&forget, 1, arguments);
	dc_transaction_commit(context);
	swept = working;
}

static void
begin_pass(void)
{
	working = pg_atomic_read_u64(&dc_shared->horizon_durable);
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		if (in_use(slot))
			dc_metadata_turn(slot);
	}
}

bool
dc_purge(bool (*mended)(void), void (*check)(void))
{
	/* a joiner may still have to take back what it wrote (R13) */
	if (pg_atomic_read_u64(&dc_shared->horizon_durable) == purged ||
		dc_standing_joining())
		return true;
	if (working == purged)
	{
		/* a process before this one may have left somebody behind */
		if (!await_readers(check))
			return false;
		begin_pass();
	}
	if (!await_readers(check) || !mended())
		return false;
	drop_overtaken();
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		if (in_use(slot) && !purge_entries(slot, check))
			return false;
	}
	purge_rows();
	purged = working;
	return true;
}
