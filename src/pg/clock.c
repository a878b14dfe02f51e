/*
 * clock.c
 *		The cluster clock of this server, and the slots of writers in flight.
 */
#include "clock.h"

#include "access/xlog.h"
#include "access/xlog_internal.h"
#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include <time.h>

#include "guc.h"
#include "rules.h"
#include "standing.h"
#include "vector.h"

#define SETTLING_MS 1 /* until a commit under way is looked at again */

/*
 * A life that may not know what an earlier one stamped is silent until its own
 * clock must have passed all that: both were within the drift of true time.
 */
void
dc_clock_be_silent(void)
{
	pg_atomic_write_u64(&dc_shared->clock_silent_until_us,
						dc_now_us() +
							(uint64) datacake_max_clock_drift_ms * 2000);
}

/* How long a draw waits for the launcher before it gives up. */
#define BOUND_WAIT_MS 30000

static uint64
monotonic_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64) t.tv_sec * 1000000 + (uint64) t.tv_nsec / 1000;
}

uint64
dc_now_us(void)
{
	return monotonic_us() + pg_atomic_read_u64(&dc_shared->wall_offset_us);
}

/*
 * The first call takes the wall clock as it is.  Later ones follow it within
 * the drift, so that slow slewing is tracked and a step is not.
 */
void
dc_clock_anchor(void)
{
	int64 wall = GetCurrentTimestamp();
	int64 step;

	if (pg_atomic_read_u64(&dc_shared->wall_offset_us) == 0)
	{
		pg_atomic_write_u64(&dc_shared->wall_offset_us,
							(uint64) wall - monotonic_us());
		return;
	}
	step = wall - (int64) dc_now_us();
	if (Abs(step) <= (int64) datacake_max_clock_drift_ms * 1000)
		pg_atomic_fetch_add_u64(&dc_shared->wall_offset_us, step);
	else
		ereport(LOG, (errmsg("wall clock stepped by %lld ms; the cluster clock "
							 "goes on steadily",
							 (long long) step / 1000)));
}

static DcHlc
draw(void)
{
	pg_atomic_uint64 *word = &dc_shared->clock_last;
	uint64 last = pg_atomic_read_u64(word);
	uint64 now = dc_now_us();
	DcHlc next;

	if (unlikely(now < pg_atomic_read_u64(&dc_shared->clock_silent_until_us)))
		return DC_HLC_NONE;
	do
	{
		next = dc_hlc_next(last, now, (uint32) datacake_node_id);
		if (next > pg_atomic_read_u64(&dc_shared->clock_bound))
			return DC_HLC_NONE;
	} while (!pg_atomic_compare_exchange_u64(word, &last, next));
	return next;
}

DcHlc
dc_clock_try_draw(void)
{
	/* tells the launcher that the clock is in use */
	pg_atomic_write_u64(&dc_shared->clock_drawn_at_us, dc_now_us());
	return draw();
}

/* Waits for the launcher until done(argument) is true. */
static void
await_launcher(bool (*done)(DcHlc *), DcHlc *argument)
{
	TimestampTz give_up =
		GetCurrentTimestamp() + (TimestampTz) BOUND_WAIT_MS * 1000;

	ConditionVariablePrepareToSleep(&dc_shared->clock_renewed);
	while (!done(argument))
	{
		dc_worker_wake(DC_WORKER_LAUNCHER);
		ConditionVariableTimedSleep(&dc_shared->clock_renewed, 100,
									PG_WAIT_EXTENSION);
		if (dc_now_us() < pg_atomic_read_u64(&dc_shared->clock_silent_until_us))
			give_up =
				GetCurrentTimestamp() + (TimestampTz) BOUND_WAIT_MS * 1000;
		if (GetCurrentTimestamp() > give_up)
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("cluster clock is not available"),
					 errdetail("Its durable bound was not renewed within %d s.",
							   BOUND_WAIT_MS / 1000),
					 errhint("Look for the datacake launcher in the server "
							 "log and in datacake.workers.")));
	}
	ConditionVariableCancelSleep();
}

static bool
drawn(DcHlc *stamp)
{
	return (*stamp = dc_clock_try_draw()) != DC_HLC_NONE;
}

DcHlc
dc_clock_draw(void)
{
	DcHlc stamp;

	if (unlikely(!drawn(&stamp)))
		await_launcher(drawn, &stamp);
	return stamp;
}

static bool
bound_covers(DcHlc *stamp)
{
	pg_atomic_write_u64(&dc_shared->clock_drawn_at_us, dc_now_us());
	return pg_atomic_read_u64(&dc_shared->clock_bound) >= *stamp;
}

void
dc_clock_await_bound(DcHlc stamp)
{
	if (unlikely(!bound_covers(&stamp)))
		await_launcher(bound_covers, &stamp);
}

/*
 * The insert position stands behind the header of a page that has no record
 * yet; that header cannot be flushed.
 */
void
dc_flush_all(void)
{
	XLogRecPtr end = GetXLogInsertRecPtr();

	if (XLogSegmentOffset(end, wal_segment_size) == SizeOfXLogLongPHD)
		end -= SizeOfXLogLongPHD;
	else if (end % XLOG_BLCKSZ == SizeOfXLogShortPHD)
		end -= SizeOfXLogShortPHD;
	XLogFlush(end);
}

void
dc_clock_observe(DcHlc stamp)
{
	uint64 last = pg_atomic_read_u64(&dc_shared->clock_last);

	if (stamp <= last)
		return;
	if (dc_hlc_ahead(stamp, dc_now_us(),
					 (uint64) datacake_max_clock_drift_ms * 1000))
		ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '2')),
						errmsg("stamp %s lies ahead of the clock of this node",
							   dc_hlc_out(stamp)),
						errhint("Synchronize the clocks of nodes %d and %u.",
								datacake_node_id, dc_hlc_node_id(stamp))));
	dc_raise(&dc_shared->clock_last, stamp);
}

void
dc_slot_publish(void)
{
	pg_atomic_uint64 *slot = &dc_shared->slots[MyProc->pgprocno].lower_bound;

	if (pg_atomic_read_u64(slot) != DC_HLC_NONE)
		return;
	pg_atomic_write_u64(slot, pg_atomic_read_u64(&dc_shared->clock_last));
	pg_memory_barrier(); /* R1: the slot is seen before the draw happens */
}

void
dc_slot_clear(void)
{
	pg_write_barrier(); /* what was merged is seen before the slot is empty */
	pg_atomic_write_u64(&dc_shared->slots[MyProc->pgprocno].lower_bound,
						DC_HLC_NONE);
}

/* Only this process writes its own. */
static void
turn_settling(bool odd)
{
	pg_atomic_uint32 *mark = &dc_shared->slots[MyProc->pgprocno].settling;
	uint32 value = pg_atomic_read_u32(mark);

	if (value % 2 == odd)
		return;
	pg_memory_barrier();
	pg_atomic_write_u32(mark, value + 1);
	pg_memory_barrier();
}

void
dc_settling_begin(void)
{
	turn_settling(true);
}

void
dc_settling_end(void)
{
	turn_settling(false);
}

void
dc_settling_await(void)
{
	uint32 *marks = palloc(sizeof(uint32) * (Size) dc_shared->slot_count);

	pg_memory_barrier();
	for (int i = 0; i < dc_shared->slot_count; i++)
		marks[i] = pg_atomic_read_u32(&dc_shared->slots[i].settling);
	for (int i = 0; i < dc_shared->slot_count; i++)
	{
		while (marks[i] % 2 == 1 &&
			   pg_atomic_read_u32(&dc_shared->slots[i].settling) == marks[i])
		{
			(void) WaitLatch(MyLatch,
							 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
							 SETTLING_MS, PG_WAIT_EXTENSION);
			ResetLatch(MyLatch);
			CHECK_FOR_INTERRUPTS();
		}
	}
	pg_memory_barrier();
	pfree(marks);
}

bool
dc_slots_above(DcHlc stamp)
{
	pg_memory_barrier();
	for (int i = 0; i < dc_shared->slot_count; i++)
	{
		DcHlc bound = pg_atomic_read_u64(&dc_shared->slots[i].lower_bound);

		if (bound != DC_HLC_NONE && bound <= stamp)
			return false;
	}
	return true;
}

/*
 * No stamp that is not drawn yet will be at or below it.  At the bound, which
 * is not moved for this and comes late on a busy machine, that is the last
 * stamp drawn.  Does not count as use.
 */
static DcHlc
newest(void)
{
	DcHlc last = draw();

	if (last == DC_HLC_NONE &&
		dc_now_us() >= pg_atomic_read_u64(&dc_shared->clock_silent_until_us))
		last = pg_atomic_read_u64(&dc_shared->clock_last);
	return last;
}

DcHlc
dc_watermark_publish(void)
{
	static DcHlc *copies;
	DcHlc last = newest();
	DcHlc previous = pg_atomic_read_u64(&dc_shared->watermark);
	DcHlc watermark;
	XLogRecPtr flush_to;

	if (last == DC_HLC_NONE || !dc_standing_claims())
		return previous;
	if (copies == NULL)
		copies = MemoryContextAlloc(TopMemoryContext,
									sizeof(DcHlc) * dc_shared->slot_count);
	pg_memory_barrier(); /* R2: slots are read after the clock */
	for (int i = 0; i < dc_shared->slot_count; i++)
		copies[i] = pg_atomic_read_u64(&dc_shared->slots[i].lower_bound);
	watermark = dc_rule_watermark(last, copies, (size_t) dc_shared->slot_count,
								  pg_atomic_read_u64(&dc_shared->clock_bound),
								  previous);
	pg_memory_barrier(); /* P9: L is read after the slots */
	flush_to = pg_atomic_read_u64(&dc_shared->flush_lsn);
	if (flush_to != InvalidXLogRecPtr)
		XLogFlush(flush_to);

	pg_atomic_write_u64(&dc_shared->watermark, watermark);
	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_EXCLUSIVE);
	dc_shared->vector.at[datacake_node_id] = watermark;
	dc_vector_changed();
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	return watermark;
}

char *
dc_hlc_out(DcHlc stamp)
{
	struct pg_tm tm;
	fsec_t fsec;

	if (stamp == DC_HLC_NONE)
		return pstrdup("-");
	/* without a time zone: the stamp's time is UTC */
	if (timestamp2tm((Timestamp) dc_hlc_time_us(stamp), NULL, &tm, &fsec, NULL,
					 NULL) != 0)
		return psprintf("%llu", (unsigned long long) stamp);
	return psprintf("%04d-%02d-%02d %02d:%02d:%02d.%06d+00@%u", tm.tm_year,
					tm.tm_mon, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
					(int) fsec, dc_hlc_node_id(stamp));
}
