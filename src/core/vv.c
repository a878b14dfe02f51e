/*
 * vv.c
 *		Version vector.
 */
#include "vv.h"

#include "canary.h"

#include <string.h>

void
dc_vv_init(DcVv *vv)
{
	memset(vv, 0, sizeof(*vv));
}

bool
dc_vv_covers(const DcVv *vv, DcHlc stamp)
{
	return stamp <= vv->at[dc_hlc_node_id(stamp)];
}

bool
dc_vv_includes(const DcVv *vv, const DcVv *other)
{
	for (uint32_t id = 0; id < DC_NODE_IDS; id++)
	{
		if (vv->at[id] < other->at[id])
			return false;
	}
	return true;
}

bool
dc_vv_advance(DcVv *vv, uint32_t node_id, DcHlc from, DcHlc to)
{
	if (vv->at[node_id] < from && !DC_CANARY(DC_CANARY_R4))
		return false;
	if (vv->at[node_id] < to)
		vv->at[node_id] = to;
	return true;
}

bool
dc_vv_adopt(DcVv *vv, const DcVv *donor, const DcVv *base)
{
	bool whole = true;

	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (!dc_vv_advance(vv, id, base->at[id], donor->at[id]))
			whole = false;
	}
	return whole;
}

void
dc_vv_encode(DcWriter *w, const DcVv *vv)
{
	uint32_t count = 0;

	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
		count += vv->at[id] != DC_HLC_NONE;
	dc_write_varint(w, count);
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (vv->at[id] == DC_HLC_NONE)
			continue;
		dc_write_u16(w, (uint16_t) id);
		dc_write_u64(w, vv->at[id]);
	}
}

void
dc_vv_decode(DcReader *r, DcVv *vv)
{
	uint64_t count = dc_read_varint(r, DC_NODE_ID_MAX);
	uint32_t previous = 0;

	dc_vv_init(vv);
	for (uint64_t i = 0; i < count && r->status == DC_OK; i++)
	{
		uint32_t id = dc_read_u16(r);
		DcHlc stamp = dc_read_u64(r);

		if (r->status == DC_OK && (id <= previous || id > DC_NODE_ID_MAX ||
								   stamp == DC_HLC_NONE || stamp > DC_HLC_MAX))
			dc_reader_fail(r, DC_MALFORMED);
		if (r->status != DC_OK)
			break;
		vv->at[id] = stamp;
		previous = id;
	}
	if (r->status != DC_OK)
		dc_vv_init(vv);
}
