/*
 * test_choice.c
 *		Whom to ask first: enough, alive, spread evenly, none twice.
 *
 * Clusters have 1 to 7 data centres of 1 to 7 nodes: each multiset of sizes
 * (data centres have no order but their numbers, which are dealt out by
 * chance), each data centre as the own one.
 */
#include "choice.h"
#include "tap.h"

#include <string.h>

#define CENTRES 7
#define NODES   7
#define TOTAL   (CENTRES * NODES)

typedef struct Shape
{
	uint32_t centres;
	uint32_t sizes[CENTRES];
	uint32_t own; /* data centre of node 0 */
	uint32_t count;
	DcCandidate at[TOTAL];
	DcTally all;
} Shape;

/* What walking the order asks. */
typedef struct Walk
{
	uint32_t count;
	uint32_t at[TOTAL]; /* candidates, as they are asked */
	bool met;
} Walk;

/* The next sizes that do not fall; false at the end. */
static bool
next_sizes(Shape *shape)
{
	for (uint32_t i = shape->centres; i-- > 0;)
	{
		if (shape->sizes[i] == NODES)
			continue;
		shape->sizes[i]++;
		for (uint32_t k = i + 1; k < shape->centres; k++)
			shape->sizes[k] = shape->sizes[i];
		return true;
	}
	return false;
}

/* Which data centre has which number: any order of the sizes. */
static void
shuffle_sizes(const Shape *shape, uint64_t *random, Shape *shuffled)
{
	*shuffled = *shape;
	for (uint32_t i = shape->centres; i > 1; i--)
	{
		uint32_t other = tap_below(random, i);
		uint32_t size = shuffled->sizes[i - 1];

		shuffled->sizes[i - 1] = shuffled->sizes[other];
		shuffled->sizes[other] = size;
	}
}

/* Nodes of all centres, mixed as ids are; one of the own centre is local. */
static void
populate(Shape *shape)
{
	bool local = false;

	shape->count = 0;
	memset(&shape->all, 0, sizeof(shape->all));
	for (uint32_t n = 0; n < NODES; n++)
	{
		for (uint32_t c = 0; c < shape->centres; c++)
		{
			DcCandidate *candidate = &shape->at[shape->count];

			if (n >= shape->sizes[c])
				continue;
			*candidate =
				(DcCandidate){.centre = c, .alive = true, .lag_us = -1};
			candidate->local = c == shape->own && !local;
			local |= candidate->local;
			dc_tally_add(&shape->all, c);
			shape->count++;
		}
	}
}

/* Asks as the reader does; whoever is in `refuse` fails and is replaced. */
static void
walk(const Shape *shape, DcLevel level, uint32_t turn, const bool refuse[],
	 Walk *w)
{
	static DcTally needs;
	static DcTally have;
	static const DcTally none;
	uint32_t order[TOTAL];
	uint32_t count = dc_choice_order(shape->at, shape->count, level, shape->own,
									 turn, order);

	dc_level_needs(level, &shape->all, shape->own, &needs);
	memset(&have, 0, sizeof(have));
	w->count = 0;
	for (uint32_t i = 0; i < count; i++)
	{
		uint32_t centre = shape->at[order[i]].centre;

		if (!dc_choice_helps(&have, &none, &needs, centre))
			continue;
		w->at[w->count++] = order[i];
		if (!refuse[order[i]])
			dc_tally_add(&have, centre);
	}
	w->met = dc_tally_meets(&have, &needs);
}

/* Could the living meet the level at all, and who refuses is not counted? */
static bool
possible(const Shape *shape, DcLevel level, const bool refuse[])
{
	static DcTally needs;
	static DcTally living;

	memset(&living, 0, sizeof(living));
	for (uint32_t i = 0; i < shape->count; i++)
	{
		if (shape->at[i].alive && !refuse[i])
			dc_tally_add(&living, shape->at[i].centre);
	}
	dc_level_needs(level, &shape->all, shape->own, &needs);
	return dc_tally_meets(&living, &needs);
}

static bool
distinct_and_alive(const Shape *shape, const Walk *w)
{
	bool seen[TOTAL] = {false};

	for (uint32_t i = 0; i < w->count; i++)
	{
		if (w->at[i] >= shape->count || seen[w->at[i]] ||
			!shape->at[w->at[i]].alive)
			return false;
		seen[w->at[i]] = true;
	}
	return true;
}

static uint32_t
needed(const Shape *shape, DcLevel level)
{
	static DcTally needs;
	uint32_t count = 0;

	dc_level_needs(level, &shape->all, shape->own, &needs);
	for (uint32_t c = 0; c < shape->centres; c++)
		count += needs.in[c];
	return needs.total > count ? needs.total : count;
}

/* --- claims, each about every shape --- */

typedef struct Verdict
{
	uint64_t walks;
	uint64_t refused;
	bool distinct;
	bool met; /* exactly when it is possible */
	bool least;
	bool others_first;
	bool even;
} Verdict;

static void
judge_walks(Shape *shape, DcLevel level, uint64_t *random, Verdict *v)
{
	static const bool nobody[TOTAL];
	bool refuse[TOTAL] = {false};
	Walk w;

	populate(shape);
	walk(shape, level, (uint32_t) tap_random(random), nobody, &w);
	v->walks++;
	v->distinct &= distinct_and_alive(shape, &w);
	v->met &= w.met == possible(shape, level, nobody);
	v->least &= !w.met || w.count == needed(shape, level);
	for (uint32_t i = 0; i < shape->count; i++)
	{
		shape->at[i].alive = shape->at[i].local || tap_below(random, 4) > 0;
		refuse[i] = tap_below(random, 4) == 0;
		shape->at[i].lag_us = (int64_t) tap_below(random, 1000000) - 1;
	}
	walk(shape, level, (uint32_t) tap_random(random), refuse, &w);
	v->walks++;
	v->refused += !w.met;
	v->distinct &= distinct_and_alive(shape, &w);
	v->met &= w.met == possible(shape, level, refuse);
}

/* No node of the own data centre before all others were asked. */
static bool
prefers_others(const Shape *shape, const Walk *w)
{
	uint32_t others = 0;
	bool own = false;

	for (uint32_t i = 0; i < w->count; i++)
	{
		const DcCandidate *candidate = &shape->at[w->at[i]];

		if (candidate->local)
			continue;
		own |= candidate->centre == shape->own;
		others += candidate->centre != shape->own;
	}
	return !own || others == shape->count - shape->sizes[shape->own];
}

/* Over as many turns as each circle is entered equally often everywhere. */
static bool
spreads_evenly(const Shape *shape, DcLevel level)
{
	static const bool nobody[TOTAL];
	uint32_t asked[TOTAL] = {0};
	bool groups = level == DC_LEVEL_EACH_QUORUM;
	uint32_t own = shape->sizes[shape->own] - 1;
	uint32_t others = shape->count - 1 - own;
	uint32_t turns = groups ? 420 : (own > 0 ? own : 1) * others;
	Walk w;

	for (uint32_t turn = 0; turn < turns; turn++)
	{
		walk(shape, level, turn, nobody, &w);
		for (uint32_t i = 0; i < w.count; i++)
			asked[w.at[i]]++;
	}
	for (uint32_t i = 0; i < shape->count; i++)
	{
		for (uint32_t k = 0; k < i; k++)
		{
			bool alike = groups ? shape->at[i].centre == shape->at[k].centre :
								  (shape->at[i].centre == shape->own) ==
									  (shape->at[k].centre == shape->own);

			if (alike && !shape->at[i].local && !shape->at[k].local &&
				asked[i] != asked[k])
				return false;
		}
	}
	return true;
}

static void
judge(Shape *shape, uint64_t *random, Verdict *v)
{
	static const bool nobody[TOTAL];
	Walk w;

	for (int level = 0; level < DC_LEVELS; level++)
	{
		judge_walks(shape, (DcLevel) level, random, v);
		populate(shape);
		if (level >= DC_LEVEL_ONE && level <= DC_LEVEL_QUORUM)
		{
			walk(shape, (DcLevel) level, (uint32_t) tap_random(random), nobody,
				 &w);
			v->others_first &= prefers_others(shape, &w);
		}
		/* all of them would take minutes */
		if (tap_below(random, 500) == 0)
			v->even &= spreads_evenly(shape, (DcLevel) level);
	}
}

static void
test_shapes(void)
{
	uint64_t random = 20261129;
	Verdict v = {.distinct = true,
				 .met = true,
				 .least = true,
				 .others_first = true,
				 .even = true};
	Shape shape = {0};
	static Shape shuffled;
	uint32_t shapes = 0;

	for (shape.centres = 1; shape.centres <= CENTRES; shape.centres++)
	{
		for (uint32_t c = 0; c < shape.centres; c++)
			shape.sizes[c] = 1;
		do
		{
			shapes++;
			shuffle_sizes(&shape, &random, &shuffled);
			for (shuffled.own = 0; shuffled.own < shape.centres; shuffled.own++)
				judge(&shuffled, &random, &v);
		} while (next_sizes(&shape));
	}
	note("%llu walks, %llu of them could not meet their level",
		 (unsigned long long) v.walks, (unsigned long long) v.refused);
	/* of k sizes from 1 to 7 there are (6 + k choose k) multisets */
	ok(shapes == 7 + 28 + 84 + 210 + 462 + 924 + 1716,
	   "these are all shapes of up to 7 data centres of up to 7 nodes");
	ok(v.distinct, "no node is asked twice, and none that is dead");
	ok(v.met, "a level is met exactly if the living that answer can meet it");
	ok(v.least, "if all answer, no more are asked than the level needs");
	ok(v.others_first, "other data centres are asked before the own one");
	ok(v.even, "over many calls each node of a circle is asked equally often");
	ok(v.refused > 0 && v.refused < v.walks,
	   "some levels could not be met, and some could");
}

static void
test_variety(void)
{
	static const bool nobody[TOTAL];
	Shape shape = {.centres = 4, .sizes = {1, 3, 3, 3}, .own = 0};
	bool several = true;
	Walk w;

	populate(&shape);
	for (uint32_t turn = 0; turn < 100; turn++)
	{
		walk(&shape, DC_LEVEL_THREE, turn, nobody, &w);
		several &= w.count == 4 &&
				   shape.at[w.at[1]].centre != shape.at[w.at[2]].centre &&
				   shape.at[w.at[2]].centre != shape.at[w.at[3]].centre &&
				   shape.at[w.at[1]].centre != shape.at[w.at[3]].centre;
	}
	ok(several, "three others of three data centres are one of each");
}

static void
test_slow(void)
{
	static const bool nobody[TOTAL];
	Shape shape = {.centres = 2, .sizes = {1, 3}, .own = 0};
	bool avoided = true;
	bool used;
	Walk w;

	populate(&shape);
	for (uint32_t i = 0; i < shape.count; i++)
		shape.at[i].lag_us = 1000;
	shape.at[2].lag_us = 5000000;
	for (uint32_t turn = 0; turn < 30; turn++)
	{
		walk(&shape, DC_LEVEL_TWO, turn, nobody, &w);
		for (uint32_t i = 0; i < w.count; i++)
			avoided &= w.at[i] != 2;
	}
	ok(avoided, "a slow node is not asked as long as others do");
	walk(&shape, DC_LEVEL_ALL, 0, nobody, &w);
	used = w.count == 4;
	ok(used && w.at[3] == 2, "and asked last if all are needed");
	shape.at[2].lag_us = 9000;
	used = false;
	for (uint32_t turn = 0; turn < 30; turn++)
	{
		walk(&shape, DC_LEVEL_ONE, turn, nobody, &w);
		used |= w.at[1] == 2;
	}
	ok(used, "some milliseconds are not slow");
}

static void
test_empty(void)
{
	uint32_t order[1];

	ok(dc_choice_order(NULL, 0, DC_LEVEL_ALL, 0, 7, order) == 0,
	   "nobody is chosen of nobody");
}

int
main(void)
{
	test_shapes();
	test_variety();
	test_slow();
	test_empty();
	return tap_done();
}
