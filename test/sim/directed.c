/*
 * directed.c
 *		Schedules too rare for chance, step by step.
 *
 * Both are about a death D that is visible and not yet merged, on one node:
 *
 *	 row     r1 ---> r2 ---> (none) ---> r ------------------------> (none)
 *	              T1 visible  T2 visible  T3 stores             maintainer
 *	 entry   r1 -------------------------> r ---> r2 ---> D
 *	                              T3 merges  T1 merges  T2 merges
 *
 * T3 finds no row, and an entry that still says r1, and stores r.  The merge
 * of D then finds r2, the very row it replaced, and by that alone sees no
 * reason to look at the heap.
 */
#include "sim.h"

static void
worker_until(Sim *sim, Node *node, int worker, TxnState state)
{
	for (int i = 0; i < 100 && node->worker[worker].busy; i++)
	{
		if (node->txn[LOCALS + worker].state == state)
			return;
		apply_step(sim, node, (uint32_t) worker);
	}
}

static int
apply_until(Sim *sim, Node *node, DcHlc stamp, bool dead, TxnState state)
{
	Batch batch = {.count = 1};
	int worker;

	batch.change[0].entry = (DcEntry){.stamp = stamp, .dead = dead};
	worker = apply_start(sim, node, &batch);
	worker_until(sim, node, worker, state);
	return worker;
}

static void
maintain(Sim *sim, Node *node)
{
	for (int i = 0; i < 100; i++)
		node_maintain_step(sim, node);
}

/* The row that comes again is r2 itself (odd) or one between r1 and r2. */
void
directed_run(Sim *sim)
{
	Node *node = &sim->node[0];
	DcHlc r1 = dc_hlc_make(100, 2);
	DcHlc middle = dc_hlc_make(150, 2);
	DcHlc r2 = dc_hlc_make(200, 2);
	DcHlc death = dc_hlc_make(300, 3);
	int first;
	int second;

	sim->config.keys = 1;
	node->rebuild = 2;
	node_bound_step(sim, node);

	(void) apply_until(sim, node, r1, false, TXN_IDLE);
	first = apply_until(sim, node, r2, false, TXN_MERGE);
	second = apply_until(sim, node, death, true, TXN_MERGE);
	(void) apply_until(sim, node, sim->seed % 2 != 0 ? r2 : middle, false,
					   TXN_IDLE);
	maintain(sim, node);
	worker_until(sim, node, first, TXN_IDLE);
	maintain(sim, node);
	worker_until(sim, node, second, TXN_IDLE);
	maintain(sim, node);

	if (node->heap[0].row.stamp != DC_HLC_NONE || !meta_get(node, 0).dead)
		sim_fail(sim, "P2: row %llu outlives its death at %llu",
				 (unsigned long long) node->heap[0].row.stamp,
				 (unsigned long long) death);
}
