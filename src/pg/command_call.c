/*
 * command_call.c
 *		datacake.ddl(): a command for all members, all or nothing.
 *
 *	 ATTEMPT --- busy somewhere ---> pause, again
 *	   | all live members and this node have run it and hold it open
 *	   v
 *	 decided --- by the registrar, in the member list; unknown: ERROR
 *	   | members see it and commit
 *	   v
 *	 report; this node commits when the statement ends
 *
 * Nothing is sent to make members commit: they see the list themselves.  So
 * the loss of this node, or of a connection, changes nothing any more; at
 * worst a member rolls back and runs the command again, from the log.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/namespace.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "parser/parser.h"
#include "storage/latch.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/wait_event.h"

#include "caller.h"
#include "clock.h"
#include "command.h"
#include "compat.h"
#include "guc.h"
#include "job.h"
#include "membership.h"
#include "message.h"
#include "shmem.h"
#include "sql.h"
#include "standing.h"
#include "tools.h"
#include "voters.h"

DC_SQL_FUNCTION(datacake_ddl);

#define LOOK_MS   20    /* two asks are waited for in turns */
#define PAUSE_MS  50    /* and up to so much more, until it is tried again */
#define COMMIT_MS 10000 /* for members to commit what is decided */

typedef struct Call
{
	DcCommand command;
	DcVoters *voters;
	TimestampTz deadline;
	DcAsk *try;
	DcAsk *keep;
	char *busy; /* who was busy, last; NULL: nobody */
} Call;

/* --- which commands --- */

static void
refuse(const char *what, const char *hint)
{
	ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
					errmsg("datacake.ddl() cannot run %s", what),
					errhint("%s", hint)));
}

/* Those that commit by themselves, so that nothing could take them back. */
static bool
runs_alone(Node *command)
{
	switch (nodeTag(command))
	{
		case T_IndexStmt:
			return ((IndexStmt *) command)->concurrent;
		case T_DropStmt:
			return ((DropStmt *) command)->concurrent;
		case T_ReindexStmt:
		case T_VacuumStmt:
		case T_ClusterStmt:
		case T_CreatedbStmt:
		case T_DropdbStmt:
		case T_AlterDatabaseStmt:
		case T_CreateTableSpaceStmt:
		case T_DropTableSpaceStmt:
		case T_AlterSystemStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterSubscriptionStmt:
		case T_DropSubscriptionStmt:
			return true;
		default:
			return false;
	}
}

/* Each node needs the extension to agree on the command, and to end it. */
static bool
is_about_us(Node *command)
{
	const char *name = NULL;
	ListCell *cell;

	if (IsA(command, CreateExtensionStmt))
		name = ((CreateExtensionStmt *) command)->extname;
	else if (IsA(command, AlterExtensionStmt))
		name = ((AlterExtensionStmt *) command)->extname;
	if (name != NULL)
		return strcmp(name, "datacake") == 0;
	if (!IsA(command, DropStmt) ||
		((DropStmt *) command)->removeType != OBJECT_EXTENSION)
		return false;
	foreach (cell, ((DropStmt *) command)->objects)
	{
		if (strcmp(strVal(lfirst(cell)), "datacake") == 0)
			return true;
	}
	return false;
}

/* It would stand in the log of each node for everybody who may read that. */
static bool
has_password(Node *command)
{
	List *options = NIL;
	ListCell *cell;

	if (IsA(command, CreateRoleStmt))
		options = ((CreateRoleStmt *) command)->options;
	else if (IsA(command, AlterRoleStmt))
		options = ((AlterRoleStmt *) command)->options;
	else if (IsA(command, CreateUserMappingStmt))
		options = ((CreateUserMappingStmt *) command)->options;
	else if (IsA(command, AlterUserMappingStmt))
		options = ((AlterUserMappingStmt *) command)->options;
	foreach (cell, options)
	{
		if (strcmp(lfirst_node(DefElem, cell)->defname, "password") == 0)
			return true;
	}
	return false;
}

/* A relation of the session that serves the caller's node, gone with it. */
static bool
is_temporary(Node *command)
{
	const RangeVar *relation = NULL;

	if (IsA(command, CreateStmt))
		relation = ((CreateStmt *) command)->relation;
	else if (IsA(command, CreateTableAsStmt))
		relation = ((CreateTableAsStmt *) command)->into->rel;
	else if (IsA(command, ViewStmt))
		relation = ((ViewStmt *) command)->view;
	else if (IsA(command, CreateSeqStmt))
		relation = ((CreateSeqStmt *) command)->sequence;
	return relation != NULL && relation->relpersistence == RELPERSISTENCE_TEMP;
}

static void
check_command(const char *text)
{
	List *commands = raw_parser(text, RAW_PARSE_DEFAULT);
	Node *command;

	if (list_length(commands) != 1)
		refuse("more or less than one statement",
			   "Call it once for each statement.");
	command = linitial_node(RawStmt, commands)->stmt;
	if (runs_alone(command))
		refuse("what cannot be rolled back",
			   "Run the command on each node by itself.");
	if (is_about_us(command))
		refuse("a command about the extension itself",
			   "Run the command on each node by itself.");
	if (is_temporary(command))
		refuse("a command that creates a temporary relation",
			   "Nobody but the session that serves the command would see it.");
	if (has_password(command))
		refuse("a command with a password", "Set it on each node by itself.");
	if (GetCommandLogLevel(command) != LOGSTMT_DDL)
		refuse("what is no DDL", "Rows that are written replicate by "
								 "themselves; settings are those of a node.");
	if (strlen(text) > DC_COMMAND_BYTES_MAX / 2)
		refuse("a command of that length",
			   psprintf("The limit is %d bytes.", DC_COMMAND_BYTES_MAX / 2));
}

/* --- who takes part --- */

static bool
joins(uint32 node_id)
{
	bool joining = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
		joining |= dc_shared->nodes[i].node_id == node_id &&
				   dc_shared->nodes[i].joining;
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return joining;
}

static void
look_around(Call *call)
{
	int alive = 0;

	call->voters = dc_voters_list();
	for (int i = 0; i < call->voters->count; i++)
	{
		const DcVoter *voter = &call->voters->at[i];

		alive += voter->local || voter->alive;
		if (voter->local ? dc_standing_joining() : joins(voter->node_id))
			ereport(ERROR,
					(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
					 errmsg("node %u is joining the cluster", voter->node_id),
					 errhint("Repeat the command when it has caught up.")));
	}
	if (alive < call->voters->count / 2 + 1)
		ereport(ERROR,
				(errcode(dc_sqlstate(DC_NO_MAJORITY)),
				 errmsg("a majority of the members must be alive to agree on "
						"a command"),
				 errdetail("%d of %d members are alive.", alive,
						   call->voters->count),
				 errhint("Look at datacake.nodes.")));
}

/* --- an attempt --- */

static DcAsk *
ask_members(const Call *call, const char *verb, const char *json)
{
	char *role = GetUserNameFromId(GetUserId(), false);
	DcServiceRequest request = {.role = {(uint8 *) role, strlen(role)},
								.superuser = superuser(),
								.depth = 1,
								.service = {(const uint8 *) verb, strlen(verb)},
								.payload = {(const uint8 *) json,
											strlen(json)}};
	long left =
		TimestampDifferenceMilliseconds(GetCurrentTimestamp(), call->deadline);
	DcAsk *ask = dc_ask_begin(&(DcAskPlan){.function = "peer_command",
										   .kind = DC_SESSION_QUESTIONS,
										   .role = GetUserId(),
										   .timeout_ms = (int) Max(left, 1)});
	DcWriter w;
	uint8 *bytes;

	dc_writer_init(&w, NULL, 0);
	dc_service_request_encode(&w, &request);
	bytes = palloc(w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_service_request_encode(&w, &request);
	for (int i = 0; i < call->voters->count; i++)
	{
		if (!call->voters->at[i].local && call->voters->at[i].alive)
			dc_ask_node(ask, call->voters->at[i].node_id, bytes, w.length);
	}
	return ask;
}

static void
end_asks(Call *call, bool let_finish)
{
	if (call->try != NULL)
		dc_ask_end(call->try, let_finish);
	if (call->keep != NULL)
		dc_ask_end(call->keep, let_finish);
	call->try = call->keep = NULL;
}

static bool
is_over(const Call *call)
{
	return GetCurrentTimestamp() >= call->deadline;
}

/* It passes by itself: another command is being run, or was just agreed on. */
static bool
is_busy(const DcReply *reply)
{
	return reply->raised && (reply->sqlstate == dc_sqlstate(DC_BUSY) ||
							 reply->sqlstate == dc_sqlstate(DC_BEHIND));
}

/* The clock of a member that holds the command open: what follows is newer. */
static void
observe(const DcReply *reply)
{
	DcSlice value;

	if (dc_service_result_decode(reply->answer.data, reply->answer.length,
								 &value) != DC_OK ||
		value.data == NULL || value.length < 3)
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("answer of node %u is malformed", reply->node_id)));
	dc_clock_observe(
		strtoull(pnstrdup((const char *) value.data + 1, value.length - 2),
				 NULL, 10));
}

/* Who has not got so far that it only waits for the decision; 0: nobody. */
static uint32
slowest(const Call *call)
{
	for (int i = 0; i < call->voters->count; i++)
	{
		const DcReply *kept =
			dc_ask_reply(call->keep, call->voters->at[i].node_id);

		if (kept != NULL && kept->state != DC_REPLY_GIVEN)
			return call->voters->at[i].node_id;
	}
	return 0;
}

static void
raise_failure(const Call *call, const DcReply *reply)
{
	if (reply->deadline && slowest(call) != 0)
		ereport(ERROR,
				(errcode(ERRCODE_QUERY_CANCELED),
				 errmsg("command was not run on node %u in time",
						slowest(call)),
				 errdetail("It is rolled back on all nodes."),
				 errhint("See there, in pg_stat_activity, whom it waits for, "
						 "or give it more time.")));
	ereport(ERROR, (errcode(reply->sqlstate),
					errmsg("command failed on node %u: %s", reply->node_id,
						   reply->message),
					errdetail("%s%sIt is rolled back on all nodes.",
							  reply->detail != NULL ? reply->detail : "",
							  reply->detail != NULL ? " " : ""),
					reply->hint != NULL ? errhint("%s", reply->hint) : 0));
}

/* Waits until all live members hold it open; false: somebody is busy. */
static bool
await_members(Call *call)
{
	for (;;)
	{
		DcReply *over = dc_ask_poll(call->try);
		DcReply *kept = dc_ask_poll(call->keep);
		int unasked;

		if (over != NULL && is_busy(over))
		{
			call->busy = psprintf("Node %u: %s.", over->node_id, over->message);
			return false;
		}
		if (call->busy != NULL && is_over(call))
			return false;
		if (over != NULL)
			raise_failure(call, over);
		if (kept != NULL && kept->state != DC_REPLY_GIVEN)
			raise_failure(call, kept);
		if (kept != NULL)
			observe(kept);
		else if (dc_ask_awaited(call->keep, &unasked) == 0)
			return true;
		else
			dc_ask_wait_for(call->keep, LOOK_MS);
	}
}

/* False: try again. */
static bool
attempt(Call *call)
{
	DcCommand *command = &call->command;
	DcMembers *list = palloc(sizeof(DcMembers));
	DcPosition at;
	char *json;

	look_around(call);
	(void) dc_standing_members(list, &at);
	command->founder = at.founder;
	command->number = list->commands + 1;
	command->id = dc_clock_draw();
	pfree(list);
	if (pg_atomic_read_u64(&dc_shared->commands.done) != command->number - 1)
	{
		if (is_over(call))
			ereport(ERROR, (errcode(dc_sqlstate(DC_BEHIND)),
							errmsg("this node has not run command %llu of the "
								   "cluster yet",
								   (unsigned long long) command->number - 1),
							errhint("Look at datacake.ddl_log.")));
		return false;
	}
	if (!dc_command_claim(command->id))
		return false;
	json = dc_command_json(command);
	call->try = ask_members(call, "try", json);
	call->keep = ask_members(call, "keep", json);
	if (!await_members(call))
	{
		end_asks(call, false);
		dc_command_release();
		return false;
	}
	return true;
}

static void
pause_a_while(const Call *call)
{
	uint32 chance = 0;

	if (is_over(call))
		ereport(ERROR, (errcode(dc_sqlstate(DC_BUSY)),
						errmsg("other commands are being run"),
						call->busy != NULL ? errdetail("%s", call->busy) : 0,
						errhint("Look at datacake.ddl_log on all nodes, and "
								"repeat it.")));
	(void) pg_strong_random(&chance, sizeof(chance));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 PAUSE_MS + chance % (20 * PAUSE_MS), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/* --- the decision --- */

static void
decide(const DcCommand *command)
{
	char *json = dc_command_json(command);
	DcMembersPlan plan = {.task = DC_MEMBERS_COMMAND,
						  .node_id = (uint32) datacake_node_id,
						  .number = command->number,
						  .command = command->id};
	DcJobEnd end;
	char none[1];

	if (strlen(json) >= DC_COMMAND_BYTES_MAX)
		refuse("a command of that length", "Make it shorter.");
	LWLockAcquire(DC_LOCK(DC_LOCK_COMMANDS), LW_EXCLUSIVE);
	strcpy(dc_shared->commands.proposed, json);
	LWLockRelease(DC_LOCK(DC_LOCK_COMMANDS));
	if (dc_job_run(&dc_shared->members_job, &dc_members_job, &plan, none, &end))
		return;
	ereport(ERROR,
			(errcode(end.sqlstate),
			 errmsg("members do not agree on the command: %s", end.error),
			 end.sqlstate == dc_sqlstate(DC_UNDECIDED) ?
				 errdetail("It is rolled back here, and run later if they "
						   "did; datacake.ddl_log will tell.") :
				 errdetail("It is rolled back on all nodes."),
			 end.hint[0] != '\0' ? errhint("%s", end.hint) : 0));
}

/* --- the report --- */

static void
put_row(ReturnSetInfo *result, uint32 node_id, const char *status,
		const char *error)
{
	Datum values[3] = {Int32GetDatum((int32) node_id),
					   CStringGetTextDatum(status)};
	bool nulls[3] = {false, false, error == NULL};

	if (error != NULL)
		values[2] = CStringGetTextDatum(error);
	tuplestore_putvalues(result->setResult, result->setDesc, values, nulls);
}

static void
report(Call *call, ReturnSetInfo *result)
{
	TimestampTz patience =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), COMMIT_MS);
	int unasked;

	while (dc_ask_awaited(call->try, &unasked) > 0 &&
		   GetCurrentTimestamp() < patience)
	{
		if (dc_ask_poll(call->try) == NULL)
			dc_ask_wait_for(call->try, LOOK_MS);
	}
	for (int i = 0; i < call->voters->count; i++)
	{
		const DcVoter *voter = &call->voters->at[i];
		const DcReply *reply = dc_ask_reply(call->try, voter->node_id);

		if (voter->local || (reply != NULL && reply->state == DC_REPLY_GIVEN))
			put_row(result, voter->node_id, "done", NULL);
		else if (reply == NULL)
			put_row(result, voter->node_id, "away", "runs it when it returns");
		else
			put_row(result, voter->node_id, "late",
					reply->message != NULL ? reply->message :
											 "has not committed it yet");
	}
}

static void
run_here(const DcCommand *command)
{
	int result = SPI_execute(command->text, false, 0);

	if (result < 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("command cannot be run in a function: %s",
							   SPI_result_code_string(result))));
}

/* datacake.ddl(command text, timeout interval) */
Datum
datacake_ddl(PG_FUNCTION_ARGS)
{
	Call call = {.command = {.origin = (uint32) datacake_node_id,
							 .superuser = superuser()}};
	DcCommand *command = &call.command;

	dc_require_loaded();
	PreventInTransactionBlock(true, "datacake.ddl()");
	if (IsolationUsesXactSnapshot())
		ereport(ERROR, (errcode(ERRCODE_ACTIVE_SQL_TRANSACTION),
						errmsg("datacake.ddl() needs isolation level read "
							   "committed")));
	command->text = text_to_cstring(PG_GETARG_TEXT_PP(0));
	command->role = GetUserNameFromId(GetUserId(), false);
	command->search_path = pstrdup(namespace_search_path);
	check_command(command->text);
	dc_require_ready();
	InitMaterializedSRF(fcinfo, 0);
	call.deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
									dc_interval_ms(PG_GETARG_INTERVAL_P(1)));
	while (!attempt(&call))
		pause_a_while(&call);
	SPI_connect();
	run_here(command);
	decide(command);
	dc_command_note(command);
	SPI_finish();
	report(&call, (ReturnSetInfo *) fcinfo->resultinfo);
	end_asks(&call, true);
	PG_RETURN_VOID();
}
