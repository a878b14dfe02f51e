/*
 * maintainer.c
 *		Rebuilds the metadata after a start, and mends what commits leave.
 *
 * The rebuild (P6) runs while writers already commit: they merge their own
 * entries, so it only has to join what a snapshot taken after the map was
 * opened shows.  Floors, tombstones and waiting changes come first, then rows.
 * Until it is complete nothing is served and nothing is claimed.
 *
 * After that: what a TRUNCATE left in map and heap, keys whose heap row and
 * entry may disagree (P2), changes that wait in the quarantine (P12),
 * definitions that could not be realized; and who listens is told what
 * happened to the nodes.
 */
#include "worker.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "floor.h"
#include "guc.h"
#include "hash_order.h"
#include "keyspace.h"
#include "mend.h"
#include "metadata.h"
#include "purge.h"
#include "rel.h"
#include "sql.h"
#include "tombstone.h"
#include "watch.h"

extern PGDLLEXPORT void datacake_maintainer_main(Datum arg);

/* Keys were dropped from the queue, or taken by a process that ended. */
static bool compare_all;

/* --- rebuild --- */

static void
join_entry(int slot, uint32 generation, DcKey key, DcHlc stamp, bool dead)
{
	DcEntry entry = {.stamp = stamp, .dead = dead};
	DcEntry found;
	DcStatus status =
		dc_metadata_try_merge(slot, generation, key, entry, &found);

	if (status == DC_FULL)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('Y', 'D', '0', '0', '1')),
				 errmsg("metadata memory is too small for the keyspaces of "
						"this database"),
				 errhint("Raise \"datacake.metadata_memory\" (now %d MB) and "
						 "restart.",
						 datacake_metadata_memory_mb)));
	if (!dead && status == DC_OK && found.dead && found.stamp >= stamp)
		dc_reconcile_push(slot, key);
}

/* Rows of (keyspace bigint, key bytea, stamp hlc, ...). */
static void
load_entries(const char *table, bool dead)
{
	Relation relation = table_open(dc_sql_relid(table), AccessShareLock);
	TableScanDesc scan =
		table_beginscan(relation, GetActiveSnapshot(), 0, NULL);
	TupleTableSlot *row = table_slot_create(relation, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		DcHlc stamp;
		uint32 generation;
		int slot;
		bytea *key;

		CHECK_FOR_INTERRUPTS();
		slot_getsomeattrs(row, 3);
		slot = dc_keyspace_find((uint64) DatumGetInt64(row->tts_values[0]),
								&generation);
		stamp = (DcHlc) DatumGetInt64(row->tts_values[2]);
		if (dead)
			dc_tombstone_written(stamp);
		if (slot < 0)
			continue;
		key = DatumGetByteaPP(row->tts_values[1]);
		join_entry(slot, generation,
				   dc_key_make((uint8 *) VARDATA_ANY(key),
							   VARSIZE_ANY_EXHDR(key)),
				   stamp, dead);
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	table_close(relation, NoLock);
}

/* Rows that are joined in the order of the map (hash_order.h). */
#define GATHERED_KEY_BYTES 64

typedef struct Row
{
	DcKey key;
	DcHlc stamp;
	uint8 bytes[GATHERED_KEY_BYTES];
} Row;

typedef struct Gathered
{
	int slot;
	uint32 generation;
	Row rows[DC_ORDER_ITEMS];
	DcHashOrder order; /* of so many of them */
} Gathered;

static void
join_gathered(Gathered *gathered)
{
	DcHashOrder *order = &gathered->order;

	dc_hash_order(order);
	for (int i = 0; i < order->count; i++)
	{
		const Row *row = &gathered->rows[order->at[i]];

		if (i + DC_PREFETCH < order->count)
			dc_metadata_prefetch(gathered->slot,
								 order->hashes[order->at[i + DC_PREFETCH]]);
		join_entry(gathered->slot, gathered->generation, row->key, row->stamp,
				   false);
	}
	order->count = 0;
}

static void
gather(Gathered *gathered, DcKey key, DcHlc stamp)
{
	DcHashOrder *order = &gathered->order;
	Row *next = &gathered->rows[order->count];

	memcpy(next->bytes, key.data, key.length);
	next->key = key;
	next->key.data = next->bytes;
	next->stamp = stamp;
	order->hashes[order->count++] = key.hash;
	if (order->count == DC_ORDER_ITEMS)
		join_gathered(gathered);
}

static void
join_row(DcRel *rel, TupleTableSlot *row, DcKey key, void *arg)
{
	DcHlc stamp = dc_rel_stamp(rel, row);

	if (stamp <= dc_floor(rel->slot))
		/* outlived a TRUNCATE: the sweep is to look for such rows */
		pg_atomic_write_u64(&dc_keyspace(rel->slot)->swept, DC_HLC_NONE);
	else if (key.length <= GATHERED_KEY_BYTES)
		gather(arg, key, stamp);
	else
		join_entry(rel->slot, rel->slot_generation, key, stamp, false);
}

static void
load_rows(void)
{
	Gathered *gathered = palloc(sizeof(Gathered));

	gathered->order.count = 0;
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		if (dc_keyspace(slot)->id == 0)
			continue;
		gathered->slot = slot;
		gathered->generation = dc_keyspace(slot)->generation;
		dc_keyspace_expect_rows(slot);
		(void) dc_keyspace_visit(slot, GetActiveSnapshot(), join_row, gathered);
		join_gathered(gathered);
	}
	pfree(gathered);
}

static void
rebuild(void)
{
	TimestampTz started = GetCurrentTimestamp();
	uint32 rebuilding = DC_PHASE_REBUILDING;

	/* newer than every keyspace's map: later commits merge themselves */
	dc_worker_begin_transaction();
	dc_floor_load();
	load_entries("tombstone", true);
	load_entries("quarantine", false);
	load_rows();
	dc_worker_commit();
	dc_flush_all(); /* what the scan saw may be flushed by nobody yet */
	/* unless the extension was created anew meanwhile */
	if (!pg_atomic_compare_exchange_u32(&dc_shared->phase, &rebuilding,
										DC_PHASE_READY))
		proc_exit(0);
	ereport(LOG, (errmsg("datacake metadata is complete after %.3f s",
						 (double) (GetCurrentTimestamp() - started) / 1e6)));
	dc_worker_wake(DC_WORKER_REPLICATOR);
}

/* --- mending --- */

/*
 * One key in one transaction.  A row that somebody keeps locked goes to the
 * end of the queue; false then, so that the loop does not spin.
 */
static bool
mend_key(uint64 id, const uint8 *key, Size length)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool done = false;
	int slot;

	PG_TRY();
	{
		dc_worker_begin_transaction();
		done = dc_mend_key(id, key, length);
		dc_worker_commit();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE &&
			error->sqlerrcode != ERRCODE_T_R_DEADLOCK_DETECTED)
			PG_RE_THROW();
		FlushErrorState();
		FreeErrorData(error);
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	slot = dc_keyspace_by_id(id);
	if (!done && slot >= 0)
		dc_reconcile_push(slot, dc_key_make(key, length));
	return done;
}

static void
mend_keys(void)
{
	uint8 key[DC_KEY_BYTES_MAX];
	Size length;
	uint64 id;
	bool overflow;

	while (dc_reconcile_pop(&id, key, &length, &overflow))
	{
		if (overflow)
			compare_all = true;
		if (!mend_key(id, key, length))
			break;
		dc_worker_check();
		dc_watch_notify();
	}
	if (!compare_all)
		return;
	compare_all = false;
	dc_count(DC_COUNT_RECONCILE_OVERFLOWS, 1);
	dc_worker_begin_transaction();
	dc_mend_all();
	dc_worker_commit();
}

/* --- after a TRUNCATE --- */

/*
 * Entries first: then what commits merge below the floor goes nowhere.  False:
 * some are left.
 */
static bool
purge_floor(int slot)
{
	DcKeyspace *keyspace = dc_keyspace(slot);
	uint32 generation = keyspace->generation;
	DcHlc floor = dc_floor(slot);
	DcMetadataCursor cursor;
	bool complete = true;

	if (pg_atomic_read_u64(&keyspace->purged) >= floor)
		return true;
	dc_metadata_scan_begin(&cursor);
	while (dc_metadata_purge_floor(slot, &cursor, &complete))
		dc_worker_check();
	if (!complete)
		return false;
	dc_worker_begin_transaction();
	if (keyspace->generation == generation)
	{
		dc_floor_thin(slot, floor);
		pg_atomic_write_u64(&keyspace->purged, floor);
	}
	dc_worker_commit();
	return true;
}

/* A trigger of the table may object: then again in the next turn. */
static void
sweep(int slot)
{
	MemoryContext context = CurrentMemoryContext;

	PG_TRY();
	{
		dc_worker_begin_transaction();
		dc_floor_sweep(slot);
		dc_worker_commit();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		if (ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
			ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION))
			PG_RE_THROW();
		error->elevel = WARNING;
		FlushErrorState();
		ThrowErrorData(error);
		FreeErrorData(error);
		AbortCurrentTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
}

/* False: some floor is not cleared yet. */
static bool
clear_floors(void)
{
	bool clear = true;

	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		DcKeyspace *keyspace = dc_keyspace(slot);

		if (keyspace->id == 0)
			continue;
		clear &= purge_floor(slot);
		if (pg_atomic_read_u64(&keyspace->swept) < dc_floor(slot))
			sweep(slot);
		clear &= pg_atomic_read_u64(&keyspace->swept) >= dc_floor(slot);
	}
	return clear;
}

static bool
all_is_mended(void)
{
	return !compare_all && dc_reconcile_empty();
}

static void
serve(void)
{
	TimestampTz retried_at = 0;
	bool waiting = true;
	bool purged = false;

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		bool told = dc_watch_notify();
		bool clear = clear_floors();

		mend_keys();
		if (TimestampDifferenceExceeds(retried_at, now, DC_TURN_MS) ||
			pg_atomic_read_u32(&dc_shared->retry_wanted) != 0)
		{
			dc_worker_begin_transaction();
			waiting = dc_mend_waiting();
			dc_worker_commit();
			purged = dc_purge(all_is_mended, dc_worker_check);
			retried_at = now;
		}
		dc_worker_wait(dc_worker_turn_ms(!told || !clear || waiting ||
										 !purged || !all_is_mended()),
					   PG_WAIT_EXTENSION);
	}
}

void
datacake_maintainer_main(Datum arg)
{
	dc_worker_begin(DC_WORKER_MAINTAINER, true);
	dc_set_option("session_replication_role", "replica");
	while (dc_phase() == DC_PHASE_IDLE)
		dc_worker_wait(100, PG_WAIT_EXTENSION);
	if (dc_phase() == DC_PHASE_REBUILDING)
		rebuild();
	else
		compare_all = true; /* the maintainer before us may have held a key */
	serve();
}
