/*
 * link_stats.h
 *		What others see of a link: datacake.peers, datacake.progress.
 *
 * One DcLinkStats for each node that a link was made to, under
 * DC_LOCK_LINKS; it stays when the link is gone, until it is forgotten.
 */
#ifndef DATACAKE_LINK_STATS_H
#define DATACAKE_LINK_STATS_H

#include "link_parts.h"

/* The node's, or a free one that becomes it; NULL: none.  Holds the lock. */
extern DcLinkStats *dc_link_stats(uint32 node_id);

/* The link is in this phase now; `error`: why, NULL: leaves the last one. */
extern void dc_link_set_phase(DcLink *link, DcLinkPhase phase,
							  const char *error);

/* A call was sent, or acknowledged; `catchup`: a part of the catch-up. */
extern void dc_link_count_sent(DcLink *link, const DcLinkMessage *message,
							   Size bytes, bool catchup);
extern void dc_link_count_acked(DcLink *link, const DcLinkMessage *message);

/* Of the first call that an ack is for, carried out `held_us` before it. */
extern void dc_link_count_lag(DcLink *link, const DcLinkMessage *message,
							  uint32 held_us);

/* Has the peer all that this node has of others than the two? */
extern void dc_link_note_level(DcLink *link, const DcVv *peer);

#endif
