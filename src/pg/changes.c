/*
 * changes.c
 *		The changes of the running transaction, and what happens to them when
 *		it ends.
 */
#include "changes.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "batch.h"
#include "clock.h"
#include "guc.h"
#include "hash_order.h"
#include "images.h"
#include "level_wait.h"
#include "memory.h"
#include "queue.h"
#include "spool.h"
#include "tombstone.h"
#include "vector.h"

typedef struct Change
{
	int slot;
	uint32 generation; /* of the slot's use */
	int dictionary;    /* -1: applied, not to be shipped */
	SubTransactionId subid;
	CommandId command;   /* that wrote the row, or ended it */
	uint32 births;       /* late ones before our commit, if this is a death */
	bool superseded : 1; /* a later change of the key, or a TRUNCATE, stands */
	bool floor : 1;      /* a TRUNCATE: no key */
	bool absent : 1;     /* its key was not known here */
	bool prepared : 1;   /* its merge cannot fail any more */
	bool reserved : 1;   /* because of a reserved slot; else of a pin */
	bool announced : 1;  /* its death was announced */
	bool ended : 1;      /* the row was not there any more when noted */
	bool filed : 1;      /* its image is in a file (images.h) */
	DcEntry entry;
	DcHlc replaced; /* the row before, or else ... */
	DcHlc buried;   /* ... the death this row follows, if it is known */
	uint64 hash;
	uint32 key_length;
	uint32 image_length;
	uint8 *key;
	union
	{
		uint8 *image;
		uint64 position; /* filed */
	};
} Change;

/* A table as it looked when its changes were captured. */
typedef struct Dictionary
{
	uint64 generation;
	StringInfoData bytes;
} Dictionary;

/*
 * Bytes that live as long as the transaction.  Blocks grow, because a block
 * that outweighs a small transaction would be taken from the system and given
 * back by every one of them.
 */
typedef struct Arena
{
	MemoryContext context;
	uint8 *next;
	Size left;
	Size block;
	Size total;
} Arena;

/* A keyspace by whose entries the transaction decides (R8). */
typedef struct Reading
{
	int slot;
	int side;
} Reading;

typedef struct Transaction
{
	MemoryContext context; /* NULL: nothing happened yet */
	Change *changes;
	int64 count;
	int64 capacity;
	Arena keys;
	Arena images;
	Dictionary *dictionaries;
	int dictionary_count;
	Reading *readings;
	int reading_count;
	DcHlc *stamps; /* drawn, ascending; the last is current */
	int stamp_count;
	bool filed;  /* some images are in a file */
	bool by_key; /* images were dropped */
	bool only_inserts;
	bool has_floors; /* maybe; a savepoint may have dropped them */
	int64 captured;
	int64 shipped;      /* after deduplication */
	bool unsettled;     /* committed; to be settled after the locks */
	bool has_queued;    /* something must be published */
	uint64 queued;      /* reservation, or DC_QUEUE_NONE for a gap */
	uint64 spool;       /* its file, if it is too large for the queue */
	DcHashOrder *order; /* for the merges of many changes, or NULL */
} Transaction;

static Transaction xact;

#define ARENA_BLOCK_MIN 1024
#define ARENA_BLOCK_MAX (256 * 1024)
#define CHANGES_MIN     8
#define LARGE_CHANGES   100000

/* What a change takes in a batch beside key and image, at most (batch.h). */
#define CHANGE_BYTES 32

static void
arena_init(Arena *arena, const char *name)
{
	memset(arena, 0, sizeof(*arena));
	arena->block = ARENA_BLOCK_MIN;
	/* the name is a constant at both callers */
	arena->context = AllocSetContextCreateInternal(xact.context, name,
												   ALLOCSET_DEFAULT_SIZES);
}

static void
begin(void)
{
	MemoryContext old;

	if (xact.context != NULL)
		return;
	dc_memory_keep(DC_KEEP_WRITER);
	memset(&xact, 0, sizeof(xact));
	xact.context =
		AllocSetContextCreate(TopTransactionContext, "datacake changes",
							  ALLOCSET_DEFAULT_SIZES);
	arena_init(&xact.keys, "datacake keys");
	arena_init(&xact.images, "datacake images");
	old = MemoryContextSwitchTo(xact.context);
	xact.capacity = CHANGES_MIN;
	xact.changes = palloc(sizeof(Change) * xact.capacity);
	xact.stamps = palloc(sizeof(DcHlc) * 8);
	xact.only_inserts = true;
	xact.queued = DC_QUEUE_NONE;
	MemoryContextSwitchTo(old);
}

/* --- stamps --- */

DcHlc
dc_transaction_fresh_stamp(void)
{
	DcHlc stamp;

	if (pg_atomic_read_u32(&dc_shared->leaving) == 1)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this node is leaving the cluster"),
						errhint("Write to another node.")));
	begin();
	dc_slot_publish(); /* R1: the slot first, then the draw */
	stamp = dc_clock_draw();
	if (xact.stamp_count >= 8 &&
		(xact.stamp_count & (xact.stamp_count - 1)) == 0)
		xact.stamps =
			repalloc_huge(xact.stamps,
						  sizeof(DcHlc) * (Size) xact.stamp_count * 2);
	xact.stamps[xact.stamp_count++] = stamp;
	return stamp;
}

DcHlc
dc_transaction_stamp(void)
{
	if (xact.context == NULL || xact.stamp_count == 0)
		return dc_transaction_fresh_stamp();
	return xact.stamps[xact.stamp_count - 1];
}

bool
dc_transaction_owns(DcHlc stamp)
{
	int low = 0;
	int high = xact.context == NULL ? 0 : xact.stamp_count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (xact.stamps[middle] == stamp)
			return true;
		if (xact.stamps[middle] < stamp)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

DcHlc
dc_transaction_foreign(DcHlc stamp)
{
	return dc_transaction_owns(stamp) ? DC_HLC_NONE : stamp;
}

/* --- the list --- */

static uint8 *
arena_copy(Arena *arena, const void *bytes, Size length)
{
	uint8 *copy;

	if (length == 0)
		return (uint8 *) "";
	if (length > arena->left)
	{
		arena->left = Max(length, arena->block);
		arena->block = Min(arena->block * 2, ARENA_BLOCK_MAX);
		arena->next = MemoryContextAllocHuge(arena->context, arena->left);
	}
	copy = arena->next;
	memcpy(copy, bytes, length);
	arena->next += length;
	arena->left -= length;
	arena->total += length;
	return copy;
}

/*
 * Of two changes of one key, noted in this order, does the second one stand?
 * Not always: what a statement wrote is noted at its end, maybe after what its
 * own triggers and functions made of it.
 *
 * A row that is there when it is noted is the newest of its key; of one that is
 * not, the end has a note of its own.  A death is older than a row noted before
 * it, if that row was written by a later command: that key had been free.  By
 * the same one, too: it moved the key from one row to another.
 */
static bool
stands(const Change *second, const Change *first)
{
	if (!second->entry.dead)
		return !second->ended;
	return first->entry.dead || first->ended ||
		   second->command > first->command;
}

static DcKey
key_of(const Change *change)
{
	return (DcKey){.data = change->key,
				   .length = change->key_length,
				   .hash = change->hash};
}

static bool
is_of(const Change *change, int slot, DcKey key)
{
	return change->hash == key.hash && change->slot == slot &&
		   change->key_length == key.length &&
		   memcmp(change->key, key.data, key.length) == 0;
}

static void
supersede(Change *older, Change *newer)
{
	older->superseded = true;
	if (older->replaced != DC_HLC_NONE)
		newer->replaced = older->replaced;
}

/*
 * Keeps the last change of each key, with what the first one replaced.  A
 * transaction that only inserted cannot have a key twice.
 */
static void
deduplicate(void)
{
	uint64 size = 16;
	int64 *table;

	if (xact.captured < 2 || xact.only_inserts)
		return;
	while (size < (uint64) xact.count * 2)
		size *= 2;
	table = MemoryContextAllocHuge(xact.context, sizeof(int64) * size);
	memset(table, 0, sizeof(int64) * size);
	for (int64 i = 0; i < xact.count; i++)
	{
		Change *change = &xact.changes[i];
		uint64 at = change->hash & (size - 1);
		int64 next = i + 1;

		if (change->superseded)
			continue;
		for (; table[at] != 0; at = (at + 1) & (size - 1))
		{
			Change *first = &xact.changes[table[at] - 1];

			if (!is_of(first, change->slot, key_of(change)))
				continue;
			if (stands(change, first))
				supersede(first, change);
			else
			{
				supersede(change, first);
				next = table[at];
			}
			break;
		}
		table[at] = next;
	}
	pfree(table);
}

/*
 * What this transaction wrote to a table before it truncated it is gone, and
 * replaces nothing that comes after.
 */
static void
bury_truncated(void)
{
	for (int64 i = xact.has_floors ? xact.count : 0; i > 0; i--)
	{
		const Change *floor = &xact.changes[i - 1];

		if (!floor->floor || floor->superseded)
			continue;
		for (int64 k = 0; k < xact.count; k++)
		{
			Change *change = &xact.changes[k];

			if (change != floor && change->slot == floor->slot &&
				change->entry.stamp <= floor->entry.stamp)
				change->superseded = true;
		}
	}
}

/*
 * Only what stands in the end.  Not while a savepoint may bring something
 * back.
 */
static void
reduce(void)
{
	bury_truncated();
	deduplicate();
}

/*
 * A transaction that writes the same rows again and again needs no more room
 * than one that writes each once, as long as no savepoint may want them back.
 */
static void
make_room(void)
{
	int64 kept = 0;
	MemoryContext old_keys = xact.keys.context;

	if (xact.capacity >= LARGE_CHANGES && !xact.only_inserts &&
		GetCurrentTransactionNestLevel() == 1)
	{
		reduce();
		arena_init(&xact.keys, "datacake keys");
		for (int64 i = 0; i < xact.count; i++)
		{
			Change *change = &xact.changes[i];

			if (change->superseded && !change->announced)
				continue;
			change->key =
				arena_copy(&xact.keys, change->key, change->key_length);
			xact.changes[kept++] = *change;
		}
		xact.count = kept;
		MemoryContextDelete(old_keys);
	}
	if (xact.count <= xact.capacity / 2)
		return;
	xact.capacity *= 2;
	xact.changes =
		repalloc_huge(xact.changes, sizeof(Change) * (Size) xact.capacity);
}

static Change *
add(int slot, DcKey key, DcEntry entry, DcHlc replaced)
{
	Change *change;

	begin();
	if (xact.count == xact.capacity)
		make_room();
	change = &xact.changes[xact.count];
	memset(change, 0, sizeof(*change));
	change->slot = slot;
	change->generation = dc_keyspace(slot)->generation;
	change->dictionary = -1;
	change->subid = GetCurrentSubTransactionId();
	change->entry = entry;
	change->replaced = replaced;
	change->command = GetCurrentCommandId(false);
	change->hash = key.hash;
	change->key_length = (uint32) key.length;
	change->key = arena_copy(&xact.keys, key.data, key.length);
	xact.count++;
	return change;
}

static int
dictionary_of(DcRel *rel)
{
	MemoryContext old;
	Dictionary *entry;

	for (int i = xact.dictionary_count - 1; i >= 0; i--)
	{
		if (xact.dictionaries[i].generation == rel->generation)
			return i;
	}
	old = MemoryContextSwitchTo(xact.context);
	if (xact.dictionaries == NULL)
		xact.dictionaries = palloc(sizeof(Dictionary));
	else
		xact.dictionaries =
			repalloc(xact.dictionaries,
					 sizeof(Dictionary) * (xact.dictionary_count + 1));
	entry = &xact.dictionaries[xact.dictionary_count];
	entry->generation = rel->generation;
	initStringInfo(&entry->bytes);
	dc_rel_dictionary(rel, &entry->bytes);
	MemoryContextSwitchTo(old);
	return xact.dictionary_count++;
}

/* P11: there is no room for images; the batch will be sent by key. */
static void
drop_images(void)
{
	xact.by_key = true;
	xact.filed = false;
	dc_images_end();
	MemoryContextReset(xact.images.context);
	xact.images.next = NULL;
	xact.images.left = 0;
}

/* In memory; beyond that in a file, as long as anybody needs it. */
static void
keep_image(Change *change, const void *bytes, Size length)
{
	if (xact.by_key)
		return;
	change->image_length = (uint32) length;
	if (!xact.filed &&
		xact.images.total + length <= (Size) datacake_capture_memory_kb * 1024)
	{
		change->image = arena_copy(&xact.images, bytes, length);
		return;
	}
	if (xact.filed || dc_queue_is_needed())
		xact.filed = change->filed =
			dc_images_put(bytes, length, &change->position);
	if (!change->filed)
		drop_images();
}

/* The change was made here and is to be shipped. */
static void
ship(Change *change, DcRel *rel, bool insert)
{
	change->dictionary = dictionary_of(rel);
	dc_level_ask((DcLevel) datacake_consistency);
	if (!insert)
		xact.only_inserts = false;
	xact.captured++;
	if (xact.dictionary_count > DC_BATCH_KEYSPACES_MAX && !xact.by_key)
		drop_images();
}

void
dc_change_capture(DcRel *rel, const DcCaptured *captured, StringInfo image)
{
	Change *change = add(rel->slot, captured->key, captured->entry,
						 dc_transaction_foreign(captured->replaced));

	change->command = captured->command;
	change->ended = captured->ended;
	ship(change, rel, captured->insert);
	if (image != NULL)
		keep_image(change, image->data, (Size) image->len);
}

void
dc_change_apply(int slot, DcKey key, DcEntry entry, DcHlc replaced)
{
	(void) add(slot, key, entry, replaced);
}

DcHlc
dc_change_own_death(int slot, DcKey key)
{
	const Change *last = NULL;

	for (int64 i = 0; i < (xact.context == NULL ? 0 : xact.count); i++)
	{
		const Change *change = &xact.changes[i];

		if (change->slot != slot || change->dictionary < 0 ||
			(!change->floor && !is_of(change, slot, key)))
			continue;
		if (last == NULL || last->floor || change->floor ||
			stands(change, last))
			last = change;
	}
	return last != NULL && last->entry.dead ? last->entry.stamp : DC_HLC_NONE;
}

void
dc_change_apply_new(int slot, DcKey key, DcEntry entry)
{
	add(slot, key, entry, DC_HLC_NONE)->absent = true;
}

void
dc_change_decide(int slot)
{
	for (int i = 0; i < xact.reading_count; i++)
	{
		if (xact.readings[i].slot == slot)
			return;
	}
	begin();
	if (xact.readings == NULL)
		xact.readings =
			MemoryContextAlloc(xact.context,
							   sizeof(Reading) * datacake_max_keyspaces);
	if (xact.reading_count == datacake_max_keyspaces)
		elog(ERROR, "too many keyspaces in one transaction");
	xact.readings[xact.reading_count++] =
		(Reading){.slot = slot, .side = dc_metadata_enter(slot)};
}

/* It has acted, or never will. */
static void
end_readings(void)
{
	for (int i = 0; i < xact.reading_count; i++)
		dc_metadata_leave(xact.readings[i].slot, xact.readings[i].side);
	xact.reading_count = 0;
}

void
dc_change_announce(int slot, DcKey key, DcHlc stamp)
{
	Change *change =
		add(slot, key, (DcEntry){.stamp = stamp, .dead = true}, DC_HLC_NONE);

	change->superseded = true; /* nothing to merge */
	dc_death_announce(slot, key.hash, stamp);
	change->announced = true;
}

static Change *
add_floor(int slot, DcHlc stamp)
{
	Change *change = add(slot, dc_key_make((const uint8 *) "", 0),
						 (DcEntry){.stamp = stamp, .dead = true}, DC_HLC_NONE);

	change->floor = true;
	xact.has_floors = true;
	return change;
}

DcHlc
dc_change_truncate(DcRel *rel, StringInfo known)
{
	DcHlc stamp = dc_transaction_fresh_stamp();
	Change *change = add_floor(rel->slot, stamp);

	ship(change, rel, false);
	keep_image(change, known->data, (Size) known->len);
	(void) dc_transaction_fresh_stamp(); /* what follows lies above it */
	return stamp;
}

bool
dc_change_truncated(int slot)
{
	for (int64 i = xact.context == NULL ? 0 : xact.count; i > 0; i--)
	{
		if (xact.changes[i - 1].slot == slot)
			return xact.changes[i - 1].floor;
	}
	return false;
}

void
dc_change_floor(int slot, DcHlc stamp)
{
	Change *change = add_floor(slot, stamp);

	dc_floor_announce(slot, stamp);
	change->announced = true;
}

void
dc_changes_gap(void)
{
	(void) dc_transaction_stamp();
	if (!xact.by_key)
		drop_images();
	xact.has_queued = true;
}

/* --- PRE_COMMIT: everything that can fail --- */

static bool
is_shipped(const Change *change)
{
	return !change->superseded && change->dictionary >= 0;
}

/*
 * What stands must be newer than what the transaction found.  It is, unless a
 * row was stamped before a function in the same statement deleted one of its
 * key that is newer; a stamp of another try will be above both.  What is above
 * our last stamp is none that was drawn: it was written by hand.
 */
static void
check_newer(void)
{
	DcHlc last =
		xact.stamp_count > 0 ? xact.stamps[xact.stamp_count - 1] : DC_HLC_NONE;

	for (int64 i = xact.only_inserts ? xact.count : 0; i < xact.count; i++)
	{
		const Change *change = &xact.changes[i];

		if (is_shipped(change) && change->replaced >= change->entry.stamp &&
			change->replaced <= last)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent "
							"update"),
					 errdetail("A row was stamped before a newer one of its "
							   "key was deleted in the same statement."),
					 errhint("The transaction might succeed if retried.")));
	}
}

static void
write_tombstones(void)
{
	DcTombstoneWriter *writer = NULL;

	for (int64 i = 0; i < xact.count; i++)
	{
		Change *change = &xact.changes[i];

		if (change->superseded || change->floor || !change->entry.dead)
			continue;
		if (writer == NULL)
			writer = dc_tombstone_begin();
		dc_tombstone_add(writer, dc_keyspace(change->slot)->id, key_of(change),
						 change->entry.stamp);
	}
	if (writer != NULL)
		dc_tombstone_end(writer);
}

/* Made here, of a key that had no row. */
static bool
is_insert(const Change *change)
{
	return change->dictionary >= 0 && !change->entry.dead &&
		   change->replaced == DC_HLC_NONE;
}

/* Rows that follow each other in one table are counted together. */
static void
expect_inserts(void)
{
	int64 next;

	for (int64 i = 0; i < xact.count; i = next)
	{
		const Change *first = &xact.changes[i];
		uint64 inserts = 0;

		for (next = i;
			 next < xact.count && xact.changes[next].slot == first->slot;
			 next++)
			inserts += is_insert(&xact.changes[next]);
		dc_metadata_expect(first->slot, first->generation, inserts);
	}
}

static void
reserve_and_announce(void)
{
	if (xact.count >= DC_MANY_INSERTS)
		expect_inserts();
	for (int64 i = 0; i < xact.count; i++)
	{
		Change *change = &xact.changes[i];
		bool insert;

		if (change->superseded || change->floor)
			continue;
		insert = is_insert(change);
		change->reserved =
			dc_metadata_reserve(change->slot, change->generation,
								key_of(change), insert || change->absent);
		change->prepared = true;
		if (insert)
			change->buried = dc_metadata_death(change->slot, key_of(change));
		if (change->entry.dead && !change->announced)
		{
			change->births = dc_birth_count(change->slot, change->hash);
			dc_death_announce(change->slot, change->hash, change->entry.stamp);
			change->announced = true;
		}
	}
}

/* NULL: it cannot be read.  Who only counts bytes needs none. */
static const uint8 *
image_of(const Change *change, const DcWriter *w)
{
	if (!change->filed)
		return change->image;
	return w->data != NULL ?
			   dc_images_get(change->position, change->image_length) :
			   (const uint8 *) "";
}

/*
 * The changes [from, to) as a batch.  Returns how many are shipped, or -1 if an
 * image cannot be read.
 */
static int64
serialize(DcWriter *w, int64 from, int64 to)
{
	int64 count = 0;

	dc_batch_begin(w, (uint32) xact.dictionary_count);
	for (int i = 0; i < xact.dictionary_count; i++)
		dc_write_bytes(w, xact.dictionaries[i].bytes.data,
					   (size_t) xact.dictionaries[i].bytes.len);
	for (int64 i = from; i < to; i++)
	{
		Change *change = &xact.changes[i];
		DcChange out = {
			.keyspace = (uint32) change->dictionary,
			.entry = change->entry,
			.replaced = change->replaced != DC_HLC_NONE ? change->replaced :
														  change->buried,
			.reborn = change->buried != DC_HLC_NONE,
			.key = {change->key, change->key_length},
		};

		if (!is_shipped(change))
			continue;
		out.image = (DcSlice){image_of(change, w), change->image_length};
		if (out.image.length > 0 && out.image.data == NULL)
			return -1;
		dc_batch_change(w, &out);
		count++;
	}
	dc_batch_end(w);
	return count;
}

/* Where a chunk of the spool ends that begins there, and what it may take. */
static int64
chunk_end(int64 from, Size *bytes)
{
	*bytes = CHANGE_BYTES;
	for (int i = 0; i < xact.dictionary_count; i++)
		*bytes += (Size) xact.dictionaries[i].bytes.len;
	for (Size full = *bytes + DC_SPOOL_CHUNK_BYTES;
		 from < xact.count && *bytes < full; from++)
	{
		const Change *change = &xact.changes[from];

		if (is_shipped(change))
			*bytes += CHANGE_BYTES + change->key_length + change->image_length;
	}
	return from;
}

static bool
spool_chunk(int64 from, int64 to, Size bytes)
{
	uint8 *room = MemoryContextAllocHuge(xact.context, bytes);
	DcWriter w;
	int64 rows;
	bool written;

	dc_writer_init(&w, room, bytes);
	rows = serialize(&w, from, to);
	written = rows >= 0 && w.status == DC_OK &&
			  dc_spool_write((DcSlice){room, w.length}, (uint32) rows);
	pfree(room);
	if (written)
		xact.shipped += rows;
	return written;
}

static bool
spool_chunks(void)
{
	int64 to;

	for (int64 from = 0; from < xact.count; from = to)
	{
		Size bytes;

		CHECK_FOR_INTERRUPTS();
		to = chunk_end(from, &bytes);
		if (!spool_chunk(from, to, bytes))
			return false;
	}
	return true;
}

/*
 * Into a file, if anybody needs it; where that does not work, the transaction
 * stays a gap.
 */
static void
spool(Size length)
{
	if (!dc_queue_is_needed())
		return;
	xact.spool = dc_spool_begin(length);
	if (xact.spool == 0)
		return;
	if (spool_chunks())
	{
		dc_spool_end();
		xact.queued = dc_queue_reserve_spool(xact.spool);
	}
	if (xact.queued == DC_QUEUE_NONE)
	{
		dc_spool_abandon(xact.spool);
		xact.spool = 0;
	}
}

static void
reserve_queue(void)
{
	DcWriter w;
	uint8 *room;

	if (xact.captured == 0)
		return;
	xact.has_queued = true;
	if (xact.by_key)
		return;
	dc_writer_init(&w, NULL, 0);
	(void) serialize(&w, 0, xact.count);
	if (dc_queue_is_large(w.length))
	{
		spool(w.length);
		return;
	}
	xact.queued = dc_queue_reserve(w.length, &room);
	if (xact.queued == DC_QUEUE_NONE)
		return;
	dc_writer_init(&w, room, w.length);
	xact.shipped = serialize(&w, 0, xact.count);
	if (xact.shipped >= 0)
		return;
	dc_queue_abandon(xact.queued);
	xact.queued = DC_QUEUE_NONE;
	xact.shipped = 0;
}

static void
pre_commit(void)
{
	MemoryContext old;

	if (xact.context == NULL || xact.count == 0)
		return;
	old = MemoryContextSwitchTo(xact.context);
	if (xact.captured > 0)
		dc_level_check();
	reduce();
	check_newer();
	write_tombstones();
	reserve_and_announce();
	reserve_queue();
	dc_images_end();
	if (xact.count >= DC_MANY_INSERTS)
		xact.order = palloc(sizeof(DcHashOrder));
	dc_settling_begin();
	MemoryContextSwitchTo(old);
}

/* --- COMMIT: nothing that can fail --- */

/* While the locks are held: who gets them then finds the floor. */
static void
raise_floors(void)
{
	for (int64 i = 0; i < xact.count && xact.has_floors; i++)
	{
		const Change *change = &xact.changes[i];

		/* a table truncated here is empty, or newer than that */
		if (change->floor)
			dc_floor_raise(change->slot, change->generation,
						   change->entry.stamp, change->dictionary >= 0);
	}
	if (xact.has_floors)
		dc_worker_wake(DC_WORKER_MAINTAINER);
}

static void
merge(Change *change)
{
	DcKeyspace *keyspace = dc_keyspace(change->slot);
	DcKey key = key_of(change);
	DcEntry found;

	pg_atomic_fetch_add_u64(change->dictionary >= 0 ? &keyspace->captured :
													  &keyspace->applied,
							1);
	if (change->floor)
		return;
	found = dc_metadata_merge(change->slot, change->generation, key,
							  change->entry, change->reserved);
	if (dc_rule_needs_reconcile(found, change->entry, change->replaced) ||
		(change->entry.dead &&
		 change->births != dc_birth_count(change->slot, change->hash)))
		dc_reconcile_push(change->slot, key);
}

static void
settle_death(const Change *change)
{
	if (!change->announced)
		return;
	if (change->floor)
		dc_floor_settle(change->slot);
	else
		dc_death_settle(change->slot, change->hash);
}

static void
settle_change(Change *change)
{
	/* not of a keyspace closed since our locks went */
	if (!change->superseded &&
		dc_keyspace(change->slot)->generation == change->generation)
		merge(change);
	settle_death(change);
}

static void
settle_in_turn(void)
{
	for (int64 i = 0; i < xact.count; i++)
	{
		Change *change = &xact.changes[i];

		if (i + DC_PREFETCH < xact.count)
			dc_metadata_prefetch(change[DC_PREFETCH].slot,
								 change[DC_PREFETCH].hash);
		settle_change(change);
	}
}

static void
settle_some_in_order(Change *changes, int count)
{
	DcHashOrder *order = xact.order;

	order->count = count;
	for (int i = 0; i < count; i++)
		order->hashes[i] = changes[i].hash;
	dc_hash_order(order);
	for (int i = 0; i < count; i++)
	{
		if (i + DC_PREFETCH < count)
		{
			const Change *later = &changes[order->at[i + DC_PREFETCH]];

			dc_metadata_prefetch(later->slot, later->hash);
		}
		settle_change(&changes[order->at[i]]);
	}
}

/*
 * In the order of the maps: merges of different keys commute, and of one key
 * all but the last change are superseded.
 */
static void
settle_in_order(void)
{
	for (int64 i = 0; i < xact.count; i += DC_ORDER_ITEMS)
		settle_some_in_order(&xact.changes[i],
							 (int) Min(xact.count - i, DC_ORDER_ITEMS));
}

/* Merges, publishes, and lets the watermark pass. */
static void
settle(void)
{
	if (xact.order != NULL)
		settle_in_order();
	else
		settle_in_turn();
	if (xact.has_queued)
	{
		uint64 number =
			dc_queue_publish(xact.queued, (uint32) xact.shipped,
							 XactLastCommitEnd, dc_now_us(), dc_level_asked());

		dc_level_committed(number, xact.stamps[xact.stamp_count - 1]);
	}
	end_readings(); /* after the merges: keys to be mended are queued */
	dc_settling_end();
	dc_slot_clear(); /* also where the draw behind it failed */
	if (xact.has_queued)
		dc_replicator_has_news(dc_level_asked());
	dc_end_quiet();
}

/*
 * A large transaction settles after its locks are gone, so that nobody waits
 * for its merge but its own client (P5); its slot holds the watermark back
 * until then.
 */
static void
at_commit(void)
{
	if (xact.context != NULL)
	{
		/* before the merge: who reads an entry finds L beyond its commit */
		dc_raise(&dc_shared->flush_lsn, XactLastCommitEnd);
		raise_floors();
		if (xact.count > LARGE_CHANGES)
		{
			xact.unsettled = true;
			return;
		}
		settle();
	}
	dc_vector_at_commit();
}

static void
give_back(Change *change)
{
	if (change->prepared)
		dc_metadata_unreserve(change->slot, change->generation, key_of(change),
							  change->reserved);
	settle_death(change);
}

static void
at_abort(void)
{
	if (xact.context != NULL)
	{
		for (int64 i = 0; i < xact.count; i++)
			give_back(&xact.changes[i]);
		end_readings();
		dc_settling_end();
		if (xact.queued != DC_QUEUE_NONE)
			dc_queue_abandon(xact.queued);
		if (xact.spool != 0)
			dc_spool_abandon(xact.spool);
		dc_slot_clear();
	}
	dc_vector_at_abort();
}

/* The memory goes with TopTransactionContext. */
static void
forget(void)
{
	memset(&xact, 0, sizeof(xact));
	xact.queued = DC_QUEUE_NONE;
	dc_images_end();
	dc_level_forget();
}

static void
on_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			pre_commit();
			return;
		case XACT_EVENT_PRE_PREPARE:
			if (xact.context != NULL && xact.count > 0)
				ereport(ERROR,
						(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						 errmsg("cannot PREPARE a transaction that has "
								"written to a replicated table"),
						 errhint("Commit it without PREPARE TRANSACTION.")));
			return;
		case XACT_EVENT_COMMIT:
			at_commit();
			if (xact.unsettled)
				return;
			break;
		case XACT_EVENT_PREPARE: /* a stamp was drawn, nothing written */
		case XACT_EVENT_ABORT:
			at_abort();
			break;
		default:
			return;
	}
	forget();
}

static void
on_resource_release(ResourceReleasePhase phase, bool is_commit,
					bool is_top_level, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_commit || !is_top_level)
		return;
	if (xact.unsettled)
	{
		settle();
		dc_vector_at_commit();
		forget();
	}
	dc_level_wait(); /* P4 */
}

/*
 * A subtransaction's changes, and those of all it contained, have ids from
 * its own on, and lie at the end of the list.
 */
static void
on_subtransaction_event(SubXactEvent event, SubTransactionId subid,
						SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	dc_level_subabort(subid);
	if (xact.context == NULL)
		return;
	while (xact.count > 0 && xact.changes[xact.count - 1].subid >= subid)
	{
		Change *change = &xact.changes[--xact.count];

		give_back(change);
		if (change->dictionary >= 0)
			xact.captured--;
	}
}

void
dc_changes_init(void)
{
	RegisterXactCallback(on_transaction_event, NULL);
	RegisterSubXactCallback(on_subtransaction_event, NULL);
	RegisterResourceReleaseCallback(on_resource_release, NULL);
}
