/*
 * map_bench.c
 *		The metadata map alone: time and memory of a keyspace.
 *
 *	make build-bench && build/bench/map_bench [entries [bytes|text bytes]]
 *
 * 10,000,000 entries if not told; keys of so many bytes: 4 for integer, 8 for
 * bigint (if not told), 16 for uuid; or texts of that length.  All 64
 * partitions in one pool, one thread, keys in random order, so each call meets
 * a cold line of memory.
 * "worst" is the greatest bytes per entry from 1 M entries on (or from a
 * tenth of them, if there are fewer than 10 M).
 */
#include "map.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef struct Bench
{
	uint8_t *region;
	DcPagePool pool;
	DcMapEnv env;
	DcMap maps[DC_MAP_PARTITIONS];
	uint64_t entries;
	size_t key_bytes;
	double worst; /* bytes per entry */
} Bench;

enum
{
	KEY_BYTES_MAX = 64
};

static uint32_t
take(void *ctx)
{
	Bench *b = ctx;

	return dc_page_pool_take(&b->pool, b->region);
}

static void
give(void *ctx, uint32_t page)
{
	Bench *b = ctx;

	dc_page_pool_give(&b->pool, b->region, page);
}

static double
now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e9 + (double) t.tv_nsec;
}

/* A permutation of 64 bits: distinct keys without order. */
static uint64_t
scramble(uint64_t z)
{
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint64_t
put_key(uint8_t *key, const Bench *b, uint64_t number)
{
	uint64_t value = b->key_bytes >= 8 ?
						 scramble(number + 1) :
						 (number + 1) * UINT64_C(0x9e3779b1) << 32;

	for (size_t i = 0; i < b->key_bytes; i++)
		key[i] = (uint8_t) (value >> (56 - 8 * (i % 8)));
	return dc_key_hash(b->env.hash_seed, key, b->key_bytes);
}

static DcMap *
partition(Bench *b, uint64_t hash)
{
	return &b->maps[hash >> (64 - DC_MAP_PARTITION_BITS)];
}

static double
bytes_per_entry(const Bench *b, uint64_t entries)
{
	double bytes = sizeof(b->maps);

	bytes += (double) (b->pool.total - b->pool.free_count) * DC_PAGE_BYTES;
	return bytes / (double) entries;
}

static double
insert_all(Bench *b)
{
	uint64_t from = b->entries / 10;
	double start = now_ns();
	uint32_t free_before = b->pool.free_count;

	for (uint64_t i = 0; i < b->entries; i++)
	{
		DcEntry entry = {.stamp = dc_hlc_make(i + 1, (uint32_t) (1 + i % 3))};
		DcEntry found;
		uint8_t key[KEY_BYTES_MAX];
		uint64_t hash = put_key(key, b, i);

		if (dc_map_merge(partition(b, hash), &b->env, key, b->key_bytes, hash,
						 entry, false, &found) != DC_OK)
			abort();
		if (b->pool.free_count == free_before)
			continue;
		/* pages were taken: only now can the density be at its worst */
		free_before = b->pool.free_count;
		if (i >= from && bytes_per_entry(b, i + 1) > b->worst)
			b->worst = bytes_per_entry(b, i + 1);
	}
	return (now_ns() - start) / (double) b->entries;
}

/* The longest growth: the largest partition once more, by promises alone. */
static double
growth_pause(Bench *b)
{
	DcMap *map = &b->maps[0];
	uint32_t slots = map->slots;
	uint8_t key[KEY_BYTES_MAX] = {0};
	double longest = 0;

	while (map->slots == slots)
	{
		double start = now_ns();

		if (dc_map_reserve(map, &b->env, key, b->key_bytes) != DC_OK)
			abort();
		start = now_ns() - start;
		longest = start > longest ? start : longest;
	}
	while (map->reserved > 0)
		dc_map_unreserve(map, &b->env, b->key_bytes);
	return longest / 1e6;
}

/* Looks up `count` keys: those from `base` on, in another order. */
static double
look_up(Bench *b, uint64_t base, uint64_t count, uint64_t *hits)
{
	double start = now_ns();

	for (uint64_t i = 0; i < count; i++)
	{
		uint8_t key[KEY_BYTES_MAX];
		uint64_t hash = put_key(key, b, base + scramble(i) % b->entries);

		*hits +=
			dc_map_get(partition(b, hash), &b->env, key, b->key_bytes).stamp >
			0;
	}
	return (now_ns() - start) / (double) count;
}

enum
{
	AHEAD = 16
};

/* The same with prefetch, 16 at a time. */
static double
look_up_ahead(Bench *b, uint64_t count, uint64_t *hits)
{
	uint8_t keys[AHEAD][KEY_BYTES_MAX];
	uint64_t hashes[AHEAD];
	double start = now_ns();

	for (uint64_t i = 0; i < count; i += AHEAD)
	{
		for (unsigned j = 0; j < AHEAD; j++)
		{
			hashes[j] = put_key(keys[j], b, scramble(i + j) % b->entries);
			dc_map_prefetch(partition(b, hashes[j]), &b->env, hashes[j]);
		}
		for (unsigned j = 0; j < AHEAD; j++)
			*hits += dc_map_get(partition(b, hashes[j]), &b->env, keys[j],
								b->key_bytes)
						 .stamp > 0;
	}
	return (now_ns() - start) / (double) count;
}

static double
update_some(Bench *b, uint64_t count)
{
	double start = now_ns();

	for (uint64_t i = 0; i < count; i++)
	{
		DcEntry entry = {.stamp = dc_hlc_make(b->entries + i + 1, 1)};
		DcEntry found;
		uint8_t key[KEY_BYTES_MAX];
		uint64_t hash = put_key(key, b, scramble(i) % b->entries);

		(void) dc_map_merge(partition(b, hash), &b->env, key, b->key_bytes,
							hash, entry, false, &found);
	}
	return (now_ns() - start) / (double) count;
}

static double
scan_all(Bench *b, const DcVv *above, uint64_t *given)
{
	static uint8_t bytes[512 * 16];
	static DcMapItem items[512];
	DcMapRoom room = {items, 512, bytes, sizeof(bytes), 20000};
	DcMapFilter filter = {.above = above};
	double start = now_ns();

	for (unsigned p = 0; p < DC_MAP_PARTITIONS; p++)
	{
		DcMapCursor cursor = {.done = false};

		while (!cursor.done)
			*given +=
				dc_map_scan(&b->maps[p], &b->env, &cursor, &filter, &room);
	}
	return (now_ns() - start) / (double) b->entries;
}

/* What the arguments ask for; false: nothing that can be measured. */
static bool
read_arguments(Bench *b, int argc, char **argv, bool *text)
{
	*text = argc > 2 && strcmp(argv[2], "text") == 0;
	b->entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 10000000;
	b->key_bytes = argc > 2 + *text ? strtoul(argv[2 + *text], NULL, 10) : 8;
	return b->entries >= 1000 && b->key_bytes >= 4 &&
		   b->key_bytes <= (*text ? KEY_BYTES_MAX : DC_KEY_BYTES_FIXED);
}

int
main(int argc, char **argv)
{
	static Bench b;
	static DcVv none, some;
	uint64_t count, hits = 0, misses = 0, given = 0, tail = 0;
	size_t region_bytes;
	bool text;

	if (!read_arguments(&b, argc, argv, &text))
		return 2;
	count = b.entries < 2000000 ? b.entries : 2000000;
	region_bytes = (size_t) b.entries * (34 + (text ? 2 * b.key_bytes : 0)) +
				   200 * DC_PAGE_BYTES;
	b.region = aligned_alloc(DC_PAGE_BYTES,
							 region_bytes / DC_PAGE_BYTES * DC_PAGE_BYTES);
	if (b.region == NULL)
		return 1;
	dc_page_pool_init(&b.pool, region_bytes);
	b.env.pages = (DcPages){b.region, take, give, &b};
	for (unsigned i = 0; i < DC_SEED_BYTES; i++)
		b.env.hash_seed[i] = b.env.sum_seed[i] = (uint8_t) (i * 59 + 17);
	for (unsigned p = 0; p < DC_MAP_PARTITIONS; p++)
		dc_map_init(&b.maps[p], text ? 0 : (uint32_t) b.key_bytes);
	for (uint32_t id = 0; id < DC_NODE_IDS; id++)
		some.at[id] = dc_hlc_make(b.entries - b.entries / 1000, id);

	printf("entries                    %12llu\n",
		   (unsigned long long) b.entries);
	printf("key                        %12zu bytes%s\n", b.key_bytes,
		   text ? ", text" : "");
	printf("insert                     %12.1f ns\n", insert_all(&b));
	printf("hit                        %12.1f ns\n",
		   look_up(&b, 0, count, &hits));
	printf("hit, %d ahead              %12.1f ns\n", AHEAD,
		   look_up_ahead(&b, count / AHEAD * AHEAD, &hits));
	printf("miss                       %12.1f ns\n",
		   look_up(&b, b.entries, count, &misses));
	printf("scan, all                  %12.2f ns an entry\n",
		   scan_all(&b, &none, &given));
	printf("scan, newest 0.1 %%         %12.2f ns an entry\n",
		   scan_all(&b, &some, &tail));
	printf("update                     %12.1f ns\n", update_some(&b, count));
	printf("growth of one partition    %12.2f ms\n", growth_pause(&b));
	printf("bytes per entry, now       %12.2f\n",
		   bytes_per_entry(&b, b.entries));
	printf("bytes per entry, worst     %12.2f\n", b.worst);
	if (hits != count + count / AHEAD * AHEAD || misses != 0 ||
		given != b.entries || tail == 0 ||
		(!text && b.entries >= 1000000 && b.worst > 32))
	{
		printf("WRONG: hits %llu misses %llu given %llu newest %llu\n",
			   (unsigned long long) hits, (unsigned long long) misses,
			   (unsigned long long) given, (unsigned long long) tail);
		return 1;
	}
	free(b.region);
	return 0;
}
