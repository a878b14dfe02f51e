/*
 * gossip.h
 *		Who is in the cluster, how to reach it, and is it alive.
 *
 * Scuttlebutt reconciliation (van Renesse et al., "Efficient reconciliation
 * and flow control for anti-entropy protocols", 2008) with a phi-accrual
 * failure detector (phi.h).  Each node owns one record and is its only
 * writer; everybody forwards all records.  A record is ordered by
 * (incarnation, version); every change and every heartbeat raises the
 * version, which follows the owner's wall clock, so that a restarted node
 * starts above what it said before.  One round:
 *
 *		A  --- SYN: digests ------------------->  B
 *		A  <-- ACK: wanted digests, deltas -----  B
 *		A  --- ACK2: deltas ------------------->  B
 *
 * Every datagram fits DC_GOSSIP_BYTES_MAX whatever the size of the cluster:
 * digests are a subset, drawn anew each round; deltas stop at a record's end.
 *
 * First contact.  A datagram must name the receiver's boot, which proves that
 * it was made after the receiver started; a replay window per sender then
 * takes each one once.  Who does not know the boot yet sends a SYN without
 * digests and gets a HELLO, never longer than what asked for it.
 *
 *		A  --- SYN (boot 0) ------------------->  B
 *		A  <-- HELLO: B's boot, "I see you at"--  B
 *		A  --- SYN (B's boot): digests -------->  B
 *
 * Failures (the idea is that of SWIM, Das et al. 2002, and of its successor
 * Lifeguard, Dadgar et al. 2018; gossip_doubt.c has the details).  In a large
 * cluster a round brings news of few nodes, so silence alone says little.
 * But each round is also a call that must be answered.  Who is not answered,
 * time and again, asks: "has anybody heard of X since then?"  The question
 * goes with the digests, before others, and so does the answer: any version
 * that X made later.  phi is the surprise that nobody has one.
 *
 * State of another node, by phi of the question:
 *
 *		UNKNOWN --> ALIVE <--> SUSPECT --> DEAD --> ALIVE (spoke again)
 *		   `--> DEAD    `--------'----------'--> LEFT (said so) --> ALIVE
 *
 * Identity.  A node that hears a greater version of itself than it made was
 * set back in time: it starts again above it.  If that goes on, somebody else
 * lives under the same id: both claimants and all who hear both of them
 * report DC_IDENTITY for as long as it lasts.
 *
 * Not here: sealing, sockets, names of hosts (an address is a string), and
 * the agreed member list (R10).  Sans-IO: no clock, no randomness, no memory
 * of its own.  One caller at a time.
 */
#ifndef DC_GOSSIP_H
#define DC_GOSSIP_H

#include "gossip_wire.h"
#include "phi.h"

#define DC_GOSSIP_SEEDS_MAX 32

/* A round sends at most one to a live and one to a dead node, four times
 * again to who did not answer or to who must hear that this one lives, and
 * two to seeds. */
#define DC_GOSSIP_SENDS_MAX 8

/* Up to three for each delta of a datagram, and some for its header. */
#define DC_GOSSIP_EVENTS_MAX (3 * DC_GOSSIP_DELTAS_MAX + 5)

typedef enum DcGossipState
{
	DC_GOSSIP_UNKNOWN, /* heard of, not yet heard speaking */
	DC_GOSSIP_ALIVE,
	DC_GOSSIP_SUSPECT,
	DC_GOSSIP_DEAD,
	DC_GOSSIP_LEFT
} DcGossipState;

typedef struct DcGossipConfig
{
	uint32_t node_id;
	uint64_t incarnation;
	uint64_t cluster_hash;
	uint32_t wire_version; /* what it speaks (version.h); only passed on */
	uint64_t interval_us;  /* between rounds */
	double phi_suspect;
	double phi_dead;
	uint64_t forget_us; /* after which a node that left is forgotten */
} DcGossipConfig;

#define DC_GOSSIP_PHI_SUSPECT 6.0
#define DC_GOSSIP_PHI_DEAD    8.0
#define DC_GOSSIP_FORGET_US   (UINT64_C(24) * 3600 * 1000000)

/* How a node describes itself.  Empty address: as the peers see it. */
typedef struct DcGossipSelf
{
	const char *name;
	const char *data_center;
	const char *address;
	const char *conninfo;
} DcGossipSelf;

/* One start of a node, and what of it was already taken in. */
typedef struct DcGossipSession
{
	uint64_t incarnation;
	uint64_t boot; /* 0: none */
	uint64_t heard_us;
	DcReplayWindow window;
} DcGossipSession;

/*
 * Starts of a node that are remembered beside that of its session: the one
 * before, and that of an original which speaks on while its clone restarts.
 */
#define DC_GOSSIP_OTHERS 2

/* What a round looks at comes first: with many nodes it is cache that counts. */
typedef struct DcGossipNode
{
	uint32_t node_id; /* 0: the slot is free */
	DcGossipState state;

	/* the record, as its owner wrote it */
	uint64_t incarnation;
	uint64_t version; /* 0: not heard of by gossip yet */
	uint64_t config_version;

	/* what this node makes of it; times are when it happened, not when told */
	uint64_t made_us;      /* the version */
	uint64_t heard_us;     /* the greatest one that anybody mentioned */
	uint64_t seen_version; /* that one */
	uint64_t called_us;    /* first call that it did not answer; 0: none */
	uint64_t doubt_us;     /* nobody heard of it since; 0: not asked */
	uint64_t asked_us;     /* this node asks since */
	uint64_t urgent_us;    /* until then its version goes first */
	uint64_t news_us;      /* when the description changed here */
	uint64_t since_us;     /* of the state */
	uint32_t calls;        /* that it did not answer */
	uint32_t advances;     /* signs of life since it was last dead */
	bool listed;           /* in the hot list */
	bool described;        /* the four texts are known */
	bool outdated;         /* but heartbeats came that belong to others */

	/* more of the record */
	bool left;
	bool closed;
	bool disputed;
	bool joining;
	bool leaving;
	uint32_t wire_version;
	uint64_t boot;
	DcHlc floor;
	uint64_t epoch;
	DcHlc clock;
	char name[DC_GOSSIP_NAME_BYTES];
	char data_center[DC_GOSSIP_NAME_BYTES];
	char address[DC_GOSSIP_ADDRESS_BYTES];
	char conninfo[DC_GOSSIP_CONNINFO_BYTES];

	/* direct contact */
	char seen_address[DC_GOSSIP_ADDRESS_BYTES];
	int64_t clock_offset_us; /* its wall clock minus ours */
	DcGossipSession session; /* heard: from it, or by a record of it */
	DcGossipSession others[DC_GOSSIP_OTHERS];
	DcGossipSession forgotten; /* the latest that is not among them */
	uint64_t session_since_us;
	uint64_t clash_until_us; /* two of them speak, as of late */
	uint64_t clash_told_us;
} DcGossipNode;

typedef struct DcGossipSend
{
	char address[DC_GOSSIP_ADDRESS_BYTES];
	size_t length; /* header included */
	uint8_t bytes[DC_GOSSIP_BYTES_MAX];
} DcGossipSend;

typedef enum DcGossipEventKind
{
	DC_GOSSIP_EVENT_STATE,    /* node went `from` -> `to` */
	DC_GOSSIP_EVENT_RESTART,  /* incarnation or boot of the node changed */
	DC_GOSSIP_EVENT_CONFIG,   /* its description changed */
	DC_GOSSIP_EVENT_IDENTITY, /* two nodes live under this id */
	DC_GOSSIP_EVENT_REFUSED,  /* a datagram was; see status and address */
	DC_GOSSIP_EVENT_FULL      /* no slot for this node */
} DcGossipEventKind;

typedef struct DcGossipEvent
{
	DcGossipEventKind kind;
	uint32_t node_id;
	DcGossipState from;
	DcGossipState to;
	DcStatus status;
	uint64_t value; /* REFUSED: the foreign version or cluster hash */
	uint64_t incarnation;
	uint64_t boot;
	char address[DC_GOSSIP_ADDRESS_BYTES];
} DcGossipEvent;

/* What one call asks the caller to do.  Emptied at the start of each call. */
typedef struct DcGossipOutput
{
	uint32_t send_count;
	uint32_t event_count;
	bool events_lost; /* more than fit: compare the whole table */
	DcGossipSend sends[DC_GOSSIP_SENDS_MAX];
	DcGossipEvent events[DC_GOSSIP_EVENTS_MAX];
} DcGossipOutput;

/* Someone else under our id. */
typedef struct DcGossipRival
{
	uint64_t until_us; /* 0: nobody */
	uint64_t incarnation;
	uint64_t boot;    /* 0: not known */
	uint64_t version; /* greatest heard: what does not move is old news */
	char address[DC_GOSSIP_ADDRESS_BYTES];
} DcGossipRival;

#define DC_GOSSIP_REPORTS 16

typedef struct DcGossip
{
	DcGossipConfig config;
	DcGossipNode *nodes; /* [0] is this node; slots never move */
	uint32_t capacity;
	uint32_t used;      /* slots from here on were never taken */
	bool address_given; /* else the peers tell */
	uint64_t wall_us;   /* as the caller said */
	uint64_t now_us;    /* the same, but never running back */
	uint64_t behind_us; /* now minus wall */
	uint64_t random;
	uint64_t next_round_us;
	uint64_t last_round_us;
	uint64_t sequence;
	uint32_t hello_credit; /* own calls that a HELLO may answer */

	DcPhi phi;             /* of how long questions take */
	double missed;         /* part of the calls that is not answered in time */
	uint64_t listening_us; /* since then without a pause */
	uint64_t received_us;  /* last datagram of anybody */
	uint32_t rally;        /* rounds in which we tell more of us that we live */
	uint32_t sweep;        /* slot that is looked at next */
	uint32_t next_digest;  /* slot that is mentioned next */

	DcGossipRival rival;
	uint64_t settled_us;   /* until then a greater self is our own past */
	uint32_t start_count;  /* of those */
	uint64_t past_version; /* greater self heard since, not yet judged */
	uint64_t past_since_us;

	uint32_t seed_count;
	bool seed_is_self[DC_GOSSIP_SEEDS_MAX];
	uint16_t seed_slot[DC_GOSSIP_SEEDS_MAX]; /* of the node there, probably */
	char seeds[DC_GOSSIP_SEEDS_MAX][DC_GOSSIP_ADDRESS_BYTES];

	struct
	{
		uint64_t key;
		uint64_t until_us;
	} reports[DC_GOSSIP_REPORTS]; /* refusals told of late */

	/* slots by what is done with them; the first two are made when needed */
	bool roster_stale;
	uint32_t live_count;
	uint32_t silent_count;
	uint32_t hot_count;
	uint16_t live[DC_NODE_IDS];
	uint16_t silent[DC_NODE_IDS];
	uint16_t hot[DC_NODE_IDS]; /* to be mentioned first, or called again */

	uint16_t slot_of[DC_NODE_IDS]; /* index + 1; 0: none */
} DcGossip;

/*
 * Starts.  `nodes` (capacity 1 .. DC_NODE_ID_MAX) belongs to the state until
 * the caller drops both.  DC_MALFORMED if the configuration is out of range.
 */
DcStatus dc_gossip_init(DcGossip *g, const DcGossipConfig *config,
						DcGossipNode *nodes, uint32_t capacity, uint64_t now_us,
						uint64_t random);

/*
 * Describes this node; spreads if anything differs.  DC_MALFORMED, and
 * nothing changes, if a text is too long or not printable ASCII.
 */
DcStatus dc_gossip_describe(DcGossip *g, const DcGossipSelf *self,
							uint64_t now_us);

/* This node took another incarnation: it starts anew under it. */
void dc_gossip_reincarnate(DcGossip *g, uint64_t incarnation, uint64_t now_us);

/* Stamps that the next heartbeat carries, and where the node stands. */
void dc_gossip_progress(DcGossip *g, DcHlc floor, uint64_t epoch, bool closed,
						bool joining, bool leaving, DcHlc clock);

/* Replaces the seeds; addresses as `from` of dc_gossip_receive has them. */
void dc_gossip_set_seeds(DcGossip *g, const char *const *addresses,
						 uint32_t count);

/*
 * Takes over what an earlier run knew: the record's texts, incarnation,
 * stamps and state of `node`.  False if there is no slot.
 */
bool dc_gossip_restore(DcGossip *g, const DcGossipNode *node, uint64_t now_us);

/* Drops a record; it comes back if anybody still forwards it. */
void dc_gossip_forget(DcGossip *g, uint32_t node_id);

/* Says goodbye: marks the own record and tells some nodes at once. */
void dc_gossip_leave(DcGossip *g, uint64_t now_us, uint64_t random,
					 DcGossipOutput *out);

/*
 * Time passed; `random` is fresh.  Cheap before dc_gossip_deadline(); at it,
 * judges all silences and contacts somebody.
 */
void dc_gossip_tick(DcGossip *g, uint64_t now_us, uint64_t random,
					DcGossipOutput *out);

/* When dc_gossip_tick wants to be called next. */
uint64_t dc_gossip_deadline(const DcGossip *g);

/*
 * A datagram came from `from` and its seal was good.  The status says why it
 * was not used; DC_OK otherwise.  Refusals worth a log line are events, each
 * once a minute and address.
 */
DcStatus dc_gossip_receive(DcGossip *g, const char *from, const void *data,
						   size_t length, uint64_t now_us, DcGossipOutput *out);

/* NULL if the node is not known.  Valid until the next call. */
const DcGossipNode *dc_gossip_find(const DcGossip *g, uint32_t node_id);

/* How surprising it is that nobody has heard of this node; 0: nobody asks. */
double dc_gossip_phi(const DcGossip *g, const DcGossipNode *node);

/* Who else speaks under our id of late; NULL: nobody. */
const DcGossipRival *dc_gossip_rival(const DcGossip *g);

/* Do two servers speak under this node's id (R15), as heard or as it says? */
bool dc_gossip_disputed(const DcGossip *g, const DcGossipNode *node);

const char *dc_gossip_state_name(DcGossipState state);

#endif
