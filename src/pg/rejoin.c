/*
 * rejoin.c
 *		What a joining node does with what its donor knows nothing of (R13).
 *
 * The order on disk is safe at every point: a row is erased, and committed,
 * before its entry is forgotten; who crashes in between finds neither row nor
 * tombstone when it rebuilds.  Nothing of this is told to anybody: the node
 * ships nothing while it joins.
 */
#include "rejoin.h"

#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "capture.h"
#include "changes.h"
#include "guc.h"
#include "keyspace.h"
#include "mend.h"
#include "scrub.h"
#include "sql.h"
#include "standing.h"
#include "table.h"
#include "vector.h"

#define SCAN_ITEMS 256
#define PINNED_MS                                                              \
	5 /* until a partition with commits under way is tried again */

static void
begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
}

static void
commit(MemoryContext context)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

/* Forgets the entry, unless a newer one stands there. */
static void
forget(int slot, DcKey key, DcHlc stamp, void (*check)(void))
{
	while (!dc_metadata_forget(slot, key, stamp))
	{
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 PINNED_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		check();
	}
}

/* --- rows --- */

static DcRejoin
decide(DcHlc stamp, bool covered)
{
	bool own = dc_hlc_node_id(stamp) == (uint32) datacake_node_id;
	bool newborn;
	DcHlc limit = dc_standing_limit(own, &newborn);

	return dc_rule_rejoin(stamp, covered, limit, newborn);
}

static const char *
row_json(TupleTableSlot *row)
{
	return TextDatumGetCString(
		DirectFunctionCall1(row_to_json, ExecFetchSlotHeapTupleDatum(row)));
}

/* Keeps the row of table->local where its owner can find it. */
static void
set_aside(DcTable *table, const uint8 *key, Size length, DcHlc stamp)
{
	const char *arguments[4] = {dc_sql_number(
									dc_keyspace(table->rel->slot)->id),
								dc_rel_key_text(table->rel, key, length),
								dc_sql_number(stamp), row_json(table->local)};

	dc_sql("INSERT INTO datacake.orphan (keyspace, key, stamp, \"row\") VALUES "
		   "($1::bigint, $2, $3::bigint::datacake.hlc, $4::jsonb)",
		   4, arguments);
}

/* Returns what was decided about the row; it is locked until the commit. */
static DcRejoin
settle_row(DcTable *table, const uint8 *bytes, Size length, bool covered,
		   DcHlc *stamp)
{
	DcKey key = dc_key_make(bytes, length);
	DcRejoin decision;

	*stamp = dc_table_find(table, bytes, length);
	if (*stamp == DC_HLC_NONE ||
		dc_metadata_get(table->rel->slot, key).stamp != *stamp)
		return DC_REJOIN_KEEP; /* written since; it is above all that */
	decision = decide(*stamp, covered);
	if (decision == DC_REJOIN_REISSUE)
		dc_mend_reissue(table);
	else if (decision != DC_REJOIN_KEEP)
		dc_table_delete(table);
	return decision;
}

bool
dc_rejoin_row(int slot, const uint8 *key, Size length, bool covered,
			  void (*check)(void))
{
	MemoryContext context = CurrentMemoryContext;
	volatile DcRejoin decision = DC_REJOIN_KEEP;
	Relation relation;
	DcRel *rel;
	DcHlc stamp = DC_HLC_NONE;
	DcTable table;

	begin();
	relation = dc_keyspace_open_relation(slot, RowExclusiveLock);
	rel = relation != NULL ? dc_rel(relation) : NULL;
	if (rel != NULL)
	{
		DcRole role;

		dc_applying = true;
		PG_TRY();
		{
			role = dc_role_begin(rel->owner, true);
			dc_table_open(&table, relation, rel, false);
			decision = settle_row(&table, key, length, covered, &stamp);
			dc_role_end(role);
			if (decision == DC_REJOIN_QUARANTINE)
				set_aside(&table, key, length, stamp);
			dc_table_close(&table);
		}
		PG_FINALLY();
		{
			dc_applying = false;
		}
		PG_END_TRY();
	}
	if (relation != NULL)
		relation_close(relation, NoLock);
	commit(context);
	if (decision == DC_REJOIN_ERASE || decision == DC_REJOIN_QUARANTINE)
		forget(slot, dc_key_make(key, length), stamp, check);
	return decision != DC_REJOIN_KEEP;
}

/* --- deaths --- */

static void
forget_death(int slot, const uint8 *bytes, Size length, DcHlc stamp,
			 void (*check)(void))
{
	MemoryContext context = CurrentMemoryContext;
	Oid types[3] = {INT8OID, BYTEAOID, INT8OID};
	Datum values[3];

	begin();
	values[0] = Int64GetDatum((int64) dc_keyspace(slot)->id);
	values[1] = PointerGetDatum(
		cstring_to_text_with_len((const char *) bytes, (int) length));
	values[2] = Int64GetDatum((int64) stamp);
	if (SPI_execute_with_args("DELETE FROM datacake.tombstone WHERE keyspace "
							  "= $1 AND key = $2 AND stamp = $3::datacake.hlc",
							  3, types, values, NULL, false,
							  0) != SPI_OK_DELETE)
		elog(ERROR, "could not forget a tombstone");
	commit(context);
	forget(slot, dc_key_make(bytes, length), stamp, check);
}

uint64
dc_rejoin_deaths(int slot, void (*check)(void))
{
	DcMapItem *items = palloc(sizeof(DcMapItem) * SCAN_ITEMS);
	uint8 *keys = palloc(SCAN_ITEMS * 32 + DC_KEY_BYTES_MAX);
	DcVv *above = palloc(sizeof(DcVv));
	DcMetadataCursor cursor;
	uint64 settled = 0;
	bool newborn;
	int n;

	/* what any member claimed to have was adopted with its catch-up */
	dc_vector_read(above);
	dc_metadata_scan_begin(&cursor);
	while ((n = dc_metadata_scan(slot, &cursor, above, items, SCAN_ITEMS, keys,
								 SCAN_ITEMS * 32 + DC_KEY_BYTES_MAX)) > 0)
	{
		for (int i = 0; i < n; i++)
		{
			DcEntry entry = items[i].entry;
			DcSlice key = items[i].key;
			bool own = dc_hlc_node_id(entry.stamp) == (uint32) datacake_node_id;

			check();
			if (!entry.dead || entry.stamp > dc_standing_limit(own, &newborn))
				continue;
			forget_death(slot, key.data, key.length, entry.stamp, check);
			settled++;
		}
	}
	return settled;
}
