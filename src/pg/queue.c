/*
 * queue.c
 *		Committed batches on their way to the peers.
 */
#include "queue.h"

#include "storage/shmem.h"

#include "clock.h"
#include "guc.h"
#include "shmem.h"
#include "spool.h"

typedef enum RecordState
{
	RECORD_RESERVED,
	RECORD_PUBLISHED,
	RECORD_FREE /* aborted, or padding at the end of the ring */
} RecordState;

typedef struct Record
{
	uint64 total; /* with this header and alignment */
	RecordState state;
	uint32 rows;
	uint64 number;
	uint64 length;
	uint64 spool;
	XLogRecPtr commit_lsn;
	uint64 committed_us;
	bool awaited;
} Record;

/* One number per 256 bytes of ring: small transactions are about that. */
#define BYTES_PER_NUMBER 256

#define REWIND_BYTES (256 * 1024) /* as much as second-level caches hold */

typedef struct Queue
{
	uint64 capacity;
	uint64 tail; /* positions grow for ever; offset = position % capacity */
	uint64 head;
	uint64 next_number;
	uint64 awaited;    /* behind the last number that is */
	uint64 needed;     /* least number that the replicator still needs */
	uint64 committing; /* records that are reserved */
	uint64 number_capacity;
	uint64 *positions; /* by number % number_capacity */
	char *ring;
} Queue;

static Queue *queue;

static uint64
ring_bytes(void)
{
	return (uint64) datacake_queue_size_kb * 1024;
}

static uint64
number_count(void)
{
	return ring_bytes() / BYTES_PER_NUMBER;
}

Size
dc_queue_bytes(void)
{
	return MAXALIGN(sizeof(Queue)) + number_count() * sizeof(uint64) +
		   ring_bytes() + 2 * MAXIMUM_ALIGNOF;
}

void
dc_queue_attach(void)
{
	bool found;

	queue = ShmemInitStruct("datacake queue", dc_queue_bytes(), &found);
	if (found)
		return;
	memset(queue, 0, sizeof(*queue));
	queue->capacity = ring_bytes();
	queue->number_capacity = number_count();
	queue->next_number = 1;
	queue->needed = DC_QUEUE_NONE;
	queue->positions = (uint64 *) ((char *) queue + MAXALIGN(sizeof(Queue)));
	queue->ring = (char *) MAXALIGN(queue->positions + queue->number_capacity);
}

static Record *
record_at(uint64 position)
{
	return (Record *) (queue->ring + position % queue->capacity);
}

/* Lock held.  Drops from the tail what nobody will read. */
static void
reclaim(void)
{
	while (queue->tail < queue->head)
	{
		Record *record = record_at(queue->tail);

		if (record->state == RECORD_RESERVED ||
			(record->state == RECORD_PUBLISHED &&
			 record->number >= queue->needed))
			break;
		queue->tail += record->total;
	}
}

/*
 * Lock held.  Bytes that were just used are in the caches, and every backend
 * has met their pages; what a ring of 32 MB has further on, it has not.
 */
static void
rewind_if_empty(void)
{
	uint64 offset = queue->head % queue->capacity;

	if (queue->tail == queue->head && offset >= REWIND_BYTES)
		queue->tail = queue->head += queue->capacity - offset;
}

/* Lock held.  Appends a record of `total` bytes, contiguous in the ring. */
static uint64
append(uint64 total, RecordState state)
{
	uint64 position = queue->head;
	Record *record = record_at(position);

	record->total = total;
	record->state = state;
	queue->head += total;
	return position;
}

bool
dc_queue_is_large(Size length)
{
	return MAXALIGN(sizeof(Record) + length) > queue->capacity / 4;
}

uint64
dc_queue_reserve(Size length, uint8 **data)
{
	uint64 total = MAXALIGN(sizeof(Record) + length);
	uint64 position = DC_QUEUE_NONE;
	uint64 to_end;
	bool crowded;

	if (dc_queue_is_large(length))
		return DC_QUEUE_NONE;

	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_EXCLUSIVE);
	reclaim();
	rewind_if_empty();
	to_end = queue->capacity - queue->head % queue->capacity;
	if (queue->head - queue->tail + total +
			(to_end < total + sizeof(Record) ? to_end : 0) <=
		queue->capacity)
	{
		/* a record never wraps, and the rest of the ring holds a header */
		if (to_end < total + sizeof(Record) && to_end != total)
			append(to_end, RECORD_FREE);
		position = append(total, RECORD_RESERVED);
		record_at(position)->length = length;
		record_at(position)->spool = 0;
		*data = (uint8 *) (record_at(position) + 1);
		queue->committing++;
	}
	crowded = queue->head - queue->tail > queue->capacity / 2;
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));

	if (position == DC_QUEUE_NONE)
		dc_count(DC_COUNT_QUEUE_OVERFLOWS, 1);
	if (crowded || position == DC_QUEUE_NONE)
		dc_worker_wake(DC_WORKER_REPLICATOR);
	return position;
}

uint64
dc_queue_reserve_spool(uint64 spool)
{
	uint8 *nothing;
	uint64 position = dc_queue_reserve(0, &nothing);

	if (position != DC_QUEUE_NONE)
		record_at(position)->spool = spool;
	return position;
}

uint64
dc_queue_publish(uint64 position, uint32 rows, XLogRecPtr commit_lsn,
				 uint64 committed_us, bool awaited)
{
	uint64 number;

	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_EXCLUSIVE);
	number = queue->next_number++;
	if (awaited)
		queue->awaited = queue->next_number;
	queue->positions[number % queue->number_capacity] = position;
	if (position != DC_QUEUE_NONE)
	{
		Record *record = record_at(position);

		record->number = number;
		record->rows = rows;
		record->commit_lsn = commit_lsn;
		record->committed_us = committed_us;
		record->awaited = awaited;
		record->state = RECORD_PUBLISHED;
		queue->committing--;
		if (record->spool != 0)
			dc_spool_publish(record->spool, number);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
	return number;
}

void
dc_queue_abandon(uint64 position)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_EXCLUSIVE);
	record_at(position)->state = RECORD_FREE;
	queue->committing--;
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
}

static uint64
read_locked(const uint64 *field)
{
	uint64 value;

	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_SHARED);
	value = *field;
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
	return value;
}

uint64
dc_queue_head(void)
{
	return read_locked(&queue->next_number);
}

uint64
dc_queue_committing(void)
{
	return read_locked(&queue->committing);
}

uint64
dc_queue_awaited(void)
{
	return read_locked(&queue->awaited);
}

bool
dc_queue_is_needed(void)
{
	return read_locked(&queue->needed) != DC_QUEUE_NONE;
}

/* Lock held. */
static uint64
oldest_number(void)
{
	uint64 kept = queue->next_number > queue->number_capacity ?
					  queue->next_number - queue->number_capacity :
					  1;

	return queue->needed == DC_QUEUE_NONE ? queue->next_number :
											Max(kept, queue->needed);
}

/* Lock held. */
static DcQueued
batch_at(uint64 position)
{
	const Record *record = record_at(position);

	return (DcQueued){.data = (const uint8 *) (record + 1),
					  .length = record->length,
					  .spool = record->spool,
					  .rows = record->rows,
					  .commit_lsn = record->commit_lsn,
					  .committed_us = record->committed_us,
					  .awaited = record->awaited};
}

DcQueueView
dc_queue_look(uint64 number)
{
	DcQueueView view = {0};

	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_SHARED);
	view.head = queue->next_number;
	view.oldest = oldest_number();
	if (number >= view.oldest && number < view.head)
	{
		uint64 position = queue->positions[number % queue->number_capacity];

		if (position != DC_QUEUE_NONE && position >= queue->tail)
			view.batch = batch_at(position);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
	return view;
}

void
dc_queue_release(uint64 number)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_EXCLUSIVE);
	queue->needed = number;
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
	dc_spool_sweep(number);
}

Size
dc_queue_backlog(uint64 number)
{
	Size backlog = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_QUEUE), LW_SHARED);
	for (; number < queue->next_number && backlog == 0; number++)
	{
		uint64 position = queue->positions[number % queue->number_capacity];

		if (position != DC_QUEUE_NONE)
			backlog = queue->head - position;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_QUEUE));
	return backlog;
}

Size
dc_queue_capacity(void)
{
	return queue->capacity;
}
