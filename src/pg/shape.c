/*
 * shape.c
 *		Rows that were written to another version of their table.
 *
 * What is absent from an image always becomes the default, also over a row
 * that has another value: whatever the order in which two versions of a row
 * arrive, the newer image alone decides how the row looks.
 */
#include "shape.h"

#include "access/relation.h"
#include "executor/executor.h"
#include "nodes/makefuncs.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "parser/parse_coerce.h"
#include "rewrite/rewriteHandler.h"
#include "utils/lsyscache.h"

#include "incoming.h"
#include "rel.h"
#include "sql.h"

/* One name in the history of a keyspace. */
typedef struct Past
{
	char *name;
	DcHlc stamp; /* written before it, a value belongs to ... */
	char *now;   /* ... this column; NULL: to none */
} Past;

/* An expression for the value of a column. */
typedef struct Filler
{
	AttrNumber attnum;
	ExprState *state;
} Filler;

struct DcShape
{
	ExprContext *context;
	int cast_count;
	Filler *casts; /* of what was decoded */
	int default_count;
	Filler *defaults;
};

/* --- the history --- */

static Past *
read_history(uint64 id, int *count)
{
	const char *arguments[1] = {dc_sql_number(id)};
	uint64 rows =
		dc_sql("SELECT e.key, e.value->>'before', e.value->>'now' "
			   "FROM datacake.keyspace k, pg_catalog.jsonb_each(k.history) e "
			   "WHERE k.id = $1::bigint",
			   1, arguments);
	Past *past = palloc(sizeof(Past) * (rows + 1));

	for (uint64 i = 0; i < rows; i++)
		past[i] = (Past){.name = dc_sql_text(i, 1),
						 .stamp = strtoull(dc_sql_text(i, 2), NULL, 10),
						 .now = dc_sql_text(i, 3)};
	*count = (int) rows;
	return past;
}

static const Past *
find_past(const Past *past, int count, const char *name)
{
	for (int i = 0; i < count; i++)
	{
		if (strcmp(past[i].name, name) == 0)
			return &past[i];
	}
	return NULL;
}

static DcColumn *
find_column(DcRel *rel, const char *name)
{
	for (int i = 0; i < rel->column_count; i++)
	{
		if (strcmp(rel->columns[i].name, name) == 0)
			return &rel->columns[i];
	}
	return NULL;
}

/* --- expressions --- */

/* The cast that ALTER TABLE ... TYPE makes; NULL: there is none. */
static ExprState *
make_cast(const DcColumn *from, const DcColumn *to)
{
	CaseTestExpr *value = makeNode(CaseTestExpr);
	Node *cast;

	value->typeId = from->type;
	value->typeMod = from->typmod;
	value->collation = get_typcollation(from->type);
	cast = coerce_to_target_type(NULL, (Node *) value, from->type, to->type,
								 to->typmod, COERCION_ASSIGNMENT,
								 COERCE_IMPLICIT_CAST, -1);
	return cast == NULL ? NULL :
						  ExecInitExpr(expression_planner((Expr *) cast), NULL);
}

static ExprState *
make_default(Relation relation, AttrNumber attnum)
{
	Node *value = build_column_default(relation, attnum);

	return value == NULL ?
			   NULL :
			   ExecInitExpr(expression_planner((Expr *) value), NULL);
}

static void
add_filler(Filler **fillers, int *count, AttrNumber attnum, ExprState *state)
{
	*fillers = *fillers == NULL ?
				   palloc(sizeof(Filler)) :
				   repalloc(*fillers, sizeof(Filler) * (Size) (*count + 1));
	(*fillers)[(*count)++] = (Filler){.attnum = attnum, .state = state};
}

/* --- fitting --- */

/* Do two columns of the image go into this one? */
static bool
is_taken(const DcTarget *target, const DcColumn *column, int but)
{
	for (int i = 0; i < target->image_columns; i++)
	{
		if (i != but && target->columns[i] != NULL &&
			target->columns[i]->attnum == column->attnum)
			return true;
	}
	return false;
}

/*
 * Follows the name of an image's column through the history; false if that
 * does not lead to a column of its type, or to none any more.
 */
static bool
resolve(DcTarget *target, int image, const Past *past, int count)
{
	char *name = pnstrdup((const char *) target->names[image].data,
						  target->names[image].length);
	char *type = pnstrdup((const char *) target->types[image].data,
						  target->types[image].length);

	target->columns[image] = NULL;
	for (int steps = 0; steps <= count; steps++)
	{
		DcColumn *column = find_column(target->rel, name);
		const Past *step = find_past(past, count, name);
		ExprState *cast;

		if (column != NULL && strcmp(column->type_name, type) == 0)
		{
			target->columns[image] = column;
			return !is_taken(target, column, image);
		}
		if (step == NULL)
			return false;
		target->until = Min(target->until, step->stamp);
		if (step->now == NULL)
			return true;
		if (column == NULL || strcmp(step->now, name) != 0)
		{
			name = step->now;
			continue;
		}
		target->columns[image] = dc_rel_column_as(column, type);
		if (target->columns[image] == NULL || is_taken(target, column, image) ||
			(cast = make_cast(target->columns[image], column)) == NULL)
			return false;
		add_filler(&target->shape->casts, &target->shape->cast_count,
				   column->attnum, cast);
		return true;
	}
	return false;
}

static bool
agrees(const DcTarget *target, int image)
{
	const DcColumn *column = target->columns[image];

	return column != NULL &&
		   strlen(column->type_name) == target->types[image].length &&
		   memcmp(column->type_name, target->types[image].data,
				  target->types[image].length) == 0;
}

static bool
explain(DcTarget *target)
{
	int count;
	Past *past = read_history(dc_keyspace(target->slot)->id, &count);

	target->until = DC_HLC_MAX;
	for (int i = 0; i < target->image_columns; i++)
	{
		if (!agrees(target, i) && !resolve(target, i, past, count))
			return false;
	}
	return true;
}

/* What the image says nothing of. */
static void
add_defaults(DcTarget *target)
{
	DcShape *shape = target->shape;
	Relation relation = relation_open(target->rel->relid, NoLock);

	for (int i = 0; i < target->rel->column_count; i++)
	{
		const DcColumn *column = &target->rel->columns[i];

		if (!is_taken(target, column, -1))
			add_filler(&shape->defaults, &shape->default_count, column->attnum,
					   make_default(relation, column->attnum));
	}
	relation_close(relation, NoLock);
}

void
dc_shape_fit(DcTarget *target)
{
	target->shape = palloc0(sizeof(DcShape));
	target->shape->context = CreateStandaloneExprContext();
	target->late_complaint = target->complaint;
	target->complaint = NULL;
	if (target->late_complaint != NULL && !explain(target))
		target->until = DC_HLC_NONE;
	else
		add_defaults(target);
}

/* --- rows --- */

static Datum
evaluate(DcShape *shape, ExprState *state, Datum value, bool *null)
{
	shape->context->caseValue_datum = value;
	shape->context->caseValue_isNull = *null;
	return ExecEvalExpr(state, shape->context, null);
}

void
dc_shape_complete(DcShape *shape, TupleTableSlot *slot)
{
	for (int i = 0; i < shape->cast_count; i++)
	{
		int att = shape->casts[i].attnum - 1;

		slot->tts_values[att] =
			evaluate(shape, shape->casts[i].state, slot->tts_values[att],
					 &slot->tts_isnull[att]);
	}
	for (int i = 0; i < shape->default_count; i++)
	{
		int att = shape->defaults[i].attnum - 1;

		slot->tts_isnull[att] = true;
		if (shape->defaults[i].state != NULL)
			slot->tts_values[att] = evaluate(shape, shape->defaults[i].state,
											 (Datum) 0, &slot->tts_isnull[att]);
	}
}
