/*
 * sql.c
 *		Running SQL of our own from C.
 */
#include "sql.h"

#include "access/table.h"
#include "access/xact.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "storage/lwlock.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#define ARGUMENTS_MAX 12

/* Arguments that are all text. */
typedef struct Arguments
{
	Oid types[ARGUMENTS_MAX];
	Datum values[ARGUMENTS_MAX];
	char nulls[ARGUMENTS_MAX];
} Arguments;

static void
set_arguments(Arguments *out, int count, const char *const *arguments)
{
	if (count > ARGUMENTS_MAX)
		elog(ERROR, "too many arguments");
	for (int i = 0; i < count; i++)
	{
		out->types[i] = TEXTOID;
		out->nulls[i] = arguments[i] == NULL ? 'n' : ' ';
		out->values[i] = arguments[i] == NULL ?
							 (Datum) 0 :
							 CStringGetTextDatum(arguments[i]);
	}
}

static uint64
processed(int result, const char *command)
{
	if (result < 0)
		elog(ERROR, "SPI failed on \"%s\": %s", command,
			 SPI_result_code_string(result));
	return SPI_processed;
}

uint64
dc_sql(const char *command, int count, const char *const *arguments)
{
	Arguments in;

	set_arguments(&in, count, arguments);
	return processed(SPI_execute_with_args(command, count, in.types, in.values,
										   in.nulls, false, 0),
					 command);
}

SPIPlanPtr
dc_sql_plan(DcStatement *statement, int count, Oid *types)
{
	if (statement->plan == NULL)
	{
		SPIPlanPtr plan = SPI_prepare(statement->text, count, types);

		if (plan == NULL)
			elog(ERROR, "SPI failed on \"%s\": %s", statement->text,
				 SPI_result_code_string(SPI_result));
		if (SPI_keepplan(plan) != 0)
			elog(ERROR, "could not keep a plan");
		statement->plan = plan;
	}
	return statement->plan;
}

uint64
dc_sql_often(DcStatement *statement, int count, const char *const *arguments)
{
	Arguments in;

	set_arguments(&in, count, arguments);
	return processed(SPI_execute_plan(dc_sql_plan(statement, count, in.types),
									  in.values, in.nulls, false, 0),
					 statement->text);
}

Oid
dc_sql_relid(const char *table)
{
	return get_relname_relid(table, get_namespace_oid("datacake", false));
}

bool
dc_sql_never_written(const char *table)
{
	Relation relation = table_open(dc_sql_relid(table), AccessShareLock);
	bool empty = RelationGetNumberOfBlocks(relation) == 0;

	table_close(relation, AccessShareLock);
	return empty;
}

const char *
dc_sql_number(uint64 number)
{
	return psprintf("%llu", (unsigned long long) number);
}

char *
dc_sql_text(uint64 row, int column)
{
	return SPI_getvalue(SPI_tuptable->vals[row], SPI_tuptable->tupdesc, column);
}

int
dc_sqlstate(DcStatus status)
{
	const char *s = dc_status_sqlstate(status);

	return MAKE_SQLSTATE(s[0], s[1], s[2], s[3], s[4]);
}

void
dc_set_option(const char *name, const char *value)
{
	(void) set_config_option(name, value, PGC_SUSET, PGC_S_SESSION,
							 GUC_ACTION_SET, true, 0, false);
}

void
dc_transaction_abort(void)
{
	if (IsTransactionState())
		AbortCurrentTransaction();
	LWLockReleaseAll();
}

void
dc_transaction_begin(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
}

void
dc_transaction_commit(MemoryContext context)
{
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(context);
}

#define OWN_PATH "pg_catalog, pg_temp"

/*
 * The path is seldom another one in sessions of our own; setting it makes all
 * settings be looked at when the role ends, and the path be looked up again.
 */
DcRole
dc_role_begin(Oid role, bool restricted)
{
	DcRole before = {.guc_level = NewGUCNestLevel()};

	GetUserIdAndSecContext(&before.user, &before.context);
	SetUserIdAndSecContext(role,
						   before.context | SECURITY_LOCAL_USERID_CHANGE |
							   (restricted ? SECURITY_RESTRICTED_OPERATION :
											 0));
	if (strcmp(namespace_search_path, OWN_PATH) != 0)
		(void) set_config_option("search_path", OWN_PATH, PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	if (quote_all_identifiers) /* names of types are compared */
		(void) set_config_option("quote_all_identifiers", "off", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
								 false);
	return before;
}

void
dc_role_end(DcRole role)
{
	AtEOXact_GUC(true, role.guc_level);
	SetUserIdAndSecContext(role.user, role.context);
}

/* --- DDL of our own --- */

bool dc_own_ddl = false;

void
dc_sql_own_ddl(const char *command)
{
	dc_own_ddl = true;
	PG_TRY();
	{
		dc_sql(command, 0, NULL);
	}
	PG_FINALLY();
	{
		dc_own_ddl = false;
	}
	PG_END_TRY();
}

char *
dc_sql_table(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(
										  get_rel_namespace(relid)),
									  get_rel_name(relid));
}
