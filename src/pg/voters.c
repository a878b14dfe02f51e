/*
 * voters.c
 *		The members whose words count for a consistency level.
 */
#include "voters.h"

#include "guc.h"
#include "standing.h"

static void
take_present(DcVoters *voters, const DcMembers *list)
{
	for (uint32 i = 0; i < list->count; i++)
	{
		DcVoter *voter = &voters->at[voters->count];

		if (list->at[i].state != DC_MEMBER_PRESENT)
			continue;
		voter->node_id = list->at[i].node_id;
		voter->local = voter->node_id == (uint32) datacake_node_id;
		voter->lag_us = -1;
		voters->count++;
	}
}

static void
describe(DcVoter *voter)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		const DcNode *node = &dc_shared->nodes[i];

		if (node->node_id != voter->node_id)
			continue;
		voter->alive =
			node->state == DC_NODE_ALIVE || node->state == DC_NODE_SUSPECT;
		strlcpy(voter->data_center, node->data_center, DC_NAME_BYTES);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		const DcLinkStats *link = &dc_shared->links[i];

		if (link->node_id == voter->node_id && link->lag_last_us > 0)
			voter->lag_us = (int64) link->lag_last_us;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

static void
number_centres(DcVoters *voters)
{
	uint32 centres = 0;

	for (int i = 0; i < voters->count; i++)
	{
		DcVoter *voter = &voters->at[i];
		int like = 0;

		while (strcmp(voters->at[like].data_center, voter->data_center) != 0)
			like++;
		voter->centre = like < i ? voters->at[like].centre : centres++;
	}
}

DcVoters *
dc_voters_read(void)
{
	DcMembers *list = palloc(sizeof(DcMembers));
	DcVoters *voters;
	bool own = false;
	uint64 epoch = dc_standing_members(list, NULL);

	voters =
		palloc0(offsetof(DcVoters, at) + sizeof(DcVoter) * (list->count + 1));
	voters->epoch = epoch;
	take_present(voters, list);
	pfree(list);
	for (int i = 0; i < voters->count; i++)
		describe(&voters->at[i]);
	number_centres(voters);
	for (int i = 0; i < voters->count; i++)
	{
		dc_tally_add(&voters->all, voters->at[i].centre);
		if (voters->at[i].data_center[0] == '\0')
			voters->unplaced++;
		if (!voters->at[i].local)
			continue;
		own = true;
		voters->own_centre = voters->at[i].centre;
	}
	return own ? voters : NULL;
}

void
dc_voters_needs(const DcVoters *voters, DcLevel level, DcTally *needs)
{
	dc_level_needs(level, &voters->all, voters->own_centre, needs);
	if (level == DC_LEVEL_LOCAL_QUORUM)
		needs->in[voters->own_centre] =
			(voters->all.in[voters->own_centre] + voters->unplaced) / 2 + 1;
}

DcVoters *
dc_voters_list(void)
{
	DcVoters *voters = dc_voters_read();

	if (voters == NULL)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this node is not a member of the cluster"),
						errhint("Look at datacake.members.")));
	return voters;
}
