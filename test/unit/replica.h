/*
 * replica.h
 *		One keyspace of a node, and a conversation between two of them.
 */
#ifndef DC_TEST_REPLICA_H
#define DC_TEST_REPLICA_H

#include "repair.h"

#include <math.h>
#include <stdlib.h>

typedef struct Replica
{
	uint8_t *region;
	DcPagePool pool;
	DcMapEnv env;
	DcMap maps[DC_MAP_PARTITIONS];
	int open; /* partitions locked at the moment */
	DcVv vector;
	DcRepairNode node;
	bool believes_cells; /* if there are any */
} Replica;

static inline uint32_t
replica_take(void *ctx)
{
	Replica *p = ctx;

	return dc_page_pool_take(&p->pool, p->region);
}

static inline void
replica_give(void *ctx, uint32_t page)
{
	Replica *p = ctx;

	dc_page_pool_give(&p->pool, p->region, page);
}

static inline const DcMap *
replica_lock(void *ctx, uint32_t partition)
{
	Replica *p = ctx;

	if (p->open++ != 0 || partition >= DC_MAP_PARTITIONS)
		abort(); /* one at a time */
	return &p->maps[partition];
}

static inline void
replica_unlock(void *ctx, uint32_t partition)
{
	Replica *p = ctx;

	(void) partition;
	if (--p->open != 0)
		abort();
}

/* A node that has everything there ever was: V covers all stamps. */
static inline Replica *
replica_new(size_t entries, uint32_t key_bytes)
{
	Replica *p = calloc(1, sizeof(Replica));
	size_t bytes = (entries * 80 + 4000 * DC_PAGE_BYTES);

	p->region =
		aligned_alloc(DC_PAGE_BYTES, bytes / DC_PAGE_BYTES * DC_PAGE_BYTES);
	dc_page_pool_init(&p->pool, bytes);
	p->env.pages = (DcPages){p->region, replica_take, replica_give, p};
	for (uint8_t i = 0; i < DC_SEED_BYTES; i++)
	{
		p->env.hash_seed[i] = (uint8_t) (i * 37 + 11);
		p->env.sum_seed[i] = (uint8_t) (i * 5 + 3);
	}
	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
		dc_map_init(&p->maps[i], key_bytes);
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
		p->vector.at[id] = id < 4 ? DC_HLC_MAX : DC_HLC_NONE;
	p->node = (DcRepairNode){.maps = {replica_lock, replica_unlock, p, &p->env},
							 .vector = &p->vector};
	return p;
}

/* The first `count` cells of its entries are kept from now on: it has none. */
static inline void
replica_keep_cells(Replica *p, uint32_t count)
{
	p->env.cells = calloc(count, sizeof(DcIbltCell));
	p->env.cell_count = count;
	p->node.cells = p->env.cells;
	p->node.cell_count = count;
	p->believes_cells = true;
}

static inline void
replica_free(Replica *p)
{
	free(p->env.cells);
	free(p->region);
	free(p);
}

static inline DcMap *
replica_map(Replica *p, uint64_t hash)
{
	return &p->maps[hash >> (64 - DC_MAP_PARTITION_BITS)];
}

static inline void
replica_put(Replica *p, const void *key, size_t length, DcEntry entry)
{
	uint64_t hash = dc_key_hash(p->env.hash_seed, key, length);
	DcEntry found;

	if (dc_map_merge(replica_map(p, hash), &p->env, key, length, hash, entry,
					 false, &found) != DC_OK)
		abort();
}

static inline void
replica_put_number(Replica *p, uint64_t number, DcHlc time, bool dead)
{
	uint8_t key[8];

	for (unsigned i = 0; i < 8; i++)
		key[i] = (uint8_t) (number >> (56 - 8 * i));
	replica_put(p, key, sizeof(key),
				(DcEntry){.stamp = dc_hlc_make(time, 1), .dead = dead});
}

static inline uint64_t
replica_sum(Replica *p)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < DC_MAP_PARTITIONS; i++)
		sum += p->maps[i].live_sum;
	return sum;
}

/*
 * Bytes that name d of 2^64 ids, whatever the method: log2 of the binomial
 * coefficient, by Stirling's formula.
 */
static inline double
replica_least(uint64_t d)
{
	return d > 0 ? (double) d * (64 - log2((double) d) + log2(exp(1))) / 8 : 0;
}

/* What a conversation cost, and found. */
typedef struct Talk
{
	size_t bytes;  /* both ways, without rows and seals */
	size_t naming; /* of that until ids are told, without keys and stamps */
	uint32_t round_trips;
	uint32_t actions[DC_REPAIR_ALONE + 1];
	DcStatus status;
} Talk;

/*
 * Compares, and does what is to be done at once, entries in place of rows.
 * `meddle` may change either node between two messages.
 */
static inline Talk
replica_repair(Replica *a, Replica *b, bool rejoin,
			   void (*meddle)(Replica *, Replica *, void *), void *arg)
{
	static DcRepair r;
	static DcRepairScratch scratch;
	static uint8_t question[DC_REPAIR_MESSAGE_MAX];
	static uint8_t answer[DC_REPAIR_MESSAGE_MAX];
	Talk talk = {0};
	DcWriter q, w;

	dc_repair_begin(&r, 7, rejoin, a->believes_cells);
	dc_writer_init(&q, question, sizeof(question));
	while (dc_repair_next(&r, &a->node, &q))
	{
		DcRepairResult result;

		if (q.status != DC_OK || ++talk.round_trips > 100000)
			abort();
		dc_writer_init(&w, answer, sizeof(answer));
		talk.status =
			dc_repair_answer(&b->node, question, q.length, &scratch, &w);
		if (talk.status != DC_OK)
			return talk;
		talk.bytes += q.length + w.length;
		talk.naming += question[2] == DC_REPAIR_OFFER ? 0 : q.length + w.length;
		if (meddle != NULL)
			meddle(a, b, arg);
		talk.status = dc_repair_take(&r, &a->node, answer, w.length);
		if (talk.status != DC_OK)
			return talk;
		while (dc_repair_result(&r, &a->node, &result))
		{
			talk.actions[result.action]++;
			if (result.action == DC_REPAIR_FETCH)
				replica_put(a, result.key.data, result.key.length, result.peer);
			if (result.action == DC_REPAIR_PUSH)
				replica_put(b, result.key.data, result.key.length, result.own);
			if (result.action == DC_REPAIR_ALONE)
				(void)
					dc_map_remove(replica_map(a,
											  dc_key_hash(a->env.hash_seed,
														  result.key.data,
														  result.key.length)),
								  &a->env, result.key.data, result.key.length);
		}
		dc_writer_init(&q, question, sizeof(question));
	}
	return talk;
}

#endif
