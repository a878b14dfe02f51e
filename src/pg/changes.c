/*
 * changes.c
 *		What the running transaction changes is noted.
 */
#include "notes.h"

#include "access/xact.h"
#include "utils/memutils.h"

#include "guc.h"
#include "images.h"
#include "level_wait.h"
#include "queue.h"

#define ARENA_BLOCK_MIN 1024
#define ARENA_BLOCK_MAX (256 * 1024)
#define REDUCE_FROM     100000 /* notes: before the list grows */

/* --- memory --- */

void
dc_arena_init(DcArena *arena, const char *name)
{
	memset(arena, 0, sizeof(*arena));
	arena->block = ARENA_BLOCK_MIN;
	/* the name is a constant at all callers */
	arena->context = AllocSetContextCreateInternal(dc_xact.context, name,
												   ALLOCSET_DEFAULT_SIZES);
}

static uint8 *
arena_copy(DcArena *arena, const void *bytes, Size length)
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

/* P11: there is no room for images; the batch will be sent by key. */
static void
drop_images(void)
{
	dc_xact.by_key = true;
	dc_xact.filed = false;
	dc_images_end();
	MemoryContextReset(dc_xact.images.context);
	dc_xact.images.next = NULL;
	dc_xact.images.left = 0;
}

/* In memory; beyond that in a file, as long as anybody needs it. */
static void
keep_image(DcNote *note, const void *bytes, Size length)
{
	if (dc_xact.by_key)
		return;
	note->image_length = (uint32) length;
	dc_xact.captured_bytes += length;
	if (!dc_xact.filed && dc_xact.images.total + length <=
							  (Size) datacake_capture_memory_kb * 1024)
	{
		note->image.at = arena_copy(&dc_xact.images, bytes, length);
		return;
	}
	if (dc_xact.filed || dc_queue_is_needed())
		dc_xact.filed = note->filed =
			dc_images_put(bytes, length, &note->image.position);
	if (!note->filed)
		drop_images();
}

/* --- the list --- */

static void
move_key(DcNote *note)
{
	if (note->key_length > DC_NOTE_KEY_BYTES)
		note->key.at =
			arena_copy(&dc_xact.keys, note->key.at, note->key_length);
}

/*
 * A transaction that writes the same rows again and again needs no more room
 * than one that writes each once, as long as no savepoint may want them back.
 */
static void
make_room(void)
{
	int64 kept = 0;
	MemoryContext old_keys = dc_xact.keys.context;

	if (dc_xact.capacity >= REDUCE_FROM && !dc_xact.only_inserts &&
		GetCurrentTransactionNestLevel() == 1)
	{
		dc_notes_reduce();
		dc_arena_init(&dc_xact.keys, "datacake keys");
		for (int64 i = 0; i < dc_xact.count; i++)
		{
			DcNote *note = &dc_xact.notes[i];

			if (note->superseded && !note->announced)
				continue;
			move_key(note);
			dc_xact.notes[kept++] = *note;
		}
		dc_xact.count = kept;
		MemoryContextDelete(old_keys);
	}
	if (dc_xact.count <= dc_xact.capacity / 2)
		return;
	dc_xact.capacity *= 2;
	dc_xact.notes =
		repalloc_huge(dc_xact.notes, sizeof(DcNote) * (Size) dc_xact.capacity);
}

static DcNote *
add(int slot, DcKey key, DcEntry entry, DcHlc replaced)
{
	DcNote *note;

	Assert(slot <= UINT16_MAX && key.length <= UINT16_MAX);
	dc_transaction_touch();
	if (dc_xact.count == dc_xact.capacity)
		make_room();
	note = &dc_xact.notes[dc_xact.count];
	memset(note, 0, sizeof(*note));
	note->hash = key.hash;
	note->stamp = entry.stamp;
	note->dead = entry.dead;
	note->replaced = replaced;
	note->subid = GetCurrentSubTransactionId();
	note->command = GetCurrentCommandId(false);
	note->slot = (uint16) slot;
	note->generation = dc_keyspace(slot)->generation;
	note->dictionary = -1;
	note->key_length = (uint16) key.length;
	if (key.length <= DC_NOTE_KEY_BYTES)
		memcpy(note->key.bytes, key.data, key.length);
	else
		note->key.at = arena_copy(&dc_xact.keys, key.data, key.length);
	dc_xact.has_deaths |= entry.dead;
	dc_xact.count++;
	return note;
}

void
dc_note_take_back(void)
{
	DcNote *note = &dc_xact.notes[--dc_xact.count];

	dc_note_give_back(note);
	if (note->dictionary < 0)
		return;
	dc_xact.captured--;
	dc_xact.captured_bytes -= note->key_length + note->image_length;
}

/* --- changes made here --- */

static int16
dictionary_of(DcRel *rel)
{
	MemoryContext old;
	DcDictionary *entry;

	for (int i = dc_xact.dictionary_count - 1; i >= 0; i--)
	{
		if (dc_xact.dictionaries[i].generation == rel->generation)
			return (int16) i;
	}
	if (dc_xact.dictionary_count == DC_BATCH_KEYSPACES_MAX)
	{
		drop_images();
		return 0;
	}
	old = MemoryContextSwitchTo(dc_xact.context);
	if (dc_xact.dictionaries == NULL)
		dc_xact.dictionaries = palloc(sizeof(DcDictionary));
	else
		dc_xact.dictionaries =
			repalloc(dc_xact.dictionaries,
					 sizeof(DcDictionary) * (dc_xact.dictionary_count + 1));
	entry = &dc_xact.dictionaries[dc_xact.dictionary_count];
	entry->generation = rel->generation;
	initStringInfo(&entry->bytes);
	dc_rel_dictionary(rel, &entry->bytes);
	MemoryContextSwitchTo(old);
	return (int16) dc_xact.dictionary_count++;
}

/* It is to be shipped. */
static void
ship(DcNote *note, DcRel *rel, bool insert)
{
	note->dictionary = dc_xact.by_key ? 0 : dictionary_of(rel);
	dc_level_ask((DcLevel) datacake_consistency);
	if (!insert)
		dc_xact.only_inserts = false;
	dc_xact.captured++;
	dc_xact.captured_bytes += note->key_length;
}

void
dc_change_capture(DcRel *rel, const DcCaptured *captured, StringInfo image)
{
	DcNote *note = add(rel->slot, captured->key, captured->entry,
					   dc_transaction_foreign(captured->replaced));

	note->command = captured->command;
	note->ended = captured->ended;
	ship(note, rel, captured->insert);
	if (image != NULL)
		keep_image(note, image->data, (Size) image->len);
}

DcHlc
dc_change_own_death(int slot, DcKey key)
{
	const DcNote *last = NULL;

	for (int64 i = 0; i < (dc_xact.context == NULL ? 0 : dc_xact.count); i++)
	{
		const DcNote *note = &dc_xact.notes[i];

		if (note->slot != slot || note->dictionary < 0 ||
			(!note->floor && !dc_note_is_of(note, slot, key)))
			continue;
		if (last == NULL || last->floor || note->floor ||
			dc_note_stands(note, last))
			last = note;
	}
	return last != NULL && last->dead ? last->stamp : DC_HLC_NONE;
}

static DcNote *
add_floor(int slot, DcHlc stamp)
{
	DcNote *note = add(slot, dc_key_make((const uint8 *) "", 0),
					   (DcEntry){.stamp = stamp, .dead = true}, DC_HLC_NONE);

	note->floor = true;
	dc_xact.has_floors = true;
	return note;
}

DcHlc
dc_change_truncate(DcRel *rel, StringInfo known)
{
	DcHlc stamp = dc_transaction_fresh_stamp();
	DcNote *note = add_floor(rel->slot, stamp);

	ship(note, rel, false);
	keep_image(note, known->data, (Size) known->len);
	(void) dc_transaction_fresh_stamp(); /* what follows lies above it */
	return stamp;
}

bool
dc_change_truncated(int slot)
{
	for (int64 i = dc_xact.context == NULL ? 0 : dc_xact.count; i > 0; i--)
	{
		if (dc_xact.notes[i - 1].slot == slot)
			return dc_xact.notes[i - 1].floor;
	}
	return false;
}

void
dc_changes_gap(void)
{
	(void) dc_transaction_stamp();
	if (!dc_xact.by_key)
		drop_images();
	dc_xact.has_queued = true;
}

/* --- changes made elsewhere --- */

void
dc_change_apply(int slot, DcKey key, DcEntry entry, DcHlc replaced)
{
	(void) add(slot, key, entry, replaced);
}

void
dc_change_apply_new(int slot, DcKey key, DcEntry entry)
{
	add(slot, key, entry, DC_HLC_NONE)->absent = true;
}

void
dc_change_decide(int slot)
{
	for (int i = 0; i < dc_xact.reading_count; i++)
	{
		if (dc_xact.readings[i].slot == slot)
			return;
	}
	dc_transaction_touch();
	if (dc_xact.readings == NULL)
		dc_xact.readings =
			MemoryContextAlloc(dc_xact.context,
							   sizeof(DcReading) * datacake_max_keyspaces);
	if (dc_xact.reading_count == datacake_max_keyspaces)
		elog(ERROR, "too many keyspaces in one transaction");
	dc_xact.readings[dc_xact.reading_count++] =
		(DcReading){.slot = slot, .side = dc_metadata_enter(slot)};
}

void
dc_change_announce(int slot, DcKey key, DcHlc stamp)
{
	DcNote *note =
		add(slot, key, (DcEntry){.stamp = stamp, .dead = true}, DC_HLC_NONE);

	note->superseded = true; /* nothing to merge */
	dc_death_announce(slot, key.hash, stamp);
	note->announced = true;
}

void
dc_change_floor(int slot, DcHlc stamp)
{
	DcNote *note = add_floor(slot, stamp);

	dc_floor_announce(slot, stamp);
	note->announced = true;
}
