/*
 * directed.c
 *		Schedules by hand, too rare for chance.  Each is a list of votes on two
 *		lists, A and B, under ballots whose order is the order of their
 *		numbers; at most one of the two may be decided.
 */
#include "rsim.h"

#include <string.h>

static DcRegister reg[4];
static DcRegisterRequest request;
static DcRegisterReply reply;
static DcMembers lists[2];

static void
begin(uint32_t members)
{
	DcListChange change = {.kind = DC_CHANGE_ADMIT,
						   .node_id = 5,
						   .incarnation = 1};

	request.kind = DC_REGISTER_LEARN;
	request.at = (DcPosition){7, DC_HLC_NONE, 1};
	request.list.count = 0;
	for (uint32_t id = 1; id <= members; id++)
		(void) dc_members_put(&request.list,
							  (DcMember){id, DC_MEMBER_PRESENT, 1});
	for (uint32_t id = 1; id <= members; id++)
	{
		dc_register_drift(&reg[id], id, 1);
		(void) dc_register_answer(&reg[id], &request, &reply);
	}
	(void) dc_list_change_apply(&request.list, &change, &lists[0]);
	change.node_id = 6;
	(void) dc_list_change_apply(&request.list, &change, &lists[1]);
}

static bool
ask(uint32_t id, DcRegisterKind kind, uint32_t ballot)
{
	request.kind = kind;
	request.ballot = dc_hlc_make(ballot, 1);
	(void) dc_register_answer(&reg[id], &request, &reply);
	return reply.verdict == DC_VERDICT_YES;
}

/* Promised, and nothing of an older vote to complete. */
static bool
prepare(uint32_t id, uint32_t ballot)
{
	return ask(id, DC_REGISTER_PREPARE, ballot) &&
		   reply.accepted_ballot == DC_HLC_NONE;
}

static bool
accept(uint32_t id, uint32_t ballot, uint32_t list)
{
	dc_members_copy(&request.value, &lists[list]);
	return ask(id, DC_REGISTER_ACCEPT, ballot);
}

/* A new life of `id` that takes over with what `other` said last. */
static void
take_over(uint32_t id, uint32_t ballot)
{
	(void) dc_register_reborn(&reg[id], reg[id].incarnation + 1, 9);
	request.accepted_ballot = reply.accepted_ballot;
	dc_members_copy(&request.value, &reply.accepted);
	(void) ask(id, DC_REGISTER_TAKEOVER, ballot);
}

/* Both disks of two are set back, one after the other. */
static bool
two_in_turn(Sim *sim)
{
	bool peeks = sim->defect == DEFECT_PEEK;
	bool first, second;

	begin(2);
	first = prepare(1, 10) && prepare(2, 10) && accept(1, 10, 0);
	(void) ask(2, peeks ? DC_REGISTER_READ : DC_REGISTER_PREPARE, 11);
	take_over(1, 11);
	first &= accept(2, 10, 0);
	(void) ask(1, peeks ? DC_REGISTER_READ : DC_REGISTER_PREPARE, 12);
	take_over(2, 12);
	second = prepare(1, 20) && prepare(2, 20) && accept(1, 20, 1) &&
			 accept(2, 20, 1);
	return !(first && second);
}

/* The former life of one of three promised a ballot that is yet to come. */
static bool
three_promised(Sim *sim)
{
	bool first, second;

	(void) sim;
	begin(3);
	second = prepare(1, 30);
	(void) (prepare(2, 10) && prepare(3, 10));
	take_over(1, 10);
	second &= prepare(2, 30);
	first = prepare(1, 20) && prepare(3, 20) && accept(1, 20, 0) &&
			accept(3, 20, 0);
	second &= accept(2, 30, 1) && accept(3, 30, 1);
	return !(first && second);
}

/* An acceptor crashes between its promise and an older ballot's list. */
static bool
promise_lost(Sim *sim)
{
	bool first, second;

	begin(3);
	first = prepare(1, 10) && prepare(3, 10);
	second = prepare(1, 20) && prepare(2, 20);
	if (sim->defect == DEFECT_PROMISE)
		reg[1].promised = dc_hlc_make(10, 1);
	first &= accept(1, 10, 0);
	first &= accept(3, 10, 0);
	second &= accept(1, 20, 1);
	second &= accept(2, 20, 1);
	return !(first && second);
}

static bool (*const schedules[])(Sim *sim) = {two_in_turn, three_promised,
											  promise_lost};

const uint32_t directed_count = sizeof(schedules) / sizeof(schedules[0]);

void
directed(Sim *sim, uint32_t number)
{
	if (!schedules[number](sim))
		fail(sim, "two lists are decided, schedule %u", number);
}
