/*
 * selector_sql.c
 *		Selectors written in SQL.
 */
#include "selector_sql.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/json.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/snapmgr.h"
#include "utils/syscache.h"

#include "compat.h"
#include "shmem.h"
#include "sql.h"

DC_SQL_FUNCTION(datacake_register_selector);
DC_SQL_FUNCTION(datacake_unregister_selector);

/* --- registering --- */

static Oid
check_function(Oid function)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	Form_pg_proc proc;
	bool fits;
	Oid owner;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", function)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	owner = proc->proowner;
	fits = proc->prokind == PROKIND_FUNCTION && !proc->proretset &&
		   proc->prorettype == INT4ARRAYOID && proc->pronargs == 2 &&
		   proc->proargtypes.values[0] == JSONBOID &&
		   proc->proargtypes.values[1] == TEXTOID;
	ReleaseSysCache(tuple);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("%s cannot be a selector", format_procedure(function)),
				 errhint("A selector is a function that takes jsonb and "
						 "text and returns integer[].")));
	return owner;
}

/* datacake.register_selector(name, selector) */
Datum
datacake_register_selector(PG_FUNCTION_ARGS)
{
	Oid function = PG_GETARG_OID(1);
	const char *arguments[3] = {text_to_cstring(PG_GETARG_TEXT_PP(0))};
	DcRole role;

	dc_require_loaded();
	if (*arguments[0] == '\0' || strlen(arguments[0]) >= NAMEDATALEN ||
		strcmp(arguments[0], "default") == 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a selector: \"%s\"", arguments[0])));
	arguments[2] = GetUserNameFromId(check_function(function), false);
	if (pg_proc_aclcheck(function, GetUserId(), ACL_EXECUTE) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_FUNCTION,
					   get_func_name(function));
	arguments[1] =
		psprintf("%s(jsonb, text)",
				 quote_qualified_identifier(get_namespace_name(
												get_func_namespace(function)),
											get_func_name(function)));
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	if (dc_sql("INSERT INTO datacake.selector (name, function, owner) VALUES "
			   "($1, $2, $3) ON CONFLICT DO NOTHING",
			   3, arguments) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("selector \"%s\" is registered already", arguments[0]),
				 errhint("Use datacake.unregister_selector() first; both can "
						 "be in one transaction.")));
	dc_role_end(role);
	SPI_finish();
	PG_RETURN_VOID();
}

/* datacake.unregister_selector(name) */
Datum
datacake_unregister_selector(PG_FUNCTION_ARGS)
{
	const char *name = text_to_cstring(PG_GETARG_TEXT_PP(0));
	DcRole role;

	dc_require_loaded();
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	if (dc_sql("DELETE FROM datacake.selector WHERE name = $1", 1, &name) == 0)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("selector \"%s\" is not registered", name)));
	dc_role_end(role);
	SPI_finish();
	PG_RETURN_VOID();
}

/* --- running --- */

static Oid
find_function(const char *name, Oid *owner)
{
	DcRole role;
	Oid function = InvalidOid;

	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	if (dc_sql("SELECT p.oid, p.proowner FROM datacake.selector s "
			   "JOIN pg_catalog.pg_proc p "
			   "ON p.oid = pg_catalog.to_regprocedure(s.function) AND "
			   "pg_catalog.pg_get_userbyid(p.proowner) = s.owner "
			   "WHERE s.name = $1",
			   1, &name) == 1)
	{
		function = (Oid) strtoul(dc_sql_text(0, 1), NULL, 10);
		*owner = (Oid) strtoul(dc_sql_text(0, 2), NULL, 10);
	}
	dc_role_end(role);
	SPI_finish();
	return function;
}

static Datum
describe_candidates(const DatacakeCandidate *candidates, int count)
{
	StringInfoData json;

	initStringInfo(&json);
	appendStringInfoChar(&json, '[');
	for (int i = 0; i < count; i++)
	{
		const DatacakeCandidate *c = &candidates[i];

		appendStringInfo(&json,
						 "%s{\"node_id\": %u, \"local\": %s, \"alive\": %s, "
						 "\"lag_us\": ",
						 i > 0 ? ", " : "", c->node_id,
						 c->local ? "true" : "false",
						 c->alive ? "true" : "false");
		if (c->lag_us < 0)
			appendStringInfoString(&json, "null");
		else
			appendStringInfo(&json, INT64_FORMAT, c->lag_us);
		appendStringInfoString(&json, ", \"data_center\": ");
		escape_json(&json, c->data_center);
		appendStringInfoChar(&json, '}');
	}
	appendStringInfoChar(&json, ']');
	return DirectFunctionCall1(jsonb_in, CStringGetDatum(json.data));
}

/* Node ids, as many as there is room for; how many there were. */
static int
take_choice(ArrayType *array, int room, uint32 *chosen)
{
	Datum *elements;
	bool *absent;
	int count;

	deconstruct_array(array, INT4OID, sizeof(int32), true, TYPALIGN_INT,
					  &elements, &absent, &count);
	for (int i = 0; i < Min(count, room); i++)
		chosen[i] = absent[i] ? 0 : (uint32) DatumGetInt32(elements[i]);
	return count;
}

bool
dc_selector_sql(const char *name, const DatacakeCandidate *candidates,
				int count, const char *level, uint32 *chosen, int *chosen_count)
{
	Oid owner = InvalidOid;
	Oid function;
	Datum choice;
	DcRole role;

	if (!IsTransactionState() || !ActiveSnapshotSet())
		return false; /* after a commit, for one */
	function = find_function(name, &owner);
	if (!OidIsValid(function))
		return false;
	(void) check_function(function);
	role = dc_role_begin(owner, true);
	choice = OidFunctionCall2(function, describe_candidates(candidates, count),
							  CStringGetTextDatum(level));
	dc_role_end(role);
	*chosen_count = take_choice(DatumGetArrayTypeP(choice), count, chosen);
	return true;
}
