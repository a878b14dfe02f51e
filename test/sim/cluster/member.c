/*
 * member.c
 *		Who belongs to the cluster: identity, joining, coming back, removal.
 *
 *	alone ---- meets a cluster ----> joining ----> member ----> outcast
 *	                                    ^             |            |
 *	                                    +- set back --+            |
 *	                                    +----- the operator joins it
 *
 * A joiner pulls only.  It leaves that state when it has got back what others
 * hold of its own past, and has compared itself with a member if it may hold
 * rows whose death the others have forgotten (`ghosts`).
 */
#include "cluster.h"

#include <string.h>

/* ---- lists -------------------------------------------------------------- */

DcMembers *
list_expand(const List *list, DcMembers *members)
{
	members->count = 0;
	members->commands = 0;
	members->command = DC_HLC_NONE;
	for (uint32_t i = 0; i < NODES_MAX; i++)
	{
		if (list->state[i] != DC_MEMBER_ABSENT)
			members->at[members->count++] =
				(DcMember){i + 1, (DcMemberState) list->state[i],
						   list->incarnation[i]};
	}
	return members;
}

void
list_compact(const DcMembers *members, List *list)
{
	memset(list, 0, sizeof(*list));
	for (uint32_t i = 0; i < members->count; i++)
	{
		const DcMember *member = &members->at[i];

		if (member->node_id > NODES_MAX)
			continue;
		list->state[member->node_id - 1] = (uint8_t) member->state;
		list->incarnation[member->node_id - 1] = member->incarnation;
	}
}

uint64_t
list_digest(Sim *sim, const List *list)
{
	return dc_members_digest(list_expand(list, &sim->members[0]));
}

bool
list_merge(List *list, const List *other)
{
	DcMembers here;
	DcMembers there;

	if (!dc_members_merge(list_expand(list, &here), list_expand(other, &there)))
		return false;
	list_compact(&here, list);
	return true;
}

/* Did the list ever name anybody but these two (NODES_MAX: nobody)? */
bool
list_names_others(const List *list, uint32_t one, uint32_t other)
{
	DcMembers members;

	return dc_members_named_others(list_expand(list, &members), one + 1,
								   other < NODES_MAX ? other + 1 : 0);
}

uint32_t
list_present(const List *list)
{
	uint32_t present = 0;

	for (uint32_t i = 0; i < NODES_MAX; i++)
	{
		if (list->state[i] == DC_MEMBER_PRESENT)
			present |= BIT(i);
	}
	return present;
}

bool
member_includes(const List *list, uint32_t index, uint64_t incarnation)
{
	DcMembers members;

	return dc_members_includes(list_expand(list, &members), index + 1,
							   incarnation);
}

void
vector_expand(const DcHlc *from, DcVv *to)
{
	memcpy(&to->at[1], from, sizeof(DcHlc) * NODES_MAX);
}

void
vector_compact(const DcVv *from, DcHlc *to)
{
	memcpy(to, &from->at[1], sizeof(DcHlc) * NODES_MAX);
}

void
debts_expand(const Owed *from, DcDebts *to)
{
	vector_expand(from->to, &to->to);
	for (uint32_t i = 0; i < NODES_MAX; i++)
		to->by[i + 1][0] = from->by[i];
}

void
debts_compact(const DcDebts *from, Owed *to)
{
	vector_compact(&from->to, to->to);
	for (uint32_t i = 0; i < NODES_MAX; i++)
		to->by[i] = from->by[i + 1][0];
}

/* g and whom it counts, as the core has it. */
DcHorizon *
horizon_expand(DcHlc stamp, uint32_t counted, DcHorizon *horizon)
{
	horizon->stamp = stamp;
	for (uint32_t i = 0; i < NODES_MAX; i++)
		horizon->counted[i + 1] = (counted & BIT(i)) != 0;
	return horizon;
}

uint32_t
horizon_counted(const DcHorizon *horizon)
{
	uint32_t counted = 0;

	for (uint32_t i = 0; i < NODES_MAX; i++)
	{
		if (horizon->counted[i + 1])
			counted |= BIT(i);
	}
	return counted;
}

/* Is `vector` at or above `horizon` for all members that it counted? */
bool
member_reach(Sim *sim, uint32_t counted, const DcHlc *vector, DcHlc horizon)
{
	vector_expand(vector, &sim->vv[2]);
	return dc_horizon_reached(horizon_expand(horizon, counted, &sim->horizon),
							  &sim->vv[2]);
}

/* ---- what a node may ---------------------------------------------------- */

bool
member_may_talk(const Sim *sim, const Node *node)
{
	return node->up && (!node->mem.outcast || DEFECT(sim, DEFECT_R13_SHIP));
}

/*
 * R12: a joiner writes once the cluster's clock has been observed.  R15: a new
 * life not before it met all who may hold stamps of the old one, or its clock
 * must be beyond them.
 */
bool
member_writes(const Sim *sim, const Node *node)
{
	uint32_t others = list_present(&node->mem.list) & ~BIT(node->self);

	if (!node->mem.joining)
		return true;
	if (node->mem.registered == DC_HLC_NONE)
		return false;
	return node->mem.before == DC_MEMBER_ABSENT || (others & ~node->met) == 0 ||
		   sim->now_us > node->born_us + 2 * sim->config.drift_us ||
		   DEFECT(sim, DEFECT_R15_CLOCK);
}

/*
 * R15: may it claim to have all that it ever committed?  After a start only
 * once everybody has brought back what he holds of it.
 */
bool
member_owns_complete(const Sim *sim, const Node *node)
{
	uint32_t others = list_present(&node->mem.list) & ~BIT(node->self);

	if (node->mem.joining)
		return DEFECT(sim, DEFECT_R12_EARLY);
	return (others & ~node->delivered) == 0 || DEFECT(sim, DEFECT_R15_OWN);
}

Manners
member_manners(const Sim *sim, const Node *node)
{
	Manners m = {.boot = node->boot,
				 .clock = node->clock,
				 .horizon = node->mem.horizon,
				 .counted = node->mem.counted,
				 .joining = node->mem.joining,
				 .ghosts = node->mem.ghosts,
				 /* not so who is the last of a cluster */
				 .alone =
					 !list_names_others(&node->mem.list, node->self, NODES_MAX),
				 .own_wanted = !member_owns_complete(sim, node),
				 .list = node->mem.list};

	memcpy(m.vector, node->mem.vector, sizeof(m.vector));
	return m;
}

/* ---- identity ----------------------------------------------------------- */

/* Everybody must say hello again, and hear how things stand here. */
static void
drop_sessions(Sim *sim, Node *node)
{
	for (uint32_t i = 0; i < SERVERS_MAX; i++)
	{
		if (i == node->index)
			continue;
		link_close(sim, link_of(sim, node->index, i), NULL);
		link_close(sim, link_of(sim, i, node->index), NULL);
		peer_end(node, i);
	}
}

/* A new life under the same id: it joins.  False: the disk takes nothing. */
bool
member_reincarnate(Sim *sim, Node *node, const char *why)
{
	State saved = node->mem;
	State *s = &node->mem;

	s->incarnation = ++sim->next_number;
	s->joining = true;
	s->outcast = false;
	s->registered = DC_HLC_NONE;
	if (s->before < s->list.state[node->self])
		s->before = s->list.state[node->self];
	s->list.state[node->self] = DC_MEMBER_PRESENT;
	s->list.incarnation[node->self] = s->incarnation;
	if (!node_commit_state(sim, node))
	{
		node->mem = saved;
		return false;
	}
	sim_trace(sim, "node %u: new incarnation %llu, %s", node->index + 1,
			  (unsigned long long) s->incarnation, why);
	node->delivered = node->haunted = node->met = 0;
	node->born_us = sim->now_us;
	node->bound_at_start = DC_HLC_MAX; /* it is somebody else now */
	node->repair.running = false;
	drop_sessions(sim, node);
	gossip_reincarnate(sim, node);
	sim->stats.rejoins++;
	return true;
}

/* What the lists say of this very node. */
static void
hear_of_self(Sim *sim, Node *node, const List *other)
{
	State *s = &node->mem;

	if (other->incarnation[node->self] > s->incarnation)
		(void) member_reincarnate(sim, node, "a peer knows a later one");
	else if (other->incarnation[node->self] == s->incarnation &&
			 other->state[node->self] > DC_MEMBER_PRESENT && !s->outcast &&
			 !DEFECT(sim, DEFECT_R13_SHIP))
	{
		sim_trace(sim, "node %u: it was removed", node->index + 1);
		s->outcast = true;
		node->rejoin_after = sim->step + 50 + rng_below(&sim->rng, 1500);
	}
}

static bool
must_join(Sim *sim, const Node *node, bool known, const Manners *peer)
{
	if (DEFECT(sim, DEFECT_R12_KNOWN))
		return !known && !peer->alone;
	vector_expand(node->mem.vector, &sim->vv[2]);
	return dc_members_must_join(horizon_expand(peer->horizon, peer->counted,
											   &sim->horizon),
								peer->alone, &sim->vv[2], !node->mem.settled);
}

/*
 * A hello or a welcome of `peer` arrived.  Merges the lists, and finds out
 * whether this node must join.  False: nothing was made durable, or this
 * node is another one now; the session must not go on.
 */
bool
member_meet(Sim *sim, Node *node, uint32_t peer, uint64_t incarnation,
			bool known, bool welcome, const Manners *m)
{
	State saved = node->mem;
	State *s = &node->mem;
	uint64_t own = s->incarnation;
	bool fresh = !s->settled && !m->alone;
	bool joins_now = false;

	if (m->vector[node->self] > node->bound_at_start &&
		m->vector[node->self] > s->vector[node->self] &&
		!DEFECT(sim, DEFECT_R15) && !s->joining)
	{
		(void) member_reincarnate(sim, node, "a peer knows more of it");
		return false;
	}
	/* what an earlier life may have given out */
	node->clock = dc_hlc_observe(node->clock, m->vector[node->self]);
	if (!dc_hlc_ahead(m->clock, node_now(sim, node), sim->config.drift_us))
	{
		node->clock = dc_hlc_observe(node->clock, m->clock);
		node->met |= BIT(peer);
	}
	if (m->ghosts)
		node->haunted |= BIT(peer);
	else
		node->haunted &= ~BIT(peer);
	hear_of_self(sim, node, &m->list);
	if (s->incarnation != own)
		return false;
	if (s->outcast)
	{
		(void) list_merge(&s->list, &m->list);
		(void) node_commit_state(sim, node);
		return false;
	}
	/* a hello's word is old; a welcome's was true when it took us in */
	if (welcome && must_join(sim, node, known, m))
	{
		if (!fresh && !s->joining)
		{
			for (uint32_t i = 0; i < NODES_MAX; i++)
			{
				if (m->counted & BIT(i))
					sim_trace(sim,
							  "node %u: g of node %u is %llu, V of node "
							  "%u is %llu",
							  node->index + 1, peer + 1,
							  (unsigned long long) m->horizon, i + 1,
							  (unsigned long long) s->vector[i]);
			}
			s->ghosts = true;
			(void) member_reincarnate(sim, node, "it fell behind a horizon");
			return false;
		}
		if (!s->ghosts || !s->joining)
			sim_trace(sim, "node %u joins, by node %u", node->index + 1,
					  peer + 1);
		joins_now = !s->joining;
		s->joining = true;
		s->ghosts = true;
	}
	s->settled |= welcome;
	(void) list_merge(&s->list, &m->list);
	if (s->list.incarnation[peer] < incarnation)
	{
		s->list.incarnation[peer] = incarnation;
		s->list.state[peer] = DC_MEMBER_PRESENT;
	}
	if (s->joining && member_includes(&m->list, node->self, s->incarnation) &&
		s->registered == DC_HLC_NONE &&
		(!m->joining || s->before != DC_MEMBER_ABSENT ||
		 DEFECT(sim, DEFECT_R12_JOINER)))
	{
		/* also above what it once was known to have published */
		s->registered = dc_hlc_observe(m->clock, m->vector[node->self]);
		node->clock = dc_hlc_observe(node->clock, s->registered);
		sim_trace(sim, "node %u: taken in by node %u at %llu", node->index + 1,
				  peer + 1, (unsigned long long) s->registered);
	}
	if (memcmp(&saved, s, sizeof(saved)) == 0)
		return true;
	if (!node_commit_state(sim, node))
	{
		node->mem = saved;
		return false;
	}
	if (joins_now)
		drop_sessions(sim, node);
	return !joins_now;
}

/*
 * A catch-up came that would lead this node's vector over a horizon which it
 * does not reach: deaths that it never saw would look as if it had them.  Who
 * was never welcomed waits for the first welcome to decide.
 */
bool
member_fell_behind(Sim *sim, Node *node, uint32_t counted, DcHlc horizon)
{
	if (node->mem.joining || DEFECT(sim, DEFECT_R12_ADOPT) ||
		DEFECT(sim, DEFECT_R13_SHIP) || DEFECT(sim, DEFECT_R12_KNOWN))
		return false;
	vector_expand(node->mem.vector, &sim->vv[2]);
	if (!dc_members_must_join(horizon_expand(horizon, counted, &sim->horizon),
							  true, &sim->vv[2], false))
		return false;
	if (node->mem.settled)
	{
		node->mem.ghosts = true;
		(void) member_reincarnate(sim, node,
								  "a catch-up begins behind a horizon");
	}
	return true;
}

/* ---- joining ------------------------------------------------------------ */

/*
 * What came back is in no queue: before a segment closes over it, each link
 * owes a catch-up.
 */
static void
owe_all(Sim *sim, const Node *node)
{
	for (uint32_t i = 0; i < SERVERS_MAX; i++)
		dc_stream_owe(&link_of(sim, node->index, i)->stream);
}

void
member_delivered(Sim *sim, Node *node, uint32_t peer)
{
	bool complete = member_owns_complete(sim, node);

	if (!(node->delivered & BIT(peer)))
		sim_trace(sim, "node %u: node %u delivered", node->index + 1, peer + 1);
	node->delivered |= BIT(peer);
	if (!complete && member_owns_complete(sim, node) &&
		!DEFECT(sim, DEFECT_R15_OWE))
		owe_all(sim, node);
}

void
member_end_joining(Sim *sim, Node *node)
{
	State saved = node->mem;

	node->mem.joining = node->mem.ghosts = false;
	node->mem.registered = DC_HLC_NONE;
	node->mem.before = DC_MEMBER_ABSENT;
	if (!node_commit_state(sim, node) || !node_persist_vector(sim, node))
	{
		node->mem = saved;
		(void) node_commit_state(sim, node);
		return;
	}
	sim_trace(sim, "node %u is a member", node->index + 1);
	node->rolled_back = false;
	if (!DEFECT(sim, DEFECT_R15_OWE))
		owe_all(sim, node); /* to other joiners */
	sim->stats.joins++;
	check_vector(sim, node, (DcHlc[NODES_MAX]){0});
}

/* Transactions from before it was taken in: their rows must be compared. */
static bool
old_work(const Sim *sim, const Node *node)
{
	for (uint32_t i = 0; i < TXNS && !DEFECT(sim, DEFECT_R12_OPEN); i++)
	{
		if (node->txn[i].phase != TXN_IDLE &&
			node->txn[i].stamp <= node->mem.registered)
			return true;
	}
	return false;
}

static void
join_step(Sim *sim, Node *node)
{
	uint32_t others = list_present(&node->mem.list) & ~BIT(node->self);
	uint32_t donors = others & node->delivered;
	bool all =
		node->mem.before != DC_MEMBER_ABSENT && !DEFECT(sim, DEFECT_R13_WAIT);

	/*
	 * Every disk was set back, or all are newborn: nobody is left who could tell a ghost from a
	 * row.  What there is, is what there is: the least of them begins.
	 */
	if (node->mem.ghosts && donors == others && !node->repair.running &&
		!DEFECT(sim, DEFECT_R13_RESORT) && (node->haunted & others) == others &&
		BIT(node->self) < others && (others & (BIT(node->self) - 1)) == 0)
	{
		sim_trace(sim, "node %u is the donor of last resort", node->index + 1);
		sim->stats.resorts++;
		/* what is still known of anybody up to g, all have delivered */
		for (uint32_t i = 0; i < NODES_MAX; i++)
		{
			if ((node->mem.counted & BIT(i)) && i != node->self &&
				node->mem.vector[i] < node->mem.horizon)
				node->mem.vector[i] = node->mem.horizon;
		}
		member_end_joining(sim, node);
		return;
	}
	if (node->mem.registered == DC_HLC_NONE || donors == 0 ||
		node->repair.running || (all && donors != others) ||
		old_work(sim, node))
		return;
	if (!node->mem.ghosts)
	{
		member_end_joining(sim, node);
		return;
	}
	for (uint32_t i = 0, at = rng_below(&sim->rng, NODES_MAX); i < NODES_MAX;
		 i++, at = (at + 1) % NODES_MAX)
	{
		if (donors & BIT(at))
		{
			repair_begin(sim, node, gossip_server(sim, node, at), true);
			return;
		}
	}
}

/* ---- removal ------------------------------------------------------------ */

/*
 * The operator removes one node at a time, and not by two consoles at once:
 * without a majority (R10's register, which is not there yet) two halves that
 * remove each other end as two clusters.
 */
static bool
operator_may(Sim *sim, const Node *coordinator)
{
	for (uint32_t i = 0; i < sim->servers; i++)
	{
		const Node *node = &sim->node[i];

		if (node->used && node->contacts &&
			memcmp(&node->disk.list, &coordinator->mem.list, sizeof(List)) != 0)
			return false;
	}
	for (uint32_t i = 0; i < NODES_MAX; i++)
	{
		if (coordinator->mem.list.state[i] == DC_MEMBER_REMOVED)
			return false;
	}
	return !dc_members_fence(
		list_expand(&coordinator->mem.list, &sim->members[0]));
}

/* R11: nobody talks to it any more; it is still waited for. */
void
operator_remove(Sim *sim, Node *coordinator, uint32_t target)
{
	State saved = coordinator->mem;
	List *list = &coordinator->mem.list;

	if (!coordinator->up || coordinator->mem.joining ||
		coordinator->mem.outcast || target == coordinator->self ||
		list->state[target] != DC_MEMBER_PRESENT ||
		!operator_may(sim, coordinator))
		return;
	list->state[target] = DC_MEMBER_FENCED;
	if (!node_commit_state(sim, coordinator))
	{
		coordinator->mem = saved;
		return;
	}
	count_fault(sim, FAULT_REMOVE);
	sim_trace(sim, "node %u fences node %u", coordinator->index + 1,
			  target + 1);
}

/* The last that each member said, the own one included. */
uint32_t
member_reports(Sim *sim, const Node *node, DcReport reports[NODES_MAX])
{
	Report own = report_own(sim, node);
	uint32_t count = 0;

	for (uint32_t i = 0; i < NODES_MAX; i++)
	{
		const Report *r = i == node->self ? &own : &node->report[i];

		if (r->version != 0 &&
			(i == node->self || !gossip_disputes(sim, node, i)))
			reports[count++] = (DcReport){.node_id = i + 1,
										  .incarnation = r->incarnation,
										  .epoch = r->epoch,
										  .floor = r->floor,
										  .closed = r->closed};
	}
	return count;
}

static void
removal_step(Sim *sim, Node *node)
{
	State saved = node->mem;
	DcReport reports[NODES_MAX];
	uint32_t count = member_reports(sim, node, reports);
	DcMembers *members = list_expand(&node->mem.list, &sim->members[1]);

	if (node->mem.joining || node->mem.outcast ||
		!dc_members_close(members, reports, count))
		return;
	list_compact(members, &node->mem.list);
	if (node_commit_state(sim, node))
	{
		sim->stats.removals++;
		for (uint32_t i = 0; i < NODES_MAX; i++)
		{
			if (node->mem.list.state[i] == DC_MEMBER_REMOVED)
				gossip_forget(sim, node, i);
		}
		check_removed(sim, &node->mem.list);
		sim_trace(sim, "node %u: removal is complete", node->index + 1);
	}
	else
		node->mem = saved;
}

void
member_step(Sim *sim, Node *node)
{
	if (node->mem.outcast)
	{
		if (sim->calm || sim->step >= node->rejoin_after)
		{
			count_fault(sim, FAULT_RETURN);
			node->mem.ghosts = true;
			(void) member_reincarnate(sim, node, "the operator joins it");
		}
		return;
	}
	if (node->mem.joining)
		join_step(sim, node);
	removal_step(sim, node);
}
