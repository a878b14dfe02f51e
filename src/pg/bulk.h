/*
 * bulk.h
 *		Rows of new keys, written into a table many at a time.
 *
 * What apply.c does row by row, for changes whose key is not known here: no
 * look at the heap beforehand, pages filled one after the other, one WAL
 * record for each.  The unique index of the key is the judge: where a row is
 * there after all, the subtransaction fails, and the caller goes row by row.
 */
#ifndef DATACAKE_BULK_H
#define DATACAKE_BULK_H

#include "postgres.h"

#include "incoming.h"

/* Has the table nothing that must see each row, but triggers of ours? */
extern bool dc_bulk_suits(const DcTarget *target);

/*
 * Chooses how the row of this change is written; unless by itself, its
 * decision is made.  dc_change_decide() was called for its keyspace.
 */
extern DcBulk dc_bulk_choose(const DcApplySet *set, DcIncoming *item);

/*
 * Writes the rows of all items that are DC_BULK_STORE, and notes their entries.  As
 * the table's owner, in a subtransaction; ERROR 23505 if a key is there.
 */
extern void dc_bulk_store(DcApplySet *set, DcTable *table, DcIncoming *items,
						  int count);

#endif
