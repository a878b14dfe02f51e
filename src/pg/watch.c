/*
 * watch.c
 *		Who tells of changes of the nodes and of the member list.
 */
#include "watch.h"

#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/async.h"
#include "lib/stringinfo.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "events.h"
#include "sql.h"
#include "standing.h"

#define EVENTS_PER_TURN 64
#define COMPLAIN_MS     60000

/* --- what changed --- */

DcNodeLife
dc_watch_life(DcNodeState state, bool joining, bool leaving, bool removed)
{
	switch (state)
	{
		case DC_NODE_UNKNOWN:
			return DC_LIFE_UNKNOWN;
		case DC_NODE_ALIVE:
			if (leaving) /* until its goodbye, also when the list knows */
				return DC_LIFE_LEAVING;
			if (removed)
				return DC_LIFE_REMOVED;
			return joining ? DC_LIFE_JOINING : DC_LIFE_ALIVE;
		case DC_NODE_SUSPECT:
			return removed ? DC_LIFE_REMOVED : DC_LIFE_SUSPECT;
		case DC_NODE_DEAD:
			return removed ? DC_LIFE_REMOVED : DC_LIFE_DEAD;
		case DC_NODE_LEFT:
			return DC_LIFE_LEFT;
	}
	return DC_LIFE_UNKNOWN;
}

bool
dc_watch_removed(const DcMembers *list, const DcNode *node)
{
	DcMember member = dc_members_get(list, node->node_id);

	return member.incarnation >= node->incarnation &&
		   (member.state == DC_MEMBER_FENCED ||
			member.state == DC_MEMBER_REMOVED);
}

const DcNode *
dc_watch_find(const DcNode *nodes, int count, int slot, uint32 node_id)
{
	if (nodes[slot].node_id == node_id)
		return &nodes[slot];
	for (int i = 0; i < count; i++)
	{
		if (nodes[i].node_id == node_id)
			return &nodes[i];
	}
	return NULL;
}

static void
append(DcEventKind kind, const DcNode *node, int from, int to, uint64 epoch)
{
	DcEvent event = {.kind = kind,
					 .node_id = node->node_id,
					 .from = from,
					 .to = to,
					 .incarnation = node->incarnation,
					 .epoch = epoch};

	strlcpy(event.name, node->name, sizeof(event.name));
	strlcpy(event.data_center, node->data_center, sizeof(event.data_center));
	strlcpy(event.address, node->address, sizeof(event.address));
	dc_events_append(&event);
}

/* The own gossip worker may start anew without the node. */
static bool
restarted(const DcNode *before, const DcNode *after)
{
	return before->incarnation != after->incarnation ||
		   (!after->local && before->boot != 0 && after->boot != 0 &&
			before->boot != after->boot);
}

static bool
described_anew(const DcNode *before, const DcNode *after)
{
	return strcmp(before->name, after->name) != 0 ||
		   strcmp(before->data_center, after->data_center) != 0 ||
		   strcmp(before->address, after->address) != 0 ||
		   strcmp(before->conninfo, after->conninfo) != 0;
}

static void
compare_node(const DcNode *before, const DcNode *after, uint64 epoch)
{
	if (restarted(before, after))
		append(DC_EVENT_RESTART, after, before->life, after->life, epoch);
	else if (described_anew(before, after))
		append(DC_EVENT_DESCRIPTION, after, before->life, after->life, epoch);
	if (before->life != after->life)
		append(DC_EVENT_STATE, after, before->life, after->life, epoch);
}

void
dc_watch_nodes(const DcNode *before, const DcNode *after, int count,
			   uint64 epoch)
{
	for (int i = 0; i < count; i++)
	{
		const DcNode *node = &after[i];
		const DcNode *known;

		if (node->node_id == 0)
			continue;
		known = dc_watch_find(before, count, i, node->node_id);
		if (known != NULL)
			compare_node(known, node, epoch);
		else if (node->life != DC_LIFE_UNKNOWN)
			append(DC_EVENT_STATE, node, DC_LIFE_UNKNOWN, node->life, epoch);
	}
	for (int i = 0; i < count; i++)
	{
		if (before[i].node_id != 0 &&
			dc_watch_find(after, count, i, before[i].node_id) == NULL)
			append(DC_EVENT_STATE, &before[i], before[i].life, DC_LIFE_UNKNOWN,
				   epoch);
	}
}

/* Texts of a node that gossip knows; the others stay empty. */
static void
describe_node(DcNode *node)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		const DcNode *known = &dc_shared->nodes[i];

		if (known->node_id != node->node_id)
			continue;
		strlcpy(node->name, known->name, sizeof(node->name));
		strlcpy(node->data_center, known->data_center,
				sizeof(node->data_center));
		strlcpy(node->address, known->address, sizeof(node->address));
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
}

static void
append_member(const DcMember *member, DcMemberState from, DcMemberState to,
			  uint64 epoch)
{
	DcNode node = {.node_id = member->node_id,
				   .incarnation = member->incarnation};

	describe_node(&node);
	append(DC_EVENT_MEMBER, &node, from, to, epoch);
}

void
dc_watch_members(const DcMembers *before, const DcMembers *after, uint64 epoch)
{
	for (uint32 i = 0; i < after->count; i++)
	{
		const DcMember *member = &after->at[i];
		DcMember known = dc_members_get(before, member->node_id);

		if (known.state != member->state ||
			known.incarnation != member->incarnation)
			append_member(member, known.state, member->state, epoch);
	}
	for (uint32 i = 0; i < before->count; i++)
	{
		const DcMember *member = &before->at[i];

		if (dc_members_get(after, member->node_id).state == DC_MEMBER_ABSENT)
			append_member(member, member->state, DC_MEMBER_ABSENT, epoch);
	}
}

/* --- telling it --- */

static void
add_text(StringInfo json, const char *name, const char *text)
{
	appendStringInfo(json, ",\"%s\":", name);
	if (text == NULL || *text == '\0')
		appendStringInfoString(json, "null");
	else
		escape_json(json, text);
}

/* Below 1 kB: the texts are short, and printable ASCII. */
static void
notify(const DcEvent *event, bool snapshot)
{
	char at[MAXDATELEN + 1];
	StringInfoData json;

	JsonEncodeDateTime(at, TimestampTzGetDatum(event->at), TIMESTAMPTZOID,
					   NULL);
	initStringInfo(&json);
	appendStringInfo(&json,
					 "{\"event\":\"%s\",\"sequence\":" UINT64_FORMAT
					 ",\"node_id\":%u",
					 dc_event_kind_name(event->kind), event->sequence,
					 event->node_id);
	add_text(&json, "name", event->name);
	add_text(&json, "from",
			 snapshot ? NULL : dc_event_state_name(event->kind, event->from));
	add_text(&json, "to", dc_event_state_name(event->kind, event->to));
	appendStringInfo(&json, ",\"incarnation\":" UINT64_FORMAT,
					 event->incarnation);
	add_text(&json, "address", event->address);
	add_text(&json, "data_center", event->data_center);
	appendStringInfo(&json, ",\"epoch\":\"%016llx\",\"at\":\"%s\"}",
					 (unsigned long long) event->epoch, at);
	Async_Notify(DC_WATCH_CHANNEL, json.data);
	pfree(json.data);
}

/* Events were overwritten: all there is to know, as of now. */
static void
notify_snapshot(uint64 sequence)
{
	int count = dc_shared->node_count;
	DcNode *nodes = palloc(sizeof(DcNode) * count);
	DcMembers *list = palloc(sizeof(DcMembers));
	DcEvent event = {.sequence = sequence, .at = GetCurrentTimestamp()};

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	memcpy(nodes, dc_shared->nodes, sizeof(DcNode) * count);
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	event.epoch = dc_standing_members(list, NULL);
	for (int i = 0; i < count; i++)
	{
		event.kind = DC_EVENT_STATE;
		event.node_id = nodes[i].node_id;
		event.to = nodes[i].life;
		event.incarnation = nodes[i].incarnation;
		strlcpy(event.name, nodes[i].name, sizeof(event.name));
		strlcpy(event.data_center, nodes[i].data_center,
				sizeof(event.data_center));
		strlcpy(event.address, nodes[i].address, sizeof(event.address));
		if (event.node_id != 0)
			notify(&event, true);
	}
	event.name[0] = event.data_center[0] = event.address[0] = '\0';
	for (uint32 i = 0; i < list->count; i++)
	{
		event.kind = DC_EVENT_MEMBER;
		event.node_id = list->at[i].node_id;
		event.to = (int) list->at[i].state;
		event.incarnation = list->at[i].incarnation;
		notify(&event, true);
	}
}

/* One transaction's worth; false when there is nothing left. */
static bool
notify_some(uint64 *told)
{
	DcEvent *events;
	bool missed;
	int count;

	if (dc_events_newest() == *told)
		return false;
	dc_transaction_begin();
	events = palloc(sizeof(DcEvent) * EVENTS_PER_TURN);
	count = dc_events_read(told, events, EVENTS_PER_TURN, &missed);
	if (missed)
		notify_snapshot(*told);
	for (int i = 0; i < count; i++)
		notify(&events[i], false);
	dc_transaction_commit(TopMemoryContext);
	return true;
}

/*
 * The queue of notifications may be full, or its lock taken by somebody whose
 * commit waits.  The events stay in the ring and are tried again; if that
 * lasts, a snapshot follows.
 */
static void
give_up_for_now(MemoryContext context)
{
	static TimestampTz told_at = 0;
	TimestampTz now = GetCurrentTimestamp();
	ErrorData *error;

	MemoryContextSwitchTo(context);
	error = CopyErrorData();
	if (ERRCODE_TO_CATEGORY(error->sqlerrcode) ==
		ERRCODE_TO_CATEGORY(ERRCODE_OPERATOR_INTERVENTION))
		PG_RE_THROW();
	FlushErrorState();
	AbortCurrentTransaction();
	MemoryContextSwitchTo(context);
	if (TimestampDifferenceExceeds(told_at, now, COMPLAIN_MS))
	{
		ereport(WARNING, (errcode(error->sqlerrcode),
						  errmsg("could not notify \"%s\": %s",
								 DC_WATCH_CHANNEL, error->message)));
		told_at = now;
	}
	FreeErrorData(error);
}

bool
dc_watch_notify(void)
{
	MemoryContext context = CurrentMemoryContext;
	volatile bool more = true;
	volatile bool done = true;

	while (more)
	{
		PG_TRY();
		{
			uint64 told = dc_shared->events_told;

			more = notify_some(&told);
			dc_shared->events_told = told; /* committed */
		}
		PG_CATCH();
		{
			give_up_for_now(context);
			more = done = false;
		}
		PG_END_TRY();
	}
	MemoryContextSwitchTo(context);
	return done;
}
