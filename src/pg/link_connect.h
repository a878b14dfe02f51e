/*
 * link_connect.h
 *		How a link comes up: connecting, hello, welcome.
 */
#ifndef DATACAKE_LINK_CONNECT_H
#define DATACAKE_LINK_CONNECT_H

#include "link_parts.h"

/* DOWN -> CONNECTING, or DOWN again if there is nothing to connect to. */
extern void dc_link_connect(DcLink *link, const char *conninfo,
							uint64 incarnation);

/* CONNECTING: goes on, says hello when the connection stands. */
extern void dc_link_continue_connect(DcLink *link);

/*
 * HELLO: the peer's sealed welcome.  The stream is open after it, or the link
 * is closed and link->conn NULL.
 */
extern void dc_link_take_welcome(DcLink *link, DcSlice sealed);

#endif
