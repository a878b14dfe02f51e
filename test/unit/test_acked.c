/*
 * test_acked.c
 *		What a peer has flushed: against a list of all numbers.
 *
 * A link's life by chance: batches are sent and acknowledged in order, gaps
 * are jumped over, sessions end with messages under way, catch-ups begin and
 * are acknowledged later.  A third node overwrites what was published, and
 * sends that to the peer itself, later; the peer has debts meanwhile.
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
	bool flushed[NUMBERS + 1];   /* at the peer; numbers from 1 on */
	uint64_t newer[NUMBERS + 1]; /* when the third node overwrote it; 0 */
	uint64_t clock;              /* of the third node */
	uint64_t heard;              /* the peer has all of it up to here */
	uint64_t head;               /* next to be published */
	uint64_t sent;               /* next to be sent */
	uint64_t confirmed;          /* next of the session to be acknowledged */
	uint64_t catchup;            /* head when the running one began; 0: none */
	uint64_t scanned;            /* the third node's clock then, */
	uint64_t left;               /* ... and what was left to it */
	uint64_t owed;               /* to the peer, by the third node */
	uint64_t number;             /* of it */
	bool due;
	bool says_so; /* the peer, whether it is or not */
} Life;

/* What a catch-up brings that began then: the rest is the third node's. */
static void
flush_below(Life *life, uint64_t head, uint64_t scanned)
{
	for (uint64_t n = 1; n < head; n++)
		life->flushed[n] |= life->newer[n] == 0 || life->newer[n] > scanned;
}

/* The peer closes a catch-up that left so much to the third node (debts.h). */
static void
owe(Life *life, uint64_t left)
{
	life->owed = left > life->heard ? left : 0;
}

/* What the peer says with each ack. */
static bool
settled(const Life *life)
{
	return life->owed <= life->heard || life->says_so;
}

static void
send_catchup(Life *life)
{
	life->catchup = life->head;
	life->scanned = life->clock;
	life->number++;
	life->due = false;
	life->left = 0;
	for (uint64_t n = 1; n < life->head; n++)
		life->left = life->newer[n] > life->left ? life->newer[n] : life->left;
	dc_acked_catchup_sent(&life->acked, life->number, life->catchup);
}

static void
take_ack_of_catchup(Life *life)
{
	flush_below(life, life->catchup, life->scanned);
	owe(life, life->left);
	dc_acked_catchup(&life->acked, life->number);
	life->catchup = 0;
}

static void
new_session(Life *life)
{
	life->sent = life->confirmed = life->head;
	life->catchup = 0;
	dc_acked_lost(&life->acked);
	life->due = true;
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
overwrite(Life *life, uint64_t n)
{
	if (life->newer[n] == 0)
		life->newer[n] = ++life->clock;
}

static void
step(Life *life)
{
	switch (tap_below(&life->seed, 10))
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
				life->due = true;
			}
			else if (life->due && life->catchup == 0)
				send_catchup(life);
			break;
		case 6:
			if (life->catchup != 0)
				take_ack_of_catchup(life);
			break;
		case 7:
			if (tap_below(&life->seed, 10) == 0)
				new_session(life);
			break;
		case 8:
			if (life->head > 1)
				overwrite(life, 1 + tap_below(&life->seed,
											  (uint32_t) life->head - 1));
			break;
		case 9:
			life->heard +=
				tap_below(&life->seed,
						  (uint32_t) (life->clock - life->heard) + 1);
			break;
	}
	if (settled(life))
		dc_acked_settled(&life->acked);
}

/* Does the peer have all of these, or what is newer? */
static bool
all_there(const Life *life, uint64_t below)
{
	for (uint64_t n = 1; n < below; n++)
	{
		if (!life->flushed[n] &&
			(life->newer[n] == 0 || life->newer[n] > life->heard))
			return false;
	}
	return true;
}

/* At rest: no gap, one catch-up, all that follows is acknowledged. */
static void
come_to_rest(Life *life)
{
	send_catchup(life);
	take_ack_of_catchup(life);
	life->heard = life->clock;
	dc_acked_settled(&life->acked);
	while (life->head <= NUMBERS)
	{
		dc_acked_batches(&life->acked, life->head, life->head + 1);
		life->head++;
	}
}

static bool
lives_are_true(uint64_t lives, bool says_so)
{
	bool true_ones = true;

	for (uint64_t seed = 1; seed <= lives; seed++)
	{
		Life life = {.seed = seed, .head = 1, .says_so = says_so};

		new_session(&life);
		for (int i = 0; i < 400; i++)
		{
			step(&life);
			true_ones &= all_there(&life, life.acked.position);
		}
	}
	return true_ones;
}

static void
test_lives(void)
{
	bool forward = true, complete = true;
	uint64_t by_batches = 0;

	for (uint64_t seed = 1; seed <= LIVES; seed++)
	{
		Life life = {.seed = seed, .head = 1};
		uint64_t before = 0;

		new_session(&life);
		for (int i = 0; i < 300; i++)
		{
			step(&life);
			forward &= life.acked.position >= before;
			by_batches += life.acked.position > before && life.catchup == 0;
			before = life.acked.position;
		}
		come_to_rest(&life);
		complete &= life.acked.position == life.head;
	}
	ok(lives_are_true(LIVES, false),
	   "every number below the position is there, or what is newer");
	ok(forward, "the position never goes back");
	ok(complete, "at rest it is the head");
	ok(by_batches > LIVES, "batches alone move it");
	ok(!lives_are_true(LIVES / 10, true),
	   "but not if the peer says that it is settled when it is not");
}

static void
catch_up(DcAcked *acked, uint64_t number, uint64_t head)
{
	dc_acked_catchup_sent(acked, number, head);
	dc_acked_catchup(acked, number);
	dc_acked_settled(acked);
}

static void
test_catchup_joins_the_stream(void)
{
	DcAcked acked = {0};

	dc_acked_batches(&acked, 10, 13);
	dc_acked_batches(&acked, 13, 15);
	ok(acked.position == 0, "batches after a gap say nothing of the gap");
	catch_up(&acked, 1, 9);
	ok(acked.position == 9, "nor does a catch-up that began too early");
	catch_up(&acked, 2, 10);
	ok(acked.position == 15, "one that covers it counts with what followed");
	dc_acked_batches(&acked, 20, 21);
	ok(acked.position == 15, "a batch that is not the next one waits");
	catch_up(&acked, 3, 12);
	ok(acked.position == 15, "an old catch-up takes nothing back");
}

static void
test_left_to_others(void)
{
	DcAcked acked = {0};

	dc_acked_catchup_sent(&acked, 1, 10);
	dc_acked_settled(&acked);
	ok(acked.position == 0, "a catch-up that is not acknowledged is not there");
	dc_acked_catchup(&acked, 1);
	ok(acked.position == 0, "nor is one before the peer is settled");
	dc_acked_catchup_sent(&acked, 2, 20);
	dc_acked_settled(&acked);
	ok(acked.position == 10, "a later one does not keep it from being counted");
	dc_acked_catchup(&acked, 1);
	dc_acked_settled(&acked);
	ok(acked.position == 10, "the ack of another one is not its own");
	dc_acked_catchup(&acked, 2);
	dc_acked_lost(&acked);
	dc_acked_settled(&acked);
	dc_acked_catchup(&acked, 2);
	dc_acked_settled(&acked);
	ok(acked.position == 10, "nor does an ack count in the next session");
}

int
main(void)
{
	test_lives();
	test_catchup_joins_the_stream();
	test_left_to_others();
	return tap_done();
}
