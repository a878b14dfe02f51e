/*
 * job.c
 *		A backend asks, a worker does: one job of a kind in shared memory.
 */
#include "job.h"

#include "miscadmin.h"
#include "storage/ipc.h"
#include "utils/wait_event.h"

static void
lock(void)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_JOBS), LW_EXCLUSIVE);
}

static void
unlock(void)
{
	LWLockRelease(DC_LOCK(DC_LOCK_JOBS));
}

static bool
is_in(DcJob *job, DcJobState state)
{
	bool yes;

	lock();
	yes = job->state == state;
	unlock();
	return yes;
}

/* --- the worker's side --- */

bool
dc_job_take(DcJob *job, const DcJobKind *kind, void *plan)
{
	bool any;

	lock();
	any = job->state == DC_JOB_ASKED;
	if (any)
	{
		memcpy(plan, job->plan, kind->plan_bytes);
		job->state = DC_JOB_RUNS;
	}
	unlock();
	return any;
}

bool
dc_job_waits(DcJob *job)
{
	return is_in(job, DC_JOB_ASKED);
}

void
dc_job_end(DcJob *job, const DcJobKind *kind, const void *outcome,
		   const DcJobEnd *end)
{
	lock();
	job->state = job->abandoned ? DC_JOB_NONE : DC_JOB_DONE;
	memcpy(job->outcome, outcome, kind->outcome_bytes);
	job->sqlstate = end != NULL ? end->sqlstate : 0;
	strlcpy(job->error, end != NULL ? end->error : "", sizeof(job->error));
	strlcpy(job->hint, end != NULL ? end->hint : "", sizeof(job->hint));
	unlock();
	ConditionVariableBroadcast(&job->changed);
}

void
dc_job_check(DcJob *job)
{
	bool abandoned;

	lock();
	abandoned = job->abandoned;
	unlock();
	if (abandoned)
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("nobody waits for the job any more")));
}

void
dc_job_recover(DcJob *job)
{
	lock();
	if (job->state == DC_JOB_RUNS)
	{
		job->state = job->abandoned ? DC_JOB_NONE : DC_JOB_DONE;
		job->sqlstate = ERRCODE_INTERNAL_ERROR;
		strlcpy(job->error, "the worker ended", sizeof(job->error));
		strlcpy(job->hint, "Look at the server log.", sizeof(job->hint));
	}
	unlock();
	ConditionVariableBroadcast(&job->changed);
}

/* --- the asking side --- */

static bool
try_ask(DcJob *job, const DcJobKind *kind, const void *plan)
{
	bool mine;

	lock();
	mine = job->state == DC_JOB_NONE;
	if (mine)
	{
		job->state = DC_JOB_ASKED;
		job->abandoned = false;
		memcpy(job->plan, plan, kind->plan_bytes);
	}
	unlock();
	return mine;
}

/* Between taking the job's place and reading its outcome. */
static void
give_up(int code, Datum arg)
{
	DcJob *job = (DcJob *) DatumGetPointer(arg);

	lock();
	if (job->state == DC_JOB_RUNS)
		job->abandoned = true;
	else
		job->state = DC_JOB_NONE;
	unlock();
	ConditionVariableBroadcast(&job->changed);
}

/* The previous asker gave up and its job has ended since, or still runs. */
static void
sleep_a_while(DcJob *job, const DcJobKind *kind)
{
	dc_worker_wake(kind->worker);
	(void) ConditionVariableTimedSleep(&job->changed, 200, PG_WAIT_EXTENSION);
	CHECK_FOR_INTERRUPTS();
}

bool
dc_job_run(DcJob *job, const DcJobKind *kind, const void *plan, void *outcome,
		   DcJobEnd *end)
{
	Assert(kind->plan_bytes <= sizeof(job->plan));
	Assert(kind->outcome_bytes <= sizeof(job->outcome));
	ConditionVariablePrepareToSleep(&job->changed);
	while (!try_ask(job, kind, plan))
		sleep_a_while(job, kind);
	PG_ENSURE_ERROR_CLEANUP(give_up, PointerGetDatum(job));
	{
		while (!is_in(job, DC_JOB_DONE))
			sleep_a_while(job, kind);
		memcpy(outcome, job->outcome, kind->outcome_bytes);
		end->sqlstate = job->sqlstate;
		strlcpy(end->error, job->error, sizeof(end->error));
		strlcpy(end->hint, job->hint, sizeof(end->hint));
	}
	PG_END_ENSURE_ERROR_CLEANUP(give_up, PointerGetDatum(job));
	give_up(0, PointerGetDatum(job));
	ConditionVariableCancelSleep();
	return end->sqlstate == 0;
}
