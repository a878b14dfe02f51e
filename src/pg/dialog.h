/*
 * dialog.h
 *		A connection of this process to one peer, to ask it questions.
 *
 *	 CONNECTING --> GREETING --> IDLE <--> ASKED
 *	      |             |          |         |
 *	      +-------------+----------+---------+---> BROKEN
 *
 * Nothing here waits: the owner waits for the socket and calls
 * dc_dialog_step().  Network trouble is never an ERROR, it is written into
 * the reply; ERRORs are those of this server (memory, the key file).
 *
 * A question is one statement, one transaction of the peer, and travels
 * sealed like every call (peer.c).  It says how long the asking side waits;
 * the peer cancels it then, and within about a second when the connection is
 * closed.
 */
#ifndef DATACAKE_DIALOG_H
#define DATACAKE_DIALOG_H

#include "postgres.h"

#include "datatype/timestamp.h"

#include "message.h"
#include "shmem.h"

typedef enum DcReplyState
{
	DC_REPLY_AWAITED,
	DC_REPLY_GIVEN,
	DC_REPLY_REFUSED, /* certainly nothing was done there */
	DC_REPLY_LOST     /* it was asked; what became of it is not known */
} DcReplyState;

/* What one peer says to one question. */
typedef struct DcReply
{
	uint32 node_id;
	DcReplyState state;
	bool asked;         /* the question has left this server */
	DcSlice answer;     /* if it was given */
	uint64 incarnation; /* of the node that gave it */

	/* otherwise: why not; palloc'd, NULL where there is nothing to say */
	int sqlstate;
	char *message;
	char *detail;
	char *hint;
	char *context;
	bool raised;   /* these are the peer's own words */
	bool deadline; /* the time was over, here or there */

	/* for the owner */
	MemoryContext memory; /* of all of it */
	uint64 sent_bytes;    /* sealed */
	uint64 received_bytes;
	DcSlice question;
	TimestampTz answer_by;
	TimestampTz connect_by;
	struct DcDialog *dialog; /* where it is being asked; or NULL */
	bool seen;               /* handed out by dc_ask_next() */
} DcReply;

typedef enum DcDialogPhase
{
	DC_DIALOG_CONNECTING,
	DC_DIALOG_GREETING,
	DC_DIALOG_IDLE,
	DC_DIALOG_ASKED,
	DC_DIALOG_BROKEN
} DcDialogPhase;

typedef struct DcDialog DcDialog;

/* Whom to reach, as gossip tells. */
typedef struct DcPeer
{
	uint32 node_id;
	uint64 incarnation;
	char conninfo[DC_CONNINFO_BYTES];
} DcPeer;

/*
 * Looks a node up; NULL, or why it cannot be asked (static or palloc'd) with
 * its SQLSTATE.
 */
extern const char *dc_dialog_find(uint32 node_id, DcPeer *peer, int *sqlstate);

/*
 * Begins to connect.  In memory of its own below TopMemoryContext.  `role` is
 * for dc_dialog_fits() only: what one role does to its session there, another
 * should not find.  The peer shows it as "datacake PURPOSE of node N".
 */
extern DcDialog *dc_dialog_open(const DcPeer *peer, DcSessionKind kind,
								Oid role, const char *purpose);

/* NULL is allowed.  Does not touch the reply it may be working for. */
extern void dc_dialog_close(DcDialog *dialog);

extern DcDialogPhase dc_dialog_phase(const DcDialog *dialog);

/* Has the whole question left this server? */
extern bool dc_dialog_sent(const DcDialog *dialog);

/* Idle for so long that the peer may be about to close it? */
extern bool dc_dialog_old(const DcDialog *dialog);

/* Is it such a dialog with that very peer? */
extern bool dc_dialog_fits(const DcDialog *dialog, const DcPeer *peer,
						   DcSessionKind kind, Oid role);

/*
 * Has `function` asked reply->question as soon as the session is there; the
 * dialog has no other question.  reply->state tells when it is over.
 */
extern void dc_dialog_ask(DcDialog *dialog, const char *function,
						  DcReply *reply);

/* The question is left alone; when it is over the dialog is idle again. */
extern void dc_dialog_leave(DcDialog *dialog);

/* What to wait for: POLLIN, POLLOUT; and where. */
extern short dc_dialog_events(const DcDialog *dialog);
extern int dc_dialog_socket(const DcDialog *dialog);

/* The socket is ready for one of those. */
extern void dc_dialog_step(DcDialog *dialog);

/* Ends a reply with an error of this side. */
extern void dc_reply_fail(DcReply *reply, int sqlstate, const char *format, ...)
	pg_attribute_printf(3, 4);

#endif
