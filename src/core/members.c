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
		   member.state > DC_MEMBER_ABSENT && member.state < DC_MEMBER_STATES;
}

bool
dc_members_put(DcMembers *list, DcMember member)
{
	uint32_t at = position_of(list, member.node_id);
	DcMember *here = &list->at[at];

	if (!valid(member))
		return false; /* not simulated: the codec refuses it before */
	if (at < list->count && here->node_id == member.node_id)
	{
		if (here->incarnation > member.incarnation ||
			(here->incarnation == member.incarnation &&
			 here->state >= member.state))
			return false;
		*here = member;
		return true;
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

bool
dc_members_fence(const DcMembers *list)
{
	for (uint32_t i = 0; i < list->count; i++)
	{
		if (list->at[i].state == DC_MEMBER_FENCED)
			return true;
	}
	return false;
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
		uint8_t bytes[24];
		DcWriter w;

		dc_writer_init(&w, bytes, sizeof(bytes));
		dc_write_u64(&w, digest);
		dc_write_u32(&w, member->node_id);
		dc_write_u32(&w, (uint32_t) member->state);
		dc_write_u64(&w, member->incarnation);
		digest = dc_siphash(seed, bytes, w.length);
	}
	if (list->commands != 0)
	{
		uint8_t bytes[24];
		DcWriter w;

		dc_writer_init(&w, bytes, sizeof(bytes));
		dc_write_u64(&w, digest);
		dc_write_u64(&w, list->commands);
		dc_write_u64(&w, list->command);
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

/* The least floor; DC_HLC_NONE if one member does not count. */
static DcHlc
least_floor(const DcMembers *list, const DcReport *reports,
			uint32_t report_count)
{
	uint64_t digest = dc_members_digest(list);
	DcHlc least = DC_HLC_MAX;

	for (uint32_t i = 0; i < list->count; i++)
	{
		const DcReport *report = report_of(list->at[i], reports, report_count);

		if (!waited_for(list->at[i]))
			continue;
		if (hold(digest, report) == DC_HOLD_NOTHING)
			least = report->floor < least ? report->floor : least;
		else if (!DC_CANARY(DC_CANARY_R8))
			return DC_HLC_NONE;
	}
	return least != DC_HLC_MAX ? least : DC_HLC_NONE;
}

bool
dc_members_advance(const DcMembers *list, const DcReport *reports,
				   uint32_t report_count, DcHorizon *horizon)
{
	DcHlc least = least_floor(list, reports, report_count);

	if (dc_members_count(list) < 2 || least <= horizon->stamp)
		return false;
	horizon->stamp = least;
	memset(horizon->counted, 0, sizeof(horizon->counted));
	for (uint32_t i = 0; i < list->count; i++)
		horizon->counted[list->at[i].node_id] = waited_for(list->at[i]);
	return true;
}

uint32_t
dc_members_unclosed(const DcMembers *list, const DcReport *reports,
					uint32_t report_count)
{
	uint64_t digest = dc_members_digest(list);

	for (uint32_t i = 0; i < list->count; i++)
	{
		const DcReport *report = report_of(list->at[i], reports, report_count);

		if (list->at[i].state == DC_MEMBER_PRESENT &&
			(report == NULL || report->epoch != digest || !report->closed))
			return list->at[i].node_id;
	}
	return 0;
}

bool
dc_members_close(DcMembers *list, const DcReport *reports,
				 uint32_t report_count)
{
	bool changed = false;

	if (dc_members_unclosed(list, reports, report_count) != 0 &&
		!DC_CANARY(DC_CANARY_R11))
		return false;
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
dc_horizon_join(DcHorizon *horizon, const DcHorizon *other)
{
	if (other->stamp <= horizon->stamp)
		return false;
	*horizon = *other;
	return true;
}

bool
dc_horizon_reached(const DcHorizon *horizon, const DcVv *vv)
{
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (horizon->counted[id] && vv->at[id] < horizon->stamp)
			return false;
	}
	return true;
}

bool
dc_members_named_others(const DcMembers *list, uint32_t one, uint32_t other)
{
	for (uint32_t i = 0; i < list->count; i++)
	{
		if (list->at[i].node_id != one && list->at[i].node_id != other)
			return true;
	}
	return false;
}

bool
dc_members_must_join(const DcHorizon *peer, bool peer_was_alone,
					 const DcVv *own, bool alone)
{
	if (DC_CANARY(DC_CANARY_R12))
		return false;
	return (alone && !peer_was_alone) || !dc_horizon_reached(peer, own);
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
	}
	dc_write_varint(w, list->commands);
	if (list->commands != 0)
		dc_write_u64(w, list->command);
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
		if (r->status == DC_OK &&
			(!valid(member) || member.node_id <= previous))
			dc_reader_fail(r, DC_MALFORMED);
		if (r->status != DC_OK)
			break;
		list->at[list->count++] = member;
		previous = member.node_id;
	}
	list->commands = dc_read_varint(r, UINT64_MAX);
	list->command = list->commands != 0 ? dc_read_u64(r) : DC_HLC_NONE;
	if (r->status == DC_OK && list->commands != 0 &&
		!dc_hlc_valid(list->command))
		dc_reader_fail(r, DC_MALFORMED);
	if (r->status == DC_OK)
		return;
	list->count = 0;
	list->commands = 0;
	list->command = DC_HLC_NONE;
}

void
dc_horizon_encode(DcWriter *w, const DcHorizon *horizon)
{
	uint32_t count = 0;

	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
		count += horizon->counted[id];
	dc_write_u64(w, horizon->stamp);
	dc_write_varint(w, count);
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (horizon->counted[id])
			dc_write_u16(w, (uint16_t) id);
	}
}

void
dc_horizon_decode(DcReader *r, DcHorizon *horizon)
{
	DcHlc stamp = dc_read_u64(r);
	uint64_t count = dc_read_varint(r, DC_NODE_ID_MAX);
	uint32_t previous = 0;

	memset(horizon, 0, sizeof(*horizon));
	if (stamp > DC_HLC_MAX)
		dc_reader_fail(r, DC_MALFORMED);
	for (uint64_t i = 0; i < count && r->status == DC_OK; i++)
	{
		uint32_t id = dc_read_u16(r);

		if (r->status == DC_OK && (id <= previous || id > DC_NODE_ID_MAX))
			dc_reader_fail(r, DC_MALFORMED);
		if (r->status != DC_OK)
			break;
		horizon->counted[id] = true;
		previous = id;
	}
	if (r->status == DC_OK)
		horizon->stamp = stamp;
	else
		memset(horizon, 0, sizeof(*horizon));
}
