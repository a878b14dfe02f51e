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
} DcAcked;

/* The batches [first, next) were acknowledged. */
void dc_acked_batches(DcAcked *acked, uint64_t first, uint64_t next);

/* A catch-up was: it covers all numbers below `head`. */
void dc_acked_catchup(DcAcked *acked, uint64_t head);

#endif
