/*
 * changes_reduce.c
 *		Which of a transaction's changes stand in the end.
 */
#include "notes.h"

#include "utils/memutils.h"

/*
 * Not always the second one: what a statement wrote is noted at its end, maybe
 * after what its own triggers and functions made of it.
 *
 * A row that is there when it is noted is the newest of its key; of one that is
 * not, the end has a note of its own.  A death is older than a row noted before
 * it, if that row was written by a later command: that key had been free.  By
 * the same one, too: it moved the key from one row to another.
 */
bool
dc_note_stands(const DcNote *second, const DcNote *first)
{
	if (!second->dead)
		return !second->ended;
	return first->dead || first->ended || second->command > first->command;
}

bool
dc_note_is_of(const DcNote *note, int slot, DcKey key)
{
	return note->hash == key.hash && note->slot == slot &&
		   note->key_length == key.length &&
		   memcmp(dc_note_key(note).data, key.data, key.length) == 0;
}

static void
supersede(DcNote *older, DcNote *newer)
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

	if (dc_xact.captured < 2 || dc_xact.only_inserts)
		return;
	while (size < (uint64) dc_xact.count * 2)
		size *= 2;
	table = MemoryContextAllocHuge(dc_xact.context, sizeof(int64) * size);
	memset(table, 0, sizeof(int64) * size);
	for (int64 i = 0; i < dc_xact.count; i++)
	{
		DcNote *note = &dc_xact.notes[i];
		uint64 at = note->hash & (size - 1);
		int64 next = i + 1;

		if (note->superseded)
			continue;
		for (; table[at] != 0; at = (at + 1) & (size - 1))
		{
			DcNote *first = &dc_xact.notes[table[at] - 1];

			if (!dc_note_is_of(first, note->slot, dc_note_key(note)))
				continue;
			if (dc_note_stands(note, first))
				supersede(first, note);
			else
			{
				supersede(note, first);
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
	for (int64 i = dc_xact.has_floors ? dc_xact.count : 0; i > 0; i--)
	{
		const DcNote *floor = &dc_xact.notes[i - 1];

		if (!floor->floor || floor->superseded)
			continue;
		for (int64 k = 0; k < dc_xact.count; k++)
		{
			DcNote *note = &dc_xact.notes[k];

			if (note != floor && note->slot == floor->slot &&
				note->stamp <= floor->stamp)
				note->superseded = true;
		}
	}
}

void
dc_notes_reduce(void)
{
	bury_truncated();
	deduplicate();
}

/*
 * What stands is newer than what was found, unless a row was stamped before a
 * function in the same statement deleted one of its key that is newer; a stamp
 * of another try will be above both.  What is above our last stamp is none that
 * was drawn: it was written by hand.
 */
void
dc_notes_check_newer(void)
{
	DcHlc last = dc_xact.stamp_count > 0 ?
					 dc_xact.stamps[dc_xact.stamp_count - 1] :
					 DC_HLC_NONE;

	for (int64 i = dc_xact.only_inserts ? dc_xact.count : 0; i < dc_xact.count;
		 i++)
	{
		const DcNote *note = &dc_xact.notes[i];

		if (dc_note_is_shipped(note) && note->replaced >= note->stamp &&
			note->replaced <= last)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent "
							"update"),
					 errdetail("A row was stamped before a newer one of its "
							   "key was deleted in the same statement."),
					 errhint("The transaction might succeed if retried.")));
	}
}
