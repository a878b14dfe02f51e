/*
 * meta.c
 *		The metadata of a simulated node: the real map, one partition of it.
 */
#include "sim.h"

#include <string.h>

#define KEY_BYTES 8

static uint32_t
take_page(void *ctx)
{
	Node *node = ctx;

	return dc_page_pool_take(&node->map_pool, (uint8_t *) node->map_region);
}

static void
give_page(void *ctx, uint32_t page)
{
	Node *node = ctx;

	dc_page_pool_give(&node->map_pool, (uint8_t *) node->map_region, page);
}

static void
key_bytes(uint32_t key, uint8_t bytes[KEY_BYTES])
{
	memset(bytes, 0, KEY_BYTES);
	bytes[0] = (uint8_t) key;
}

void
meta_init(Sim *sim, Node *node)
{
	DcMapEnv *env = &node->map_env;

	*env = (DcMapEnv){.pages = {.base = (uint8_t *) node->map_region,
								.take = take_page,
								.give = give_page,
								.ctx = node}};
	for (int i = 0; i < DC_SEED_BYTES; i++)
		env->hash_seed[i] = (uint8_t) rng_next(&sim->rng);
	meta_clear(node);
}

void
meta_clear(Node *node)
{
	dc_page_pool_init(&node->map_pool, sizeof(node->map_region));
	dc_map_init(&node->map, KEY_BYTES);
}

DcEntry
meta_get(const Node *node, uint32_t key)
{
	uint8_t bytes[KEY_BYTES];

	key_bytes(key, bytes);
	return dc_map_get(&node->map, &node->map_env, bytes, KEY_BYTES);
}

/* P5: a commit brings its room with it, or needs none. */
void
meta_reserve(Sim *sim, Node *node, uint32_t key)
{
	uint8_t bytes[KEY_BYTES];

	key_bytes(key, bytes);
	if (dc_map_reserve(&node->map, &node->map_env, bytes, KEY_BYTES) != DC_OK)
		sim_fail(sim, "node %u: the map has no room", node->id);
}

void
meta_unreserve(Node *node, uint32_t key)
{
	(void) key;
	dc_map_unreserve(&node->map, &node->map_env, KEY_BYTES);
}

bool
meta_remove(Node *node, uint32_t key)
{
	uint8_t bytes[KEY_BYTES];

	key_bytes(key, bytes);
	return dc_map_remove(&node->map, &node->map_env, bytes, KEY_BYTES);
}

/* Answers what stood there before. */
DcEntry
meta_merge(Sim *sim, Node *node, uint32_t key, DcEntry entry, bool reserved)
{
	DcEntry found = {0};
	uint8_t bytes[KEY_BYTES];
	uint64_t hash;

	key_bytes(key, bytes);
	hash = dc_key_hash(node->map_env.hash_seed, bytes, KEY_BYTES);
	if (reserved && node->map.reserved == 0)
	{
		sim_fail(sim, "P5: node %u: the room of key %u is gone", node->id, key);
		return found;
	}
	if (dc_map_merge(&node->map, &node->map_env, bytes, KEY_BYTES, hash, entry,
					 reserved, &found) != DC_OK)
		sim_fail(sim, "node %u: the map refused key %u", node->id, key);
	return found;
}

/* The next entry in the order of the map; false at its end. */
bool
meta_scan(const Node *node, DcMapCursor *cursor, const DcMapFilter *filter,
		  uint32_t *key, DcEntry *entry)
{
	DcMapItem item;
	uint8_t bytes[DC_KEY_BYTES_FIXED];
	DcMapRoom room = {.items = &item,
					  .items_max = 1,
					  .bytes = bytes,
					  .bytes_max = sizeof(bytes)};

	while (!cursor->done)
	{
		if (dc_map_scan(&node->map, &node->map_env, cursor, filter, &room) == 0)
			continue;
		*key = item.key.data[0];
		*entry = item.entry;
		return true;
	}
	return false;
}

uint64_t
meta_sum(const Node *node)
{
	return node->map.live_sum;
}
