/*
 * utility.c
 *		What replication adds to utility commands.
 *
 * The one place where we stand before and after ProcessUtility:
 *
 *	 partition_ddl.c   rows that a command puts into a table, or takes out
 *	     |
 *	 this file         COPY, ALTER TYPE
 *	     |
 *	 who was here before us, and PostgreSQL
 *	     |
 *	 partition_ddl.c
 *
 * What a command has made of a table is looked at later, by event triggers
 * (alter.c).
 *
 * COPY of a replicated table without a list of columns is given the list of
 * what its user calls columns: without the stamp, which triggers write, and
 * without generated columns, as COPY does by itself.  Files made before the
 * table was replicated, or anywhere else, so go in as they are.  A list that
 * is there, like that of pg_dump, stays.
 *
 * ALTER TYPE ... RENAME VALUE is refused where keys would change under our
 * hands.
 */
#include "postgres.h"

#include "access/relation.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "nodes/makefuncs.h"
#include "nodes/parsenodes.h"
#include "nodes/value.h"
#include "parser/parse_type.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "partition_ddl.h"
#include "rel.h"
#include "sql.h"
#include "utility.h"

static ProcessUtility_hook_type next_hook;

/* --- COPY --- */

static List *
columns_without_stamp(Relation relation)
{
	TupleDesc desc = RelationGetDescr(relation);
	List *names = NIL;

	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute att = TupleDescAttr(desc, i);

		if (!att->attisdropped && att->attgenerated == '\0' &&
			strcmp(NameStr(att->attname), DC_STAMP_COLUMN) != 0)
			names = lappend(names, makeString(pstrdup(NameStr(att->attname))));
	}
	return names;
}

/* What COPY does first anyway: the lock stays, so the list stays right. */
static List *
copy_columns(const CopyStmt *copy)
{
	LOCKMODE lock = copy->is_from ? RowExclusiveLock : AccessShareLock;
	Oid relid = RangeVarGetRelid(copy->relation, lock, true);
	Relation relation;
	List *names = NIL;

	if (!OidIsValid(relid))
		return NIL; /* COPY has the words for it */
	relation = relation_open(relid, NoLock);
	if (dc_rel_keyspace_id(relation) != 0)
		names = columns_without_stamp(relation);
	relation_close(relation, NoLock);
	return names;
}

static PlannedStmt *
adjust_copy(PlannedStmt *pstmt, bool read_only)
{
	CopyStmt *copy = (CopyStmt *) pstmt->utilityStmt;
	List *names;

	if (copy->relation == NULL || copy->attlist != NIL)
		return pstmt;
	names = copy_columns(copy);
	if (names == NIL)
		return pstmt;
	if (read_only)
		pstmt = copyObject(pstmt);
	((CopyStmt *) pstmt->utilityStmt)->attlist = names;
	return pstmt;
}

/* --- ALTER TYPE --- */

/* Entries, tombstones and messages name a key by its bytes: by this label. */
static void
check_renamed_value(const AlterEnumStmt *alter)
{
	Oid type = typenameTypeId(NULL, makeTypeNameFromNameList(alter->typeName));
	DcRole role;
	uint64 keys;

	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	keys = dc_sql("SELECT t.tgrelid::regclass::text, a.atttypid::text "
				  "FROM pg_trigger t JOIN pg_index i ON i.indrelid = t.tgrelid "
				  "JOIN pg_attribute a ON a.attrelid = t.tgrelid "
				  "WHERE t.tgname = '" DC_CAPTURE_TRIGGER "' AND "
				  "i.indisprimary AND a.attnum = ANY (i.indkey)",
				  0, NULL);
	for (uint64 i = 0; i < keys; i++)
	{
		if (getBaseType((Oid) strtoul(dc_sql_text(i, 2), NULL, 10)) == type)
			ereport(ERROR,
					(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					 errmsg("cannot rename values of type \"%s\"",
							format_type_be(type)),
					 errdetail("It is in the primary key of the replicated "
							   "table \"%s\".",
							   dc_sql_text(i, 1)),
					 errhint("Add a value and UPDATE the rows.")));
	}
	dc_role_end(role);
	SPI_finish();
}

/* --- all of them --- */

static PlannedStmt *
adjust(PlannedStmt *pstmt, bool read_only)
{
	Node *statement = pstmt->utilityStmt;

	if (IsA(statement, CopyStmt))
		return adjust_copy(pstmt, read_only);
	if (IsA(statement, AlterEnumStmt) &&
		castNode(AlterEnumStmt, statement)->oldVal != NULL)
		check_renamed_value(castNode(AlterEnumStmt, statement));
	return pstmt;
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest,
				QueryCompletion *completion)
{
	DcPartitionWork work = dc_partition_before(pstmt->utilityStmt);

	pstmt = adjust(pstmt, read_only);
	next_hook(pstmt, query, read_only, context, params, environment, dest,
			  completion);
	dc_partition_after(&work);
}

void
dc_utility_init(void)
{
	next_hook = ProcessUtility_hook != NULL ? ProcessUtility_hook :
											  standard_ProcessUtility;
	ProcessUtility_hook = process_utility;
}
