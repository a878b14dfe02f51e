/*
 * bulk.c
 *		Two nodes with whole maps, up to 100,000 entries, and the conversation of
 *		repair.h between them.
 *
 * The other simulators have few keys, since few find more faults; sketches,
 * cells, leaf sums and a full memory need many.  The seed draws how many, how
 * long, in how many partitions, what differs, and what happens between two
 * messages: writes, purges, a TRUNCATE, an answer that is lost, or one that
 * somebody changed who holds the key.  A last comparison in calm must leave
 * nothing to mend, and every map whole.
 */
#include "bulk.h"

#include "repair_common.h"
#include "rng.h"
#include "status.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REGION_BYTES ((size_t) 12 << 20)
#define NUMBERS      150000u
#define QUESTIONS    3000u /* after so many, it does not end */

typedef struct Side
{
	uint8_t *region;
	DcPagePool pool;
	DcMapEnv env;
	DcMap maps[DC_MAP_PARTITIONS];
	DcIbltCell cells[DC_IBLT_CELLS_MAX]; /* the first env.cell_count are kept */
	DcVv vector;
	DcRepairNode node;
	int open;
} Side;

typedef struct Bulk
{
	Rng rng;
	BulkStats *stats;
	Side side[2];
	uint32_t entries;
	uint32_t differing;
	uint32_t clump; /* they are in one of so many ranges; 1: anywhere */
	uint32_t partitions;
	uint32_t longest; /* 0: all keys have 8 bytes */
	uint32_t pages;   /* of each side; 0: enough */
	uint32_t meddle;  /* writes between two messages */
	uint32_t loss;    /* of 100 */
	uint32_t damage;  /* of 100 */
	bool calm;
	uint64_t time;
	uint32_t number[NUMBERS]; /* names of the keys */
	char failure[160];
	uint64_t actions[DC_REPAIR_ALONE + 1];
	DcRepair repair;
	DcRepairScratch scratch;
	uint8_t question[DC_REPAIR_MESSAGE_MAX];
	uint8_t answer[DC_REPAIR_MESSAGE_MAX];
	DcRepair copy;
	uint8_t changed[DC_REPAIR_MESSAGE_MAX];
} Bulk;

static void
fail(Bulk *b, const char *text, ...)
{
	va_list args;

	if (b->failure[0] != '\0')
		return;
	va_start(args, text);
	vsnprintf(b->failure, sizeof(b->failure), text, args);
	va_end(args);
}

/* ---- one side ----------------------------------------------------------- */

static uint32_t
take_page(void *ctx)
{
	Side *s = ctx;

	return dc_page_pool_take(&s->pool, s->region);
}

static void
give_page(void *ctx, uint32_t page)
{
	Side *s = ctx;

	dc_page_pool_give(&s->pool, s->region, page);
}

static const DcMap *
open_map(void *ctx, uint32_t partition)
{
	Side *s = ctx;

	if (s->open++ != 0)
		abort(); /* one at a time */
	return &s->maps[partition];
}

static void
close_map(void *ctx, uint32_t partition)
{
	Side *s = ctx;

	(void) partition;
	s->open--;
}

static void
side_init(Bulk *b, Side *s, size_t bytes)
{
	s->env.pages = (DcPages){s->region, take_page, give_page, s};
	memset(s->env.hash_seed, 3, DC_SEED_BYTES);
	memset(s->env.sum_seed, 5, DC_SEED_BYTES);
	dc_page_pool_init(&s->pool, bytes);
	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
		dc_map_init(&s->maps[i], b->longest > 0 ? 0 : 8);
	dc_vv_init(&s->vector);
	for (uint32_t id = 1; id <= 2; id++)
		s->vector.at[id] = DC_HLC_MAX;
	s->node = (DcRepairNode){.maps = {open_map, close_map, s, &s->env},
							 .vector = &s->vector,
							 .cells = s->env.cells,
							 .cell_count = s->env.cell_count};
}

/* Some nodes keep cells, one as many as the other or not. */
static void
choose_cells(Bulk *b)
{
	static const uint32_t counts[] = {0, 10, 20, 100, 1000, 4096};
	uint32_t both = counts[rng_below(&b->rng, 6)];

	for (uint32_t i = 0; i < 2; i++)
	{
		Side *s = &b->side[i];
		uint32_t count =
			rng_chance(&b->rng, 3, 4) ? both : counts[rng_below(&b->rng, 6)];

		memset(s->cells, 0, sizeof(s->cells));
		s->env.cells = count > 0 ? s->cells : NULL;
		s->env.cell_count = count;
	}
}

static size_t
key_of(const Bulk *b, uint32_t number, uint8_t key[DC_KEY_BYTES_MAX])
{
	size_t length = 8;

	if (b->longest > 0)
		length += number * 7919u % (number % 50 == 0 ? b->longest : 30);
	memset(key, (int) (number & 63), length);
	for (uint32_t i = 0; i < 4; i++)
		key[i] = (uint8_t) (number >> (24 - 8 * i));
	return length;
}

static DcMap *
map_of(Side *s, const uint8_t *key, size_t length, uint64_t *hash)
{
	*hash = dc_key_hash(s->env.hash_seed, key, length);
	return &s->maps[*hash >> (64 - DC_MAP_PARTITION_BITS)];
}

/* As a commit does it: room first, which may be refused. */
static void
put(Bulk *b, Side *s, DcSlice key, DcEntry entry)
{
	uint64_t hash;
	DcMap *map = map_of(s, key.data, key.length, &hash);
	DcEntry found;

	b->stats->operations++;
	if (rng_chance(&b->rng, 1, 2))
	{
		b->stats->full += dc_map_merge(map, &s->env, key.data, key.length, hash,
									   entry, false, &found) == DC_FULL;
		return;
	}
	if (dc_map_reserve(map, &s->env, key.data, key.length) != DC_OK)
	{
		b->stats->full++;
		return;
	}
	dc_map_prefetch(map, &s->env, hash);
	if (!b->calm && rng_chance(&b->rng, 1, 50))
		dc_map_unreserve(map, &s->env, key.length); /* rolled back */
	else if (dc_map_merge(map, &s->env, key.data, key.length, hash, entry, true,
						  &found) != DC_OK)
		fail(b, "a reserved merge fails");
}

static void
put_number(Bulk *b, uint32_t side, uint32_t at, uint64_t time, bool dead)
{
	uint8_t key[DC_KEY_BYTES_MAX];
	size_t length = key_of(b, b->number[at], key);

	put(b, &b->side[side], (DcSlice){key, length},
		(DcEntry){dc_hlc_make(time, 1 + side), dead});
}

static void
drop_number(Bulk *b, uint32_t side, uint32_t at)
{
	uint8_t key[DC_KEY_BYTES_MAX];
	size_t length = key_of(b, b->number[at], key);
	uint64_t hash;
	DcMap *map = map_of(&b->side[side], key, length, &hash);

	(void) dc_map_remove(map, &b->side[side].env, key, length);
}

/* ---- what differs ------------------------------------------------------- */

static void
both(Bulk *b, uint32_t at, uint64_t time, bool dead)
{
	uint8_t key[DC_KEY_BYTES_MAX];
	DcSlice slice = {key, key_of(b, b->number[at], key)};
	DcEntry entry = {dc_hlc_make(time, 1 + at % 2), dead};

	put(b, &b->side[0], slice, entry);
	put(b, &b->side[1], slice, entry);
}

static void
differ(Bulk *b, uint32_t at)
{
	uint32_t side = rng_below(&b->rng, 2);

	switch (rng_below(&b->rng, 3))
	{
		case 0:
			drop_number(b, side, at);
			break;
		case 1:
			put_number(b, side, at, ++b->time, false);
			break;
		default:
			put_number(b, side, at, ++b->time, true);
			break;
	}
}

static void
fill(Bulk *b)
{
	uint32_t range = b->entries / b->clump + 1;

	for (uint32_t i = 0; i < b->entries; i++)
		both(b, i, ++b->time, rng_chance(&b->rng, 1, 20));
	for (uint32_t i = 0; i < b->differing; i++)
		differ(b, rng_below(&b->rng, range));
}

/* Keys of the partitions that the run has, in the order of their hashes' top. */
static void
name_keys(Bulk *b)
{
	uint8_t key[DC_KEY_BYTES_MAX];
	uint32_t found = 0;

	for (uint32_t number = 1; found < b->entries; number++)
	{
		size_t length = key_of(b, number, key);
		uint64_t hash = dc_key_hash(b->side[0].env.hash_seed, key, length);

		if (hash >> (64 - DC_MAP_PARTITION_BITS) < b->partitions)
			b->number[found++] = number;
	}
}

/* ---- bad luck ----------------------------------------------------------- */

static void
raise_floor(Bulk *b, DcHlc floor)
{
	uint32_t side = rng_below(&b->rng, 2);

	b->side[side].node.floor = floor;
	b->stats->truncates++;
}

static void
meddle(Bulk *b)
{
	for (uint32_t i = 0; i < b->meddle && !b->calm; i++)
	{
		uint32_t at = rng_below(&b->rng, b->entries);

		if (rng_chance(&b->rng, 1, 4))
			drop_number(b, rng_below(&b->rng, 2), at);
		else
			differ(b, at);
	}
	if (!b->calm && b->meddle > 0 && rng_chance(&b->rng, 1, 60))
		raise_floor(b, dc_hlc_make(b->time / 8, 1));
}

/* Somebody who holds the key says something else. */
static void
lie(Bulk *b, uint8_t *bytes, size_t *length)
{
	uint32_t changes = 1 + rng_below(&b->rng, 3);

	if (rng_chance(&b->rng, 1, 4))
		*length = rng_below(&b->rng, (uint32_t) *length + 1);
	for (uint32_t i = 0; i<changes && * length> 0; i++)
	{
		uint32_t early =
			*length < 40 || rng_chance(&b->rng, 1, 2) ? (uint32_t) *length : 40;

		bytes[rng_below(&b->rng, early)] = (uint8_t) rng_next(&b->rng);
	}
	b->stats->lies++;
}

/* Some changed copies of the answer, each to a copy of the asking side. */
static void
hear_lies(Bulk *b, const DcWriter *answer)
{
	DcRepairNode *own = &b->side[0].node;
	DcRepairResult result;

	for (uint32_t i = 0; i < 8; i++)
	{
		size_t length = answer->length;
		DcWriter w;

		memcpy(&b->copy, &b->repair, sizeof(b->copy));
		memcpy(b->changed, b->answer, length);
		lie(b, b->changed, &length);
		if (dc_repair_take(&b->copy, own, b->changed, length) != DC_OK)
			continue;
		while (dc_repair_result(&b->copy, own, &result))
			b->actions[0]++;
		dc_writer_init(&w, b->changed, sizeof(b->changed));
		(void) dc_repair_next(&b->copy, own, &w);
		if (w.status != DC_OK)
			fail(b, "a lie makes a question too long");
	}
}

/* The same for a question; whoever answers keeps nothing of it. */
static void
ask_lies(Bulk *b, const DcWriter *question)
{
	for (uint32_t i = 0; i < 8; i++)
	{
		size_t length = question->length;
		DcStatus status;
		DcWriter w;

		memcpy(b->changed, b->question, length);
		lie(b, b->changed, &length);
		if (i == 0)
			b->changed[2] = DC_REPAIR_ROWS; /* of the glue */
		dc_writer_init(&w, b->answer, sizeof(b->answer));
		status = dc_repair_answer(&b->side[1].node, b->changed, length,
								  &b->scratch, &w);
		if (strlen(dc_status_sqlstate(status)) != 5 ||
			dc_status_text(status)[0] == '\0')
			fail(b, "a refusal without a name");
	}
}

/* ---- the conversation --------------------------------------------------- */

static void
act(Bulk *b, const DcRepairResult *result)
{
	b->actions[result->action]++;
	switch (result->action)
	{
		case DC_REPAIR_FETCH:
			put(b, &b->side[0], result->key, result->peer);
			break;
		case DC_REPAIR_PUSH:
			put(b, &b->side[1], result->key, result->own);
			break;
		case DC_REPAIR_ALONE:
		{
			uint64_t hash;
			DcMap *map = map_of(&b->side[0], result->key.data,
								result->key.length, &hash);

			(void) dc_map_remove(map, &b->side[0].env, result->key.data,
								 result->key.length);
			break;
		}
		default:
			break;
	}
}

/* False: it ended before its time. */
static bool
converse(Bulk *b, bool rejoin)
{
	DcRepair *r = &b->repair;
	DcRepairNode *own = &b->side[0].node;
	DcRepairNode *peer = &b->side[1].node;

	memset(b->actions, 0, sizeof(b->actions));
	dc_repair_begin(r, 7, rejoin, rng_chance(&b->rng, 3, 4));
	for (uint32_t asked = 0;; asked++)
	{
		DcRepairResult result;
		DcWriter q;
		DcWriter a;
		bool honest = b->calm || !rng_chance(&b->rng, b->damage, 100);

		dc_writer_init(&q, b->question, sizeof(b->question));
		dc_writer_init(&a, b->answer, sizeof(b->answer));
		if (!dc_repair_next(r, own, &q))
			return true;
		if (q.status != DC_OK)
			fail(b, "a question is too long");
		if (asked == QUESTIONS)
			fail(b, "%u questions and no end", asked);
		if (!honest)
			ask_lies(b, &q);
		if (dc_repair_answer(peer, b->question, q.length, &b->scratch, &a) !=
			DC_OK)
		{
			fail(b, "an honest question is refused");
			return false;
		}
		b->stats->bytes += q.length + a.length;
		b->stats->messages++;
		meddle(b);
		if (!honest)
			hear_lies(b, &a);
		if (!b->calm && rng_chance(&b->rng, b->loss, 100))
			return false;
		if (dc_repair_take(r, own, b->answer, a.length) != DC_OK)
		{
			fail(b, "an honest answer is refused");
			return false;
		}
		while (dc_repair_result(r, own, &result))
			act(b, &result);
		if (b->failure[0] != '\0')
			return false;
	}
}

/* ---- one run ------------------------------------------------------------ */

/* Memory that ends: somewhere, before the sums of leaves, or at a page of numbers. */
static void
tighten(Bulk *b)
{
	Rng *rng = &b->rng;

	switch (rng_below(rng, 3))
	{
		case 0:
			b->pages = b->entries / (500 / (4 + rng_below(rng, 36))) +
					   rng_below(rng, 40);
			break;
		case 1:
			b->partitions = 1;
			b->longest = 0;
			b->entries = 9500 + rng_below(rng, 2000);
			b->pages = 124 + rng_below(rng, 8);
			break;
		default:
			b->partitions = 1;
			b->longest = 0;
			b->entries = 4000 + rng_below(rng, 500);
			b->pages = DC_MAP_DIRS + 1;
			break;
	}
	b->pages += b->pages == 0;
}

static void
choose(Bulk *b)
{
	static const uint32_t sizes[] = {3, 40, 600, 4000, 20000, 40000, 140000};
	Rng *rng = &b->rng;

	b->entries = 1 + rng_below(rng, sizes[rng_below(rng, 7)]);
	b->partitions = rng_chance(rng, 1, 3) ? 1 + rng_below(rng, 3) : 64;
	b->longest = rng_chance(rng, 1, 3) ? 1 + rng_below(rng, 1990) : 0;
	if (b->partitions < 64 && b->entries > 40000)
		b->entries /= 4;
	if (b->longest > 0 && b->entries > 30000)
		b->entries /= 8;
	b->pages = 0;
	if (rng_chance(rng, 1, 5))
		tighten(b);
	b->differing = 0;
	if (rng_chance(rng, 7, 8))
		b->differing =
			1 + rng_below(rng, rng_chance(rng, 1, 3) ? 2 * b->entries :
													   b->entries / 20 + 5);
	b->clump = rng_chance(rng, 1, 3) ? 2 + rng_below(rng, 100) : 1;
	b->meddle = rng_chance(rng, 1, 2) ? rng_below(rng, 300) : 0;
	b->loss = rng_chance(rng, 1, 4) ? 10 : 0;
	b->damage = rng_chance(rng, 1, 3) ? 5 + rng_below(rng, 60) : 0;
	b->time = 1000;
	b->calm = false;
	b->failure[0] = '\0';
}

/* What a vector does not cover, what a horizon forgot. */
static void
choose_claims(Bulk *b)
{
	for (uint32_t i = 0; i < 2; i++)
	{
		Side *s = &b->side[i];

		if (rng_chance(&b->rng, 1, 4))
			s->vector.at[2 - i] =
				dc_hlc_make(rng_below(&b->rng, (uint32_t) b->time), 2 - i);
		if (rng_chance(&b->rng, 1, 4))
			s->node.horizon =
				dc_hlc_make(rng_below(&b->rng, (uint32_t) b->time), 1);
	}
}

/* Half of a scan, some at a time, and the rest with a filter. */
static void
check_scan(Bulk *b, Side *s, const DcMap *map)
{
	static DcMapItem items[64];
	static uint8_t bytes[64 * DC_KEY_BYTES_FIXED + DC_KEY_BYTES_MAX];
	DcMapRoom room = {items, 64, bytes, sizeof(bytes),
					  1 + rng_below(&b->rng, 50)};
	DcMapFilter filter = {.until = dc_hlc_make(b->time, 3),
						  .skip_dead = rng_chance(&b->rng, 1, 2)};
	DcMapCursor cursor = {0};
	uint32_t found = 0;
	DcEntry entry;

	while (!cursor.done)
	{
		size_t n = dc_map_scan(map, &s->env, &cursor, &filter, &room);

		for (size_t i = 0; i < n; i++)
		{
			entry = dc_map_get(map, &s->env, items[i].key.data,
							   items[i].key.length);
			if (entry.stamp != items[i].entry.stamp)
				fail(b, "a scan shows what is not there");
		}
		found += (uint32_t) n;
	}
	if (dc_map_scan(map, &s->env, &cursor, NULL, &room) != 0)
		fail(b, "a scan goes on behind its end");
	if (found != map->used - (filter.skip_dead ? map->dead_count : 0))
		fail(b, "a scan shows %u of %u entries", found, map->used);
}

/* What no map takes changes nothing. */
static void
check_refusals(Bulk *b, Side *s, DcMap *map)
{
	static const uint8_t key[DC_KEY_BYTES_MAX + 1];
	size_t wrong = b->longest > 0 ? sizeof(key) : 9;
	DcEntry entry = {dc_hlc_make(1, 1), false};
	DcEntry found;

	if (dc_map_reserve(map, &s->env, key, wrong) != DC_MALFORMED ||
		dc_map_merge(map, &s->env, key, wrong, 0, entry, false, &found) !=
			DC_MALFORMED ||
		dc_map_remove(map, &s->env, key, wrong) ||
		dc_map_get(map, &s->env, key, wrong).stamp != DC_HLC_NONE)
		fail(b, "a key of %zu bytes is taken", wrong);
}

/* The check finds a map that is broken: one field, or one bit of a key. */
static void
check_checks(Bulk *b, Side *s, DcMap *map)
{
	DcMap broken = *map;
	uint8_t *page = s->region + (size_t) map->dir[0] * DC_PAGE_BYTES;
	uint64_t *word = (uint64_t *) page;
	uint32_t tried = 0;
	uint32_t found = 0;

	broken.used++;
	if (dc_map_check(&broken, &s->env))
		fail(b, "a wrong count passes");
	broken = *map;
	broken.slots++;
	if (dc_map_check(&broken, &s->env))
		fail(b, "a wrong size passes");
	if (map->key_bytes != 8 || map->slot_pages > DC_MAP_DIRS || map->slots == 0)
		return;
	for (uint32_t i = 0; i < 40; i++)
	{
		uint32_t slot = rng_below(&b->rng, DC_MAP_PAGE_SLOTS);
		uint64_t *at = &word[slot * DC_MAP_SLOT_BYTES / 8];
		uint64_t kept = at[1];

		if (at[0] == 0)
			continue;
		at[1] ^= UINT64_C(1) << rng_below(&b->rng, 64);
		tried++;
		found += !dc_map_check(map, &s->env);
		at[1] = kept;
	}
	/* a dead entry may have become the death of another key, at its place */
	if (found < tried / 2)
		fail(b, "%u of %u changed keys pass", tried - found, tried);
}

/* The kept cells are those of the live entries that there are. */
static void
check_cells(Bulk *b, Side *s)
{
	static DcIbltCell cells[DC_IBLT_CELLS_MAX];
	static DcScopeRoom room;
	static DcLeafSet all;

	memset(cells, 0, sizeof(cells));
	dc_leaf_set_fill(&all, DC_LEAF_BITS_MIN);
	dc_repair_fill_cells(&s->node.maps, &all, DC_HLC_NONE, &room, cells,
						 s->env.cell_count);
	if (memcmp(cells, s->cells, sizeof(cells)) != 0)
		fail(b, "the cells that are kept are not those of the entries");
}

static void
check_side(Bulk *b, Side *s)
{
	DcMap *some = &s->maps[rng_below(&b->rng, b->partitions)];
	uint32_t pages = 0;

	check_cells(b, s);
	check_refusals(b, s, some);
	check_checks(b, s, some);

	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
	{
		if (!dc_map_check(&s->maps[i], &s->env))
			fail(b, "a map is broken");
		if (i < b->partitions && i < 4)
			check_scan(b, s, &s->maps[i]);
		pages += dc_map_pages(&s->maps[i]);
	}
	if (pages != s->pool.total - s->pool.free_count)
		fail(b, "%u pages in use, %u taken", pages,
			 s->pool.total - s->pool.free_count);
	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
		dc_map_release(&s->maps[i], &s->env);
	if (s->pool.free_count != s->pool.total)
		fail(b, "pages are lost");
}

/* The rows of both, but for what is claimed to be dead or on its way. */
static void
check_calm(Bulk *b)
{
	b->calm = true;
	if (!converse(b, false) && b->failure[0] == '\0')
		fail(b, "it ends before its time");
	if (b->stats->full > b->stats->full_before)
		return; /* no room for what was missing */
	(void) converse(b, false);
	if (b->actions[DC_REPAIR_FETCH] + b->actions[DC_REPAIR_PUSH] > 0)
		fail(b, "%llu keys are to be mended again",
			 (unsigned long long) (b->actions[DC_REPAIR_FETCH] +
								   b->actions[DC_REPAIR_PUSH]));
	if (b->actions[DC_REPAIR_KEEP] + b->actions[DC_REPAIR_WAIT] > 0 ||
		b->side[0].node.floor != b->side[1].node.floor)
		return;
	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
	{
		if (b->side[0].maps[i].live_sum != b->side[1].maps[i].live_sum &&
			b->side[0].node.floor == DC_HLC_NONE)
			fail(b, "partition %u differs and nothing was found", i);
	}
}

static Bulk *
bulk(void)
{
	static Bulk *b;

	if (b != NULL)
		return b;
	b = calloc(1, sizeof(*b));
	for (int i = 0; i < 2; i++)
		b->side[i].region = aligned_alloc(DC_PAGE_BYTES, REGION_BYTES);
	return b;
}

bool
bulk_run(uint64_t seed, BulkStats *stats, char failure[160])
{
	Bulk *b = bulk();

	rng_seed(&b->rng, seed);
	b->stats = stats;
	stats->runs++;
	stats->full_before = stats->full;
	choose(b);
	choose_cells(b);
	for (uint32_t i = 0; i < 2; i++)
	{
		size_t bytes = b->pages > 0 ? b->pages * DC_PAGE_BYTES : REGION_BYTES;

		side_init(b, &b->side[i], bytes < REGION_BYTES ? bytes : REGION_BYTES);
	}
	name_keys(b);
	fill(b);
	choose_claims(b);
	for (uint32_t i = 0; i < 3 && b->failure[0] == '\0'; i++)
		(void) converse(b, rng_chance(&b->rng, 1, 4));
	if (b->failure[0] == '\0')
		check_calm(b);
	check_side(b, &b->side[0]);
	check_side(b, &b->side[1]);
	memcpy(failure, b->failure, sizeof(b->failure));
	return b->failure[0] == '\0';
}
