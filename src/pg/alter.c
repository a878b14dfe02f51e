/*
 * alter.c
 *		What DDL does to replicated tables of this node.
 */
#include "alter.h"

#include "access/relation.h"
#include "catalog/pg_authid.h"
#include "commands/event_trigger.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "lib/stringinfo.h"
#include "nodes/parsenodes.h"
#include "optimizer/optimizer.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/json.h"
#include "utils/lsyscache.h"

#include "compat.h"
#include "definition.h"
#include "guc.h"
#include "keyspace.h"
#include "mend.h"
#include "rel.h"
#include "shmem.h"
#include "sql.h"
#include "transaction.h"

DC_SQL_FUNCTION(datacake_follow_ddl);

bool dc_defined_elsewhere = false;

#define OUR_TRIGGERS                                                           \
	"('" DC_STAMP_TRIGGER "', 'datacake.stamp_row()'::regprocedure), "         \
	"('" DC_CAPTURE_TRIGGER "', 'datacake.capture_row()'::regprocedure), "     \
	"('" DC_TRUNCATE_TRIGGER "', 'datacake.capture_truncate()'::regprocedure)"

/* --- what must not be --- */

typedef struct Complaint
{
	const char *name; /* as the query gives it */
	const char *text;
	const char *hint;
} Complaint;

#define TAKE_BACK "SELECT datacake.unreplicate_table(...) first"

static const Complaint complaints[] = {
	{"stamp", "its column \"" DC_STAMP_COLUMN "\" belongs to Datacake",
	 "Leave it as it is, or use " TAKE_BACK "."},
	{"triggers", "its triggers of Datacake must stay as they are, and enabled",
	 "Leave them out (ENABLE or DISABLE TRIGGER name, not ALL), or use " TAKE_BACK
	 ". A superuser may set datacake.capture to off for writes that "
	 "are not sent to other nodes."},
	{"unlogged", "it would lose its rows in a crash", "Use " TAKE_BACK "."},
	{"forced", "row security cannot be forced on its owner",
	 "Changes of other nodes are applied as the owner."},
	{"key", "its primary key cannot be changed",
	 "Keys are compared between nodes. Use " TAKE_BACK " on one node, alter "
	 "the table on all nodes, and replicate it again."},
	{"deferrable", "it would have a deferrable unique or exclusion constraint",
	 "Use unique constraints that are NOT DEFERRABLE."},
	{"mutable", "each node would compute other values for the new column",
	 "Add the column without its default, set the default by ALTER COLUMN, "
	 "then UPDATE the rows on one node."},
};

static void
refuse(Oid relid, const char *name)
{
	const Complaint *complaint = complaints;

	while (strcmp(complaint->name, name) != 0)
		complaint++;
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("cannot change replicated table \"%s\": %s",
						   get_rel_name(relid), complaint->text),
					errhint("%s", complaint->hint)));
}

/*
 * Triggers of ours are looked at where they may have been disabled; who may
 * leave rows out of the capture may do it in that way, too.
 *
 * The key is the same if its columns have the same types and, unless they
 * were renamed, the same names as in the definition.
 */
#define KEY_CHANGED                                                            \
	"NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = c.oid "             \
	"  AND i.indisprimary) OR EXISTS (SELECT FROM datacake.keyspace k, "       \
	"  LATERAL (SELECT array_agg(a.attname::text) AS names, "                  \
	"    array_agg(format_type(a.atttypid, a.atttypmod) ORDER BY p.n) "        \
	"    AS types FROM pg_index i, "                                           \
	"    unnest(i.indkey) WITH ORDINALITY p(attnum, n), pg_attribute a "       \
	"    WHERE i.indrelid = c.oid AND i.indisprimary "                         \
	"    AND p.n <= i.indnkeyatts AND a.attrelid = c.oid "                     \
	"    AND a.attnum = p.attnum) here "                                       \
	"  WHERE k.id = $2::bigint AND (here.types <> "                            \
	"    (SELECT array_agg(e.c->>'type' ORDER BY p.n) "                        \
	"     FROM unnest(k.primary_key) WITH ORDINALITY p(name, n), "             \
	"     jsonb_array_elements(k.columns) e(c) "                               \
	"     WHERE e.c->>'name' = p.name) "                                       \
	"    OR EXISTS (SELECT FROM unnest(k.primary_key) p(name), "               \
	"      pg_attribute a WHERE p.name <> ALL (here.names) "                   \
	"      AND a.attrelid = c.oid AND a.attname = p.name "                     \
	"      AND NOT a.attisdropped)))"

/*
 * Might it disable one of ours?  What brings them back, as a dump does one
 * after the other, may leave others as they are.
 */
static bool
touches_triggers(Node *command)
{
	ListCell *cell;

	if (IsA(command, RenameStmt))
		return ((RenameStmt *) command)->renameType == OBJECT_TRIGGER;
	if (!IsA(command, AlterTableStmt))
		return false;
	foreach (cell, ((AlterTableStmt *) command)->cmds)
	{
		switch (lfirst_node(AlterTableCmd, cell)->subtype)
		{
			case AT_EnableTrig:
			case AT_EnableReplicaTrig:
			case AT_DisableTrig:
			case AT_EnableTrigAll:
			case AT_DisableTrigAll:
			case AT_EnableTrigUser:
			case AT_DisableTrigUser:
				return true;
			default:
				break;
		}
	}
	return false;
}

#define ANY_TABLE                                                              \
	"EXISTS (SELECT FROM pg_class p WHERE (p.oid = c.oid OR p.oid IN "         \
	"  (SELECT relid FROM pg_partition_tree(c.oid))) AND "

static void
check(Oid relid, uint64 id, bool triggers)
{
	const char *arguments[4] = {dc_sql_number(relid), dc_sql_number(id),
								triggers && datacake_capture ? "true" : "false",
								datacake_capture ? "true" : "false"};
	char *name;

	if (dc_sql("SELECT CASE "
			   "WHEN NOT EXISTS (SELECT FROM pg_attribute a "
			   "  WHERE a.attrelid = c.oid AND a.attname = '" DC_STAMP_COLUMN
			   "' AND a.atttypid = 'datacake.hlc'::regtype "
			   "  AND (a.attnotnull OR NOT $4::boolean) AND NOT a.atthasdef) "
			   "  THEN 'stamp' "
			   "WHEN $3::boolean AND ((SELECT count(*) FROM pg_trigger t "
			   "  JOIN (VALUES " OUR_TRIGGERS ") o(name, function) "
			   "  ON t.tgname = o.name AND t.tgfoid = o.function "
			   "  WHERE t.tgrelid = c.oid AND t.tgenabled = 'A') <> 3 "
			   "  OR EXISTS (SELECT FROM pg_partition_tree(c.oid) p "
			   "  JOIN pg_trigger t ON t.tgrelid = p.relid "
			   "  WHERE t.tgenabled <> 'A' AND t.tgfoid IN "
			   "  ('datacake.stamp_row()'::regprocedure, "
			   "  'datacake.capture_row()'::regprocedure))) THEN 'triggers' "
			   "WHEN " ANY_TABLE "p.relpersistence <> 'p') THEN 'unlogged' "
			   "WHEN " ANY_TABLE "p.relforcerowsecurity) THEN 'forced' "
			   "WHEN EXISTS (SELECT FROM pg_index i "
			   "  WHERE i.indrelid = c.oid AND (i.indisunique "
			   "  OR i.indisexclusion) AND NOT i.indimmediate) THEN 'deferrable' "
			   "WHEN " KEY_CHANGED " THEN 'key' "
			   "END FROM pg_class c WHERE c.oid = $1::oid",
			   4, arguments) != 1)
		return;
	name = dc_sql_text(0, 1);
	if (name != NULL)
		refuse(relid, name);
}

/* --- the history --- */

/* {"name": {"before": stamp, "now": name}}; `now` NULL: it is gone. */
static void
add_past(StringInfo history, const char *name, const char *now)
{
	if (dc_defined_elsewhere)
		return;
	appendStringInfoChar(history, history->len == 1 ? ' ' : ',');
	escape_json(history, name);
	appendStringInfo(history, ": {\"before\": \"%llu\", \"now\": ",
					 (unsigned long long) dc_transaction_fresh_stamp());
	if (now == NULL)
		appendStringInfoString(history, "null");
	else
		escape_json(history, now);
	appendStringInfoChar(history, '}');
}

static void
add_name(StringInfo names, const char *name)
{
	appendStringInfo(names, "%s\"", names->len == 1 ? "" : ",");
	for (; *name != '\0'; name++)
	{
		if (*name == '"' || *name == '\\')
			appendStringInfoChar(names, '\\');
		appendStringInfoChar(names, *name);
	}
	appendStringInfoChar(names, '"');
}

/*
 * The rows that are there get the default of a new column, now, on each node
 * by itself.  What is generated comes out alike everywhere.
 */
static void
check_added(Relation relation, const ColumnDef *definition)
{
	AttrNumber attnum =
		get_attnum(RelationGetRelid(relation), definition->colname);
	Form_pg_attribute att;
	Node *value;

	if (attnum == InvalidAttrNumber)
		return;
	att = TupleDescAttr(RelationGetDescr(relation), attnum - 1);
	if (att->attgenerated != '\0')
		return;
	value = build_column_default(relation, attnum);
	if (att->attidentity != '\0' || contain_mutable_functions(value))
		refuse(RelationGetRelid(relation), "mutable");
}

/*
 * Renamed columns, and new types that values are cast to.  What USING makes of
 * them nobody else can know: such a row waits.
 */
static void
read_command(Oid relid, Node *command, StringInfo history, StringInfo forgotten)
{
	Relation relation;
	ListCell *cell;

	if (IsA(command, RenameStmt) &&
		((RenameStmt *) command)->renameType == OBJECT_COLUMN)
		add_past(history, ((RenameStmt *) command)->subname,
				 ((RenameStmt *) command)->newname);
	if (!IsA(command, AlterTableStmt))
		return;
	relation = relation_open(relid, AccessShareLock);
	foreach (cell, ((AlterTableStmt *) command)->cmds)
	{
		AlterTableCmd *step = lfirst_node(AlterTableCmd, cell);

		if (step->subtype == AT_AddColumn)
			check_added(relation, (ColumnDef *) step->def);
		if (step->subtype != AT_AlterColumnType)
			continue;
		if (((ColumnDef *) step->def)->raw_default == NULL)
			add_past(history, step->name, step->name);
		else
			add_name(forgotten, step->name);
	}
	relation_close(relation, AccessShareLock);
}

static void
redefine(Oid relid, uint64 id, StringInfo history, StringInfo forgotten)
{
	appendStringInfoChar(history, '}');
	appendStringInfoChar(forgotten, '}');
	if (!dc_defined_elsewhere)
		dc_definition_update(relid, id, history->data, forgotten->data);
}

static void
begin_history(StringInfo history, StringInfo forgotten)
{
	initStringInfo(history);
	initStringInfo(forgotten);
	appendStringInfoChar(history, '{');
	appendStringInfoChar(forgotten, '{');
}

/* --- the events --- */

#define KEYSPACE_TRIGGER                                                       \
	"t.tgfoid = 'datacake.capture_row()'::regprocedure "                       \
	"AND t.tgrelid <> 'datacake.keyspace'::regclass "                          \
	"AND t.tgparentid = 0"

/*
 * A node that has started once waits until it is awake, for only then memory
 * says which table is which keyspace.  Before that it has none; and if this
 * very transaction created the extension, it cannot wake.
 */
static bool
await_keyspaces(void)
{
	if (dc_phase() == DC_PHASE_IDLE &&
		dc_sql("SELECT FROM datacake.local_state", 0, NULL) == 0)
		return false;
	dc_require_awake();
	return true;
}

static bool
is_keyspace(Oid relid, uint64 id)
{
	return await_keyspaces() && dc_rel_is_adopted(relid, id);
}

/* Keyspaces that the command concerns, directly or by a type or schema. */
static void
after_command(Node *command)
{
	uint64 rows =
		dc_sql("SELECT DISTINCT t.tgrelid::text, " DC_KEYSPACE_OF_TRIGGER
			   " FROM pg_event_trigger_ddl_commands() d, pg_trigger t "
			   "JOIN pg_class c ON c.oid = t.tgrelid "
			   "WHERE " KEYSPACE_TRIGGER " AND CASE d.classid "
			   "WHEN 'pg_class'::regclass THEN d.objid = t.tgrelid "
			   "  OR t.tgrelid IN (SELECT relid FROM pg_partition_ancestors(d.objid)) "
			   "  OR d.objid IN "
			   "  (SELECT i.indexrelid FROM pg_index i WHERE i.indrelid = t.tgrelid) "
			   "WHEN 'pg_trigger'::regclass THEN d.objid IN "
			   "  (SELECT o.oid FROM pg_trigger o WHERE o.tgrelid = t.tgrelid) "
			   "WHEN 'pg_constraint'::regclass THEN d.objid IN "
			   "  (SELECT o.oid FROM pg_constraint o WHERE o.conrelid = t.tgrelid) "
			   "WHEN 'pg_namespace'::regclass THEN d.objid = c.relnamespace "
			   "WHEN 'pg_type'::regclass THEN EXISTS (SELECT FROM pg_attribute a "
			   "  WHERE a.attrelid = t.tgrelid AND a.atttypid = d.objid) END",
			   0, NULL);
	SPITupleTable *found = SPI_tuptable;

	for (uint64 i = 0; i < rows; i++)
	{
		Oid relid =
			(Oid) strtoul(SPI_getvalue(found->vals[i], found->tupdesc, 1), NULL,
						  10);
		uint64 id =
			strtoull(SPI_getvalue(found->vals[i], found->tupdesc, 2), NULL, 10);
		StringInfoData history;
		StringInfoData forgotten;

		if (!is_keyspace(relid, id))
			continue; /* it is being restored from a dump */
		check(relid, id, touches_triggers(command));
		begin_history(&history, &forgotten);
		read_command(relid, command, &history, &forgotten);
		redefine(relid, id, &history, &forgotten);
	}
	if (rows > 0 ||
		dc_sql("SELECT FROM datacake.unrealized LIMIT 1", 0, NULL) > 0)
		dc_retry_soon();
}

/* A trigger goes with its table, and with a partition that is detached. */
static bool
drops_trigger(Node *command)
{
	return IsA(command, DropStmt) &&
		   ((DropStmt *) command)->removeType == OBJECT_TRIGGER;
}

static void
follow_dropped_tables(Node *command)
{
	uint64 rows =
		dc_sql("SELECT t.objid::text, s.relid::text "
			   "FROM pg_event_trigger_dropped_objects() d "
			   "LEFT JOIN pg_event_trigger_dropped_objects() t "
			   "  ON t.object_type = 'table' "
			   "  AND t.address_names = d.address_names[1:2], "
			   "LATERAL (SELECT to_regclass(format('%I.%I', d.address_names[1], "
			   "  d.address_names[2]))::oid AS relid) s "
			   "WHERE d.object_type = 'trigger' "
			   "AND (d.address_names[3] = '" DC_CAPTURE_TRIGGER
			   "' OR d.address_names[3] IN ('" DC_STAMP_TRIGGER
			   "', '" DC_TRUNCATE_TRIGGER "') AND EXISTS (SELECT "
			   "  FROM pg_trigger t WHERE t.tgrelid = s.relid "
			   "  AND t.tgfoid = 'datacake.capture_row()'::regprocedure))",
			   0, NULL);
	SPITupleTable *found = SPI_tuptable;

	for (uint64 i = 0; i < rows; i++)
	{
		char *dropped = SPI_getvalue(found->vals[i], found->tupdesc, 1);
		char *relid = SPI_getvalue(found->vals[i], found->tupdesc, 2);

		if (dropped == NULL && relid != NULL && drops_trigger(command) &&
			await_keyspaces())
			refuse((Oid) strtoul(relid, NULL, 10), "triggers");
		if (dropped != NULL && await_keyspaces())
			dc_keyspace_dropped((Oid) strtoul(dropped, NULL, 10),
								!dc_defined_elsewhere);
	}
}

static void
follow_dropped_columns(void)
{
	uint64 rows =
		dc_sql("SELECT t.tgrelid::text, " DC_KEYSPACE_OF_TRIGGER
			   ", d.address_names[3] "
			   "FROM pg_event_trigger_dropped_objects() d "
			   "JOIN pg_trigger t ON t.tgrelid = d.objid "
			   "WHERE d.object_type = 'table column' AND " KEYSPACE_TRIGGER,
			   0, NULL);
	SPITupleTable *found = SPI_tuptable;

	for (uint64 i = 0; i < rows; i++)
	{
		Oid relid =
			(Oid) strtoul(SPI_getvalue(found->vals[i], found->tupdesc, 1), NULL,
						  10);
		uint64 id =
			strtoull(SPI_getvalue(found->vals[i], found->tupdesc, 2), NULL, 10);
		StringInfoData history;
		StringInfoData forgotten;

		if (!is_keyspace(relid, id))
			continue; /* it is being restored from a dump */
		check(relid, id, false);
		begin_history(&history, &forgotten);
		add_past(&history, SPI_getvalue(found->vals[i], found->tupdesc, 3),
				 NULL);
		redefine(relid, id, &history, &forgotten);
	}
}

/* datacake.follow_ddl() returns event_trigger */
Datum
datacake_follow_ddl(PG_FUNCTION_ARGS)
{
	EventTriggerData *event = (EventTriggerData *) fcinfo->context;
	DcRole role;

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("function \"%s\" must be fired by an event trigger",
						"datacake.follow_ddl")));
	if (dc_shared == NULL || !dc_configured() || !dc_here() || dc_own_ddl)
		PG_RETURN_NULL();
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	if (strcmp(event->event, "sql_drop") == 0)
	{
		follow_dropped_tables(event->parsetree);
		follow_dropped_columns();
	}
	else
		after_command(event->parsetree);
	dc_role_end(role);
	SPI_finish();
	PG_RETURN_NULL();
}
