/*
 * changes_settle.c
 *		A transaction's changes become entries: reserved at PRE_COMMIT, merged
 *		at COMMIT.
 */
#include "notes.h"

#include "clock.h"
#include "shmem.h"
#include "tombstone.h"

/* --- PRE_COMMIT --- */

static void
write_tombstones(void)
{
	DcTombstoneWriter *writer = NULL;

	for (int64 i = dc_xact.has_deaths ? 0 : dc_xact.count; i < dc_xact.count;
		 i++)
	{
		const DcNote *note = &dc_xact.notes[i];

		if (note->superseded || note->floor || !note->dead)
			continue;
		if (writer == NULL)
			writer = dc_tombstone_begin();
		dc_tombstone_add(writer, dc_keyspace(note->slot)->id, dc_note_key(note),
						 note->stamp);
	}
	if (writer != NULL)
		dc_tombstone_end(writer);
}

/* Made here, of a key that had no row. */
static bool
is_insert(const DcNote *note)
{
	return note->dictionary >= 0 && !note->dead &&
		   note->replaced == DC_HLC_NONE;
}

/* Rows that follow each other in one table are counted together. */
static void
expect_inserts(void)
{
	int64 next;

	for (int64 i = 0; i < dc_xact.count; i = next)
	{
		const DcNote *first = &dc_xact.notes[i];
		uint64 inserts = 0;

		for (next = i;
			 next < dc_xact.count && dc_xact.notes[next].slot == first->slot;
			 next++)
			inserts += is_insert(&dc_xact.notes[next]);
		dc_metadata_expect(first->slot, first->generation, inserts);
	}
}

static void
announce(DcNote *note)
{
	note->births = dc_birth_count(note->slot, note->hash);
	dc_death_announce(note->slot, note->hash, note->stamp);
	note->announced = true;
}

static void
reserve(DcNote *note)
{
	bool insert = is_insert(note);

	note->reserved =
		dc_metadata_reserve(note->slot, note->generation, dc_note_key(note),
							insert || note->absent);
	note->prepared = true;
	if (insert)
	{
		note->replaced = dc_metadata_death(note->slot, dc_note_key(note));
		note->reborn = note->replaced != DC_HLC_NONE;
	}
	if (note->dead && !note->announced)
		announce(note);
}

void
dc_notes_reserve(void)
{
	write_tombstones();
	if (dc_xact.count >= DC_MANY_INSERTS)
		expect_inserts();
	for (int64 i = 0; i < dc_xact.count; i++)
	{
		DcNote *note = &dc_xact.notes[i];

		if (!note->superseded && !note->floor)
			reserve(note);
	}
}

/* --- COMMIT --- */

void
dc_notes_raise_floors(void)
{
	for (int64 i = 0; i < dc_xact.count && dc_xact.has_floors; i++)
	{
		const DcNote *note = &dc_xact.notes[i];

		/* a table truncated here is empty, or newer than that */
		if (note->floor)
			dc_floor_raise(note->slot, note->generation, note->stamp,
						   note->dictionary >= 0);
	}
	if (dc_xact.has_floors)
		dc_worker_wake(DC_WORKER_MAINTAINER);
}

static void
merge(DcNote *note)
{
	DcKeyspace *keyspace = dc_keyspace(note->slot);
	DcHlc replaced = note->reborn ? DC_HLC_NONE : note->replaced;
	DcEntry entry = dc_note_entry(note);
	DcEntry found;

	pg_atomic_fetch_add_u64(note->dictionary >= 0 ? &keyspace->captured :
													&keyspace->applied,
							1);
	if (note->floor)
		return;
	found = dc_metadata_merge(note->slot, note->generation, dc_note_key(note),
							  entry, note->reserved);
	if (dc_rule_needs_reconcile(found, entry, replaced) ||
		(note->dead && note->births != dc_birth_count(note->slot, note->hash)))
		dc_reconcile_push(note->slot, dc_note_key(note));
}

static void
settle_death(const DcNote *note)
{
	if (!note->announced)
		return;
	if (note->floor)
		dc_floor_settle(note->slot);
	else
		dc_death_settle(note->slot, note->hash);
}

static void
settle(DcNote *note)
{
	/* not of a keyspace closed since our locks went */
	if (!note->superseded &&
		dc_keyspace(note->slot)->generation == note->generation)
		merge(note);
	settle_death(note);
}

static void
merge_in_turn(void)
{
	for (int64 i = 0; i < dc_xact.count; i++)
	{
		DcNote *note = &dc_xact.notes[i];

		if (i + DC_PREFETCH < dc_xact.count)
			dc_metadata_prefetch(note[DC_PREFETCH].slot,
								 note[DC_PREFETCH].hash);
		settle(note);
	}
}

/* The note first, then what it needs of the map. */
static void
fetch_ahead(const DcNote *notes, const DcHashOrder *order, int i)
{
	if (i + 2 * DC_PREFETCH < order->count)
		__builtin_prefetch(&notes[order->at[i + 2 * DC_PREFETCH]]);
	if (i + DC_PREFETCH < order->count)
	{
		const DcNote *later = &notes[order->at[i + DC_PREFETCH]];

		dc_metadata_prefetch(later->slot, later->hash);
	}
}

static void
merge_some_in_order(DcNote *notes, int count)
{
	DcHashOrder *order = dc_xact.order;

	order->count = count;
	for (int i = 0; i < count; i++)
		order->hashes[i] = notes[i].hash;
	dc_hash_order(order);
	for (int i = 0; i < count; i++)
	{
		fetch_ahead(notes, order, i);
		settle(&notes[order->at[i]]);
	}
}

/*
 * In the order of the maps: merges of different keys commute, and of one key
 * all but the last change are superseded.
 */
static void
merge_in_order(void)
{
	for (int64 i = 0; i < dc_xact.count; i += DC_ORDER_ITEMS)
		merge_some_in_order(&dc_xact.notes[i],
							(int) Min(dc_xact.count - i, DC_ORDER_ITEMS));
}

void
dc_notes_merge(void)
{
	if (dc_xact.order != NULL)
		merge_in_order();
	else
		merge_in_turn();
}

/* --- ABORT --- */

void
dc_note_give_back(DcNote *note)
{
	if (note->prepared)
		dc_metadata_unreserve(note->slot, note->generation, dc_note_key(note),
							  note->reserved);
	settle_death(note);
}
