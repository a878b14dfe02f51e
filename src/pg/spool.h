/*
 * spool.h
 *		Committed transactions that are too large for the queue, as files.
 *
 *	file:   chunk chunk ...         chunk:  length, rows, a batch (batch.h)
 *
 * A backend writes its changes before it commits, in batches of about half a
 * megabyte; a record of the queue names the file.  Every link sends the chunks
 * at its own pace, one message each, and no other batch between them.  The
 * replicator removes the file when no link needs it any more.
 *
 * The file only saves work: who cannot write or read it treats the transaction
 * as a gap, and a catch-up looks its rows up one by one.  So it is not flushed,
 * and none outlives the server: files lie where PostgreSQL removes temporary
 * files when it starts.
 *
 * The table of files is guarded by DC_LOCK_QUEUE; no I/O under it.
 */
#ifndef DATACAKE_SPOOL_H
#define DATACAKE_SPOOL_H

#include "postgres.h"

#include "storage/fd.h"

#include "wire.h"

#define DC_SPOOL_CHUNK_BYTES (512 * 1024)

extern Size dc_spool_bytes(void);
extern void dc_spool_attach(void);

/*
 * Creates a file of no bytes yet, in PRE_COMMIT or before; its number in the
 * table, or 0 where there is none: no room in the table, or an error that was
 * reported as LOG.
 */
extern uint64 dc_spool_create(File *file);

/* Writes to such a file; false: it was not all written, as LOG says. */
extern bool dc_spool_put(File file, const void *bytes, Size length, off_t at);

/* The file grows; false: not within datacake.spool_size. */
extern bool dc_spool_grow(uint64 id, Size bytes);

/* Nobody needs it any more.  Cannot fail. */
extern void dc_spool_remove(uint64 id);

/* --- the backend that commits --- */

/*
 * Begins a file for at least so many bytes, in PRE_COMMIT.  Returns its id, or 0
 * where there is none: no room (datacake.spool_size), or an error that was
 * reported as LOG.
 */
extern uint64 dc_spool_begin(Size least);

/*
 * Appends a chunk.  False: it could not be written, or has no room within
 * datacake.spool_size; to be abandoned.
 */
extern bool dc_spool_write(DcSlice batch, uint32 rows);

/* All chunks are there. */
extern void dc_spool_end(void);

/* The transaction fails, or does without the file.  Cannot fail. */
extern void dc_spool_abandon(uint64 id);

/* In COMMIT, DC_LOCK_QUEUE held: it is the batch of this number. */
extern void dc_spool_publish(uint64 id, uint64 number);

/* --- the replicator --- */

/* Removes the files of all numbers below `needed`. */
extern void dc_spool_sweep(uint64 needed);

typedef struct DcSpoolReader DcSpoolReader;

typedef struct DcSpoolChunk
{
	DcSlice batch; /* in the current memory context */
	uint32 rows;
	bool last;
} DcSpoolChunk;

/* Opens a file, in a memory context that outlives the reader.  NULL: gone. */
extern DcSpoolReader *dc_spool_open(uint64 id, MemoryContext context);
extern uint64 dc_spool_id(const DcSpoolReader *reader);

/* The next chunk.  False: it cannot be read. */
extern bool dc_spool_read(DcSpoolReader *reader, DcSpoolChunk *chunk);
extern void dc_spool_close(DcSpoolReader *reader);

#endif
