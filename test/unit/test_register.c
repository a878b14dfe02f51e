/*
 * test_register.c
 *		The agreed member list (R10): changes, what an acceptor answers, how a
 *		proposer goes on, lives, lineages, forced recovery, codecs.  Whether it
 *		holds under every order of messages is test/sim/register's business.
 *		Built with -DDC_CANARIES it also shows that the tests notice when a
 *		rule is left out.
 */
/* also with: -DDC_CANARIES */
#include "proposer.h"

#include "canary.h"
#include "tap.h"

#include <string.h>

#define NODES    6
#define FOUNDER  UINT64_C(77)
#define DEADLINE UINT64_C(1000000)

/* A few nodes; a call is answered at once unless the node is down. */
static DcRegister reg[NODES];
static bool down[NODES];
static DcProposer proposer;
static DcRegisterRequest request;
static DcRegisterReply reply;
static DcMembers list, next;
static uint64_t clock_us;
static unsigned persisted;

static DcHlc
draw(uint32_t node_id)
{
	return dc_hlc_make(++clock_us, node_id);
}

static DcMember
member(uint32_t id, DcMemberState state, uint64_t incarnation)
{
	return (DcMember){id, state, incarnation};
}

static DcListChange
change(DcListChangeKind kind, uint32_t id, uint64_t incarnation)
{
	return (
		DcListChange){.kind = kind, .node_id = id, .incarnation = incarnation};
}

/* The first `count` nodes as members of one lineage. */
static void
cluster(uint32_t count)
{
	DcPosition at = {.founder = FOUNDER, .epoch = count};

	memset(down, 0, sizeof(down));
	memset(reg, 0, sizeof(reg));
	request = (DcRegisterRequest){.kind = DC_REGISTER_LEARN, .at = at};
	for (uint32_t id = 1; id <= count; id++)
		(void) dc_members_put(&request.list, member(id, DC_MEMBER_PRESENT, 1));
	for (uint32_t id = 1; id < NODES; id++)
	{
		dc_register_drift(&reg[id], id, 1);
		(void) dc_register_answer(&reg[id], &request, &reply);
	}
}

/* Each message to another goes through its codec, there and back. */
static bool
call(uint32_t node_id, const DcRegisterRequest *asked)
{
	static uint8_t bytes[DC_REGISTER_BYTES_MAX];
	static DcRegisterRequest received;
	static DcRegisterReply answer;
	DcWriter w;

	if (down[node_id])
		return false;
	if (asked->kind == DC_REGISTER_TAKEOVER)
	{
		persisted += dc_register_answer(&reg[node_id], asked, &reply);
		return true;
	}
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_request_encode(&w, asked);
	if (dc_register_request_decode(bytes, w.length, &received) != DC_OK)
		return false;
	persisted += dc_register_answer(&reg[node_id], &received, &answer);
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_register_reply_encode(&w, &answer);
	return dc_register_reply_decode(bytes, w.length, &reply) == DC_OK;
}

static DcVerdict
ask(uint32_t node_id, DcRegisterKind kind, DcHlc ballot)
{
	request.kind = kind;
	request.ballot = ballot;
	return call(node_id, &request) ? reply.verdict : DC_VERDICTS;
}

/* One step of the proposer. */
static void
turn(uint32_t node_id)
{
	const DcRegisterRequest *asked;
	uint32_t to;

	if (dc_proposer_wants_ballot(&proposer))
	{
		clock_us = dc_hlc_time_us(
			dc_hlc_observe(dc_hlc_make(clock_us, 0), proposer.above));
		dc_proposer_ballot(&proposer, draw(node_id));
	}
	else if ((asked = dc_proposer_send(&proposer, &to)) == NULL)
		dc_proposer_time(&proposer, dc_proposer_wake(&proposer));
	else if (call(to, asked))
		dc_proposer_reply(&proposer, to, &reply, 0);
	else
		dc_proposer_unreachable(&proposer, to, 0);
}

static void
drive(uint32_t node_id)
{
	while (!dc_proposer_done(&proposer))
		turn(node_id);
}

static DcStatus
propose(uint32_t node_id, DcListChange wanted, uint32_t via)
{
	dc_proposer_begin(&proposer, &reg[node_id], via, &wanted, 5, DEADLINE);
	drive(node_id);
	return proposer.status;
}

static bool
has(uint32_t node_id, uint64_t epoch, DcMember entry)
{
	DcMember here = dc_members_get(&reg[node_id].list, entry.node_id);

	return reg[node_id].at.epoch == epoch && here.state == entry.state &&
		   here.incarnation == entry.incarnation;
}

/* ---- changes -------------------------------------------------------------- */

static DcListEffect
effect(DcListChangeKind kind, uint32_t id, uint64_t incarnation)
{
	DcListChange wanted = change(kind, id, incarnation);

	return dc_list_change_apply(&list, &wanted, &next);
}

static void
test_changes(void)
{
	list.count = 0;
	(void) dc_members_put(&list, member(1, DC_MEMBER_PRESENT, 5));
	(void) dc_members_put(&list, member(2, DC_MEMBER_FENCED, 5));
	(void) dc_members_put(&list, member(3, DC_MEMBER_REMOVED, 5));
	ok(effect(DC_CHANGE_ADMIT, 4, 1) == DC_LIST_APPLIES &&
		   dc_members_includes(&next, 4, 1) && next.count == 4 &&
		   dc_register_follows(&list, &next),
	   "a node that was never there is admitted");
	ok(effect(DC_CHANGE_ADMIT, 1, 5) == DC_LIST_ALREADY &&
		   effect(DC_CHANGE_ADMIT, 1, 4) == DC_LIST_FORBIDDEN &&
		   effect(DC_CHANGE_ADMIT, 1, 6) == DC_LIST_APPLIES,
	   "a member is replaced by a greater incarnation only");
	ok(effect(DC_CHANGE_ADMIT, 2, 5) == DC_LIST_FORBIDDEN &&
		   effect(DC_CHANGE_ADMIT, 3, 5) == DC_LIST_FORBIDDEN &&
		   effect(DC_CHANGE_ADMIT, 2, 6) == DC_LIST_APPLIES &&
		   effect(DC_CHANGE_ADMIT, 3, 6) == DC_LIST_APPLIES,
	   "who was fenced or removed comes back as a greater one only");
	ok(effect(DC_CHANGE_FENCE, 1, 5) == DC_LIST_FORBIDDEN,
	   "the last member is not fenced");
	(void) dc_members_put(&list, member(4, DC_MEMBER_PRESENT, 5));
	ok(effect(DC_CHANGE_FENCE, 1, 5) == DC_LIST_APPLIES &&
		   dc_register_follows(&list, &next) &&
		   dc_members_get(&next, 1).state == DC_MEMBER_FENCED &&
		   effect(DC_CHANGE_FENCE, 1, 4) == DC_LIST_FORBIDDEN &&
		   effect(DC_CHANGE_FENCE, 5, 1) == DC_LIST_FORBIDDEN &&
		   effect(DC_CHANGE_FENCE, 2, 5) == DC_LIST_ALREADY &&
		   effect(DC_CHANGE_FENCE, 3, 5) == DC_LIST_ALREADY,
	   "a member is fenced as the incarnation that it is");
	ok(effect(DC_CHANGE_REMOVE, 2, 5) == DC_LIST_APPLIES &&
		   dc_members_get(&next, 2).state == DC_MEMBER_REMOVED &&
		   effect(DC_CHANGE_REMOVE, 1, 5) == DC_LIST_FORBIDDEN &&
		   effect(DC_CHANGE_REMOVE, 3, 5) == DC_LIST_ALREADY &&
		   effect(DC_CHANGE_REMOVE, 5, 5) == DC_LIST_FORBIDDEN,
	   "only who is fenced is removed");
	ok(effect(DC_CHANGE_KINDS, 1, 5) == DC_LIST_FORBIDDEN &&
		   effect(DC_CHANGE_ADMIT, 0, 5) == DC_LIST_FORBIDDEN &&
		   effect(DC_CHANGE_ADMIT, DC_NODE_IDS, 5) == DC_LIST_FORBIDDEN &&
		   effect(DC_CHANGE_ADMIT, 5, 0) == DC_LIST_FORBIDDEN,
	   "what does not exist is forbidden");
	ok(!dc_register_follows(&list, &list), "a list does not follow itself");
	(void) effect(DC_CHANGE_FENCE, 1, 5);
	(void) dc_members_put(&next, member(5, DC_MEMBER_PRESENT, 1));
	ok(!dc_register_follows(&list, &next), "two changes do not follow");
	(void) effect(DC_CHANGE_ADMIT, 5, 1);
	next.count = 4;
	next.at[3] = member(5, DC_MEMBER_PRESENT, 1);
	ok(!dc_register_follows(&list, &next), "an entry is never dropped");
	ok(dc_register_voters(&list) == 2 && dc_register_majority(&list) == 2,
	   "the fenced and the removed have no vote");
}

static DcListEffect
command(uint64_t number, DcHlc name)
{
	DcListChange wanted = {.kind = DC_CHANGE_COMMAND,
						   .node_id = 1,
						   .number = number,
						   .command = name};

	return dc_list_change_apply(&list, &wanted, &next);
}

static void
test_commands(void)
{
	DcHlc a = dc_hlc_make(5, 1);
	DcHlc b = dc_hlc_make(4, 2);

	memset(&list, 0, sizeof(list));
	(void) dc_members_put(&list, member(1, DC_MEMBER_PRESENT, 5));
	(void) dc_members_put(&list, member(2, DC_MEMBER_PRESENT, 5));
	ok(command(1, a) == DC_LIST_APPLIES && next.commands == 1 &&
		   next.command == a && next.count == 2 &&
		   dc_register_follows(&list, &next) && !dc_members_equal(&list, &next),
	   "the first command follows");
	ok(command(0, a) == DC_LIST_FORBIDDEN &&
		   command(2, a) == DC_LIST_FORBIDDEN &&
		   command(1, DC_HLC_NONE) == DC_LIST_FORBIDDEN &&
		   command(1, (DcHlc) 7 << 10) == DC_LIST_FORBIDDEN,
	   "... by its number and a name");
	(void) command(1, a);
	dc_members_copy(&list, &next);
	ok(command(1, a) == DC_LIST_ALREADY && command(1, b) == DC_LIST_FORBIDDEN &&
		   command(2, a) == DC_LIST_FORBIDDEN,
	   "a number is given once, and so is a command");
	ok(command(2, b) == DC_LIST_APPLIES && dc_register_follows(&list, &next),
	   "the next command follows, whatever its stamp");
	next.commands = 3;
	ok(!dc_register_follows(&list, &next), "no number is left out");
	next.commands = 2;
	(void) dc_members_put(&next, member(3, DC_MEMBER_PRESENT, 1));
	ok(!dc_register_follows(&list, &next),
	   "a command and a new member are two changes");
	ok(effect(DC_CHANGE_ADMIT, 3, 1) == DC_LIST_APPLIES && next.commands == 1 &&
		   next.command == a && dc_register_follows(&list, &next),
	   "a change of the members leaves the commands alone");
	memset(&list, 0, sizeof(list));
}

/* ---- an acceptor ---------------------------------------------------------- */

static void
test_acceptor(void)
{
	DcHlc low = draw(4);
	DcHlc high = draw(5);
	DcListChange wanted = change(DC_CHANGE_ADMIT, 4, 1);

	cluster(3);
	(void) dc_list_change_apply(&request.list, &wanted, &request.value);
	persisted = 0;
	ok(ask(1, DC_REGISTER_READ, DC_HLC_NONE) == DC_VERDICT_YES &&
		   persisted == 0,
	   "reading changes nothing");
	ok(ask(1, DC_REGISTER_PREPARE, high) == DC_VERDICT_YES && persisted == 1 &&
		   reply.promised == high,
	   "a promise is made durable");
	ok(ask(1, DC_REGISTER_PREPARE, high) == DC_VERDICT_YES && persisted == 1,
	   "... and repeated");
	ok(ask(1, DC_REGISTER_PREPARE, low) == DC_VERDICT_REFUSED &&
		   reply.promised == high && persisted == 1,
	   "a lesser ballot is refused, with the greater one");
	ok(ask(1, DC_REGISTER_ACCEPT, low) == DC_VERDICT_REFUSED && persisted == 1,
	   "nothing is accepted below the promise");
	ok(ask(1, DC_REGISTER_ACCEPT, high) == DC_VERDICT_YES && persisted == 2 &&
		   reply.accepted_ballot == high &&
		   dc_members_equal(&reply.accepted, &request.value),
	   "what is accepted is made durable");
	(void) dc_members_put(&request.value, member(5, DC_MEMBER_PRESENT, 1));
	ok(ask(2, DC_REGISTER_ACCEPT, high) == DC_VERDICT_INVALID,
	   "a list that does not follow is not accepted");
	ok(ask(4, DC_REGISTER_PREPARE, high) == DC_VERDICT_ADRIFT,
	   "who belongs nowhere does not vote");
	ok(reg[1].at.epoch == 3, "to accept is not to learn");
	request.at.epoch = 4;
	(void) dc_list_change_apply(&reg[1].list, &wanted, &request.list);
	ok(ask(1, DC_REGISTER_LEARN, DC_HLC_NONE) == DC_VERDICT_YES &&
		   reg[1].at.epoch == 4 && reg[1].ballot == DC_HLC_NONE &&
		   reg[1].promised == DC_HLC_NONE,
	   "a decided list is learned; what concerned the old one is void");
	ok(ask(2, DC_REGISTER_PREPARE, low) == DC_VERDICT_YES &&
		   reg[2].at.epoch == 4,
	   "an acceptor that is behind learns the list from a request");
	request.at.epoch = 3;
	dc_members_copy(&request.list, &reg[3].list);
	ok(ask(1, DC_REGISTER_PREPARE, draw(5)) == DC_VERDICT_AHEAD &&
		   reply.at.epoch == 4 && reply.list.count == 4,
	   "one that is ahead answers with its list");
	request.list.at[0].incarnation = 9;
	ok(ask(3, DC_REGISTER_PREPARE, draw(5)) == DC_VERDICT_SPLIT,
	   "another list of the same number is noticed");
	request.at.founder = 1;
	request.at.epoch = 99;
	ok(ask(1, DC_REGISTER_PREPARE, draw(5)) == DC_VERDICT_LINEAGE &&
		   ask(1, DC_REGISTER_LEARN, DC_HLC_NONE) == DC_VERDICT_LINEAGE,
	   "a member knows no other lineage");
}

/* ---- a proposer ----------------------------------------------------------- */

static void
test_proposer(void)
{
	cluster(3);
	ok(propose(4, change(DC_CHANGE_ADMIT, 4, 1), 2) == DC_OK &&
		   !proposer.already && proposer.request.at.epoch == 4 &&
		   has(1, 4, member(4, DC_MEMBER_PRESENT, 1)) &&
		   has(4, 4, member(4, DC_MEMBER_PRESENT, 1)) && reg[4].voice == 1,
	   "a joiner has itself admitted, and learns it like the members");
	ok(propose(4, change(DC_CHANGE_ADMIT, 4, 1), 2) == DC_OK &&
		   proposer.already && proposer.request.at.epoch == 4,
	   "the same again is already so");
	ok(propose(5, change(DC_CHANGE_FENCE, 4, 1), 2) == DC_NOT_MEMBER,
	   "who is no member fences nobody");
	down[4] = true;
	ok(propose(1, change(DC_CHANGE_FENCE, 4, 1), 0) == DC_OK &&
		   has(2, 5, member(4, DC_MEMBER_FENCED, 1)),
	   "a change works with a minority down");
	down[3] = true;
	ok(propose(1, change(DC_CHANGE_REMOVE, 4, 1), 0) == DC_OK &&
		   has(2, 6, member(4, DC_MEMBER_REMOVED, 1)),
	   "... whoever it is");
	down[2] = true;
	ok(propose(1, change(DC_CHANGE_FENCE, 3, 1), 0) == DC_NO_MAJORITY &&
		   proposer.answered == 1 && proposer.needed == 2 &&
		   dc_proposer_missing(&proposer, 0) == 2 &&
		   dc_proposer_missing(&proposer, 2) == 3 &&
		   dc_proposer_missing(&proposer, 3) == 0,
	   "without a majority nothing happens, and it is said who is missing");
	memset(down, 0, sizeof(down));
	ok(propose(3, change(DC_CHANGE_FENCE, 2, 1), 0) == DC_OK &&
		   has(3, 7, member(2, DC_MEMBER_FENCED, 1)) &&
		   has(3, 7, member(4, DC_MEMBER_REMOVED, 1)),
	   "one that missed a change catches up with it first");
	ok(propose(4, change(DC_CHANGE_FENCE, 3, 1), 0) == DC_NOT_MEMBER,
	   "who was removed meanwhile is told so");
	ok(propose(5, change(DC_CHANGE_ADMIT, 5000, 1), 1) == DC_NOT_ALLOWED,
	   "a node id that does not exist is not admitted");
	ok(propose(4, change(DC_CHANGE_ADMIT, 4, 1), 0) == DC_NOT_ALLOWED,
	   "... and does not come back as the same life");
}

static void
test_completion(void)
{
	DcListChange wanted = change(DC_CHANGE_ADMIT, 4, 1);
	DcHlc ballot = draw(4);

	cluster(3);
	(void) dc_list_change_apply(&request.list, &wanted, &request.value);
	(void) ask(2, DC_REGISTER_PREPARE, ballot);
	(void) ask(2, DC_REGISTER_ACCEPT, ballot);
	down[3] = true;
	ok(propose(1, change(DC_CHANGE_ADMIT, 5, 1), 0) == DC_OK &&
		   has(1, 5, member(4, DC_MEMBER_PRESENT, 1)) &&
		   has(1, 5, member(5, DC_MEMBER_PRESENT, 1)) &&
		   has(2, 5, member(5, DC_MEMBER_PRESENT, 1)),
	   "a list that may be decided is completed first, then the change");

	cluster(3);
	ballot = dc_hlc_make(clock_us + 1000, 5);
	(void) ask(2, DC_REGISTER_PREPARE, ballot);
	(void) ask(3, DC_REGISTER_PREPARE, ballot);
	ok(propose(1, wanted, 0) == DC_OK && proposer.tries == 1 &&
		   proposer.request.ballot > ballot,
	   "a refused proposer draws above the greater promise");
}

/* The same with two that accepted: the greater ballot's list is taken. */
static void
test_highest(void)
{
	DcListChange four = change(DC_CHANGE_ADMIT, 4, 1);
	DcListChange five = change(DC_CHANGE_ADMIT, 5, 1);

	cluster(3);
	(void) dc_list_change_apply(&request.list, &four, &request.value);
	(void) ask(1, DC_REGISTER_ACCEPT, draw(4));
	(void) dc_list_change_apply(&request.list, &five, &request.value);
	(void) ask(2, DC_REGISTER_ACCEPT, draw(5));
	down[3] = true;
	ok(propose(1, change(DC_CHANGE_FENCE, 3, 1), 0) == DC_OK &&
		   has(1, 5, member(5, DC_MEMBER_PRESENT, 1)) &&
		   has(1, 5, member(4, DC_MEMBER_ABSENT, 0)),
	   "of two accepted lists the greater ballot's is completed");
}

static void
test_undecided(void)
{
	DcListChange wanted = change(DC_CHANGE_ADMIT, 4, 1);
	const DcRegisterRequest *asked;
	uint32_t to;

	cluster(3);
	dc_proposer_begin(&proposer, &reg[1], 0, &wanted, 5, DEADLINE);
	dc_proposer_ballot(&proposer, draw(1));
	while (proposer.state == DC_PROPOSER_PREPARING)
	{
		asked = dc_proposer_send(&proposer, &to);
		(void) call(to, asked);
		dc_proposer_reply(&proposer, to, &reply, 0);
	}
	asked = dc_proposer_send(&proposer, &to);
	(void) call(to, asked);
	dc_proposer_reply(&proposer, to, &reply, 0);
	dc_proposer_time(&proposer, DEADLINE);
	ok(dc_proposer_done(&proposer) && proposer.status == DC_UNDECIDED &&
		   proposer.answered == 1,
	   "accepted by too few: the outcome is open");
	ok(propose(1, wanted, 0) == DC_OK &&
		   has(1, 4, member(4, DC_MEMBER_PRESENT, 1)),
	   "... and the same change again finds out");
	dc_proposer_reply(&proposer, 1, &reply, 0);
	ok(dc_proposer_done(&proposer) && proposer.status == DC_OK,
	   "a late reply changes nothing");
}

static DcListChange
command_of(uint32_t id, uint64_t number)
{
	return (DcListChange){.kind = DC_CHANGE_COMMAND,
						  .node_id = id,
						  .number = number,
						  .command = dc_hlc_make(number, id)};
}

/* A list names its last command only. */
static void
test_overtaken(void)
{
	static DcProposer slow;
	DcListChange wanted = command_of(1, 1);
	const DcRegisterRequest *asked;
	uint32_t to;

	cluster(3);
	dc_proposer_begin(&proposer, &reg[1], 0, &wanted, 5, DEADLINE);
	while (proposer.state != DC_PROPOSER_ACCEPTING)
		turn(1);
	for (uint32_t i = 0; i < 2; i++)
	{
		asked = dc_proposer_send(&proposer, &to);
		(void) call(to, asked); /* the reply is lost */
	}
	slow = proposer;
	ok(propose(2, command_of(2, 1), 0) == DC_NOT_ALLOWED &&
		   reg[2].list.commands == 1 && reg[2].list.command == wanted.command,
	   "of two commands of one number the accepted one is completed");
	ok(propose(2, command_of(2, 2), 0) == DC_OK && reg[3].list.commands == 2,
	   "... and another one follows");
	proposer = slow;
	drive(1);
	ok(proposer.status == DC_UNDECIDED,
	   "whoever was overtaken does not know what became of a command");
	ok(propose(1, command_of(1, 2), 0) == DC_NOT_ALLOWED,
	   "... unless nobody was asked to accept it");
}

/* ---- lives ---------------------------------------------------------------- */

static void
test_lives(void)
{
	cluster(3);
	ok(!dc_register_reborn(&reg[3], 1, 5) && dc_register_reborn(&reg[3], 2, 5),
	   "a new life has a greater incarnation");
	ok(ask(3, DC_REGISTER_PREPARE, draw(1)) == DC_VERDICT_SILENT,
	   "it does not vote for the old one");
	down[2] = true;
	ok(propose(3, change(DC_CHANGE_ADMIT, 3, 2), 0) == DC_NO_MAJORITY,
	   "... so among three it needs both others");
	down[2] = false;
	ok(propose(3, change(DC_CHANGE_ADMIT, 3, 2), 0) == DC_OK &&
		   has(3, 4, member(3, DC_MEMBER_PRESENT, 2)) && reg[3].voice == 2,
	   "... which put it in the place of the old one");

	cluster(2);
	(void) dc_register_reborn(&reg[2], 2, 5);
	ok(propose(1, change(DC_CHANGE_ADMIT, 3, 1), 0) == DC_NO_MAJORITY,
	   "of two, the other one alone decides nothing");
	ok(propose(2, change(DC_CHANGE_ADMIT, 2, 2), 0) == DC_OK &&
		   has(1, 3, member(2, DC_MEMBER_PRESENT, 2)) && reg[2].voice == 2,
	   "the new life takes over the old one's vote with the other's promise");
	(void) dc_register_reborn(&reg[2], 3, 5);
	down[1] = true;
	ok(propose(2, change(DC_CHANGE_ADMIT, 2, 3), 0) == DC_NO_MAJORITY &&
		   reg[2].voice == 0,
	   "... and not without it");
}

/* What the other one accepted survives both disks being set back in turn. */
static void
test_takeover_adopts(void)
{
	DcListChange wanted = change(DC_CHANGE_ADMIT, 4, 1);

	cluster(2);
	(void) dc_list_change_apply(&request.list, &wanted, &request.value);
	(void) ask(1, DC_REGISTER_ACCEPT, draw(4));
	(void) ask(2, DC_REGISTER_ACCEPT, request.ballot);
	(void) dc_register_reborn(&reg[2], 2, 5);
	ok(propose(2, change(DC_CHANGE_ADMIT, 2, 2), 0) == DC_OK &&
		   has(1, 4, member(4, DC_MEMBER_PRESENT, 1)) &&
		   has(1, 4, member(2, DC_MEMBER_PRESENT, 2)),
	   "a new life completes what the other one had accepted");
}

/* ---- lineages ------------------------------------------------------------- */

static DcMeeting
meet(uint32_t one, uint32_t other)
{
	(void) ask(other, DC_REGISTER_READ, DC_HLC_NONE);
	return dc_register_meet(&reg[one], &reply);
}

static void
test_lineages(void)
{
	cluster(2);
	ok(meet(1, 2) == DC_MEETING_SAME, "members are of one lineage");
	ok(meet(4, 1) == DC_MEETING_YIELD && meet(1, 4) == DC_MEETING_AWAIT,
	   "who is adrift asks for admission");
	ok(meet(4, 5) == DC_MEETING_FOUND && meet(5, 4) == DC_MEETING_AWAIT,
	   "of two adrift the lesser id founds a lineage");
	ok(dc_register_found(&reg[4], 4, 1, 44) && dc_register_alone(&reg[4]) &&
		   dc_register_member(&reg[4]) && !dc_register_found(&reg[4], 4, 1, 45),
	   "a founder is alone");
	(void) dc_register_found(&reg[5], 5, 1, 55);
	ok(meet(5, 4) == DC_MEETING_YIELD && meet(4, 5) == DC_MEETING_AWAIT,
	   "of two that are alone the greater id gives way");
	ok(meet(4, 1) == DC_MEETING_YIELD && meet(1, 4) == DC_MEETING_AWAIT,
	   "who is alone gives way to a group");
	ok(!dc_register_abandon(&reg[1]), "a group does not give way");
	ok(dc_register_abandon(&reg[5]) && !dc_register_abandon(&reg[5]) &&
		   ask(5, DC_REGISTER_READ, DC_HLC_NONE) == DC_VERDICT_ADRIFT,
	   "whoever gives way is adrift");
	ok(propose(5, change(DC_CHANGE_ADMIT, 5, 1), 4) == DC_OK &&
		   reg[5].at.founder == 44 && reg[5].at.epoch == 2 && !reg[5].adrift &&
		   !dc_register_alone(&reg[4]),
	   "... until the other one has admitted it");
	ok(meet(4, 1) == DC_MEETING_REFUSE && meet(1, 4) == DC_MEETING_REFUSE,
	   "two groups refuse each other");
	ok(propose(4, change(DC_CHANGE_ADMIT, 1, 1), 0) == DC_OK &&
		   reg[1].at.founder == FOUNDER &&
		   ask(1, DC_REGISTER_READ, DC_HLC_NONE) == DC_VERDICT_YES,
	   "a group's member does not follow another lineage that names it");
}

static void
test_alone(void)
{
	cluster(0);
	(void) dc_register_found(&reg[1], 1, 1, 11);
	request.at = reg[1].at;
	request.list = reg[1].list;
	request.value = request.list;
	(void) dc_members_put(&request.value, member(2, DC_MEMBER_PRESENT, 1));
	(void) ask(1, DC_REGISTER_ACCEPT, draw(2));
	ok(!dc_register_alone(&reg[1]) && !dc_register_abandon(&reg[1]),
	   "who accepted another is not alone any more");
	(void) dc_register_reborn(&reg[1], 2, 12);
	ok(reg[1].at.founder == 12 && reg[1].at.epoch == 1 &&
		   dc_register_alone(&reg[1]) && dc_register_member(&reg[1]),
	   "a lone node whose life is new begins a new lineage");
	(void) dc_register_abandon(&reg[1]);
	request.kind = DC_REGISTER_LEARN;
	request.at = reg[1].at;
	request.list = reg[1].list;
	ok(ask(1, DC_REGISTER_LEARN, DC_HLC_NONE) == DC_VERDICT_ADRIFT,
	   "who left a lineage does not come back to where it voted");
}

/* ---- forced recovery ------------------------------------------------------ */

static void
begin_forced(uint32_t node_id, const uint32_t *survivors, uint32_t count)
{
	static DcRegisterReply room[NODES];

	dc_proposer_begin_forced(&proposer, &reg[node_id], survivors, count, room,
							 DEADLINE);
}

static DcStatus
force(uint32_t node_id, const uint32_t *survivors, uint32_t count)
{
	begin_forced(node_id, survivors, count);
	drive(node_id);
	return proposer.status;
}

static void
test_forced(void)
{
	static const uint32_t both[] = {1, 2};
	static const uint32_t three[] = {3};
	static const uint32_t four[] = {4};

	cluster(5);
	down[3] = down[4] = down[5] = true;
	ok(propose(1, change(DC_CHANGE_FENCE, 5, 1), 0) == DC_NO_MAJORITY,
	   "a minority changes nothing");
	ok(force(1, three, 1) == DC_NOT_ALLOWED,
	   "nobody forces others without himself");
	down[2] = true;
	ok(force(1, both, 2) == DC_NO_MAJORITY && reg[1].at.generation == 0,
	   "a forced recovery needs all whom it names");
	down[2] = false;
	begin_forced(1, both, 2);
	while (proposer.state != DC_PROPOSER_LEARNING)
		turn(1);
	down[2] = true;
	drive(1);
	ok(proposer.status == DC_UNDECIDED && !proposer.decided &&
		   proposer.answered == 1 && reg[1].at.generation != 0,
	   "one that does not hear of it leaves it open");
	down[2] = false;
	ok(force(1, both, 2) == DC_OK && proposer.decided &&
		   reg[1].at.generation != 0 &&
		   has(1, 7, member(2, DC_MEMBER_PRESENT, 1)) &&
		   has(2, 7, member(5, DC_MEMBER_REMOVED, 1)) &&
		   dc_register_voters(&reg[2].list) == 2,
	   "... and makes them the only members");
	ok(propose(2, change(DC_CHANGE_ADMIT, 5, 2), 0) == DC_OK,
	   "... which decide again");
	down[3] = false;
	ok(propose(3, change(DC_CHANGE_FENCE, 2, 1), 0) == DC_NOT_MEMBER &&
		   reg[3].at.generation == reg[1].at.generation &&
		   !dc_register_member(&reg[3]),
	   "who was left out learns that it was removed");
	ok(force(3, three, 1) == DC_NOT_ALLOWED,
	   "... and then is nobody's survivor");
	down[4] = false;
	ok(force(4, four, 1) == DC_OK &&
		   dc_position_compare(&reg[4].at, &reg[1].at) > 0,
	   "a second recovery is never taken for the first");
}

/* ---- codecs --------------------------------------------------------------- */

static uint8_t full[DC_REGISTER_BYTES_MAX];
static uint8_t again[DC_REGISTER_BYTES_MAX];

static void
test_codecs(void)
{
	static DcRegister copy;
	static DcRegisterReply other;
	DcWriter w;
	size_t length;
	unsigned accepted = 0;
	DcListChange wanted = change(DC_CHANGE_ADMIT, 4, 1);

	cluster(3);
	(void) dc_list_change_apply(&request.list, &wanted, &request.value);
	(void) ask(1, DC_REGISTER_ACCEPT, draw(4));
	dc_writer_init(&w, full, sizeof(full));
	dc_register_encode(&w, &reg[1]);
	length = w.length;
	ok(dc_register_decode(full, length, &copy) == DC_OK &&
		   dc_members_equal(&copy.accepted, &reg[1].accepted) &&
		   copy.promised == reg[1].promised && copy.voice == 1 && copy.shared &&
		   copy.at.epoch == 3,
	   "the durable state comes back");
	for (size_t i = 0; i < length; i++)
		accepted += dc_register_decode(full, i, &copy) == DC_OK;
	ok(accepted == 0, "... and not cut short");
	full[0] = 2;
	ok(dc_register_decode(full, length, &copy) == DC_VERSION,
	   "... nor of another version");
	dc_writer_init(&w, full, sizeof(full));
	dc_register_reply_encode(&w, &reply);
	length = w.length;
	ok(dc_register_reply_decode(full, length, &other) == DC_OK &&
		   dc_members_equal(&other.accepted, &reply.accepted),
	   "a reply comes back");
	dc_writer_init(&w, again, sizeof(again));
	dc_register_reply_encode(&w, &other);
	ok(w.length == length && memcmp(full, again, length) == 0,
	   "... byte by byte");
	request.kind = DC_REGISTER_TAKEOVER;
	dc_writer_init(&w, full, sizeof(full));
	dc_register_request_encode(&w, &request);
	ok(dc_register_request_decode(full, w.length, &request) == DC_MALFORMED,
	   "nobody takes over from afar");
}

static void
test_largest(void)
{
	DcWriter w;

	cluster(0);
	request.at = (DcPosition){FOUNDER, DC_HLC_MAX, 9};
	request.list.count = 0;
	for (uint32_t id = 1; id <= DC_MEMBERS_MAX; id++)
		(void) dc_members_put(&request.list, member(id, DC_MEMBER_PRESENT, 1));
	(void) ask(1, DC_REGISTER_LEARN, DC_HLC_NONE);
	dc_members_copy(&request.value, &request.list);
	request.value.at[0].incarnation = 2;
	ok(ask(1, DC_REGISTER_ACCEPT, draw(1)) == DC_VERDICT_YES &&
		   reply.accepted.count == DC_MEMBERS_MAX,
	   "the longest lists fit the messages");
	dc_writer_init(&w, full, sizeof(full));
	dc_register_encode(&w, &reg[1]);
	ok(w.status == DC_OK &&
		   dc_register_decode(full, w.length, &reg[1]) == DC_OK,
	   "... and the durable state");
	ok(propose(2, change(DC_CHANGE_FENCE, 9, 1), 0) == DC_LINEAGE,
	   "a proposer that knows no list asks somebody or ends");
}

/* ---- rules left out ------------------------------------------------------- */

#ifdef DC_CANARIES
static void
without(uint64_t rule, void (*test)(void), const char *what)
{
	unsigned claims = tap_claims;
	unsigned failures = tap_failures;
	bool noticed;

	tap_quiet = true;
	dc_canaries = rule;
	test();
	dc_canaries = 0;
	tap_quiet = false;
	noticed = tap_failures > failures;
	tap_claims = claims;
	tap_failures = failures;
	ok(noticed, "noticed: %s", what);
}
#endif

static void
test_canaries(void)
{
#ifdef DC_CANARIES
	without(DC_CANARY_REG_PROMISE, test_acceptor, "accepts below its promise");
	without(DC_CANARY_REG_CLEAR, test_acceptor, "old votes are kept");
	without(DC_CANARY_REG_VALUE, test_completion, "accepted lists ignored");
	without(DC_CANARY_REG_HIGHEST, test_highest, "the least ballot's list");
	without(DC_CANARY_REG_HALF, test_lives, "half is a majority");
	without(DC_CANARY_REG_LIFE, test_lives, "a new life votes for the old");
	without(DC_CANARY_REG_SOME, test_lives, "takeover among three");
	without(DC_CANARY_REG_LEARN, test_undecided, "one acceptance decides");
	without(DC_CANARY_REG_ABANDON, test_lineages, "a group gives way");
	without(DC_CANARY_REG_ALONE, test_alone, "a new lone life goes on");
	without(DC_CANARY_REG_MEMBER, test_lives, "everybody votes");
	without(DC_CANARY_REG_OVERTAKEN, test_overtaken, "overtaken is undone");
	without(DC_CANARY_REG_NUMBER, test_commands, "a command of any number");
	without(DC_CANARY_REG_NAME, test_overtaken, "commands are not compared");
#endif
}

int
main(void)
{
	test_changes();
	test_commands();
	test_acceptor();
	test_proposer();
	test_completion();
	test_highest();
	test_undecided();
	test_overtaken();
	test_lives();
	test_takeover_adopts();
	test_lineages();
	test_alone();
	test_forced();
	test_codecs();
	test_largest();
	test_canaries();
	return tap_done();
}
