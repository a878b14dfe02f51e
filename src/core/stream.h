/*
 * stream.h
 *		The sending side of a link: what goes to one peer next.
 *
 *	          connected            hello(V_peer)
 *	   DOWN ------------> HELLO ------------------> OPEN
 *	    ^                   |                        |
 *	    +-------------------+-------- lost ----------+
 *
 * While OPEN two things run side by side.  The *stream* sends committed
 * batches in publish order and closes segments with watermark messages
 * (P8).  A *catch-up* sends every entry above the peer's vector (R6); one
 * runs after each hello and after each gap (a batch that never was in the
 * queue, or left it before it was sent).  Segments are closed only while no
 * catch-up is owed, because only then has the peer been sent everything
 * between `closed` and the next watermark.
 *
 * Publish numbers count the batches of this server since its start.  The
 * caller attaches the link to the queue *before* it reads its own vector, and
 * reads its vector *before* it scans: what commits in between is sent twice,
 * never left out.
 *
 * Pure state; the caller moves bytes and guards it.
 */
#ifndef DC_STREAM_H
#define DC_STREAM_H

#include "vv.h"

typedef enum DcStreamPhase
{
	DC_STREAM_DOWN,
	DC_STREAM_HELLO,
	DC_STREAM_OPEN
} DcStreamPhase;

typedef enum DcStreamAction
{
	DC_STREAM_WAIT,
	DC_STREAM_SEND_BATCH,    /* the batch at `position` */
	DC_STREAM_BEGIN_CATCHUP, /* then dc_stream_catchup_begin() */
	DC_STREAM_SEND_CATCHUP,  /* next chunk of the running catch-up */
	DC_STREAM_SEND_WATERMARK /* segment (closed, view.watermark] */
} DcStreamAction;

typedef struct DcStream
{
	DcStreamPhase phase;
	bool catchup_owed;    /* one must begin */
	bool catchup_running; /* base and donor are set, chunks are going out */
	bool batch_turn;      /* whose turn it is while a catch-up runs */
	uint64_t position;    /* next publish number to send */
	DcHlc closed;         /* end of the last segment the peer was told of */
	DcVv peer;            /* V of the peer, as it last said */
	DcVv base;            /* the peer's V that the running catch-up extends */
	DcVv donor;           /* own V before the scan, for the covered sources */
	bool covered[DC_NODE_IDS]; /* sources that the running catch-up sends */
} DcStream;

/* The queue and the watermark, as read just before asking. */
typedef struct DcStreamView
{
	uint64_t oldest;             /* least publish number still in the queue */
	uint64_t head;               /* next publish number to be given out */
	bool gap;                    /* the batch at `position` has no bytes */
	DcHlc watermark;             /* W */
	uint64_t watermark_position; /* head as read after W was computed */
} DcStreamView;

void dc_stream_init(DcStream *stream);

/* DOWN -> HELLO.  Returns false (no change) in another phase. */
bool dc_stream_connected(DcStream *stream);

/*
 * HELLO -> OPEN: the peer answered with its vector; `head` is the publish
 * number at which the link was attached to the queue before asking.
 */
bool dc_stream_hello(DcStream *stream, const DcVv *peer, uint64_t head);

/* Any phase -> DOWN; what was sent and not acknowledged counts as unsent. */
void dc_stream_lost(DcStream *stream);

/*
 * What to do next.  May skip over a gap: then a catch-up is owed and the
 * position jumps to the head.
 */
DcStreamAction dc_stream_next(DcStream *stream, const DcStreamView *view);

/* After SEND_BATCH was carried out for the batch at `position`. */
void dc_stream_batch_sent(DcStream *stream);

/*
 * A message went out, or a chunk could not be read now (`catchup`).  While a
 * catch-up runs, messages of batches and chunks take turns, so that neither
 * starves the other.
 */
void dc_stream_message_sent(DcStream *stream, bool catchup);

/*
 * Begins a catch-up.  `own` is this node's vector, read after the link was
 * attached to the queue and before the scan; only the sources with
 * covered[id] true take part (R6: a source that streams to the peer itself
 * needs no help).  `self` always takes part.
 */
void dc_stream_catchup_begin(DcStream *stream, const DcVv *own,
							 const bool covered[DC_NODE_IDS], uint32_t self);

/*
 * P15: goes on with the catch-up that a lost session interrupted, with the
 * base, donor and sources it had, if the peer still claims that base and did not get
 * all of it elsewhere; returns false otherwise, and nothing changed.  Another catch-up is owed after it,
 * for what was published while there was no session.
 */
bool dc_stream_catchup_resume(DcStream *stream);

/* Something the vectors do not show may be missing: a catch-up is owed. */
void dc_stream_owe(DcStream *stream);

/* Must this entry be sent in the running catch-up? */
bool dc_stream_catchup_wants(const DcStream *stream, DcHlc stamp);

/*
 * All chunks were sent and acknowledged: the caller now sends base and donor
 * as the closing message, which lets the peer raise its vector.
 */
void dc_stream_catchup_end(DcStream *stream, uint32_t self);

/* After SEND_WATERMARK with this `to`. */
void dc_stream_watermark_sent(DcStream *stream, DcHlc to);

/*
 * The peer told its vector again.  Returns true when it lacks something of a
 * covered source that this node has: a catch-up is then owed.
 */
bool dc_stream_peer_vector(DcStream *stream, const DcVv *peer, const DcVv *own,
						   const bool covered[DC_NODE_IDS], uint32_t self);

#endif
