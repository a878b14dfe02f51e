/*
 * registrar.c
 *		Sees to it that this node is a member, and that the list is kept (R10).
 *
 *	 alone ---- meets a cluster, gives way ----> adrift --- admitted ---> member
 *	   |                                           ^                        |
 *	   +--- others give way: they are admitted     +--- a new life begins --+
 *
 * In each turn it does what the list needs: a node that is not in it asks for
 * admission; one that is alone looks whom it meets; nodes that were fenced and
 * closed are removed; a member that has an older list is told this one.  What
 * operators ask for comes first (membership.h).
 *
 * It talks to other nodes and waits for them, seconds at worst; nobody waits
 * for it but who asked for a job.
 */
#include "worker.h"

#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "command.h"
#include "council.h"
#include "guc.h"
#include "link.h"
#include "membership.h"
#include "roster.h"
#include "sql.h"
#include "standing.h"

extern PGDLLEXPORT void datacake_registrar_main(Datum arg);

#define STRANGER_US (INT64CONST(10) * USECS_PER_SEC) /* asked again */
#define OLD_LIST_US (INT64CONST(2) * USECS_PER_SEC)  /* then it is told */
#define HANDOVER_MS 30000 /* until what only this node has is elsewhere */

/* A node that gossip sees, other than this one. */
typedef struct Seen
{
	uint32 node_id;
	uint64 incarnation;
	uint64 epoch; /* digest of its list */
} Seen;

static uint32
see_nodes(Seen *seen)
{
	uint32 count = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		const DcNode *node = &dc_shared->nodes[i];

		if (node->node_id != 0 && !node->local && !node->clash &&
			node->state == DC_NODE_ALIVE)
			seen[count++] =
				(Seen){node->node_id, node->incarnation, node->epoch};
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return count;
}

/* --- what is wrong, for people --- */

static bool complained;      /* in this turn */
static uint32 other_cluster; /* a node of one, as long as it is alive */

/* Said in datacake.nodes, and once in the log; NULL: nothing. */
static void complain(const char *format, ...) pg_attribute_printf(1, 2);

static void
complain(const char *format, ...)
{
	char text[DC_ERROR_BYTES] = "";
	bool news;

	if (format != NULL)
	{
		va_list args;

		va_start(args, format);
		vsnprintf(text, sizeof(text), format, args);
		va_end(args);
	}
	complained = true;
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	news = strcmp(dc_shared->standing.complaint, text) != 0;
	strlcpy(dc_shared->standing.complaint, text, DC_ERROR_BYTES);
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	if (news && text[0] != '\0')
		ereport(WARNING,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("datacake node %d: %s", datacake_node_id, text)));
}

/* --- admission --- */

/*
 * A node id that the cluster knows is not taken over by a server that knows
 * nothing of the cluster, unless somebody said so.
 */
static bool
id_is_taken(const DcRegisterReply *reply)
{
	DcMember member = dc_members_get(&reply->list, (uint32) datacake_node_id);

	if (member.state == DC_MEMBER_ABSENT ||
		member.incarnation == dc_shared->incarnation ||
		pg_atomic_read_u32(&dc_shared->replaces) != 0)
		return false;
	complain("the cluster of node %u knows another server as node %d; take "
			 "another datacake.node_id, or replace that server by "
			 "datacake.join(seed, replace => true)",
			 reply->node_id, datacake_node_id);
	return true;
}

static void
ask_for_admission(uint32 via)
{
	DcListChange change = {.kind = DC_CHANGE_ADMIT,
						   .node_id = (uint32) datacake_node_id,
						   .incarnation = dc_shared->incarnation};
	DcJobEnd end;

	if (dc_council_change(&change, via, &end, dc_worker_check) == DC_OK)
		pg_atomic_write_u32(&dc_shared->replaces, 0);
	else
		complain("not admitted as a member yet: %s", end.error);
}

/* --- whom it meets --- */

static TimestampTz strangers_asked_at[DC_NODE_IDS];

/* What came of meeting a node; this one may have given way. */
static void
meet(const DcRegister *reg, const DcRegisterReply *reply)
{
	switch (dc_register_meet(reg, reply))
	{
		case DC_MEETING_YIELD:
			if (id_is_taken(reply))
				return;
			if (reg->adrift || dc_standing_give_way(&reply->list))
				ask_for_admission(reply->node_id);
			return;
		case DC_MEETING_FOUND:
			dc_standing_found_anew();
			return;
		case DC_MEETING_SAME:
			if (dc_position_compare(&reply->at, &reg->at) > 0)
				dc_standing_told(&reply->at, &reply->list);
			return;
		case DC_MEETING_REFUSE:
			other_cluster = reply->node_id;
			complain("node %u belongs to another cluster of the same name",
					 reply->node_id);
			return;
		case DC_MEETING_AWAIT:
			return;
	}
}

/*
 * A newcomer that is alone or adrift asks all in each turn; members ask
 * strangers now and then, to tell what is wrong.  True: something changed.
 */
static void
meet_strangers(const DcRegister *reg, const Seen *seen, uint32 count)
{
	bool eager = reg->adrift || dc_register_alone(reg);
	TimestampTz now = GetCurrentTimestamp();
	DcRegisterReply *reply = palloc(sizeof(DcRegisterReply));
	uint64 incarnation = dc_shared->incarnation;
	char why[DC_ERROR_BYTES] = "";

	for (uint32 i = 0; i < count; i++)
	{
		uint32 id = seen[i].node_id;

		if (!eager &&
			(dc_members_includes(&reg->list, id, seen[i].incarnation) ||
			 now - strangers_asked_at[id] < STRANGER_US))
			continue;
		strangers_asked_at[id] = now;
		if (!dc_council_read(id, reply, why, dc_worker_check))
		{
			dc_link_note_stranger(id, why);
			continue;
		}
		dc_link_note_stranger(id, NULL);
		meet(reg, reply);
		reg = dc_roster_copy();
		if (dc_shared->incarnation != incarnation ||
			(eager && dc_register_member(reg) && !dc_register_alone(reg)))
			return;
	}
}

/* --- keeping the list --- */

/* R11: all survivors have closed the fenced nodes to each other. */
static void
complete_removals(const DcRegister *reg)
{
	uint32 max = (uint32) dc_shared->node_count + 1;
	DcReport *reports = palloc(sizeof(DcReport) * max);
	uint32 count = dc_standing_reports(reports, max);
	DcMembers *list = palloc(sizeof(DcMembers));

	*list = reg->list;
	if (!dc_members_fence(list) || !dc_members_close(list, reports, count))
		return;
	for (uint32 i = 0; i < reg->list.count; i++)
	{
		DcMember member = reg->list.at[i];
		DcListChange change = {.kind = DC_CHANGE_REMOVE,
							   .node_id = member.node_id,
							   .incarnation = member.incarnation};
		DcJobEnd end;

		if (member.state == DC_MEMBER_FENCED &&
			dc_council_change(&change, 0, &end, dc_worker_check) != DC_OK)
			complain("node %u is not removed yet: %s", member.node_id,
					 end.error);
	}
}

/* Usually the link tells; it cannot where the list itself is in the way. */
static void
tell_the_list(const DcRegister *reg, const Seen *seen, uint32 count)
{
	static TimestampTz differs_since[DC_NODE_IDS];
	uint64 epoch = dc_members_digest(&reg->list);
	TimestampTz now = GetCurrentTimestamp();

	for (uint32 i = 0; i < count; i++)
	{
		uint32 id = seen[i].node_id;

		if (seen[i].epoch == epoch ||
			!dc_members_includes(&reg->list, id, seen[i].incarnation))
			differs_since[id] = 0;
		else if (differs_since[id] == 0)
			differs_since[id] = now;
		else if (now - differs_since[id] > OLD_LIST_US)
		{
			(void) dc_council_tell(id, dc_worker_check);
			differs_since[id] = 0;
		}
	}
}

/* --- jobs --- */

static void
check_job(void)
{
	dc_worker_check();
	dc_job_check(&dc_shared->members_job);
}

static DcStatus
fence(uint32 node_id, DcJobEnd *end)
{
	DcRegister *reg = dc_roster_copy();
	DcMember member = dc_members_get(&reg->list, node_id);
	DcListChange change = {.kind = DC_CHANGE_FENCE,
						   .node_id = node_id,
						   .incarnation = member.incarnation};

	return dc_council_change(&change, 0, end, check_job);
}

static void
give_up_leaving(uint32 lacking)
{
	if (lacking == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("no member is there to take over what this node has"),
				 errhint("It must be alive, and not joining; see "
						 "datacake.members.")));
	ereport(ERROR,
			(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
			 errmsg("node %u does not take over what this node has", lacking),
			 errhint("Look at its row in datacake.peers; all members that are "
					 "alive must be connected.")));
}

/* What every heir must have: the greatest stamp drawn here. */
static void
await_handover(void)
{
	DcHlc last = dc_clock_draw();
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), HANDOVER_MS);

	for (;;)
	{
		uint32 heirs;
		uint32 lacking = dc_standing_lacking(last, &heirs);

		if (lacking == 0 && heirs > 0)
			return;
		if (GetCurrentTimestamp() > deadline)
			give_up_leaving(lacking);
		dc_worker_wake(DC_WORKER_REPLICATOR);
		dc_worker_wait(50, PG_WAIT_EXTENSION);
		check_job();
	}
}

static DcStatus
leave(DcJobEnd *end)
{
	DcStatus status;

	pg_atomic_write_u32(&dc_shared->leaving, 1);
	dc_worker_wake(DC_WORKER_GOSSIP); /* it is told */
	await_handover();
	status = fence((uint32) datacake_node_id, end);
	if (status == DC_OK)
	{
		pg_atomic_write_u32(&dc_shared->leaving, 2);
		dc_worker_wake(DC_WORKER_GOSSIP);
	}
	return status;
}

static DcStatus
force(const DcMembersPlan *plan, DcJobEnd *end)
{
	uint32 survivors[DC_NODE_IDS];
	uint32 count = 0;

	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		if ((plan->survivors[id / 32] >> (id % 32)) & 1)
			survivors[count++] = id;
	}
	return dc_council_force(survivors, count, end, check_job);
}

static void
carry_out(const DcMembersPlan *plan, DcJobEnd *end)
{
	switch (plan->task)
	{
		case DC_MEMBERS_REMOVE:
			(void) fence(plan->node_id, end);
			return;
		case DC_MEMBERS_LEAVE:
			if (leave(end) != DC_OK)
				pg_atomic_write_u32(&dc_shared->leaving, 0);
			return;
		case DC_MEMBERS_FORCE:
			(void) force(plan, end);
			return;
		case DC_MEMBERS_COMMAND:
			dc_command_propose(plan->number, plan->command, end, check_job);
			return;
	}
}

static void
serve_jobs(void)
{
	MemoryContext context = CurrentMemoryContext;
	DcMembersPlan plan;
	DcJobEnd end;

	while (dc_job_take(&dc_shared->members_job, &dc_members_job, &plan))
	{
		PG_TRY();
		{
			carry_out(&plan, &end);
		}
		PG_CATCH();
		{
			ErrorData *error;

			MemoryContextSwitchTo(context);
			error = CopyErrorData();
			FlushErrorState();
			dc_transaction_abort();
			memset(&end, 0, sizeof(end));
			end.sqlstate = error->sqlerrcode;
			strlcpy(end.error, error->message, sizeof(end.error));
			strlcpy(end.hint, error->hint != NULL ? error->hint : "",
					sizeof(end.hint));
			pg_atomic_write_u32(&dc_shared->leaving, 0);
		}
		PG_END_TRY();
		dc_job_end(&dc_shared->members_job, &dc_members_job, &end, &end);
		dc_worker_check();
	}
}

/* --- the worker --- */

/* Are all who are seen members, with this list, and is nobody of it leaving? */
static bool
agrees(const DcRegister *reg, const Seen *seen, uint32 count)
{
	uint64 epoch = dc_members_digest(&reg->list);

	for (uint32 i = 0; i < count; i++)
	{
		if (seen[i].epoch != epoch ||
			!dc_members_includes(&reg->list, seen[i].node_id,
								 seen[i].incarnation))
			return false;
	}
	return dc_register_member(reg) && !dc_members_fence(&reg->list);
}

/* True: something is left to be done. */
static bool
turn(void)
{
	Seen *seen = palloc(sizeof(Seen) * (Size) dc_shared->node_count);
	DcRegister *reg;
	bool commanded;
	uint32 count;

	serve_jobs();
	complained = false;
	reg = dc_roster_copy();
	count = see_nodes(seen);
	if (dc_identity_complaint((uint32) datacake_node_id,
							  dc_shared->incarnation) != NULL ||
		reg->incarnation != dc_shared->incarnation || dc_standing_removed())
		return true;
	if (!reg->adrift && !dc_register_member(reg))
		ask_for_admission(0); /* a new life, in the list it had */
	else
		meet_strangers(reg, seen, count);
	commanded = dc_commands_catch_up(dc_worker_check);
	if (dc_register_member(reg) && !dc_register_alone(reg))
	{
		complete_removals(reg);
		tell_the_list(reg, seen, count);
	}
	if (other_cluster != 0 && !dc_node_alive(other_cluster))
		other_cluster = 0;
	if (complained || other_cluster != 0)
		return true;
	if (dc_register_member(reg))
		complain(NULL);
	return !commanded || !agrees(reg, seen, count);
}

void
datacake_registrar_main(Datum arg)
{
	MemoryContext scratch;

	dc_worker_begin(DC_WORKER_REGISTRAR, true);
	dc_job_recover(&dc_shared->members_job);
	if (pg_atomic_read_u32(&dc_shared->leaving) == 1)
		pg_atomic_write_u32(&dc_shared->leaving, 0);
	while (dc_phase() != DC_PHASE_READY)
		dc_worker_wait(100, PG_WAIT_EXTENSION);
	scratch = AllocSetContextCreate(TopMemoryContext, "datacake registrar turn",
									ALLOCSET_DEFAULT_SIZES);
	for (;;)
	{
		bool open;

		MemoryContextSwitchTo(scratch);
		open = turn();
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(scratch);
		dc_worker_wait(dc_worker_turn_ms(open), PG_WAIT_EXTENSION);
	}
}
