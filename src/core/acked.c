/*
 * acked.c
 *		Up to which publish number a peer has flushed everything.
 */
#include "acked.h"

static void
join(DcAcked *acked)
{
	if (acked->from <= acked->position && acked->next > acked->position)
		acked->position = acked->next;
}

void
dc_acked_batches(DcAcked *acked, uint64_t first, uint64_t next)
{
	if (first != acked->next)
		acked->from = first;
	acked->next = next;
	join(acked);
}

void
dc_acked_catchup(DcAcked *acked, uint64_t head)
{
	if (acked->position < head)
		acked->position = head;
	join(acked);
}
