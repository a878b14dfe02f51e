/*
 * meta.c
 *		The metadata of a simulated node: the real map, one partition of it.
 *
 * In some runs keys are of several lengths, up to the longest there are, and
 * the map grows and shrinks with ballast: dead entries of keys that nobody
 * uses, until the memory is full.
 */
#include "sim.h"

#include <string.h>

#define KEY_BYTES    8
#define BALLAST      0xff /* first byte of its keys */
#define BALLAST_STEP 120

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

/* Fills the bytes of a key and answers how many they are. */
static size_t
key_bytes(const Node *node, uint32_t key, uint8_t bytes[DC_KEY_BYTES_MAX])
{
	size_t length = KEY_BYTES;

	if (node->key_shape == KEYS_SHORT)
		length = 3 + key % KEYS_MAX;
	else if (node->key_shape == KEYS_LONG)
		length =
			key % KEYS_MAX == 7 ? DC_KEY_BYTES_MAX : 12 + key % KEYS_MAX * 9;
	memset(bytes, 0, length);
	bytes[0] = key < KEYS_MAX ? (uint8_t) key : BALLAST;
	bytes[1] = (uint8_t) (key >> 8);
	bytes[2] = (uint8_t) key;
	return length;
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
	node->key_shape = sim->config.key_shape;
	meta_clear(sim, node);
}

/* All pages come back, or one was lost. */
void
meta_clear(Sim *sim, Node *node)
{
	uint32_t pages = sim->config.ballast > 0 ? MAP_PAGES : 2 + KEYS_MAX;

	if (node->map_pool.total > 0)
	{
		dc_map_release(&node->map, &node->map_env);
		if (node->map_pool.free_count != node->map_pool.total)
			sim_fail(sim, "node %u: the map loses pages", node->id);
	}
	dc_page_pool_init(&node->map_pool, pages * DC_PAGE_BYTES);
	dc_map_init(&node->map, node->key_shape == KEYS_FIXED ? KEY_BYTES : 0);
	node->ballast = 0;
}

DcEntry
meta_get(const Node *node, uint32_t key)
{
	uint8_t bytes[DC_KEY_BYTES_MAX];
	size_t length = key_bytes(node, key, bytes);

	return dc_map_get(&node->map, &node->map_env, bytes, length);
}

/* P5: a commit brings its room with it, or needs none; false: there is none. */
bool
meta_reserve(Sim *sim, Node *node, uint32_t key)
{
	uint8_t bytes[DC_KEY_BYTES_MAX];
	size_t length = key_bytes(node, key, bytes);

	if (dc_map_reserve(&node->map, &node->map_env, bytes, length) == DC_OK)
		return true;
	if (sim->config.ballast == 0)
		sim_fail(sim, "node %u: the map has no room", node->id);
	sim->stats.full++;
	return false;
}

void
meta_unreserve(Node *node, uint32_t key)
{
	uint8_t bytes[DC_KEY_BYTES_MAX];
	size_t length = key_bytes(node, key, bytes);

	dc_map_unreserve(&node->map, &node->map_env, length);
}

bool
meta_remove(Node *node, uint32_t key)
{
	uint8_t bytes[DC_KEY_BYTES_MAX];
	size_t length = key_bytes(node, key, bytes);

	return dc_map_remove(&node->map, &node->map_env, bytes, length);
}

/* Answers what stood there before. */
DcEntry
meta_merge(Sim *sim, Node *node, uint32_t key, DcEntry entry, bool reserved)
{
	DcEntry found = {0};
	uint8_t bytes[DC_KEY_BYTES_MAX];
	size_t length = key_bytes(node, key, bytes);
	uint64_t hash = dc_key_hash(node->map_env.hash_seed, bytes, length);

	if (reserved && node->map.reserved == 0)
	{
		sim_fail(sim, "P5: node %u: the room of key %u is gone", node->id, key);
		return found;
	}
	dc_map_prefetch(&node->map, &node->map_env, hash);
	if (dc_map_merge(&node->map, &node->map_env, bytes, length, hash, entry,
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
	uint8_t bytes[DC_KEY_BYTES_MAX];
	DcMapRoom room = {.items = &item,
					  .items_max = 1,
					  .bytes = bytes,
					  .bytes_max = sizeof(bytes),
					  .visits_max = node->ballast > 0 ? 7 : 0};

	while (!cursor->done)
	{
		if (dc_map_scan(&node->map, &node->map_env, cursor, filter, &room) ==
				0 ||
			item.key.data[0] == BALLAST)
			continue;
		*key = item.key.data[0];
		*entry = item.entry;
		return true;
	}
	return false;
}

/* More of what takes memory, or less; none when it is calm. */
void
meta_ballast_step(Sim *sim, Node *node)
{
	const DcEntry dead = {.stamp = dc_hlc_make(1, 1), .dead = true};
	bool grow = !sim->calm && rng_chance(&sim->rng, 3, 5);
	DcEntry found;

	if (!node_rebuilt(sim, node) || sim->config.ballast == 0)
		return;
	for (uint32_t i = 0; i < BALLAST_STEP; i++)
	{
		uint8_t bytes[DC_KEY_BYTES_MAX];
		uint32_t key = KEYS_MAX + node->ballast - !grow;
		size_t length = key_bytes(node, key, bytes);

		if (grow ? node->ballast == sim->config.ballast : node->ballast == 0)
			break;
		if (!grow)
			(void) dc_map_remove(&node->map, &node->map_env, bytes, length);
		else if (dc_map_merge(&node->map, &node->map_env, bytes, length,
							  dc_key_hash(node->map_env.hash_seed, bytes,
										  length),
							  dead, false, &found) != DC_OK)
		{
			sim->stats.full++;
			break;
		}
		node->ballast += grow ? 1 : UINT32_MAX;
	}
}

uint64_t
meta_sum(const Node *node)
{
	return node->map.live_sum;
}
