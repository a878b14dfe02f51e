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
#include "standing.h"
#include "tools.h"

DC_SQL_FUNCTION(datacake_call);
DC_SQL_FUNCTION(datacake_call_many);

/* Once the level is met, for questions that have not left yet. */
#define LINGER_MS 1000

typedef struct Call
{
	char *service;
	Datum payload;
	bool is_null;
	int timeout_ms;
	DcSlice request; /* encoded */
	DcAsk *ask;
} Call;

/* --- one call --- */

static void
require_argument(FunctionCallInfo fcinfo, int number, const char *name)
{
	if (PG_ARGISNULL(number))
		ereport(ERROR, (errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
						errmsg("%s must not be null", name)));
}

static void
encode_request(Call *call)
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

/* Arguments `first` and on are service and payload; `limit` is the timeout. */
static Call *
begin_call(FunctionCallInfo fcinfo, int first, int limit)
{
	Call *call = palloc0(sizeof(Call));

	dc_require_loaded();
	require_argument(fcinfo, first, "name of a service");
	require_argument(fcinfo, limit, "timeout");
	call->service = text_to_cstring(PG_GETARG_TEXT_PP(first));
	call->is_null = PG_ARGISNULL(first + 1);
	call->payload = call->is_null ? (Datum) 0 : PG_GETARG_DATUM(first + 1);
	call->timeout_ms = (int) dc_interval_ms(PG_GETARG_INTERVAL_P(limit));
	if (call->timeout_ms == 0)
		ereport(ERROR, (errcode(ERRCODE_INVALID_PARAMETER_VALUE),
						errmsg("timeout must be at least one millisecond")));
	if (strlen(call->service) > DC_NAME_BYTES_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_NAME),
				 errmsg("invalid name of a service: \"%s\"", call->service)));
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

static void
ask_node(Call *call, uint32 node_id)
{
	if (call->request.data == NULL)
		encode_request(call);
	dc_ask_node(call->ask, node_id, call->request.data, call->request.length);
}

/* Says of a reply what the peer's words or ours mean for the call. */
static void
explain(const Call *call, DcReply *reply)
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

/* datacake.call(node_id, service, payload, timeout) */
Datum
datacake_call(PG_FUNCTION_ARGS)
{
	Call *call = begin_call(fcinfo, 1, 3);
	DcReply *reply;
	Datum result;
	bool is_null;

	require_argument(fcinfo, 0, "node id");
	if (PG_GETARG_INT32(0) == datacake_node_id)
		result = dc_service_run_here(call->service, call->payload,
									 call->is_null, call->timeout_ms, &is_null);
	else
	{
		ask_node(call, (uint32) Max(PG_GETARG_INT32(0), 0));
		reply = dc_ask_next(call->ask);
		if (reply->state != DC_REPLY_GIVEN)
		{
			explain(call, reply);
			ereport(ERROR,
					(errcode(reply->sqlstate), errmsg("%s", reply->message),
					 reply->detail ? errdetail("%s", reply->detail) : 0,
					 reply->hint ? errhint("%s", reply->hint) : 0,
					 errcontext("%s", reply->context)));
		}
		result = take_result(reply, &is_null);
	}
	dc_ask_end(call->ask, true);
	if (is_null)
		PG_RETURN_NULL();
	PG_RETURN_DATUM(result);
}

/* --- many --- */

typedef struct Member
{
	uint32 node_id;
	uint32 centre;
	char data_center[DC_NAME_BYTES];
	bool over; /* answered or failed */
	Datum result;
	bool is_null;
	int sqlstate; /* 0: it answered */
	char *error;
} Member;

typedef struct Many
{
	DcLevel level;
	Member *members; /* by node id */
	int count;
	DcTally needs;
	DcTally yes;
	DcTally open; /* may answer yet */
} Many;

static void
number_centres(Many *many)
{
	uint32 centres = 0;

	for (int i = 0; i < many->count; i++)
	{
		Member *member = &many->members[i];
		int like = 0;

		while (strcmp(many->members[like].data_center, member->data_center) !=
			   0)
			like++;
		member->centre = like < i ? many->members[like].centre : centres++;
	}
}

/* The present members, with the data centres that gossip tells. */
static void
list_members(Many *many)
{
	DcMembers *list = palloc(sizeof(DcMembers));

	(void) dc_standing_members(list);
	many->members = palloc0(sizeof(Member) * (list->count + 1));
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (uint32 i = 0; i < list->count; i++)
	{
		Member *member = &many->members[many->count];

		if (list->at[i].state != DC_MEMBER_PRESENT)
			continue;
		member->node_id = list->at[i].node_id;
		for (int k = 0; k < dc_shared->node_count; k++)
		{
			if (dc_shared->nodes[k].node_id == member->node_id)
				strlcpy(member->data_center, dc_shared->nodes[k].data_center,
						DC_NAME_BYTES);
		}
		many->count++;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	pfree(list);
	number_centres(many);
}

static Many *
begin_many(DcLevel level)
{
	Many *many = palloc0(sizeof(Many));
	uint32 own = DC_CENTRES_MAX;
	DcTally *all = &many->open;

	many->level = level;
	list_members(many);
	for (int i = 0; i < many->count; i++)
	{
		dc_tally_add(all, many->members[i].centre);
		if (many->members[i].node_id == (uint32) datacake_node_id)
			own = many->members[i].centre;
	}
	if (own == DC_CENTRES_MAX)
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("this node is not a member of the cluster"),
						errhint("Look at datacake.members.")));
	dc_level_needs(level, all, own, &many->needs);
	return many;
}

static Member *
find_member(Many *many, uint32 node_id)
{
	Member *member = many->members;

	while (member->node_id != node_id)
		member++;
	return member;
}

/* `message` NULL: it answered. */
static void
conclude(Many *many, Member *member, int sqlstate, const char *message)
{
	member->over = true;
	member->sqlstate = sqlstate;
	dc_tally_remove(&many->open, member->centre);
	if (message == NULL)
		dc_tally_add(&many->yes, member->centre);
	else
		member->error = pstrdup(message);
}

static char *
describe_errors(const Many *many)
{
	StringInfoData text;

	initStringInfo(&text);
	for (int i = 0; i < many->count; i++)
	{
		const Member *member = &many->members[i];

		if (member->error != NULL)
			appendStringInfo(&text, "%snode %u: %s", text.len > 0 ? "; " : "",
							 member->node_id, member->error);
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
					dc_level_name(many->level), many->yes.total, many->count,
					many->open.total),
			 *errors != '\0' ? errdetail("%s", errors) : 0,
			 asked ? errhint("Nodes that answered, or were asked, may have run "
							 "the service.") :
					 errhint("Nothing was asked.  Look at datacake.nodes.")));
}

/* Members that cannot be asked; nobody is, if the level is hopeless then. */
static void
look_around(Many *many)
{
	for (int i = 0; i < many->count; i++)
	{
		Member *member = &many->members[i];
		const char *complaint;
		int sqlstate;
		DcPeer peer;

		if (member->node_id == (uint32) datacake_node_id)
			continue;
		complaint = dc_dialog_find(member->node_id, &peer, &sqlstate);
		if (complaint != NULL)
			conclude(many, member, sqlstate,
					 psprintf("could not ask node %u: %s", member->node_id,
							  complaint));
	}
	require_possible(many, false);
}

static void
ask_all(Many *many, Call *call)
{
	for (int i = 0; i < many->count; i++)
	{
		if (!many->members[i].over &&
			many->members[i].node_id != (uint32) datacake_node_id)
			ask_node(call, many->members[i].node_id);
	}
}

/*
 * Here, in a subtransaction: what fails is rolled back and is a row like that
 * of another node.  A cancel is the caller's and goes on.
 */
static ErrorData *
try_here(Call *call, Datum *result, bool *is_null)
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
run_here(Many *many, Call *call)
{
	Member *self = find_member(many, (uint32) datacake_node_id);
	ErrorData *error = try_here(call, &self->result, &self->is_null);

	if (error == NULL)
		conclude(many, self, 0, NULL);
	else
		conclude(many, self, error->sqlerrcode, error->message);
}

static void
take_reply(Many *many, Call *call, DcReply *reply)
{
	Member *member = find_member(many, reply->node_id);

	if (reply->state == DC_REPLY_GIVEN)
	{
		member->result = take_result(reply, &member->is_null);
		conclude(many, member, 0, NULL);
		return;
	}
	explain(call, reply);
	conclude(many, member, reply->sqlstate, reply->message);
}

static void
collect(Many *many, Call *call)
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

	for (int i = 0; i < many->count; i++)
	{
		const Member *member = &many->members[i];
		bool failed = member->over && member->sqlstate != 0;
		Datum values[4] = {Int32GetDatum((int32) member->node_id)};
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
	Call *call;
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
