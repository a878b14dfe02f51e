/*
 * planned_stamp.c
 *		Plans that put the stamp into their rows, in the trigger's place.
 *
 * For a BEFORE ROW trigger of UPDATE or DELETE, PostgreSQL locks each row
 * before it writes it: one more visit of the page and a log record of its own.
 * That of INSERT makes it form each row twice.  So where our trigger is the
 * only one of its kind, the plan does its work:
 *
 *	 INSERT    one more target: _stamp = datacake.stamp_new(...)
 *	 UPDATE    one more target: _stamp = datacake.stamp_over(_stamp, ...)
 *	 DELETE    the same as junk: no row bears it, but what the statement writes
 *			   to the key after that must lie above it
 *
 * and when such a plan starts, its private description of the table's triggers
 * is told that there is none.  A row that somebody else has changed meanwhile
 * is computed anew by PostgreSQL, with the stamp that it replaces then.
 *
 * The trigger stays for all else: COPY, the UPDATE of ON CONFLICT, MERGE, a key
 * that is updated, rows that are routed to partitions, tables with other BEFORE
 * triggers (which would see a stamp that is not there yet), and writes that
 * have no plan.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "executor/executor.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/plannodes.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#include "utils/syscache.h"

#include "capture.h"
#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "planned_stamp.h"
#include "rel.h"
#include "transaction.h"

DC_SQL_FUNCTION(datacake_stamp_new);
DC_SQL_FUNCTION(datacake_stamp_over);

static planner_hook_type next_planner;
static ExecutorStart_hook_type next_start;

/* --- the functions --- */

/* As it was given, where nothing is captured. */
static Datum
uncaptured(FunctionCallInfo fcinfo)
{
	if (!PG_ARGISNULL(1))
		return PG_GETARG_DATUM(1);
	if (dc_applying)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) dc_clock_draw());
}

/*
 * Only plans call these: who calls a function by hand has no value of type
 * internal, and cannot hold back the watermark by a stamp that writes nothing.
 *
 * datacake.stamp_new(regclass, hlc, internal): for a row that is new
 */
Datum
datacake_stamp_new(PG_FUNCTION_ARGS)
{
	DcRel *rel = fcinfo->flinfo->fn_extra;
	DcHlc stamp;

	dc_require_loaded();
	if (dc_applying || !datacake_capture)
		return uncaptured(fcinfo);
	if (rel == NULL)
	{
		/* the statement has locked it */
		Relation relation = relation_open(PG_GETARG_OID(0), NoLock);

		rel = fcinfo->flinfo->fn_extra = dc_rel(relation);
		relation_close(relation, NoLock);
	}
	stamp = dc_transaction_stamp();
	if (rel != NULL && dc_death_after_any(rel->slot, stamp)) /* P1 */
		stamp = dc_transaction_fresh_stamp();
	PG_RETURN_INT64((int64) stamp);
}

/* datacake.stamp_over(hlc, hlc, internal): for a row that replaces another */
Datum
datacake_stamp_over(PG_FUNCTION_ARGS)
{
	dc_require_loaded();
	if (dc_applying || !datacake_capture)
		return uncaptured(fcinfo);
	PG_RETURN_INT64((int64) dc_stamp_over(
		PG_ARGISNULL(0) ? DC_HLC_NONE : (DcHlc) PG_GETARG_INT64(0)));
}

/*
 * A function that may have been dropped and created since we looked.  Looked
 * up without asking for rights, as those of a trigger are not asked for.
 */
static Oid
function_of(Oid *known, const char *name, Oid first, Oid second)
{
	Oid types[3] = {first, second, INTERNALOID};

	if (!OidIsValid(*known) ||
		!SearchSysCacheExists1(PROCOID, ObjectIdGetDatum(*known)))
		*known = GetSysCacheOid3(PROCNAMEARGSNSP, Anum_pg_proc_oid,
								 CStringGetDatum(name),
								 PointerGetDatum(buildoidvector(types, 3)),
								 ObjectIdGetDatum(
									 get_namespace_oid("datacake", true)));
	return *known;
}

static Oid
stamping_function(CmdType command, Oid hlc)
{
	static Oid new = InvalidOid;
	static Oid over = InvalidOid;

	return command == CMD_INSERT ?
			   function_of(&new, "stamp_new", REGCLASSOID, hlc) :
			   function_of(&over, "stamp_over", hlc, hlc);
}

/* --- which tables --- */

static int16
event_of(CmdType command)
{
	return command == CMD_INSERT ? TRIGGER_TYPE_INSERT :
		   command == CMD_UPDATE ? TRIGGER_TYPE_UPDATE :
								   TRIGGER_TYPE_DELETE;
}

/* Is our stamp trigger there as it was made, and no other one BEFORE ROW? */
static bool
only_ours(const TriggerDesc *triggers, CmdType command)
{
	bool ours = false;

	for (int i = 0; triggers != NULL && i < triggers->numtriggers; i++)
	{
		const Trigger *trigger = &triggers->triggers[i];

		if (!TRIGGER_TYPE_MATCHES(trigger->tgtype, TRIGGER_TYPE_ROW,
								  TRIGGER_TYPE_BEFORE, event_of(command)))
			continue;
		if (strcmp(trigger->tgname, DC_STAMP_TRIGGER) != 0 ||
			trigger->tgenabled != TRIGGER_FIRES_ALWAYS)
			return false;
		ours = true;
	}
	return ours;
}

/* Rows of a partitioned table may meet triggers of its partitions. */
static bool
is_plain_keyspace(Relation relation, const TriggerDesc *triggers,
				  CmdType command)
{
	return relation->rd_rel->relkind == RELKIND_RELATION &&
		   dc_rel_keyspace_id(relation) != 0 && only_ours(triggers, command);
}

/* --- planning --- */

static Expr *
null_of(Oid type)
{
	return (Expr *) makeNullConst(type, -1, InvalidOid);
}

static bool
writes_key(Relation relation, List *targets)
{
	Bitmapset *key =
		RelationGetIndexAttrBitmap(relation, INDEX_ATTR_BITMAP_PRIMARY_KEY);
	ListCell *cell;

	foreach (cell, targets)
	{
		const TargetEntry *target = lfirst_node(TargetEntry, cell);

		if (!target->resjunk &&
			bms_is_member(target->resno - FirstLowInvalidHeapAttributeNumber,
						  key))
			return true;
	}
	return false;
}

static Expr *
table_of(Relation relation)
{
	return (Expr *) makeConst(REGCLASSOID, -1, InvalidOid, sizeof(Oid),
							  ObjectIdGetDatum(RelationGetRelid(relation)),
							  false, true);
}

/*
 * What a column gets, among the targets, which are in order; or `otherwise`.
 * Of a DELETE, whose targets are all junk, a new one.
 */
static TargetEntry *
target_of(Query *query, AttrNumber attnum, Expr *otherwise)
{
	bool junk = query->commandType == CMD_DELETE;
	TargetEntry *target;
	int at = 0;

	for (; at < list_length(query->targetList); at++)
	{
		target = list_nth_node(TargetEntry, query->targetList, at);
		if (target->resjunk || target->resno > attnum)
			break;
		if (target->resno == attnum)
			return target;
	}
	target = makeTargetEntry(otherwise, junk ? 1 : attnum,
							 pstrdup(DC_STAMP_COLUMN), junk);
	query->targetList = list_insert_nth(query->targetList, at, target);
	return target;
}

static bool
put_stamp(Query *query, Relation relation, AttrNumber attnum)
{
	Oid hlc = TupleDescAttr(RelationGetDescr(relation), attnum - 1)->atttypid;
	Oid function = stamping_function(query->commandType, hlc);
	bool insert = query->commandType == CMD_INSERT;
	TargetEntry *target;
	Expr *row;

	if (!OidIsValid(function) ||
		pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
		return false;
	row = insert ? table_of(relation) :
				   (Expr *) makeVar(query->resultRelation, attnum, hlc, -1,
									InvalidOid, 0);
	target = target_of(query, attnum, insert ? null_of(hlc) : copyObject(row));
	target->expr =
		(Expr *) makeFuncExpr(function, hlc,
							  list_make3(row, target->expr,
										 null_of(INTERNALOID)),
							  InvalidOid, InvalidOid, COERCE_EXPLICIT_CALL);
	return true;
}

/* False: the trigger stamps its rows. */
static bool
plan_stamp(Query *query)
{
	const RangeTblEntry *target;
	AttrNumber stamp;
	Relation relation;
	bool put;

	if (query->commandType != CMD_INSERT && query->commandType != CMD_UPDATE &&
		query->commandType != CMD_DELETE)
		return false;
	target = rt_fetch(query->resultRelation, query->rtable);
	stamp = get_attnum(target->relid, DC_STAMP_COLUMN);
	if (stamp == InvalidAttrNumber)
		return false;
	relation = relation_open(target->relid, NoLock); /* the analysis locked */
	put = is_plain_keyspace(relation, relation->trigdesc, query->commandType) &&
		  (query->commandType != CMD_UPDATE ||
		   !writes_key(relation, query->targetList)) &&
		  put_stamp(query, relation, stamp);
	relation_close(relation, NoLock);
	return put;
}

static PlannedStmt *
plan(Query *query, const char *text, int options, ParamListInfo params)
{
	bool stamped = plan_stamp(query);
	PlannedStmt *statement;
	ListCell *cell;

	foreach (cell, query->cteList)
	{
		Node *part = lfirst_node(CommonTableExpr, cell)->ctequery;

		if (IsA(part, Query))
			stamped |= plan_stamp((Query *) part);
	}
	statement = next_planner(query, text, options, params);
	statement->dependsOnRole |= stamped; /* may it call the functions? */
	return statement;
}

/* --- starting --- */

/* What the plan computes for the stamp of the i-th table that it writes. */
static const Node *
planned_value(const ModifyTable *plan, int i, AttrNumber attnum)
{
	List *targets = outerPlan(plan)->targetlist;
	int at = plan->operation == CMD_DELETE ? 0 : attnum - 1;

	if (plan->operation == CMD_UPDATE)
	{
		List *columns = list_nth(plan->updateColnosLists, i);

		for (at = 0; at < list_length(columns); at++)
		{
			if (list_nth_int(columns, at) == attnum)
				break;
		}
	}
	return at < list_length(targets) ?
			   (Node *) list_nth_node(TargetEntry, targets, at)->expr :
			   NULL;
}

static bool
is_stamped(const ModifyTable *plan, int i, Relation relation)
{
	AttrNumber attnum = get_attnum(RelationGetRelid(relation), DC_STAMP_COLUMN);
	const Node *value;
	Oid hlc;

	if (attnum == InvalidAttrNumber)
		return false;
	value = planned_value(plan, i, attnum);
	hlc = TupleDescAttr(RelationGetDescr(relation), attnum - 1)->atttypid;
	return value != NULL && IsA(value, FuncExpr) &&
		   ((const FuncExpr *) value)->funcid ==
			   stamping_function(plan->operation, hlc);
}

static void
no_trigger(TriggerDesc *triggers, CmdType command)
{
	if (command == CMD_INSERT)
		triggers->trig_insert_before_row = false;
	else if (command == CMD_UPDATE)
		triggers->trig_update_before_row = false;
	else
		triggers->trig_delete_before_row = false;
}

static void
start_modify(ModifyTableState *state)
{
	const ModifyTable *plan = castNode(ModifyTable, state->ps.plan);

	if (plan->operation == CMD_MERGE)
		return;
	for (int i = 0; i < state->mt_nrels; i++)
	{
		ResultRelInfo *target = &state->resultRelInfo[i];
		Relation relation = target->ri_RelationDesc;

		if (is_plain_keyspace(relation, target->ri_TrigDesc, plan->operation) &&
			is_stamped(plan, i, relation))
			no_trigger(target->ri_TrigDesc, plan->operation);
	}
}

static void
start(QueryDesc *query, int flags)
{
	ListCell *cell;

	next_start(query, flags);
	if (!datacake_capture || (flags & EXEC_FLAG_EXPLAIN_ONLY) != 0)
		return;
	if (IsA(query->planstate, ModifyTableState))
		start_modify(castNode(ModifyTableState, query->planstate));
	foreach (cell, query->estate->es_auxmodifytables)
		start_modify(lfirst_node(ModifyTableState, cell));
}

void
dc_planned_stamp_init(void)
{
	next_planner = planner_hook != NULL ? planner_hook : standard_planner;
	planner_hook = plan;
	next_start = ExecutorStart_hook != NULL ? ExecutorStart_hook :
											  standard_ExecutorStart;
	ExecutorStart_hook = start;
}
