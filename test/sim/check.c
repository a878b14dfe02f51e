/*
 * check.c
 *		The oracle: what was committed and flushed anywhere, and what follows.
 */
#include "sim.h"

#include <stdarg.h>
#include <stdio.h>

Claims
claims_of(const Sim *sim, const DcVv *vv)
{
	Claims claims = {0};

	for (uint32_t i = 0; i < sim->config.nodes; i++)
		claims.at[i] = vv->at[i + 1];
	return claims;
}

void
vv_of(const Sim *sim, const Claims *claims, DcVv *vv)
{
	dc_vv_init(vv);
	for (uint32_t i = 0; i < sim->config.nodes; i++)
		vv->at[i + 1] = claims->at[i];
}

void
sim_fail(Sim *sim, const char *text, ...)
{
	va_list args;

	if (sim->failure[0] != '\0')
		return;
	va_start(args, text);
	vsnprintf(sim->failure, sizeof(sim->failure), text, args);
	va_end(args);
	sim_trace(sim, "FAILURE %s", sim->failure);
}

/* A commit became durable: nobody may lose it from here on. */
void
check_flushed(Sim *sim, Node *node, const WalRecord *record)
{
	if (!record->own)
		return;
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		Version v = {.key = key};

		if (!((record->written | record->marked) & BIT(key)))
			continue;
		v.entry.dead = record->row[key].stamp == DC_HLC_NONE;
		v.entry.stamp =
			v.entry.dead ? record->tomb[key] : record->row[key].stamp;
		v.value = v.entry.dead ? 0 : record->row[key].value;
		for (uint32_t i = 0; i < sim->oracle_count; i++)
		{
			if (sim->oracle[i].key == key &&
				sim->oracle[i].entry.stamp == v.entry.stamp)
				sim_fail(sim, "R1: stamp %llu was given twice",
						 (unsigned long long) v.entry.stamp);
		}
		if (v.entry.stamp <= node->published)
			sim_fail(sim, "P9: node %u flushes key %u at %llu, W is %llu",
					 node->id, key, (unsigned long long) v.entry.stamp,
					 (unsigned long long) node->published);
		if (sim->oracle_count == ORACLE_MAX)
			sim_fail(sim, "the oracle is full");
		else
			sim->oracle[sim->oracle_count++] = v;
	}
}

static const Version *
version_of(const Sim *sim, uint32_t key, DcHlc stamp)
{
	for (uint32_t i = sim->oracle_count; i-- > 0;)
	{
		if (sim->oracle[i].key == key && sim->oracle[i].entry.stamp == stamp)
			return &sim->oracle[i];
	}
	return NULL;
}

/* R3: what leaves a node is durable at its source, and is what it was. */
void
check_shipped(Sim *sim, const Node *node, const Batch *batch)
{
	for (uint32_t i = 0; i < batch->count; i++)
	{
		const Change *change = &batch->change[i];
		const Version *v = version_of(sim, change->key, change->entry.stamp);

		if (v == NULL)
			sim_fail(sim, "R3: node %u ships key %u at %llu, not flushed",
					 node->id, change->key,
					 (unsigned long long) change->entry.stamp);
		else if (v->entry.dead != change->entry.dead ||
				 (!v->entry.dead && v->value != change->value))
			sim_fail(sim, "node %u ships key %u at %llu with another image",
					 node->id, change->key,
					 (unsigned long long) change->entry.stamp);
	}
}

/* Something at least as new as the version is here. */
static bool
known(const Node *node, const Version *v)
{
	return meta_get(node, v->key).stamp >= v->entry.stamp;
}

/* ... or is still owed: a newer version that the vector does not claim. */
static bool
owed(const Sim *sim, const Node *node, const Version *v)
{
	for (uint32_t i = sim->oracle_count; i-- > 0;)
	{
		const Version *newer = &sim->oracle[i];

		if (newer->key == v->key && newer->entry.stamp > v->entry.stamp &&
			!dc_vv_covers(&node->vector, newer->entry.stamp))
			return true;
	}
	return false;
}

/*
 * R4: what the vector claims is here.  Where a catch-up leaves out sources
 * that stream themselves, a claimed version may be hidden by one of theirs
 * that is yet to come.
 */
void
check_coverage(Sim *sim, const Node *node, const Claims *before)
{
	bool strong = sim->config.covered_mode == 2;

	if (!node_rebuilt(sim, node))
		return;
	for (uint32_t i = 0; i < sim->oracle_count; i++)
	{
		const Version *v = &sim->oracle[i];
		uint32_t source = dc_hlc_node_id(v->entry.stamp);

		if (!dc_vv_covers(&node->vector, v->entry.stamp) ||
			(before != NULL && v->entry.stamp <= before->at[source - 1]))
			continue;
		if (known(node, v) || (!strong && owed(sim, node, v)))
			continue;
		sim_fail(sim,
				 "R4: V of node %u claims %llu of node %u, lacks key %u "
				 "at %llu",
				 node->id, (unsigned long long) node->vector.at[source], source,
				 v->key, (unsigned long long) v->entry.stamp);
		return;
	}
}

static const Version *
winner(const Sim *sim, uint32_t key)
{
	const Version *best = NULL;

	for (uint32_t i = 0; i < sim->oracle_count; i++)
	{
		const Version *v = &sim->oracle[i];

		if (v->key == key &&
			(best == NULL || v->entry.stamp > best->entry.stamp))
			best = v;
	}
	return best;
}

static bool
node_settled(const Sim *sim, const Node *node)
{
	if (!node->up || !node_rebuilt(sim, node) || node->reconcile != 0 ||
		node->wal_insert != node->wal_flushed)
		return false;
	for (int i = 0; i < TXNS; i++)
	{
		if (node->txn[i].state != TXN_IDLE)
			return false;
	}
	for (uint32_t i = 0; i < sim->oracle_count; i++)
	{
		if (!dc_vv_covers(&node->vector, sim->oracle[i].entry.stamp))
			return false;
	}
	return true;
}

bool
is_settled(const Sim *sim)
{
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		if (!node_settled(sim, &sim->node[i]))
			return false;
	}
	for (uint32_t from = 0; from < sim->config.nodes; from++)
	{
		for (uint32_t to = 0; to < sim->config.nodes; to++)
		{
			if (from != to &&
				!link_idle(sim, &sim->link[from * NODES_MAX + to]))
				return false;
		}
	}
	return true;
}

static void
check_key(Sim *sim, const Node *node, uint32_t key, const Version *best)
{
	Row row = node->heap[key].row;
	DcEntry entry = meta_get(node, key);
	DcEntry wanted = best != NULL ? best->entry : (DcEntry){0};
	DcHlc stamp = wanted.dead ? DC_HLC_NONE : wanted.stamp;

	if (row.stamp != stamp ||
		(stamp != DC_HLC_NONE && row.value != best->value))
		sim_fail(sim, "node %u: key %u has row %llu, the last write is %s %llu",
				 node->id, key, (unsigned long long) row.stamp,
				 wanted.dead ? "death" : "row",
				 (unsigned long long) wanted.stamp);
	if (entry.stamp != wanted.stamp || entry.dead != wanted.dead)
		sim_fail(sim,
				 "node %u: key %u has entry %s %llu, the last write is "
				 "%s %llu",
				 node->id, key, entry.dead ? "dead" : "live",
				 (unsigned long long) entry.stamp,
				 wanted.dead ? "death" : "row",
				 (unsigned long long) wanted.stamp);
}

/* All is quiet: the same rows everywhere, and none but the last writes. */
void
check_settled(Sim *sim)
{
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		const Node *node = &sim->node[i];

		for (uint32_t key = 0; key < sim->config.keys; key++)
			check_key(sim, node, key, winner(sim, key));
		if (meta_sum(node) != meta_sum(&sim->node[0]))
			sim_fail(sim, "node %u: live sum differs", node->id);
		if (!dc_map_check(&node->map, &node->map_env))
			sim_fail(sim, "node %u: the map is broken", node->id);
	}
}
