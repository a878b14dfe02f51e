/*
 * check.c
 *		The oracle: what was decided, by whom, and that it is one thing.
 *
 * It counts majorities by itself.
 */
#include "rsim.h"

#include <stdio.h>
#include <string.h>

static bool
same_position(const DcPosition *a, const DcPosition *b)
{
	return a->founder == b->founder && dc_position_compare(a, b) == 0;
}

static Decided *
find(Sim *sim, const DcPosition *at)
{
	for (uint32_t i = sim->decided_count; i > 0; i--)
	{
		if (same_position(&sim->decided[i - 1].at, at))
			return &sim->decided[i - 1];
	}
	return NULL;
}

static bool
equal(const Decided *decided, const DcMembers *list)
{
	if (decided->count != list->count || decided->commands != list->commands ||
		decided->command != list->command)
		return false;
	for (uint32_t i = 0; i < list->count; i++)
	{
		if (decided->list[i].node_id != list->at[i].node_id ||
			decided->list[i].state != list->at[i].state ||
			decided->list[i].incarnation != list->at[i].incarnation)
			return false;
	}
	return true;
}

/* ---- changes between two lists -------------------------------------------- */

static DcMember
entry_of(const Decided *decided, uint32_t id)
{
	for (uint32_t i = 0; i < decided->count; i++)
	{
		if (decided->list[i].node_id == id)
			return decided->list[i];
	}
	return (DcMember){.node_id = id, .state = DC_MEMBER_ABSENT};
}

/* One more command, by another name than the last one's. */
static bool
is_next_command(const Decided *before, const Decided *after)
{
	return after->commands == before->commands + 1 &&
		   after->command != DC_HLC_NONE && after->command != before->command;
}

/*
 * One entry differs, and goes where the drawing in members.h lets it go; or
 * none, and there is one more command.
 */
static bool
follows(const Decided *before, const Decided *after)
{
	uint32_t changes = 0;

	if (after->commands != before->commands ||
		after->command != before->command)
	{
		if (!is_next_command(before, after))
			return false;
		changes++;
	}
	for (uint32_t id = 1; id <= NODES_MAX; id++)
	{
		DcMember was = entry_of(before, id);
		DcMember is = entry_of(after, id);

		if (was.state == is.state && was.incarnation == is.incarnation)
			continue;
		changes++;
		if (is.state == DC_MEMBER_PRESENT && is.incarnation > was.incarnation)
			continue;
		if (is.incarnation != was.incarnation ||
			!((was.state == DC_MEMBER_PRESENT && is.state == DC_MEMBER_FENCED) ||
			  (was.state == DC_MEMBER_FENCED && is.state == DC_MEMBER_REMOVED)))
			return false;
	}
	return changes == 1;
}

/* ---- majorities ----------------------------------------------------------- */

static uint32_t
voters_of(const Decided *decided)
{
	uint32_t bits = 0;

	for (uint32_t i = 0; i < decided->count; i++)
	{
		if (decided->list[i].state == DC_MEMBER_PRESENT)
			bits |= 1u << decided->list[i].node_id;
	}
	return bits;
}

static uint32_t
count_bits(uint32_t bits)
{
	return (uint32_t) __builtin_popcount(bits);
}

static bool
chosen(Sim *sim, const Decided *before, const DcMembers *list)
{
	uint64_t digest = dc_members_digest(list);
	uint32_t voters = voters_of(before);

	for (uint32_t i = 0; i < sim->accepted_count; i++)
	{
		const Accepted *accepted = &sim->accepted[i];

		if (accepted->digest == digest &&
			same_position(&accepted->at, &before->at) &&
			2 * count_bits(accepted->by & voters) > count_bits(voters))
			return true;
	}
	return false;
}

void
check_accepted(Sim *sim, uint32_t id, const DcRegisterRequest *request)
{
	uint64_t digest = dc_members_digest(&request->value);
	Accepted *accepted;

	for (uint32_t i = sim->accepted_count; i > 0; i--)
	{
		accepted = &sim->accepted[i - 1];
		if (accepted->ballot != request->ballot ||
			!same_position(&accepted->at, &request->at))
			continue;
		if (accepted->digest == digest)
		{
			accepted->by |= 1u << id;
			return;
		}
		fail(sim, "one ballot bears two lists");
		return;
	}
	if (sim->accepted_count == ACCEPTED_MAX)
		return;
	accepted = &sim->accepted[sim->accepted_count++];
	*accepted = (Accepted){request->at, request->ballot, digest, 1u << id};
}

/* ---- commands ------------------------------------------------------------- */

static bool
is_undone(const Sim *sim, DcHlc command)
{
	for (uint32_t i = 0; i < sim->undone_count; i++)
	{
		if (sim->undone[i] == command)
			return true;
	}
	return false;
}

/*
 * What its proposer says of a command is kept: done is done, and who heard that
 * it failed may have rolled it back.
 */
void
check_outcome(Sim *sim, const DcProposer *p)
{
	const DcMembers *list = &p->request.list;

	if (p->change.kind != DC_CHANGE_COMMAND || p->survivors != NULL ||
		p->status == DC_UNDECIDED)
		return;
	if (p->status == DC_OK)
	{
		if (list->commands != p->change.number ||
			list->command != p->change.command)
			fail(sim, "command %llu is done, and not in its list",
				 (unsigned long long) p->change.number);
		return;
	}
	if (sim->undone_count < UNDONE_MAX)
		sim->undone[sim->undone_count++] = p->change.command;
	for (uint32_t i = 0; i < sim->decided_count; i++)
	{
		if (sim->decided[i].command == p->change.command)
			fail(sim, "command %llu failed, and was decided",
				 (unsigned long long) p->change.number);
	}
}

/* ---- decided lists -------------------------------------------------------- */

static void
check_neighbours(Sim *sim, const Decided *decided, const DcMembers *list,
				 bool forced)
{
	DcPosition at = decided->at;
	const Decided *other;

	at.epoch--;
	other = find(sim, &at);
	if (other != NULL && !follows(other, decided))
		fail(sim, "list %llu does not follow the one before",
			 (unsigned long long) decided->at.epoch);
	if (other != NULL && !forced && !chosen(sim, other, list))
		fail(sim, "list %llu was decided without a majority",
			 (unsigned long long) decided->at.epoch);
	if (other == NULL && !forced && at.epoch > 0)
		fail(sim, "list %llu follows one that nobody decided",
			 (unsigned long long) decided->at.epoch);
	if (other != NULL && decided->commands != other->commands)
		sim->stats.commands++;
	if (is_undone(sim, decided->command))
		fail(sim, "list %llu names a command that failed",
			 (unsigned long long) decided->at.epoch);
}

void
check_decided(Sim *sim, const DcPosition *at, const DcMembers *list,
			  bool forced)
{
	Decided *decided = find(sim, at);

	if (decided != NULL)
	{
		if (!equal(decided, list))
			fail(sim, "two lists are number %llu of one lineage",
				 (unsigned long long) at->epoch);
		return;
	}
	if (sim->decided_count == DECIDED_MAX)
		return;
	decided = &sim->decided[sim->decided_count++];
	decided->at = *at;
	decided->commands = list->commands;
	decided->command = list->command;
	decided->count = list->count;
	memcpy(decided->list, list->at, sizeof(DcMember) * list->count);
	sim->stats.decided++;
	say(sim, "list %llu of %llx/%llu is decided, %u voters",
		(unsigned long long) at->epoch, (unsigned long long) at->founder,
		(unsigned long long) at->generation, count_bits(voters_of(decided)));
	check_neighbours(sim, decided, list, forced);
}

/* What a register stands on is decided, and it never goes back. */
void
check_register(Sim *sim, uint32_t id, const DcRegister *before)
{
	const DcRegister *reg = &sim->node[id].memory;

	if (same_position(&before->at, &reg->at))
		return;
	if (before->at.founder == reg->at.founder &&
		dc_position_compare(&before->at, &reg->at) > 0)
		fail(sim, "node %u goes back to list %llu", id,
			 (unsigned long long) reg->at.epoch);
	if (reg->at.epoch > 0)
		check_decided(sim, &reg->at, &reg->list, false);
}

/* ---- calm ----------------------------------------------------------------- */

/* Can the members of this register's list decide, if all are up? */
bool
check_quorate(Sim *sim, uint32_t newest)
{
	const DcRegister *reg = &sim->node[newest].memory;
	uint32_t voters = 0;
	uint32_t voices = 0;
	uint32_t lives = 0;

	for (uint32_t i = 0; i < reg->list.count; i++)
	{
		DcMember member = reg->list.at[i];
		const DcRegister *there = &sim->node[member.node_id].memory;
		bool here = !there->adrift && there->at.founder == reg->at.founder;

		if (member.state != DC_MEMBER_PRESENT)
			continue;
		voters++;
		if (here && there->voice == member.incarnation)
			voices++;
		else if (here && there->incarnation > member.incarnation)
			lives++;
	}
	return 2 * voices > voters || (voters == 2 && voices == 1 && lives == 1);
}

/* Every node is a member, and those of one lineage agree. */
bool
check_settled(Sim *sim, char *why, size_t size)
{
	for (uint32_t id = 1; id <= sim->count; id++)
	{
		const DcRegister *reg = &sim->node[id].memory;

		if (!dc_register_member(reg))
		{
			snprintf(why, size, "node %u is still no member", id);
			return false;
		}
		for (uint32_t other = 1; other < id; other++)
		{
			const DcRegister *there = &sim->node[other].memory;

			if (there->at.founder == reg->at.founder &&
				!same_position(&there->at, &reg->at))
			{
				snprintf(why, size, "nodes %u and %u differ", other, id);
				return false;
			}
		}
	}
	return true;
}
