/*
 * link_flow.c
 *		What goes out on a link next, and what its acks say.
 */
#include "link_flow.h"

#include "access/xlog.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "acks.h"
#include "command.h"
#include "link_catchup.h"
#include "link_spool.h"
#include "link_stats.h"
#include "link_wire.h"
#include "queue.h"
#include "standing.h"
#include "vector.h"

#define MESSAGE_BYTES (1024 * 1024) /* a message is closed beyond this */
#define RELAY_MS      1000 /* least time between two catch-ups for relaying */

/* --- acks --- */

/* What COMMITs of this node wait for (acks.h). */
static void
count_flushed(DcLink *link, const DcLinkMessage *message)
{
	if (message->batches > 0)
		dc_acked_batches(&link->acked, message->first,
						 message->first + message->batches);
	if (message->ends != 0)
		dc_acked_catchup(&link->acked, message->ends);
	if (link->settled)
		dc_acked_settled(&link->acked);
	dc_acks_note(link->node_id, message->epoch, link->acked.position);
}

/*
 * The peer was told debts of this node, which has paid them since, maybe in a
 * way that the peer cannot see: another catch-up tells it what is here now.
 */
static bool
debts_are_void(DcLink *link)
{
	if (!link->handed_on || link->settled || !dc_vector_settled())
		return false;
	link->handed_on = false;
	return true;
}

/* Does the peer lack something that only this node can bring? */
static void
weigh_vectors(DcLink *link)
{
	uint64 version = dc_vector_version();
	TimestampTz now = GetCurrentTimestamp();
	DcVv *own;

	if (version == link->weighed || now < link->relay_at)
		return;
	if (!link->stream.catchup_running)
		link->weighed = version;
	if (dc_link_relay_is_owed(link) || debts_are_void(link))
	{
		dc_stream_owe(&link->stream);
		link->relay_at = TimestampTzPlusMilliseconds(now, RELAY_MS);
	}
	own = MemoryContextAlloc(link->scratch, sizeof(DcVv));
	dc_vector_read(own);
	if (dc_stream_peer_vector(&link->stream, &link->told, own, link->covered,
							  (uint32) datacake_node_id))
		link->relay_at = TimestampTzPlusMilliseconds(now, RELAY_MS);
}

/* The peer has carried out this call, and has flushed it. */
static void
complete(DcLink *link, const DcLinkMessage *message)
{
	dc_link_count_acked(link, message);
	count_flushed(link, message);
	/* acks of one catch-up may arrive when the next one has begun */
	if (message->catchup != 0 && message->catchup == link->catchup_number)
		link->acked_mark = message->mark;
	if (message->closes != 0)
		link->closed_epoch = message->closes;
}

/* An ack names the last of the calls it is for, and answers at least one. */
static bool
open_ack(DcLink *link, DcSlice frame, DcAck *ack, uint64 *number)
{
	DcReader r;
	DcSlice plain;

	dc_reader_init(&r, frame.data, frame.length);
	*number = dc_read_u64(&r);
	return r.status == DC_OK && link->message_count > 0 &&
		   *number >= link->messages[0].sequence && *number <= link->sequence &&
		   dc_link_open(link, 'A', *number,
						(DcSlice){frame.data + r.offset,
								  frame.length - r.offset},
						&plain) &&
		   dc_ack_decode(plain.data, plain.length, ack) == DC_OK;
}

void
dc_link_take_ack(DcLink *link, DcSlice frame)
{
	static DcAck ack; /* large, and most of it is seldom sent */
	uint64 number;
	int count = 0;

	if (!open_ack(link, frame, &ack, &number))
	{
		dc_link_close(link, "an ack of the peer does not authenticate");
		return;
	}
	link->settled = ack.settled;
	if (!ack.unchanged)
	{
		link->told = ack.vector;
		link->weighed = 0;
	}
	dc_link_count_lag(link, &link->messages[0], ack.held_us);
	while (count < link->message_count &&
		   link->messages[count].sequence <= number)
		complete(link, &link->messages[count++]);
	dc_link_pop(link, count);
	if (!ack.unchanged)
		dc_link_note_incoming(link, ack.incoming);
	if (pg_atomic_read_u32(&dc_shared->leaving) == 1)
		dc_link_note_level(link, &link->told);
	weigh_vectors(link);
}

/* --- sending --- */

/* *next: the batch at the link's position, if there is one. */
static DcStreamView
view_of(DcLink *link, const DcStreamView *watermark, bool watermark_due,
		DcQueued *next)
{
	DcStreamView view = *watermark;
	uint64 position = link->stream.position;
	DcQueueView queue = dc_queue_look(position);

	*next = queue.batch;
	view.head = queue.head;
	view.oldest = link->detached ? queue.head : queue.oldest;
	view.gap = position < view.head && position >= view.oldest &&
			   (queue.batch.data == NULL || dc_link_spool_is_gap(link, next));
	if (!watermark_due)
		view.watermark = DC_HLC_NONE;
	if (dc_standing_joining())
	{
		/* R13: what is its own it ships when it has joined */
		view.head = view.oldest = position;
		view.gap = false;
		view.watermark = DC_HLC_NONE;
	}
	return view;
}

static void
append_segment(DcLink *link, StringInfo call, DcLinkMessage *draft, DcHlc to)
{
	uint8 bytes[32];
	DcWriter w;

	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_call_segment(&w, link->stream.closed, to);
	appendBinaryStringInfo(call, (char *) bytes, (int) w.length);
	dc_stream_watermark_sent(&link->stream, to);
	draft->watermark = to;
}

/* How many follow each other how fast?  See DC_LINK_BUSY_US. */
static void
measure_pace(DcLink *link, uint32 batches)
{
	TimestampTz now = GetCurrentTimestamp();

	if (batches > 0)
		link->together = batches;
	link->paced += batches;
	if (link->paced < DC_LINK_BUSY_BATCHES)
		return;
	link->busy = now - link->paced_since <
				 (link->busy ? DC_LINK_CALM_US : DC_LINK_BUSY_US);
	link->paced = 0;
	link->paced_since = now;
}

/* As many batches as fit, and the segment they complete. */
static void
send_stream(DcLink *link, const DcStreamView *watermark, bool watermark_due)
{
	StringInfoData call;
	DcLinkMessage draft = {0};
	XLogRecPtr flush_to = InvalidXLogRecPtr;
	DcStreamView view;
	DcStreamAction action;

	dc_link_begin_call(link, &call);
	for (;;)
	{
		DcQueued queued;

		view = view_of(link, watermark, watermark_due, &queued);
		action = dc_stream_next(&link->stream, &view);
		if (action != DC_STREAM_SEND_BATCH)
			break;
		if (queued.data == NULL || queued.spool != 0 ||
			(draft.batches > 0 &&
			 (Size) call.len + queued.length > MESSAGE_BYTES))
			break;
		dc_call_append(&call, DC_PART_BATCH, queued.data, queued.length);
		if (draft.batches == 0)
			draft.first = link->stream.position;
		dc_stream_batch_sent(&link->stream);
		draft.batches++;
		draft.rows += queued.rows;
		draft.awaited |= queued.awaited;
		if (draft.committed_us == 0)
			draft.committed_us = queued.committed_us;
		flush_to = Max(flush_to, queued.commit_lsn);
	}
	if (action == DC_STREAM_SEND_WATERMARK)
		append_segment(link, &call, &draft, view.watermark);
	if (draft.batches == 0 && draft.watermark == DC_HLC_NONE)
		return;
	if (flush_to != InvalidXLogRecPtr)
		XLogFlush(flush_to); /* R3 */
	dc_stream_message_sent(&link->stream, false);
	dc_link_send(link, &call, &draft, false);
	measure_pace(link, draft.batches);
}

/* The peer hears of every change of the list, from everybody. */
static bool
send_members(DcLink *link)
{
	DcMembers *list;
	DcPosition at;
	uint8 *bytes;
	StringInfoData call;
	DcLinkMessage draft = {0};
	DcWriter w;

	if (dc_standing_epoch() == link->sent_epoch)
		return false;
	dc_link_begin_call(link, &call);
	list = MemoryContextAlloc(link->scratch, sizeof(DcMembers));
	link->sent_epoch = dc_standing_members(list, &at);
	dc_writer_init(&w, NULL, 0);
	dc_call_members(&w, &at, list);
	bytes = MemoryContextAlloc(link->scratch, w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_call_members(&w, &at, list);
	appendBinaryStringInfo(&call, (char *) bytes, (int) w.length);
	dc_link_send(link, &call, &draft, false);
	if (link->owed_epoch != link->sent_epoch && dc_members_fence(list))
		dc_stream_owe(&link->stream);
	link->owed_epoch = link->sent_epoch;
	return true;
}

/* R11: something of a fenced node is just being applied here. */
static bool
fenced_is_heard(void)
{
	bool heard = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	for (uint32 i = 0; i < dc_shared->standing.members.count; i++)
	{
		const DcMember *member = &dc_shared->standing.members.at[i];

		heard |= member->state == DC_MEMBER_FENCED &&
				 pg_atomic_read_u32(&dc_shared->calls[member->node_id]) > 0;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return heard;
}

static bool
somebody_waits(const DcLink *link)
{
	return link->awaited_count > 0 ||
		   link->stream.position < dc_queue_awaited();
}

DcGather
dc_link_gathers(const DcLink *link)
{
	if (link->message_count >= DC_LINK_IN_FLIGHT_MAX)
		return DC_GATHER_ALL;
	if ((!link->busy && link->awaited_count < DC_LINK_AWAITED) ||
		GetCurrentTimestamp() >=
			TimestampTzPlusMilliseconds(link->sent_at, DC_LINK_SPACING_MS))
		return DC_GATHER_NOTHING;
	if (link->awaited_count >= DC_LINK_AWAITED)
		return DC_GATHER_ALL;
	return somebody_waits(link) ? DC_GATHER_NOTHING : DC_GATHER_UNAWAITED;
}

/*
 * Nobody waits: what is committed meanwhile travels in the same call.  As with
 * commit_delay a wait for less than a millisecond, which latches cannot do.
 */
static void
keep_distance(const DcLink *link)
{
	int64 left;

	if (somebody_waits(link) || link->together < DC_LINK_GROUP ||
		dc_queue_committing() < DC_LINK_GROUP)
		return;
	left = DC_LINK_GROUP_US - (GetCurrentTimestamp() - link->sent_at);
	left = Max(left, DC_LINK_GATHER_US);
	pg_usleep(Min(left, DC_LINK_GROUP_US));
}

/* One message; false: nothing to send. */
static bool
send_next(DcLink *link, const DcStreamView *watermark, bool watermark_due)
{
	DcQueued queued;
	DcStreamView view = view_of(link, watermark, watermark_due, &queued);
	uint64 sequence = link->sequence;

	link->detached = false;
	switch (dc_stream_next(&link->stream, &view))
	{
		case DC_STREAM_WAIT:
			return false;
		case DC_STREAM_BEGIN_CATCHUP:
			if (fenced_is_heard())
				return false;
			dc_link_begin_catchup(link);
			return true;
		case DC_STREAM_SEND_CATCHUP:
			if (link->later_at != 0 && GetCurrentTimestamp() < link->later_at)
				return false;
			link->later_at = 0;
			dc_link_send_catchup(link);
			return link->conn != NULL && link->later_at == 0;
		case DC_STREAM_SEND_BATCH:
			if (queued.spool != 0)
				return dc_link_send_spool(link, &queued);
			if (!watermark_due && dc_link_gathers(link) != DC_GATHER_NOTHING)
				return false;
			keep_distance(link);
			send_stream(link, watermark, watermark_due);
			return link->sequence != sequence;
		case DC_STREAM_SEND_WATERMARK:
			send_stream(link, watermark, watermark_due);
			return link->sequence != sequence;
	}
	return false;
}

/*
 * A joiner ships nothing, so it would never hear that a peer stopped joining,
 * or that the cluster does not know this node any more.
 */
void
dc_link_ask_again(DcLink *link)
{
	TimestampTz now = GetCurrentTimestamp();

	if (link->message_count > 0 ||
		(link->catchup != NULL && link->peer_joins) ||
		link->stream.phase != DC_STREAM_OPEN || now < link->ask_at)
		return;
	link->ask_at = TimestampTzPlusMilliseconds(now, DC_LINK_ASK_AGAIN_MS);
	if (link->peer_joined_too)
		dc_link_close(link, "both nodes join");
	else
		link->sent_epoch = 0; /* it is told the list again, and answers */
}

void
dc_link_send_all(DcLink *link, const DcStreamView *watermark,
				 bool watermark_due)
{
	while (link->conn != NULL && !link->unflushed && link->streams &&
		   link->stream.phase == DC_STREAM_OPEN &&
		   link->message_count < DC_LINK_IN_FLIGHT_MAX)
	{
		if (send_members(link))
			continue;
		if (dc_commands_missing(NULL))
			return;
		if (dc_standing_joining() && !link->peer_joins)
		{
			link->partial = true; /* it pulls, and helps others who do */
			return;
		}
		if (link->partial && !dc_standing_joining())
		{
			dc_stream_owe(&link->stream);
			link->partial = false;
		}
		if (!send_next(link, watermark, watermark_due))
			return;
	}
}
