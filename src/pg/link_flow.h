/*
 * link_flow.h
 *		What goes out on a link next, and what its acks say.
 */
#ifndef DATACAKE_LINK_FLOW_H
#define DATACAKE_LINK_FLOW_H

#include "link_parts.h"

/* Sends as long as there is something, and room for it under way. */
extern void dc_link_send_all(DcLink *link, const DcStreamView *watermark,
							 bool watermark_due);

/* u64 number of the last call that it is for, then the sealed ack. */
extern void dc_link_take_ack(DcLink *link, DcSlice frame);

/* While this node joins: looks again how the peer stands, when it is time. */
extern void dc_link_ask_again(DcLink *link);

#endif
