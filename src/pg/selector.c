/*
 * selector.c
 *		Whom to wait for: the choice of another extension, checked.
 */
#include "selector.h"

#include "common/pg_prng.h"

#include "choice.h"

StaticAssertDecl(DATACAKE_NAME_BYTES == DC_NAME_BYTES, "names fit");

static char selector_name[NAMEDATALEN];
static DatacakeSelector selector_now;

void
dc_selector_register(const char *name, DatacakeSelector selector)
{
	strlcpy(selector_name, name, sizeof(selector_name));
	selector_now = selector;
}

/* What is wrong with the choice, or NULL. */
static const char *
complain(const DcVoters *voters, DcLevel level, const uint32 *chosen, int count)
{
	DcTally *have = palloc0(sizeof(DcTally));
	DcTally *needs = palloc(sizeof(DcTally));
	bool *taken = palloc0(sizeof(bool) * (voters->count + 1));

	if (count < 0 || count > voters->count)
		return "their number is not possible";
	for (int i = 0; i < count; i++)
	{
		int k = 0;

		while (k < voters->count && voters->at[k].node_id != chosen[i])
			k++;
		if (k == voters->count)
			return "one of them is no member";
		if (!voters->at[k].alive)
			return "one of them is not alive";
		if (taken[k])
			return "one of them is there twice";
		taken[k] = true;
		dc_tally_add(have, voters->at[k].centre);
	}
	dc_level_needs(level, &voters->all, voters->own_centre, needs);
	return dc_tally_meets(have, needs) ? NULL : "they do not meet the level";
}

/* What the registered selector picks; -1: nothing that can be used. */
static int
ask_selector(const DcVoters *voters, DcLevel level, uint32 *chosen)
{
	DatacakeCandidate *candidates =
		palloc0(sizeof(DatacakeCandidate) * (voters->count + 1));
	const char *complaint;
	int count;

	for (int i = 0; i < voters->count; i++)
	{
		candidates[i].node_id = voters->at[i].node_id;
		candidates[i].local = voters->at[i].local;
		candidates[i].alive = voters->at[i].alive;
		candidates[i].lag_us = voters->at[i].lag_us;
		strlcpy(candidates[i].data_center, voters->at[i].data_center,
				DATACAKE_NAME_BYTES);
	}
	count =
		selector_now(candidates, voters->count, dc_level_name(level), chosen);
	complaint = complain(voters, level, chosen, count);
	pfree(candidates);
	if (complaint == NULL)
		return count;
	ereport(WARNING,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("nodes that selector \"%s\" chose for level \"%s\" are "
					"not used: %s",
					selector_name, dc_level_name(level), complaint)));
	return -1;
}

int
dc_selector_choose(const DcVoters *voters, DcLevel level, uint32 *chosen)
{
	int count = selector_now != NULL ? ask_selector(voters, level, chosen) : -1;

	if (count >= 0)
		return count;
	count = 0;
	for (int i = 0; i < voters->count; i++)
	{
		if (voters->at[i].alive)
			chosen[count++] = voters->at[i].node_id;
	}
	return count;
}

/* --- in order --- */

static uint32
default_order(const DcVoters *voters, DcLevel level, uint32 *order)
{
	static uint32 turn = 0; /* processes begin anywhere */
	DcCandidate *candidates =
		palloc0(sizeof(DcCandidate) * (voters->count + 1));
	uint32 count;

	for (int i = 0; i < voters->count; i++)
	{
		candidates[i].centre = voters->at[i].centre;
		candidates[i].local = voters->at[i].local;
		candidates[i].alive = voters->at[i].alive;
		candidates[i].lag_us = voters->at[i].lag_us;
	}
	if (turn == 0)
		turn = pg_prng_uint32(&pg_global_prng_state);
	count = dc_choice_order(candidates, (uint32) voters->count, level,
							voters->own_centre, turn++, order);
	pfree(candidates);
	return count;
}

/* Moves a voter to the place `at` of the order; false: it is not in it. */
static bool
put_forward(const DcVoters *voters, uint32 node_id, uint32 at, uint32 *order,
			uint32 count)
{
	for (uint32 i = at; i < count; i++)
	{
		uint32 index = order[i];

		if (voters->at[index].node_id != node_id)
			continue;
		memmove(&order[at + 1], &order[at], sizeof(uint32) * (i - at));
		order[at] = index;
		return true;
	}
	return false;
}

uint32
dc_selector_order(const DcVoters *voters, DcLevel level, uint32 *order)
{
	uint32 count = default_order(voters, level, order);
	uint32 *chosen;
	uint32 at = 0;
	int picked;

	if (selector_now == NULL)
		return count;
	chosen = palloc(sizeof(uint32) * (voters->count + 1));
	picked = ask_selector(voters, level, chosen);
	for (int i = 0; i < picked; i++)
		at += put_forward(voters, chosen[i], at, order, count);
	pfree(chosen);
	return count;
}
