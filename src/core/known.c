/*
 * known.c
 *		What the writer of a floor knew of its keyspace.
 */
#include "known.h"

#include <string.h>

#define KEY_BYTES_MAX 2000

void
dc_known_begin(DcWriter *w, DcHlc floor, const DcVv *vector, uint32_t count)
{
	dc_write_u64(w, floor);
	dc_vv_encode(w, vector);
	dc_write_varint(w, count);
}

void
dc_known_key(DcWriter *w, DcSlice key, DcHlc stamp)
{
	dc_write_string(w, key.data, key.length);
	dc_write_u64(w, stamp);
}

/* One walk for both questions: true if it was well-formed to the end. */
static bool
walk(DcSlice known, DcSlice key, DcHlc stamp, bool *covered)
{
	DcReader r;
	DcVv vector;
	DcHlc floor;
	uint64_t count;

	dc_reader_init(&r, known.data, known.length);
	floor = dc_read_u64(&r);
	if (floor != DC_HLC_NONE && !dc_hlc_valid(floor))
		dc_reader_fail(&r, DC_MALFORMED);
	dc_vv_decode(&r, &vector);
	*covered = stamp <= floor || dc_vv_covers(&vector, stamp);
	count = dc_read_varint(&r, DC_KNOWN_KEYS_MAX);
	for (uint64_t i = 0; i < count && r.status == DC_OK; i++)
	{
		DcSlice at = dc_read_string(&r, KEY_BYTES_MAX);
		DcHlc newest = dc_read_u64(&r);

		if (at.length == 0 || !dc_hlc_valid(newest))
			dc_reader_fail(&r, DC_MALFORMED);
		else if (at.length == key.length && newest >= stamp &&
				 memcmp(at.data, key.data, key.length) == 0)
			*covered = true;
	}
	return dc_reader_finish(&r) == DC_OK;
}

bool
dc_known_valid(DcSlice known)
{
	bool covered;

	return walk(known, (DcSlice){NULL, 0}, DC_HLC_MAX, &covered);
}

bool
dc_known_covers(DcSlice known, DcSlice key, DcHlc stamp)
{
	bool covered;

	return walk(known, key, stamp, &covered) && covered;
}
