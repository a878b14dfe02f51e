/*
 * test_stream.c
 *		The sending side of a link: directed tests of its state machine.
 */
#include "stream.h"

#include "canary.h"
#include "tap.h"

#include <string.h>

enum
{
	SELF = 1,
	OTHER = 2,
	THIRD = 3
};

static DcStream stream;
static DcVv own;
static DcVv peer;
static bool covered[DC_NODE_IDS];

static DcHlc
at(uint64_t time_us, uint32_t node_id)
{
	return dc_hlc_make(time_us, node_id);
}

/* A queue that holds [oldest, head) and whose last watermark is `us`. */
static DcStreamView
view(uint64_t oldest, uint64_t head, uint64_t us)
{
	return (DcStreamView){.oldest = oldest,
						  .head = head,
						  .watermark = us != 0 ? at(us, SELF) : DC_HLC_NONE,
						  .watermark_position = head};
}

static DcStreamAction
next(DcStreamView v)
{
	return dc_stream_next(&stream, &v);
}

static void
fresh(void)
{
	dc_stream_init(&stream);
	dc_vv_init(&own);
	dc_vv_init(&peer);
	memset(covered, 0, sizeof(covered));
}

/* OPEN, attached at `head`, a catch-up owed. */
static void
open_at(uint64_t head)
{
	fresh();
	(void) dc_stream_connected(&stream);
	(void) dc_stream_hello(&stream, &peer, head);
}

/* OPEN, caught up to own W = `us`, nothing left to send. */
static void
caught_up_at(uint64_t head, uint64_t us)
{
	open_at(head);
	own.at[SELF] = us != 0 ? at(us, SELF) : DC_HLC_NONE;
	dc_stream_catchup_begin(&stream, &own, covered, SELF);
	dc_stream_catchup_end(&stream, SELF);
}

static void
test_phases(void)
{
	fresh();
	ok(stream.phase == DC_STREAM_DOWN, "a stream begins down");
	ok(next(view(0, 5, 10)) == DC_STREAM_WAIT, "down, it sends nothing");
	ok(!dc_stream_hello(&stream, &peer, 0) && stream.phase == DC_STREAM_DOWN,
	   "down, hello is refused and changes nothing");
	ok(dc_stream_connected(&stream) && stream.phase == DC_STREAM_HELLO,
	   "connected: it waits for hello");
	ok(!dc_stream_connected(&stream) && stream.phase == DC_STREAM_HELLO,
	   "connected twice is refused");
	ok(next(view(0, 5, 10)) == DC_STREAM_WAIT,
	   "before hello was answered it sends nothing");
	ok(dc_stream_hello(&stream, &peer, 0) && stream.phase == DC_STREAM_OPEN,
	   "hello opens it");
	ok(!dc_stream_connected(&stream) && stream.phase == DC_STREAM_OPEN,
	   "open, connected is refused");

	peer.at[OTHER] = at(7, OTHER);
	ok(!dc_stream_hello(&stream, &peer, 3) && stream.position == 0 &&
		   stream.peer.at[OTHER] == DC_HLC_NONE,
	   "open, a second hello is refused and changes nothing");

	dc_stream_lost(&stream);
	ok(stream.phase == DC_STREAM_DOWN, "lost: down from open");
	dc_stream_lost(&stream);
	ok(stream.phase == DC_STREAM_DOWN, "lost twice is harmless");
	(void) dc_stream_connected(&stream);
	dc_stream_lost(&stream);
	ok(stream.phase == DC_STREAM_DOWN, "lost: down before hello too");
}

static void
test_hello(void)
{
	open_at(4);
	ok(next(view(0, 6, 10)) == DC_STREAM_BEGIN_CATCHUP,
	   "a catch-up is the first thing after hello");
	ok(next(view(0, 6, 10)) == DC_STREAM_BEGIN_CATCHUP,
	   "and stays the first until it begins");
	ok(stream.position == 4, "batches go out from where the link was attached");

	caught_up_at(4, 10);
	dc_stream_watermark_sent(&stream, at(50, SELF));
	dc_stream_lost(&stream);
	(void) dc_stream_connected(&stream);
	(void) dc_stream_hello(&stream, &peer, 9);
	ok(stream.closed == DC_HLC_NONE && stream.position == 9 &&
		   stream.catchup_owed,
	   "nothing of the last session counts in the next");

	caught_up_at(4, 10);
	dc_stream_catchup_begin(&stream, &own, covered, SELF);
	dc_stream_lost(&stream);
	ok(!stream.catchup_running && !stream.catchup_owed,
	   "a catch-up ends with its session");
}

static void
test_watermark(void)
{
	DcStreamView v;

	open_at(0);
	ok(next(view(0, 0, 20)) == DC_STREAM_BEGIN_CATCHUP,
	   "no watermark while a catch-up is owed");
	dc_stream_catchup_begin(&stream, &own, covered, SELF);
	ok(next(view(0, 0, 20)) == DC_STREAM_SEND_CATCHUP &&
		   next(view(0, 0, 20)) == DC_STREAM_SEND_CATCHUP,
	   "no watermark while a catch-up runs");
	dc_stream_catchup_end(&stream, SELF);
	ok(next(view(0, 0, 20)) == DC_STREAM_SEND_WATERMARK,
	   "after the catch-up the segment may be closed");

	caught_up_at(0, 10);
	ok(stream.closed == at(10, SELF),
	   "the first segment begins where the catch-up ended");
	ok(next(view(0, 0, 10)) == DC_STREAM_WAIT,
	   "an old watermark closes nothing");
	ok(next(view(0, 2, 20)) == DC_STREAM_SEND_BATCH,
	   "batches before the watermark");
	dc_stream_batch_sent(&stream);
	ok(next(view(0, 2, 20)) == DC_STREAM_SEND_BATCH, "all of them");
	dc_stream_batch_sent(&stream);
	ok(next(view(0, 2, 20)) == DC_STREAM_SEND_WATERMARK, "then the watermark");
	dc_stream_watermark_sent(&stream, at(20, SELF));
	ok(next(view(0, 2, 20)) == DC_STREAM_WAIT, "once");

	v = view(0, 2, 30);
	v.watermark_position = 3;
	ok(next(v) == DC_STREAM_WAIT,
	   "a watermark waits for the batches queued before it, though the head "
	   "was read too early to show them");
	v.head = 3;
	ok(next(v) == DC_STREAM_SEND_BATCH, "the batch is seen later");
	dc_stream_batch_sent(&stream);
	ok(next(v) == DC_STREAM_SEND_WATERMARK, "and then the watermark goes");

	v = view(0, 4, 40);
	v.watermark_position = 3;
	ok(next(v) == DC_STREAM_SEND_BATCH,
	   "a batch published after the watermark goes first as well");
}

static void
test_gaps(void)
{
	DcStreamView v;

	caught_up_at(0, 10);
	ok(next(view(3, 5, 20)) == DC_STREAM_BEGIN_CATCHUP && stream.position == 5,
	   "what left the queue unsent is a catch-up, from the head on");

	caught_up_at(0, 10);
	v = view(0, 4, 20);
	v.gap = true;
	ok(next(v) == DC_STREAM_BEGIN_CATCHUP && stream.position == 4,
	   "so is a batch without bytes");

	caught_up_at(4, 10);
	v = view(0, 4, 20);
	v.gap = true;
	ok(next(v) == DC_STREAM_SEND_WATERMARK,
	   "there is no gap where there is no batch");

	caught_up_at(5, 10);
	ok(next(view(5, 5, 20)) == DC_STREAM_SEND_WATERMARK,
	   "an emptied queue is no gap for who has sent all of it");

	open_at(0);
	dc_stream_catchup_begin(&stream, &own, covered, SELF);
	v = view(0, 2, 20);
	v.gap = true;
	ok(next(v) == DC_STREAM_SEND_CATCHUP && stream.catchup_owed &&
		   stream.catchup_running && stream.position == 2,
	   "a gap during a catch-up lets it run and owes another");
	dc_stream_catchup_end(&stream, SELF);
	ok(next(view(0, 2, 20)) == DC_STREAM_BEGIN_CATCHUP,
	   "which begins before any segment is closed");
	own.at[SELF] = at(20, SELF);
	dc_stream_catchup_begin(&stream, &own, covered, SELF);
	ok(!stream.catchup_owed, "and then is owed no more");
	dc_stream_catchup_end(&stream, SELF);
	ok(next(view(0, 2, 20)) == DC_STREAM_WAIT && stream.closed == at(20, SELF),
	   "its end closes what it covered");
}

static void
test_turns(void)
{
	unsigned batches = 0;
	unsigned chunks = 0;

	open_at(0);
	dc_stream_catchup_begin(&stream, &own, covered, SELF);
	for (unsigned i = 0; i < 20; i++)
	{
		switch (next(view(0, 1000, 20)))
		{
			case DC_STREAM_SEND_BATCH:
				batches++;
				dc_stream_batch_sent(&stream);
				dc_stream_message_sent(&stream, false);
				break;
			case DC_STREAM_SEND_CATCHUP:
				chunks++;
				dc_stream_message_sent(&stream, true);
				break;
			default:
				break;
		}
	}
	ok(batches == 10 && chunks == 10,
	   "batches and a running catch-up take turns (%u, %u)", batches, chunks);

	for (unsigned i = 0; i < 4; i++)
	{
		chunks += next(view(0, stream.position, 20)) == DC_STREAM_SEND_CATCHUP;
		dc_stream_message_sent(&stream, true);
	}
	ok(chunks == 14, "with no batch every turn is the catch-up's");

	ok(next(view(0, 1000, 20)) == DC_STREAM_SEND_BATCH &&
		   next(view(0, 1000, 20)) == DC_STREAM_SEND_BATCH,
	   "to ask what is next changes nothing");
	dc_stream_batch_sent(&stream);
	ok(next(view(0, 1000, 20)) == DC_STREAM_SEND_BATCH,
	   "several batches of one message are one turn");
	dc_stream_message_sent(&stream, false);
	ok(next(view(0, 1000, 20)) == DC_STREAM_SEND_CATCHUP,
	   "the message ends it");
}

static void
test_catchup(void)
{
	fresh();
	peer.at[SELF] = at(10, SELF);
	peer.at[OTHER] = at(20, OTHER);
	own.at[SELF] = at(50, SELF);
	own.at[OTHER] = at(60, OTHER);
	own.at[THIRD] = at(70, THIRD);
	covered[OTHER] = true;
	(void) dc_stream_connected(&stream);
	(void) dc_stream_hello(&stream, &peer, 0);
	dc_stream_catchup_begin(&stream, &own, covered, SELF);

	ok(!dc_stream_catchup_wants(&stream, at(10, SELF)),
	   "what the peer claims is not sent");
	ok(dc_stream_catchup_wants(&stream, at(11, SELF)),
	   "the sender's own entries beyond that are");
	ok(dc_stream_catchup_wants(&stream, at(51, SELF)),
	   "also those beyond its watermark: their batches may be gaps");
	ok(dc_stream_catchup_wants(&stream, at(21, OTHER)) &&
		   !dc_stream_catchup_wants(&stream, at(20, OTHER)),
	   "so are a covered source's");
	ok(!dc_stream_catchup_wants(&stream, at(65, THIRD)),
	   "a source that streams itself is left to it");

	own.at[SELF] = at(99, SELF);
	dc_stream_catchup_end(&stream, SELF);
	ok(stream.closed == at(50, SELF) && stream.donor.at[SELF] == at(50, SELF),
	   "it claims the vector read before the scan");
	ok(stream.peer.at[SELF] == at(50, SELF) &&
		   stream.peer.at[OTHER] == at(60, OTHER) &&
		   stream.peer.at[THIRD] == DC_HLC_NONE,
	   "the peer is known to have what was covered, and no more");

	open_at(0);
	dc_stream_catchup_begin(&stream, &own, covered, SELF);
	ok(dc_stream_catchup_wants(&stream, at(5, SELF)) &&
		   !dc_stream_catchup_wants(&stream, at(5, OTHER)),
	   "a sender that never published a watermark sends its entries");
	dc_stream_catchup_end(&stream, SELF);
	ok(stream.closed == DC_HLC_NONE, "and claims nothing for them yet");
}

static void
test_peer_vector(void)
{
	caught_up_at(0, 10);
	covered[OTHER] = true;
	own.at[OTHER] = at(30, OTHER);
	peer.at[OTHER] = at(30, OTHER);
	ok(!dc_stream_peer_vector(&stream, &peer, &own, covered, SELF) &&
		   !stream.catchup_owed,
	   "a peer that lacks nothing is owed nothing");
	peer.at[OTHER] = at(29, OTHER);
	ok(dc_stream_peer_vector(&stream, &peer, &own, covered, SELF) &&
		   stream.catchup_owed,
	   "what it lacks of a covered source is owed");

	caught_up_at(0, 10);
	own.at[THIRD] = at(30, THIRD);
	ok(!dc_stream_peer_vector(&stream, &peer, &own, covered, SELF),
	   "what it lacks of another source is not");
	own.at[SELF] = at(99, SELF);
	ok(!dc_stream_peer_vector(&stream, &peer, &own, covered, SELF),
	   "nor of the sender's own: the stream brings it");

	caught_up_at(0, 10);
	covered[OTHER] = true;
	dc_stream_catchup_begin(&stream, &own, covered, SELF);
	own.at[OTHER] = at(30, OTHER);
	ok(!dc_stream_peer_vector(&stream, &peer, &own, covered, SELF) &&
		   !stream.catchup_owed,
	   "while a catch-up runs no other is asked for");

	fresh();
	covered[OTHER] = true;
	own.at[OTHER] = at(30, OTHER);
	ok(!dc_stream_peer_vector(&stream, &peer, &own, covered, SELF) &&
		   !stream.catchup_owed,
	   "nor on a link that is down");
}

static void
test_resume(void)
{
	DcVv donor;

	caught_up_at(0, 10);
	covered[OTHER] = true;
	own.at[OTHER] = at(30, OTHER);
	dc_stream_catchup_begin(&stream, &own, covered, SELF);
	donor = stream.donor;
	dc_stream_lost(&stream);
	(void) dc_stream_connected(&stream);
	(void) dc_stream_hello(&stream, &stream.base, 7);
	own.at[OTHER] = at(50, OTHER);
	ok(dc_stream_catchup_resume(&stream) && stream.catchup_running,
	   "an interrupted catch-up goes on in the next session");
	ok(stream.donor.at[OTHER] == donor.at[OTHER],
	   "and claims no more than it did when it began");
	ok(stream.catchup_owed,
	   "what was published meanwhile is owed in another one");

	dc_stream_lost(&stream);
	(void) dc_stream_connected(&stream);
	peer = stream.base;
	peer.at[OTHER] = at(25, OTHER);
	(void) dc_stream_hello(&stream, &peer, 7);
	ok(dc_stream_catchup_resume(&stream),
	   "it goes on for a peer that got a part of it elsewhere");
	dc_stream_lost(&stream);
	(void) dc_stream_connected(&stream);
	(void) dc_vv_adopt(&peer, &stream.donor, &stream.base);
	(void) dc_stream_hello(&stream, &peer, 7);
	ok(!dc_stream_catchup_resume(&stream) && stream.catchup_owed,
	   "for one that got all of it elsewhere another one begins");

	peer = stream.base;
	peer.at[OTHER] = at(1, OTHER);
	stream.base.at[OTHER] = at(20, OTHER);
	dc_stream_lost(&stream);
	(void) dc_stream_connected(&stream);
	(void) dc_stream_hello(&stream, &peer, 7);
	ok(!dc_stream_catchup_resume(&stream) && !stream.catchup_running,
	   "it does not go on for a peer that has lost what it extends");

	caught_up_at(0, 10);
	dc_stream_owe(&stream);
	ok(stream.catchup_owed, "a catch-up can be asked for");
	dc_stream_lost(&stream);
	dc_stream_owe(&stream);
	ok(!stream.catchup_owed, "but not on a link that is down");
}

int
main(void)
{
	test_phases();
	test_hello();
	test_watermark();
	test_gaps();
	test_turns();
	test_catchup();
	test_peer_vector();
	test_resume();
	return tap_done();
}
