/*
 * test_level.c
 *		Consistency levels: names, needs, what is met and what could still be.
 *
 * Clusters have 1 to 7 data centres of 1 to 7 nodes, all of them.
 */
#include "level.h"
#include "tap.h"

#include <string.h>

#define CENTRES 7
#define NODES   7 /* of one data centre */

/* --- clusters and sets of their nodes --- */

/* The next combination of numbers from `least` to most[i]; false at the end. */
static bool
next(uint32_t numbers[], const uint32_t most[], uint32_t least, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
	{
		if (numbers[i]++ < most[i])
			return true;
		numbers[i] = least;
	}
	return false;
}

static void
tally(DcTally *t, const uint32_t counts[], uint32_t centres)
{
	memset(t, 0, sizeof(*t));
	for (uint32_t c = 0; c < centres; c++)
	{
		for (uint32_t i = 0; i < counts[c]; i++)
			dc_tally_add(t, c);
	}
}

/* The table of level.h once more, by asking the nodes. */
static bool
met(DcLevel level, const uint32_t members[], const uint32_t yes[],
	uint32_t centres, uint32_t own)
{
	uint32_t all = 0;
	uint32_t have = 0;
	bool each = true;

	for (uint32_t c = 0; c < centres; c++)
	{
		all += members[c];
		have += yes[c];
		each &= 2 * yes[c] > members[c];
	}
	switch (level)
	{
		case DC_LEVEL_QUORUM:
			return 2 * have > all;
		case DC_LEVEL_LOCAL_QUORUM:
			return 2 * yes[own] > members[own];
		case DC_LEVEL_EACH_QUORUM:
			return each;
		case DC_LEVEL_ALL:
			return have == all;
		default:
			return have > (uint32_t) level;
	}
}

static const uint32_t most[CENTRES] = {NODES, NODES, NODES, NODES,
									   NODES, NODES, NODES};

/* --- claims --- */

static void
test_names(void)
{
	bool found = true;
	DcLevel level;

	for (int i = 0; i < DC_LEVELS; i++)
		found &= dc_level_parse(dc_level_name((DcLevel) i), &level) &&
				 level == (DcLevel) i;
	ok(found, "each level is found by its name");
	ok(dc_level_parse("Each_QUORUM", &level) && level == DC_LEVEL_EACH_QUORUM,
	   "letters may be of either case");
	ok(!dc_level_parse("", &level) && !dc_level_parse("quorums", &level) &&
		   !dc_level_parse("quoru", &level) && !dc_level_parse("4", &level),
	   "what is not quite a name is none");
}

/* All sets of nodes of all clusters of up to three centres of up to five. */
static void
test_small_clusters(void)
{
	static const uint32_t five[] = {5, 5, 5};
	unsigned long asked = 0, yes_answers = 0;
	bool meets = true;
	bool could = true;

	for (uint32_t centres = 1; centres <= 3; centres++)
	{
		uint32_t members[3] = {1, 1, 1};

		do
		{
			uint32_t yes[3] = {0};
			DcTally all;

			tally(&all, members, centres);
			do
			{
				DcTally have, rest, needs;
				uint32_t open[3], left[3], got[3];

				tally(&have, yes, centres);
				for (uint32_t c = 0; c < centres; c++)
					left[c] = members[c] - yes[c];
				for (int l = 0; l < DC_LEVELS; l++)
				{
					bool holds =
						met((DcLevel) l, members, yes, centres, centres - 1);

					dc_level_needs((DcLevel) l, &all, centres - 1, &needs);
					meets &= dc_tally_meets(&have, &needs) == holds;
					yes_answers += holds;
					asked++;
					memset(open, 0, sizeof(open));
					do
					{
						tally(&rest, open, centres);
						for (uint32_t c = 0; c < centres; c++)
							got[c] = yes[c] + open[c];
						could &= dc_tally_could_meet(&have, &rest, &needs) ==
								 met((DcLevel) l, members, got, centres,
									 centres - 1);
					} while (next(open, left, 0, centres));
				}
			} while (next(yes, members, 0, centres));
		} while (next(members, five, 1, centres));
	}
	note("%lu questions, %lu of them answered with yes", asked, yes_answers);
	ok(yes_answers > 0 && yes_answers < asked,
	   "some sets meet a level and some do not");
	ok(meets, "a set of nodes meets a level when counting them says so");
	ok(could, "a level is possible as long as those who have not answered "
			  "could make it");
}

/* Minimal sets in all clusters of up to 7 centres of up to 7 nodes. */
static void
test_large_clusters(void)
{
	static DcTally all, needs, least;
	bool overlap = true;
	bool tight = true;
	bool reachable = true;
	unsigned long clusters = 0;

	for (uint32_t centres = 1; centres <= CENTRES; centres++)
	{
		uint32_t members[CENTRES] = {1, 1, 1, 1, 1, 1, 1};

		do
		{
			clusters++;
			tally(&all, members, centres);
			dc_level_needs(DC_LEVEL_QUORUM, &all, 0, &needs);
			overlap &= 2 * needs.total > all.total;
			tight &= 2 * (needs.total - 1) <= all.total;
			dc_level_needs(DC_LEVEL_EACH_QUORUM, &all, 0, &needs);
			for (uint32_t c = 0; c < centres; c++)
			{
				overlap &= 2 * needs.in[c] > members[c];
				tight &= 2 * (needs.in[c] - 1) <= members[c];
			}
			dc_level_needs(DC_LEVEL_LOCAL_QUORUM, &all, centres - 1, &needs);
			tally(&least, needs.in, centres);
			reachable &= dc_tally_meets(&least, &needs) &&
						 least.total == least.in[centres - 1];
			for (int l = DC_LEVEL_QUORUM; l < DC_LEVELS; l++)
			{
				dc_level_needs((DcLevel) l, &all, 0, &needs);
				reachable &= dc_tally_meets(&all, &needs);
				memset(&least, 0, sizeof(least));
				reachable &= !dc_tally_meets(&least, &needs) &&
							 dc_tally_could_meet(&least, &all, &needs);
			}
		} while (next(members, most, 1, centres));
	}
	note("%lu clusters", clusters);
	ok(overlap, "any two quorums have a node in common, and any two of a data "
				"centre");
	ok(tight, "one node less would not do");
	ok(reachable, "all members together meet every level above three, nobody "
				  "meets none of them, and a local quorum needs nobody else");
}

static void
test_few_nodes(void)
{
	DcTally members = {0}, needs;

	dc_tally_add(&members, 0);
	dc_level_needs(DC_LEVEL_QUORUM, &members, 0, &needs);
	ok(dc_tally_meets(&members, &needs), "one node alone is a quorum of one");
	dc_level_needs(DC_LEVEL_ONE, &members, 0, &needs);
	ok(!dc_tally_could_meet(&members, &(DcTally){0}, &needs),
	   "but there is not one more");
	dc_tally_add(&members, 1);
	dc_tally_remove(&members, 0);
	dc_level_needs(DC_LEVEL_EACH_QUORUM, &members, 0, &needs);
	ok(needs.in[0] == 0 && needs.in[1] == 1,
	   "a data centre without members is not asked");
}

/* How many voices reached a position, asked one by one. */
static bool
reached_by_count(const DcTally *needs, const DcVoice voices[], uint32_t count,
				 uint64_t position)
{
	DcTally have = {0};

	for (uint32_t i = 0; i < count; i++)
	{
		if (voices[i].position >= position)
			dc_tally_add(&have, voices[i].centre);
	}
	return dc_tally_meets(&have, needs);
}

static void
test_reached(void)
{
	static DcTally scratch;
	uint64_t seed = 4711;
	bool right = true, least = true;
	uint32_t none = 0;

	for (int round = 0; round < 50000; round++)
	{
		DcVoice voices[CENTRES * NODES];
		uint32_t count = 1 + tap_below(&seed, CENTRES * NODES);
		uint32_t centres = 1 + tap_below(&seed, CENTRES);
		DcTally members = {0}, needs;
		uint64_t reached;

		for (uint32_t i = 0; i < count; i++)
		{
			voices[i].centre = tap_below(&seed, centres);
			voices[i].position = tap_below(&seed, 20);
			dc_tally_add(&members, voices[i].centre);
		}
		dc_level_needs((DcLevel) tap_below(&seed, DC_LEVELS), &members,
					   voices[0].centre, &needs);
		reached = dc_level_reached(&needs, voices, count, &scratch);
		right &=
			reached == 0 || reached_by_count(&needs, voices, count, reached);
		right &= !reached_by_count(&needs, voices, count, reached + 1);
		least &= dc_tally_least(&needs) >= 1 &&
				 (reached == 0 || dc_tally_least(&needs) <= count);
		none += reached == 0;
	}
	ok(right, "the position reached is the greatest that meets the level");
	ok(least, "no level needs fewer than one node, or more than there are");
	ok(none > 0, "and some levels reach nothing");
}

int
main(void)
{
	test_names();
	test_small_clusters();
	test_large_clusters();
	test_few_nodes();
	test_reached();
	return tap_done();
}
