/*
 * gossip.c
 *		The worker that knows who is in the cluster.
 *
 * It moves bytes between the state machine (src/core/gossip.h), the seal and
 * the UDP socket, and shows the result to everybody in dc_shared->nodes:
 *
 *		socket --> open --> dc_gossip_receive --+--> seal --> socket
 *		clock -------------> dc_gossip_tick ----+--> nodes[], log, wake-ups
 *
 * It has no database connection and waits for nothing but its latch, the
 * socket and the next round.  The header of a datagram is in the clear and
 * bound to the sealed body as associated data.  What does not authenticate
 * gets no answer; it is counted, and said in the log once a minute.
 *
 * After a restart of this process alone it goes on with what it finds in
 * dc_shared->nodes, so that links to peers survive it.
 *
 * DC_LOCK_NODES is taken twice a round, for a copy each; never across I/O.
 */
#include "worker.h"

#include "miscadmin.h"
#include "port/pg_bswap.h"
#include "postmaster/bgworker.h"
#include "storage/ipc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "clock.h"
#include "gossip.h"
#include "guc.h"
#include "message.h"
#include "seal.h"
#include "sql.h"
#include "standing.h"
#include "udp.h"
#include "watch.h"

extern PGDLLEXPORT void datacake_gossip_main(Datum arg);

#define DATAGRAM_BYTES_MAX (DC_GOSSIP_BYTES_MAX + DC_SEAL_OVERHEAD)

/* Datagrams taken before the clock and the latch get their turn. */
#define DATAGRAMS_PER_TURN 64

/* A clock must look slow for so many rounds to be reported. */
#define CLOCK_BEHIND_ROUNDS 10

#define SEEDS_US  (INT64CONST(10) * 1000000)
#define MINUTE_US (INT64CONST(60) * 1000000)

StaticAssertDecl(DATAGRAM_BYTES_MAX <= 1200, "a datagram passes everywhere");
StaticAssertDecl(DC_NAME_BYTES == DC_GOSSIP_NAME_BYTES &&
					 DC_ADDRESS_BYTES == DC_GOSSIP_ADDRESS_BYTES &&
					 DC_CONNINFO_BYTES == DC_GOSSIP_CONNINFO_BYTES,
				 "texts of the core fit those in shared memory");
StaticAssertDecl((int) DC_NODE_ALIVE == (int) DC_GOSSIP_ALIVE &&
					 (int) DC_NODE_LEFT == (int) DC_GOSSIP_LEFT,
				 "states of the core are those in shared memory");

/* What this process remembers of a slot beside the core's record. */
/* Gossip rounds in which a second server of the same id makes itself heard. */
#define HOLD_ROUNDS 20

typedef struct NodeNote
{
	uint32 node_id; /* of the record it is about */
	uint64 incarnation;
	uint64 config_version;
	char refused_conninfo[DC_ERROR_BYTES]; /* why; empty: it is fine */
	bool clock_told;
	uint32 clock_behind; /* rounds in a row */
	uint64 shown_incarnation;
	uint64 held_until_us; /* a new one is not trusted before */
} NodeNote;

typedef struct GossipWorker
{
	DcGossip core;
	DcGossipNode *nodes; /* as many as dc_shared->nodes */
	NodeNote *notes;
	DcNode *shown;  /* next contents of dc_shared->nodes */
	DcNode *before; /* ... and what they were */
	int filled;     /* how many of them may say something */
	DcMembers members;
	uint64 epoch; /* of that list */
	DcGossipOutput output;
	WaitEventSet *events;
	TimestampTz settings_read_for;
	uint64 seeds_at_us;
	uint64 forged; /* datagrams that did not authenticate */
	uint64 forged_told_at_us;
	char refusal[DC_ERROR_BYTES]; /* the last one, while it is fresh */
	uint64 refusal_until_us;
} GossipWorker;

static GossipWorker *worker;

/* ---- log ---------------------------------------------------------------- */

static const char *
name_of(uint32 node_id)
{
	const DcGossipNode *node = dc_gossip_find(&worker->core, node_id);

	return node != NULL && node->name[0] != '\0' ? node->name : "?";
}

static void
log_refusal(const DcGossipEvent *event)
{
	snprintf(worker->refusal, sizeof(worker->refusal),
			 "refused datagrams from %s: %s", event->address,
			 dc_status_text(event->status));
	worker->refusal_until_us = dc_now_us() + MINUTE_US;
	if (event->status == DC_CLUSTER)
		ereport(WARNING,
				(errcode(dc_sqlstate(event->status)),
				 errmsg("datagrams of node %u at %s are refused: they belong "
						"to another cluster",
						event->node_id, event->address),
				 errhint("\"datacake.cluster_id\" must be the same on all "
						 "nodes; clusters should not share a key.")));
	else if (event->status == DC_VERSION)
		ereport(WARNING,
				(errcode(dc_sqlstate(event->status)),
				 errmsg("datagrams from %s are refused: they are of wire "
						"version %llu, this server speaks %d",
						event->address, (unsigned long long) event->value,
						DC_GOSSIP_WIRE_VERSION)));
	else
		ereport(WARNING,
				(errcode(dc_sqlstate(event->status)),
				 errmsg("datagrams from %s are refused: %s", event->address,
						dc_status_text(event->status))));
}

static void
log_identity(const DcGossipEvent *event)
{
	bool own = event->node_id == (uint32) datacake_node_id;

	ereport(WARNING,
			(errcode(dc_sqlstate(DC_IDENTITY)),
			 errmsg("another server speaks as node %u%s", event->node_id,
					own ? ", the id of this one" : ""),
			 errdetail("Its incarnation is %llu, its address \"%s\".",
					   (unsigned long long) event->incarnation, event->address),
			 errhint("Give each server a \"datacake.node_id\" of its own, and "
					 "stop the copy.")));
}

static void
log_event(const DcGossipEvent *event)
{
	const char *name = name_of(event->node_id);

	switch (event->kind)
	{
		case DC_GOSSIP_EVENT_STATE:
			ereport(LOG,
					(errmsg("datacake node %u \"%s\": %s -> %s", event->node_id,
							name, dc_gossip_state_name(event->from),
							dc_gossip_state_name(event->to))));
			break;
		case DC_GOSSIP_EVENT_RESTART:
			ereport(LOG, (errmsg("datacake node %u \"%s\" started again, "
								 "incarnation %llu",
								 event->node_id, name,
								 (unsigned long long) event->incarnation)));
			break;
		case DC_GOSSIP_EVENT_CONFIG:
			ereport(DEBUG1, (errmsg_internal("datacake node %u \"%s\" has a "
											 "new description",
											 event->node_id, name)));
			break;
		case DC_GOSSIP_EVENT_IDENTITY:
			log_identity(event);
			break;
		case DC_GOSSIP_EVENT_REFUSED:
			log_refusal(event);
			break;
		case DC_GOSSIP_EVENT_FULL:
			ereport(WARNING,
					(errcode(ERRCODE_CONFIGURATION_LIMIT_EXCEEDED),
					 errmsg("no room for node %u, which %s told of",
							event->node_id, event->address),
					 errhint("Raise \"datacake.max_nodes\", now %d, and "
							 "restart the server.",
							 datacake_max_nodes)));
			break;
	}
}

/* ---- dc_shared->nodes --------------------------------------------------- */

/* A peer's conninfo is input: what is not allowed is not shown to libpq. */
static void
check_conninfo(NodeNote *note, const DcGossipNode *node)
{
	char *complaint;

	if (note->node_id == node->node_id &&
		note->incarnation == node->incarnation &&
		note->config_version == node->config_version)
		return;
	if (note->node_id != node->node_id)
		memset(note, 0, sizeof(*note));
	note->node_id = node->node_id;
	note->incarnation = node->incarnation;
	note->config_version = node->config_version;
	complaint = node->conninfo[0] == '\0' ?
					NULL :
					dc_conninfo_complaint(node->conninfo);
	strlcpy(note->refused_conninfo, complaint != NULL ? complaint : "",
			sizeof(note->refused_conninfo));
	if (complaint != NULL)
		ereport(WARNING,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("connection string of node %u \"%s\" is refused: %s",
						node->node_id, node->name, complaint)));
}

/*
 * How far the clock of a node runs ahead of ours (negative: behind), if that
 * is beyond the drift; else 0.  Ahead is believed at once: no delay makes a
 * clock look faster, and its stamps come through other nodes as well.
 * Behind may be nothing but delay, and must last.
 */
static int64
clock_ahead_us(NodeNote *note, const DcGossipNode *node, uint64 now)
{
	int64 drift_us = (int64) datacake_max_clock_drift_ms * 1000;
	int64 stamp_us = (int64) dc_hlc_time_us(node->clock) - (int64) now;
	int64 ahead_us = Max(node->clock_offset_us, stamp_us);

	if (node->state != DC_GOSSIP_ALIVE)
		return 0;
	if (ahead_us > drift_us)
		return ahead_us;
	if (node->clock_offset_us < -drift_us)
		note->clock_behind++;
	else
		note->clock_behind = 0;
	return note->clock_behind > CLOCK_BEHIND_ROUNDS ? node->clock_offset_us : 0;
}

static void
complain_clock(DcNode *shown, NodeNote *note, int64 ahead_us)
{
	if (ahead_us == 0)
	{
		note->clock_told = false;
		return;
	}
	snprintf(shown->complaint, sizeof(shown->complaint),
			 "its clock runs %lld ms %s this node's",
			 (long long) Abs(ahead_us) / 1000,
			 ahead_us > 0 ? "ahead of" : "behind");
	if (!note->clock_told)
		ereport(WARNING,
				(errcode(dc_sqlstate(DC_CLOCK_SKEW)),
				 errmsg("clock of node %u \"%s\" runs %lld ms %s this node's",
						shown->node_id, shown->name,
						(long long) Abs(ahead_us) / 1000,
						ahead_us > 0 ? "ahead of" : "behind"),
				 errhint("Nodes exchange data only while clocks differ by "
						 "less than \"datacake.max_clock_drift\"; set the "
						 "clocks by NTP.")));
	note->clock_told = true;
}

/*
 * Another incarnation of a node that was alive a moment ago: a new life of
 * it, or a second server.  Until that is known nothing is exchanged with it.
 */
static void
hold_incarnation(DcNode *shown, NodeNote *note, const DcGossipNode *node)
{
	uint64 now = worker->core.now_us;

	if (note->shown_incarnation != 0 &&
		note->shown_incarnation != node->incarnation && !shown->local)
		note->held_until_us =
			now + HOLD_ROUNDS * worker->core.config.interval_us;
	note->shown_incarnation = node->incarnation;
	if (now >= note->held_until_us)
		return;
	shown->clash = true;
	if (shown->complaint[0] == '\0')
		snprintf(shown->complaint, sizeof(shown->complaint),
				 "it has a new incarnation; waiting for the former to be "
				 "silent");
}

/* Why this node is not a member, if the registrar knows. */
static void
complain_membership(DcNode *shown)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	if (dc_shared->standing.complaint[0] != '\0')
		strlcpy(shown->complaint, dc_shared->standing.complaint,
				sizeof(shown->complaint));
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
}

/* The gravest one thing that is wrong with this node. */
static void
complain(DcNode *shown, NodeNote *note, const DcGossipNode *node, uint64 now)
{
	const DcGossipRival *rival = dc_gossip_rival(&worker->core);
	size_t size = sizeof(shown->complaint);
	DcVersions own = dc_versions_own();
	DcVersions versions = dc_versions_unpack(node->wire_version);

	if (!shown->local)
		complain_clock(shown, note, clock_ahead_us(note, node, now));
	if (note->refused_conninfo[0] != '\0')
		snprintf(shown->complaint, size, "its connection string is refused: %s",
				 note->refused_conninfo);
	if (dc_versions_common(own, versions) == 0)
		snprintf(shown->complaint, size,
				 "it speaks wire versions %u to %u, this server %u to %u",
				 versions.wire_min, versions.wire, own.wire_min, own.wire);
	if (shown->local && now < worker->refusal_until_us)
		strlcpy(shown->complaint, worker->refusal, size);
	if (shown->local)
		complain_membership(shown);
	shown->clash = dc_gossip_disputed(&worker->core, node);
	if (shown->local && rival != NULL)
		snprintf(shown->complaint, size,
				 "another server speaks as this node, incarnation %llu, "
				 "address \"%s\"",
				 (unsigned long long) rival->incarnation, rival->address);
	else if (shown->clash)
		snprintf(shown->complaint, size, "two servers speak as this node");
	hold_incarnation(shown, note, node);
}

/* The one word that people are told, and since when it is true. */
static void
show_life(DcNode *shown, const DcGossipNode *node, const DcNode *before)
{
	bool removed = dc_watch_removed(&worker->members, shown);
	bool joining = node->joining;
	bool leaving = node->leaving;

	if (shown->local)
	{
		removed |= dc_standing_removed();
		joining = dc_standing_joining();
		leaving = pg_atomic_read_u32(&dc_shared->leaving) != 0;
	}
	shown->life = dc_watch_life(shown->state, joining, leaving, removed);
	if (before != NULL && before->life == shown->life)
		shown->life_since = before->life_since;
	else
		shown->life_since = GetCurrentTimestamp();
}

static void
show_node(int slot, uint64 now)
{
	const DcGossipNode *node = &worker->nodes[slot];
	DcNode *shown = &worker->shown[slot];
	NodeNote *note = &worker->notes[slot];
	const DcNode *before;

	memset(shown, 0, sizeof(*shown));
	if (node->node_id == 0 || !node->described)
		return;
	before = dc_watch_find(worker->before, dc_shared->node_count, slot,
						   node->node_id);
	check_conninfo(note, node);
	shown->node_id = node->node_id;
	shown->local = node == &worker->nodes[0];
	shown->state = (DcNodeState) node->state;
	shown->incarnation = node->incarnation;
	shown->boot = node->boot == 0 && before != NULL ? before->boot : node->boot;
	shown->since = (TimestampTz) node->since_us;
	shown->heard_at = (TimestampTz) node->heard_us;
	shown->phi = dc_gossip_phi(&worker->core, node);
	shown->versions = node->wire_version;
	shown->floor = node->floor;
	shown->epoch = node->epoch;
	shown->closed = node->closed;
	shown->clock = node->clock;
	shown->clock_offset_us = node->clock_offset_us;
	strlcpy(shown->name, node->name, sizeof(shown->name));
	strlcpy(shown->data_center, node->data_center, sizeof(shown->data_center));
	strlcpy(shown->address,
			node->address[0] != '\0' ? node->address : node->seen_address,
			sizeof(shown->address));
	if (note->refused_conninfo[0] == '\0')
		strlcpy(shown->conninfo, node->conninfo, sizeof(shown->conninfo));
	shown->joining = node->joining;
	shown->leaving = node->leaving;
	show_life(shown, node, before);
	complain(shown, note, node, now);
}

static void
show_nodes(void)
{
	int count = Max(worker->filled, (int) worker->core.used);
	uint64 now = dc_now_us();
	DcNode *before = worker->shown;

	worker->shown = worker->before;
	worker->before = before;
	worker->filled = (int) worker->core.used;
	if (dc_standing_epoch() != worker->epoch)
		worker->epoch = dc_standing_members(&worker->members, NULL);
	for (int i = 0; i < count; i++)
		show_node(i, now);
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_EXCLUSIVE);
	memcpy(dc_shared->nodes, worker->shown, sizeof(DcNode) * count);
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	dc_nodes_changed();
	dc_watch_nodes(before, worker->shown, count, worker->epoch);
}

/* What an earlier run of this process left there. */
static void
restore_nodes(void)
{
	int count = dc_shared->node_count;
	uint64 now = dc_now_us();
	DcGossipNode node;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	memcpy(worker->shown, dc_shared->nodes, sizeof(DcNode) * count);
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	for (int i = 0; i < count; i++)
	{
		const DcNode *shown = &worker->shown[i];

		if (shown->node_id == 0 || shown->local)
			continue;
		memset(&node, 0, sizeof(node));
		node.node_id = shown->node_id;
		node.state = (DcGossipState) shown->state;
		node.incarnation = shown->incarnation;
		node.since_us = (uint64) shown->since;
		node.wire_version = shown->versions;
		node.floor = shown->floor;
		node.epoch = shown->epoch;
		node.closed = shown->closed;
		node.joining = shown->joining;
		node.leaving = shown->leaving;
		node.clock = shown->clock;
		strlcpy(node.name, shown->name, sizeof(node.name));
		strlcpy(node.data_center, shown->data_center, sizeof(node.data_center));
		strlcpy(node.address, shown->address, sizeof(node.address));
		strlcpy(node.conninfo, shown->conninfo, sizeof(node.conninfo));
		dc_gossip_restore(&worker->core, &node, now);
	}
}

/* ---- datagrams ---------------------------------------------------------- */

static void
send_datagram(const DcGossipSend *send)
{
	uint8 sealed[DATAGRAM_BYTES_MAX];
	size_t length;

	memcpy(sealed, send->bytes, DC_GOSSIP_HEADER_BYTES);
	length = dc_seal_for(DC_SEAL_DATAGRAM, sealed + DC_GOSSIP_HEADER_BYTES,
						 sealed, DC_GOSSIP_HEADER_BYTES,
						 send->bytes + DC_GOSSIP_HEADER_BYTES,
						 send->length - DC_GOSSIP_HEADER_BYTES);
	dc_udp_send(send->address, sealed, DC_GOSSIP_HEADER_BYTES + length);
}

/* Does what the core asked for. */
static void
carry_out(void)
{
	const DcGossipOutput *output = &worker->output;
	bool changed = output->events_lost;

	for (uint32 i = 0; i < output->event_count; i++)
	{
		log_event(&output->events[i]);
		changed |= output->events[i].kind == DC_GOSSIP_EVENT_STATE ||
				   output->events[i].kind == DC_GOSSIP_EVENT_RESTART ||
				   output->events[i].kind == DC_GOSSIP_EVENT_CONFIG;
	}
	for (uint32 i = 0; i < output->send_count; i++)
		send_datagram(&output->sends[i]);
	if (output->event_count > 0 || changed)
		show_nodes();
	if (changed)
	{
		dc_worker_wake(DC_WORKER_REPLICATOR);
		dc_worker_wake(DC_WORKER_REGISTRAR);
	}
}

static void
count_forged(const char *from)
{
	uint64 now = dc_now_us();

	worker->forged++;
	if (worker->forged_told_at_us != 0 &&
		now - worker->forged_told_at_us < MINUTE_US)
		return;
	worker->forged_told_at_us = now;
	ereport(LOG,
			(errcode(dc_sqlstate(DC_FORGED)),
			 errmsg("datagrams from %s do not authenticate", from),
			 errdetail("%llu came since the last such message, from there or "
					   "elsewhere.",
					   (unsigned long long) worker->forged),
			 errhint("If it is a node of this cluster, its key file is "
					 "another one.")));
	worker->forged = 0;
}

static void
take_datagram(const uint8 *sealed, size_t length, const char *from)
{
	uint8 bytes[DC_GOSSIP_BYTES_MAX];
	size_t body_length;

	if (length < DC_GOSSIP_HEADER_BYTES + DC_SEAL_OVERHEAD ||
		length > DATAGRAM_BYTES_MAX ||
		!dc_open_for(DC_SEAL_DATAGRAM, sealed + DC_GOSSIP_HEADER_BYTES,
					 length - DC_GOSSIP_HEADER_BYTES, sealed,
					 DC_GOSSIP_HEADER_BYTES, bytes + DC_GOSSIP_HEADER_BYTES,
					 &body_length))
	{
		count_forged(from);
		return;
	}
	memcpy(bytes, sealed, DC_GOSSIP_HEADER_BYTES);
	(void) dc_gossip_receive(&worker->core, from, bytes,
							 DC_GOSSIP_HEADER_BYTES + body_length, dc_now_us(),
							 &worker->output);
	carry_out();
}

static void
take_datagrams(void)
{
	char from[DC_ADDRESS_BYTES];
	uint8 sealed[DATAGRAM_BYTES_MAX];

	for (int i = 0; i < DATAGRAMS_PER_TURN; i++)
	{
		ssize_t length = dc_udp_receive(sealed, sizeof(sealed), from);

		if (length < 0)
			break;
		take_datagram(sealed, (size_t) length, from);
	}
}

static uint64
fresh_random(void)
{
	uint64 random;

	if (!pg_strong_random(&random, sizeof(random)))
		ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
						errmsg("could not generate random numbers")));
	return random;
}

/* ---- settings ----------------------------------------------------------- */

/* Names go out as printable ASCII, as PostgreSQL does with its own. */
static void
set_text(char *to, size_t size, const char *from)
{
	strlcpy(to, from, size);
	for (char *c = to; *c != '\0'; c++)
	{
		if (*c < 0x20 || *c > 0x7e)
			*c = '?';
	}
}

/* Empty: the peers tell at which address they see this node. */
static const char *
own_address(void)
{
	if (datacake_advertise_address[0] != '\0')
		return dc_udp_with_port(datacake_advertise_address, datacake_port);
	if (!dc_udp_wildcard(datacake_listen_address))
		return dc_udp_with_port(datacake_listen_address, datacake_port);
	return "";
}

static void
describe_self(void)
{
	char name[DC_NAME_BYTES];
	char data_center[DC_NAME_BYTES];
	DcGossipSelf self = {name, data_center, own_address(), datacake_conninfo};

	set_text(name, sizeof(name), datacake_node_name);
	if (name[0] == '\0')
		snprintf(name, sizeof(name), "node%d", datacake_node_id);
	set_text(data_center, sizeof(data_center), datacake_data_center);
	if (dc_gossip_describe(&worker->core, &self, dc_now_us()) == DC_OK)
		return;
	ereport(WARNING,
			(errcode(ERRCODE_CONFIG_FILE_ERROR),
			 errmsg("this node is not announced as its settings say"),
			 errhint("\"datacake.conninfo\" and \"datacake.advertise_address\" "
					 "must be printable ASCII and shorter than %d and %d "
					 "bytes.",
					 DC_CONNINFO_BYTES, DC_ADDRESS_BYTES)));
}

static void
add_seed(char seeds[][DC_ADDRESS_BYTES], uint32 *count, const char *text)
{
	if (*count < DC_GOSSIP_SEEDS_MAX && text[0] != '\0' &&
		strlen(text) < DC_ADDRESS_BYTES && dc_udp_numeric(text, seeds[*count]))
		(*count)++;
}

/* Those of the settings, and those that datacake.join() named. */
static void
refresh_seeds(void)
{
	char joined[DC_SEEDS][DC_ADDRESS_BYTES];
	char seeds[DC_GOSSIP_SEEDS_MAX][DC_ADDRESS_BYTES];
	const char *addresses[DC_GOSSIP_SEEDS_MAX];
	char *list = pstrdup(datacake_seeds);
	char *next = list;
	uint32 count = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	memcpy(joined, dc_shared->seeds, sizeof(joined));
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	for (int i = 0; i < DC_SEEDS; i++)
		add_seed(seeds, &count, joined[i]);
	while (next != NULL)
	{
		char *text = strsep(&next, ",");
		size_t length;

		text += strspn(text, " \t");
		length = strlen(text);
		while (length > 0 &&
			   (text[length - 1] == ' ' || text[length - 1] == '\t'))
			text[--length] = '\0';
		add_seed(seeds, &count, text);
	}
	pfree(list);
	for (uint32 i = 0; i < count; i++)
		addresses[i] = seeds[i];
	dc_gossip_set_seeds(&worker->core, addresses, count);
	worker->seeds_at_us = dc_now_us() + SEEDS_US;
}

/*
 * While two servers speak as this node, its peers follow neither.  When the
 * other one has fallen silent, this one goes on under a greater incarnation,
 * or they would keep waiting for the one that is gone.
 */
static void
watch_rival(void)
{
	static bool seen = false;
	bool here = dc_gossip_rival(&worker->core) != NULL;

	if (seen && !here)
		dc_standing_be_reborn();
	seen = here;
}

static void
follow_settings(bool woken)
{
	if (worker->settings_read_for != PgReloadTime)
	{
		worker->settings_read_for = PgReloadTime;
		worker->core.config.interval_us =
			(uint64) datacake_gossip_interval_ms * 1000;
		describe_self();
		woken = true;
	}
	if (woken || dc_now_us() >= worker->seeds_at_us)
		refresh_seeds();
	watch_rival();
	if (pg_atomic_read_u32(&dc_shared->leaving) == 2 && !worker->nodes[0].left)
	{
		dc_gossip_leave(&worker->core, dc_now_us(), fresh_random(),
						&worker->output);
		carry_out();
	}
	if (dc_shared->incarnation != worker->core.config.incarnation)
		dc_gossip_reincarnate(&worker->core, dc_shared->incarnation,
							  dc_now_us());
}

/* ---- the worker --------------------------------------------------------- */

static void
begin(void)
{
	int count = dc_shared->node_count;
	DcGossipConfig config = {0};
	uint8 cluster[16];

	MemoryContextSwitchTo(TopMemoryContext);
	worker = palloc0(sizeof(*worker));
	worker->nodes = palloc0(sizeof(*worker->nodes) * count);
	worker->notes = palloc0(sizeof(*worker->notes) * count);
	worker->shown = palloc0(sizeof(*worker->shown) * count);
	worker->before = palloc0(sizeof(*worker->before) * count);
	worker->filled = count;

	dc_seal_load();
	dc_seal_derive("datacake gossip", cluster);
	config.node_id = (uint32_t) datacake_node_id;
	config.incarnation = dc_shared->incarnation;
	memcpy(&config.cluster_hash, cluster, sizeof(config.cluster_hash));
	config.cluster_hash = pg_ntoh64(config.cluster_hash);
	config.wire_version = dc_versions_pack(dc_versions_own());
	config.interval_us = (uint64) datacake_gossip_interval_ms * 1000;
	config.phi_suspect = DC_GOSSIP_PHI_SUSPECT;
	config.phi_dead = DC_GOSSIP_PHI_DEAD;
	config.forget_us = DC_GOSSIP_FORGET_US;
	if (dc_gossip_init(&worker->core, &config, worker->nodes, (uint32) count,
					   dc_now_us(), fresh_random()) != DC_OK)
		elog(ERROR, "could not start gossip");
	restore_nodes();
	worker->settings_read_for = PG_INT64_MIN;
	worker->events = CreateWaitEventSet(TopMemoryContext, 3);
	AddWaitEventToSet(worker->events, WL_LATCH_SET, PGINVALID_SOCKET, MyLatch,
					  NULL);
	AddWaitEventToSet(worker->events, WL_EXIT_ON_PM_DEATH, PGINVALID_SOCKET,
					  NULL, NULL);
	AddWaitEventToSet(worker->events, WL_SOCKET_READABLE,
					  dc_udp_open(datacake_listen_address, datacake_port), NULL,
					  NULL);
}

/* Floor and epoch belong together: a floor is one under that list. */
static void
tell_progress(void)
{
	DcStanding *standing = &dc_shared->standing;
	DcHlc floor;
	uint64 epoch;
	bool closed;
	bool joining;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	floor = standing->floor;
	epoch = standing->epoch;
	closed = standing->closed;
	joining = standing->joining;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	dc_gossip_progress(&worker->core, floor, epoch, closed, joining,
					   pg_atomic_read_u32(&dc_shared->leaving) != 0,
					   pg_atomic_read_u64(&dc_shared->clock_last));
}

static void
turn(bool woken)
{
	uint64 round_us = worker->core.last_round_us;

	follow_settings(woken);
	tell_progress();
	dc_gossip_tick(&worker->core, dc_now_us(), fresh_random(), &worker->output);
	carry_out();
	if (worker->core.last_round_us != round_us)
		show_nodes();
}

/* Until the next round, the latch or a datagram.  True: the latch. */
static bool
wait(void)
{
	uint64 now = dc_now_us();
	uint64 deadline = dc_gossip_deadline(&worker->core);
	long timeout_ms = deadline > now ? (long) ((deadline - now) / 1000) + 1 : 0;
	WaitEvent happened[3];
	bool woken = false;
	bool readable = false;
	int count;

	count = WaitEventSetWait(worker->events, timeout_ms, happened,
							 lengthof(happened), PG_WAIT_EXTENSION);
	for (int i = 0; i < count; i++)
	{
		woken |= (happened[i].events & WL_LATCH_SET) != 0;
		readable |= (happened[i].events & WL_SOCKET_READABLE) != 0;
	}
	if (woken)
		ResetLatch(MyLatch);
	dc_worker_check();
	if (readable)
		take_datagrams();
	return woken;
}

void
datacake_gossip_main(Datum arg)
{
	MemoryContext scratch;
	bool woken = true;

	dc_worker_begin(DC_WORKER_GOSSIP, false);
	while (dc_phase() == DC_PHASE_IDLE)
		dc_worker_wait(200, PG_WAIT_EXTENSION);
	begin();
	scratch = AllocSetContextCreate(TopMemoryContext, "datacake gossip turn",
									ALLOCSET_SMALL_SIZES);
	MemoryContextSwitchTo(scratch);
	for (;;)
	{
		MemoryContextReset(scratch);
		if (dc_phase() == DC_PHASE_IDLE)
			proc_exit(0); /* the extension was dropped */
		turn(woken);
		woken = wait();
	}
}
