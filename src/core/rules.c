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

DcApply
dc_rule_apply(DcHlc row, DcEntry entry, DcEntry incoming, DcHlc horizon,
			  DcHlc floor)
{
	DcHlc here;

	if (incoming.stamp <= floor)
		return DC_APPLY_STALE; /* died in the TRUNCATE */
	if (row != DC_HLC_NONE && !DC_CANARY(DC_CANARY_P2))
	{
		/* a dead entry beyond the row: the row is about to be erased */
		here = row;
		if (entry.dead && entry.stamp > row)
			here = entry.stamp;
	}
	else if (entry.stamp != DC_HLC_NONE)
		here = entry.stamp;
	else if (row != DC_HLC_NONE)
		here = row;
	else
		/* R5: at or below it, dead and purged */
		here = DC_CANARY(DC_CANARY_R5) ? DC_HLC_NONE : horizon;

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
