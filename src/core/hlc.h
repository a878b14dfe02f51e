/*
 * hlc.h
 *		Hybrid logical clock: stamps that name one transaction's writes in the
 *		whole cluster.
 *
 *	 bit 63        62..10                                  9..0
 *	+------+---------------------------------------+----------------+
 *	|  0   | microseconds since 2000-01-01 UTC (53) | node id (10)  |
 *	+------+---------------------------------------+----------------+
 *
 * The stamp orders as a positive bigint: first by time, then by node, so two
 * nodes never make the same stamp.  There is no separate logical counter:
 * when two stamps fall into one microsecond the clock borrows from the
 * future, one microsecond a stamp (Kulkarni et al., "Logical Physical
 * Clocks", 2014, with the counter folded into the time).
 *
 * Pure functions over values; the shared word that holds the last stamp, and
 * its compare-and-swap, belong to the caller.
 */
#ifndef DC_HLC_H
#define DC_HLC_H

#include <stdbool.h>
#include <stdint.h>

typedef uint64_t DcHlc;

#define DC_HLC_NODE_BITS 10
#define DC_HLC_TIME_BITS 53
#define DC_HLC_NONE      ((DcHlc) 0) /* before every stamp; never drawn */
#define DC_HLC_MAX       (((DcHlc) 1 << (DC_HLC_TIME_BITS + DC_HLC_NODE_BITS)) - 1)
#define DC_HLC_US_MAX    (((uint64_t) 1 << DC_HLC_TIME_BITS) - 1)

/* Node ids are 1 .. DC_NODE_ID_MAX; 0 is nobody. */
#define DC_NODE_ID_MAX ((1u << DC_HLC_NODE_BITS) - 1)
#define DC_NODE_IDS    (DC_NODE_ID_MAX + 1)

_Static_assert(DC_HLC_NODE_BITS + DC_HLC_TIME_BITS == 63,
			   "a stamp is a positive bigint");

/* The stamp of this time and node; arguments beyond their bits are cut. */
DcHlc dc_hlc_make(uint64_t time_us, uint32_t node_id);

/* Parts of a stamp. */
uint64_t dc_hlc_time_us(DcHlc stamp);
uint32_t dc_hlc_node_id(DcHlc stamp);

/*
 * The stamp that follows `last` on node `node_id` when the wall shows
 * `now_us`: max(now, last + 1 us).  Strictly greater than `last` as long as
 * the time fits 53 bits (year 2285); DC_HLC_NONE when it does not.
 */
DcHlc dc_hlc_next(DcHlc last, uint64_t now_us, uint32_t node_id);

/* The clock word after `stamp` was taken in from elsewhere. */
DcHlc dc_hlc_observe(DcHlc last, DcHlc stamp);

/* True when `stamp` lies more than `drift_us` ahead of the wall time. */
bool dc_hlc_ahead(DcHlc stamp, uint64_t now_us, uint64_t drift_us);

/* A value a peer may send as a stamp: positive, with a node id. */
bool dc_hlc_valid(DcHlc stamp);

#endif
