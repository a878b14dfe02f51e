/*
 * repair_common.h
 *		What asking and answering have in common; for repair*.c alone, and its tests.
 */
#ifndef DC_REPAIR_COMMON_H
#define DC_REPAIR_COMMON_H

#include "message.h"
#include "repair.h"

#define DC_REPAIR_QUESTION 'Q'
#define DC_REPAIR_ANSWER   'R'

/* Keys that one set of cells is made for, as long as that is right. */
#define DC_REPAIR_CHUNK_KEYS 4096u

_Static_assert(64 - DC_MAP_ID_LEAF_SHIFT == DC_LEAF_BITS_MAX,
			   "an id begins with its narrowest leaf");

/* Bytes of a listed entry, about: key, its length, stamp. */
#define DC_REPAIR_LISTED_BYTES 17u

static inline void
dc_repair_read_begin(DcReader *r, uint8_t letter)
{
	uint8_t kind;

	dc_read_version(r);
	kind = dc_read_u8(r);
	if (r->status == DC_OK && kind != letter)
		dc_reader_fail(r, DC_MALFORMED);
}

static inline DcHlc
dc_repair_read_watermark(DcReader *r)
{
	DcHlc stamp = dc_read_u64(r);

	if (stamp > DC_HLC_MAX)
		dc_reader_fail(r, DC_MALFORMED);
	return stamp;
}

/* Cells that are likely to be enough for so many keys, each maybe two ids. */
static inline uint32_t
dc_repair_cells_for(uint64_t keys)
{
	uint64_t few = 3 * keys + 24;
	uint64_t many = keys + keys / 2 + 120;
	uint64_t cells = few < many ? few : many;

	return cells < DC_IBLT_CELLS_MAX ? (uint32_t) cells : DC_IBLT_CELLS_MAX;
}

/* Entries that so many leaves hold, about. */
static inline uint64_t
dc_repair_entries_in(uint64_t live, uint32_t leaves, uint32_t bits)
{
	return (live >> 8) * leaves >> (bits - 8);
}

/* Is a list of the entries shorter than cells? */
static inline bool
dc_repair_better_listed(uint64_t cells, uint64_t entries)
{
	return cells * DC_IBLT_CELL_BYTES >= (entries + 1) * DC_REPAIR_LISTED_BYTES;
}

/* How many leaves make a chunk, with so many 16ths of keys in each. */
static inline uint32_t
dc_repair_chunk_leaves(uint32_t density)
{
	uint32_t leaves = DC_REPAIR_CHUNK_KEYS * 16 / (density + 1);

	return leaves > 0 ? leaves : 1;
}

static inline uint32_t
dc_repair_density_of(uint32_t keys, uint32_t leaves)
{
	uint64_t density = (uint64_t) keys * 16 / (leaves + !leaves);

	return density < 1u << 20 ? (uint32_t) density : 1u << 20;
}

static inline uint64_t
dc_repair_hash_of(const DcMapsView *maps, DcSlice key)
{
	return dc_key_hash(maps->env->hash_seed, key.data, key.length);
}

static inline uint64_t
dc_repair_id(const DcMapsView *maps, DcSlice key, DcHlc stamp)
{
	return dc_map_id(maps->env, key.data, key.length,
					 dc_repair_hash_of(maps, key), stamp);
}

/* Adds the leaf that this id's entry is in; the leaves have 16 bits. */
static inline void
dc_repair_add_leaf(DcLeafSet *leaves, uint64_t id)
{
	dc_leaf_set_add(leaves, (uint32_t) (id >> DC_MAP_ID_LEAF_SHIFT));
}

static inline DcEntry
dc_repair_look_up(const DcMapsView *maps, DcSlice key)
{
	uint32_t partition = (uint32_t) (dc_repair_hash_of(maps, key) >>
									 (64 - DC_MAP_PARTITION_BITS));
	const DcMap *map = maps->open(maps->ctx, partition);
	DcEntry entry = dc_map_get(map, maps->env, key.data, key.length);

	maps->close(maps->ctx, partition);
	return entry;
}

/* Puts the ids of all live entries of the scope into cells. */
static inline void
dc_repair_fill_cells(const DcMapsView *maps, const DcLeafSet *scope,
					 DcHlc floor, DcScopeRoom *room, DcIbltCell *cells,
					 uint32_t count)
{
	DcScopeScan scan = {.from = 0};

	memset(cells, 0, count * sizeof(cells[0]));
	while (dc_scope_next(&scan, maps, scope, floor, room))
	{
		for (size_t i = 0; i < room->count; i++)
		{
			const DcMapItem *item = &room->items[i];

			dc_iblt_toggle(cells, count, maps->env->sum_seed,
						   dc_repair_id(maps, item->key, item->entry.stamp));
		}
	}
}

/* An entry: the stamp, shifted, and whether it is dead; 0: unknown. */
static inline void
dc_repair_write_entry(DcWriter *w, DcEntry entry)
{
	dc_write_u64(w, entry.stamp << 1 | entry.dead);
}

static inline DcEntry
dc_repair_read_entry(DcReader *r)
{
	uint64_t word = dc_read_u64(r);

	if (word == 1)
		dc_reader_fail(r, DC_MALFORMED);
	return (DcEntry){.stamp = word >> 1, .dead = (word & 1) != 0};
}

static inline DcSlice
dc_repair_read_key(DcReader *r)
{
	DcSlice key = dc_read_string(r, DC_KEY_BYTES_MAX);

	if (key.length == 0)
		dc_reader_fail(r, DC_MALFORMED);
	return key;
}

static inline DcHlc
dc_repair_greater(DcHlc a, DcHlc b)
{
	return a > b ? a : b;
}

#endif
