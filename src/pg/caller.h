/*
 * caller.h
 *		Asking one or several peers at once, outside of the stream.
 *
 *		DcAsk *ask = dc_ask_begin(&(DcAskPlan){...});
 *
 *		foreach peer
 *			dc_ask_node(ask, peer, question, length);
 *		while ((reply = dc_ask_next(ask)) != NULL)     waits
 *			if (that is enough)
 *				break;
 *		dc_ask_end(ask, true);
 *
 * Everything is in parallel and interruptible.  What one peer does not answer
 * is written into its reply; dc_reply_raise() makes an ERROR of it.  A peer
 * that gossip takes for dead meanwhile is not waited for.
 *
 * Connections for questions (DC_SESSION_QUESTIONS) are kept for this process
 * and used again; a few, for about a minute: the peer closes them then.  Those
 * for changes are kept by the ask, so that one session hears all of it.
 *
 * An ask lives in the memory context in which it was begun and ends with it:
 * an ERROR leaves nothing behind.
 */
#ifndef DATACAKE_CALLER_H
#define DATACAKE_CALLER_H

#include "postgres.h"

#include "dialog.h"

typedef struct DcAsk DcAsk;

typedef struct DcAskPlan
{
	const char *function; /* of schema datacake, bytea -> bytea; static */
	const char *purpose;  /* of a connection for changes; static, one word */
	DcSessionKind kind;
	Oid role;       /* whose connections these are; InvalidOid: anybody's */
	int timeout_ms; /* for each question, from when it was asked for */
	void (*check)(void); /* called while waiting, may raise; may be NULL */
} DcAskPlan;

/* What was said so far; hello and welcome are not counted. */
typedef struct DcAskStats
{
	uint64 sent_bytes; /* sealed */
	uint64 received_bytes;
	uint32 round_trips;
} DcAskStats;

extern DcAsk *dc_ask_begin(const DcAskPlan *plan);

/*
 * One question at a time to each node.  The question is copied; an earlier
 * reply of that node is gone.
 */
extern void dc_ask_node(DcAsk *ask, uint32 node_id, const void *question,
						Size length);

/*
 * Waits for the next reply that is over; NULL when there is none left.  Each
 * is returned once, and valid until the node is asked again or the ask ends.
 */
extern DcReply *dc_ask_next(DcAsk *ask);

/* The same in two: goes on with what is ready (NULL: none is over); waits. */
extern DcReply *dc_ask_poll(DcAsk *ask);
extern void dc_ask_wait(DcAsk *ask);

/* Waits no longer than that. */
extern void dc_ask_wait_for(DcAsk *ask, long max_ms);

/* The reply of a node whether it is over or not; NULL: it was not asked. */
extern DcReply *dc_ask_reply(DcAsk *ask, uint32 node_id);

/* How many replies are awaited; of them, how many questions have not left. */
extern int dc_ask_awaited(const DcAsk *ask, int *unasked);

/*
 * For an owner that waits by itself: calls `add` with each socket and poll()
 * events, and returns how many ms to wait at most before dc_ask_poll().
 */
extern long dc_ask_sockets(DcAsk *ask, void (*add)(int, short, void *),
						   void *arg);

/*
 * Ends it.  Questions that have left are let finish there, or their
 * connections closed, which cancels them.
 */
extern void dc_ask_end(DcAsk *ask, bool let_finish);

/* Waits for the reply of a node that was asked; ERROR without an answer. */
extern DcReply *dc_ask_answer(DcAsk *ask, uint32 node_id);

/* Asks one node and waits; ERROR without an answer. */
extern DcSlice dc_ask_one(DcAsk *ask, uint32 node_id, const void *question,
						  Size length);

extern const DcAskStats *dc_ask_stats(const DcAsk *ask);

/* Raises what such a reply says. */
extern void dc_reply_raise(const DcReply *reply) pg_attribute_noreturn();

/* Closes the connections that nobody uses. */
extern void dc_ask_close_idle(void);

#endif
