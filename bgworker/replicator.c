/*
 * replicator.c
 *		Sends what this node committed, and what its peers lack, to all peers.
 *
 * One process, one link per peer.  A turn: look at the members if they have
 * changed, compute the watermark if one is due, give every link its turn,
 * release what the queue no longer has to keep, sleep until a backend has
 * committed, a socket is ready or a link's time has come.  No turn waits for a
 * peer; a peer that does not read is simply not written to, and leaves the
 * queue when that fills up.
 */
#include "worker.h"

#include "miscadmin.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/resowner.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "acks.h"
#include "clock.h"
#include "guc.h"
#include "link.h"
#include "queue.h"
#include "schedule.h"
#include "standing.h"

extern PGDLLEXPORT void datacake_replicator_main(Datum arg);

#define WATERMARK_BUSY_MS  50
#define WATERMARK_AHEAD_MS 100 /* of the launcher's turn */
#define EVENTS             16  /* that one sleep may bring */

/* A peer as gossip knows it, and the link to it. */
typedef struct Peer
{
	DcLink *link;
	uint64 incarnation;
	bool wanted;
	bool dead;    /* without a link, its last error is still shown */
	bool visible; /* in dc_shared->links */
	bool ready;   /* its socket was, when we woke up */
	char conninfo[DC_CONNINFO_BYTES];
} Peer;

static Peer peers[DC_NODE_IDS];
static uint32 peers_end = 1; /* no node that was ever seen has such an id */
static Peer *linked[DC_NODE_IDS]; /* those with a link, by node id */
static int linked_count;

/* --- members --- */

static void
read_members(void)
{
	bool clash = false; /* with this very node: it sends nothing */

	for (uint32 id = 1; id < peers_end; id++)
		peers[id].wanted = peers[id].dead = false;
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcNode *node = &dc_shared->nodes[i];
		Peer *peer = &peers[node->node_id];

		peers_end = Max(peers_end, node->node_id + 1);
		clash |= node->node_id != 0 && node->local && node->clash;
		peer->dead = node->state == DC_NODE_DEAD;
		if (node->node_id == 0 || node->local || node->clash ||
			node->node_id == (uint32) datacake_node_id ||
			(node->state != DC_NODE_ALIVE && node->state != DC_NODE_SUSPECT))
			continue;
		if ((dc_shared->paused[node->node_id / 32] >> (node->node_id % 32)) & 1)
			continue;
		peer->wanted = true;
		peer->incarnation = node->incarnation;
		strlcpy(peer->conninfo, node->conninfo, DC_CONNINFO_BYTES);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	for (uint32 id = 1; clash && id < peers_end; id++)
		peers[id].wanted = false;
}

/* Kept here, because it seldom changes. */
static const DcMembers *
member_list(uint64 *epoch)
{
	static DcMembers list;
	static uint64 list_epoch;

	if (dc_standing_epoch() != list_epoch)
		list_epoch = dc_standing_members(&list, NULL);
	*epoch = list_epoch;
	return &list;
}

/* Only members talk to each other: this life of both. */
static void
leave_out_strangers(void)
{
	uint64 epoch;
	const DcMembers *list = member_list(&epoch);
	bool member = dc_members_includes(list, (uint32) datacake_node_id,
									  dc_shared->incarnation);

	for (uint32 id = 1; id < peers_end; id++)
	{
		bool ours =
			member && dc_members_includes(list, id, peers[id].incarnation);

		peers[id].wanted &= ours;
		peers[id].dead &= ours;
	}
}

/* R11: what this node has of the fenced ones has reached every other. */
static void
close_fenced(void)
{
	uint64 epoch;
	const DcMembers *list = member_list(&epoch);
	bool closed = dc_members_fence(list);

	for (uint32 i = 0; i < list->count && closed; i++)
	{
		const DcMember *member = &list->at[i];
		DcLink *link = peers[member->node_id].link;

		if (member->state == DC_MEMBER_PRESENT &&
			member->node_id != (uint32) datacake_node_id)
			closed = link != NULL && dc_link_closed(link, epoch);
	}
	if (closed)
		dc_standing_set_closed(epoch);
}

static void
keep_links(void)
{
	for (uint32 id = 1; id < peers_end; id++)
	{
		Peer *peer = &peers[id];

		if (peer->wanted && peer->link == NULL)
			peer->link = dc_link_create(TopMemoryContext, id);
		else if (!peer->wanted && peer->link != NULL)
		{
			dc_link_destroy(peer->link);
			peer->link = NULL;
		}
		if (peer->visible && peer->link == NULL && !peer->dead)
			dc_link_forget(id);
		peer->visible = peer->link != NULL || (peer->visible && peer->dead);
	}
	linked_count = 0;
	for (uint32 id = 1; id < peers_end; id++)
	{
		if (peers[id].link != NULL)
			linked[linked_count++] = &peers[id];
	}
}

static void
look_at_members(void)
{
	static uint64 seen;
	static uint64 incarnation;
	uint64 version = dc_nodes_version();

	if (version == seen && incarnation == dc_shared->incarnation)
		return;
	seen = version;
	incarnation = dc_shared->incarnation;
	read_members();
	leave_out_strangers();
	keep_links();
}

/* --- the watermark --- */

static DcStreamView watermark;
static TimestampTz watermark_at; /* when it was published */
static uint64 watermark_head;
static bool watermark_busy; /* what came before it may still hold it back */

/*
 * How long after the last one the next comes: often while there is traffic,
 * seldom without.
 */
static long
watermark_ms(void)
{
	if (watermark_busy || dc_queue_head() != watermark_head)
		return WATERMARK_BUSY_MS;
	return dc_worker_turn_ms(false) - WATERMARK_AHEAD_MS;
}

/* The head is read after the watermark was computed (P8). */
static bool
publish_watermark(void)
{
	static bool held; /* by the clock's bound: tried again when woken */
	TimestampTz now = GetCurrentTimestamp();
	DcHlc before = watermark.watermark;

	if (!TimestampDifferenceExceeds(watermark_at, now,
									held ? WATERMARK_BUSY_MS : watermark_ms()))
		return false;
	watermark_busy = dc_queue_head() != watermark_head;
	watermark.watermark = dc_watermark_publish();
	held = watermark.watermark == before;
	watermark_at = now;
	watermark.watermark_position = dc_queue_head();
	watermark_head = watermark.watermark_position;
	return true;
}

/* --- the queue --- */

static void
release_queue(void)
{
	uint64 needed = DC_QUEUE_NONE;

	for (int i = 0; i < linked_count; i++)
	{
		DcLink *link = linked[i]->link;
		uint64 position = dc_link_needs(link);

		if (position != DC_QUEUE_NONE &&
			dc_queue_backlog(position) > dc_queue_capacity() / 2)
		{
			dc_link_detach(link);
			position = dc_queue_head();
		}
		needed = Min(needed, position);
	}
	dc_queue_release(needed);
}

/* --- waiting --- */

typedef struct Wait
{
	pgsocket socket;
	uint32 events;
	Peer *peer;
} Wait;

static WaitEventSet *wait_set;
static Wait waits[DC_NODE_IDS];
static int wait_count = -1;

/* The set is made anew only when sockets or events changed. */
static void
update_wait_set(void)
{
	Wait wanted[DC_NODE_IDS];
	int n = 0;

	for (int i = 0; i < linked_count; i++)
	{
		Wait wait = {.peer = linked[i]};

		wait.socket = dc_link_socket(linked[i]->link, &wait.events);
		if (wait.socket != PGINVALID_SOCKET)
			wanted[n++] = wait;
	}
	if (n == wait_count && memcmp(waits, wanted, sizeof(Wait) * n) == 0)
		return;
	if (wait_set != NULL)
		FreeWaitEventSet(wait_set);
	wait_set = CreateWaitEventSet(TopMemoryContext, n + 2);
	AddWaitEventToSet(wait_set, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch, NULL);
	AddWaitEventToSet(wait_set, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET, NULL,
					  NULL);
	for (int i = 0; i < n; i++)
		AddWaitEventToSet(wait_set, (int) wanted[i].events, wanted[i].socket,
						  NULL, wanted[i].peer);
	memcpy(waits, wanted, sizeof(Wait) * n);
	wait_count = n;
}

static void
sleep_until_something(void)
{
	long timeout_ms = watermark_ms();
	WaitEvent events[EVENTS];
	DcGather gather = linked_count > 0 ? DC_GATHER_ALL : DC_GATHER_NOTHING;
	int n;

	for (int i = 0; i < linked_count; i++)
	{
		long link_ms = dc_link_timeout_ms(linked[i]->link);

		if (link_ms >= 0)
			timeout_ms = Min(timeout_ms, link_ms);
		gather = Min(gather, dc_link_gathers(linked[i]->link));
	}
	update_wait_set();
	pg_atomic_write_u32(&dc_shared->links_gather, gather);
	n = WaitEventSetWait(wait_set, timeout_ms, events, EVENTS,
						 PG_WAIT_EXTENSION);
	for (int i = 0; i < n; i++)
	{
		Peer *peer = events[i].user_data;

		if (peer != NULL)
			peer->ready = true;
	}
	pg_atomic_write_u32(&dc_shared->links_gather, 0);
	ResetLatch(MyLatch);
	dc_worker_check();
}

static void
turn(void)
{
	bool due;

	look_at_members();
	due = publish_watermark();
	for (int i = 0; i < linked_count; i++)
	{
		Peer *peer = linked[i];

		dc_link_turn(peer->link, peer->conninfo, peer->incarnation, peer->ready,
					 &watermark, due);
		peer->ready = false;
	}
	dc_acks_turn();
	close_fenced();
	release_queue();
}

void
datacake_replicator_main(Datum arg)
{
	MemoryContext scratch;

	dc_worker_begin(DC_WORKER_REPLICATOR, true);
	dc_schedule_gently();
	scratch = AllocSetContextCreate(TopMemoryContext, "datacake replicator",
									ALLOCSET_DEFAULT_SIZES);
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	memset(dc_shared->links, 0, sizeof(DcLinkStats) * dc_shared->node_count);
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
	pg_atomic_write_u32(&dc_shared->links_gather, 0); /* of a former life */
	while (dc_phase() != DC_PHASE_READY)
		dc_worker_wait(100, PG_WAIT_EXTENSION);
	for (;;)
	{
		MemoryContextSwitchTo(scratch);
		turn();
		MemoryContextSwitchTo(TopMemoryContext);
		MemoryContextReset(scratch);
		sleep_until_something();
	}
}
