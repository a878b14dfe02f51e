/*
 * insert_check.c
 *		An INSERT without a list of columns must not fill the stamp by
 *		position.
 *
 * After ALTER TABLE ... ADD COLUMN the stamp is not the last column any more:
 *
 *	t (id, v, _stamp, price)        INSERT INTO t VALUES (1, 'a', '7')
 *
 * Mostly the analysis fails, because the third value is no stamp.  But a
 * string that looks like one goes in, the trigger writes the real stamp over
 * it, and the price is lost without a word.  An analysed INSERT does not tell
 * whether it had a list.  That it gives a literal for the stamp and nothing
 * for a later column tells enough: dumps give values for all columns, and
 * SELECT * of another replicated table brings stamps, not literals.  Who
 * switches the capture off writes stamps on purpose.
 */
#include "postgres.h"

#include "access/relation.h"
#include "nodes/parsenodes.h"
#include "parser/analyze.h"
#include "parser/parsetree.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "guc.h"
#include "insert_check.h"
#include "rel.h"

static post_parse_analyze_hook_type next_hook;

static bool
is_literal(const Query *query, const Expr *value)
{
	if (IsA(value, Var))
		return rt_fetch(((const Var *) value)->varno, query->rtable)->rtekind ==
			   RTE_VALUES;
	return IsA(value, Const) || IsA(value, Param);
}

static const Expr *
value_of(List *targets, AttrNumber attnum)
{
	ListCell *cell;

	foreach (cell, targets)
	{
		const TargetEntry *target = lfirst_node(TargetEntry, cell);

		if (target->resno == attnum && !target->resjunk)
			return target->expr;
	}
	return NULL;
}

/* The first column after the stamp that gets no value; NULL: none. */
static const char *
left_out(Relation relation, List *targets, AttrNumber stamp)
{
	TupleDesc desc = RelationGetDescr(relation);

	for (AttrNumber attnum = stamp + 1; attnum <= desc->natts; attnum++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);

		if (!att->attisdropped && att->attgenerated == '\0' &&
			value_of(targets, attnum) == NULL)
			return NameStr(att->attname);
	}
	return NULL;
}

static void
check_targets(const Query *query, List *targets)
{
	Oid relid = rt_fetch(query->resultRelation, query->rtable)->relid;
	AttrNumber stamp = get_attnum(relid, DC_STAMP_COLUMN);
	const Expr *value;
	Relation relation;
	const char *column;

	if (stamp == InvalidAttrNumber)
		return;
	value = value_of(targets, stamp);
	if (value == NULL || !is_literal(query, value))
		return;
	relation = relation_open(relid, NoLock); /* the analysis locked it */
	column = left_out(relation, targets, stamp);
	if (column != NULL && dc_rel_keyspace_id(relation) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_GENERATED_ALWAYS),
				 errmsg("INSERT gives a value for column \"%s\" of replicated "
						"table \"%s\", and none for \"%s\"",
						DC_STAMP_COLUMN, RelationGetRelationName(relation),
						column),
				 errdetail("Column \"%s\" is not the last one, so values "
						   "without a list of columns do not fit.",
						   DC_STAMP_COLUMN),
				 errhint("Name the columns: INSERT INTO %s (...) VALUES (...).",
						 RelationGetRelationName(relation))));
	relation_close(relation, NoLock);
}

static void
check_query(const Query *query)
{
	ListCell *cell;

	if (query->commandType == CMD_INSERT)
		check_targets(query, query->targetList);
	foreach (cell, query->mergeActionList)
	{
		const MergeAction *action = lfirst_node(MergeAction, cell);

		if (action->commandType == CMD_INSERT)
			check_targets(query, action->targetList);
	}
	foreach (cell, query->cteList)
	{
		const Node *part = lfirst_node(CommonTableExpr, cell)->ctequery;

		if (IsA(part, Query) &&
			((const Query *) part)->commandType != CMD_SELECT)
			check_query((const Query *) part);
	}
}

static void
after_analysis(ParseState *pstate, Query *query, JumbleState *jumble)
{
	if (next_hook != NULL)
		next_hook(pstate, query, jumble);
	if (datacake_capture)
		check_query(query);
}

void
dc_insert_check_init(void)
{
	next_hook = post_parse_analyze_hook;
	post_parse_analyze_hook = after_analysis;
}
