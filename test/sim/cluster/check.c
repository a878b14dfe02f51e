/*
 * check.c
 *		The oracle: what was committed anywhere, and what follows.
 */
#include "cluster.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

void
sim_fail(Sim *sim, const char *text, ...)
{
	va_list args;

	if (sim->failure[0] != '\0')
		return;
	va_start(args, text);
	vsnprintf(sim->failure, sizeof(sim->failure), text, args);
	va_end(args);
	sim_trace(sim, "FAILURE %s", sim->failure);
}

/* ---- versions ----------------------------------------------------------- */

static Version *
version_of(Sim *sim, uint32_t cell, DcHlc stamp)
{
	for (uint32_t i = sim->last_of[cell]; i != 0; i = sim->older[i - 1])
	{
		if (sim->version[i - 1].to.stamp == stamp)
			return &sim->version[i - 1];
	}
	return NULL;
}

void
check_committed(Sim *sim, Node *node, uint32_t cell, Cell to)
{
	uint32_t n = sim->version_count;

	const Version *twin = version_of(sim, cell, to.stamp);
	bool disputed = is_twin(sim, node);

	/* one that is lost for good is nobody's any more */
	if (twin != NULL && !twin->gone && !(disputed && twin->disputed))
		sim_fail(sim, "stamp %llu was given twice",
				 (unsigned long long) to.stamp);
	for (uint32_t i = 0; i < SERVERS_MAX; i++)
	{
		const Node *other = &sim->node[i];

		if (!other->used || disputed)
			continue;
		if (other->mem.vector[node->self] >= to.stamp)
			sim_fail(sim,
					 "R2: node %u commits key %u at %llu, V of node %u claims "
					 "%llu",
					 node->index + 1, cell, (unsigned long long) to.stamp,
					 i + 1, (unsigned long long) other->mem.vector[node->self]);
		if (other->mem.horizon >= to.stamp && !node->mem.outcast &&
			node->mem.settled &&
			(!node->mem.joining || to.stamp > node->mem.registered) &&
			member_includes(&other->mem.list, node->self,
							node->mem.incarnation))
			sim_fail(sim,
					 "R12: node %u commits key %u at %llu, g of node %u is "
					 "%llu",
					 node->index + 1, cell, (unsigned long long) to.stamp,
					 i + 1, (unsigned long long) other->mem.horizon);
	}
	if (n == VERSIONS_MAX)
	{
		sim_fail(sim, "the oracle is full");
		return;
	}
	sim->version[n] = (Version){.cell = cell,
								.to = to,
								.source = node->self,
								.server = node->index,
								.had = BIT(node->index),
								.disputed = disputed,
								.cut_off = disputed && sim->told};
	sim->older[n] = sim->last_of[cell];
	sim->last_of[cell] = ++sim->version_count;
	node->versions_unflushed++;
}

/* What a node knows of a keyspace that it is about to truncate. */
void
check_truncates(Sim *sim, const Node *node, uint32_t cell, Cell to)
{
	Truncate *t = &sim->truncate[sim->truncate_count++ % TRUNCATES];

	*t = (Truncate){.of = {cell, to},
					.before = node->mem.cell[cell].stamp,
					.source = node->self};
	memcpy(t->vector, node->mem.vector, sizeof(t->vector));
	for (uint32_t key = 0; key < KEYS_MAX; key++)
	{
		DcHlc stamp = node->mem.cell[key].stamp;

		/* below the vector it says nothing of others' concurrent writes */
		if (stamp != DC_HLC_NONE &&
			stamp > node->mem.vector[dc_hlc_node_id(stamp) - 1] &&
			dc_hlc_node_id(stamp) != node_id(node))
			t->newest[key] = stamp;
	}
}

/* Does a TRUNCATE know a row that it takes exactly if its writer did? */
void
check_known(Sim *sim, const Change *floor, uint32_t key, DcHlc stamp,
			bool known)
{
	uint32_t source = dc_hlc_node_id(stamp) - 1;

	for (uint32_t i = 0; i < TRUNCATES && i < sim->truncate_count; i++)
	{
		const Truncate *t = &sim->truncate[i];
		bool knew = stamp <= t->before || stamp <= t->newest[key] ||
					source == t->source || stamp <= t->vector[source];

		if (t->of.cell == floor->cell && t->of.to.stamp == floor->to.stamp &&
			!sim->was_cloned && knew != known)
			sim_fail(sim, "key %u at %llu: a TRUNCATE says that it was %sknown",
					 key, (unsigned long long) stamp, known ? "" : "not ");
	}
}

/* A commit became durable: nobody may lose it from here on. */
void
check_flushed(Sim *sim, Node *node)
{
	for (uint32_t i = sim->version_count; node->versions_unflushed > 0 && i > 0;
		 i--)
	{
		Version *v = &sim->version[i - 1];

		if (v->server != node->index || v->durable)
			continue;
		v->durable = true;
		node->versions_unflushed--;
	}
	node->versions_unflushed = 0;
}

/* What only this disk had, but for what `state` has, is lost with it. */
static void
note_lost(Sim *sim, const Node *node, const State *state)
{
	for (uint32_t i = 0; i < sim->version_count; i++)
	{
		Version *v = &sim->version[i];

		if (!(v->had & BIT(node->index)) ||
			state->cell[v->cell].stamp >= v->to.stamp ||
			(!is_floor(v->cell) &&
			 state->cell[floor_cell(sim, v->cell)].stamp >= v->to.stamp))
			continue;
		/* had and forgotten: what is gone by it stays gone */
		if (v->to.dead && state->cell[v->cell].stamp == DC_HLC_NONE &&
			v->to.stamp <= state->horizon &&
			v->to.stamp <= state->vector[v->source])
			continue;
		v->had &= ~BIT(node->index);
		v->gone |= v->had == 0;
	}
}

void
check_crashed(Sim *sim, Node *node)
{
	for (uint32_t i = sim->version_count; node->versions_unflushed > 0 && i > 0;
		 i--)
	{
		Version *v = &sim->version[i - 1];

		if (v->server != node->index || v->durable)
			continue;
		node->versions_unflushed--;
		v->had &= ~BIT(node->index);
		v->gone = v->had == 0;
		v->server = SERVERS_MAX; /* it will never be durable */
	}
	note_lost(sim, node, &node->disk); /* taken, and not flushed */
}

/* That is nobody's fault. */
void
check_rolled_back(Sim *sim, Node *node, const State *state)
{
	node->rolled_back = true;
	note_lost(sim, node, state);
}

/* What only they have who were removed may be lost; if it comes, it comes. */
void
check_removed(Sim *sim, const List *list)
{
	uint32_t removed = 0;

	for (uint32_t i = 0; i < sim->servers; i++)
	{
		if (list->state[sim->node[i].self] == DC_MEMBER_REMOVED)
			removed |= BIT(i);
	}
	for (uint32_t i = 0; i < sim->version_count; i++)
		sim->version[i].gone |= (sim->version[i].had & ~removed) == 0;
}

/* Two clones may give one stamp to one key before they know of each other. */
static Version *
version_taken(Sim *sim, uint32_t cell, Cell to)
{
	Version *first = version_of(sim, cell, to.stamp);

	for (uint32_t i = sim->last_of[cell]; i != 0; i = sim->older[i - 1])
	{
		Version *v = &sim->version[i - 1];

		if (v->to.stamp == to.stamp && v->to.value == to.value &&
			v->to.dead == to.dead)
			return v;
	}
	return first;
}

void
check_taken(Sim *sim, Node *node, uint32_t cell, Cell to)
{
	Version *v = version_taken(sim, cell, to);

	if (v == NULL)
		sim_fail(sim, "node %u takes key %u at %llu, which nobody wrote",
				 node->index + 1, cell, (unsigned long long) to.stamp);
	else if (v->to.dead != to.dead || v->to.value != to.value)
		sim_fail(sim, "node %u takes key %u at %llu with another image",
				 node->index + 1, cell, (unsigned long long) to.stamp);
	else if (v->cut_off && sim->cloned)
		sim_fail(sim,
				 "R15: node %u takes key %u at %llu from one of two servers "
				 "with one identity",
				 node->index + 1, cell, (unsigned long long) to.stamp);
	else
	{
		v->had |= BIT(node->index);
		v->gone = false;
	}
}

/* R3: what leaves a node is durable at its source, and is what it was. */
void
check_shipped(Sim *sim, const Node *node, const Change *change)
{
	const Version *v = version_of(sim, change->cell, change->to.stamp);

	if (v == NULL)
		sim_fail(sim, "node %u ships key %u at %llu, which nobody wrote",
				 node->index + 1, change->cell,
				 (unsigned long long) change->to.stamp);
	else if (!v->durable)
		sim_fail(sim, "R3: node %u ships key %u at %llu, not flushed",
				 node->index + 1, change->cell,
				 (unsigned long long) change->to.stamp);
}

static bool
is_there(Sim *sim, const State *state, const Change *change)
{
	DcHlc stamp = change->to.stamp;
	const Version *v = version_of(sim, change->cell, stamp);

	/* a death of a joiner that was not to count is nowhere (R13) */
	return (v != NULL && v->gone) || state->cell[change->cell].stamp >= stamp ||
		   state->cell[floor_cell(sim, change->cell)].stamp >= stamp ||
		   state->horizon >= stamp;
}

/* Levels: what counts as flushed at a peer is there, or what is newer. */
void
check_acked(Sim *sim, const Node *node, const Link *link, uint64_t from)
{
	const Node *peer = &sim->node[link->to];
	const State *state = peer->up ? &peer->mem : &peer->disk;
	uint64_t kept = node->head > QUEUE_MAX ? node->head - QUEUE_MAX : 0;

	/* what a disk that is set back has lost is nobody's fault */
	if (state->incarnation != link->incarnation || state->joining ||
		link->peer_joining || peer->rolled_back || sim->cloned ||
		sim->tampered != 0)
		return;
	for (uint64_t n = from > kept ? from : kept; n < link->acked.position; n++)
	{
		const Batch *batch = &node->queue[n % QUEUE_MAX];

		for (uint32_t i = 0; i < batch->count; i++)
		{
			if (!is_there(sim, state, &batch->change[i]))
				sim_fail(sim,
						 "levels: node %u counts key %u at %llu as flushed on "
						 "node %u",
						 node->index + 1, batch->change[i].cell,
						 (unsigned long long) batch->change[i].to.stamp,
						 peer->index + 1);
		}
	}
}

/* ---- what a node claims -------------------------------------------------- */

/* Dead and rightly forgotten: a death at or above it, up to g. */
static bool
forgotten(Sim *sim, const Node *node, const Version *v)
{
	Cell here = node->mem.cell[v->cell];

	/* an older death that may go, too, says the same */
	if (is_floor(v->cell) || (here.stamp != DC_HLC_NONE &&
							  (!here.dead || here.stamp > node->mem.horizon)))
		return false;
	for (uint32_t i = sim->last_of[v->cell]; i != 0; i = sim->older[i - 1])
	{
		const Version *w = &sim->version[i - 1];

		if (w->to.dead && w->to.stamp >= v->to.stamp &&
			w->to.stamp <= node->mem.horizon)
			return true;
	}
	return false;
}

static bool
known(Sim *sim, const Node *node, const Version *v)
{
	if (node->mem.cell[v->cell].stamp >= v->to.stamp)
		return true;
	if (!is_floor(v->cell) &&
		node->mem.cell[floor_cell(sim, v->cell)].stamp >= v->to.stamp)
		return true;
	return forgotten(sim, node, v);
}

static bool
covers(const DcHlc *vector, DcHlc stamp)
{
	return stamp <= vector[dc_hlc_node_id(stamp) - 1];
}

/* ... or still owed: a newer version that the vector does not claim. */
static bool
owed(Sim *sim, const Node *node, const Version *v)
{
	uint32_t cells[2] = {v->cell, is_floor(v->cell) ? v->cell :
													  floor_cell(sim, v->cell)};

	for (int c = 0; c < 2; c++)
	{
		for (uint32_t i = sim->last_of[cells[c]]; i != 0; i = sim->older[i - 1])
		{
			const Version *w = &sim->version[i - 1];

			if (w->to.stamp > v->to.stamp && !w->gone &&
				!covers(node->mem.vector, w->to.stamp))
				return true;
		}
	}
	return false;
}

/* Servers that were fenced and have not come back as members since. */
static uint32_t
outcasts(const Sim *sim)
{
	uint32_t set = 0;

	for (uint32_t i = 0; i < sim->servers; i++)
	{
		const State *s = &sim->node[i].mem;

		if (s->outcast || (s->joining && s->before > DC_MEMBER_PRESENT))
			set |= BIT(i);
	}
	return set;
}

/* R4: what V claims beyond `before` is here. */
void
check_vector(Sim *sim, const Node *node, const DcHlc *before)
{
	if (node->mem.joining || node->rolled_back || sim->tampered != 0)
		return;
	for (uint32_t i = sim->version_count; i > 0; i--)
	{
		Version *v = &sim->version[i - 1];

		if (v->to.stamp > node->mem.vector[v->source] ||
			v->to.stamp <= before[v->source] || v->gone || v->disputed)
			continue;
		if (known(sim, node, v) || owed(sim, node, v))
			continue;
		/* its source lost it, and who else has it was sent away */
		v->gone = (v->had & ~outcasts(sim)) == 0;
		if (v->gone)
			continue;
		for (uint32_t n = 0; n < sim->servers; n++)
			sim_trace(sim, "node %u has key %u at %llu%s, V %llu", n + 1,
					  v->cell,
					  (unsigned long long) sim->node[n].mem.cell[v->cell].stamp,
					  sim->node[n].mem.cell[v->cell].dead ? ", dead" : "",
					  (unsigned long long) sim->node[n].mem.vector[v->source]);
		sim_fail(sim,
				 "R4: V of node %u claims %llu of node %u, lacks key %u "
				 "at %llu (had by %x)",
				 node->index + 1,
				 (unsigned long long) node->mem.vector[v->source],
				 v->source + 1, v->cell, (unsigned long long) v->to.stamp,
				 v->had);
		return;
	}
}

/* Whoever is waited for counted, or g would not have moved. */
static void
check_holds(Sim *sim, const Node *node)
{
	DcReport reports[NODES_MAX];
	uint32_t count = member_reports(sim, node, reports);
	const DcMembers *list = list_expand(&node->disk.list, &sim->members[1]);

	for (uint32_t i = 0; i < list->count; i++)
	{
		DcMember member = list->at[i];

		if ((member.state == DC_MEMBER_PRESENT ||
			 member.state == DC_MEMBER_FENCED) &&
			dc_members_hold(list, member, reports, count) != DC_HOLD_NOTHING &&
			dc_canaries == 0)
			sim_fail(sim, "R8: g of node %u moves while node %u does not count",
					 node->index + 1, member.node_id);
	}
}

/* R8: no g above the durable floor of anybody who counts. */
void
check_horizon(Sim *sim, const Node *node)
{
	check_holds(sim, node);
	for (uint32_t i = 0; i < SERVERS_MAX; i++)
	{
		const Node *other = &sim->node[i];

		if (!other->used || other->rolled_back || other->disk.outcast ||
			is_twin(sim, other) ||
			!member_includes(&node->mem.list, other->self,
							 other->disk.incarnation))
			continue;
		for (uint32_t s = 0; s < NODES_MAX; s++)
		{
			if (!(node->mem.counted & BIT(s)) ||
				other->disk.vector[s] >= node->mem.horizon)
				continue;
			sim_fail(sim,
					 "R8: g of node %u is %llu, node %u has only %llu of "
					 "node %u on disk",
					 node->index + 1, (unsigned long long) node->mem.horizon,
					 i + 1, (unsigned long long) other->disk.vector[s], s + 1);
			return;
		}
	}
}

/* ---- two servers with one identity ---------------------------------------- */

/* Is there another server that speaks as this node? */
bool
is_twin(const Sim *sim, const Node *node)
{
	for (uint32_t i = 0; sim->cloned && i < sim->servers; i++)
	{
		const Node *other = &sim->node[i];

		if (other->used && other != node && other->self == node->self)
			return true;
	}
	return false;
}

/* The copy has what was on the disk. */
void
check_cloned(Sim *sim, const Node *original, const Node *clone)
{
	for (uint32_t i = 0; i < sim->version_count; i++)
	{
		Version *v = &sim->version[i];

		if ((v->had & BIT(original->index)) &&
			(v->durable || v->server != original->index))
			v->had |= BIT(clone->index);
	}
}

static bool
is_told(Sim *sim, const Node *node)
{
	const DcGossip *g = &sim->voice[node->index].gossip;

	for (uint32_t i = 0; i < sim->servers; i++)
	{
		const Node *other = &sim->node[i];
		const DcGossipNode *n;

		if (!other->used || !is_twin(sim, other) || other->self == node->self)
			continue;
		n = dc_gossip_find(g, node_id(other));
		return n != NULL && dc_gossip_disputed(g, n);
	}
	return dc_gossip_rival(g) != NULL;
}

/*
 * Once all servers know, nothing may come from either of the two, until one of
 * them is silent for the other or for somebody else.
 */
void
check_told(Sim *sim)
{
	bool told = sim->cloned;

	for (uint32_t i = 0; i < sim->servers && told; i++)
	{
		const Node *node = &sim->node[i];

		told =
			!node->used || !node->contacts || (node->up && is_told(sim, node));
	}
	if (told == sim->told)
		return;
	sim->told = told;
	sim_trace(sim, told ? "all are told of the clone" :
						  "not all know of the clone any more");
	for (uint32_t i = 0; i < sim->version_count && !told && sim->cloned; i++)
		sim->version[i].cut_off = false;
}

/*
 * One of the two was stopped for good.  What only it had is lost; what the
 * other one wrote after all were told counts like anything else.
 */
void
check_retired(Sim *sim, const Node *node)
{
	for (uint32_t i = 0; i < sim->version_count; i++)
	{
		Version *v = &sim->version[i];
		bool claimed = false;

		v->had &= ~BIT(node->index);
		v->gone |= v->had == 0;
		if (!v->cut_off || v->gone)
			continue;
		for (uint32_t n = 0; n < sim->servers; n++)
			claimed |= sim->node[n].used && sim->node[n].self != v->source &&
					   sim->node[n].mem.vector[v->source] >= v->to.stamp;
		v->disputed = claimed;
		v->cut_off = false;
	}
}

/* R13: only what somebody deleted, or nobody counts any more. */
void
check_erased(Sim *sim, const Node *node, uint32_t cell, Cell what)
{
	uint32_t cells[2] = {cell, floor_cell(sim, cell)};

	for (int c = 0; c < 2; c++)
	{
		for (uint32_t i = sim->last_of[cells[c]]; i != 0; i = sim->older[i - 1])
		{
			const Version *w = &sim->version[i - 1];

			if (w->to.stamp > what.stamp && (w->to.dead || c == 1))
				return;
			if (c == 0 && w->to.stamp == what.stamp && (w->gone || w->disputed))
				return;
		}
	}
	sim_fail(sim, "R13: node %u erases key %u at %llu, which nobody deleted",
			 node->index + 1, cell, (unsigned long long) what.stamp);
}

/*
 * A row was put into the quarantine, or written anew; what it had replaced
 * here goes with it.
 */
void
check_set_aside(Sim *sim, const Node *node, uint32_t cell, Cell what)
{
	for (uint32_t i = sim->last_of[cell]; i != 0; i = sim->older[i - 1])
	{
		Version *v = &sim->version[i - 1];

		if (v->to.stamp > what.stamp)
			continue;
		v->had &= ~BIT(node->index);
		v->gone |= v->had == 0;
	}
}

/* ---- calm --------------------------------------------------------------- */

static bool
covers_all(const Sim *sim, const Node *node)
{
	for (uint32_t i = 0; i < sim->version_count; i++)
	{
		const Version *v = &sim->version[i];

		if (!v->gone && !v->disputed && !covers(node->mem.vector, v->to.stamp))
			return false;
	}
	return true;
}

static const Node *
first_used(const Sim *sim)
{
	return &sim->node[sim->node[0].used ? 0 : 1];
}

/* Do all servers show the same of a cell? */
bool
is_equal(const Sim *sim, uint32_t cell)
{
	Cell first = first_used(sim)->mem.cell[cell];
	bool all = !sim->time_is_up; /* then nothing is purged any more */

	for (uint32_t i = 0; i < sim->servers; i++)
	{
		Cell here = sim->node[i].mem.cell[cell];

		if (sim->node[i].used && (all || !here.dead || !first.dead) &&
			(here.stamp != first.stamp || here.dead != first.dead ||
			 here.value != first.value))
			return false;
	}
	return true;
}

/* Where stamps alone do not tell that all have all. */
static bool
are_equal(const Sim *sim)
{
	bool equal = true;

	for (uint32_t cell = 0; cell < CELLS_MAX && equal; cell++)
		equal = is_equal(sim, cell);
	return equal;
}

/* Is there something that a third node was to send, and has not? */
static bool
owes(const Sim *sim, const Node *node)
{
	bool owed = false;

	for (uint32_t i = 0; i < NODES_MAX; i++)
		owed |= node->mem.owed.to[i] > node->mem.vector[i];
	return owed && !sim->was_cloned && sim->tampered == 0;
}

static bool
node_settled(Sim *sim, const Node *node, bool tombstones)
{
	if (sim->time_is_up)
		return node->up && work_idle(node);
	if (!node->up || node->mem.joining || node->mem.outcast ||
		!work_idle(node) || (node->repair.running && node->repair.rejoin) ||
		list_digest(sim, &node->mem.list) !=
			list_digest(sim, &first_used(sim)->mem.list) ||
		!covers_all(sim, node) || owes(sim, node))
		return false;
	if (dc_members_fence(list_expand(&node->mem.list, &sim->members[0])))
		return false;
	for (uint32_t key = 0; tombstones && key < KEYS_MAX; key++)
	{
		if (node->mem.cell[key].dead)
			return false;
	}
	return true;
}

bool
is_settled(Sim *sim, bool tombstones)
{
	if (sim->cloned || ((sim->was_cloned || sim->tampered || sim->time_is_up) &&
						!are_equal(sim)))
		return false;
	for (uint32_t i = 0; i < sim->servers; i++)
	{
		if (!sim->node[i].used)
			continue;
		if (!node_settled(sim, &sim->node[i], tombstones))
			return false;
		for (uint32_t to = 0; to < sim->servers; to++)
		{
			if (i != to && sim->node[to].used &&
				!link_idle(sim, link_of(sim, i, to)))
				return false;
		}
	}
	return true;
}

static void
describe(const Sim *sim, const Node *node)
{
	const State *s = &node->mem;

	sim_trace(sim,
			  "node %u: incarnation %llu%s%s, delivered %x, g %llu, R %llu, "
			  "before %u, contacts %d, closed %x, repair of %u",
			  node->index + 1, (unsigned long long) s->incarnation,
			  s->joining ? " joining" : "", s->ghosts ? " ghosts" : "",
			  node->delivered, (unsigned long long) s->horizon,
			  (unsigned long long) s->registered, s->before, node->contacts,
			  node->closed,
			  node->repair.running ? node->repair.called[0].server + 1 : 0);
	for (uint32_t i = 0; i < sim->servers; i++)
		sim_trace(sim, "    %u: incarnation %llu state %u, V %llu, disk %llu",
				  i + 1, (unsigned long long) s->list.incarnation[i],
				  s->list.state[i], (unsigned long long) s->vector[i],
				  (unsigned long long) node->disk.vector[i]);
}

static void
describe_gossip(const Sim *sim, const Node *node)
{
	const DcGossip *g = &sim->voice[node->index].gossip;

	for (uint32_t i = 0; i < sim->config.slots && node->up; i++)
	{
		const DcGossipNode *n = &g->nodes[i];

		if (n->node_id == 0)
			continue;
		sim_trace(sim,
				  "    gossip of %u: %s, incarnation %llu boot %llu version "
				  "%llu at \"%s\", seen at \"%s\" as %llu/%llu%s",
				  n->node_id, dc_gossip_state_name(n->state),
				  (unsigned long long) n->incarnation,
				  (unsigned long long) n->boot, (unsigned long long) n->version,
				  n->address, n->seen_address,
				  (unsigned long long) n->session.incarnation,
				  (unsigned long long) n->session.boot,
				  dc_gossip_disputed(g, n) ? ", disputed" : "");
	}
}

void
explain_unsettled(Sim *sim)
{
	for (uint32_t i = 0; i < sim->servers; i++)
	{
		describe(sim, &sim->node[i]);
		describe_gossip(sim, &sim->node[i]);
	}
	for (uint32_t i = 0; i < SERVERS_MAX * SERVERS_MAX; i++)
	{
		const Link *link = &sim->link[i];

		if (link->up || link->retry_us > 0)
			sim_trace(sim,
					  "link %u-%u: %s%s, %s, catch-up %s%s at %u, %u under way",
					  link->from + 1, link->to + 1, link->up ? "up" : "down",
					  link->open ? " open" : "",
					  link->peer_joining ? "to a joiner" : "to a member",
					  link->stream.catchup_owed ? "owed " : "",
					  link->stream.catchup_running ? "running" : "",
					  link->cursor, link->sent_count);
	}
	for (uint32_t i = 0; i < sim->servers; i++)
	{
		const Node *node = &sim->node[i];

		if (!node->used || node_settled(sim, node, true))
			continue;
		for (uint32_t key = 0; key < KEYS_MAX; key++)
		{
			if (node->mem.cell[key].dead && node_settled(sim, node, false))
				sim_fail(sim,
						 "node %u keeps the tombstone of key %u at %llu, g is "
						 "%llu",
						 i + 1, key,
						 (unsigned long long) node->mem.cell[key].stamp,
						 (unsigned long long) node->mem.horizon);
		}
		sim_fail(sim, "node %u does not settle:%s%s%s%s%s%s delivered %x",
				 i + 1, node->up ? "" : " down",
				 node->mem.joining ? " joining" : "",
				 node->mem.outcast ? " outcast" : "",
				 node->mem.ghosts ? " ghosts" : "",
				 covers_all(sim, node) ? "" : " V",
				 owes(sim, node) ? " is owed" : "", node->delivered);
	}
	sim_fail(sim, "does not settle%s%s", sim->cloned ? ", cloned" : "",
			 are_equal(sim) ? "" : ", nodes differ");
}

static const Version *
winner(const Sim *sim, uint32_t cell)
{
	const Version *best = NULL;

	for (uint32_t i = sim->last_of[cell]; i != 0; i = sim->older[i - 1])
	{
		const Version *v = &sim->version[i - 1];

		if (!v->gone && (best == NULL || v->to.stamp > best->to.stamp))
			best = v;
	}
	return best;
}

/* What two clones wrote before all were told may come out either way. */
static bool
is_open(const Sim *sim, uint32_t cell)
{
	const Version *best = winner(sim, cell);
	const Version *floor =
		is_floor(cell) ? NULL : winner(sim, floor_cell(sim, cell));

	return (best != NULL && best->disputed) ||
		   (floor != NULL && floor->disputed) || sim->time_is_up;
}

/* What all must hold of a cell in the end. */
static Cell
expected(const Sim *sim, uint32_t cell)
{
	const Version *best = winner(sim, cell);
	const Version *floor =
		is_floor(cell) ? NULL : winner(sim, floor_cell(sim, cell));

	if (best == NULL || best->to.dead ||
		(floor != NULL && floor->to.stamp >= best->to.stamp))
		return (Cell){0};
	return best->to;
}

void
check_settled(Sim *sim)
{
	for (uint32_t cell = 0; cell < CELLS_MAX; cell++)
	{
		Cell wanted;

		if (!cell_used(sim, cell))
			continue;
		if (is_open(sim, cell))
		{
			if (!is_equal(sim, cell))
				sim_fail(sim, "key %u: nodes hold different rows", cell);
			continue;
		}
		wanted = expected(sim, cell);
		for (uint32_t i = 0; i < sim->servers; i++)
		{
			const Node *node = &sim->node[i];
			Cell here = node->mem.cell[cell];

			if (!node->used)
				continue;
			if (here.stamp == wanted.stamp && here.value == wanted.value &&
				here.dead == wanted.dead)
				continue;
			sim_fail(sim,
					 "node %u: key %u is %s %llu, the last write left %s %llu",
					 i + 1, cell,
					 here.stamp == 0 ? "nothing" :
					 here.dead       ? "dead" :
									   "live",
					 (unsigned long long) here.stamp,
					 wanted.stamp == 0 ? "nothing" : "live",
					 (unsigned long long) wanted.stamp);
		}
	}
}
