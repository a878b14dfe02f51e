/*
 * command.c
 *		Running a command of the cluster on this node, and its log.
 */
#include "command.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/json.h"

#include "guc.h"
#include "mend.h"
#include "sql.h"
#include "standing.h"

/* --- as JSON --- */

static void
add_text(StringInfo out, const char *name, const char *value)
{
	appendStringInfo(out, "%s\"%s\": ", out->len == 1 ? "" : ", ", name);
	escape_json(out, value);
}

char *
dc_command_json(const DcCommand *command)
{
	StringInfoData out;

	initStringInfo(&out);
	appendStringInfoChar(&out, '{');
	add_text(&out, "founder", dc_sql_number(command->founder));
	add_text(&out, "number", dc_sql_number(command->number));
	add_text(&out, "id", dc_sql_number(command->id));
	add_text(&out, "origin", dc_sql_number(command->origin));
	add_text(&out, "role", command->role);
	add_text(&out, "superuser", command->superuser ? "true" : "false");
	add_text(&out, "search_path", command->search_path);
	add_text(&out, "text", command->text);
	appendStringInfoChar(&out, '}');
	return out.data;
}

static uint64
number_of(int column)
{
	return strtoull(dc_sql_text(0, column), NULL, 10);
}

DcCommand *
dc_command_parse(const char *json)
{
	const char *arguments[1] = {json};
	DcCommand *command = palloc(sizeof(DcCommand));

	if (dc_sql("SELECT j->>'founder', j->>'number', j->>'id', j->>'origin', "
			   "j->>'superuser', j->>'role', j->>'search_path', j->>'text' "
			   "FROM (SELECT $1::jsonb) t(j)",
			   1, arguments) != 1)
		elog(ERROR, "could not read a command");
	for (int column = 1; column <= 8; column++)
	{
		if (dc_sql_text(0, column) == NULL)
			ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '1', '1')),
							errmsg("command of a peer is malformed")));
	}
	command->founder = number_of(1);
	command->number = number_of(2);
	command->id = number_of(3);
	command->origin = (uint32) number_of(4);
	command->superuser = strcmp(dc_sql_text(0, 5), "true") == 0;
	command->role = dc_sql_text(0, 6);
	command->search_path = dc_sql_text(0, 7);
	command->text = dc_sql_text(0, 8);
	if (!dc_hlc_valid(command->id) || command->number == 0)
		ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '1', '1')),
						errmsg("command of a peer is malformed")));
	return command;
}

/* --- one at a time --- */

static DcHlc claimed; /* by this transaction */
static uint64 noted;  /* the number that it ran */

void
dc_command_release(void)
{
	if (claimed == DC_HLC_NONE)
		return;
	LWLockAcquire(DC_LOCK(DC_LOCK_COMMANDS), LW_EXCLUSIVE);
	if (dc_shared->commands.running == claimed)
		dc_shared->commands.running = DC_HLC_NONE;
	LWLockRelease(DC_LOCK(DC_LOCK_COMMANDS));
	claimed = DC_HLC_NONE;
}

static void
on_transaction_event(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_COMMIT && event != XACT_EVENT_ABORT)
		return;
	if (noted != 0 && event == XACT_EVENT_COMMIT)
	{
		pg_atomic_write_u64(&dc_shared->commands.done, noted);
		dc_worker_wake(DC_WORKER_REPLICATOR);
		dc_worker_wake(DC_WORKER_REGISTRAR);
	}
	noted = 0;
	dc_command_release();
}

bool
dc_command_claim(DcHlc id)
{
	static bool registered = false;
	bool free;

	if (!registered)
		RegisterXactCallback(on_transaction_event, NULL);
	registered = true;
	LWLockAcquire(DC_LOCK(DC_LOCK_COMMANDS), LW_EXCLUSIVE);
	free = dc_shared->commands.running == DC_HLC_NONE ||
		   dc_shared->commands.running == claimed;
	if (free)
	{
		dc_shared->commands.running = claimed = id;
		dc_shared->commands.ran = false;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_COMMANDS));
	return free;
}

/* --- running --- */

static Oid
role_of(const DcCommand *command)
{
	Oid role = get_role_oid(command->role, true);

	if (!OidIsValid(role))
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("role \"%s\" does not exist on node %d",
							   command->role, datacake_node_id),
						errhint("A command runs as the role that calls "
								"datacake.ddl(): create it on each node.")));
	if (superuser_arg(role) && !command->superuser)
		ereport(ERROR,
				(errcode(ERRCODE_INSUFFICIENT_PRIVILEGE),
				 errmsg("role \"%s\" is a superuser on node %d, and not on "
						"node %u, which calls",
						command->role, datacake_node_id, command->origin)));
	return role;
}

void
dc_command_run(const DcCommand *command)
{
	DcRole role = dc_role_begin(role_of(command), false);
	int result;

	(void) set_config_option("search_path", command->search_path, PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	result = SPI_execute(command->text, false, 0);
	if (result < 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("command cannot be run in a function: %s",
							   SPI_result_code_string(result))));
	dc_role_end(role);
}

void
dc_command_keep(const DcCommand *command, const char *state)
{
	const char *arguments[9] = {dc_sql_number(command->id),
								psprintf("%lld", (long long) command->founder),
								dc_sql_number(command->number),
								dc_sql_number(command->origin),
								command->role,
								command->superuser ? "true" : "false",
								command->search_path,
								command->text,
								state};
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);

	dc_sql("INSERT INTO datacake.ddl_log AS l (id, founder, number, origin, "
		   "role, superuser, search_path, command, state) "
		   "VALUES ($1::bigint::datacake.hlc, $2::bigint, $3::bigint, $4::int, "
		   "$5, $6::boolean, $7, $8, $9) ON CONFLICT (id) DO UPDATE "
		   "SET state = excluded.state, error = NULL "
		   "WHERE l.state <> 'done'",
		   9, arguments);
	dc_role_end(role);
}

void
dc_command_note(const DcCommand *command)
{
	dc_command_keep(command, "done");
	noted = command->number;
	dc_retry_soon();
}

/* --- what is agreed on, and what was done --- */

DcCommandCount
dc_commands_of(const DcPosition *at, const DcMembers *list)
{
	return (DcCommandCount){.founder = at->founder,
							.number = list->commands,
							.last = list->command};
}

static DcCommandCount
read_list(void)
{
	DcCommandCount count;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	count =
		dc_commands_of(&dc_shared->standing.at, &dc_shared->standing.members);
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return count;
}

bool
dc_command_decided(const DcCommand *command, bool *overtaken)
{
	DcCommandCount list = read_list();

	*overtaken = list.founder != command->founder ||
				 list.number > command->number ||
				 (list.number == command->number && list.last != command->id);
	return !*overtaken && list.number == command->number;
}

bool
dc_commands_missing(const DcCommandCount *known)
{
	uint64 done = pg_atomic_read_u64(&dc_shared->commands.done);
	DcCommandCount list = read_list();
	bool runs;

	if (known != NULL &&
		(list.founder == 0 || known->founder == list.founder) &&
		known->number > list.number)
		list = *known;
	if (list.number <= done || dc_standing_joining() ||
		pg_atomic_read_u64(&dc_shared->commands.failed) == done + 1)
		return false;
	LWLockAcquire(DC_LOCK(DC_LOCK_COMMANDS), LW_SHARED);
	runs = dc_shared->commands.running == list.last && list.number == done + 1;
	LWLockRelease(DC_LOCK(DC_LOCK_COMMANDS));
	return !runs;
}
