/*
 * service.c
 *		Services of this node: registering and running them.
 */
#include "service.h"

#include "access/htup_details.h"
#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/jsonb.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"
#include "utils/timeout.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "datacake_api.h"
#include "guc.h"
#include "shmem.h"
#include "sql.h"

DC_SQL_FUNCTION(datacake_register_service);
DC_SQL_FUNCTION(datacake_unregister_service);

static uint32 depth_now;

/* --- JSON on its way --- */

DcSlice
dc_service_value(Datum value, bool is_null, const char *what)
{
	bytea *sent;

	if (is_null)
		return (DcSlice){NULL, 0};
	/* one byte of version, then text */
	sent = DatumGetByteaP(DirectFunctionCall1(jsonb_send, value));
	if (VARSIZE(sent) - VARHDRSZ > DC_SERVICE_BYTES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
				 errmsg("%s of a service has %zu bytes, more than %u", what,
						(size_t) (VARSIZE(sent) - VARHDRSZ),
						DC_SERVICE_BYTES_MAX),
				 errhint("Send it in parts, or write it into a replicated "
						 "table.")));
	return (DcSlice){(uint8 *) VARDATA(sent) + 1, VARSIZE(sent) - VARHDRSZ - 1};
}

Datum
dc_service_datum(DcSlice value, bool *is_null)
{
	StringInfo text;

	*is_null = value.data == NULL;
	if (*is_null)
		return (Datum) 0;
	text = makeStringInfo();
	appendStringInfoChar(text, 1); /* version of jsonb_recv's format */
	appendBinaryStringInfo(text, (const char *) value.data, (int) value.length);
	return DirectFunctionCall1(jsonb_recv, PointerGetDatum(text));
}

/* --- registering --- */

static void
check_handler(Oid handler)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(handler));
	Form_pg_proc proc;
	bool fits;

	if (!HeapTupleIsValid(tuple))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("function with OID %u does not exist", handler)));
	proc = (Form_pg_proc) GETSTRUCT(tuple);
	fits = proc->prokind == PROKIND_FUNCTION && !proc->proretset &&
		   proc->prorettype == JSONBOID && proc->pronargs == 1 &&
		   proc->proargtypes.values[0] == JSONBOID;
	ReleaseSysCache(tuple);
	if (!fits)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_FUNCTION_DEFINITION),
				 errmsg("%s cannot handle a service",
						format_procedure(handler)),
				 errhint("A handler is a function that takes one jsonb and "
						 "returns jsonb.")));
}

/* As calling it by its name would. */
static void
check_permission(Oid handler)
{
	Oid schema = get_func_namespace(handler);
	AclResult allowed = pg_namespace_aclcheck(schema, GetUserId(), ACL_USAGE);

	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_SCHEMA, get_namespace_name(schema));
	allowed = pg_proc_aclcheck(handler, GetUserId(), ACL_EXECUTE);
	if (allowed != ACLCHECK_OK)
		aclcheck_error(allowed, OBJECT_FUNCTION, get_func_name(handler));
}

static Oid
handler_owner(Oid handler)
{
	HeapTuple tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(handler));
	Oid owner = InvalidOid;

	if (HeapTupleIsValid(tuple))
	{
		owner = ((Form_pg_proc) GETSTRUCT(tuple))->proowner;
		ReleaseSysCache(tuple);
	}
	return owner;
}

static void
check_name(const char *name)
{
	if (*name == '\0' || strlen(name) > DC_NAME_BYTES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a service: \"%s\"", name),
				 errhint("A name has 1 to %d bytes.", DC_NAME_BYTES_MAX)));
}

/* name, handler, owner, library, symbol, role; registered_by is this role */
static void
insert_service(const char *arguments[7])
{
	DcRole role;

	arguments[6] = GetUserNameFromId(GetUserId(), false);
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	if (dc_sql("INSERT INTO datacake.service (name, handler, owner, library, "
			   "symbol, role, registered_by) "
			   "VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT DO NOTHING",
			   7, arguments) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_DUPLICATE_OBJECT),
				 errmsg("service \"%s\" is registered already", arguments[0]),
				 errhint("Use datacake.unregister_service() first; both can "
						 "be in one transaction.")));
	dc_role_end(role);
	SPI_finish();
}

/* datacake.register_service(name, handler) */
Datum
datacake_register_service(PG_FUNCTION_ARGS)
{
	Oid handler = PG_GETARG_OID(1);
	const char *arguments[7] = {text_to_cstring(PG_GETARG_TEXT_PP(0))};

	dc_require_loaded();
	check_name(arguments[0]);
	check_handler(handler);
	check_permission(handler);
	arguments[1] =
		psprintf("%s(jsonb)",
				 quote_qualified_identifier(get_namespace_name(
												get_func_namespace(handler)),
											get_func_name(handler)));
	arguments[2] = GetUserNameFromId(handler_owner(handler), false);
	insert_service(arguments);
	PG_RETURN_VOID();
}

void
dc_service_register_symbol(const char *name, const char *library,
						   const char *symbol, const char *role)
{
	const char *arguments[7] = {name, NULL, NULL, library, symbol, role};

	dc_require_loaded();
	check_name(name);
	if (!superuser())
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("must be superuser to register a symbol of a library "
						"as a service")));
	(void) load_external_function(library, symbol, true, NULL);
	if (role != NULL)
		(void) get_role_oid(role, false);
	insert_service(arguments);
}

static void
raise_unknown(const char *name)
{
	ereport(ERROR, (errcode(DC_ERRCODE_NO_SERVICE),
					errmsg("service \"%s\" is not registered on node %d", name,
						   datacake_node_id),
					errhint("Use datacake.register_service() there; "
							"datacake.services shows what is.")));
}

void
dc_service_unregister(const char *name)
{
	DcRole role;

	dc_require_loaded();
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	if (dc_sql("DELETE FROM datacake.service WHERE name = $1", 1, &name) == 0)
		raise_unknown(name);
	dc_role_end(role);
	SPI_finish();
}

/* datacake.unregister_service(name) */
Datum
datacake_unregister_service(PG_FUNCTION_ARGS)
{
	dc_service_unregister(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_VOID();
}

/* --- running --- */

/* What is to be run; one of both. */
typedef struct Handler
{
	Oid function;
	DatacakeService symbol;
} Handler;

/* False if there is no such service; inside SPI, as the superuser. */
static bool
look_up(const char *name)
{
	static SPIPlanPtr plan;
	Oid types[1] = {TEXTOID};
	Datum values[1] = {CStringGetTextDatum(name)};

	if (plan == NULL)
	{
		SPIPlanPtr fresh =
			SPI_prepare("SELECT handler, owner, to_regprocedure(handler)::oid, "
						"library, symbol, role FROM datacake.service WHERE name = $1",
						1, types);

		if (fresh == NULL || SPI_keepplan(fresh) != 0)
			elog(ERROR, "could not prepare the look-up of services");
		plan = fresh;
	}
	if (SPI_execute_plan(plan, values, NULL, false, 1) != SPI_OK_SELECT)
		elog(ERROR, "could not look up a service");
	return SPI_processed > 0;
}

static Oid
resolve_function(const char *name)
{
	const char *known = dc_sql_text(0, 1);
	const char *owner = dc_sql_text(0, 2);
	const char *oid = dc_sql_text(0, 3);
	Oid function = oid != NULL ? (Oid) strtoul(oid, NULL, 10) : InvalidOid;

	if (!OidIsValid(function) ||
		handler_owner(function) != get_role_oid(owner, true))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_FUNCTION),
				 errmsg("handler %s of service \"%s\" is not there any more on "
						"node %d",
						known, name, datacake_node_id),
				 errdetail("A function of that name that belongs to role "
						   "\"%s\" was registered.",
						   owner),
				 errhint("Unregister the service and register it again.")));
	return function;
}

static DatacakeService
resolve_symbol(const char *name, Oid caller)
{
	const char *role = dc_sql_text(0, 6);
	Oid wanted = role != NULL ? get_role_oid(role, true) : InvalidOid;

	if (role != NULL &&
		(!OidIsValid(wanted) || !has_privs_of_role(caller, wanted)))
		ereport(ERROR, (errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
						errmsg("permission denied for service \"%s\"", name),
						errdetail("It is for members of role \"%s\".", role)));
	return (DatacakeService) load_external_function(dc_sql_text(0, 4),
													dc_sql_text(0, 5), true,
													NULL);
}

/* What is registered, if the current role may run it. */
static Handler
find_handler(const char *name)
{
	Handler handler = {InvalidOid, NULL};
	Oid caller = GetUserId();
	DcRole role;

	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, true);
	if (!look_up(name))
		raise_unknown(name);
	if (dc_sql_text(0, 1) != NULL)
		handler.function = resolve_function(name);
	else
		handler.symbol = resolve_symbol(name, caller);
	dc_role_end(role);
	SPI_finish();
	if (OidIsValid(handler.function))
	{
		check_handler(handler.function);
		check_permission(handler.function);
	}
	return handler;
}

static Datum
run_function(Oid oid, Datum payload, bool is_null, bool *result_is_null)
{
	LOCAL_FCINFO(fcinfo, 1);
	FmgrInfo function;
	Datum result;

	fmgr_info(oid, &function);
	*result_is_null = is_null && function.fn_strict;
	if (*result_is_null)
		return (Datum) 0;
	InitFunctionCallInfoData(*fcinfo, &function, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = payload;
	fcinfo->args[0].isnull = is_null;
	result = FunctionCallInvoke(fcinfo);
	*result_is_null = fcinfo->isnull;
	return result;
}

static void
name_service(void *arg)
{
	errcontext("service \"%s\" on node %d", (const char *) arg,
			   datacake_node_id);
}

uint32
dc_service_depth(void)
{
	return depth_now;
}

Datum
dc_service_run(const char *service, Datum payload, bool is_null, uint32 depth,
			   bool *result_is_null)
{
	ErrorContextCallback context = {.callback = name_service,
									.arg = unconstify(char *, service),
									.previous = error_context_stack};
	uint32 outer_depth = depth_now;
	int guc_level = NewGUCNestLevel();
	int security;
	Datum result;
	Oid user;

	error_context_stack = &context;
	GetUserIdAndSecContext(&user, &security);
	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	depth_now = depth;
	PG_TRY();
	{
		Handler handler = find_handler(service);

		/* nor does it become another role for good */
		SetUserIdAndSecContext(user, security | SECURITY_LOCAL_USERID_CHANGE);
		*result_is_null = false;
		result = OidIsValid(handler.function) ?
					 run_function(handler.function, payload, is_null,
								  result_is_null) :
					 handler.symbol(payload, is_null, result_is_null);
		SetUserIdAndSecContext(user, security);
	}
	PG_FINALLY();
	{
		depth_now = outer_depth;
	}
	PG_END_TRY();
	AtEOXact_GUC(false, guc_level);
	error_context_stack = context.previous;
	return result;
}

/* --- a limit of time --- */

static TimeoutId limit;
static TimestampTz limit_now; /* of the innermost call; 0: none */
static volatile sig_atomic_t limit_passed;

static void
on_limit(void)
{
	limit_passed = true;
	InterruptPending = true;
	QueryCancelPending = true;
	SetLatch(MyLatch);
}

static void
set_limit(TimestampTz at)
{
	limit_now = at;
	if (at != 0)
		enable_timeout_at(limit, at);
	else if (get_timeout_active(limit))
		disable_timeout(limit, false);
}

static void
raise_limit(const char *service, int timeout_ms)
{
	ereport(ERROR, (errcode(DC_ERRCODE_SERVICE_TIMEOUT),
					errmsg("service \"%s\" did not finish on node %d within %d "
						   "ms",
						   service, datacake_node_id, timeout_ms),
					errdetail("It was cancelled, and nothing of it stays.")));
}

Datum
dc_service_run_here(const char *service, Datum payload, bool is_null,
					int timeout_ms, bool *result_is_null)
{
	static bool registered = false;
	MemoryContext memory = CurrentMemoryContext;
	TimestampTz outer = limit_now;
	TimestampTz own =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	volatile Datum result = (Datum) 0;

	if (!registered)
		limit = RegisterTimeout(USER_TIMEOUT, on_limit);
	registered = true;
	limit_passed = false;
	set_limit(outer != 0 && outer < own ? outer : own);
	PG_TRY();
	{
		result = dc_service_run(service, payload, is_null,
								dc_service_depth() + 1, result_is_null);
		set_limit(outer);
		if (limit_passed)
			QueryCancelPending = false; /* it came too late */
	}
	PG_CATCH();
	{
		set_limit(outer);
		if (limit_passed && geterrcode() == ERRCODE_QUERY_CANCELED)
		{
			MemoryContextSwitchTo(memory);
			FlushErrorState();
			raise_limit(service, timeout_ms);
		}
		PG_RE_THROW();
	}
	PG_END_TRY();
	return result;
}
