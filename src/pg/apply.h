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
	uint32 stale;   /* something newer was here */
	uint32 waiting; /* put into the quarantine */
} DcApplied;

/*
 * P13: how long a lock of others is waited for; in sessions of peers at
 * DC_LOCK_TIMEOUT a time, with all row locks given back in between.  Deadlocks
 * are looked for so early that it is not the client who is cancelled.
 */
#define DC_PATIENCE_MS      1000
#define DC_LOCK_TIMEOUT     "100ms"
#define DC_DEADLOCK_TIMEOUT "20ms"

/*
 * A collection of changes to be applied in the running transaction.  Add
 * batches (bytes must stay), then run once.  Malformed bytes raise an ERROR
 * (YD011) before anything is written.
 */
typedef struct DcApplySet DcApplySet;

/* `retry`: changes that waited in the quarantine. */
extern DcApplySet *dc_apply_begin(bool retry);

/*
 * The changes are known here by stamp, but their rows were lost or differ:
 * they are written again (repair).
 */
extern void dc_apply_again(DcApplySet *set);

/*
 * What a copy brings: what the entries say is here is not compared with its
 * row, and what was here need not be flushed now.
 */
extern void dc_apply_copied(DcApplySet *set);

/* `exact`: the changes say what they replaced, so conflicts can be seen. */
extern void dc_apply_add(DcApplySet *set, DcSlice batch, bool exact);

/*
 * Applies: definitions first, then table by table in key order, deaths before
 * rows.  What cannot be applied waits in the quarantine.  ERROR YD022 (clock),
 * YD023 (keyspace not known), and what no row can be blamed for.
 */
extern DcApplied dc_apply_run(DcApplySet *set);

/*
 * Makes a definition real in a subtransaction, or its table an ordinary one if
 * it was deleted.  Returns false if that failed; then the reason is in
 * datacake.unrealized, and the keyspace's rows wait.
 */
extern bool dc_apply_definition(uint64 id);

#endif
