/*
 * link.h
 *		The sending side of the connection to one peer.
 *
 *	 DOWN -- due --> CONNECTING -- ready --> HELLO -- welcome --> STREAM
 *	  ^                  |                     |                    |
 *	  +------------------+----- any failure ---+--------------------+
 *
 * One non-blocking libpq connection in COPY mode (peer_stream.c).  Each call
 * is carried out in one transaction at the peer, alone or with others, and its
 * ack follows the flush there.  What is sent next is decided by DcStream; the
 * files of the link (link_parts.h) move the bytes.
 */
#ifndef DATACAKE_LINK_H
#define DATACAKE_LINK_H

#include "postgres.h"

#include "shmem.h"
#include "stream.h"

typedef struct DcLink DcLink;

/* Makes a link to a peer, DOWN; lives in `context`. */
extern DcLink *dc_link_create(MemoryContext context, uint32 node_id);

/*
 * Registrar: a node that is no member yet does not answer, and why; it is
 * shown like a link.  NULL: it does.
 */
extern void dc_link_note_stranger(uint32 node_id, const char *error);

/*
 * Which batches, committed now, are sent with what comes after them, at the
 * next ack or when the time of dc_link_timeout_ms() has come.
 */
extern DcGather dc_link_gathers(const DcLink *link);

/* Closes the connection and frees the link; what was said of it stays. */
extern void dc_link_destroy(DcLink *link);

/* Nothing is to be said of the link to this node any more. */
extern void dc_link_forget(uint32 node_id);

/*
 * Does what can be done now without waiting: connects, reads acks, sends.
 * `ready`: its socket was ready since the last turn.
 * `watermark_due`: close a segment if there is one.
 * `incarnation` and `conninfo` are what gossip says of the peer.
 */
extern void dc_link_turn(DcLink *link, const char *conninfo, uint64 incarnation,
						 bool ready, const DcStreamView *watermark,
						 bool watermark_due);

/* Ends the connection; it is tried again after a while. */
extern void dc_link_close(DcLink *link, const char *reason);

/* Was a catch-up that began under this member list acknowledged (R11)? */
extern bool dc_link_closed(const DcLink *link, uint64 epoch);

extern uint32 dc_link_node_id(const DcLink *link);

/* Socket and events to wait for; PGINVALID_SOCKET: none. */
extern int dc_link_socket(const DcLink *link, uint32 *events);

/* Least queue number that the link still needs; DC_QUEUE_NONE: none. */
extern uint64 dc_link_needs(const DcLink *link);

/* Falls too far behind: leaves the queue, a catch-up is owed. */
extern void dc_link_detach(DcLink *link);

/* Milliseconds until the link wants a turn without any event; -1: never. */
extern long dc_link_timeout_ms(const DcLink *link);

#endif
