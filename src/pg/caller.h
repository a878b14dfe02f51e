/*
 * caller.h
 *		Asking one peer, question by question, outside of the stream.
 *
 * A connection and a session of its own, as a link has them (peer.c), but the
 * caller waits for each answer: on its latch, interruptible, and never inside
 * a transaction that matters to others.  Everything that goes wrong is an
 * ERROR; close the caller in a PG_FINALLY.
 */
#ifndef DATACAKE_CALLER_H
#define DATACAKE_CALLER_H

#include "postgres.h"

#include "message.h"
#include "shmem.h"

typedef struct DcCaller DcCaller;

/* What was said so far; hello and welcome are not counted. */
typedef struct DcCallerStats
{
	uint64 sent_bytes; /* sealed */
	uint64 received_bytes;
	uint32 round_trips;
} DcCallerStats;

/*
 * Connects to a live node and says hello; in a memory context of its own
 * below the current one.  `check`, called while waiting, may raise.
 */
extern DcCaller *dc_caller_open(uint32 node_id, void (*check)(void));

/*
 * Asks datacake.peer_repair(); the answer is valid until the next question.
 */
extern DcSlice dc_caller_ask(DcCaller *caller, const void *question,
							 Size length);

/*
 * The two halves of asking one of the functions datacake.peer_*: what the peer
 * does meanwhile costs this node no time.  One question at a time; an answer
 * is valid until the next one is received.
 */
extern void dc_caller_send(DcCaller *caller, const char *function,
						   const void *question, Size length);
extern DcSlice dc_caller_receive(DcCaller *caller);

/* Of the peer, as it said itself. */
extern uint64 dc_caller_incarnation(const DcCaller *caller);

extern const DcCallerStats *dc_caller_stats(const DcCaller *caller);

/* NULL is allowed. */
extern void dc_caller_close(DcCaller *caller);

#endif
