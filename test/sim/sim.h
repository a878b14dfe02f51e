/*
 * sim.h
 *		A cluster in one thread: what each file of the simulator shares.
 *
 *	  workload    txn.c ----+                        +---- apply.c
 *	  (local transactions)  |                        |    (incoming changes)
 *	                        v                        v
 *	                 commit.c: record, flush, visible, merge, publish
 *	                        |                        |
 *	                 heap.c: rows, locks, WAL   meta.c: the dc_map
 *	                        ^                        ^
 *	  node.c: clock, watermark, maintainer, rebuild, crash
 *	  purge.c: floors, the horizon, what may be forgotten
 *	  link.c: sessions, DcStream, catch-up, relayed segments
 *	  check.c: the oracle   run.c: the scheduler   directed.c: no chance
 *	  main.c: the suite
 *
 * Every actor is a small state machine; one call of its step function is the
 * unit of interleaving, and the scheduler draws who steps next.  What
 * PostgreSQL does under a lock or in one atomic instruction is one step; what
 * another backend could come between is two.
 *
 * Everything lies in Sim: no globals but dc_canaries, no allocation during a
 * run, no clock, so a seed is a run.
 */
#ifndef SIM_H
#define SIM_H

#include "canary.h"
#include "map.h"
#include "members.h"
#include "rng.h"
#include "rules.h"
#include "stream.h"
#include "vv.h"

#define NODES_MAX    3
#define KEYS_MAX     8
#define KEY_FLOOR    KEYS_MAX /* stands for the floor of the keyspace */
#define LOCALS       3        /* backends that run local transactions */
#define WORKERS      6        /* backends that apply */
#define TXNS         (LOCALS + WORKERS + 1)
#define TXN_MAINTAIN (TXNS - 1)
#define SLOTS        LOCALS
#define QUEUE_MAX    16
#define FIFO_MAX     8
#define WAL_MAX      64
#define HISTORY_MAX  64
#define SEGMENTS_MAX 6
#define ANTIQUES     4
#define MAP_PAGES    64
#define ORACLE_MAX   4096

/* A row of the heap.  stamp == DC_HLC_NONE: there is none. */
typedef struct Row
{
	DcHlc stamp;
	uint32_t value;
} Row;

/* One key of a message. */
typedef struct Change
{
	uint32_t key;
	DcEntry entry;
	DcHlc replaced;
	bool reborn;
	uint32_t value;
} Change;

typedef struct Batch
{
	uint32_t count;
	Change change[KEYS_MAX + 1];
} Batch;

/* A vector of the few nodes there are: index = node index, not node id. */
typedef struct Claims
{
	DcHlc at[NODES_MAX];
} Claims;

/* What a commit record, or the vector's row, adds to the durable state. */
typedef struct WalRecord
{
	uint32_t written; /* keys whose row changes */
	uint32_t marked;  /* keys that get a tombstone */
	Row row[KEYS_MAX];
	DcHlc tomb[KEYS_MAX];
	DcHlc floor;  /* of a TRUNCATE */
	DcHlc purged; /* tombstones up to here go */
	bool own;     /* a local transaction: its changes are new to the cluster */
	bool vector;
	Claims claims;
} WalRecord;

typedef enum TxnState
{
	TXN_IDLE,

	/* local transactions */
	TXN_CHOOSE,
	TXN_TABLE,
	TXN_LOCK,
	TXN_SLOT,
	TXN_PUBLISH_SLOT,
	TXN_DRAW,
	TXN_FRESH,
	TXN_WRITE,
	TXN_AFTER,
	TXN_TRUNCATE,

	/* apply */
	TXN_OBSERVE,
	TXN_NEXT,
	TXN_DEATH,
	TXN_PROBE,
	TXN_BIRTH,
	TXN_DECIDE,
	TXN_CHANGE,
	TXN_SWEEP, /* of a TRUNCATE: key after key */

	/* maintainer */
	TXN_TAKE,
	TXN_RECONCILE,

	/* the steps of a commit, common to all */
	TXN_RESERVE,
	TXN_ANNOUNCE,
	TXN_RECORD,
	TXN_FLUSH,
	TXN_VISIBLE,
	TXN_MERGE,
	TXN_LOOK,
	TXN_QUEUE,
	TXN_CLEAR,
	TXN_DONE,
	TXN_FULL /* no room in the map: the transaction fails */
} TxnState;

typedef enum OpKind
{
	OP_INSERT,
	OP_UPSERT, /* INSERT ... ON CONFLICT DO UPDATE */
	OP_UPDATE,
	OP_DELETE,
	OP_CHANGE_KEY, /* UPDATE of the primary key: a death and a birth */
	OP_TRUNCATE,
	OP_ELSEWHERE /* writes to another table: only a stamp is drawn */
} OpKind;

/* A statement, where no chance chooses it. */
typedef struct ScriptOp
{
	OpKind op;
	uint32_t key;
	uint32_t new_key;
} ScriptOp;

/* A transaction's lock of the table; held until its merge is through. */
typedef enum TableLock
{
	TABLE_NONE,
	TABLE_WRITE, /* with other writers */
	TABLE_ALONE  /* TRUNCATE */
} TableLock;

/* What ROLLBACK TO SAVEPOINT brings back. */
typedef struct Savepoint
{
	bool set;
	uint32_t held;
	uint32_t written;
	uint32_t marked;
	uint32_t merged;
	Row pending[KEYS_MAX];
	DcHlc tomb[KEYS_MAX];
	DcEntry entry[KEYS_MAX];
	DcHlc replaced[KEYS_MAX];
	DcHlc saw_death[KEYS_MAX];
	DcHlc floor;
	TableLock table;
} Savepoint;

/* A transaction of any kind, on one node. */
typedef struct Txn
{
	TxnState state;
	uint32_t held;             /* keys whose row lock it has */
	uint32_t written;          /* keys whose row it changed */
	uint32_t marked;           /* keys it put a tombstone for */
	uint32_t merged;           /* keys it takes to the metadata */
	Row pending[KEYS_MAX];     /* of held keys: the row as it sees it */
	DcHlc tomb[KEYS_MAX];      /* of marked keys */
	DcEntry entry[KEYS_MAX];   /* of merged keys */
	DcHlc replaced[KEYS_MAX];  /* of merged keys: row at first lock */
	DcHlc saw_death[KEYS_MAX]; /* greatest death visible when inserted */
	int waits_for;             /* transaction that holds the key, or -1 */
	uint32_t waited;
	uint32_t next; /* key of the step at hand */
	TableLock table;
	DcHlc floor;        /* its TRUNCATE */
	DcEntry found;      /* by the merge at hand */
	uint32_t moved;     /* keys whose row went to another key */
	uint32_t reserved;  /* keys it has room for in the map */
	uint32_t pinned;    /* keys that are there and stay */
	uint32_t early;     /* deaths announced before their row was sought */
	uint32_t announced; /* deaths announced before the commit record */
	uint64_t births[KEYS_MAX]; /* of the node, before that announcement */
	uint64_t lsn;              /* of its commit record, 0: none */
	uint64_t stall_until;      /* the operating system took its time */

	/* local */
	DcHlc own;   /* its current stamp */
	DcHlc first; /* its first stamp */
	DcHlc slot_value;
	OpKind op;
	uint32_t key;
	uint32_t new_key; /* of OP_CHANGE_KEY; else the same */
	uint32_t ops_left;
	const ScriptOp *script;
	Savepoint savepoint;
	uint32_t idle_left; /* steps it stays open before it ends */
	DcHlc row_stamp;
	bool aborts;
	bool async;
	bool large;
	bool settling; /* its floor is raised */
} Txn;

/* A backend that applies one message. */
typedef struct Worker
{
	bool busy;
	int link;         /* who waits for the answer, or -1 */
	uint64_t session; /* valid for this session only */
	bool chunk;       /* of a catch-up */
	Batch batch;
	uint32_t next;
	uint32_t committed; /* changes before this one are through */
	uint32_t patience;
	bool split; /* one transaction per key */
	bool scan;  /* found by a scan of a node whose vector then was `reach` */
	Claims reach;
	DcHlc probed; /* the row, and then the entry */
	DcEntry entry;
	DcApply decision;

	/* a relayed segment: closes (from, to] of `source` */
	bool segment;
	uint32_t source;
	DcHlc from;
	DcHlc to;
} Worker;

typedef struct QueueItem
{
	Batch batch;
	bool bytes; /* false: too large, goes by key */
} QueueItem;

/* Reads entries and their rows, key by key, for a catch-up or a relay. */
typedef enum ReaderState
{
	READER_FLOOR,
	READER_ENTRY,
	READER_ROW,
	READER_AGAIN,
	READER_END
} ReaderState;

typedef struct Reader
{
	ReaderState state;
	DcMapCursor cursor;
	uint32_t key;
	DcEntry entry;
	Batch out;
} Reader;

typedef struct Segment
{
	bool full;
	uint32_t source;
	DcHlc from;
	DcHlc to;
	Claims reach;
	Batch batch;
} Segment;

typedef struct Heap
{
	Row row;
	DcHlc tomb; /* greatest visible tombstone */
	int holder; /* transaction that has it locked, or -1 */
} Heap;

typedef struct Node
{
	bool up;
	uint32_t index;
	uint32_t id;
	uint64_t down_until;
	int64_t skew_us;
	DcHlc published; /* greatest W that ever left; for the checker */

	/* durable */
	Row disk_row[KEYS_MAX];
	DcHlc disk_tomb[KEYS_MAX];
	DcHlc disk_floor;
	Claims disk_claims;
	DcHlc disk_bound;
	DcHlc disk_horizon;
	WalRecord wal[WAL_MAX]; /* the tail that is not yet flushed */
	uint64_t wal_insert;    /* number of the last record */
	uint64_t wal_flushed;
	uint64_t wal_merged; /* L: greatest record whose commit was merged */

	/* memory */
	Heap heap[KEYS_MAX];
	DcHlc heap_floor; /* greatest visible one; `floor` follows it */
	DcMap map;
	DcMapEnv map_env;
	DcPagePool map_pool;
	uint32_t key_shape;
	uint32_t ballast;
	DcHlc clock;
	DcHlc bound;
	DcHlc dmax;
	uint32_t dying;  /* deaths announced and not settled */
	uint32_t pins;   /* keys that may not be purged now */
	uint64_t births; /* rows applied where an unmerged death may hide */
	DcHlc floor;     /* of TRUNCATE, as merged */
	DcHlc slot[SLOTS];
	DcVv vector; /* V; of itself: W */
	DcHlc watermark;
	uint64_t watermark_position;
	QueueItem queue[QUEUE_MAX];
	uint64_t queue_oldest;
	uint64_t queue_head;
	uint32_t reconcile; /* keys on the maintainer's list */
	uint32_t rebuild;   /* next step; see node.c */

	Txn txn[TXNS];
	uint64_t serial[TXNS]; /* goes up when one ends */
	Worker worker[WORKERS];

	/* horizon and purge; see purge.c */
	DcHlc horizon;
	DcReport report[NODES_MAX]; /* what the nodes said of themselves */
	uint32_t purge_state;
	DcHlc purge_until;
	uint64_t purge_waits[TXNS]; /* serial + 1 of whom it waits for, or 0 */
	DcMapCursor purge_cursor;
	uint32_t floor_key;
	DcHlc thinned;
	uint32_t purge_key;

	/* publisher */
	uint32_t publish_state;
	DcHlc publish_drawn;
	DcHlc publish_result;
	DcHlc publish_slots[SLOTS];

	/* relay under construction */
	bool relaying;
	Reader relay_reader;
	uint32_t relay_source;
	Claims relay_reach;
	Claims relayed; /* ends of the last segments */
	DcHlc relay_from;
	DcHlc relay_to;

	/* at the end, so that a copy may leave out what is not used of it */
	uint64_t map_region[MAP_PAGES * DC_PAGE_BYTES / 8];
} Node;

typedef enum MessageKind
{
	MSG_HELLO,
	MSG_BATCH,
	MSG_CHUNK,
	MSG_CLOSE,     /* base, donor */
	MSG_WATERMARK, /* (from, to] */
	MSG_WELCOME,   /* back: the answer to hello, with V */
	MSG_VECTOR,    /* back: V, told again */
	MSG_ACK,       /* back: a chunk is durable */
	MSG_DAMAGED
} MessageKind;

typedef struct Message
{
	MessageKind kind;
	Batch batch;
	Claims base;
	Claims donor;
	Claims reach; /* of a chunk: V before the scan */
	DcHlc from;
	DcHlc to;
} Message;

typedef struct Fifo
{
	Message item[FIFO_MAX];
	uint32_t first;
	uint32_t count;
} Fifo;

/* The sending side at `from`, the receiving side at `to`. */
typedef struct Link
{
	uint32_t from;
	uint32_t to;
	bool up;
	uint64_t session;
	uint64_t attached; /* head of the queue before hello was sent */
	uint64_t head;     /* head as read at the last turn */
	DcStream stream;
	bool covered[DC_NODE_IDS];
	Reader reader;
	Claims reach; /* V before the scan */
	bool kept;    /* the catch-up may go on from the mark */
	Reader mark;  /* up to here all was acknowledged */
	Reader sent;
	uint32_t chunks_unacked;
	Fifo forth;
	Fifo back;
	bool receiving; /* a worker is busy with its last message */
} Link;

/* A flushed commit's version of a key: the truth. */
typedef struct Version
{
	uint32_t key;
	DcEntry entry;
	uint32_t value;
} Version;

/* Lengths of keys. */
enum
{
	KEYS_FIXED,
	KEYS_SHORT,
	KEYS_LONG
};

/* What a run is made of; drawn from its seed. */
typedef struct Config
{
	uint32_t nodes;
	uint32_t keys;
	uint32_t steps;
	uint32_t queue_size;
	uint32_t covered_mode; /* 0 the sender only, 1 at random, 2 every source */
	uint32_t crash_rate;   /* per 10,000 steps */
	uint32_t break_rate;
	uint32_t duplicate_rate;
	uint32_t damage_rate;
	uint32_t owe_rate;
	uint32_t relay_rate;
	uint32_t async_share; /* per 100 transactions */
	uint32_t abort_share;
	uint32_t large_share;
	uint32_t idle_share;
	uint32_t truncate_share;
	uint32_t rekey_share;
	uint32_t savepoint_share;
	bool purge;
	uint32_t key_shape;
	uint32_t ballast;     /* entries at most */
	bool antique;         /* old messages are very old */
	uint32_t merge_stall; /* per 1,000 commits */
	uint32_t clock_rate;  /* steps of a wall clock */
	uint32_t skew_us;     /* of wall clocks, at most */
	uint64_t drift_us;
	uint64_t lead_us;
	uint32_t weight[24]; /* of the kinds of actors */
} Config;

/* A fault of the surroundings, to prove that the checkers see; one a run. */
typedef enum Defect
{
	DEFECT_NONE,
	DEFECT_R1,        /* draws before it publishes its slot */
	DEFECT_R3,        /* ships what is not flushed */
	DEFECT_R4_DISK,   /* V durable ahead of its rows */
	DEFECT_R4_SEEN,   /* V is the greatest stamp seen */
	DEFECT_R6,        /* reads V after the scan */
	DEFECT_SESSION,   /* a session survives the crash of a side */
	DEFECT_RESUME,    /* a catch-up goes on behind what was acknowledged */
	DEFECT_R14,       /* restarts at the wall clock */
	DEFECT_BOUND,     /* takes in stamps beyond the bound */
	DEFECT_OBSERVE,   /* the clock ignores stamps that come in */
	DEFECT_P1_AFTER,  /* no second look at the deaths */
	DEFECT_P1_DYING,  /* the exact look ignores deaths under way */
	DEFECT_P1_SETTLE, /* a death is settled before it is merged */
	DEFECT_P2_MERGE,  /* apply leaves out of the metadata what it found */
	DEFECT_P2_BIRTH,  /* a late birth is not counted */
	DEFECT_P5,        /* keys that are present are not pinned */
	DEFECT_P6,        /* rebuild reads tombstones and rows at two times */
	DEFECT_P8,        /* watermark overtakes queued batches */
	DEFECT_P9,        /* catch-up flushes only up to L */
	DEFECT_P15,       /* catch-up skips a live entry without a row */
	DEFECT_SAVEPOINT, /* what was rolled back is shipped */
	DEFECT_REKEY,     /* a key change ships no death */

	DEFECT_R7_MEMORY,   /* m from a V that is not yet durable */
	DEFECT_R8_DURABLE,  /* purges before g is durable */
	DEFECT_R8_CLOCK,    /* purges what lies below the own watermark */
	DEFECT_R8_GRACE,    /* purges after some time */
	DEFECT_PURGE_APPLY, /* does not wait for apply in flight */
	DEFECT_PURGE_MEND,  /* does not wait for keys to be reconciled */
	DEFECT_PURGE_BLIND, /* removes what it found some time ago */
	DEFECT_R5_SCAN,     /* believes each scan, however old */

	DEFECT_FLOOR_LATE,  /* a merge below the floor stays */
	DEFECT_FLOOR_SWEEP, /* rows that came beside it stay */
	DEFECT_FLOOR_OWN,   /* an insert after TRUNCATE keeps its stamp */
	DEFECT_FLOOR_STAMP, /* TRUNCATE draws no fresh stamp */
	DEFECT_FLOOR_SCAN,  /* a floor that left entries out is not flushed */
	DEFECT_FLOOR_P1,    /* inserts ignore the floor */

	DEFECT_SEAL /* a damaged message gets through */
} Defect;

/* What a run has more of than others. */
typedef enum Trouble
{
	TROUBLE_ANY,
	TROUBLE_CRASH,
	TROUBLE_MERGE, /* long ways from a commit to its merge */
	TROUBLE_RELAY,
	TROUBLE_PURGE,
	TROUBLE_TRUNCATE,
	TROUBLE_DIRECTED, /* directed.c */
	TROUBLE_EXPLORE   /* explore.c; the seed is the scenario */
} Trouble;

typedef struct Stats
{
	uint64_t runs;
	uint64_t steps;
	uint64_t operations;
	uint64_t commits;
	uint64_t applied;
	uint64_t crashes;
	uint64_t breaks;
	uint64_t reconciles;
	uint64_t erased;
	uint64_t fetches;
	uint64_t catchups;
	uint64_t refused;  /* closings that R4 refused */
	uint64_t restamps; /* by AFTER */
	uint64_t deadlocks;
	uint64_t duplicates;
	uint64_t births;
	uint64_t waits; /* link waits for drift */
	uint64_t aborts;
	uint64_t rollbacks; /* to a savepoint */
	uint64_t truncates;
	uint64_t rekeys;
	uint64_t purged;
	uint64_t horizons;  /* times that g rose */
	uint64_t believed;  /* changes at or below g taken from a scan */
	uint64_t forgotten; /* changes at or below g refused */
	uint64_t losses;
	uint64_t outages; /* long ones */
	uint64_t clock_steps;
	uint64_t stalls;
	uint64_t gaps; /* of the queue */
	uint64_t damaged;
	uint64_t resumed;
	uint64_t relays;
	uint64_t async;
	uint64_t full; /* the map has no room */
} Stats;

typedef struct Sim
{
	Rng rng;
	Rng torment; /* of its own, see wire.c */
	uint64_t seed;
	Config config;
	uint64_t now_us;
	uint64_t step;
	bool calm;    /* no more faults, no new transactions */
	bool explore; /* no chance: explore.c says who steps */
	bool trace;
	Defect defect;
	DcMembers members;
	Trouble trouble;
	uint32_t next_value;
	Node node[NODES_MAX];
	Link link[NODES_MAX * NODES_MAX];
	Batch history[HISTORY_MAX];
	uint64_t history_count;
	Batch antique[ANTIQUES];
	Segment segment[SEGMENTS_MAX];
	Version oracle[ORACLE_MAX];
	uint32_t oracle_count;
	Stats stats;
	char failure[256];
} Sim;

#define DEFECT(sim, which) ((sim)->defect == (which))
#define BIT(key)           (1u << (key))

/* run.c: one run; true when nothing failed. */
bool sim_run(Sim *sim, uint64_t seed, Defect defect, Trouble trouble,
			 bool trace);

/* Notes the first failure; the run then ends. */
void sim_fail(Sim *sim, const char *text, ...)
	__attribute__((format(printf, 2, 3)));
#define sim_trace(sim, ...)                                                    \
	do                                                                         \
	{                                                                          \
		if ((sim)->trace)                                                      \
			sim_print(sim, __VA_ARGS__);                                       \
	} while (0)
void sim_print(const Sim *sim, const char *text, ...)
	__attribute__((format(printf, 2, 3)));

/* run.c: all nodes at their beginning. */
void sim_prepare(Sim *sim, uint64_t seed, Defect defect, Trouble trouble);

/* explore.c */
#define EXPLORE_STATES 200000 /* of a scenario, in the suite */
typedef struct Explored
{
	uint64_t budget; /* states at most; 0: as many as there is room for */
	double schedules;
	uint64_t states;
	uint64_t steps;
	bool complete; /* nothing was left out */
} Explored;

uint32_t explore_count(void);
const char *explore_name(uint32_t scenario);
bool explore_run(Sim *sim, uint32_t scenario, Defect defect, bool trace,
				 Explored *result);
uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t length);
uint64_t hash_node(const Sim *sim, const Node *node, uint64_t hash);

/* mesh.c: the same for whole operations on three nodes */
uint32_t mesh_count(void);
const char *mesh_name(uint32_t scenario);
bool mesh_run(Sim *sim, uint32_t scenario, Defect defect, bool trace,
			  Explored *result);

/* directed.c: the schedule that the seed names. */
void directed_run(Sim *sim);

/* heap.c */
void wal_flush(Sim *sim, Node *node, uint64_t lsn);
uint64_t wal_append(Sim *sim, Node *node, const WalRecord *record);
bool heap_lock(Sim *sim, Node *node, int txn, uint32_t key);
bool heap_blocked(Sim *sim, Node *node, int txn, uint32_t key);
Row heap_sees(const Node *node, int txn, uint32_t key);
bool table_blocked(const Sim *sim, Node *node, int txn, TableLock lock);
void txn_savepoint(Node *node, int txn);
void txn_rollback_to(Sim *sim, Node *node, int txn);
void txn_reset(Node *node, int txn);

/* meta.c */
void meta_init(Sim *sim, Node *node);
void meta_clear(Sim *sim, Node *node);
void meta_ballast_step(Sim *sim, Node *node);
DcEntry meta_get(const Node *node, uint32_t key);
DcEntry meta_merge(Sim *sim, Node *node, uint32_t key, DcEntry entry,
				   bool reserved);
bool meta_reserve(Sim *sim, Node *node, uint32_t key);
void meta_unreserve(Node *node, uint32_t key);
bool meta_remove(Node *node, uint32_t key);
bool meta_scan(const Node *node, DcMapCursor *cursor, const DcMapFilter *filter,
			   uint32_t *key, DcEntry *entry);
uint64_t meta_sum(const Node *node);

/* commit.c: takes one step of a commit; true once it is through. */
bool commit_step(Sim *sim, Node *node, int txn);
void death_announce(Node *node, DcHlc stamp);
DcHlc death_after(const Sim *sim, const Node *node, uint32_t key, DcHlc stamp);

/* purge.c */
void purge_gossip_step(Sim *sim, Node *node, Node *other);
void horizon_of(const Sim *sim, DcHlc stamp, DcHorizon *horizon);
DcHlc purge_horizon(const Sim *sim, const Node *node);
void purge_step(Sim *sim, Node *node);
void purge_floor_step(Sim *sim, Node *node);
bool purge_done(const Sim *sim, const Node *node);

/* txn.c, apply.c */
void local_step(Sim *sim, Node *node, int txn);
bool deadlocked(const Node *node, int txn);
int apply_start(Sim *sim, Node *node, const Batch *batch);
void apply_step(Sim *sim, Node *node, uint32_t worker);
void apply_orphan(Sim *sim, Node *node, uint32_t worker);

/* node.c */
void node_init(Sim *sim, Node *node, uint32_t index);
uint64_t node_now(const Sim *sim, const Node *node);
DcHlc node_draw(Sim *sim, Node *node); /* DC_HLC_NONE: at the bound, wait */
void node_crash(Sim *sim, Node *node);
void node_restart(Sim *sim, Node *node);
void node_publish_step(Sim *sim, Node *node);
void node_bound_step(Sim *sim, Node *node);
void node_persist_step(Sim *sim, Node *node);
void node_maintain_step(Sim *sim, Node *node);
void node_rebuild_step(Sim *sim, Node *node);
bool node_tombs_loaded(const Sim *sim, const Node *node);
bool node_rebuilt(const Sim *sim, const Node *node);

/* link.c */
void link_init(Sim *sim, Link *link, uint32_t from, uint32_t to);
void link_send_step(Sim *sim, Link *link);
void link_receive_step(Sim *sim, Link *link);
void link_answer_step(Sim *sim, Link *link);
void link_break(Sim *sim, Link *link);
bool link_worker_done(Sim *sim, Node *node, Worker *worker);
bool link_idle(const Sim *sim, const Link *link);
bool reader_step(const Sim *sim, const Node *node, Reader *r,
				 bool (*wants)(const void *ctx, DcHlc stamp), const void *ctx);
void relay_build_step(Sim *sim, Node *node);
void relay_deliver_step(Sim *sim, Node *node);

/* wire.c: what arrives of a message */
void wire_carry(Sim *sim, const Link *link, Message *m);

/* check.c */
Claims claims_of(const Sim *sim, const DcVv *vv);
void vv_of(const Sim *sim, const Claims *claims, DcVv *vv);
void check_flushed(Sim *sim, Node *node, const WalRecord *record);
void check_shipped(Sim *sim, const Node *node, const Batch *batch);
void check_coverage(Sim *sim, const Node *node, const Claims *before);
void check_horizon(Sim *sim, const Node *node, DcHlc horizon);
void check_settled(Sim *sim);
void check_node(Sim *sim, const Node *node);
void check_received(Sim *sim, const Batch *batch, const Claims *claims);
bool is_settled(const Sim *sim);

#endif
