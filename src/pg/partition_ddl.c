/*
 * partition_ddl.c
 *		Commands that put rows into a partitioned table, or take rows out.
 *
 * DROP SCHEMA ... CASCADE and DROP OWNED that take a partition and leave its
 * table are not seen: its rows are missing here then, and wait in the
 * quarantine when a repair has fetched them.
 */
#include "partition_ddl.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/partition.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_inherits.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/acl.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

#include "alter.h"
#include "capture.h"
#include "changes.h"
#include "definition.h"
#include "guc.h"
#include "partition.h"
#include "shmem.h"
#include "sql.h"
#include "transaction.h"

/* --- what a relation is --- */

/* The keyspace's table that this one is or belongs to; InvalidOid: none. */
static Oid
keyspace_root(Oid relid)
{
	Relation relation =
		OidIsValid(relid) ? try_relation_open(relid, AccessShareLock) : NULL;
	DcRel *rel;
	Oid root;

	if (relation == NULL)
		return InvalidOid;
	rel = dc_rel_keyspace_id(relation) != 0 ? dc_rel(relation) : NULL;
	root = rel != NULL ? rel->root : InvalidOid;
	relation_close(relation, AccessShareLock); /* the command locks more */
	return root;
}

static bool
is_owner(Oid relid)
{
	return OidIsValid(relid) && pg_class_ownercheck(relid, GetUserId());
}

static Oid
named(RangeVar *name)
{
	return RangeVarGetRelid(name, NoLock, true);
}

/* --- deaths --- */

static void
bury_leaf(Oid relid, DcHlc stamp)
{
	Relation relation = relation_open(relid, NoLock);
	DcRel *rel = dc_rel(relation);
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	TableScanDesc scan = table_beginscan(relation, snapshot, 0, NULL);
	TupleTableSlot *row = table_slot_create(relation, NULL);
	DcCaptured captured = {.entry = {.stamp = stamp, .dead = true},
						   .command = GetCurrentCommandId(false)};
	StringInfoData key;

	initStringInfo(&key);
	while (rel != NULL &&
		   table_scan_getnextslot(scan, ForwardScanDirection, row))
	{
		CHECK_FOR_INTERRUPTS();
		slot_getallattrs(row);
		resetStringInfo(&key);
		dc_rel_key(rel, row->tts_values, row->tts_isnull, &key);
		captured.key = dc_key_make((uint8 *) key.data, (Size) key.len);
		captured.replaced = dc_rel_stamp(rel, row);
		dc_change_capture(rel, &captured, NULL);
	}
	ExecDropSingleTupleTableSlot(row);
	table_endscan(scan);
	UnregisterSnapshot(snapshot);
	relation_close(relation, NoLock);
}

void
dc_partition_bury(Oid relid)
{
	List *leaves;
	ListCell *cell;
	DcHlc stamp;

	if (!datacake_capture)
		return;
	LockRelationOid(relid, AccessExclusiveLock);
	leaves = dc_partition_leaves(relid, AccessExclusiveLock);
	stamp = dc_transaction_fresh_stamp(); /* nobody writes them any more */
	foreach (cell, leaves)
		bury_leaf(lfirst_oid(cell), stamp);
}

/* --- ATTACH, CREATE --- */

static void
add_stamp(Oid relid)
{
	DcRole role;

	if (get_attnum(relid, DC_STAMP_COLUMN) != InvalidAttrNumber)
		return;
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	SPI_connect();
	dc_sql(psprintf("ALTER TABLE %s ADD COLUMN %s datacake.hlc NOT NULL "
					"DEFAULT '0'",
					dc_sql_table(relid), DC_STAMP_COLUMN),
		   0, NULL);
	dc_sql(psprintf("ALTER TABLE %s ALTER COLUMN %s DROP DEFAULT",
					dc_sql_table(relid), DC_STAMP_COLUMN),
		   0, NULL);
	SPI_finish();
	dc_role_end(role);
}

/* Stamped and captured like any write, as its owner; few triggers fire. */
static void
write_leaf_anew(Oid relid)
{
	Relation relation = relation_open(relid, NoLock);
	DcRole role = dc_role_begin(relation->rd_rel->relowner, true);

	relation_close(relation, NoLock);
	(void) set_config_option("session_replication_role", "replica", PGC_SUSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) set_config_option("row_security", "off", PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SAVE, true, 0, false);
	dc_sql(psprintf("UPDATE ONLY %s SET %s = %s", dc_sql_table(relid),
					DC_STAMP_COLUMN, DC_STAMP_COLUMN),
		   0, NULL);
	dc_role_end(role);
}

static void
write_anew(Oid relid)
{
	ListCell *cell;

	SPI_connect();
	foreach (cell, dc_partition_leaves(relid, AccessExclusiveLock))
		write_leaf_anew(lfirst_oid(cell));
	SPI_finish();
}

static bool
has_truncate_trigger(Oid relid)
{
	Relation relation = relation_open(relid, NoLock);
	TriggerDesc *triggers = relation->trigdesc;
	bool found = false;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
		found |= strcmp(triggers->triggers[i].tgname, DC_TRUNCATE_TRIGGER) == 0;
	relation_close(relation, NoLock);
	return found;
}

void
dc_partition_watch_truncate(Oid relid)
{
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	ListCell *cell;

	SPI_connect();
	foreach (cell, dc_partition_leaves(relid, ShareRowExclusiveLock))
	{
		char *leaf = dc_sql_table(lfirst_oid(cell));

		if (has_truncate_trigger(lfirst_oid(cell)))
			continue;
		dc_sql(psprintf("CREATE TRIGGER \"%s\" BEFORE TRUNCATE ON %s FOR EACH "
						"STATEMENT EXECUTE FUNCTION "
						"datacake.capture_truncate()",
						DC_TRUNCATE_TRIGGER, leaf),
			   0, NULL);
		dc_sql(psprintf("ALTER TABLE %s ENABLE ALWAYS TRIGGER \"%s\"", leaf,
						DC_TRUNCATE_TRIGGER),
			   0, NULL);
	}
	SPI_finish();
	dc_role_end(role);
	CommandCounterIncrement();
}

static void
before_attach(Oid child)
{
	if (OidIsValid(keyspace_root(child)))
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is replicated by itself",
						get_rel_name(child)),
				 errhint("Use SELECT datacake.unreplicate_table(...) first.")));
	if (is_owner(child))
		add_stamp(child);
}

/* --- DETACH --- */

static void
before_detach(const PartitionCmd *command, Oid root, Oid child)
{
	if (command->concurrent)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot detach a partition of replicated table \"%s\" "
						"concurrently",
						get_rel_name(root)),
				 errhint("Use ALTER TABLE ... DETACH PARTITION without "
						 "CONCURRENTLY.")));
	if (!is_owner(root) || !OidIsValid(child) || keyspace_root(child) != root)
		return;
	LockRelationOid(root, AccessExclusiveLock); /* as the command does */
	dc_partition_bury(child);
}

/* An ordinary table now. */
static void
after_detach(Oid child)
{
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	ListCell *cell;

	SPI_connect();
	foreach (cell, dc_partition_leaves(child, AccessExclusiveLock))
		dc_sql(psprintf("DROP TRIGGER IF EXISTS \"%s\" ON %s",
						DC_TRUNCATE_TRIGGER, dc_sql_table(lfirst_oid(cell))),
			   0, NULL);
	dc_sql(psprintf("ALTER TABLE %s DROP COLUMN IF EXISTS %s",
					dc_sql_table(child), DC_STAMP_COLUMN),
		   0, NULL);
	SPI_finish();
	dc_role_end(role);
}

/* --- DROP TABLE --- */

static List *
dropped_tables(const DropStmt *statement)
{
	List *relids = NIL;
	ListCell *cell;

	foreach (cell, statement->objects)
		relids = lappend_oid(relids, named(makeRangeVarFromNameList(
										 castNode(List, lfirst(cell)))));
	return relids;
}

static bool
is_dropped_with_parent(Oid relid, const List *relids)
{
	ListCell *cell;

	foreach (cell, get_partition_ancestors(relid))
	{
		if (list_member_oid(relids, lfirst_oid(cell)))
			return true;
	}
	return false;
}

/* The root of the partitions that are dropped; InvalidOid: there are none. */
static Oid
before_drop(const DropStmt *statement)
{
	List *relids;
	ListCell *cell;
	Oid root = InvalidOid;

	if (statement->removeType != OBJECT_TABLE)
		return InvalidOid;
	relids = dropped_tables(statement);
	foreach (cell, relids)
	{
		Oid relid = lfirst_oid(cell);

		if (!OidIsValid(relid) || !get_rel_relispartition(relid) ||
			!is_owner(relid) || is_dropped_with_parent(relid, relids) ||
			!OidIsValid(keyspace_root(relid)))
			continue;
		root = keyspace_root(relid);
		LockRelationOid(get_partition_parent(relid, true), AccessExclusiveLock);
		dc_partition_bury(relid);
	}
	return root;
}

/* Who has not the table yet gets the partitions that there are now. */
static void
after_drop(Oid root)
{
	Relation relation = relation_open(root, AccessShareLock);
	DcRel *rel = dc_rel(relation);

	if (rel != NULL && !dc_defined_elsewhere)
	{
		SPI_connect();
		dc_definition_update(root, rel->id, "{}", "{}");
		SPI_finish();
	}
	relation_close(relation, NoLock);
}

/* --- which commands --- */

static void
refuse_inheritance(const List *parents)
{
	ListCell *cell;

	foreach (cell, parents)
	{
		RangeVar *parent = lfirst(cell);

		if (OidIsValid(keyspace_root(named(parent))))
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot inherit from replicated table \"%s\"",
							parent->relname),
					 errhint("Use a partitioned table, or tables that do not "
							 "inherit.")));
	}
}

static void
before_alter(const AlterTableStmt *statement, DcPartitionWork *work)
{
	ListCell *cell;

	foreach (cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst(cell);
		Oid root = InvalidOid;
		Oid child;

		if (command->subtype == AT_AddInherit)
			refuse_inheritance(list_make1(command->def));
		if (command->subtype != AT_AttachPartition &&
			command->subtype != AT_DetachPartition)
			continue;
		root = keyspace_root(named(statement->relation));
		child = named(castNode(PartitionCmd, command->def)->name);
		if (!OidIsValid(root) || !OidIsValid(child))
			continue;
		if (command->subtype == AT_AttachPartition)
		{
			before_attach(child);
			work->root = root;
			work->attached = child;
		}
		else
		{
			before_detach(castNode(PartitionCmd, command->def), root, child);
			work->detached = child;
		}
	}
}

static void
before(Node *statement, DcPartitionWork *work)
{
	CreateStmt *create;

	switch (nodeTag(statement))
	{
		case T_AlterTableStmt:
			before_alter(castNode(AlterTableStmt, statement), work);
			break;
		case T_DropStmt:
			work->shrunk = before_drop(castNode(DropStmt, statement));
			break;
		case T_CreateStmt:
			create = castNode(CreateStmt, statement);
			if (create->partbound != NULL)
				work->root =
					keyspace_root(named(linitial(create->inhRelations)));
			else
				refuse_inheritance(create->inhRelations);
			break;
		default:
			break;
	}
}

/* Commands that matter, in the database that takes part. */
static bool
concerns_us(Node *statement)
{
	return (IsA(statement, AlterTableStmt) || IsA(statement, DropStmt) ||
			IsA(statement, CreateStmt)) &&
		   dc_shared != NULL && dc_configured() && !dc_applying &&
		   IsTransactionState() && dc_here() && !RecoveryInProgress() &&
		   OidIsValid(get_namespace_oid("datacake", true));
}

DcPartitionWork
dc_partition_before(Node *statement)
{
	DcPartitionWork work = {InvalidOid};

	if (concerns_us(statement))
		before(statement, &work);
	return work;
}

void
dc_partition_after(const DcPartitionWork *work)
{
	if (!OidIsValid(work->root) && !OidIsValid(work->detached) &&
		!OidIsValid(work->shrunk))
		return;
	CommandCounterIncrement();
	if (OidIsValid(work->root))
		dc_partition_watch_truncate(work->root);
	if (OidIsValid(work->attached))
		write_anew(work->attached);
	if (OidIsValid(work->detached))
		after_detach(work->detached);
	if (OidIsValid(work->shrunk))
		after_drop(work->shrunk);
}
