/*
 * api.c
 *		The C interface for other extensions.
 *
 * Thin: checks that Datacake runs, and hands over.  Contracts: datacake_api.h.
 */
#include "postgres.h"

#include <poll.h>

#include "fmgr.h"
#include "storage/latch.h"
#include "utils/memutils.h"

#include "api.h"
#include "clock.h"
#include "datacake_api.h"
#include "selector.h"
#include "service.h"
#include "standing.h"
#include "tools.h"
#include "voters.h"

StaticAssertDecl((int) DATACAKE_ALIVE == (int) DC_NODE_ALIVE &&
					 (int) DATACAKE_SUSPECT == (int) DC_NODE_SUSPECT &&
					 (int) DATACAKE_DEAD == (int) DC_NODE_DEAD &&
					 (int) DATACAKE_LEFT == (int) DC_NODE_LEFT,
				 "states are the same");
StaticAssertDecl(DATACAKE_ADDRESS_BYTES == DC_ADDRESS_BYTES, "addresses fit");

/* --- clock --- */

static DatacakeStamp
clock_draw(void)
{
	dc_require_loaded();
	return dc_clock_draw();
}

static void
clock_observe(DatacakeStamp stamp)
{
	dc_require_loaded();
	if (!dc_hlc_valid(stamp))
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("%llu is no stamp", (unsigned long long) stamp)));
	dc_clock_observe(stamp);
	dc_clock_await_bound(stamp);
}

static char *
stamp_format(DatacakeStamp stamp)
{
	return dc_hlc_out(stamp);
}

static uint32
stamp_node(DatacakeStamp stamp)
{
	return dc_hlc_node_id(stamp);
}

static TimestampTz
stamp_time(DatacakeStamp stamp)
{
	return (TimestampTz) dc_hlc_time_us(stamp);
}

/* --- nodes --- */

static int
compare_nodes(const void *a, const void *b)
{
	uint32 left = ((const DatacakeNode *) a)->node_id;
	uint32 right = ((const DatacakeNode *) b)->node_id;

	return left < right ? -1 : left > right;
}

static void
describe(DatacakeNode *to, const DcNode *node)
{
	to->node_id = node->node_id;
	to->local = node->local;
	to->state = (DatacakeState) node->state;
	to->incarnation = node->incarnation;
	to->since = node->since;
	to->clock_offset_us = node->clock_offset_us;
	strlcpy(to->name, node->name, DATACAKE_NAME_BYTES);
	strlcpy(to->data_center, node->data_center, DATACAKE_NAME_BYTES);
	strlcpy(to->address, node->address, DATACAKE_ADDRESS_BYTES);
}

static DatacakeNode *
list_nodes(int *count)
{
	DcMembers *list;
	DatacakeNode *nodes;
	int n = 0;

	dc_require_loaded();
	list = palloc(sizeof(DcMembers));
	nodes = palloc0(sizeof(DatacakeNode) * dc_shared->node_count);
	(void) dc_standing_members(list, NULL);
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (dc_shared->nodes[i].node_id != 0)
			describe(&nodes[n++], &dc_shared->nodes[i]);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	for (int i = 0; i < n; i++)
		nodes[i].member =
			dc_members_get(list, nodes[i].node_id).state == DC_MEMBER_PRESENT;
	pfree(list);
	qsort(nodes, (size_t) n, sizeof(DatacakeNode), compare_nodes);
	*count = n;
	return nodes;
}

/* --- watching them --- */

typedef struct Watch
{
	DatacakeNodeCallback callback;
	void *arg;
	DatacakeNode *told; /* what it knows; room for all nodes twice */
	int told_count;
	struct Watch *next;
} Watch;

static Watch *watches;

static void
nodes_watch(DatacakeNodeCallback callback, void *arg)
{
	int count;
	DatacakeNode *now = list_nodes(&count);
	Watch *watch = MemoryContextAllocZero(TopMemoryContext, sizeof(Watch));

	watch->told =
		MemoryContextAllocZero(TopMemoryContext, sizeof(DatacakeNode) * 2 *
													 dc_shared->node_count);
	memcpy(watch->told, now, sizeof(DatacakeNode) * count);
	watch->told_count = count;
	watch->callback = callback;
	watch->arg = arg;
	watch->next = watches;
	watches = watch;
	pfree(now);
}

/* What changes all the time is no change. */
static bool
is_like(const DatacakeNode *a, const DatacakeNode *b)
{
	return a->state == b->state && a->member == b->member &&
		   a->incarnation == b->incarnation && strcmp(a->name, b->name) == 0 &&
		   strcmp(a->data_center, b->data_center) == 0 &&
		   strcmp(a->address, b->address) == 0;
}

/* Both lists ascend; a difference is told and then known, one by one. */
static int
tell(Watch *watch, const DatacakeNode *now, int count)
{
	int told = 0;
	int i = 0;

	while (i < count || i < watch->told_count)
	{
		DatacakeNode *old = &watch->told[i];
		bool has_old = i < watch->told_count;
		bool has_new = i < count;
		Size rest;

		if (has_old && (!has_new || old->node_id < now[i].node_id))
		{
			watch->callback(old, NULL, watch->arg);
			rest = sizeof(DatacakeNode) * (watch->told_count - i - 1);
			memmove(old, old + 1, rest);
			watch->told_count--;
			told++;
			continue;
		}
		if (!has_old || old->node_id > now[i].node_id)
		{
			watch->callback(NULL, &now[i], watch->arg);
			rest = sizeof(DatacakeNode) * (watch->told_count - i);
			memmove(old + 1, old, rest);
			watch->told_count++;
			told++;
		}
		else if (!is_like(old, &now[i]))
		{
			watch->callback(old, &now[i], watch->arg);
			told++;
		}
		*old = now[i++];
	}
	return told;
}

static int
nodes_poll(void)
{
	int told = 0;
	int count;
	DatacakeNode *now = list_nodes(&count);

	for (Watch *watch = watches; watch != NULL; watch = watch->next)
		told += tell(watch, now, count);
	pfree(now);
	return told;
}

/* --- calls --- */

struct DatacakeCall
{
	DcServiceCall *call;
	DcAsk *ask;
	DcReply *reply; /* once it is over */
};

static DatacakeCall *
call_begin(uint32 node_id, const char *service, Datum payload,
		   bool payload_is_null, int timeout_ms)
{
	DatacakeCall *call = palloc0(sizeof(DatacakeCall));

	call->call =
		dc_service_call_begin(service, payload, payload_is_null, timeout_ms);
	call->ask = dc_service_call_ask(call->call, node_id);
	return call;
}

typedef struct OneSocket
{
	pgsocket socket;
	uint32 events;
} OneSocket;

static void
note_socket(int fd, short events, void *arg)
{
	OneSocket *one = arg;

	one->socket = fd;
	one->events = ((events & POLLIN) != 0 ? WL_SOCKET_READABLE : 0) |
				  ((events & POLLOUT) != 0 ? WL_SOCKET_WRITEABLE : 0);
}

static pgsocket
call_socket(DatacakeCall *call, uint32 *events, long *wait_ms)
{
	OneSocket one = {PGINVALID_SOCKET, 0};

	*wait_ms = dc_ask_sockets(call->ask, note_socket, &one);
	*events = one.events;
	return one.socket;
}

static bool
call_poll(DatacakeCall *call)
{
	if (call->reply == NULL)
		call->reply = dc_ask_poll(call->ask);
	return call->reply != NULL;
}

static Datum
call_result(DatacakeCall *call, bool *is_null)
{
	if (!call_poll(call))
		ereport(ERROR, (errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
						errmsg("call of a service is not over yet")));
	return dc_service_call_result(call->call, call->reply, is_null);
}

static void
call_end(DatacakeCall *call)
{
	dc_ask_end(call->ask, false);
	pfree(call);
}

/* --- selectors --- */

static int
selector_choose(const char *level, uint32 **chosen)
{
	DcVoters *voters;
	DcLevel wanted = dc_level_argument(level);

	dc_require_loaded();
	voters = dc_voters_list();
	*chosen = palloc(sizeof(uint32) * voters->count);
	return dc_selector_choose(voters, wanted, *chosen);
}

/* --- all of it --- */

static const DatacakeApi api = {
	.version = DATACAKE_API_VERSION,
	.size = sizeof(DatacakeApi),
	.clock_draw = clock_draw,
	.clock_observe = clock_observe,
	.stamp_format = stamp_format,
	.stamp_node = stamp_node,
	.stamp_time = stamp_time,
	.nodes = list_nodes,
	.nodes_watch = nodes_watch,
	.nodes_poll = nodes_poll,
	.service_register = dc_service_register_symbol,
	.service_unregister = dc_service_unregister,
	.call_begin = call_begin,
	.call_socket = call_socket,
	.call_poll = call_poll,
	.call_result = call_result,
	.call_end = call_end,
	.selector_register = dc_selector_register,
	.selector_choose = selector_choose,
};

void
dc_api_publish(void)
{
	*find_rendezvous_variable(DATACAKE_API_VARIABLE) =
		unconstify(DatacakeApi *, &api);
}
