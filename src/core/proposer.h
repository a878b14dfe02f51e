/*
 * proposer.h
 *		Carries one change of the member list through (register.h, R10).
 *
 *	 READING --> DRAWING --> PREPARING --> ACCEPTING --> LEARNING --> DONE
 *	 (no list     ^   ^          |             |
 *	  known)      |   +----------+-------------+  a newer list; the list of
 *	              |              |             |  somebody else was completed
 *	           BACKOFF <---------+-------------+  a greater promise
 *
 * Anybody may propose: a member, or a joiner that asks for its own admission.
 * A list that a majority may already have accepted is completed first, as
 * somebody else's; the change is then tried on what follows from it.
 *
 * How to drive it, until dc_proposer_done():
 *
 *		if dc_proposer_wants_ballot(): draw a stamp above p->above (observe
 *			that one first) and give it to dc_proposer_ballot()
 *		while (dc_proposer_send(p, &node_id)): send that request; for the own
 *			node call dc_register_answer() and make it durable
 *		dc_proposer_reply() for each reply, dc_proposer_unreachable() for each
 *			node that cannot be reached or does not answer in time
 *		dc_proposer_time() not later than dc_proposer_wake()
 *
 * Late and repeated replies are recognised by their kind and ballot.
 *
 * p->status at the end:
 *		DC_OK           the change is in the list p->request.list, number
 *		                p->request.at; p->already: it was before
 *		DC_NO_MAJORITY  nothing of this change happened; p->answered of
 *		                p->needed members voted, dc_proposer_missing() tells
 *		                who did not
 *		DC_UNDECIDED    the same, but some accepted it: it may yet be decided;
 *		                the same change again finds out.  Or others went on
 *		                meanwhile, and their list does not show whether it was
 *		DC_OUTVOTED     the time was up while others were ahead
 *		DC_LINEAGE      members belong to another lineage (p->stranger)
 *		DC_NOT_ALLOWED  the list does not permit it; of the own admission: only a
 *		                new life may come back
 *		DC_NOT_MEMBER   only members may change others
 *		DC_SPLIT        p->stranger has another list with the same number
 *
 * A forced recovery is carried through in the same way: READING all survivors,
 * DRAWING, LEARNING at all of them.  DC_NO_MAJORITY: not all answered, nothing
 * happened.  DC_UNDECIDED: not all have learned it yet; it is in force.
 * Others as dc_register_force() says, of p->stranger.
 *
 * Pure; about 50 kB, and of the caller 33 kB for each survivor.
 */
#ifndef DC_PROPOSER_H
#define DC_PROPOSER_H

#include "register.h"

typedef enum DcProposerState
{
	DC_PROPOSER_READING,
	DC_PROPOSER_DRAWING,
	DC_PROPOSER_PREPARING,
	DC_PROPOSER_ACCEPTING,
	DC_PROPOSER_LEARNING,
	DC_PROPOSER_BACKOFF,
	DC_PROPOSER_DONE
} DcProposerState;

/* Of one node in one phase. */
typedef enum DcAsked
{
	DC_ASKED_NOT,  /* not concerned */
	DC_ASKED_HELD, /* the own node, until the other one promised */
	DC_ASKED_TO_SEND,
	DC_ASKED_SENT,
	DC_ASKED_YES,
	DC_ASKED_NO,      /* it answered, but does not vote */
	DC_ASKED_REFUSED, /* a greater promise */
	DC_ASKED_UNREACHABLE
} DcAsked;

typedef struct DcProposer
{
	uint32_t node_id;
	uint64_t incarnation;
	DcProposerState state;
	DcStatus status;
	bool already;
	bool decided;      /* DC_OK is certain, though LEARNING may go on */
	uint32_t answered; /* of the phase that failed */
	uint32_t needed;
	uint32_t stranger;
	DcHlc above; /* the next ballot must be greater */

	/* the rest is its own */
	DcListChange change;
	bool own;     /* the value is what `change` makes of the list */
	bool moved;   /* the list is not the one that it began with */
	bool risked;  /* it was sent to be accepted, on this list */
	bool unclear; /* ... on one whose successor nobody told */
	uint32_t via; /* READING: who is asked */
	uint32_t tries;
	uint64_t chance;
	uint64_t wake_us;
	uint64_t deadline_us;
	DcRegisterRequest request; /* of this phase; its list is the base */
	DcHlc best_ballot;
	DcMembers best; /* accepted by somebody under the greatest ballot */
	uint8_t asked[DC_NODE_IDS];

	/* forced recovery */
	DcRegisterReply *survivors;
	uint32_t survivor_count;
} DcProposer;

/*
 * Begins at what the own register knows: `reg` gives identity and list.  If
 * it is adrift, or has none, node `via` is asked for its list first.
 * `chance` is a random number for the back-off.
 */
void dc_proposer_begin(DcProposer *p, const DcRegister *reg, uint32_t via,
					   const DcListChange *change, uint64_t chance,
					   uint64_t deadline_us);

/*
 * Begins a forced recovery with these survivors; `reg`'s node is one of them,
 * or it is DC_NOT_ALLOWED.  `room` is for one reply of each.
 */
void dc_proposer_begin_forced(DcProposer *p, const DcRegister *reg,
							  const uint32_t *survivors, uint32_t count,
							  DcRegisterReply *room, uint64_t deadline_us);

bool dc_proposer_wants_ballot(const DcProposer *p);
void dc_proposer_ballot(DcProposer *p, DcHlc ballot);

/* Whom to send p->request next; false: nobody. */
const DcRegisterRequest *dc_proposer_send(DcProposer *p, uint32_t *node_id);

void dc_proposer_reply(DcProposer *p, uint32_t node_id,
					   const DcRegisterReply *reply, uint64_t now_us);
void dc_proposer_unreachable(DcProposer *p, uint32_t node_id, uint64_t now_us);
void dc_proposer_time(DcProposer *p, uint64_t now_us);

/* When dc_proposer_time() is due. */
uint64_t dc_proposer_wake(const DcProposer *p);

bool dc_proposer_done(const DcProposer *p);

/* The first node above `after` that said no, or cannot be reached; or 0. */
uint32_t dc_proposer_missing(const DcProposer *p, uint32_t after);

#endif
