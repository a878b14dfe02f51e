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

static void
add_version(Sim *sim, const Node *node, Version v)
{
	for (uint32_t i = 0; i < sim->oracle_count; i++)
	{
		if (sim->oracle[i].key == v.key &&
			sim->oracle[i].entry.stamp == v.entry.stamp)
			sim_fail(sim, "R1: stamp %llu was given twice",
					 (unsigned long long) v.entry.stamp);
	}
	if (v.entry.stamp <= node->published)
		sim_fail(sim, "P9: node %u flushes key %u at %llu, W is %llu", node->id,
				 v.key, (unsigned long long) v.entry.stamp,
				 (unsigned long long) node->published);
	if (sim->oracle_count == ORACLE_MAX)
		sim_fail(sim, "the oracle is full");
	else
		sim->oracle[sim->oracle_count++] = v;
}

/* A commit became durable: nobody may lose it from here on. */
void
check_flushed(Sim *sim, Node *node, const WalRecord *record)
{
	if (!record->own)
		return;
	if (record->floor != DC_HLC_NONE)
		add_version(sim, node,
					(Version){.key = KEY_FLOOR,
							  .entry = {.stamp = record->floor, .dead = true}});
	for (uint32_t key = 0; key < sim->config.keys; key++)
	{
		Version v = {.key = key};

		v.entry.dead = record->row[key].stamp == DC_HLC_NONE;
		if (v.entry.dead ? !(record->marked & BIT(key)) :
						   !(record->written & BIT(key)))
			continue; /* not touched, or gone with a TRUNCATE */
		v.entry.stamp =
			v.entry.dead ? record->tomb[key] : record->row[key].stamp;
		v.value = v.entry.dead ? 0 : record->row[key].value;
		add_version(sim, node, v);
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

static const Version *
winner_until(const Sim *sim, uint32_t key, DcHlc until)
{
	const Version *best = NULL;

	for (uint32_t i = 0; i < sim->oracle_count; i++)
	{
		const Version *v = &sim->oracle[i];

		if ((v->key == key || v->key == KEY_FLOOR) && v->entry.stamp <= until &&
			(best == NULL || v->entry.stamp > best->entry.stamp))
			best = v;
	}
	return best;
}

/*
 * Something at least as new as the version is here, or was: then it has died
 * at or below the horizon.
 */
static bool
known(const Sim *sim, const Node *node, const Version *v)
{
	const Version *best;

	if (v->entry.stamp <= node->floor)
		return true;
	if (v->key == KEY_FLOOR)
		return false;
	if (meta_get(node, v->key).stamp >= v->entry.stamp)
		return true;
	best = winner_until(sim, v->key, node->horizon);
	return best != NULL && best->entry.dead &&
		   best->entry.stamp >= v->entry.stamp;
}

/* ... or is still owed: a newer version that the vector does not claim. */
static bool
owed(const Sim *sim, const Node *node, const Version *v)
{
	bool strong = sim->config.covered_mode == 2;

	for (uint32_t i = sim->oracle_count; i-- > 0;)
	{
		const Version *newer = &sim->oracle[i];

		if ((newer->key == KEY_FLOOR || (!strong && newer->key == v->key)) &&
			newer->entry.stamp > v->entry.stamp &&
			!dc_vv_covers(&node->vector, newer->entry.stamp))
			return true;
	}
	return false;
}

/*
 * R4: what the vector claims is here.  Where a catch-up leaves out sources
 * that stream themselves, a claimed version may be hidden by one of theirs
 * that is yet to come; and everywhere by a TRUNCATE that is.
 */
void
check_coverage(Sim *sim, const Node *node, const Claims *before)
{
	if (!node_rebuilt(sim, node))
		return;
	for (uint32_t i = 0; i < sim->oracle_count; i++)
	{
		const Version *v = &sim->oracle[i];
		uint32_t source = dc_hlc_node_id(v->entry.stamp);

		if (!dc_vv_covers(&node->vector, v->entry.stamp) ||
			(before != NULL && v->entry.stamp <= before->at[source - 1]))
			continue;
		if (known(sim, node, v) || owed(sim, node, v))
			continue;
		sim_fail(sim,
				 "R4: V of node %u claims %llu of node %u, lacks key %u "
				 "at %llu",
				 node->id, (unsigned long long) node->vector.at[source], source,
				 v->key, (unsigned long long) v->entry.stamp);
		return;
	}
}

/* R8: nobody forgets what another one may still have to learn. */
void
check_horizon(Sim *sim, const Node *node, DcHlc horizon)
{
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		for (uint32_t source = 0; source < sim->config.nodes; source++)
		{
			if (sim->node[i].disk_claims.at[source] < horizon)
				sim_fail(sim,
						 "R8: node %u raises g to %llu, node %u has %llu of "
						 "node %u",
						 node->id, (unsigned long long) horizon, i + 1,
						 (unsigned long long) sim->node[i]
							 .disk_claims.at[source],
						 source + 1);
		}
	}
}

static bool
node_settled(const Sim *sim, const Node *node)
{
	if (!node->up || !node_rebuilt(sim, node) || node->reconcile != 0 ||
		node->wal_insert != node->wal_flushed || !purge_done(sim, node))
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
	bool gone = wanted.dead || wanted.stamp == DC_HLC_NONE;

	if (row.stamp != stamp ||
		(stamp != DC_HLC_NONE && row.value != best->value))
		sim_fail(sim, "node %u: key %u has row %llu, the last write is %s %llu",
				 node->id, key, (unsigned long long) row.stamp,
				 wanted.dead ? "death" : "row",
				 (unsigned long long) wanted.stamp);
	/* what died may be forgotten by a purge, or under a floor */
	if (gone ? (entry.stamp != DC_HLC_NONE && !entry.dead) ||
				   (!sim->config.purge && wanted.stamp > node->floor &&
					entry.stamp != wanted.stamp) :
			   (entry.stamp != wanted.stamp || entry.dead))
		sim_fail(sim,
				 "node %u: key %u has entry %s %llu, the last write is "
				 "%s %llu",
				 node->id, key, entry.dead ? "dead" : "live",
				 (unsigned long long) entry.stamp,
				 wanted.dead ? "death" : "row",
				 (unsigned long long) wanted.stamp);
}

/* A single node, all of whose versions have come. */
void
check_node(Sim *sim, const Node *node)
{
	for (uint32_t key = 0; key < sim->config.keys; key++)
		check_key(sim, node, key, winner_until(sim, key, DC_HLC_MAX));
	if (node->dying != 0)
		sim_fail(sim, "node %u: %u deaths are never settled", node->id,
				 node->dying);
	if (!dc_map_check(&node->map, &node->map_env) || node->map.reserved != 0)
		sim_fail(sim, "node %u: the map is broken", node->id);
}

/* R6: what a scan sent makes true what its vector claims. */
void
check_received(Sim *sim, const Batch *batch, const Claims *claims)
{
	for (uint32_t i = 0; i < sim->oracle_count; i++)
	{
		const Version *v = &sim->oracle[i];
		bool sent = false;

		if (v->entry.stamp > claims->at[dc_hlc_node_id(v->entry.stamp) - 1])
			continue;
		for (uint32_t c = 0; c < batch->count; c++)
			sent = sent || ((batch->change[c].key == v->key ||
							 batch->change[c].key == KEY_FLOOR) &&
							batch->change[c].entry.stamp >= v->entry.stamp);
		for (uint32_t o = 0; o < sim->oracle_count; o++)
			sent = sent || (sim->oracle[o].key == KEY_FLOOR &&
							sim->oracle[o].entry.stamp > v->entry.stamp);
		if (!sent)
			sim_fail(sim,
					 "R6: a scan claims %llu and leaves out key %u at %llu",
					 (unsigned long long)
						 claims->at[dc_hlc_node_id(v->entry.stamp) - 1],
					 v->key, (unsigned long long) v->entry.stamp);
	}
}

/* V covers every entry, and is not less than what is on disk. */
static void
check_vector(Sim *sim, const Node *node)
{
	DcMapFilter filter = {.above = &node->vector};
	DcMapCursor cursor = {0};
	DcEntry entry;
	DcVv disk;
	uint32_t key;

	vv_of(sim, &node->disk_claims, &disk);
	if (!dc_vv_includes(&node->vector, &disk))
		sim_fail(sim, "R4: V of node %u is less than on disk", node->id);
	if (meta_scan(node, &cursor, &filter, &key, &entry))
		sim_fail(sim, "R4: V of node %u does not cover key %u at %llu",
				 node->id, key, (unsigned long long) entry.stamp);
}

/* All is quiet: the same rows everywhere, and none but the last writes. */
void
check_settled(Sim *sim)
{
	for (uint32_t i = 0; i < sim->config.nodes; i++)
	{
		const Node *node = &sim->node[i];

		for (uint32_t key = 0; key < sim->config.keys; key++)
			check_key(sim, node, key, winner_until(sim, key, DC_HLC_MAX));
		check_vector(sim, node);
		if (node->dying != 0 || node->pins != 0)
			sim_fail(sim, "node %u: %u deaths are never settled", node->id,
					 node->dying);
		if (node->map.reserved != 0)
			sim_fail(sim, "node %u: room for %u keys is never given back",
					 node->id, node->map.reserved);
		if (node->floor != sim->node[0].floor)
			sim_fail(sim, "node %u: floor %llu differs", node->id,
					 (unsigned long long) node->floor);
		if (meta_sum(node) != meta_sum(&sim->node[0]))
			sim_fail(sim, "node %u: live sum differs", node->id);
		if (!dc_map_check(&node->map, &node->map_env) ||
			dc_map_pages(&node->map) !=
				node->map_pool.total - node->map_pool.free_count)
			sim_fail(sim, "node %u: the map is broken", node->id);
	}
}
