/*
 * job.h
 *		A backend asks, a worker does: one job of a kind in shared memory.
 *
 *	 NONE --- a backend asks ---> ASKED --- worker ---> RUNS ---> DONE
 *	   ^                            |                             |
 *	   +------- it gives up --------+---- it reads the outcome ---+
 *
 * So no backend waits for a network inside its transaction, and what the
 * worker writes is in transactions of its own.  Guarded by DC_LOCK_JOBS.
 */
#ifndef DATACAKE_JOB_H
#define DATACAKE_JOB_H

#include "postgres.h"

#include "shmem.h"

/* Plan and outcome are flat structs of the job's kind. */
typedef struct DcJobKind
{
	DcWorkerKind worker;
	Size plan_bytes;
	Size outcome_bytes;
} DcJobKind;

/* How it ended. */
typedef struct DcJobEnd
{
	int sqlstate; /* 0: it went well */
	char error[DC_ERROR_BYTES];
	char hint[DC_ERROR_BYTES]; /* empty: none */
} DcJobEnd;

/*
 * A backend: has the plan carried out and waits, interruptible.  False: it
 * failed, and *end says why.
 */
extern bool dc_job_run(DcJob *job, const DcJobKind *kind, const void *plan,
					   void *outcome, DcJobEnd *end);

/* The worker: begins the job that waits, if there is one. */
extern bool dc_job_take(DcJob *job, const DcJobKind *kind, void *plan);

/* Does one wait? */
extern bool dc_job_waits(DcJob *job);

/* The worker: the job is done; NULL for `end`: it went well. */
extern void dc_job_end(DcJob *job, const DcJobKind *kind, const void *outcome,
					   const DcJobEnd *end);

/* The worker: ERROR if whoever asked for the job does not wait any more. */
extern void dc_job_check(DcJob *job);

/* The worker, at its start: a job that its predecessor began has failed. */
extern void dc_job_recover(DcJob *job);

#endif
