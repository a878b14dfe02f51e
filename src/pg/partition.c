/*
 * partition.c
 *		A partitioned table is one keyspace.
 */
#include "partition.h"

#include "access/relation.h"
#include "catalog/partition.h"
#include "catalog/pg_inherits.h"
#include "partitioning/partbounds.h"
#include "partitioning/partdesc.h"
#include "storage/lmgr.h"
#include "utils/lsyscache.h"
#include "utils/partcache.h"

Oid
dc_partition_root(Relation relation, uint64 id)
{
	Oid root = RelationGetRelid(relation);
	List *ancestors;
	ListCell *cell;

	if (!relation->rd_rel->relispartition)
		return root;
	ancestors = get_partition_ancestors(root); /* the parent comes first */
	foreach (cell, ancestors)
	{
		Relation ancestor = relation_open(lfirst_oid(cell), AccessShareLock);

		if (dc_rel_keyspace_id(ancestor) == id)
			root = lfirst_oid(cell);
		relation_close(ancestor, AccessShareLock);
	}
	list_free(ancestors);
	return root;
}

/* --- from a key to its partition --- */

/* Index in the partition descriptor, or -1.  No value is null: they are keys. */
static int
find_bound(PartitionKey key, PartitionBoundInfo bounds, Datum *values)
{
	bool nulls[PARTITION_MAX_KEYS] = {false};
	bool equal = false;
	int found = -1;
	int at;

	switch (key->strategy)
	{
		case PARTITION_STRATEGY_HASH:
			return bounds
				->indexes[compute_partition_hash_value(key->partnatts,
													   key->partsupfunc,
													   key->partcollation,
													   values, nulls) %
						  (uint64) bounds->nindexes];
		case PARTITION_STRATEGY_LIST:
			at = partition_list_bsearch(key->partsupfunc, key->partcollation,
										bounds, values[0], &equal);
			if (at >= 0 && equal)
				found = bounds->indexes[at];
			break;
		case PARTITION_STRATEGY_RANGE:
			at = partition_range_datum_bsearch(key->partsupfunc,
											   key->partcollation, bounds,
											   key->partnatts, values, &equal);
			found = bounds->indexes[at + 1];
			break;
		default:
			elog(ERROR, "unknown partition strategy \"%c\"", key->strategy);
	}
	return found >= 0 ? found : bounds->default_index;
}

/* One step down; InvalidOid: no partition takes this key. */
static Oid
find_below(Relation relation, DcRel *root, const Datum *values, bool *is_leaf)
{
	PartitionKey key = RelationGetPartitionKey(relation);
	PartitionDesc partitions = RelationGetPartitionDesc(relation, true);
	DcRel *rel = dc_rel(relation);
	Datum wanted[PARTITION_MAX_KEYS];
	int found;

	if (rel == NULL || partitions->nparts == 0)
		return InvalidOid;
	for (int i = 0; i < key->partnatts; i++)
	{
		int k = 0;

		while (k < rel->key_count && rel->keys[k]->attnum != key->partattrs[i])
			k++;
		if (k == rel->key_count)
			elog(ERROR, "partition key of \"%s\" is not in its primary key",
				 RelationGetRelationName(relation));
		wanted[i] = values[root->keys[k]->attnum - 1];
	}
	found = find_bound(key, partitions->boundinfo, wanted);
	if (found < 0)
		return InvalidOid;
	*is_leaf = partitions->is_leaf[found];
	return partitions->oids[found];
}

Oid
dc_partition_find(Relation root, DcRel *rel, const Datum *values)
{
	bool is_leaf = true;
	Oid found = find_below(root, rel, values, &is_leaf);

	while (OidIsValid(found) && !is_leaf)
	{
		Relation relation = relation_open(found, AccessShareLock);

		found = find_below(relation, rel, values, &is_leaf);
		relation_close(relation, NoLock);
	}
	return found;
}

/* --- all of them --- */

List *
dc_partition_leaves(Oid relid, LOCKMODE lock)
{
	List *leaves = NIL;
	List *all;
	ListCell *cell;

	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return list_make1_oid(relid);
	all = find_all_inheritors(relid, lock, NULL);
	foreach (cell, all)
	{
		if (get_rel_relkind(lfirst_oid(cell)) != RELKIND_PARTITIONED_TABLE)
			leaves = lappend_oid(leaves, lfirst_oid(cell));
	}
	list_free(all);
	list_sort(leaves, list_oid_cmp);
	return leaves;
}

bool
dc_partition_try_lock(Oid relid, LOCKMODE lock)
{
	ListCell *cell;

	if (!ConditionalLockRelationOid(relid, lock))
		return false;
	if (get_rel_relkind(relid) != RELKIND_PARTITIONED_TABLE)
		return true;
	foreach (cell, find_all_inheritors(relid, NoLock, NULL))
	{
		if (!ConditionalLockRelationOid(lfirst_oid(cell), lock))
			return false;
	}
	return true;
}
