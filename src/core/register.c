/*
 * register.c
 *		The member list as a register: what a node keeps, and how it answers.
 */
#include "register.h"

#include <string.h>

#include "canary.h"

/* ---- positions and changes ------------------------------------------------ */

int
dc_position_compare(const DcPosition *a, const DcPosition *b)
{
	if (a->generation != b->generation)
		return a->generation < b->generation ? -1 : 1;
	if (a->epoch != b->epoch)
		return a->epoch < b->epoch ? -1 : 1;
	return 0;
}

uint32_t
dc_register_voters(const DcMembers *list)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < list->count; i++)
		count += list->at[i].state == DC_MEMBER_PRESENT;
	return count;
}

uint32_t
dc_register_majority(const DcMembers *list)
{
	uint32_t voters = dc_register_voters(list);

	if (DC_CANARY(DC_CANARY_REG_HALF))
		return voters > 1 ? voters / 2 : 1;
	return voters / 2 + 1;
}

bool
dc_members_equal(const DcMembers *a, const DcMembers *b)
{
	if (a->count != b->count ||
		((a->commands != b->commands || a->command != b->command) &&
		 !DC_CANARY(DC_CANARY_REG_NAME)))
		return false;
	for (uint32_t i = 0; i < a->count; i++)
	{
		if (a->at[i].node_id != b->at[i].node_id ||
			a->at[i].state != b->at[i].state ||
			a->at[i].incarnation != b->at[i].incarnation)
			return false;
	}
	return true;
}

void
dc_members_copy(DcMembers *to, const DcMembers *from)
{
	to->count = from->count;
	to->commands = from->commands;
	to->command = from->command;
	memcpy(to->at, from->at, sizeof(DcMember) * from->count);
}

/* The state that the change gives to its member. */
static DcMemberState
target(DcListChangeKind kind)
{
	switch (kind)
	{
		case DC_CHANGE_ADMIT:
			return DC_MEMBER_PRESENT;
		case DC_CHANGE_FENCE:
			return DC_MEMBER_FENCED;
		case DC_CHANGE_REMOVE:
			return DC_MEMBER_REMOVED;
		case DC_CHANGE_COMMAND:
		case DC_CHANGE_KINDS:
			break;
	}
	return DC_MEMBER_ABSENT;
}

/* It was made for its number and for no other: it may not suit any later. */
static DcListEffect
effect_of_command(const DcMembers *list, const DcListChange *change)
{
	if (change->number == 0 || !dc_hlc_valid(change->command))
		return DC_LIST_FORBIDDEN;
	if (list->commands == change->number && list->command == change->command)
		return DC_LIST_ALREADY;
	if ((list->commands + 1 == change->number ||
		 DC_CANARY(DC_CANARY_REG_NUMBER)) &&
		list->command != change->command)
		return DC_LIST_APPLIES;
	return DC_LIST_FORBIDDEN;
}

/*
 * A greater incarnation may come back from any state.  A removal without a
 * fence would leave out the closing (R11), and a list without anybody present
 * could never be followed by another.
 */
static DcListEffect
effect_of(const DcMembers *list, const DcListChange *change)
{
	DcMember here = dc_members_get(list, change->node_id);
	DcMemberState wanted = target(change->kind);

	if (change->kind == DC_CHANGE_COMMAND)
		return effect_of_command(list, change);
	if (wanted == DC_MEMBER_ABSENT || change->node_id == 0 ||
		change->node_id > DC_NODE_ID_MAX || change->incarnation == 0)
		return DC_LIST_FORBIDDEN;
	if (wanted == DC_MEMBER_PRESENT && (here.state == DC_MEMBER_ABSENT ||
										here.incarnation < change->incarnation))
		return DC_LIST_APPLIES;
	if (here.state == DC_MEMBER_ABSENT ||
		here.incarnation != change->incarnation)
		return DC_LIST_FORBIDDEN;
	if (here.state == wanted ||
		(wanted == DC_MEMBER_FENCED && here.state == DC_MEMBER_REMOVED))
		return DC_LIST_ALREADY;
	if (wanted == DC_MEMBER_FENCED && dc_register_voters(list) > 1)
		return DC_LIST_APPLIES;
	if (wanted == DC_MEMBER_REMOVED && here.state == DC_MEMBER_FENCED)
		return DC_LIST_APPLIES;
	return DC_LIST_FORBIDDEN;
}

DcListEffect
dc_list_change_apply(const DcMembers *list, const DcListChange *change,
					 DcMembers *next)
{
	DcListEffect effect = effect_of(list, change);

	if (effect == DC_LIST_APPLIES && next != NULL)
	{
		dc_members_copy(next, list);
		if (change->kind == DC_CHANGE_COMMAND)
		{
			next->commands = change->number;
			next->command = change->command;
			return effect;
		}
		(void) dc_members_put(next,
							  (DcMember){.node_id = change->node_id,
										 .state = target(change->kind),
										 .incarnation = change->incarnation});
	}
	return effect;
}

/* The change that would make this entry. */
static DcListChange
change_to(DcMember member)
{
	DcListChange change = {.kind = DC_CHANGE_REMOVE,
						   .node_id = member.node_id,
						   .incarnation = member.incarnation};

	if (member.state == DC_MEMBER_PRESENT)
		change.kind = DC_CHANGE_ADMIT;
	else if (member.state == DC_MEMBER_FENCED)
		change.kind = DC_CHANGE_FENCE;
	return change;
}

/* Entries are never dropped, so walking the next list meets all of them. */
bool
dc_register_follows(const DcMembers *list, const DcMembers *next)
{
	DcListChange command = {.kind = DC_CHANGE_COMMAND,
							.number = next->commands,
							.command = next->command};
	uint32_t same = 0;
	uint32_t changed = 0;

	if (next->commands != list->commands || next->command != list->command)
	{
		if (effect_of_command(list, &command) != DC_LIST_APPLIES)
			return false;
		changed = 1;
	}
	for (uint32_t i = 0; i < next->count; i++)
	{
		DcMember there = next->at[i];
		DcMember here = dc_members_get(list, there.node_id);
		DcListChange change = change_to(there);

		if (here.state == there.state && here.incarnation == there.incarnation)
			same++;
		else if (effect_of(list, &change) == DC_LIST_APPLIES)
		{
			changed++;
			same += here.state != DC_MEMBER_ABSENT;
		}
		else
			return false;
	}
	return changed == 1 && same == list->count;
}

/* ---- lives and lineages --------------------------------------------------- */

static bool
present(const DcMembers *list, uint32_t node_id)
{
	return dc_members_get(list, node_id).state == DC_MEMBER_PRESENT;
}

/* Is anybody but this node present? */
static bool
others_present(const DcMembers *list, uint32_t node_id)
{
	return dc_register_voters(list) > (present(list, node_id) ? 1u : 0u);
}

bool
dc_register_member(const DcRegister *reg)
{
	return !reg->adrift &&
		   dc_members_includes(&reg->list, reg->node_id, reg->incarnation);
}

/* What was promised and accepted belonged to the list before. */
static void
take(DcRegister *reg, const DcPosition *at, const DcMembers *list)
{
	if (at->founder != reg->at.founder)
		reg->shared = false;
	reg->at = *at;
	dc_members_copy(&reg->list, list);
	reg->adrift = false;
	reg->shared |= others_present(list, reg->node_id);
	reg->voice = dc_members_includes(list, reg->node_id, reg->incarnation) ?
					 reg->incarnation :
					 0;
	if (DC_CANARY(DC_CANARY_REG_CLEAR))
		return;
	reg->promised = DC_HLC_NONE;
	reg->ballot = DC_HLC_NONE;
	reg->accepted.count = 0;
}

bool
dc_register_found(DcRegister *reg, uint32_t node_id, uint64_t incarnation,
				  uint64_t founder)
{
	DcPosition at = {.founder = founder, .epoch = 1};
	DcMembers list = {.count = 1};

	if ((reg->at.founder != 0 && !reg->adrift) || founder == 0 ||
		founder == reg->at.founder)
		return false;
	list.at[0] = (DcMember){node_id, DC_MEMBER_PRESENT, incarnation};
	reg->node_id = node_id;
	reg->incarnation = incarnation;
	take(reg, &at, &list);
	return true;
}

void
dc_register_drift(DcRegister *reg, uint32_t node_id, uint64_t incarnation)
{
	memset(reg, 0, sizeof(*reg));
	reg->node_id = node_id;
	reg->incarnation = incarnation;
	reg->adrift = true;
}

/*
 * Alone, it could decide anything by itself, also what it forgot.  So it may
 * not go on in its lineage.
 */
bool
dc_register_reborn(DcRegister *reg, uint64_t incarnation, uint64_t founder)
{
	DcPosition at = {.founder = founder, .epoch = 1};
	DcMember self = {reg->node_id, DC_MEMBER_PRESENT, incarnation};
	DcMembers list;

	if (incarnation <= reg->incarnation)
		return false;
	reg->incarnation = incarnation;
	reg->voice = 0;
	reg->promised = DC_HLC_NONE;
	reg->ballot = DC_HLC_NONE;
	reg->accepted.count = 0;
	if (reg->adrift || !present(&reg->list, reg->node_id) ||
		others_present(&reg->list, reg->node_id))
		return true;
	dc_members_copy(&list, &reg->list);
	(void) dc_members_put(&list, self);
	if (DC_CANARY(DC_CANARY_REG_ALONE))
		at = (DcPosition){reg->at.founder, reg->at.generation,
						  reg->at.epoch + 1};
	take(reg, &at, &list);
	return true;
}

/* An accepted list may be decided, whatever becomes of this node. */
bool
dc_register_alone(const DcRegister *reg)
{
	return !reg->adrift && !reg->shared &&
		   !(reg->ballot != DC_HLC_NONE &&
			 others_present(&reg->accepted, reg->node_id));
}

bool
dc_register_abandon(DcRegister *reg)
{
	DcMember self = dc_members_get(&reg->list, reg->node_id);
	bool out =
		self.state != DC_MEMBER_PRESENT && self.incarnation < reg->incarnation;

	if (reg->adrift ||
		(!dc_register_alone(reg) && !out && !DC_CANARY(DC_CANARY_REG_ABANDON)))
		return false;
	reg->adrift = true;
	reg->voice = 0;
	return true;
}

DcMeeting
dc_register_meet(const DcRegister *reg, const DcRegisterReply *peer)
{
	bool alone = dc_register_alone(reg);

	if (reg->adrift && peer->adrift)
		return reg->node_id < peer->node_id ? DC_MEETING_FOUND :
											  DC_MEETING_AWAIT;
	if (reg->adrift)
		return DC_MEETING_YIELD;
	if (peer->adrift)
		return DC_MEETING_AWAIT;
	if (reg->at.founder == peer->at.founder)
		return DC_MEETING_SAME;
	if (alone && (!peer->alone || reg->node_id > peer->node_id))
		return DC_MEETING_YIELD;
	return peer->alone ? DC_MEETING_AWAIT : DC_MEETING_REFUSE;
}

/* ---- answers -------------------------------------------------------------- */

static bool
votes(const DcRegister *reg)
{
	uint64_t voice = reg->voice;

	if (DC_CANARY(DC_CANARY_REG_MEMBER))
		return true;
	if (DC_CANARY(DC_CANARY_REG_LIFE))
		voice = dc_members_get(&reg->list, reg->node_id).incarnation;
	return voice != 0 && dc_members_includes(&reg->list, reg->node_id, voice);
}

/*
 * Takes a decided list if it is newer.  What a node that is adrift had promised
 * in the lineages that it left is gone, so it must not come back to a list
 * whose successor it may have voted on: not to one that names it alone, nor to
 * an older one of the last lineage.  All others name a former life of it, or
 * it was never there.
 */
static DcVerdict
learn(DcRegister *reg, const DcRegisterRequest *request, bool *changed)
{
	const DcPosition *at = &request->at;
	bool same = at->founder == reg->at.founder;
	int order = dc_position_compare(at, &reg->at);

	if (reg->adrift)
	{
		if ((same && order <= 0) || !present(&request->list, reg->node_id) ||
			!others_present(&request->list, reg->node_id))
			return DC_VERDICT_ADRIFT;
	}
	else if (!same)
		return DC_VERDICT_LINEAGE;
	else if (order < 0)
		return DC_VERDICT_AHEAD;
	else if (order == 0)
		return dc_members_equal(&reg->list, &request->list) ? DC_VERDICT_YES :
															  DC_VERDICT_SPLIT;
	take(reg, at, &request->list);
	*changed = true;
	return DC_VERDICT_YES;
}

static DcVerdict
prepare(DcRegister *reg, const DcRegisterRequest *request, bool *changed)
{
	if (!votes(reg))
		return DC_VERDICT_SILENT;
	if (request->ballot < reg->promised)
		return DC_VERDICT_REFUSED;
	*changed |= request->ballot > reg->promised;
	reg->promised = request->ballot;
	return DC_VERDICT_YES;
}

static DcVerdict
accept(DcRegister *reg, const DcRegisterRequest *request, bool *changed)
{
	if (!votes(reg))
		return DC_VERDICT_SILENT;
	if (request->ballot < reg->promised && !DC_CANARY(DC_CANARY_REG_PROMISE))
		return DC_VERDICT_REFUSED;
	if (!dc_register_follows(&reg->list, &request->value))
		return DC_VERDICT_INVALID;
	reg->promised = request->ballot;
	reg->ballot = request->ballot;
	dc_members_copy(&reg->accepted, &request->value);
	*changed = true;
	return DC_VERDICT_YES;
}

/* The other of two promised this ballot, and had accepted this. */
static DcVerdict
take_over(DcRegister *reg, const DcRegisterRequest *request, bool *changed)
{
	DcMember self = dc_members_get(&reg->list, reg->node_id);

	if (reg->voice == 0)
	{
		if (self.state != DC_MEMBER_PRESENT ||
			self.incarnation >= reg->incarnation ||
			(dc_register_voters(&reg->list) != 2 &&
			 !DC_CANARY(DC_CANARY_REG_TAKEOVER | DC_CANARY_REG_SOME)))
			return DC_VERDICT_SILENT;
		if (request->accepted_ballot != DC_HLC_NONE &&
			(request->accepted_ballot > request->ballot ||
			 !dc_register_follows(&reg->list, &request->value)))
			return DC_VERDICT_INVALID;
		reg->voice = self.incarnation;
		reg->promised = request->ballot;
		reg->ballot = request->accepted_ballot;
		dc_members_copy(&reg->accepted, &request->value);
		*changed = true;
	}
	return prepare(reg, request, changed);
}

static void
describe(const DcRegister *reg, const DcRegisterRequest *request,
		 DcRegisterReply *reply)
{
	reply->kind = request->kind;
	reply->ballot = request->ballot;
	reply->node_id = reg->node_id;
	reply->incarnation = reg->incarnation;
	reply->voice = reg->voice;
	reply->adrift = reg->adrift;
	reply->alone = dc_register_alone(reg);
	reply->at = reg->at;
	dc_members_copy(&reply->list, &reg->list);
	reply->promised = reg->promised;
	reply->accepted_ballot = reg->ballot;
	dc_members_copy(&reply->accepted, &reg->accepted);
}

bool
dc_register_answer(DcRegister *reg, const DcRegisterRequest *request,
				   DcRegisterReply *reply)
{
	bool changed = false;
	DcVerdict verdict = DC_VERDICT_YES;

	if (request->kind == DC_REGISTER_READ)
		verdict = reg->adrift ? DC_VERDICT_ADRIFT : DC_VERDICT_YES;
	else
		verdict = learn(reg, request, &changed);
	if (verdict == DC_VERDICT_AHEAD && DC_CANARY(DC_CANARY_REG_BEHIND) &&
		request->kind == DC_REGISTER_PREPARE)
		verdict = DC_VERDICT_YES;
	if (verdict == DC_VERDICT_YES && request->kind == DC_REGISTER_PREPARE)
		verdict = prepare(reg, request, &changed);
	else if (verdict == DC_VERDICT_YES && request->kind == DC_REGISTER_ACCEPT)
		verdict = accept(reg, request, &changed);
	else if (verdict == DC_VERDICT_YES && request->kind == DC_REGISTER_TAKEOVER)
		verdict = take_over(reg, request, &changed);
	describe(reg, request, reply);
	reply->verdict = verdict;
	return changed;
}

/* ---- forced recovery ------------------------------------------------------ */

/*
 * The newest of what the survivors know.  A list that one of them accepted
 * may have been decided with the help of the missing ones, so it is built on.
 */
static void
newest(const DcRegisterReply *survivors, uint32_t count, DcPosition *at,
	   DcMembers *list)
{
	const DcRegisterReply *base = &survivors[0];
	const DcRegisterReply *accepted = NULL;

	for (uint32_t i = 1; i < count; i++)
	{
		if (dc_position_compare(&survivors[i].at, &base->at) > 0)
			base = &survivors[i];
	}
	for (uint32_t i = 0; i < count; i++)
	{
		if (dc_position_compare(&survivors[i].at, &base->at) == 0 &&
			survivors[i].accepted_ballot != DC_HLC_NONE &&
			(accepted == NULL ||
			 survivors[i].accepted_ballot > accepted->accepted_ballot))
			accepted = &survivors[i];
	}
	*at = base->at;
	at->epoch += accepted != NULL ? 2 : 1;
	dc_members_copy(list, accepted != NULL ? &accepted->accepted : &base->list);
}

static const DcRegisterReply *
survivor_of(const DcRegisterReply *survivors, uint32_t count, uint32_t node_id)
{
	for (uint32_t i = 0; i < count; i++)
	{
		if (survivors[i].node_id == node_id)
			return &survivors[i];
	}
	return NULL;
}

/* Can the node be present as the life that it is? */
static bool
may_be_present(const DcMembers *list, const DcRegisterReply *survivor)
{
	DcMember here = dc_members_get(list, survivor->node_id);

	return here.state == DC_MEMBER_ABSENT ||
		   here.incarnation < survivor->incarnation ||
		   (here.incarnation == survivor->incarnation &&
			here.state == DC_MEMBER_PRESENT);
}

DcStatus
dc_register_force(const DcRegisterReply *survivors, uint32_t count, DcHlc stamp,
				  DcPosition *at, DcMembers *list, uint32_t *who)
{
	*who = 0;
	if (count == 0)
		return DC_NOT_ALLOWED;
	newest(survivors, count, at, list);
	for (uint32_t i = 0; i < count; i++)
	{
		const DcRegisterReply *survivor = &survivors[i];

		*who = survivor->node_id;
		if (survivor->adrift || survivor->at.founder != at->founder)
			return DC_LINEAGE;
		if (stamp <= survivor->at.generation || stamp <= survivor->promised)
			return DC_OUTVOTED;
		if (!may_be_present(list, survivor))
			return DC_NOT_ALLOWED;
	}
	*who = 0;
	at->generation =
		DC_CANARY(DC_CANARY_REG_GENERATION) ? at->generation + 1 : stamp;
	for (uint32_t i = 0; i < list->count; i++)
	{
		if (survivor_of(survivors, count, list->at[i].node_id) == NULL)
			list->at[i].state = DC_MEMBER_REMOVED;
	}
	for (uint32_t i = 0; i < count; i++)
		(void) dc_members_put(list, (DcMember){survivors[i].node_id,
											   DC_MEMBER_PRESENT,
											   survivors[i].incarnation});
	return DC_OK;
}
