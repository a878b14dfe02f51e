/*
 * selector.c
 *		Whom to wait for: the choice of another extension, checked.
 */
#include "selector.h"

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

int
dc_selector_choose(const DcVoters *voters, DcLevel level, uint32 *chosen)
{
	int count = 0;

	if (selector_now != NULL)
	{
		DatacakeCandidate *candidates =
			palloc0(sizeof(DatacakeCandidate) * (voters->count + 1));
		const char *complaint;

		for (int i = 0; i < voters->count; i++)
		{
			candidates[i].node_id = voters->at[i].node_id;
			candidates[i].local = voters->at[i].local;
			candidates[i].alive = voters->at[i].alive;
			candidates[i].lag_us = voters->at[i].lag_us;
			strlcpy(candidates[i].data_center, voters->at[i].data_center,
					DATACAKE_NAME_BYTES);
		}
		count = selector_now(candidates, voters->count, dc_level_name(level),
							 chosen);
		complaint = complain(voters, level, chosen, count);
		pfree(candidates);
		if (complaint == NULL)
			return count;
		ereport(WARNING,
				(errcode(ERRCODE_EXTERNAL_ROUTINE_EXCEPTION),
				 errmsg("nodes that selector \"%s\" chose for level \"%s\" are "
						"not used: %s",
						selector_name, dc_level_name(level), complaint)));
		count = 0;
	}
	for (int i = 0; i < voters->count; i++)
	{
		if (voters->at[i].alive)
			chosen[count++] = voters->at[i].node_id;
	}
	return count;
}
