/*
 * run.c
 *		What a seed chooses: the nodes at the start, some hundred steps of
 *		trouble, then calm, in which every node must become a member of some
 *		lineage, and all of one lineage must agree.
 */
#include "rsim.h"

#include <string.h>

#define STEPS 1200

static uint32_t
any_node(Sim *sim)
{
	return 1 + rng_below(&sim->rng, sim->count);
}

static bool
chance(Sim *sim, uint32_t per_mille)
{
	return rng_below(&sim->rng, 1000) < per_mille;
}

/* ---- the start ------------------------------------------------------------ */

static void
start_members(Sim *sim, uint32_t members)
{
	static DcRegisterRequest first;
	static DcRegisterReply reply;

	first.kind = DC_REGISTER_LEARN;
	first.at = (DcPosition){rng_next(&sim->rng) | 1, DC_HLC_NONE, 1};
	first.list.count = 0;
	for (uint32_t id = 1; id <= members; id++)
		(void) dc_members_put(&first.list,
							  (DcMember){id, DC_MEMBER_PRESENT, 1});
	check_decided(sim, &first.at, &first.list, true);
	for (uint32_t id = 1; id <= members; id++)
		(void) dc_register_answer(&sim->node[id].memory, &first, &reply);
}

static void
start(Sim *sim)
{
	uint32_t members = 2 + rng_below(&sim->rng, 4);

	sim->count = members + rng_below(&sim->rng, 3);
	if (sim->profile == PROFILE_TWO)
		members = 2, sim->count = 2 + rng_below(&sim->rng, 2);
	if (sim->profile == PROFILE_DUEL)
		members = 3, sim->count = 6;
	if (sim->profile == PROFILE_LIVES)
		members = 3, sim->count = 3 + rng_below(&sim->rng, 2);
	if (sim->profile == PROFILE_LONE ||
		(sim->profile == PROFILE_ANY && chance(sim, 150)))
		members = 0;
	if (sim->count > NODES_MAX)
		sim->count = NODES_MAX;
	for (uint32_t id = 1; id <= sim->count; id++)
	{
		Node *node = &sim->node[id];

		dc_register_drift(&node->memory, id, 1);
		node->lives = 1;
		node->last = DC_HLC_NONE;
		node->drawn = DC_HLC_NONE;
		node->draws_again = false;
		node->has_backup = false;
		node->skew_us = rng_below(&sim->rng, 8000);
		node->up = true;
		node->proposing = false;
	}
	if (members > 1)
		start_members(sim, members);
	for (uint32_t id = 1; id <= sim->count; id++)
	{
		DcRegister *reg = &sim->node[id].memory;

		if (reg->adrift && chance(sim, members > 1 ? 300 : 800))
		{
			(void) dc_register_found(reg, id, 1, rng_next(&sim->rng) | 1);
			check_decided(sim, &reg->at, &reg->list, true);
		}
		node_persist(sim, id);
	}
}

static void
draw_knobs(Sim *sim)
{
	sim->loss = chance(sim, 500) ? rng_below(&sim->rng, 200) : 0;
	sim->doubles = chance(sim, 500) ? rng_below(&sim->rng, 200) : 0;
	sim->restores = chance(sim, 400) ? 300 : 0;
	sim->forces = chance(sim, 250) ? 1 + rng_below(&sim->rng, 2) : 0;
	if (sim->profile == PROFILE_TWO || sim->profile == PROFILE_LIVES)
		sim->restores = 600;
	if (sim->profile == PROFILE_FORCED)
		sim->forces = 3;
	sim->commands = chance(sim, 700) ? rng_below(&sim->rng, 700) : 0;
	sim->eager = 70;
	sim->troubles = 25;
	if (sim->profile == PROFILE_DUEL)
	{
		sim->eager = 250;
		sim->troubles = 100;
		sim->loss /= 4;
		sim->restores = 0;
	}
}

/* ---- what operators want -------------------------------------------------- */

static DcListChange
random_change(Sim *sim, uint32_t id)
{
	const DcRegister *reg = &sim->node[id].memory;
	const DcMembers *list = &reg->list;
	DcMember member = list->at[rng_below(&sim->rng, list->count)];
	DcListChange change = {.kind = DC_CHANGE_FENCE,
						   .node_id = member.node_id,
						   .incarnation = member.incarnation};

	if (member.state == DC_MEMBER_FENCED)
		change.kind = DC_CHANGE_REMOVE;
	else if (chance(sim, 400))
	{
		change.kind = DC_CHANGE_ADMIT;
		change.node_id = any_node(sim);
		change.incarnation = sim->node[change.node_id].memory.incarnation;
	}
	return change;
}

/* By the list that the node knows, which may be an old one. */
static DcListChange
next_command(Sim *sim, uint32_t id)
{
	return (DcListChange){.kind = DC_CHANGE_COMMAND,
						  .node_id = id,
						  .number = sim->node[id].memory.list.commands + 1,
						  .command = node_stamp(sim, id)};
}

/* Who is out wants in, as a new life if it was fenced as this one. */
static DcListChange
admission(Sim *sim, uint32_t id)
{
	DcRegister *reg = &sim->node[id].memory;
	DcMember self = dc_members_get(&reg->list, id);

	if (!reg->adrift && self.state != DC_MEMBER_ABSENT &&
		self.incarnation == reg->incarnation)
		node_reborn(sim, id);
	return (DcListChange){.kind = DC_CHANGE_ADMIT,
						  .node_id = id,
						  .incarnation = reg->incarnation};
}

static void
propose(Sim *sim, uint32_t id)
{
	uint64_t deadline = sim->now_us + 10000 + rng_below(&sim->rng, 400000);
	DcListChange change;

	if (sim->node[id].proposing)
		return;
	if (!sim->node[id].memory.adrift && chance(sim, sim->commands))
		change = next_command(sim, id);
	else if (dc_register_member(&sim->node[id].memory))
		change = random_change(sim, id);
	else
		change = admission(sim, id);
	if (sim->profile == PROFILE_DUEL && change.kind == DC_CHANGE_ADMIT)
	{
		change.node_id = any_node(sim);
		change.incarnation = sim->node[change.node_id].memory.incarnation;
	}
	node_propose(sim, id, any_node(sim), change, deadline);
}

static void
force(Sim *sim, uint32_t id)
{
	uint32_t survivors[NODES_MAX];
	uint32_t count = 0;

	if (sim->forces == 0 || sim->node[id].proposing ||
		sim->node[id].memory.adrift)
		return;
	for (uint32_t other = 1; other <= sim->count; other++)
	{
		if (other == id || (sim->node[other].up && !sim->cut[id][other] &&
							!sim->cut[other][id] && chance(sim, 700)))
			survivors[count++] = other;
	}
	sim->forces--;
	node_force(sim, id, survivors, count, sim->now_us + 400000);
}

/* ---- trouble -------------------------------------------------------------- */

static void
trouble(Sim *sim)
{
	uint32_t id = any_node(sim);
	Node *node = &sim->node[id];

	if (!node->up)
	{
		if (chance(sim, sim->restores) &&
			(node->has_backup || chance(sim, 200)))
			node_restore(sim, id, !node->has_backup);
		else
			node_start(sim, id);
	}
	else if (chance(sim, sim->profile == PROFILE_DUEL ? 800 : 300))
		node_crash(sim, id);
	else if (chance(sim, 200))
	{
		register_copy(&node->backup, &node->disk);
		node->has_backup = true;
	}
	else if (chance(sim, 250))
		net_partition(sim);
	else if (chance(sim, 400))
		net_heal(sim);
	else if (chance(sim, 200))
		force(sim, id);
}

static void
step(Sim *sim)
{
	uint32_t id = any_node(sim);
	bool up = sim->node[id].up;
	uint32_t dice = rng_below(&sim->rng, 905 + sim->troubles + sim->eager);

	sim->now_us += rng_below(&sim->rng, 400);
	sim->stats.steps++;
	if (dice < 560)
		(void) net_deliver(sim);
	else if (dice < 820 && up)
		node_pump(sim, id);
	else if (dice < 850 && up)
		node_timeout(sim, id);
	else if (dice < 905 && up)
		node_look(sim, id, any_node(sim));
	else if (dice >= 905 && dice < 905 + sim->troubles)
		trouble(sim);
	else if (dice >= 905 + sim->troubles && up)
		propose(sim, id);
}

/* ---- calm ----------------------------------------------------------------- */

static void
settle(Sim *sim)
{
	for (uint32_t i = 0; i < 4000 && sim->failure[0] == '\0'; i++)
	{
		bool busy = false;

		sim->now_us += 50;
		for (uint32_t id = 1; id <= sim->count; id++)
		{
			node_pump(sim, id);
			busy |= sim->node[id].proposing;
		}
		if (!net_deliver(sim) && !busy)
			return;
	}
}

/* The first node of a lineage that stands on its newest list. */
static bool
is_newest(Sim *sim, uint32_t id)
{
	const DcRegister *reg = &sim->node[id].memory;

	if (reg->adrift)
		return false;
	for (uint32_t other = 1; other <= sim->count; other++)
	{
		const DcRegister *there = &sim->node[other].memory;
		int order = dc_position_compare(&there->at, &reg->at);

		if (!there->adrift && there->at.founder == reg->at.founder &&
			(order > 0 || (order == 0 && other < id)))
			return false;
	}
	return true;
}

/* All nodes of a lineage that cannot decide any more are its survivors. */
static void
recover(Sim *sim, uint32_t id)
{
	uint32_t survivors[NODES_MAX];
	uint32_t count = 0;
	const DcMembers *list = &sim->node[id].memory.list;

	for (uint32_t other = 1; other <= sim->count; other++)
	{
		const DcRegister *there = &sim->node[other].memory;
		DcMember member = dc_members_get(list, other);

		if (there->adrift ||
			there->at.founder != sim->node[id].memory.at.founder)
			continue;
		if (member.state != DC_MEMBER_ABSENT &&
			member.state != DC_MEMBER_PRESENT &&
			member.incarnation == there->incarnation)
			node_reborn(sim, other);
		survivors[count++] = other;
	}
	sim->stats.forced_at_end++;
	node_force(sim, id, survivors, count, sim->now_us + 10000000);
	settle(sim);
}

static void
calm(Sim *sim)
{
	char why[80];

	net_clear(sim);
	net_heal(sim);
	sim->loss = sim->doubles = 0;
	for (uint32_t id = 1; id <= sim->count; id++)
	{
		sim->node[id].proposing = false;
		if (!sim->node[id].up)
			node_start(sim, id);
	}
	for (uint32_t round = 0; !check_settled(sim, why, sizeof(why)); round++)
	{
		if (round == 24)
			fail(sim, "all is calm, but %s", why);
		if (sim->failure[0] != '\0')
			return;
		for (uint32_t id = 1; id <= sim->count; id++)
		{
			for (uint32_t other = 1; other <= sim->count; other++)
			{
				if (id != other)
					node_look(sim, id, other);
			}
			settle(sim);
		}
		for (uint32_t id = 1; id <= sim->count; id++)
		{
			if (is_newest(sim, id) && !check_quorate(sim, id))
				recover(sim, id);
		}
		for (uint32_t id = 1; id <= sim->count; id++)
		{
			if (dc_register_member(&sim->node[id].memory))
				continue;
			node_propose(sim, id, any_node(sim), admission(sim, id),
						 sim->now_us + 10000000);
			if (chance(sim, 500))
				settle(sim);
		}
		settle(sim);
	}
	sim->stats.liveness++;
}

bool
run(Sim *sim, uint64_t seed, Defect defect, Profile profile, bool trace)
{
	uint32_t steps;

	rng_seed(&sim->rng, seed);
	sim->now_us = 1000;
	sim->defect = defect;
	sim->profile = profile != PROFILE_ANY ?
					   profile :
					   (Profile) rng_below(&sim->rng, PROFILE_DIRECTED);
	sim->trace = trace;
	sim->failure[0] = '\0';
	sim->decided_count = 0;
	sim->accepted_count = 0;
	sim->undone_count = 0;
	net_clear(sim);
	net_heal(sim);
	sim->stats.runs++;
	if (profile >= PROFILE_DIRECTED)
	{
		directed(sim, profile - PROFILE_DIRECTED);
		return sim->failure[0] == '\0';
	}
	start(sim);
	draw_knobs(sim);
	steps = STEPS / 4 + rng_below(&sim->rng, STEPS);
	for (uint32_t i = 0; i < steps && sim->failure[0] == '\0'; i++)
		step(sim);
	if (sim->failure[0] == '\0')
		calm(sim);
	return sim->failure[0] == '\0';
}
