/*
 * link_stats.c
 *		What others see of a link.
 */
#include "link_stats.h"

#include "clock.h"
#include "queue.h"
#include "vector.h"

DcLinkStats *
dc_link_stats(uint32 node_id)
{
	DcLinkStats *free_slot = NULL;

	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (dc_shared->links[i].node_id == node_id)
			return &dc_shared->links[i];
		if (dc_shared->links[i].node_id == 0 && free_slot == NULL)
			free_slot = &dc_shared->links[i];
	}
	if (free_slot != NULL)
	{
		memset(free_slot, 0, sizeof(*free_slot));
		free_slot->node_id = node_id;
		free_slot->since = GetCurrentTimestamp();
	}
	return free_slot;
}

void
dc_link_set_phase(DcLink *link, DcLinkPhase phase, const char *error)
{
	DcLinkStats *stats;

	link->phase = phase;
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = dc_link_stats(link->node_id);
	if (stats != NULL)
	{
		stats->stranger = false;
		if (stats->phase != phase)
			stats->since = GetCurrentTimestamp();
		if (phase != DC_LINK_CATCHUP)
			stats->catchup.node_id = 0;
		stats->phase = phase;
		if (error != NULL)
		{
			strlcpy(stats->last_error, error, DC_ERROR_BYTES);
			stats->last_error_at = GetCurrentTimestamp();
		}
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

void
dc_link_note_stranger(uint32 node_id, const char *error)
{
	DcLinkStats *stats = NULL;

	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (dc_shared->links[i].node_id == node_id)
			stats = &dc_shared->links[i];
	}
	if (error == NULL)
	{
		if (stats != NULL && stats->stranger)
			stats->node_id = 0;
	}
	else if (stats != NULL || (stats = dc_link_stats(node_id)) != NULL)
	{
		stats->stranger |=
			stats->last_error_at == 0 && stats->phase == DC_LINK_DOWN;
		strlcpy(stats->last_error, error, DC_ERROR_BYTES);
		stats->last_error_at = GetCurrentTimestamp();
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

/* link->catchup NULL: that was its end. */
static void
show_catchup(const DcLink *link, DcProgress *progress, uint32 rows, Size bytes)
{
	if (link->catchup == NULL)
	{
		progress->node_id = 0;
		return;
	}
	progress->keyspace = dc_catchup_keyspace(link->catchup);
	progress->rows_done += rows;
	progress->bytes += bytes;
}

void
dc_link_count_sent(DcLink *link, const DcLinkMessage *message, Size bytes,
				   bool catchup)
{
	DcLinkStats *stats;

	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = dc_link_stats(link->node_id);
	if (stats != NULL)
	{
		stats->sent_batches += message->batches;
		stats->sent_rows += message->rows;
		stats->sent_bytes += bytes;
		if (catchup)
		{
			show_catchup(link, &stats->catchup, message->rows, bytes);
			stats->catchup_rows += message->rows;
		}
		stats->queued = dc_queue_head() - link->stream.position;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

void
dc_link_count_acked(DcLink *link, const DcLinkMessage *message)
{
	DcLinkStats *stats;

	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = dc_link_stats(link->node_id);
	if (stats != NULL)
	{
		stats->acked_batches += message->batches;
		if (message->watermark != DC_HLC_NONE)
			stats->acked_watermark = message->watermark;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

void
dc_link_count_lag(DcLink *link, const DcLinkMessage *message, uint32 held_us)
{
	uint64 now = dc_now_us();
	uint64 lag_us = 0;
	int bucket = 0;
	DcLinkStats *stats;

	if (message->committed_us == 0)
		return;
	if (now > message->committed_us + held_us)
		lag_us = now - message->committed_us - held_us;
	while (bucket < DC_LAG_BUCKETS - 1 && lag_us >> (bucket + 1) != 0)
		bucket++;
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = dc_link_stats(link->node_id);
	if (stats != NULL)
	{
		stats->lag_last_us = lag_us;
		stats->lag_max_us = Max(stats->lag_max_us, lag_us);
		stats->lag_count[bucket] += message->batches;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

void
dc_link_forget(uint32 node_id)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (dc_shared->links[i].node_id == node_id)
			dc_shared->links[i].node_id = 0;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

/* Has the peer all that this node has of others than the two? */
void
dc_link_note_level(DcLink *link, const DcVv *peer)
{
	DcVv *own = MemoryContextAlloc(link->scratch, sizeof(DcVv));
	bool level = true;
	DcLinkStats *stats;

	dc_vector_read(own);
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
		level &= own->at[id] <= peer->at[id] || id == link->node_id ||
				 id == (uint32) datacake_node_id;
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = dc_link_stats(link->node_id);
	if (stats != NULL)
		stats->level = level;
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}
