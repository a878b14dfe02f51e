/*
 * incoming.c
 *		What a call brings, and what is here for it.
 */
#include "incoming.h"

#include "access/htup_details.h"
#include "access/relation.h"
#include "access/xact.h"
#include "catalog/pg_index.h"
#include "miscadmin.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "storage/sinvaladt.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

#include "batch.h"
#include "partition.h"
#include "vector.h"

DcApplySet *
dc_apply_begin(bool retry)
{
	DcApplySet *set = palloc0(sizeof(DcApplySet));

	set->capacity = 64;
	set->items = palloc(sizeof(DcIncoming) * set->capacity);
	set->retry = retry;
	dc_vector_read(&set->vector);
	return set;
}

void
dc_apply_again(DcApplySet *set)
{
	set->again = true;
	set->below_horizon = true;
}

void
dc_apply_copied(DcApplySet *set)
{
	set->copied = true;
	set->below_horizon = true; /* R5: a scan of a donor that reaches it */
}

/* --- reading --- */

static void
malformed(DcStatus status, size_t offset)
{
	ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '1', '1')),
					errmsg("batch is refused: %s", dc_status_text(status)),
					errdetail("At byte %zu.", offset)));
}

static DcTarget *
read_target(DcApplySet *set, DcReader *r)
{
	DcTarget *target = palloc0(sizeof(DcTarget));
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

static DcIncoming *
new_floor(DcApplySet *set)
{
	DcIncoming *item = palloc(sizeof(DcIncoming));

	set->floors = lappend(set->floors, item);
	return item;
}

static DcIncoming *
new_item(DcApplySet *set)
{
	if (set->count == set->capacity)
	{
		set->capacity *= 2;
		set->items = repalloc_huge(set->items,
								   sizeof(DcIncoming) * (Size) set->capacity);
	}
	return &set->items[set->count++];
}

static void
add_change(DcApplySet *set, DcTarget *target, const DcChange *change,
		   bool exact)
{
	bool floor = dc_change_is_floor(change);
	DcIncoming *item = floor ? new_floor(set) : new_item(set);

	memset(item, 0, sizeof(*item));
	item->target = target;
	item->change = *change;
	item->key = dc_key_make(change->key.data, change->key.length);
	item->exact = exact;
	item->floor = floor;
	item->order = set->count;
	set->latest = Max(set->latest, change->entry.stamp);
}

void
dc_apply_add(DcApplySet *set, DcSlice batch, bool exact)
{
	DcReader r;
	uint32 count;
	DcTarget **targets;
	DcBatchFloors floors = {{0}};
	DcChange change;

	dc_reader_init(&r, batch.data, batch.length);
	count = dc_batch_read_begin(&r);
	targets = palloc(sizeof(DcTarget *) * (count + 1));
	for (uint32 i = 0; i < count && r.status == DC_OK; i++)
		targets[i] = read_target(set, &r);
	while (r.status == DC_OK &&
		   dc_batch_read_change(&r, count, &floors, &change))
		add_change(set, targets[change.keyspace], &change, exact);
	if (dc_reader_finish(&r) != DC_OK)
		malformed(r.status, r.offset);
}

/* --- order --- */

/* Definitions first; then by table, key and stamp. */
static int
compare_items(const void *left, const void *right)
{
	const DcIncoming *a = left;
	const DcIncoming *b = right;
	size_t common = Min(a->key.length, b->key.length);
	int order;

	if (a->target->id != b->target->id)
		return a->target->id < b->target->id ? -1 : 1;
	order = memcmp(a->key.data, b->key.data, common);
	if (order == 0 && a->key.length != b->key.length)
		order = a->key.length < b->key.length ? -1 : 1;
	if (order == 0 && a->change.entry.stamp != b->change.entry.stamp)
		order = a->change.entry.stamp < b->change.entry.stamp ? -1 : 1;
	return order != 0 ? order : a->order - b->order;
}

static bool
same_item_key(const DcIncoming *a, const DcIncoming *b)
{
	return a->target->id == b->target->id && a->key.length == b->key.length &&
		   memcmp(a->key.data, b->key.data, a->key.length) == 0;
}

/*
 * Of two changes of one key only the later one is applied.  If it replaced
 * just the earlier one, together they replaced what that one did; if not, it
 * knew of something newer.
 */
static void
replace(DcIncoming *earlier, const DcIncoming *later)
{
	DcChange first = earlier->change;

	*earlier = *later;
	if (later->change.replaced != first.entry.stamp)
		return;
	earlier->change.replaced = first.replaced;
	earlier->change.reborn =
		(first.reborn || later->change.reborn) && !later->change.entry.dead;
}

void
dc_incoming_sort(DcApplySet *set)
{
	int kept = 0;

	qsort(set->items, (size_t) set->count, sizeof(DcIncoming), compare_items);
	for (int i = 0; i < set->count; i++)
	{
		if (kept > 0 && same_item_key(&set->items[kept - 1], &set->items[i]))
		{
			replace(&set->items[kept - 1], &set->items[i]);
		}
		else
			set->items[kept++] = set->items[i];
	}
	set->count = kept;
}

DcHlc
dc_incoming_floor(const DcApplySet *set, int slot)
{
	DcHlc floor = dc_floor(slot);
	ListCell *cell;

	foreach (cell, set->floors)
	{
		const DcIncoming *item = lfirst(cell);

		if (item->target->opened && item->target->slot == slot &&
			item->decision == DC_APPLY_ERASE)
			floor = Max(floor, item->change.entry.stamp);
	}
	return floor;
}

int
dc_incoming_run(const DcApplySet *set, const DcIncoming *items)
{
	int n = 1;

	while (items + n < set->items + set->count &&
		   items[n].target == items->target)
		n++;
	return n;
}

/* --- what is here for a keyspace of the batch --- */

static bool
slice_is(DcSlice slice, const char *text)
{
	return slice.length == strlen(text) &&
		   memcmp(slice.data, text, slice.length) == 0;
}

void
dc_incoming_map(DcTarget *target, DcRel *rel)
{
	target->rel = rel;
	target->columns = palloc0(sizeof(DcColumn *) * (target->image_columns + 1));
	target->same_columns = target->image_columns == rel->column_count;
	for (int i = 0; i < target->image_columns; i++)
	{
		for (int k = 0; k < rel->column_count; k++)
		{
			if (slice_is(target->names[i], rel->columns[k].name))
				target->columns[i] = &rel->columns[k];
		}
		target->same_columns &= target->columns[i] == &rel->columns[i];
		if (target->complaint != NULL)
			continue; /* the first one is told */
		if (target->columns[i] == NULL)
			target->complaint = psprintf("column \"%.*s\" does not exist here",
										 (int) target->names[i].length,
										 (const char *) target->names[i].data);
		else if (!slice_is(target->types[i], target->columns[i]->type_name))
		{
			target->same_columns = false;
			target->complaint =
				psprintf("column \"%s\" is of type %s here and of type %.*s at the "
						 "source",
						 target->columns[i]->name,
						 target->columns[i]->type_name,
						 (int) target->types[i].length,
						 (const char *) target->types[i].data);
		}
	}
}

/* P13: names one process that holds the table. */
static const char *
locked_by(Oid relid)
{
	LOCKTAG tag;
	int count;
	VirtualTransactionId *holders;
	PGPROC *holder = NULL;

	SET_LOCKTAG_RELATION(tag, MyDatabaseId, relid);
	holders = GetLockConflicts(&tag, RowExclusiveLock, &count);
	if (count > 0)
		holder = BackendIdGetProc(holders[0].backendId);
	return holder == NULL ?
			   "its table is locked" :
			   psprintf("its table is locked by process %d", holder->pid);
}

bool
dc_incoming_lock_missed(const ErrorData *error)
{
	return error->sqlerrcode == ERRCODE_LOCK_NOT_AVAILABLE ||
		   error->sqlerrcode == ERRCODE_T_R_DEADLOCK_DETECTED;
}

/*
 * Waits for the locks of a table and its partitions as long as lock_timeout
 * says; false if one does not come.
 */
static bool
await_locks(Oid relid)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile bool locked = true;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		LockRelationOid(relid, RowExclusiveLock);
		(void) dc_partition_leaves(relid, RowExclusiveLock);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (!dc_incoming_lock_missed(error))
			ReThrowError(error);
		locked = false;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return locked;
}

/* Locks a table with its partitions; false if that takes too long. */
static bool
lock_table(Oid relid)
{
	TimestampTz begin = GetCurrentTimestamp();
	bool locked = dc_partition_try_lock(relid, RowExclusiveLock);

	while (!locked && !TimestampDifferenceExceeds(begin, GetCurrentTimestamp(),
												  DC_PATIENCE_MS))
	{
		CHECK_FOR_INTERRUPTS();
		locked = await_locks(relid);
	}
	return locked;
}

/* Can a row be refused because of another one?  Exclusion is meant, too. */
static bool
is_exclusive(Oid index)
{
	HeapTuple tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	bool exclusive = false;

	if (HeapTupleIsValid(tuple))
	{
		Form_pg_index form = (Form_pg_index) GETSTRUCT(tuple);

		exclusive = form->indisunique || form->indisexclusion;
		ReleaseSysCache(tuple);
	}
	return exclusive;
}

/* Beside that of the key.  A partition may have some of its own. */
static bool
has_more_exclusive(Relation relation)
{
	bool more = false;
	ListCell *cell;

	foreach (cell, dc_partition_leaves(RelationGetRelid(relation), NoLock))
	{
		Relation leaf = relation_open(lfirst_oid(cell), NoLock);
		int count = 0;
		ListCell *index;

		foreach (index, RelationGetIndexList(leaf))
			count += is_exclusive(lfirst_oid(index));
		more |= count > 1;
		relation_close(leaf, NoLock);
	}
	return more;
}

void
dc_incoming_open(DcTarget *target)
{
	Oid relid;

	target->opened = true;
	target->slot = dc_keyspace_find(target->id, &target->generation);
	dc_keyspace_require(target->slot, target->generation, target->id);
	relid = dc_keyspace(target->slot)->relid;
	if (!OidIsValid(relid))
	{
		target->complaint = "its table does not exist here yet";
		return;
	}
	if (!lock_table(relid))
	{
		target->complaint = locked_by(relid);
		return;
	}
	/* who held the lock may have made it an ordinary table */
	dc_keyspace_require(target->slot, target->generation, target->id);
	target->relation = try_relation_open(relid, NoLock);
	if (target->relation != NULL)
		target->rel = dc_rel(target->relation);
	if (target->rel == NULL)
	{
		target->complaint = "its table is gone";
		return;
	}
	dc_incoming_map(target, target->rel);
	if (!target->same_columns)
		dc_shape_fit(target);
	target->unique = has_more_exclusive(target->relation);
}

void
dc_incoming_close(DcApplySet *set)
{
	ListCell *cell;

	foreach (cell, set->targets)
	{
		DcTarget *target = lfirst(cell);

		if (target->relation != NULL)
			relation_close(target->relation, NoLock);
	}
}

/* --- one item --- */

/* Over the values that the slot has. */
static void
decode(const DcIncoming *item, TupleTableSlot *slot)
{
	DcTarget *target = item->target;

	dc_rel_image_decode(target->columns, target->image_columns,
						item->change.image.data, item->change.image.length,
						slot->tts_values, slot->tts_isnull);
	slot->tts_values[target->rel->stamp_attnum - 1] =
		Int64GetDatum((int64) item->change.entry.stamp);
	slot->tts_isnull[target->rel->stamp_attnum - 1] = false;
	if (target->shape != NULL)
		dc_shape_complete(target->shape, slot);
	ExecStoreVirtualTuple(slot);
}

void
dc_incoming_decode(const DcIncoming *item, TupleTableSlot *slot)
{
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * item->target->rel->natts);
	decode(item, slot);
}

void
dc_incoming_image(DcTable *table, const DcIncoming *item, bool over_local)
{
	TupleTableSlot *slot = table->remote;
	int natts = item->target->rel->natts;

	if (!over_local)
	{
		dc_incoming_decode(item, slot);
		return;
	}
	ExecClearTuple(slot);
	slot_getallattrs(table->local);
	memcpy(slot->tts_values, table->local->tts_values, sizeof(Datum) * natts);
	memcpy(slot->tts_isnull, table->local->tts_isnull, sizeof(bool) * natts);
	decode(item, slot);
}

bytea *
dc_incoming_batch_of(DcSlice dictionary, const DcChange *change)
{
	Size room =
		dictionary.length + change->key.length + change->image.length + 64;
	bytea *batch = palloc(VARHDRSZ + room);
	DcChange alone = *change;
	DcWriter w;

	alone.keyspace = 0;
	dc_writer_init(&w, VARDATA(batch), room);
	dc_batch_begin(&w, 1);
	dc_write_bytes(&w, dictionary.data, dictionary.length);
	dc_batch_change(&w, &alone);
	dc_batch_end(&w);
	SET_VARSIZE(batch, VARHDRSZ + w.length);
	return batch;
}

bytea *
dc_incoming_batch(const DcIncoming *item)
{
	return dc_incoming_batch_of(item->target->dictionary, &item->change);
}
