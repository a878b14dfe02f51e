/*
 * shape.h
 *		Rows that were written to another version of their table.
 *
 *	 image  | id | a | c |     written before "a" became "b" and "c" was dropped
 *	           |   |   x
 *	 row    | id | b | d |     "d", which the image does not know: its default
 *
 * The definition of a keyspace keeps a history: for the name of a column the
 * stamp before which it was written under that name or with its old type, and
 * the column that it is now, if any.  A row with a lesser stamp is translated
 * as ALTER TABLE would have done; any other that does not fit waits.
 */
#ifndef DATACAKE_SHAPE_H
#define DATACAKE_SHAPE_H

#include "postgres.h"

#include "executor/tuptable.h"

typedef struct DcShape DcShape;
struct DcTarget;

/*
 * Called when the columns of a target were found and do not agree with ours.
 * The complaint about them becomes one about rows from the stamp `until` on:
 * what is older is explained by the history.  Deaths have no columns.
 */
extern void dc_shape_fit(struct DcTarget *target);

/* Casts, and defaults, into a slot that holds what was decoded. */
extern void dc_shape_complete(DcShape *shape, TupleTableSlot *slot);

#endif
