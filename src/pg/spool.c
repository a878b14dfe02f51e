/*
 * spool.c
 *		Committed transactions that are too large for the queue, as files.
 */
#include "spool.h"

#include <fcntl.h>
#include <unistd.h>

#include "catalog/pg_tablespace_d.h"
#include "pgstat.h"
#include "storage/fd.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "guc.h"
#include "shmem.h"

#define FILES_MAX 64

typedef struct SpoolFile
{
	uint64 id;     /* 0: free */
	uint64 number; /* of the batch; 0: not committed yet */
	uint64 bytes;
} SpoolFile;

typedef struct Spool
{
	uint64 last_id;
	SpoolFile files[FILES_MAX];
} Spool;

typedef struct ChunkHead
{
	uint32 length;
	uint32 rows;
} ChunkHead;

struct DcSpoolReader
{
	uint64 id;
	File file;
	off_t at;
	off_t size;
};

static Spool *spool;

/* What this backend writes. */
static struct
{
	uint64 id;
	File file;
	Size room; /* taken of what datacake.spool_size allows */
	off_t at;
} writing = {.file = -1};

Size
dc_spool_bytes(void)
{
	return sizeof(Spool);
}

void
dc_spool_attach(void)
{
	bool found;

	spool = ShmemInitStruct("datacake spool", dc_spool_bytes(), &found);
	if (!found)
		memset(spool, 0, sizeof(*spool));
}

/* A name by which PostgreSQL knows a temporary file. */
static void
path_of(uint64 id, char path[MAXPGPATH])
{
	char directory[MAXPGPATH];

	TempTablespacePath(directory, DEFAULTTABLESPACE_OID);
	snprintf(path, MAXPGPATH, "%s/%s.datacake.%llu", directory,
			 PG_TEMP_FILE_PREFIX, (unsigned long long) id);
}

/* --- the table --- */

static uint64
enter(void)
{
	uint64 id = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_EXCLUSIVE);
	for (int i = 0; i < FILES_MAX && id == 0; i++)
	{
		if (spool->files[i].id != 0)
			continue;
		id = ++spool->last_id;
		spool->files[i] = (SpoolFile){.id = id};
	}
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
	return id;
}

bool
dc_spool_grow(uint64 id, Size bytes)
{
	uint64 limit = (uint64) datacake_spool_size_kb * 1024;
	uint64 used = bytes;
	SpoolFile *file = NULL;
	bool fits;

	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_EXCLUSIVE);
	for (int i = 0; i < FILES_MAX; i++)
	{
		used += spool->files[i].bytes;
		if (spool->files[i].id == id)
			file = &spool->files[i];
	}
	fits = file != NULL && used <= limit;
	if (fits)
		file->bytes += bytes;
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
	return fits;
}

static void
leave(uint64 id)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_EXCLUSIVE);
	for (int i = 0; i < FILES_MAX; i++)
	{
		if (spool->files[i].id == id)
			memset(&spool->files[i], 0, sizeof(SpoolFile));
	}
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
}

uint64
dc_spool_create(File *file)
{
	char directory[MAXPGPATH];
	char path[MAXPGPATH];
	uint64 id = enter();

	if (id == 0)
		return 0;
	TempTablespacePath(directory, DEFAULTTABLESPACE_OID);
	(void) MakePGDirectory(directory); /* it may be there */
	path_of(id, path);
	*file = PathNameOpenFile(path, O_CREAT | O_TRUNC | O_RDWR | PG_BINARY);
	if (*file >= 0)
		return id;
	ereport(LOG, (errcode_for_file_access(),
				  errmsg("could not create file \"%s\": %m", path)));
	leave(id);
	return 0;
}

bool
dc_spool_put(File file, const void *bytes, Size length, off_t at)
{
	errno = 0;
	if (FileWrite(file, (char *) bytes, (int) length, at,
				  WAIT_EVENT_BUFFILE_WRITE) == (int) length)
		return true;
	if (errno == 0)
		errno = ENOSPC;
	ereport(LOG,
			(errcode_for_file_access(),
			 errmsg("could not write to file \"%s\": %m", FilePathName(file))));
	return false;
}

void
dc_spool_remove(uint64 id)
{
	char path[MAXPGPATH];

	path_of(id, path);
	if (unlink(path) != 0 && errno != ENOENT)
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not remove file \"%s\": %m", path)));
	leave(id);
}

/* --- the backend that commits --- */

uint64
dc_spool_begin(Size least)
{
	uint64 id = dc_spool_create(&writing.file);

	writing.id = id;
	writing.room = least;
	writing.at = 0;
	if (id == 0 || dc_spool_grow(id, least))
		return id;
	dc_spool_abandon(id);
	return 0;
}

static bool
grow_to(Size bytes)
{
	if (bytes <= writing.room)
		return true;
	if (!dc_spool_grow(writing.id, bytes - writing.room))
		return false;
	writing.room = bytes;
	return true;
}

static bool
append(const void *bytes, Size length)
{
	bool written = grow_to((Size) writing.at + length) &&
				   dc_spool_put(writing.file, bytes, length, writing.at);

	if (written)
		writing.at += (off_t) length;
	return written;
}

bool
dc_spool_write(DcSlice batch, uint32 rows)
{
	ChunkHead head = {.length = (uint32) batch.length, .rows = rows};

	return append(&head, sizeof(head)) && append(batch.data, batch.length);
}

void
dc_spool_end(void)
{
	FileClose(writing.file);
	writing.file = -1;
}

void
dc_spool_abandon(uint64 id)
{
	if (writing.file >= 0)
		dc_spool_end();
	dc_spool_remove(id);
}

void
dc_spool_publish(uint64 id, uint64 number)
{
	for (int i = 0; i < FILES_MAX; i++)
	{
		if (spool->files[i].id == id)
			spool->files[i].number = number;
	}
}

/* --- the replicator --- */

void
dc_spool_sweep(uint64 needed)
{
	uint64 ids[FILES_MAX];
	int count = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_SHARED);
	for (int i = 0; i < FILES_MAX; i++)
	{
		if (spool->files[i].number != 0 && spool->files[i].number < needed)
			ids[count++] = spool->files[i].id;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
	for (int i = 0; i < count; i++)
		dc_spool_remove(ids[i]);
}

DcSpoolReader *
dc_spool_open(uint64 id, MemoryContext context)
{
	char path[MAXPGPATH];
	DcSpoolReader *reader;
	File file;

	path_of(id, path);
	file = PathNameOpenFile(path, O_RDONLY | PG_BINARY);
	if (file < 0)
	{
		ereport(LOG, (errcode_for_file_access(),
					  errmsg("could not open file \"%s\": %m", path)));
		return NULL;
	}
	reader = MemoryContextAllocZero(context, sizeof(DcSpoolReader));
	reader->id = id;
	reader->file = file;
	reader->size = FileSize(file);
	return reader;
}

uint64
dc_spool_id(const DcSpoolReader *reader)
{
	return reader->id;
}

static bool
take(DcSpoolReader *reader, void *bytes, Size length)
{
	int got = (off_t) length > reader->size - reader->at ?
				  0 :
				  FileRead(reader->file, bytes, (int) length, reader->at,
						   WAIT_EVENT_BUFFILE_READ);

	if (got != (int) length)
	{
		ereport(LOG, (errmsg("could not read file \"%s\"",
							 FilePathName(reader->file))));
		return false;
	}
	reader->at += got;
	return true;
}

bool
dc_spool_read(DcSpoolReader *reader, DcSpoolChunk *chunk)
{
	ChunkHead head;
	uint8 *bytes;

	if (!take(reader, &head, sizeof(head)) ||
		(off_t) head.length > reader->size - reader->at)
		return false;
	bytes = MemoryContextAllocHuge(CurrentMemoryContext, head.length);
	if (!take(reader, bytes, head.length))
		return false;
	*chunk = (DcSpoolChunk){.batch = {bytes, head.length},
							.rows = head.rows,
							.last = reader->at == reader->size};
	return true;
}

void
dc_spool_close(DcSpoolReader *reader)
{
	FileClose(reader->file);
	pfree(reader);
}
