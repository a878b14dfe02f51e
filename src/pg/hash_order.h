/*
 * hash_order.h
 *		Keys in the order in which the metadata maps have them, roughly.
 *
 * Rows stand, and are written, in no order of their keys' hashes, so that each
 * would meet cold memory of a large map.  Many are gathered and taken in the
 * map's order: what one fetched, the next ones find.
 */
#ifndef DATACAKE_HASH_ORDER_H
#define DATACAKE_HASH_ORDER_H

#include "postgres.h"

#define DC_ORDER_ITEMS 16384
#define DC_ORDER_BITS  12 /* of the hash, that order counts */

typedef struct DcHashOrder
{
	int count;
	uint64 hashes[DC_ORDER_ITEMS];
	uint16 at[DC_ORDER_ITEMS];    /* result: which item comes next */
	int ends[1 << DC_ORDER_BITS]; /* where the items of a prefix end */
} DcHashOrder;

/* Fills `at` for the first `count` of `hashes`.  Cannot fail. */
extern void dc_hash_order(DcHashOrder *order);

#endif
