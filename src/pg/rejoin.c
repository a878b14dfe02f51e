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
#include "utils/array.h"
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
#include "sql.h"
#include "standing.h"
#include "table.h"
#include "vector.h"

#define SCAN_ITEMS 256
#define PINNED_MS                                                              \
	5 /* until a partition with commits under way is tried again */

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

/* A row on its way into datacake.orphan, as text. */
typedef struct Orphan
{
	const char *key;
	const char *row;
} Orphan;

/* As the table's owner: casts to json are the owner's business. */
static Orphan
describe(DcTable *table, const uint8 *key, Size length)
{
	Datum row = ExecFetchSlotHeapTupleDatum(table->local);

	return (Orphan){.key = dc_rel_key_text(table->rel, key, length),
					.row = TextDatumGetCString(
						DirectFunctionCall1(row_to_json, row))};
}

static void
set_aside(int slot, Orphan orphan, DcHlc stamp)
{
	const char *arguments[4] = {dc_sql_number(dc_keyspace(slot)->id),
								orphan.key, dc_sql_number(stamp), orphan.row};

	dc_sql("INSERT INTO datacake.orphan (keyspace, key, stamp, \"row\") VALUES "
		   "($1::bigint, $2, $3::bigint::datacake.hlc, $4::json)",
		   4, arguments);
}

/* Returns what was decided about the row; it is locked until the commit. */
static DcRejoin
settle_row(DcTable *table, const uint8 *bytes, Size length, bool covered,
		   DcHlc *stamp, Orphan *orphan)
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
	{
		*orphan = describe(table, bytes, length);
		(void) dc_table_delete(table);
	}
	return decision;
}

/* The same for a change that waits: its entry is live, and it has no row. */
static DcRejoin
settle_waiting(int slot, const uint8 *bytes, Size length, bool covered,
			   DcHlc *stamp)
{
	DcEntry entry = dc_metadata_get(slot, dc_key_make(bytes, length));
	Oid types[3] = {INT8OID, BYTEAOID, INT8OID};
	Datum values[3];
	DcRejoin decision;

	*stamp = entry.stamp;
	if (entry.stamp == DC_HLC_NONE || entry.dead)
		return DC_REJOIN_KEEP;
	decision = decide(entry.stamp, covered);
	if (decision == DC_REJOIN_KEEP || decision == DC_REJOIN_REISSUE)
		return DC_REJOIN_KEEP; /* it goes on waiting */
	values[0] = Int64GetDatum((int64) dc_keyspace(slot)->id);
	values[1] = PointerGetDatum(
		cstring_to_text_with_len((const char *) bytes, (int) length));
	values[2] = Int64GetDatum((int64) entry.stamp);
	if (decision == DC_REJOIN_QUARANTINE &&
		SPI_execute_with_args("INSERT INTO datacake.orphan (keyspace, key, "
							  "stamp, \"row\") SELECT keyspace, "
							  "pg_catalog.encode(key, 'hex'), stamp, "
							  "pg_catalog.json_build_object('change', "
							  "pg_catalog.encode(change, 'base64')) "
							  "FROM datacake.quarantine WHERE keyspace = $1 "
							  "AND key = $2 AND stamp = $3::datacake.hlc",
							  3, types, values, NULL, false,
							  0) != SPI_OK_INSERT)
		elog(ERROR, "could not set a waiting change aside");
	if (SPI_execute_with_args("DELETE FROM datacake.quarantine WHERE keyspace "
							  "= $1 AND key = $2 AND stamp = $3::datacake.hlc",
							  3, types, values, NULL, false,
							  0) != SPI_OK_DELETE)
		elog(ERROR, "could not clear the quarantine");
	return decision;
}

static uint64
id_of_definition(const uint8 *key, Size length)
{
	DcReader r;

	dc_reader_init(&r, key, length);
	return dc_read_u64(&r);
}

/* In a transaction. */
static DcRejoin
settle(int slot, uint64 id, const uint8 *key, Size length, bool covered,
	   DcHlc *stamp)
{
	Relation relation = dc_keyspace_open_relation(slot, RowExclusiveLock);
	DcRel *rel = relation != NULL ? dc_rel(relation) : NULL;
	volatile DcRejoin decision = DC_REJOIN_KEEP;
	DcRole role;
	DcTable table;
	Orphan orphan = {0};

	*stamp = DC_HLC_NONE;
	if (dc_keyspace_by_id(id) != slot)
		dc_keyspace_refuse(id); /* it ended before its table was locked */
	if (rel != NULL)
	{
		role = dc_role_begin(rel->owner, true);
		dc_applying = true;
		PG_TRY();
		{
			dc_table_open(&table, relation, rel, false);
			decision = settle_row(&table, key, length, covered, stamp, &orphan);
			dc_table_close(&table);
		}
		PG_FINALLY();
		{
			dc_applying = false;
		}
		PG_END_TRY();
		dc_role_end(role);
	}
	if (decision == DC_REJOIN_QUARANTINE)
		set_aside(slot, orphan, *stamp);
	if (*stamp == DC_HLC_NONE)
		decision = settle_waiting(slot, key, length, covered, stamp);
	if (relation != NULL)
		relation_close(relation, NoLock);
	return decision;
}

bool
dc_rejoin_row(int slot, uint64 id, const uint8 *key, Size length, bool covered,
			  void (*check)(void))
{
	MemoryContext context = CurrentMemoryContext;
	DcRejoin decision;
	DcHlc stamp;
	bool gone;

	dc_transaction_begin();
	decision = settle(slot, id, key, length, covered, &stamp);
	gone = decision == DC_REJOIN_ERASE || decision == DC_REJOIN_QUARANTINE;
	if (gone && id == DC_CATALOGUE_ID)
		dc_keyspace_dissolve(id_of_definition(key, length));
	dc_transaction_commit(context);
	if (gone)
		forget(slot, dc_key_make(key, length), stamp, check);
	return decision != DC_REJOIN_KEEP;
}

/* --- deaths --- */

/* Some at once: the table of tombstones has no index. */
static void
forget_deaths(int slot, uint64 id, const DcMapItem *items, int count,
			  void (*check)(void))
{
	MemoryContext context = CurrentMemoryContext;
	Oid types[3] = {INT8OID, BYTEAARRAYOID, INT8ARRAYOID};
	Datum values[3];
	Datum keys[SCAN_ITEMS];
	Datum stamps[SCAN_ITEMS];

	dc_transaction_begin();
	for (int i = 0; i < count; i++)
	{
		keys[i] = PointerGetDatum(
			cstring_to_text_with_len((const char *) items[i].key.data,
									 (int) items[i].key.length));
		stamps[i] = Int64GetDatum((int64) items[i].entry.stamp);
	}
	values[0] = Int64GetDatum((int64) id);
	values[1] = PointerGetDatum(
		construct_array(keys, count, BYTEAOID, -1, false, TYPALIGN_INT));
	values[2] = PointerGetDatum(
		construct_array(stamps, count, INT8OID, 8, true, TYPALIGN_DOUBLE));
	if (SPI_execute_with_args("DELETE FROM datacake.tombstone AS t USING "
							  "ROWS FROM (pg_catalog.unnest($2), "
							  "pg_catalog.unnest($3)) AS d(key, stamp) "
							  "WHERE t.keyspace = $1 AND t.key = d.key AND "
							  "t.stamp::bigint = d.stamp",
							  3, types, values, NULL, false,
							  0) != SPI_OK_DELETE)
		elog(ERROR, "could not forget tombstones");
	dc_transaction_commit(context);
	for (int i = 0; i < count; i++)
		forget(slot, dc_key_make(items[i].key.data, items[i].key.length),
			   items[i].entry.stamp, check);
}

uint64
dc_rejoin_deaths(int slot, uint64 id, void (*check)(void))
{
	DcMapItem *items = palloc(sizeof(DcMapItem) * SCAN_ITEMS);
	uint8 *keys = palloc(SCAN_ITEMS * 32 + DC_KEY_BYTES_MAX);
	DcVv *above = palloc(sizeof(DcVv));
	DcMetadataCursor cursor;
	uint64 settled = 0;
	bool newborn;
	int n;

	/*
	 * What any member claimed to have was adopted with its catch-up.  The own
	 * watermark says nothing of what they took.
	 */
	dc_vector_read(above);
	above->at[datacake_node_id] = DC_HLC_NONE;
	dc_metadata_scan_begin(&cursor);
	while ((n = dc_metadata_scan(slot, &cursor, above, NULL, items, SCAN_ITEMS,
								 keys, SCAN_ITEMS * 32 + DC_KEY_BYTES_MAX)) > 0)
	{
		int count = 0;

		check();
		if (dc_keyspace_by_id(id) != slot)
			break; /* it ended here */
		for (int i = 0; i < n; i++)
		{
			DcEntry entry = items[i].entry;
			bool own = dc_hlc_node_id(entry.stamp) == (uint32) datacake_node_id;

			if (entry.dead && entry.stamp <= dc_standing_limit(own, &newborn))
				items[count++] = items[i];
		}
		if (count > 0)
			forget_deaths(slot, id, items, count, check);
		settled += (uint64) count;
	}
	return settled;
}

uint64
dc_rejoin_all(int slot, uint64 id, void (*check)(void))
{
	DcMapItem *items = palloc(sizeof(DcMapItem) * SCAN_ITEMS);
	uint8 *keys = palloc(SCAN_ITEMS * 32 + DC_KEY_BYTES_MAX);
	DcVv *vector = palloc(sizeof(DcVv));
	DcMetadataCursor cursor;
	uint64 settled = 0;
	int n;

	dc_vector_read(vector);
	dc_metadata_scan_begin(&cursor);
	while ((n = dc_metadata_scan(slot, &cursor, NULL, NULL, items, SCAN_ITEMS,
								 keys, SCAN_ITEMS * 32 + DC_KEY_BYTES_MAX)) > 0)
	{
		for (int i = 0; i < n; i++)
		{
			check();
			if (!items[i].entry.dead)
				settled +=
					dc_rejoin_row(slot, id, items[i].key.data,
								  items[i].key.length,
								  dc_vv_covers(vector, items[i].entry.stamp),
								  check);
		}
	}
	return settled;
}
