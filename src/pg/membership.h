/*
 * membership.h
 *		What operators ask of the member list, and the registrar does.
 */
#ifndef DATACAKE_MEMBERSHIP_H
#define DATACAKE_MEMBERSHIP_H

#include "postgres.h"

#include "job.h"

typedef enum DcMembersTask
{
	DC_MEMBERS_REMOVE, /* node_id */
	DC_MEMBERS_LEAVE,
	DC_MEMBERS_FORCE,  /* survivors */
	DC_MEMBERS_COMMAND /* number, command */
} DcMembersTask;

typedef struct DcMembersPlan
{
	DcMembersTask task;
	uint32 node_id;
	uint32 survivors[DC_NODE_IDS / 32]; /* bit per node */
	uint64 number;
	DcHlc command;
} DcMembersPlan;

/* DcMembersPlan, no outcome but how it ended; done by the registrar. */
extern const DcJobKind dc_members_job;

#endif
