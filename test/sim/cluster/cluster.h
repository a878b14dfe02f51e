/*
 * cluster.h
 *		Several nodes and what lies between them: what each file shares.
 *
 *	  run.c: the seed's choices, faults, who steps next
 *	    |
 *	  work.c: local transactions     member.c: identity, joining, removal
 *	    |                              |
 *	  store.c: rows, what is durable, crash, purge
 *	    |                              |
 *	  link.c: the calling side       peer.c: the called side
 *	    |                              |
 *	  net.c: sessions of bytes, datagrams, the seal; loss, delay, partitions
 *	    |                              |
 *	  gossip.c: the core's gossip    repair.c, answer.c: two nodes compared
 *
 *	  check.c: the oracle   directed.c: no chance   main.c: the suite
 *
 * Coarse inside a node, where test/sim is fine: a commit is one step, heap
 * and metadata are one thing.  What a crash leaves and what it takes are kept
 * apart (`disk`, `mem`), stamps are drawn some time before the commit, and
 * everything that travels is bytes of the core's own codecs.
 *
 * Everything lies in Sim: no globals but dc_canaries, no allocation during a
 * run, no clock, so a seed is a run.
 */
#ifndef CLUSTER_H
#define CLUSTER_H

#include "../rng.h"
#include "acked.h"
#include "batch.h"
#include "canary.h"
#include "gossip.h"
#include "keyhash.h"
#include "known.h"
#include "members.h"
#include "message.h"
#include "repair.h"
#include "rules.h"
#include "stream.h"

#define NODES_MAX     6
#define SERVERS_MAX   (NODES_MAX + 1) /* one may be a clone */
#define KEYS_MAX      12
#define KEYSPACES_MAX 3
#define CELLS_MAX     (KEYS_MAX + KEYSPACES_MAX) /* a TRUNCATE is a cell, too */
#define TXNS          3
#define WRITES_MAX    4
#define QUEUE_MAX     12
#define PIPE_MAX      4
#define BYTES_MAX     3072
#define DATAGRAMS     64
#define CHUNK_CELLS   4
#define VERSIONS_MAX  4096
#define BATCH_CELLS   CELLS_MAX
#define GOSSIP_SLOTS  (NODES_MAX + 1) /* a stranger may take one */
#define SHOWN_PAGES   64
#define KNOWN_BYTES   320
#define TRUNCATES     64

#define BIT(i) (UINT32_C(1) << (i))

/* What a node holds of a key.  stamp == DC_HLC_NONE: nothing. */
typedef struct Cell
{
	DcHlc stamp;
	uint32_t value; /* names the write; 0 when dead */
	bool dead;
} Cell;

/* The few members there are, by node index (id - 1). */
typedef struct List
{
	uint64_t incarnation[NODES_MAX];
	uint8_t state[NODES_MAX];
} List;

/* The core's debts, by node index; bit of a donor: its id. */
typedef struct Owed
{
	DcHlc to[NODES_MAX];
	uint64_t by[NODES_MAX];
} Owed;

/* What a node may lose, or not: one copy in memory, one on disk. */
typedef struct State
{
	Cell cell[CELLS_MAX];
	DcHlc vector[NODES_MAX];
	Owed owed; /* below it */
	DcHlc horizon;
	uint32_t counted; /* members that were counted when it moved last */
	DcHlc bound;
	DcHlc registered; /* R of a joiner; DC_HLC_NONE: not taken in yet */
	uint64_t incarnation;
	uint64_t timeline; /* grows with each restore that the server notices */
	List list;
	uint8_t before; /* state the cluster had of this id, as a joiner heard */
	bool joining;   /* pulls only */
	bool ghosts;    /* may hold what others forgot: must compare */
	bool outcast;   /* the lists have it fenced or removed */
	bool settled;   /* a welcome has decided whether it joins */
	uint32_t quarantined; /* rows set aside */
} State;

typedef struct Write
{
	uint32_t cell;
	bool dead;
} Write;

typedef enum TxnPhase
{
	TXN_IDLE,
	TXN_OPEN /* stamp drawn; commits or aborts at `due_us` */
} TxnPhase;

typedef struct Txn
{
	TxnPhase phase;
	bool async;
	bool aborts;
	DcHlc slot;
	DcHlc stamp;
	uint64_t due_us;
	uint32_t count;
	Write write[WRITES_MAX];
} Txn;

typedef struct Change
{
	uint32_t cell;
	Cell to;
} Change;

/* What the writer of a TRUNCATE knew (known.h). */
typedef struct Known
{
	Change of; /* the floor; stamp DC_HLC_NONE: nothing was said */
	uint32_t length;
	uint8_t bytes[KNOWN_BYTES];
} Known;

typedef struct Batch
{
	uint32_t count;
	Change change[BATCH_CELLS];
	Known known;
} Batch;

/* What a node said of itself, as gossip has it. */
typedef struct Report
{
	uint64_t incarnation;
	uint64_t version; /* 0: none */
	uint64_t epoch;
	uint64_t heard_us;
	DcHlc floor;
	DcHlc clock;
	bool closed; /* to all others, under that epoch */
} Report;

/* What travels beside the core's own hello and welcome. */
typedef struct Manners
{
	uint64_t boot;
	DcHlc clock;
	DcHlc horizon;
	uint32_t counted;
	bool joining;
	bool alone;
	bool known;
	uint8_t before;
	bool own_wanted;
	bool ghosts;
	DcHlc vector[NODES_MAX];
	List list;
} Manners;

typedef enum RepairStep
{
	REPAIR_HELLO,
	REPAIR_ENTRIES,
	REPAIR_ROWS,
	REPAIR_THIRD, /* asked what it has of what was kept */
	REPAIR_NEXT   /* keyspace */
} RepairStep;

/* A session in which a node asks. */
typedef struct Called
{
	uint32_t server;
	uint64_t incarnation;
	uint64_t session;
	uint64_t sequence;
} Called;

/* One comparison with a peer. */
typedef struct Repair
{
	bool running;
	bool rejoin;
	bool under_way; /* a question, or */
	bool answered;  /* ... its answer */
	bool third;     /* called[1] is asked */
	bool ending;    /* the entries are through */
	bool again;     /* rows are taken below the horizon, too */
	RepairStep step;
	uint32_t keyspace;
	uint64_t due_us;
	uint64_t epoch;
	Called called[2];
	uint32_t fetch; /* sets of cells */
	uint32_t push;
	uint32_t kept;
} Repair;

/* A session in which a node is asked. */
typedef struct Asker
{
	uint32_t id;
	uint64_t incarnation;
	uint64_t session; /* 0: none */
	uint64_t sequence;
	uint64_t epoch;
} Asker;

/* The called side of a session. */
typedef struct Served
{
	bool open;
	bool counted;
	uint64_t incarnation;
	uint64_t boot;
	uint64_t session;
	uint64_t sequence;
	uint32_t peer; /* node index that called */
	bool joining;  /* as it said */
	uint32_t held; /* calls carried out, not flushed and not acknowledged */
	DcHlc from[PIPE_MAX]; /* their segments; to: DC_HLC_NONE if there is none */
	DcHlc to[PIPE_MAX];
} Served;

typedef struct Node
{
	uint32_t index; /* of the server */
	uint32_t self;  /* node id - 1 */
	bool up;
	bool used;
	bool contacts;         /* knows somebody to talk to */
	uint64_t leaves_at;    /* steps; 0: it stays */
	uint64_t down_until;   /* steps */
	uint64_t full_until;   /* steps: the disk takes nothing */
	uint64_t slow_until;   /* steps */
	uint64_t rejoin_after; /* steps: the operator brings it back */
	State mem;
	State disk;
	State backup;
	bool has_backup;
	bool rolled_back; /* its disk was set back, and it is no member since */

	/* volatile */
	uint64_t boot;
	DcHlc clock;
	int64_t skew_us;
	DcHlc death[CELLS_MAX]; /* dmax */
	Txn txn[TXNS];
	Batch queue[QUEUE_MAX];
	uint64_t head;
	uint64_t oldest;
	DcHlc at_start; /* durable watermark at the start */
	DcHlc bound_at_start;
	uint32_t met;       /* members that it met since this life began */
	uint64_t born_us;   /* when that was */
	uint32_t haunted;   /* members that said they must compare */
	uint32_t delivered; /* members that brought a catch-up since the start */
	uint32_t incoming[NODES_MAX];
	uint32_t relayed; /* see link.c */
	Report report[NODES_MAX];
	Served served[SERVERS_MAX];
	Repair repair;
	Asker asker[SERVERS_MAX];
	uint32_t reported; /* cells that are live on one side only */
	uint32_t closed;   /* peers closed to, under `closed_epoch` */
	uint64_t closed_epoch;
	uint32_t versions_unflushed;
} Node;

typedef struct Message
{
	uint64_t due_us;
	uint64_t tag;
	uint32_t length;
	uint8_t bytes[BYTES_MAX];
} Message;

typedef struct Pipe
{
	uint32_t first;
	uint32_t count;
	uint64_t last_due_us;
	Message item[PIPE_MAX];
} Pipe;

typedef enum SentKind
{
	SENT_HELLO,
	SENT_CALL,
	SENT_CHUNK,
	SENT_CLOSE
} SentKind;

/* A call that is not answered yet. */
typedef struct Sent
{
	SentKind kind;
	uint32_t cursor;
	uint64_t catchup; /* number of the catch-up */
	uint64_t first;   /* publish number of its batches */
	uint32_t batches;
} Sent;

/* The calling side, from one server to another. */
typedef struct Link
{
	uint32_t from;
	uint32_t to;
	bool up;
	bool open; /* welcomed */
	uint64_t retry_us;
	uint64_t incarnation; /* of the peer, as welcomed */
	uint64_t session;
	uint64_t sequence;
	uint64_t answer; /* sequence of the next answer */
	uint64_t relay_at_us;
	uint64_t hello_us;
	uint64_t heard_us;
	uint64_t epoch; /* digest of the own list at the hello */
	uint32_t peer;  /* node index */
	bool peer_joining;
	bool told_ghosts;
	uint64_t peer_boot;
	uint64_t nonce;
	uint32_t sent_count;
	Sent sent[PIPE_MAX + 1];
	uint64_t catchup_number;
	uint32_t acked_cursor; /* where an interrupted catch-up goes on */
	uint64_t catchup_of;   /* incarnation that it is for; 0: none */
	uint32_t cursor;       /* of the running catch-up */
	bool own_wanted;       /* the peer asked for its own source */
	bool covered[DC_NODE_IDS];
	uint32_t relayed;      /* sources that were owed a relay, and got it */
	uint64_t scan_epoch;   /* digest of the own list at its start */
	uint64_t fence_epoch;  /* the catch-up that runs closes under this list */
	DcHlc scan[NODES_MAX]; /* own vector before the scan */
	DcHlc scan_horizon;
	uint32_t scan_counted;
	DcStream stream;
	DcAcked acked;         /* what was published and counts as there */
	uint64_t acked_boot;   /* of the own node: numbers begin anew */
	uint64_t catchup_head; /* of the running catch-up; 0: nothing of its own */
	DcVv left;             /* what it left to other sources */
	Owed owed;             /* own debts, before the scan */
	bool handed_on;        /* some were told */
	bool peer_settled;     /* the peer said so last */
	DcHlc floor_sent[KEYSPACES_MAX];
	Pipe forth;
	Pipe back;
} Link;

typedef struct Datagram
{
	bool used;
	uint32_t from;
	uint32_t to;
	Message message;
} Datagram;

/* A keyspace of a node as maps, while it is shown to the core. */
typedef struct Shown
{
	DcMapEnv env;
	DcMap maps[DC_MAP_PARTITIONS];
	DcPagePool pool;
	DcVv vector;
	_Alignas(8) uint8_t region[SHOWN_PAGES * DC_PAGE_BYTES];
} Shown;

/* The asking side of a comparison, and the message that is under way. */
typedef struct Talk
{
	DcRepair core;
	Message message;
} Talk;

/* A server's gossip. */
typedef struct Voice
{
	DcGossip gossip;
	DcGossipNode known[GOSSIP_SLOTS];
	DcGossipNode saved[GOSSIP_SLOTS]; /* of the last run of the server */
	uint32_t saved_count;
	uint32_t described;
	bool rival_seen;
	bool outlived; /* its rival: a new incarnation is due */
	bool was_disputed[NODES_MAX];
	uint64_t disputed_us[NODES_MAX];
	uint64_t held_until_us[NODES_MAX];
} Voice;

/* What was committed anywhere. */
typedef struct Version
{
	uint32_t cell;
	Cell to;
	uint32_t source; /* node index */
	uint32_t server;
	uint32_t had; /* servers that took it */
	bool durable; /* on the disk of its source */
	bool acknowledged;
	bool gone;     /* lost with a disk, or set aside: nobody has it */
	bool disputed; /* by one of two servers with one identity */
	bool cut_off;  /* ... after all were told: nobody takes it */
} Version;

/* The same, as the oracle has it. */
typedef struct Truncate
{
	Change of;
	DcHlc before;
	uint32_t source;
	DcHlc vector[NODES_MAX];
	DcHlc newest[KEYS_MAX];
} Truncate;

typedef enum Defect
{
	DEFECT_NONE,
	DEFECT_R3,          /* shipped before it is flushed */
	DEFECT_R4_DISK,     /* V durable ahead of its rows */
	DEFECT_R4_GREATEST, /* V = greatest stamp seen */
	DEFECT_R4_HELD,     /* what was held back is acknowledged unflushed */
	DEFECT_R6,          /* catch-up claims V as read at its end */
	DEFECT_R6_BASE,     /* adopts without the base check */
	DEFECT_R6_SESSION,  /* a session outlives a crash of one side */
	DEFECT_R7,          /* floor from V in memory */
	DEFECT_R8_CLOCK,    /* purge when the own clock has passed */
	DEFECT_R8_GRACE,    /* purge after a grace period */
	DEFECT_R8_LOCAL,    /* purge at the own floor */
	DEFECT_R8_DURABLE,  /* purge before g is durable */
	DEFECT_R11_DURABLE, /* closing acknowledged before the flush */
	DEFECT_R11_LIST,    /* closings count under any list */
	DEFECT_R14,         /* clock restarts below its bound */
	DEFECT_R15,         /* a restored backup keeps its identity */
	DEFECT_R12_EARLY,   /* a joiner ships at once */
	DEFECT_SEAL,        /* what is damaged is taken */
	DEFECT_REPLAY,      /* what was taken is taken again */
	DEFECT_OBSERVE,     /* the clock does not follow what is taken */
	DEFECT_TRUNCATE,    /* a TRUNCATE kills only what is here */
	DEFECT_FULL,        /* acknowledged though the disk is full */
	DEFECT_R12_HORIZON, /* a joiner does not take the donor's g */
	DEFECT_R15_OWN,     /* own source is not asked back */
	DEFECT_R13_WAIT,    /* a rejoiner does not wait for all */
	DEFECT_R5_DEAD,     /* at equal keys the last comer wins */
	DEFECT_R13_SHIP,    /* who was removed goes on as before */
	DEFECT_R12_OPEN,    /* open transactions are not waited for */
	DEFECT_R12_KNOWN,   /* who is in the peer's list need not join */
	DEFECT_P15_SKIP,    /* tombstones are left out of a catch-up */
	DEFECT_R15_OWE,     /* no catch-up is owed when own writes came back */
	DEFECT_R13_PURGE,   /* a joiner purges before it has compared */
	DEFECT_R13_DEATHS,  /* a joiner's own deaths are not judged */
	DEFECT_R13_RESORT,  /* nobody is a donor when all must compare */
	DEFECT_R15_CLOCK,   /* a new life writes before it met the others */
	DEFECT_R13_OTHERS,  /* others' entries are judged by R, too */
	DEFECT_R12_JOINER,  /* a joiner's clock counts as R */
	DEFECT_R12_ADOPT,   /* a catch-up may lead over the horizon */
	DEFECT_R13_OWN,     /* the own watermark tells what others know */
	DEFECT_R9_ERASE,    /* what the peer claims purged is erased */
	DEFECT_R9_TAKE,     /* ... is sent, or taken, all the same */
	DEFECT_R9_THIRD,    /* no third node is asked */
	DEFECT_R15_VERDICT, /* clones are nobody's business */
	DEFECT_R15_SELF,    /* only the claimants act upon it */
	DEFECT_R15_PEERS,   /* only the others act upon it */
	DEFECT_R15_EARLY,   /* the verdict is forgotten too early */
	DEFECT_LEFT_OWN,    /* a donor hands on no debts of its own */
	DEFECT_LEFT_DISK,   /* debts are not on disk */
	DEFECT_LEFT_VOID    /* a closing takes back what others left */
} Defect;

/* What a seed may draw; each must occur in a suite. */
typedef enum FaultClass
{
	FAULT_LOSS,
	FAULT_DUPLICATE,
	FAULT_REORDER,
	FAULT_DELAY,
	FAULT_CORRUPT,
	FAULT_REPLAY,
	FAULT_BREAK,
	FAULT_PARTITION,
	FAULT_ONE_WAY,
	FAULT_ISOLATE,
	FAULT_SLOW,
	FAULT_CRASH,
	FAULT_OUTAGE,
	FAULT_SKEW,
	FAULT_JUMP_BACK,
	FAULT_DISK_FULL,
	FAULT_BACKUP,
	FAULT_STANDBY,
	FAULT_ROLLBACK,
	FAULT_JOIN,
	FAULT_JOIN_ROWS,
	FAULT_REMOVE,
	FAULT_RETURN,
	FAULT_ABORT,
	FAULT_ASYNC,
	FAULT_TRUNCATE,
	FAULT_CLONE,
	FAULT_TAMPER_LOSS,
	FAULT_TAMPER_GHOST,
	FAULT_GOODBYE,
	FAULT_STRANGER,
	FAULT_END_OF_TIME,
	FAULTS
} FaultClass;

typedef struct Stats
{
	uint64_t runs;
	uint64_t steps;
	uint64_t operations;
	uint64_t commits;
	uint64_t messages;
	uint64_t datagrams;
	uint64_t applied;
	uint64_t stale;
	uint64_t catchups;
	uint64_t segments;
	uint64_t purged;
	uint64_t horizons;
	uint64_t joins;
	uint64_t rejoins;
	uint64_t removals;
	uint64_t resorts;
	uint64_t repairs;
	uint64_t erased;
	uint64_t reissued;
	uint64_t quarantined;
	uint64_t mended; /* by repair between members */
	uint64_t action[DC_REPAIR_ALONE + 1];
	uint64_t thirds;   /* keys that a third node settled */
	uint64_t reported; /* ... and that none could */
	uint64_t survivors;
	uint64_t conflicts; /* rows that a TRUNCATE took unknown to its writer */
	uint64_t events;    /* of gossip */
	uint64_t event[DC_GOSSIP_EVENT_FULL + 1];
	uint64_t refused;
	uint64_t waits;
	uint64_t fault[FAULTS];
} Stats;

typedef enum Trouble
{
	TROUBLE_ANY,
	TROUBLE_CRASH,
	TROUBLE_PURGE,
	TROUBLE_RESTORE,
	TROUBLE_JOIN,
	TROUBLE_REMOVE,
	TROUBLE_NET,
	TROUBLE_CLONE,
	TROUBLE_TAMPER,
	TROUBLE_KINDS,
	TROUBLE_DIRECTED = TROUBLE_KINDS /* + number of the schedule */
} Trouble;

typedef struct Config
{
	uint32_t nodes;
	uint32_t founders; /* members from the start */
	uint32_t keys;
	uint32_t keyspaces;
	uint32_t steps;
	uint32_t queue;
	uint32_t delay_us;
	uint32_t loss; /* all rates: of 10,000 */
	uint32_t duplicate;
	uint32_t corrupt;
	uint32_t replay;
	uint32_t breaks;
	uint32_t partition;
	uint32_t slow;
	uint32_t crash;
	uint32_t outage;
	uint32_t full;
	uint32_t jump;
	uint32_t backup;
	uint32_t restore;
	uint32_t removal;
	uint32_t truncate; /* of 100 */
	uint32_t deletes;  /* of 100 */
	uint32_t aborts;   /* of 100 */
	uint32_t async;    /* of 100 */
	uint32_t hot;      /* of 100: key 0 */
	uint32_t skew_us;
	uint32_t drift_us;
	uint32_t lead_us;
	uint32_t work; /* weights */
	uint32_t link;
	uint32_t gossip;
	uint32_t persist;
	uint32_t purge;
	uint32_t repair;
	uint32_t round_us; /* of gossip */
	uint32_t slots;
	uint32_t clone;
	uint32_t tamper;
	uint32_t stranger;
	bool join_rows;
	bool by_gossip; /* who is not alive is not called */
	bool loopback;  /* some servers share a machine */
	bool end_of_time;
} Config;

typedef struct Sim
{
	uint64_t seed;
	Defect defect; /* what is left out of the model, if not of the core */
	Trouble trouble;
	bool trace;
	bool calm;
	uint64_t step;
	uint64_t now_us;
	uint64_t epoch_us; /* what the clocks showed at the beginning */
	bool time_is_up;   /* ... and a draw found that it is over */
	uint32_t servers;  /* nodes, and maybe a clone */
	bool cloned;       /* two servers have one identity, ... */
	bool told;         /* ... and all of them know it */
	bool was_cloned;
	uint32_t tampered; /* cells that were changed behind a node's back */
	uint64_t next_value;
	uint64_t next_number; /* boots, sessions, nonces, incarnations */
	Rng rng;
	Config config;
	char failure[240];
	uint64_t healed_at; /* step at which partitions are drawn anew */
	uint8_t cut[SERVERS_MAX][SERVERS_MAX];
	Node node[SERVERS_MAX];
	uint32_t version_count;
	uint32_t last_of[CELLS_MAX]; /* number + 1 of the newest of a cell */
	uint32_t older[VERSIONS_MAX];
	Version version[VERSIONS_MAX];
	uint32_t truncate_count;
	Truncate truncate[TRUNCATES]; /* the latest */
	Message last_call;            /* for replays */
	uint32_t last_call_link;
	Datagram datagram[DATAGRAMS];
	DcVv vv[3]; /* scratch; only the few nodes are ever set */
	DcDebts debts[2];
	DcMembers members[2];
	DcHorizon horizon;
	DcWelcome welcome;
	DcAck ack;
	DcPart part;
	Batch parts;
	DcGossipMessage gossip;
	DcGossipOutput gossip_out;
	Voice voice[SERVERS_MAX];
	Talk talk[SERVERS_MAX];
	Message reply;
	Shown shown;
	DcRepairScratch scratch;
	Link link[SERVERS_MAX * SERVERS_MAX];
	Stats stats;
} Sim;

#define DEFECT(sim, d) ((sim)->defect == (d))

/* run.c */
bool cluster_run(Sim *sim, uint64_t seed, Defect defect, Trouble trouble,
				 bool trace);
void node_restart(Sim *sim, Node *node);
void node_clone(Sim *sim, Node *original);
void node_retire(Sim *sim, Node *node);
void sim_print(const Sim *sim, const char *text, ...)
	__attribute__((format(printf, 2, 3)));
#define sim_trace(sim, ...)                                                    \
	do                                                                         \
	{                                                                          \
		if ((sim)->trace)                                                      \
			sim_print(sim, __VA_ARGS__);                                       \
	} while (0)

static inline void
count_fault(Sim *sim, FaultClass kind)
{
	sim->stats.fault[kind]++;
}

static inline Link *
link_of(Sim *sim, uint32_t from, uint32_t to)
{
	return &sim->link[from * SERVERS_MAX + to];
}

static inline uint32_t
node_id(const Node *node)
{
	return node->self + 1;
}

/* Is this cell the TRUNCATE of a keyspace? */
static inline bool
is_floor(uint32_t cell)
{
	return cell >= KEYS_MAX;
}

static inline uint32_t
floor_cell(const Sim *sim, uint32_t cell)
{
	return KEYS_MAX + cell % sim->config.keyspaces;
}

/* Cells in the order of every node's map. */
static inline bool
cell_used(const Sim *sim, uint32_t cell)
{
	return is_floor(cell) ? cell - KEYS_MAX < sim->config.keyspaces :
							cell < sim->config.keys;
}

/* store.c */
void node_start(Sim *sim, Node *node);
void node_crash(Sim *sim, Node *node, uint64_t down_steps);
void node_restore(Sim *sim, Node *node, const State *state, bool noticed);
bool node_disk_takes(const Sim *sim, const Node *node);
bool node_flush(Sim *sim, Node *node);
bool node_commit_state(Sim *sim, Node *node);
bool node_persist_vector(Sim *sim, Node *node);
uint64_t node_now(const Sim *sim, const Node *node);
bool node_observe(Sim *sim, Node *node, DcHlc stamp);
DcHlc node_draw(Sim *sim, Node *node);
void node_bound_step(Sim *sim, Node *node);
void node_publish_step(Sim *sim, Node *node);
void node_purge_step(Sim *sim, Node *node);
DcApply node_apply(Sim *sim, Node *node, const Change *change, DcHlc horizon);
Cell node_read(const Sim *sim, const Node *node, uint32_t cell);
void node_put(Sim *sim, Node *node, uint32_t cell, Cell to);

/* work.c */
void work_step(Sim *sim, Node *node);
void work_write(Sim *sim, Node *node, uint32_t cell, bool dead);
Txn *work_open(Sim *sim, Node *node, uint32_t cell);
void work_close(Sim *sim, Node *node, Txn *t);
bool work_idle(const Node *node);

/* net.c */
void net_seal(const Sim *sim, Message *m, const DcAssociated *binding);
bool net_open(Sim *sim, const Message *m, const DcAssociated *binding);
bool net_cut(const Sim *sim, uint32_t from, uint32_t to);
Message *net_push(Sim *sim, Pipe *pipe);
bool net_send(Sim *sim, Link *link, Pipe *pipe, Message *m);
Message *net_due(Sim *sim, Pipe *pipe);
void net_pop(Pipe *pipe);
Datagram *net_datagram(Sim *sim, uint32_t from, uint32_t to);
void net_datagram_send(Sim *sim, Datagram *d);
void net_deliver_step(Sim *sim);
void net_faults(Sim *sim);
void net_heal(Sim *sim);
uint64_t net_delay(Sim *sim, uint32_t to);
void net_damage(Sim *sim, Message *m);

/* link.c */
void link_init(Link *link, uint32_t from, uint32_t to);
void link_close(Sim *sim, Link *link, const char *why);
void link_step(Sim *sim, Link *link);
size_t batch_encode(Sim *sim, const Batch *batch, uint8_t *bytes, size_t size);
bool link_idle(const Sim *sim, const Link *link);

/* peer.c */
void manners_write(DcWriter *w, const Manners *manners);
bool manners_read(DcReader *r, Manners *manners);
uint32_t envelope_begin(Message *m, DcWriter *w);
void envelope_middle(Message *m, DcWriter *w);
void envelope_end(Message *m, const DcWriter *w);
bool envelope_split(const Message *m, DcSlice *core, DcReader *extra);
void peer_step(Sim *sim, Link *link);
bool peer_flush_fenced(Sim *sim, Node *node);
void peer_end(Node *node, uint32_t from);
bool batch_decode(Sim *sim, DcSlice bytes, Batch *batch);
bool peer_admits(Sim *sim, const Node *node, uint32_t sender,
				 uint64_t incarnation);

/* gossip.c */
void gossip_step(Sim *sim, Node *node);
void gossip_receive(Sim *sim, Node *node, const Datagram *d);
void horizon_step(Sim *sim, Node *node);
Report report_own(Sim *sim, const Node *node);
void gossip_start(Sim *sim, Node *node);
void gossip_stop(Sim *sim, Node *node);
void gossip_leave(Sim *sim, Node *node);
void gossip_reincarnate(Sim *sim, Node *node);
void gossip_forget(Sim *sim, Node *node, uint32_t index);
void gossip_stranger(Sim *sim);
uint32_t gossip_server(Sim *sim, const Node *node, uint32_t index);
bool gossip_has_rival(Sim *sim, const Node *node);
bool gossip_disputes(Sim *sim, const Node *node, uint32_t index);
bool gossip_wants(Sim *sim, const Node *node, uint32_t server);
bool gossip_admits(Sim *sim, const Node *node, uint32_t index,
				   uint64_t incarnation);

/* member.c */
DcMembers *list_expand(const List *list, DcMembers *members);
void list_compact(const DcMembers *members, List *list);
uint64_t list_digest(Sim *sim, const List *list);
bool list_names_others(const List *list, uint32_t one, uint32_t other);
bool list_merge(List *list, const List *other);
uint32_t list_present(const List *list);
void vector_expand(const DcHlc *from, DcVv *to);
void vector_compact(const DcVv *from, DcHlc *to);
void debts_expand(const Owed *from, DcDebts *to);
void debts_compact(const DcDebts *from, Owed *to);
bool member_may_talk(const Sim *sim, const Node *node);
bool member_writes(const Sim *sim, const Node *node);
bool member_owns_complete(const Sim *sim, const Node *node);
bool member_reincarnate(Sim *sim, Node *node, const char *why);
Manners member_manners(const Sim *sim, const Node *node);
bool member_meet(Sim *sim, Node *node, uint32_t peer, uint64_t incarnation,
				 bool known, bool welcome, const Manners *manners);
bool member_fell_behind(Sim *sim, Node *node, uint32_t counted, DcHlc horizon);
bool member_includes(const List *list, uint32_t index, uint64_t incarnation);
DcHorizon *horizon_expand(DcHlc stamp, uint32_t counted, DcHorizon *horizon);
uint32_t horizon_counted(const DcHorizon *horizon);
uint32_t member_reports(Sim *sim, const Node *node,
						DcReport reports[NODES_MAX]);
bool member_reach(Sim *sim, uint32_t counted, const DcHlc *vector,
				  DcHlc horizon);
void member_step(Sim *sim, Node *node);
void member_end_joining(Sim *sim, Node *node);
void member_delivered(Sim *sim, Node *node, uint32_t peer);
void operator_remove(Sim *sim, Node *coordinator, uint32_t target);

/* repair.c */
void repair_step(Sim *sim, Node *node);
void repair_begin(Sim *sim, Node *node, uint32_t server, bool rejoin);

/* answer.c */
DcRepairNode answer_show(Sim *sim, const Node *node, uint32_t keyspace);
Batch answer_rows(const Sim *sim, const Node *node, uint32_t set);
void answer_apply(Sim *sim, Node *node, const Batch *batch, bool again);
bool answer(Sim *sim, Node *node, uint32_t from, const Message *question,
			bool hello, Message *reply);

/* directed.c */
extern const uint32_t directed_count;
void directed_prepare(Sim *sim, uint32_t number);
void directed_run(Sim *sim, uint32_t number);

/* check.c */
void sim_fail(Sim *sim, const char *text, ...)
	__attribute__((format(printf, 2, 3)));
void check_truncates(Sim *sim, const Node *node, uint32_t cell, Cell to);
void check_known(Sim *sim, const Change *floor, uint32_t key, DcHlc stamp,
				 bool known);
void check_committed(Sim *sim, Node *node, uint32_t cell, Cell to);
void check_flushed(Sim *sim, Node *node);
void check_crashed(Sim *sim, Node *node);
void check_rolled_back(Sim *sim, Node *node, const State *state);
void check_removed(Sim *sim, const List *list);
void check_taken(Sim *sim, Node *node, uint32_t cell, Cell to);
void check_shipped(Sim *sim, const Node *node, const Change *change);
void check_acked(Sim *sim, const Node *node, const Link *link, uint64_t from);
void check_vector(Sim *sim, const Node *node, const DcHlc *before);
void check_horizon(Sim *sim, const Node *node);
void check_erased(Sim *sim, const Node *node, uint32_t cell, Cell what);
void check_set_aside(Sim *sim, const Node *node, uint32_t cell, Cell what);
void check_cloned(Sim *sim, const Node *original, const Node *clone);
void check_told(Sim *sim);
void check_retired(Sim *sim, const Node *node);
bool is_twin(const Sim *sim, const Node *node);
bool is_settled(Sim *sim, bool tombstones);
void explain_unsettled(Sim *sim);
bool is_equal(const Sim *sim, uint32_t cell);
void check_settled(Sim *sim);

#endif
