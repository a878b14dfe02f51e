/*
 * transaction.c
 *		The running transaction: its stamps, and what happens when it ends.
 */
#include "notes.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "clock.h"
#include "images.h"
#include "level_wait.h"
#include "memory.h"
#include "queue.h"
#include "spool.h"
#include "vector.h"

#define NOTES_MIN  8
#define STAMPS_MIN 8
#define LATE_FROM  100000 /* notes: their merge waits until the locks are gone */

DcTransaction dc_xact;

void
dc_transaction_touch(void)
{
	MemoryContext old;

	if (dc_xact.context != NULL)
		return;
	dc_memory_keep(DC_KEEP_WRITER);
	memset(&dc_xact, 0, sizeof(dc_xact));
	dc_xact.context =
		AllocSetContextCreate(TopTransactionContext, "datacake changes",
							  ALLOCSET_DEFAULT_SIZES);
	dc_arena_init(&dc_xact.keys, "datacake keys");
	dc_arena_init(&dc_xact.images, "datacake images");
	old = MemoryContextSwitchTo(dc_xact.context);
	dc_xact.capacity = NOTES_MIN;
	dc_xact.notes = palloc(sizeof(DcNote) * dc_xact.capacity);
	dc_xact.stamps = palloc(sizeof(DcHlc) * STAMPS_MIN);
	dc_xact.only_inserts = true;
	dc_xact.queued = DC_QUEUE_NONE;
	MemoryContextSwitchTo(old);
}

/* --- stamps --- */

DcHlc
dc_transaction_fresh_stamp(void)
{
	DcHlc stamp;
	int count;

	if (pg_atomic_read_u32(&dc_shared->leaving) == 1)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this node is leaving the cluster"),
						errhint("Write to another node.")));
	dc_transaction_touch();
	dc_slot_publish(); /* R1: the slot first, then the draw */
	stamp = dc_clock_draw();
	count = dc_xact.stamp_count;
	if (count >= STAMPS_MIN && (count & (count - 1)) == 0)
		dc_xact.stamps =
			repalloc_huge(dc_xact.stamps, sizeof(DcHlc) * (Size) count * 2);
	dc_xact.stamps[dc_xact.stamp_count++] = stamp;
	return stamp;
}

DcHlc
dc_transaction_stamp(void)
{
	if (dc_xact.context == NULL || dc_xact.stamp_count == 0)
		return dc_transaction_fresh_stamp();
	return dc_xact.stamps[dc_xact.stamp_count - 1];
}

bool
dc_transaction_owns(DcHlc stamp)
{
	int low = 0;
	int high = dc_xact.context == NULL ? 0 : dc_xact.stamp_count;

	while (low < high)
	{
		int middle = low + (high - low) / 2;

		if (dc_xact.stamps[middle] == stamp)
			return true;
		if (dc_xact.stamps[middle] < stamp)
			low = middle + 1;
		else
			high = middle;
	}
	return false;
}

DcHlc
dc_transaction_foreign(DcHlc stamp)
{
	return dc_transaction_owns(stamp) ? DC_HLC_NONE : stamp;
}

/* --- PRE_COMMIT: everything that can fail --- */

static void
pre_commit(void)
{
	MemoryContext old;

	if (dc_xact.context == NULL || dc_xact.count == 0)
		return;
	old = MemoryContextSwitchTo(dc_xact.context);
	if (dc_xact.captured > 0)
		dc_level_check();
	dc_notes_reduce();
	dc_notes_check_newer();
	dc_notes_reserve();
	dc_notes_reserve_queue();
	dc_images_end();
	if (dc_xact.count >= DC_MANY_INSERTS)
		dc_xact.order = palloc(sizeof(DcHashOrder));
	dc_settling_begin();
	MemoryContextSwitchTo(old);
}

static void
pre_prepare(void)
{
	if (dc_xact.context == NULL || dc_xact.count == 0)
		return;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot PREPARE a transaction that has written to a "
						   "replicated table"),
					errhint("Commit it without PREPARE TRANSACTION.")));
}

/* --- COMMIT: nothing that can fail --- */

/* Whoever decided by entries has acted, or never will (R8). */
static void
end_readings(void)
{
	for (int i = 0; i < dc_xact.reading_count; i++)
		dc_metadata_leave(dc_xact.readings[i].slot, dc_xact.readings[i].side);
	dc_xact.reading_count = 0;
}

/* Merges, publishes, and lets the watermark pass. */
static void
settle(void)
{
	dc_notes_merge();
	if (dc_xact.has_queued)
	{
		uint64 number =
			dc_queue_publish(dc_xact.queued, (uint32) dc_xact.shipped,
							 XactLastCommitEnd, dc_now_us(), dc_level_asked());

		dc_level_committed(number, dc_xact.stamps[dc_xact.stamp_count - 1]);
	}
	end_readings(); /* after the merges: keys to be mended are queued */
	dc_settling_end();
	dc_slot_clear(); /* also where the draw behind it failed */
	if (dc_xact.has_queued)
		dc_replicator_has_news(dc_level_asked());
	dc_end_quiet();
}

/*
 * A large transaction settles after its locks are gone, so that nobody waits
 * for its merge but its own client (P5); its slot holds the watermark back
 * until then.
 */
static void
at_commit(void)
{
	if (dc_xact.context != NULL)
	{
		/* before the merge: who reads an entry finds L beyond its commit */
		dc_raise(&dc_shared->flush_lsn, XactLastCommitEnd);
		dc_notes_raise_floors();
		if (dc_xact.count > LATE_FROM)
		{
			dc_xact.unsettled = true;
			return;
		}
		settle();
	}
	dc_vector_at_commit();
}

static void
at_abort(void)
{
	if (dc_xact.context != NULL)
	{
		for (int64 i = 0; i < dc_xact.count; i++)
			dc_note_give_back(&dc_xact.notes[i]);
		end_readings();
		dc_settling_end();
		if (dc_xact.queued != DC_QUEUE_NONE)
			dc_queue_abandon(dc_xact.queued);
		if (dc_xact.spool != 0)
			dc_spool_abandon(dc_xact.spool);
		dc_slot_clear();
	}
	dc_vector_at_abort();
}

/* The memory goes with TopTransactionContext. */
static void
forget(void)
{
	memset(&dc_xact, 0, sizeof(dc_xact));
	dc_xact.queued = DC_QUEUE_NONE;
	dc_images_end();
	dc_level_forget();
}

static void
on_transaction_event(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			pre_commit();
			return;
		case XACT_EVENT_PRE_PREPARE:
			pre_prepare();
			return;
		case XACT_EVENT_COMMIT:
			at_commit();
			if (dc_xact.unsettled)
				return;
			break;
		case XACT_EVENT_PREPARE: /* a stamp was drawn, nothing written */
		case XACT_EVENT_ABORT:
			at_abort();
			break;
		default:
			return;
	}
	forget();
}

static void
on_resource_release(ResourceReleasePhase phase, bool is_commit,
					bool is_top_level, void *arg)
{
	if (phase != RESOURCE_RELEASE_AFTER_LOCKS || !is_commit || !is_top_level)
		return;
	if (dc_xact.unsettled)
	{
		settle();
		dc_vector_at_commit();
		forget();
	}
	dc_level_wait(); /* P4 */
}

/*
 * A subtransaction's changes, and those of all it contained, have ids from
 * its own on, and lie at the end of the list.
 */
static void
on_subtransaction_event(SubXactEvent event, SubTransactionId subid,
						SubTransactionId parent, void *arg)
{
	if (event != SUBXACT_EVENT_ABORT_SUB)
		return;
	dc_level_subabort(subid);
	if (dc_xact.context == NULL)
		return;
	while (dc_xact.count > 0 && dc_xact.notes[dc_xact.count - 1].subid >= subid)
		dc_note_take_back();
}

void
dc_transaction_init(void)
{
	RegisterXactCallback(on_transaction_event, NULL);
	RegisterSubXactCallback(on_subtransaction_event, NULL);
	RegisterResourceReleaseCallback(on_resource_release, NULL);
}
