/*
 * apply.c
 *		Incoming changes beside open transactions (P2, P13).
 *
 * Per change: a death first raises dmax; then the key is probed, which waits
 * for whoever has it; then the row, or for an absent key the entry, decides.
 * An absent key has no lock: an insert may find another row there after all
 * and then starts over.
 */
#include "sim.h"

static int
txn_of(uint32_t worker)
{
	return LOCALS + (int) worker;
}

/* A free backend with this work, or -1. */
int
apply_start(Sim *sim, Node *node, const Batch *batch)
{
	for (uint32_t i = 0; i < WORKERS; i++)
	{
		Worker *w = &node->worker[i];

		if (w->busy)
			continue;
		*w = (Worker){.busy = true, .link = -1, .batch = *batch};
		w->patience = sim->explore ? 1000 : 5 + rng_below(&sim->rng, 40);
		txn_reset(node, txn_of(i));
		node->txn[txn_of(i)].state = TXN_OBSERVE;
		return (int) i;
	}
	return -1;
}

/* The session is gone: the backend gives up, or goes on without a peer. */
void
apply_orphan(Sim *sim, Node *node, uint32_t worker)
{
	Worker *w = &node->worker[worker];
	Txn *t = &node->txn[txn_of(worker)];

	w->link = -1;
	if (t->state < TXN_RESERVE && rng_chance(&sim->rng, 1, 2))
	{
		txn_reset(node, txn_of(worker));
		w->busy = false;
	}
}

static void
observe(Sim *sim, Node *node, Worker *w, Txn *t)
{
	for (uint32_t i = 0; i < w->batch.count; i++)
	{
		DcHlc stamp = w->batch.change[i].entry.stamp;

		if (!DEFECT(sim, DEFECT_OBSERVE))
			node->clock = dc_hlc_observe(node->clock, stamp);
		if (stamp > node->bound && !DEFECT(sim, DEFECT_BOUND))
			return; /* a restart must not forget it: wait for the bound */
	}
	t->state = TXN_TABLE;
}

static void
next_change(Worker *w, Txn *t)
{
	t->next = 0;
	if (w->next == w->batch.count || (w->split && w->next > w->committed))
		t->state = TXN_RESERVE;
	else
		t->state = w->batch.change[w->next].entry.dead ? TXN_DEATH : TXN_PROBE;
}

static void
announce(Node *node, const Change *change, Txn *t)
{
	if (!(t->early & BIT(change->key)))
		death_announce(node, change->entry.stamp);
	t->early |= BIT(change->key);
	t->state = change->key == KEY_FLOOR ? TXN_SWEEP : TXN_PROBE;
}

/* A deadlock, or the lock timeout: from now on key by key. */
static void
give_up(Sim *sim, Node *node, Worker *w, int txn)
{
	sim->stats.deadlocks++;
	txn_reset(node, txn);
	w->split = true;
	w->next = w->committed;
	node->txn[txn].state = TXN_TABLE;
}

static void
wait_or_give_up(Sim *sim, Node *node, Worker *w, int txn)
{
	if (deadlocked(node, txn) || node->txn[txn].waited > w->patience)
		give_up(sim, node, w, txn);
}

static void
lock_table(Sim *sim, Node *node, Worker *w, int txn)
{
	if (table_blocked(sim, node, txn, TABLE_WRITE))
		wait_or_give_up(sim, node, w, txn);
	else
		node->txn[txn].state = TXN_NEXT;
}

/*
 * TRUNCATE, of another node: the rows that can be seen and are not newer go.
 * Those that cannot be seen yet meet the floor when they are merged.
 */
static void
sweep(Sim *sim, Node *node, Worker *w, int txn)
{
	Txn *t = &node->txn[txn];
	DcHlc floor = w->batch.change[w->next].entry.stamp;
	uint32_t key = t->next;
	DcHlc row;

	if (floor <= node->floor || key == sim->config.keys)
	{
		if (floor > node->floor && floor > t->floor)
			t->floor = floor;
		w->next++;
		t->state = TXN_NEXT;
		return;
	}
	row = heap_sees(node, txn, key).stamp;
	if (row != DC_HLC_NONE && row <= floor)
	{
		if (!heap_lock(sim, node, txn, key))
		{
			wait_or_give_up(sim, node, w, txn);
			return;
		}
		t->pending[key] = (Row){0};
		t->written |= BIT(key);
		sim->stats.applied++;
	}
	t->next++;
}

static void
probe(Sim *sim, Node *node, Worker *w, int txn)
{
	Txn *t = &node->txn[txn];
	uint32_t key = w->batch.change[w->next].key;

	if (heap_blocked(sim, node, txn, key))
	{
		wait_or_give_up(sim, node, w, txn);
		return;
	}
	w->probed = heap_sees(node, txn, key).stamp;
	if (w->probed != DC_HLC_NONE)
		(void) heap_lock(sim, node, txn, key);
	t->state = TXN_BIRTH;
}

/* Between the look at the heap and the look at the entry. */
static void
count_birth(Sim *sim, Node *node, const Worker *w, Txn *t)
{
	if (!DEFECT(sim, DEFECT_P2_BIRTH) &&
		dc_rule_late_birth(w->probed, w->batch.change[w->next].entry,
						   node->dmax))
	{
		node->births++;
		sim->stats.births++;
	}
	t->state = TXN_DECIDE;
}

/*
 * R5: what an absent key may not bear any more.  A scan of a node that had
 * everything up to there shows what lives; all else may be an old message.
 */
static DcHlc
horizon_for(Sim *sim, const Node *node, const Worker *w)
{
	DcHorizon horizon;
	DcVv reach;

	if (!w->scan || node->horizon == DC_HLC_NONE)
		return node->horizon;
	if (DEFECT(sim, DEFECT_R5_SCAN))
		return DC_HLC_NONE;
	horizon_of(sim, node->horizon, &horizon);
	vv_of(sim, &w->reach, &reach);
	return dc_horizon_reached(&horizon, &reach) ? DC_HLC_NONE : node->horizon;
}

static void
decide(Sim *sim, Node *node, Worker *w, Txn *t)
{
	const Change *change = &w->batch.change[w->next];
	DcHlc horizon = horizon_for(sim, node, w);
	DcHlc floor = node->floor > t->floor ? node->floor : t->floor;
	DcEntry entry = dc_rule_above_floor(meta_get(node, change->key), floor);

	w->entry = entry;
	w->decision =
		dc_rule_apply(w->probed, entry, change->entry, horizon, floor);
	if (w->probed == DC_HLC_NONE && entry.stamp <= floor &&
		change->entry.stamp > floor && change->entry.stamp <= node->horizon)
	{
		sim->stats.believed += w->decision != DC_APPLY_STALE;
		sim->stats.forgotten += w->decision == DC_APPLY_STALE;
	}
	sim_trace(sim, "node %u worker %d: key %u %s %llu, row %llu: decision %d",
			  node->id, (int) (w - node->worker), change->key,
			  change->entry.dead ? "dead" : "live",
			  (unsigned long long) change->entry.stamp,
			  (unsigned long long) w->probed, (int) w->decision);
	t->state = TXN_CHANGE;
}

/*
 * What was decided against a row goes to the metadata too: the row may be
 * committed and not yet merged by its own transaction, and a vector that
 * moves over it must not run ahead of the entries.  Not so a row that has
 * outlived its death: the death may be forgotten before this is merged.
 */
static void
note_row(Sim *sim, Worker *w, Txn *t)
{
	uint32_t key = w->batch.change[w->next].key;

	if (w->probed <= w->entry.stamp || DEFECT(sim, DEFECT_P2_MERGE))
		return;
	t->entry[key] = (DcEntry){.stamp = w->probed, .dead = false};
	t->merged |= BIT(key);
}

static void
change_row(Sim *sim, Node *node, Worker *w, int txn)
{
	Txn *t = &node->txn[txn];
	const Change *change = &w->batch.change[w->next];
	uint32_t key = change->key;

	t->state = TXN_NEXT;
	switch (w->decision)
	{
		case DC_APPLY_STORE:
			if (heap_blocked(sim, node, txn, key) ||
				heap_sees(node, txn, key).stamp != w->probed)
			{
				t->state = TXN_PROBE; /* somebody inserted it meanwhile */
				return;
			}
			(void) heap_lock(sim, node, txn, key);
			t->pending[key] = (Row){change->entry.stamp, change->value};
			t->written |= BIT(key);
			break;
		case DC_APPLY_ERASE:
			t->pending[key] = (Row){0};
			t->written |= BIT(key);
			t->tomb[key] = change->entry.stamp;
			t->marked |= BIT(key);
			break;
		case DC_APPLY_MARK:
			t->tomb[key] = change->entry.stamp;
			t->marked |= BIT(key);
			t->replaced[key] = DC_HLC_NONE;
			break;
		case DC_APPLY_SAME:
		case DC_APPLY_STALE:
			note_row(sim, w, t);
			w->next++;
			return;
	}
	t->entry[key] = change->entry;
	t->merged |= BIT(key);
	sim->stats.applied++;
	w->next++;
}

static void
finish(Sim *sim, Node *node, uint32_t worker)
{
	Worker *w = &node->worker[worker];
	int txn = txn_of(worker);

	w->committed = w->next;
	if (w->next < w->batch.count)
	{
		txn_reset(node, txn);
		node->txn[txn].state = TXN_TABLE;
		return;
	}
	if (!link_worker_done(sim, node, w))
		return;
	txn_reset(node, txn);
	w->busy = false;
}

void
apply_step(Sim *sim, Node *node, uint32_t worker)
{
	int txn = txn_of(worker);
	Worker *w = &node->worker[worker];
	Txn *t = &node->txn[txn];

	if (!w->busy || sim->step < t->stall_until)
		return;
	switch (t->state)
	{
		case TXN_OBSERVE:
			observe(sim, node, w, t);
			break;
		case TXN_NEXT:
			next_change(w, t);
			break;
		case TXN_TABLE:
			lock_table(sim, node, w, txn);
			break;
		case TXN_DEATH:
			announce(node, &w->batch.change[w->next], t);
			break;
		case TXN_SWEEP:
			sweep(sim, node, w, txn);
			break;
		case TXN_PROBE:
			probe(sim, node, w, txn);
			break;
		case TXN_BIRTH:
			count_birth(sim, node, w, t);
			break;
		case TXN_DECIDE:
			decide(sim, node, w, t);
			break;
		case TXN_CHANGE:
			change_row(sim, node, w, txn);
			break;
		case TXN_DONE:
			finish(sim, node, worker);
			break;
		default:
			t->async = DEFECT(sim, DEFECT_R4_DISK);
			(void) commit_step(sim, node, txn);
			if (t->state == TXN_FULL)
				give_up(sim, node, w, txn); /* the link tries again */
			break;
	}
}
