/*
 * sketch.h
 *		Sums over ranges of a keyspace, and what they tell about a difference.
 *
 *	2^16 leaves   | | | | | | | | | | | | | | | | ...   ranges of the hash
 *	2^b  leaves   |       |       |       |       ...   8 <= b <= 16
 *
 * The sum of a coarser leaf is the sum of those it consists of.  Two nodes
 * whose sums of a leaf agree have the same live entries there, but for one
 * chance in 2^64.
 */
#ifndef DC_SKETCH_H
#define DC_SKETCH_H

#include "map.h"

#define DC_LEAF_BITS_MIN 8u
#define DC_LEAF_BITS_MAX (DC_MAP_PARTITION_BITS + DC_MAP_LEAF_BITS) /* 16 */
#define DC_LEAVES_MAX    (1u << DC_LEAF_BITS_MAX)
#define DC_LEAF_NONE     UINT32_MAX

/* Leaves of one width. */
typedef struct DcLeafSet
{
	uint32_t bits; /* DC_LEAF_BITS_MIN .. DC_LEAF_BITS_MAX */
	uint32_t count;
	uint64_t words[DC_LEAVES_MAX / 64];
} DcLeafSet;

void dc_leaf_set_init(DcLeafSet *set, uint32_t bits);
void dc_leaf_set_fill(DcLeafSet *set, uint32_t bits);
void dc_leaf_set_add(DcLeafSet *set, uint32_t leaf);
bool dc_leaf_set_has(const DcLeafSet *set, uint32_t leaf);

/* The first leaf from `from` on, or DC_LEAF_NONE. */
uint32_t dc_leaf_set_next(const DcLeafSet *set, uint32_t from);

/* Moves the first `count` leaves of `from` to `to`, which becomes just them. */
void dc_leaf_set_split(DcLeafSet *from, DcLeafSet *to, uint32_t count);

/*
 * u8 bits | varint count | for each leaf, unless it is all of them, varint
 * leaf - previous - 1 (the first one as it is).
 */
void dc_leaf_set_encode(DcWriter *w, const DcLeafSet *set);
void dc_leaf_set_decode(DcReader *r, DcLeafSet *set);

/* The leaf of this width that a key with this hash is in. */
static inline uint32_t
dc_leaf_of(uint64_t hash, uint32_t bits)
{
	return (uint32_t) (hash >> (64 - bits));
}

/* The least hash in a leaf. */
static inline uint64_t
dc_leaf_start(uint32_t leaf, uint32_t bits)
{
	return (uint64_t) leaf << (64 - bits);
}

/*
 * How to look at the maps of a keyspace: `open` locks a partition for reading
 * and returns its map, `close` unlocks it.  One at a time, briefly.
 */
typedef struct DcMapsView
{
	const DcMap *(*open)(void *ctx, uint32_t partition);
	void (*close)(void *ctx, uint32_t partition);
	void *ctx;
	const DcMapEnv *env;
} DcMapsView;

/* Sums of leaves, partition by partition; all zero but the view: none yet. */
typedef struct DcLeafSums
{
	const DcMapsView *view;
	bool loaded;
	uint32_t partition;
	uint64_t sums[DC_MAP_LEAVES];
} DcLeafSums;

/* The sum of a leaf of 2^bits; cheap if asked for in ascending order. */
uint64_t dc_leaf_sum(DcLeafSums *sums, uint32_t leaf, uint32_t bits);

/* Live entries of the keyspace, and the sum of their fingerprints. */
uint64_t dc_maps_live(const DcMapsView *view);
uint64_t dc_maps_sum(const DcMapsView *view);

/*
 * About how many keys differ when `differing` of `of` leaves do; at most
 * `of` * 12 when all of them do, which says only that there are many.
 */
uint32_t dc_sketch_estimate(uint32_t differing, uint32_t of);

/*
 * The width to look at next, or 0: these leaves are narrow enough.  `live`
 * entries in all, `differing` of 2^bits leaves, `keys` estimated in them.
 * Leaves are narrowed until they hold some 65,536 entries, as far as the sums
 * stay below 256 bytes a key and 128 kB; or, where more than 2 M entries are
 * looked at otherwise, a byte for each sixteen of them.
 */
#define DC_SKETCH_SUMS_MAX DC_LEAVES_MAX /* in one question: 512 kB */
uint32_t dc_sketch_refine(uint64_t live, uint32_t differing, uint32_t bits,
						  uint32_t keys);

/*
 * Live entries of a set of leaves, in the order of the map, some at a time.
 * A scan is plain data and all zero at first; `from`: the least hash wanted.
 */
typedef struct DcScopeScan
{
	uint64_t from;
	uint32_t leaf; /* where the cursor is */
	bool inside;
	bool done;
	DcMapCursor cursor;
} DcScopeScan;

#define DC_SCOPE_ITEMS 256u

typedef struct DcScopeRoom
{
	size_t count;
	DcMapItem items[DC_SCOPE_ITEMS];
	uint8_t bytes[DC_SCOPE_ITEMS * DC_KEY_BYTES_FIXED + DC_KEY_BYTES_MAX];
} DcScopeRoom;

/* False at the end; else room->items has room->count entries, maybe none. */
bool dc_scope_next(DcScopeScan *scan, const DcMapsView *view,
				   const DcLeafSet *scope, DcHlc floor, DcScopeRoom *room);

#endif
