/*
 * repair_job.h
 *		datacake.repair() asks, the repairer does: one job in shared memory.
 *
 *	 NONE --- a backend asks ---> ASKED --- repairer ---> RUNS ---> DONE
 *	   ^                            |                                |
 *	   +------- it gives up --------+----- it reads the outcome -----+
 *
 * So no backend waits for a network inside its transaction, and rows are
 * written in transactions of their own.  Guarded by DC_LOCK_REPAIR.
 */
#ifndef DATACAKE_REPAIR_JOB_H
#define DATACAKE_REPAIR_JOB_H

#include "postgres.h"

#include "shmem.h"

/* Repairer: begins the job that waits, if there is one. */
extern bool dc_repair_job_take(DcRepairPlan *plan);

/* Does one wait? */
extern bool dc_repair_job_waits(void);

/* Repairer: the job is done; sqlstate 0 and NULL: it went well. */
extern void dc_repair_job_end(const DcRepairOutcome *outcome, int sqlstate,
							  const char *error);

/* Repairer: ERROR if whoever asked for the job does not wait any more. */
extern void dc_repair_job_check(void);

/* Repairer, at its start: a job that its predecessor began has failed. */
extern void dc_repair_job_recover(void);

#endif
