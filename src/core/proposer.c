/*
 * proposer.c
 *		Carries one change of the member list through.
 */
#include "proposer.h"

#include <string.h>

#include "canary.h"

/* The back-off doubles up to this. */
#define BACKOFF_US_MIN    UINT64_C(5000)
#define BACKOFF_DOUBLINGS 8

/* ---- the ledger of a phase ------------------------------------------------ */

static void
ask_nobody(DcProposer *p)
{
	memset(p->asked, DC_ASKED_NOT, sizeof(p->asked));
}

static uint32_t
count_asked(const DcProposer *p, DcAsked asked)
{
	uint32_t count = 0;

	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
		count += p->asked[id] == asked;
	return count;
}

/* How many may still answer. */
static uint32_t
count_open(const DcProposer *p)
{
	return count_asked(p, DC_ASKED_HELD) + count_asked(p, DC_ASKED_TO_SEND) +
		   count_asked(p, DC_ASKED_SENT);
}

/* Everybody who votes on the successor of `list`. */
static void
ask_voters(DcProposer *p, const DcMembers *list)
{
	ask_nobody(p);
	p->needed = dc_register_majority(list);
	for (uint32_t i = 0; i < list->count; i++)
	{
		if (list->at[i].state == DC_MEMBER_PRESENT ||
			DC_CANARY(DC_CANARY_REG_MEMBER))
			p->asked[list->at[i].node_id] = DC_ASKED_TO_SEND;
	}
}

/* ---- the ends ------------------------------------------------------------- */

static void
finish(DcProposer *p, DcStatus status)
{
	p->state = DC_PROPOSER_DONE;
	p->status = status;
}

/* The change did not come about, as far as is known. */
static void
fail(DcProposer *p, DcStatus status)
{
	p->answered = count_asked(p, DC_ASKED_YES);
	finish(p, p->risked || p->unclear ? DC_UNDECIDED : status);
}

/* All members are told the list, and whom the change is about. */
static void
begin_learning(DcProposer *p, DcStatus status)
{
	p->state = DC_PROPOSER_LEARNING;
	p->status = status;
	p->decided = status == DC_OK;
	p->risked = false;
	p->request.kind = DC_REGISTER_LEARN;
	ask_voters(p, &p->request.list);
	if (p->change.node_id >= 1 && p->change.node_id <= DC_NODE_ID_MAX)
		p->asked[p->change.node_id] = DC_ASKED_TO_SEND;
	p->asked[p->node_id] = DC_ASKED_TO_SEND;
}

/* ---- from list to list ---------------------------------------------------- */

/* What is news to the own node, or was completed here, is told all the same. */
static void
give_up(DcProposer *p, DcStatus status)
{
	if (p->unclear)
		status = DC_UNDECIDED;
	if (p->moved)
		begin_learning(p, status);
	else
		finish(p, status);
}

/* What to do on the list in p->request, which is known to be decided. */
static void
consider(DcProposer *p)
{
	const DcMembers *list = &p->request.list;

	switch (dc_list_change_apply(list, &p->change, NULL))
	{
		case DC_LIST_ALREADY:
			p->already = true;
			begin_learning(p, DC_OK);
			return;
		case DC_LIST_FORBIDDEN:
			give_up(p, DC_NOT_ALLOWED);
			return;
		case DC_LIST_APPLIES:
			break;
	}
	if (p->change.kind != DC_CHANGE_ADMIT &&
		!dc_members_includes(list, p->node_id, p->incarnation))
		give_up(p, DC_NOT_MEMBER);
	else
		p->state = DC_PROPOSER_DRAWING;
}

/*
 * Would the list name the change, if it was chosen on the one in p->request?
 * Of commands a list names the last one only, and a recovery may have left out
 * what was decided.
 */
static bool
tells(const DcProposer *p, const DcRegisterReply *reply)
{
	if (p->change.kind == DC_CHANGE_COMMAND &&
		reply->list.commands > p->change.number)
		return false;
	return reply->at.generation == p->request.at.generation;
}

/*
 * A newer list than the one in p->request.  What was risked on the older one
 * was not chosen, if it is not in this one.
 */
static void
rebase(DcProposer *p, const DcRegisterReply *reply)
{
	p->unclear |=
		p->risked && !tells(p, reply) && !DC_CANARY(DC_CANARY_REG_OVERTAKEN);
	p->request.at = reply->at;
	dc_members_copy(&p->request.list, &reply->list);
	p->moved = true;
	p->risked = false;
	p->already = false;
	consider(p);
}

/* A majority accepted p->request.value. */
static void
chosen(DcProposer *p)
{
	bool own = p->own;

	p->request.at.epoch++;
	dc_members_copy(&p->request.list, &p->request.value);
	p->moved = true;
	p->risked = false;
	if (own)
		begin_learning(p, DC_OK);
	else
		consider(p);
}

/* ---- phases --------------------------------------------------------------- */

/*
 * A new life among two may take over the vote of the old one as soon as the
 * other member promised.
 */
static bool
may_take_over(const DcProposer *p)
{
	const DcMembers *list = &p->request.list;
	DcMember self = dc_members_get(list, p->node_id);

	return self.state == DC_MEMBER_PRESENT &&
		   self.incarnation < p->incarnation &&
		   (dc_register_voters(list) == 2 ||
			DC_CANARY(DC_CANARY_REG_TAKEOVER | DC_CANARY_REG_SOME));
}

static void
begin_preparing(DcProposer *p, DcHlc ballot)
{
	p->state = DC_PROPOSER_PREPARING;
	p->request.kind = DC_REGISTER_PREPARE;
	p->request.ballot = ballot;
	p->best_ballot = DC_HLC_NONE;
	p->best.count = 0;
	p->stranger = 0;
	ask_voters(p, &p->request.list);
	if (may_take_over(p))
		p->asked[p->node_id] = DC_ASKED_HELD;
}

/* All others promised: the own register adopts what they accepted. */
static void
settle_held(DcProposer *p)
{
	if (p->asked[p->node_id] != DC_ASKED_HELD || count_open(p) > 1)
		return;
	if (count_asked(p, DC_ASKED_YES) == 0 ||
		(count_asked(p, DC_ASKED_YES) + 1 <
			 dc_register_voters(&p->request.list) &&
		 !DC_CANARY(DC_CANARY_REG_SOME)))
	{
		p->asked[p->node_id] = DC_ASKED_NO;
		return;
	}
	p->asked[p->node_id] = DC_ASKED_TO_SEND;
	p->request.kind = DC_REGISTER_TAKEOVER;
	p->request.accepted_ballot = p->best_ballot;
	dc_members_copy(&p->request.value, &p->best);
}

/* "the value of the highest-numbered proposal among the responses" */
static void
note_accepted(DcProposer *p, const DcRegisterReply *reply)
{
	bool greater = reply->accepted_ballot > p->best_ballot;

	if (reply->accepted_ballot == DC_HLC_NONE || DC_CANARY(DC_CANARY_REG_VALUE))
		return;
	if (DC_CANARY(DC_CANARY_REG_HIGHEST))
		greater = p->best_ballot == DC_HLC_NONE ||
				  reply->accepted_ballot < p->best_ballot;
	if (!greater)
		return;
	p->best_ballot = reply->accepted_ballot;
	dc_members_copy(&p->best, &reply->accepted);
}

static void
begin_accepting(DcProposer *p)
{
	DcRegisterRequest *request = &p->request;

	(void) dc_list_change_apply(&request->list, &p->change, &request->value);
	p->own = p->best_ballot == DC_HLC_NONE ||
			 dc_members_equal(&request->value, &p->best);
	if (!p->own)
		dc_members_copy(&request->value, &p->best);
	p->risked |= p->own;
	p->state = DC_PROPOSER_ACCEPTING;
	request->kind = DC_REGISTER_ACCEPT;
	ask_voters(p, DC_CANARY(DC_CANARY_REG_NEXT) ? &request->value :
												  &request->list);
	if (DC_CANARY(DC_CANARY_REG_LEARN))
		p->needed = 1;
}

static void
back_off(DcProposer *p, uint64_t now_us)
{
	uint64_t range = BACKOFF_US_MIN
					 << (p->tries < BACKOFF_DOUBLINGS ? p->tries :
														BACKOFF_DOUBLINGS);

	p->tries++;
	p->chance = p->chance * UINT64_C(6364136223846793005) + 1; /* Knuth */
	p->state = DC_PROPOSER_BACKOFF;
	p->wake_us = now_us + (p->chance >> 20) % range;
}

static void
settle_vote(DcProposer *p, uint64_t now_us)
{
	uint32_t yes;

	settle_held(p);
	yes = count_asked(p, DC_ASKED_YES);
	if (yes >= p->needed)
	{
		if (p->state == DC_PROPOSER_PREPARING)
			begin_accepting(p);
		else
			chosen(p);
	}
	else if (yes + count_open(p) >= p->needed)
		return;
	else if (count_asked(p, DC_ASKED_REFUSED) > 0)
		back_off(p, now_us);
	else if (count_open(p) == 0) /* or one of them may know a newer list */
		fail(p, p->stranger != 0 ? DC_LINEAGE : DC_NO_MAJORITY);
}

static bool
newer(const DcProposer *p, const DcRegisterReply *reply)
{
	return reply->at.founder == p->request.at.founder &&
		   dc_position_compare(&reply->at, &p->request.at) > 0;
}

static void
take_vote(DcProposer *p, uint32_t node_id, const DcRegisterReply *reply)
{
	switch (reply->verdict)
	{
		case DC_VERDICT_YES:
			p->asked[node_id] = DC_ASKED_YES;
			if (p->state == DC_PROPOSER_PREPARING)
				note_accepted(p, reply);
			return;
		case DC_VERDICT_REFUSED:
			p->asked[node_id] = DC_ASKED_REFUSED;
			return;
		case DC_VERDICT_AHEAD:
			if (newer(p, reply))
				rebase(p, reply);
			else
				p->asked[node_id] = DC_ASKED_NO;
			return;
		case DC_VERDICT_SPLIT:
			p->stranger = node_id;
			fail(p, DC_SPLIT);
			return;
		case DC_VERDICT_LINEAGE:
			p->stranger = node_id;
			p->asked[node_id] = DC_ASKED_NO;
			return;
		case DC_VERDICT_SILENT:
		case DC_VERDICT_ADRIFT:
		case DC_VERDICT_INVALID:
		case DC_VERDICTS:
			p->asked[node_id] = DC_ASKED_NO;
			return;
	}
}

/* ---- reading, learning, forced recovery ----------------------------------- */

static void
take_read(DcProposer *p, uint32_t node_id, const DcRegisterReply *reply)
{
	p->asked[node_id] = DC_ASKED_YES;
	if (p->survivors != NULL)
	{
		p->survivors[p->survivor_count++] = *reply;
		if (p->above < reply->at.generation)
			p->above = reply->at.generation;
	}
	else if (reply->adrift || reply->at.founder == 0)
	{
		p->stranger = node_id;
		finish(p, DC_LINEAGE);
	}
	else
		rebase(p, reply);
}

/*
 * That the change is in a list which others know to be old says little; but
 * a command stays one that was decided.
 */
static void
take_learned(DcProposer *p, uint32_t node_id, const DcRegisterReply *reply)
{
	if (reply->verdict == DC_VERDICT_AHEAD && p->already && newer(p, reply) &&
		p->change.kind != DC_CHANGE_COMMAND)
		rebase(p, reply);
	else if (reply->verdict == DC_VERDICT_YES ||
			 reply->verdict == DC_VERDICT_AHEAD)
		p->asked[node_id] = DC_ASKED_YES;
	else
		p->asked[node_id] = DC_ASKED_NO;
}

static void
settle_read(DcProposer *p)
{
	if (count_open(p) > 0)
		return;
	if (count_asked(p, DC_ASKED_YES) < p->needed)
		fail(p, DC_NO_MAJORITY);
	else
		p->state = DC_PROPOSER_DRAWING;
}

static void
settle_learning(DcProposer *p)
{
	if (count_open(p) > 0)
		return;
	p->answered = count_asked(p, DC_ASKED_YES);
	if (p->survivors != NULL && p->answered < p->needed)
		finish(p, DC_UNDECIDED);
	else
		finish(p, p->status);
	p->decided = p->status == DC_OK;
}

static void
force(DcProposer *p, DcHlc stamp)
{
	/* the list is not the proposer's before it is sure */
	DcPosition at;
	DcStatus status = dc_register_force(p->survivors, p->survivor_count, stamp,
										&at, &p->best, &p->stranger);

	if (status != DC_OK)
	{
		finish(p, status);
		return;
	}
	p->request.at = at;
	dc_members_copy(&p->request.list, &p->best);
	begin_learning(p, DC_OK);
	p->decided = false; /* before all of them have it */
	p->needed = p->survivor_count;
}

static void
settle(DcProposer *p, uint64_t now_us)
{
	switch (p->state)
	{
		case DC_PROPOSER_READING:
			settle_read(p);
			return;
		case DC_PROPOSER_PREPARING:
		case DC_PROPOSER_ACCEPTING:
			settle_vote(p, now_us);
			return;
		case DC_PROPOSER_LEARNING:
			settle_learning(p);
			return;
		case DC_PROPOSER_DRAWING:
		case DC_PROPOSER_BACKOFF:
		case DC_PROPOSER_DONE:
			return;
	}
}

/* ---- what the caller drives ----------------------------------------------- */

static void
begin(DcProposer *p, const DcRegister *reg, uint64_t deadline_us)
{
	memset(p, 0, sizeof(*p));
	p->node_id = reg->node_id;
	p->incarnation = reg->incarnation;
	p->deadline_us = deadline_us;
	p->state = DC_PROPOSER_READING;
	p->request.kind = DC_REGISTER_READ;
}

void
dc_proposer_begin(DcProposer *p, const DcRegister *reg, uint32_t via,
				  const DcListChange *change, uint64_t chance,
				  uint64_t deadline_us)
{
	begin(p, reg, deadline_us);
	p->change = *change;
	p->chance = chance;
	p->above = reg->promised;
	if (!reg->adrift && reg->at.founder != 0)
	{
		p->request.at = reg->at;
		dc_members_copy(&p->request.list, &reg->list);
		consider(p);
	}
	else if (via >= 1 && via <= DC_NODE_ID_MAX)
	{
		p->needed = 1;
		p->asked[via] = DC_ASKED_TO_SEND;
	}
	else
		finish(p, DC_LINEAGE);
}

void
dc_proposer_begin_forced(DcProposer *p, const DcRegister *reg,
						 const uint32_t *survivors, uint32_t count,
						 DcRegisterReply *room, uint64_t deadline_us)
{
	begin(p, reg, deadline_us);
	p->survivors = room;
	for (uint32_t i = 0; i < count; i++)
	{
		if (survivors[i] >= 1 && survivors[i] <= DC_NODE_ID_MAX)
			p->asked[survivors[i]] = DC_ASKED_TO_SEND;
	}
	p->needed = count_open(p);
	if (p->asked[p->node_id] != DC_ASKED_TO_SEND)
		finish(p, DC_NOT_ALLOWED);
}

bool
dc_proposer_wants_ballot(const DcProposer *p)
{
	return p->state == DC_PROPOSER_DRAWING;
}

void
dc_proposer_ballot(DcProposer *p, DcHlc ballot)
{
	if (p->state != DC_PROPOSER_DRAWING || ballot <= p->above)
		return;
	p->above = ballot;
	if (p->survivors != NULL)
		force(p, ballot);
	else
		begin_preparing(p, ballot);
}

const DcRegisterRequest *
dc_proposer_send(DcProposer *p, uint32_t *node_id)
{
	if (dc_proposer_done(p))
		return NULL;
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (p->asked[id] != DC_ASKED_TO_SEND)
			continue;
		p->asked[id] = DC_ASKED_SENT;
		*node_id = id;
		return &p->request;
	}
	return NULL;
}

static bool
awaited(const DcProposer *p, uint32_t node_id)
{
	return p->state != DC_PROPOSER_DRAWING && p->state != DC_PROPOSER_BACKOFF &&
		   !dc_proposer_done(p) && node_id < DC_NODE_IDS &&
		   p->asked[node_id] == DC_ASKED_SENT;
}

void
dc_proposer_reply(DcProposer *p, uint32_t node_id, const DcRegisterReply *reply,
				  uint64_t now_us)
{
	if (!awaited(p, node_id) || reply->node_id != node_id ||
		reply->kind != p->request.kind || reply->ballot != p->request.ballot)
		return;
	if (p->above < reply->promised)
		p->above = reply->promised;
	if (p->state == DC_PROPOSER_READING)
		take_read(p, node_id, reply);
	else if (p->state != DC_PROPOSER_LEARNING)
		take_vote(p, node_id, reply);
	else
		take_learned(p, node_id, reply);
	settle(p, now_us);
}

void
dc_proposer_unreachable(DcProposer *p, uint32_t node_id, uint64_t now_us)
{
	if (!awaited(p, node_id))
		return;
	p->asked[node_id] = DC_ASKED_UNREACHABLE;
	settle(p, now_us);
}

/* Who has not answered when the time is up will not. */
static void
time_is_up(DcProposer *p)
{
	bool outvoted =
		p->state == DC_PROPOSER_DRAWING || p->state == DC_PROPOSER_BACKOFF;

	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (p->asked[id] == DC_ASKED_HELD || p->asked[id] == DC_ASKED_SENT ||
			p->asked[id] == DC_ASKED_TO_SEND)
			p->asked[id] = DC_ASKED_UNREACHABLE;
	}
	if (p->state == DC_PROPOSER_LEARNING)
		settle_learning(p);
	else
		fail(p, outvoted ? DC_OUTVOTED : DC_NO_MAJORITY);
}

void
dc_proposer_time(DcProposer *p, uint64_t now_us)
{
	if (dc_proposer_done(p))
		return;
	if (now_us >= p->deadline_us)
		time_is_up(p);
	else if (p->state == DC_PROPOSER_BACKOFF && now_us >= p->wake_us)
		p->state = DC_PROPOSER_DRAWING;
}

uint64_t
dc_proposer_wake(const DcProposer *p)
{
	if (p->state == DC_PROPOSER_BACKOFF && p->wake_us < p->deadline_us)
		return p->wake_us;
	return p->deadline_us;
}

bool
dc_proposer_done(const DcProposer *p)
{
	return p->state == DC_PROPOSER_DONE;
}

uint32_t
dc_proposer_missing(const DcProposer *p, uint32_t after)
{
	for (uint32_t id = after + 1; id < DC_NODE_IDS; id++)
	{
		if (p->asked[id] >= DC_ASKED_NO)
			return id;
	}
	return 0;
}
