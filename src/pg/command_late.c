/*
 * command_late.c
 *		Commands that the members agreed on while this node did not take part.
 *
 * In the registrar.  First it is settled which commands count as run here: all
 * that a row of datacake.ddl_log says; and where there is no row yet of this
 * line of member lists, those up to the end of joining, because a node that
 * joins gets the tables as they are.
 */
#include "command.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"

#include "caller.h"
#include "council.h"
#include "guc.h"
#include "message.h"
#include "roster.h"
#include "sql.h"
#include "standing.h"
#include "voters.h"

#define FETCH_MS 5000

/* Turns without anybody who has the text; then rows need not wait for it. */
#define PATIENCE_TURNS 10

/* --- the job of a backend --- */

/* On disk here as well before it is decided. */
static void
keep_proposed(void)
{
	MemoryContext context = CurrentMemoryContext;
	char *json;

	LWLockAcquire(DC_LOCK(DC_LOCK_COMMANDS), LW_SHARED);
	json = pstrdup(dc_shared->commands.proposed);
	LWLockRelease(DC_LOCK(DC_LOCK_COMMANDS));
	dc_transaction_begin();
	dc_command_keep(dc_command_parse(json), "proposed");
	dc_transaction_commit(context);
}

void
dc_command_propose(uint64 number, DcHlc id, DcJobEnd *end, void (*check)(void))
{
	DcListChange change = {.kind = DC_CHANGE_COMMAND,
						   .node_id = (uint32) datacake_node_id,
						   .number = number,
						   .command = id};

	keep_proposed();
	(void) dc_council_change(&change, 0, end, check);
}

/* --- how many were run --- */

static const char *
line(const DcRegister *reg)
{
	return psprintf("%lld", (long long) reg->at.founder);
}

/* The row that stands for all commands before this node came. */
static void
write_start(const DcRegister *reg, bool joining)
{
	const char *arguments[4] = {dc_sql_number(reg->list.commands), line(reg),
								dc_sql_number(reg->list.command),
								joining ? "joining" : "done"};

	dc_sql("DELETE FROM datacake.ddl_log WHERE founder = $1::bigint "
		   "AND state = 'joining'",
		   1, &arguments[1]);
	dc_sql("INSERT INTO datacake.ddl_log (id, founder, number, state) "
		   "VALUES ($3::bigint::datacake.hlc, $2::bigint, $1::bigint, $4) "
		   "ON CONFLICT (id) DO UPDATE SET founder = excluded.founder, "
		   "number = excluded.number, state = excluded.state",
		   4, arguments);
}

/* False: the node is none that commands concern, or the list is on its way. */
static bool
count_done(const DcRegister *reg, uint64 *done)
{
	static DcStatement find = {
		"SELECT coalesce(max(number), 0)::text, "
		"count(*) FILTER (WHERE state = 'done') = 0 "
		"FROM datacake.ddl_log WHERE founder = $1::bigint "
		"AND state IN ('done', 'joining')"};
	MemoryContext context = CurrentMemoryContext;
	const char *arguments[1] = {line(reg)};
	bool joining = dc_standing_joining();
	bool starts;

	dc_transaction_begin();
	(void) dc_sql_often(&find, 1, arguments);
	*done = strtoull(dc_sql_text(0, 1), NULL, 10);
	starts = dc_sql_text(0, 2)[0] == 't';
	if (starts)
	{
		write_start(reg, joining);
		*done = reg->list.commands;
	}
	dc_transaction_commit(context);
	return !joining;
}

/* --- what is missing --- */

static bool
find_next(const DcRegister *reg, uint64 number, DcCommand **command, bool *due)
{
	const char *arguments[3] = {line(reg), dc_sql_number(number),
								dc_sql_number(number == reg->list.commands ?
												  reg->list.command :
												  0)};

	if (dc_sql("SELECT json_build_object('founder', $1, "
			   "'number', number::text, 'id', id::bigint::text, "
			   "'origin', origin::text, 'role', role, "
			   "'superuser', superuser::text, 'search_path', search_path, "
			   "'text', command)::text, retry_at <= clock_timestamp() "
			   "FROM datacake.ddl_log WHERE founder = $1::bigint "
			   "AND number = $2::bigint AND command IS NOT NULL "
			   "AND (state = 'decided' "
			   "  OR id = $3::bigint::datacake.hlc)",
			   3, arguments) == 0)
		return false;
	*due = dc_sql_text(0, 2)[0] == 't';
	*command = dc_command_parse(dc_sql_text(0, 1));
	(*command)->founder = reg->at.founder;
	return true;
}

/* Of what a member answers only what is decided is taken. */
static void
take_answer(const DcRegister *reg, const DcReply *reply)
{
	MemoryContext context = CurrentMemoryContext;
	const char *arguments[1];
	SPITupleTable *found;
	DcSlice value;
	uint64 rows;

	if (reply->state != DC_REPLY_GIVEN ||
		dc_service_result_decode(reply->answer.data, reply->answer.length,
								 &value) != DC_OK ||
		value.data == NULL)
		return;
	arguments[0] = pnstrdup((const char *) value.data, value.length);
	dc_transaction_begin();
	rows = dc_sql("SELECT e::text FROM jsonb_array_elements($1::jsonb) e", 1,
				  arguments);
	found = SPI_tuptable;
	for (uint64 i = 0; i < rows; i++)
	{
		DcCommand *command =
			dc_command_parse(SPI_getvalue(found->vals[i], found->tupdesc, 1));

		command->founder = reg->at.founder;
		if (command->number < reg->list.commands ||
			(command->number == reg->list.commands &&
			 command->id == reg->list.command))
			dc_command_keep(command, "decided");
	}
	dc_transaction_commit(context);
}

static void
fetch(const DcRegister *reg, uint64 done, void (*check)(void))
{
	char *json = psprintf("{\"founder\": \"%llu\", \"line\": \"%s\", "
						  "\"after\": \"%llu\", \"id\": \"%llu\"}",
						  (unsigned long long) reg->at.founder, line(reg),
						  (unsigned long long) done,
						  (unsigned long long) reg->list.command);
	DcServiceRequest request = {.role = {(const uint8 *) "", 0},
								.depth = 1,
								.service = {(const uint8 *) "fetch", 5},
								.payload = {(uint8 *) json, strlen(json)}};
	DcVoters *voters = dc_voters_read();
	DcAsk *ask = dc_ask_begin(&(DcAskPlan){.function = "peer_command",
										   .kind = DC_SESSION_QUESTIONS,
										   .timeout_ms = FETCH_MS,
										   .check = check});
	DcReply *reply;
	DcWriter w;
	uint8 *bytes;

	dc_writer_init(&w, NULL, 0);
	dc_service_request_encode(&w, &request);
	bytes = palloc(w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_service_request_encode(&w, &request);
	for (int i = 0; voters != NULL && i < voters->count; i++)
	{
		if (!voters->at[i].local && voters->at[i].alive)
			dc_ask_node(ask, voters->at[i].node_id, bytes, w.length);
	}
	while ((reply = dc_ask_next(ask)) != NULL)
		take_answer(reg, reply);
	dc_ask_end(ask, true);
}

/* --- running it --- */

static void
note_failure(const DcCommand *command, const ErrorData *error)
{
	MemoryContext context = CurrentMemoryContext;
	const char *arguments[2] = {dc_sql_number(command->id),
								psprintf("%s: %s",
										 unpack_sql_state(error->sqlerrcode),
										 error->message)};

	dc_transaction_begin();
	dc_sql("UPDATE datacake.ddl_log SET error = $2, tries = tries + 1, "
		   "retry_at = clock_timestamp() + "
		   "  least(60, power(2, least(tries, 6))) * interval '1 s' "
		   "WHERE id = $1::bigint::datacake.hlc",
		   2, arguments);
	dc_transaction_commit(context);
	pg_atomic_write_u64(&dc_shared->commands.failed, command->number);
	dc_worker_wake(DC_WORKER_REPLICATOR);
	ereport(WARNING,
			(errcode(error->sqlerrcode),
			 errmsg("command %llu of the cluster cannot be run here: %s",
					(unsigned long long) command->number, error->message),
			 errhint("Rows that do not fit wait in datacake.quarantine; the "
					 "command is tried again. See datacake.ddl_log.")));
}

static bool
run(const DcCommand *command)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool ran = true;

	PG_TRY();
	{
		dc_transaction_begin();
		(void) set_config_option("lock_timeout", "5s", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
								 false);
		if (!dc_command_claim(command->id))
			ereport(ERROR, (errcode(dc_sqlstate(DC_BUSY)),
							errmsg("another command is being run")));
		dc_command_run(command);
		dc_command_note(command);
		dc_transaction_commit(context);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		dc_transaction_abort();
		MemoryContextSwitchTo(context);
		ran = false;
		note_failure(command, error);
	}
	PG_END_TRY();
	return ran;
}

/* One command; true: it was run, and there may be another one. */
static bool
run_next(const DcRegister *reg, uint64 done, void (*check)(void))
{
	static uint32 turns_without;
	MemoryContext context = CurrentMemoryContext;
	DcCommand *command = NULL;
	DcCommand copy;
	bool due = true;
	bool found;

	for (int pass = 0; pass < 2; pass++)
	{
		dc_transaction_begin();
		found = find_next(reg, done + 1, &command, &due);
		if (found)
		{
			MemoryContextSwitchTo(context);
			copy = *command;
			copy.role = pstrdup(command->role);
			copy.search_path = pstrdup(command->search_path);
			copy.text = pstrdup(command->text);
		}
		dc_transaction_commit(context);
		if (found || pass == 1)
			break;
		fetch(reg, done, check);
	}
	turns_without = found ? 0 : turns_without + 1;
	if (turns_without == PATIENCE_TURNS)
		pg_atomic_write_u64(&dc_shared->commands.failed, done + 1);
	return found && due && run(&copy);
}

/* A session runs one, perhaps the very next: it is not late. */
static bool
is_busy(void)
{
	bool busy;

	LWLockAcquire(DC_LOCK(DC_LOCK_COMMANDS), LW_SHARED);
	busy = dc_shared->commands.running != DC_HLC_NONE;
	LWLockRelease(DC_LOCK(DC_LOCK_COMMANDS));
	return busy;
}

bool
dc_commands_catch_up(void (*check)(void))
{
	DcRegister *reg = dc_roster_copy();
	uint64 done;
	bool concerned;

	if (!dc_register_member(reg))
		return true;
	concerned = count_done(reg, &done);
	pg_atomic_write_u64(&dc_shared->commands.done, done);
	while (concerned && done < reg->list.commands && !is_busy() &&
		   run_next(reg, done, check))
	{
		done++;
		check();
	}
	return done >= reg->list.commands;
}
