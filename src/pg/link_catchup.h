/*
 * link_catchup.h
 *		The catch-up of a link: when it is owed, its chunks, its end.
 *
 * DcStream says when one begins and when its next chunk goes out; what was
 * acknowledged is remembered, so that it goes on there when the link broke
 * (P15).
 */
#ifndef DATACAKE_LINK_CATCHUP_H
#define DATACAKE_LINK_CATCHUP_H

#include "link_parts.h"

/* The peer told which sources stream to it. */
extern void dc_link_note_incoming(DcLink *link,
								  const bool incoming[DC_NODE_IDS]);

/* Did a source fall silent, of which this node may have more than the peer? */
extern bool dc_link_relay_is_owed(DcLink *link);

extern void dc_link_begin_catchup(DcLink *link);

/* Sends a chunk or the end; nothing if a table is locked (link->later_at). */
extern void dc_link_send_catchup(DcLink *link);

#endif
