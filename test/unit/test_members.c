/*
 * test_members.c
 *		Member lists, floors, the horizon, closing, joining (R7, R8, R10 to
 *		R13).  Built with -DDC_CANARIES it also shows that the tests of R8,
 *		R10, R11, R12 and R13 notice when a rule is left out.
 */
/* also with: -DDC_CANARIES */
#include "members.h"

#include "canary.h"
#include "rules.h"
#include "tap.h"

#include <string.h>

static uint64_t seed = 3;

static DcHlc
at(unsigned us)
{
	return dc_hlc_make(us, 7);
}

static DcMember
member(uint32_t id, DcMemberState state, uint64_t incarnation)
{
	return (DcMember){id, state, incarnation};
}

static bool
equal(const DcMembers *a, const DcMembers *b)
{
	return a->count == b->count && a->commands == b->commands &&
		   a->command == b->command &&
		   memcmp(a->at, b->at, sizeof(DcMember) * a->count) == 0;
}

/* Few ids, states and incarnations, so that lists meet often. */
static void
random_list(DcMembers *list)
{
	list->count = 0;
	for (uint32_t i = tap_below(&seed, 6); i > 0; i--)
		(void) dc_members_put(list,
							  member(1 + tap_below(&seed, 4),
									 (DcMemberState) (1 + tap_below(&seed, 3)),
									 1 + tap_below(&seed, 2)));
}

/* A list that some commands were agreed on in, or none. */
static void
random_commands(DcMembers *list)
{
	list->commands = tap_below(&seed, 3);
	list->command =
		list->commands == 0 ? DC_HLC_NONE : dc_hlc_make(tap_below(&seed, 2), 1);
}

/* ---- lists -------------------------------------------------------------- */

static DcMembers one, two, three, left, right;

static void
test_put(void)
{
	static DcMembers list;

	ok(dc_members_get(&list, 5).state == DC_MEMBER_ABSENT,
	   "an empty list has nobody");
	ok(dc_members_put(&list, member(5, DC_MEMBER_PRESENT, 10)) &&
		   dc_members_includes(&list, 5, 10) &&
		   !dc_members_includes(&list, 5, 11),
	   "a member is in it as the incarnation it is");
	ok(!dc_members_put(&list, member(5, DC_MEMBER_PRESENT, 9)) &&
		   !dc_members_put(&list, member(5, DC_MEMBER_REMOVED, 9)),
	   "an older incarnation changes nothing");
	ok(dc_members_put(&list, member(5, DC_MEMBER_FENCED, 10)) &&
		   !dc_members_put(&list, member(5, DC_MEMBER_PRESENT, 10)),
	   "who was fenced does not come back as the same incarnation");
	ok(dc_members_put(&list, member(5, DC_MEMBER_PRESENT, 11)),
	   "... but as a greater one");
	ok(!dc_members_put(&list, member(0, DC_MEMBER_PRESENT, 1)) &&
		   !dc_members_put(&list, member(DC_NODE_IDS, DC_MEMBER_PRESENT, 1)) &&
		   !dc_members_put(&list, member(6, DC_MEMBER_ABSENT, 1)) &&
		   !dc_members_put(&list, member(6, DC_MEMBER_STATES, 1)) &&
		   list.count == 1,
	   "an id or a state that does not exist is ignored");
	for (uint32_t id = DC_NODE_ID_MAX; id >= 1; id--)
		(void) dc_members_put(&list, member(id, DC_MEMBER_PRESENT, 20));
	ok(list.count == DC_MEMBERS_MAX &&
		   dc_members_count(&list) == DC_MEMBERS_MAX &&
		   list.at[0].node_id == 1 &&
		   list.at[DC_MEMBERS_MAX - 1].node_id == DC_NODE_ID_MAX,
	   "all ids fit, in order");
}

static void
test_merge(void)
{
	bool commutes = true, associates = true, absorbs = true, tells = true;
	bool digests = true;

	for (int i = 0; i < 20000; i++)
	{
		random_list(&one);
		random_list(&two);
		random_list(&three);
		left = one;
		tells &= dc_members_merge(&left, &two) == !equal(&left, &one);
		right = two;
		(void) dc_members_merge(&right, &one);
		commutes &= equal(&left, &right);
		absorbs &=
			!dc_members_merge(&left, &one) && !dc_members_merge(&left, &two);
		(void) dc_members_merge(&left, &three); /* (1 2) 3 */
		right = two;
		(void) dc_members_merge(&right, &three);
		(void) dc_members_merge(&right, &one); /* (2 3) 1 */
		associates &= equal(&left, &right);
		digests &= equal(&one, &two) ==
					   (dc_members_digest(&one) == dc_members_digest(&two)) &&
				   dc_members_digest(&one) != 0;
	}
	ok(commutes, "merging does not depend on who merges whom");
	ok(associates, "... nor on the order of three");
	ok(absorbs, "... and twice is once");
	ok(tells, "a merge tells whether it changed the list");
	one.commands = 1;
	one.command = dc_hlc_make(5, 1);
	two = one;
	two.command = dc_hlc_make(6, 1);
	digests &= dc_members_digest(&one) != dc_members_digest(&two);
	two.commands = 0;
	digests &= dc_members_digest(&one) != dc_members_digest(&two);
	one.commands = two.commands = 0;
	one.command = two.command = DC_HLC_NONE;
	ok(digests, "digests are equal for equal lists and for no others");
}

/* ---- floors and the horizon --------------------------------------------- */

static DcVv vv;
static DcMembers list;

static void
make_list(void)
{
	list.count = 0;
	(void) dc_members_put(&list, member(1, DC_MEMBER_PRESENT, 11));
	(void) dc_members_put(&list, member(2, DC_MEMBER_FENCED, 12));
	(void) dc_members_put(&list, member(3, DC_MEMBER_REMOVED, 13));
	(void) dc_members_put(&list, member(4, DC_MEMBER_PRESENT, 14));
}

static void
test_floor(void)
{
	make_list();
	dc_vv_init(&vv);
	vv.at[1] = at(30);
	vv.at[2] = at(20);
	vv.at[3] = at(5);
	ok(dc_members_floor(&list, &vv) == DC_HLC_NONE,
	   "no floor while a member is not in the vector");
	vv.at[4] = at(40);
	vv.at[9] = at(1);
	ok(dc_members_floor(&list, &vv) == at(20),
	   "the floor is the least of those who are waited for, fenced ones too");
	list.count = 0;
	ok(dc_members_floor(&list, &vv) == DC_HLC_NONE,
	   "an empty list has no floor");
}

static uint32_t
make_reports(DcReport reports[4])
{
	uint64_t epoch = dc_members_digest(&list);

	reports[0] = (DcReport){1, 11, epoch, at(30), true};
	reports[1] = (DcReport){2, 12, epoch, at(20), false};
	reports[2] = (DcReport){4, 14, epoch, at(40), true};
	return 3;
}

static DcHlc
moved(const DcReport *reports, uint32_t count)
{
	static DcHorizon horizon;

	memset(&horizon, 0, sizeof(horizon));
	horizon.stamp = at(1);
	(void) dc_members_advance(&list, reports, count, &horizon);
	return horizon.stamp;
}

static void
test_horizon(void)
{
	static DcHorizon horizon;
	DcReport reports[4];
	uint32_t count;

	make_list();
	count = make_reports(reports);
	memset(&horizon, 0, sizeof(horizon));
	ok(dc_members_advance(&list, reports, count, &horizon) &&
		   horizon.stamp == at(20),
	   "g is the least floor of all members");
	ok(horizon.counted[1] && horizon.counted[2] && horizon.counted[4] &&
		   !horizon.counted[3] && !horizon.counted[5],
	   "... and says whom it counted");
	ok(!dc_members_advance(&list, reports, count, &horizon),
	   "... and does not move twice");
	ok(moved(reports, count - 1) == at(1), "one who is silent holds it");
	ok(dc_members_hold(&list, list.at[3], reports, count - 1) == DC_HOLD_SILENT,
	   "... and it is said who");
	reports[0].floor = DC_HLC_NONE;
	ok(moved(reports, count) == at(1) &&
		   dc_members_hold(&list, list.at[0], reports, count) ==
			   DC_HOLD_JOINING,
	   "one who has no floor yet holds it");
	count = make_reports(reports);
	reports[2].epoch++;
	ok(moved(reports, count) == at(1) &&
		   dc_members_hold(&list, list.at[3], reports, count) == DC_HOLD_LIST,
	   "a floor under another list does not count");
	count = make_reports(reports);
	reports[1].incarnation++;
	ok(moved(reports, count) == at(1),
	   "a floor of another incarnation does not count");
	count = make_reports(reports);
	list.count = 1;
	reports[0].epoch = dc_members_digest(&list);
	ok(moved(reports, 1) == at(1), "who is alone moves nothing");
}

static void
test_reach(void)
{
	static DcHorizon horizon, other;

	memset(&horizon, 0, sizeof(horizon));
	memset(&other, 0, sizeof(other));
	dc_vv_init(&vv);
	ok(dc_horizon_reached(&horizon, &vv), "everybody reaches no horizon");
	horizon.stamp = at(10);
	horizon.counted[1] = horizon.counted[2] = true;
	vv.at[1] = at(10);
	vv.at[2] = at(9);
	ok(!dc_horizon_reached(&horizon, &vv),
	   "who lacks something up to g of one that it counted does not reach it");
	vv.at[2] = at(11);
	ok(dc_horizon_reached(&horizon, &vv),
	   "who has all does, whatever it has of others");
	other.stamp = at(9);
	other.counted[3] = true;
	ok(!dc_horizon_join(&horizon, &other) && !horizon.counted[3],
	   "a lesser horizon is not taken");
	other.stamp = at(12);
	ok(dc_horizon_join(&horizon, &other) && horizon.counted[3] &&
		   !horizon.counted[1],
	   "a greater one is, with those that it counted");
}

/* ---- closing ------------------------------------------------------------ */

static void
test_close(void)
{
	DcReport reports[4];
	uint32_t count;

	make_list();
	count = make_reports(reports);
	reports[2].closed = false;
	ok(!dc_members_close(&list, reports, count),
	   "nobody is removed before all present members have closed");
	ok(dc_members_unclosed(&list, reports, count) == reports[2].node_id,
	   "... and it is known who has not");
	reports[2].closed = true;
	reports[2].epoch++;
	ok(!dc_members_close(&list, reports, count),
	   "a closing under another list does not count");
	reports[2].epoch--;
	ok(!dc_members_close(&list, reports, 1),
	   "nor does the silence of a member");
	ok(dc_members_unclosed(&list, reports, count) == 0,
	   "when all have nobody is waited for");
	ok(dc_members_close(&list, reports, count) &&
		   dc_members_get(&list, 2).state == DC_MEMBER_REMOVED &&
		   dc_members_get(&list, 2).incarnation == 12,
	   "when all have closed, who was fenced is removed");
	ok(!dc_members_close(&list, reports, count),
	   "... and nothing is left to do");
}

/* ---- joining ------------------------------------------------------------ */

static void
test_join(void)
{
	static DcHorizon peer;

	memset(&peer, 0, sizeof(peer));
	dc_vv_init(&vv);
	ok(!dc_members_must_join(&peer, true, &vv, true),
	   "two who were always alone join each other freely");
	ok(dc_members_must_join(&peer, false, &vv, true),
	   "who was alone joins who was not");
	ok(!dc_members_must_join(&peer, true, &vv, false),
	   "... and not the other way round");
	peer.stamp = at(5);
	peer.counted[1] = true;
	ok(dc_members_must_join(&peer, false, &vv, false),
	   "who lacks what the peer may have forgotten joins");
	vv.at[1] = at(5);
	ok(!dc_members_must_join(&peer, false, &vv, false),
	   "who was counted does not");
}

static bool
rejoin_is_safe(void)
{
	bool safe = true;

	/* nothing at or below the horizon is ever kept */
	for (unsigned stamp = 1; stamp < 10; stamp++)
	{
		for (unsigned horizon = 0; horizon < 10; horizon++)
		{
			for (int flags = 0; flags < 4; flags++)
			{
				bool covered = flags & 1;
				bool newborn = flags & 2;
				DcRejoin what =
					dc_rule_rejoin(at(stamp), covered,
								   horizon > 0 ? at(horizon) : DC_HLC_NONE,
								   newborn);

				safe &= (what == DC_REJOIN_ERASE) == covered;
				safe &=
					(what == DC_REJOIN_KEEP) == (!covered && stamp > horizon);
				safe &= (what == DC_REJOIN_REISSUE) ==
						(!covered && stamp <= horizon && newborn);
			}
		}
	}
	return safe;
}

/* ---- codec -------------------------------------------------------------- */

static void
test_codec(void)
{
	static uint8_t bytes[12000];
	static DcMembers back;
	bool same = true, refused = true;
	DcWriter w;
	DcReader r;

	for (int i = 0; i < 2000; i++)
	{
		random_list(&one);
		random_commands(&one);
		dc_writer_init(&w, bytes, sizeof(bytes));
		dc_members_encode(&w, &one);
		dc_reader_init(&r, bytes, w.length);
		dc_members_decode(&r, &back);
		same &= dc_reader_finish(&r) == DC_OK && equal(&one, &back);
		for (size_t cut = 0; cut < w.length; cut++)
		{
			dc_reader_init(&r, bytes, cut);
			dc_members_decode(&r, &back);
			refused &= dc_reader_finish(&r) != DC_OK && back.count == 0 &&
					   back.commands == 0;
		}
	}
	ok(same, "a list comes back as it was");
	ok(refused, "no beginning of one is taken, and none leaves a trace");

	same = true;
	for (int i = 0; i < 200000; i++)
	{
		size_t length = 1 + tap_below(&seed, 60);

		for (size_t b = 0; b < length; b++)
			bytes[b] =
				(uint8_t) (tap_below(&seed, 3) == 0 ? tap_random(&seed) :
													  tap_below(&seed, 4));
		dc_reader_init(&r, bytes, length);
		dc_members_decode(&r, &back);
		if (dc_reader_finish(&r) != DC_OK)
			continue;
		dc_writer_init(&w, bytes + 100, sizeof(bytes) - 100);
		dc_members_encode(&w, &back);
		same &= w.length == length && memcmp(bytes, bytes + 100, length) == 0;
	}
	ok(same, "whatever is accepted encodes to the same bytes");
}

static bool
takes(const char *text, size_t length)
{
	static DcMembers back;
	DcReader r;

	dc_reader_init(&r, text, length);
	dc_members_decode(&r, &back);
	return dc_reader_finish(&r) == DC_OK;
}

#define ENTRY(id, state) "\x00" id state "\x00\x00\x00\x00\x00\x00\x00\x09"
#define TAKES(text)      takes(text, sizeof(text) - 1)

static void
test_hostile(void)
{
	ok(TAKES("\x02" ENTRY("\x01", "\x01") ENTRY("\x02", "\x03") "\x00") &&
		   TAKES("\x00\x02\x00\x00\x00\x00\x00\x00\x04\x01"),
	   "a good list is taken");
	ok(!TAKES("\x00\x02\x00\x00\x00\x00\x00\x00\x04\x00") &&
		   !TAKES("\x00\x02\xff\x00\x00\x00\x00\x00\x04\x01"),
	   "a command whose name is no stamp is refused");
	ok(!TAKES("\x02" ENTRY("\x02", "\x01") ENTRY("\x01", "\x01") "\x00"),
	   "ids out of order are refused");
	ok(!TAKES("\x02" ENTRY("\x01", "\x01") ENTRY("\x01", "\x02") "\x00"),
	   "an id twice is refused");
	ok(!TAKES("\x01" ENTRY("\x00", "\x01") "\x00"), "nobody's id is refused");
	ok(!TAKES("\x01" ENTRY("\x01", "\x00") "\x00") &&
		   !TAKES("\x01" ENTRY("\x01", "\x04") "\x00"),
	   "a state that does not exist is refused");
	ok(!TAKES("\xff\xff\xff\xff\x0f" ENTRY("\x01", "\x01")),
	   "more members than there are ids are refused");
	ok(!TAKES("\x01" ENTRY("\x01", "\x01") "\x00\x00"),
	   "bytes after the end are refused");
}

static void
test_horizon_codec(void)
{
	static DcHorizon horizon, back;
	uint8_t bytes[4096];
	bool same = true, refused = true;
	DcWriter w;
	DcReader r;

	for (int i = 0; i < 500; i++)
	{
		memset(&horizon, 0, sizeof(horizon));
		horizon.stamp = tap_random(&seed) & DC_HLC_MAX;
		for (uint32_t n = tap_below(&seed, 5); n > 0; n--)
			horizon.counted[1 + tap_below(&seed, DC_NODE_ID_MAX)] = true;
		dc_writer_init(&w, bytes, sizeof(bytes));
		dc_horizon_encode(&w, &horizon);
		dc_reader_init(&r, bytes, w.length);
		dc_horizon_decode(&r, &back);
		same &= dc_reader_finish(&r) == DC_OK &&
				memcmp(&horizon, &back, sizeof(back)) == 0;
		for (size_t cut = 0; cut < w.length; cut++)
		{
			dc_reader_init(&r, bytes, cut);
			dc_horizon_decode(&r, &back);
			refused &= dc_reader_finish(&r) != DC_OK;
		}
	}
	ok(same, "a horizon comes back as it was");
	ok(refused, "no beginning of one is taken");
}

/* ---- rules left out ----------------------------------------------------- */

static void
test_canaries(void)
{
	ok(rejoin_is_safe(), "R13: a joiner keeps what no horizon passed");
#ifdef DC_CANARIES
	static DcHorizon horizon;
	DcReport reports[4];
	uint32_t count;

	dc_canaries = DC_CANARY_R13;
	ok(!rejoin_is_safe(), "... without R13 the test sees what is kept");
	make_list();
	count = make_reports(reports);
	dc_canaries = DC_CANARY_R8;
	ok(moved(reports, count - 1) != at(1),
	   "without R8 a member that is silent does not hold g");
	reports[2].epoch++;
	dc_canaries = DC_CANARY_R10;
	ok(moved(reports, count) != at(1),
	   "without R10 a floor under another list counts");
	dc_canaries = DC_CANARY_R11;
	ok(dc_members_close(&list, reports, 0),
	   "without R11 a fenced member is removed at once");
	horizon.stamp = at(5);
	horizon.counted[1] = true;
	dc_vv_init(&vv);
	dc_canaries = DC_CANARY_R12;
	ok(!dc_members_must_join(&horizon, false, &vv, true),
	   "without R12 nobody must join");
	dc_canaries = 0;
#endif
}

int
main(void)
{
	test_put();
	test_merge();
	test_floor();
	test_horizon();
	test_reach();
	test_close();
	test_join();
	test_codec();
	test_hostile();
	test_horizon_codec();
	test_canaries();
	return tap_done();
}
