/*
 * tools.c
 *		Small SQL functions for users and operators.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "changes.h"
#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "queue.h"
#include "shmem.h"
#include "tools.h"
#include "vector.h"

DC_SQL_FUNCTION(datacake_check_database);
DC_SQL_FUNCTION(datacake_clock);
DC_SQL_FUNCTION(datacake_next_id);
DC_SQL_FUNCTION(datacake_await_stamp);
DC_SQL_FUNCTION(datacake_pause);
DC_SQL_FUNCTION(datacake_resume);
DC_SQL_FUNCTION(datacake_wait_for_nodes);

/* The extension was created anew, in this subtransaction or one above. */
static SubTransactionId created = InvalidSubTransactionId;

static void
on_transaction_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_COMMIT && created != InvalidSubTransactionId)
	{
		pg_atomic_write_u32(&dc_shared->phase, DC_PHASE_IDLE);
		dc_worker_wake(DC_WORKER_LAUNCHER);
	}
	if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT)
		created = InvalidSubTransactionId;
}

static void
on_subtransaction_event(SubXactEvent event, SubTransactionId subid,
						SubTransactionId parent, void *arg)
{
	if (event == SUBXACT_EVENT_ABORT_SUB && created >= subid)
		created = InvalidSubTransactionId;
}

/* From the install script: only the configured database can be a node. */
Datum
datacake_check_database(PG_FUNCTION_ARGS)
{
	static bool registered = false;

	dc_require_loaded();
	if (!registered)
	{
		RegisterXactCallback(on_transaction_event, NULL);
		RegisterSubXactCallback(on_subtransaction_event, NULL);
	}
	registered = true;
	created = GetCurrentSubTransactionId();
	PG_RETURN_VOID();
}

/* datacake.clock(): a stamp of this node, greater than all it has seen */
Datum
datacake_clock(PG_FUNCTION_ARGS)
{
	dc_require_loaded();
	PG_RETURN_INT64((int64) dc_clock_draw());
}

/* datacake.next_id(): a bigint that no other call in the cluster returns */
Datum
datacake_next_id(PG_FUNCTION_ARGS)
{
	dc_require_loaded();
	PG_RETURN_INT64((int64) dc_clock_draw());
}

long
dc_interval_ms(const Interval *interval)
{
	int64 us =
		interval->time +
		((int64) interval->day + (int64) interval->month * 30) * USECS_PER_DAY;

	return us < 0 ? 0 : (long) Min(us / 1000, INT_MAX);
}

DcLevel
dc_level_argument(const char *name)
{
	DcLevel level;

	if (!dc_level_parse(name, &level))
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("unknown consistency level \"%s\"", name),
						errhint("Levels are none, one, two, three, quorum, "
								"local_quorum, each_quorum and all.")));
	return level;
}

/* Waits a little for something to change; false when the time is over. */
static bool
wait_until(TimestampTz deadline)
{
	long left =
		TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	if (left <= 0)
		return false;
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 Min(left, 10), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	return true;
}

/* datacake.await_stamp(hlc, interval): true when this node has it all */
Datum
datacake_await_stamp(PG_FUNCTION_ARGS)
{
	DcHlc stamp = (DcHlc) PG_GETARG_INT64(0);
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									dc_interval_ms(PG_GETARG_INTERVAL_P(1)));
	DcVectorWait *wait = palloc0(sizeof(DcVectorWait));

	dc_require_loaded();
	while (!dc_vector_has(stamp, wait))
	{
		if (!wait_until(deadline))
			PG_RETURN_BOOL(false);
	}
	PG_RETURN_BOOL(true);
}

/* --- pause and resume --- */

static void
set_paused(FunctionCallInfo fcinfo, bool paused)
{
	int first = PG_ARGISNULL(0) ? 1 : PG_GETARG_INT32(0);
	int last = PG_ARGISNULL(0) ? (int) DC_NODE_ID_MAX : first;

	dc_require_loaded();
	if (first < 1 || last > (int) DC_NODE_ID_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("node id %d is out of range", first),
						errhint("Node ids are 1 to %d; NULL means all.",
								DC_NODE_ID_MAX)));
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_EXCLUSIVE);
	for (int id = first; id <= last; id++)
	{
		uint32 bit = (uint32) 1 << (id % 32);

		if (paused)
			dc_shared->paused[id / 32] |= bit;
		else
			dc_shared->paused[id / 32] &= ~bit;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	dc_nodes_changed();
	dc_worker_wake(DC_WORKER_REPLICATOR);
}

static bool
is_known(uint32 node_id)
{
	bool known = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
		known |= dc_shared->nodes[i].node_id == node_id;
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return known;
}

Datum
datacake_pause(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, true);
	if (!PG_ARGISNULL(0) && !is_known((uint32) PG_GETARG_INT32(0)))
		ereport(NOTICE,
				(errmsg("node %d is not known here", PG_GETARG_INT32(0)),
				 errdetail("The exchange with it is stopped once it is "
						   "there.")));
	PG_RETURN_VOID();
}

Datum
datacake_resume(PG_FUNCTION_ARGS)
{
	set_paused(fcinfo, false);
	PG_RETURN_VOID();
}

/* --- waiting for others --- */

/* This node is ready, and gossip lists it as who it is since its last start. */
static bool
is_up(void)
{
	bool listed = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
		listed |= dc_shared->nodes[i].local &&
				  dc_shared->nodes[i].incarnation == dc_shared->incarnation;
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return listed && dc_phase() == DC_PHASE_READY;
}

/* Nodes that are alive; of the others only those with links both ways. */
static int
connected_nodes(void)
{
	int n = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcLinkStats *link = &dc_shared->links[i];

		if (link->node_id != 0 && link->phase == DC_LINK_STREAM &&
			dc_shared->incoming[link->node_id] > 0)
			n++;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
	return n + (is_up() ? 1 : 0);
}

/* datacake.wait_for_nodes(n, timeout) */
Datum
datacake_wait_for_nodes(PG_FUNCTION_ARGS)
{
	int wanted = PG_GETARG_INT32(0);
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									dc_interval_ms(PG_GETARG_INTERVAL_P(1)));

	dc_require_loaded();
	while (connected_nodes() < wanted)
	{
		if (!wait_until(deadline))
			ereport(ERROR,
					(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
					 errmsg("only %d of %d nodes are connected",
							connected_nodes(), wanted),
					 errhint("Look at datacake.nodes and at last_error in "
							 "datacake.peers.")));
	}
	PG_RETURN_VOID();
}
