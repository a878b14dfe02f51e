/*
 * hlc.c
 *		Hybrid logical clock arithmetic.
 */
#include "hlc.h"

DcHlc
dc_hlc_make(uint64_t time_us, uint32_t node_id)
{
	return ((time_us & DC_HLC_US_MAX) << DC_HLC_NODE_BITS) |
		   (node_id & DC_NODE_ID_MAX);
}

uint64_t
dc_hlc_time_us(DcHlc stamp)
{
	return (stamp & DC_HLC_MAX) >> DC_HLC_NODE_BITS;
}

uint32_t
dc_hlc_node_id(DcHlc stamp)
{
	return (uint32_t) (stamp & DC_NODE_ID_MAX);
}

DcHlc
dc_hlc_next(DcHlc last, uint64_t now_us, uint32_t node_id)
{
	uint64_t after = dc_hlc_time_us(last) + 1;
	uint64_t time_us = now_us > after ? now_us : after;

	if (time_us > DC_HLC_US_MAX)
		return DC_HLC_NONE;
	return dc_hlc_make(time_us, node_id);
}

DcHlc
dc_hlc_observe(DcHlc last, DcHlc stamp)
{
	return stamp > last ? stamp : last;
}

bool
dc_hlc_ahead(DcHlc stamp, uint64_t now_us, uint64_t drift_us)
{
	uint64_t time_us = dc_hlc_time_us(stamp);

	return time_us > now_us && time_us - now_us > drift_us;
}

bool
dc_hlc_valid(DcHlc stamp)
{
	return stamp != DC_HLC_NONE && stamp <= DC_HLC_MAX &&
		   dc_hlc_node_id(stamp) != 0;
}
