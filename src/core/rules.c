/*
 * rules.c
 *		The decisions of replication, one function per rule.
 */
#include "rules.h"

#include "canary.h"

bool
dc_rule_needs_fresh(DcHlc own, DcHlc row, DcHlc death)
{
	if (own <= row)
		return true;
	return own <= death && !DC_CANARY(DC_CANARY_P1);
}

DcHlc
dc_rule_watermark(DcHlc drawn, const DcHlc *slots, size_t slot_count,
				  DcHlc bound, DcHlc previous)
{
	DcHlc watermark = drawn < bound ? drawn : bound;

	for (size_t i = 0; i < slot_count && !DC_CANARY(DC_CANARY_R2); i++)
	{
		if (slots[i] != DC_HLC_NONE && slots[i] - 1 < watermark)
			watermark = slots[i] - 1;
	}
	return watermark > previous ? watermark : previous;
}

DcEntry
dc_rule_above_floor(DcEntry entry, DcHlc floor)
{
	if (entry.stamp > floor || floor == DC_HLC_NONE)
		return entry;
	return (DcEntry){.stamp = floor, .dead = true};
}

/* R5: up to where a key is dead and purged, if neither row nor entry tells. */
static DcHlc
forgotten(DcHlc horizon, DcHlc floor)
{
	if (DC_CANARY(DC_CANARY_R5))
		return floor;
	return horizon > floor ? horizon : floor;
}

DcApply
dc_rule_apply(DcHlc row, DcEntry entry, DcEntry incoming, DcHlc horizon,
			  DcHlc floor)
{
	DcHlc here;
	bool row_lives = row > floor;

	if (incoming.stamp <= floor)
		return DC_APPLY_STALE; /* died in the TRUNCATE */
	if (row_lives && !DC_CANARY(DC_CANARY_P2))
	{
		/* a dead entry beyond the row: the row is about to be erased */
		here = row;
		if (entry.dead && entry.stamp > row)
			here = entry.stamp;
	}
	else if (entry.stamp > floor)
		here = entry.stamp;
	else if (row_lives)
		here = row; /* not simulated: only with P2 left out */
	else
		here = forgotten(horizon, floor);

	if (incoming.stamp < here)
		return DC_APPLY_STALE;
	if (incoming.stamp == here)
		return here == horizon ? DC_APPLY_STALE : DC_APPLY_SAME;
	if (!incoming.dead)
		return DC_APPLY_STORE;
	return row != DC_HLC_NONE ? DC_APPLY_ERASE : DC_APPLY_MARK;
}

bool
dc_rule_needs_reconcile(DcEntry found, DcEntry merged, DcHlc replaced)
{
	if (found.stamp > merged.stamp)
		return true; /* the merge lost */
	if (found.stamp == DC_HLC_NONE || found.stamp == merged.stamp)
		return false;
	return found.stamp != replaced && !found.dead;
}

bool
dc_rule_late_birth(DcHlc row, DcEntry incoming, DcHlc death)
{
	return row == DC_HLC_NONE && !incoming.dead && incoming.stamp <= death;
}

DcReconcile
dc_rule_reconcile(DcHlc row, DcEntry entry)
{
	if (row > entry.stamp)
		return DC_RECONCILE_MERGE_ROW;
	if (row == entry.stamp)
		return entry.dead && row != DC_HLC_NONE ? DC_RECONCILE_ERASE_ROW :
												  DC_RECONCILE_NOTHING;
	if (entry.dead)
		return row != DC_HLC_NONE ? DC_RECONCILE_ERASE_ROW :
									DC_RECONCILE_NOTHING;
	return DC_RECONCILE_FETCH_ROW;
}

DcRejoin
dc_rule_rejoin(DcHlc stamp, bool covered, DcHlc horizon, bool newborn)
{
	if (DC_CANARY(DC_CANARY_R13))
		return DC_REJOIN_KEEP;
	if (covered)
		return DC_REJOIN_ERASE;
	if (stamp > horizon)
		return DC_REJOIN_KEEP;
	return newborn ? DC_REJOIN_REISSUE : DC_REJOIN_QUARANTINE;
}

/* What a TRUNCATE took leaves the maps sooner or later: it is absent. */
static DcEntry
without_floored(DcEntry entry, DcHlc floor)
{
	return entry.stamp > floor ? entry : (DcEntry){DC_HLC_NONE, false};
}

/* `here` is known on one side only; `other` does not know it. */
static DcRepairAction
repair_absent(DcEntry here, const DcRepairSide *other, DcRepairAction send)
{
	if (here.stamp <= other->horizon)
		return here.dead ? DC_REPAIR_NOTHING : DC_REPAIR_KEEP;
	return dc_vv_covers(other->vector, here.stamp) ? send : DC_REPAIR_WAIT;
}

DcRepairAction
dc_rule_repair(const DcRepairSide *own, const DcRepairSide *peer, bool rejoin)
{
	DcHlc floor = own->floor > peer->floor ? own->floor : peer->floor;
	DcEntry a = without_floored(own->entry, floor);
	DcEntry b = without_floored(peer->entry, floor);

	if (a.stamp == b.stamp && a.dead == b.dead)
		return DC_REPAIR_NOTHING;
	if (b.stamp == DC_HLC_NONE && rejoin)
		return a.dead ? DC_REPAIR_NOTHING : DC_REPAIR_ALONE;
	if (b.stamp == DC_HLC_NONE)
		return repair_absent(a, peer, DC_REPAIR_PUSH);
	if (rejoin)
		return b.stamp > a.stamp || (b.stamp == a.stamp && b.dead) ?
				   DC_REPAIR_FETCH :
				   DC_REPAIR_WAIT;
	if (a.stamp == DC_HLC_NONE)
		return repair_absent(b, own, DC_REPAIR_FETCH);
	if (b.stamp > a.stamp || (b.stamp == a.stamp && b.dead))
		return dc_vv_covers(own->vector, b.stamp) ? DC_REPAIR_FETCH :
													DC_REPAIR_WAIT;
	return dc_vv_covers(peer->vector, a.stamp) ? DC_REPAIR_PUSH :
												 DC_REPAIR_WAIT;
}
