/*
 * choice.h
 *		Whom to ask first for a consistency level.
 *
 * The members become an order; the asking side walks it and asks whoever
 * helps, given who answered and who is being asked.  A replacement is the next
 * one that helps, so none is asked twice.
 *
 *	 this node                                 asks nobody, costs nothing
 *	 the other data centres   b1 c1 b2 a1 ...  a circle, entered at `turn`
 *	 this data centre         x1 x2 ...        likewise
 *	 the slow ones
 *
 * In the circle the nodes of each data centre are spread evenly, so that few
 * neighbours belong to many data centres.  Whoever is asked first is a window
 * of the circle; over all turns each of its nodes is in as many windows.
 *
 * local_quorum: only this data centre.  each_quorum: a circle for each data
 * centre.
 */
#ifndef DC_CHOICE_H
#define DC_CHOICE_H

#include "level.h"

typedef struct DcCandidate
{
	uint32_t centre;
	bool local;
	bool alive;     /* it may be asked */
	int64_t lag_us; /* -1: not known */
} DcCandidate;

/*
 * Writes indexes of candidates to order[], with room for all (at most
 * DC_NODE_ID_MAX), each at most once, and returns how many: all that are
 * alive and can help this level.  `turn` grows by one from call to call.
 */
uint32_t dc_choice_order(const DcCandidate *candidates, uint32_t count,
						 DcLevel level, uint32_t own_centre, uint32_t turn,
						 uint32_t *order);

/* Is one more of this centre of use? `open`: being asked, may answer yet. */
bool dc_choice_helps(const DcTally *have, const DcTally *open,
					 const DcTally *needs, uint32_t centre);

#endif
