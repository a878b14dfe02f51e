/*
 * acked.c
 *		Up to which publish number a peer has flushed everything.
 */
#include "acked.h"

#include "canary.h"

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

/* Where the next one goes: the oldest that waits for a vector stays. */
static DcAckedLater *
free_place(DcAcked *acked)
{
	DcAckedLater *a = &acked->later[0];
	DcAckedLater *b = &acked->later[1];

	if (!a->flushed || !b->flushed)
		return a->flushed ? b : a;
	return a->number > b->number ? a : b;
}

void
dc_acked_catchup_sent(DcAcked *acked, uint64_t number, uint64_t head,
					  const DcVv *left)
{
	DcAckedLater *later = free_place(acked);

	later->number = number;
	later->head = head;
	later->flushed = false;
	later->left = *left;
}

void
dc_acked_catchup(DcAcked *acked, uint64_t number)
{
	for (int i = 0; i < 2; i++)
	{
		if (acked->later[i].number == number)
			acked->later[i].flushed = number != 0;
	}
}

void
dc_acked_vector(DcAcked *acked, const DcVv *peer)
{
	for (int i = 0; i < 2; i++)
	{
		DcAckedLater *later = &acked->later[i];

		if (!later->flushed ||
			!(dc_vv_includes(peer, &later->left) || DC_CANARY(DC_CANARY_LEFT)))
			continue;
		if (acked->position < later->head)
			acked->position = later->head;
		later->flushed = false;
	}
	join(acked);
}
