/*
 * gossip_wire.h
 *		What a gossip datagram says, and its bytes.
 *
 *	 0        1      2        4         12            20      28
 *	+---------+------+--------+---------+-------------+-------+----------+
 *	| version | kind | sender | cluster | incarnation | boot  | sequence |
 *	+---------+------+--------+---------+-------------+-------+----------+
 *	 36             44              52
 *	+--------------+---------------+--------------------------------------+
 *	| sent at (us) | receiver boot | body, by kind                        |
 *	+--------------+---------------+--------------------------------------+
 *
 * The header travels in the clear as associated data of the seal, the body is
 * sealed; both are the caller's business.  Each value has exactly one
 * encoding: lists ascend strictly by node id, padding is zero and only as
 * long as it must be.
 *
 *	 SYN	what I know (digests).  At least as long as a HELLO, so that who
 *			answers a SYN it cannot check sends no more than it got
 *	 HELLO	my boot, what I know of you, and the address I see you at
 *	 ACK	what I want (digests) and what you lack (deltas)
 *	 ACK2	what you wanted (deltas)
 *	 CLASH	somebody else speaks under your id
 *
 * Text is printable ASCII, as PostgreSQL demands of names in its own views
 * of other servers.
 */
#ifndef DC_GOSSIP_WIRE_H
#define DC_GOSSIP_WIRE_H

#include "hlc.h"
#include "wire.h"

#define DC_GOSSIP_WIRE_VERSION 1

/* Sizes with the terminating zero. */
#define DC_GOSSIP_NAME_BYTES     64
#define DC_GOSSIP_ADDRESS_BYTES  128
#define DC_GOSSIP_CONNINFO_BYTES 384

/*
 * 1,200 bytes of UDP payload pass everywhere (IPv6 asks for packets of 1,280
 * without fragments); the seal takes up to 48 of them.
 */
#define DC_GOSSIP_BYTES_MAX      1152
#define DC_GOSSIP_HEADER_BYTES   52
#define DC_GOSSIP_BODY_BYTES_MAX (DC_GOSSIP_BYTES_MAX - DC_GOSSIP_HEADER_BYTES)

#define DC_GOSSIP_DIGEST_BYTES         22
#define DC_GOSSIP_DELTA_BYTES_MIN      46
#define DC_GOSSIP_HELLO_BODY_BYTES_MAX (24 + DC_GOSSIP_ADDRESS_BYTES)
#define DC_GOSSIP_SYN_BODY_BYTES_MIN   DC_GOSSIP_HELLO_BODY_BYTES_MAX

/* flags and count, then digests; count and count, then deltas */
#define DC_GOSSIP_DIGESTS_MAX                                                  \
	((DC_GOSSIP_BODY_BYTES_MAX - 2) / DC_GOSSIP_DIGEST_BYTES)
#define DC_GOSSIP_DELTAS_MAX                                                   \
	((DC_GOSSIP_BODY_BYTES_MAX - 2) / DC_GOSSIP_DELTA_BYTES_MIN)

/* Fixed part, a longer floor, boot, wire version, and four strings with their lengths. */
#define DC_GOSSIP_DELTA_BYTES_MAX                                              \
	(DC_GOSSIP_DELTA_BYTES_MIN + 9 + 8 + 5 + 2 * DC_GOSSIP_NAME_BYTES +        \
	 DC_GOSSIP_ADDRESS_BYTES + DC_GOSSIP_CONNINFO_BYTES + 1)

_Static_assert(DC_GOSSIP_DIGESTS_MAX < 128 && DC_GOSSIP_DELTAS_MAX < 128,
			   "a count is a varint of one byte");
_Static_assert(DC_GOSSIP_DELTA_BYTES_MAX + 2 <= DC_GOSSIP_BODY_BYTES_MAX,
			   "any single record fits a datagram");

typedef enum DcGossipKind
{
	DC_GOSSIP_SYN = 1,
	DC_GOSSIP_HELLO,
	DC_GOSSIP_ACK,
	DC_GOSSIP_ACK2,
	DC_GOSSIP_CLASH
} DcGossipKind;

typedef struct DcGossipHeader
{
	DcGossipKind kind;
	uint32_t node_id;
	uint64_t cluster_hash;
	uint64_t incarnation;
	uint64_t boot; /* names one start of the sender; ascends */
	uint64_t sequence;
	uint64_t sent_at_us;    /* by the sender's clock */
	uint64_t receiver_boot; /* 0: not known yet */
} DcGossipHeader;

/* Ages are milliseconds; this one stands for all that are greater. */
#define DC_GOSSIP_AGE_MAX UINT16_MAX

/*
 * "Of this node I have everything up to this version, which it made so long
 * ago; whoever I know asks for a sign of life since so long ago, in vain."
 */
typedef struct DcGossipDigest
{
	uint32_t node_id;
	uint64_t incarnation;
	uint64_t version; /* 0: nothing */
	uint16_t age_ms;
	uint16_t doubt_ms; /* 0: not in doubt */
} DcGossipDigest;

/*
 * What changed of a node.  Not `full`: only the heartbeat and the stamps; it
 * fits a receiver whose description is of `config_version`.
 */
typedef struct DcGossipDelta
{
	uint32_t node_id;
	uint64_t incarnation;
	uint64_t version;
	uint64_t config_version; /* version at which the description changed */
	uint16_t age_ms;         /* since the owner made the version */
	DcHlc floor;             /* under the list of this epoch */
	uint64_t epoch;          /* digest of its durable member list; 0: none */
	bool closed;             /* it closed all fenced nodes of that list (R11) */
	bool disputed;           /* another server speaks under its id (R15) */
	bool joining;            /* it pulls only (R12) */
	bool leaving;            /* it hands over what only it has (R11) */
	DcHlc clock;
	bool full;
	bool left;
	uint64_t boot;
	uint32_t wire_version;
	DcSlice name;
	DcSlice data_center;
	DcSlice address;
	DcSlice conninfo;
} DcGossipDelta;

/* HELLO: what is known of the receiver.  CLASH: the other claimant. */
typedef struct DcGossipClaim
{
	uint64_t incarnation;
	uint64_t boot;
	uint64_t version;
	DcSlice address;
} DcGossipClaim;

typedef struct DcGossipMessage
{
	DcGossipHeader header;
	bool complete; /* SYN: the digests are all the sender has */
	uint32_t digest_count;
	uint32_t delta_count;
	DcGossipDigest digests[DC_GOSSIP_DIGESTS_MAX];
	DcGossipDelta deltas[DC_GOSSIP_DELTAS_MAX];
	DcGossipClaim claim;
} DcGossipMessage;

/* Is this text fit for the wire: printable ASCII, shorter than `size`? */
bool dc_gossip_text_valid(const char *text, size_t size);

/* Bytes that this delta takes. */
size_t dc_gossip_delta_bytes(const DcGossipDelta *delta);

/* Puts in order; then each list must be free of duplicates. */
void dc_gossip_message_sort(DcGossipMessage *message);

/* Writes header and body.  DC_TOO_LONG in `w` if they do not fit. */
void dc_gossip_encode(DcWriter *w, const DcGossipMessage *message);

/*
 * Reads the header alone.  DC_VERSION (detail: the version) if it is of
 * another wire version, then nothing else of it is known.
 */
DcStatus dc_gossip_decode_header(DcReader *r, DcGossipHeader *header,
								 DcDetail *detail);

/*
 * Reads a whole datagram; slices point into it.  Any other answer than DC_OK
 * leaves `message` without meaning.
 */
DcStatus dc_gossip_decode(const void *data, size_t length,
						  DcGossipMessage *message, DcDetail *detail);

/* Accepts each sequence number once; those behind the window never. */
typedef struct DcReplayWindow
{
	uint64_t top;  /* greatest seen */
	uint64_t bits; /* bit i: top - i was seen */
} DcReplayWindow;

bool dc_replay_accept(DcReplayWindow *window, uint64_t sequence);

#endif
