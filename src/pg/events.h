/*
 * events.h
 *		What happened to the nodes and to the member list, in order.
 *
 *	 gossip   --- differences of datacake.nodes ---+
 *	                                               v
 *	 launcher --- differences of the list ---> [ ring of 256 ] ---> readers
 *
 * A ring in shared memory: who appends waits for nobody, and the oldest event
 * is overwritten.  Events are numbered 1, 2, ... since the server's start.  A
 * reader keeps the number of the last one it took; when the next one is gone
 * already it is told so, and looks at dc_shared->nodes and the list instead.
 * An event is appended after what it tells of can be seen there.
 *
 * DC_LOCK_EVENTS guards the ring; append and read take it for a copy, so they
 * may be called wherever a light-weight lock may be taken.
 */
#ifndef DATACAKE_EVENTS_H
#define DATACAKE_EVENTS_H

#include "postgres.h"

#include "shmem.h"

typedef enum DcEventKind
{
	DC_EVENT_STATE,       /* a node's state went `from` -> `to` (DcNodeLife) */
	DC_EVENT_RESTART,     /* it runs anew: after a start, or as another
						   * incarnation; the state is in both */
	DC_EVENT_DESCRIPTION, /* its name, data centre, address or conninfo changed;
						   * the state is in both */
	DC_EVENT_MEMBER       /* its entry in the list went `from` -> `to`
						   * (DcMemberState), or to another incarnation */
} DcEventKind;

typedef struct DcEvent
{
	uint64 sequence;
	TimestampTz at;
	DcEventKind kind;
	uint32 node_id;
	int from; /* DcNodeLife; of DC_EVENT_MEMBER: DcMemberState */
	int to;
	uint64 incarnation;
	uint64 epoch;             /* of the list here, when it happened */
	char name[DC_NAME_BYTES]; /* the texts are empty if not known */
	char data_center[DC_NAME_BYTES];
	char address[DC_ADDRESS_BYTES];
} DcEvent;

extern Size dc_events_bytes(void);
extern void dc_events_attach(void);

/* Copies the event into the ring; its sequence and time are set there. */
extern void dc_events_append(const DcEvent *event);

/*
 * Copies up to `max` events after number *since, oldest first, moves *since to
 * the last one copied and returns how many.  If events were overwritten since,
 * *missed is true, none is copied and *since is the newest number: what there
 * is to know is what can be seen now.
 */
extern int dc_events_read(uint64 *since, DcEvent *events, int max,
						  bool *missed);

/* The number of the newest event; without a lock, for who polls. */
extern uint64 dc_events_newest(void);

/* "state", "restart", "description", "member" */
extern const char *dc_event_kind_name(DcEventKind kind);

/* `from` or `to` of an event of this kind, as datacake.nodes has it. */
extern const char *dc_event_state_name(DcEventKind kind, int state);

#endif
