/*
 * acked.h
 *		Up to which publish number a peer has flushed everything.
 *
 *	 numbers   1 ......... position        from ...... next
 *	           |  all flushed  |    ?       |  flushed   |
 *
 * Batches are acknowledged in the order of their numbers, but not all of them
 * are sent: what was published before the link was attached, and what follows
 * a gap, is brought by a catch-up.  One that is acknowledged covers every
 * number below the head as read before the vector it began with (R6).  Until
 * then the batches that were streamed meanwhile are a run of their own, which
 * the catch-up joins to the rest.
 *
 * A catch-up leaves to third nodes what they send themselves.  If one of them
 * overwrote a row of such a batch, the peer has neither the row nor, maybe, the
 * newer one.  So the catch-up counts when the peer says that it is settled
 * (debts.h): then it has all of these rows, or newer ones.
 *
 * Pure state.  All zero bytes: nothing is known to be flushed.
 */
#ifndef DC_ACKED_H
#define DC_ACKED_H

#include <stdint.h>

typedef struct DcAcked
{
	uint64_t position; /* every number below is flushed there */
	uint64_t from;     /* of the last run of batches, flushed as well */
	uint64_t next;
	uint64_t number; /* of the last catch-up that was sent; 0: none */
	uint64_t head;   /* it covers all numbers below */
	uint64_t taken;  /* covered by one that is acknowledged */
} DcAcked;

/* The batches [first, next) were acknowledged. */
void dc_acked_batches(DcAcked *acked, uint64_t first, uint64_t next);

/*
 * A catch-up was sent to its end: it covers all publish numbers below `head`,
 * but for what it left to others.  It says all that earlier ones say.
 */
void dc_acked_catchup_sent(DcAcked *acked, uint64_t number, uint64_t head);

/* That catch-up was acknowledged. */
void dc_acked_catchup(DcAcked *acked, uint64_t number);

/* The peer says, with that ack or a later one, that it is settled. */
void dc_acked_settled(DcAcked *acked);

/* The session ended: what the peer says from now on may be of another life. */
void dc_acked_lost(DcAcked *acked);

#endif
