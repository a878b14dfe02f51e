/*
 * link_wire.h
 *		Sealed messages of a link.
 *
 * The hello is a query, then the peer is told to take calls (peer_stream.c):
 * calls and acks are COPY data.  What was sent stands in link->messages until
 * it is answered.  Everything here lives in the scratch context of the
 * link, until the next call is begun.  Whatever fails closes the link:
 * link->conn is NULL then.
 */
#ifndef DATACAKE_LINK_WIRE_H
#define DATACAKE_LINK_WIRE_H

#include "link_parts.h"

/* The connection is broken; libpq knows why. */
extern void dc_link_fail(DcLink *link);

extern uint8 *dc_link_seal(DcLink *link, const DcAssociated *binding,
						   const void *plain, Size length, int *sealed_length);

/* false: it does not authenticate. */
extern bool dc_link_open(DcLink *link, char direction, uint64 sequence,
						 DcSlice sealed, DcSlice *plain);

/* The message that was just given to libpq; the oldest, which were answered. */
extern DcLinkMessage *dc_link_push(DcLink *link, DcLinkMessageKind kind);
extern void dc_link_pop(DcLink *link, int count);

/* After the hello was answered: the peer is to take calls. */
extern void dc_link_start(DcLink *link);

/* Hands to the socket what it takes. */
extern void dc_link_flush(DcLink *link);

/* Sets anew until when the peer must answer. */
extern void dc_link_await(DcLink *link);

/* A call: begin, append its parts, send with what is to be known of it. */
extern void dc_link_begin_call(DcLink *link, StringInfo call);
extern void dc_link_send(DcLink *link, StringInfo call,
						 const DcLinkMessage *draft, bool catchup);

#endif
