/*
 * answer.c
 *		Who is asked in a comparison: what he shows, which rows move.
 *
 * Entries are compared by the core (repair.h), upon maps that are made of the
 * node's cells as they are now; rows move as in src/pg/repair_peer.c:
 *
 *	 ROWS   head | wanted set u32 | again u8 | batch     -->
 *	                       <--   head | batch of the wanted
 */
#include "cluster.h"

#include <string.h>

/* ---- the maps ----------------------------------------------------------- */

static uint32_t
take_page(void *ctx)
{
	Shown *shown = ctx;

	return dc_page_pool_take(&shown->pool, shown->region);
}

static void
give_page(void *ctx, uint32_t page)
{
	Shown *shown = ctx;

	dc_page_pool_give(&shown->pool, shown->region, page);
}

static const DcMap *
open_map(void *ctx, uint32_t partition)
{
	Shown *shown = ctx;

	return &shown->maps[partition];
}

static void
close_map(void *ctx, uint32_t partition)
{
	(void) ctx;
	(void) partition;
}

/* One keyspace of a node, as it is now. */
DcRepairNode
answer_show(Sim *sim, const Node *node, uint32_t keyspace)
{
	Shown *shown = &sim->shown;
	DcMapEnv *env = &shown->env;

	env->pages = (DcPages){shown->region, take_page, give_page, shown};
	memset(env->hash_seed, 7, sizeof(env->hash_seed));
	memset(env->sum_seed, 9, sizeof(env->sum_seed));
	dc_page_pool_init(&shown->pool, sizeof(shown->region));
	memset(shown->maps, 0, sizeof(shown->maps));
	for (uint8_t key = 0; key < sim->config.keys; key++)
	{
		Cell here = node->mem.cell[key];
		uint64_t hash = dc_key_hash(env->hash_seed, &key, 1);
		DcEntry found;

		if (key % sim->config.keyspaces != keyspace ||
			here.stamp == DC_HLC_NONE)
			continue;
		if (dc_map_merge(&shown->maps[hash >> (64 - DC_MAP_PARTITION_BITS)],
						 env, &key, 1, hash, (DcEntry){here.stamp, here.dead},
						 false, &found) != DC_OK)
			sim_fail(sim, "no room for what is compared");
	}
	vector_expand(node->mem.vector, &shown->vector);
	return (DcRepairNode){.maps = {open_map, close_map, shown, env},
						  .floor = node->mem.cell[KEYS_MAX + keyspace].stamp,
						  .horizon = node->mem.horizon,
						  .vector = &shown->vector};
}

/* ---- rows --------------------------------------------------------------- */

/* The rows of a set of cells, as they are now. */
Batch
answer_rows(const Sim *sim, const Node *node, uint32_t set)
{
	Batch batch = {0};

	for (uint32_t cell = 0; cell < CELLS_MAX; cell++)
	{
		Cell here = node_read(sim, node, cell);

		if ((set & BIT(cell)) && here.stamp != DC_HLC_NONE)
			batch.change[batch.count++] = (Change){cell, here};
	}
	return batch;
}

/* `again`: also what lies at or below the own horizon. */
void
answer_apply(Sim *sim, Node *node, const Batch *batch, bool again)
{
	for (uint32_t i = 0; i < batch->count; i++)
	{
		const Change *change = &batch->change[i];
		DcApply what;

		if (!node_observe(sim, node, change->to.stamp))
			continue;
		what = node_apply(sim, node, change,
						  again ? DC_HLC_NONE : node->mem.horizon);
		sim->stats.mended += what != DC_APPLY_STALE && what != DC_APPLY_SAME;
	}
}

static bool
answer_exchange(Sim *sim, Node *node, DcReader *r, DcWriter *w)
{
	uint32_t wanted = dc_read_u32(r);
	bool again = dc_read_u8(r) != 0;
	DcSlice bytes = dc_read_bytes(r, dc_reader_left(r));
	Batch *pushed = &sim->parts;
	Batch rows;
	uint8_t scratch[BYTES_MAX];

	memset(pushed, 0, sizeof(*pushed));
	if (r->status != DC_OK || !batch_decode(sim, bytes, pushed) ||
		!node_disk_takes(sim, node))
		return false;
	answer_apply(sim, node, pushed, again);
	rows = answer_rows(sim, node, wanted);
	if (!node_flush(sim, node))
		return false;
	for (uint32_t i = 0; i < rows.count; i++)
		check_shipped(sim, node, &rows.change[i]);
	dc_write_bytes(w, scratch,
				   batch_encode(sim, &rows, scratch, sizeof(scratch)));
	return true;
}

/* ---- questions ---------------------------------------------------------- */

/* Who calls, as which life of himself, under which list; or nobody. */
static bool
greet(Sim *sim, Node *node, uint32_t from, DcReader *r, DcWriter *w)
{
	Asker *asker = &node->asker[from];
	Manners own = member_manners(sim, node);

	*asker = (Asker){.id = dc_read_u32(r),
					 .incarnation = dc_read_u64(r),
					 .session = ++sim->next_number,
					 .epoch = dc_read_u64(r)};
	if (dc_reader_finish(r) != DC_OK ||
		!peer_admits(sim, node, asker->id - 1, asker->incarnation))
	{
		asker->session = 0;
		return false;
	}
	dc_write_u64(w, asker->session);
	dc_write_u64(w, node->mem.incarnation);
	manners_write(w, &own);
	return true;
}

/* A question about a keyspace: of the core's, or of rows. */
static bool
answer_question(Sim *sim, Node *node, const Message *question, DcWriter *w)
{
	DcRepairNode self;
	DcRepairHead head;
	DcReader r;

	dc_reader_init(&r, question->bytes, question->length);
	dc_repair_head_decode(&r, &head);
	if (r.status != DC_OK || head.keyspace >= sim->config.keyspaces)
		return false;
	if (head.kind == DC_REPAIR_ROWS)
		return answer_exchange(sim, node, &r, w);
	self = answer_show(sim, node, (uint32_t) head.keyspace);
	return dc_repair_answer(&self, question->bytes, question->length,
							&sim->scratch, w) == DC_OK;
}

/*
 * Answers, or not: bound to both lives and both lists, and to the place of
 * the question in its session.  Who joins does not answer.
 */
bool
answer(Sim *sim, Node *node, uint32_t from, const Message *question, bool hello,
	   Message *reply)
{
	Asker *asker = &node->asker[from];
	DcAssociated binding = {.direction = 'H'};
	DcReader r;
	DcWriter w;
	bool answered;

	if (!hello)
		binding = (DcAssociated){.direction = 'Q',
								 .sender = asker->id,
								 .receiver = node_id(node),
								 .incarnation = asker->incarnation,
								 .session = asker->session,
								 .sequence = ++asker->sequence};
	dc_reader_init(&r, question->bytes, question->length);
	dc_writer_init(&w, reply->bytes, sizeof(reply->bytes));
	if (!net_open(sim, question, &binding) || node->mem.joining ||
		node->mem.outcast)
		return false;
	if (hello)
		answered = greet(sim, node, from, &r, &w);
	else
		answered = asker->session != 0 &&
				   (asker->epoch == list_digest(sim, &node->mem.list)) &&
				   peer_admits(sim, node, asker->id - 1, asker->incarnation) &&
				   answer_question(sim, node, question, &w);
	if (!answered || w.status != DC_OK || !node_flush(sim, node))
		return false;
	binding = (DcAssociated){.direction = 'R',
							 .sender = asker->id,
							 .receiver = node_id(node),
							 .incarnation = asker->incarnation,
							 .session = hello ? 0 : asker->session,
							 .sequence = asker->sequence};
	reply->length = (uint32_t) w.length;
	net_seal(sim, reply, &binding);
	return true;
}
