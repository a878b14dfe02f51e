/*
 * choice.c
 *		Whom to ask first for a consistency level.
 */
#include "choice.h"

#include <assert.h>

/* Slow is eight times the quickest one known, and not for a few ms. */
#define SLOW_TIMES  8
#define SLOW_MIN_US 10000

/* Some of the candidates, by index. */
typedef struct Circle
{
	uint32_t count;
	uint32_t at[DC_NODE_ID_MAX];
} Circle;

/* Which candidates a circle takes. */
typedef struct Filter
{
	const DcCandidate *candidates;
	uint32_t count;
	bool (*takes)(uint32_t centre, uint32_t wanted);
	uint32_t wanted;
	int64_t slow_us;
	bool slow;
} Filter;

static bool
is_centre(uint32_t centre, uint32_t wanted)
{
	return centre == wanted;
}

static bool
is_other(uint32_t centre, uint32_t wanted)
{
	return centre != wanted;
}

static int64_t
slow_from(const DcCandidate *candidates, uint32_t count)
{
	int64_t least = -1;

	for (uint32_t i = 0; i < count; i++)
	{
		int64_t lag_us = candidates[i].lag_us;

		if (candidates[i].alive && lag_us >= 0 && (least < 0 || lag_us < least))
			least = lag_us;
	}
	if (least < 0 || least > INT64_MAX / SLOW_TIMES - SLOW_MIN_US)
		return INT64_MAX;
	return least * SLOW_TIMES + SLOW_MIN_US;
}

/*
 * The i-th of n nodes of a data centre stands at (i + 1/2) / n of the circle;
 * a quicker sort is not worth it for lists of this length.
 */
static void
gather(const Filter *filter, Circle *circle)
{
	uint64_t place[DC_NODE_ID_MAX];
	uint32_t sizes[DC_CENTRES_MAX] = {0};
	uint32_t seen[DC_CENTRES_MAX] = {0};

	circle->count = 0;
	for (int pass = 0; pass < 2; pass++)
	{
		for (uint32_t i = 0; i < filter->count; i++)
		{
			const DcCandidate *c = &filter->candidates[i];
			uint32_t at = circle->count;
			uint64_t own;

			if (!c->alive || c->local ||
				!filter->takes(c->centre, filter->wanted) ||
				(c->lag_us >= filter->slow_us) != filter->slow)
				continue;
			if (pass == 0)
			{
				sizes[c->centre]++;
				continue;
			}
			own = ((2 * (uint64_t) seen[c->centre]++ + 1) << 32) /
				  sizes[c->centre];
			for (; at > 0 && place[at - 1] > own; at--)
			{
				place[at] = place[at - 1];
				circle->at[at] = circle->at[at - 1];
			}
			place[at] = own;
			circle->at[at] = i;
			circle->count++;
		}
	}
}

/* Appends what the filter takes, the quick ones first. */
static uint32_t
append(Filter *filter, uint32_t turn, uint32_t *order, uint32_t filled)
{
	Circle circle;

	for (int slow = 0; slow < 2; slow++)
	{
		filter->slow = slow != 0;
		gather(filter, &circle);
		for (uint32_t i = 0; i < circle.count; i++)
			order[filled++] =
				circle.at[(turn % circle.count + i) % circle.count];
	}
	return filled;
}

static uint32_t
append_local(const DcCandidate *candidates, uint32_t count, uint32_t *order)
{
	for (uint32_t i = 0; i < count; i++)
	{
		if (!candidates[i].local || !candidates[i].alive)
			continue;
		order[0] = i;
		return 1;
	}
	return 0;
}

uint32_t
dc_choice_order(const DcCandidate *candidates, uint32_t count, DcLevel level,
				uint32_t own_centre, uint32_t turn, uint32_t *order)
{
	Filter filter = {.candidates = candidates,
					 .count = count,
					 .wanted = own_centre,
					 .slow_us = slow_from(candidates, count)};
	uint32_t filled = append_local(candidates, count, order);
	uint32_t centres = 0;

	assert(count <= DC_NODE_ID_MAX);
	for (uint32_t i = 0; i < count; i++)
	{
		assert(candidates[i].centre < DC_CENTRES_MAX);
		if (candidates[i].centre >= centres)
			centres = candidates[i].centre + 1;
	}
	if (level == DC_LEVEL_EACH_QUORUM)
	{
		filter.takes = is_centre;
		for (filter.wanted = 0; filter.wanted < centres; filter.wanted++)
			filled = append(&filter, turn, order, filled);
		return filled;
	}
	if (level != DC_LEVEL_LOCAL_QUORUM)
	{
		filter.takes = is_other;
		filled = append(&filter, turn, order, filled);
	}
	filter.takes = is_centre;
	return append(&filter, turn, order, filled);
}

bool
dc_choice_helps(const DcTally *have, const DcTally *open, const DcTally *needs,
				uint32_t centre)
{
	return have->total + open->total < needs->total ||
		   have->in[centre] + open->in[centre] < needs->in[centre];
}
