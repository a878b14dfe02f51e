/*
 * copy_donor.h
 *		Which member an empty node copies, and how it is asked.
 */
#ifndef DATACAKE_COPY_DONOR_H
#define DATACAKE_COPY_DONOR_H

#include "postgres.h"

#include "caller.h"
#include "copy.h"

/* node_id 0: nobody. */
typedef struct DcCopyDonor
{
	uint32 node_id;
	DcCaller *caller;   /* open; the chooser closes it */
	DcCopyAnswer *plan; /* its answer to BEGIN; palloc'd */
} DcCopyDonor;

/*
 * The best donor among the live members: of this data centre, serving the
 * fewest copies, the quickest to answer.  `failed` only if there is no other.
 * Outside of a transaction; `check`, called while waiting, may raise.  What is
 * wrong with a member is logged; *candidates: how many there are.
 */
extern DcCopyDonor dc_copy_choose_donor(uint32 failed, void (*check)(void),
										int *candidates);

/* Asks; ERROR if the answer is malformed, or to something else. */
extern void dc_copy_send(DcCaller *caller, const DcCopyQuestion *question);
extern void dc_copy_receive(DcCaller *caller, DcCopyKind kind,
							DcCopyAnswer *answer);

#endif
