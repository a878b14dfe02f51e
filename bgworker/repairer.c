/*
 * repairer.c
 *		Compares this node with the others, one at a time.
 *
 * Jobs of datacake.repair() come first, then keys that readers found stale.
 * By itself, each datacake.repair_interval, it compares all keyspaces with one
 * peer, another one each time.  Entries cost what differs.  Reading tables costs
 * what exists: scrub and images are due for a keyspace after a hundred times the
 * time that the last ones took, so they take at most a hundredth of it, and
 * not before six intervals.
 *
 * A repair that fails says so and is tried again in its turn; the worker
 * itself ends only by what ends any of them.
 */
#include "worker.h"

#include "access/xact.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "copy_join.h"
#include "guc.h"
#include "heal.h"
#include "metadata.h"
#include "rejoin.h"
#include "repair_job.h"
#include "repair_run.h"
#include "sql.h"
#include "standing.h"

extern PGDLLEXPORT void datacake_repairer_main(Datum arg);

#define PAUSE_MS    20  /* between two keyspaces */
#define PACE_MS     5   /* between messages, and pieces of a table */
#define SCRUB_SHARE 100 /* of the time that reading a table took */

/* When tables are read again; by slot of the keyspace. */
static TimestampTz *scrub_due;

static void
check_job(void)
{
	dc_worker_check();
	dc_job_check(&dc_shared->repair_job);
}

static bool
background_wanted(void)
{
	return datacake_repair_interval_s > 0 && dc_phase() == DC_PHASE_READY &&
		   !dc_standing_joining();
}

/* Called after each message and each 8 MB of a table: paces, too. */
static void
check_background(void)
{
	dc_worker_wait(PACE_MS, PG_WAIT_EXTENSION);
	if (!background_wanted() || dc_job_waits(&dc_shared->repair_job))
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED), errmsg("repair makes room")));
}

static void
note(const DcRepairOutcome *outcome)
{
	dc_worker_begin_transaction();
	dc_repair_note(outcome);
	dc_worker_commit();
}

/* Runs a plan; an error is put into *error (palloc'd), NULL: none. */
static void
run(const DcRepairPlan *plan, DcRepairOutcome *outcome, void (*check)(void),
	ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;

	*error = NULL;
	PG_TRY();
	{
		dc_repair_run(plan, outcome, check);
		if (plan->node_id != 0)
			note(outcome);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		dc_transaction_abort();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
}

static void
end_job(const DcRepairOutcome *outcome, ErrorData *error)
{
	DcJobEnd end = {0};

	if (error != NULL)
	{
		end.sqlstate = error->sqlerrcode;
		strlcpy(end.error, error->message, sizeof(end.error));
		FreeErrorData(error);
	}
	dc_job_end(&dc_shared->repair_job, &dc_repair_job, outcome, &end);
}

static void
serve_jobs(void)
{
	DcRepairPlan plan;
	DcRepairOutcome outcome;
	ErrorData *error;

	while (dc_job_take(&dc_shared->repair_job, &dc_repair_job, &plan))
	{
		memset(&outcome, 0, sizeof(outcome));
		run(&plan, &outcome, check_job, &error);
		end_job(&outcome, error);
		dc_worker_check();
	}
}

/* --- what readers found stale --- */

static bool
try_heal(const DcHeal *heal, const DcKeyList *keys, ErrorData **error)
{
	MemoryContext context = CurrentMemoryContext;
	DcRepairPlan plan = {.keyspace = heal->keyspace, .node_id = heal->node_id};
	DcRepairOutcome outcome;

	*error = NULL;
	PG_TRY();
	{
		dc_repair_keys(&plan, keys, heal->fetch, &outcome, dc_worker_check);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(context);
		*error = CopyErrorData();
		FlushErrorState();
		dc_transaction_abort();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	return *error == NULL;
}

static void
serve_heals(void)
{
	DcKeyList keys;
	DcHeal heal;
	ErrorData *error;

	if (dc_phase() != DC_PHASE_READY || dc_standing_joining())
		return;
	dc_key_list_init(&keys, CurrentMemoryContext);
	while (dc_heal_take(&heal, &keys))
	{
		if (!try_heal(&heal, &keys, &error))
		{
			ereport(LOG,
					(errmsg("%u stale keys of keyspace %llu were not mended "
							"with node %u: %s",
							keys.count, (unsigned long long) heal.keyspace,
							heal.node_id, error->message)));
			FreeErrorData(error);
		}
		dc_key_list_clear(&keys);
		dc_worker_check();
	}
}

/* The live peer that follows this one; 0: there is none. */
static uint32
next_peer(uint32 after)
{
	uint32 first = 0;
	uint32 next = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcNode *node = &dc_shared->nodes[i];
		uint32 id = node->node_id;

		if (id == 0 || node->local || node->state != DC_NODE_ALIVE ||
			((dc_shared->paused[id / 32] >> (id % 32)) & 1))
			continue;
		if (first == 0 || id < first)
			first = id;
		if (id > after && (next == 0 || id < next))
			next = id;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return next != 0 ? next : first;
}

static bool
scrub_is_due(int slot)
{
	return GetCurrentTimestamp() >= scrub_due[slot];
}

static void
put_scrub_off(int slot, const DcRepairOutcome *outcome)
{
	int64 pause_us = (int64) outcome->reading_us * SCRUB_SHARE;

	pause_us =
		Max(pause_us, (int64) datacake_repair_interval_s * 6 * USECS_PER_SEC);
	scrub_due[slot] = GetCurrentTimestamp() + pause_us;
}

/* All keyspaces with one peer. */
static void
make_round(uint32 peer)
{
	for (int slot = 0; slot < dc_keyspace_slots() && background_wanted();
		 slot++)
	{
		uint64 id = dc_keyspace(slot)->id;
		bool full = scrub_is_due(slot);
		DcRepairPlan plan = {.keyspace = id,
							 .node_id = peer,
							 .scrub = full,
							 .images = full,
							 .cells = !full};
		DcRepairOutcome outcome;
		ErrorData *error;

		if (id == 0 || id == UINT64_MAX)
			continue;
		memset(&outcome, 0, sizeof(outcome));
		run(&plan, &outcome, check_background, &error);
		if (error != NULL && error->sqlerrcode != ERRCODE_QUERY_CANCELED)
			ereport(LOG, (errmsg("repair with node %u ended: %s", peer,
								 error->message)));
		if (error == NULL && full)
			put_scrub_off(slot, &outcome);
		if (outcome.differing + outcome.mended + outcome.images > 0)
			ereport(LOG,
					(errmsg("repair with node %u: keyspace %llu had %llu "
							"entries that differed, %llu rows changed behind "
							"its back, %llu other images",
							peer, (unsigned long long) id,
							(unsigned long long) outcome.differing,
							(unsigned long long) outcome.mended,
							(unsigned long long) outcome.images)));
		if (error != NULL)
		{
			FreeErrorData(error);
			return;
		}
		serve_jobs();
		serve_heals();
		dc_worker_wait(PAUSE_MS, PG_WAIT_EXTENSION);
	}
}

/* --- joining --- */

static void
check_joining(void)
{
	dc_worker_check();
	if (!dc_standing_joining())
		ereport(ERROR, (errcode(ERRCODE_QUERY_CANCELED),
						errmsg("node does not join any more")));
}

/* R13, one keyspace. */
static bool
compare_with_donor(int slot, uint32 donor)
{
	DcRepairPlan plan = {.keyspace = dc_keyspace(slot)->id,
						 .node_id = donor,
						 .rejoin = true};
	DcRepairOutcome outcome = {0};
	uint64 deaths = dc_rejoin_deaths(slot, plan.keyspace, check_joining);
	ErrorData *error;

	run(&plan, &outcome, check_joining, &error);
	if (error != NULL &&
		error->sqlerrcode == MAKE_SQLSTATE('Y', 'D', '0', '2', '3'))
	{
		FreeErrorData(error);
		error = NULL;
		if (dc_keyspace_by_id(plan.keyspace) != slot)
			return true; /* it ended here */
		/* the donor knows nothing of the whole keyspace */
		outcome.rejoined = dc_rejoin_all(slot, plan.keyspace, check_joining);
	}
	if (error != NULL)
		ereport(LOG, (errmsg("joining is tried again: %s", error->message)));
	else if (deaths + outcome.rejoined + outcome.fetched > 0)
		ereport(LOG, (errmsg("joining, keyspace %llu: compared with node %u, "
							 "settled %llu rows and %llu deaths that it does "
							 "not know, took %llu from it",
							 (unsigned long long) plan.keyspace, donor,
							 (unsigned long long) outcome.rejoined,
							 (unsigned long long) deaths,
							 (unsigned long long) outcome.fetched)));
	return error == NULL;
}

/* What the donor does not know died, or is this node's alone. */
static void
join(void)
{
	uint64 life;
	bool done = true;
	uint32 donor;

	dc_copy_run(dc_worker_check);
	life = dc_standing_life();
	dc_standing_compare(false);
	if (life == 0 || !dc_standing_pulled(&donor))
		return;
	dc_standing_compare(true);
	for (int slot = 0; slot < dc_keyspace_slots() && donor != 0 && done; slot++)
	{
		uint64 id = dc_keyspace(slot)->id;

		if (id != 0 && id != UINT64_MAX)
			done = compare_with_donor(slot, donor);
	}
	if (done)
		dc_standing_joined(life, donor);
	else
		dc_standing_compare(false);
}

/* Until the next turn, if nobody wakes us; the last round was at `last`. */
static long
pause_ms(TimestampTz last)
{
	long turn_ms = dc_worker_turn_ms(false);
	long passed_ms =
		TimestampDifferenceMilliseconds(last, GetCurrentTimestamp());

	if (background_wanted())
		turn_ms = Min(turn_ms, datacake_repair_interval_s * 1000L - passed_ms);
	return Max(turn_ms, 1);
}

static void
serve(void)
{
	TimestampTz last = GetCurrentTimestamp();
	uint32 peer = 0;

	for (;;)
	{
		MemoryContext old = CurrentMemoryContext;
		MemoryContext turn =
			AllocSetContextCreate(TopMemoryContext, "datacake repairer turn",
								  ALLOCSET_DEFAULT_SIZES);

		MemoryContextSwitchTo(turn);
		join();
		serve_jobs();
		serve_heals();
		if (background_wanted() &&
			TimestampDifferenceExceeds(last, GetCurrentTimestamp(),
									   datacake_repair_interval_s * 1000))
		{
			peer = next_peer(peer);
			if (peer != 0)
				make_round(peer);
			last = GetCurrentTimestamp();
		}
		MemoryContextSwitchTo(old);
		MemoryContextDelete(turn);
		dc_worker_wait(pause_ms(last), PG_WAIT_EXTENSION);
	}
}

void
datacake_repairer_main(Datum arg)
{
	dc_worker_begin(DC_WORKER_REPAIRER, true);
	dc_set_option("session_replication_role", "replica");
	scrub_due =
		MemoryContextAllocZero(TopMemoryContext,
							   sizeof(TimestampTz) * datacake_max_keyspaces);
	dc_job_recover(&dc_shared->repair_job);
	while (dc_phase() != DC_PHASE_READY)
		dc_worker_wait(100, PG_WAIT_EXTENSION);
	serve();
}
