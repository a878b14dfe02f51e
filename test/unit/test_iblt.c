/*
 * test_iblt.c
 *		Cells of ids: what is in one set only is found, whatever comes in.
 */
/* also with: -DDC_CANARIES */
#include "iblt.h"
#include "tap.h"

#include <pthread.h>
#include <stdlib.h>

#ifdef DC_CANARIES
#include "canary.h"
#endif

static const uint8_t seed[DC_SEED_BYTES] = {1, 2, 3, 4, 5, 6, 7, 8};

static DcIbltCell *
table(void)
{
	return calloc(DC_IBLT_CELLS_MAX, sizeof(DcIbltCell));
}

static int
compare(const void *left, const void *right)
{
	uint64_t a = *(const uint64_t *) left, b = *(const uint64_t *) right;

	return a < b ? -1 : a > b;
}

/* `both` ids in common, `d` in one only: are exactly those found? */
static bool
finds(uint64_t *state, uint32_t both, uint32_t d, uint32_t cells)
{
	DcIbltCell *a = table(), *b = table();
	uint64_t *ids = malloc((d + 1) * sizeof(uint64_t));
	uint64_t *got = malloc((cells + 1) * sizeof(uint64_t));
	uint32_t found;
	bool good;

	for (uint32_t i = 0; i < both; i++)
	{
		uint64_t id = tap_random(state);

		dc_iblt_toggle(a, cells, seed, id);
		dc_iblt_toggle(b, cells, seed, id);
	}
	for (uint32_t i = 0; i < d; i++)
	{
		ids[i] = tap_random(state);
		dc_iblt_toggle(i % 3 ? a : b, cells, seed, ids[i]);
	}
	for (uint32_t i = 0; i < cells; i++)
	{
		a[i].ids ^= b[i].ids;
		a[i].checks ^= b[i].checks;
	}
	good = dc_iblt_decode(a, cells, seed, got, &found) && found == d;
	qsort(ids, d, sizeof(uint64_t), compare);
	qsort(got, found, sizeof(uint64_t), compare);
	good = good && memcmp(ids, got, d * sizeof(uint64_t)) == 0;
	free(a);
	free(b);
	free(ids);
	free(got);
	return good;
}

/* The same places everywhere: a golden value. */
static void
test_golden(void)
{
	DcIbltCell *cells = table();
	uint64_t sum = 0;
	uint32_t used = 0;

	for (uint64_t id = 1; id <= 100; id++)
		dc_iblt_toggle(cells, DC_IBLT_CELLS_MAX, seed, id * id);
	for (uint32_t i = 0; i < DC_IBLT_CELLS_MAX; i++)
	{
		used += cells[i].ids != 0 || cells[i].checks != 0;
		sum = sum * 31 + cells[i].ids + cells[i].checks;
	}
	note("%u cells used, sum %016llx", used, (unsigned long long) sum);
	ok(sum == UINT64_C(0x261700ec28ab2286),
	   "the cells of 100 ids are those of every machine");
	free(cells);
}

/* Least factor of 0.05 at which all of `runs` are found. */
static double
overhead(uint64_t *state, uint32_t d, uint32_t runs)
{
	for (double factor = 1; factor < 6; factor += 0.05)
	{
		uint32_t found = 0;

		for (uint32_t i = 0; i < runs; i++)
			found += finds(state, 10, d, (uint32_t) (d * factor + 0.5));
		if (found * 2 >= runs)
			return factor;
	}
	return 99;
}

static void
test_differences(void)
{
	static const uint32_t sizes[] = {0,  1,  2,   3,    5,   10,
									 20, 50, 100, 1000, 5000};
	uint64_t state = 1;
	bool all = true;

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		for (int run = 0; run < 5; run++)
			all &= finds(&state, 3000, sizes[i], 3 * sizes[i] + 24);
	}
	ok(all,
	   "with three cells for each, 0 to 5,000 ids are found among 3,000 others");
	note("cells per id, in half of the runs: d = 10: %.2f, 100: %.2f, 1000: %.2f",
		 overhead(&state, 10, 40), overhead(&state, 100, 20),
		 overhead(&state, 1000, 6));
	ok(overhead(&state, 1000, 5) < 1.6,
	   "1,000 ids take less than 1.6 cells each");
	ok(finds(&state, 0, 1, 1), "one id needs one cell");
	ok(!finds(&state, 0, 2, 1), "two ids need more than one cell");
}

static void
test_estimate(void)
{
	static const uint32_t sizes[] = {3, 20, 100, 300, 800};
	DcIbltCell *cells = table();
	uint64_t state = 5;
	bool near = true;

	ok(dc_iblt_estimate(cells, 400) <= 1, "cells that are empty hold no ids");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		uint32_t estimate;

		memset(cells, 0, 400 * sizeof(*cells));
		for (uint32_t k = 0; k < sizes[i]; k++)
			dc_iblt_toggle(cells, 400, seed, tap_random(&state));
		estimate = dc_iblt_estimate(cells, 400);
		note("%u ids in 400 cells: %u", sizes[i], estimate);
		near &= estimate > sizes[i] / 2 && estimate < 2 * sizes[i];
	}
	ok(near, "3 to 800 ids in 400 cells are estimated to a factor of two");
	free(cells);
}

typedef struct Toggler
{
	DcIbltCell *cells;
	uint64_t state;
} Toggler;

/* Ids come, and all but each tenth goes again. */
static void *
toggle_many(void *arg)
{
	Toggler *t = arg;

	for (uint32_t i = 0; i < 100000; i++)
	{
		uint64_t id = tap_random(&t->state);

		dc_iblt_toggle_shared(t->cells, 50, seed, id);
		if (i % 10 != 0)
			dc_iblt_toggle_shared(t->cells, 50, seed, id);
	}
	return NULL;
}

static void
test_shared(void)
{
	DcIbltCell *cells = table(), *serial = table(), *copy = table();
	pthread_t threads[4];
	Toggler togglers[4];

	for (uint32_t i = 0; i < 4; i++)
	{
		Toggler alone = {serial, i};

		(void) toggle_many(&alone);
		togglers[i] = (Toggler){cells, i};
		if (pthread_create(&threads[i], NULL, toggle_many, &togglers[i]) != 0)
			abort();
	}
	for (uint32_t i = 0; i < 4; i++)
		(void) pthread_join(threads[i], NULL);
	dc_iblt_copy_shared(copy, cells, 50);
	ok(memcmp(copy, serial, 50 * sizeof(*cells)) == 0,
	   "four threads change the same cells, and nothing is lost");
	free(cells);
	free(serial);
	free(copy);
}

static void
test_hostile(void)
{
	DcIbltCell *cells = table();
	uint64_t *ids = malloc(DC_IBLT_CELLS_MAX * sizeof(uint64_t));
	uint64_t state = 7;
	uint32_t found = 0;
	bool bounded = true;

	for (int run = 0; run < 200; run++)
	{
		uint32_t count = 1 + tap_below(&state, 300);

		memset(cells, 0, count * sizeof(*cells));
		/* an id that stands where it does not belong, over and over */
		for (uint32_t i = 0; i < count; i++)
		{
			DcIbltCell one = {0};

			dc_iblt_toggle(&one, 1, seed, 1 + tap_below(&state, 3));
			cells[i] = one;
		}
		(void) dc_iblt_decode(cells, count, seed, ids, &found);
		bounded &= found <= count;
	}
	for (int run = 0; run < 50; run++)
	{
		for (uint32_t i = 0; i < DC_IBLT_CELLS_MAX; i++)
			cells[i] = (DcIbltCell){tap_random(&state),
									(uint32_t) tap_random(&state), 12345};
		bounded &= !dc_iblt_decode(cells, DC_IBLT_CELLS_MAX, seed, ids, &found);
	}
	ok(bounded,
	   "any cells are decoded in bounded steps, noise without success");
	ok(dc_iblt_decode(cells, 0, seed, ids, &found) && found == 0,
	   "no cells hold nothing");
	free(cells);
	free(ids);
}

int
main(void)
{
	uint64_t state = 3;

	test_golden();
	test_differences();
	test_estimate();
	test_shared();
	test_hostile();
#ifdef DC_CANARIES
	dc_canaries = DC_CANARY_CHECK;
	ok(!finds(&state, 3000, 100, 324),
	   "canary: a linear check takes sums of ids for ids");
	dc_canaries = 0;
#endif
	ok(finds(&state, 3000, 100, 324), "and with SipHash they are told apart");
	return tap_done();
}
