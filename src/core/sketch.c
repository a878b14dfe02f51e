/*
 * sketch.c
 *		Sums over ranges of a keyspace, and what they tell about a difference.
 */
#include "sketch.h"

#include <math.h>

/* --------------------------------------------------------------- leaves */

void
dc_leaf_set_init(DcLeafSet *set, uint32_t bits)
{
	memset(set, 0, sizeof(*set));
	set->bits = bits;
}

void
dc_leaf_set_fill(DcLeafSet *set, uint32_t bits)
{
	dc_leaf_set_init(set, bits);
	set->count = 1u << bits;
	memset(set->words, 0xff, set->count / 8);
}

bool
dc_leaf_set_has(const DcLeafSet *set, uint32_t leaf)
{
	return (set->words[leaf / 64] >> leaf % 64 & 1) != 0;
}

void
dc_leaf_set_add(DcLeafSet *set, uint32_t leaf)
{
	set->count += !dc_leaf_set_has(set, leaf);
	set->words[leaf / 64] |= (uint64_t) 1 << leaf % 64;
}

uint32_t
dc_leaf_set_next(const DcLeafSet *set, uint32_t from)
{
	uint32_t words = (1u << set->bits) / 64;
	uint64_t rest;

	if (from >= 1u << set->bits)
		return DC_LEAF_NONE;
	rest = set->words[from / 64] >> from % 64;
	if (rest != 0)
		return from + (uint32_t) __builtin_ctzll(rest);
	for (uint32_t i = from / 64 + 1; i < words; i++)
	{
		if (set->words[i] != 0)
			return i * 64 + (uint32_t) __builtin_ctzll(set->words[i]);
	}
	return DC_LEAF_NONE;
}

void
dc_leaf_set_split(DcLeafSet *from, DcLeafSet *to, uint32_t count)
{
	uint32_t leaf = dc_leaf_set_next(from, 0);

	dc_leaf_set_init(to, from->bits);
	for (; leaf != DC_LEAF_NONE && to->count < count;
		 leaf = dc_leaf_set_next(from, leaf + 1))
	{
		dc_leaf_set_add(to, leaf);
		from->words[leaf / 64] &= ~((uint64_t) 1 << leaf % 64);
		from->count--;
	}
}

void
dc_leaf_set_encode(DcWriter *w, const DcLeafSet *set)
{
	uint32_t next = 0; /* the least leaf that may come */

	dc_write_u8(w, (uint8_t) set->bits);
	dc_write_varint(w, set->count);
	if (set->count == 1u << set->bits)
		return;
	for (uint32_t leaf = dc_leaf_set_next(set, 0); leaf != DC_LEAF_NONE;
		 leaf = dc_leaf_set_next(set, next))
	{
		dc_write_varint(w, leaf - next);
		next = leaf + 1;
	}
}

void
dc_leaf_set_decode(DcReader *r, DcLeafSet *set)
{
	uint32_t bits = dc_read_u8(r);
	uint32_t next = 0;
	uint64_t count;

	dc_leaf_set_init(set, DC_LEAF_BITS_MIN);
	if (bits < DC_LEAF_BITS_MIN || bits > DC_LEAF_BITS_MAX)
	{
		dc_reader_fail(r, DC_MALFORMED);
		return;
	}
	set->bits = bits;
	count = dc_read_varint(r, 1u << bits);
	if (r->status == DC_OK && count == 1u << bits)
	{
		dc_leaf_set_fill(set, bits);
		return;
	}
	for (uint64_t i = 0; i < count; i++)
	{
		uint64_t gap = dc_read_varint(r, DC_LEAVES_MAX);

		if (gap >= (1u << bits) - next)
			dc_reader_fail(r, DC_MALFORMED);
		if (r->status != DC_OK)
			return;
		dc_leaf_set_add(set, next + (uint32_t) gap);
		next += (uint32_t) gap + 1;
	}
}

/* ----------------------------------------------------------------- sums */

uint64_t
dc_leaf_sum(DcLeafSums *sums, uint32_t leaf, uint32_t bits)
{
	uint32_t partition = leaf >> (bits - DC_MAP_PARTITION_BITS);
	uint32_t width = 1u << (DC_LEAF_BITS_MAX - bits);
	uint32_t first = leaf * width % DC_MAP_LEAVES;
	uint64_t sum = 0;

	if (!sums->loaded || sums->partition != partition)
	{
		const DcMapsView *view = sums->view;
		const DcMap *map = view->open(view->ctx, partition);

		dc_map_leaf_sums(map, view->env, sums->sums);
		view->close(view->ctx, partition);
		sums->partition = partition;
		sums->loaded = true;
	}
	for (uint32_t i = 0; i < width; i++)
		sum += sums->sums[first + i];
	return sum;
}

uint64_t
dc_maps_live(const DcMapsView *view)
{
	uint64_t live = 0;

	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
	{
		const DcMap *map = view->open(view->ctx, i);

		live += map->used - map->dead_count;
		view->close(view->ctx, i);
	}
	return live;
}

uint64_t
dc_maps_sum(const DcMapsView *view)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
	{
		sum += view->open(view->ctx, i)->live_sum;
		view->close(view->ctx, i);
	}
	return sum;
}

/*
 * Keys fall on leaves like balls into bins: of L leaves L * e^(-keys / L) stay
 * without one.
 */
uint32_t
dc_sketch_estimate(uint32_t differing, uint32_t of)
{
	if (differing == 0)
		return 0;
	if (differing >= of)
		return of > UINT32_MAX / 12 ? UINT32_MAX : of * 12;
	return (uint32_t) (-log(1 - (double) differing / of) * of + 0.5);
}

/* Are the sums of the differing leaves' children worth their bytes? */
static bool
affordable(uint64_t live, uint32_t differing, uint32_t bits, uint32_t keys)
{
	uint64_t sums = (uint64_t) differing << bits;
	uint64_t limit = live / 128 > 16384 ? live / 128 : 16384;

	return sums <= limit && sums <= DC_SKETCH_SUMS_MAX &&
		   sums <= (uint64_t) keys * 32;
}

/* Entries in the leaves that will differ when there are 2^bits of them. */
static uint64_t
inside(uint64_t live, uint64_t differing, uint32_t keys, uint32_t bits)
{
	return (live >> 8) * (differing < keys ? differing : keys) >> (bits - 8);
}

uint32_t
dc_sketch_refine(uint64_t live, uint32_t differing, uint32_t bits,
				 uint32_t keys)
{
	uint32_t more = 0;

	while (bits + more < DC_LEAF_BITS_MAX &&
		   inside(live, (uint64_t) differing << more, keys, bits + more) >
			   65536 &&
		   affordable(live, differing, more + 1, keys))
		more++;
	return more > 0 ? bits + more : 0;
}

/* ----------------------------------------------------------------- scan */

/* The end of the run of leaves that begins here, within one partition. */
static uint32_t
run_end(const DcLeafSet *scope, uint32_t leaf)
{
	uint32_t per_partition = 1u << (scope->bits - DC_MAP_PARTITION_BITS);
	uint32_t limit = leaf - leaf % per_partition + per_partition;
	uint32_t end = leaf + 1;

	while (end < limit && dc_leaf_set_has(scope, end))
		end++;
	return end;
}

static void
enter_run(DcScopeScan *scan, uint32_t leaf, uint32_t bits)
{
	uint64_t start = dc_leaf_start(leaf, bits);

	if (start < scan->from)
		start = scan->from;
	scan->leaf = leaf;
	scan->inside = true;
	scan->cursor = dc_map_cursor_at(start << DC_MAP_PARTITION_BITS);
}

bool
dc_scope_next(DcScopeScan *scan, const DcMapsView *view, const DcLeafSet *scope,
			  DcHlc floor, DcScopeRoom *room)
{
	DcMapRoom into = {.items = room->items,
					  .items_max = DC_SCOPE_ITEMS,
					  .bytes = room->bytes,
					  .bytes_max = sizeof(room->bytes),
					  .visits_max = 4 * DC_SCOPE_ITEMS};
	DcMapFilter filter = {.after = floor, .skip_dead = true};
	uint32_t partition;
	uint32_t end;

	room->count = 0;
	if (!scan->inside && !scan->done)
	{
		uint32_t least = dc_leaf_of(scan->from, scope->bits);
		uint32_t leaf = scan->leaf > least ? scan->leaf : least;

		leaf = dc_leaf_set_next(scope, leaf);
		scan->done = leaf == DC_LEAF_NONE;
		if (!scan->done)
			enter_run(scan, leaf, scope->bits);
	}
	if (scan->done)
		return false;
	end = run_end(scope, scan->leaf);
	partition = scan->leaf >> (scope->bits - DC_MAP_PARTITION_BITS);
	/* 0 at the end of the partition, where there is no limit */
	filter.order_end = dc_leaf_start(end, scope->bits) << DC_MAP_PARTITION_BITS;
	room->count = dc_map_scan(view->open(view->ctx, partition), view->env,
							  &scan->cursor, &filter, &into);
	view->close(view->ctx, partition);
	if (scan->cursor.done)
	{
		scan->inside = false;
		scan->leaf = end;
	}
	return true;
}
