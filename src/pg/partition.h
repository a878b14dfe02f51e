/*
 * partition.h
 *		A partitioned table is one keyspace.
 *
 *	               orders  PRIMARY KEY (id, at) PARTITION BY RANGE (at)
 *	              /      \          key -> partition, on each node by itself
 *	     orders_2025   orders_2026
 *
 * The primary key contains the partition key, without expressions: PostgreSQL
 * demands it.  So a key names its partition.  Peers may have other partitions,
 * or none; a row that moves to another partition changes its key, and is a
 * death and a birth as ever; a row that fits no partition waits (P12).
 *
 * ATTACH PARTITION puts rows into the table, DETACH PARTITION and DROP TABLE of
 * a partition take rows out of it.  For the cluster these are writes like
 * INSERT and DELETE (partition_ddl.h).  A detached table is ordinary
 * and keeps its rows.
 */
#ifndef DATACAKE_PARTITION_H
#define DATACAKE_PARTITION_H

#include "postgres.h"

#include "utils/rel.h"

#include "rel.h"

static inline bool
dc_is_partitioned(Relation relation)
{
	return relation->rd_rel->relkind == RELKIND_PARTITIONED_TABLE;
}

/* The topmost ancestor that bears the triggers of this keyspace, or itself. */
extern Oid dc_partition_root(Relation relation, uint64 id);

/*
 * The partition for a key, given as values of the root by attribute;
 * InvalidOid: none.  AccessShareLock on partitioned tables on the way stays.
 */
extern Oid dc_partition_find(Relation root, DcRel *rel, const Datum *values);

/* The tables that hold the rows, by ascending oid; locked (NoLock: not). */
extern List *dc_partition_leaves(Oid relid, LOCKMODE lock);

/* The same lock on all of them at once, without waiting; false: not. */
extern bool dc_partition_try_lock(Oid relid, LOCKMODE lock);

#endif
