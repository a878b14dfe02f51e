/*
 * test_map.c
 *		The metadata map: join laws, model, scan, promises, memory.
 */
#include "map.h"
#include "tap.h"

#include <stdlib.h>

/* A pool, and one partition in it. */
typedef struct Rig
{
	uint8_t *region;
	DcPagePool pool;
	DcMapEnv env;
	DcMap map;
	bool sealed; /* a page taken now is a failure */
	bool broken; /* ... and it happened */
} Rig;

static uint32_t
rig_take(void *ctx)
{
	Rig *rig = ctx;

	rig->broken |= rig->sealed;
	return dc_page_pool_take(&rig->pool, rig->region);
}

static void
rig_give(void *ctx, uint32_t page)
{
	Rig *rig = ctx;

	dc_page_pool_give(&rig->pool, rig->region, page);
}

static void
rig_open(Rig *rig, uint32_t pages, uint32_t key_bytes)
{
	memset(rig, 0, sizeof(*rig));
	rig->region = malloc((size_t) pages * DC_PAGE_BYTES);
	memset(rig->region, 0xa5, (size_t) pages * DC_PAGE_BYTES);
	dc_page_pool_init(&rig->pool, (size_t) pages * DC_PAGE_BYTES);
	rig->env.pages = (DcPages){rig->region, rig_take, rig_give, rig};
	for (uint8_t i = 0; i < DC_SEED_BYTES; i++)
	{
		rig->env.hash_seed[i] = (uint8_t) (i * 37 + 11);
		rig->env.sum_seed[i] = i;
	}
	dc_map_init(&rig->map, key_bytes);
}

/* True if nothing leaked. */
static bool
rig_close(Rig *rig)
{
	bool clean;

	dc_map_release(&rig->map, &rig->env);
	clean = rig->pool.free_count == rig->pool.total && !rig->broken;
	free(rig->region);
	return clean;
}

static DcEntry
live(DcHlc stamp)
{
	return (DcEntry){.stamp = stamp, .dead = false};
}

static DcEntry
dead(DcHlc stamp)
{
	return (DcEntry){.stamp = stamp, .dead = true};
}

static bool
same(DcEntry a, DcEntry b)
{
	return a.stamp == b.stamp && a.dead == b.dead;
}

static bool
greater(DcEntry a, DcEntry b)
{
	return a.stamp > b.stamp || (a.stamp == b.stamp && a.dead && !b.dead);
}

static DcStatus
merge(Rig *rig, const void *key, size_t length, DcEntry entry, bool reserved)
{
	uint64_t hash = dc_key_hash(rig->env.hash_seed, key, length);
	DcEntry found;

	return dc_map_merge(&rig->map, &rig->env, key, length, hash, entry,
						reserved, &found);
}

static DcEntry
get(const Rig *rig, const void *key, size_t length)
{
	return dc_map_get(&rig->map, &rig->env, key, length);
}

/* -------------------------------------------------------------- hashes */

/* Input 00, 01, .. of 0 .. 15 bytes, key 00 .. 0f: the authors' vectors. */
static const uint64_t sip24_vectors[16] =
	{UINT64_C(0x726fdb47dd0e0e31), UINT64_C(0x74f839c593dc67fd),
	 UINT64_C(0x0d6c8009d9a94f5a), UINT64_C(0x85676696d7fb7e2d),
	 UINT64_C(0xcf2794e0277187b7), UINT64_C(0x18765564cd99a68d),
	 UINT64_C(0xcbc9466e58fee3ce), UINT64_C(0xab0200f58b01d137),
	 UINT64_C(0x93f5f5799a932462), UINT64_C(0x9e0082df0ba9e4b0),
	 UINT64_C(0x7a5dbbc594ddb9f3), UINT64_C(0xf4b32f46226bada7),
	 UINT64_C(0x751e8fbc860ee5fb), UINT64_C(0x14ea5627c0843d90),
	 UINT64_C(0xf723ca908e7af2ee), UINT64_C(0xa129ca6149be45e5)};

static const uint64_t sip13_vectors[16] =
	{UINT64_C(0xabac0158050fc4dc), UINT64_C(0xc9f49bf37d57ca93),
	 UINT64_C(0x82cb9b024dc7d44d), UINT64_C(0x8bf80ab8e7ddf7fb),
	 UINT64_C(0xcf75576088d38328), UINT64_C(0xdef9d52f49533b67),
	 UINT64_C(0xc50d2b50c59f22a7), UINT64_C(0xd3927d989bb11140),
	 UINT64_C(0x369095118d299a8e), UINT64_C(0x25a48eb36c063de4),
	 UINT64_C(0x79de85ee92ff097f), UINT64_C(0x70c118c1f94dc352),
	 UINT64_C(0x78a384b157b4d9a2), UINT64_C(0x306f760c1229ffa7),
	 UINT64_C(0x605aa111c0f95d34), UINT64_C(0xd320d86d2a519956)};

static void
test_siphash(void)
{
	uint8_t seed[16], input[64];
	bool vectors13 = true, vectors24 = true, parts = true;

	for (uint8_t i = 0; i < 64; i++)
	{
		input[i] = i;
		seed[i % 16] = i % 16;
	}
	for (size_t n = 0; n < 16; n++)
	{
		vectors24 &=
			dc_siphash_rounds(seed, input, n, 2, 4) == sip24_vectors[n];
		vectors13 &= dc_siphash(seed, input, n) == sip13_vectors[n];
	}
	vectors24 &= dc_siphash_rounds(seed, input, 63, 2, 4) ==
				 UINT64_C(0x958a324ceb064572);
	for (size_t n = 0; n <= 40; n++)
	{
		uint8_t joined[64];

		memcpy(joined, input, n);
		for (unsigned i = 0; i < 8; i++)
			joined[n + i] = (uint8_t) (UINT64_C(0x8102030405060708) >> 8 * i);
		parts &= dc_siphash(seed, joined, n + 8) ==
				 dc_siphash_entry(seed, input, n, UINT64_C(0x8102030405060708));
	}
	ok(vectors24, "SipHash-2-4 agrees with the published vectors");
	ok(vectors13, "SipHash-1-3 agrees with the reference implementation");
	ok(parts, "an entry's hash is that of its key and stamp in one piece");
}

static void
test_key_hash(void)
{
	uint8_t seed[16], key[64] = {0};
	uint32_t buckets[64] = {0}, most = 0, least = UINT32_MAX;
	uint64_t random = 1;
	bool differs = true;

	for (size_t i = 0; i < 16; i++)
		seed[i] = (uint8_t) tap_random(&random);
	for (size_t n = 1; n <= 64; n++)
	{
		uint64_t hash = dc_key_hash(seed, key, n);

		for (size_t bit = 0; bit < n * 8; bit++)
		{
			key[bit / 8] ^= (uint8_t) (1u << bit % 8);
			differs &= dc_key_hash(seed, key, n) != hash;
			key[bit / 8] ^= (uint8_t) (1u << bit % 8);
		}
		differs &= dc_key_hash(seed, key, n - 1) != hash;
	}
	for (size_t bit = 0; bit < 128; bit++)
	{
		uint64_t hash = dc_key_hash(seed, key, 8);

		seed[bit / 8] ^= (uint8_t) (1u << bit % 8);
		differs &= dc_key_hash(seed, key, 8) != hash;
		seed[bit / 8] ^= (uint8_t) (1u << bit % 8);
	}
	ok(differs, "each bit of key, length and seed changes the key hash");
	for (uint64_t i = 0; i < 64000; i++)
	{
		for (unsigned b = 0; b < 8; b++)
			key[b] = (uint8_t) (i >> (56 - 8 * b));
		buckets[dc_key_hash(seed, key, 8) >> 58]++;
	}
	for (size_t i = 0; i < 64; i++)
	{
		most = buckets[i] > most ? buckets[i] : most;
		least = buckets[i] < least ? buckets[i] : least;
	}
	ok(most < 1150 && least > 850,
	   "consecutive bigint keys spread evenly over the partitions (%u .. %u)",
	   least, most);
}

static void
test_pool(void)
{
	uint8_t *region = malloc(10 * DC_PAGE_BYTES);
	DcPagePool pool;
	unsigned seen = 0;

	dc_page_pool_init(&pool, 10 * DC_PAGE_BYTES + 100);
	for (int i = 0; i < 10; i++)
		seen |= 1u << dc_page_pool_take(&pool, region);
	ok(seen == 1023 && pool.free_count == 0, "a pool gives each page once");
	ok(dc_page_pool_take(&pool, region) == DC_PAGE_NONE,
	   "an empty pool says so");
	for (uint32_t i = 0; i < 10; i++)
		dc_page_pool_give(&pool, region, i * 7 % 10);
	seen = 0;
	for (int i = 0; i < 10; i++)
		seen |= 1u << dc_page_pool_take(&pool, region);
	ok(seen == 1023 && pool.free_count == 0,
	   "pages given back are given out again, each once");
	free(region);
}

/* ----------------------------------------------------------- join laws */

/*
 * Small scope: two keys; stamps 1 .. 3, live and dead.  An entry is 1 .. 6 in
 * the order of the join, 0 is absent; a state is a pair of them, 0 .. 48.
 */
enum
{
	ENTRIES = 7,
	STATES = ENTRIES * ENTRIES
};

static const uint8_t law_keys[2][8] = {"alpha", "beta"};

static DcEntry
law_entry(unsigned number)
{
	return (DcEntry){.stamp = (DcHlc) (number + 1) / 2 * 1024 + 7,
					 .dead = number % 2 == 0};
}

static uint64_t
law_sum(const Rig *rig, unsigned state)
{
	unsigned numbers[2] = {state / ENTRIES, state % ENTRIES};
	uint64_t sum = 0;

	for (int k = 0; k < 2; k++)
	{
		if (numbers[k] % 2 == 1)
			sum += dc_map_fingerprint(&rig->env, law_keys[k], 8,
									  law_entry(numbers[k]).stamp);
	}
	return sum;
}

/* The state the map is in; STATES if anything about it is inconsistent. */
static unsigned
law_read(const Rig *rig)
{
	unsigned state = 0, used = 0, graves = 0;

	for (int k = 0; k < 2; k++)
	{
		DcEntry entry = get(rig, law_keys[k], 8);
		unsigned number = 0;

		for (unsigned n = 1; n < ENTRIES; n++)
			number = same(law_entry(n), entry) ? n : number;
		if (number == 0 && entry.stamp != DC_HLC_NONE)
			return STATES;
		used += number > 0;
		graves += entry.dead;
		state = state * ENTRIES + number;
	}
	if (rig->map.used != used || rig->map.dead_count != graves ||
		rig->map.live_sum != law_sum(rig, state) ||
		!dc_map_check(&rig->map, &rig->env))
		return STATES;
	return state;
}

static void
law_merge(Rig *rig, unsigned state)
{
	unsigned numbers[2] = {state / ENTRIES, state % ENTRIES};

	for (int k = 0; k < 2; k++)
	{
		if (numbers[k] > 0)
			merge(rig, law_keys[k], 8, law_entry(numbers[k]), false);
	}
}

static unsigned
law_join(unsigned a, unsigned b)
{
	unsigned state;
	Rig rig;

	rig_open(&rig, 4, 8);
	law_merge(&rig, a);
	law_merge(&rig, b);
	state = law_read(&rig);
	rig_close(&rig);
	return state;
}

static void
test_join_laws(void)
{
	static unsigned join[STATES][STATES];
	bool closed = true, commutes = true, associates = true, repeats = true;
	bool grows = true;

	for (unsigned a = 0; a < STATES; a++)
	{
		for (unsigned b = 0; b < STATES; b++)
		{
			join[a][b] = law_join(a, b);
			closed &= join[a][b] < STATES;
		}
	}
	if (!ok(closed, "the join of two small maps is a consistent map"))
		return;
	for (unsigned a = 0; a < STATES; a++)
	{
		repeats &= join[a][a] == a;
		for (unsigned b = 0; b < STATES; b++)
		{
			commutes &= join[a][b] == join[b][a];
			grows &= join[a][join[a][b]] == join[a][b];
			for (unsigned c = 0; c < STATES; c++)
				associates &= join[join[a][b]][c] == join[a][join[b][c]];
		}
	}
	ok(commutes, "join commutes: all %d pairs of small maps", STATES * STATES);
	ok(associates, "join associates: all %d triples of small maps",
	   STATES * STATES * STATES);
	ok(repeats && grows, "join is idempotent and only moves up");
}

/* All sequences of up to four of the twelve entries, any order, repeats. */
static void
test_join_sequences(void)
{
	unsigned sequences = 0;
	bool agrees = true;
	Rig rig;

	rig_open(&rig, 4, 8);
	for (unsigned length = 1, count = 12; length <= 4; length++, count *= 12)
	{
		for (unsigned code = 0; code < count; code++, sequences++)
		{
			unsigned best[2] = {0, 0};

			for (unsigned i = 0, rest = code; i < length; i++, rest /= 12)
			{
				unsigned key = rest % 2, number = rest % 12 / 2 + 1;

				merge(&rig, law_keys[key], 8, law_entry(number), false);
				if (number > best[key])
					best[key] = number;
			}
			agrees &= law_read(&rig) == best[0] * ENTRIES + best[1];
			dc_map_release(&rig.map, &rig.env);
		}
	}
	ok(agrees, "after any of %u sequences of merges each key holds its maximum",
	   sequences);
	ok(rig_close(&rig), "the maps of the join laws leak no page");
}

/* --------------------------------------------------------------- model */

/* A trivially right map: one cell for each key there can be. */
typedef struct Cell
{
	uint8_t *key;
	size_t length;
	DcEntry entry;
	bool throughout;   /* present since the scan began */
	unsigned seen;     /* times the scan gave it */
	unsigned reserved; /* promises for a key like this */
} Cell;

typedef struct Model
{
	Rig rig;
	Cell *cells;
	uint32_t cell_count;
	uint64_t random;
	uint64_t reserved;
	uint64_t stamps;
	DcMapCursor cursor;
	unsigned scans;
	bool wrong;
} Model;

static void
model_fail(Model *m, const char *what)
{
	if (!m->wrong)
		note("model: %s (entries %u)", what, m->rig.map.used);
	m->wrong = true;
}

static void
model_open(Model *m, uint32_t key_bytes, size_t shortest, size_t longest,
		   uint32_t keys, uint32_t pages, uint64_t seed)
{
	memset(m, 0, sizeof(*m));
	rig_open(&m->rig, pages, key_bytes);
	m->random = seed;
	m->cell_count = keys;
	m->cells = calloc(keys, sizeof(Cell));
	for (uint32_t i = 0; i < keys; i++)
	{
		Cell *cell = &m->cells[i];

		/* half of the lengths short, so that kinds of keys mix */
		cell->length = shortest;
		if (longest > shortest && i % 2 == 0)
			cell->length +=
				tap_below(&m->random, (uint32_t) (longest - shortest + 1));
		else if (longest > shortest)
			cell->length +=
				tap_below(&m->random, 20) % (longest - shortest + 1);
		/* the number at the end keeps keys apart, wherever it fits */
		while (cell->length < 3)
			cell->length++;
		cell->key = calloc(1, cell->length);
		cell->key[cell->length - 1] = (uint8_t) i;
		cell->key[cell->length - 2] = (uint8_t) (i >> 8);
		cell->key[cell->length - 3] = (uint8_t) (i >> 16);
	}
}

static bool
model_close(Model *m)
{
	for (uint32_t i = 0; i < m->cell_count; i++)
		free(m->cells[i].key);
	free(m->cells);
	return rig_close(&m->rig);
}

static void
model_merge(Model *m, Cell *cell, bool reserved)
{
	DcEntry entry = {.dead = tap_below(&m->random, 3) == 0};
	uint64_t hash = dc_key_hash(m->rig.env.hash_seed, cell->key, cell->length);
	DcEntry found;
	DcStatus status;

	m->stamps += tap_below(&m->random, 2);
	entry.stamp = dc_hlc_make(1000 + m->stamps -
								  tap_below(&m->random, 900) % (m->stamps + 1),
							  1 + tap_below(&m->random, 5));
	m->rig.sealed = reserved || cell->entry.stamp != DC_HLC_NONE;
	status = dc_map_merge(&m->rig.map, &m->rig.env, cell->key, cell->length,
						  hash, entry, reserved, &found);
	m->rig.sealed = false;
	if (!same(found, cell->entry))
		model_fail(m, "merge found something else");
	if (reserved)
	{
		cell->reserved--;
		m->reserved--;
	}
	if (status != DC_OK)
	{
		if (reserved || cell->entry.stamp != DC_HLC_NONE || status != DC_FULL)
			model_fail(m, "merge failed that may not");
		return;
	}
	if (greater(entry, cell->entry))
		cell->entry = entry;
}

static void
model_remove(Model *m, Cell *cell)
{
	bool known = cell->entry.stamp != DC_HLC_NONE;

	if (dc_map_remove(&m->rig.map, &m->rig.env, cell->key, cell->length) !=
		known)
		model_fail(m, "remove answers the wrong thing");
	cell->entry = live(DC_HLC_NONE);
	cell->throughout = false;
}

static void
model_reserve(Model *m, Cell *cell)
{
	if (cell->reserved > 0 && tap_below(&m->random, 3) == 0)
	{
		dc_map_unreserve(&m->rig.map, &m->rig.env, cell->length);
		cell->reserved--;
		m->reserved--;
	}
	else if (dc_map_reserve(&m->rig.map, &m->rig.env, cell->key,
							cell->length) == DC_OK)
	{
		cell->reserved++;
		m->reserved++;
		if (tap_below(&m->random, 8) == 0)
			dc_map_expect(&m->rig.map, &m->rig.env, tap_below(&m->random, 200));
	}
}

/* The scan gave this item: its key's number stands at its end. */
static void
model_see(Model *m, const DcMapItem *item)
{
	const uint8_t *end = item->key.data + item->key.length;
	uint32_t i = end[-1] | (uint32_t) end[-2] << 8 | (uint32_t) end[-3] << 16;
	Cell *cell = &m->cells[i];

	if (i >= m->cell_count || cell->length != item->key.length ||
		memcmp(cell->key, item->key.data, cell->length) != 0 ||
		!same(cell->entry, item->entry))
		model_fail(m, "the scan gave what is not there");
	else if (++cell->seen > 1 && cell->throughout)
		model_fail(m, "the scan gave an entry twice");
}

static void
model_scan(Model *m)
{
	static uint8_t bytes[4 * DC_KEY_BYTES_MAX];
	DcMapItem items[50];
	DcMapRoom room = {items, 1 + tap_below(&m->random, 50), bytes,
					  sizeof(bytes), 1 + tap_below(&m->random, 100)};
	size_t count =
		dc_map_scan(&m->rig.map, &m->rig.env, &m->cursor, NULL, &room);

	for (size_t i = 0; i < count; i++)
		model_see(m, &items[i]);
	if (!m->cursor.done)
		return;
	m->scans++;
	m->cursor = (DcMapCursor){.done = false};
	for (uint32_t i = 0; i < m->cell_count; i++)
	{
		Cell *cell = &m->cells[i];

		if (cell->throughout && cell->seen != 1)
			model_fail(m, "the scan missed an entry");
		cell->throughout = cell->entry.stamp != DC_HLC_NONE;
		cell->seen = 0;
	}
}

/* The whole map against the whole model. */
static void
model_compare(Model *m)
{
	uint32_t used = 0, graves = 0;
	uint64_t sum = 0;

	for (uint32_t i = 0; i < m->cell_count; i++)
	{
		const Cell *cell = &m->cells[i];

		if (!same(get(&m->rig, cell->key, cell->length), cell->entry))
			model_fail(m, "get answers the wrong thing");
		if (cell->entry.stamp == DC_HLC_NONE)
			continue;
		used++;
		graves += cell->entry.dead;
		if (!cell->entry.dead)
			sum += dc_map_fingerprint(&m->rig.env, cell->key, cell->length,
									  cell->entry.stamp);
	}
	if (m->rig.map.used != used || m->rig.map.dead_count != graves ||
		m->rig.map.live_sum != sum || m->rig.map.reserved != m->reserved)
		model_fail(m, "the counts or the sum are wrong");
	if (!dc_map_check(&m->rig.map, &m->rig.env))
		model_fail(m, "an invariant does not hold");
	if (m->rig.broken)
		model_fail(m, "a page was taken where none may be");
}

/* Phases in which merges prevail, and such in which removals do. */
static void
model_run(Model *m, unsigned steps)
{
	for (unsigned step = 0; step < steps && !m->wrong; step++)
	{
		Cell *cell = &m->cells[tap_below(&m->random, m->cell_count)];
		uint32_t dice = tap_below(&m->random, 100);
		bool shrinking = step / (steps / 8) % 4 == 3;

		if (dice < (shrinking ? 10 : 60))
			model_merge(m, cell, cell->reserved > 0);
		else if (dice < 70)
			model_remove(m, cell);
		else if (dice < 85)
			model_reserve(m, cell);
		else if (dice < 95)
			model_scan(m);
		else if (!same(get(&m->rig, cell->key, cell->length), cell->entry))
			model_fail(m, "get answers the wrong thing");
		if (step % (steps / 16) == 0)
			model_compare(m);
	}
	model_compare(m);
}

static void
test_model(const char *kind, uint32_t key_bytes, size_t shortest,
		   size_t longest, uint32_t keys, uint32_t pages)
{
	unsigned scans = 0;
	bool right = true, clean = true;

	for (uint64_t seed = 1; seed <= 2; seed++)
	{
		Model m;

		model_open(&m, key_bytes, shortest, longest, keys, pages, seed);
		model_run(&m, 120000);
		scans += m.scans;
		right &= !m.wrong;
		clean &= model_close(&m);
	}
	ok(right && scans > 4,
	   "%s: 240000 random steps agree with the model (%u scans meanwhile)",
	   kind, scans);
	ok(clean, "%s: every page comes back", kind);
}

/* ---------------------------------------------------------------- scan */

static void
put_number(uint8_t key[16], uint64_t number)
{
	for (unsigned b = 0; b < 8; b++)
		key[b] = (uint8_t) (number >> (56 - 8 * b));
	memset(key + 8, 0, 8);
}

static uint64_t
get_number(const uint8_t *key)
{
	uint64_t number = 0;

	for (unsigned b = 0; b < 8; b++)
		number = number << 8 | key[b];
	return number;
}

/* 2,000 entries are scanned while 60,000 more arrive between the calls. */
static void
test_scan_growth(void)
{
	static unsigned seen[62000];
	uint8_t key[16], bytes[16 * 20];
	DcMapItem items[20];
	DcMapRoom room = {items, 20, bytes, sizeof(bytes), 0};
	DcMapCursor cursor = {.done = false};
	uint64_t next = 2000;
	bool once = true, ordered = true;
	uint64_t order = 0;
	uint32_t pages;
	Rig rig;

	rig_open(&rig, 2000, 8);
	for (uint64_t i = 0; i < next; i++)
	{
		put_number(key, i);
		merge(&rig, key, 8, live(1024 + i), false);
	}
	pages = dc_map_pages(&rig.map);
	while (!cursor.done)
	{
		size_t count = dc_map_scan(&rig.map, &rig.env, &cursor, NULL, &room);

		for (size_t i = 0; i < count; i++)
			seen[get_number(items[i].key.data)]++;
		ordered &= cursor.order >= order;
		order = cursor.order;
		for (int i = 0; i < 600 && next < 62000; i++, next++)
		{
			put_number(key, next);
			merge(&rig, key, 8, live(1024 + next), false);
		}
	}
	for (size_t i = 0; i < 62000; i++)
		once &= i < 2000 ? seen[i] == 1 : seen[i] <= 1;
	ok(once && ordered && next == 62000,
	   "a scan gives each entry once, in order, while %u pages become %u",
	   pages, dc_map_pages(&rig.map));
	ok(rig_close(&rig), "a grown map leaks no page");
}

/*
 * What another node scans arrives in the order of hashes, and fills the table
 * from the left.  A search that walks from its home takes 80,000,000,000 steps
 * here, and the test its time limit.
 */
static void
test_scan_order(void)
{
	const uint64_t count = 400000;
	uint8_t key[16], bytes[16 * 1000];
	DcMapItem items[1000];
	DcMapRoom room = {items, 1000, bytes, sizeof(bytes), 0};
	DcMapCursor cursor = {.done = false};
	bool equal = true;
	Rig donor, joiner;

	rig_open(&donor, 8000, 8);
	rig_open(&joiner, 8000, 8);
	for (uint64_t i = 0; i < count; i++)
	{
		put_number(key, i);
		merge(&donor, key, 8, live(1024 + i), false);
	}
	while (!cursor.done)
	{
		size_t n = dc_map_scan(&donor.map, &donor.env, &cursor, NULL, &room);

		for (size_t i = 0; i < n; i++)
		{
			memcpy(key, items[i].key.data, 8);
			merge(&joiner, key, 8, items[i].entry, false);
		}
	}
	for (uint64_t i = 0; i < count; i++)
	{
		put_number(key, i);
		equal &= same(get(&joiner, key, 8), live(1024 + i));
	}
	ok(equal && joiner.map.used == donor.map.used,
	   "what was scanned here fills a map there, in time");
	ok(rig_close(&donor) && rig_close(&joiner), "... and leaks no page");
}

static unsigned scan_calls; /* of the last count_scan */

static size_t
count_scan(const Rig *rig, const DcMapFilter *filter, uint32_t visits_max)
{
	uint8_t bytes[16 * 20];
	DcMapItem items[20];
	DcMapRoom room = {items, 20, bytes, sizeof(bytes), visits_max};
	DcMapCursor cursor = {.done = false};
	size_t count = 0;

	for (scan_calls = 0; !cursor.done && scan_calls < 100000; scan_calls++)
		count += dc_map_scan(&rig->map, &rig->env, &cursor, filter, &room);
	return count;
}

/* Entries of nodes 1 .. 4 at 1 .. 250 us; those of even times are dead. */
static void
test_scan_filter(void)
{
	static DcVv above;
	uint8_t key[16];
	Rig rig;

	rig_open(&rig, 100, 8);
	ok(count_scan(&rig, NULL, 0) == 0, "a scan of an empty map ends at once");
	for (uint64_t i = 0; i < 1000; i++)
	{
		DcHlc stamp = dc_hlc_make(i / 4 + 1, (uint32_t) (i % 4 + 1));

		put_number(key, i);
		merge(&rig, key, 8, (i / 4 + 1) % 2 == 0 ? dead(stamp) : live(stamp),
			  false);
	}
	dc_vv_init(&above);
	above.at[1] = DC_HLC_MAX;
	above.at[2] = dc_hlc_make(100, 2);
	above.at[3] = dc_hlc_make(249, 3);
	ok(count_scan(&rig, &(DcMapFilter){.above = &above}, 0) == 401,
	   "a scan above a vector gives what the vector does not cover");
	ok(count_scan(&rig, &(DcMapFilter){.skip_dead = true}, 0) == 500 &&
		   count_scan(&rig, &(DcMapFilter){.skip_live = true}, 0) == 500,
	   "a scan can be of the live or of the dead alone");
	ok(count_scan(&rig,
				  &(DcMapFilter){.after = dc_hlc_make(10, DC_NODE_ID_MAX),
								 .until = dc_hlc_make(20, 2)},
				  0) == 38,
	   "a scan can be bounded on both sides");
	ok(count_scan(&rig, NULL, 1) == 1000 && count_scan(&rig, NULL, 7) == 1000,
	   "a bound on visits interrupts a scan and loses nothing");
	above.at[2] = above.at[3] = above.at[4] = DC_HLC_MAX;
	ok(count_scan(&rig, &(DcMapFilter){.above = &above}, 10) == 0 &&
		   scan_calls >= 100,
	   "it also interrupts a scan that finds nothing");
	rig_close(&rig);
}

/* -------------------------------------------------------------- layout */

/* With the seed known, keys that begin with its second half all collide. */
static void
test_collisions(void)
{
	unsigned seen[2000] = {0};
	uint8_t key[32], bytes[DC_KEY_BYTES_MAX];
	DcMapItem item;
	DcMapRoom room = {&item, 1, bytes, sizeof(bytes), 0};
	DcMapCursor cursor = {.done = false};
	bool once = true, gone = true;
	Rig rig;

	rig_open(&rig, 400, 0);
	memset(key, 0, sizeof(key));
	memcpy(key, rig.env.hash_seed + 8, 8);
	memcpy(key + 16, rig.env.hash_seed + 8, 8);
	for (uint32_t i = 0; i < 2000; i++)
	{
		memcpy(key + 8, &i, sizeof(i));
		merge(&rig, key, 32, live(1025 + i), false);
	}
	while (!cursor.done)
	{
		if (dc_map_scan(&rig.map, &rig.env, &cursor, NULL, &room) == 1)
			seen[item.entry.stamp - 1025]++;
	}
	for (uint32_t i = 0; i < 2000; i++)
		once &= seen[i] == 1;
	ok(once && rig.map.used == 2000 && dc_map_check(&rig.map, &rig.env),
	   "2000 keys of one hash are kept apart and scanned once each");
	for (uint32_t i = 0; i < 2000; i++)
	{
		memcpy(key + 8, &i, sizeof(i));
		gone &= same(get(&rig, key, 32), live(1025 + i)) &&
				dc_map_remove(&rig.map, &rig.env, key, 32);
	}
	ok(gone && dc_map_pages(&rig.map) == 0,
	   "they are found and removed one by one, and no page is left");
	rig_close(&rig);
}

/* The next number whose key has its home in the last 256th of the table. */
static uint64_t
next_at_end(const Rig *rig, uint8_t key[16], uint64_t number)
{
	uint64_t order;

	do
	{
		put_number(key, ++number);
		order = dc_key_hash(rig->env.hash_seed, key, 8)
				<< DC_MAP_PARTITION_BITS;
	} while (order >> 56 < 255);
	return number;
}

/* The tail is far too short for keys that all belong to the end. */
static void
test_tail(void)
{
	uint8_t key[16] = {0};
	uint64_t number = 0;
	bool kept = true;
	uint32_t homes;
	Rig rig;

	rig_open(&rig, 64, 8);
	for (int i = 0; i < 60; i++)
		dc_map_reserve(&rig.map, &rig.env, key, 8);
	homes = rig.map.homes;
	rig.sealed = true;
	for (int i = 0; i < 60; i++)
	{
		number = next_at_end(&rig, key, number);
		kept &= merge(&rig, key, 8, live(1025), true) == DC_OK &&
				dc_map_check(&rig.map, &rig.env);
	}
	ok(kept && rig.map.used == 60 && rig.map.homes < homes && !rig.broken,
	   "promised inserts that all fall on the end find room without a page");
	rig.sealed = false;
	for (int i = 0; i < 700; i++)
	{
		number = next_at_end(&rig, key, number);
		kept &= dc_map_reserve(&rig.map, &rig.env, key, 8) == DC_OK &&
				dc_map_check(&rig.map, &rig.env) &&
				merge(&rig, key, 8, live(1025), true) == DC_OK &&
				dc_map_check(&rig.map, &rig.env);
	}
	ok(kept && rig.map.used == 760,
	   "and the table grows although they all fall on the end");
	rig_close(&rig);
}

/* A table that knows what comes grows once; its layout is the same. */
static void
test_expected(void)
{
	uint8_t key[16] = {0};
	uint32_t pages;
	bool kept;
	Rig rig;

	rig_open(&rig, 1000, 8);
	dc_map_expect(&rig.map, &rig.env, 20000);
	pages = dc_map_pages(&rig.map);
	kept = dc_map_check(&rig.map, &rig.env);
	for (uint64_t i = 0; i < 20000; i++)
	{
		put_number(key, i);
		kept &= merge(&rig, key, 8, live(1025 + i), false) == DC_OK;
	}
	ok(kept && dc_map_check(&rig.map, &rig.env) &&
		   dc_map_pages(&rig.map) == pages &&
		   pages * DC_PAGE_BYTES <= 20000 * 28,
	   "expected inserts find a table of their size");
	dc_map_expect(&rig.map, &rig.env, 0);
	ok(dc_map_pages(&rig.map) == pages, "nothing expected, nothing taken");
	dc_map_expect(&rig.map, &rig.env, 400);
	ok(dc_map_pages(&rig.map) >= pages + pages / 9 - 5 &&
		   dc_map_check(&rig.map, &rig.env),
	   "a few more let it grow by a ninth, as without being told");
	ok(rig_close(&rig), "every page comes back");

	rig_open(&rig, 10, 8);
	dc_map_expect(&rig.map, &rig.env, 20000);
	put_number(key, 1);
	ok(dc_map_pages(&rig.map) == 10 &&
		   merge(&rig, key, 8, live(1025), false) == DC_OK &&
		   dc_map_check(&rig.map, &rig.env),
	   "and with fewer pages than that, what there is");
	ok(dc_map_remove(&rig.map, &rig.env, key, 8) &&
		   dc_map_pages(&rig.map) == 0 && rig_close(&rig),
	   "an empty table keeps none of them");
}

static void
test_relocation(void)
{
	const uint32_t pages = 200;
	uint8_t key[100] = {0};
	bool found = true;
	uint64_t sum;
	Rig rig, moved;

	rig_open(&rig, pages, 0);
	rig_open(&moved, pages, 0);
	for (uint32_t i = 0; i < 900; i++)
	{
		memcpy(key, &i, sizeof(i));
		merge(&rig, key, 4 + i % 90, live(1025 + i), false);
	}
	sum = rig.map.live_sum;
	memcpy(moved.region, rig.region, (size_t) pages * DC_PAGE_BYTES);
	moved.map = rig.map;
	moved.pool = rig.pool;
	rig_close(&rig);
	for (uint32_t i = 0; i < 900; i++)
	{
		memcpy(key, &i, sizeof(i));
		found &= same(get(&moved, key, 4 + i % 90), live(1025 + i));
	}
	ok(found && dc_map_check(&moved.map, &moved.env) &&
		   moved.map.live_sum == sum,
	   "a map is whole where its bytes were copied to");
	ok(rig_close(&moved), "and gives its pages back there");
}

/* ------------------------------------------------------------ promises */

/* Fills the map until it is full; returns how many keys it took. */
static uint32_t
fill(Rig *rig, size_t length)
{
	uint8_t key[DC_KEY_BYTES_MAX] = {0};
	uint32_t count = 0;

	for (;; count++)
	{
		put_number(key, count);
		if (merge(rig, key, length, live(2048 + count), false) != DC_OK)
			return count;
	}
}

static void
test_full(const char *kind, uint32_t key_bytes, size_t length, uint32_t pages)
{
	uint8_t key[DC_KEY_BYTES_MAX] = {0};
	bool intact = true, deletes = true, reuses = true;
	uint32_t count;
	DcMap before;
	Rig rig;

	rig_open(&rig, pages, key_bytes);
	count = fill(&rig, length);
	before = rig.map;
	put_number(key, count + 1);
	intact &= dc_map_reserve(&rig.map, &rig.env, key, length) == DC_FULL;
	intact &= merge(&rig, key, length, live(9999), false) == DC_FULL;
	intact &= memcmp(&before, &rig.map, sizeof(before)) == 0;
	for (uint32_t i = 0; i < count; i++)
	{
		put_number(key, i);
		intact &= same(get(&rig, key, length), live(2048 + i));
	}
	ok(intact && dc_map_check(&rig.map, &rig.env),
	   "%s: a full map of %u refuses more and keeps what it has", kind, count);
	for (uint32_t i = 0; i < count; i++)
	{
		put_number(key, i);
		deletes &= merge(&rig, key, length, dead(4096 + i), false) == DC_OK;
	}
	ok(deletes && rig.map.dead_count == count && rig.map.live_sum == 0 &&
		   dc_map_check(&rig.map, &rig.env),
	   "%s: a full map takes the deletion of every key it knows", kind);
	for (uint32_t i = 0; i < count; i += 3)
	{
		put_number(key, i);
		reuses &= dc_map_remove(&rig.map, &rig.env, key, length);
		put_number(key, count + i + 1);
		reuses &= merge(&rig, key, length, live(5000), false) == DC_OK;
	}
	ok(reuses && rig.map.used == count && dc_map_check(&rig.map, &rig.env),
	   "%s: what a purge frees is used again", kind);
	ok(rig_close(&rig), "%s: a full map gives all its pages back", kind);
}

/* Promises of mixed lengths, kept in another order, the pool robbed. */
static void
test_promises(void)
{
	static const uint16_t lengths[] = {8, 2000, 15, 16, 700, 33, 1999, 1};
	static uint16_t promised[4096];
	uint8_t key[DC_KEY_BYTES_MAX] = {0};
	uint32_t count = 0, kept = 0;
	Rig rig;

	rig_open(&rig, 300, 0);
	for (; count < 4096; count++)
	{
		promised[count] = lengths[count * 7 % 8];
		if (dc_map_reserve(&rig.map, &rig.env, key, promised[count]) != DC_OK)
			break;
	}
	while (rig_take(&rig) != DC_PAGE_NONE)
		continue;
	rig.sealed = true;
	for (uint32_t i = 0; i < count; i++)
	{
		uint32_t number = (i * 7919 + 13) % count;
		size_t length = promised[number];

		memset(key, 0, sizeof(key));
		put_number(key, length >= 8 ? number + 1 : 0);
		if (i % 10 == 9)
		{
			dc_map_unreserve(&rig.map, &rig.env, length);
			continue;
		}
		kept += merge(&rig, key, length, live(1024 + i), true) == DC_OK;
	}
	ok(count > 200 && kept == count - count / 10 && rig.map.reserved == 0 &&
		   !rig.broken && dc_map_check(&rig.map, &rig.env),
	   "%u promises of mixed lengths are kept in any order without a page",
	   count);
	free(rig.region);
}

/* Keys of 94 units leave 33 units of each page, enough for a shorter one. */
static void
test_arena_rest(void)
{
	uint8_t key[1500] = {0};
	uint32_t pages;
	Rig rig;

	rig_open(&rig, 100, 0);
	for (uint64_t i = 0; i < 50; i++)
	{
		put_number(key, i);
		merge(&rig, key, 1500, live(1025), false);
	}
	pages = rig.map.arena_pages;
	for (uint64_t i = 0; i < 45; i++)
	{
		put_number(key, i);
		merge(&rig, key, 528, live(1025), false);
	}
	ok(pages <= 51 && rig.map.arena_pages == pages && rig.map.used == 95,
	   "what a long key leaves of its page serves shorter ones");
	for (uint64_t turn = 0; turn < 10000; turn++)
	{
		put_number(key, turn % 50);
		dc_map_remove(&rig.map, &rig.env, key, 1500);
		put_number(key, turn % 50 + 1000000 + turn);
		merge(&rig, key, 1500, live(1025), false);
		dc_map_remove(&rig.map, &rig.env, key, 1500);
		put_number(key, turn % 50);
		merge(&rig, key, 1500, live(1025), false);
	}
	ok(rig.map.arena_pages == pages && dc_map_check(&rig.map, &rig.env),
	   "long keys that come and go do not use the arena up");
	ok(rig_close(&rig), "the arena gives its pages back");
}

static void
test_promises_present(void)
{
	uint8_t key[40] = "a key that is there already";
	bool returned;
	Rig rig;

	rig_open(&rig, 20, 0);
	merge(&rig, key, 40, live(1025), false);
	dc_map_reserve(&rig.map, &rig.env, key, 40);
	returned = rig.map.reserved == 1;
	merge(&rig, key, 40, live(2049), true);
	ok(returned && rig.map.reserved == 0 && rig.map.used == 1 &&
		   dc_map_check(&rig.map, &rig.env),
	   "a merge into a present key returns its promise");
	dc_map_reserve(&rig.map, &rig.env, key, 40);
	dc_map_remove(&rig.map, &rig.env, key, 40);
	rig.sealed = true;
	ok(merge(&rig, key, 40, dead(3073), true) == DC_OK && !rig.broken,
	   "a promise outlives the removal of its key");
	rig.sealed = false;
	rig_close(&rig);
}

static void
test_refusals(void)
{
	uint8_t key[DC_KEY_BYTES_MAX + 1] = {0};
	Rig rig;

	rig_open(&rig, 20, 8);
	ok(merge(&rig, key, 7, live(1025), false) == DC_MALFORMED &&
		   merge(&rig, key, 9, live(1025), true) == DC_MALFORMED &&
		   dc_map_reserve(&rig.map, &rig.env, key, 0) == DC_MALFORMED &&
		   get(&rig, key, 16).stamp == DC_HLC_NONE &&
		   !dc_map_remove(&rig.map, &rig.env, key, 9),
	   "a map of fixed keys refuses other lengths");
	ok(merge(&rig, key, 8, live(0), false) == DC_MALFORMED &&
		   merge(&rig, key, 8, live(DC_HLC_MAX + 1), false) == DC_MALFORMED &&
		   dc_map_pages(&rig.map) == 0,
	   "what is no stamp is refused");
	rig_close(&rig);
	rig_open(&rig, 20, 0);
	ok(merge(&rig, key, 0, live(1025), false) == DC_MALFORMED &&
		   merge(&rig, key, DC_KEY_BYTES_MAX + 1, live(1025), false) ==
			   DC_MALFORMED &&
		   merge(&rig, key, DC_KEY_BYTES_MAX, live(1025), false) == DC_OK &&
		   merge(&rig, key, 1, live(1025), false) == DC_OK,
	   "variable keys have 1 .. %u bytes", DC_KEY_BYTES_MAX);
	ok(merge(&rig, key, 2, live(2049), false) == DC_OK &&
		   same(get(&rig, key, 1), live(1025)) &&
		   same(get(&rig, key, 2), live(2049)) &&
		   same(get(&rig, key, DC_KEY_BYTES_MAX), live(1025)),
	   "keys of zeros that differ in length differ");
	rig_close(&rig);
}

/* -------------------------------------------------------------- memory */

static double
bytes_per_entry(const DcMap *map)
{
	return ((double) dc_map_pages(map) * DC_PAGE_BYTES + sizeof(*map)) /
		   map->used;
}

/* One of 64 partitions, while its keyspace grows from nothing to 10 M. */
static void
test_memory(void)
{
	uint8_t key[16];
	double worst = 0, worst_small = 0;
	uint32_t pages_76 = 0;
	bool sparse = true;
	Rig rig;

	rig_open(&rig, 3000, 8);
	ok(dc_map_pages(&rig.map) == 0, "an empty partition holds no page");
	for (uint64_t i = 0; i < 156250; i++)
	{
		double *limit = i < 15625 ? &worst_small : &worst;

		put_number(key, i);
		if (merge(&rig, key, 8, live(1025 + i), false) != DC_OK)
			break;
		sparse &= rig.map.used <= rig.map.slots / 10 * 9 + 9;
		if (i < 76)
			pages_76 = dc_map_pages(&rig.map);
		else if (bytes_per_entry(&rig.map) > *limit)
			*limit = bytes_per_entry(&rig.map);
	}
	ok(pages_76 == 1, "76 entries fit one page");
	note("at most %.2f bytes an entry below 1 M entries", worst_small);
	ok(rig.map.used == 156250 && worst <= 32,
	   "from 1 M to 10 M entries one takes at most %.2f bytes (limit 32)",
	   worst);
	ok(sparse, "a tenth of the slots stays empty, or searches get long");
	rig_close(&rig);
}

static void
test_limit(void)
{
	uint32_t count = 0;
	uint8_t key[8] = {0};
	Rig rig;

	rig_open(&rig, 21000, 8);
	while (dc_map_reserve(&rig.map, &rig.env, key, 8) == DC_OK)
		count++;
	ok(count * (uint64_t) DC_MAP_PARTITIONS >= 80000000 &&
		   rig.map.slot_pages == DC_MAP_PAGES_MAX && rig.pool.free_count > 0,
	   "a partition takes %u entries and is then full", count);
	rig.map.reserved = 0;
	ok(rig_close(&rig), "a partition at its limit gives its pages back");
}

int
main(void)
{
	test_siphash();
	test_key_hash();
	test_pool();
	test_join_laws();
	test_join_sequences();
	test_model("fixed 8", 8, 8, 8, 20000, 1500);
	test_model("fixed 4", 4, 4, 4, 3000, 300);
	test_model("fixed 16", 16, 16, 16, 5000, 500);
	test_model("variable short", 0, 3, 15, 10000, 1000);
	test_model("variable long", 0, 3, 2000, 1500, 3000);
	test_model("variable, pool too small", 0, 3, 2000, 1500, 200);
	test_model("fixed 8, pool too small", 8, 8, 8, 20000, 60);
	test_scan_growth();
	test_scan_order();
	test_scan_filter();
	test_collisions();
	test_tail();
	test_expected();
	test_relocation();
	test_full("fixed 8", 8, 8, 50);
	test_full("fixed 16", 16, 16, 1);
	test_full("inline", 0, 15, 50);
	test_full("outside", 0, 2000, 100);
	test_promises();
	test_arena_rest();
	test_promises_present();
	test_refusals();
	test_memory();
	test_limit();
	return tap_done();
}
