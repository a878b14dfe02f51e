/*
 * link_catchup.c
 *		The catch-up of a link: when it is owed, its chunks, its end.
 */
#include "link_catchup.h"

#include "miscadmin.h"
#include "utils/memutils.h"

#include "link_stats.h"
#include "link_wire.h"
#include "progress.h"
#include "queue.h"
#include "standing.h"
#include "vector.h"

#define LATER_MS 50 /* until a locked table is tried again */

/* Sources that the peer does not get from themselves (R6). */
void
dc_link_note_incoming(DcLink *link, const bool incoming[DC_NODE_IDS])
{
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
		link->covered[id] = !incoming[id] && id != link->node_id &&
							id != (uint32) datacake_node_id;
}

/*
 * A source that streams neither to the peer nor to us may have sent one of us
 * more than its last watermark says.  Nothing else will bring that across, so
 * each such silence is answered by one catch-up.
 */
bool
dc_link_relay_is_owed(DcLink *link)
{
	bool owed = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_SHARED);
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		bool silent = link->covered[id] && dc_shared->incoming[id] == 0 &&
					  dc_shared->vector.at[id] != DC_HLC_NONE;

		owed |= silent && !link->relayed[id];
		link->relayed[id] = silent;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	return owed;
}

/* P15: the calls up to the mark were acknowledged before the link broke. */
static bool
resume_catchup(DcLink *link)
{
	if (link->catchup == NULL)
		return false;
	if (link->catchup_incarnation == link->incarnation &&
		dc_stream_catchup_resume(&link->stream))
	{
		dc_catchup_resume(link->catchup, &link->acked_mark);
		return true;
	}
	dc_catchup_end(link->catchup);
	link->catchup = NULL;
	return false;
}

/*
 * A joiner is sent everything, its own past as well.  What fenced nodes wrote
 * every survivor sends to every other, after it has fenced them (R11).
 */
static void
cover_all_that_is_needed(DcLink *link)
{
	DcMembers *list = MemoryContextAlloc(link->scratch, sizeof(DcMembers));

	link->begun_epoch = dc_standing_members(list, NULL);
	for (uint32 id = 1; link->peer_joins && id < DC_NODE_IDS; id++)
		link->covered[id] = id != (uint32) datacake_node_id;
	for (uint32 i = 0; i < list->count; i++)
	{
		if (list->at[i].state == DC_MEMBER_FENCED)
			link->covered[list->at[i].node_id] = true;
	}
}

void
dc_link_begin_catchup(DcLink *link)
{
	DcVv *above;
	DcVv *own = MemoryContextAlloc(link->scratch, sizeof(DcVv));
	DcLinkStats *stats;

	dc_link_set_phase(link, DC_LINK_CATCHUP, NULL);
	if (resume_catchup(link))
		return;
	cover_all_that_is_needed(link);
	above = MemoryContextAlloc(link->scratch, sizeof(DcVv));
	/* before the vector: what is published by now was merged by now */
	link->catchup_head = dc_queue_head();
	if (link->debts == NULL)
		link->debts = MemoryContextAlloc(link->context, sizeof(DcDebts));
	dc_vector_read_debts(own, link->debts);
	link->partial = dc_standing_joining();
	if (link->partial)
		link->catchup_head = 0; /* nothing of its own takes part */
	dc_stream_catchup_begin(&link->stream, own, link->covered,
							link->partial ? 0 : (uint32) datacake_node_id);
	for (uint32 id = 0; id < DC_NODE_IDS; id++)
		above->at[id] =
			link->stream.covered[id] ? link->stream.base.at[id] : DC_HLC_MAX;
	link->catchup = dc_catchup_begin(link->context, above, &link->stream.base);
	link->catchup_number++;
	link->catchup_incarnation = link->incarnation;
	memset(&link->acked_mark, 0, sizeof(link->acked_mark));
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = dc_link_stats(link->node_id);
	if (stats != NULL)
	{
		stats->catchups++;
		dc_progress_begin(&stats->catchup, link->node_id, "sending changes");
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

/* What this node may not have, and what it left to third nodes. */
static void
add_debts(DcLink *link)
{
	DcVv *none = MemoryContextAllocZero(link->scratch, sizeof(DcVv));

	link->handed_on = !dc_debts_settled(link->debts, none);
	dc_debts_leave(link->debts, (uint32) datacake_node_id,
				   dc_catchup_left(link->catchup));
}

static void
append_adopt(DcLink *link, DcWriter *w)
{
	DcHorizon *horizon = MemoryContextAlloc(link->scratch, sizeof(DcHorizon));

	dc_standing_horizon(horizon);
	dc_call_adopt(w, &link->stream.base, &link->stream.donor, link->debts,
				  horizon);
}

/*
 * The closing message follows the last chunk in the same session.  The peer
 * refuses whatever comes after a call that failed, so it counts only if all
 * chunks did.
 */
static void
end_catchup(DcLink *link, StringInfo call, DcLinkMessage *draft)
{
	uint8 *bytes;
	DcWriter w;

	add_debts(link);
	dc_writer_init(&w, NULL, 0);
	append_adopt(link, &w);
	bytes = MemoryContextAlloc(link->scratch, w.length);
	dc_writer_init(&w, bytes, w.length);
	append_adopt(link, &w);
	appendBinaryStringInfo(call, (char *) bytes, (int) w.length);
	draft->closes = link->begun_epoch;
	if (link->catchup_head != 0)
	{
		draft->ends = link->catchup_number;
		dc_acked_catchup_sent(&link->acked, link->catchup_number,
							  link->catchup_head);
	}
	link->peer_joins = false;
	dc_stream_catchup_end(&link->stream, (uint32) datacake_node_id);
	dc_catchup_end(link->catchup);
	link->catchup = NULL;
	dc_link_set_phase(link, DC_LINK_STREAM, NULL);
}

void
dc_link_send_catchup(DcLink *link)
{
	StringInfoData call;
	DcLinkMessage draft = {0};
	DcCatchupResult result;

	dc_link_begin_call(link, &call);
	dc_stream_message_sent(&link->stream, true);
	result = dc_catchup_next(link->catchup, &call, &draft.rows);
	if (result == DC_CATCHUP_LATER)
	{
		link->later_at =
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LATER_MS);
		return;
	}
	if (result == DC_CATCHUP_END)
		end_catchup(link, &call, &draft);
	else if (draft.rows == 0)
		return;
	else
	{
		draft.catchup = link->catchup_number;
		draft.mark = dc_catchup_mark(link->catchup);
	}
	dc_link_send(link, &call, &draft, true);
}
