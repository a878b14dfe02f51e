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
 * row the metadata does (P2, dc_rule_apply).  A death is announced before its
 * row is looked for (P1).  Rows keep their original stamps.  Writing goes as
 * the table's owner, with replica semantics, below the triggers of ours.
 */
#include "apply.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "capture.h"
#include "changes.h"
#include "clock.h"
#include "keyspace.h"
#include "sql.h"
#include "table.h"
#include "vector.h"

/* A keyspace as one batch describes it, and what is here for it. */
typedef struct Target
{
	uint64 id;
	DcSlice dictionary; /* the bytes of its dictionary entry */
	int image_columns;
	DcSlice *names;
	DcSlice *types;
	int slot;
	bool opened; /* relation was tried */
	Relation relation;
	DcRel *rel;
	DcColumn **columns;    /* by image column; NULL: not here */
	const char *complaint; /* why no row can be written */
	bool unique;           /* has unique indexes beside its key */
} Target;

typedef struct Incoming
{
	Target *target;
	DcChange change;
	DcKey key;
	bool exact;
	DcHlc row; /* stamp of the locked row, once found */
	DcApply decision;
} Incoming;

struct DcApplySet
{
	List *targets;
	Incoming *items;
	int count;
	int capacity;
	DcHlc latest;
	uint64 definition; /* for realize() */
	bool retry; /* changes that waited: their entries are there already */
	DcApplied result;
	DcVv vector;
};

DcApplySet *
dc_apply_begin(bool retry)
{
	DcApplySet *set = palloc0(sizeof(DcApplySet));

	set->capacity = 64;
	set->items = palloc(sizeof(Incoming) * set->capacity);
	set->retry = retry;
	dc_vector_read(&set->vector);
	return set;
}

/* --- reading --- */

static void
malformed(DcStatus status, size_t offset)
{
	ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '1', '1')),
					errmsg("batch is refused: %s", dc_status_text(status)),
					errdetail("At byte %zu.", offset)));
}

static Target *
read_target(DcApplySet *set, DcReader *r)
{
	Target *target = palloc0(sizeof(Target));
	DcBatchKeyspace keyspace;
	size_t start = r->offset;

	dc_batch_read_keyspace(r, &keyspace);
	target->id = keyspace.id;
	target->image_columns =
		r->status == DC_OK ? (int) keyspace.column_count : 0;
	target->names = palloc(sizeof(DcSlice) * (target->image_columns + 1));
	target->types = palloc(sizeof(DcSlice) * (target->image_columns + 1));
	for (int i = 0; i < target->image_columns; i++)
		dc_batch_read_column(r, &target->names[i], &target->types[i]);
	target->dictionary =
		(DcSlice){r->data + start, r->status == DC_OK ? r->offset - start : 0};
	set->targets = lappend(set->targets, target);
	return target;
}

static void
add_item(DcApplySet *set, Target *target, const DcChange *change, bool exact)
{
	Incoming *item;

	if (set->count == set->capacity)
	{
		set->capacity *= 2;
		set->items =
			repalloc_huge(set->items, sizeof(Incoming) * (Size) set->capacity);
	}
	item = &set->items[set->count++];
	memset(item, 0, sizeof(*item));
	item->target = target;
	item->change = *change;
	item->key = dc_key_make(change->key.data, change->key.length);
	item->exact = exact;
	set->latest = Max(set->latest, change->entry.stamp);
}

void
dc_apply_add(DcApplySet *set, DcSlice batch, bool exact)
{
	DcReader r;
	uint32 count;
	Target **targets;
	DcChange change;

	dc_reader_init(&r, batch.data, batch.length);
	count = dc_batch_read_begin(&r);
	targets = palloc(sizeof(Target *) * (count + 1));
	for (uint32 i = 0; i < count && r.status == DC_OK; i++)
		targets[i] = read_target(set, &r);
	while (r.status == DC_OK && dc_batch_read_change(&r, count, &change))
		add_item(set, targets[change.keyspace], &change, exact);
	if (dc_reader_finish(&r) != DC_OK)
		malformed(r.status, r.offset);
}

/* --- what is here for a keyspace of the batch --- */

static bool
slice_is(DcSlice slice, const char *text)
{
	return slice.length == strlen(text) &&
		   memcmp(slice.data, text, slice.length) == 0;
}

static void
map_columns(Target *target)
{
	DcRel *rel = target->rel;

	target->columns = palloc0(sizeof(DcColumn *) * (target->image_columns + 1));
	for (int i = 0; i < target->image_columns; i++)
	{
		for (int k = 0; k < rel->column_count; k++)
		{
			if (slice_is(target->names[i], rel->columns[k].name))
				target->columns[i] = &rel->columns[k];
		}
		if (target->columns[i] == NULL)
			target->complaint = psprintf("column \"%.*s\" does not exist here",
										 (int) target->names[i].length,
										 (const char *) target->names[i].data);
		else if (!slice_is(target->types[i], target->columns[i]->type_name))
			target->complaint =
				psprintf("column \"%s\" is of type %s here and of type %.*s at the "
						 "source",
						 target->columns[i]->name,
						 target->columns[i]->type_name,
						 (int) target->types[i].length,
						 (const char *) target->types[i].data);
	}
}

/* Finds table and columns; what is missing becomes the complaint. */
static void
open_target(Target *target)
{
	Oid relid;
	List *indexes;

	target->opened = true;
	target->slot = dc_keyspace_by_id(target->id);
	if (target->slot < 0)
		ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '3')),
						errmsg("keyspace %llu is not known here",
							   (unsigned long long) target->id)));
	relid = dc_keyspace(target->slot)->relid;
	if (!OidIsValid(relid))
	{
		target->complaint = "its table does not exist here yet";
		return;
	}
	if (!ConditionalLockRelationOid(relid, RowExclusiveLock))
	{
		PG_TRY();
		{
			LockRelationOid(relid, RowExclusiveLock); /* lock_timeout */
		}
		PG_CATCH();
		{
			ErrorData *error;

			MemoryContextSwitchTo(TopTransactionContext);
			error = CopyErrorData();
			if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
				PG_RE_THROW();
			FlushErrorState();
			target->complaint = "its table is locked";
		}
		PG_END_TRY();
		if (target->complaint != NULL)
			return;
	}
	target->relation = try_relation_open(relid, NoLock);
	if (target->relation != NULL)
		target->rel = dc_rel(target->relation);
	if (target->rel == NULL)
	{
		target->complaint = "its table is gone";
		return;
	}
	map_columns(target);
	indexes = RelationGetIndexList(target->relation);
	target->unique = list_length(indexes) > 1;
	list_free(indexes);
}

/* --- one row --- */

/* The whole row; columns that the source does not have keep their value. */
static void
load_image(DcTable *table, Incoming *item, bool over_local)
{
	TupleTableSlot *slot = table->remote;
	Target *target = item->target;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * target->rel->natts);
	if (over_local)
	{
		slot_getallattrs(table->local);
		memcpy(slot->tts_values, table->local->tts_values,
			   sizeof(Datum) * target->rel->natts);
		memcpy(slot->tts_isnull, table->local->tts_isnull,
			   sizeof(bool) * target->rel->natts);
	}
	dc_rel_image_decode(target->columns, target->image_columns,
						item->change.image.data, item->change.image.length,
						slot->tts_values, slot->tts_isnull);
	slot->tts_values[target->rel->stamp_attnum - 1] =
		Int64GetDatum((int64) item->change.entry.stamp);
	slot->tts_isnull[target->rel->stamp_attnum - 1] = false;
	ExecStoreVirtualTuple(slot);
}

/*
 * Finds and locks the row, waiting for writers in progress; decides.  A death
 * is announced before (P1): an insert that this does not see will see it.
 */
static void
find_and_decide(DcApplySet *set, DcTable *table, Incoming *item)
{
	Target *target = item->target;
	DcEntry entry;

	if (item->change.entry.dead)
		dc_change_announce(target->slot, item->key, item->change.entry.stamp);
	item->row =
		dc_table_find(table, item->change.key.data, item->change.key.length);
	entry = dc_metadata_get(target->slot, item->key);
	if (set->retry && entry.stamp == item->change.entry.stamp)
		entry = (DcEntry){DC_HLC_NONE, false}; /* it is this very change */
	item->decision =
		dc_rule_apply(item->row, entry, item->change.entry, DC_HLC_NONE,
					  pg_atomic_read_u64(&dc_keyspace(target->slot)->floor));
	if (item->row == DC_HLC_NONE && entry.stamp == DC_HLC_NONE && !set->retry &&
		dc_vv_covers(&set->vector, item->change.entry.stamp))
		dc_count(DC_COUNT_LOCAL_LOSSES, 1);
}

/* Did the writer of this change not know of what is here? */
static bool
is_conflict(DcApplySet *set, const Incoming *item)
{
	DcHlc here = item->row;

	if (!item->exact || dc_vv_covers(&set->vector, item->change.entry.stamp))
		return false;
	if (here == DC_HLC_NONE)
	{
		DcEntry entry = dc_metadata_get(item->target->slot, item->key);

		/* an insert after the death of its key is no conflict */
		if (item->change.replaced == DC_HLC_NONE &&
			item->change.entry.stamp > entry.stamp)
			return false;
		here = entry.stamp;
	}
	return here > item->change.replaced && here != item->change.entry.stamp;
}

static void
note(DcApplySet *set, Incoming *item)
{
	if (is_conflict(set, item))
		pg_atomic_fetch_add_u64(&dc_keyspace(item->target->slot)->conflicts, 1);
	if (item->decision == DC_APPLY_STALE || item->decision == DC_APPLY_SAME)
	{
		set->result.stale++;
		return;
	}
	set->result.applied++;
	dc_change_apply(item->target->slot, item->key, item->change.entry,
					item->row);
}

/* First pass: everything but the rows that must wait for the second. */
static void
apply_item(DcApplySet *set, DcTable *table, Incoming *item)
{
	bool found;

	find_and_decide(set, table, item);
	found = item->row != DC_HLC_NONE;
	if (item->decision == DC_APPLY_ERASE)
		dc_table_delete(table);
	else if (item->decision == DC_APPLY_STORE)
	{
		if (item->target->unique)
		{
			if (found)
				dc_table_delete(table); /* P3: free values before use */
			return;
		}
		load_image(table, item, found);
		if (found)
			dc_table_update(table);
		else
			dc_table_insert(table);
	}
	note(set, item);
}

/* Second pass of a table with more unique indexes: the rows. */
static void
apply_stored(DcApplySet *set, DcTable *table, Incoming *item)
{
	if (item->decision != DC_APPLY_STORE)
		return;
	load_image(table, item, false);
	dc_table_insert(table);
	note(set, item);
}

/* Items of one table, in the current (sub)transaction. */
static void
apply_table(DcApplySet *set, Incoming *items, int count)
{
	Target *target = items->target;
	DcRole role = dc_role_begin(target->rel->owner, true);
	DcTable table;

	PushActiveSnapshot(GetTransactionSnapshot());
	dc_table_open(&table, target->relation, target->rel);
	for (int pass = 0; pass < (target->unique ? 2 : 1); pass++)
	{
		for (int i = 0; i < count; i++)
		{
			CHECK_FOR_INTERRUPTS();
			if (pass == 0)
				apply_item(set, &table, &items[i]);
			else
				apply_stored(set, &table, &items[i]);
			ResetPerTupleExprContext(table.estate);
		}
	}
	dc_table_close(&table);
	PopActiveSnapshot();
	dc_role_end(role);
}

/* --- what cannot be applied --- */

static char *
mini_batch(const Incoming *item, size_t *length)
{
	Size room = item->target->dictionary.length + item->change.key.length +
				item->change.image.length + 64;
	char *bytes = palloc(room);
	DcChange change = item->change;
	DcWriter w;

	change.keyspace = 0;
	dc_writer_init(&w, bytes, room);
	dc_batch_begin(&w, 1);
	dc_write_bytes(&w, item->target->dictionary.data,
				   item->target->dictionary.length);
	dc_batch_change(&w, &change);
	dc_batch_end(&w);
	*length = w.length;
	return bytes;
}

/*
 * P12: the change waits in a table, its entry stands in the metadata, and it
 * is served from here.
 */
static void
quarantine(DcApplySet *set, Incoming *item, const char *sqlstate,
		   const char *message)
{
	Oid types[6] = {INT8OID, BYTEAOID, INT8OID, BYTEAOID, TEXTOID, TEXTOID};
	Datum values[6];
	size_t length;
	char *batch = mini_batch(item, &length);
	DcEntry entry = dc_metadata_get(item->target->slot, item->key);

	set->result.waiting++;
	dc_count(DC_COUNT_QUARANTINED, 1);
	if (entry.stamp > item->change.entry.stamp)
		return; /* something newer is here or waits */
	values[0] = Int64GetDatum((int64) dc_keyspace(item->target->slot)->id);
	values[1] = PointerGetDatum(
		cstring_to_text_with_len((const char *) item->change.key.data,
								 (int) item->change.key.length));
	values[2] = Int64GetDatum((int64) item->change.entry.stamp);
	values[3] = PointerGetDatum(cstring_to_text_with_len(batch, (int) length));
	values[4] = CStringGetTextDatum(sqlstate);
	values[5] = CStringGetTextDatum(message);
	if (SPI_execute_with_args("INSERT INTO datacake.quarantine AS q (keyspace, key, stamp, "
							  "change, sqlstate, message) "
							  "VALUES ($1, $2, $3::datacake.hlc, $4, $5, $6) "
							  "ON CONFLICT (keyspace, key) DO UPDATE SET "
							  "stamp = excluded.stamp, change = excluded.change, "
							  "sqlstate = excluded.sqlstate, message = excluded.message, "
							  "tries = q.tries + 1, "
							  "retry_at = pg_catalog.clock_timestamp() + "
							  "  least(60, pg_catalog.power(2, least(q.tries, 6))) "
							  "  * interval '1 s' "
							  "WHERE q.stamp <= excluded.stamp",
							  6, types, values, NULL, false, 0) < 0)
		elog(ERROR, "could not put a row into the quarantine");
	dc_change_apply(item->target->slot, item->key, item->change.entry,
					DC_HLC_NONE);
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
try_in_subtransaction(void (*work)(DcApplySet *, Incoming *, int),
					  DcApplySet *set, Incoming *items, int count)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	DcApplied before = set->result;
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
		if (!blames_row(error))
			ReThrowError(error);
	}
	PG_END_TRY();
	return error;
}

/*
 * A bad row is found by halving.  What failed in company is tried again
 * alone; a lock that does not come is not waited for twice as long.
 */
static void
apply_range(DcApplySet *set, Incoming *items, int count)
{
	ErrorData *error = try_in_subtransaction(apply_table, set, items, count);

	if (error == NULL)
		return;
	if (count == 1)
	{
		quarantine(set, items, unpack_sql_state(error->sqlerrcode),
				   error->message);
		return;
	}
	(void) set_config_option("lock_timeout", "100ms", PGC_USERSET,
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
realize(DcApplySet *set, Incoming *items, int count)
{
	PushActiveSnapshot(GetTransactionSnapshot());
	dc_keyspace_realize(set->definition);
	PopActiveSnapshot();
}

bool
dc_apply_definition(uint64 id)
{
	char id_text[32];
	const char *arguments[3] = {id_text, NULL, NULL};
	DcApplySet set = {.definition = id};
	ErrorData *error;

	error = try_in_subtransaction(realize, &set, NULL, 0);
	if (error == NULL)
		return true;
	snprintf(id_text, sizeof(id_text), "%llu", (unsigned long long) id);
	arguments[1] = unpack_sql_state(error->sqlerrcode);
	arguments[2] = error->message;
	dc_sql("INSERT INTO datacake.unrealized (id, sqlstate, message) "
		   "VALUES ($1::bigint, $2, $3) ON CONFLICT (id) DO UPDATE SET "
		   "sqlstate = excluded.sqlstate, message = excluded.message",
		   3, arguments);
	/* the keyspace is known all the same, and its rows wait */
	if (dc_sql("SELECT key_bytes FROM datacake.keyspace WHERE id = "
			   "$1::bigint",
			   1, arguments) == 1)
		(void) dc_keyspace_enter(id, InvalidOid,
								 (uint32) atoi(dc_sql_text(0, 1)));
	return false;
}

/* The row of a definition was written or deleted; follow it. */
static void
follow_definition(Incoming *item)
{
	uint64 id = id_of_key(item->change.key);

	dc_applying = false; /* existing rows are this node's own (P7) */
	if (item->decision == DC_APPLY_STORE)
		(void) dc_apply_definition(id);
	else if (item->decision == DC_APPLY_ERASE)
		dc_keyspace_dissolve(id);
	dc_applying = true;
}

/* --- all of it --- */

/* Definitions first; then by table, key and stamp. */
static int
compare_items(const void *left, const void *right)
{
	const Incoming *a = left;
	const Incoming *b = right;
	size_t common = Min(a->key.length, b->key.length);
	int order;

	if (a->target->id != b->target->id)
		return a->target->id < b->target->id ? -1 : 1;
	order = memcmp(a->key.data, b->key.data, common);
	if (order == 0 && a->key.length != b->key.length)
		order = a->key.length < b->key.length ? -1 : 1;
	if (order == 0 && a->change.entry.stamp != b->change.entry.stamp)
		order = a->change.entry.stamp < b->change.entry.stamp ? -1 : 1;
	return order;
}

static bool
same_item_key(const Incoming *a, const Incoming *b)
{
	return a->target->id == b->target->id && a->key.length == b->key.length &&
		   memcmp(a->key.data, b->key.data, a->key.length) == 0;
}

/* Leaves the newest change of each key, with what the oldest replaced. */
static void
sort_and_thin(DcApplySet *set)
{
	int kept = 0;

	qsort(set->items, (size_t) set->count, sizeof(Incoming), compare_items);
	for (int i = 0; i < set->count; i++)
	{
		if (kept > 0 && same_item_key(&set->items[kept - 1], &set->items[i]))
		{
			set->items[i].change.replaced =
				set->items[kept - 1].change.replaced;
			set->items[kept - 1] = set->items[i];
		}
		else
			set->items[kept++] = set->items[i];
	}
	set->count = kept;
}

/* Items of one target, from `items` on. */
static int
run_length(DcApplySet *set, Incoming *items)
{
	int n = 1;

	while (items + n < set->items + set->count &&
		   items[n].target == items->target)
		n++;
	return n;
}

static void
apply_run(DcApplySet *set, Incoming *items, int count)
{
	Target *target = items->target;

	if (!target->opened)
		open_target(target);
	if (target->complaint != NULL)
	{
		for (int i = 0; i < count; i++)
			quarantine(set, &items[i], "YD023", target->complaint);
		return;
	}
	apply_range(set, items, count);
	if (target->id == DC_CATALOGUE_ID)
	{
		for (int i = 0; i < count; i++)
			follow_definition(&items[i]);
	}
}

static void
close_targets(DcApplySet *set)
{
	ListCell *cell;

	foreach (cell, set->targets)
	{
		Target *target = lfirst(cell);

		if (target->relation != NULL)
			relation_close(target->relation, NoLock);
	}
}

DcApplied
dc_apply_run(DcApplySet *set)
{
	if (set->latest != DC_HLC_NONE)
		dc_clock_observe(set->latest);
	sort_and_thin(set);
	dc_applying = true;
	PG_TRY();
	{
		for (int i = 0; i < set->count;)
		{
			int n = run_length(set, &set->items[i]);

			apply_run(set, &set->items[i], n);
			i += n;
		}
	}
	PG_FINALLY();
	{
		dc_applying = false;
	}
	PG_END_TRY();
	close_targets(set);
	dc_count(DC_COUNT_APPLIED_BATCHES, 1);
	return set->result;
}
