/*
 * map.c
 *		The metadata map of one partition: ordered open addressing over pages.
 *
 *	dir[] -> page of 85 slots                              up to 40 of them
 *	dir[] -> page of 512 page numbers -> page of 85 slots  else
 *
 *	slot    | word (8)              | key (16)                               |
 *	         dead:1 stamp:63          fixed:    the key, padded with zeros
 *	         0 = empty                inline:   up to 15 bytes, length at [15]
 *	                                  outside:  hash 8, ref 4, length 2, 0, FF
 *
 *	table   |<------------- homes --------------->|<- tail ->|
 *	        .  a  b  b' .  .  c  d  c'  .  e  .  f  e' f'  .  .
 *	        hash order from left to right, gaps in between
 *
 * An entry's home is its hash scaled to the number of homes, which keeps
 * order; it stands at its home or, if that is taken, as near to the right of
 * it as the order allows (Amble and Knuth, "Ordered hash tables", 1974, with
 * linear probing).  The layout depends only on the set of entries.  So
 *	- a search may stop at the first greater hash,
 *	- a larger table is the same sequence with wider gaps: it grows in place,
 *	- the scan is in hash order and resumes at a hash.
 *
 * Nothing wraps around: what the last homes push to the right goes to the
 * tail.  When the tail is full the table is laid out again with fewer homes
 * and a longer tail.  In the limit, one home, it is a sorted array, which
 * always fits; therefore a free slot is all that a promised insert needs.
 *
 * Keys longer than 15 bytes lie in the arena, in records of 16-byte units:
 *
 *	first page  | next | class 1 .. 125: free list, free, reserved | records |
 *	other page  | next, 12 bytes | records                                   |
 *
 * A record freed goes to the list of its class, one per number of units, and
 * is used again for that class only.  A reservation counts on its class, so
 * that it cannot be eaten by keys of other lengths.
 *
 * The sums of the leaves, where they are kept, change with each entry:
 *
 *	leaf[] -> 4 pages of 256 sums     leaf = the first 10 bits of the order
 *
 * The hash of a resident is computed again when a search passes it: 2 ns for
 * a short key, against 8 bytes an entry for keeping it.
 */
#include "map.h"

#define WORD_DEAD ((uint64_t) 1 << 63)

typedef struct DcSlot
{
	uint64_t word;
	uint8_t key[16];
} DcSlot;

_Static_assert(sizeof(DcSlot) == DC_MAP_SLOT_BYTES, "slots have no padding");

#define KEY_TAG      15   /* of slot.key in a map of variable keys */
#define TAG_OUTSIDE  0xff /* the key lies in the arena */
#define INLINE_BYTES 15u

#define UNIT_BYTES  16u
#define PAGE_UNITS  (DC_PAGE_BYTES / UNIT_BYTES)
#define CLASS_COUNT (DC_KEY_BYTES_MAX / UNIT_BYTES)
#define REF_NONE    0u /* unit 0 of a page is never a record */

/* Records of one size, in units. */
typedef struct ArenaClass
{
	uint32_t first;    /* ref of the first free record */
	uint32_t free;     /* free records; `reserved` of them are promised */
	uint32_t reserved; /* never more than free */
} ArenaClass;

typedef struct ArenaHead
{
	uint32_t next; /* page, DC_PAGE_NONE: last; other pages begin like this */
	uint32_t unused;
	ArenaClass class[CLASS_COUNT]; /* class[units - 1] */
} ArenaHead;

#define HEAD_UNITS ((sizeof(ArenaHead) + UNIT_BYTES - 1) / UNIT_BYTES)

_Static_assert(CLASS_COUNT *UNIT_BYTES == DC_KEY_BYTES_MAX, "classes cover it");
_Static_assert(HEAD_UNITS < PAGE_UNITS, "the head fits a page");
_Static_assert(CLASS_COUNT < PAGE_UNITS, "the longest key fits a page");
_Static_assert((uint64_t) DC_PAGES_MAX *PAGE_UNITS == (uint64_t) 1 << 32,
			   "a ref names any unit of any page");

/* ---------------------------------------------------------------- pages */

static inline void *
page_at(const DcMapEnv *env, uint32_t page)
{
	return env->pages.base + (size_t) page * DC_PAGE_BYTES;
}

static inline uint32_t
slot_page(const DcMap *map, const DcMapEnv *env, uint32_t index)
{
	const uint32_t *numbers;

	if (map->slot_pages <= DC_MAP_DIRS)
		return map->dir[index];
	numbers = page_at(env, map->dir[index / DC_MAP_DIR_PAGES]);
	return numbers[index % DC_MAP_DIR_PAGES];
}

static inline DcSlot *
slot_at(const DcMap *map, const DcMapEnv *env, uint32_t at)
{
	DcSlot *slots = page_at(env, slot_page(map, env, at / DC_MAP_PAGE_SLOTS));

	return slots + at % DC_MAP_PAGE_SLOTS;
}

/* A position in the table that moves. */
typedef struct Walk
{
	const DcMap *map;
	const DcMapEnv *env;
	uint32_t at;
	uint32_t left; /* slots from here to the end of the page */
	DcSlot *slot;  /* NULL: behind the last slot */
} Walk;

static inline void
walk_to(Walk *w, uint32_t at)
{
	w->at = at;
	w->left = DC_MAP_PAGE_SLOTS - at % DC_MAP_PAGE_SLOTS;
	w->slot = at < w->map->slots ? slot_at(w->map, w->env, at) : NULL;
}

static inline void
walk_next(Walk *w)
{
	w->at++;
	w->slot++;
	if (--w->left == 0)
		walk_to(w, w->at);
}

/* To the left; not from slot 0. */
static inline void
walk_back(Walk *w)
{
	if (w->slot == NULL || w->left == DC_MAP_PAGE_SLOTS)
	{
		walk_to(w, w->at - 1);
		return;
	}
	w->at--;
	w->slot--;
	w->left++;
}

/* To the right, to `at`, mostly on the same page. */
static inline void
walk_on(Walk *w, uint32_t at)
{
	uint32_t far = at - w->at;

	if (far >= w->left)
	{
		walk_to(w, at);
		return;
	}
	w->at = at;
	w->slot += far;
	w->left -= far;
}

/* ----------------------------------------------------------------- keys */

/* A key that is looked for, in the form its slot would have. */
typedef struct Probe
{
	const uint8_t *key;
	size_t length;
	uint64_t hash;
	uint64_t order;
	uint8_t slot[16]; /* outside keys: the ref is still missing */
	bool outside;
} Probe;

/* The partition's bits are the same all over the map: they do not count. */
static inline uint64_t
order_of(uint64_t hash)
{
	return hash << DC_MAP_PARTITION_BITS;
}

/* A number of 32 bits is scaled: floors keep the order of hashes. */
static inline uint32_t
home_of(const DcMap *map, uint64_t order)
{
	return (uint32_t) ((order >> 32) * map->homes >> 32);
}

static inline bool
slot_is_outside(const DcMap *map, const uint8_t slot[16])
{
	return map->key_bytes == 0 && slot[KEY_TAG] == TAG_OUTSIDE;
}

static inline uint32_t
slot_ref(const uint8_t slot[16])
{
	uint32_t ref;

	memcpy(&ref, slot + 8, sizeof(ref));
	return ref;
}

static inline size_t
slot_key_length(const DcMap *map, const uint8_t slot[16])
{
	uint16_t length;

	if (map->key_bytes != 0)
		return map->key_bytes;
	if (slot[KEY_TAG] != TAG_OUTSIDE)
		return slot[KEY_TAG];
	memcpy(&length, slot + 12, sizeof(length));
	return length;
}

static inline uint64_t
slot_order(const DcMap *map, const DcMapEnv *env, const uint8_t slot[16])
{
	if (slot_is_outside(map, slot))
		return order_of(dc_hash_load64(slot));
	return order_of(
		dc_key_hash(env->hash_seed, slot, slot_key_length(map, slot)));
}

static inline uint8_t *
record_at(const DcMapEnv *env, uint32_t ref)
{
	return env->pages.base + (size_t) ref * UNIT_BYTES;
}

static inline const uint8_t *
slot_key(const DcMap *map, const DcMapEnv *env, const uint8_t slot[16])
{
	if (slot_is_outside(map, slot))
		return record_at(env, slot_ref(slot));
	return slot;
}

bool
dc_map_takes(const DcMap *map, size_t length)
{
	if (map->key_bytes != 0)
		return length == map->key_bytes;
	return length >= 1 && length <= DC_KEY_BYTES_MAX;
}

/* 0: a key of this length lies in its slot. */
static inline uint32_t
outside_units(const DcMap *map, size_t length)
{
	if (map->key_bytes != 0 || length <= INLINE_BYTES)
		return 0;
	return (uint32_t) ((length + UNIT_BYTES - 1) / UNIT_BYTES);
}

/* The length is one that the map takes. */
static inline void
probe_init(Probe *p, const DcMap *map, const uint8_t *key, size_t length,
		   uint64_t hash)
{
	uint16_t length16 = (uint16_t) length;

	p->key = key;
	p->length = length;
	p->hash = hash;
	p->order = order_of(hash);
	p->outside = outside_units(map, length) > 0;
	memset(p->slot, 0, sizeof(p->slot));
	if (p->outside)
	{
		memcpy(p->slot, &hash, sizeof(hash));
		memcpy(p->slot + 12, &length16, sizeof(length16));
		p->slot[KEY_TAG] = TAG_OUTSIDE;
		return;
	}
	memcpy(p->slot, key, length);
	if (map->key_bytes == 0)
		p->slot[KEY_TAG] = (uint8_t) length;
}

static inline bool
probe_matches(const DcMap *map, const DcMapEnv *env, const Probe *p,
			  const uint8_t slot[16])
{
	if (memcmp(p->slot, slot, 8) != 0)
		return false;
	if (!p->outside)
		return memcmp(p->slot + 8, slot + 8, 8) == 0;
	return slot_is_outside(map, slot) &&
		   slot_key_length(map, slot) == p->length &&
		   memcmp(slot_key(map, env, slot), p->key, p->length) == 0;
}

/* Stands there an entry that comes before this hash?  Then so do all to the left. */
static bool
is_before(const DcMap *map, const DcMapEnv *env, uint32_t at, uint64_t order)
{
	const DcSlot *slot = slot_at(map, env, at);

	return slot->word != 0 && slot_order(map, env, slot->key) < order;
}

/*
 * From `at`, at or right of the home of this hash, to at most eight slots left
 * of its place.  Entries that arrive in the order of their hashes, as another
 * node scans them, fill the left of the table first: there a place can be
 * very far from its home.  As the whole table is in order, and whatever has its
 * home left of a gap stands left of it, the way is halved.
 */
static uint32_t
skip(const DcMap *map, const DcMapEnv *env, uint32_t at, uint64_t order)
{
	uint32_t step = 8;
	uint32_t end;

	while (step < map->slots - at && is_before(map, env, at + step, order))
	{
		at += step;
		step *= 2;
	}
	end = step < map->slots - at ? at + step : map->slots;
	while (end - at > 8)
	{
		uint32_t middle = at + (end - at) / 2;

		if (is_before(map, env, middle, order))
			at = middle;
		else
			end = middle;
	}
	return at;
}

/*
 * True if the key is here, at slot *at.  Comparing keys is several times
 * cheaper than hashing a resident, so only each eighth one is asked whether
 * the search has gone too far, or has far to go.
 */
static bool
find(const DcMap *map, const DcMapEnv *env, const Probe *p, uint32_t *at)
{
	Walk w = {.map = map, .env = env};

	*at = 0;
	if (map->slots == 0)
		return false;
	walk_to(&w, home_of(map, p->order));
	for (uint32_t passed = 1; w.slot != NULL && w.slot->word != 0; passed++)
	{
		if (probe_matches(map, env, p, w.slot->key))
		{
			*at = w.at;
			return true;
		}
		if (passed % 8 == 0)
		{
			uint64_t order = slot_order(map, env, w.slot->key);

			if (order > p->order)
				break;
			if (order < p->order)
				walk_to(&w, skip(map, env, w.at, p->order));
		}
		walk_next(&w);
	}
	return false;
}

/* Negative, 0, positive: the slot stands before, at, behind this place. */
static inline int
slot_compare(const DcMap *map, const DcMapEnv *env, const uint8_t slot[16],
			 uint64_t order, const uint8_t place[16])
{
	uint64_t slot_at_order = slot_order(map, env, slot);

	if (slot_at_order != order)
		return slot_at_order < order ? -1 : 1;
	return memcmp(slot, place, 16);
}

/* ---------------------------------------------------------------- arena */

static inline ArenaClass *
arena_class(const DcMap *map, const DcMapEnv *env, uint32_t units)
{
	ArenaHead *head = page_at(env, map->arena);

	return &head->class[units - 1];
}

static void
arena_push(const DcMap *map, const DcMapEnv *env, uint32_t ref, uint32_t units)
{
	ArenaClass *class = arena_class(map, env, units);

	memcpy(record_at(env, ref), &class->first, sizeof(class->first));
	class->first = ref;
	class->free++;
}

/* Makes a new page the tail; what was left of the old one becomes a record. */
static bool
arena_extend(DcMap *map, const DcMapEnv *env)
{
	uint32_t page = env->pages.take(env->pages.ctx);
	ArenaHead *head;

	if (page == DC_PAGE_NONE)
		return false;
	if (map->arena_pages == 0)
	{
		head = page_at(env, page);
		memset(head, 0, sizeof(*head));
		head->next = DC_PAGE_NONE;
		map->arena = page;
		map->arena_at = HEAD_UNITS;
	}
	else
	{
		if (map->arena_at < PAGE_UNITS)
			arena_push(map, env, map->arena_tail * PAGE_UNITS + map->arena_at,
					   PAGE_UNITS - map->arena_at);
		head = page_at(env, map->arena);
		memcpy(page_at(env, page), &head->next, sizeof(head->next));
		head->next = page;
		map->arena_at = 1;
	}
	map->arena_tail = page;
	map->arena_pages++;
	return true;
}

/* Sees to it that a record of the class is free, and promises it. */
static bool
arena_reserve(DcMap *map, const DcMapEnv *env, uint32_t units)
{
	ArenaClass *class;

	if (map->arena_pages == 0 && !arena_extend(map, env))
		return false;
	class = arena_class(map, env, units);
	if (class->free == class->reserved)
	{
		while (PAGE_UNITS - map->arena_at < units)
		{
			if (!arena_extend(map, env))
				return false; /* not simulated: memory ends just here */
		}
		arena_push(map, env, map->arena_tail * PAGE_UNITS + map->arena_at,
				   units);
		map->arena_at += units;
	}
	class->reserved++;
	return true;
}

/* Takes the promised record: every class has free >= reserved. */
static uint32_t
arena_pop(const DcMap *map, const DcMapEnv *env, uint32_t units)
{
	ArenaClass *class = arena_class(map, env, units);
	uint32_t ref = class->first;

	memcpy(&class->first, record_at(env, ref), sizeof(class->first));
	class->free--;
	class->reserved--;
	return ref;
}

/* -------------------------------------------------------------- entries */

static inline uint64_t
word_of(DcEntry entry)
{
	return entry.stamp | (entry.dead ? WORD_DEAD : 0);
}

static inline DcEntry
entry_of(uint64_t word)
{
	return (DcEntry){.stamp = word & ~WORD_DEAD,
					 .dead = (word & WORD_DEAD) != 0};
}

uint64_t
dc_map_fingerprint(const DcMapEnv *env, const uint8_t *key, size_t length,
				   DcHlc stamp)
{
	return dc_siphash_entry(env->sum_seed, key, length, stamp);
}

static inline uint64_t
id_of(uint64_t hash, uint64_t fingerprint)
{
	uint64_t leaf = hash >> DC_MAP_ID_LEAF_SHIFT << DC_MAP_ID_LEAF_SHIFT;

	return leaf | fingerprint >> (64 - DC_MAP_ID_LEAF_SHIFT);
}

uint64_t
dc_map_id(const DcMapEnv *env, const uint8_t *key, size_t length, uint64_t hash,
		  DcHlc stamp)
{
	return id_of(hash, dc_map_fingerprint(env, key, length, stamp));
}

/* ---------------------------------------------------------------- sums */

static inline uint64_t *
leaf_sum(const DcMap *map, const DcMapEnv *env, uint64_t order)
{
	uint32_t leaf = (uint32_t) (order >> (64 - DC_MAP_LEAF_BITS));
	uint32_t per_page = DC_MAP_LEAVES / DC_MAP_LEAF_PAGES;
	uint64_t *sums = page_at(env, map->leaf[leaf / per_page]);

	return sums + leaf % per_page;
}

/* Takes an entry into the counts, or (leaving) out of them. */
static void
account(DcMap *map, const DcMapEnv *env, const Probe *p, uint64_t word,
		bool leaving)
{
	DcEntry entry = entry_of(word);
	uint64_t sum;

	if (entry.dead)
	{
		map->dead_count += leaving ? UINT32_MAX : 1;
		return;
	}
	sum = dc_map_fingerprint(env, p->key, p->length, entry.stamp);
	if (env->cells != NULL)
		dc_iblt_toggle_shared(env->cells, env->cell_count, env->sum_seed,
							  id_of(p->hash, sum));
	sum = leaving ? 0 - sum : sum;
	map->live_sum += sum;
	if (map->leaf_pages > 0)
		*leaf_sum(map, env, p->order) += sum;
}

/* Adds what each live entry has to the sum of its leaf. */
static void
sum_leaves(const DcMap *map, const DcMapEnv *env, uint64_t sums[DC_MAP_LEAVES])
{
	Walk w = {.map = map, .env = env};

	memset(sums, 0, DC_MAP_LEAVES * sizeof(sums[0]));
	for (walk_to(&w, 0); w.slot != NULL; walk_next(&w))
	{
		const uint8_t *bytes = w.slot->key;
		DcEntry entry = entry_of(w.slot->word);

		if (w.slot->word != 0 && !entry.dead)
			sums[slot_order(map, env, bytes) >> (64 - DC_MAP_LEAF_BITS)] +=
				dc_map_fingerprint(env, slot_key(map, env, bytes),
								   slot_key_length(map, bytes), entry.stamp);
	}
}

void
dc_map_leaf_sums(const DcMap *map, const DcMapEnv *env,
				 uint64_t sums[DC_MAP_LEAVES])
{
	uint32_t per_page = DC_MAP_LEAVES / DC_MAP_LEAF_PAGES;

	if (map->leaf_pages == 0)
	{
		sum_leaves(map, env, sums);
		return;
	}
	for (uint32_t i = 0; i < DC_MAP_LEAF_PAGES; i++)
		memcpy(sums + (size_t) i * per_page, page_at(env, map->leaf[i]),
			   DC_PAGE_BYTES);
}

/* Pages for the sums, or, when there are not enough, none. */
static void
keep_leaf_sums(DcMap *map, const DcMapEnv *env)
{
	uint64_t sums[DC_MAP_LEAVES];
	uint32_t per_page = DC_MAP_LEAVES / DC_MAP_LEAF_PAGES;
	uint32_t taken = 0;

	while (taken < DC_MAP_LEAF_PAGES)
	{
		map->leaf[taken] = env->pages.take(env->pages.ctx);
		if (map->leaf[taken] == DC_PAGE_NONE)
			break;
		taken++;
	}
	if (taken < DC_MAP_LEAF_PAGES)
	{
		while (taken > 0)
			env->pages.give(env->pages.ctx, map->leaf[--taken]);
		return;
	}
	sum_leaves(map, env, sums);
	for (uint32_t i = 0; i < DC_MAP_LEAF_PAGES; i++)
		memcpy(page_at(env, map->leaf[i]), sums + (size_t) i * per_page,
			   DC_PAGE_BYTES);
	map->leaf_pages = DC_MAP_LEAF_PAGES;
}

/* --------------------------------------------------------------- layout */

/*
 * Packs the entries against the right end, in their order.  `slots` may have
 * grown since they were placed.
 */
static void
pack_right(const DcMap *map, const DcMapEnv *env, uint32_t slots_before)
{
	Walk from = {.map = map, .env = env};
	Walk to = {.map = map, .env = env};

	walk_to(&from, slots_before);
	walk_to(&to, map->slots);
	while (from.at > 0)
	{
		walk_back(&from);
		if (from.slot->word == 0)
			continue;
		walk_back(&to);
		if (to.at == from.at)
			continue;
		*to.slot = *from.slot;
		from.slot->word = 0;
	}
}

/*
 * Places entries that are packed against the right end, each at its home or
 * right behind its predecessor.  False when one would have to stand right of
 * where the packed ones begin: it and its successors do not fit; they stay
 * packed, in order.
 */
static bool
spread_left(const DcMap *map, const DcMapEnv *env)
{
	Walk from = {.map = map, .env = env};
	Walk to = {.map = map, .env = env};
	uint32_t next = 0;

	walk_to(&to, 0);
	for (walk_to(&from, map->slots - map->used); from.slot != NULL;
		 walk_next(&from))
	{
		uint64_t order = slot_order(map, env, from.slot->key);
		uint32_t home = home_of(map, order);

		home = home > next ? home : next;
		if (home > from.at)
			return false; /* not simulated: hashes crowd at the end */
		next = home + 1;
		walk_on(&to, home);
		if (home == from.at)
			continue; /* not simulated: the same */
		*to.slot = *from.slot;
		from.slot->word = 0;
	}
	return true;
}

/* Lays the table out with a tail of `tail` slots, or as many as it needs. */
static void
lay_out(DcMap *map, const DcMapEnv *env, uint32_t slots_before, uint32_t tail)
{
	bool fits = false;

	for (; !fits; tail *= 2)
	{
		map->homes = tail < map->slots ? map->slots - tail : 1;
		pack_right(map, env, slots_before);
		slots_before = map->slots;
		fits = spread_left(map, env);
	}
}

/* Entries and promises that so many slots take before the table grows. */
static inline uint32_t
room_of(uint32_t slots)
{
	return slots - slots / 10;
}

/* A table 0.9 full exceeds a tail of 64 once in e^13 layouts. */
static inline uint32_t
tail_of(uint32_t slots)
{
	return slots / 8 < 64 ? slots / 8 : 64;
}

/* Pages of page numbers that a table of so many slot pages has. */
static inline uint32_t
dir_pages_of(uint32_t slot_pages)
{
	if (slot_pages <= DC_MAP_DIRS)
		return 0;
	return (slot_pages + DC_MAP_DIR_PAGES - 1) / DC_MAP_DIR_PAGES;
}

/* Appends one empty page of slots; false when there is no page for it. */
static bool
append_page(DcMap *map, const DcMapEnv *env)
{
	uint32_t index = map->slot_pages;
	uint32_t dirs = dir_pages_of(index + 1);
	uint32_t page = env->pages.take(env->pages.ctx);
	uint32_t *numbers = &map->dir[0];

	if (page == DC_PAGE_NONE)
		return false;
	if (dirs > dir_pages_of(index))
	{
		uint32_t dir = env->pages.take(env->pages.ctx);

		if (dir == DC_PAGE_NONE)
		{
			env->pages.give(env->pages.ctx, page);
			return false;
		}
		if (index == DC_MAP_DIRS)
			memcpy(page_at(env, dir), map->dir, sizeof(map->dir));
		map->dir[dirs - 1] = dir;
	}
	if (dirs > 0)
		numbers = page_at(env, map->dir[dirs - 1]);
	numbers[index % DC_MAP_DIR_PAGES] = page;
	memset(page_at(env, page), 0, DC_PAGE_BYTES);
	map->slot_pages++;
	map->slots += DC_MAP_PAGE_SLOTS;
	return true;
}

/* To so many pages of slots, or as many as can be had. */
static bool
grow_to(DcMap *map, const DcMapEnv *env, uint32_t wanted)
{
	uint32_t slots_before = map->slots;

	if (wanted > DC_MAP_PAGES_MAX)
		wanted = DC_MAP_PAGES_MAX; /* not simulated: 1.5 million entries */
	while (map->slot_pages < wanted && append_page(map, env))
		continue;
	if (map->slots == slots_before)
		return false;
	lay_out(map, env, slots_before, tail_of(map->slots));
	if (map->leaf_pages == 0 && map->slots >= DC_MAP_LEAF_SLOTS)
		keep_leaf_sums(map, env);
	return true;
}

/*
 * The least step: a ninth keeps a table of 0.90 at 0.81 and its entries at
 * 24 / 0.81 = 29.7 bytes, and each entry is laid out some nine times.
 */
static uint32_t
grown_pages(const DcMap *map)
{
	uint32_t ninth = map->slot_pages / 9;

	return map->slot_pages + (ninth > 0 ? ninth : 1);
}

/* Moves the slots [from, to) one to the right, onto the empty slot `to`. */
static void
shift_right(const DcMap *map, const DcMapEnv *env, uint32_t from, uint32_t to)
{
	while (to > from)
	{
		uint32_t first = to - to % DC_MAP_PAGE_SLOTS;
		uint32_t low = first > from ? first : from;
		DcSlot *slot = slot_at(map, env, low);

		memmove(slot + 1, slot, (to - low) * sizeof(DcSlot));
		to = low;
		if (to == from)
			break;
		*slot_at(map, env, to) = *slot_at(map, env, to - 1);
		to--;
	}
}

/* Moves the slots (from, to) one to the left, onto `from`; to - 1 is empty. */
static void
shift_left(const DcMap *map, const DcMapEnv *env, uint32_t from, uint32_t to)
{
	DcSlot *last = slot_at(map, env, from);

	for (uint32_t at = from; at + 1 < to;)
	{
		uint32_t end = at - at % DC_MAP_PAGE_SLOTS + DC_MAP_PAGE_SLOTS - 1;
		uint32_t high = end < to - 1 ? end : to - 1;
		DcSlot *slot = slot_at(map, env, at);

		memmove(slot, slot + 1, (high - at) * sizeof(DcSlot));
		last = slot + (high - at);
		at = high;
		if (at + 1 < to)
		{
			DcSlot *next = slot_at(map, env, at + 1);

			*last = *next;
			last = next;
			at++;
		}
	}
	last->word = 0;
}

/*
 * Puts an absent key into the table, which has a free slot.  Equal hashes are
 * ordered by the bytes of their slots, so that a cursor can tell them apart.
 */
static void
place(DcMap *map, const DcMapEnv *env, const Probe *p, uint64_t word)
{
	Walk w = {.map = map, .env = env};
	DcSlot *slot;
	uint32_t at;

	for (;;)
	{
		for (walk_to(&w, skip(map, env, home_of(map, p->order), p->order));
			 w.slot != NULL && w.slot->word != 0; walk_next(&w))
		{
			if (slot_compare(map, env, w.slot->key, p->order, p->slot) > 0)
				break;
		}
		at = w.at;
		while (w.slot != NULL && w.slot->word != 0)
			walk_next(&w);
		if (w.slot != NULL)
			break;
		lay_out(map, env, map->slots, 2 * (map->slots - map->homes));
	}
	shift_right(map, env, at, w.at);
	slot = slot_at(map, env, at);
	slot->word = word;
	memcpy(slot->key, p->slot, sizeof(slot->key));
	map->used++;
}

/* -------------------------------------------------------- keys and stamps */

void
dc_map_init(DcMap *map, uint32_t key_bytes)
{
	memset(map, 0, sizeof(*map));
	map->key_bytes = key_bytes <= DC_KEY_BYTES_FIXED ? key_bytes : 0;
}

void
dc_map_release(DcMap *map, const DcMapEnv *env)
{
	uint32_t page = map->arena;

	for (uint32_t i = 0; i < map->arena_pages; i++)
	{
		uint32_t next;

		memcpy(&next, page_at(env, page), sizeof(next));
		env->pages.give(env->pages.ctx, page);
		page = next;
	}
	for (uint32_t i = 0; i < map->slot_pages; i++)
		env->pages.give(env->pages.ctx, slot_page(map, env, i));
	for (uint32_t i = 0; i < dir_pages_of(map->slot_pages); i++)
		env->pages.give(env->pages.ctx, map->dir[i]);
	for (uint32_t i = 0; i < map->leaf_pages; i++)
		env->pages.give(env->pages.ctx, map->leaf[i]);
	dc_map_init(map, map->key_bytes);
}

/* A map without entries and promises keeps no page. */
static void
release_if_idle(DcMap *map, const DcMapEnv *env)
{
	if (map->used == 0 && map->reserved == 0)
		dc_map_release(map, env);
}

/*
 * The arena first: a record too many is only a free record, and whatever
 * pages either step took stay with the map, which is in order at each point.
 */
DcStatus
dc_map_reserve(DcMap *map, const DcMapEnv *env, const uint8_t *key,
			   size_t length)
{
	uint32_t units = outside_units(map, length);

	(void) key;
	if (!dc_map_takes(map, length))
		return DC_MALFORMED;
	if (units > 0 && !arena_reserve(map, env, units))
	{
		release_if_idle(map, env);
		return DC_FULL;
	}
	while (map->used + map->reserved >= room_of(map->slots))
	{
		if (grow_to(map, env, grown_pages(map)))
			continue;
		if (units > 0)
			arena_class(map, env, units)->reserved--;
		release_if_idle(map, env);
		return DC_FULL;
	}
	map->reserved++;
	return DC_OK;
}

void
dc_map_expect(DcMap *map, const DcMapEnv *env, uint32_t inserts)
{
	uint64_t entries = (uint64_t) map->used + map->reserved + inserts;
	uint32_t pages =
		(uint32_t) ((entries + entries / 9) / DC_MAP_PAGE_SLOTS) + 1;
	uint32_t least = grown_pages(map);

	if (entries > room_of(map->slots))
		(void) grow_to(map, env, pages > least ? pages : least);
}

void
dc_map_unreserve(DcMap *map, const DcMapEnv *env, size_t length)
{
	uint32_t units = outside_units(map, length);

	map->reserved--;
	if (units > 0)
		arena_class(map, env, units)->reserved--;
	release_if_idle(map, env);
}

DcEntry
dc_map_get(const DcMap *map, const DcMapEnv *env, const uint8_t *key,
		   size_t length)
{
	Probe p;
	uint32_t at;

	if (!dc_map_takes(map, length))
		return entry_of(0);
	probe_init(&p, map, key, length, dc_key_hash(env->hash_seed, key, length));
	return entry_of(find(map, env, &p, &at) ? slot_at(map, env, at)->word : 0);
}

DcStatus
dc_map_merge(DcMap *map, const DcMapEnv *env, const uint8_t *key, size_t length,
			 uint64_t hash, DcEntry incoming, bool reserved, DcEntry *found)
{
	uint64_t word = word_of(incoming);
	DcSlot *slot;
	Probe p;
	uint32_t at;

	*found = entry_of(0);
	if (!dc_map_takes(map, length) || incoming.stamp == DC_HLC_NONE ||
		incoming.stamp > DC_HLC_MAX)
		return DC_MALFORMED;
	probe_init(&p, map, key, length, hash);
	if (find(map, env, &p, &at))
	{
		slot = slot_at(map, env, at);
		*found = entry_of(slot->word);
		if (incoming.stamp > found->stamp ||
			(incoming.stamp == found->stamp && word > slot->word))
		{
			account(map, env, &p, slot->word, true);
			account(map, env, &p, word, false);
			slot->word = word;
		}
		if (reserved)
			dc_map_unreserve(map, env, length);
		return DC_OK;
	}
	if (!reserved)
	{
		DcStatus status = dc_map_reserve(map, env, key, length);

		if (status != DC_OK)
			return status;
	}
	map->reserved--;
	if (p.outside)
	{
		uint32_t ref = arena_pop(map, env, outside_units(map, length));

		memcpy(record_at(env, ref), key, length);
		memcpy(p.slot + 8, &ref, sizeof(ref));
	}
	place(map, env, &p, word);
	account(map, env, &p, word, false);
	return DC_OK;
}

/* Where the entries from `at` on that stand right of their homes end. */
static uint32_t
run_end(const DcMap *map, const DcMapEnv *env, uint32_t at)
{
	Walk w = {.map = map, .env = env};

	for (walk_to(&w, at); w.slot != NULL && w.slot->word != 0; walk_next(&w))
	{
		if (home_of(map, slot_order(map, env, w.slot->key)) == w.at)
			break;
	}
	return w.at;
}

bool
dc_map_remove(DcMap *map, const DcMapEnv *env, const uint8_t *key,
			  size_t length)
{
	DcSlot *slot;
	Probe p;
	uint32_t at;

	if (!dc_map_takes(map, length))
		return false;
	probe_init(&p, map, key, length, dc_key_hash(env->hash_seed, key, length));
	if (!find(map, env, &p, &at))
		return false;
	slot = slot_at(map, env, at);
	account(map, env, &p, slot->word, true);
	if (p.outside)
		arena_push(map, env, slot_ref(slot->key), outside_units(map, length));

	shift_left(map, env, at, run_end(map, env, at + 1));
	map->used--;
	release_if_idle(map, env);
	return true;
}

uint32_t
dc_map_pages(const DcMap *map)
{
	return map->slot_pages + dir_pages_of(map->slot_pages) + map->arena_pages +
		   map->leaf_pages;
}

/* Most searches end within the three lines that follow the home. */
void
dc_map_prefetch(const DcMap *map, const DcMapEnv *env, uint64_t hash)
{
	const DcSlot *slot;

	if (map->slots == 0)
		return;
	slot = slot_at(map, env, home_of(map, order_of(hash)));
	__builtin_prefetch(slot);
	__builtin_prefetch((const uint8_t *) slot + 64);
	__builtin_prefetch((const uint8_t *) slot + 128);
}

/* ----------------------------------------------------------------- scan */

/* It is left to its source. */
static inline void
leave(const DcMapFilter *filter, DcHlc stamp)
{
	uint32_t id = stamp & DC_NODE_ID_MAX;

	if (filter->above->at[id] == DC_HLC_MAX && filter->left->at[id] < stamp)
		filter->left->at[id] = stamp;
}

/* Runs for each entry of a keyspace: everything inline, the likely no first. */
static inline bool
filter_passes(const DcMapFilter *filter, uint64_t word)
{
	DcEntry entry = entry_of(word);

	if (filter->above != NULL && !(entry.dead && filter->all_dead) &&
		entry.stamp <= filter->above->at[entry.stamp & DC_NODE_ID_MAX])
	{
		if (filter->left != NULL)
			leave(filter, entry.stamp);
		return false;
	}
	if (entry.stamp <= filter->after)
		return false;
	if (filter->until != DC_HLC_NONE && entry.stamp > filter->until)
		return false;
	return entry.dead ? !filter->skip_dead : !filter->skip_live;
}

/* The first entry behind the cursor. */
static void
walk_resume(Walk *w, const DcMapCursor *cursor)
{
	if (!cursor->started || w->map->slots == 0)
	{
		walk_to(w, 0);
		return;
	}
	for (walk_to(w, skip(w->map, w->env, home_of(w->map, cursor->order),
						 cursor->order));
		 w->slot != NULL && w->slot->word != 0; walk_next(w))
	{
		if (slot_compare(w->map, w->env, w->slot->key, cursor->order,
						 cursor->slot) > 0)
			break;
	}
}

size_t
dc_map_scan(const DcMap *map, const DcMapEnv *env, DcMapCursor *cursor,
			const DcMapFilter *filter, const DcMapRoom *room)
{
	static const DcMapFilter everything;
	Walk w = {.map = map, .env = env};
	const DcSlot *last = NULL;
	uint32_t visits = 0;
	size_t bytes = 0;
	size_t count = 0;

	if (filter == NULL)
		filter = &everything;
	if (cursor->done)
		return 0;
	for (walk_resume(&w, cursor); w.slot != NULL; walk_next(&w))
	{
		if (w.slot->word == 0)
			continue;
		if (filter->order_end > 0 &&
			slot_order(map, env, w.slot->key) >= filter->order_end)
		{
			cursor->done = true;
			return count;
		}
		if (room->visits_max > 0 && visits >= room->visits_max)
			break;
		if (filter_passes(filter, w.slot->word))
		{
			DcMapItem *item = &room->items[count];
			size_t length = slot_key_length(map, w.slot->key);

			if (count >= room->items_max || length > room->bytes_max - bytes)
				break;
			memcpy(room->bytes + bytes, slot_key(map, env, w.slot->key),
				   length);
			item->entry = entry_of(w.slot->word);
			item->key = (DcSlice){room->bytes + bytes, length};
			bytes += length;
			count++;
		}
		visits++;
		last = w.slot;
	}
	cursor->done = w.slot == NULL;
	if (last != NULL)
	{
		cursor->started = true;
		cursor->order = slot_order(map, env, last->key);
		memcpy(cursor->slot, last->key, sizeof(cursor->slot));
	}
	return count;
}

/* ---------------------------------------------------------------- check */

static bool
check_arena(const DcMap *map, const DcMapEnv *env)
{
	uint32_t reserved = 0;

	for (uint32_t units = 1; map->arena_pages > 0 && units <= CLASS_COUNT;
		 units++)
	{
		const ArenaClass *class = arena_class(map, env, units);
		uint32_t ref = class->first;
		uint32_t count = 0;

		for (; ref != REF_NONE && count <= class->free; count++)
			memcpy(&ref, record_at(env, ref), sizeof(ref));
		if (count != class->free || class->reserved > class->free)
			return false; /* not simulated: a broken list of free records */
		reserved += class->reserved;
	}
	return reserved <= map->reserved;
}

static bool
check_leaf_sums(const DcMap *map, const DcMapEnv *env)
{
	uint64_t kept[DC_MAP_LEAVES];
	uint64_t counted[DC_MAP_LEAVES];

	dc_map_leaf_sums(map, env, kept);
	sum_leaves(map, env, counted);
	return memcmp(kept, counted, sizeof(kept)) == 0;
}

bool
dc_map_check(const DcMap *map, const DcMapEnv *env)
{
	Walk w = {.map = map, .env = env};
	DcMapEnv apart = *env; /* entries are counted, not changed */
	DcMap counted = {.key_bytes = map->key_bytes};
	const DcSlot *previous = NULL;
	uint64_t previous_order = 0;
	uint32_t next = 0; /* where an entry without a gap before it stands */

	apart.cells = NULL;
	if (map->slots != map->slot_pages * DC_MAP_PAGE_SLOTS ||
		map->used + map->reserved > room_of(map->slots) ||
		(map->slots > 0 && (map->homes < 1 || map->homes > map->slots)))
		return false;
	for (walk_to(&w, 0); w.slot != NULL; walk_next(&w))
	{
		const uint8_t *bytes = w.slot->key;
		size_t length = slot_key_length(map, bytes);
		Probe p = {.key = slot_key(map, env, bytes), .length = length};
		uint32_t home;

		if (w.slot->word == 0)
			continue;
		if (!dc_map_takes(map, length))
			return false;
		p.order = order_of(dc_key_hash(env->hash_seed, p.key, length));
		home = home_of(map, p.order);
		if (p.order != slot_order(map, env, bytes) ||
			w.at != (home > next ? home : next))
			return false;
		if (previous != NULL &&
			(previous_order > p.order ||
			 (previous_order == p.order &&
			  memcmp(previous->key, bytes, sizeof(previous->key)) >= 0)))
			return false;
		previous = w.slot;
		previous_order = p.order;
		next = w.at + 1;
		counted.used++;
		account(&counted, &apart, &p, w.slot->word, false);
	}
	return counted.used == map->used && counted.dead_count == map->dead_count &&
		   counted.live_sum == map->live_sum && check_arena(map, env) &&
		   check_leaf_sums(map, env);
}
