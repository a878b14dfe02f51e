/*
 * level_wait.c
 *		Consistency levels of the running transaction: asked for, checked,
 *		waited for.
 *
 * The wait is that of synchronous replication (SyncRepWaitForLSN), a little
 * later: the transaction is committed, and its locks are gone.  Nothing may be
 * an ERROR there, and interrupts are held, so they are looked at one by one.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "fmgr.h"
#include "funcapi.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "tcop/tcopprot.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "acks.h"
#include "compat.h"
#include "guc.h"
#include "level_wait.h"
#include "shmem.h"
#include "sql.h"
#include "status.h"
#include "tools.h"

DC_SQL_FUNCTION(datacake_ask_level);
DC_SQL_FUNCTION(datacake_last_commit);
DC_SQL_FUNCTION(datacake_last_commit_stamp);
DC_SQL_FUNCTION(datacake_await);

#define BIT(level) ((DcLevelSet) 1 << (level))

static bool exempted;

/* Of the running transaction. */
static DcLevelSet asked;
static SubTransactionId asked_in[DC_LEVELS]; /* the first that did */
static uint32 required;

/* The last commit of captured changes in this session. */
typedef struct LastCommit
{
	DcHlc stamp;
	uint64 number;
	DcLevelSet levels;
	uint32 required;
	bool waits; /* not waited for yet */
} LastCommit;

static LastCommit last;

/* --- asked for --- */

void
dc_level_exempt(bool exempt)
{
	exempted = exempt;
}

void
dc_level_ask(DcLevel level)
{
	if (exempted || level == DC_LEVEL_NONE || (asked & BIT(level)) != 0)
		return;
	asked |= BIT(level);
	asked_in[level] = GetCurrentSubTransactionId();
}

void
dc_level_subabort(SubTransactionId subid)
{
	for (int level = 0; level < DC_LEVELS; level++)
	{
		if (asked_in[level] >= subid)
			asked &= ~BIT(level);
	}
}

void
dc_level_forget(void)
{
	asked = 0;
	required = 0;
}

/* "quorum", or "one, local_quorum". */
static char *
names_of(DcLevelSet levels)
{
	StringInfoData names;

	initStringInfo(&names);
	if (levels == 0)
		appendStringInfoString(&names, dc_level_name(DC_LEVEL_NONE));
	for (int level = 0; level < DC_LEVELS; level++)
	{
		if ((levels & BIT(level)) != 0)
			appendStringInfo(&names, "%s%s", names.len > 0 ? ", " : "",
							 dc_level_name((DcLevel) level));
	}
	return names.data;
}

/* --- PRE_COMMIT --- */

/* NULL, or why this node may not count others. */
static const char *
member_complaint(void)
{
	bool member;
	bool joining;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	member = dc_shared->standing.member && !dc_shared->standing.removed;
	joining = dc_shared->standing.joining;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	if (dc_phase() != DC_PHASE_READY)
		return "This node has just started and is still reading its tables.";
	if (joining)
		return "This node is joining the cluster.";
	if (!member)
		return "This node is not an agreed member of the cluster.";
	return NULL;
}

static void
require_member(void)
{
	const char *complaint = member_complaint();

	if (complaint == NULL)
		return;
	ereport(ERROR,
			(errcode(dc_sqlstate(DC_LEVEL_UNMET)),
			 errmsg("consistency level \"%s\" cannot be met", names_of(asked)),
			 errdetail("%s", complaint),
			 errhint("Nothing was written. Look at datacake.members, or use "
					 "level \"none\".")));
}

static void
append_node(StringInfo list, uint32 node_id)
{
	appendStringInfo(list, "%s%u", list->len > 0 ? ", " : "", node_id);
}

static void
refuse(const DcVoters *voters, DcLevel level, const DcTally *needs)
{
	StringInfoData missing;

	initStringInfo(&missing);
	for (int i = 0; i < voters->count; i++)
	{
		const DcVoter *voter = &voters->at[i];

		if (!voter->local && (!voter->alive || dc_acks_joining(voter->node_id)))
			append_node(&missing, voter->node_id);
	}
	ereport(ERROR,
			(errcode(dc_sqlstate(DC_LEVEL_UNMET)),
			 errmsg("consistency level \"%s\" cannot be met",
					dc_level_name(level)),
			 errdetail("Nodes needed: %u; members: %d; not alive or joining: "
					   "%s.",
					   dc_tally_least(needs), voters->count,
					   missing.len > 0 ? missing.data : "none"),
			 errhint("Nothing was written. Try again when they are back, or "
					 "use a weaker level.")));
}

/* What those that are alive can meet, as this process last counted it. */
typedef struct Outlook
{
	uint64 version; /* of the nodes; 0: not counted yet */
	DcLevelSet possible;
	uint32 least[DC_LEVELS]; /* so many nodes it takes */
} Outlook;

static Outlook outlook;

/* Counts what can be met; ERROR if one that is asked for cannot. */
static void
count_live_members(uint64 version)
{
	DcVoters *voters = dc_voters_list();
	DcTally *alive = palloc0(sizeof(DcTally));
	DcTally *needs = palloc(sizeof(DcTally));

	memset(&outlook, 0, sizeof(outlook));
	for (int i = 0; i < voters->count; i++)
	{
		const DcVoter *voter = &voters->at[i];

		if (voter->local || (voter->alive && !dc_acks_joining(voter->node_id)))
			dc_tally_add(alive, voter->centre);
	}
	for (int level = 0; level < DC_LEVELS; level++)
	{
		dc_voters_needs(voters, (DcLevel) level, needs);
		outlook.least[level] = dc_tally_least(needs);
		if (dc_tally_meets(alive, needs))
			outlook.possible |= BIT(level);
		else if ((asked & BIT(level)) != 0)
			refuse(voters, (DcLevel) level, needs);
	}
	outlook.version = version;
	pfree(needs);
	pfree(alive);
	pfree(voters);
}

static void
require_live_members(void)
{
	uint64 version = dc_nodes_version();

	if (outlook.version != version || (asked & ~outlook.possible) != 0)
		count_live_members(version);
	for (int level = 0; level < DC_LEVELS; level++)
	{
		if ((asked & BIT(level)) != 0)
			required = Max(required, outlook.least[level]);
	}
}

void
dc_level_check(void)
{
	dc_level_ask((DcLevel) datacake_consistency);
	required = 1; /* this node */
	if (asked == 0)
		return;
	require_member();
	require_live_members();
	ForceSyncCommit(); /* this node counts as well */
}

bool
dc_level_asked(void)
{
	return asked != 0;
}

/* --- after the commit --- */

void
dc_level_committed(uint64 number, DcHlc stamp)
{
	last = (LastCommit){.stamp = stamp,
						.number = number,
						.levels = asked,
						.required = required,
						.waits = asked != 0};
}

DcHlc
dc_last_commit_stamp(void)
{
	return last.stamp;
}

/* Who has it, and who has not; NULL if there is no list of members. */
typedef struct Roll
{
	int count; /* of those who have it */
	Datum *have;
	StringInfoData yes;
	StringInfoData no;
} Roll;

static Roll
call_the_roll(void)
{
	DcVoters *voters = dc_voters_read();
	Roll roll = {0};
	int members = voters != NULL ? voters->count : 0;

	roll.have = palloc(sizeof(Datum) * (Size) (members + 1));
	initStringInfo(&roll.yes);
	initStringInfo(&roll.no);
	for (int i = 0; i < members; i++)
	{
		const DcVoter *voter = &voters->at[i];

		if (!voter->local &&
			!dc_acks_has(voter->node_id, voters->epoch, last.number))
		{
			append_node(&roll.no, voter->node_id);
			continue;
		}
		append_node(&roll.yes, voter->node_id);
		roll.have[roll.count++] = Int32GetDatum((int32) voter->node_id);
	}
	return roll;
}

static const char *
detail_of(const Roll *roll)
{
	return psprintf("The transaction is committed on this node. Flushed on "
					"nodes: %s; not known from: %s.",
					roll->yes.len > 0 ? roll->yes.data : "none",
					roll->no.len > 0 ? roll->no.data : "none");
}

#define HINT_LATER                                                             \
	"The write reaches the others as soon as they can be reached; "            \
	"datacake.await() waits for it again."

static void
warn_late(void)
{
	Roll roll = call_the_roll();

	ereport(WARNING,
			(errcode(dc_sqlstate(DC_LEVEL_LATE)),
			 errmsg("consistency level \"%s\" was not reached within %d ms",
					names_of(last.levels), datacake_consistency_timeout_ms),
			 errdetail("%s", detail_of(&roll)), errhint(HINT_LATER)));
}

/*
 * As synchronous replication does: the client of a backend that is told to end
 * must not take the commit for acknowledged, so it hears no more.
 */
static void
warn_terminated(void)
{
	Roll roll = call_the_roll();

	ereport(WARNING,
			(errcode(ERRCODE_ADMIN_SHUTDOWN),
			 errmsg("canceling the wait for consistency level \"%s\" and "
					"terminating connection due to administrator command",
					names_of(last.levels)),
			 errdetail("%s", detail_of(&roll))));
	whereToSendOutput = DestNone;
}

static void
warn_canceled(void)
{
	Roll roll = call_the_roll();

	QueryCancelPending = false;
	ereport(WARNING,
			(errcode(dc_sqlstate(DC_LEVEL_LATE)),
			 errmsg("canceling the wait for consistency level \"%s\" due to "
					"user request",
					names_of(last.levels)),
			 errdetail("%s", detail_of(&roll)), errhint(HINT_LATER)));
}

void
dc_level_wait(void)
{
	if (!last.waits)
		return;
	last.waits = false; /* this is called for each resource owner */
	switch (
		dc_acks_wait(last.number, last.levels,
					 TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
												 datacake_consistency_timeout_ms)))
	{
		case DC_ACKS_REACHED:
			return;
		case DC_ACKS_LATE:
			warn_late();
			return;
		case DC_ACKS_INTERRUPTED:
			if (ProcDiePending)
				warn_terminated();
			else
				warn_canceled();
			return;
		case DC_ACKS_POSTMASTER_DIED:
			ProcDiePending = true;
			whereToSendOutput = DestNone;
			return;
	}
}

/* --- SQL --- */

/* datacake.ask_level(text): the running transaction asks for it, too */
Datum
datacake_ask_level(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
		dc_level_ask(dc_level_argument(text_to_cstring(PG_GETARG_TEXT_PP(0))));
	PG_RETURN_VOID();
}

/* datacake.last_commit_stamp(): of this session; NULL before the first */
Datum
datacake_last_commit_stamp(PG_FUNCTION_ARGS)
{
	if (last.stamp == DC_HLC_NONE)
		PG_RETURN_NULL();
	PG_RETURN_INT64((int64) last.stamp);
}

/* datacake.last_commit(): and who has it by now */
Datum
datacake_last_commit(PG_FUNCTION_ARGS)
{
	Datum values[5];
	bool nulls[5] = {false};
	TupleDesc desc;
	Roll roll;

	dc_require_loaded();
	if (last.stamp == DC_HLC_NONE)
		PG_RETURN_NULL();
	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	roll = call_the_roll();
	values[0] = Int64GetDatum((int64) last.stamp);
	values[1] = CStringGetTextDatum(names_of(last.levels));
	values[2] = Int32GetDatum((int32) last.required);
	values[3] = Int32GetDatum(roll.count);
	values[4] =
		PointerGetDatum(construct_array(roll.have, roll.count, INT4OID,
										sizeof(int32), true, TYPALIGN_INT));
	PG_RETURN_DATUM(HeapTupleGetDatum(
		heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

static void
fail_open(DcLevelSet levels)
{
	Roll roll = call_the_roll();

	ereport(ERROR, (errcode(dc_sqlstate(DC_LEVEL_OPEN)),
					errmsg("%s: consistency level \"%s\" was not reached in "
						   "time",
						   dc_status_text(DC_LEVEL_OPEN), names_of(levels)),
					errdetail("%s", detail_of(&roll)), errhint(HINT_LATER)));
}

/*
 * datacake.await(level, timeout): for the last commit of this session; NULL
 * stands for what it asked for, and for datacake.consistency_timeout
 */
Datum
datacake_await(PG_FUNCTION_ARGS)
{
	DcLevelSet levels = last.levels;
	long timeout_ms = datacake_consistency_timeout_ms;
	TimestampTz deadline;
	DcAcksResult result;

	dc_require_loaded();
	if (!PG_ARGISNULL(0))
		levels = BIT(dc_level_argument(text_to_cstring(PG_GETARG_TEXT_PP(0))));
	if (!PG_ARGISNULL(1))
		timeout_ms = dc_interval_ms(PG_GETARG_INTERVAL_P(1));
	if (last.stamp == DC_HLC_NONE)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("this session has not committed to a replicated table"),
				 errhint("Await a commit in the session that made it.")));
	deadline = TimestampTzPlusMilliseconds(GetCurrentTimestamp(), timeout_ms);
	for (;;)
	{
		result = dc_acks_wait(last.number, levels, deadline);
		if (result == DC_ACKS_REACHED)
			PG_RETURN_VOID();
		CHECK_FOR_INTERRUPTS();
		if (result == DC_ACKS_POSTMASTER_DIED)
			proc_exit(1);
		if (result == DC_ACKS_LATE)
			fail_open(levels);
	}
}
