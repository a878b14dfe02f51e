/*
 * link_parts.h
 *		What a link is made of; for the files of the link only.
 *
 *	link.c           its life and its turn
 *	link_connect.c   DOWN -> CONNECTING -> HELLO -> welcome
 *	link_wire.c      sealed messages on the connection
 *	link_flow.c      what is sent next, and what acks say
 *	link_spool.c     a batch that is in a file
 *	link_catchup.c   the catch-up of this link
 *	link_stats.c     what others see of it
 */
#ifndef DATACAKE_LINK_PARTS_H
#define DATACAKE_LINK_PARTS_H

#include "postgres.h"

#include "libpq-fe.h"
#include "utils/timestamp.h"

#include "acked.h"
#include "catchup.h"
#include "guc.h"
#include "link.h"
#include "message.h"
#include "seal.h"
#include "shmem.h"
#include "spool.h"

/*
 * A call costs both nodes more than a row in it does.  Of those that COMMITs
 * wait for, two under way keep a peer busy, and what comes meanwhile travels
 * together; more are of use where the way is long: one each millisecond.
 * The others leave at once.  But DC_LINK_GROUP or more that are just being
 * committed, where the last call brought as many, will flush together, and
 * soon: then calls keep a distance, and at least DC_LINK_GATHER_US are left to
 * them.  Where they are committed so fast that each call brings several
 * (DC_LINK_BUSY_BATCHES within DC_LINK_BUSY_US, until they take
 * DC_LINK_CALM_US), it is the same as of those that are waited for.
 */
#define DC_LINK_IN_FLIGHT_MAX 256
#define DC_LINK_AWAITED       2
#define DC_LINK_SPACING_MS    1
#define DC_LINK_GROUP         2
#define DC_LINK_GROUP_US      250
#define DC_LINK_GATHER_US     100
#define DC_LINK_BUSY_BATCHES  512
#define DC_LINK_BUSY_US       88000
#define DC_LINK_CALM_US       93000
#define DC_LINK_RETRY_MIN_MS  100
#define DC_LINK_RETRY_MAX_MS  5000
#define DC_LINK_ASK_AGAIN_MS  2000 /* how a joiner's peers stand */

typedef enum DcLinkMessageKind
{
	DC_LINK_HELLO_CALL,
	DC_LINK_START,
	DC_LINK_CALL
} DcLinkMessageKind;

typedef struct DcLinkMessage
{
	DcLinkMessageKind kind;
	uint64 sequence;
	uint32 batches;
	uint32 rows;
	bool awaited;        /* COMMITs wait until it is flushed there */
	uint64 committed_us; /* of its oldest batch; 0: none */
	DcHlc watermark;     /* 0: none */
	uint64 catchup;      /* number of the one whose chunk it is; 0: none */
	uint64 closes;       /* epoch whose fenced nodes its ack closes; 0 */
	uint64 first;        /* publish number of the first of its batches */
	uint64 ends;         /* number of the catch-up that it ends; 0: none */
	uint64 epoch;        /* of the member list that the peer was told */
	DcCatchupMark mark;
} DcLinkMessage;

struct DcLink
{
	MemoryContext context;
	MemoryContext scratch;
	uint32 node_id;
	uint64 incarnation; /* of the peer, as gossip said when we connected */
	char conninfo[DC_CONNINFO_BYTES]; /* ... and how it was to be reached */
	DcLinkPhase phase;
	PGconn *conn;
	DcStream stream;
	DcCatchup *catchup;         /* running, or interrupted */
	uint64 catchup_number;      /* its number, of this link */
	uint64 catchup_head;        /* it covers all that was published below */
	DcCatchupMark acked_mark;   /* where it can go on */
	DcAcked acked;              /* what was published, and is flushed there */
	DcSpoolReader *spool;       /* the file that is being sent */
	uint64 unreadable;          /* the last one that could not be; 0 */
	uint64 catchup_incarnation; /* of the peer that it is for */
	bool relayed[DC_NODE_IDS];  /* sources that were owed a relay, and got it */
	bool covered[DC_NODE_IDS];
	DcVv told;            /* V of the peer, as it said last */
	bool settled;         /* likewise: it has all that V claims */
	DcDebts *debts;       /* own ones, when the catch-up began */
	bool handed_on;       /* the last one that ended told some of those */
	uint64 weighed;       /* own vector's version when the two were compared */
	bool peer_joins;      /* it wants everything, its own past too */
	bool peer_joined_too; /* when it said welcome */
	TimestampTz ask_at;   /* while joining: when to look again how it stands */
	bool partial;         /* while joining ourselves we left our own out */
	uint64 sent_epoch;    /* of the member list that the peer knows from us */
	uint64 owed_epoch;    /* a catch-up was owed for its fenced nodes */
	uint64 begun_epoch;   /* epoch when the running catch-up began */
	uint64 closed_epoch;  /* its fenced nodes are closed towards the peer */
	uint8 nonce[DC_NONCE_BYTES];
	uint64 session;
	uint8 version;   /* of the wire, in this session */
	uint64 sequence; /* of the last call sent */
	DcLinkMessage messages[DC_LINK_IN_FLIGHT_MAX + 2];
	int message_count;   /* sent, not answered yet; oldest first */
	int awaited_count;   /* of those */
	bool streams;        /* the peer takes calls */
	TimestampTz sent_at; /* the last call */
	uint32 together;     /* batches in the last call that had any */
	uint32 paced;        /* batches sent since then */
	TimestampTz paced_since;
	bool busy;      /* they come so fast that they are better sent together */
	bool detached;  /* leave the queue at the next turn */
	bool unflushed; /* libpq holds bytes that the socket did not take */
	TimestampTz retry_at;
	TimestampTz connect_by;
	TimestampTz answer_by; /* 0: nothing is awaited */
	TimestampTz relay_at;
	TimestampTz later_at;
	long retry_ms;
};

#endif
