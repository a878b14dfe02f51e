/*
 * explore.c
 *		Every order of the steps of a few actors, instead of chance.
 *
 * A scenario sets up one to three nodes and names actors: a local transaction
 * with its statements, a change to apply, the maintainer, a purge, a
 * catch-up, a crash.  From each state every actor that can move is tried,
 * depth first.  States that were seen before, by a hash of all that matters,
 * are not entered again; what can follow them is known, and so the number of
 * orders (schedules) that were covered is exact, though most of them share
 * their states.
 *
 * An actor that only waits changes nothing and counts as unable to move.
 * Where none can move, all must have ended, and the rows must be the last
 * writes.
 */
#include "sim.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define ACTORS_MAX 8
#define DEPTH_MAX  400
#define SEEN_SLOTS (1u << 21)

typedef enum ActorKind
{
	ACTOR_TXN,    /* local, of its script */
	ACTOR_CHANGE, /* applies `change`; again after a crash */
	ACTOR_MAINTAINER,
	ACTOR_SETTLED, /* the node's durable V, and that of all, pass `change` */
	ACTOR_PURGER,  /* `count` rounds */
	ACTOR_PUBLISHER,
	ACTOR_REBUILDER,
	ACTOR_READER, /* a whole catch-up to another node */
	ACTOR_FLUSHER,
	ACTOR_CRASHER
} ActorKind;

typedef struct Actor
{
	ActorKind kind;
	uint32_t node;
	uint32_t count; /* rounds, or statements */
	Change change;
	ScriptOp script[4];
	bool large;
	bool async;
	bool scan; /* found by a scan of a node that then had nothing */
} Actor;

typedef struct Scenario
{
	const char *name;
	const char *claim;
	Row row;     /* of key 0 at first, on all nodes */
	Row row_one; /* of key 1 */
	bool tombs;  /* key 1 is dead instead, at row_one's stamp */
	bool rebuilds;
	bool purge;
	uint32_t actors;
	Actor actor[ACTORS_MAX];
} Scenario;

/* What an actor has done; part of the state. */
typedef struct Progress
{
	uint32_t stage;
	int worker;
	bool done;
} Progress;

typedef struct State
{
	Progress progress[ACTORS_MAX];
	uint32_t oracle_count;
	Reader reader;
	Claims reach;
	Claims base;
	Node node;
} State;

/* Two pages of the map are enough for two keys. */
#define STATE_BYTES                                                            \
	(offsetof(State, node) + offsetof(Node, map_region) + 2 * DC_PAGE_BYTES)

typedef struct Seen
{
	uint64_t hash; /* 0: free */
	double schedules;
} Seen;

typedef struct Explorer
{
	Sim *sim;
	const Scenario *scenario;
	State now;
	State *stack; /* DEPTH_MAX of them */
	Seen *seen;
	uint64_t states;
	uint64_t steps;
	uint64_t budget;
	uint8_t path[DEPTH_MAX];
	uint32_t depth;
	bool truncated;
} Explorer;

#define S(us, id) ((DcHlc) (us) << 10 | (id))

/* ---- scenarios --------------------------------------------------------------- */

#define ROW(stamp)                                                             \
	{                                                                          \
		(stamp), (uint32_t) (stamp)                                            \
	}
#define BIRTH(stamp)                                                           \
	{                                                                          \
		.key = 0, .entry = {(stamp), false}, .value = (uint32_t) (stamp)       \
	}
#define DEATH(stamp)                                                           \
	{                                                                          \
		.key = 0, .entry = {(stamp), true }                                    \
	}
#define FLOOR(stamp)                                                           \
	{                                                                          \
		.key = KEY_FLOOR, .entry = {(stamp), true }                            \
	}

static const Scenario scenarios[] = {
	{.name = "delete-insert",
	 .claim = "a delete, an insert and an update of one key",
	 .row = ROW(S(100, 2)),
	 .row_one = ROW(S(110, 3)),
	 .actors = 3,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 2,
				.script = {{OP_DELETE, 0, 0}, {OP_UPDATE, 1, 1}}},
			   {.kind = ACTOR_TXN,
				.count = 2,
				.script = {{OP_ELSEWHERE, 0, 0}, {OP_UPSERT, 0, 0}}},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "apply-beside",
	 .claim = "a death and an older row arrive beside a local insert",
	 .row = ROW(S(100, 2)),
	 .actors = 4,
	 .actor = {{.kind = ACTOR_CHANGE, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_CHANGE, .change = BIRTH(S(200, 2))},
			   {.kind = ACTOR_TXN,
				.count = 2,
				.script = {{OP_ELSEWHERE, 0, 0}, {OP_INSERT, 0, 0}}},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "overtaken",
	 .claim = "update, death and the update again, in any order",
	 .row = ROW(S(100, 2)),
	 .actors = 4,
	 .actor = {{.kind = ACTOR_CHANGE, .change = BIRTH(S(200, 2))},
			   {.kind = ACTOR_CHANGE, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_CHANGE, .change = BIRTH(S(200, 2))},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "purge-duplicate",
	 .claim = "a purge against an old row that comes again, and a crash",
	 .row = ROW(S(100, 2)),
	 .purge = true,
	 .actors = 7,
	 .actor = {{.kind = ACTOR_CHANGE, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_CHANGE, .change = BIRTH(S(100, 2))},
			   {.kind = ACTOR_SETTLED, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_PURGER, .count = 1},
			   {.kind = ACTOR_MAINTAINER},
			   {.kind = ACTOR_CRASHER},
			   {.kind = ACTOR_REBUILDER}}},
	{.name = "purge-scan",
	 .claim = "a purge against an old row that a late scan brings",
	 .row = ROW(S(100, 2)),
	 .purge = true,
	 .actors = 5,
	 .actor = {{.kind = ACTOR_CHANGE, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_CHANGE, .scan = true, .change = BIRTH(S(100, 2))},
			   {.kind = ACTOR_SETTLED, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_PURGER, .count = 1},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "purge-apply",
	 .claim = "a purge against a row that is still on its way",
	 .purge = true,
	 .actors = 5,
	 .actor = {{.kind = ACTOR_CHANGE, .change = BIRTH(S(200, 2))},
			   {.kind = ACTOR_CHANGE, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_SETTLED, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_PURGER, .count = 1},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "purge-again",
	 .claim = "a purge against a death that comes twice",
	 .purge = true,
	 .row = ROW(S(100, 2)),
	 .actors = 5,
	 .actor = {{.kind = ACTOR_CHANGE, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_CHANGE, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_SETTLED, .change = DEATH(S(300, 3))},
			   {.kind = ACTOR_PURGER, .count = 1},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "purge-insert",
	 .claim = "a purge of a dead key that is inserted again",
	 .purge = true,
	 .row = ROW(S(100, 2)),
	 .row_one = ROW(S(150, 2)),
	 .tombs = true,
	 .actors = 5,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 2,
				.script = {{OP_INSERT, 1, 1}, {OP_CHANGE_KEY, 0, 1}}},
			   {.kind = ACTOR_TXN, .count = 1, .script = {{OP_UPSERT, 1, 1}}},
			   {.kind = ACTOR_SETTLED, .change = DEATH(S(160, 3))},
			   {.kind = ACTOR_PURGER, .count = 1},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "truncate-insert",
	 .claim = "TRUNCATE elsewhere against an open insert and an old row",
	 .row = ROW(S(100, 2)),
	 .actors = 4,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 2,
				.script = {{OP_ELSEWHERE, 0, 0}, {OP_INSERT, 1, 1}}},
			   {.kind = ACTOR_CHANGE, .change = FLOOR(S(2000, 3))},
			   {.kind = ACTOR_CHANGE, .change = BIRTH(S(1500, 2))},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "truncate-here",
	 .claim = "TRUNCATE here, large, against inserts and an old row",
	 .row = ROW(S(100, 2)),
	 .actors = 4,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 2,
				.large = true,
				.script = {{OP_TRUNCATE, 0, 0}, {OP_INSERT, 0, 0}}},
			   {.kind = ACTOR_TXN,
				.count = 2,
				.script = {{OP_ELSEWHERE, 0, 0}, {OP_INSERT, 1, 1}}},
			   {.kind = ACTOR_CHANGE, .change = BIRTH(S(200, 2))},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "truncate-crash",
	 .claim = "TRUNCATE elsewhere against an insert, and a crash at each step",
	 .row = ROW(S(100, 2)),
	 .actors = 5,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 2,
				.async = true,
				.script = {{OP_ELSEWHERE, 0, 0}, {OP_INSERT, 1, 1}}},
			   {.kind = ACTOR_CHANGE, .change = FLOOR(S(2000, 3))},
			   {.kind = ACTOR_MAINTAINER},
			   {.kind = ACTOR_CRASHER},
			   {.kind = ACTOR_REBUILDER}}},
	{.name = "delete-crash",
	 .claim = "a delete and an insert of one key, and a crash at each step",
	 .row = ROW(S(100, 2)),
	 .actors = 6,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 1,
				.async = true,
				.script = {{OP_DELETE, 0, 0}}},
			   {.kind = ACTOR_TXN, .count = 1, .script = {{OP_INSERT, 0, 0}}},
			   {.kind = ACTOR_CHANGE, .change = BIRTH(S(200, 2))},
			   {.kind = ACTOR_MAINTAINER},
			   {.kind = ACTOR_CRASHER},
			   {.kind = ACTOR_REBUILDER}}},
	{.name = "publish",
	 .claim = "the watermark beside two transactions and a crash",
	 .row = ROW(S(100, 2)),
	 .actors = 5,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 2,
				.async = true,
				.script = {{OP_UPDATE, 0, 0}, {OP_INSERT, 1, 1}}},
			   {.kind = ACTOR_TXN, .count = 1, .script = {{OP_INSERT, 1, 1}}},
			   {.kind = ACTOR_PUBLISHER, .count = 2},
			   {.kind = ACTOR_CRASHER},
			   {.kind = ACTOR_REBUILDER}}},
	{.name = "scan",
	 .claim = "a catch-up beside an update, a delete and a change of the key",
	 .row = ROW(S(100, 2)),
	 .actors = 4,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 1,
				.async = true,
				.script = {{OP_CHANGE_KEY, 0, 1}}},
			   {.kind = ACTOR_CHANGE, .change = BIRTH(S(200, 2))},
			   {.kind = ACTOR_READER},
			   {.kind = ACTOR_MAINTAINER}}},
	{.name = "scan-truncate",
	 .claim = "a catch-up beside a TRUNCATE that is not flushed",
	 .row = ROW(S(100, 2)),
	 .row_one = ROW(S(110, 3)),
	 .actors = 4,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 1,
				.async = true,
				.script = {{OP_TRUNCATE, 0, 0}}},
			   {.kind = ACTOR_READER},
			   {.kind = ACTOR_MAINTAINER},
			   {.kind = ACTOR_FLUSHER}}},
	{.name = "rebuild",
	 .claim = "the rebuild beside a TRUNCATE, a delete and an insert",
	 .row = ROW(S(100, 2)),
	 .row_one = ROW(S(110, 3)),
	 .rebuilds = true,
	 .actors = 4,
	 .actor = {{.kind = ACTOR_TXN,
				.count = 1,
				.async = true,
				.script = {{OP_DELETE, 0, 0}}},
			   {.kind = ACTOR_TXN,
				.count = 1,
				.async = true,
				.script = {{OP_TRUNCATE, 1, 1}}},
			   {.kind = ACTOR_REBUILDER},
			   {.kind = ACTOR_MAINTAINER}}},
};
#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

/* ---- the state ----------------------------------------------------------------- */

uint64_t
hash_bytes(uint64_t hash, const void *bytes, size_t length)
{
	const uint8_t *at = bytes;
	uint64_t word;

	for (; length >= 8; at += 8, length -= 8)
	{
		memcpy(&word, at, 8);
		hash = (hash ^ word) * UINT64_C(0x9e3779b97f4a7c15);
		hash ^= hash >> 29;
	}
	word = length;
	memcpy(&word, at, length);
	hash = (hash ^ word) * UINT64_C(0xbf58476d1ce4e5b9);
	return hash ^ hash >> 32;
}

#define HASH_FIELDS(hash, node, first, end)                                    \
	hash_bytes(hash, (const uint8_t *) (node) + offsetof(Node, first),         \
			   offsetof(Node, end) - offsetof(Node, first))

uint64_t
hash_node(const Sim *sim, const Node *node, uint64_t hash)
{
	Claims claims = claims_of(sim, &node->vector);

	hash = HASH_FIELDS(hash, node, published, wal);
	for (uint64_t at = node->wal_flushed; at < node->wal_insert; at++)
		hash = hash_bytes(hash, &node->wal[at % WAL_MAX], sizeof(WalRecord));
	hash = HASH_FIELDS(hash, node, wal_insert, map);
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		DcEntry entry = meta_get(node, key);
		uint64_t word = entry.stamp << 1 | entry.dead;

		hash = hash_bytes(hash, &word, sizeof(word));
	}
	hash = HASH_FIELDS(hash, node, clock, vector);
	hash = hash_bytes(hash, &claims, sizeof(claims));
	hash = HASH_FIELDS(hash, node, watermark, queue);
	hash = HASH_FIELDS(hash, node, queue_oldest, txn);
	for (int i = 0; i < TXNS; i++)
	{
		const Txn *t = &node->txn[i];

		if (t->state != TXN_IDLE)
			hash = hash_bytes(hash + (uint64_t) i, t, offsetof(Txn, savepoint));
	}
	for (int i = 0; i < WORKERS; i++)
	{
		const Worker *w = &node->worker[i];

		if (w->busy)
			hash = hash_bytes(hash + (uint64_t) i, &w->next,
							  sizeof(*w) - offsetof(Worker, next));
	}
	hash = HASH_FIELDS(hash, node, horizon, report);
	hash = HASH_FIELDS(hash, node, purge_state, relaying);
	return hash;
}

static uint64_t
hash_state(const Explorer *x)
{
	uint64_t hash = hash_node(x->sim, &x->now.node, 1);

	hash = hash_bytes(hash, x->now.progress, sizeof(x->now.progress));
	hash = hash_bytes(hash, &x->now.reader, sizeof(x->now.reader));
	return hash | 1;
}

/* The state lies in the simulator while a step runs. */
static void
load(Explorer *x, const State *state)
{
	memcpy(&x->now, state, STATE_BYTES);
}

/* ---- actors ---------------------------------------------------------------------- */

static void
crash(Explorer *x, Node *node)
{
	node_crash(x->sim, node);
	node_restart(x->sim, node);
	node->bound = node->disk_bound = node->clock + S(5000, 0);
	for (uint32_t i = 0; i < x->scenario->actors; i++)
	{
		const Actor *actor = &x->scenario->actor[i];
		Progress *p = &x->now.progress[i];

		if (actor->kind == ACTOR_CHANGE && !p->done)
			p->stage = 0; /* it comes again */
		else if (actor->kind == ACTOR_TXN && p->stage > 0)
			p->done = true;
		else if (actor->kind == ACTOR_READER)
			p->done = true;
	}
}

static void
step_txn(Explorer *x, const Actor *actor, Progress *p, uint32_t index)
{
	Node *node = &x->now.node;
	int txn = 0;

	for (uint32_t i = 0; i < index; i++)
		txn += x->scenario->actor[i].kind == ACTOR_TXN;
	if (p->stage == 0)
	{
		txn_reset(node, txn);
		node->txn[txn].state = TXN_CHOOSE;
		node->txn[txn].large = actor->large;
		node->txn[txn].async = actor->async;
		node->txn[txn].script = actor->script;
		node->txn[txn].ops_left = actor->count;
		p->stage = 1;
	}
	local_step(x->sim, node, txn);
	p->done = node->txn[txn].state == TXN_IDLE;
}

static void
step_change(Explorer *x, const Actor *actor, Progress *p)
{
	Node *node = &x->now.node;
	Batch batch = {.count = 1};

	if (!node_tombs_loaded(x->sim, node))
		return;
	if (p->stage == 0)
	{
		batch.change[0] = actor->change;
		p->worker = apply_start(x->sim, node, &batch);
		node->worker[p->worker].scan = actor->scan;
		p->stage = 1;
	}
	apply_step(x->sim, node, (uint32_t) p->worker);
	p->done = !node->worker[p->worker].busy;
}

/* Every source closed its segment: what `change` says, and more, is here. */
static void
step_settled(Explorer *x, const Actor *actor, Progress *p)
{
	Sim *sim = x->sim;
	Node *node = &x->now.node;
	DcHlc stamp = actor->change.entry.stamp;

	if (!node_rebuilt(sim, node))
		return;
	for (uint32_t i = 0; i < x->scenario->actors; i++)
	{
		const Actor *other = &x->scenario->actor[i];
		DcHlc above = node->floor;

		if (other->kind != ACTOR_CHANGE)
			continue;
		if (meta_get(node, other->change.key).stamp > above)
			above = meta_get(node, other->change.key).stamp;
		if (other->change.entry.stamp <= stamp &&
			above < other->change.entry.stamp)
			return; /* that is not here yet, nor anything newer */
	}
	wal_flush(sim, node, node->wal_insert);
	for (uint32_t source = 0; source < sim->config.nodes; source++)
	{
		sim->node[0].disk_claims.at[source] = stamp;
		node->disk_claims.at[source] = stamp;
		node->vector.at[source + 1] = stamp;
	}
	p->done = true;
}

static void
step_purger(Explorer *x, const Actor *actor, Progress *p)
{
	Sim *sim = x->sim;
	Node *node = &x->now.node;

	if (!node_rebuilt(sim, node))
		return;
	if (node->purge_state == 0)
	{
		for (uint32_t i = 0; i < sim->config.nodes; i++)
			node->report[i] =
				(DcReport){.node_id = i + 1,
						   .incarnation = 1,
						   .epoch = dc_members_digest(&sim->members),
						   .floor = DC_HLC_MAX};
	}
	sim->config.purge = true;
	purge_step(sim, node);
	purge_floor_step(sim, node);
	if (node->purge_state == 0)
		p->stage++;
	p->done = p->stage >= actor->count;
}

static bool
reader_wants(const void *ctx, DcHlc stamp)
{
	const Claims *base = ctx;

	return stamp > base->at[dc_hlc_node_id(stamp) - 1];
}

/* V first, then the scan; at the end the peer must have what it claims. */
static void
step_reader(Explorer *x, Progress *p)
{
	Sim *sim = x->sim;
	Node *node = &x->now.node;
	State *s = &x->now;

	if (p->stage == 0)
	{
		s->reader = (Reader){.state = READER_FLOOR};
		s->base = (Claims){{0}};
		s->reach = claims_of(sim, &node->vector);
		p->stage = 1;
		return;
	}
	if (!reader_step(sim, node, &s->reader, reader_wants, &s->base))
		return;
	if (!DEFECT(sim, DEFECT_FLOOR_SCAN) || s->reader.out.count > 0)
		wal_flush(sim, node,
				  DEFECT(sim, DEFECT_P9) ? node->wal_merged : node->wal_insert);
	check_shipped(sim, node, &s->reader.out);
	check_received(sim, &s->reader.out, &s->reach);
	p->done = true;
}

static void
step_actor(Explorer *x, uint32_t index)
{
	const Actor *actor = &x->scenario->actor[index];
	Progress *p = &x->now.progress[index];
	Node *node = &x->now.node;

	x->sim->node[0].disk_claims = node->disk_claims; /* the checker's view */
	switch (actor->kind)
	{
		case ACTOR_TXN:
			step_txn(x, actor, p, index);
			break;
		case ACTOR_CHANGE:
			step_change(x, actor, p);
			break;
		case ACTOR_MAINTAINER:
			if (node->reconcile == 0 &&
				node->txn[TXN_MAINTAIN].state == TXN_IDLE)
				purge_floor_step(x->sim, node);
			else
				node_maintain_step(x->sim, node);
			break;
		case ACTOR_SETTLED:
			step_settled(x, actor, p);
			break;
		case ACTOR_PURGER:
			step_purger(x, actor, p);
			break;
		case ACTOR_PUBLISHER:
			node_publish_step(x->sim, node);
			p->stage += node->publish_state == 0 && node_rebuilt(x->sim, node);
			p->done = p->stage >= actor->count;
			break;
		case ACTOR_REBUILDER:
			node_rebuild_step(x->sim, node);
			break;
		case ACTOR_READER:
			step_reader(x, p);
			break;
		case ACTOR_FLUSHER:
			wal_flush(x->sim, node, node->wal_insert);
			p->done = true;
			break;
		case ACTOR_CRASHER:
			crash(x, node);
			p->done = true;
			break;
	}
}

/* ---- the search --------------------------------------------------------------------- */

/* Nobody can move. */
static void
check_end(Explorer *x)
{
	Sim *sim = x->sim;
	Node *node = &x->now.node;

	for (uint32_t i = 0; i < x->scenario->actors; i++)
	{
		ActorKind kind = x->scenario->actor[i].kind;

		if (!x->now.progress[i].done && kind != ACTOR_MAINTAINER &&
			kind != ACTOR_REBUILDER && kind != ACTOR_PURGER &&
			kind != ACTOR_SETTLED)
			sim_fail(sim, "actor %u cannot end", i);
	}
	if (node->reconcile != 0 || node->txn[TXN_MAINTAIN].state != TXN_IDLE)
		sim_fail(sim, "keys %x are never reconciled", node->reconcile);
	wal_flush(sim, node, node->wal_insert);
	check_node(sim, node);
}

static Seen *
seen_slot(Explorer *x, uint64_t hash)
{
	uint32_t at = (uint32_t) (hash >> 20) & (SEEN_SLOTS - 1);

	while (x->seen[at].hash != 0 && x->seen[at].hash != hash)
		at = (at + 1) & (SEEN_SLOTS - 1);
	return &x->seen[at];
}

/* Number of schedules from here on; 0 after a failure or on a circle. */
static double
search(Explorer *x, uint64_t hash)
{
	Seen *seen = seen_slot(x, hash);
	double schedules = 0;
	bool moved = false;

	if (seen->hash != 0)
		return seen->schedules;
	if (x->states >= x->budget || x->depth >= DEPTH_MAX)
	{
		x->truncated = true;
		return 0;
	}
	seen->hash = hash;
	x->states++;
	memcpy(&x->stack[x->depth], &x->now, STATE_BYTES);
	for (uint32_t i = 0; i < x->scenario->actors; i++)
	{
		uint64_t next;

		if (x->stack[x->depth].progress[i].done)
			continue;
		x->path[x->depth] = (uint8_t) i;
		x->sim->oracle_count = x->now.oracle_count;
		step_actor(x, i);
		x->steps++;
		x->now.oracle_count = x->sim->oracle_count;
		if (x->sim->failure[0] != '\0')
		{
			x->depth++;
			return 0;
		}
		next = hash_state(x);
		if (next != hash)
		{
			moved = true;
			x->depth++;
			schedules += search(x, next);
			if (x->sim->failure[0] != '\0')
				return 0;
			x->depth--;
			load(x, &x->stack[x->depth]);
		}
	}
	if (!moved)
	{
		x->sim->oracle_count = x->now.oracle_count;
		check_end(x);
		load(x, &x->stack[x->depth]);
		schedules = 1;
	}
	seen_slot(x, hash)->schedules = schedules;
	return schedules;
}

static void
know(Sim *sim, uint32_t key, DcEntry entry, uint32_t value)
{
	for (uint32_t i = 0; i < sim->oracle_count; i++)
	{
		if (sim->oracle[i].key == key &&
			sim->oracle[i].entry.stamp == entry.stamp)
			return;
	}
	sim->oracle[sim->oracle_count++] =
		(Version){.key = key, .entry = entry, .value = value};
}

static void
place(Sim *sim, Node *node, uint32_t key, Row row, bool dead)
{
	if (row.stamp == DC_HLC_NONE)
		return;
	if (dead)
		node->disk_tomb[key] = row.stamp;
	else
		node->disk_row[key] = row;
	know(sim, key, (DcEntry){.stamp = row.stamp, .dead = dead}, row.value);
}

static void
set_up(Explorer *x)
{
	Sim *sim = x->sim;
	Node *node = &sim->node[0];
	const Scenario *s = x->scenario;

	sim->config.keys = 2;
	sim->config.purge = s->purge;
	sim->config.ballast = 0;
	node->key_shape = KEYS_FIXED;
	sim->config.covered_mode = 2;
	sim->explore = true;
	sim->now_us = 500;
	node->skew_us = 0;
	node->disk_bound = S(5000, 1);
	for (uint32_t i = 0; i < sim->config.nodes; i++)
		node->disk_claims.at[i] = s->purge ? S(50, 1) : S(120, i + 1);
	for (uint32_t i = 1; i < sim->config.nodes; i++)
	{
		for (uint32_t source = 0; source < sim->config.nodes; source++)
			sim->node[i].disk_claims.at[source] = DC_HLC_MAX;
	}
	place(sim, node, 0, s->row, false);
	place(sim, node, 1, s->row_one, s->tombs);
	for (uint32_t i = 0; i < s->actors; i++)
	{
		const Change *change = &s->actor[i].change;

		if (s->actor[i].kind == ACTOR_CHANGE)
			know(sim, change->key, change->entry, change->value);
	}
	node_restart(sim, node);
	/* the clock stands low, so that what comes may be newer or older */
	node->clock = S(1000, 1);
	node->dmax = DC_HLC_NONE;
	if (!s->rebuilds)
	{
		while (!node_rebuilt(sim, node))
			node_rebuild_step(sim, node);
	}
	memset(&x->now, 0, sizeof(x->now));
	x->now.node = *node;
	x->now.node.map_env.pages.base = (uint8_t *) x->now.node.map_region;
	x->now.node.map_env.pages.ctx = &x->now.node;
	x->now.oracle_count = sim->oracle_count;
}

static const char *
actor_name(const Actor *actor)
{
	static const char *const names[] = {"txn",     "apply",  "maintainer",
										"settled", "purger", "publisher",
										"rebuild", "scan",   "flush",
										"crash"};

	return names[actor->kind];
}

/* Follows the path that failed once more, and says each step. */
static void
print_path(Explorer *x, Defect defect)
{
	uint8_t path[DEPTH_MAX];
	uint32_t depth = x->depth;

	memcpy(path, x->path, sizeof(path));
	sim_prepare(x->sim, 1, defect, TROUBLE_EXPLORE);
	set_up(x);
	x->sim->trace = true;
	for (uint32_t i = 0; i < depth; i++)
	{
		x->sim->step++;
		sim_print(x->sim, "%u %s", path[i],
				  actor_name(&x->scenario->actor[path[i]]));
		step_actor(x, path[i]);
	}
	if (x->sim->failure[0] == '\0')
		check_end(x);
}

uint32_t
explore_count(void)
{
	return SCENARIOS + mesh_count();
}

const char *
explore_name(uint32_t scenario)
{
	return scenario < SCENARIOS ? scenarios[scenario].name :
								  mesh_name(scenario - SCENARIOS);
}

/* All orders of one scenario; false: the simulator says what failed. */
bool
explore_run(Sim *sim, uint32_t scenario, Defect defect, bool trace,
			Explored *result)
{
	static Explorer *x;

	if (scenario >= SCENARIOS && result->budget == EXPLORE_STATES)
		result->budget /= 3; /* they are slower, and larger than that anyway */
	if (scenario >= SCENARIOS)
		return mesh_run(sim, scenario - (uint32_t) SCENARIOS, defect, trace,
						result);
	if (x == NULL)
	{
		x = calloc(1, sizeof(*x));
		if (x != NULL)
		{
			x->stack = malloc(sizeof(State) * (DEPTH_MAX + 1));
			x->seen = malloc(sizeof(Seen) * SEEN_SLOTS);
		}
		if (x == NULL || x->stack == NULL || x->seen == NULL)
			abort();
	}
	memset(x->seen, 0, sizeof(Seen) * SEEN_SLOTS);
	x->sim = sim;
	x->scenario = &scenarios[scenario];
	x->states = x->steps = 0;
	x->depth = 0;
	x->truncated = false;
	x->budget = result->budget > 0 && result->budget < SEEN_SLOTS / 2 ?
					result->budget :
					SEEN_SLOTS / 2;
	sim_prepare(sim, 1, defect, TROUBLE_EXPLORE);
	set_up(x);
	result->schedules = search(x, hash_state(x));
	result->states = x->states;
	result->steps = x->steps;
	result->complete = !x->truncated;
	if (trace && sim->failure[0] != '\0')
		print_path(x, defect);
	return sim->failure[0] == '\0';
}
