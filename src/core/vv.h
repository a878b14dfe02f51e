/*
 * vv.h
 *		Version vector: for each source, the stamp up to which everything was
 *		taken.
 *
 * V[s] = w says: every change that source s ever committed with a stamp <= w
 * is here.  It is not "the greatest stamp seen": a vector moves by closed
 * segments only (rule R4), or it would claim changes that were overtaken.
 *
 * Dense, indexed by node id: 8 kB, no search; on the wire only what is set.
 * No locking: the caller guards it.
 */
#ifndef DC_VV_H
#define DC_VV_H

#include "hlc.h"
#include "wire.h"

typedef struct DcVv
{
	DcHlc at[DC_NODE_IDS];
} DcVv;

void dc_vv_init(DcVv *vv);

/* True when a change with this stamp is among what the vector claims. */
bool dc_vv_covers(const DcVv *vv, DcHlc stamp);

/* True when `vv` claims at least all that `other` claims. */
bool dc_vv_includes(const DcVv *vv, const DcVv *other);

/*
 * R4: source `node_id` closed the segment (from, to].  Moves the claim to
 * `to` and returns true if it already reached `from`; else changes nothing
 * and returns false (a gap: catch-up is needed).  Never moves back.
 */
bool dc_vv_advance(DcVv *vv, uint32_t node_id, DcHlc from, DcHlc to);

/*
 * R6: adopts `donor`, read before its scan, for every source in which `vv`
 * still claims at least `base`, the vector the scan started from.  Sources
 * with donor[s] == 0 were not scanned and stay.  Returns false if any source
 * fell below its base; that one is left alone.
 */
bool dc_vv_adopt(DcVv *vv, const DcVv *donor, const DcVv *base);

/* Codec: varint count, then (u16 node id, u64 stamp) ascending by node id. */
void dc_vv_encode(DcWriter *w, const DcVv *vv);
void dc_vv_decode(DcReader *r, DcVv *vv);

#endif
