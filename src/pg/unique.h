/*
 * unique.h
 *		P3 in a table: a row that comes in, and those that it cannot be beside.
 */
#ifndef DATACAKE_UNIQUE_H
#define DATACAKE_UNIQUE_H

#include "postgres.h"

#include "incoming.h"
#include "quarantine.h"

typedef struct DcUniqueRival DcUniqueRival;

/*
 * Before table->remote, the image of `item`, is inserted: deletes the rows
 * that it cannot be beside and that it outranks (rival.h), and keeps them in
 * set->displaced.  ERROR with set->claim_state if a row outranks it; then
 * item->rival says which.  table was opened to be checked.
 */
extern void dc_unique_make_room(DcApplySet *set, DcTable *table,
								DcIncoming *item);

/*
 * What was displaced goes to the quarantine; in the same subtransaction, but
 * not as the owner of the table.
 */
extern void dc_unique_put_aside(DcApplySet *set);

/* `waiting`, of the item, waits for item->rival; told as a conflict, once. */
extern void dc_unique_yield(DcApplySet *set, const DcIncoming *item,
							DcWaiting *waiting);

#endif
