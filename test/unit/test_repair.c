/*
 * test_repair.c
 *		Two nodes compare a keyspace: what differs is found, at its price.
 */
#include "replica.h"
#include "tap.h"

enum
{
	SAME,   /* nothing differs */
	MISSED, /* only B has it */
	EXTRA,  /* only A has it */
	OLDER,  /* A has an older version */
	NEWER,  /* A has a newer version */
	DEAD,   /* dead at B, live at A */
	MIXED   /* any of these */
};

/* Number `i` in both, but different in the way that `kind` says. */
static void
put_both(Replica *a, Replica *b, uint64_t i, int kind)
{
	if (kind != MISSED)
		replica_put_number(a, i, 1000 + i + (kind == NEWER ? 1 << 30 : 0),
						   false);
	if (kind != EXTRA)
		replica_put_number(b, i,
						   1000 + i +
							   (kind == OLDER || kind == DEAD ? 1 << 30 : 0),
						   kind == DEAD);
}

/* n entries, d of them different, at random places. */
static void
fill(Replica *a, Replica *b, uint64_t n, uint64_t d, int kind, uint64_t *state)
{
	uint64_t left = d;

	for (uint64_t i = 0; i < n; i++)
	{
		bool differs = tap_random(state) % (n - i) < left;
		int how = kind == MIXED ? 1 + (int) tap_below(state, 5) : kind;

		left -= differs;
		put_both(a, b, i, differs ? how : SAME);
	}
}

static uint32_t
mended(const Talk *talk)
{
	return talk->actions[DC_REPAIR_FETCH] + talk->actions[DC_REPAIR_PUSH];
}

/*
 * One repair of d differences among n; true if all were found and mended.
 * In half of the cases both keep cells, in a quarter not as many.
 */
static Talk
one(uint64_t n, uint64_t d, int kind, uint64_t seed, bool *good)
{
	uint64_t state = seed;
	Replica *a = replica_new(n, 8), *b = replica_new(n, 8);
	Talk talk;

	if (seed / 6 % 2 == 0) /* six kinds follow each other */
	{
		replica_keep_cells(a, 1000);
		replica_keep_cells(b, seed / 6 % 4 == 0 ? 1000 : 100);
	}
	fill(a, b, n, d, kind, &state);
	talk = replica_repair(a, b, false, NULL, NULL);
	*good = talk.status == DC_OK && mended(&talk) == d &&
			replica_sum(a) == replica_sum(b);
	if (!*good)
		note("n %llu d %llu kind %d seed %llu: %s, mended %u",
			 (unsigned long long) n, (unsigned long long) d, kind,
			 (unsigned long long) seed, dc_status_text(talk.status),
			 mended(&talk));
	replica_free(a);
	replica_free(b);
	return talk;
}

static void
test_any_difference(void)
{
	static const uint64_t sizes[] = {0, 1, 2, 10, 100, 1000, 15000, 90000};
	bool all = true;
	uint64_t runs = 0;

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
	{
		uint64_t n = sizes[s];
		uint64_t tries[] = {0, 1, 3, 17, n / 100, n / 10, n / 2, n};

		for (size_t t = 0; t < sizeof(tries) / sizeof(tries[0]); t++)
		{
			for (int kind = MISSED; kind <= MIXED && tries[t] <= n; kind++)
			{
				bool good;

				if (n > 1000 && (size_t) kind % 2 != t % 2)
					continue;
				if (n > 15000 && t % 3 != 2 && t < 6)
					continue;
				(void) one(n, tries[t], kind, runs + 1, &good);
				all &= good;
				runs++;
			}
		}
	}
	ok(all,
	   "%llu comparisons of 0 to 90,000 entries, none to all different, "
	   "find and mend exactly what differs",
	   (unsigned long long) runs);
}

/* Two nodes that are equal, until d keys are missed or older at A; others each
 * time. */
static void
make_differ(Replica *a, Replica *b, uint64_t n, uint64_t d, int kind)
{
	static uint64_t time = 1 << 25;
	static uint64_t turn = 0;
	uint64_t step = d > 0 ? n / d : 1;

	turn++;
	for (uint64_t i = 0; i < d; i++)
	{
		uint64_t number = i * step + (i + turn) % step;
		uint8_t key[8];
		DcMap *map;

		for (unsigned k = 0; k < 8; k++)
			key[k] = (uint8_t) (number >> (56 - 8 * k));
		map = replica_map(a, dc_key_hash(a->env.hash_seed, key, 8));
		if (kind == MISSED)
			(void) dc_map_remove(map, &a->env, key, 8);
		else
			replica_put_number(b, number, ++time, false);
	}
}

static void
test_budget(void)
{
	static const struct
	{
		uint64_t d;
		size_t bytes; /* less the seals: 41 bytes a message */
		uint32_t round_trips;
	} budgets[] = {{0, 2500 - 2 * 41, 1},
				   {10, 4000 - 4 * 41, 2},
				   {1000, 600000, 20},
				   {10000, 1000000, 50}};
	const uint64_t n = 1000000;
	Replica *a = replica_new(n, 8), *b = replica_new(n, 8);
	uint64_t state = 1;

	fill(a, b, n, 0, SAME, &state);
	for (size_t i = 0; i < sizeof(budgets) / sizeof(budgets[0]); i++)
	{
		for (int kind = MISSED; kind <= OLDER; kind += OLDER - MISSED)
		{
			uint64_t d = budgets[i].d;
			Talk talk;

			make_differ(a, b, n, d, kind);
			talk = replica_repair(a, b, false, NULL, NULL);
			note("1,000,000 entries, %llu %s: %zu bytes, %u round trips",
				 (unsigned long long) d, kind == MISSED ? "missed" : "older",
				 talk.bytes, talk.round_trips);
			ok(talk.status == DC_OK && mended(&talk) == d &&
				   replica_sum(a) == replica_sum(b) &&
				   talk.bytes <= budgets[i].bytes &&
				   talk.round_trips <= budgets[i].round_trips,
			   "%llu of 1,000,000 entries %s: at most %zu bytes and %u round "
			   "trips, rows not counted",
			   (unsigned long long) d,
			   kind == MISSED ? "are missed" : "are older", budgets[i].bytes,
			   budgets[i].round_trips);
		}
	}
	replica_free(a);
	replica_free(b);
}

/* The median of what d keys cost until all ids are known, to the least. */
static double
price(Replica *a, Replica *b, uint64_t n, uint64_t d, int kind, bool *good)
{
	double ratios[25];
	uint32_t count = sizeof(ratios) / sizeof(ratios[0]);

	for (uint32_t run = 0; run < count; run++)
	{
		uint32_t at = run;
		double ratio;
		Talk talk;

		make_differ(a, b, n, d, kind);
		talk = replica_repair(a, b, false, NULL, NULL);
		*good &= talk.status == DC_OK && mended(&talk) == d &&
				 replica_sum(a) == replica_sum(b);
		ratio = (double) talk.naming / replica_least(kind == OLDER ? 2 * d : d);
		for (; at > 0 && ratios[at - 1] > ratio; at--)
			ratios[at] = ratios[at - 1];
		ratios[at] = ratio;
	}
	note("kept cells, %llu %s: %.2f to %.2f times the least, median %.2f",
		 (unsigned long long) d, kind == MISSED ? "missed" : "older", ratios[0],
		 ratios[count - 1], ratios[count / 2]);
	return ratios[count / 2];
}

static void
test_kept_cells(void)
{
	static const uint64_t sizes[] = {10, 30, 100, 300, 1000};
	const uint64_t n = 100000;
	Replica *a = replica_new(n, 8), *b = replica_new(n, 8);
	uint64_t state = 1;
	bool good = true;
	Talk talk;

	replica_keep_cells(a, 4096);
	replica_keep_cells(b, 4096);
	fill(a, b, n, 0, SAME, &state);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(talk.bytes < 320 && talk.round_trips == 1 && talk.status == DC_OK,
	   "where cells are kept, nothing that differs takes one round trip and "
	   "less than 320 bytes");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		for (int kind = MISSED; kind <= OLDER; kind += OLDER - MISSED)
			ok(price(a, b, n, sizes[i], kind, &good) <= 4,
			   "%llu keys %s: at most four times the least until their ids are "
			   "known",
			   (unsigned long long) sizes[i],
			   kind == MISSED ? "missed" : "older");
	}
	ok(good, "and all of them are found");
	make_differ(a, b, n, 20000, OLDER);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(mended(&talk) == 20000 && replica_sum(a) == replica_sum(b),
	   "more than they tell are found by leaves");
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(talk.bytes < 320 && talk.round_trips == 1,
	   "then the cells of both are alike again");
	a->env.cells[3].ids ^= 1;
	make_differ(a, b, n, 5, OLDER);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(mended(&talk) == 5 && replica_sum(a) == replica_sum(b) &&
		   talk.round_trips < 12,
	   "cells that are wrong are given up soon: leaves find what differs");
	a->env.cells[3].ids ^= 1;
	a->env.cell_count = 0;
	make_differ(a, b, n, 5, MISSED);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(mended(&talk) == 5 && replica_sum(a) == replica_sum(b),
	   "what cells hide shows in the sums");
	dc_iblt_toggle(a->env.cells, 4096, a->env.sum_seed, 12345);
	make_differ(a, b, n, 5, MISSED);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(mended(&talk) == 0 && replica_sum(a) != replica_sum(b),
	   "or not, if they name an id that nobody has");
	a->believes_cells = false;
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(mended(&talk) == 5 && replica_sum(a) == replica_sum(b),
	   "but is found by who does not believe them");
	replica_free(a);
	replica_free(b);
}

static void
test_long_keys(void)
{
	Replica *a = replica_new(60000, 0), *b = replica_new(60000, 0);
	uint64_t state = 5;
	uint8_t key[DC_KEY_BYTES_MAX];
	Talk talk;

	for (uint32_t i = 0; i < 3000; i++)
	{
		size_t length = 1 + tap_below(&state, i % 10 == 0 ? 1999 : 40);

		for (size_t k = 0; k < length; k++)
			key[k] = (uint8_t) tap_random(&state);
		for (int side = 0; side < 2; side++)
		{
			if (i % 5 != 4 || side == (int) i % 2)
				replica_put(side ? b : a, key, length,
							(DcEntry){.stamp = dc_hlc_make(1000 + i, 1)});
		}
	}
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(talk.status == DC_OK && mended(&talk) > 550 &&
		   replica_sum(a) == replica_sum(b),
	   "keys of 1 to 2,000 bytes are compared like others");
	replica_free(a);
	replica_free(b);
}

/* --- both nodes go on writing --- */

typedef struct Meddler
{
	uint64_t state;
	uint64_t next;
	uint32_t writes; /* left; each reaches both nodes, in any order */
	uint64_t late;   /* written at A, not yet at B; 0: none */
} Meddler;

static void
meddle(Replica *a, Replica *b, void *arg)
{
	Meddler *m = arg;

	for (int i = 0; i < 50 && m->writes > 0; i++, m->writes--)
	{
		uint64_t number = tap_below(&m->state, 30000);
		uint64_t time = 1 << 28 | m->next++;

		replica_put_number(i % 2 ? a : b, number, time, i % 7 == 0);
		replica_put_number(i % 2 ? b : a, number, time, i % 7 == 0);
	}
}

static void
test_live_system(void)
{
	bool all = true;

	for (uint64_t seed = 1; seed <= 20; seed++)
	{
		Replica *a = replica_new(30000, 8), *b = replica_new(30000, 8);
		Meddler m = {.state = seed, .writes = 3000};
		uint64_t state = seed;
		Talk talk;

		if (seed % 2 == 0)
		{
			replica_keep_cells(a, 2000);
			replica_keep_cells(b, 2000);
		}
		fill(a, b, 20000, seed % 4 == 0 ? seed : 30 * seed * seed, MIXED,
			 &state);
		talk = replica_repair(a, b, false, meddle, &m);
		all &= talk.status == DC_OK;
		m.writes = 0;
		talk = replica_repair(a, b, false, meddle, &m);
		all &= talk.status == DC_OK && replica_sum(a) == replica_sum(b);
		for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
			all &= dc_map_check(&a->maps[i], &a->env);
		replica_free(a);
		replica_free(b);
	}
	ok(all, "writes between any two messages do no harm, and what they hid is "
			"found the next time");
}

/* --- whose word counts --- */

static void
test_not_covered(void)
{
	Replica *a = replica_new(100, 8), *b = replica_new(100, 8);
	Talk talk;

	replica_put_number(a, 1, 5000, false);
	replica_put_number(b, 2, 6000, false);
	a->vector.at[1] = dc_hlc_make(5500, 1);
	b->vector.at[1] = dc_hlc_make(4500, 1);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(talk.actions[DC_REPAIR_WAIT] == 2 && mended(&talk) == 0,
	   "what a vector does not cover yet is left to the stream");
	replica_free(a);
	replica_free(b);
}

static void
test_claimed_purged(void)
{
	Replica *a = replica_new(100, 8), *b = replica_new(100, 8);
	Talk talk;

	replica_put_number(a, 1, 5000, false);
	replica_put_number(b, 2, 5000, false);
	replica_put_number(a, 3, 7000, false);
	a->node.horizon = b->node.horizon = dc_hlc_make(6000, 1);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(talk.actions[DC_REPAIR_KEEP] == 2 && talk.actions[DC_REPAIR_PUSH] == 1 &&
		   mended(&talk) == 1,
	   "members keep what the other claims to have purged, on both sides");
	talk = replica_repair(a, b, true, NULL, NULL);
	ok(talk.actions[DC_REPAIR_ALONE] == 1 && talk.actions[DC_REPAIR_FETCH] == 1,
	   "a rejoining node learns which of its rows the peer knows nothing of");
	replica_free(a);
	replica_free(b);
}

static void
test_floor(void)
{
	Replica *a = replica_new(100, 8), *b = replica_new(100, 8);
	Talk talk;

	for (uint64_t i = 0; i < 20; i++)
		replica_put_number(a, i, 1000 + i, false);
	replica_put_number(a, 30, 9000, false);
	replica_put_number(b, 31, 9000, false);
	b->node.floor = dc_hlc_make(5000, 1);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(mended(&talk) == 2 && talk.actions[DC_REPAIR_KEEP] == 0,
	   "what died in a TRUNCATE that one node knows of is no difference");
	replica_put_number(a, 40, 8000, false);
	b->node.horizon = dc_hlc_make(8500, 1);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(mended(&talk) == 0 && talk.actions[DC_REPAIR_KEEP] == 1,
	   "and the floor does not hide a claim to have purged");
	replica_free(a);
	replica_free(b);
}

/* Cells are of all entries; what lies below a floor is compared by nobody. */
static void
test_floor_and_cells(void)
{
	Replica *a = replica_new(100, 8), *b = replica_new(100, 8);
	Talk talk;

	replica_keep_cells(a, 100);
	replica_keep_cells(b, 100);
	replica_put_number(a, 1, 4000, false);
	replica_put_number(b, 1, 9000, false);
	b->node.floor = dc_hlc_make(5000, 1);
	talk = replica_repair(a, b, false, NULL, NULL);
	ok(talk.actions[DC_REPAIR_FETCH] == 1 && replica_sum(a) == replica_sum(b),
	   "a row written after a TRUNCATE is taken in place of one before it, "
	   "also where cells name both");
	replica_free(a);
	replica_free(b);
}

/* --- input --- */

/* A seed of fuzz_repair: what it is, then the message. */
static void
keep_seed(const char *folder, const char *name, int number, uint8_t kind,
		  const uint8_t *data, size_t length)
{
	char path[1024];
	FILE *file;

	if (folder == NULL || length > 4000)
		return;
	snprintf(path, sizeof(path), "%s/%s-%d", folder, name, number);
	file = fopen(path, "wb");
	if (file == NULL || fwrite(&kind, 1, 1, file) != 1 ||
		fwrite(data, 1, length, file) != length || fclose(file) != 0)
		abort();
}

/* `cells`: those that both keep.  The seeds are numbered from `first` on. */
static int
test_input(const char *folder, uint32_t cells, int first)
{
	static DcRepair r;
	static DcRepairScratch scratch;
	static uint8_t question[DC_REPAIR_MESSAGE_MAX];
	static uint8_t answer[DC_REPAIR_MESSAGE_MAX], bad[DC_REPAIR_MESSAGE_MAX];
	Replica *a = replica_new(3000, 8), *b = replica_new(3000, 8);
	uint64_t state = 11;
	bool prefixes = true, flips = true;
	DcWriter q, w, ignored;
	int number = first;

	if (cells > 0)
	{
		replica_keep_cells(a, cells);
		replica_keep_cells(b, cells);
	}
	fill(a, b, 3000, 40, MIXED, &state);
	dc_repair_begin(&r, 7, false, true);
	dc_writer_init(&q, question, sizeof(question));
	for (; dc_repair_next(&r, &a->node, &q); number++)
	{
		DcRepair *before = malloc(sizeof(r)), *after = malloc(sizeof(r));
		DcRepairResult result;

		for (size_t n = 0; n < q.length; n += 1 + n / 50)
		{
			dc_writer_init(&ignored, bad, sizeof(bad));
			prefixes &= dc_repair_answer(&b->node, question, n, &scratch,
										 &ignored) != DC_OK;
		}
		dc_writer_init(&w, answer, sizeof(answer));
		if (dc_repair_answer(&b->node, question, q.length, &scratch, &w) !=
			DC_OK)
			abort();
		*before = r;
		keep_seed(folder, "question", number, 0, question, q.length);
		keep_seed(folder, "answer", number, (uint8_t) (number + 1), answer,
				  w.length);
		for (size_t n = 0; n < w.length; n += 1 + n / 50)
		{
			*after = *before;
			prefixes &= dc_repair_take(after, &a->node, answer, n) != DC_OK;
		}
		for (int i = 0; i < 300; i++)
		{
			*after = *before;
			memcpy(bad, answer, w.length);
			bad[tap_below(&state, (uint32_t) w.length)] ^=
				(uint8_t) (1 + tap_below(&state, 255));
			if (dc_repair_take(after, &a->node, bad, w.length) == DC_OK)
			{
				while (dc_repair_result(after, &a->node, &result))
					flips &= result.key.length <= DC_KEY_BYTES_MAX;
				dc_writer_init(&ignored, bad, sizeof(bad));
				(void) dc_repair_next(after, &a->node, &ignored);
				flips &= ignored.status == DC_OK;
			}
			memcpy(bad, question, q.length);
			bad[tap_below(&state, (uint32_t) q.length)] ^=
				(uint8_t) (1 + tap_below(&state, 255));
			dc_writer_init(&ignored, answer + w.length,
						   sizeof(answer) - w.length);
			(void) dc_repair_answer(&b->node, bad, q.length, &scratch,
									&ignored);
		}
		if (dc_repair_take(&r, &a->node, answer, w.length) != DC_OK)
			abort();
		while (dc_repair_result(&r, &a->node, &result))
			continue;
		dc_writer_init(&q, question, sizeof(question));
		free(before);
		free(after);
	}
	ok(number - first >= 2 && prefixes,
	   "no question and no answer is a prefix of another");
	ok(flips, "changed bytes do no harm");
	replica_free(a);
	replica_free(b);
	return number;
}

int
main(int argc, char **argv)
{
	const char *folder = argc > 1 ? argv[1] : NULL;
	int seeds;

	test_any_difference();
	test_budget();
	test_kept_cells();
	test_long_keys();
	test_live_system();
	test_not_covered();
	test_claimed_purged();
	test_floor();
	test_floor_and_cells();
	seeds = test_input(folder, 0, 0);
	(void) test_input(folder, 200, seeds);
	return tap_done();
}
