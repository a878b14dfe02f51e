/*
 * images.c
 *		Row images for which a transaction has no memory left, in a file.
 */
#include "images.h"

#include <fcntl.h>
#include <unistd.h>

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "guc.h"
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
	bool open;
	File file;
	char path[MAXPGPATH];
	Window tail; /* behind what is in the file */
	Window read;
} images;

static bool
begin(void)
{
	if (images.open)
		return true;
	dc_spool_path("images", (uint64) MyProcPid, images.path);
	images.file =
		PathNameOpenFile(images.path, O_CREAT | O_TRUNC | O_RDWR | PG_BINARY);
	if (images.file < 0)
	{
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not create file \"%s\": %m", images.path)));
		return false;
	}
	images.open = true;
	images.tail.capacity = BUFFER_BYTES;
	images.tail.bytes =
		MemoryContextAlloc(TopTransactionContext, images.tail.capacity);
	return true;
}

static bool
write_tail(void)
{
	Window *tail = &images.tail;

	errno = 0;
	if (tail->length > 0 &&
		FileWrite(images.file, (char *) tail->bytes, (int) tail->length,
				  (off_t) tail->start,
				  WAIT_EVENT_BUFFILE_WRITE) != (int) tail->length)
	{
		if (errno == 0)
			errno = ENOSPC;
		ereport(LOG,
				(errcode_for_file_access(),
				 errmsg("could not write to file \"%s\": %m", images.path)));
		return false;
	}
	tail->start += tail->length;
	tail->length = 0;
	return true;
}

static void
enlarge(Window *window, Size capacity)
{
	if (capacity <= window->capacity)
		return;
	if (window->bytes != NULL)
		pfree(window->bytes);
	window->capacity = capacity;
	window->bytes = MemoryContextAllocHuge(TopTransactionContext, capacity);
}

bool
dc_images_put(const void *bytes, Size length, uint64 *position)
{
	Window *tail = &images.tail;

	if (dc_images_bytes() + length > (uint64) datacake_spool_size_kb * 1024 ||
		!begin() || (tail->length + length > tail->capacity && !write_tail()))
		return false;
	enlarge(tail, length);
	*position = dc_images_bytes();
	memcpy(tail->bytes + tail->length, bytes, length);
	tail->length += length;
	return true;
}

const uint8 *
dc_images_get(uint64 position, Size length)
{
	Window *read = &images.read;

	if (position < read->start ||
		position + length > read->start + read->length)
	{
		int got;

		if (!write_tail())
			return NULL;
		enlarge(read, Max(length, BUFFER_BYTES));
		got = FileRead(images.file, (char *) read->bytes, (int) read->capacity,
					   (off_t) position, WAIT_EVENT_BUFFILE_READ);
		if (got < (int) length)
		{
			ereport(LOG, (errmsg("could not read file \"%s\"", images.path)));
			read->length = 0;
			return NULL;
		}
		read->start = position;
		read->length = (Size) got;
	}
	return read->bytes + (position - read->start);
}

uint64
dc_images_bytes(void)
{
	return images.tail.start + images.tail.length;
}

/* The memory goes with TopTransactionContext. */
void
dc_images_end(void)
{
	if (!images.open)
		return;
	FileClose(images.file);
	dc_spool_remove(images.path);
	memset(&images, 0, sizeof(images));
}
