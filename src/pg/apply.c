/*
 * apply.c
 *		Writes the changes of other nodes into the tables of this one.
 *
 *	message -> items -> sorted by table and key, one left per key
 *	                    |
 *	                    v
 *	   apply all in one subtransaction --- error ---> halves, each in its own
 *	                    |                                  |
 *	                    v                                  v one row left
 *	                  done                            quarantine
 *
 * For each key the heap row is found and locked first; waiting for writers in
 * progress is part of that.  Its stamp decides, and only for a key without a
 * row the metadata does (P2, dc_rule_apply).  A row that nobody else is writing
 * to needs no lock: it is looked at and written, and only if it is not the same
 * any more by then, all of that is done anew with its lock.  A death is
 * announced before its row is looked for (P1).  Rows keep their original stamps.
 * Writing goes as the table's owner, with replica semantics, below the triggers
 * of ours.
 */
#include "apply.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "bulk.h"
#include "capture.h"
#include "changes.h"
#include "clock.h"
#include "conflict.h"
#include "definition.h"
#include "floor.h"
#include "incoming.h"
#include "keyspace.h"
#include "quarantine.h"
#include "sql.h"
#include "table.h"
#include "unique.h"
#include "vector.h"

/* --- one row --- */

/* By the row that was found, whose stamp is in item->row, or none. */
static void
decide(DcApplySet *set, DcIncoming *item)
{
	DcTarget *target = item->target;
	DcHlc floor = dc_incoming_floor(set, target->slot);
	DcHlc horizon = DC_HLC_NONE;
	bool waits;
	DcEntry entry;

	if (dc_rule_late_birth(item->row, item->change.entry,
						   dc_death_mark(target->slot, item->key.hash)))
		dc_birth_announce(target->slot, item->key.hash);
	entry =
		dc_rule_above_floor(dc_metadata_get(target->slot, item->key), floor);
	waits = (set->retry || (set->again && !entry.dead)) &&
			entry.stamp == item->change.entry.stamp;
	if (waits)
		entry = (DcEntry){DC_HLC_NONE, false}; /* it is this very change */
	item->entry = entry;
	/* after the entry: what was purged since lies below what is read now */
	if (!set->below_horizon && !waits)
		horizon = pg_atomic_read_u64(&dc_shared->horizon);
	item->decision =
		dc_rule_apply(item->row, entry, item->change.entry, horizon, floor);
	if (set->again && item->decision == DC_APPLY_SAME &&
		item->row == item->change.entry.stamp && !item->change.entry.dead)
		item->decision = DC_APPLY_STORE;
	if (item->row == DC_HLC_NONE && entry.stamp <= floor && !set->retry &&
		!set->again && item->decision != DC_APPLY_STALE &&
		dc_vv_covers(&set->vector, item->change.entry.stamp))
		dc_count(DC_COUNT_LOCAL_LOSSES, 1);
}

static void
note(DcApplySet *set, DcIncoming *item)
{
	if (item->decision == DC_APPLY_STALE || item->decision == DC_APPLY_SAME)
	{
		/* the row that decided may be visible and not merged yet */
		if (item->row > item->entry.stamp)
			dc_change_apply(item->target->slot, item->key,
							(DcEntry){.stamp = item->row, .dead = false},
							item->entry.stamp);
		set->result.stale++;
		return;
	}
	set->result.applied++;
	dc_change_apply(item->target->slot, item->key, item->change.entry,
					item->row);
}

/*
 * P7: two rows with one stamp are one row.  That they are not says that a
 * stamp was given twice, or that a row was changed behind our back.
 */
static void
check_same(DcTable *table, const DcIncoming *item)
{
	StringInfoData image;

	if (item->row != item->change.entry.stamp || item->change.entry.dead ||
		!item->target->same_columns)
		return;
	slot_getallattrs(table->local);
	initStringInfo(&image);
	dc_rel_image(table->rel, table->local->tts_values, table->local->tts_isnull,
				 &image);
	if ((Size) image.len != item->change.image.length ||
		memcmp(image.data, item->change.image.data, (Size) image.len) != 0)
	{
		dc_count(DC_COUNT_STAMPS_TWICE, 1);
		ereport(WARNING,
				(errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '7')),
				 errmsg("row (%s) of table \"%s\" bears the same stamp as "
						"another row on another node",
						dc_rel_key_text(table->rel, item->change.key.data,
										item->change.key.length),
						RelationGetRelationName(table->relation)),
				 errhint("Update the row once, on the node that is right.")));
	}
	pfree(image.data);
}

/*
 * P3: are a table's former versions deleted before its new ones are written?
 * Only where a value was taken: who waits for a row that is deleted does not
 * find the new one.
 */
static bool
frees_first(const DcApplySet *set, const DcTarget *target)
{
	return set->frees && target->unique;
}

/* Writes over a row without its lock; false: nothing was done. */
static bool
apply_unlocked(DcApplySet *set, DcTable *table, DcIncoming *item)
{
	DcSlice key = item->change.key;

	if (!table->plain || frees_first(set, item->target))
		return false;
	item->row = dc_table_look(table, key.data, key.length);
	if (item->row == DC_HLC_NONE)
		return false;
	decide(set, item);
	if (item->decision == DC_APPLY_ERASE)
	{
		if (!dc_table_try_delete(table))
			return false;
	}
	else if (item->decision == DC_APPLY_STORE)
	{
		dc_incoming_image(table, item, true);
		if (!dc_table_try_update(table))
			return false;
	}
	else
		return false;
	dc_conflict_observe(set, table, item);
	note(set, item);
	return true;
}

/*
 * First pass: everything but the rows that must wait for the second.  A death
 * is announced before the row is looked for (P1): an insert that this does not
 * see will see it.
 */
static void
apply_item(DcApplySet *set, DcTable *table, DcIncoming *item)
{
	bool found;

	if (item->change.entry.dead)
		dc_change_announce(item->target->slot, item->key,
						   item->change.entry.stamp);
	if (apply_unlocked(set, table, item))
		return;
	item->row =
		dc_table_find(table, item->change.key.data, item->change.key.length);
	decide(set, item);
	dc_conflict_observe(set, table, item);
	if (item->decision == DC_APPLY_SAME)
		check_same(table, item);
	found = item->row != DC_HLC_NONE;
	if (item->decision == DC_APPLY_ERASE)
		dc_table_require(table, dc_table_delete(table));
	else if (item->decision == DC_APPLY_STORE)
	{
		if (frees_first(set, item->target))
		{
			if (found)
				dc_table_require(table, dc_table_delete(table));
			return;
		}
		dc_incoming_image(table, item, found);
		if (found)
			dc_table_require(table, dc_table_update(table));
		else
			dc_table_require(table, dc_table_insert(table));
	}
	note(set, item);
}

/* Second pass, where values are freed first: the rows. */
static void
apply_stored(DcApplySet *set, DcTable *table, DcIncoming *item)
{
	if (item->decision != DC_APPLY_STORE || set->claim == DC_CLAIM_YIELD)
		return;
	dc_incoming_image(table, item, false);
	if (set->claim == DC_CLAIM_TAKE)
		dc_unique_make_room(set, table, item);
	dc_table_require(table, dc_table_insert(table));
	note(set, item);
}

/* Chooses how rows are written; how many are not by themselves. */
static int
choose_bulk(DcApplySet *set, DcIncoming *items, int count)
{
	bool suits = !set->by_row && dc_bulk_suits(items->target);
	int chosen = 0;

	for (int i = 0; i < count; i++)
	{
		if (suits && i + DC_PREFETCH < count)
			dc_metadata_prefetch(items->target->slot,
								 items[i + DC_PREFETCH].key.hash);
		items[i].bulk = suits ? dc_bulk_choose(set, &items[i]) : DC_BULK_NOT;
		chosen += items[i].bulk != DC_BULK_NOT;
		set->result.stale += items[i].bulk == DC_BULK_HERE;
	}
	return chosen;
}

/* Items of one table, in the current (sub)transaction. */
static void
apply_table(DcApplySet *set, DcIncoming *items, int count)
{
	DcTarget *target = items->target;
	DcRole role = dc_role_begin(target->rel->owner, true);
	DcTable table;
	int bulk;

	dc_change_decide(target->slot);
	PushActiveSnapshot(GetTransactionSnapshot());
	dc_table_open(&table, target->relation, target->rel,
				  set->claim == DC_CLAIM_TAKE);
	bulk = choose_bulk(set, items, count);
	for (int pass = 0; pass < (frees_first(set, target) ? 2 : 1); pass++)
	{
		for (int i = 0; i < count && bulk < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (items[i].bulk != DC_BULK_NOT)
				continue;
			if (pass == 0)
				apply_item(set, &table, &items[i]);
			else
				apply_stored(set, &table, &items[i]);
			ResetPerTupleExprContext(table.estate);
		}
	}
	if (bulk > 0)
		dc_bulk_store(set, &table, items, count);
	dc_table_close(&table);
	PopActiveSnapshot();
	dc_role_end(role);
	dc_unique_put_aside(set);
}

/* --- what cannot be applied --- */

/* What waited came meanwhile in another form, by repair. */
static bool
is_here(const DcIncoming *item)
{
	DcTarget *target = item->target;
	TupleTableSlot *row;
	bool here;

	if (target->rel == NULL || item->change.entry.dead)
		return false;
	row = table_slot_create(target->relation, NULL);
	here = dc_rel_find(target->rel, target->relation, item->change.key.data,
					   item->change.key.length, GetActiveSnapshot(), row) &&
		   dc_rel_stamp(target->rel, row) == item->change.entry.stamp;
	ExecDropSingleTupleTableSlot(row);
	return here;
}

/*
 * P12: the change waits in a table, its entry stands in the metadata, and it
 * is served from here.
 */
static void
quarantine(DcApplySet *set, DcIncoming *item, const char *sqlstate,
		   const char *message)
{
	int slot = item->target->slot;
	DcHlc stamp = item->change.entry.stamp;
	bool yields = set->claim == DC_CLAIM_YIELD;
	DcWaiting waiting = {.slot = slot,
						 .key = item->change.key,
						 .stamp = stamp,
						 .sqlstate = sqlstate,
						 .message = message};
	DcEntry entry;

	dc_change_decide(slot);
	entry = dc_rule_above_floor(dc_metadata_get(slot, item->key),
								dc_incoming_floor(set, slot));
	if (entry.stamp > stamp || (set->retry && is_here(item)))
	{
		set->result.stale++; /* it, or something newer, is here or waits */
		return;
	}
	if (entry.stamp == DC_HLC_NONE && !set->below_horizon &&
		stamp <= pg_atomic_read_u64(&dc_shared->horizon))
	{
		set->result.stale++; /* R5: it died, and that is forgotten */
		return;
	}
	set->result.waiting++;
	dc_count(DC_COUNT_QUARANTINED, 1);
	waiting.change = dc_incoming_batch(item);
	if (yields)
		dc_unique_yield(set, item, &waiting);
	dc_quarantine_put(&waiting);
	if (entry.stamp != stamp)
		dc_change_apply(slot, item->key, item->change.entry,
						yields ? item->row : DC_HLC_NONE);
	/* it may have waited without a lock */
	dc_keyspace_require(slot, item->target->generation, item->target->id);
}

/* P13: who keeps this row locked?  0: nobody that can be named. */
static int
locking_pid(const DcIncoming *item)
{
	DcTarget *target = item->target;
	TupleTableSlot *row;
	SnapshotData dirty;
	TransactionId xid = InvalidTransactionId;

	if (target->rel == NULL)
		return 0;
	row = table_slot_create(target->relation, NULL);
	InitDirtySnapshot(dirty);
	if (dc_rel_find(target->rel, target->relation, item->change.key.data,
					item->change.key.length, &dirty, row))
		xid = HeapTupleHeaderGetRawXmax(
			ExecFetchSlotHeapTuple(row, true, NULL)->t_data);
	if (TransactionIdIsValid(dirty.xmax))
		xid = dirty.xmax;
	else if (TransactionIdIsValid(dirty.xmin))
		xid = dirty.xmin;
	ExecDropSingleTupleTableSlot(row);
	return TransactionIdIsValid(xid) ? BackendXidGetPid(xid) : 0;
}

static void
quarantine_error(DcApplySet *set, DcIncoming *item, const ErrorData *error)
{
	int pid =
		error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ? locking_pid(item) : 0;

	quarantine(set, item, unpack_sql_state(error->sqlerrcode),
			   pid == 0 ? error->message :
						  psprintf("row is locked by process %d", pid));
}

/* An error that says something about rows, not about the server. */
static bool
blames_row(const ErrorData *error)
{
	int class = ERRCODE_TO_CATEGORY(error->sqlerrcode);

	return class != ERRCODE_TO_CATEGORY(ERRCODE_INSUFFICIENT_RESOURCES) &&
		   class != ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION) &&
		   class != ERRCODE_TO_CATEGORY(ERRCODE_SYSTEM_ERROR) &&
		   error->sqlerrcode != MAKE_SQLSTATE('Y', 'D', '0', '0', '1');
}

/*
 * Runs work(set, items, count) in a subtransaction.  NULL: done.  Else it was
 * rolled back and this is why; errors that blame no row go up.
 */
static ErrorData *
try_in_subtransaction(void (*work)(DcApplySet *, DcIncoming *, int),
					  DcApplySet *set, DcIncoming *items, int count)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	DcApplied before = set->result;
	int conflicts = list_length(set->conflicts);
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		work(set, items, count);
		ReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		MemoryContextSwitchTo(context);
		CurrentResourceOwner = owner;
		set->result = before;
		set->conflicts = list_truncate(set->conflicts, conflicts);
		set->displaced = NIL;
		if (!blames_row(error))
			ReThrowError(error);
	}
	PG_END_TRY();
	return error;
}

/*
 * Rows that somebody else has locked.  He may be about to wait for one of
 * ours: after each wait all of them are given back and locked anew, so that it
 * is us, and soon, who make way (P13).
 */
static ErrorData *
try_patiently(void (*work)(DcApplySet *, DcIncoming *, int), DcApplySet *set,
			  DcIncoming *items, int count)
{
	TimestampTz begin = GetCurrentTimestamp();
	ErrorData *error;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		error = try_in_subtransaction(work, set, items, count);
		if (error == NULL || !dc_incoming_lock_missed(error))
			return error;
		set->by_row = true; /* in the order of keys */
		if (set->hurried ||
			TimestampDifferenceExceeds(begin, GetCurrentTimestamp(),
									   DC_PATIENCE_MS))
			return error;
	}
}

/* P3: its former version goes, and it waits for who outranks it. */
static void
yield_to_rival(DcApplySet *set, DcIncoming *item, int count)
{
	const ErrorData *error = set->claim_error;

	apply_table(set, item, count);
	if (item->decision == DC_APPLY_STORE)
		quarantine(set, item, unpack_sql_state(error->sqlerrcode),
				   error->message);
}

static bool
is_taken(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_UNIQUE_VIOLATION ||
		   error->sqlerrcode == ERRCODE_EXCLUSION_VIOLATION;
}

/*
 * P3: a unique value of the row is taken.  It takes it in turn, or waits for
 * who has it.  NULL: settled; else why not.
 */
static ErrorData *
claim(DcApplySet *set, DcIncoming *item, ErrorData *error)
{
	if (!is_taken(error))
		return error;
	set->claim_state = error->sqlerrcode;
	set->claim = DC_CLAIM_TAKE;
	item->rival = NULL;
	error = try_in_subtransaction(apply_table, set, item, 1);
	if (error != NULL && item->rival != NULL)
	{
		set->claim = DC_CLAIM_YIELD;
		set->claim_error = error;
		error = try_in_subtransaction(yield_to_rival, set, item, 1);
	}
	set->claim = DC_CLAIM_NOT;
	return error;
}

/*
 * Values that are taken may be freed by the same changes.  A bad row is found by
 * halving.  What failed in company is tried again alone; a lock that does not
 * come is not waited for twice as long.
 */
static void
apply_range(DcApplySet *set, DcIncoming *items, int count)
{
	ErrorData *error = try_patiently(apply_table, set, items, count);

	if (error != NULL && !set->frees && items->target->unique &&
		is_taken(error))
	{
		set->frees = true;
		error = try_patiently(apply_table, set, items, count);
	}
	if (error != NULL && !set->by_row)
	{
		set->by_row = true;
		error = try_patiently(apply_table, set, items, count);
	}
	if (error == NULL)
		return;
	if (count == 1)
	{
		error = claim(set, items, error);
		if (error != NULL)
			quarantine_error(set, items, error);
		return;
	}
	set->hurried = true;
	(void) set_config_option("lock_timeout", DC_LOCK_TIMEOUT, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0, false);
	apply_range(set, items, count / 2);
	apply_range(set, items + count / 2, count - count / 2);
}

/* --- definitions --- */

static uint64
id_of_key(DcSlice key)
{
	DcReader r;

	dc_reader_init(&r, key.data, key.length);
	return dc_read_u64(&r);
}

static void
follow_definition(DcApplySet *set, DcIncoming *items, int count)
{
	DcDefinition definition;

	PushActiveSnapshot(GetTransactionSnapshot());
	if (dc_definition_read(set->definition, &definition))
		dc_keyspace_realize(set->definition);
	else
		dc_keyspace_dissolve(set->definition);
	PopActiveSnapshot();
}

bool
dc_apply_definition(uint64 id)
{
	const char *arguments[3] = {dc_sql_number(id)};
	DcApplySet set = {.definition = id};
	ErrorData *error;

	error = try_patiently(follow_definition, &set, NULL, 0);
	if (error == NULL)
		return true;
	arguments[1] = unpack_sql_state(error->sqlerrcode);
	arguments[2] = error->message;
	dc_sql("INSERT INTO datacake.unrealized AS u (id, sqlstate, message) "
		   "VALUES ($1::bigint, $2, $3) ON CONFLICT (id) DO UPDATE SET "
		   "sqlstate = excluded.sqlstate, message = excluded.message, "
		   "tries = u.tries + 1, "
		   "retry_at = pg_catalog.clock_timestamp() + "
		   "  least(60, pg_catalog.power(2, least(u.tries, 6))) "
		   "  * interval '1 s'",
		   3, arguments);
	/* the keyspace is known all the same, and its rows wait */
	if (dc_sql("SELECT key_bytes FROM datacake.keyspace WHERE id = "
			   "$1::bigint",
			   1, arguments) == 1)
		(void) dc_keyspace_enter(id, InvalidOid,
								 (uint32) atoi(dc_sql_text(0, 1)));
	return false;
}

/*
 * Rows of definitions were written and deleted; follow them.  What ends goes
 * first: its table may be what another keyspace begins with.
 */
static void
follow_definitions(DcIncoming *items, int count)
{
	dc_applying = false; /* existing rows are this node's own (P7) */
	for (int i = 0; i < count; i++)
	{
		if (items[i].decision == DC_APPLY_ERASE)
			(void) dc_apply_definition(id_of_key(items[i].change.key));
	}
	for (int i = 0; i < count; i++)
	{
		if (items[i].decision == DC_APPLY_STORE)
			(void) dc_apply_definition(id_of_key(items[i].change.key));
	}
	dc_applying = true;
}

/* --- TRUNCATE --- */

typedef struct Truncation
{
	DcApplySet *set;
	DcIncoming *item;
} Truncation;

static void
observe_truncated(DcTable *table, void *arg)
{
	Truncation *truncation = arg;

	dc_conflict_truncated(truncation->set, table, truncation->item);
}

static void
erase_truncated(DcApplySet *set, DcIncoming *item, int count)
{
	DcTarget *target = item->target;
	DcRole role = dc_role_begin(target->rel->owner, true);
	Truncation truncation = {set, item};
	DcTable table;

	PushActiveSnapshot(GetTransactionSnapshot());
	dc_table_open(&table, target->relation, target->rel, false);
	dc_floor_erase(&table, item->change.entry.stamp, observe_truncated,
				   &truncation);
	dc_table_close(&table);
	PopActiveSnapshot();
	dc_role_end(role);
}

/*
 * The floor itself always comes in.  What cannot be deleted now, because the
 * table or rows are locked or a trigger objects, is left to the maintainer.
 */
static void
apply_floor(DcApplySet *set, DcIncoming *item)
{
	DcTarget *target = item->target;
	DcHlc stamp = item->change.entry.stamp;
	ErrorData *error;

	if (!target->opened)
		dc_incoming_open(target);
	if (stamp <= dc_incoming_floor(set, target->slot))
	{
		item->decision = DC_APPLY_SAME;
		set->result.stale++;
		return;
	}
	item->decision = DC_APPLY_ERASE;
	dc_change_floor(target->slot, stamp);
	dc_floor_write(target->slot, stamp);
	dc_keyspace_require(target->slot, target->generation, target->id);
	set->result.applied++;
	if (target->rel == NULL)
		return;
	error = try_patiently(erase_truncated, set, item, 1);
	if (error != NULL)
		ereport(WARNING,
				(errcode(error->sqlerrcode),
				 errmsg("rows of table \"%s\" outlive a TRUNCATE of another "
						"node: %s",
						RelationGetRelationName(target->relation),
						error->message),
				 errhint("The maintainer tries again every second.")));
}

static void
apply_floors(DcApplySet *set)
{
	ListCell *cell;

	foreach (cell, set->floors)
		apply_floor(set, lfirst(cell));
}

/* --- all of it --- */

/* How many from the first on fit the table as it is; deaths always do. */
static int
fitting(const DcTarget *target, const DcIncoming *items, int count)
{
	int n = 0;

	while (n < count &&
		   (target->late_complaint == NULL || items[n].change.entry.dead ||
			items[n].change.entry.stamp < target->until))
		n++;
	return n;
}

static void
apply_run(DcApplySet *set, DcIncoming *items, int count)
{
	DcTarget *target = items->target;

	if (!target->opened)
		dc_incoming_open(target);
	if (target->complaint != NULL)
	{
		for (int i = 0; i < count; i++)
			quarantine(set, &items[i], "YD023", target->complaint);
		return;
	}
	for (int i = 0; i < count;)
	{
		int n = fitting(target, &items[i], count - i);

		if (n > 0)
			apply_range(set, &items[i], n);
		else
			quarantine(set, &items[i], "YD023", target->late_complaint);
		i += Max(n, 1);
	}
	if (target->id == DC_CATALOGUE_ID)
		follow_definitions(items, count);
}

/* Definitions, then floors, then rows. */
static void
apply_all(DcApplySet *set)
{
	bool floors_applied = false;

	for (int i = 0; i < set->count;)
	{
		int n = dc_incoming_run(set, &set->items[i]);

		if (!floors_applied && set->items[i].target->id != DC_CATALOGUE_ID)
		{
			apply_floors(set);
			floors_applied = true;
		}
		apply_run(set, &set->items[i], n);
		i += n;
	}
	if (!floors_applied)
		apply_floors(set);
}

DcApplied
dc_apply_run(DcApplySet *set)
{
	if (set->latest != DC_HLC_NONE)
	{
		dc_clock_observe(set->latest);
		dc_clock_await_bound(set->latest); /* R14: a restart starts above */
	}
	dc_incoming_sort(set);
	dc_applying = true;
	PG_TRY();
	{
		apply_all(set);
	}
	PG_FINALLY();
	{
		dc_applying = false;
	}
	PG_END_TRY();
	dc_conflict_record(set);
	dc_incoming_close(set);
	if (set->result.stale > 0 && !set->copied)
		dc_flush_all(); /* what was here already must last as well */
	dc_count(DC_COUNT_APPLIED_BATCHES, 1);
	return set->result;
}
