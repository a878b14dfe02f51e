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
dc_acked_catchup_sent(DcAcked *acked, uint64_t number, uint64_t head)
{
	acked->number = number;
	acked->head = head;
}

void
dc_acked_catchup(DcAcked *acked, uint64_t number)
{
	if (number != 0 && acked->number == number && acked->taken < acked->head)
		acked->taken = acked->head;
}

void
dc_acked_settled(DcAcked *acked)
{
	if (acked->position < acked->taken)
		acked->position = acked->taken;
	join(acked);
}

void
dc_acked_lost(DcAcked *acked)
{
	acked->number = 0;
	acked->taken = 0;
}
