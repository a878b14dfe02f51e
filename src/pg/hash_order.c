/*
 * hash_order.c
 *		Keys in the order in which the metadata maps have them, roughly.
 */
#include "hash_order.h"

static int
prefix_of(uint64 hash)
{
	return (int) (hash >> (64 - DC_ORDER_BITS));
}

/* By counting: one pass for the numbers, one to put each in its place. */
void
dc_hash_order(DcHashOrder *order)
{
	int end = 0;

	memset(order->ends, 0, sizeof(order->ends));
	for (int i = 0; i < order->count; i++)
		order->ends[prefix_of(order->hashes[i])]++;
	for (int prefix = 0; prefix < 1 << DC_ORDER_BITS; prefix++)
	{
		end += order->ends[prefix];
		order->ends[prefix] = end;
	}
	for (int i = order->count; i-- > 0;)
		order->at[--order->ends[prefix_of(order->hashes[i])]] = (uint16) i;
}
