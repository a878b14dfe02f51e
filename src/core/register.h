/*
 * register.h
 *		The member list as a register that a majority of its members agrees on
 *		(R10): what a node keeps of it, and how it answers.
 *
 *	 L_1 ----------> L_2 ----------> L_3 ---- ...      one lineage
 *	     decided by      decided by
 *	     L_1's present   L_2's present
 *
 * Lists form a chain.  The number of a list is its epoch.  Its successor is
 * decided by single-decree Paxos (Lamport, "Paxos made simple", 2001), whose
 * acceptors are the members that it names as present, each by its incarnation;
 * floor(n/2) + 1 of them are a majority.  Each list differs from the one
 * before in one entry, or in one command more (dc_list_change_apply).  Ballots are stamps: unique, never
 * drawn twice (R14).  The proposing side is proposer.h.
 *
 * Position.  A lineage is a number that its founder drew, and a generation:
 * none, or the stamp of the forced recovery that began it.  Of two positions
 * of one founder the greater (generation, epoch) is newer, and who learns of a
 * newer one takes it; what it had promised and accepted belonged to the older
 * one and is void.
 *
 * A new life has lost what its former life promised.  It does not vote until
 * a list names it.  With three members or more, all others are a majority and
 * put that list in force.  With two they are not, so the new life may take
 * over the vote of the old one (takeover): it draws a ballot, the other member
 * promises it, and the new life adopts that promise with whatever the other
 * had accepted; for this instance only.
 *		- Every majority of two is both, so the other member accepted all that
 *		  was ever decided.  After its promise it accepts nothing below that
 *		  ballot any more; hence what the new life adopts is all that the old
 *		  one can have helped to decide, and a promise of the old life above
 *		  the ballot is not finished without the other member, which then
 *		  tells what it accepted since.
 *		- Merely reading the state of the other is not enough: the old life
 *		  accepted, the new one reads, the other one accepts: decided, and if
 *		  the other's disk is set back next, nobody knows.
 *		- With more members it is not safe at all, even from all others: the
 *		  old life promised b; the new one takes over below b, and helps to
 *		  decide between the two; then whoever had the old life's promise
 *		  decides something else with b and others that it did not ask before.
 *		- It takes for granted that the old life is over (R15).
 * A lone node whose life is new cannot know whom it had admitted, so it founds
 * a new lineage; being alone in that, it gives way to whomever it meets, also
 * to those whom a forced recovery had removed and not yet told.
 *
 * Forced recovery (dc_register_force) is for a majority that is lost for good.
 * It makes a list in which only the named survivors are present, and all others
 * removed, under a new generation.  It may lose: changes of the list that the
 * missing ones decided without a survivor; everything that only the missing
 * ones hold, rows acknowledged at a level that they made up included (R11 is
 * not kept: nobody closed them); and, if they are not lost at all but only out
 * of reach, all that they decide and commit meanwhile: when they return they
 * learn that they are removed, and join as new lives (R13).  Two forced
 * recoveries on two sides do not merge: the later stamp removes the other
 * side.  So it must be asked for and confirmed by a person who knows that the
 * missing servers are stopped.
 *
 * Lineages do not merge.  A node whose lineage never named another as present,
 * or a new life whose own list says that the former one is no member, may
 * abandon it (durably) and is adrift: it votes nowhere until it learns a list
 * that names it and others.  A group never does; two groups refuse each other
 * (dc_register_meet).
 *
 * Pure.  Whatever changed must be durable before the reply leaves.  Requests
 * are checked here, their sender authenticated by the caller; ballots that
 * lie ahead of the clock beyond the drift are the caller's to refuse.
 */
#ifndef DC_REGISTER_H
#define DC_REGISTER_H

#include "members.h"

/* Where a list stands.  All zero: nowhere. */
typedef struct DcPosition
{
	uint64_t founder; /* not 0 */
	DcHlc generation; /* DC_HLC_NONE: as it was founded */
	uint64_t epoch;
} DcPosition;

typedef enum DcListChangeKind
{
	DC_CHANGE_ADMIT,   /* absent, or a lesser incarnation in any state */
	DC_CHANGE_FENCE,   /* present as this incarnation, and not the last one */
	DC_CHANGE_REMOVE,  /* fenced as this incarnation */
	DC_CHANGE_COMMAND, /* the next command, of this number, by this name */
	DC_CHANGE_KINDS
} DcListChangeKind;

/*
 * To leave is to fence oneself; the others remove.  A command concerns no
 * member; node_id says who proposes it.
 */
typedef struct DcListChange
{
	DcListChangeKind kind;
	uint32_t node_id;
	uint64_t incarnation;
	uint64_t number;
	DcHlc command;
} DcListChange;

typedef enum DcListEffect
{
	DC_LIST_APPLIES,
	DC_LIST_ALREADY, /* the list is as the change wants it */
	DC_LIST_FORBIDDEN
} DcListEffect;

/* Durable, all of it. */
typedef struct DcRegister
{
	uint32_t node_id;
	uint64_t incarnation;
	uint64_t voice; /* as whom it votes on the successor of `list`; 0: not */
	bool adrift;    /* it abandoned its lineage */
	bool shared;    /* the lineage had another member */
	DcPosition at;
	DcMembers list;
	DcHlc promised;
	DcHlc ballot;       /* of `accepted`; DC_HLC_NONE: nothing */
	DcMembers accepted; /* as the successor of `list` */
} DcRegister;

typedef enum DcRegisterKind
{
	DC_REGISTER_READ = 1,    /* changes nothing */
	DC_REGISTER_PREPARE = 2, /* at, list, ballot */
	DC_REGISTER_ACCEPT = 3,  /* at, list, ballot, value */
	DC_REGISTER_LEARN = 4,   /* at, list */
	DC_REGISTER_KINDS,
	/* to the own register only; never on the wire */
	DC_REGISTER_TAKEOVER /* at, list, ballot, accepted_ballot, value */
} DcRegisterKind;

typedef struct DcRegisterRequest
{
	DcRegisterKind kind;
	DcPosition at;  /* of `list` */
	DcMembers list; /* decided */
	DcHlc ballot;
	DcHlc accepted_ballot; /* takeover: of `value`; may be none */
	DcMembers value;
} DcRegisterRequest;

typedef enum DcVerdict
{
	DC_VERDICT_YES,     /* read, promised, accepted or learned */
	DC_VERDICT_REFUSED, /* it promised a greater ballot: `promised` */
	DC_VERDICT_AHEAD,   /* its list is newer */
	DC_VERDICT_SILENT,  /* it does not vote on this list's successor */
	DC_VERDICT_ADRIFT,  /* it belongs to no lineage now */
	DC_VERDICT_LINEAGE, /* it belongs to another one */
	DC_VERDICT_SPLIT,   /* it has another list at this position: a fault */
	DC_VERDICT_INVALID, /* the value does not follow the list */
	DC_VERDICTS
} DcVerdict;

/* The verdict, and all that the node knows. */
typedef struct DcRegisterReply
{
	DcVerdict verdict;
	DcRegisterKind kind; /* of the request */
	DcHlc ballot;        /* of the request */
	uint32_t node_id;
	uint64_t incarnation;
	uint64_t voice;
	bool adrift;
	bool alone; /* see dc_register_alone */
	DcPosition at;
	DcMembers list;
	DcHlc promised;
	DcHlc accepted_ballot;
	DcMembers accepted;
} DcRegisterReply;

/* What two nodes that meet do about their lineages. */
typedef enum DcMeeting
{
	DC_MEETING_SAME,  /* one founder: the newer list is sent to the other */
	DC_MEETING_YIELD, /* this node abandons its own, then asks for admission */
	DC_MEETING_AWAIT, /* the other one will */
	DC_MEETING_FOUND, /* both are adrift: this node founds a lineage */
	DC_MEETING_REFUSE /* two groups; only an operator may abandon his own */
} DcMeeting;

/* ---- positions and changes ---- */

/* Less than, equal to or greater than 0; only for one founder. */
int dc_position_compare(const DcPosition *a, const DcPosition *b);

/* Members that vote, and how many of them must. */
uint32_t dc_register_voters(const DcMembers *list);
uint32_t dc_register_majority(const DcMembers *list);

/* `next` is set only if it applies; it may be NULL. */
DcListEffect dc_list_change_apply(const DcMembers *list,
								  const DcListChange *change, DcMembers *next);

/* Is `next` what one change makes of `list`? */
bool dc_register_follows(const DcMembers *list, const DcMembers *next);

bool dc_members_equal(const DcMembers *a, const DcMembers *b);

/* Of the 16 kB of a list only what is used. */
void dc_members_copy(DcMembers *to, const DcMembers *from);

/* ---- a node's register ---- */

/*
 * A new lineage with this node alone in it; `founder` is random and not 0.
 * Allowed to a new register (all zero) and to one that is adrift.
 */
bool dc_register_found(DcRegister *reg, uint32_t node_id, uint64_t incarnation,
					   uint64_t founder);

/*
 * A new register that waits for the first list that names it.  The incarnation
 * is one that never voted: a node whose disk was emptied has a new one.
 */
void dc_register_drift(DcRegister *reg, uint32_t node_id, uint64_t incarnation);

/*
 * This node's life is new.  `founder` is used if it was alone in its list.
 * Nothing happens if the incarnation is not greater.
 */
bool dc_register_reborn(DcRegister *reg, uint64_t incarnation,
						uint64_t founder);

/*
 * Answers a request of whomever.  True if the register changed: it must be
 * durable before the reply leaves.  Reply and register do not overlap.
 */
bool dc_register_answer(DcRegister *reg, const DcRegisterRequest *request,
						DcRegisterReply *reply);

/* Nobody else ever relied on this lineage. */
bool dc_register_alone(const DcRegister *reg);

/* Is this very life present in its list? */
bool dc_register_member(const DcRegister *reg);

/* What to do about the node that gave this reply, to a READ say. */
DcMeeting dc_register_meet(const DcRegister *reg, const DcRegisterReply *peer);

/* The node is adrift from now on; false if it may not. */
bool dc_register_abandon(DcRegister *reg);

/*
 * Forced recovery: the list in which of all nodes only `survivors` (their
 * replies to a READ, each of one founder) are present, and its position.
 * `stamp` is fresh; it becomes the generation.  Not DC_OK: `who` is to blame,
 * position and list mean nothing.  DC_NOT_ALLOWED: it was fenced or removed as
 * the life that it is, perhaps by a list that only some had accepted; it needs
 * a new life (or nobody was given).  DC_LINEAGE: it is not of the first one's
 * lineage.  DC_OUTVOTED: the stamp is not above what it knows.
 */
DcStatus dc_register_force(const DcRegisterReply *survivors, uint32_t count,
						   DcHlc stamp, DcPosition *at, DcMembers *list,
						   uint32_t *who);

/* ---- codecs ---- */

/* Enough for each message and for the durable state. */
#define DC_REGISTER_BYTES_MAX (128 + 2 * DC_MEMBERS_BYTES_MAX)

void dc_register_request_encode(DcWriter *w, const DcRegisterRequest *request);
DcStatus dc_register_request_decode(const void *data, size_t length,
									DcRegisterRequest *request);

void dc_register_reply_encode(DcWriter *w, const DcRegisterReply *reply);
DcStatus dc_register_reply_decode(const void *data, size_t length,
								  DcRegisterReply *reply);

void dc_register_encode(DcWriter *w, const DcRegister *reg);
DcStatus dc_register_decode(const void *data, size_t length, DcRegister *reg);

#endif
