/*
 * test_acked.c
 *		What a peer has flushed: against a list of all numbers.
 *
 * A link's life by chance: batches are sent and acknowledged in order, gaps
 * are jumped over, sessions end with messages under way, catch-ups begin and
 * are acknowledged later.
 */
#include "acked.h"
#include "tap.h"

#include <stdbool.h>
#include <string.h>

#define NUMBERS 200 /* published in one life */
#define LIVES   20000

typedef struct Life
{
	uint64_t seed;
	DcAcked acked;
	bool flushed[NUMBERS + 1]; /* at the peer; numbers from 1 on */
	uint64_t head;             /* next to be published */
	uint64_t sent;             /* next to be sent */
	uint64_t confirmed;        /* next of the session to be acknowledged */
	uint64_t catchup;          /* head when the running one began; 0: none */
	bool owed;
} Life;

static void
flush_below(Life *life, uint64_t head)
{
	for (uint64_t n = 1; n < head; n++)
		life->flushed[n] = true;
}

static void
new_session(Life *life)
{
	life->sent = life->confirmed = life->head;
	life->catchup = 0;
	life->owed = true;
}

static void
acknowledge(Life *life)
{
	uint64_t next =
		life->confirmed + 1 +
		tap_below(&life->seed, (uint32_t) (life->sent - life->confirmed));

	for (uint64_t n = life->confirmed; n < next; n++)
		life->flushed[n] = true;
	dc_acked_batches(&life->acked, life->confirmed, next);
	life->confirmed = next;
}

static void
step(Life *life)
{
	switch (tap_below(&life->seed, 8))
	{
		case 0:
		case 1:
		case 2:
			if (life->head <= NUMBERS)
				life->head++;
			break;
		case 3:
			if (life->sent < life->head)
				life->sent++;
			break;
		case 4:
			if (life->confirmed < life->sent)
				acknowledge(life);
			break;
		case 5: /* a gap, once the rest is acknowledged; or a catch-up */
			if (life->confirmed == life->sent && life->sent < life->head &&
				tap_below(&life->seed, 4) == 0)
			{
				life->sent = life->confirmed = life->head;
				life->owed = true;
			}
			else if (life->owed && life->catchup == 0)
			{
				life->catchup = life->head;
				life->owed = false;
			}
			break;
		case 6:
			if (life->catchup == 0)
				break;
			flush_below(life, life->catchup);
			dc_acked_catchup(&life->acked, life->catchup);
			life->catchup = 0;
			break;
		case 7:
			if (tap_below(&life->seed, 10) == 0)
				new_session(life);
			break;
	}
}

static bool
all_flushed(const Life *life, uint64_t below)
{
	for (uint64_t n = 1; n < below; n++)
	{
		if (!life->flushed[n])
			return false;
	}
	return true;
}

static void
test_lives(void)
{
	bool true_ones = true, forward = true, complete = true;
	uint64_t by_batches = 0;

	for (uint64_t seed = 1; seed <= LIVES; seed++)
	{
		Life life = {.seed = seed, .head = 1};
		uint64_t before = 0;

		new_session(&life);
		for (int i = 0; i < 300; i++)
		{
			step(&life);
			true_ones &= all_flushed(&life, life.acked.position);
			forward &= life.acked.position >= before;
			by_batches += life.acked.position > before && life.catchup == 0;
			before = life.acked.position;
		}
		/* at rest: no gap, one catch-up, all that follows is acknowledged */
		flush_below(&life, life.head);
		dc_acked_catchup(&life.acked, life.head);
		while (life.head <= NUMBERS)
		{
			dc_acked_batches(&life.acked, life.head, life.head + 1);
			life.head++;
		}
		complete &= life.acked.position == life.head;
	}
	ok(true_ones, "every number below the position is flushed there");
	ok(forward, "the position never goes back");
	ok(complete, "at rest it is the head");
	ok(by_batches > LIVES, "batches alone move it");
}

static void
test_catchup_joins_the_stream(void)
{
	DcAcked acked = {0};

	dc_acked_batches(&acked, 10, 13);
	dc_acked_batches(&acked, 13, 15);
	ok(acked.position == 0, "batches after a gap say nothing of the gap");
	dc_acked_catchup(&acked, 9);
	ok(acked.position == 9, "nor does a catch-up that began too early");
	dc_acked_catchup(&acked, 10);
	ok(acked.position == 15, "one that covers it counts with what followed");
	dc_acked_batches(&acked, 20, 21);
	ok(acked.position == 15, "a batch that is not the next one waits");
	dc_acked_catchup(&acked, 12);
	ok(acked.position == 15, "an old catch-up takes nothing back");
}

int
main(void)
{
	test_lives();
	test_catchup_joins_the_stream();
	return tap_done();
}
