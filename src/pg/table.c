/*
 * table.c
 *		Writing rows of a replicated table below its capture.
 */
#include "table.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/tupconvert.h"
#include "access/xact.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/nodeModifyTable.h"
#include "nodes/makefuncs.h"
#include "utils/snapmgr.h"

#include "partition.h"

/* --- triggers --- */

static bool
is_enabled(const Trigger *trigger)
{
	char elsewhere =
		SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA ?
			TRIGGER_FIRES_ON_ORIGIN :
			TRIGGER_FIRES_ON_REPLICA;

	return trigger->tgenabled != TRIGGER_DISABLED &&
		   trigger->tgenabled != elsewhere;
}

static bool
is_ours(const Trigger *trigger)
{
	return strcmp(trigger->tgname, DC_STAMP_TRIGGER) == 0 ||
		   strcmp(trigger->tgname, DC_CAPTURE_TRIGGER) == 0;
}

bool
dc_table_fires(Relation relation, int16 events)
{
	const TriggerDesc *triggers = relation->trigdesc;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (TRIGGER_FOR_ROW(trigger->tgtype) &&
			(trigger->tgtype & events) != 0 && is_enabled(trigger) &&
			!is_ours(trigger))
			return true;
	}
	return false;
}

/* --- opening --- */

/* Slots and indexes; the execution state is there. */
static void
open_rows(DcTable *table, bool check)
{
	EState *estate = table->estate;
	TupleDesc desc = RelationGetDescr(table->relation);

	/* where AFTER triggers look for it */
	estate->es_opened_result_relations =
		lappend(estate->es_opened_result_relations, table->result);
	table->remote = ExecInitExtraTupleSlot(estate, desc, &TTSOpsVirtual);
	table->local = table_slot_create(table->relation, &estate->es_tupleTable);
	if (!dc_is_partitioned(table->relation))
		ExecOpenIndices(table->result, check);
	if (!dc_table_fires(table->relation, TRIGGER_TYPE_INSERT |
											 TRIGGER_TYPE_UPDATE |
											 TRIGGER_TYPE_DELETE))
	{
		table->result->ri_TrigDesc = NULL; /* a BEFORE trigger takes a lock */
		table->plain = !dc_is_partitioned(table->relation);
	}
}

void
dc_table_open(DcTable *table, Relation relation, DcRel *rel, bool check)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	memset(table, 0, sizeof(*table));
	table->relation = relation;
	table->rel = rel;
	table->check = check;
	table->at = dc_is_partitioned(relation) ? NULL : table;
	table->estate = CreateExecutorState();
	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(relation);
	rte->relkind = relation->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	ExecInitRangeTable(table->estate, list_make1(rte));
	table->result = makeNode(ResultRelInfo);
	InitResultRelInfo(table->result, relation, 1, NULL, 0);
	table->estate->es_output_cid = GetCurrentCommandId(true);
	open_rows(table, check);
	EvalPlanQualInit(&table->epq, table->estate, NULL, NIL, -1);
	AfterTriggerBeginQuery();
}

void
dc_table_close(DcTable *table)
{
	ListCell *cell;

	AfterTriggerEndQuery(table->estate);
	EvalPlanQualEnd(&table->epq);
	ExecCloseResultRelations(table->estate);
	ExecResetTupleTable(table->estate->es_tupleTable, false);
	foreach (cell, table->parts)
	{
		DcTable *part = lfirst(cell);

		relation_close(part->relation, NoLock);
	}
	FreeExecutorState(table->estate);
	CommandCounterIncrement();
}

/* --- partitions --- */

static DcTable *
open_part(DcTable *table, Oid relid)
{
	MemoryContext old = MemoryContextSwitchTo(table->estate->es_query_cxt);
	DcTable *part = palloc0(sizeof(DcTable));

	part->relation = relation_open(relid, RowExclusiveLock);
	part->rel = dc_rel(part->relation);
	if (part->rel == NULL)
		elog(ERROR, "partition \"%s\" belongs to no keyspace",
			 RelationGetRelationName(part->relation));
	part->estate = table->estate;
	part->at = part;
	part->result = makeNode(ResultRelInfo);
	InitResultRelInfo(part->result, part->relation, 0, table->result, 0);
	open_rows(part, table->check);
	EvalPlanQualInit(&part->epq, part->estate, NULL, NIL, -1);
	table->parts = lappend(table->parts, part);
	MemoryContextSwitchTo(old);
	return part;
}

DcTable *
dc_table_part(DcTable *table, Oid relid)
{
	ListCell *cell;

	if (relid == RelationGetRelid(table->relation))
		return table;
	foreach (cell, table->parts)
	{
		DcTable *part = lfirst(cell);

		if (RelationGetRelid(part->relation) == relid)
			return part;
	}
	return open_part(table, relid);
}

/* The partition for the key in `remote`; NULL: there is none. */
static DcTable *
route(DcTable *table)
{
	Oid relid;

	if (!dc_is_partitioned(table->relation))
		return table;
	relid = dc_partition_find(table->relation, table->rel,
							  table->remote->tts_values);
	return OidIsValid(relid) ? dc_table_part(table, relid) : NULL;
}

/* `remote`, as a row of the partition. */
static TupleTableSlot *
row_of_part(DcTable *table, DcTable *part)
{
	if (part == table || part->rel->from_root == NULL)
		return table->remote;
	return execute_attr_map_slot(part->rel->from_root, table->remote,
								 part->remote);
}

/* --- finding --- */

static bool
decode_key(DcTable *table, const uint8 *key, Size length)
{
	TupleTableSlot *slot = table->remote;

	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * table->rel->natts);
	if (!dc_rel_key_try(table->rel, key, length, slot->tts_values,
						slot->tts_isnull))
		return false;
	ExecStoreVirtualTuple(slot);
	return true;
}

/* What was found in a partition, as a row of the root. */
static void
show_local(DcTable *table)
{
	if (table->at != table)
		dc_rel_to_root(table->at->rel, table->at->local, table->local);
}

void
dc_table_show(DcTable *table, DcTable *part)
{
	table->at = part;
	show_local(table);
}

DcHlc
dc_table_find(DcTable *table, const uint8 *key, Size length)
{
	ResetPerTupleExprContext(table->estate);
	table->at = NULL;
	if (!decode_key(table, key, length))
		return DC_HLC_NONE;
	table->at = route(table);
	if (table->at == NULL)
		return DC_HLC_NONE;
	if (table->at != table)
		(void) decode_key(table->at, key, length);
	if (!RelationFindReplTupleByIndex(table->at->relation,
									  table->at->rel->pk_index,
									  LockTupleExclusive, table->at->remote,
									  table->at->local))
		return DC_HLC_NONE;
	show_local(table);
	return dc_rel_stamp(table->rel, table->local);
}

DcHlc
dc_table_look(DcTable *table, const uint8 *key, Size length)
{
	SnapshotData dirty;

	ResetPerTupleExprContext(table->estate);
	table->at = table;
	InitDirtySnapshot(dirty);
	if (!dc_rel_find(table->rel, table->relation, key, length, &dirty,
					 table->local) ||
		TransactionIdIsValid(dirty.xmin) || TransactionIdIsValid(dirty.xmax))
		return DC_HLC_NONE;
	return dc_rel_stamp(table->rel, table->local);
}

bool
dc_table_find_rival(DcTable *table, ItemPointer tid)
{
	table->at = route(table);
	ItemPointerSetInvalid(tid);
	if (table->at == NULL ||
		ExecCheckIndexConstraints(table->at->result,
								  row_of_part(table, table->at), table->estate,
								  tid, NIL) ||
		!ItemPointerIsValid(tid) ||
		!table_tuple_fetch_row_version(table->at->relation, tid, SnapshotAny,
									   table->at->local))
		return false;
	show_local(table);
	return true;
}

/* --- writing --- */

void
dc_table_require(const DcTable *table, bool done)
{
	if (!done)
		ereport(ERROR,
				(errcode(ERRCODE_TRIGGERED_ACTION_EXCEPTION),
				 errmsg("a trigger of table \"%s\" leaves out what another "
						"node wrote",
						RelationGetRelationName(table->relation)),
				 errhint("Triggers that are enabled as ALWAYS or REPLICA must "
						 "not return null for it.")));
}

bool
dc_table_insert(DcTable *table)
{
	TupleTableSlot *row;

	table->at = route(table);
	if (table->at == NULL)
		ereport(ERROR, (errcode(ERRCODE_CHECK_VIOLATION),
						errmsg("no partition of relation \"%s\" found for row",
							   RelationGetRelationName(table->relation))));
	row = row_of_part(table, table->at);
	ItemPointerSetInvalid(&row->tts_tid);
	ExecSimpleRelationInsert(table->at->result, table->estate, row);
	return ItemPointerIsValid(&row->tts_tid);
}

bool
dc_table_update(DcTable *table)
{
	TupleTableSlot *row = row_of_part(table, table->at);

	ItemPointerSetInvalid(&row->tts_tid);
	ExecSimpleRelationUpdate(table->at->result, table->estate, &table->at->epq,
							 table->at->local, row);
	return ItemPointerIsValid(&row->tts_tid);
}

bool
dc_table_delete(DcTable *table)
{
	Relation relation = table->at->result->ri_RelationDesc;
	ItemPointerData tid = table->at->local->tts_tid;

	ExecSimpleRelationDelete(table->at->result, table->estate, &table->at->epq,
							 table->at->local);
	return !dc_table_fires(relation, TRIGGER_TYPE_DELETE) ||
		   !table_tuple_fetch_row_version(relation, &tid, SnapshotSelf,
										  table->at->local);
}

void
dc_table_check_row(DcTable *table, TupleTableSlot *slot, CmdType command)
{
	Relation relation = table->relation;

	slot->tts_tableOid = RelationGetRelid(relation);
	if (relation->rd_att->constr != NULL)
	{
		if (relation->rd_att->constr->has_generated_stored)
			ExecComputeStoredGenerated(table->result, table->estate, slot,
									   command);
		ExecConstraints(table->result, slot, table->estate);
	}
	if (relation->rd_rel->relispartition)
		ExecPartitionCheck(table->result, slot, table->estate, true);
}

bool
dc_table_try_update(DcTable *table)
{
	TupleTableSlot *slot = table->remote;
	TM_FailureData why;
	LockTupleMode mode;
	bool new_entries;

	CheckCmdReplicaIdentity(table->relation, CMD_UPDATE);
	dc_table_check_row(table, slot, CMD_UPDATE);
	if (table_tuple_update(table->relation, &table->local->tts_tid, slot,
						   table->estate->es_output_cid, GetActiveSnapshot(),
						   InvalidSnapshot, false, &why, &mode,
						   &new_entries) != TM_Ok)
		return false;
	if (table->result->ri_NumIndices > 0 && new_entries)
		list_free(ExecInsertIndexTuples(table->result, slot, table->estate,
										true, false, NULL, NIL));
	return true;
}

bool
dc_table_try_delete(DcTable *table)
{
	TM_FailureData why;

	CheckCmdReplicaIdentity(table->relation, CMD_DELETE);
	return table_tuple_delete(table->relation, &table->local->tts_tid,
							  table->estate->es_output_cid, GetActiveSnapshot(),
							  InvalidSnapshot, false, &why, false) == TM_Ok;
}
