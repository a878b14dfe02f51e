/*
 * images.c
 *		Row images for which a transaction has no memory left, in a file.
 */
#include "images.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "spool.h"

#define BUFFER_BYTES (256 * 1024)

/* Part of the file, in memory: what is still to be written, or was just read. */
typedef struct Window
{
	uint8 *bytes;
	uint64 start;
	Size length;
	Size capacity;
} Window;

static struct
{
	uint64 id; /* 0: there is no file */
	File file;
	Window tail; /* behind what is in the file */
	Window read;
} images;

/* What was in it is lost. */
static void
enlarge(Window *window, Size capacity)
{
	uint8 *bytes;

	if (capacity <= window->capacity)
		return;
	bytes = MemoryContextAllocHuge(TopTransactionContext, capacity);
	if (window->bytes != NULL)
		pfree(window->bytes);
	window->bytes = bytes;
	window->capacity = capacity;
}

static bool
write_tail(void)
{
	Window *tail = &images.tail;

	if (tail->length == 0)
		return true;
	if (!dc_spool_grow(images.id, tail->length) ||
		!dc_spool_put(images.file, tail->bytes, tail->length,
					  (off_t) tail->start))
		return false;
	tail->start += tail->length;
	tail->length = 0;
	return true;
}

bool
dc_images_put(const void *bytes, Size length, uint64 *position)
{
	Window *tail = &images.tail;

	if (images.id == 0)
		images.id = dc_spool_create(&images.file);
	if (images.id == 0 ||
		(tail->length + length > BUFFER_BYTES && !write_tail()))
		return false;
	enlarge(tail, Max(length, BUFFER_BYTES));
	*position = tail->start + tail->length;
	memcpy(tail->bytes + tail->length, bytes, length);
	tail->length += length;
	return true;
}

static bool
read_from(uint64 position, Size length)
{
	Window *read = &images.read;
	int got;

	if (!write_tail())
		return false;
	enlarge(read, Max(length, BUFFER_BYTES));
	read->length = 0;
	got = FileRead(images.file, (char *) read->bytes, (int) read->capacity,
				   (off_t) position, WAIT_EVENT_BUFFILE_READ);
	if (got < (int) length)
	{
		ereport(LOG, (errmsg("could not read file \"%s\"",
							 FilePathName(images.file))));
		return false;
	}
	read->start = position;
	read->length = (Size) got;
	return true;
}

const uint8 *
dc_images_get(uint64 position, Size length)
{
	Window *read = &images.read;

	if ((position < read->start ||
		 position + length > read->start + read->length) &&
		!read_from(position, length))
		return NULL;
	return read->bytes + (position - read->start);
}

/* The memory goes with TopTransactionContext. */
void
dc_images_end(void)
{
	uint64 id = images.id;

	if (id == 0)
		return;
	images.id = 0;
	FileClose(images.file);
	dc_spool_remove(id);
	memset(&images, 0, sizeof(images));
}
