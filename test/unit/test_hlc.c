/*
 * test_hlc.c
 *		The hybrid logical clock, and the texts of the statuses.
 */
#include "hlc.h"
#include "status.h"
#include "tap.h"

#include <string.h>

static void
test_parts(void)
{
	uint64_t random = 1;
	bool kept = true, ordered = true;

	for (int i = 0; i < 100000; i++)
	{
		uint64_t us = tap_random(&random) & DC_HLC_US_MAX;
		uint32_t node = 1 + tap_below(&random, DC_NODE_ID_MAX);
		DcHlc stamp = dc_hlc_make(us, node);

		kept &= dc_hlc_time_us(stamp) == us && dc_hlc_node_id(stamp) == node;
		kept &= dc_hlc_valid(stamp) && (int64_t) stamp > 0;
		ordered &= us == 0 || dc_hlc_make(us - 1, DC_NODE_ID_MAX) < stamp;
		ordered &= node == 1 || dc_hlc_make(us, node - 1) < stamp;
	}
	ok(kept, "a stamp is a positive bigint that keeps its time and node");
	ok(ordered, "stamps are ordered by time, then by node");
	ok(dc_hlc_make(DC_HLC_US_MAX, DC_NODE_ID_MAX) == DC_HLC_MAX,
	   "the greatest stamp is the last microsecond of the last node");
	ok(dc_hlc_make(5, DC_NODE_ID_MAX + 2) == dc_hlc_make(5, 1) &&
		   dc_hlc_make(DC_HLC_US_MAX + 6, 1) == dc_hlc_make(5, 1),
	   "parts beyond their bits are cut and never touch each other");
}

/* The wall wanders: stands still, steps back, jumps ahead. */
static void
test_next(void)
{
	uint64_t random = 2;
	uint64_t now = 1000000;
	DcHlc last = DC_HLC_NONE;
	bool increases = true, follows = true, minimal = true;

	for (int i = 0; i < 100000; i++)
	{
		uint32_t node = 1 + tap_below(&random, 3);
		DcHlc next;

		switch (tap_below(&random, 10))
		{
			case 0:
				now -= tap_below(&random, 1000);
				break;
			case 1:
				now += tap_below(&random, 1000);
				break;
			default:
				break;
		}
		next = dc_hlc_next(last, now, node);
		increases &= next > last;
		follows &= dc_hlc_time_us(next) >= now && dc_hlc_node_id(next) == node;
		minimal &= dc_hlc_time_us(next) == now ||
				   dc_hlc_time_us(next) == dc_hlc_time_us(last) + 1;
		last = next;
	}
	ok(increases, "next increases strictly, also when the wall steps back");
	ok(follows, "next is not behind the wall");
	ok(minimal, "next is the wall or one microsecond after the last");
}

static void
test_overflow(void)
{
	DcHlc last = dc_hlc_make(DC_HLC_US_MAX - 1, 3);

	last = dc_hlc_next(last, 0, 3);
	ok(last == dc_hlc_make(DC_HLC_US_MAX, 3),
	   "the last microsecond of 2285 can still be drawn");
	ok(dc_hlc_next(last, 0, 3) == DC_HLC_NONE &&
		   dc_hlc_next(DC_HLC_NONE, DC_HLC_US_MAX + 1, 3) == DC_HLC_NONE &&
		   dc_hlc_next(DC_HLC_NONE, UINT64_MAX, 3) == DC_HLC_NONE,
	   "after it there is none, and no wrap around");
	/* microseconds from 2000-01-01 to 2285-01-01, leap days included */
	ok(DC_HLC_US_MAX > UINT64_C(104096) * 86400 * 1000000,
	   "the clock lasts until 2285");
}

static void
test_observe(void)
{
	DcHlc low = dc_hlc_make(10, 1), high = dc_hlc_make(10, 2);

	ok(dc_hlc_observe(low, high) == high && dc_hlc_observe(high, low) == high &&
		   dc_hlc_observe(low, low) == low &&
		   dc_hlc_observe(low, DC_HLC_NONE) == low,
	   "observe is the maximum");
	ok(dc_hlc_next(dc_hlc_observe(low, high), 0, 1) > high,
	   "no effect is stamped before its cause");
}

static void
test_drift(void)
{
	DcHlc stamp = dc_hlc_make(1000500, 7);

	ok(!dc_hlc_ahead(stamp, 1000000, 500) && dc_hlc_ahead(stamp, 1000000, 499),
	   "a stamp is ahead only beyond the drift");
	ok(!dc_hlc_ahead(stamp, 2000000, 0) && !dc_hlc_ahead(stamp, 1000500, 0),
	   "a stamp of the past or the present is never ahead");
	ok(!dc_hlc_ahead(DC_HLC_MAX, 0, UINT64_MAX) &&
		   dc_hlc_ahead(DC_HLC_MAX, 0, 0),
	   "drift arithmetic does not overflow");
}

static void
test_valid(void)
{
	ok(!dc_hlc_valid(DC_HLC_NONE) && !dc_hlc_valid(DC_HLC_MAX + 1) &&
		   !dc_hlc_valid(UINT64_MAX) && !dc_hlc_valid((DcHlc) 5 << 10),
	   "nothing, a negative bigint and a stamp of node 0 are not valid");
	ok(dc_hlc_valid(1) && dc_hlc_valid(DC_HLC_MAX),
	   "the least and the greatest stamp are valid");
}

static void
test_status(void)
{
	bool complete = true, apart = true;

	for (int i = 0; i < DC_STATUS_COUNT; i++)
	{
		const char *text = dc_status_text((DcStatus) i);
		const char *code = dc_status_sqlstate((DcStatus) i);

		complete &= strlen(text) > 1 && strlen(code) == 5;
		complete &= strspn(code, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") == 5;
		complete &=
			text[0] >= 'a' && text[0] <= 'z' && text[strlen(text) - 1] != '.';
		for (int j = 0; j < i; j++)
			apart &= strcmp(text, dc_status_text((DcStatus) j)) != 0 &&
					 strcmp(code, dc_status_sqlstate((DcStatus) j)) != 0;
	}
	ok(complete, "each status has a message in PostgreSQL's style and a code");
	ok(apart, "no two statuses share a message or a code");
	ok(strcmp(dc_status_sqlstate(DC_OK), "00000") == 0,
	   "ok is successful completion");
	ok(dc_status_text((DcStatus) 12345) == dc_status_text(DC_MALFORMED) &&
		   dc_status_sqlstate((DcStatus) -1) ==
			   dc_status_sqlstate(DC_MALFORMED),
	   "what is no status reads as malformed");
}

int
main(void)
{
	test_parts();
	test_next();
	test_overflow();
	test_observe();
	test_drift();
	test_valid();
	test_status();
	return tap_done();
}
