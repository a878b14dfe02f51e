/*
 * command_peer.c
 *		What another member asks for the sake of a command.
 *
 *	try      run it and hold it open, until it is decided; commit then
 *	keep     when it was run by the session that tries it: the text, on disk
 *	fetch    commands that were run here, or are kept here, beyond a number
 *
 * A session that is not awaited any more is cancelled, as for any question,
 * and what it holds open is rolled back.
 */
#include "postgres.h"

#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/wait_event.h"

#include "alter.h"
#include "command.h"
#include "compat.h"
#include "guc.h"
#include "message.h"
#include "peer.h"
#include "shmem.h"
#include "sql.h"
#include "standing.h"

DC_SQL_FUNCTION(datacake_peer_command);

#define LOOK_MS 10

static void
look_again(void)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 LOOK_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static void
set_ran(DcHlc id)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_COMMANDS), LW_EXCLUSIVE);
	dc_shared->commands.ran = dc_shared->commands.running == id;
	LWLockRelease(DC_LOCK(DC_LOCK_COMMANDS));
}

/* It must be the next one here, too. */
static void
check_turn(const DcCommand *command)
{
	DcMembers *list = palloc(sizeof(DcMembers));
	DcPosition at;

	(void) dc_standing_members(list, &at);
	if (dc_standing_joining())
		dc_peer_refuse(DC_BUSY, "This node is joining the cluster.");
	if (at.founder != command->founder ||
		list->commands != command->number - 1 ||
		pg_atomic_read_u64(&dc_shared->commands.done) != command->number - 1)
		dc_peer_refuse(DC_BEHIND, "Look at datacake.ddl_log on this node.");
	if (!dc_command_claim(command->id))
		dc_peer_refuse(DC_BUSY, NULL);
}

static char *
try(const DcCommand *command)
{
	bool overtaken;

	check_turn(command);
	dc_defined_elsewhere = true;
	PG_TRY();
	{
		dc_command_run(command);
	}
	PG_FINALLY();
	{
		dc_defined_elsewhere = false;
	}
	PG_END_TRY();
	set_ran(command->id);
	while (!dc_command_decided(command, &overtaken))
	{
		if (overtaken)
			dc_peer_refuse(DC_BUSY, NULL);
		look_again();
	}
	dc_command_note(command);
	return "true";
}

/* The answer is this node's clock: all that was written before is older. */
static char *
keep(const DcCommand *command)
{
	for (;;)
	{
		bool runs;
		bool ran;

		LWLockAcquire(DC_LOCK(DC_LOCK_COMMANDS), LW_SHARED);
		runs = dc_shared->commands.running == command->id;
		ran = runs && dc_shared->commands.ran;
		LWLockRelease(DC_LOCK(DC_LOCK_COMMANDS));
		if (ran)
			break;
		look_again();
	}
	dc_set_option("synchronous_commit", "on");
	dc_command_keep(command, "proposed");
	return psprintf("\"%llu\"", (unsigned long long) pg_atomic_read_u64(
									&dc_shared->clock_last));
}

/* An array of commands, by number; those only kept are for who knows the id. */
static char *
fetch(const char *json)
{
	const char *arguments[1] = {json};

	dc_sql("SELECT coalesce(json_agg(json_build_object("
		   "'founder', $1::json->>'founder', 'number', l.number::text, "
		   "'id', l.id::bigint::text, 'origin', l.origin::text, "
		   "'role', l.role, 'superuser', l.superuser::text, "
		   "'search_path', l.search_path, 'text', l.command) "
		   "ORDER BY l.number), '[]')::text FROM datacake.ddl_log l "
		   "WHERE l.founder = ($1::json->>'line')::bigint "
		   "AND l.number > ($1::json->>'after')::bigint "
		   "AND l.command IS NOT NULL "
		   "AND (l.state IN ('done', 'decided') "
		   "  OR l.id = ($1::json->>'id')::bigint::datacake.hlc)",
		   1, arguments);
	return dc_sql_text(0, 1);
}

static char *
text_of(DcSlice slice)
{
	return pnstrdup((const char *) slice.data, slice.length);
}

static char *
answer(const DcServiceRequest *request)
{
	char *verb = text_of(request->service);
	char *payload = text_of(request->payload);

	if (strcmp(verb, "try") == 0)
		return try(dc_command_parse(payload));
	if (strcmp(verb, "keep") == 0)
		return keep(dc_command_parse(payload));
	if (strcmp(verb, "fetch") == 0)
		return fetch(payload);
	dc_peer_refuse(DC_MALFORMED, NULL);
}

/* datacake.peer_command(bytea) returns bytea */
Datum
datacake_peer_command(PG_FUNCTION_ARGS)
{
	MemoryContext caller = CurrentMemoryContext;
	DcServiceRequest request;
	DcStatus status;
	DcSlice plain;
	DcRole role;
	DcWriter w;
	char *text;
	uint8 *out;
	bytea *sealed;

	dc_require_loaded();
	plain = dc_peer_open(PG_GETARG_BYTEA_PP(0), DC_SESSION_QUESTIONS);
	dc_peer_require_member();
	status = dc_service_request_decode(plain.data, plain.length, &request);
	if (status != DC_OK || request.payload.data == NULL)
		dc_peer_refuse(status, "Run compatible versions of Datacake.");
	dc_require_ready();
	SPI_connect();
	role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	text = answer(&request);
	MemoryContextSwitchTo(caller);
	text = pstrdup(text);
	dc_role_end(role);
	SPI_finish();
	dc_writer_init(&w, NULL, 0);
	dc_service_result_encode(&w, (DcSlice){(uint8 *) text, strlen(text)});
	out = palloc(w.length);
	dc_writer_init(&w, out, w.length);
	dc_service_result_encode(&w, (DcSlice){(uint8 *) text, strlen(text)});
	sealed = dc_peer_seal(out, w.length);
	PG_RETURN_BYTEA_P(sealed);
}
