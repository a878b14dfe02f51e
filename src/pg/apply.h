/*
 * apply.h
 *		Writes the changes of other nodes into the tables of this one.
 */
#ifndef DATACAKE_APPLY_H
#define DATACAKE_APPLY_H

#include "postgres.h"

#include "batch.h"
#include "rel.h"

typedef struct DcApplied
{
	uint32 applied; /* rows written or deleted, tombstones kept */
	uint32 stale;	/* something newer was here */
	uint32 waiting; /* put into the quarantine */
} DcApplied;

/*
 * A collection of changes to be applied in the running transaction.  Add
 * batches (bytes must stay), then run once.  Malformed bytes raise an ERROR
 * (YD011) before anything is written.
 */
typedef struct DcApplySet DcApplySet;

extern DcApplySet *dc_apply_begin(void);

/* `exact`: the changes say what they replaced, so conflicts can be seen. */
extern void dc_apply_add(DcApplySet *set, DcSlice batch, bool exact);

/*
 * Applies: definitions first, then table by table in key order, deaths before
 * rows.  What cannot be applied waits in the quarantine.  ERROR YD022 (clock),
 * YD023 (keyspace not known), and what no row can be blamed for.
 */
extern DcApplied dc_apply_run(DcApplySet *set);

/*
 * Tries waiting rows of the quarantine again; returns how many are left.
 * `all`: also those whose next try is not due.
 */
extern uint64 dc_quarantine_retry(bool all);

/* The waiting change of a key as a batch of its own; false: none. */
extern bool dc_quarantine_find(uint64 id, const uint8 *key, Size length,
							   DcHlc stamp, StringInfo batch);

/*
 * Makes heap row and entry of one key agree (P2), in the running transaction.
 */
extern void dc_reconcile_key(uint64 id, const uint8 *key, Size length);

#endif
