/*
 * members.c
 *		Who belongs to the cluster, and what all of them have.
 */
#include "members.h"

#include <string.h>

#include "canary.h"
#include "keyhash.h"

/* Index of the first entry with at least this id. */
static uint32_t
position_of(const DcMembers *list, uint32_t node_id)
{
	uint32_t low = 0;
	uint32_t high = list->count;

	while (low < high)
	{
		uint32_t middle = low + (high - low) / 2;

		if (list->at[middle].node_id < node_id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

DcMember
dc_members_get(const DcMembers *list, uint32_t node_id)
{
	uint32_t at = position_of(list, node_id);

	if (at < list->count && list->at[at].node_id == node_id)
		return list->at[at];
	return (DcMember){.node_id = node_id, .state = DC_MEMBER_ABSENT};
}

bool
dc_members_includes(const DcMembers *list, uint32_t node_id,
					uint64_t incarnation)
{
	DcMember member = dc_members_get(list, node_id);

	return member.state == DC_MEMBER_PRESENT &&
		   member.incarnation == incarnation;
}

static bool
valid(DcMember member)
{
	return member.node_id >= 1 && member.node_id <= DC_NODE_ID_MAX &&
		   member.state > DC_MEMBER_ABSENT && member.state < DC_MEMBER_STATES &&
		   member.since <= DC_HLC_MAX;
}

/* Into the entry of the same id; true if it changed. */
static bool
join(DcMember *here, DcMember member)
{
	DcMember before = *here;

	if (member.incarnation < here->incarnation)
		return false;
	if (member.incarnation > here->incarnation)
		*here = member;
	if (member.state > here->state)
		here->state = member.state;
	if (member.since < here->since)
		here->since = member.since;
	return here->state != before.state ||
		   here->incarnation != before.incarnation ||
		   here->since != before.since;
}

bool
dc_members_put(DcMembers *list, DcMember member)
{
	uint32_t at = position_of(list, member.node_id);
	DcMember *here = &list->at[at];

	if (!valid(member))
		return false;
	if (at < list->count && here->node_id == member.node_id)
	{
		return join(here, member);
	}
	memmove(here + 1, here, sizeof(DcMember) * (list->count - at));
	*here = member;
	list->count++;
	return true;
}

bool
dc_members_merge(DcMembers *list, const DcMembers *other)
{
	bool changed = false;

	for (uint32_t i = 0; i < other->count; i++)
		changed |= dc_members_put(list, other->at[i]);
	return changed;
}

static bool
waited_for(DcMember member)
{
	return member.state == DC_MEMBER_PRESENT ||
		   member.state == DC_MEMBER_FENCED;
}

uint32_t
dc_members_count(const DcMembers *list)
{
	uint32_t count = 0;

	for (uint32_t i = 0; i < list->count; i++)
		count += waited_for(list->at[i]);
	return count;
}

/* A chain of hashes; the seed is any, the same everywhere. */
uint64_t
dc_members_digest(const DcMembers *list)
{
	static const uint8_t seed[DC_SEED_BYTES] = "datacake members";
	uint64_t digest = list->count;

	for (uint32_t i = 0; i < list->count; i++)
	{
		const DcMember *member = &list->at[i];
		uint8_t bytes[32];
		DcWriter w;

		dc_writer_init(&w, bytes, sizeof(bytes));
		dc_write_u64(&w, digest);
		dc_write_u32(&w, member->node_id);
		dc_write_u32(&w, (uint32_t) member->state);
		dc_write_u64(&w, member->incarnation);
		dc_write_u64(&w, member->since);
		digest = dc_siphash(seed, bytes, w.length);
	}
	return digest != 0 ? digest : 1;
}

DcHlc
dc_members_floor(const DcMembers *list, const DcVv *durable)
{
	DcHlc floor = DC_HLC_MAX;

	for (uint32_t i = 0; i < list->count; i++)
	{
		const DcMember *member = &list->at[i];

		if (waited_for(*member) && durable->at[member->node_id] < floor)
			floor = durable->at[member->node_id];
	}
	return floor != DC_HLC_MAX ? floor : DC_HLC_NONE;
}

static const DcReport *
report_of(DcMember member, const DcReport *reports, uint32_t report_count)
{
	for (uint32_t i = 0; i < report_count; i++)
	{
		if (reports[i].node_id == member.node_id &&
			reports[i].incarnation == member.incarnation)
			return &reports[i];
	}
	return NULL;
}

static DcHold
hold(uint64_t digest, const DcReport *report)
{
	if (report == NULL)
		return DC_HOLD_SILENT;
	if (report->epoch != digest && !DC_CANARY(DC_CANARY_R10))
		return DC_HOLD_LIST;
	return report->floor != DC_HLC_NONE ? DC_HOLD_NOTHING : DC_HOLD_JOINING;
}

DcHold
dc_members_hold(const DcMembers *list, DcMember member, const DcReport *reports,
				uint32_t report_count)
{
	return hold(dc_members_digest(list),
				report_of(member, reports, report_count));
}

DcHlc
dc_members_horizon(const DcMembers *list, const DcReport *reports,
				   uint32_t report_count, DcHlc previous)
{
	uint64_t digest = dc_members_digest(list);
	DcHlc horizon = DC_HLC_MAX;

	if (dc_members_count(list) < 2)
		return previous;
	for (uint32_t i = 0; i < list->count; i++)
	{
		const DcReport *report;

		if (!waited_for(list->at[i]))
			continue;
		report = report_of(list->at[i], reports, report_count);
		if (hold(digest, report) != DC_HOLD_NOTHING)
		{
			if (DC_CANARY(DC_CANARY_R8))
				continue;
			return previous;
		}
		if (report->floor < horizon)
			horizon = report->floor;
	}
	if (horizon == DC_HLC_MAX)
		return previous;
	return horizon > previous ? horizon : previous;
}

bool
dc_members_close(DcMembers *list, const DcReport *reports,
				 uint32_t report_count)
{
	uint64_t digest = dc_members_digest(list);
	bool changed = false;

	for (uint32_t i = 0; i < list->count; i++)
	{
		const DcReport *report = report_of(list->at[i], reports, report_count);

		if (list->at[i].state == DC_MEMBER_PRESENT &&
			!DC_CANARY(DC_CANARY_R11) &&
			(report == NULL || report->epoch != digest || !report->closed))
			return false;
	}
	for (uint32_t i = 0; i < list->count; i++)
	{
		if (list->at[i].state != DC_MEMBER_FENCED)
			continue;
		list->at[i].state = DC_MEMBER_REMOVED;
		changed = true;
	}
	return changed;
}

bool
dc_members_reach(const DcMembers *list, const DcVv *vv, DcHlc stamp)
{
	for (uint32_t i = 0; i < list->count; i++)
	{
		const DcMember *member = &list->at[i];

		if (waited_for(*member) && member->since < stamp &&
			vv->at[member->node_id] < stamp)
			return false;
	}
	return true;
}

bool
dc_members_must_join(const DcMembers *peer_list, DcHlc peer_horizon,
					 bool peer_was_alone, const DcVv *own, bool alone)
{
	if (DC_CANARY(DC_CANARY_R12))
		return false;
	return (alone && !peer_was_alone) ||
		   !dc_members_reach(peer_list, own, peer_horizon);
}

void
dc_members_encode(DcWriter *w, const DcMembers *list)
{
	dc_write_varint(w, list->count);
	for (uint32_t i = 0; i < list->count; i++)
	{
		dc_write_u16(w, (uint16_t) list->at[i].node_id);
		dc_write_u8(w, (uint8_t) list->at[i].state);
		dc_write_u64(w, list->at[i].incarnation);
		dc_write_u64(w, list->at[i].since);
	}
}

void
dc_members_decode(DcReader *r, DcMembers *list)
{
	uint64_t count = dc_read_varint(r, DC_MEMBERS_MAX);
	uint32_t previous = 0;

	list->count = 0;
	for (uint64_t i = 0; i < count && r->status == DC_OK; i++)
	{
		DcMember member = {.node_id = dc_read_u16(r)};

		member.state = (DcMemberState) dc_read_u8(r);
		member.incarnation = dc_read_u64(r);
		member.since = dc_read_u64(r);
		if (r->status == DC_OK &&
			(!valid(member) || member.node_id <= previous))
			dc_reader_fail(r, DC_MALFORMED);
		if (r->status != DC_OK)
			break;
		list->at[list->count++] = member;
		previous = member.node_id;
	}
	if (r->status != DC_OK)
		list->count = 0;
}
