/*
 * mesh.c
 *		Three nodes and a few whole operations, in every order.
 *
 * explore.c looks between the steps of one node; here a step is a whole
 * transaction, a whole message, a whole catch-up, a purge or a crash, and the
 * orders are those of the network:
 *
 *	write     a node runs its next statement
 *	deliver   a node takes the next batch of another's stream
 *	close     ... and, having all of them, that node's watermark
 *	again     the first batch of all comes once more
 *	tell      a node's V becomes durable, and it tells its floor to all
 *	purge     a node computes g and forgets
 *	crash     a node loses what was not flushed, and every session
 *	catch up  a node whose session is lost takes all of another
 *
 * When no more can happen, whatever was left out is done, and all must agree.
 */
#include "sim.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#define MESH_NODES 3
#define MOVES_MAX  64
#define SEEN_SLOTS (1u << 20)

typedef enum MoveKind
{
	MOVE_WRITE,
	MOVE_DELIVER,
	MOVE_CLOSE,
	MOVE_AGAIN,
	MOVE_TELL,
	MOVE_PURGE,
	MOVE_CRASH,
	MOVE_CATCHUP
} MoveKind;

static const char *const move_names[] = {"write", "deliver", "close",
										 "again", "tell",    "purge",
										 "crash", "catch up"};

typedef struct Move
{
	MoveKind kind;
	uint32_t from;
	uint32_t to;
} Move;

typedef struct Write
{
	uint32_t node;
	ScriptOp op;
	bool async;
} Write;

typedef struct MeshScenario
{
	const char *name;
	const char *claim;
	uint32_t writes;
	Write write[4];
	bool crashes;
	bool again;
} MeshScenario;

static const MeshScenario scenarios[] = {
	{.name = "mesh-reinsert",
	 .claim = "a delete against an insert, an old row again, purges",
	 .writes = 2,
	 .write = {{0, {OP_DELETE, 0, 0}, false}, {1, {OP_UPSERT, 0, 0}, false}},
	 .again = true},
	{.name = "mesh-overtake",
	 .claim = "an update that overtakes the row it follows, and a delete",
	 .writes = 3,
	 .write = {{0, {OP_UPSERT, 1, 1}, false},
			   {1, {OP_UPSERT, 1, 1}, false},
			   {2, {OP_DELETE, 1, 1}, false}}},
	{.name = "mesh-truncate",
	 .claim = "a TRUNCATE against an insert and a change of the key",
	 .writes = 3,
	 .write = {{0, {OP_TRUNCATE, 0, 0}, false},
			   {1, {OP_UPSERT, 1, 1}, false},
			   {2, {OP_CHANGE_KEY, 0, 1}, false}}},
	{.name = "mesh-crash",
	 .claim = "a delete that is not flushed, an old row again, a crash",
	 .writes = 2,
	 .write = {{0, {OP_DELETE, 0, 0}, true}, {1, {OP_UPSERT, 1, 1}, false}},
	 .crashes = true,
	 .again = true},
};
#define SCENARIOS (sizeof(scenarios) / sizeof(scenarios[0]))

/* What the network did; part of the state. */
typedef struct Wires
{
	uint8_t written;                          /* of the scenario's writes */
	uint8_t position[MESH_NODES][MESH_NODES]; /* next batch, from, to */
	bool lost[MESH_NODES][MESH_NODES];
	bool again;
	bool crashed;
	DcHlc closed[MESH_NODES][MESH_NODES];
	Batch first; /* the batch that comes again */
} Wires;

typedef struct Seen
{
	uint64_t hash;
	double schedules;
} Seen;

#define NODE_BYTES (offsetof(Node, map_region) + 2 * DC_PAGE_BYTES)

/* Copies of the nodes are packed, NODE_BYTES each. */
typedef struct Saved
{
	Wires wires;
	uint32_t oracle_count;
	uint64_t node[MESH_NODES][(NODE_BYTES + 7) / 8];
} Saved;

typedef struct Mesh
{
	Sim *sim;
	const MeshScenario *scenario;
	Wires now;
	Saved *stack;
	Seen *seen;
	Move path[MOVES_MAX];
	uint32_t depth;
	Explored *result;
} Mesh;

static void
save(const Mesh *x, Saved *saved)
{
	saved->wires = x->now;
	saved->oracle_count = x->sim->oracle_count;
	for (uint32_t i = 0; i < MESH_NODES; i++)
		memcpy(saved->node[i], &x->sim->node[i], NODE_BYTES);
}

static void
restore(Mesh *x, const Saved *saved)
{
	x->now = saved->wires;
	x->sim->oracle_count = saved->oracle_count;
	for (uint32_t i = 0; i < MESH_NODES; i++)
		memcpy(&x->sim->node[i], saved->node[i], NODE_BYTES);
}

/* ---- whole operations -------------------------------------------------------- */

static void
settle(Sim *sim, Node *node)
{
	for (int i = 0; i < 200 && (node->reconcile != 0 ||
								node->txn[TXN_MAINTAIN].state != TXN_IDLE);
		 i++)
		node_maintain_step(sim, node);
	for (uint32_t i = 0; i < 2 * sim->config.keys; i++)
		purge_floor_step(sim, node);
}

static void
write_one(Sim *sim, Node *node, const Write *write)
{
	Txn *t = &node->txn[0];

	node_bound_step(sim, node);
	txn_reset(node, 0);
	t->state = TXN_CHOOSE;
	t->script = &write->op;
	t->ops_left = 1;
	t->async = write->async;
	for (int i = 0; i < 100 && node->txn[0].state != TXN_IDLE; i++)
		local_step(sim, node, 0);
	settle(sim, node);
}

static void
apply_whole(Sim *sim, Node *node, const Batch *batch, const Claims *reach)
{
	int worker = apply_start(sim, node, batch);

	node->worker[worker].scan = reach != NULL;
	if (reach != NULL)
		node->worker[worker].reach = *reach;
	for (int i = 0; i < 300 && node->worker[worker].busy; i++)
	{
		node_bound_step(sim, node);
		apply_step(sim, node, (uint32_t) worker);
	}
	if (node->worker[worker].busy)
		sim_fail(sim, "node %u: apply does not end", node->id);
	settle(sim, node);
}

static void
publish(Sim *sim, Node *node)
{
	node_bound_step(sim, node);
	do
		node_publish_step(sim, node);
	while (node->publish_state != 0);
}

static bool
wants_above(const void *ctx, DcHlc stamp)
{
	return !dc_vv_covers(ctx, stamp);
}

/* V first, the scan, the flush; then the peer adopts. */
static void
catch_up(Sim *sim, Node *from, Node *to)
{
	static DcVv base;
	static DcVv donor;
	Claims before = claims_of(sim, &to->vector);
	Claims reach;
	Reader reader = {.state = READER_FLOOR};

	publish(sim, from);
	base = to->vector;
	donor = from->vector;
	reach = claims_of(sim, &donor);
	while (!reader_step(sim, from, &reader, wants_above, &base))
		;
	if (!DEFECT(sim, DEFECT_R3))
		wal_flush(sim, from, from->wal_insert);
	check_shipped(sim, from, &reader.out);
	apply_whole(sim, to, &reader.out, &reach);
	(void) dc_vv_adopt(&to->vector, &donor, &base);
	check_coverage(sim, to, &before);
}

static void
purge_whole(Sim *sim, Node *node)
{
	do
		purge_step(sim, node);
	while (node->purge_state != 0 && sim->failure[0] == '\0');
}

static void
crash_whole(Mesh *x, Node *node)
{
	Sim *sim = x->sim;

	node_crash(sim, node);
	node_restart(sim, node);
	node_bound_step(sim, node);
	while (!node_rebuilt(sim, node))
		node_rebuild_step(sim, node);
	settle(sim, node);
	for (uint32_t i = 0; i < MESH_NODES; i++)
	{
		x->now.lost[i][node->index] = i != node->index;
		x->now.lost[node->index][i] = i != node->index;
	}
	x->now.crashed = true;
}

/* ---- moves --------------------------------------------------------------------- */

static bool
may_move(const Mesh *x, Move move)
{
	const Node *from = &x->sim->node[move.from];
	const Wires *w = &x->now;
	bool linked = move.from != move.to && !w->lost[move.from][move.to];
	uint8_t position = w->position[move.from][move.to];
	Claims told = claims_of(x->sim, &from->vector);

	switch (move.kind)
	{
		case MOVE_WRITE:
			return w->written < x->scenario->writes &&
				   x->scenario->write[w->written].node == move.from &&
				   move.to == 0;
		case MOVE_DELIVER:
			return linked && position < from->queue_head;
		case MOVE_CLOSE:
			/* nothing new: not worth a move */
			return linked && position == from->queue_head &&
				   w->written == x->scenario->writes &&
				   w->closed[move.from][move.to] == DC_HLC_NONE;
		case MOVE_AGAIN:
			return x->scenario->again && !w->again && w->first.count > 0 &&
				   move.from == 0 && move.to != 0;
		case MOVE_TELL:
			/* before it has all, its floor would say nothing new */
			for (uint32_t i = 0; i < MESH_NODES; i++)
			{
				if (i != move.from && w->closed[i][move.from] == DC_HLC_NONE)
					return false;
			}
			return move.to == 0 &&
				   memcmp(&from->disk_claims, &told, sizeof(Claims)) != 0;
		case MOVE_PURGE:
			return move.to == 0 &&
				   (DEFECT(x->sim, DEFECT_R8_CLOCK) ||
					DEFECT(x->sim, DEFECT_R8_GRACE) ||
					purge_horizon(x->sim, from) > from->disk_horizon);
		case MOVE_CRASH:
			return x->scenario->crashes && !w->crashed && move.to == 0;
		case MOVE_CATCHUP:
			return w->lost[move.from][move.to];
	}
	return false;
}

static void
make_move(Mesh *x, Move move)
{
	Sim *sim = x->sim;
	Node *from = &sim->node[move.from];
	Node *to = &sim->node[move.to];
	Wires *w = &x->now;
	Claims before = claims_of(sim, &to->vector);
	const Batch *batch;
	WalRecord record = {.vector = true};

	switch (move.kind)
	{
		case MOVE_WRITE:
			write_one(sim, from, &x->scenario->write[w->written]);
			w->written++;
			break;
		case MOVE_DELIVER:
			batch = &from->queue[w->position[move.from][move.to]++ % QUEUE_MAX]
						 .batch;
			if (!DEFECT(sim, DEFECT_R3))
				wal_flush(sim, from, from->wal_merged);
			check_shipped(sim, from, batch);
			apply_whole(sim, to, batch, NULL);
			if (DEFECT(sim, DEFECT_R4_SEEN))
				(void) dc_vv_advance(&to->vector, from->id, DC_HLC_NONE,
									 batch->change[0].entry.stamp);
			break;
		case MOVE_CLOSE:
			publish(sim, from);
			(void) dc_vv_advance(&to->vector, from->id, DC_HLC_NONE,
								 from->watermark);
			w->closed[move.from][move.to] = from->watermark;
			check_coverage(sim, to, &before);
			break;
		case MOVE_AGAIN:
			apply_whole(sim, to, &w->first, NULL);
			w->again = true;
			break;
		case MOVE_TELL:
			record.claims = claims_of(sim, &from->vector);
			wal_flush(sim, from, wal_append(sim, from, &record));
			for (uint32_t i = 0; i < MESH_NODES; i++)
				purge_gossip_step(sim, from, &sim->node[i]);
			break;
		case MOVE_PURGE:
			purge_whole(sim, from);
			break;
		case MOVE_CRASH:
			crash_whole(x, from);
			break;
		case MOVE_CATCHUP:
			catch_up(sim, from, to);
			w->position[move.from][move.to] = (uint8_t) from->queue_head;
			w->lost[move.from][move.to] = false;
			break;
	}
}

/* ---- the search ------------------------------------------------------------------ */

static uint64_t
hash_mesh(const Mesh *x)
{
	uint64_t hash = hash_bytes(2, &x->now, sizeof(x->now));

	for (uint32_t i = 0; i < MESH_NODES; i++)
	{
		const Node *node = &x->sim->node[i];

		hash = hash_node(x->sim, node, hash);
		hash = hash_bytes(hash, node->report, sizeof(node->report));
	}
	return hash | 1;
}

/* Everything that is still to come, comes. */
static void
check_end(Mesh *x)
{
	Sim *sim = x->sim;

	for (int round = 0; round < 3 && sim->failure[0] == '\0'; round++)
	{
		for (uint32_t i = 0; i < MESH_NODES * MESH_NODES; i++)
		{
			Node *from = &sim->node[i / MESH_NODES];
			Node *to = &sim->node[i % MESH_NODES];

			if (from != to)
				catch_up(sim, from, to);
		}
		for (uint32_t i = 0; i < MESH_NODES; i++)
			make_move(x, (Move){MOVE_TELL, i, 0});
		for (uint32_t i = 0; i < MESH_NODES; i++)
			make_move(x, (Move){MOVE_PURGE, i, 0});
	}
	if (sim->failure[0] == '\0')
		check_settled(sim);
}

static Seen *
seen_slot(Mesh *x, uint64_t hash)
{
	uint32_t at = (uint32_t) (hash >> 20) & (SEEN_SLOTS - 1);

	while (x->seen[at].hash != 0 && x->seen[at].hash != hash)
		at = (at + 1) & (SEEN_SLOTS - 1);
	return &x->seen[at];
}

static double
search(Mesh *x, uint64_t hash)
{
	Sim *sim = x->sim;
	Seen *seen = seen_slot(x, hash);
	Saved *saved = &x->stack[x->depth];
	double schedules = 0;
	bool moved = false;

	if (seen->hash != 0)
		return seen->schedules;
	if (x->result->states >= x->result->budget || x->depth == MOVES_MAX)
	{
		x->result->complete = false;
		return 0;
	}
	seen->hash = hash;
	x->result->states++;
	save(x, saved);
	for (uint32_t code = 0; code < 8 * 9; code++)
	{
		Move move = {(MoveKind) (code / 9), code / 3 % 3, code % 3};
		uint64_t next;

		if (!may_move(x, move))
			continue;
		x->path[x->depth] = move;
		make_move(x, move);
		x->result->steps++;
		x->depth++;
		if (sim->failure[0] != '\0')
			return 0;
		next = hash_mesh(x);
		if (next != hash)
		{
			moved = true;
			schedules += search(x, next);
		}
		if (sim->failure[0] != '\0')
			return 0;
		x->depth--;
		restore(x, saved);
	}
	if (!moved)
	{
		check_end(x);
		if (sim->failure[0] != '\0')
			return 0;
		restore(x, saved);
		schedules = 1;
	}
	seen_slot(x, hash)->schedules = schedules;
	return schedules;
}

/* Key 0 has a row that all nodes have; key 1 has none. */
static void
set_up(Mesh *x)
{
	Sim *sim = x->sim;
	Row row = {.stamp = dc_hlc_make(100, 2), .value = 1};

	memset(&x->now, 0, sizeof(x->now));
	sim->explore = true;
	sim->config.keys = 2;
	sim->config.purge = true;
	sim->config.covered_mode = 2;
	sim->config.ballast = 0;
	sim->config.damage_rate = 0;
	sim->config.lead_us = 100000;
	sim->oracle[sim->oracle_count++] =
		(Version){.key = 0, .entry = {.stamp = row.stamp}, .value = row.value};
	for (uint32_t i = 0; i < MESH_NODES; i++)
	{
		Node *node = &sim->node[i];

		node->skew_us = 0;
		node->key_shape = KEYS_FIXED;
		node->disk_row[0] = row;
		for (uint32_t source = 0; source < MESH_NODES; source++)
			node->disk_claims.at[source] = dc_hlc_make(200, source + 1);
		node_restart(sim, node);
		while (!node_rebuilt(sim, node))
			node_rebuild_step(sim, node);
	}
	x->now.first = (Batch){.count = 1};
	x->now.first.change[0] =
		(Change){.key = 0, .entry = {.stamp = row.stamp}, .value = row.value};
}

uint32_t
mesh_count(void)
{
	return SCENARIOS;
}

const char *
mesh_name(uint32_t scenario)
{
	return scenarios[scenario].name;
}

bool
mesh_run(Sim *sim, uint32_t scenario, Defect defect, bool trace,
		 Explored *result)
{
	static Mesh *x;

	if (x == NULL)
	{
		x = calloc(1, sizeof(*x));
		if (x != NULL)
		{
			x->stack = malloc(sizeof(Saved) * (MOVES_MAX + 1));
			x->seen = malloc(sizeof(Seen) * SEEN_SLOTS);
		}
		if (x == NULL || x->stack == NULL || x->seen == NULL)
			abort();
	}
	memset(x->seen, 0, sizeof(Seen) * SEEN_SLOTS);
	x->sim = sim;
	x->scenario = &scenarios[scenario];
	x->depth = 0;
	x->result = result;
	if (result->budget == 0 || result->budget > SEEN_SLOTS / 2)
		result->budget = SEEN_SLOTS / 2;
	result->states = result->steps = 0;
	result->complete = true;
	sim_prepare(sim, 1, defect, TROUBLE_EXPLORE);
	set_up(x);
	result->schedules = search(x, hash_mesh(x));
	if (trace && sim->failure[0] != '\0')
	{
		uint32_t depth = x->depth;

		sim_prepare(sim, 1, defect, TROUBLE_EXPLORE);
		set_up(x);
		sim->trace = true;
		for (uint32_t i = 0; i < depth; i++)
		{
			Move move = x->path[i];

			sim->step++;
			sim_print(sim, "%s %u %u", move_names[move.kind], move.from + 1,
					  move.to + 1);
			make_move(x, move);
		}
		if (sim->failure[0] == '\0')
			check_end(x);
	}
	return sim->failure[0] == '\0';
}
