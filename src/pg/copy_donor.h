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
	uint64 incarnation;
	DcCopyAnswer *plan; /* its answer to BEGIN; palloc'd */
} DcCopyDonor;

/*
 * The best donor among the live members: of this data centre, serving the
 * fewest copies, the quickest to answer.  `failed` only if there is no other.
 * Outside of a transaction.  What is wrong with a member is logged;
 * *candidates: how many there are, none as long as this node is no member.
 */
extern DcCopyDonor dc_copy_choose_donor(uint32 failed, void (*check)(void),
										int *candidates);

/* It has left, or the list says so: it will not serve this copy any more. */
extern bool dc_copy_donor_is_gone(uint32 node_id);

/* `check`, called while waiting, may raise. */
extern DcAsk *dc_copy_begin_asking(void (*check)(void));

/*
 * Asks one node; ERROR if the answer is malformed, or to something else.  It
 * is palloc'd, so the next question may be sent before it is used.  Returns
 * the incarnation of the node that gave it.
 */
extern void dc_copy_send(DcAsk *asking, uint32 node_id,
						 const DcCopyQuestion *question);
extern uint64 dc_copy_receive(DcAsk *asking, uint32 node_id, DcCopyKind kind,
							  DcCopyAnswer *answer);

#endif
