/*
 * test_rules.c
 *		The decisions of replication, over every case of a small scope.
 *
 * Stamps are 1 .. 4, 0 is none.  The tables of expected answers are written
 * down from the rules' text, not from the code.  Built with -DDC_CANARIES it
 * also shows that leaving R2, P1 or P2 out breaks the property it stands for.
 */
/* also with: -DDC_CANARIES */
#include "canary.h"
#include "rules.h"
#include "tap.h"

enum
{
	TOP = 4 /* greatest stamp of the small scope */
};

static DcHlc
max(DcHlc a, DcHlc b)
{
	return a > b ? a : b;
}

/* ------------------------------------------------------- stamps, R1, P1 */

/* P1: a birth is stamped after every death it may follow, and its row. */
static bool
births_follow_deaths(void)
{
	bool right = true;

	for (DcHlc own = 1; own <= TOP; own++)
	{
		for (DcHlc row = 0; row <= TOP; row++)
		{
			for (DcHlc death = 0; death <= TOP; death++)
				right &= dc_rule_needs_fresh(own, row, death) ||
						 (own > row && own > death);
		}
	}
	return right;
}

static void
test_needs_fresh(void)
{
	bool thrifty = true;

	for (DcHlc own = 1; own <= TOP; own++)
	{
		for (DcHlc row = 0; row < own; row++)
		{
			for (DcHlc death = 0; death < own; death++)
				thrifty &= !dc_rule_needs_fresh(own, row, death);
		}
	}
	ok(births_follow_deaths(),
	   "P1: a stamp that is not above the row and the last death is redrawn");
	ok(thrifty, "P1: any other stamp is kept");
}

/* -------------------------------------------------------- watermark, R2 */

/* R2: a slot is a lower bound of a stamp still to commit: W stays below. */
static bool
watermark_is_below_flights(void)
{
	bool below = true;

	for (DcHlc drawn = 1; drawn <= TOP; drawn++)
	{
		for (unsigned code = 0; code < 125; code++)
		{
			DcHlc slots[3] = {code % 5, code / 5 % 5, code / 25};
			DcHlc w = dc_rule_watermark(drawn, slots, 3, TOP, 0);

			for (int i = 0; i < 3; i++)
				below &= slots[i] == DC_HLC_NONE || w < slots[i];
		}
	}
	return below;
}

static void
test_watermark(void)
{
	bool exact = true, monotone = true;

	for (unsigned code = 0; code < 3125; code++)
	{
		DcHlc drawn = code % 5, bound = code / 5 % 5, previous = code / 25 % 5;
		DcHlc slots[2] = {code / 125 % 5, code / 625};
		DcHlc w = dc_rule_watermark(drawn, slots, 2, bound, previous);
		DcHlc expected = 0;

		/* the greatest stamp that nothing forbids */
		for (DcHlc stamp = 1; stamp <= TOP; stamp++)
		{
			if (stamp <= drawn && stamp <= bound &&
				(slots[0] == 0 || stamp < slots[0]) &&
				(slots[1] == 0 || stamp < slots[1]))
				expected = stamp;
		}
		exact &= w == max(expected, previous);
		monotone &= w >= previous;
	}
	ok(watermark_is_below_flights(),
	   "R2: the watermark stays below every transaction in flight");
	ok(exact, "R2: it is the greatest stamp that clock, bound and slots allow");
	ok(monotone, "R2: it never moves back");
	ok(dc_rule_watermark(3, NULL, 0, 4, 0) == 3,
	   "R2: an idle node's watermark is its clock");
}

/* ----------------------------------------------------- apply, P2 and R5 */

typedef struct Case
{
	DcHlc row;
	DcEntry entry;
	DcEntry incoming;
	DcHlc horizon;
	DcHlc floor;
} Case;

/* The next of all cases; an entry without a stamp is not dead. */
static bool
case_number(unsigned number, Case *c)
{
	c->row = number % 5, number /= 5;
	c->entry.stamp = number % 5, number /= 5;
	c->entry.dead = number % 2, number /= 2;
	c->incoming.stamp = number % 4 + 1, number /= 4;
	c->incoming.dead = number % 2, number /= 2;
	c->horizon = number % 5, number /= 5;
	c->floor = number % 5;
	return c->entry.stamp != 0 || !c->entry.dead;
}

enum
{
	CASES = 5 * 5 * 2 * 4 * 2 * 5 * 5
};

static DcApply
apply(const Case *c)
{
	return dc_rule_apply(c->row, c->entry, c->incoming, c->horizon, c->floor);
}

/*
 * The newest thing this node knows of the key: its row if there is one, the
 * entry if not; an entry's death counts in any case; where neither is, all up
 * to the horizon is dead and forgotten; a TRUNCATE is a death of every key,
 * and what it took is as good as gone.
 */
static DcHlc
known(const Case *c)
{
	DcHlc here = c->horizon;

	if (c->row > c->floor)
		here = c->entry.dead ? max(c->row, c->entry.stamp) : c->row;
	else if (c->entry.stamp > c->floor)
		here = c->entry.stamp;
	return max(here, c->floor);
}

/* P2: whatever the metadata says, a newer row is not overwritten. */
static bool
newer_rows_stay(void)
{
	bool stay = true;
	Case c;

	for (unsigned n = 0; n < CASES; n++)
	{
		if (!case_number(n, &c) || c.row == 0 || c.incoming.stamp >= c.row)
			continue;
		stay &= apply(&c) == DC_APPLY_STALE;
	}
	return stay;
}

static void
test_apply_oracle(void)
{
	bool newer = true, older = true, same = true, targets = true;
	Case c;

	for (unsigned n = 0; n < CASES; n++)
	{
		DcApply answer;

		if (!case_number(n, &c))
			continue;
		answer = apply(&c);
		if (c.incoming.stamp > known(&c))
			newer &= answer == (!c.incoming.dead ? DC_APPLY_STORE :
								c.row != 0       ? DC_APPLY_ERASE :
												   DC_APPLY_MARK);
		else if (c.incoming.stamp < known(&c))
			older &= answer == DC_APPLY_STALE;
		else
			same &= answer == DC_APPLY_SAME || answer == DC_APPLY_STALE;
		targets &= answer != DC_APPLY_ERASE || c.row != 0;
	}
	ok(newer, "a change newer than all that is known is stored or erases");
	ok(older, "an older one is stale");
	ok(same, "an equal one changes nothing");
	ok(targets, "only a row that is there is erased");
	ok(newer_rows_stay(), "P2: a newer row is never overwritten or erased");
}

static void
test_apply_dead(void)
{
	bool forgotten = true, truncated = true, buried = true;
	Case c;

	for (unsigned n = 0; n < CASES; n++)
	{
		DcApply answer;

		if (!case_number(n, &c))
			continue;
		answer = apply(&c);
		if (c.row == 0 && c.entry.stamp == 0 && c.incoming.stamp <= c.horizon)
			forgotten &= answer >= DC_APPLY_SAME;
		if (c.incoming.stamp <= c.floor)
			truncated &= answer >= DC_APPLY_SAME;
		if (c.entry.dead && c.incoming.stamp <= c.entry.stamp)
			buried &= answer >= DC_APPLY_SAME;
	}
	ok(forgotten, "R5: an absent key at or below the horizon stays absent");
	ok(truncated, "nothing from before a TRUNCATE comes back");
	ok(buried, "nothing from before its death comes back");
}

/* What apply leaves behind. */
static void
perform(Case *c)
{
	switch (apply(c))
	{
		case DC_APPLY_STORE:
			c->row = c->incoming.stamp;
			c->entry = c->incoming;
			break;
		case DC_APPLY_ERASE:
		case DC_APPLY_MARK:
			c->row = 0;
			c->entry = c->incoming;
			break;
		case DC_APPLY_SAME:
		case DC_APPLY_STALE:
			break;
	}
}

/* Stamp s of this history is a death if bit s - 1 of `deaths` is set. */
static void
test_apply_converges(void)
{
	bool converges = true;

	for (unsigned deaths = 0; deaths < 16; deaths++)
	{
		for (unsigned code = 0; code < 1024; code++)
		{
			Case c = {.horizon = 0};
			DcHlc newest = 0;
			bool dead;

			for (unsigned i = 0, rest = code; i < 5; i++, rest /= 4)
			{
				c.incoming.stamp = rest % 4 + 1;
				c.incoming.dead = deaths >> rest % 4 & 1;
				newest = max(newest, c.incoming.stamp);
				perform(&c);
			}
			dead = deaths >> (newest - 1) & 1;
			converges &= c.entry.stamp == newest && c.entry.dead == dead &&
						 c.row == (dead ? 0 : newest);
		}
	}
	ok(converges,
	   "in any order, with repeats and loss, the newest of what came "
	   "stands in heap and metadata");
}

/* ----------------------------------------------------------- reconcile */

static bool
agree(DcHlc row, DcEntry entry)
{
	return row == (entry.dead ? 0 : entry.stamp);
}

static void
test_reconcile(void)
{
	bool agreed = true, newest = true, quiet = true;

	for (unsigned code = 0; code < 50; code++)
	{
		DcEntry entry = {.stamp = code / 2 % 5, .dead = code % 2};
		DcHlc row = code / 10, before = max(row, entry.stamp);
		DcReconcile answer;

		if (entry.stamp == 0 && entry.dead)
			continue;
		answer = dc_rule_reconcile(row, entry);
		quiet &= (answer == DC_RECONCILE_NOTHING) == agree(row, entry);
		if (answer == DC_RECONCILE_ERASE_ROW)
			row = 0;
		else if (answer == DC_RECONCILE_MERGE_ROW)
			entry = (DcEntry){.stamp = row};
		else if (answer == DC_RECONCILE_FETCH_ROW)
			row = entry.stamp;
		agreed &= agree(row, entry);
		newest &= entry.stamp == before;
	}
	ok(agreed, "P2: one reconciliation makes heap and metadata agree");
	ok(newest, "P2: on the newer of the two");
	ok(quiet, "P2: and nothing is done where they agree");
}

static void
test_needs_reconcile(void)
{
	DcEntry merged = {.stamp = 3};

	ok(dc_rule_needs_reconcile((DcEntry){.stamp = 4}, merged, 2) &&
		   dc_rule_needs_reconcile((DcEntry){.stamp = 4, .dead = true}, merged,
								   0),
	   "P2: a merge that loses queues its key");
	ok(!dc_rule_needs_reconcile((DcEntry){.stamp = 2}, merged, 2) &&
		   !dc_rule_needs_reconcile((DcEntry){.stamp = 0}, merged, 0) &&
		   !dc_rule_needs_reconcile((DcEntry){.stamp = 3}, merged, 2) &&
		   !dc_rule_needs_reconcile((DcEntry){.stamp = 2, .dead = true}, merged,
									0),
	   "P2: one that replaces what its statement saw does not");
	ok(dc_rule_needs_reconcile((DcEntry){.stamp = 2}, merged, 1) &&
		   dc_rule_needs_reconcile((DcEntry){.stamp = 2}, merged, 0),
	   "P2: one that finds another live entry than its statement does");
}

/* --------------------------------------------------------------- floor */

/* Rows and entries of a truncated keyspace, in every order of the stamps. */
static void
test_floor(void)
{
	bool erased = true, kept = true, quiet = true, above = true;

	for (unsigned code = 0; code < 250; code++)
	{
		DcEntry entry = {.stamp = code / 2 % 5, .dead = code % 2};
		DcHlc row = code / 10 % 5, floor = code / 50;
		DcEntry seen;
		DcReconcile answer;

		if (entry.stamp == 0 && entry.dead)
			continue;
		seen = dc_rule_above_floor(entry, floor);
		answer = dc_rule_reconcile(row, seen);
		above &= seen.stamp == max(entry.stamp, floor) &&
				 seen.dead == (entry.stamp > floor ? entry.dead : floor != 0);
		if (row > floor)
			kept &= answer == dc_rule_reconcile(row, entry);
		else if (row != 0 && entry.stamp <= floor)
			erased &= answer == DC_RECONCILE_ERASE_ROW;
		else if (entry.stamp <= floor)
			quiet &= answer == DC_RECONCILE_NOTHING;
	}
	ok(above, "an entry at or below the floor counts as its death");
	ok(erased, "a row that outlived a TRUNCATE is erased");
	ok(kept, "a row above the floor is judged by its entry alone");
	ok(quiet, "where nothing outlived it nothing is done");
	ok(dc_rule_needs_reconcile(dc_rule_above_floor((DcEntry){.stamp = 2}, 4),
							   (DcEntry){.stamp = 3}, 2) &&
		   dc_rule_needs_reconcile(dc_rule_above_floor((DcEntry){0}, 4),
								   (DcEntry){.stamp = 3}, 0),
	   "a commit that merges below the floor queues its key");
	ok(!dc_rule_needs_reconcile(dc_rule_above_floor((DcEntry){0}, 2),
								(DcEntry){.stamp = 3}, 0) &&
		   !dc_rule_needs_reconcile(dc_rule_above_floor((DcEntry){.stamp = 1},
														2),
									(DcEntry){.stamp = 3}, 1),
	   "one that merges above it does not");
}

/* -------------------------------------------------------------- canary */

static void
test_canaries(void)
{
#ifdef DC_CANARIES
	dc_canaries = DC_CANARY_R2;
	ok(!watermark_is_below_flights(),
	   "without R2 the test sees a watermark above a transaction in flight");
	dc_canaries = DC_CANARY_P1;
	ok(!births_follow_deaths(),
	   "without P1 the test sees a birth stamped before its key's death");
	dc_canaries = DC_CANARY_P2;
	ok(!newer_rows_stay(), "without P2 the test sees a newer row overwritten");
	dc_canaries = 0;
#endif
}

/* ------------------------------------------------------------- repair */

/* All small cases of a key on two nodes; `n` numbers them. */
static bool
repair_case(uint32_t n, DcRepairSide *own, DcRepairSide *peer, DcVv vectors[2])
{
	DcRepairSide *sides[2] = {own, peer};

	for (int i = 0; i < 2; i++)
	{
		uint32_t what = n % 7;      /* nothing, or stamp 1 .. 3, live or dead */
		uint32_t known = n / 7 % 4; /* V covers stamps up to this */
		uint32_t horizon = n / 28 % 4;
		uint32_t floor = n / 112 % 3;

		n /= 336;
		dc_vv_init(&vectors[i]);
		vectors[i].at[1] = dc_hlc_make(known, 1);
		*sides[i] =
			(DcRepairSide){.entry = {.stamp =
										 what == 0 ?
											 DC_HLC_NONE :
											 dc_hlc_make((what + 1) / 2, 1),
									 .dead = what % 2 == 0 && what > 0},
						   .floor =
							   floor == 0 ? DC_HLC_NONE : dc_hlc_make(floor, 1),
						   .horizon = horizon == 0 ? DC_HLC_NONE :
													 dc_hlc_make(horizon, 1),
						   .vector = &vectors[i]};
	}
	return n == 0;
}

static bool
is_live(DcRepairSide side, DcHlc floor)
{
	return side.entry.stamp > floor && !side.entry.dead;
}

static void
test_repair(void)
{
	static DcVv vectors[2];
	DcRepairSide a, b;
	bool mirrored = true, sound = true, purged = true, joins = true;
	uint32_t n;

	for (n = 0; repair_case(n, &a, &b, vectors); n++)
	{
		DcRepairAction there = dc_rule_repair(&b, &a, false);
		DcRepairAction here = dc_rule_repair(&a, &b, false);
		DcRepairAction joining = dc_rule_repair(&a, &b, true);
		DcHlc floor = a.floor > b.floor ? a.floor : b.floor;
		bool a_known = a.entry.stamp > floor, b_known = b.entry.stamp > floor;

		if (here == DC_REPAIR_FETCH || here == DC_REPAIR_PUSH)
			mirrored &= there == (here == DC_REPAIR_FETCH ? DC_REPAIR_PUSH :
															DC_REPAIR_FETCH);
		else
			mirrored &= there == here;
		/* only the newer one moves, and only to who should have it */
		sound &= here != DC_REPAIR_FETCH ||
				 (b_known && b.entry.stamp >= a.entry.stamp &&
				  dc_vv_covers(a.vector, b.entry.stamp));
		sound &= here != DC_REPAIR_ALONE;
		/* absent at or below g: never taken, never given, kept if live */
		if (a_known && !b_known && a.entry.stamp <= b.horizon)
			purged &= here ==
					  (is_live(a, floor) ? DC_REPAIR_KEEP : DC_REPAIR_NOTHING);
		joins &=
			joining != DC_REPAIR_PUSH && joining != DC_REPAIR_KEEP &&
			(joining == DC_REPAIR_ALONE) == (is_live(a, floor) && !b_known);
	}
	ok(mirrored, "%u cases of a key on two nodes: both see the same, mirrored",
	   n);
	ok(sound, "only the newer entry moves, to a node that should have it");
	ok(purged,
	   "what may have been forgotten is kept where it lives, and not moved");
	ok(joins, "who joins gives nothing, and learns what it has alone");
}

int
main(void)
{
	test_needs_fresh();
	test_watermark();
	test_apply_oracle();
	test_apply_dead();
	test_apply_converges();
	test_reconcile();
	test_needs_reconcile();
	test_floor();
	test_canaries();
	test_repair();
	return tap_done();
}
