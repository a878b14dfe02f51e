/*
 * partition_ddl.h
 *		Commands that put rows into a partitioned table, or take rows out.
 *
 *	 before the command                     after it
 *	 ATTACH   child gets a stamp column     its rows are written anew
 *	 CREATE   -                             it is watched for TRUNCATE
 *	 DETACH   its rows die (captured)       it loses its stamp column
 *	 DROP     its rows die (captured)       -
 *
 * Both run in the transaction of the command, whose failure undoes them.
 */
#ifndef DATACAKE_PARTITION_DDL_H
#define DATACAKE_PARTITION_DDL_H

#include "postgres.h"

#include "nodes/nodes.h"

/* What is to be done after the command; InvalidOid: nothing. */
typedef struct DcPartitionWork
{
	Oid root;     /* watch its partitions */
	Oid attached; /* write its rows anew */
	Oid detached;
	Oid shrunk; /* a root, some of whose partitions were dropped */
} DcPartitionWork;

/*
 * Before a command of whatever kind; it may refuse it.  Who may not run the
 * command gets PostgreSQL's own error: nothing is done for who is no owner.
 */
extern DcPartitionWork dc_partition_before(Node *statement);

/* After the same command. */
extern void dc_partition_after(const DcPartitionWork *work);

/* TRUNCATE of one partition is to be seen: gives each its trigger. */
extern void dc_partition_watch_truncate(Oid relid);

/*
 * The rows of a partition leave the table: each dies, under a stamp above all
 * of them.  Takes AccessExclusiveLock.
 */
extern void dc_partition_bury(Oid relid);

#endif
