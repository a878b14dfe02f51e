/*
 * directed.c
 *		Schedules too rare for chance.
 */
#include "cluster.h"

#include <string.h>

#define NOBODY NODES_MAX

/* What nodes of the set do when nobody writes; one link may stand still. */
static void
pump_but(Sim *sim, uint32_t set, uint32_t rounds, uint32_t from, uint32_t to)
{
	for (uint32_t i = 0; i < rounds; i++)
	{
		Node *node = &sim->node[rng_below(&sim->rng, sim->servers)];
		uint32_t other = rng_below(&sim->rng, sim->servers);

		sim->now_us += 10;
		net_deliver_step(sim);
		if (!(set & BIT(node->index)) || !node->up)
			continue;
		node_publish_step(sim, node);
		gossip_step(sim, node);
		horizon_step(sim, node);
		(void) node_persist_vector(sim, node);
		node_purge_step(sim, node);
		member_step(sim, node);
		repair_step(sim, node);
		if (other == node->index || !(set & BIT(other)))
			continue;
		if (node->index != from || other != to)
			link_step(sim, link_of(sim, node->index, other));
		if (other != from || node->index != to)
			peer_step(sim, link_of(sim, other, node->index));
	}
}

static void
pump(Sim *sim, uint32_t set, uint32_t rounds)
{
	pump_but(sim, set, rounds, NOBODY, NOBODY);
}

/* One link, and nothing else. */
static void
serve(Sim *sim, uint32_t from, uint32_t to, uint32_t rounds)
{
	for (uint32_t i = 0; i < rounds; i++)
	{
		sim->now_us += 10;
		link_step(sim, link_of(sim, from, to));
		peer_step(sim, link_of(sim, from, to));
	}
}

static void
cut_off(Sim *sim, uint32_t index)
{
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		if (i != index)
			sim->cut[i][index] = sim->cut[index][i] = 1;
	}
}

/* The operator puts a backup back and starts the server. */
static void
put_back(Sim *sim, Node *node, const State *backup, bool noticed)
{
	node_crash(sim, node, UINT32_MAX);
	node_restore(sim, node, backup, noticed);
	node_restart(sim, node);
}

/*
 * R11.  Node 3 deletes a key; only node 1 hears of it, and node 3 is gone.
 * Node 2 still takes the session of node 3 for alive, so node 1 leaves the
 * source out of its catch-ups.  Removed without closing, node 3 holds nothing
 * back, node 1 forgets the death, and node 2 keeps the row.
 */
static void
removal(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];

	pump(sim, 7, 4000);
	work_write(sim, one, 0, false);
	pump(sim, 7, 4000);
	sim->cut[1][2] = sim->cut[2][1] = 1;
	work_write(sim, three, 0, true);
	pump(sim, 5, 2000);
	node_crash(sim, three, UINT32_MAX);
	pump(sim, 3, 2000);
	operator_remove(sim, one, 2);
	pump(sim, 3, 8000);
	sim->cut[1][2] = sim->cut[2][1] = 0;
}

/*
 * R13.  A key is deleted and forgotten everywhere; then the disk of node 3 is
 * set back to when the key was there.
 */
static void
ghost(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];
	State backup;

	pump(sim, 7, 4000);
	work_write(sim, one, 0, false);
	pump(sim, 7, 4000);
	backup = three->disk;
	work_write(sim, one, 0, true);
	pump(sim, 7, 8000);
	node_crash(sim, three, UINT32_MAX);
	node_restore(sim, three, &backup, true);
}

/*
 * R13.  Node 3, cut off, writes a key that node 1 deletes a little later; it
 * is removed, the death is forgotten, and it returns with its row.
 */
static void
outcast(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];

	pump(sim, 7, 4000);
	work_write(sim, one, 0, false);
	pump(sim, 7, 4000);
	for (uint32_t i = 0; i < 2; i++)
		sim->cut[i][2] = sim->cut[2][i] = 1;
	work_write(sim, three, 0, false);
	sim->now_us += 100;
	work_write(sim, one, 0, true);
	pump(sim, 3, 2000);
	operator_remove(sim, one, 2);
	pump(sim, 3, 8000);
	net_heal(sim);
	pump(sim, 7, 1000);
}

/*
 * R13.  As above, but the others serve node 3 before they hear of its row: it
 * catches up with all that they still know, which shows no trace of the death.
 */
static void
evicted(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];

	pump(sim, 7, 4000);
	cut_off(sim, 2);
	work_write(sim, three, 0, false);
	sim->now_us += 100;
	work_write(sim, one, 0, false);
	work_write(sim, one, 0, true);
	pump(sim, 3, 2000);
	operator_remove(sim, one, 2);
	pump(sim, 3, 8000);
	net_heal(sim);
	serve(sim, 0, 2, 1000);
	serve(sim, 1, 2, 1000);
	serve(sim, 2, 1, 1000);
	pump(sim, 7, 1000);
}

/*
 * R6.  A catch-up is sent and not yet taken when the next begins, upon it.
 * Then the connection breaks: the base that the second one had is not there.
 */
static void
base(Sim *sim)
{
	Node *one = &sim->node[0];
	Link *link = link_of(sim, 0, 1);

	pump(sim, 7, 4000);
	link_close(sim, link, "the schedule breaks it");
	work_write(sim, one, 0, false);
	node_publish_step(sim, one);
	while (!link->open || !link->stream.catchup_running)
		serve(sim, 0, 1, 1);
	while (link->stream.catchup_running)
		link_step(sim, link);
	sim->config.queue = 1; /* it forgets what the link has not sent */
	for (uint32_t i = 0; i < 3; i++)
		work_write(sim, one, 1, false);
	link_step(sim, link);
	link_close(sim, link, "the schedule breaks it");
	pump(sim, 7, 4000);
}

/*
 * R13.  A newborn deleted a key that the cluster has, and the horizon is above
 * that.  The death must not go before it was judged, nor stay without.
 */
static void
newborn_death(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];

	pump(sim, 3, 2000);
	work_write(sim, one, 0, false);
	sim->now_us += 100;
	work_write(sim, three, 0, false);
	work_write(sim, three, 0, true);
	pump(sim, 3, 4000);
	three->contacts = true;
	pump(sim, 7, 8000);
}

/*
 * R13.  Only node 2 took a row of node 3, whose disk is then set back to when
 * it had just written it, and behind the horizon.  Node 1 knows nothing of the
 * row, and node 2 is away.
 */
static void
own_past(Sim *sim)
{
	Node *three = &sim->node[2];
	State backup;

	pump(sim, 7, 4000);
	pump_but(sim, 7, 2000, 0, 2);
	work_write(sim, three, 0, false);
	pump(sim, 6, 2000);
	backup = three->disk;
	pump_but(sim, 7, 6000, 2, 0);
	put_back(sim, three, &backup, true);
	pump(sim, 5, 6000);
	pump(sim, 7, 4000);
}

/*
 * R15.  Node 3 had a fast clock; only node 2 has seen it.  A new life with a
 * slow one meets node 1.
 */
static void
slow_clock(Sim *sim)
{
	Node *three = &sim->node[2];
	State backup;

	pump(sim, 7, 4000);
	backup = three->disk;
	three->skew_us = 20000;
	work_write(sim, three, 0, false);
	pump(sim, 6, 200);
	three->skew_us = 0;
	put_back(sim, three, &backup, true);
	pump(sim, 5, 1000);
	if (member_writes(sim, three))
		work_write(sim, three, 0, false);
}

/*
 * R15.  A disk is set back a little, and nobody notices.  Node 2 is served
 * first, then node 1 gives back what only it had taken.
 */
static void
given_back(Sim *sim)
{
	Node *three = &sim->node[2];
	State backup;

	pump(sim, 7, 4000);
	node_bound_step(sim, three); /* far ahead: nothing tells what is lost */
	backup = three->disk;
	work_write(sim, three, 0, false);
	pump(sim, 5, 300);
	put_back(sim, three, &backup, false);
	pump(sim, 6, 1500);
	pump(sim, 5, 1500);
	pump(sim, 7, 2000);
}

/*
 * R12.  The disk of node 3 is set back, and its clock; node 4, a newcomer,
 * meets it first.  What it writes by that clock lies below the horizon.
 */
static void
blind_guide(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];
	Node *four = &sim->node[3];
	State backup;

	pump(sim, 7, 4000);
	backup = three->disk;
	for (uint32_t i = 0; i < 3; i++)
		sim->node[i].skew_us = 25000;
	work_write(sim, one, 0, false);
	work_write(sim, one, 0, true);
	pump(sim, 7, 1000);
	three->skew_us = 0;
	put_back(sim, three, &backup, true);
	four->contacts = true;
	pump(sim, 12, 400);
	if (member_writes(sim, four))
		work_write(sim, four, 0, false);
	pump(sim, 9, 6000);
}

/*
 * R13.  A newcomer is taken in by node 2, whose clock is fast, and has a row
 * from node 1 that node 2 has not seen.
 */
static void
hearsay(Sim *sim)
{
	Node *one = &sim->node[0];

	pump(sim, 7, 4000);
	sim->node[1].skew_us = 20000;
	work_write(sim, one, 0, false);
	node_publish_step(sim, one);
	sim->node[3].contacts = true;
	serve(sim, 3, 1, 1000);
	serve(sim, 0, 3, 1000);
	cut_off(sim, 0);
	pump(sim, 10, 4000);
	net_heal(sim);
}

/*
 * R12.  A key was deleted and forgotten; the disk of node 3 is set back
 * unnoticed.  It is in every list, and holds a ghost.  The others speak first.
 */
static void
stale_member(Sim *sim)
{
	Node *one = &sim->node[0];
	Node *three = &sim->node[2];
	State backup;

	work_write(sim, one, 0, false);
	pump(sim, 7, 4000);
	node_bound_step(sim, three);
	backup = three->disk;
	work_write(sim, one, 0, true);
	pump(sim, 7, 1500);
	put_back(sim, three, &backup, false);
	serve(sim, 0, 2, 1000);
	serve(sim, 1, 2, 1000);
	pump(sim, 7, 4000);
}

/* R12.  A newcomer's transaction, older than the horizon, commits late. */
static void
late_commit(Sim *sim)
{
	Node *three = &sim->node[2];
	Txn *t;

	pump(sim, 3, 2000);
	t = work_open(sim, three, 0);
	pump(sim, 3, 4000);
	three->contacts = true;
	pump(sim, 7, 6000);
	work_close(sim, three, t);
}

/* Until all are told that two servers are one node, or until it is late. */
static void
until_told(Sim *sim, uint32_t set)
{
	for (uint32_t i = 0; i < 80 && !sim->told; i++)
	{
		pump(sim, set, 100);
		check_told(sim);
	}
	if (!sim->told)
		sim_fail(sim, "R15: not all are told of the clone");
}

/* Both go on writing; nothing of it may come to anybody. */
static void
write_as_two(Sim *sim, uint32_t set)
{
	Node *clone = &sim->node[sim->config.nodes];

	work_write(sim, &sim->node[clone->self], 0, false);
	work_write(sim, clone, 1, false);
	work_write(sim, &sim->node[0], 2, false);
	for (uint32_t i = 0; i < 20 && sim->failure[0] == '\0'; i++)
	{
		pump(sim, set, 100);
		check_told(sim);
		if (!sim->told)
			sim_fail(sim, "R15: the clone is forgotten");
	}
}

/*
 * R15.  The data directory of a running server is copied, and a second server
 * started from it.  Then the clone is stopped, and the first goes on.
 */
static void
clone_running(Sim *sim)
{
	pump(sim, 7, 4000);
	node_clone(sim, &sim->node[2]);
	until_told(sim, 15);
	write_as_two(sim, 15);
	node_retire(sim, &sim->node[3]);
	pump(sim, 7, 4000);
}

/* R15.  Both start from one copy, and the clone is who stays. */
static void
clone_of_copy(Sim *sim)
{
	pump(sim, 7, 4000);
	node_crash(sim, &sim->node[2], UINT32_MAX);
	pump(sim, 3, 2000);
	node_clone(sim, &sim->node[2]);
	node_restart(sim, &sim->node[2]);
	until_told(sim, 15);
	write_as_two(sim, 15);
	node_retire(sim, &sim->node[2]);
	pump(sim, 11, 4000);
}

/* The start of node 3 that a node heard speak last. */
static uint64_t
start_heard(const Sim *sim, uint32_t by)
{
	const DcGossipNode *n = dc_gossip_find(&sim->voice[by].gossip, 3);

	return n != NULL ? n->session.boot : 0;
}

/*
 * R15.  The clone speaks to one node, and is gone before that has its record:
 * all others go on with the original, and tell so.
 */
static void
clone_glimpse(Sim *sim)
{
	uint64_t heard[2];

	pump(sim, 7, 4000);
	heard[0] = start_heard(sim, 0);
	heard[1] = start_heard(sim, 1);
	node_clone(sim, &sim->node[2]);
	for (uint32_t i = 0; i < 4000 && start_heard(sim, 0) == heard[0] &&
						 start_heard(sim, 1) == heard[1];
		 i++)
		pump(sim, 15, 1);
	node_retire(sim, &sim->node[3]);
	work_write(sim, &sim->node[2], 0, false);
	pump(sim, 7, 8000);
}

/* Both sides notice. */
static void
disconnect(Sim *sim, uint32_t from, uint32_t to)
{
	link_close(sim, link_of(sim, from, to), "the schedule breaks it");
	peer_end(&sim->node[to], from);
}

/* By a catch-up, since the queue forgets what was written meanwhile. */
static void
relay(Sim *sim, uint32_t from, uint32_t to)
{
	disconnect(sim, from, to);
	sim->config.queue = 1;
	for (uint32_t i = 0; i < 3; i++)
		work_write(sim, &sim->node[from], 1, false);
	serve(sim, from, to, 1000);
	(void) node_persist_vector(sim, &sim->node[to]);
}

/*
 * R6.  Of what node 1 wrote node 3 hears by node 2, which leaves it to node 4:
 * that overwrote it, and streams to node 3 itself, but slowly.  Node 1 does not
 * know of that.
 */
static void
run_into_debt(Sim *sim)
{
	disconnect(sim, 0, 2);
	work_write(sim, &sim->node[0], 0, false);
	pump(sim, 11, 1000);
	work_write(sim, &sim->node[3], 0, false);
	pump(sim, 10, 1000);
	relay(sim, 1, 2);
}

/* R6.  A node in debt crashes; what it claims to have counts at node 1. */
static void
debtor(Sim *sim)
{
	Node *three = &sim->node[2];

	pump(sim, 15, 6000);
	run_into_debt(sim);
	node_crash(sim, three, UINT32_MAX);
	node_restart(sim, three);
	serve(sim, 0, 2, 1000);
	pump(sim, 15, 6000);
}

/* R6.  The same of node 5, whose donor is in debt. */
static void
guarantor(Sim *sim)
{
	pump(sim, 31, 8000);
	disconnect(sim, 0, 4);
	run_into_debt(sim);
	relay(sim, 2, 4);
	serve(sim, 0, 4, 1000);
	pump(sim, 31, 8000);
}

/* No bad luck but what the schedule makes. */
typedef struct Schedule
{
	void (*run)(Sim *);
	uint32_t nodes;
	uint32_t founders;
	uint32_t keys;
	uint32_t lead_us;
} Schedule;

static const Schedule schedules[] = {
	{removal, 3, 3, 1, 2000},       {ghost, 3, 3, 1, 2000},
	{outcast, 3, 3, 1, 2000},       {base, 3, 3, 2, 2000},
	{evicted, 3, 3, 1, 2000},       {newborn_death, 3, 2, 1, 2000},
	{own_past, 3, 3, 1, 2000},      {slow_clock, 3, 3, 1, 2000},
	{given_back, 3, 3, 1, 20000},   {blind_guide, 4, 3, 1, 2000},
	{hearsay, 4, 3, 1, 2000},       {stale_member, 3, 3, 1, 20000},
	{late_commit, 3, 2, 1, 2000},   {clone_running, 3, 3, 3, 2000},
	{clone_of_copy, 3, 3, 3, 2000}, {clone_glimpse, 3, 3, 3, 2000},
	{debtor, 4, 4, 2, 2000},        {guarantor, 5, 5, 2, 2000},
};
const uint32_t directed_count = sizeof(schedules) / sizeof(schedules[0]);

void
directed_prepare(Sim *sim, uint32_t number)
{
	const Schedule *s = &schedules[number];

	sim->config = (Config){.nodes = s->nodes,
						   .founders = s->founders,
						   .keys = s->keys,
						   .keyspaces = 1,
						   .queue = QUEUE_MAX,
						   .delay_us = 20,
						   .skew_us = 1,
						   .drift_us = 30000,
						   .lead_us = s->lead_us,
						   .round_us = 100,
						   .slots = NODES_MAX};
}

void
directed_run(Sim *sim, uint32_t number)
{
	schedules[number].run(sim);
}
