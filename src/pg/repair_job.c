/*
 * repair_job.c
 *		datacake.repair(): asks the repairer and tells what came of it.
 */
#include "repair_job.h"

#include "access/htup_details.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/tuplestore.h"

#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "metadata.h"
#include "standing.h"

DC_SQL_FUNCTION(datacake_repair);

const DcJobKind dc_repair_job = {.worker = DC_WORKER_REPAIRER,
								 .plan_bytes = sizeof(DcRepairPlan),
								 .outcome_bytes = sizeof(DcRepairOutcome)};

static void
run_job(const DcRepairPlan *plan, DcRepairOutcome *outcome)
{
	DcJobEnd end;

	if (!dc_job_run(&dc_shared->repair_job, &dc_repair_job, plan, outcome,
					&end))
		ereport(ERROR,
				(errcode(end.sqlstate),
				 errmsg("could not compare keyspace %llu with node %u: %s",
						(unsigned long long) plan->keyspace, plan->node_id,
						end.error)));
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
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_OBJECT),
				 errmsg("node %d is not known, or is this one", (int) wanted),
				 errhint("Look at datacake.nodes.")));
	return count;
}

static int
choose_keyspaces(Oid wanted, uint64 *ids)
{
	int count = 0;

	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
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
								 .images = true,
								 .cells = true};
			DcRepairOutcome outcome;

			run_job(&plan, &outcome);
			put_row((ReturnSetInfo *) fcinfo->resultinfo, &plan, &outcome);
		}
	}
	PG_RETURN_VOID();
}
