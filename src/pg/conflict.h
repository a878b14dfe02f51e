/*
 * conflict.h
 *		Concurrent writes: recognised and recorded.
 */
#ifndef DATACAKE_CONFLICT_H
#define DATACAKE_CONFLICT_H

#include "postgres.h"

#include "incoming.h"

/*
 * After the decision about an item, before anything is written: if its writer
 * did not know of what it overwrites, notes both versions.  Rolled back with
 * the list (truncate set->conflicts).
 */
extern void dc_conflict_observe(DcApplySet *set, DcTable *table,
								DcIncoming *item);

/*
 * A TRUNCATE, `item`, is about to delete the row in table->local: the same, if
 * who truncated did not know the row.
 */
extern void dc_conflict_truncated(DcApplySet *set, DcTable *table,
								  const DcIncoming *item);

/*
 * Counts what was noted, and writes it into datacake.conflict if
 * datacake.conflict_history says so; inside SPI_connect().
 */
extern void dc_conflict_record(DcApplySet *set);

/* Keeps the last datacake.conflict_history of them; inside SPI_connect(). */
extern void dc_conflict_trim(void);

/*
 * Two versions, with their rows; NULL for a death.  It counts once it is
 * added; added ones are rolled back with the list.
 */
typedef struct DcConflict DcConflict;

extern DcConflict *dc_conflict_make(const DcTarget *target, DcSlice key,
									const char *kind, DcHlc kept,
									TupleTableSlot *kept_row, DcHlc lost,
									TupleTableSlot *lost_row);
extern void dc_conflict_add(DcApplySet *set, DcConflict *conflict);

/*
 * P3: has this node all that live sources committed up to both stamps?  Before
 * that, the change that frees a unique value may only be late.
 */
extern bool dc_conflict_is_certain(DcHlc one, DcHlc other);

#endif
