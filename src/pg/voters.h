/*
 * voters.h
 *		The members whose words count for a consistency level.
 *
 * Those present in the member list, alive or not, with what gossip and the
 * links know of them, and their data centres numbered for level.h.  A copy:
 * nothing in it changes.
 */
#ifndef DATACAKE_VOTERS_H
#define DATACAKE_VOTERS_H

#include "postgres.h"

#include "level.h"
#include "shmem.h"

typedef struct DcVoter
{
	uint32 node_id;
	bool local;
	bool alive; /* or suspect */
	uint32 centre;
	int64 lag_us; /* commit here to last ack; -1: not known */
	char data_center[DC_NAME_BYTES];
} DcVoter;

typedef struct DcVoters
{
	uint64 epoch; /* of the list they were taken from */
	DcTally all;
	uint32 own_centre;
	uint32 unplaced; /* whose data centre is not known */
	int count;
	DcVoter at[FLEXIBLE_ARRAY_MEMBER]; /* by node id */
} DcVoters;

/* Palloc'd.  NULL if this node is no member. */
extern DcVoters *dc_voters_read(void);

/*
 * What the level needs of them.  A member whose data centre is not known (it
 * was down when this server started) may stand in any: in this node's, for a
 * majority of that, or in one that nobody else stands in.
 */
extern void dc_voters_needs(const DcVoters *voters, DcLevel level,
							DcTally *needs);

/* The same, but ERROR if this node is no member. */
extern DcVoters *dc_voters_list(void);

#endif
