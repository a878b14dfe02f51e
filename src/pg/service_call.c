/*
 * service_call.c
 *		Calling services of one node or of many.
 *
 * Other nodes run them in transactions of their own; this node runs its own
 * inside the caller's.  A level is whom call_many() waits for: every member
 * that can be reached is asked, and those whose answers are not needed are
 * let finish.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"

#include "caller.h"
#include "compat.h"
#include "guc.h"
#include "service.h"
#include "shmem.h"
#include "tools.h"
#include "voters.h"

DC_SQL_FUNCTION(datacake_call);
DC_SQL_FUNCTION(datacake_call_many);

/* Once the level is met, for questions that have not left yet. */
#define LINGER_MS 1000

struct DcServiceCall
{
	char *service;
	Datum payload;
	bool is_null;
	int timeout_ms;
	DcSlice request; /* encoded */
	DcAsk *ask;
};

/* --- one call --- */

static void
require_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s must not be null", name)));
}

static void
encode_request(DcServiceCall *call)
{
	char *role = GetUserNameFromId(GetUserId(), false);
	DcServiceRequest request =
		{.role = {(uint8 *) role, strlen(role)},
		 .superuser = superuser(),
		 .depth = dc_service_depth() + 1,
		 .service = {(uint8 *) call->service, strlen(call->service)},
		 .payload = dc_service_value(call->payload, call->is_null, "payload")};
	uint8 *bytes;
	DcWriter w;

	dc_writer_init(&w, NULL, 0);
	dc_service_request_encode(&w, &request);
	bytes = MemoryContextAllocHuge(CurrentMemoryContext, w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_service_request_encode(&w, &request);
	call->request = (DcSlice){bytes, w.length};
}

DcServiceCall *
dc_service_call_begin(const char *service, Datum payload, bool is_null,
					  long timeout_ms)
{
	DcServiceCall *call = palloc0(sizeof(DcServiceCall));

	dc_require_loaded();
	call->service = pstrdup(service);
	call->payload = payload;
	call->is_null = is_null;
	call->timeout_ms = (int) timeout_ms;
	if (timeout_ms < 1 || timeout_ms > INT_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("timeout must be at least one millisecond")));
	if (strlen(service) > DC_NAME_BYTES_MAX)
		ereport(ERROR, (errcode(ERRCODE_INVALID_NAME),
						errmsg("invalid name of a service: \"%s\"", service)));
	if (dc_service_depth() >= DC_SERVICE_DEPTH_MAX)
		ereport(ERROR, (errcode(ERRCODE_STATEMENT_TOO_COMPLEX),
						errmsg("services call services more than %d deep",
							   DC_SERVICE_DEPTH_MAX)));
	call->ask = dc_ask_begin(&(DcAskPlan){.function = "peer_call",
										  .kind = DC_SESSION_QUESTIONS,
										  .role = GetUserId(),
										  .timeout_ms = call->timeout_ms});
	return call;
}

/* Arguments `first` and on are service and payload; `limit` is the timeout. */
static DcServiceCall *
begin_call(FunctionCallInfo fcinfo, int first, int limit)
{
	bool is_null = PG_ARGISNULL(first + 1);

	require_argument(fcinfo, first, "name of a service");
	require_argument(fcinfo, limit, "timeout");
	return dc_service_call_begin(text_to_cstring(PG_GETARG_TEXT_PP(first)),
								 is_null ? (Datum) 0 :
										   PG_GETARG_DATUM(first + 1),
								 is_null,
								 dc_interval_ms(PG_GETARG_INTERVAL_P(limit)));
}

DcAsk *
dc_service_call_ask(DcServiceCall *call, uint32 node_id)
{
	if (call->request.data == NULL)
		encode_request(call);
	dc_ask_node(call->ask, node_id, call->request.data, call->request.length);
	return call->ask;
}

/* Says of a reply what the peer's words or ours mean for the call. */
static void
explain(const DcServiceCall *call, DcReply *reply)
{
	MemoryContext old = MemoryContextSwitchTo(reply->memory);

	if (reply->raised && reply->deadline)
	{
		reply->sqlstate = DC_ERRCODE_SERVICE_TIMEOUT;
		reply->message =
			psprintf("service \"%s\" did not finish on node %u within %d ms",
					 call->service, reply->node_id, call->timeout_ms);
		reply->detail = "It was cancelled there, and nothing of it stays.";
		reply->hint = NULL;
	}
	else if (reply->state == DC_REPLY_LOST && reply->detail == NULL)
		reply->detail = "The service may have run there.";
	if (reply->context == NULL)
		reply->context = psprintf("service \"%s\" on node %u", call->service,
								  reply->node_id);
	MemoryContextSwitchTo(old);
}

static Datum
take_result(DcReply *reply, bool *is_null)
{
	DcSlice value;

	if (dc_service_result_decode(reply->answer.data, reply->answer.length,
								 &value) != DC_OK)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("answer of node %u is malformed", reply->node_id)));
	return dc_service_datum(value, is_null);
}

Datum
dc_service_call_result(DcServiceCall *call, DcReply *reply, bool *is_null)
{
	if (reply->state == DC_REPLY_GIVEN)
		return take_result(reply, is_null);
	explain(call, reply);
	ereport(ERROR, (errcode(reply->sqlstate), errmsg("%s", reply->message),
					reply->detail ? errdetail("%s", reply->detail) : 0,
					reply->hint ? errhint("%s", reply->hint) : 0,
					errcontext("%s", reply->context)));
	pg_unreachable();
}

/* datacake.call(node_id, service, payload, timeout) */
Datum
datacake_call(PG_FUNCTION_ARGS)
{
	DcServiceCall *call = begin_call(fcinfo, 1, 3);
	Datum result;
	bool is_null;

	require_argument(fcinfo, 0, "node id");
	if (PG_GETARG_INT32(0) == datacake_node_id)
		result = dc_service_run_here(call->service, call->payload,
									 call->is_null, call->timeout_ms, &is_null);
	else
	{
		(void) dc_service_call_ask(call, (uint32) Max(PG_GETARG_INT32(0), 0));
		result = dc_service_call_result(call, dc_ask_next(call->ask), &is_null);
	}
	dc_ask_end(call->ask, true);
	if (is_null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/* --- many --- */

/* What a member answered, in the order of the voters. */
typedef struct Member
{
	bool over; /* answered or failed */
	Datum result;
	bool is_null;
	int sqlstate; /* 0: it answered */
	char *error;
} Member;

typedef struct Many
{
	DcLevel level;
	DcVoters *voters;
	Member *members;
	DcTally needs;
	DcTally yes;
	DcTally open; /* may answer yet */
} Many;

static Many *
begin_many(DcLevel level)
{
	Many *many = palloc0(sizeof(Many));

	many->level = level;
	many->voters = dc_voters_list();
	many->members = palloc0(sizeof(Member) * many->voters->count);
	many->open = many->voters->all;
	dc_level_needs(level, &many->open, many->voters->own_centre, &many->needs);
	return many;
}

static int
find_member(const Many *many, uint32 node_id)
{
	int i = 0;

	while (many->voters->at[i].node_id != node_id)
		i++;
	return i;
}

/* `message` NULL: it answered. */
static void
conclude(Many *many, int i, int sqlstate, const char *message)
{
	uint32 centre = many->voters->at[i].centre;

	many->members[i].over = true;
	many->members[i].sqlstate = sqlstate;
	dc_tally_remove(&many->open, centre);
	if (message == NULL)
		dc_tally_add(&many->yes, centre);
	else
		many->members[i].error = pstrdup(message);
}

static char *
describe_errors(const Many *many)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < many->voters->count; i++)
	{
		if (many->members[i].error != NULL)
			appendStringInfo(&text, "%snode %u: %s", text.len > 0 ? "; " : "",
							 many->voters->at[i].node_id,
							 many->members[i].error);
	}
	if (text.len > 0)
		appendStringInfoChar(&text, '.');
	return text.data;
}

static void
require_possible(const Many *many, bool asked)
{
	char *errors;

	if (dc_tally_could_meet(&many->yes, &many->open, &many->needs))
		return;
	errors = describe_errors(many);
	ereport(ERROR,
			(errcode(asked ? DC_ERRCODE_LEVEL_NOT_MET :
							 DC_ERRCODE_LEVEL_HOPELESS),
			 errmsg("level \"%s\" cannot be met: %u of %d members answered, "
					"%u more may",
					dc_level_name(many->level), many->yes.total,
					many->voters->count, many->open.total),
			 *errors != '\0' ? errdetail("%s", errors) : 0,
			 asked ? errhint("Nodes that answered, or were asked, may have run "
							 "the service.") :
					 errhint("Nothing was asked.  Look at datacake.nodes.")));
}

/* Members that cannot be asked; nobody is, if the level is hopeless then. */
static void
look_around(Many *many)
{
	for (int i = 0; i < many->voters->count; i++)
	{
		uint32 node_id = many->voters->at[i].node_id;
		const char *complaint;
		int sqlstate;
		DcPeer peer;

		if (many->voters->at[i].local)
			continue;
		complaint = dc_dialog_find(node_id, &peer, &sqlstate);
		if (complaint != NULL)
			conclude(many, i, sqlstate,
					 psprintf("could not ask node %u: %s", node_id, complaint));
	}
	require_possible(many, false);
}

static void
ask_all(Many *many, DcServiceCall *call)
{
	for (int i = 0; i < many->voters->count; i++)
	{
		if (!many->members[i].over && !many->voters->at[i].local)
			(void) dc_service_call_ask(call, many->voters->at[i].node_id);
	}
}

/*
 * Here, in a subtransaction: what fails is rolled back and is a row like that
 * of another node.  A cancel is the caller's and goes on.
 */
static ErrorData *
try_here(DcServiceCall *call, Datum *result, bool *is_null)
{
	MemoryContext memory = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	ErrorData *volatile error = NULL;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(memory);
	PG_TRY();
	{
		*result = dc_service_run_here(call->service, call->payload,
									  call->is_null, call->timeout_ms, is_null);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(memory);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
	}
	PG_END_TRY();
	MemoryContextSwitchTo(memory);
	CurrentResourceOwner = owner;
	if (error != NULL && error->sqlerrcode == ERRCODE_QUERY_CANCELED)
		ReThrowError(error);
	return error;
}

static void
run_here(Many *many, DcServiceCall *call)
{
	int self = find_member(many, (uint32) datacake_node_id);
	ErrorData *error = try_here(call, &many->members[self].result,
								&many->members[self].is_null);

	if (error == NULL)
		conclude(many, self, 0, NULL);
	else
		conclude(many, self, error->sqlerrcode, error->message);
}

static void
take_reply(Many *many, DcServiceCall *call, DcReply *reply)
{
	int i = find_member(many, reply->node_id);

	if (reply->state == DC_REPLY_GIVEN)
	{
		many->members[i].result = take_result(reply, &many->members[i].is_null);
		conclude(many, i, 0, NULL);
		return;
	}
	explain(call, reply);
	conclude(many, i, reply->sqlstate, reply->message);
}

static void
collect(Many *many, DcServiceCall *call)
{
	TimestampTz linger_until = 0;

	for (;;)
	{
		DcReply *reply = dc_ask_poll(call->ask);
		int unasked;

		if (reply != NULL)
		{
			take_reply(many, call, reply);
			require_possible(many, true);
			continue;
		}
		if (dc_ask_awaited(call->ask, &unasked) == 0)
			break;
		if (dc_tally_meets(&many->yes, &many->needs))
		{
			TimestampTz now = GetCurrentTimestamp();

			if (linger_until == 0)
				linger_until = TimestampTzPlusMilliseconds(now, LINGER_MS);
			if (unasked == 0 || now >= linger_until)
				break;
		}
		dc_ask_wait(call->ask);
	}
}

static void
return_rows(FunctionCallInfo fcinfo, const Many *many)
{
	ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;

	for (int i = 0; i < many->voters->count; i++)
	{
		const Member *member = &many->members[i];
		bool failed = member->over && member->sqlstate != 0;
		Datum values[4] = {Int32GetDatum((int32) many->voters->at[i].node_id)};
		bool nulls[4] = {false, !member->over || failed || member->is_null,
						 !failed, !failed};

		values[1] = member->result;
		if (failed)
		{
			values[2] = CStringGetTextDatum(unpack_sql_state(member->sqlstate));
			values[3] = CStringGetTextDatum(member->error);
		}
		else if (!member->over)
		{
			nulls[3] = false;
			values[3] = CStringGetTextDatum("the level was met before it "
											"answered");
		}
		tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
	}
}

/* datacake.call_many(service, payload, level, timeout) */
Datum
datacake_call_many(PG_FUNCTION_ARGS)
{
	DcServiceCall *call;
	Many *many;

	require_argument(fcinfo, 2, "consistency level");
	call = begin_call(fcinfo, 0, 3);
	dc_require_ready();
	InitMaterializedSRF(fcinfo, 0);
	many = begin_many(dc_level_argument(text_to_cstring(PG_GETARG_TEXT_PP(2))));
	look_around(many);
	ask_all(many, call);
	run_here(many, call);
	require_possible(many, true);
	collect(many, call);
	dc_ask_end(call->ask, true);
	return_rows(fcinfo, many);
	PG_RETURN_VOID();
}
