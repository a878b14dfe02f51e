/*
 * message.h
 *		Codec of the calls between two nodes.
 *
 *	hello    'H'  oldest | cluster | sender | incarnation | receiver
 *	              | encoding | nonce | kind
 *	welcome  'W'  node | incarnation | session | nonce | vector | incoming
 *	              | flags | before | clock | horizon | position | members
 *	call     'C'  { part } ... 0
 *	ack      'A'  applied | stale | waiting | flags | vector | incoming
 *
 *	request  'S'  role | flags | depth | service | payload
 *	result   's'  flags | value
 *
 *	part     1 batch:    string, changes of whole transactions
 *	         2 catch-up: string, changes found by a scan
 *	         3 segment:  from u64 | to u64      (R4)
 *	         4 adopt:    base vector | donor vector | debts | horizon   (R6)
 *	         5 members:  position | list (R10)
 *
 * Each starts with the version of the wire format and its letter: a hello with
 * the newest version that its sender speaks, the others with that of the
 * session, which the welcome says (version.h).  They travel sealed: the seal's
 * associated data (message_associated) binds a call to its session, direction
 * and sequence number, so that none can be replayed or sent to somebody else.
 *
 * `incoming` are the sources that stream to the answering node themselves,
 * ascending; the caller need not relay them.
 */
#ifndef DC_MESSAGE_H
#define DC_MESSAGE_H

#include "debts.h"
#include "register.h"

#define DC_NONCE_BYTES        16
#define DC_CLUSTER_BYTES_MAX  63
#define DC_ENCODING_BYTES_MAX 63
#define DC_ASSOCIATED_BYTES   48

/* What a session is for; the called node prepares it accordingly. */
typedef enum DcSessionKind
{
	DC_SESSION_CHANGES,   /* rows are applied in it, with replica semantics */
	DC_SESSION_QUESTIONS, /* an ordinary one */
	DC_SESSION_KINDS
} DcSessionKind;

typedef struct DcHello
{
	uint8_t wire; /* the newest and the oldest version that it offers */
	uint8_t wire_min;
	DcSlice cluster;
	uint32_t sender;
	uint64_t incarnation;
	uint32_t receiver; /* whom the sender believes to call */
	DcSlice encoding;  /* of its database */
	uint8_t nonce[DC_NONCE_BYTES];
	DcSessionKind kind;
} DcHello;

typedef struct DcWelcome
{
	uint8_t version; /* of the session */
	uint32_t node_id;
	uint64_t incarnation;
	uint64_t session;
	uint8_t nonce[DC_NONCE_BYTES]; /* the hello's */
	DcVv vector;
	bool incoming[DC_NODE_IDS];
	bool joining;         /* it pulls; it wants entries of its own source too */
	bool copying;         /* empty, it copies somebody first: links wait */
	bool ghosts;          /* joining, it must compare with somebody */
	bool alone;           /* it knew no other member before this hello */
	bool known;           /* its list named the caller's incarnation, present */
	DcMemberState before; /* of the caller in its list, before this hello */
	DcHlc clock;       /* its clock, after the caller was put into the list */
	DcHorizon horizon; /* g, and whom it counts */
	DcPosition at;     /* of its list */
	DcMembers members; /* its durable list; the caller may not be in it */
} DcWelcome;

typedef struct DcAck
{
	uint32_t applied;
	uint32_t stale;
	uint32_t waiting; /* went to the quarantine */
	uint32_t held_us; /* since it carried out the first of the calls */
	bool settled;     /* it has all that its vector claims (debts.h) */
	bool unchanged;   /* what follows is as last said in this session */
	DcVv vector;
	bool incoming[DC_NODE_IDS];
} DcAck;

typedef enum DcPartKind
{
	DC_PART_END = 0,
	DC_PART_BATCH = 1,
	DC_PART_CATCHUP = 2,
	DC_PART_SEGMENT = 3,
	DC_PART_ADOPT = 4,
	DC_PART_MEMBERS = 5,
	DC_PART_FLUSH = 6 /* somebody waits: flush and acknowledge this call now */
} DcPartKind;

/* One part of a call; which fields count depends on the kind. */
typedef struct DcPart
{
	DcPartKind kind;
	DcSlice batch;
	DcHlc from;
	DcHlc to;
	DcVv base;
	DcVv donor;
	DcSlice debts; /* well formed */
	DcHorizon horizon;
	DcPosition at;
	DcMembers members;
} DcPart;

/*
 * DC_VERSION if this build speaks no version that is offered; then only `wire`
 * and `wire_min` are known.
 */
void dc_hello_encode(DcWriter *w, const DcHello *hello);
DcStatus dc_hello_decode(const void *data, size_t length, DcHello *hello);

/* In the session's version, which the writer has. */
void dc_welcome_encode(DcWriter *w, const DcWelcome *welcome);
DcStatus dc_welcome_decode(const void *data, size_t length, DcWelcome *welcome);

void dc_ack_encode(DcWriter *w, const DcAck *ack);
DcStatus dc_ack_decode(const void *data, size_t length, DcAck *ack);

/* A call is written part by part and closed. */
void dc_call_begin(DcWriter *w);
void dc_call_batch(DcWriter *w, DcPartKind kind, const void *data,
				   size_t length);
void dc_call_segment(DcWriter *w, DcHlc from, DcHlc to);
void dc_call_adopt(DcWriter *w, const DcVv *base, const DcVv *donor,
				   const DcDebts *debts, const DcHorizon *horizon);
void dc_call_members(DcWriter *w, const DcPosition *at,
					 const DcMembers *members);
void dc_call_flush(DcWriter *w);
void dc_call_end(DcWriter *w);

/*
 * Reading: begin, then parts until false.  Nothing counts unless
 * dc_reader_finish() is DC_OK at the end.
 */
void dc_call_read_begin(DcReader *r);
bool dc_call_read_part(DcReader *r, DcPart *part);

/*
 * A service is called: the question of datacake.peer_call(), and its answer.
 * Payload and result are JSON as text; data == NULL is the null of SQL.
 */
#define DC_NAME_BYTES_MAX    63 /* of PostgreSQL's names */
#define DC_SERVICE_DEPTH_MAX 8  /* services that call services */
#define DC_SERVICE_BYTES_MAX (64u << 20)

typedef struct DcServiceRequest
{
	DcSlice role; /* the calling one */
	bool superuser;
	uint32_t depth; /* of the call; 1: by nobody's service */
	DcSlice service;
	DcSlice payload;
} DcServiceRequest;

void dc_service_request_encode(DcWriter *w, const DcServiceRequest *request);
DcStatus dc_service_request_decode(const void *data, size_t length,
								   DcServiceRequest *request);

void dc_service_result_encode(DcWriter *w, DcSlice value);
DcStatus dc_service_result_decode(const void *data, size_t length,
								  DcSlice *value);

/* What binds a sealed message to its place; the same on both sides. */
typedef struct DcAssociated
{
	char direction; /* the letter of the message */
	uint32_t sender;
	uint32_t receiver;
	uint64_t incarnation; /* of the node that called */
	uint64_t session;
	uint64_t sequence;
} DcAssociated;

size_t dc_associated_encode(uint8_t out[DC_ASSOCIATED_BYTES],
							const DcAssociated *associated);

#endif
