/*
 * shmem.h
 *		Everything the processes of one server share.
 *
 * One struct in the main shared memory segment, sized at start; nothing here
 * is allocated later (P5).  It is a cache: whatever must survive a crash is a
 * row of a table.
 *
 *	 who writes           what                          guard
 *	 ------------------   ---------------------------   ----------------------
 *	 every backend        clock_last, slots, flush_lsn  atomics
 *	 launcher             clock_bound, identity         atomic; before READY
 *	 repair(), leave()... jobs                          DC_LOCK_JOBS
 *	 launcher and links   standing                      DC_LOCK_STANDING
 *	 gossip               nodes                         DC_LOCK_NODES
 *	 gossip, launcher     events (events.h)             DC_LOCK_EVENTS
 *	 replicator           links, watermark              DC_LOCK_LINKS; atomic
 *	 apply backends       vector                        DC_LOCK_VECTOR
 *	 links, waiters       acks (acks.h)                 DC_LOCK_ACKS
 *	 readers              stale keys (heal.h)           DC_LOCK_HEAL
 *	 who runs one         commands (command.h)          DC_LOCK_COMMANDS
 *	 commit callbacks     the metadata                  one lock per partition
 *
 * No lock is ever held across I/O or while waiting for another one of ours,
 * except where metadata.h and keyspace.h say so.
 */
#ifndef DATACAKE_SHMEM_H
#define DATACAKE_SHMEM_H

#include "postgres.h"

#include "datatype/timestamp.h"
#include "port/atomics.h"
#include "storage/condition_variable.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/spin.h"

#include "debts.h"
#include "register.h"

#define DC_NAME_BYTES     64
#define DC_ADDRESS_BYTES  128
#define DC_CONNINFO_BYTES 384
#define DC_ERROR_BYTES    512
#define DC_SEEDS          8

/* Locks of our tranche; the metadata partitions follow. */
enum
{
	DC_LOCK_NODES,
	DC_LOCK_LINKS,
	DC_LOCK_VECTOR,
	DC_LOCK_KEYSPACES,
	DC_LOCK_QUEUE,
	DC_LOCK_JOBS,
	DC_LOCK_STANDING,
	DC_LOCK_ACKS,
	DC_LOCK_HEAL,
	DC_LOCK_EVENTS,
	DC_LOCK_COMMANDS,
	DC_LOCK_COUNT
};

/* One that is made while it is being granted stays one. */
typedef enum DcWish
{
	DC_WISH_NONE,
	DC_WISH_MADE,
	DC_WISH_HEARD
} DcWish;

/* How far the server got after its start (P6). */
typedef enum DcPhase
{
	DC_PHASE_IDLE,       /* no extension here, or not awake yet */
	DC_PHASE_REBUILDING, /* commits merge; nothing is served or claimed */
	DC_PHASE_READY
} DcPhase;

typedef enum DcWorkerKind
{
	DC_WORKER_LAUNCHER,
	DC_WORKER_GOSSIP,
	DC_WORKER_REPLICATOR,
	DC_WORKER_MAINTAINER,
	DC_WORKER_REPAIRER,
	DC_WORKER_REGISTRAR,
	DC_WORKER_COUNT
} DcWorkerKind;

typedef struct DcWorker
{
	pid_t pid; /* 0: not running */
	Latch *latch;
	TimestampTz started_at;
	uint32 starts; /* since the server's start */
} DcWorker;

/* As gossip sees it; the order is the order of preference when merging. */
typedef enum DcNodeState
{
	DC_NODE_UNKNOWN,
	DC_NODE_ALIVE,
	DC_NODE_SUSPECT,
	DC_NODE_DEAD,
	DC_NODE_LEFT
} DcNodeState;

/*
 * What people are told: what gossip sees, what the node says of itself, and
 * what the member list says of it, in one word.
 *
 *	 joining -> alive <-> suspect -> dead      leaving -> left      removed
 */
typedef enum DcNodeLife
{
	DC_LIFE_UNKNOWN,
	DC_LIFE_JOINING, /* alive, and pulls only (R12, R13) */
	DC_LIFE_ALIVE,
	DC_LIFE_SUSPECT,
	DC_LIFE_DEAD,
	DC_LIFE_LEAVING, /* alive, and hands over what only it has */
	DC_LIFE_LEFT,
	DC_LIFE_REMOVED, /* fenced or removed by the list (R11) */
	DC_LIVES
} DcNodeLife;

/* One node of the cluster, this one included. */
typedef struct DcNode
{
	uint32 node_id; /* 0: slot is free */
	bool local;
	bool clash; /* two servers speak as this node: nobody merges (R15) */
	DcNodeState state;
	DcNodeLife life;
	uint64 incarnation;
	uint64 boot;            /* names one start of it; 0: not known */
	TimestampTz since;      /* of the state */
	TimestampTz life_since; /* of the life */
	TimestampTz heard_at;
	double phi;
	uint32 versions;       /* what it is and speaks (version.h) */
	DcHlc floor;           /* m, from its durable vector */
	uint64 epoch;          /* of the member list that m is under */
	bool closed;           /* it closed the fenced nodes of that list */
	bool joining;          /* as it says */
	bool leaving;          /* the same */
	DcHlc clock;           /* its clock when it last spoke */
	int64 clock_offset_us; /* its clock minus ours, when heard */
	char name[DC_NAME_BYTES];
	char data_center[DC_NAME_BYTES];
	char address[DC_ADDRESS_BYTES];   /* gossip, host:port */
	char conninfo[DC_CONNINFO_BYTES]; /* libpq */
	char complaint[DC_ERROR_BYTES];   /* identity clash, clock skew, ... */
} DcNode;

/* Something that takes long; node_id 0: nothing does (progress.h). */
typedef struct DcProgress
{
	uint32 node_id;
	char phase[DC_NAME_BYTES];
	uint64 keyspace;
	uint64 rows_done;
	uint64 rows_estimated; /* 0: unknown */
	uint64 bytes;
	uint64 bytes_before; /* of an earlier attempt, which count for no rate */
	TimestampTz started_at;
} DcProgress;

/* Log2 histogram of lag: bucket b counts [2^b, 2^(b+1)) microseconds. */
#define DC_LAG_BUCKETS 40

typedef enum DcLinkPhase
{
	DC_LINK_DOWN,
	DC_LINK_CONNECTING,
	DC_LINK_HELLO,
	DC_LINK_CATCHUP,
	DC_LINK_STREAM
} DcLinkPhase;

/* The outgoing link to one peer, as its replicator last described it. */
typedef struct DcLinkStats
{
	uint32 node_id; /* 0: slot is free */
	bool stranger;  /* not a member yet; there is no link, only an error */
	DcLinkPhase phase;
	TimestampTz since;
	DcHlc acked_watermark;
	uint64 sent_batches;
	uint64 sent_rows;
	uint64 sent_bytes;
	uint64 acked_batches;
	uint64 catchups;
	uint64 catchup_rows;
	DcProgress catchup;
	uint64 queued; /* batches not yet sent */
	bool level;    /* looked at when leaving: the peer has all other sources */
	uint64 lag_last_us;
	uint64 lag_max_us;
	uint64 lag_count[DC_LAG_BUCKETS];
	char last_error[DC_ERROR_BYTES];
	TimestampTz last_error_at;
} DcLinkStats;

/* A transaction in flight; own cache line. */
typedef union DcSlot
{
	struct
	{
		pg_atomic_uint64 lower_bound; /* of its stamps (R1); NONE: empty */
		pg_atomic_uint32 settling;    /* odd: between PRE_COMMIT and merge */
	};
	char pad[PG_CACHE_LINE_SIZE];
} DcSlot;

/* Keys whose heap row and entry may disagree (P2). */
#define DC_RECONCILE_KEYS 4096

/* Where this node stands in the cluster (standing.h). */
typedef struct DcStanding
{
	DcMembers members; /* as durable as its digest is told */
	uint64 epoch;      /* that digest; 0: not loaded yet */
	DcPosition at;     /* of the list among all lists (R10) */
	bool member;       /* it names this very life of the node */
	DcHorizon horizon; /* g, and whom it counts */
	DcHlc floor;       /* m under that list; DC_HLC_NONE: none */
	bool closed;       /* fenced nodes of that list are closed (R11) */
	bool joining;      /* pulls only (R12, R13) */
	bool comparing;    /* ... and compares with a donor */
	bool counted;      /* its floor was told to others, once */
	bool answered;     /* a peer answered since the start (R15) */
	bool answered_by[DC_NODE_IDS];
	uint64 claim_at_us;             /* then one answer is enough */
	uint64 life;                    /* counts how often it began to join */
	bool removed;                   /* the cluster removed this incarnation */
	char complaint[DC_ERROR_BYTES]; /* why it is no member; empty: nothing */
	DcMemberState before; /* what lists said of this id when it joined */
	DcHlc registered;     /* clock of the member that took this node in */
	DcHlc bound_at_start; /* the durable bound when the server started */
	DcHlc clock_at_start; /* all stamps since then lie above */
	DcVv joined_from;     /* V when joining began; all zero after a restart */
	DcVv durable;         /* V as saved last; all zero after a restart */
	bool delivered[DC_NODE_IDS]; /* members that sent a joiner their all */
	bool joiners[DC_NODE_IDS];   /* those that were joining when asked */
	bool ghosts[DC_NODE_IDS];    /* ... and had to compare */
} DcStanding;

/* What is to be done about one keyspace with one peer (repair_run.h). */
typedef struct DcRepairPlan
{
	uint64 keyspace;
	uint32 node_id; /* 0: only the scrub */
	bool scrub;     /* compare table and metadata first */
	bool images;    /* compare the images of rows with equal stamps */
	bool cells;     /* kept cells are believed (repair.h) */
	bool rejoin;    /* what the peer does not know is settled (rejoin.h) */
} DcRepairPlan;

/* And what came of it. */
typedef struct DcRepairOutcome
{
	uint64 keyspace;
	uint32 node_id;
	uint32 round_trips;
	uint64 differing; /* keys whose entries differ */
	uint64 fetched;   /* rows and deaths taken from the peer */
	uint64 pushed;    /* ... and given to it */
	uint64 rejoined;  /* rows the peer did not know, settled */
	uint64 kept;      /* live on one side, claimed purged by the other */
	uint64 in_flight; /* left to the stream */
	uint64 scrubbed;  /* rows that were compared with their entries */
	uint64 mended;    /* rows that were changed behind the back, settled */
	uint64 lost;      /* ... and whose image nobody asked has */
	uint64 images;    /* rows with equal stamps and other images, settled */
	uint64 sent_bytes;
	uint64 received_bytes;
	uint64 elapsed_us;
	uint64 reading_us; /* of it, reading the whole table here */
} DcRepairOutcome;

typedef enum DcJobState
{
	DC_JOB_NONE,
	DC_JOB_ASKED,
	DC_JOB_RUNS,
	DC_JOB_DONE
} DcJobState;

/* One job at a time of a kind (job.h). */
typedef struct DcJob
{
	ConditionVariable changed;
	DcJobState state;
	bool abandoned; /* nobody waits for it any more */
	uint64 plan[24];
	uint64 outcome[24];
	int sqlstate; /* 0: it went well */
	char error[DC_ERROR_BYTES];
	char hint[DC_ERROR_BYTES];
} DcJob;

#define DC_COMMAND_BYTES_MAX 65536

/* Commands for all members (command.h); guard: DC_LOCK_COMMANDS. */
typedef struct DcCommands
{
	DcHlc running;         /* which one is being run here; DC_HLC_NONE: none */
	bool ran;              /* it went well, and waits for the decision */
	pg_atomic_uint64 done; /* the last that was run here */
	pg_atomic_uint64 failed; /* it was tried late, in vain; 0: none */
	char proposed[DC_COMMAND_BYTES_MAX]; /* by this node, JSON */
} DcCommands;

typedef struct DcShared
{
	/* identity; written by the launcher before the phase leaves IDLE */
	pg_atomic_uint32 phase;
	Oid local_state; /* the table from which it woke up */
	uint64 incarnation;
	pg_atomic_uint32 incarnation_wanted; /* a DcWish: to take a new one */
	uint8 sum_seed[16];  /* of fingerprints; both since the server's start, */
	uint8 hash_seed[16]; /* of the order; the same in the whole cluster */

	/* clock (clock.h) */
	pg_atomic_uint64 clock_last;
	pg_atomic_uint64 clock_bound;
	pg_atomic_uint64 wall_offset_us;        /* wall minus CLOCK_MONOTONIC */
	pg_atomic_uint64 clock_silent_until_us; /* nothing is drawn (R15) */
	pg_atomic_uint64 clock_drawn_at_us; /* last draw, to renew only in use */
	pg_atomic_uint32 quiet; /* nothing happened of late: all look seldom */
	ConditionVariable clock_renewed;

	/* watermark and flushing (P9, R2) */
	pg_atomic_uint64 flush_lsn; /* L: commits merged so far end here */
	pg_atomic_uint64 watermark; /* W, last published */

	/* version vector; at[own id] is W; and what is owed below it */
	DcVv vector;
	DcDebts debts;
	pg_atomic_uint64 vector_version; /* changes with it, or with `incoming` */

	DcCommands commands;
	DcStanding standing;              /* DC_LOCK_STANDING */
	pg_atomic_uint32 standing_stale;  /* a list was saved: load it */
	pg_atomic_uint32 replaces;        /* it may take a known node id over */
	pg_atomic_uint32 leaving;         /* 1: hands over, 2: has left */
	pg_atomic_uint64 horizon;         /* standing.horizon.stamp (R5) */
	pg_atomic_uint64 horizon_durable; /* licenses purging (R8) */
	pg_atomic_uint64 last_tombstone;  /* a horizon from which on all may go */

	DcWorker workers[DC_WORKER_COUNT];      /* DC_LOCK_NODES */
	char seeds[DC_SEEDS][DC_ADDRESS_BYTES]; /* by join(); DC_LOCK_NODES */
	uint32 paused[DC_NODE_IDS / 32];        /* bit per peer; DC_LOCK_NODES */
	pg_atomic_uint64 nodes_version;         /* dc_nodes_version() */
	pg_atomic_uint32 links_gather;          /* DcGather */
	uint32 incoming[DC_NODE_IDS];        /* apply sessions by source; VECTOR */
	pg_atomic_uint32 calls[DC_NODE_IDS]; /* of a node, being carried out */
	pg_atomic_uint64 counters[16];       /* DcCounter */

	DcJob repair_job;  /* DcRepairPlan, DcRepairOutcome */
	DcJob members_job; /* DcMembersPlan */

	pg_atomic_uint32 retry_wanted; /* what waits may fit now (mend.h) */

	/* last event that was notified; the maintainer's (watch.h) */
	uint64 events_told;

	/* copying another node (copy_join.h) */
	pg_atomic_uint32 copies_served; /* sessions of nodes that copy this one */
	pg_atomic_uint64 copy_over;     /* life + 1 in which it is not wanted */
	pg_atomic_uint32 copy_begun;    /* what is here came by it */
	DcProgress copy_progress;       /* DC_LOCK_LINKS */

	int slot_count;
	int node_count; /* = datacake.max_nodes */
	DcSlot *slots;  /* by pgprocno */
	DcNode *nodes;
	DcLinkStats *links;
} DcShared;

typedef enum DcCounter
{
	DC_COUNT_RECONCILED,
	DC_COUNT_RECONCILE_OVERFLOWS,
	DC_COUNT_LOCAL_LOSSES,
	DC_COUNT_QUARANTINED,
	DC_COUNT_RESTAMPED,
	DC_COUNT_QUEUE_OVERFLOWS,
	DC_COUNT_APPLIED_BATCHES,
	DC_COUNT_STAMPS_TWICE,
	DC_COUNT_PURGED,
	DC_COUNT_REPAIR_KEPT,
	DC_COUNT_READ_QUESTIONS,
	DC_COUNT_READ_STALE,
	DC_COUNT_READ_REPLACED,
	DC_COUNTERS
} DcCounter;

extern DcShared *dc_shared;
extern LWLockPadded *dc_locks;

#define DC_LOCK(which) (&dc_locks[which].lock)

/* From _PG_init: asks for memory and locks, sets the startup hook. */
extern void dc_shmem_request(void);

/* ERROR unless the library was preloaded and the node is configured. */
extern void dc_require_loaded(void);

/* Is this the database that takes part? */
extern bool dc_here(void);

/*
 * Waits until the launcher has woken the node, or until the metadata is
 * complete; ERROR YD024 after some seconds.
 */
extern void dc_require_awake(void);
extern void dc_require_ready(void);

static inline void
dc_count(DcCounter counter, uint64 n)
{
	pg_atomic_fetch_add_u64(&dc_shared->counters[counter], n);
}

/* Atomic maximum; full barrier if it changed. */
static inline void
dc_raise(pg_atomic_uint64 *word, uint64 value)
{
	uint64 seen = pg_atomic_read_u64(word);

	while (seen < value && !pg_atomic_compare_exchange_u64(word, &seen, value))
		;
}

static inline DcPhase
dc_phase(void)
{
	return (DcPhase) pg_atomic_read_u32(&dc_shared->phase);
}

/*
 * Nodes, pauses or the member list: who keeps something made of them reads the
 * version first, and makes it anew when that is another one.
 */
static inline uint64
dc_nodes_version(void)
{
	uint64 version = pg_atomic_read_u64(&dc_shared->nodes_version);

	pg_read_barrier();
	return version;
}

/* They changed; after the lock was released. */
static inline void
dc_nodes_changed(void)
{
	pg_atomic_fetch_add_u64(&dc_shared->nodes_version, 1);
}

/*
 * What gossip says against taking changes from this node under this
 * incarnation: a static string, or NULL.
 */
extern const char *dc_identity_complaint(uint32 node_id, uint64 incarnation);

/* Does gossip see the node, and alive? */
extern bool dc_node_alive(uint32 node_id);

/*
 * The wire version to write to this node in, as gossip tells what it speaks;
 * where no session has settled it yet.
 */
extern uint8 dc_wire_version(uint32 node_id);

/* Is the exchange with this peer stopped by datacake.pause()? */
extern bool dc_paused(uint32 node_id);

extern const char *dc_worker_name(DcWorkerKind kind);

/* Wakes a worker; nothing happens if it does not run. */
extern void dc_worker_wake(DcWorkerKind kind);

/*
 * The same when this transaction has committed, with the flag set that tells
 * it why; not if it aborts.  One flag for each worker.
 */
extern void dc_worker_wake_at_commit(DcWorkerKind kind, pg_atomic_uint32 *flag);

/*
 * Which batches the replicator, asleep, is not woken for: an ack or its own
 * clock will do.
 */
typedef enum DcGather
{
	DC_GATHER_NOTHING,
	DC_GATHER_UNAWAITED, /* those that no COMMIT waits for */
	DC_GATHER_ALL        /* enough is under way on all links */
} DcGather;

/* A batch was published: wakes the replicator, unless it gathers such. */
static inline void
dc_replicator_has_news(bool awaited)
{
	uint32 gather = pg_atomic_read_u32(&dc_shared->links_gather);

	if (gather == DC_GATHER_NOTHING ||
		(gather == DC_GATHER_UNAWAITED && awaited))
		dc_worker_wake(DC_WORKER_REPLICATOR);
}

/* Something happened: the launcher sees to it that all workers know. */
static inline void
dc_end_quiet(void)
{
	if (pg_atomic_read_u32(&dc_shared->quiet) != 0)
		dc_worker_wake(DC_WORKER_LAUNCHER);
}

#endif
