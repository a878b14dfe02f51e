/*
 * link_spool.c
 *		A batch that is in a file (spool.h), on its way to a peer.
 *
 * The peer commits every chunk by itself, as those of a catch-up.  Of the last
 * one's ack follows that it has all of them: it refuses what comes after a
 * call that failed.  A new session begins with a catch-up, so a file is never
 * gone on with.
 */
#include "link_spool.h"

#include "access/xlog.h"
#include "utils/memutils.h"

#include "link_wire.h"

bool
dc_link_spool_is_gap(const DcLink *link, const DcQueued *queued)
{
	return queued->spool != 0 && queued->spool == link->unreadable;
}

void
dc_link_end_spool(DcLink *link)
{
	if (link->spool != NULL)
		dc_spool_close(link->spool);
	link->spool = NULL;
}

static bool
read_chunk(DcLink *link, uint64 id, DcSpoolChunk *chunk)
{
	MemoryContext old;
	bool done;

	if (link->spool != NULL && dc_spool_id(link->spool) != id)
		dc_link_end_spool(link);
	if (link->spool == NULL)
		link->spool = dc_spool_open(id, link->context);
	if (link->spool == NULL)
		return false;
	old = MemoryContextSwitchTo(link->scratch);
	done = dc_spool_read(link->spool, chunk);
	MemoryContextSwitchTo(old);
	return done;
}

bool
dc_link_send_spool(DcLink *link, const DcQueued *queued)
{
	StringInfoData call;
	DcLinkMessage draft = {0};
	DcSpoolChunk chunk;

	dc_link_begin_call(link, &call);
	if (!read_chunk(link, queued->spool, &chunk))
	{
		link->unreadable = queued->spool;
		dc_link_end_spool(link);
		return true;
	}
	XLogFlush(queued->commit_lsn); /* R3 */
	dc_call_append(&call, DC_PART_BATCH, chunk.batch.data, chunk.batch.length);
	draft.rows = chunk.rows;
	if (chunk.last)
	{
		draft.first = link->stream.position;
		draft.batches = 1;
		draft.awaited = queued->awaited;
		draft.committed_us = queued->committed_us;
		dc_stream_batch_sent(&link->stream);
		dc_link_end_spool(link);
	}
	dc_stream_message_sent(&link->stream, false);
	dc_link_send(link, &call, &draft, false);
	return true;
}
