/*
 * events.c
 *		What happened to the nodes and to the member list, in order.
 */
#include "events.h"

#include "storage/shmem.h"
#include "utils/timestamp.h"

/* Some for each of 64 nodes, as when all of them start at once. */
#define EVENTS 256

typedef struct Ring
{
	pg_atomic_uint64 newest; /* 0: none yet; changed under DC_LOCK_EVENTS */
	DcEvent at[EVENTS];      /* by sequence % EVENTS */
} Ring;

static Ring *ring;

Size
dc_events_bytes(void)
{
	return MAXALIGN(sizeof(Ring));
}

void
dc_events_attach(void)
{
	bool found;

	ring = ShmemInitStruct("datacake events", dc_events_bytes(), &found);
	if (found)
		return;
	memset(ring, 0, sizeof(*ring));
	pg_atomic_init_u64(&ring->newest, 0);
}

void
dc_events_append(const DcEvent *event)
{
	TimestampTz now = GetCurrentTimestamp();
	uint64 sequence;
	DcEvent *slot;

	LWLockAcquire(DC_LOCK(DC_LOCK_EVENTS), LW_EXCLUSIVE);
	sequence = pg_atomic_read_u64(&ring->newest) + 1;
	slot = &ring->at[sequence % EVENTS];
	*slot = *event;
	slot->sequence = sequence;
	slot->at = now;
	pg_atomic_write_u64(&ring->newest, sequence);
	LWLockRelease(DC_LOCK(DC_LOCK_EVENTS));
	dc_worker_wake(DC_WORKER_MAINTAINER);
}

int
dc_events_read(uint64 *since, DcEvent *events, int max, bool *missed)
{
	int count = 0;
	uint64 newest;

	LWLockAcquire(DC_LOCK(DC_LOCK_EVENTS), LW_SHARED);
	newest = pg_atomic_read_u64(&ring->newest);
	*missed = newest > *since + EVENTS;
	if (*missed)
		*since = newest;
	while (*since < newest && count < max)
		events[count++] = ring->at[++*since % EVENTS];
	LWLockRelease(DC_LOCK(DC_LOCK_EVENTS));
	return count;
}

uint64
dc_events_newest(void)
{
	return pg_atomic_read_u64(&ring->newest);
}

const char *
dc_event_kind_name(DcEventKind kind)
{
	static const char *const names[] = {
		[DC_EVENT_STATE] = "state",
		[DC_EVENT_RESTART] = "restart",
		[DC_EVENT_DESCRIPTION] = "description",
		[DC_EVENT_MEMBER] = "member",
	};

	return names[kind];
}

const char *
dc_event_state_name(DcEventKind kind, int state)
{
	static const char *const lives[DC_LIVES] = {
		[DC_LIFE_UNKNOWN] = "unknown", [DC_LIFE_JOINING] = "joining",
		[DC_LIFE_ALIVE] = "alive",     [DC_LIFE_SUSPECT] = "suspect",
		[DC_LIFE_DEAD] = "dead",       [DC_LIFE_LEAVING] = "leaving",
		[DC_LIFE_LEFT] = "left",       [DC_LIFE_REMOVED] = "removed",
	};
	static const char *const members[DC_MEMBER_STATES] = {
		[DC_MEMBER_ABSENT] = "absent",
		[DC_MEMBER_PRESENT] = "present",
		[DC_MEMBER_FENCED] = "fenced",
		[DC_MEMBER_REMOVED] = "removed",
	};

	return kind == DC_EVENT_MEMBER ? members[state] : lives[state];
}
