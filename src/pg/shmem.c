/*
 * shmem.c
 *		Asks for and lays out what the processes of one server share.
 */
#include "shmem.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/dbcommands.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/wait_event.h"

#include "acks.h"
#include "clock.h"
#include "events.h"
#include "guc.h"
#include "heal.h"
#include "metadata.h"
#include "queue.h"
#include "spool.h"

DcShared *dc_shared;
LWLockPadded *dc_locks;

static shmem_request_hook_type prev_request_hook;
static shmem_startup_hook_type prev_startup_hook;

/* pgprocno of any process that may write: backends, workers, senders. */
static int
slot_count(void)
{
	return MaxBackends + NUM_AUXILIARY_PROCS;
}

static Size
shared_bytes(void)
{
	Size bytes = MAXALIGN(sizeof(DcShared)) + PG_CACHE_LINE_SIZE;

	bytes = add_size(bytes, mul_size(slot_count(), sizeof(DcSlot)));
	bytes = add_size(bytes, mul_size(datacake_max_nodes, sizeof(DcNode)));
	bytes = add_size(bytes, mul_size(datacake_max_nodes, sizeof(DcLinkStats)));
	return MAXALIGN(bytes) + 3 * MAXIMUM_ALIGNOF;
}

static void
request(void)
{
	if (prev_request_hook)
		prev_request_hook();
	RequestAddinShmemSpace(shared_bytes());
	RequestAddinShmemSpace(dc_metadata_bytes());
	RequestAddinShmemSpace(dc_queue_bytes());
	RequestAddinShmemSpace(dc_spool_bytes());
	RequestAddinShmemSpace(dc_acks_bytes(slot_count()));
	RequestAddinShmemSpace(dc_heal_bytes());
	RequestAddinShmemSpace(dc_events_bytes());
	RequestNamedLWLockTranche("datacake", DC_LOCK_COUNT + DC_PARTITION_LOCKS);
}

static void
init_shared(void)
{
	char *next = (char *) dc_shared + MAXALIGN(sizeof(DcShared));

	memset(dc_shared, 0, shared_bytes());
	dc_shared->slot_count = slot_count();
	dc_shared->node_count = datacake_max_nodes;
	dc_shared->slots = (DcSlot *) CACHELINEALIGN(next);
	next = (char *) (dc_shared->slots + slot_count());
	dc_shared->nodes = (DcNode *) MAXALIGN(next);
	next = (char *) (dc_shared->nodes + datacake_max_nodes);
	dc_shared->links = (DcLinkStats *) MAXALIGN(next);

	pg_atomic_init_u32(&dc_shared->phase, DC_PHASE_IDLE);
	pg_atomic_init_u32(&dc_shared->incarnation_wanted, DC_WISH_NONE);
	pg_atomic_init_u64(&dc_shared->clock_last, 0);
	pg_atomic_init_u64(&dc_shared->clock_bound, 0);
	pg_atomic_init_u64(&dc_shared->wall_offset_us, 0);
	pg_atomic_init_u64(&dc_shared->clock_drawn_at_us, 0);
	pg_atomic_init_u32(&dc_shared->quiet, 0);
	pg_atomic_init_u64(&dc_shared->clock_silent_until_us, 0);
	ConditionVariableInit(&dc_shared->clock_renewed);
	ConditionVariableInit(&dc_shared->repair_job.changed);
	ConditionVariableInit(&dc_shared->members_job.changed);
	pg_atomic_init_u64(&dc_shared->flush_lsn, 0);
	pg_atomic_init_u64(&dc_shared->watermark, 0);
	pg_atomic_init_u64(&dc_shared->vector_version, 1);
	pg_atomic_init_u64(&dc_shared->nodes_version, 1);
	pg_atomic_init_u32(&dc_shared->links_gather, 0);
	pg_atomic_init_u32(&dc_shared->standing_stale, 0);
	pg_atomic_init_u32(&dc_shared->replaces, 0);
	pg_atomic_init_u32(&dc_shared->leaving, 0);
	pg_atomic_init_u32(&dc_shared->retry_wanted, 0);
	pg_atomic_init_u64(&dc_shared->commands.done, 0);
	pg_atomic_init_u64(&dc_shared->commands.failed, 0);
	pg_atomic_init_u64(&dc_shared->horizon, 0);
	pg_atomic_init_u64(&dc_shared->horizon_durable, 0);
	pg_atomic_init_u64(&dc_shared->last_tombstone, 0);
	pg_atomic_init_u32(&dc_shared->copies_served, 0);
	pg_atomic_init_u64(&dc_shared->copy_over, 0);
	pg_atomic_init_u32(&dc_shared->copy_begun, 0);
	for (int i = 0; i < (int) DC_NODE_IDS; i++)
		pg_atomic_init_u32(&dc_shared->calls[i], 0);
	for (int i = 0; i < (int) lengthof(dc_shared->counters); i++)
		pg_atomic_init_u64(&dc_shared->counters[i], 0);
	for (int i = 0; i < slot_count(); i++)
	{
		pg_atomic_init_u64(&dc_shared->slots[i].lower_bound, 0);
		pg_atomic_init_u32(&dc_shared->slots[i].settling, 0);
	}
	dc_clock_anchor();
}

static void
startup(void)
{
	bool found;

	if (prev_startup_hook)
		prev_startup_hook();
	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	dc_locks = GetNamedLWLockTranche("datacake");
	dc_shared = ShmemInitStruct("datacake", shared_bytes(), &found);
	if (!found)
		init_shared();
	dc_metadata_attach();
	dc_queue_attach();
	dc_spool_attach();
	dc_acks_attach(slot_count());
	dc_heal_attach();
	dc_events_attach();
	LWLockRelease(AddinShmemInitLock);
}

void
dc_shmem_request(void)
{
	prev_request_hook = shmem_request_hook;
	shmem_request_hook = request;
	prev_startup_hook = shmem_startup_hook;
	shmem_startup_hook = startup;
}

bool
dc_here(void)
{
	static Oid here = InvalidOid;
	char *name;

	if (MyDatabaseId == here || !IsTransactionState())
		return true;
	name = get_database_name(MyDatabaseId);
	if (name == NULL || strcmp(name, datacake_database) != 0)
		return false;
	here = MyDatabaseId;
	return true;
}

void
dc_require_loaded(void)
{
	if (dc_shared == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("datacake is not loaded"),
				 errhint("Add \"datacake\" to \"shared_preload_libraries\" "
						 "and restart the server.")));
	if (!dc_configured())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("datacake is not configured on this server"),
				 errhint("Set \"datacake.node_id\", \"datacake.cluster_id\" "
						 "and \"datacake.cluster_key_file\", and restart "
						 "the server.")));
	if (!dc_here())
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("datacake replicates database \"%s\", not \"%s\"",
						datacake_database, get_database_name(MyDatabaseId)),
				 errhint("Use it there, or change \"datacake.database\" and "
						 "restart.")));
	if (RecoveryInProgress())
		ereport(ERROR,
				(errcode(ERRCODE_READ_ONLY_SQL_TRANSACTION),
				 errmsg("datacake does not run on a standby server"),
				 errhint("Use the primary server, or promote this one.")));
}

#define READY_WAIT_MS 30000
#define IDLE_WAIT_MS  5000 /* for the launcher, which may have complained */

static void
await_phase(DcPhase least)
{
	for (int waited = 0; dc_phase() < least; waited += 20)
	{
		if (waited >=
			(dc_phase() == DC_PHASE_IDLE ? IDLE_WAIT_MS : READY_WAIT_MS))
			ereport(ERROR,
					(errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '4')),
					 errmsg("metadata of datacake is not complete yet"),
					 errhint("Look at datacake.workers and the server log, "
							 "and try again.")));
		dc_worker_wake(DC_WORKER_LAUNCHER);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH, 20,
						 PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
}

void
dc_require_awake(void)
{
	await_phase(DC_PHASE_REBUILDING);
}

void
dc_require_ready(void)
{
	await_phase(DC_PHASE_READY);
}

const char *
dc_identity_complaint(uint32 node_id, uint64 incarnation)
{
	const char *complaint = NULL;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcNode *node = &dc_shared->nodes[i];

		if (node->node_id != 0 && node->local && node->clash)
			complaint = "Another server speaks as the called node.";
		if (node->node_id != node_id)
			continue;
		if (node->clash)
			complaint = "Two servers speak as the calling node.";
		else if (node->incarnation != incarnation)
			complaint = "The calling node is known under another "
						"incarnation.";
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return complaint;
}

bool
dc_node_alive(uint32 node_id)
{
	bool alive = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
		alive |= dc_shared->nodes[i].node_id == node_id &&
				 dc_shared->nodes[i].state == DC_NODE_ALIVE;
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return alive;
}

uint8
dc_wire_version(uint32 node_id)
{
	DcVersions own = dc_versions_own();
	DcVersions versions = own;
	uint8 common;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (dc_shared->nodes[i].node_id == node_id)
			versions = dc_versions_unpack(dc_shared->nodes[i].versions);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	common = dc_versions_common(own, versions);
	return common != 0 ? common : (uint8) own.wire; /* it is told so */
}

bool
dc_paused(uint32 node_id)
{
	bool paused;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	paused = (dc_shared->paused[node_id / 32] >> (node_id % 32)) & 1;
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return paused;
}

const char *
dc_worker_name(DcWorkerKind kind)
{
	static const char *const names[DC_WORKER_COUNT] = {
		[DC_WORKER_LAUNCHER] = "launcher",
		[DC_WORKER_GOSSIP] = "gossip",
		[DC_WORKER_REPLICATOR] = "replicator",
		[DC_WORKER_MAINTAINER] = "maintainer",
		[DC_WORKER_REPAIRER] = "repairer",
		[DC_WORKER_REGISTRAR] = "registrar",
	};

	return names[kind];
}

void
dc_worker_wake(DcWorkerKind kind)
{
	Latch *latch = dc_shared->workers[kind].latch;

	/* a stale latch is some other process's: at worst woken for nothing */
	if (latch != NULL)
		SetLatch(latch);
}

/* What this transaction has to say when it commits; NULL: nothing. */
static pg_atomic_uint32 *flags_at_commit[DC_WORKER_COUNT];

static void
on_transaction_event(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	for (int kind = 0; kind < DC_WORKER_COUNT; kind++)
	{
		pg_atomic_uint32 *flag = flags_at_commit[kind];

		flags_at_commit[kind] = NULL;
		if (flag == NULL || event == XACT_EVENT_ABORT)
			continue;
		pg_atomic_write_u32(flag, 1);
		dc_worker_wake(kind);
	}
}

void
dc_worker_wake_at_commit(DcWorkerKind kind, pg_atomic_uint32 *flag)
{
	static bool registered = false;

	if (!registered)
		RegisterXactCallback(on_transaction_event, NULL);
	registered = true;
	flags_at_commit[kind] = flag;
}
