/*
 * queue.h
 *		Committed batches on their way to the peers.
 *
 *	   tail                                          head
 *	    |                                             |
 *	    v                                             v
 *	+---+--------+-----------+--------+---------+-----+------------+
 *	    | number 7 | aborted | number 8 | reserved |      free      |
 *	+---+--------+-----------+--------+---------+-----+------------+
 *	numbers: ... 7 -> offset, 8 -> offset, 9 -> none (a gap), ...
 *
 * A committing backend reserves room before its commit record is written and
 * publishes it after: publishing gives the batch its number.  A batch that is
 * too large for the ring lies in a file that its record names (spool.h).  A
 * batch that finds no room is published as a gap: a number without bytes.
 * Whoever reads the queue and meets a gap, or comes too late, brings its peer
 * up by a catch-up instead.
 *
 * The replicator alone reads; what it no longer needs is reclaimed by the
 * next reservation, and a ring that is empty then is written from its
 * beginning again.  DC_LOCK_QUEUE guards everything but the bytes, which
 * belong to the writer until published and are constant after that.
 */
#ifndef DATACAKE_QUEUE_H
#define DATACAKE_QUEUE_H

#include "postgres.h"

#include "access/xlogdefs.h"

#define DC_QUEUE_NONE UINT64_MAX

typedef struct DcQueued
{
	const uint8 *data; /* NULL: a gap */
	Size length;
	uint64 spool; /* the file that has it instead; 0: none */
	uint32 rows;
	XLogRecPtr commit_lsn; /* flush up to here before it leaves (R3) */
	uint64 committed_us;
	bool awaited; /* its COMMIT waits until peers have flushed it */
} DcQueued;

extern Size dc_queue_bytes(void);
extern void dc_queue_attach(void);

/*
 * Reserves room for `length` bytes.  Returns its position and where to write,
 * or DC_QUEUE_NONE when there is no room: then the batch is published as a
 * gap.  Wakes the replicator when the queue fills up.
 */
extern uint64 dc_queue_reserve(Size length, uint8 **data);

/* Is a batch of this length left to a file? */
extern bool dc_queue_is_large(Size length);

/* The same for a batch that is in a file. */
extern uint64 dc_queue_reserve_spool(uint64 spool);

/*
 * Does any link read the queue?  If none does, what is published is a gap for
 * whoever comes later, with its bytes or without.
 */
extern bool dc_queue_is_needed(void);

/*
 * In COMMIT: publishes a reservation (DC_QUEUE_NONE: a gap); cannot fail.
 * Returns its number.
 */
extern uint64 dc_queue_publish(uint64 position, uint32 rows,
							   XLogRecPtr commit_lsn, uint64 committed_us,
							   bool awaited);

/* In ABORT: gives a reservation back. */
extern void dc_queue_abandon(uint64 position);

typedef struct DcQueueView
{
	uint64 head;    /* the next number to be given out */
	uint64 oldest;  /* the least one that may be read */
	DcQueued batch; /* of a number in [oldest, head); stays while needed */
} DcQueueView;

/* The queue, and the batch of this number. */
extern DcQueueView dc_queue_look(uint64 number);

extern uint64 dc_queue_head(void);

/* How many are reserved and will soon be published, or given back. */
extern uint64 dc_queue_committing(void);

/* Behind the last one that a COMMIT waits for. */
extern uint64 dc_queue_awaited(void);

/* From the replicator: numbers below this are no longer needed. */
extern void dc_queue_release(uint64 number);

/* Bytes from the batch of this number to the end, for the overflow policy. */
extern Size dc_queue_backlog(uint64 number);
extern Size dc_queue_capacity(void);

#endif
