/*
 * caller.c
 *		Asking one or several peers at once, outside of the stream.
 */
#include "caller.h"

#include <poll.h>

#include "miscadmin.h"
#include "nodes/pg_list.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#define CONNECT_MS 10000
#define CHECK_MS   200 /* between looks at gossip and plan.check */

/*
 * The peer cancels a question when its time is over and says so; that word,
 * which tells that nothing was done, is worth a little more patience.
 */
#define LAST_WORD_MS 1000

/* Connections that nobody uses, or that are left with a last question. */
#define POOL_MAX 64

struct DcAsk
{
	DcAskPlan plan;
	MemoryContext context;
	MemoryContextCallback on_delete;
	List *replies; /* of DcReply */
	List *idle;    /* of DcDialog: its own, for changes */
	DcAskStats stats;
	TimestampTz check_at;
};

static List *pool; /* of DcDialog, in TopMemoryContext; last used at the end */

/* --- connections of this process --- */

static void
close_pool(int code, Datum arg)
{
	dc_ask_close_idle();
}

void
dc_ask_close_idle(void)
{
	ListCell *cell;

	foreach (cell, pool)
		dc_dialog_close(lfirst(cell));
	list_free(pool);
	pool = NIL;
}

static bool
is_ready(const DcDialog *dialog)
{
	struct pollfd look = {.fd = dc_dialog_socket(dialog),
						  .events = dc_dialog_events(dialog)};

	return look.fd >= 0 && poll(&look, 1, 0) > 0;
}

/* One of these connections, to that peer, or NULL; broken ones go. */
static DcDialog *
take_dialog(List **dialogs, const DcAskPlan *plan, const DcPeer *peer)
{
	DcDialog *found = NULL;
	ListCell *cell;

	foreach (cell, *dialogs)
	{
		DcDialog *dialog = lfirst(cell);

		if (is_ready(dialog))
			dc_dialog_step(dialog);
		if (dc_dialog_phase(dialog) == DC_DIALOG_BROKEN ||
			dc_dialog_old(dialog))
		{
			*dialogs = foreach_delete_current(*dialogs, cell);
			dc_dialog_close(dialog);
		}
		else if (found == NULL && dc_dialog_phase(dialog) == DC_DIALOG_IDLE &&
				 dc_dialog_fits(dialog, peer, plan->kind, plan->role))
		{
			*dialogs = foreach_delete_current(*dialogs, cell);
			found = dialog;
		}
	}
	return found;
}

/* Back to the pool, if it is of use for others. */
static void
give_dialog(const DcAskPlan *plan, DcDialog *dialog, bool let_finish)
{
	static bool registered = false;
	MemoryContext old;

	if (plan->kind != DC_SESSION_QUESTIONS ||
		!(dc_dialog_phase(dialog) == DC_DIALOG_IDLE ||
		  (let_finish && dc_dialog_sent(dialog))))
	{
		dc_dialog_close(dialog);
		return;
	}
	dc_dialog_leave(dialog);
	if (!registered)
		on_proc_exit(close_pool, (Datum) 0);
	registered = true;
	old = MemoryContextSwitchTo(TopMemoryContext);
	pool = lappend(pool, dialog);
	MemoryContextSwitchTo(old);
	if (list_length(pool) > POOL_MAX)
	{
		dc_dialog_close(linitial(pool));
		pool = list_delete_first(pool);
	}
}

/* --- one question --- */

static void
find_dialog(DcAsk *ask, DcReply *reply)
{
	int sqlstate;
	DcPeer peer;
	const char *complaint = dc_dialog_find(reply->node_id, &peer, &sqlstate);
	DcDialog *dialog;

	if (complaint != NULL)
	{
		dc_reply_fail(reply, sqlstate, "could not ask node %u: %s",
					  reply->node_id, complaint);
		return;
	}
	reply->incarnation = peer.incarnation;
	dialog =
		take_dialog(ask->plan.kind == DC_SESSION_QUESTIONS ? &pool : &ask->idle,
					&ask->plan, &peer);
	if (dialog == NULL)
		dialog = dc_dialog_open(&peer, ask->plan.kind, ask->plan.role,
								ask->plan.kind == DC_SESSION_QUESTIONS ?
									"questions" :
									ask->plan.purpose);
	dc_dialog_ask(dialog, ask->plan.function, reply);
	if (reply->dialog == NULL)
		dc_dialog_close(dialog);
}

/* The dialog of a reply that is over goes back; whoever asks again finds it. */
static void
release(DcAsk *ask, DcReply *reply, DcDialog *dialog)
{
	if (reply->state == DC_REPLY_GIVEN)
	{
		ask->stats.sent_bytes += reply->sent_bytes;
		ask->stats.received_bytes += reply->received_bytes;
		ask->stats.round_trips++;
	}
	if (ask->plan.kind == DC_SESSION_QUESTIONS ||
		dc_dialog_phase(dialog) != DC_DIALOG_IDLE)
		give_dialog(&ask->plan, dialog, false);
	else
	{
		MemoryContext old = MemoryContextSwitchTo(ask->context);

		ask->idle = lappend(ask->idle, dialog);
		MemoryContextSwitchTo(old);
	}
}

/* Gives up waiting for a reply; closing the connection cancels the question. */
static void
give_up(DcReply *reply, int sqlstate, const char *why)
{
	DcDialog *dialog = reply->dialog;

	dc_dialog_leave(dialog);
	dc_dialog_close(dialog);
	if (reply->asked)
		dc_reply_fail(reply, sqlstate, "node %u did not answer: %s",
					  reply->node_id, why);
	else
		dc_reply_fail(reply, sqlstate, "could not ask node %u: %s",
					  reply->node_id, why);
}

static void
look_after(DcReply *reply, TimestampTz now, bool check)
{
	int sqlstate;
	DcPeer peer;
	const char *complaint;

	if (now >= (reply->asked ? TimestampTzPlusMilliseconds(reply->answer_by,
														   LAST_WORD_MS) :
							   reply->connect_by))
	{
		reply->deadline = now >= reply->answer_by;
		give_up(reply, ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
				reply->asked ? "the time is over" :
							   "it did not let this node in in time");
	}
	else if (check)
	{
		complaint = dc_dialog_find(reply->node_id, &peer, &sqlstate);
		if (complaint != NULL)
			give_up(reply, sqlstate, complaint);
	}
}

static void
go_on(DcAsk *ask, DcReply *reply, TimestampTz now, bool check)
{
	DcDialog *dialog = reply->dialog;

	if (is_ready(dialog))
	{
		dc_dialog_step(dialog);
		if (reply->dialog == NULL)
			release(ask, reply, dialog);
	}
	if (reply->state == DC_REPLY_AWAITED)
		look_after(reply, now, check);
}

/* --- all of them --- */

/* Leaves the connections; the memory goes with its context. */
static void
leave(DcAsk *ask, bool let_finish)
{
	ListCell *cell;

	foreach (cell, ask->replies)
	{
		DcReply *reply = lfirst(cell);

		if (reply->dialog != NULL)
			give_dialog(&ask->plan, reply->dialog, let_finish);
		reply->dialog = NULL;
	}
	foreach (cell, ask->idle)
		dc_dialog_close(lfirst(cell));
	ask->idle = NIL;
}

static void
on_delete(void *arg)
{
	leave(arg, false);
}

DcAsk *
dc_ask_begin(const DcAskPlan *plan)
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "datacake questions",
							  ALLOCSET_DEFAULT_SIZES);
	DcAsk *ask = MemoryContextAllocZero(context, sizeof(DcAsk));

	ask->plan = *plan;
	ask->context = context;
	ask->on_delete.func = on_delete;
	ask->on_delete.arg = ask;
	MemoryContextRegisterResetCallback(context, &ask->on_delete);
	return ask;
}

DcReply *
dc_ask_reply(DcAsk *ask, uint32 node_id)
{
	ListCell *cell;

	foreach (cell, ask->replies)
	{
		DcReply *reply = lfirst(cell);

		if (reply->node_id == node_id)
			return reply;
	}
	return NULL;
}

static DcReply *
fresh_reply(DcAsk *ask, uint32 node_id)
{
	DcReply *reply = dc_ask_reply(ask, node_id);
	MemoryContext old = MemoryContextSwitchTo(ask->context);
	MemoryContext memory;

	if (reply == NULL)
	{
		reply = palloc0(sizeof(DcReply));
		reply->memory = AllocSetContextCreate(ask->context, "datacake reply",
											  ALLOCSET_DEFAULT_SIZES);
		ask->replies = lappend(ask->replies, reply);
	}
	MemoryContextSwitchTo(old);
	Assert(reply->dialog == NULL);
	memory = reply->memory;
	MemoryContextReset(memory);
	memset(reply, 0, sizeof(*reply));
	reply->memory = memory;
	reply->node_id = node_id;
	return reply;
}

void
dc_ask_node(DcAsk *ask, uint32 node_id, const void *question, Size length)
{
	DcReply *reply = fresh_reply(ask, node_id);
	TimestampTz now = GetCurrentTimestamp();
	uint8 *copy = MemoryContextAllocHuge(reply->memory, length + 1);

	memcpy(copy, question, length);
	reply->question = (DcSlice){copy, length};
	reply->answer_by = TimestampTzPlusMilliseconds(now, ask->plan.timeout_ms);
	reply->connect_by = TimestampTzPlusMilliseconds(now, CONNECT_MS);
	reply->connect_by = Min(reply->connect_by, reply->answer_by);
	find_dialog(ask, reply);
}

DcReply *
dc_ask_poll(DcAsk *ask)
{
	TimestampTz now = GetCurrentTimestamp();
	bool check = now >= ask->check_at;
	ListCell *cell;

	if (check)
		ask->check_at = TimestampTzPlusMilliseconds(now, CHECK_MS);
	foreach (cell, ask->replies)
	{
		DcReply *reply = lfirst(cell);

		if (reply->state == DC_REPLY_AWAITED)
			go_on(ask, reply, now, check);
	}
	foreach (cell, ask->replies)
	{
		DcReply *reply = lfirst(cell);

		if (reply->state == DC_REPLY_AWAITED || reply->seen)
			continue;
		reply->seen = true;
		return reply;
	}
	return NULL;
}

int
dc_ask_awaited(const DcAsk *ask, int *unasked)
{
	int awaited = 0;
	ListCell *cell;

	*unasked = 0;
	foreach (cell, ask->replies)
	{
		const DcReply *reply = lfirst(cell);

		if (reply->state != DC_REPLY_AWAITED)
			continue;
		awaited++;
		*unasked += !dc_dialog_sent(reply->dialog);
	}
	return awaited;
}

long
dc_ask_sockets(DcAsk *ask, void (*add)(int, short, void *), void *arg)
{
	TimestampTz now = GetCurrentTimestamp();
	long wait_ms = CHECK_MS;
	ListCell *cell;

	foreach (cell, ask->replies)
	{
		const DcReply *reply = lfirst(cell);
		long left;

		if (reply->state != DC_REPLY_AWAITED)
			continue;
		left = TimestampDifferenceMilliseconds(now, reply->asked ?
														reply->answer_by :
														reply->connect_by);
		if (left > 0) /* else the last word is waited for */
			wait_ms = Min(wait_ms, left);
		add(dc_dialog_socket(reply->dialog), dc_dialog_events(reply->dialog),
			arg);
	}
	return wait_ms;
}

static void
add_socket(int fd, short events, void *arg)
{
	AddWaitEventToSet(arg,
					  (events & POLLIN ? WL_SOCKET_READABLE : 0) |
						  (events & POLLOUT ? WL_SOCKET_WRITEABLE : 0),
					  fd, NULL, NULL);
}

void
dc_ask_wait_for(DcAsk *ask, long max_ms)
{
	WaitEventSet *set =
		CreateWaitEventSet(CurrentMemoryContext, list_length(ask->replies) + 2);
	WaitEvent event;

	PG_TRY();
	{
		long wait_ms;

		AddWaitEventToSet(set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
		AddWaitEventToSet(set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL,
						  NULL);
		wait_ms = dc_ask_sockets(ask, add_socket, set);
		(void) WaitEventSetWait(set, Min(wait_ms, max_ms), &event, 1,
								PG_WAIT_EXTENSION);
	}
	PG_FINALLY();
	{
		FreeWaitEventSet(set);
	}
	PG_END_TRY();
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (ask->plan.check != NULL)
		ask->plan.check();
}

void
dc_ask_wait(DcAsk *ask)
{
	dc_ask_wait_for(ask, CHECK_MS);
}

DcReply *
dc_ask_next(DcAsk *ask)
{
	for (;;)
	{
		DcReply *reply = dc_ask_poll(ask);
		int unasked;

		if (reply != NULL || dc_ask_awaited(ask, &unasked) == 0)
			return reply;
		dc_ask_wait(ask);
	}
}

void
dc_ask_end(DcAsk *ask, bool let_finish)
{
	leave(ask, let_finish);
	MemoryContextDelete(ask->context);
}

DcReply *
dc_ask_answer(DcAsk *ask, uint32 node_id)
{
	DcReply *reply;

	do
		reply = dc_ask_next(ask);
	while (reply != NULL && reply->node_id != node_id);
	Assert(reply != NULL);
	if (reply->state != DC_REPLY_GIVEN)
		dc_reply_raise(reply);
	return reply;
}

DcSlice
dc_ask_one(DcAsk *ask, uint32 node_id, const void *question, Size length)
{
	dc_ask_node(ask, node_id, question, length);
	return dc_ask_answer(ask, node_id)->answer;
}

const DcAskStats *
dc_ask_stats(const DcAsk *ask)
{
	return &ask->stats;
}

void
dc_reply_raise(const DcReply *reply)
{
	ereport(ERROR, (errcode(reply->sqlstate),
					reply->raised ? errmsg("node %u refuses: %s",
										   reply->node_id, reply->message) :
									errmsg("%s", reply->message),
					reply->detail ? errdetail("%s", reply->detail) : 0,
					reply->hint ? errhint("%s", reply->hint) : 0,
					reply->context ? errcontext("%s", reply->context) : 0));
	pg_unreachable();
}
