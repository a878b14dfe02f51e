/*
 * repair_job.h
 *		datacake.repair(): asks the repairer and tells what came of it.
 */
#ifndef DATACAKE_REPAIR_JOB_H
#define DATACAKE_REPAIR_JOB_H

#include "postgres.h"

#include "job.h"

/* DcRepairPlan and DcRepairOutcome, done by the repairer. */
extern const DcJobKind dc_repair_job;

#endif
