/*
 * test_sketch.c
 *		Leaves: their sums, their sets, what they tell, and scans of some.
 */
#include "replica.h"
#include "tap.h"

/* Sums of all leaves of a width, counted entry by entry. */
static bool
sums_are_right(Replica *p, uint32_t bits)
{
	uint64_t *counted = calloc(DC_LEAVES_MAX, sizeof(uint64_t));
	DcLeafSums *sums = calloc(1, sizeof(DcLeafSums));
	DcScopeRoom *room = malloc(sizeof(DcScopeRoom));
	DcLeafSet *all = malloc(sizeof(DcLeafSet));
	DcScopeScan scan = {.from = 0};
	bool right = true;

	dc_leaf_set_fill(all, DC_LEAF_BITS_MIN);
	while (dc_scope_next(&scan, &p->node.maps, all, DC_HLC_NONE, room))
	{
		for (size_t i = 0; i < room->count; i++)
		{
			DcSlice key = room->items[i].key;
			uint64_t hash = dc_key_hash(p->env.hash_seed, key.data, key.length);

			counted[dc_leaf_of(hash, bits)] +=
				dc_map_fingerprint(&p->env, key.data, key.length,
								   room->items[i].entry.stamp);
		}
	}
	sums->view = &p->node.maps;
	for (uint32_t leaf = 0; leaf < 1u << bits; leaf++)
		right &= dc_leaf_sum(sums, leaf, bits) == counted[leaf];
	free(counted);
	free(sums);
	free(room);
	free(all);
	return right;
}

static bool
maps_are_right(Replica *p)
{
	bool right = true;

	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
		right &= dc_map_check(&p->maps[i], &p->env);
	return right;
}

/* Small partitions compute their sums, large ones keep them in pages. */
static void
test_sums(void)
{
	Replica *p = replica_new(900000, 8);
	uint64_t state = 1;
	uint32_t kept = 0;
	bool right = true;

	for (uint64_t i = 0; i < 50000; i++)
		replica_put_number(p, i, 1000 + i, i % 9 == 0);
	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
		kept += p->maps[i].leaf_pages;
	ok(kept == 0, "a partition of 800 entries has no pages for sums");
	for (uint32_t bits = DC_LEAF_BITS_MIN; bits <= DC_LEAF_BITS_MAX; bits++)
		right &= sums_are_right(p, bits);
	ok(right, "and their sums are right at any width");
	for (uint64_t i = 50000; i < 800000; i++)
		replica_put_number(p, i, 1000 + i, i % 9 == 0);
	for (uint32_t i = 0; i < 200000; i++)
		replica_put_number(p, tap_below(&state, 800000), 1 << 24 | i,
						   i % 5 == 0);
	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
		kept += p->maps[i].leaf_pages;
	ok(kept == DC_MAP_PARTITIONS * DC_MAP_LEAF_PAGES,
	   "one of 12,000 entries keeps them");
	ok(maps_are_right(p) && sums_are_right(p, DC_LEAF_BITS_MAX) &&
		   sums_are_right(p, 11),
	   "right through writes, updates and deaths");
	replica_free(p);
}

/* Random keys into one partition until the pool is empty. */
static void
fill_pool(Replica *p, uint32_t pages)
{
	uint64_t state = 3;
	uint64_t i = 0;

	dc_page_pool_init(&p->pool, (size_t) pages * DC_PAGE_BYTES);
	for (DcStatus status = DC_OK; status == DC_OK; i++)
	{
		uint64_t key = tap_random(&state);
		DcEntry found;

		status =
			dc_map_merge(&p->maps[0], &p->env, (uint8_t *) &key, 8,
						 dc_key_hash(p->env.hash_seed, (uint8_t *) &key, 8),
						 (DcEntry){.stamp = dc_hlc_make(i + 1, 1)}, false,
						 &found);
	}
}

/* The last pages of the pool go to entries; sums do without. */
static void
test_no_pages(void)
{
	Replica *p = replica_new(1, 8);
	uint32_t without = 0, with = 0;
	bool right = true;

	for (uint32_t pages = 118; pages < 136; pages++)
	{
		fill_pool(p, pages);
		without +=
			p->maps[0].leaf_pages == 0 && p->maps[0].slots >= DC_MAP_LEAF_SLOTS;
		with += p->maps[0].leaf_pages > 0;
		right &= dc_map_check(&p->maps[0], &p->env);
		dc_map_release(&p->maps[0], &p->env);
		right &= p->pool.free_count == p->pool.total;
	}
	ok(without > 0 && with > 0 && right,
	   "without pages left a partition does without sums, and gives all back");
	replica_free(p);
}

static bool
same_set(const DcLeafSet *a, const DcLeafSet *b)
{
	return a->bits == b->bits && a->count == b->count &&
		   memcmp(a->words, b->words, sizeof(a->words)) == 0;
}

static void
test_sets(void)
{
	static DcLeafSet set, read, part, rest;
	static uint8_t bytes[4 * DC_LEAVES_MAX];
	uint64_t state = 5;
	bool codec = true, canonical = true, splits = true;

	for (int run = 0; run < 300; run++)
	{
		uint32_t bits = DC_LEAF_BITS_MIN + tap_below(&state, 9);
		uint32_t count = tap_below(&state, 1u << bits);
		DcWriter w, again;
		DcReader r;

		dc_leaf_set_init(&set, bits);
		for (uint32_t i = 0; i < count; i++)
			dc_leaf_set_add(&set, tap_below(&state, 1u << bits));
		if (run % 50 == 0)
			dc_leaf_set_fill(&set, bits);
		dc_writer_init(&w, bytes, sizeof(bytes));
		dc_leaf_set_encode(&w, &set);
		dc_reader_init(&r, bytes, w.length);
		dc_leaf_set_decode(&r, &read);
		codec &= dc_reader_finish(&r) == DC_OK && same_set(&set, &read);
		dc_writer_init(&again, NULL, 0);
		dc_leaf_set_encode(&again, &read);
		canonical &= again.length == w.length;

		rest = set;
		dc_leaf_set_split(&rest, &part, count / 3);
		splits &= part.count + rest.count == set.count;
		for (uint32_t i = 0; i < DC_LEAVES_MAX / 64; i++)
			splits &= (part.words[i] | rest.words[i]) == set.words[i] &&
					  (part.words[i] & rest.words[i]) == 0;
	}
	ok(codec && canonical, "a set of leaves is read as it was written");
	ok(splits, "and splits into its first leaves and the rest");
}

static void
test_bad_sets(void)
{
	static const uint8_t bad[][4] = {
		{7, 0, 0, 0},          /* too wide */
		{17, 0, 0, 0},         /* too narrow */
		{8, 2, 5, 0xfb},       /* an unfinished gap */
		{8, 1, 0x80, 0x02},    /* leaf 256 of 256 */
		{8, 0x81, 0x02, 0x00}, /* 257 of 256 */
	};
	static DcLeafSet set;
	bool refused = true;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
	{
		DcReader r;

		dc_reader_init(&r, bad[i], sizeof(bad[i]));
		dc_leaf_set_decode(&r, &set);
		refused &= dc_reader_finish(&r) != DC_OK;
	}
	ok(refused, "sets that cannot be are refused");
}

static void
test_estimate(void)
{
	uint64_t state = 9;
	bool near = true;

	for (uint32_t keys = 1; keys <= 1000; keys *= 10)
	{
		for (int run = 0; run < 20; run++)
		{
			bool hit[256] = {false};
			uint32_t differing = 0, guess;

			for (uint32_t i = 0; i < keys; i++)
				hit[tap_below(&state, 256)] = true;
			for (uint32_t i = 0; i < 256; i++)
				differing += hit[i];
			guess = dc_sketch_estimate(differing, 256);
			near &= differing == 256 || (guess * 2 > keys && guess < keys * 2);
		}
	}
	ok(near,
	   "1 to 1,000 keys are estimated within a factor of two from 256 leaves");
	ok(dc_sketch_estimate(0, 256) == 0 && dc_sketch_estimate(256, 256) == 3072,
	   "none is none, and all says only many");
	ok(dc_sketch_refine(1000000, 10, 8, 10) == 0 &&
		   dc_sketch_refine(1000000, 251, 8, 1000) > 8 &&
		   dc_sketch_refine(30000, 256, 8, 3072) == 0,
	   "leaves are narrowed where that spares looking at entries");
}

/* A scan of some leaves gives just their live entries, once, from a hash on. */
static void
test_scope(void)
{
	Replica *p = replica_new(40000, 8);
	static DcLeafSet set;
	static DcScopeRoom room;
	uint64_t state = 4;
	bool right = true;

	for (uint64_t i = 0; i < 30000; i++)
		replica_put_number(p, i, 1000 + i, i % 3 == 0);
	for (int run = 0; run < 60; run++)
	{
		uint32_t bits = DC_LEAF_BITS_MIN + tap_below(&state, 9);
		DcHlc floor = dc_hlc_make(run % 2 ? 1000 + 10000 : 0, 1023);
		DcScopeScan scan = {.from = run % 3 ? tap_random(&state) : 0};
		uint64_t from = scan.from, previous = 0;
		uint32_t given = 0, expected = 0;

		dc_leaf_set_init(&set, bits);
		for (uint32_t i = 0; i < 1u << bits; i++)
		{
			if (run % 5 == 0 || tap_below(&state, 4) > 0)
				dc_leaf_set_add(&set, i);
		}
		for (uint64_t i = 0; i < 30000; i++)
		{
			uint8_t key[8];
			uint64_t hash;

			for (unsigned k = 0; k < 8; k++)
				key[k] = (uint8_t) (i >> (56 - 8 * k));
			hash = dc_key_hash(p->env.hash_seed, key, 8);
			expected += i % 3 != 0 && hash >= from &&
						dc_hlc_make(1000 + i, 1) > floor &&
						dc_leaf_set_has(&set, dc_leaf_of(hash, bits));
		}
		while (dc_scope_next(&scan, &p->node.maps, &set, floor, &room))
		{
			for (size_t i = 0; i < room.count; i++, given++)
			{
				uint64_t hash =
					dc_key_hash(p->env.hash_seed, room.items[i].key.data, 8);

				right &= hash >= from && hash >= previous &&
						 !room.items[i].entry.dead &&
						 dc_leaf_set_has(&set, dc_leaf_of(hash, bits));
				previous = hash;
			}
		}
		right &= given == expected;
	}
	ok(right, "a scan of leaves gives their live entries above a floor, once "
			  "and in order, from any hash on");
	replica_free(p);
}

int
main(void)
{
	test_sums();
	test_no_pages();
	test_sets();
	test_bad_sets();
	test_estimate();
	test_scope();
	return tap_done();
}
