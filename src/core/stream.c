/*
 * stream.c
 *		The sending side of a link: what goes to one peer next.
 */
#include "stream.h"

#include <string.h>

/* The allowed moves, one row per phase: may it go to DOWN, HELLO, OPEN? */
static const bool moves[3][3] = {
	[DC_STREAM_DOWN] = {[DC_STREAM_DOWN] = true, [DC_STREAM_HELLO] = true},
	[DC_STREAM_HELLO] = {[DC_STREAM_DOWN] = true, [DC_STREAM_OPEN] = true},
	[DC_STREAM_OPEN] = {[DC_STREAM_DOWN] = true},
};

static bool
move_to(DcStream *stream, DcStreamPhase phase)
{
	if (!moves[stream->phase][phase])
		return false; /* not simulated: a mistake of the caller */
	stream->phase = phase;
	return true;
}

void
dc_stream_init(DcStream *stream)
{
	memset(stream, 0, sizeof(*stream));
	stream->phase = DC_STREAM_DOWN;
}

bool
dc_stream_connected(DcStream *stream)
{
	return move_to(stream, DC_STREAM_HELLO);
}

bool
dc_stream_hello(DcStream *stream, const DcVv *peer, uint64_t head)
{
	if (!move_to(stream, DC_STREAM_OPEN))
		return false; /* not simulated: the same */
	stream->peer = *peer;
	stream->position = head;
	stream->closed = DC_HLC_NONE;
	stream->catchup_owed = true;
	stream->catchup_running = false;
	return true;
}

void
dc_stream_lost(DcStream *stream)
{
	(void) move_to(stream, DC_STREAM_DOWN);
	stream->catchup_owed = false;
	stream->catchup_running = false;
}

DcStreamAction
dc_stream_next(DcStream *stream, const DcStreamView *view)
{
	if (stream->phase != DC_STREAM_OPEN)
		return DC_STREAM_WAIT;

	if (stream->position < view->oldest ||
		(stream->position < view->head && view->gap))
	{
		/* one scan from now on covers every batch published so far */
		stream->catchup_owed = true;
		stream->position = view->head;
	}

	if (stream->catchup_owed && !stream->catchup_running)
		return DC_STREAM_BEGIN_CATCHUP;
	if (stream->catchup_running &&
		(!stream->batch_turn || stream->position == view->head))
		return DC_STREAM_SEND_CATCHUP;
	if (stream->position < view->head)
		return DC_STREAM_SEND_BATCH;
	if (view->watermark > stream->closed &&
		stream->position >= view->watermark_position)
		return DC_STREAM_SEND_WATERMARK;
	return DC_STREAM_WAIT;
}

void
dc_stream_batch_sent(DcStream *stream)
{
	stream->position++;
}

void
dc_stream_message_sent(DcStream *stream, bool catchup)
{
	stream->batch_turn = catchup;
}

void
dc_stream_catchup_begin(DcStream *stream, const DcVv *own,
						const bool covered[DC_NODE_IDS], uint32_t self)
{
	stream->catchup_owed = false;
	stream->catchup_running = true;
	stream->base = stream->peer;
	dc_vv_init(&stream->donor);
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		stream->covered[id] = covered[id] || id == self;
		if (stream->covered[id])
			stream->donor.at[id] = own->at[id];
	}
}

bool
dc_stream_catchup_resume(DcStream *stream)
{
	bool moved = false;
	bool lacks = false;

	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (!stream->covered[id])
			continue;
		if (stream->peer.at[id] < stream->base.at[id])
			return false;
		moved |= stream->peer.at[id] > stream->base.at[id];
		lacks |= stream->peer.at[id] < stream->donor.at[id];
	}
	if (moved && !lacks)
		return false; /* another one, from there, sends less */
	stream->catchup_running = true;
	stream->catchup_owed = true;
	return true;
}

void
dc_stream_owe(DcStream *stream)
{
	stream->catchup_owed = stream->phase == DC_STREAM_OPEN;
}

bool
dc_stream_catchup_wants(const DcStream *stream, DcHlc stamp)
{
	/* also of a source whose watermark still is 0: its entries are not */
	return stream->covered[dc_hlc_node_id(stamp)] &&
		   !dc_vv_covers(&stream->base, stamp);
}

void
dc_stream_catchup_end(DcStream *stream, uint32_t self)
{
	stream->catchup_running = false;
	stream->closed = stream->donor.at[self];
	(void) dc_vv_adopt(&stream->peer, &stream->donor, &stream->base);
}

void
dc_stream_watermark_sent(DcStream *stream, DcHlc to)
{
	stream->closed = to;
}

bool
dc_stream_peer_vector(DcStream *stream, const DcVv *peer, const DcVv *own,
					  const bool covered[DC_NODE_IDS], uint32_t self)
{
	stream->peer = *peer;
	if (stream->phase != DC_STREAM_OPEN || stream->catchup_running)
		return false;
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (id != self && covered[id] && own->at[id] > peer->at[id])
		{
			stream->catchup_owed = true;
			return true;
		}
	}
	return false;
}
