/*
 * changes_ship.c
 *		At PRE_COMMIT: the changes made here, as a batch in the queue.
 *
 * Or as several in a file, if they are too large for that (spool.h); or as
 * nothing, if that does not work either: then the transaction is a gap in the
 * stream, and a catch-up sends it by key.
 */
#include "notes.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "images.h"
#include "queue.h"
#include "spool.h"

/* Beside key and image of a change, and beside dictionaries, at most (batch.h). */
#define CHANGE_BYTES 32
#define FRAME_BYTES  32

static Size
most_bytes(const DcNote *note)
{
	return CHANGE_BYTES + note->key_length + note->image_length;
}

/* What a batch begins and ends with, at most. */
static Size
frame_bytes(void)
{
	Size bytes = FRAME_BYTES;

	for (int i = 0; i < dc_xact.dictionary_count; i++)
		bytes += (Size) dc_xact.dictionaries[i].bytes.len;
	return bytes;
}

/* NULL: it cannot be read.  Who only counts bytes needs none. */
static const uint8 *
image_of(const DcNote *note, const DcWriter *w)
{
	if (!note->filed)
		return note->image.at;
	return w->data != NULL ?
			   dc_images_get(note->image.position, note->image_length) :
			   (const uint8 *) "";
}

/* False: its image cannot be read. */
static bool
serialize_note(DcWriter *w, const DcNote *note)
{
	DcKey key = dc_note_key(note);
	DcChange out = {.keyspace = (uint32) note->dictionary,
					.entry = dc_note_entry(note),
					.replaced = note->replaced,
					.reborn = note->reborn,
					.key = {key.data, key.length},
					.image = {image_of(note, w), note->image_length}};

	if (out.image.length > 0 && out.image.data == NULL)
		return false;
	dc_batch_change(w, &out);
	return true;
}

/*
 * Changes from *next on as a batch, as long as it takes no more bytes than
 * `full` or is only one; *next: where the rest begins.  Returns how many they
 * are, or -1 if an image cannot be read.
 */
static int64
serialize(DcWriter *w, int64 *next, Size full)
{
	int64 rows = 0;

	dc_batch_begin(w, (uint32) dc_xact.dictionary_count);
	for (int i = 0; i < dc_xact.dictionary_count; i++)
		dc_write_bytes(w, dc_xact.dictionaries[i].bytes.data,
					   (size_t) dc_xact.dictionaries[i].bytes.len);
	for (; *next < dc_xact.count; ++*next)
	{
		const DcNote *note = &dc_xact.notes[*next];

		if (!dc_note_is_shipped(note))
			continue;
		if (rows > 0 && w->length + most_bytes(note) > full)
			break;
		if (!serialize_note(w, note))
			return -1;
		rows++;
	}
	dc_batch_end(w);
	return rows;
}

/* All of them; -1 as there. */
static int64
serialize_all(DcWriter *w)
{
	int64 next = 0;

	return serialize(w, &next, SIZE_MAX);
}

/* --- a file --- */

/* Room for a chunk that begins there, of usually `full` bytes. */
static uint8 *
chunk_room(int64 from, Size full, uint8 *room, Size *size)
{
	Size needed = full;

	while (from < dc_xact.count && !dc_note_is_shipped(&dc_xact.notes[from]))
		from++;
	if (from < dc_xact.count)
		needed = Max(needed, frame_bytes() + most_bytes(&dc_xact.notes[from]));
	if (needed <= *size)
		return room;
	if (room != NULL)
		pfree(room);
	*size = needed;
	return MemoryContextAllocHuge(dc_xact.context, needed);
}

static bool
spool_chunks(void)
{
	Size full = frame_bytes() + DC_SPOOL_CHUNK_BYTES;
	uint8 *room = NULL;
	Size size = 0;

	for (int64 next = 0; next < dc_xact.count;)
	{
		DcWriter w;
		int64 rows;

		CHECK_FOR_INTERRUPTS();
		room = chunk_room(next, full, room, &size);
		dc_writer_init(&w, room, size);
		rows = serialize(&w, &next, full);
		if (rows < 0 || w.status != DC_OK ||
			!dc_spool_write((DcSlice){room, w.length}, (uint32) rows))
			return false;
		dc_xact.shipped += rows;
	}
	pfree(room);
	return true;
}

static void
spool(Size least)
{
	if (!dc_queue_is_needed())
		return;
	dc_xact.spool = dc_spool_begin(least);
	if (dc_xact.spool == 0)
		return;
	if (spool_chunks())
	{
		dc_spool_end();
		dc_xact.queued = dc_queue_reserve_spool(dc_xact.spool);
	}
	if (dc_xact.queued == DC_QUEUE_NONE)
	{
		dc_spool_abandon(dc_xact.spool);
		dc_xact.spool = 0;
	}
}

/* --- the queue --- */

/*
 * How long the batch is; a lower bound, where that is too long for the queue
 * already: then nobody reads all notes only to count.
 */
static Size
batch_bytes(void)
{
	DcWriter w;

	if (dc_xact.only_inserts && dc_queue_is_large(dc_xact.captured_bytes))
		return dc_xact.captured_bytes;
	dc_writer_init(&w, NULL, 0);
	(void) serialize_all(&w);
	return w.length;
}

void
dc_notes_reserve_queue(void)
{
	DcWriter w;
	uint8 *room;
	Size length;

	if (dc_xact.captured == 0)
		return;
	dc_xact.has_queued = true;
	if (dc_xact.by_key)
		return;
	length = batch_bytes();
	if (dc_queue_is_large(length))
	{
		spool(length);
		return;
	}
	dc_xact.queued = dc_queue_reserve(length, &room);
	if (dc_xact.queued == DC_QUEUE_NONE)
		return;
	dc_writer_init(&w, room, length);
	dc_xact.shipped = serialize_all(&w);
	if (dc_xact.shipped >= 0)
		return;
	dc_queue_abandon(dc_xact.queued);
	dc_xact.queued = DC_QUEUE_NONE;
	dc_xact.shipped = 0;
}
