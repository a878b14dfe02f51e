/*
 * membership.c
 *		What operators ask of the member list.
 */
#include "membership.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "guc.h"
#include "standing.h"

DC_SQL_FUNCTION(datacake_join);
DC_SQL_FUNCTION(datacake_leave);
DC_SQL_FUNCTION(datacake_remove_node);
DC_SQL_FUNCTION(datacake_force_members);
DC_SQL_FUNCTION(datacake_epoch);

#define JOIN_MS 3000 /* until join() says that nobody answers */
#define LOOK_MS 10

const DcJobKind dc_members_job = {.worker = DC_WORKER_REGISTRAR,
								  .plan_bytes = sizeof(DcMembersPlan),
								  .outcome_bytes = 0};

StaticAssertDecl(sizeof(DcMembersPlan) <= sizeof(((DcJob *) NULL)->plan),
				 "a plan fits into its job");

static void
run(const DcMembersPlan *plan)
{
	DcJobEnd end;
	char none[1];

	dc_require_ready();
	if (!dc_job_run(&dc_shared->members_job, &dc_members_job, plan, none, &end))
		ereport(ERROR, (errcode(end.sqlstate), errmsg("%s", end.error),
						end.hint[0] != '\0' ? errhint("%s", end.hint) : 0));
}

static uint32
check_node_id(int32 node_id)
{
	if (node_id < 1 || node_id > (int) DC_NODE_ID_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("node id %d is out of range", node_id),
						errhint("Node ids are 1 to %d.", DC_NODE_ID_MAX)));
	return (uint32) node_id;
}

static DcMember
listed(uint32 node_id)
{
	DcMembers *list = palloc(sizeof(DcMembers));
	DcMember member;

	(void) dc_standing_members(list, NULL);
	member = dc_members_get(list, node_id);
	pfree(list);
	return member;
}

/* --- coming --- */

static void
add_seed(const char *address)
{
	bool added = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_EXCLUSIVE);
	for (int i = 0; i < DC_SEEDS && !added; i++)
	{
		if (dc_shared->seeds[i][0] != '\0' &&
			strcmp(dc_shared->seeds[i], address) != 0)
			continue;
		strlcpy(dc_shared->seeds[i], address, DC_ADDRESS_BYTES);
		added = true;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	if (!added)
		ereport(ERROR, (errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
						errmsg("there are %d seeds already", DC_SEEDS)));
}

/* Is another node alive?  *complaint: what gossip says against this one. */
static bool
hears_somebody(char complaint[DC_ERROR_BYTES])
{
	bool heard = false;

	complaint[0] = '\0';
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		const DcNode *node = &dc_shared->nodes[i];

		heard |=
			node->node_id != 0 && !node->local && node->state == DC_NODE_ALIVE;
		if (node->node_id != 0 && node->local)
			strlcpy(complaint, node->complaint, DC_ERROR_BYTES);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return heard;
}

/* Who types a wrong address, or has another key, is told. */
static void
warn_of_silence(const char *address)
{
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), JOIN_MS);
	char complaint[DC_ERROR_BYTES];

	while (!hears_somebody(complaint))
	{
		if (GetCurrentTimestamp() < deadline)
		{
			(void) WaitLatch(MyLatch,
							 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 LOOK_MS, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
			continue;
		}
		ereport(WARNING,
				(errcode(ERRCODE_CONNECTION_FAILURE),
				 errmsg("no node answers at \"%s\" yet", address),
				 complaint[0] != '\0' ? errdetail("%s.", complaint) : 0,
				 errhint("Is that the \"datacake.port\" of a node that runs, "
						 "reached by UDP?  Do \"datacake.cluster_id\", the "
						 "cluster key and the version agree?  This node goes "
						 "on trying; see datacake.nodes.complaint on both.")));
		return;
	}
}

/*
 * datacake.join('host:port', replace): another seed, kept until the next
 * start.  A node that was removed or left comes back as a new life; `replace`
 * lets a new server take over a node id that the cluster knows.
 */
Datum
datacake_join(PG_FUNCTION_ARGS)
{
	char *address = text_to_cstring(PG_GETARG_TEXT_PP(0));
	char *colon = strrchr(address, ':');
	char *end = NULL;
	long port = colon != NULL ? strtol(colon + 1, &end, 10) : 0;

	dc_require_loaded();
	if (colon == NULL || colon == address || *end != '\0' || port < 1 ||
		port > 65535 || strlen(address) >= DC_ADDRESS_BYTES)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("invalid seed \"%s\"", address),
				 errhint("Write it as host:port, with the datacake.port of "
						 "a node.")));
	add_seed(address);
	pg_atomic_write_u32(&dc_shared->replaces, PG_GETARG_BOOL(1));
	if (dc_standing_removed())
	{
		/* the cluster takes it in again, as somebody new (R13) */
		pg_atomic_write_u32(&dc_shared->leaving, 0);
		dc_standing_be_reborn();
	}
	dc_worker_wake(DC_WORKER_GOSSIP);
	dc_worker_wake(DC_WORKER_REGISTRAR);
	warn_of_silence(address);
	PG_RETURN_VOID();
}

/* --- going --- */

/* datacake.leave(): hands over what only this node has, and goes. */
Datum
datacake_leave(PG_FUNCTION_ARGS)
{
	DcMembersPlan plan = {.task = DC_MEMBERS_LEAVE};

	dc_require_loaded();
	PreventInTransactionBlock(true, "datacake.leave()");
	if (dc_standing_joining())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this node is joining the cluster"),
						errhint("Repeat it when it has caught up.")));
	run(&plan);
	PG_RETURN_VOID();
}

/* datacake.remove_node(int): a member that is gone is waited for no more. */
Datum
datacake_remove_node(PG_FUNCTION_ARGS)
{
	DcMembersPlan plan = {.task = DC_MEMBERS_REMOVE};
	DcMember member;

	dc_require_loaded();
	plan.node_id = check_node_id(PG_GETARG_INT32(0));
	dc_require_ready();
	member = listed(plan.node_id);
	if (member.state == DC_MEMBER_ABSENT || member.state == DC_MEMBER_REMOVED)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("node %u is not a member", plan.node_id),
						errhint("Look at datacake.members.")));
	if (plan.node_id == (uint32) datacake_node_id ||
		dc_node_alive(plan.node_id))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_IN_USE),
						errmsg("node %u is alive", plan.node_id),
						errhint("Use datacake.leave() on it; only a node that "
								"is gone can be removed by others.")));
	run(&plan);
	PG_RETURN_VOID();
}

/* --- when a majority is lost for good --- */

/* What somebody must write who takes the consequences. */
static char *
confirmation(void)
{
	return "the other members are stopped for good";
}

static void
read_survivors(ArrayType *array, DcMembersPlan *plan)
{
	Datum *elements;
	bool *nulls;
	int count;

	deconstruct_array(array, INT4OID, sizeof(int32), true, TYPALIGN_INT,
					  &elements, &nulls, &count);
	for (int i = 0; i < count; i++)
	{
		uint32 id = check_node_id(nulls[i] ? 0 : DatumGetInt32(elements[i]));

		plan->survivors[id / 32] |= (uint32) 1 << (id % 32);
	}
}

/*
 * datacake.force_members(int[], text): makes these nodes the only members,
 * without asking a majority (register.h says what that may lose).
 */
Datum
datacake_force_members(PG_FUNCTION_ARGS)
{
	DcMembersPlan plan = {.task = DC_MEMBERS_FORCE};
	uint32 self = (uint32) datacake_node_id;

	dc_require_loaded();
	read_survivors(PG_GETARG_ARRAYTYPE_P(0), &plan);
	if (((plan.survivors[self / 32] >> (self % 32)) & 1) == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("node %u, which this is, must be one of the "
							   "nodes that stay",
							   self)));
	if (strcmp(text_to_cstring(PG_GETARG_TEXT_PP(1)), confirmation()) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("forcing a member list must be confirmed"),
				 errdetail("What only the other members have is lost; if one "
						   "of them still runs, it and its clients go on "
						   "apart, and what they write is set aside later."),
				 errhint("Stop the other members for good, then pass '%s'.",
						 confirmation())));
	run(&plan);
	PG_RETURN_VOID();
}

/* datacake.epoch(): the number of the agreed list; NULL: none yet */
Datum
datacake_epoch(PG_FUNCTION_ARGS)
{
	DcMembers *list = palloc(sizeof(DcMembers));
	DcPosition at;

	dc_require_loaded();
	(void) dc_standing_members(list, &at);
	if (at.epoch == 0)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) at.epoch);
}
