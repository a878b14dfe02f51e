/*
 * work.c
 *		Local transactions: a stamp is drawn, some time later all is written.
 *
 * So transactions commit out of the order of their stamps, and what was
 * committed in between makes a write draw a fresh stamp (R1, P1).
 */
#include "cluster.h"

#include <string.h>

static void
begin(Sim *sim, Node *node, Txn *t)
{
	const Config *c = &sim->config;
	Rng *rng = &sim->rng;
	uint32_t span = rng_chance(rng, 1, 10) ? 20000 : 1500;

	*t = (Txn){.phase = TXN_OPEN, .slot = node->clock};
	if (t->slot == DC_HLC_NONE)
		t->slot = 1;
	t->stamp = node_draw(sim, node);
	t->due_us = sim->now_us + rng_below(rng, span);
	t->async = rng_chance(rng, c->async, 100);
	t->aborts = rng_chance(rng, c->aborts, 100);
	t->count = 1 + rng_below(rng, rng_chance(rng, 1, 3) ? WRITES_MAX : 1);
	for (uint32_t i = 0; i < t->count; i++)
	{
		bool hot = rng_chance(rng, c->hot, 100);

		t->write[i].cell = hot ? 0 : rng_below(rng, c->keys);
		t->write[i].dead = rng_chance(rng, c->deletes, 100);
	}
	if (rng_chance(rng, c->truncate, 1000))
	{
		t->write[0].cell = KEYS_MAX + rng_below(rng, c->keyspaces);
		count_fault(sim, FAULT_TRUNCATE);
	}
	if (t->async)
		count_fault(sim, FAULT_ASYNC);
	if (t->stamp == DC_HLC_NONE)
		t->phase = TXN_IDLE, t->slot = DC_HLC_NONE;
}

/* The stamp of one write; DC_HLC_NONE: the clock gives none. */
static DcHlc
stamp_for(Sim *sim, Node *node, const Txn *t, uint32_t cell)
{
	Cell here = node_read(sim, node, cell);
	DcHlc death = node->death[cell];

	if (is_floor(cell))
		return node_draw(sim, node); /* its lock came last */
	if (dc_rule_needs_fresh(t->stamp, here.stamp, death))
		return node_draw(sim, node);
	return t->stamp;
}

/* All that a TRUNCATE takes here is known; its own, to the last row. */
static void
note_known(Sim *sim, const Node *node, uint32_t cell, Cell to, Known *known)
{
	DcVv *vector = &sim->vv[2];
	uint32_t count = 0;
	DcWriter w;

	check_truncates(sim, node, cell, to);
	vector_expand(node->mem.vector, vector);
	vector->at[node_id(node)] = DC_HLC_MAX;
	for (int pass = 0; pass < 2; pass++)
	{
		for (uint8_t key = 0; key < sim->config.keys; key++)
		{
			DcHlc stamp = node->mem.cell[key].stamp;

			if (floor_cell(sim, key) != cell || stamp == DC_HLC_NONE ||
				dc_vv_covers(vector, stamp))
				continue;
			if (pass == 0)
				count++;
			else
				dc_known_key(&w, (DcSlice){&key, 1}, stamp);
		}
		if (pass > 0)
			break;
		dc_writer_init(&w, known->bytes, sizeof(known->bytes));
		dc_known_begin(&w, node->mem.cell[cell].stamp, vector, count);
	}
	known->of = (Change){cell, to};
	known->length = (uint32_t) w.length;
	if (w.status != DC_OK)
		sim_fail(sim, "what a TRUNCATE knows is too long");
}

static void
write_one(Sim *sim, Node *node, const Txn *t, const Write *w, Batch *batch)
{
	Cell here = node_read(sim, node, w->cell);
	bool live = here.stamp != DC_HLC_NONE && !here.dead;
	Cell to = {.value = (uint32_t) ++sim->next_value};

	if (w->dead && !is_floor(w->cell) && !live)
		return; /* no row to delete */
	to.stamp = stamp_for(sim, node, t, w->cell);
	if (to.stamp == DC_HLC_NONE)
		return;
	if (is_floor(w->cell))
		to.value = 0;
	else if (w->dead)
		to = (Cell){.stamp = to.stamp, .dead = true};
	if (to.stamp <= here.stamp)
		sim_fail(sim, "R1: node %u writes key %u at %llu over %llu",
				 node->index + 1, w->cell, (unsigned long long) to.stamp,
				 (unsigned long long) here.stamp);
	if (is_floor(w->cell))
		note_known(sim, node, w->cell, to, &batch->known);
	node_put(sim, node, w->cell, to);
	check_committed(sim, node, w->cell, to);
	sim_trace(sim, "node %u commits %s %u at %llu%s", node->index + 1,
			  is_floor(w->cell) ? "truncate" : "key", w->cell,
			  (unsigned long long) to.stamp, to.dead ? ", dead" : "");
	for (uint32_t i = 0; i < batch->count; i++)
	{
		if (batch->change[i].cell == w->cell)
		{
			batch->change[i].to = to;
			return;
		}
	}
	batch->change[batch->count++] = (Change){w->cell, to};
}

static void
publish(Sim *sim, Node *node, const Batch *batch)
{
	if (batch->count == 0)
		return;
	node->queue[node->head++ % QUEUE_MAX] = *batch;
	if (node->head - node->oldest > sim->config.queue)
		node->oldest = node->head - sim->config.queue;
}

static void
commit(Sim *sim, Node *node, Txn *t)
{
	Batch batch = {0};

	if (t->aborts || sim->step < node->full_until)
	{
		count_fault(sim, FAULT_ABORT);
		return;
	}
	for (uint32_t i = 0; i < t->count; i++)
		write_one(sim, node, t, &t->write[i], &batch);
	sim->stats.operations += batch.count;
	sim->stats.commits += batch.count > 0;
	publish(sim, node, &batch);
	if (!t->async)
		(void) node_flush(sim, node);
}

/* A write in a transaction of its own, flushed. */
void
work_write(Sim *sim, Node *node, uint32_t cell, bool dead)
{
	Txn t = {.phase = TXN_OPEN, .count = 1, .write = {{cell, dead}}};

	t.stamp = node_draw(sim, node);
	if (t.stamp != DC_HLC_NONE)
		commit(sim, node, &t);
}

/* A transaction that draws its stamp now and writes one row when it ends. */
Txn *
work_open(Sim *sim, Node *node, uint32_t cell)
{
	Txn *t = &node->txn[0];

	*t = (Txn){.phase = TXN_OPEN,
			   .slot = node->clock,
			   .due_us = UINT64_MAX,
			   .count = 1,
			   .write = {{cell, false}}};
	t->stamp = node_draw(sim, node);
	return t;
}

void
work_close(Sim *sim, Node *node, Txn *t)
{
	commit(sim, node, t);
	memset(t, 0, sizeof(*t));
}

void
work_step(Sim *sim, Node *node)
{
	Txn *t = &node->txn[rng_below(&sim->rng, TXNS)];

	if (t->phase == TXN_IDLE)
	{
		if (!sim->calm && member_writes(sim, node))
			begin(sim, node, t);
		return;
	}
	if (sim->now_us < t->due_us && !sim->calm)
		return;
	if (member_writes(sim, node))
		work_close(sim, node, t);
	else
		memset(t, 0, sizeof(*t));
}

bool
work_idle(const Node *node)
{
	for (uint32_t i = 0; i < TXNS; i++)
	{
		if (node->txn[i].phase != TXN_IDLE)
			return false;
	}
	return true;
}
