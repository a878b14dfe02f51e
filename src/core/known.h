/*
 * known.h
 *		What the writer of a floor knew of its keyspace.
 *
 *	known = floor before u64, or 0 | vector | varint n | n x (key, stamp u64)
 *
 * It knew all that its vector covers, all that died in an earlier TRUNCATE,
 * and of what came after both the newest version of some keys.  A row that a
 * TRUNCATE takes and that is not among these was written concurrently.
 */
#ifndef DC_KNOWN_H
#define DC_KNOWN_H

#include "vv.h"
#include "wire.h"

#define DC_KNOWN_KEYS_MAX 1000

/* Writing: begin, then exactly `count` keys. */
void dc_known_begin(DcWriter *w, DcHlc floor, const DcVv *vector,
					uint32_t count);
void dc_known_key(DcWriter *w, DcSlice key, DcHlc stamp);

/* Are these bytes one?  The other functions take only such. */
bool dc_known_valid(DcSlice known);

/* Did the writer know this version of the key, or a newer one? */
bool dc_known_covers(DcSlice known, DcSlice key, DcHlc stamp);

#endif
