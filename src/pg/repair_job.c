/*
 * repair_job.c
 *		datacake.repair() asks, the repairer does: one job in shared memory.
 */
#include "repair_job.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "metadata.h"
#include "standing.h"

DC_SQL_FUNCTION(datacake_repair);

static DcRepairJob *
job(void)
{
	return &dc_shared->repair_job;
}

static void
lock(void)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_REPAIR), LW_EXCLUSIVE);
}

static void
unlock(void)
{
	LWLockRelease(DC_LOCK(DC_LOCK_REPAIR));
}

/* --- the repairer's side --- */

bool
dc_repair_job_take(DcRepairPlan *plan)
{
	bool any;

	lock();
	any = job()->state == DC_JOB_ASKED;
	if (any)
	{
		*plan = job()->plan;
		job()->state = DC_JOB_RUNS;
	}
	unlock();
	return any;
}

bool
dc_repair_job_waits(void)
{
	bool waits;

	lock();
	waits = job()->state == DC_JOB_ASKED;
	unlock();
	return waits;
}

void
dc_repair_job_end(const DcRepairOutcome *outcome, int sqlstate,
				  const char *error)
{
	lock();
	job()->state = job()->abandoned ? DC_JOB_NONE : DC_JOB_DONE;
	job()->outcome = *outcome;
	job()->sqlstate = sqlstate;
	strlcpy(job()->error, error != NULL ? error : "", sizeof(job()->error));
	unlock();
	ConditionVariableBroadcast(&job()->changed);
}

void
dc_repair_job_check(void)
{
	bool abandoned;

	lock();
	abandoned = job()->abandoned;
	unlock();
	if (abandoned)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("repair was canceled")));
}

void
dc_repair_job_recover(void)
{
	DcRepairOutcome none = {0};
	bool left;

	lock();
	left = job()->state == DC_JOB_RUNS;
	unlock();
	if (left)
		dc_repair_job_end(&none, ERRCODE_INTERNAL_ERROR,
						  "the repairer ended; look at the server log");
}

/* --- the asking side --- */

/* Between taking the job's place and reading its outcome. */
static void
give_up(int code, Datum arg)
{
	lock();
	if (job()->state == DC_JOB_RUNS)
		job()->abandoned = true;
	else
		job()->state = DC_JOB_NONE;
	unlock();
	ConditionVariableBroadcast(&job()->changed);
}

static bool
try_ask(const DcRepairPlan *plan)
{
	bool mine;

	lock();
	mine = job()->state == DC_JOB_NONE;
	if (mine)
	{
		job()->state = DC_JOB_ASKED;
		job()->abandoned = false;
		job()->plan = *plan;
	}
	unlock();
	return mine;
}

static bool
is_done(void)
{
	bool done;

	lock();
	done = job()->state == DC_JOB_DONE;
	unlock();
	return done;
}

/* The previous asker gave up and its job has ended since, or still runs. */
static void
sleep_a_while(void)
{
	dc_worker_wake(DC_WORKER_REPAIRER);
	(void) ConditionVariableTimedSleep(&job()->changed, 200, PG_WAIT_EXTENSION);
	CHECK_FOR_INTERRUPTS();
}

static void
run_job(const DcRepairPlan *plan, DcRepairOutcome *outcome)
{
	int sqlstate;
	char error[DC_ERROR_BYTES];

	ConditionVariablePrepareToSleep(&job()->changed);
	while (!try_ask(plan))
		sleep_a_while();
	PG_ENSURE_ERROR_CLEANUP(give_up, (Datum) 0);
	{
		while (!is_done())
			sleep_a_while();
		*outcome = job()->outcome;
		sqlstate = job()->sqlstate;
		strlcpy(error, job()->error, sizeof(error));
	}
	PG_END_ENSURE_ERROR_CLEANUP(give_up, (Datum) 0);
	give_up(0, (Datum) 0);
	ConditionVariableCancelSleep();
	if (sqlstate != 0)
		ereport(ERROR,
				(errcode(sqlstate),
				 errmsg("could not compare keyspace %llu with node %u: %s",
						(unsigned long long) plan->keyspace, plan->node_id,
						error)));
}

static void
put_row(ReturnSetInfo *result, const DcRepairPlan *plan,
		const DcRepairOutcome *o)
{
	int slot = dc_keyspace_by_id(plan->keyspace);
	Oid relid = slot >= 0 ? dc_keyspace(slot)->relid : InvalidOid;
	const uint64 numbers[] = {o->differing,  o->fetched,       o->pushed,
							  o->kept,       o->in_flight,     o->scrubbed,
							  o->mended,     o->lost,          o->images,
							  o->sent_bytes, o->received_bytes};
	Datum values[lengthof(numbers) + 4];
	bool nulls[lengthof(numbers) + 4] = {false};
	int n = 0;

	nulls[n] = !OidIsValid(relid);
	values[n++] = ObjectIdGetDatum(relid);
	values[n++] = Int32GetDatum((int32) plan->node_id);
	for (int i = 0; i < (int) lengthof(numbers); i++)
		values[n++] = Int64GetDatum((int64) numbers[i]);
	values[n++] = Int32GetDatum((int32) o->round_trips);
	values[n++] = Float8GetDatum((double) o->elapsed_us / 1000);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

/* Live peers; or the one that is asked for. */
static int
choose_nodes(uint32 wanted, uint32 *nodes)
{
	int count = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcNode *node = &dc_shared->nodes[i];

		if (node->node_id == 0 || node->local ||
			(wanted != 0 && node->node_id != wanted))
			continue;
		if (wanted != 0 || node->state == DC_NODE_ALIVE ||
			node->state == DC_NODE_SUSPECT)
			nodes[count++] = node->node_id;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	if (wanted != 0 && count == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("node %u is not known", wanted),
						errhint("Look at datacake.nodes.")));
	return count;
}

static int
choose_keyspaces(Oid wanted, uint64 *ids)
{
	int count = 0;

	for (int slot = 0; slot < datacake_max_keyspaces; slot++)
	{
		DcKeyspace *keyspace = dc_keyspace(slot);

		if (keyspace->id == 0 || keyspace->id == UINT64_MAX ||
			(OidIsValid(wanted) && keyspace->relid != wanted))
			continue;
		ids[count++] = keyspace->id;
	}
	if (OidIsValid(wanted) && count == 0)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("table \"%s\" is not replicated",
						get_rel_name(wanted) != NULL ? get_rel_name(wanted) :
													   "?")));
	return count;
}

/*
 * datacake.repair(relation, node_id): one row for each keyspace and node;
 * without a live peer the table is compared with its metadata only.
 */
Datum
datacake_repair(PG_FUNCTION_ARGS)
{
	Oid relid = PG_ARGISNULL(0) ? InvalidOid : PG_GETARG_OID(0);
	uint32 wanted = PG_ARGISNULL(1) ? 0 : (uint32) PG_GETARG_INT32(1);
	uint32 *nodes;
	uint64 *ids;
	int node_count;
	int id_count;

	dc_require_loaded();
	dc_require_ready();
	if (dc_standing_joining())
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this node is joining the cluster"),
						errhint("Repeat it when it has caught up.")));
	InitMaterializedSRF(fcinfo, 0);
	nodes = palloc(sizeof(uint32) * (dc_shared->node_count + 1));
	ids = palloc(sizeof(uint64) * datacake_max_keyspaces);
	node_count = choose_nodes(wanted, nodes);
	id_count = choose_keyspaces(relid, ids);
	if (node_count == 0)
		nodes[node_count++] = 0;
	for (int k = 0; k < id_count; k++)
	{
		for (int i = 0; i < node_count; i++)
		{
			DcRepairPlan plan = {.keyspace = ids[k],
								 .node_id = nodes[i],
								 .scrub = true,
								 .images = true};
			DcRepairOutcome outcome;

			run_job(&plan, &outcome);
			put_row((ReturnSetInfo *) fcinfo->resultinfo, &plan, &outcome);
		}
	}
	PG_RETURN_VOID();
}
