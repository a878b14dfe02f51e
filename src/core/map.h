/*
 * map.h
 *		The metadata map: key -> stamp, live or dead, of one partition.
 *
 * A keyspace has DC_MAP_PARTITIONS partitions.  The caller hashes the key
 * (dc_key_hash), takes the partition that the top bits name and holds its
 * lock around each call here; different partitions are used at once by
 * different processes.  The struct and its pages are relocatable: they hold
 * page numbers and offsets, no addresses and no functions, so they may lie in
 * shared memory.  What is process-local comes in with each call as DcMapEnv.
 *
 * The map is a join semilattice, the ORSWOT of Datacake with one stamp a key:
 * merging takes, key by key, the greater entry, ordered by stamp and then
 * dead above live.  So merges commute, associate and repeat without harm, and
 * two maps that saw the same entries are equal, whatever the order.
 *
 * Which calls may take pages from the pool: dc_map_reserve, dc_map_expect, and
 * dc_map_merge with reserved = false.  dc_map_release, dc_map_remove,
 * dc_map_unreserve and dc_map_merge may give some back; the others touch
 * nothing but the partition.
 */
#ifndef DC_MAP_H
#define DC_MAP_H

#include "iblt.h"
#include "keyhash.h"
#include "pages.h"
#include "rules.h"
#include "vv.h"
#include "wire.h"

#define DC_MAP_PARTITION_BITS 6
#define DC_MAP_PARTITIONS     (1u << DC_MAP_PARTITION_BITS)

/*
 * A leaf is one of 1024 ranges of a partition's hashes, 2^16 in a keyspace.
 * A partition whose table has at least so many slots keeps the sums of its
 * leaves in pages of their own, if there are any to be had: at most 0.9 bytes
 * an entry there, 0.05 at 10 M entries in the keyspace.
 */
#define DC_MAP_LEAF_BITS  10
#define DC_MAP_LEAVES     (1u << DC_MAP_LEAF_BITS)
#define DC_MAP_LEAF_PAGES (DC_MAP_LEAVES * 8 / DC_PAGE_BYTES)
#define DC_MAP_LEAF_SLOTS 10000u

#define DC_KEY_BYTES_MAX   2000u /* longest key */
#define DC_KEY_BYTES_FIXED 16u   /* widest fixed key: uuid, two bigints */

/* A slot: word and 16 bytes of key. */
#define DC_MAP_SLOT_BYTES 24u
#define DC_MAP_PAGE_SLOTS (DC_PAGE_BYTES / DC_MAP_SLOT_BYTES) /* 85 */
#define DC_MAP_DIR_PAGES  (DC_PAGE_BYTES / 4)                 /* 512 */

/* 40 x 512 x 85 = 1.74 M slots a partition, 1.56 M of them for entries. */
#define DC_MAP_DIRS      40u
#define DC_MAP_PAGES_MAX (DC_MAP_DIRS * DC_MAP_DIR_PAGES)

_Static_assert((uint64_t) DC_MAP_PAGES_MAX *DC_MAP_PAGE_SLOTS / 10 * 9 *
					   DC_MAP_PARTITIONS >=
				   80000000,
			   "a keyspace holds 80 M entries");

/*
 * One partition.  All zero bytes are an empty map of variable keys that owns
 * no page.  Callers may read the fields up to `live_sum`.
 */
typedef struct DcMap
{
	uint32_t key_bytes;  /* 1 .. 16: width of every key; 0: 1 .. 2000 bytes */
	uint32_t slots;      /* room, in slots */
	uint32_t used;       /* entries, live and dead */
	uint32_t reserved;   /* inserts that were promised room */
	uint32_t dead_count; /* of the entries */
	uint64_t live_sum;   /* sum mod 2^64 of the live entries' fingerprints */

	uint32_t homes;       /* slots that are some hash's home; rest is tail */
	uint32_t slot_pages;  /* slots / DC_MAP_PAGE_SLOTS */
	uint32_t arena_pages; /* pages that hold keys longer than 15 bytes */
	uint32_t arena;       /* first of them, if any */
	uint32_t arena_tail;  /* the one that new records are carved from */
	uint32_t arena_at;    /* ... and from where, in units */
	uint32_t leaf_pages;  /* DC_MAP_LEAF_PAGES, or 0: sums are not kept */
	uint32_t leaf[DC_MAP_LEAF_PAGES];

	/* up to DC_MAP_DIRS slot pages: their numbers; else pages of numbers */
	uint32_t dir[DC_MAP_DIRS];
} DcMap;

/*
 * Process-local: addresses, and the seeds both maps and peers agree on.  Where
 * cells are kept (iblt.h), they are those of all live entries of the keyspace
 * whose map is changed: dc_map_merge and dc_map_remove put their ids in and
 * take them out, atomically, since its partitions share them.
 */
typedef struct DcMapEnv
{
	DcPages pages;
	DcIbltCell *cells; /* NULL: none are kept */
	uint32_t cell_count;
	uint8_t hash_seed[DC_SEED_BYTES]; /* of dc_key_hash: one per cluster */
	uint8_t sum_seed[DC_SEED_BYTES];  /* of fingerprints: one per cluster */
} DcMapEnv;

/* An empty map; key_bytes > 16 is taken as 0. */
void dc_map_init(DcMap *map, uint32_t key_bytes);

/* Gives back every page and forgets entries and reservations alike. */
void dc_map_release(DcMap *map, const DcMapEnv *env);

/* True when the map takes keys of this length. */
bool dc_map_takes(const DcMap *map, size_t length);

/*
 * Promises room for one later insert of a key of this length.
 * DC_FULL: no more pages, or the partition is at its limit; DC_MALFORMED: not
 * a length this map takes.  Then nothing was promised and nothing is lost.
 * A reservation belongs to the map, not to a key: any key that needs as many
 * 16-byte units of the arena (none up to 15 bytes) may use it.
 */
DcStatus dc_map_reserve(DcMap *map, const DcMapEnv *env, const uint8_t *key,
						size_t length);

/*
 * So many inserts are about to come: grows the table at once to what they will
 * need, or as far as there are pages, instead of in steps that each lay it out
 * anew.  Promises nothing.  A map that is empty keeps these pages until it has
 * had an entry or a promise and lost the last.
 */
void dc_map_expect(DcMap *map, const DcMapEnv *env, uint32_t inserts);

/* Gives one reservation for a key of that length back.  Never fails. */
void dc_map_unreserve(DcMap *map, const DcMapEnv *env, size_t length);

/* What the map knows of the key; stamp == DC_HLC_NONE: nothing. */
DcEntry dc_map_get(const DcMap *map, const DcMapEnv *env, const uint8_t *key,
				   size_t length);

/*
 * Joins `incoming` into the key's entry; *found tells what stood there
 * before.  `hash` is dc_key_hash(env->hash_seed, key, length).
 *
 * reserved: uses up one reservation for a key of this length, or returns it
 * if the key was present.  Takes no page; answers DC_OK.
 * Not reserved: a key that is present never fails; one that is absent may
 * take pages or answer DC_FULL, and then nothing changed.
 *
 * DC_MALFORMED, without any change: a length this map does not take, or a
 * stamp that is none (0, or beyond DC_HLC_MAX).
 */
DcStatus dc_map_merge(DcMap *map, const DcMapEnv *env, const uint8_t *key,
					  size_t length, uint64_t hash, DcEntry incoming,
					  bool reserved, DcEntry *found);

/* Forgets the key: for purges and clean-up.  False if it was not known. */
bool dc_map_remove(DcMap *map, const DcMapEnv *env, const uint8_t *key,
				   size_t length);

/* The fingerprint of a live entry: SipHash of its key and stamp. */
uint64_t dc_map_fingerprint(const DcMapEnv *env, const uint8_t *key,
							size_t length, DcHlc stamp);

/*
 * The id of a live entry in cells: its fingerprint, but the first 16 bits are
 * those of its key's hash, the leaf.  So an id says where its entry is.
 */
#define DC_MAP_ID_LEAF_SHIFT 48
uint64_t dc_map_id(const DcMapEnv *env, const uint8_t *key, size_t length,
				   uint64_t hash, DcHlc stamp);

/*
 * For each leaf the sum mod 2^64 of its live entries' fingerprints.  Copies
 * them where they are kept; else it looks at every entry (25 ns each).
 */
void dc_map_leaf_sums(const DcMap *map, const DcMapEnv *env,
					  uint64_t sums[DC_MAP_LEAVES]);

/* Pages the map holds now. */
uint32_t dc_map_pages(const DcMap *map);

/* Starts loading the slot of this hash; worth it some keys ahead. */
void dc_map_prefetch(const DcMap *map, const DcMapEnv *env, uint64_t hash);

/*
 * A scan goes through the partition in the order of (hash, slot bytes) and
 * may be interrupted at any entry: the cursor says which one was the last.
 * An entry that is present during the whole scan is given exactly once,
 * whatever else happens between the calls, growth included.
 *
 * A cursor is 32 bytes of plain data and starts out all zero.  It is good for
 * this map and hash seed; to carry one beyond a restart keep `order` alone
 * and resume with {.order = order, .started = true}: what shares that hash
 * is then given again.
 */
typedef struct DcMapCursor
{
	uint64_t order;   /* hash without the partition's bits */
	uint8_t slot[16]; /* key bytes of the slot */
	bool started;
	bool done; /* nothing is left */
} DcMapCursor;

/* A cursor in front of the first entry whose `order` is not below this. */
static inline DcMapCursor
dc_map_cursor_at(uint64_t order)
{
	DcMapCursor cursor = {.order = order - 1, .started = order > 0};

	memset(cursor.slot, 0xff, sizeof(cursor.slot));
	return cursor;
}

/* Which entries a scan gives; all zero: all of them. */
typedef struct DcMapFilter
{
	const DcVv *above; /* only stamps beyond their source's; DC_HLC_MAX: none */
	DcHlc after;       /* only stamps > after */
	DcHlc until;       /* only stamps <= until; 0: no limit */
	uint64_t order_end; /* the scan ends before this order; 0: no limit */
	bool skip_live;
	bool skip_dead;
	bool all_dead; /* `above` does not count for dead entries */
	DcVv *left;    /* raised to what DC_HLC_MAX kept out; or NULL */
} DcMapFilter;

typedef struct DcMapItem
{
	DcEntry entry;
	DcSlice key; /* lies in DcMapRoom.bytes */
} DcMapItem;

/* Where a scan puts what it finds, and when it must stop. */
typedef struct DcMapRoom
{
	DcMapItem *items;
	size_t items_max;
	uint8_t *bytes; /* keys are copied here */
	size_t bytes_max;
	uint32_t visits_max; /* entries looked at in one call; 0: no limit */
} DcMapRoom;

/*
 * Fills room->items from the cursor on and returns their number, which may be
 * 0 before the end: only cursor->done says that nothing is left.
 * items_max >= 1 and bytes_max >= DC_KEY_BYTES_MAX (16 suffice for a map of
 * fixed keys), else the scan may stand still.
 */
size_t dc_map_scan(const DcMap *map, const DcMapEnv *env, DcMapCursor *cursor,
				   const DcMapFilter *filter, const DcMapRoom *room);

/* True when every invariant holds.  Reads everything: tests, simulator. */
bool dc_map_check(const DcMap *map, const DcMapEnv *env);

#endif
