/*
 * peer.h
 *		The session that a peer opened in this backend, for other calls of it.
 */
#ifndef DATACAKE_PEER_H
#define DATACAKE_PEER_H

#include "postgres.h"

#include "apply.h"
#include "message.h"
#include "sql.h"

/* ERROR with the status's own SQLSTATE; `hint` may be NULL. */
extern void dc_peer_refuse(DcStatus status, const char *hint)
	pg_attribute_noreturn();

/*
 * Opens a question of a peer (caller.h), the next call of the session, which
 * is in it until the transaction commits.  ERROR if there is no such session,
 * or it is not the next call.  The statement is cancelled when the peer does
 * not wait for it any more.
 */
extern DcSlice dc_peer_open(bytea *sealed, DcSessionKind kind);

/* Seals the answer to it. */
extern bytea *dc_peer_seal(const void *plain, Size length);

/*
 * The frame of a function that answers members in a session for changes:
 * opens the question, has it answered (sealed) as superuser inside SPI, and
 * returns the answer.  ERROR YD024 while this node joins.
 */
extern bytea *dc_peer_respond(bytea *sealed,
							  bytea *(*answer_question)(DcSlice question));

/*
 * A question that only members may ask: ERROR YD034 if the caller is none.
 * Sessions for changes are opened for members only.
 */
extern void dc_peer_require_member(void);

/*
 * Calls that change something, in one transaction and inside SPI: begin, add
 * one or more, run, end.  add: opens the next call of the session and reads all
 * of it; false if what follows it needs a transaction of its own.  run: carries
 * out what was added; *urgent: somebody waits for the ack.  The commit is
 * asynchronous.  ack: flushes what was committed since the last one, and lets
 * the vector claim it; sealed, in the current memory context.  held_us: since
 * the first of them committed.
 */
typedef struct DcPeerCalls DcPeerCalls;

extern DcPeerCalls *dc_peer_calls_begin(DcRole *role);
extern bool dc_peer_calls_add(DcPeerCalls *calls, DcSlice sealed);
extern DcApplied dc_peer_calls_run(DcPeerCalls *calls, bool *urgent);
extern void dc_peer_calls_end(const DcRole *role);
extern DcSlice dc_peer_calls_ack(DcApplied result, uint32 held_us);

/* Calls come as a stream; ERROR unless this is a session for changes. */
extern void dc_peer_begin_stream(void);

/* The number of the last call. */
extern uint64 dc_peer_sequence(void);

/* The node that called, and the wire version to answer in. */
extern uint32 dc_peer_node(void);
extern uint8 dc_peer_version(void);

#endif
