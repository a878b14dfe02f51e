/*
 * metadata.c
 *		The entries of all keyspaces, in shared memory.
 */
#include "metadata.h"

#include <math.h>

#include "miscadmin.h"
#include "storage/shmem.h"

#include "clock.h"
#include "guc.h"
#include "seal.h"

typedef struct ReconcileKey
{
	uint64 id;
	uint16 length;
	uint8 data[DC_KEY_BYTES_MAX];
} ReconcileKey;

typedef struct Metadata
{
	slock_t pool_lock;
	DcPagePool pool;
	slock_t reconcile_lock;
	uint32 reconcile_first;
	uint32 reconcile_count;
	bool reconcile_overflow;
	ReconcileKey reconcile[DC_RECONCILE_KEYS];
	pg_atomic_uint32 slots; /* ever used; DC_LOCK_KEYSPACES to change it */
	DcKeyspace keyspaces[FLEXIBLE_ARRAY_MEMBER];
} Metadata;

/* Entries forgotten under one hold of a partition's lock. */
#define PURGE_ITEMS 64

/* Not an id: a keyspace that is being closed. */
#define CLOSING UINT64_MAX

static Metadata *metadata;
static DcMapEnv env;      /* to look at any map */
static DcMapEnv changing; /* to change entries: with the keyspace's cells */

static Size
header_bytes(void)
{
	return TYPEALIGN(DC_PAGE_BYTES,
					 offsetof(Metadata, keyspaces) +
						 sizeof(DcKeyspace) * datacake_max_keyspaces);
}

static Size
page_bytes(void)
{
	return (Size) datacake_metadata_memory_mb * 1024 * 1024;
}

/* Of one keyspace. */
static Size
cell_bytes(void)
{
	return sizeof(DcIbltCell) * datacake_repair_cells;
}

/* header | pages | cells of each keyspace, zero from when it is entered */
Size
dc_metadata_bytes(void)
{
	return add_size(header_bytes() + page_bytes(),
					mul_size(cell_bytes(), datacake_max_keyspaces));
}

/* Called under the lock of a partition; a few instructions each. */
static uint32
take_page(void *ctx)
{
	uint32 page;

	SpinLockAcquire(&metadata->pool_lock);
	page = dc_page_pool_take(&metadata->pool, env.pages.base);
	SpinLockRelease(&metadata->pool_lock);
	return page;
}

static void
give_page(void *ctx, uint32 page)
{
	SpinLockAcquire(&metadata->pool_lock);
	dc_page_pool_give(&metadata->pool, env.pages.base, page);
	SpinLockRelease(&metadata->pool_lock);
}

/*
 * What goes up and down outlives the use of a slot: who was counted in an
 * earlier one counts himself out, and may do so now.
 */
static void
init_slot(DcKeyspace *keyspace)
{
	pg_atomic_init_u32(&keyspace->side, 0);
	pg_atomic_init_u32(&keyspace->readers[0], 0);
	pg_atomic_init_u32(&keyspace->readers[1], 0);
	for (int i = 0; i < DC_PARTITIONS; i++)
	{
		pg_atomic_init_u32(&keyspace->dying[i], 0);
		pg_atomic_init_u32(&keyspace->births[i], 0);
	}
}

void
dc_metadata_attach(void)
{
	bool found;

	metadata =
		ShmemInitStruct("datacake metadata", dc_metadata_bytes(), &found);
	if (!found)
	{
		memset(metadata, 0, header_bytes());
		SpinLockInit(&metadata->pool_lock);
		SpinLockInit(&metadata->reconcile_lock);
		pg_atomic_init_u32(&metadata->slots, 0);
		dc_page_pool_init(&metadata->pool, page_bytes());
		for (int slot = 0; slot < datacake_max_keyspaces; slot++)
			init_slot(&metadata->keyspaces[slot]);
		if (dc_configured())
		{
			/* before anybody hashes a key: they follow from settings alone */
			dc_seal_derive("datacake place", dc_shared->hash_seed);
			dc_seal_derive("datacake fingerprint", dc_shared->sum_seed);
		}
	}
	memcpy(env.hash_seed, dc_shared->hash_seed, DC_SEED_BYTES);
	memcpy(env.sum_seed, dc_shared->sum_seed, DC_SEED_BYTES);
	env.pages.base = (uint8 *) metadata + header_bytes();
	env.pages.take = take_page;
	env.pages.give = give_page;
	changing = env;
	changing.cell_count = (uint32) datacake_repair_cells;
}

DcIbltCell *
dc_metadata_cells(int slot)
{
	DcIbltCell *cells = (DcIbltCell *) (env.pages.base + page_bytes());

	return datacake_repair_cells == 0 ? NULL :
										cells + slot * datacake_repair_cells;
}

static const DcMapEnv *
map_env(void)
{
	return &env;
}

static const DcMapEnv *
change_env(int slot)
{
	changing.cells = dc_metadata_cells(slot);
	return &changing;
}

DcKeyspace *
dc_keyspace(int slot)
{
	return &metadata->keyspaces[slot];
}

int
dc_keyspace_slots(void)
{
	return (int) pg_atomic_read_u32(&metadata->slots);
}

static bool
has_id(const DcKeyspace *keyspace, uint64 id)
{
	bool found = keyspace->id == id;

	for (int i = 0; i < DC_ALIASES && !found; i++)
		found = keyspace->aliases[i] == id;
	return found && keyspace->id != 0;
}

/* DC_LOCK_KEYSPACES held. */
static int
find_id(uint64 id)
{
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		if (has_id(dc_keyspace(slot), id))
			return slot;
	}
	return -1;
}

int
dc_keyspace_find(uint64 id, uint32 *generation)
{
	int slot;

	if (id == 0)
		return -1;
	LWLockAcquire(DC_LOCK(DC_LOCK_KEYSPACES), LW_SHARED);
	slot = find_id(id);
	*generation = slot >= 0 ? dc_keyspace(slot)->generation : 0;
	LWLockRelease(DC_LOCK(DC_LOCK_KEYSPACES));
	return slot;
}

int
dc_keyspace_by_id(uint64 id)
{
	uint32 generation;

	return dc_keyspace_find(id, &generation);
}

void
dc_keyspace_refuse(uint64 id)
{
	ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '3')),
					errmsg("keyspace %llu is not known here",
						   (unsigned long long) id)));
}

void
dc_keyspace_require(int slot, uint32 generation, uint64 id)
{
	if (slot < 0 || dc_keyspace(slot)->generation != generation)
		dc_keyspace_refuse(id);
}

static void
init_keyspace(DcKeyspace *keyspace, uint64 id, Oid relid, uint32 key_bytes)
{
	/* P1: nothing is known of earlier deaths, so all may be as late as now */
	uint64 now = pg_atomic_read_u64(&dc_shared->clock_last);

	memset(keyspace->aliases, 0, sizeof(keyspace->aliases));
	keyspace->generation++;
	keyspace->relid = relid;
	keyspace->key_bytes = key_bytes;
	pg_atomic_init_u64(&keyspace->floor, 0);
	pg_atomic_init_u64(&keyspace->purged, 0);
	pg_atomic_init_u64(&keyspace->swept, 0);
	pg_atomic_init_u64(&keyspace->captured, 0);
	pg_atomic_init_u64(&keyspace->applied, 0);
	pg_atomic_init_u64(&keyspace->conflicts, 0);
	pg_atomic_init_u64(&keyspace->last_death, now);
	for (int i = 0; i < DC_PARTITIONS; i++)
	{
		pg_atomic_init_u64(&keyspace->deaths[i], now);
		keyspace->pins[i] = 0;
		dc_map_init(&keyspace->maps[i], key_bytes);
	}
	keyspace->id = id;
}

int
dc_keyspace_enter(uint64 id, Oid relid, uint32 key_bytes)
{
	int slot;
	bool full = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_KEYSPACES), LW_EXCLUSIVE);
	slot = find_id(id);
	if (slot >= 0)
	{
		if (OidIsValid(relid))
			dc_keyspace(slot)->relid = relid;
	}
	else
	{
		for (slot = 0; slot < datacake_max_keyspaces; slot++)
		{
			if (dc_keyspace(slot)->id == 0)
				break;
		}
		full = slot == datacake_max_keyspaces;
		if (!full)
		{
			if (datacake_repair_cells > 0)
				memset(dc_metadata_cells(slot), 0, cell_bytes());
			init_keyspace(dc_keyspace(slot), id, relid, key_bytes);
			if (slot >= dc_keyspace_slots())
				pg_atomic_write_u32(&metadata->slots, (uint32) slot + 1);
		}
	}
	LWLockRelease(DC_LOCK(DC_LOCK_KEYSPACES));
	if (full)
		ereport(ERROR,
				(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
				 errmsg("too many keyspaces"),
				 errhint("Raise \"datacake.max_keyspaces\" (now %d) on every "
						 "node and restart.",
						 datacake_max_keyspaces)));
	return slot;
}

void
dc_keyspace_alias(int slot, uint64 id)
{
	DcKeyspace *keyspace = dc_keyspace(slot);

	LWLockAcquire(DC_LOCK(DC_LOCK_KEYSPACES), LW_EXCLUSIVE);
	if (!has_id(keyspace, id))
	{
		for (int i = 0; i < DC_ALIASES; i++)
		{
			if (keyspace->aliases[i] != 0)
				continue;
			keyspace->aliases[i] = Max(id, keyspace->id);
			keyspace->id = Min(id, keyspace->id);
			break;
		}
	}
	LWLockRelease(DC_LOCK(DC_LOCK_KEYSPACES));
}

static LWLock *
partition_lock(int slot, int partition)
{
	return DC_LOCK(DC_LOCK_COUNT +
				   (slot * DC_PARTITIONS + partition) % DC_PARTITION_LOCKS);
}

static int
partition_of(uint64 hash)
{
	return (int) (hash >> (64 - DC_PARTITION_BITS));
}

void
dc_keyspace_close(int slot)
{
	DcKeyspace *keyspace = dc_keyspace(slot);

	LWLockAcquire(DC_LOCK(DC_LOCK_KEYSPACES), LW_EXCLUSIVE);
	keyspace->id = CLOSING; /* nobody finds it, nobody takes it */
	keyspace->generation++;
	keyspace->relid = InvalidOid;
	LWLockRelease(DC_LOCK(DC_LOCK_KEYSPACES));
	for (int i = 0; i < DC_PARTITIONS; i++)
	{
		LWLockAcquire(partition_lock(slot, i), LW_EXCLUSIVE);
		dc_map_release(&keyspace->maps[i], map_env());
		LWLockRelease(partition_lock(slot, i));
	}
	LWLockAcquire(DC_LOCK(DC_LOCK_KEYSPACES), LW_EXCLUSIVE);
	keyspace->id = 0;
	LWLockRelease(DC_LOCK(DC_LOCK_KEYSPACES));
}

void
dc_keyspace_detach(int slot)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_KEYSPACES), LW_EXCLUSIVE);
	dc_keyspace(slot)->relid = InvalidOid;
	LWLockRelease(DC_LOCK(DC_LOCK_KEYSPACES));
}

void
dc_metadata_reset(void)
{
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		if (dc_keyspace(slot)->id != 0)
			dc_keyspace_close(slot);
	}
}

DcKey
dc_key_make(const uint8 *data, Size length)
{
	return (DcKey){.data = data,
				   .length = length,
				   .hash = dc_key_hash(map_env()->hash_seed, data, length)};
}

void
dc_death_announce(int slot, uint64 hash, DcHlc stamp)
{
	DcKeyspace *keyspace = dc_keyspace(slot);
	int partition = partition_of(hash);

	pg_atomic_fetch_add_u32(&keyspace->dying[partition], 1);
	dc_raise(&keyspace->last_death, stamp);
	dc_raise(&keyspace->deaths[partition], stamp);
	pg_memory_barrier(); /* before the row dies, or is looked for */
}

void
dc_death_settle(int slot, uint64 hash)
{
	pg_atomic_fetch_sub_u32(&dc_keyspace(slot)->dying[partition_of(hash)], 1);
}

DcHlc
dc_death_mark(int slot, uint64 hash)
{
	return pg_atomic_read_u64(&dc_keyspace(slot)->deaths[partition_of(hash)]);
}

void
dc_birth_announce(int slot, uint64 hash)
{
	pg_atomic_fetch_add_u32(&dc_keyspace(slot)->births[partition_of(hash)], 1);
}

uint32
dc_birth_count(int slot, uint64 hash)
{
	pg_memory_barrier();
	return pg_atomic_read_u32(&dc_keyspace(slot)->births[partition_of(hash)]);
}

bool
dc_death_after_any(int slot, DcHlc stamp)
{
	return dc_floor(slot) >= stamp ||
		   pg_atomic_read_u64(&dc_keyspace(slot)->last_death) >= stamp;
}

DcHlc
dc_death_after(int slot, DcKey key, DcHlc stamp)
{
	DcKeyspace *keyspace = dc_keyspace(slot);
	int partition = partition_of(key.hash);
	DcHlc death = pg_atomic_read_u64(&keyspace->deaths[partition]);
	DcHlc floor = dc_floor(slot);
	DcEntry entry;

	if (unlikely(floor >= stamp))
		return floor;
	if (likely(death < stamp))
		return DC_HLC_NONE;
	pg_read_barrier(); /* settled deaths are in the entry read below */
	if (pg_atomic_read_u32(&keyspace->dying[partition]) > 0 ||
		dc_phase() != DC_PHASE_READY)
		return death;
	entry = dc_metadata_get(slot, key);
	if (entry.stamp < stamp || (!entry.dead && entry.stamp != DC_HLC_NONE))
		return DC_HLC_NONE;
	return entry.stamp;
}

DcEntry
dc_metadata_get(int slot, DcKey key)
{
	int partition = partition_of(key.hash);
	LWLock *lock = partition_lock(slot, partition);
	DcEntry entry;

	LWLockAcquire(lock, LW_SHARED);
	entry = dc_map_get(&dc_keyspace(slot)->maps[partition], map_env(), key.data,
					   key.length);
	LWLockRelease(lock);
	return dc_rule_above_floor(entry, dc_floor(slot));
}

void
dc_metadata_prefetch(int slot, uint64 hash)
{
	int partition = partition_of(hash);
	LWLock *lock = partition_lock(slot, partition);

	if (!LWLockConditionalAcquire(lock, LW_SHARED))
		return;
	dc_map_prefetch(&dc_keyspace(slot)->maps[partition], map_env(), hash);
	LWLockRelease(lock);
}

DcHlc
dc_metadata_death(int slot, DcKey key)
{
	const DcMap *map = &dc_keyspace(slot)->maps[partition_of(key.hash)];
	DcEntry entry;

	/* asked for each row inserted; a death that is just being merged is none
	 * that the writer knew */
	if (map->dead_count == 0)
		return dc_floor(slot);
	entry = dc_metadata_get(slot, key);
	return entry.dead ? entry.stamp : DC_HLC_NONE;
}

static void
report_full(DcStatus status)
{
	if (status == DC_FULL)
		ereport(ERROR,
				(errcode(MAKE_SQLSTATE('Y', 'D', '0', '0', '1')),
				 errmsg("metadata memory is full"),
				 errdetail("Each row of a replicated table needs about 30 "
						   "bytes of \"datacake.metadata_memory\" (%d MB).",
						   datacake_metadata_memory_mb),
				 errhint("Raise \"datacake.metadata_memory\" and restart; "
						 "deleting rows still works.")));
	ereport(ERROR,
			(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
			 errmsg("key of a replicated table is too long"),
			 errhint("The key columns of one row may take up to %d bytes.",
					 DC_KEY_BYTES_MAX)));
}

/* Whose change waits for a table may see its keyspace end. */
static void
report_ended(void)
{
	ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '3')),
					errmsg("a keyspace ended while a change was made to it")));
}

/* Of scarce memory nobody takes more than his entries need at the moment. */
static bool
is_plenty(uint64 inserts)
{
	uint64 pages = inserts / (DC_MAP_PAGE_SLOTS * 9 / 10) + DC_PARTITIONS;
	uint64 available;

	SpinLockAcquire(&metadata->pool_lock);
	available = metadata->pool.free_count;
	SpinLockRelease(&metadata->pool_lock);
	return pages <= available / 2;
}

/* Two standard deviations above the mean: most partitions have enough. */
static uint32
share_of_partition(uint64 inserts)
{
	uint64 mean = inserts / DC_PARTITIONS;

	return (uint32) Min(mean + (uint64) (2 * sqrt((double) mean)), UINT32_MAX);
}

void
dc_metadata_expect(int slot, uint32 generation, uint64 inserts)
{
	uint32 share;

	if (inserts < DC_MANY_INSERTS || !is_plenty(inserts))
		return;
	share = share_of_partition(inserts);
	for (int partition = 0; partition < DC_PARTITIONS; partition++)
	{
		LWLock *lock = partition_lock(slot, partition);

		LWLockAcquire(lock, LW_EXCLUSIVE);
		if (dc_keyspace(slot)->generation == generation)
			dc_map_expect(&dc_keyspace(slot)->maps[partition], map_env(),
						  share);
		LWLockRelease(lock);
	}
}

bool
dc_metadata_reserve(int slot, uint32 generation, DcKey key, bool known_absent)
{
	int partition = partition_of(key.hash);
	LWLock *lock = partition_lock(slot, partition);
	DcMap *map = &dc_keyspace(slot)->maps[partition];
	DcStatus status = DC_OK;
	bool present = false;
	bool ended;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	ended = dc_keyspace(slot)->generation != generation;
	if (!known_absent && !ended)
		present = dc_map_get(map, map_env(), key.data, key.length).stamp !=
				  DC_HLC_NONE;
	if (present)
		dc_keyspace(slot)->pins[partition]++;
	else if (!ended)
		status = dc_map_reserve(map, map_env(), key.data, key.length);
	LWLockRelease(lock);

	if (ended)
		report_ended();
	if (status == DC_FULL && known_absent) /* maybe a dead entry */
		return dc_metadata_reserve(slot, generation, key, false);
	if (status != DC_OK)
		report_full(status);
	return !present;
}

void
dc_metadata_unreserve(int slot, uint32 generation, DcKey key, bool reserved)
{
	int partition = partition_of(key.hash);
	LWLock *lock = partition_lock(slot, partition);

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (dc_keyspace(slot)->generation != generation)
		; /* went with the map */
	else if (reserved)
		dc_map_unreserve(&dc_keyspace(slot)->maps[partition], map_env(),
						 key.length);
	else
		dc_keyspace(slot)->pins[partition]--;
	LWLockRelease(lock);
}

/*
 * The floor is read under the lock: a merge that misses it is over before the
 * purge of that floor takes the lock, and its entry is purged.
 */
static DcStatus
merge(int slot, uint32 generation, DcKey key, DcEntry entry, bool reserved,
	  bool pinned, DcEntry *found)
{
	int partition = partition_of(key.hash);
	LWLock *lock = partition_lock(slot, partition);
	DcMap *map = &dc_keyspace(slot)->maps[partition];
	DcStatus status = DC_OK;
	DcHlc floor;

	*found = (DcEntry){DC_HLC_NONE, false};
	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (unlikely(dc_keyspace(slot)->generation != generation))
	{
		LWLockRelease(lock); /* closed: what was reserved went with the map */
		return DC_OK;
	}
	floor = dc_floor(slot);
	if (entry.stamp > floor)
		status = dc_map_merge(map, change_env(slot), key.data, key.length,
							  key.hash, entry, reserved, found);
	else
	{
		*found = dc_map_get(map, map_env(), key.data, key.length);
		if (reserved)
			dc_map_unreserve(map, map_env(), key.length);
	}
	if (pinned)
		dc_keyspace(slot)->pins[partition]--;
	LWLockRelease(lock);
	*found = dc_rule_above_floor(*found, floor);
	return status;
}

DcEntry
dc_metadata_merge(int slot, uint32 generation, DcKey key, DcEntry entry,
				  bool reserved)
{
	DcEntry found;

	(void) merge(slot, generation, key, entry, reserved, !reserved, &found);
	return found;
}

DcStatus
dc_metadata_try_merge(int slot, uint32 generation, DcKey key, DcEntry entry,
					  DcEntry *found)
{
	return merge(slot, generation, key, entry, false, false, found);
}

/* --- floors --- */

DcHlc
dc_floor(int slot)
{
	return pg_atomic_read_u64(&dc_keyspace(slot)->floor);
}

void
dc_floor_raise(int slot, uint32 generation, DcHlc stamp, bool swept)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_KEYSPACES), LW_SHARED);
	if (dc_keyspace(slot)->generation == generation)
	{
		dc_raise(&dc_keyspace(slot)->floor, stamp);
		if (swept)
			dc_raise(&dc_keyspace(slot)->swept, stamp);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_KEYSPACES));
	pg_memory_barrier();
}

void
dc_floor_announce(int slot, DcHlc stamp)
{
	DcKeyspace *keyspace = dc_keyspace(slot);

	dc_raise(&keyspace->last_death, stamp);
	for (int i = 0; i < DC_PARTITIONS; i++)
	{
		pg_atomic_fetch_add_u32(&keyspace->dying[i], 1);
		dc_raise(&keyspace->deaths[i], stamp);
	}
	pg_memory_barrier();
}

void
dc_floor_settle(int slot)
{
	for (int i = 0; i < DC_PARTITIONS; i++)
		pg_atomic_fetch_sub_u32(&dc_keyspace(slot)->dying[i], 1);
}

/* The next few entries that the filter gives leave the map; how many. */
static int
remove_some(int slot, DcMetadataCursor *cursor, const DcMapFilter *filter)
{
	DcMap *map = &dc_keyspace(slot)->maps[cursor->partition];
	DcMapItem items[PURGE_ITEMS];
	uint8 keys[PURGE_ITEMS * 32 + DC_KEY_BYTES_MAX];
	DcMapRoom room = {.items = items,
					  .items_max = PURGE_ITEMS,
					  .bytes = keys,
					  .bytes_max = sizeof(keys),
					  .visits_max = 10000};
	size_t n = dc_map_scan(map, map_env(), &cursor->cursor, filter, &room);

	for (size_t i = 0; i < n; i++)
		(void) dc_map_remove(map, change_env(slot), items[i].key.data,
							 items[i].key.length);
	return (int) n;
}

bool
dc_metadata_purge_floor(int slot, DcMetadataCursor *cursor, bool *complete)
{
	DcKeyspace *keyspace = dc_keyspace(slot);
	LWLock *lock = partition_lock(slot, cursor->partition);
	DcMapFilter filter = {.until = dc_floor(slot)};

	LWLockAcquire(lock, LW_EXCLUSIVE);
	if (filter.until == DC_HLC_NONE)
		cursor->cursor.done = true; /* until 0 would be all */
	else if (keyspace->pins[cursor->partition] > 0)
	{
		cursor->cursor.done = true;
		*complete = false;
	}
	else
		(void) remove_some(slot, cursor, &filter);
	LWLockRelease(lock);
	if (!cursor->cursor.done)
		return true;
	memset(&cursor->cursor, 0, sizeof(cursor->cursor));
	return ++cursor->partition < DC_PARTITIONS;
}

void
dc_metadata_scan_begin(DcMetadataCursor *cursor)
{
	memset(cursor, 0, sizeof(*cursor));
}

static int
scan(int slot, DcMetadataCursor *cursor, const DcMapFilter *filter,
	 DcMapItem *items, int max, uint8 *arena, Size arena_bytes)
{
	DcMapRoom room = {.items = items,
					  .items_max = (size_t) max,
					  .bytes = arena,
					  .bytes_max = arena_bytes,
					  .visits_max = 10000};

	while (cursor->partition < DC_PARTITIONS)
	{
		LWLock *lock = partition_lock(slot, cursor->partition);
		size_t n;

		LWLockAcquire(lock, LW_SHARED);
		n = dc_map_scan(&dc_keyspace(slot)->maps[cursor->partition], map_env(),
						&cursor->cursor, filter, &room);
		LWLockRelease(lock);
		if (cursor->cursor.done)
		{
			cursor->partition++;
			memset(&cursor->cursor, 0, sizeof(cursor->cursor));
		}
		if (n > 0)
			return (int) n;
	}
	return 0;
}

int
dc_metadata_scan(int slot, DcMetadataCursor *cursor, const DcVv *above,
				 DcVv *left, DcMapItem *items, int max, uint8 *arena,
				 Size arena_bytes)
{
	DcMapFilter filter = {.above = above,
						  .after = dc_floor(slot),
						  .left = left};

	return scan(slot, cursor, &filter, items, max, arena, arena_bytes);
}

int
dc_metadata_scan_changed(int slot, DcMetadataCursor *cursor, const DcVv *above,
						 DcMapItem *items, int max, uint8 *arena,
						 Size arena_bytes)
{
	DcMapFilter filter = {.above = above,
						  .after = dc_floor(slot),
						  .all_dead = true};

	return scan(slot, cursor, &filter, items, max, arena, arena_bytes);
}

int
dc_metadata_enter(int slot)
{
	DcKeyspace *keyspace = dc_keyspace(slot);

	for (;;)
	{
		uint32 side = pg_atomic_read_u32(&keyspace->side);

		pg_atomic_fetch_add_u32(&keyspace->readers[side], 1);
		/* full barriers: who turns sees us, or we see that it was turned */
		if (pg_atomic_fetch_add_u32(&keyspace->side, 0) == side)
			return (int) side;
		dc_metadata_leave(slot, (int) side);
	}
}

void
dc_metadata_leave(int slot, int side)
{
	pg_atomic_fetch_sub_u32(&dc_keyspace(slot)->readers[side], 1);
}

void
dc_metadata_turn(int slot)
{
	DcKeyspace *keyspace = dc_keyspace(slot);

	pg_atomic_write_u32(&keyspace->side,
						1 - pg_atomic_read_u32(&keyspace->side));
	pg_memory_barrier();
}

uint32
dc_metadata_readers_before(int slot)
{
	DcKeyspace *keyspace = dc_keyspace(slot);

	pg_memory_barrier();
	return pg_atomic_read_u32(
		&keyspace->readers[1 - pg_atomic_read_u32(&keyspace->side)]);
}

/* Under the partition's lock. */
static DcPurge
purge_partition(int slot, DcMetadataCursor *cursor, DcHlc horizon, int *purged)
{
	DcMap *map = &dc_keyspace(slot)->maps[cursor->partition];
	DcMapFilter filter = {.until = horizon, .skip_live = true};

	if (map->dead_count == 0)
		return DC_PURGE_DONE;
	if (dc_keyspace(slot)->pins[cursor->partition] > 0)
		return DC_PURGE_PINNED;
	*purged = remove_some(slot, cursor, &filter);
	return cursor->cursor.done ? DC_PURGE_DONE : DC_PURGE_MORE;
}

DcPurge
dc_metadata_purge(int slot, DcMetadataCursor *cursor, DcHlc horizon)
{
	LWLock *lock = partition_lock(slot, cursor->partition);
	int purged = 0;
	DcPurge result;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	result = purge_partition(slot, cursor, horizon, &purged);
	LWLockRelease(lock);
	dc_count(DC_COUNT_PURGED, (uint64) purged);
	if (result != DC_PURGE_DONE)
		return result;
	memset(&cursor->cursor, 0, sizeof(cursor->cursor));
	return ++cursor->partition < DC_PARTITIONS ? DC_PURGE_MORE : DC_PURGE_DONE;
}

bool
dc_metadata_forget(int slot, DcKey key, DcHlc stamp)
{
	int partition = partition_of(key.hash);
	LWLock *lock = partition_lock(slot, partition);
	DcMap *map = &dc_keyspace(slot)->maps[partition];
	bool free;

	LWLockAcquire(lock, LW_EXCLUSIVE);
	free = dc_keyspace(slot)->pins[partition] == 0;
	if (free && dc_map_get(map, map_env(), key.data, key.length).stamp == stamp)
		(void) dc_map_remove(map, change_env(slot), key.data, key.length);
	LWLockRelease(lock);
	return free;
}

void
dc_metadata_count(int slot, DcMetadataCounts *counts)
{
	memset(counts, 0, sizeof(*counts));
	for (int i = 0; i < DC_PARTITIONS; i++)
	{
		const DcMap *map = &dc_keyspace(slot)->maps[i];

		LWLockAcquire(partition_lock(slot, i), LW_SHARED);
		counts->live += map->used - map->dead_count;
		counts->dead += map->dead_count;
		counts->bytes += (uint64) dc_map_pages(map) * DC_PAGE_BYTES;
		counts->sum += map->live_sum;
		LWLockRelease(partition_lock(slot, i));
	}
}

static const DcMap *
open_partition(void *ctx, uint32 partition)
{
	int slot = (int) (intptr_t) ctx;

	LWLockAcquire(partition_lock(slot, (int) partition), LW_SHARED);
	return &dc_keyspace(slot)->maps[partition];
}

static void
close_partition(void *ctx, uint32 partition)
{
	LWLockRelease(partition_lock((int) (intptr_t) ctx, (int) partition));
}

DcMapsView
dc_metadata_view(int slot)
{
	return (DcMapsView){.open = open_partition,
						.close = close_partition,
						.ctx = (void *) (intptr_t) slot,
						.env = map_env()};
}

void
dc_reconcile_push(int slot, DcKey key)
{
	SpinLockAcquire(&metadata->reconcile_lock);
	if (metadata->reconcile_count == DC_RECONCILE_KEYS)
		metadata->reconcile_overflow = true;
	else
	{
		uint32 at = (metadata->reconcile_first + metadata->reconcile_count++) %
					DC_RECONCILE_KEYS;
		ReconcileKey *next = &metadata->reconcile[at];

		next->id = dc_keyspace(slot)->id;
		next->length = (uint16) key.length;
		memcpy(next->data, key.data, key.length);
	}
	SpinLockRelease(&metadata->reconcile_lock);
	if (dc_shared->workers[DC_WORKER_MAINTAINER].pid != MyProcPid)
		dc_worker_wake(DC_WORKER_MAINTAINER); /* it looks again in its turn */
}

bool
dc_reconcile_empty(void)
{
	bool empty;

	SpinLockAcquire(&metadata->reconcile_lock);
	empty = metadata->reconcile_count == 0 && !metadata->reconcile_overflow;
	SpinLockRelease(&metadata->reconcile_lock);
	return empty;
}

bool
dc_reconcile_pop(uint64 *id, uint8 *data, Size *length, bool *overflow)
{
	bool any;

	SpinLockAcquire(&metadata->reconcile_lock);
	*overflow = metadata->reconcile_overflow;
	metadata->reconcile_overflow = false;
	any = metadata->reconcile_count > 0;
	if (any)
	{
		ReconcileKey *oldest = &metadata->reconcile[metadata->reconcile_first];

		*id = oldest->id;
		*length = oldest->length;
		memcpy(data, oldest->data, oldest->length);
		metadata->reconcile_first =
			(metadata->reconcile_first + 1) % DC_RECONCILE_KEYS;
		metadata->reconcile_count--;
	}
	SpinLockRelease(&metadata->reconcile_lock);
	return any;
}
