/*
 * standing.h
 *		Where this node stands in the cluster: list, floor, horizon, joining.
 *
 *	          hello                       welcome          a list
 *	  peer ----------> admit()     peer ----------> welcomed()   --> listed()
 *	                     |                             |               |
 *	                     v                             v               v
 *	            datacake.register, datacake.local_state (durable first)
 *	                                |
 *	         launcher, once a second and when woken: read list and vector,
 *	         write vector and horizon, then publish list, floor, epoch
 *
 * The rules are those of members.h; here is what must be durable before what
 * is said.  The list changes as roster.h says; the clock that a newcomer is
 * told is read after the list that names it, and the launcher computes floors
 * while it keeps others from changing the list.  So no floor under an older
 * list lies above that clock.
 */
#ifndef DATACAKE_STANDING_H
#define DATACAKE_STANDING_H

#include "postgres.h"

#include "message.h"
#include "shmem.h"

/*
 * A copy of the list as last published, and its position (may be NULL);
 * returns its digest.
 */
extern uint64 dc_standing_members(DcMembers *members, DcPosition *at);
extern uint64 dc_standing_epoch(void);

/*
 * May this node claim anything beyond what is durable (R15): it is not
 * joining, and since its start all members that are alive have answered, or,
 * after some seconds, one has; or it is alone.  By the replicator only.
 */
extern bool dc_standing_claims(void);

extern bool dc_standing_joining(void);

/*
 * A joiner's limit for dc_rule_rejoin, for its own entries or for others':
 * g, once every present member delivered a catch-up to it, and thus counts it.
 * Before that the clock of who took it in, which is above every g, for its
 * own; nothing is said of others' then.  *newborn: for its own entries, no
 * life of this node was a member before.
 */
extern DcHlc dc_standing_limit(bool own, bool *newborn);

/* The comparison begins, or failed: meanwhile other joiners are refused. */
extern void dc_standing_compare(bool compares);

/* Is a call of this peer refused because this node compares now? */
extern bool dc_standing_refuses(uint32 peer);

/* g as it is used here. */
extern void dc_standing_horizon(DcHorizon *horizon);

/*
 * Why calls of this incarnation of a node are refused: a static string, or
 * NULL.  *removed tells that the cluster removed it.
 */
extern const char *dc_standing_complaint(uint32 node_id, uint64 incarnation,
										 bool *removed);

/*
 * A peer said hello, in whose transaction this runs (SPI connected): fills
 * what the welcome says of standing.  ERROR YD029, YD021: it was removed, or
 * goes on as a later incarnation.
 */
extern void dc_standing_admit(uint32 node_id, uint64 incarnation,
							  DcWelcome *welcome);

/*
 * A peer welcomed this node.  Replicator, outside of a transaction.  Returns
 * NULL, or why the link must close.
 */
extern const char *dc_standing_welcomed(const DcWelcome *welcome);

/*
 * The durable list changed, in this transaction (roster.h): was this node
 * taken in by another cluster, or removed?
 */
extern void dc_standing_listed(const DcRegister *before, const DcRegister *now);

/*
 * Registrar, outside of a transaction: gives up the list in which this node is
 * alone, to be taken in by the owners of `theirs`; false if it may not.
 */
extern bool dc_standing_give_way(const DcMembers *theirs);

/* Registrar: nobody whom this adrift node meets has a list; it makes one. */
extern void dc_standing_found_anew(void);

/* Registrar: takes a list that a peer told, if it is newer. */
extern void dc_standing_told(const DcPosition *at, const DcMembers *members);

/*
 * A present member that is alive and lacks something that this node has, its
 * own writes up to `stamp` included; 0: none does.  Who joins is not asked:
 * those who stay send it all they have (R12), but it counts as none of them.
 * *heirs: how many there are.  Asked while leaving only.
 */
extern uint32 dc_standing_lacking(DcHlc stamp, uint32 *heirs);

/* Launcher, in its transaction: the first start makes a list of one. */
extern void dc_standing_found(uint64 incarnation);

/*
 * What goes with the durable vector; after that transaction's commit publish.
 * Without a list loaded only the horizon that was adopted is saved.
 */
typedef struct DcStandingUpdate
{
	DcMembers members;
	DcPosition at;
	bool member; /* the list names this very life of the node */
	uint64 epoch;
	DcHlc floor;
	DcHorizon horizon;
	bool counted; /* others may count on that floor */
	DcVv durable;
} DcStandingUpdate;

/*
 * Launcher, in its transaction: the list.  False if somebody changes it just
 * now; then nothing is published this time.
 */
extern bool dc_standing_load(DcStandingUpdate *update);

extern void dc_standing_prepare(DcStandingUpdate *update, const DcVv *durable,
								bool loaded);
extern void dc_standing_publish(const DcStandingUpdate *update, bool loaded);

/* Asks the launcher for a new incarnation; by anybody, waits for nothing. */
extern void dc_standing_be_reborn(void);

/* A new incarnation begins: it must join. In a transaction, SPI connected. */
extern void dc_standing_reincarnate(uint64 incarnation);

/*
 * Each time the node begins to join, that is another life; 0 while it does
 * not.  What was begun in one life means nothing in the next.
 */
extern uint64 dc_standing_life(void);

/*
 * It has joined, in this life, compared with that donor; 0: with nobody, which
 * counts if no other member of the agreed list is there to wait for.
 * Repairer, outside of a transaction.
 */
extern void dc_standing_joined(uint64 life, uint32 donor);

/*
 * A peer offers its vector, whose horizon this node does not reach: to take it
 * would hide the deaths that were missed.  True: refuse it; this node joins
 * first, at its next welcome or as a new incarnation.
 */
extern bool dc_standing_behind(uint32 peer, const DcHorizon *horizon);

/*
 * A joiner's state: true when enough members delivered a catch-up and V is
 * durable as far as they count on it; then *donor is one of them to compare
 * with, or 0 if there is nothing to compare.
 */
extern bool dc_standing_pulled(uint32 *donor);

/* At COMMIT: a member delivered a catch-up and its horizon; cannot fail. */
extern void dc_standing_delivered(uint32 node_id, const DcHorizon *horizon,
								  uint64 life);

/* The last report of each member, this node's own included. */
extern uint32 dc_standing_reports(DcReport reports[], uint32 max);

/* A peer says that the cluster removed this incarnation; and what came of it. */
extern void dc_standing_set_removed(void);
extern bool dc_standing_removed(void);

/* Replicator: it closed all fenced nodes under this epoch (R11). */
extern void dc_standing_set_closed(uint64 epoch);

#endif
