/*
 * launcher.c
 *		Keeps the node alive: identity, clock bound, durable vector, workers.
 *
 *	 IDLE --- extension found, state loaded ---> REBUILDING --- maintainer ---> READY
 *
 * Once a second, or when somebody waits for the clock, it moves the durable
 * bound ahead (R14) and saves the version vector (P14), in one short
 * transaction; more rarely when nothing happens.  It starts the other workers
 * and starts them again when they have ended.  It never waits for anything but
 * its latch.
 */
#include "worker.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "commands/extension.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "postmaster/bgworker.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "copy_join.h"
#include "guc.h"
#include "keyspace.h"
#include "metadata.h"
#include "seal.h"
#include "sql.h"
#include "standing.h"
#include "vector.h"

extern PGDLLEXPORT void datacake_launcher_main(Datum arg);

#define ANCHOR_MS  10000
#define CLAIM_MS   10000 /* members that do not answer are not waited for */
#define RESTART_MS 1000  /* least time between two starts of a worker */
#define QUIET_MS   30000 /* after what happened last */

/* Somebody had the list locked, to change it. */
#define LIST_BUSY_MS 100

static void
fill_worker(BackgroundWorker *worker, const char *function, const char *title)
{
	memset(worker, 0, sizeof(*worker));
	worker->bgw_flags =
		BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	snprintf(worker->bgw_library_name, BGW_MAXLEN, DC_LIBRARY);
	snprintf(worker->bgw_function_name, BGW_MAXLEN, "%s", function);
	snprintf(worker->bgw_name, BGW_MAXLEN, "datacake %s", title);
	snprintf(worker->bgw_type, BGW_MAXLEN, "datacake %s", title);
}

void
dc_launcher_register(void)
{
	BackgroundWorker worker;

	if (!dc_configured())
		return;
	fill_worker(&worker, "datacake_launcher_main", "launcher");
	worker.bgw_restart_time = 1;
	RegisterBackgroundWorker(&worker);
}

/* False: it is too early to start it again. */
static bool
start_worker(DcWorkerKind kind)
{
	static TimestampTz tried_at[DC_WORKER_COUNT];
	TimestampTz now = GetCurrentTimestamp();
	char function[BGW_MAXLEN];
	BackgroundWorker worker;

	if (dc_shared->workers[kind].pid != 0)
		return true;
	if (!TimestampDifferenceExceeds(tried_at[kind], now, RESTART_MS))
		return false;
	tried_at[kind] = now;
	snprintf(function, sizeof(function), "datacake_%s_main",
			 dc_worker_name(kind));
	fill_worker(&worker, function, dc_worker_name(kind));
	worker.bgw_restart_time = BGW_NEVER_RESTART;
	worker.bgw_notify_pid = MyProcPid; /* our latch is set when it ends */
	if (!RegisterDynamicBackgroundWorker(&worker, NULL))
		ereport(WARNING,
				(errcode(ERRCODE_INSUFFICIENT_RESOURCES),
				 errmsg("could not start datacake %s", dc_worker_name(kind)),
				 errhint("Raise \"max_worker_processes\"; Datacake needs 6.")));
	return true;
}

/* All but this one; false: not yet. */
static bool
start_workers(void)
{
	bool all = true;

	for (int kind = 0; kind < DC_WORKER_COUNT; kind++)
	{
		if (kind != DC_WORKER_LAUNCHER)
			all &= start_worker((DcWorkerKind) kind);
	}
	return all;
}

static bool
extension_exists(void)
{
	bool exists;

	dc_worker_begin_transaction();
	exists = OidIsValid(get_extension_oid("datacake", true));
	dc_worker_commit();
	return exists;
}

/* Later ones are greater: time first, then chance; whatever the clock says. */
static uint64
new_incarnation(uint64 last)
{
	uint64 fresh;
	uint8 chance;

	if (!pg_strong_random(&chance, sizeof(chance)))
		elog(ERROR, "could not generate an incarnation");
	fresh = (dc_now_us() << 8 | chance) & PG_INT64_MAX;
	return Max(fresh, last + 1);
}

/* Durable first, then used.  What earlier runs lost is not lost twice. */
static void
change_incarnation(void)
{
	uint64 fresh = new_incarnation(dc_shared->incarnation);
	uint32 wish = DC_WISH_HEARD;
	const char *arguments[4];

	/* who asks from now on asks for another one */
	pg_atomic_write_u32(&dc_shared->incarnation_wanted, wish);
	dc_worker_begin_transaction();
	arguments[0] = dc_sql_number(fresh);
	arguments[1] = psprintf("%lld", (long long) GetSystemIdentifier());
	arguments[2] = dc_sql_number(GetWALInsertionTimeLine());
	arguments[3] = dc_sql_number(MyDatabaseId);
	dc_sql("UPDATE datacake.local_state SET incarnation = $1::bigint, "
		   "system_identifier = $2::bigint, timeline = $3::int, "
		   "database = $4::oid",
		   4, arguments);
	dc_standing_reincarnate(fresh);
	dc_worker_commit();
	(void) pg_atomic_compare_exchange_u32(&dc_shared->incarnation_wanted, &wish,
										  DC_WISH_NONE);
	dc_clock_be_silent();
	dc_shared->incarnation = fresh;
	dc_shared->standing.bound_at_start = DC_HLC_MAX;
	ereport(LOG, (errmsg("datacake node %d goes on as incarnation %llu",
						 datacake_node_id, (unsigned long long) fresh)));
	dc_worker_wake(DC_WORKER_GOSSIP);
	dc_worker_wake(DC_WORKER_REPLICATOR);
}

/* The row that says who this node is. */
typedef struct Identity
{
	uint64 incarnation;
	DcHlc bound;
	DcHorizon horizon;
	bool joining;
	DcMemberState before;
	DcHlc registered;
	bool counted;
	bool copied; /* by another system, in another database, or before a promotion */
} Identity;

/* "1 2 3" */
static void
read_counted(const char *text, bool *counted)
{
	char *end = NULL;

	memset(counted, 0, sizeof(bool) * DC_NODE_IDS);
	for (long id = strtol(text, &end, 10); end != text;
		 id = strtol(text, &end, 10))
	{
		if (id >= 1 && id <= (long) DC_NODE_ID_MAX)
			counted[id] = true;
		text = end;
	}
}

/* Reads, or at the first start makes it. */
static void
load_identity(Identity *identity)
{
	const char *arguments[5] = {dc_sql_number((uint64) datacake_node_id),
								dc_sql_number(new_incarnation(0)),
								psprintf("%lld",
										 (long long) GetSystemIdentifier()),
								dc_sql_number(GetWALInsertionTimeLine()),
								dc_sql_number(MyDatabaseId)};

	dc_sql("INSERT INTO datacake.local_state (node_id, incarnation, "
		   "system_identifier, timeline, database, clock_bound) "
		   "VALUES ($1::int, $2::bigint, $3::bigint, $4::int, $5::oid, '0') "
		   "ON CONFLICT (singleton) DO NOTHING",
		   5, arguments);
	if (dc_sql("SELECT node_id, incarnation, clock_bound::bigint, "
			   "horizon::bigint, joining, before, registered::bigint, counted, "
			   "pg_catalog.array_to_string(horizon_counts, ' '), "
			   "system_identifier <> $3::bigint OR timeline <> $4::int "
			   "OR database <> $5::oid "
			   "FROM datacake.local_state",
			   5, arguments) != 1)
		elog(ERROR, "datacake.local_state has no row");
	if (atoi(dc_sql_text(0, 1)) != datacake_node_id)
		ereport(FATAL,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("datacake.node_id is %d, but this database belongs to "
						"node %s",
						datacake_node_id, dc_sql_text(0, 1)),
				 errhint("Set \"datacake.node_id\" back, or DROP EXTENSION "
						 "datacake CASCADE and create it again.")));
	identity->incarnation = strtoull(dc_sql_text(0, 2), NULL, 10);
	identity->bound = strtoull(dc_sql_text(0, 3), NULL, 10);
	identity->horizon.stamp = strtoull(dc_sql_text(0, 4), NULL, 10);
	read_counted(dc_sql_text(0, 9), identity->horizon.counted);
	identity->joining = dc_sql_text(0, 5)[0] == 't';
	identity->before = (DcMemberState) atoi(dc_sql_text(0, 6));
	identity->registered = strtoull(dc_sql_text(0, 7), NULL, 10);
	identity->counted = dc_sql_text(0, 8)[0] == 't';
	identity->copied = dc_sql_text(0, 10)[0] == 't';
}

static void
start_standing(const Identity *identity, DcHlc clock)
{
	DcStanding *standing = &dc_shared->standing;

	memset(standing, 0, sizeof(*standing));
	pg_atomic_write_u32(&dc_shared->leaving, 0);
	standing->joining = identity->joining;
	standing->life = identity->joining; /* it goes on, as another one */
	standing->before = identity->before;
	standing->registered = identity->registered;
	standing->counted = identity->counted;
	standing->bound_at_start = identity->bound;
	standing->clock_at_start = clock;
	standing->claim_at_us = dc_now_us() + CLAIM_MS * 1000;
	if (identity->counted)
		dc_clock_be_silent(); /* perhaps not the past that others know */
	standing->horizon = identity->horizon;
	pg_atomic_write_u64(&dc_shared->horizon, identity->horizon.stamp);
	pg_atomic_write_u64(&dc_shared->horizon_durable, identity->horizon.stamp);
}

/*
 * After a start the clock begins at the greater of its bound and now: no
 * stamp and no watermark of an earlier run lies above.
 */
static void
wake_node(void)
{
	Identity identity;
	DcHlc clock = dc_hlc_make(dc_now_us(), (uint32) datacake_node_id);

	dc_worker_begin_transaction();
	dc_shared->local_state = dc_sql_relid("local_state");
	load_identity(&identity);
	dc_standing_found(identity.incarnation);
	dc_vector_load();
	dc_copy_load(identity.incarnation);
	dc_worker_commit();
	clock = Max(clock, identity.bound);
	dc_metadata_reset();
	dc_shared->incarnation = identity.incarnation;
	start_standing(&identity, clock);
	pg_atomic_write_u64(&dc_shared->clock_bound, identity.bound);
	dc_raise(&dc_shared->clock_last, clock);
	pg_atomic_write_u64(&dc_shared->watermark,
						dc_shared->vector.at[datacake_node_id]);
	if (identity.copied)
	{
		ereport(LOG, (errmsg("datacake node %d runs from a restored or "
							 "promoted copy",
							 datacake_node_id)));
		change_incarnation();
	}
	dc_worker_begin_transaction();
	dc_keyspace_load_all();
	dc_worker_commit();
	pg_memory_barrier();
	pg_atomic_write_u32(&dc_shared->phase, DC_PHASE_REBUILDING);
	ereport(LOG, (errmsg("datacake node %d of cluster \"%s\" starts",
						 datacake_node_id, datacake_cluster_id)));
}

/* Half of the drift: nobody may meet a stamp he would refuse. */
static uint64
lead_us(void)
{
	return (uint64) datacake_max_clock_drift_ms * 1000 / 2;
}

/* "{1,2,3}" */
static const char *
counted_text(const bool *counted)
{
	StringInfoData text;

	initStringInfo(&text);
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		if (counted[id])
			appendStringInfo(&text, "%s%u", text.len > 0 ? "," : "{", id);
	}
	appendStringInfoString(&text, text.len > 0 ? "}" : "{}");
	return text.data;
}

static void
save_local_state(DcHlc bound, const DcHorizon *horizon, bool counted)
{
	static DcStatement save = {
		"UPDATE datacake.local_state SET "
		"clock_bound = greatest(clock_bound, $1::bigint::datacake.hlc), "
		"horizon_counts = CASE WHEN horizon::bigint < $2::bigint "
		"  THEN $4::integer[] ELSE horizon_counts END, "
		"horizon = greatest(horizon, $2::bigint::datacake.hlc), "
		"counted = counted OR $3::boolean "
		"WHERE incarnation = $5::bigint"};
	const char *arguments[5] = {dc_sql_number(bound),
								dc_sql_number(horizon->stamp),
								counted ? "true" : "false",
								counted_text(horizon->counted),
								dc_sql_number(dc_shared->incarnation)};

	if (dc_sql_often(&save, 5, arguments) != 1)
		elog(ERROR, "datacake.local_state belongs to another incarnation");
}

/*
 * Moves the bound by the lead; and, once in a turn, saves the vector and what
 * follows from it.
 */
static void
save_state(bool vector_too)
{
	static DcStandingUpdate update;
	static const DcHorizon none;
	DcHlc last = pg_atomic_read_u64(&dc_shared->clock_last);
	uint64 from_us = Max(dc_hlc_time_us(last), dc_now_us());
	DcHlc bound = dc_hlc_make(from_us + lead_us(), (uint32) datacake_node_id);
	bool standing_too = false;

	dc_worker_begin_transaction();
	if (vector_too)
	{
		/* the list first: no floor is above the clock of who changes it */
		standing_too = dc_standing_load(&update);
		dc_standing_prepare(&update, dc_vector_save(), standing_too);
	}
	save_local_state(bound, vector_too ? &update.horizon : &none,
					 vector_too && update.counted);
	dc_worker_commit();
	/* durable now: the bound, the vector and the horizon may be used */
	pg_atomic_write_u64(&dc_shared->clock_bound, bound);
	ConditionVariableBroadcast(&dc_shared->clock_renewed);
	if (!vector_too)
		return;
	if (!standing_too)
		pg_atomic_write_u32(&dc_shared->standing_stale, 1); /* try again */
	dc_standing_publish(&update, standing_too);
	dc_worker_wake(DC_WORKER_REPLICATOR); /* an idle watermark may move */
}

/* An unused clock gets its bound only as often as the idle watermark needs it. */
static bool
clock_in_use(void)
{
	return dc_now_us() <
		   pg_atomic_read_u64(&dc_shared->clock_drawn_at_us) + lead_us();
}

/*
 * Until the bound of a clock in use must be moved: when a third of the lead is
 * left, which is time enough for a slow disk.
 */
static long
bound_due_ms(void)
{
	uint64 bound_us =
		dc_hlc_time_us(pg_atomic_read_u64(&dc_shared->clock_bound));
	uint64 last_us = dc_hlc_time_us(pg_atomic_read_u64(&dc_shared->clock_last));
	uint64 due_us = Max(last_us, dc_now_us()) + lead_us() / 3;

	return bound_us > due_us ? (long) ((bound_us - due_us) / 1000) : 0;
}

static bool
bound_is_due(void)
{
	return clock_in_use() && bound_due_ms() == 0;
}

/* Until the next turn, if nobody wakes us. */
static long
pause_ms(void)
{
	if (pg_atomic_read_u32(&dc_shared->standing_stale) != 0)
		return LIST_BUSY_MS;
	if (!clock_in_use())
		return dc_worker_turn_ms(false);
	/* a clock ahead of the time stands still for a while: not too soon again */
	return Min(Max(bound_due_ms() + 1, (long) lead_us() / 16000),
			   dc_worker_turn_ms(false));
}

/* Another number after each commit, draw of a stamp or change of the list. */
static uint64
what_happened(void)
{
	uint64 sum =
		dc_standing_epoch() + pg_atomic_read_u64(&dc_shared->clock_drawn_at_us);

	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
		sum += pg_atomic_read_u64(&dc_keyspace(slot)->captured) +
			   pg_atomic_read_u64(&dc_keyspace(slot)->applied);
	return sum;
}

/*
 * Did nothing happen of late?  Then all look more rarely, and V, which moves
 * with the time alone, is saved and sent more rarely: each step of it costs
 * every node a flush and some messages.
 */
static void
look_for_quiet(TimestampTz now)
{
	static TimestampTz busy_at;
	static uint64 seen;
	uint64 sum = what_happened();
	bool quiet;
	bool was_quiet;

	if (sum != seen || dc_phase() != DC_PHASE_READY || dc_standing_joining())
		busy_at = now;
	seen = sum;
	quiet = TimestampDifferenceExceeds(busy_at, now, QUIET_MS);
	was_quiet = pg_atomic_exchange_u32(&dc_shared->quiet, quiet) != 0;
	if (quiet && what_happened() != seen) /* who commits now wakes us */
	{
		pg_atomic_write_u32(&dc_shared->quiet, 0);
		was_quiet = true;
		quiet = false;
	}
	for (int kind = 0; kind < DC_WORKER_COUNT && was_quiet && !quiet; kind++)
		dc_worker_wake((DcWorkerKind) kind);
}

/*
 * Is the extension there, and the one in which this node woke up?  Whoever
 * creates it anew says so, but not by COMMIT PREPARED.  Called every second: a
 * look into a cache.
 */
static bool
is_same_extension(void)
{
	bool same;

	dc_worker_begin_transaction();
	same =
		SearchSysCacheExists1(RELOID, ObjectIdGetDatum(dc_shared->local_state));
	dc_worker_commit();
	if (!same && extension_exists())
		pg_atomic_write_u32(&dc_shared->phase, DC_PHASE_IDLE);
	return same;
}

static void
serve(void)
{
	TimestampTz saved_at = 0;
	TimestampTz anchored_at = GetCurrentTimestamp();

	for (;;)
	{
		TimestampTz now = GetCurrentTimestamp();
		bool wanted =
			pg_atomic_read_u32(&dc_shared->incarnation_wanted) != DC_WISH_NONE;
		bool full;

		look_for_quiet(now);
		full = TimestampDifferenceExceeds(saved_at, now,
										  (int) dc_worker_turn_ms(false)) ||
			   pg_atomic_exchange_u32(&dc_shared->standing_stale, 0) != 0;
		if (dc_phase() == DC_PHASE_IDLE ||
			((full || wanted) && !is_same_extension()))
			return;
		if (wanted)
			change_incarnation();
		if (full || bound_is_due())
			save_state(full);
		if (full)
			saved_at = now;
		if (TimestampDifferenceExceeds(anchored_at, now, ANCHOR_MS))
		{
			dc_clock_anchor();
			anchored_at = now;
		}
		look_for_quiet(now); /* what was saved may be another list */
		dc_worker_wait(start_workers() ? pause_ms() :
										 Min(pause_ms(), RESTART_MS),
					   PG_WAIT_EXTENSION);
	}
}

/* They may hold what belongs to the extension that is gone. */
static void
end_workers(void)
{
	bool any = true;

	while (any)
	{
		any = false;
		for (int kind = 0; kind < DC_WORKER_COUNT; kind++)
		{
			pid_t pid = dc_shared->workers[kind].pid;

			if (kind == DC_WORKER_LAUNCHER || pid == 0)
				continue;
			kill(pid, SIGTERM);
			any = true;
		}
		if (any)
			dc_worker_wait(50, PG_WAIT_EXTENSION);
	}
}

/* The key file is read before anything starts; a bad one is said once. */
static bool
key_is_good(void)
{
	static bool said = false;
	char *complaint = dc_seal_complaint();

	if (complaint == NULL)
		return true;
	if (!said)
		ereport(WARNING,
				(errcode(ERRCODE_CONFIG_FILE_ERROR),
				 errmsg("datacake does not start: %s", complaint),
				 errhint("Put the cluster key into the file named by "
						 "\"datacake.cluster_key_file\", owned by the server's "
						 "user and with mode 0600.")));
	said = true;
	return false;
}

/* Without its extension the node exchanges nothing and draws no stamps. */
static void
rest(void)
{
	if (dc_phase() == DC_PHASE_IDLE)
		return;
	ereport(LOG, (errmsg("datacake was dropped; this node rests")));
	pg_atomic_write_u32(&dc_shared->phase, DC_PHASE_IDLE);
	end_workers();
}

void
datacake_launcher_main(Datum arg)
{
	dc_worker_begin(DC_WORKER_LAUNCHER, true);
	for (;;)
	{
		/* a node that is awake goes on with the key that it has */
		while (!extension_exists() ||
			   (dc_phase() == DC_PHASE_IDLE && !key_is_good()))
		{
			rest();
			dc_worker_wait(DC_TURN_MS, PG_WAIT_EXTENSION);
		}
		if (dc_phase() == DC_PHASE_IDLE)
		{
			end_workers(); /* of an extension that was there before */
			wake_node();
		}
		serve();
	}
}
