/*
 * txn.c
 *		Local transactions: what the triggers do, one step at a time.
 *
 *	INSERT	        SLOT DRAW FRESH(dmax)         WRITE (may wait) AFTER(dmax)
 *	UPDATE	LOCK    SLOT DRAW FRESH(row)          WRITE
 *	DELETE	LOCK    SLOT DRAW FRESH(row)   RAISE  WRITE
 *
 * An INSERT has no row to lock: it is stamped first and waits, if a deleter of
 * its key is in progress, inside the index afterwards (P1).
 */
#include "sim.h"

/* Does the wait of this transaction end in itself? */
bool
deadlocked(const Node *node, int txn)
{
	int at = txn;

	for (int i = 0; i < TXNS; i++)
	{
		at = node->txn[at].waits_for;
		if (at < 0)
			return false;
		if (at == txn)
			return true;
	}
	return false;
}

static void
begin(Sim *sim, Node *node, int txn)
{
	const Config *config = &sim->config;
	Txn *t = &node->txn[txn];

	txn_reset(node, txn);
	t->state = TXN_CHOOSE;
	t->ops_left = 1 + rng_below(&sim->rng, 4);
	t->aborts = rng_chance(&sim->rng, config->abort_share, 100);
	t->async = rng_chance(&sim->rng, config->async_share, 100);
	t->large = rng_chance(&sim->rng, config->large_share, 100);
	if (rng_chance(&sim->rng, config->idle_share, 100))
		t->idle_left = 20 + rng_below(&sim->rng, 200);
}

static void
choose(Sim *sim, Node *node, int txn)
{
	static const OpKind kinds[] = {OP_UPDATE, OP_UPDATE, OP_DELETE, OP_DELETE,
								   OP_UPSERT};
	static const OpKind absent_kinds[] = {OP_INSERT, OP_INSERT, OP_INSERT,
										  OP_UPSERT, OP_DELETE};
	bool present;
	Txn *t = &node->txn[txn];

	if (t->idle_left > 0 && !sim->calm && t->merged)
	{
		t->idle_left--;
		return;
	}
	if (t->ops_left == 0)
	{
		if (t->aborts || t->merged == 0)
			txn_reset(node, txn);
		else
			t->state = TXN_RECORD;
		return;
	}
	t->ops_left--;
	t->key = rng_below(&sim->rng, sim->config.keys);
	present = heap_sees(node, txn, t->key).stamp != DC_HLC_NONE;
	if (present && rng_chance(&sim->rng, 9, 10))
		t->op = kinds[rng_below(&sim->rng, 5)];
	else if (!present)
		t->op = absent_kinds[rng_below(&sim->rng, 5)];
	else
		t->op = OP_INSERT;
	t->state = t->op >= OP_UPDATE ? TXN_LOCK : TXN_SLOT;
}

/* It waits for a key; a deadlock ends it, and so may its user. */
static void
wait_or_abort(Sim *sim, Node *node, int txn)
{
	if (!deadlocked(node, txn) &&
		(node->txn[txn].waited < 8 || !rng_chance(&sim->rng, 1, 10)))
		return;
	sim->stats.deadlocks++;
	txn_reset(node, txn);
}

/* UPDATE and DELETE lock their row before their trigger runs. */
static void
lock_row(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	if (heap_blocked(sim, node, txn, t->key))
	{
		wait_or_abort(sim, node, txn);
		return;
	}
	if (heap_sees(node, txn, t->key).stamp == DC_HLC_NONE)
	{
		t->state = TXN_CHOOSE; /* no row, nothing done */
		return;
	}
	(void) heap_lock(sim, node, txn, t->key);
	t->state = TXN_SLOT;
}

static void
take_slot(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	if (t->first != DC_HLC_NONE)
	{
		t->state = TXN_FRESH;
		return;
	}
	if (DEFECT(sim, DEFECT_R1))
	{
		t->own = node_draw(sim, node);
		if (t->own == DC_HLC_NONE)
			return;
		t->first = t->slot_value = t->own;
	}
	else
		t->slot_value = node->clock;
	t->state = TXN_PUBLISH_SLOT;
}

static void
publish_slot(Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	node->slot[txn] = t->slot_value;
	t->state = t->first != DC_HLC_NONE ? TXN_FRESH : TXN_DRAW;
}

static void
draw(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	DcHlc stamp = node_draw(sim, node);

	if (stamp == DC_HLC_NONE)
		return;
	t->own = stamp;
	if (t->first == DC_HLC_NONE)
		t->first = stamp;
	t->state = TXN_FRESH;
}

/* BEFORE: the stamp must exceed the row's, or an INSERT's last death. */
static void
freshen(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	DcHlc row = DC_HLC_NONE;
	DcHlc death = DC_HLC_NONE;

	if (t->op <= OP_UPSERT)
		death = node->dmax;
	else if (!(t->written & BIT(t->key)))
		row = t->pending[t->key].stamp;

	if (dc_rule_needs_fresh(t->own, row, death))
	{
		t->state = TXN_DRAW;
		if (DEFECT(sim, DEFECT_R1)) /* its slot stands already */
			t->first = t->own;
		return;
	}
	t->row_stamp = t->own;
	t->state = t->op == OP_DELETE ? TXN_RAISE : TXN_WRITE;
}

static void
write_insert(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key = t->key;

	if (heap_blocked(sim, node, txn, key))
	{
		wait_or_abort(sim, node, txn);
		return;
	}
	if (heap_sees(node, txn, key).stamp != DC_HLC_NONE)
	{
		if (t->op == OP_UPSERT)
		{
			t->op = OP_UPDATE;
			t->state = TXN_LOCK;
		}
		else
			txn_reset(node, txn); /* unique violation */
		return;
	}
	(void) heap_lock(sim, node, txn, key);
	t->saw_death[key] = node->heap[key].tomb;
	if ((t->marked & BIT(key)) && t->tomb[key] > t->saw_death[key])
		t->saw_death[key] = t->tomb[key];
	t->pending[key] = (Row){t->row_stamp, ++sim->next_value};
	t->written |= BIT(key);
	t->state = TXN_AFTER;
}

static void
write_row(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key = t->key;

	if (t->op <= OP_UPSERT)
	{
		write_insert(sim, node, txn);
		return;
	}
	if (t->op == OP_DELETE)
	{
		t->pending[key] = (Row){0};
		t->tomb[key] = t->row_stamp;
		t->marked |= BIT(key);
	}
	else
		t->pending[key] = (Row){t->row_stamp, ++sim->next_value};
	t->written |= BIT(key);
	t->state = TXN_AFTER;
}

/* AFTER: looks at the deaths again, then captures. */
static void
after(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key = t->key;
	bool dead = t->op == OP_DELETE;

	if (t->op <= OP_UPSERT && !DEFECT(sim, DEFECT_P1_AFTER) &&
		dc_rule_needs_fresh(t->pending[key].stamp, DC_HLC_NONE, node->dmax))
	{
		DcHlc stamp = node_draw(sim, node);

		if (stamp == DC_HLC_NONE)
			return;
		t->own = t->pending[key].stamp = stamp;
		sim->stats.restamps++;
		return;
	}
	t->entry[key] =
		(DcEntry){.stamp = dead ? t->tomb[key] : t->pending[key].stamp,
				  .dead = dead};
	t->merged |= BIT(key);
	sim_trace(sim, "node %u txn %d: %s key %u at %llu", node->id, txn,
			  t->op <= OP_UPSERT ? "insert" :
			  dead               ? "delete" :
								   "update",
			  key, (unsigned long long) t->entry[key].stamp);
	t->state = TXN_CHOOSE;
}

void
local_step(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	if (sim->step < t->stall_until)
		return;
	switch (t->state)
	{
		case TXN_IDLE:
			if (!sim->calm)
				begin(sim, node, txn);
			break;
		case TXN_CHOOSE:
			choose(sim, node, txn);
			break;
		case TXN_LOCK:
			lock_row(sim, node, txn);
			break;
		case TXN_SLOT:
			take_slot(sim, node, txn);
			break;
		case TXN_PUBLISH_SLOT:
			publish_slot(node, txn);
			break;
		case TXN_DRAW:
			draw(sim, node, txn);
			break;
		case TXN_FRESH:
			freshen(sim, node, txn);
			break;
		case TXN_RAISE:
			if (t->row_stamp > node->dmax)
				node->dmax = t->row_stamp;
			t->state = TXN_WRITE;
			break;
		case TXN_WRITE:
			write_row(sim, node, txn);
			break;
		case TXN_AFTER:
			after(sim, node, txn);
			break;
		default:
			if (commit_step(sim, node, txn))
				txn_reset(node, txn);
			break;
	}
}
