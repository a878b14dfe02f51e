/*
 * views.c
 *		What the processes share, as rows.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "clock.h"
#include "compat.h"
#include "events.h"
#include "guc.h"
#include "message.h"
#include "metadata.h"
#include "shmem.h"
#include "standing.h"

DC_SQL_FUNCTION(datacake_nodes);
DC_SQL_FUNCTION(datacake_peers);
DC_SQL_FUNCTION(datacake_keyspaces);
DC_SQL_FUNCTION(datacake_members);
DC_SQL_FUNCTION(datacake_horizon);
DC_SQL_FUNCTION(datacake_workers);
DC_SQL_FUNCTION(datacake_counters);

#define COLUMNS_MAX 24

/* One row under construction. */
typedef struct Row
{
	ReturnSetInfo *result;
	Datum values[COLUMNS_MAX];
	bool nulls[COLUMNS_MAX];
	int count;
} Row;

static void
begin_rows(FunctionCallInfo fcinfo, Row *row)
{
	dc_require_loaded();
	InitMaterializedSRF(fcinfo, 0);
	memset(row, 0, sizeof(*row));
	row->result = (ReturnSetInfo *) fcinfo->resultinfo;
}

static void
put(Row *row, Datum value)
{
	row->nulls[row->count] = false;
	row->values[row->count++] = value;
}

static void
put_null(Row *row)
{
	row->nulls[row->count++] = true;
}

static void
put_text(Row *row, const char *text)
{
	if (*text == '\0')
		put_null(row);
	else
		put(row, CStringGetTextDatum(text));
}

static void
put_time(Row *row, TimestampTz time)
{
	if (time == 0)
		put_null(row);
	else
		put(row, TimestampTzGetDatum(time));
}

static void
put_stamp(Row *row, DcHlc stamp)
{
	if (stamp == DC_HLC_NONE)
		put_null(row);
	else
		put(row, Int64GetDatum((int64) stamp));
}

static void
put_count(Row *row, uint64 value)
{
	put(row, Int64GetDatum((int64) value));
}

static void
end_row(Row *row)
{
	tuplestore_putvalues(row->result->setResult, row->result->setDesc,
						 row->values, row->nulls);
	row->count = 0;
}

/* A copy, so that no lock is held while rows are made. */
static void *
copy_array(const void *array, Size bytes, int lock)
{
	void *copy = palloc(bytes);

	LWLockAcquire(DC_LOCK(lock), LW_SHARED);
	memcpy(copy, array, bytes);
	LWLockRelease(DC_LOCK(lock));
	return copy;
}

/*
 * How much time of this node's own is not here yet: from what V has of it to
 * its clock when it last spoke, or, of this node, from W to the clock.
 */
static void
put_lag_of(Row *row, const DcNode *node)
{
	DcHlc taken = dc_shared->vector.at[node->node_id];
	DcHlc clock =
		node->local ? pg_atomic_read_u64(&dc_shared->clock_last) : node->clock;
	Interval *lag = palloc0(sizeof(Interval));

	if (taken == DC_HLC_NONE || clock == DC_HLC_NONE)
	{
		put_null(row);
		return;
	}
	if (clock > taken)
		lag->time =
			(TimeOffset) (dc_hlc_time_us(clock) - dc_hlc_time_us(taken));
	put(row, IntervalPGetDatum(lag));
}

/* "0.1" and "1", or "1-2" for who speaks several. */
static void
put_versions(Row *row, uint32 packed)
{
	DcVersions versions = dc_versions_unpack(packed);

	put_text(row,
			 psprintf("%u.%u", versions.release_major, versions.release_minor));
	if (versions.wire_min == versions.wire)
		put_text(row, psprintf("%u", versions.wire));
	else
		put_text(row, psprintf("%u-%u", versions.wire_min, versions.wire));
}

Datum
datacake_nodes(PG_FUNCTION_ARGS)
{
	DcNode *nodes;
	Row row;

	begin_rows(fcinfo, &row);
	nodes = copy_array(dc_shared->nodes, sizeof(DcNode) * dc_shared->node_count,
					   DC_LOCK_NODES);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcNode *node = &nodes[i];

		if (node->node_id == 0)
			continue;
		put(&row, Int32GetDatum((int32) node->node_id));
		put_text(&row, node->name);
		put_text(&row, node->data_center);
		put_text(&row, dc_event_state_name(DC_EVENT_STATE, (int) node->life));
		put(&row, BoolGetDatum(node->local));
		put_count(&row, node->incarnation);
		put_text(&row, node->address);
		put_text(&row, node->conninfo);
		put_time(&row, node->life_since);
		put_time(&row, node->heard_at);
		put(&row, Float8GetDatum(node->phi));
		put_stamp(&row, node->floor);
		put_stamp(&row, node->clock);
		put(&row, Float8GetDatum((double) node->clock_offset_us / 1000));
		put_lag_of(&row, node);
		put_versions(&row, node->versions);
		put(&row, BoolGetDatum(dc_paused(node->node_id)));
		put_text(&row, node->complaint);
		end_row(&row);
	}
	PG_RETURN_VOID();
}

/* Upper edge of the bucket that holds this share of the lags, in ms. */
static void
put_lag(Row *row, const DcLinkStats *link, double share)
{
	uint64 total = 0;
	uint64 seen = 0;

	for (int b = 0; b < DC_LAG_BUCKETS; b++)
		total += link->lag_count[b];
	if (total == 0)
	{
		put_null(row);
		return;
	}
	for (int b = 0; b < DC_LAG_BUCKETS; b++)
	{
		uint64 edge_us = UINT64CONST(1) << (b + 1);

		seen += link->lag_count[b];
		if ((double) seen >= (double) total * share)
		{
			put(row,
				Float8GetDatum((double) Min(edge_us, link->lag_max_us) / 1000));
			return;
		}
	}
}

static void
put_ms(Row *row, uint64 us)
{
	if (us == 0)
		put_null(row);
	else
		put(row, Float8GetDatum((double) us / 1000));
}

Datum
datacake_peers(PG_FUNCTION_ARGS)
{
	static const char *const phases[] = {"down", "connecting", "hello",
										 "catch-up", "streaming"};
	DcLinkStats *links;
	Row row;

	begin_rows(fcinfo, &row);
	links =
		copy_array(dc_shared->links,
				   sizeof(DcLinkStats) * dc_shared->node_count, DC_LOCK_LINKS);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcLinkStats *link = &links[i];

		if (link->node_id == 0)
			continue;
		put(&row, Int32GetDatum((int32) link->node_id));
		put_text(&row, phases[link->phase]);
		put_time(&row, link->since);
		put(&row, Int32GetDatum((int32) dc_shared->incoming[link->node_id]));
		put_stamp(&row, link->acked_watermark);
		put_stamp(&row, dc_shared->vector.at[link->node_id]);
		put_count(&row, link->queued);
		put_count(&row, link->sent_batches);
		put_count(&row, link->sent_rows);
		put_count(&row, link->sent_bytes);
		put_count(&row, link->acked_batches);
		put_count(&row, link->catchups);
		put_count(&row, link->catchup_rows);
		put_ms(&row, link->lag_last_us);
		put_lag(&row, link, 0.5);
		put_lag(&row, link, 0.99);
		put_ms(&row, link->lag_max_us);
		put_text(&row, link->last_error);
		put_time(&row, link->last_error_at);
		end_row(&row);
	}
	PG_RETURN_VOID();
}

Datum
datacake_keyspaces(PG_FUNCTION_ARGS)
{
	Row row;

	begin_rows(fcinfo, &row);
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		DcKeyspace *keyspace = dc_keyspace(slot);
		DcMetadataCounts counts;

		if (keyspace->id == 0)
			continue;
		dc_metadata_count(slot, &counts);
		put_count(&row, keyspace->id);
		if (OidIsValid(keyspace->relid))
			put(&row, ObjectIdGetDatum(keyspace->relid));
		else
			put_null(&row);
		put_count(&row, counts.live + counts.dead);
		put_count(&row, counts.live);
		put_count(&row, counts.dead);
		put_count(&row, counts.bytes);
		put_count(&row, counts.sum);
		put_count(&row, pg_atomic_read_u64(&keyspace->captured));
		put_count(&row, pg_atomic_read_u64(&keyspace->applied));
		put_count(&row, pg_atomic_read_u64(&keyspace->conflicts));
		end_row(&row);
	}
	PG_RETURN_VOID();
}

/* R11 */
static const char *
removal_waits_for(const DcMembers *list, const DcReport *reports, uint32 count)
{
	uint32 node_id = dc_members_unclosed(list, reports, count);

	return node_id == 0 ?
			   "is about to be removed" :
			   psprintf("is removed when node %u has told the others "
						"what it has of it",
						node_id);
}

/* Who is waited for, and why (R8). */
Datum
datacake_members(PG_FUNCTION_ARGS)
{
	static const char *const states[DC_MEMBER_STATES] = {"absent", "present",
														 "fenced", "removed"};
	static const char *const holds[] = {NULL, "is not heard",
										"has another member list", "joins"};
	DcMembers *list = palloc(sizeof(DcMembers));
	DcReport *reports;
	uint32 max;
	uint32 count;
	Row row;

	begin_rows(fcinfo, &row);
	max = (uint32) dc_shared->node_count + 1;
	reports = palloc(sizeof(DcReport) * max);
	(void) dc_standing_members(list, NULL);
	count = dc_standing_reports(reports, max);
	for (uint32 i = 0; i < list->count; i++)
	{
		DcMember member = list->at[i];
		DcHold hold = dc_members_hold(list, member, reports, count);
		DcHlc floor = DC_HLC_NONE;

		for (uint32 k = 0; k < count; k++)
		{
			if (reports[k].node_id == member.node_id &&
				reports[k].incarnation == member.incarnation)
				floor = reports[k].floor;
		}
		put(&row, Int32GetDatum((int32) member.node_id));
		put_text(&row, states[member.state]);
		put_count(&row, member.incarnation);
		put_stamp(&row, floor);
		if (member.state == DC_MEMBER_FENCED)
			put_text(&row, removal_waits_for(list, reports, count));
		else if (hold == DC_HOLD_NOTHING || member.state == DC_MEMBER_REMOVED)
			put_null(&row);
		else
			put_text(&row, holds[hold]);
		end_row(&row);
	}
	PG_RETURN_VOID();
}

/* datacake.horizon(): the stamp up to which deaths are forgotten, or NULL */
Datum
datacake_horizon(PG_FUNCTION_ARGS)
{
	uint64 horizon;

	dc_require_loaded();
	horizon = pg_atomic_read_u64(&dc_shared->horizon_durable);
	if (horizon == DC_HLC_NONE)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) horizon);
}

Datum
datacake_workers(PG_FUNCTION_ARGS)
{
	Row row;

	begin_rows(fcinfo, &row);
	for (int kind = 0; kind < DC_WORKER_COUNT; kind++)
	{
		DcWorker *worker = &dc_shared->workers[kind];

		put_text(&row, dc_worker_name(kind));
		if (worker->pid != 0)
			put(&row, Int32GetDatum(worker->pid));
		else
			put_null(&row);
		put_time(&row, worker->started_at);
		put(&row, Int32GetDatum((int32) worker->starts));
		end_row(&row);
	}
	PG_RETURN_VOID();
}

Datum
datacake_counters(PG_FUNCTION_ARGS)
{
	static const char *const names[DC_COUNTERS] = {
		[DC_COUNT_RECONCILED] = "rows_reconciled",
		[DC_COUNT_RECONCILE_OVERFLOWS] = "full_comparisons",
		[DC_COUNT_LOCAL_LOSSES] = "local_losses",
		[DC_COUNT_QUARANTINED] = "rows_quarantined",
		[DC_COUNT_RESTAMPED] = "rows_restamped",
		[DC_COUNT_QUEUE_OVERFLOWS] = "queue_overflows",
		[DC_COUNT_APPLIED_BATCHES] = "calls_applied",
		[DC_COUNT_STAMPS_TWICE] = "stamps_twice",
		[DC_COUNT_REPAIR_KEPT] = "repair_kept",
		[DC_COUNT_READ_QUESTIONS] = "read_questions",
		[DC_COUNT_READ_STALE] = "read_stale",
		[DC_COUNT_READ_REPLACED] = "read_replaced",
		[DC_COUNT_PURGED] = "tombstones_purged",
	};
	Row row;

	begin_rows(fcinfo, &row);
	for (int i = 0; i < DC_COUNTERS; i++)
	{
		put_text(&row, names[i]);
		put_count(&row, pg_atomic_read_u64(&dc_shared->counters[i]));
		end_row(&row);
	}
	PG_RETURN_VOID();
}
