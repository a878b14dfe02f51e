/*
 * conflict.h
 *		Concurrent writes: recognised, recorded, and judged where two rows
 *		claim one unique value.
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
 * P3: an item that waits because of a unique value.  When this node has
 * everything of every live source up to both stamps, the older row is deleted
 * by a transaction of this node and recorded.  Returns true if that happened
 * (item->judged_stays: the other row went, this one can be written), false if
 * it is too early or there is no other row in the way.
 */
extern bool dc_conflict_judge(DcApplySet *set, DcIncoming *item);

#endif
