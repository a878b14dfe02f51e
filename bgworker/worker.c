/*
 * worker.c
 *		What the background workers have in common.
 */
#include "worker.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "libpq/pqsignal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "tcop/tcopprot.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#include "apply.h"
#include "guc.h"
#include "level_wait.h"
#include "memory.h"
#include "sql.h"

static void
release_worker(int code, Datum arg)
{
	DcWorker *worker = &dc_shared->workers[DatumGetInt32(arg)];

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_EXCLUSIVE);
	if (worker->pid == MyProcPid)
	{
		worker->pid = 0;
		worker->latch = NULL;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
}

static void
claim_worker(DcWorkerKind kind)
{
	DcWorker *worker = &dc_shared->workers[kind];
	pid_t other;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_EXCLUSIVE);
	other = worker->pid;
	if (other == 0)
	{
		worker->pid = MyProcPid;
		worker->latch = MyLatch;
		worker->started_at = GetCurrentTimestamp();
		worker->starts++;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	if (other != 0)
	{
		ereport(LOG, (errmsg("datacake %s already runs as process %d",
							 dc_worker_name(kind), (int) other)));
		proc_exit(0);
	}
	before_shmem_exit(release_worker, Int32GetDatum(kind));
}

void
dc_worker_begin(DcWorkerKind kind, bool database)
{
	char title[64];

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (database)
	{
		BackgroundWorkerInitializeConnection(datacake_database, NULL, 0);
		/* whatever the defaults of server, database and role are */
		dc_set_option("default_transaction_isolation", "read committed");
		dc_set_option("default_transaction_read_only", "off");
		dc_set_option("synchronous_commit", "on");
		dc_set_option("lock_timeout", "1s");
		dc_set_option("deadlock_timeout", DC_DEADLOCK_TIMEOUT);
		dc_set_option("quote_all_identifiers", "off");
	}
	dc_level_exempt(true);
	dc_memory_keep(DC_KEEP_SERVICE);
	claim_worker(kind);
	snprintf(title, sizeof(title), "datacake %s", dc_worker_name(kind));
	pgstat_report_appname(title);
	pgstat_report_activity(STATE_IDLE, NULL);
}

void
dc_worker_check(void)
{
	CHECK_FOR_INTERRUPTS();
	if (ConfigReloadPending)
	{
		ConfigReloadPending = false;
		ProcessConfigFile(PGC_SIGHUP);
	}
}

void
dc_worker_wait(long timeout_ms, uint32 wait_event)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 timeout_ms, wait_event);
	ResetLatch(MyLatch);
	dc_worker_check();
}

long
dc_worker_turn_ms(bool open)
{
	return !open && pg_atomic_read_u32(&dc_shared->quiet) != 0 ?
			   DC_QUIET_TURN_MS :
			   DC_TURN_MS;
}

void
dc_worker_begin_transaction(void)
{
	dc_transaction_begin();
}

void
dc_worker_commit(void)
{
	dc_transaction_commit(TopMemoryContext);
	pgstat_report_stat(true);
}
