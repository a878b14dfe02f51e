/*
 * members.h
 *		Who belongs to the cluster, and what all of them have.
 *
 *	 absent -> PRESENT -> FENCED -> REMOVED
 *	              ^          |         |
 *	              +----------+---------+   only as a greater incarnation
 *
 * Each node keeps durably the list of all nodes that it ever knew as members.
 * Lists are merged entry by entry, the greater (incarnation, state) stays, so
 * that all lists become one in whatever order they meet.
 *
 * A *floor* m of a node is the stamp up to which it durably has everything of
 * every member (R7).  The *horizon* g is the least floor of all members (R8):
 * what died at or below it may be forgotten, because nobody can offer it any
 * more who does not know better.  That argument needs that all count the same
 * members, so a floor counts only if it was reported under the very list of
 * whoever computes g; the digest of a list says which.  A joiner is safe as
 * soon as one member has it in its durable list and the joiner has observed
 * that member's clock afterwards: floors under the older list lie below that
 * clock, floors under the newer one include the joiner (R10, R12).
 *
 * FENCED and PRESENT hold g back alike.  A node is fenced before it is
 * removed; in between the survivors close: each sends each other all it has
 * of that source (R11).
 *
 * Pure; the caller guards the list and makes it durable before it reports its
 * digest to anybody.
 */
#ifndef DC_MEMBERS_H
#define DC_MEMBERS_H

#include "vv.h"

#define DC_MEMBERS_MAX DC_NODE_ID_MAX

/* Bytes of an encoded list: count, entries, commands. */
#define DC_MEMBERS_BYTES_MAX (2 + 11 * DC_MEMBERS_MAX + 10 + 8)

typedef enum DcMemberState
{
	DC_MEMBER_ABSENT, /* never in a list */
	DC_MEMBER_PRESENT,
	DC_MEMBER_FENCED,  /* nobody talks to it; it is still waited for */
	DC_MEMBER_REMOVED, /* nobody waits for it */
	DC_MEMBER_STATES
} DcMemberState;

typedef struct DcMember
{
	uint32_t node_id;
	DcMemberState state;
	uint64_t incarnation;
} DcMember;

/*
 * Ascending by node id.  All zero bytes are an empty list.  Beside its members
 * a list says how many commands the cluster has agreed on to be run by each of
 * them, one after the other, and which one was the last.
 */
typedef struct DcMembers
{
	uint32_t count;
	uint64_t commands;
	DcHlc command; /* the stamp that names it; DC_HLC_NONE: there was none */
	DcMember at[DC_MEMBERS_MAX];
} DcMembers;

/*
 * g, and whose floors made it.  The two are one value: who is not counted in
 * it, a newcomer say, may have written below it without anybody knowing.
 */
typedef struct DcHorizon
{
	DcHlc stamp;
	bool counted[DC_NODE_IDS];
} DcHorizon;

/* What a node said of itself, last. */
typedef struct DcReport
{
	uint32_t node_id;
	uint64_t incarnation;
	uint64_t epoch; /* digest of its list */
	DcHlc floor;    /* under that list; DC_HLC_NONE: none yet */
	bool closed;    /* it closed all nodes that the list fences (R11) */
} DcReport;

/* Why a member holds the horizon back. */
typedef enum DcHold
{
	DC_HOLD_NOTHING, /* its floor counts */
	DC_HOLD_SILENT,  /* no report of this incarnation */
	DC_HOLD_LIST,    /* its list is not ours */
	DC_HOLD_JOINING  /* it has no floor yet */
} DcHold;

/* The entry of a node; state DC_MEMBER_ABSENT if there is none. */
DcMember dc_members_get(const DcMembers *list, uint32_t node_id);

/* Does the list name this very incarnation, present? */
bool dc_members_includes(const DcMembers *list, uint32_t node_id,
						 uint64_t incarnation);

/*
 * Merges one entry; true if the list changed.  The greater (incarnation,
 * state) stays.  An entry with an id or a state that does not exist is
 * ignored.
 */
bool dc_members_put(DcMembers *list, DcMember member);
bool dc_members_merge(DcMembers *list, const DcMembers *other);

/* Does the list fence anybody? */
bool dc_members_fence(const DcMembers *list);

/* Members that are waited for: present or fenced. */
uint32_t dc_members_count(const DcMembers *list);

/* Equal for equal lists, and practically only for them; never 0. */
uint64_t dc_members_digest(const DcMembers *list);

/*
 * R7: m, from the durable vector: its least entry over all members that are
 * waited for.  DC_HLC_NONE while one of them is not in it.
 */
DcHlc dc_members_floor(const DcMembers *list, const DcVv *durable);

/* Does the report of this member count under `list`? */
DcHold dc_members_hold(const DcMembers *list, DcMember member,
					   const DcReport *reports, uint32_t report_count);

/*
 * R8: moves g up to the least floor of all members, the own one included; true
 * if it moved.  It stays while one member does not count, or there is only
 * one.
 */
bool dc_members_advance(const DcMembers *list, const DcReport *reports,
						uint32_t report_count, DcHorizon *horizon);

/* R11: the first present member that has not reported that; 0: none. */
uint32_t dc_members_unclosed(const DcMembers *list, const DcReport *reports,
							 uint32_t report_count);

/*
 * R11: when every present member reported under this list that it closed, the
 * fenced ones are removed.  True if the list changed.
 */
bool dc_members_close(DcMembers *list, const DcReport *reports,
					  uint32_t report_count);

/* Takes the greater of both; true if that is the other. */
bool dc_horizon_join(DcHorizon *horizon, const DcHorizon *other);

/*
 * Has `vv` everything up to the horizon of all that it counts?  Who has every
 * death up to there holds nothing that others forgot.
 */
bool dc_horizon_reached(const DcHorizon *horizon, const DcVv *vv);

/* Did the list ever name another node than these two (0: nobody)? */
bool dc_members_named_others(const DcMembers *list, uint32_t one,
							 uint32_t other);

/*
 * R12, R13: must this node join, that is pull everything and compare it,
 * before it ships or claims anything?  Yes if the peer may have forgotten a
 * death that this node never saw.  Who was counted in the horizon reaches it.
 * And yes if this node was always alone and the peer was not: other peers may
 * have forgotten more.
 */
bool dc_members_must_join(const DcHorizon *peer, bool peer_was_alone,
						  const DcVv *own, bool alone);

/*
 * Codec: varint count, then (u16 id, u8 state, u64 incarnation) ascending;
 * varint commands, and if there are any the u64 that names the last.
 */
void dc_members_encode(DcWriter *w, const DcMembers *list);
void dc_members_decode(DcReader *r, DcMembers *list);

/* Codec: u64 stamp, varint count, u16 ids ascending. */
void dc_horizon_encode(DcWriter *w, const DcHorizon *horizon);
void dc_horizon_decode(DcReader *r, DcHorizon *horizon);

#endif
