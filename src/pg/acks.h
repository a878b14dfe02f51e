/*
 * acks.h
 *		Who has flushed what of this node, and who waits for that.
 *
 *	 links ----- note ----> per peer: position, under which member list
 *	                              |
 *	 replicator, once a turn:     v
 *	                        per level: reached, under which member list
 *	                              |
 *	 a committed backend          v
 *	 waits for its number <-- woken, if all its levels reached it
 *
 * Positions are publish numbers (queue.h): all below are flushed.  An ack
 * counts only under the member list that its peer had been told when the call
 * was sent, in the incarnation that the list names, and not from a peer that
 * is joining.  Many waiters cost one pass over them for each turn in which
 * something was acknowledged, and each is woken once.
 *
 * Guarded by DC_LOCK_ACKS.
 */
#ifndef DATACAKE_ACKS_H
#define DATACAKE_ACKS_H

#include "postgres.h"

#include "voters.h"

/* A set of levels, all of which are to be met: a bit for each DcLevel. */
typedef uint32 DcLevelSet;

extern Size dc_acks_bytes(int processes);
extern void dc_acks_attach(int processes);

/* --- links, in the replicator --- */

/*
 * The peer said welcome; it was joining when its clock showed this, or
 * DC_HLC_NONE.  That it has joined is heard by gossip.
 */
extern void dc_acks_meet(uint32 node_id, uint64 incarnation, DcHlc joining_at);

/* It has flushed all below `position`, and knows the list of that digest. */
extern void dc_acks_note(uint32 node_id, uint64 epoch, uint64 position);

/* At the end of each turn: what is reached now, and who waited for it. */
extern void dc_acks_turn(void);

/* --- backends --- */

/*
 * Waits until all these levels hold for this publish number, at most until
 * the deadline; 0: asks only.  Reacts to no interrupt, but returns when there
 * is one.
 */
typedef enum DcAcksResult
{
	DC_ACKS_REACHED,
	DC_ACKS_LATE,
	DC_ACKS_INTERRUPTED,
	DC_ACKS_POSTMASTER_DIED
} DcAcksResult;

extern DcAcksResult dc_acks_wait(uint64 number, DcLevelSet levels,
								 TimestampTz deadline);

/* Would an ack of this member count, as far as is known here? */
extern bool dc_acks_joining(uint32 node_id);

/* Has it flushed this number, and does that count under this list? */
extern bool dc_acks_has(uint32 node_id, uint64 epoch, uint64 number);

#endif
