/*
 * selector.c
 *		Whom to ask and to wait for: the default, or what a selector picks.
 */
#include "selector.h"

#include "common/pg_prng.h"

#include "choice.h"
#include "guc.h"
#include "selector_sql.h"

StaticAssertDecl(DATACAKE_NAME_BYTES == DC_NAME_BYTES, "names fit");

#define SELECTORS_MAX 16

/* Selectors in C, of this process. */
static struct
{
	char name[NAMEDATALEN];
	DatacakeSelector run;
} registered[SELECTORS_MAX];

void
dc_selector_register(const char *name, DatacakeSelector selector)
{
	int at = -1;

	for (int i = SELECTORS_MAX; i-- > 0;)
	{
		if (registered[i].run == NULL && selector != NULL && at < 0)
			at = i;
	}
	for (int i = 0; i < SELECTORS_MAX; i++)
	{
		if (registered[i].run != NULL && strcmp(registered[i].name, name) == 0)
			at = i;
	}
	if (at < 0 && selector == NULL)
		return;
	if (at < 0)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("more than %d selectors are registered",
							   SELECTORS_MAX)));
	strlcpy(registered[at].name, name, sizeof(registered[at].name));
	registered[at].run = selector;
}

/* -1: it is not registered. */
static int
run_selector(const char *name, const DatacakeCandidate *candidates, int count,
			 const char *level, uint32 *chosen)
{
	int chosen_count;

	for (int i = 0; i < SELECTORS_MAX; i++)
	{
		if (registered[i].run != NULL && strcmp(registered[i].name, name) == 0)
			return Max(registered[i].run(candidates, count, level, chosen), 0);
	}
	if (!dc_selector_sql(name, candidates, count, level, chosen, &chosen_count))
		return -1;
	return chosen_count;
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

/* What datacake.selector names picks; -1: nothing that can be used. */
static int
ask_selector(const DcVoters *voters, DcLevel level, uint32 *chosen)
{
	DatacakeCandidate *candidates;
	const char *complaint;
	int count;

	if (strcmp(datacake_selector, "default") == 0)
		return -1;
	candidates = palloc0(sizeof(DatacakeCandidate) * (voters->count + 1));
	for (int i = 0; i < voters->count; i++)
	{
		candidates[i].node_id = voters->at[i].node_id;
		candidates[i].local = voters->at[i].local;
		candidates[i].alive = voters->at[i].alive;
		candidates[i].lag_us = voters->at[i].lag_us;
		strlcpy(candidates[i].data_center, voters->at[i].data_center,
				DATACAKE_NAME_BYTES);
	}
	count = run_selector(datacake_selector, candidates, voters->count,
						 dc_level_name(level), chosen);
	pfree(candidates);
	complaint = count < 0 ? "it is not registered" :
							complain(voters, level, chosen, count);
	if (complaint == NULL)
		return count;
	ereport(WARNING,
			(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
			 errmsg("nodes that selector \"%s\" chose for level \"%s\" are "
					"not used: %s",
					datacake_selector, dc_level_name(level), complaint)));
	return -1;
}

int
dc_selector_choose(const DcVoters *voters, DcLevel level, uint32 *chosen)
{
	int count = ask_selector(voters, level, chosen);

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

	chosen = palloc(sizeof(uint32) * (voters->count + 1));
	picked = ask_selector(voters, level, chosen);
	for (int i = 0; i < picked; i++)
		at += put_forward(voters, chosen[i], at, order, count);
	pfree(chosen);
	return count;
}
