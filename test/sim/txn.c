/*
 * txn.c
 *		Local transactions: what the triggers do, one step at a time.
 *
 *	INSERT    TABLE       SLOT DRAW FRESH(death)     WRITE (may wait) AFTER(death)
 *	UPDATE    TABLE LOCK  SLOT DRAW FRESH(row)       WRITE            AFTER
 *	DELETE    TABLE LOCK  SLOT DRAW FRESH(row)       WRITE            AFTER
 *	key change  TABLE LOCK  SLOT DRAW FRESH(row, death) WRITE (may wait) AFTER(death)
 *	TRUNCATE  TABLE alone SLOT DRAW                  TRUNCATE
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
	t->ops_left = 1 + rng_below(&sim->rng, 6);
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
	const Config *c = &sim->config;
	bool present;
	Txn *t = &node->txn[txn];

	if (t->idle_left > 0 && !sim->calm && t->merged)
	{
		t->idle_left--;
		return;
	}
	if (t->ops_left == 0)
	{
		if (t->aborts || (t->merged == 0 && t->floor == DC_HLC_NONE))
		{
			sim->stats.aborts += t->aborts;
			txn_reset(node, txn);
		}
		else
		{
			t->state = TXN_RESERVE;
			t->next = 0;
		}
		return;
	}
	if (t->script != NULL)
	{
		t->op = t->script->op;
		t->key = t->script->key;
		t->new_key = t->script->new_key;
		t->state = t->op == OP_ELSEWHERE ? TXN_SLOT : TXN_TABLE;
		t->script++;
		t->ops_left--;
		return;
	}
	if (rng_chance(&sim->rng, c->savepoint_share, 100))
	{
		if (t->savepoint.set)
			txn_rollback_to(sim, node, txn);
		else
			txn_savepoint(node, txn);
	}
	t->ops_left--;
	t->key = t->new_key = rng_below(&sim->rng, c->keys);
	t->state = TXN_TABLE;
	if (rng_chance(&sim->rng, c->truncate_share, 1000))
	{
		t->op = OP_TRUNCATE;
		return;
	}
	if (rng_chance(&sim->rng, 1, 40))
	{
		t->op = OP_ELSEWHERE;
		t->state = TXN_SLOT;
		return;
	}
	present = heap_sees(node, txn, t->key).stamp != DC_HLC_NONE;
	if (present && rng_chance(&sim->rng, 9, 10))
		t->op = kinds[rng_below(&sim->rng, 5)];
	else if (!present)
		t->op = absent_kinds[rng_below(&sim->rng, 5)];
	else
		t->op = OP_INSERT;
	if (t->op == OP_UPDATE && c->keys > 1 &&
		rng_chance(&sim->rng, c->rekey_share, 100))
	{
		t->op = OP_CHANGE_KEY;
		t->new_key = (t->key + 1 + rng_below(&sim->rng, c->keys - 1)) % c->keys;
	}
}

/* It waits for a key; a deadlock ends it, and so may its user. */
static void
wait_or_abort(Sim *sim, Node *node, int txn)
{
	if (!deadlocked(node, txn) && (sim->explore || node->txn[txn].waited < 8 ||
								   !rng_chance(&sim->rng, 1, 10)))
		return;
	sim->stats.deadlocks++;
	txn_reset(node, txn);
}

/* The table's lock comes first, and TRUNCATE wants it alone. */
static void
lock_table(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	if (table_blocked(sim, node, txn,
					  t->op == OP_TRUNCATE ? TABLE_ALONE : TABLE_WRITE))
		wait_or_abort(sim, node, txn);
	else
		t->state =
			t->op == OP_UPDATE || t->op == OP_DELETE || t->op == OP_CHANGE_KEY ?
				TXN_LOCK :
				TXN_SLOT;
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
		/* beyond every row, whatever was drawn before */
		t->state = t->op == OP_TRUNCATE && !DEFECT(sim, DEFECT_FLOOR_STAMP) ?
					   TXN_DRAW :
					   TXN_FRESH;
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

static uint32_t
new_value(Sim *sim, const Txn *t)
{
	return sim->explore ? (uint32_t) t->row_stamp : ++sim->next_value;
}

static bool
gives_birth(const Txn *t)
{
	return t->op <= OP_UPSERT || t->op == OP_CHANGE_KEY;
}

/* BEFORE: the stamp must exceed the row's, or the new key's last death. */
static void
freshen(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	DcHlc row = DC_HLC_NONE;
	DcHlc death = DC_HLC_NONE;

	if (t->op == OP_ELSEWHERE)
	{
		t->state = TXN_CHOOSE;
		return;
	}
	t->row_stamp = t->own;
	if (t->op == OP_TRUNCATE)
	{
		t->state = TXN_TRUNCATE;
		return;
	}
	if (gives_birth(t))
	{
		death = death_after(sim, node, t->new_key, t->own);
		if (death < t->floor && !DEFECT(sim, DEFECT_FLOOR_OWN))
			death = t->floor;
	}
	if (t->op > OP_UPSERT && !(t->written & BIT(t->key)))
		row = t->pending[t->key].stamp;

	if (dc_rule_needs_fresh(t->own, row, death))
	{
		t->state = TXN_DRAW;
		if (DEFECT(sim, DEFECT_R1)) /* its slot stands already */
			t->first = t->own;
		return;
	}
	t->state = TXN_WRITE;
}

/* The new row, once nobody else has its key. */
static void
write_birth(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key = t->new_key;
	DcHlc death;

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
		{
			sim->stats.aborts++;
			txn_reset(node, txn); /* unique violation */
		}
		return;
	}
	(void) heap_lock(sim, node, txn, key);
	death = node->heap[key].tomb;
	t->saw_death[key] = death > node->heap_floor ? death : node->heap_floor;
	t->pending[key] = (Row){t->row_stamp, new_value(sim, t)};
	t->written |= BIT(key);
	t->moved &= ~BIT(key);
	t->state = TXN_AFTER;
}

static void
write_row(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key = t->key;

	if (gives_birth(t))
	{
		write_birth(sim, node, txn);
		if (t->state != TXN_AFTER || t->op != OP_CHANGE_KEY)
			return;
		t->moved |= BIT(key);
		sim->stats.rekeys++;
	}
	if (t->op == OP_UPDATE)
		t->pending[key] = (Row){t->row_stamp, new_value(sim, t)};
	else
	{
		t->pending[key] = (Row){0};
		t->tomb[key] = t->row_stamp;
		t->marked |= BIT(key);
	}
	t->written |= BIT(key);
	t->state = TXN_AFTER;
}

/* All rows go, and with them what this transaction wrote so far. */
static void
truncate_table(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];

	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		if (!heap_lock(sim, node, txn, key))
			sim_fail(sim, "node %u txn %d: TRUNCATE finds key %u locked",
					 node->id, txn, key);
		t->pending[key] = (Row){0};
		t->entry[key] = (DcEntry){0};
		t->written |= BIT(key);
	}
	t->merged = t->marked = t->moved = 0;
	t->floor = t->row_stamp;
	sim->stats.truncates++;
	sim_trace(sim, "node %u txn %d: truncate at %llu", node->id, txn,
			  (unsigned long long) t->floor);
	t->state = TXN_CHOOSE;
}

static void
capture(Sim *sim, Node *node, int txn, uint32_t key, DcEntry entry)
{
	Txn *t = &node->txn[txn];

	t->entry[key] = entry;
	t->merged |= BIT(key);
	sim_trace(sim, "node %u txn %d: %s key %u at %llu", node->id, txn,
			  entry.dead ? "death of" : "row of", key,
			  (unsigned long long) entry.stamp);
}

/* AFTER: looks at the deaths again, then captures. */
static void
after(Sim *sim, Node *node, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key = t->new_key;
	DcHlc row = t->pending[key].stamp;

	if (gives_birth(t) && !DEFECT(sim, DEFECT_P1_AFTER) &&
		dc_rule_needs_fresh(row, DC_HLC_NONE, death_after(sim, node, key, row)))
	{
		DcHlc stamp = node_draw(sim, node);

		if (stamp == DC_HLC_NONE)
			return;
		t->own = t->pending[key].stamp = stamp;
		sim->stats.restamps++;
		return;
	}
	if (t->op == OP_DELETE || t->op == OP_CHANGE_KEY)
		capture(sim, node, txn, t->key,
				(DcEntry){.stamp = t->tomb[t->key], .dead = true});
	if (t->op != OP_DELETE)
		capture(sim, node, txn, key, (DcEntry){.stamp = row, .dead = false});
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
		case TXN_TABLE:
			lock_table(sim, node, txn);
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
		case TXN_WRITE:
			write_row(sim, node, txn);
			break;
		case TXN_TRUNCATE:
			truncate_table(sim, node, txn);
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
