/*
 * table.c
 *		Writing rows of a replicated table below its capture.
 */
#include "table.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "commands/trigger.h"
#include "nodes/makefuncs.h"

void
dc_table_open(DcTable *table, Relation relation, DcRel *rel, bool check)
{
	RangeTblEntry *rte = makeNode(RangeTblEntry);

	table->relation = relation;
	table->rel = rel;
	table->estate = CreateExecutorState();
	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(relation);
	rte->relkind = relation->rd_rel->relkind;
	rte->rellockmode = RowExclusiveLock;
	ExecInitRangeTable(table->estate, list_make1(rte));
	table->result = makeNode(ResultRelInfo);
	InitResultRelInfo(table->result, relation, 1, NULL, 0);
	/* where AFTER triggers look for it */
	table->estate->es_opened_result_relations = list_make1(table->result);
	table->estate->es_output_cid = GetCurrentCommandId(true);
	ExecOpenIndices(table->result, check);
	EvalPlanQualInit(&table->epq, table->estate, NULL, NIL, -1);
	table->remote =
		ExecInitExtraTupleSlot(table->estate, RelationGetDescr(relation),
							   &TTSOpsVirtual);
	table->local = table_slot_create(relation, &table->estate->es_tupleTable);
	AfterTriggerBeginQuery();
}

void
dc_table_close(DcTable *table)
{
	AfterTriggerEndQuery(table->estate);
	EvalPlanQualEnd(&table->epq);
	ExecCloseIndices(table->result);
	ExecResetTupleTable(table->estate->es_tupleTable, false);
	FreeExecutorState(table->estate);
	CommandCounterIncrement();
}

DcHlc
dc_table_find(DcTable *table, const uint8 *key, Size length)
{
	TupleTableSlot *slot = table->remote;

	ResetPerTupleExprContext(table->estate);
	ExecClearTuple(slot);
	memset(slot->tts_isnull, true, sizeof(bool) * table->rel->natts);
	dc_rel_key_decode(table->rel, key, length, slot->tts_values,
					  slot->tts_isnull);
	ExecStoreVirtualTuple(slot);
	if (!RelationFindReplTupleByIndex(table->relation, table->rel->pk_index,
									  LockTupleExclusive, slot, table->local))
		return DC_HLC_NONE;
	return dc_rel_stamp(table->rel, table->local);
}

void
dc_table_insert(DcTable *table)
{
	ExecSimpleRelationInsert(table->result, table->estate, table->remote);
}

void
dc_table_update(DcTable *table)
{
	ExecSimpleRelationUpdate(table->result, table->estate, &table->epq,
							 table->local, table->remote);
}

void
dc_table_delete(DcTable *table)
{
	ExecSimpleRelationDelete(table->result, table->estate, &table->epq,
							 table->local);
}
