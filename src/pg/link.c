/*
 * link.c
 *		The sending side of the connection to one peer.
 */
#include "link.h"

#include "access/xlog.h"
#include "libpq-fe.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "acked.h"
#include "acks.h"
#include "advice.h"
#include "catchup.h"
#include "clock.h"
#include "copy_join.h"
#include "guc.h"
#include "message.h"
#include "progress.h"
#include "queue.h"
#include "seal.h"
#include "shmem.h"
#include "standing.h"
#include "vector.h"

/* Few messages under way: what waits meanwhile travels together. */
#define IN_FLIGHT_MAX 4
#define MESSAGE_BYTES (1024 * 1024) /* a message is closed beyond this */
#define RETRY_MIN_MS  100
#define RETRY_MAX_MS  5000
#define RELAY_MS      1000 /* least time between two catch-ups for relaying */
#define COPIES_MS     200  /* until a node that copies is asked again */
#define LATER_MS      50   /* until a locked table is tried again */
#define ASK_AGAIN_MS  2000 /* how a joiner's peers stand */
#define CONNECT_MS    10000
#define ANSWER_MS     60000 /* then the session is given up */

typedef enum MessageKind
{
	MESSAGE_HELLO,
	MESSAGE_PREPARE,
	MESSAGE_CALL
} MessageKind;

typedef struct Message
{
	MessageKind kind;
	uint64 sequence;
	uint32 batches;
	uint32 rows;
	uint64 committed_us; /* of its oldest batch; 0: none */
	DcHlc watermark;     /* 0: none */
	uint64 catchup;      /* number of the one whose chunk it is; 0: none */
	uint64 closes;       /* epoch whose fenced nodes its ack closes; 0 */
	uint64 first;        /* publish number of the first of its batches */
	uint64 ends;         /* number of the catch-up that it ends; 0: none */
	uint64 epoch;        /* of the member list that the peer was told */
	DcCatchupMark mark;
} Message;

struct DcLink
{
	MemoryContext context;
	MemoryContext scratch;
	uint32 node_id;
	uint64 incarnation; /* of the peer, as gossip said when we connected */
	char conninfo[DC_CONNINFO_BYTES]; /* ... and how it was to be reached */
	DcLinkPhase phase;
	PGconn *conn;
	DcStream stream;
	DcCatchup *catchup;         /* running, or interrupted */
	uint64 catchup_number;      /* its number, of this link */
	uint64 catchup_head;        /* it covers all that was published below */
	DcCatchupMark acked_mark;   /* where it can go on */
	DcAcked acked;              /* what was published, and is flushed there */
	uint64 catchup_incarnation; /* of the peer that it is for */
	bool relayed[DC_NODE_IDS];  /* sources that were owed a relay, and got it */
	bool covered[DC_NODE_IDS];
	bool peer_joins;      /* it wants everything, its own past too */
	bool peer_joined_too; /* when it said welcome */
	TimestampTz ask_at;   /* while joining: when to look again how it stands */
	bool partial;         /* while joining ourselves we left our own out */
	uint64 sent_epoch;    /* of the member list that the peer knows from us */
	uint64 owed_epoch;    /* a catch-up was owed for its fenced nodes */
	uint64 begun_epoch;   /* epoch when the running catch-up began */
	uint64 closed_epoch;  /* its fenced nodes are closed towards the peer */
	uint8 nonce[DC_NONCE_BYTES];
	uint64 session;
	uint8 version;   /* of the wire, in this session */
	uint64 sequence; /* of the last call sent */
	Message messages[IN_FLIGHT_MAX + 2];
	int message_count; /* sent, sync not seen yet; oldest first */
	char *answer;      /* payload of the oldest message's result */
	int answer_length;
	bool detached;  /* leave the queue at the next turn */
	bool unflushed; /* libpq holds bytes that the socket did not take */
	TimestampTz retry_at;
	TimestampTz connect_by;
	TimestampTz answer_by; /* 0: nothing is awaited */
	TimestampTz relay_at;
	TimestampTz later_at;
	long retry_ms;
};

/* --- what others see of the link --- */

static DcLinkStats *
find_stats(uint32 node_id)
{
	DcLinkStats *free_slot = NULL;

	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (dc_shared->links[i].node_id == node_id)
			return &dc_shared->links[i];
		if (dc_shared->links[i].node_id == 0 && free_slot == NULL)
			free_slot = &dc_shared->links[i];
	}
	if (free_slot != NULL)
	{
		memset(free_slot, 0, sizeof(*free_slot));
		free_slot->node_id = node_id;
		free_slot->since = GetCurrentTimestamp();
	}
	return free_slot;
}

static void
set_phase(DcLink *link, DcLinkPhase phase, const char *error)
{
	DcLinkStats *stats;

	link->phase = phase;
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = find_stats(link->node_id);
	if (stats != NULL)
	{
		stats->stranger = false;
		if (stats->phase != phase)
			stats->since = GetCurrentTimestamp();
		if (phase != DC_LINK_CATCHUP)
			stats->catchup.node_id = 0;
		stats->phase = phase;
		if (error != NULL)
		{
			strlcpy(stats->last_error, error, DC_ERROR_BYTES);
			stats->last_error_at = GetCurrentTimestamp();
		}
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

void
dc_link_note_stranger(uint32 node_id, const char *error)
{
	DcLinkStats *stats = NULL;

	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (dc_shared->links[i].node_id == node_id)
			stats = &dc_shared->links[i];
	}
	if (error == NULL)
	{
		if (stats != NULL && stats->stranger)
			stats->node_id = 0;
	}
	else if (stats != NULL || (stats = find_stats(node_id)) != NULL)
	{
		stats->stranger |=
			stats->last_error_at == 0 && stats->phase == DC_LINK_DOWN;
		strlcpy(stats->last_error, error, DC_ERROR_BYTES);
		stats->last_error_at = GetCurrentTimestamp();
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

/* link->catchup NULL: that was its end. */
static void
show_catchup(const DcLink *link, DcProgress *progress, uint32 rows, Size bytes)
{
	if (link->catchup == NULL)
	{
		progress->node_id = 0;
		return;
	}
	progress->keyspace = dc_catchup_keyspace(link->catchup);
	progress->rows_done += rows;
	progress->bytes += bytes;
}

static void
count_sent(DcLink *link, const Message *message, Size bytes, bool catchup)
{
	DcLinkStats *stats;

	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = find_stats(link->node_id);
	if (stats != NULL)
	{
		stats->sent_batches += message->batches;
		stats->sent_rows += message->rows;
		stats->sent_bytes += bytes;
		if (catchup)
		{
			show_catchup(link, &stats->catchup, message->rows, bytes);
			stats->catchup_rows += message->rows;
		}
		stats->queued = dc_queue_head() - link->stream.position;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

static void
count_acked(DcLink *link, const Message *message)
{
	uint64 lag_us = 0;
	int bucket = 0;
	DcLinkStats *stats;

	if (message->committed_us != 0)
	{
		uint64 now = dc_now_us();

		lag_us = now > message->committed_us ? now - message->committed_us : 0;
		while (bucket < DC_LAG_BUCKETS - 1 && lag_us >> (bucket + 1) != 0)
			bucket++;
	}
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = find_stats(link->node_id);
	if (stats != NULL)
	{
		stats->acked_batches += message->batches;
		if (message->watermark != DC_HLC_NONE)
			stats->acked_watermark = message->watermark;
		if (message->committed_us != 0)
		{
			stats->lag_last_us = lag_us;
			stats->lag_max_us = Max(stats->lag_max_us, lag_us);
			stats->lag_count[bucket] += message->batches;
		}
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

/* What COMMITs of this node wait for (acks.h). */
static void
count_flushed(DcLink *link, const Message *message, const DcVv *peer)
{
	if (message->batches > 0)
		dc_acked_batches(&link->acked, message->first,
						 message->first + message->batches);
	if (message->ends != 0)
		dc_acked_catchup(&link->acked, message->ends);
	dc_acked_vector(&link->acked, peer);
	dc_acks_note(link->node_id, message->epoch, link->acked.position);
}

/* --- life of a link --- */

DcLink *
dc_link_create(MemoryContext context, uint32 node_id)
{
	MemoryContext own =
		AllocSetContextCreate(context, "datacake link", ALLOCSET_DEFAULT_SIZES);
	DcLink *link = MemoryContextAllocZero(own, sizeof(DcLink));

	link->context = own;
	link->scratch = AllocSetContextCreate(own, "datacake link message",
										  ALLOCSET_DEFAULT_SIZES);
	link->node_id = node_id;
	link->retry_ms = RETRY_MIN_MS;
	dc_stream_init(&link->stream);
	set_phase(link, DC_LINK_DOWN, NULL);
	return link;
}

void
dc_link_close(DcLink *link, const char *reason)
{
	if (reason != NULL)
		ereport(LOG, (errmsg("datacake link to node %u is down: %s",
							 link->node_id, reason)));
	PQfinish(link->conn);
	link->conn = NULL;
	free(link->answer);
	link->answer = NULL;
	link->message_count = 0;
	link->unflushed = false;
	link->answer_by = 0;
	link->detached = false;
	link->later_at = 0;
	dc_stream_lost(&link->stream);
	link->retry_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), link->retry_ms);
	link->retry_ms = Min(link->retry_ms * 2, RETRY_MAX_MS);
	set_phase(link, DC_LINK_DOWN, reason);
}

void
dc_link_destroy(DcLink *link)
{
	dc_link_close(link, NULL);
	if (link->catchup != NULL)
		dc_catchup_end(link->catchup);
	MemoryContextDelete(link->context);
}

void
dc_link_forget(uint32 node_id)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (dc_shared->links[i].node_id == node_id)
			dc_shared->links[i].node_id = 0;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

static void
fail(DcLink *link)
{
	dc_link_close(link, dc_advice_connection(link->conn, link->node_id));
}

/* --- connecting --- */

static void
start_connect(DcLink *link, const char *conninfo, uint64 incarnation)
{
	/* a peer that vanishes without a word is noticed within 15 s */
	const char *keywords[] = {"keepalives_idle",  "keepalives_interval",
							  "keepalives_count", "tcp_user_timeout",
							  "connect_timeout",  "dbname",
							  "application_name", NULL};
	const char *values[] = {"5", "3", "3", "15000", "10", conninfo, NULL, NULL};
	char name[64];
	char *complaint = dc_conninfo_complaint(conninfo);

	strlcpy(link->conninfo, conninfo, sizeof(link->conninfo));
	if (complaint != NULL || *conninfo == '\0')
	{
		dc_link_close(link, complaint != NULL ?
								complaint :
								"the peer advertises no connection string (set "
								"datacake.conninfo there)");
		return;
	}
	snprintf(name, sizeof(name), "datacake node %d", datacake_node_id);
	values[6] = name;
	if (link->incarnation != incarnation)
		memset(&link->acked, 0, sizeof(link->acked));
	link->incarnation = incarnation;
	link->conn = PQconnectStartParams(keywords, values, true);
	dc_advice_prepare(link->conn);
	if (link->conn == NULL || PQstatus(link->conn) == CONNECTION_BAD)
	{
		fail(link);
		return;
	}
	link->connect_by =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CONNECT_MS);
	set_phase(link, DC_LINK_CONNECTING, NULL);
}

static DcAssociated
associated(const DcLink *link, char direction)
{
	return (DcAssociated){.direction = direction,
						  .sender = (uint32) datacake_node_id,
						  .receiver = link->node_id,
						  .incarnation = dc_shared->incarnation,
						  .session = link->session};
}

static uint8 *
seal(DcLink *link, const DcAssociated *binding, const void *plain, Size length,
	 int *sealed_length)
{
	uint8_t ad[DC_ASSOCIATED_BYTES];
	size_t ad_length = dc_associated_encode(ad, binding);
	uint8 *sealed =
		MemoryContextAllocHuge(link->scratch, length + DC_SEAL_OVERHEAD);

	dc_seal(sealed, ad, ad_length, plain, length);
	*sealed_length = (int) (length + DC_SEAL_OVERHEAD);
	return sealed;
}

static Message *
push_message(DcLink *link, MessageKind kind)
{
	Message *message = &link->messages[link->message_count++];

	memset(message, 0, sizeof(*message));
	message->kind = kind;
	return message;
}

/*
 * A peer that is silent is found by gossip, a connection that is dead by TCP.
 * This is for a session that both think is alive while each waits for the
 * other, as when the length of a message was spoilt on the way.
 */
static void
await_answer(DcLink *link)
{
	link->answer_by =
		link->message_count == 0 || link->unflushed ?
			0 :
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ANSWER_MS);
}

static void
flush_socket(DcLink *link)
{
	int result = PQflush(link->conn);

	if (result < 0)
	{
		fail(link);
		return;
	}
	link->unflushed = result > 0;
	await_answer(link);
}

/* The link joins the queue before it asks the peer for its vector. */
static void
send_hello(DcLink *link)
{
	uint8 plain[256];
	DcVersions own = dc_versions_own();
	DcHello hello = {
		.wire = (uint8_t) own.wire,
		.wire_min = (uint8_t) own.wire_min,
		.cluster = {(const uint8_t *) datacake_cluster_id,
					strlen(datacake_cluster_id)},
		.sender = (uint32) datacake_node_id,
		.incarnation = dc_shared->incarnation,
		.receiver = link->node_id,
		.encoding = {(const uint8_t *) GetDatabaseEncodingName(),
					 strlen(GetDatabaseEncodingName())},
	};
	DcAssociated binding = {.direction = 'H'};
	DcWriter w;
	const Oid types[1] = {17}; /* bytea */
	const char *values[1];
	int lengths[1];
	const int formats[1] = {1};

	if (!pg_strong_random(link->nonce, DC_NONCE_BYTES))
		elog(ERROR, "could not generate a nonce");
	memcpy(hello.nonce, link->nonce, DC_NONCE_BYTES);
	link->session = 0;
	link->sequence = 0;
	dc_writer_init(&w, plain, sizeof(plain));
	dc_hello_encode(&w, &hello);
	values[0] = (char *) seal(link, &binding, plain, w.length, &lengths[0]);

	(void) dc_stream_connected(&link->stream);
	link->stream.position = dc_queue_head();
	if (PQsetnonblocking(link->conn, 1) != 0 ||
		PQenterPipelineMode(link->conn) != 1 ||
		PQsendQueryParams(link->conn, "SELECT datacake.peer_hello($1)", 1,
						  types, values, lengths, formats, 1) != 1 ||
		PQpipelineSync(link->conn) != 1 ||
		PQsendPrepare(link->conn, "apply", "SELECT datacake.apply_batch($1)", 1,
					  types) != 1 ||
		PQpipelineSync(link->conn) != 1)
	{
		fail(link);
		return;
	}
	push_message(link, MESSAGE_HELLO);
	push_message(link, MESSAGE_PREPARE);
	set_phase(link, DC_LINK_HELLO, NULL);
	flush_socket(link);
}

static void
continue_connect(DcLink *link)
{
	if (GetCurrentTimestamp() > link->connect_by)
	{
		dc_link_close(link, psprintf("connecting took longer than %d s (check "
									 "host and port in datacake.conninfo of "
									 "node %u, and firewalls)",
									 CONNECT_MS / 1000, link->node_id));
		return;
	}
	switch (PQconnectPoll(link->conn))
	{
		case PGRES_POLLING_OK:
			send_hello(link);
			break;
		case PGRES_POLLING_FAILED:
			fail(link);
			break;
		default:
			break;
	}
}

/* --- answers --- */

static bool
open_answer(DcLink *link, char direction, uint64 sequence, DcSlice *plain)
{
	uint8_t ad[DC_ASSOCIATED_BYTES];
	DcAssociated binding = associated(link, direction);
	size_t ad_length;
	size_t length;
	uint8 *out;

	if (link->answer == NULL)
		return false;
	binding.sequence = sequence;
	ad_length = dc_associated_encode(ad, &binding);
	out = MemoryContextAllocHuge(link->scratch, (Size) link->answer_length + 1);
	if (!dc_open((uint8 *) link->answer, (size_t) link->answer_length, ad,
				 ad_length, out, &length))
		return false;
	*plain = (DcSlice){out, length};
	return true;
}

/* Sources that the peer does not get from themselves (R6). */
static void
note_incoming(DcLink *link, const bool incoming[DC_NODE_IDS])
{
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
		link->covered[id] = !incoming[id] && id != link->node_id &&
							id != (uint32) datacake_node_id;
}

/*
 * A source that streams neither to the peer nor to us may have sent one of us
 * more than its last watermark says.  Nothing else will bring that across, so
 * each such silence is answered by one catch-up.
 */
static bool
relay_is_owed(DcLink *link)
{
	bool owed = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_SHARED);
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		bool silent = link->covered[id] && dc_shared->incoming[id] == 0 &&
					  dc_shared->vector.at[id] != DC_HLC_NONE;

		owed |= silent && !link->relayed[id];
		link->relayed[id] = silent;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	return owed;
}

/* The peer copies somebody first, and takes nothing; soon again. */
static void
wait_for_copy(DcLink *link)
{
	link->retry_ms = COPIES_MS;
	dc_link_close(link, NULL);
	link->retry_ms = RETRY_MIN_MS;
	set_phase(link, DC_LINK_DOWN, "the peer copies another node first");
}

static void
take_welcome(DcLink *link)
{
	DcWelcome *welcome =
		MemoryContextAllocZero(link->scratch, sizeof(DcWelcome));
	const char *refusal;
	DcSlice plain;

	if (!open_answer(link, 'W', 0, &plain) ||
		dc_welcome_decode(plain.data, plain.length, welcome) != DC_OK ||
		memcmp(welcome->nonce, link->nonce, DC_NONCE_BYTES) != 0)
	{
		dc_link_close(link, "the peer's welcome does not authenticate");
		return;
	}
	if (welcome->node_id != link->node_id)
	{
		dc_link_close(link, "another node answers at this address (check host "
							"and port in datacake.conninfo of the node that "
							"was called)");
		return;
	}
	refusal = dc_standing_welcomed(welcome);
	if (refusal != NULL)
	{
		dc_link_close(link, refusal);
		return;
	}
	if (dc_copy_wanted())
		dc_worker_wake(DC_WORKER_REPAIRER); /* there is somebody to copy */
	if (welcome->copying)
	{
		wait_for_copy(link);
		return;
	}
	link->peer_joins = link->peer_joined_too = welcome->joining;
	link->ask_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ASK_AGAIN_MS);
	link->sent_epoch = 0;
	link->owed_epoch = 0;
	link->closed_epoch = 0;
	link->session = welcome->session;
	dc_acks_meet(link->node_id, link->incarnation,
				 welcome->joining ? welcome->clock : DC_HLC_NONE);
	link->version = welcome->version;
	note_incoming(link, welcome->incoming);
	(void) dc_stream_hello(&link->stream, &welcome->vector,
						   link->stream.position);
	link->retry_ms = RETRY_MIN_MS;
	set_phase(link, DC_LINK_CATCHUP, NULL);
	ereport(LOG, (errmsg("datacake link to node %u is up", link->node_id)));
}

/* Has the peer all that this node has of others than the two? */
static void
note_level(DcLink *link, const DcVv *peer)
{
	DcVv *own = MemoryContextAlloc(link->scratch, sizeof(DcVv));
	bool level = true;
	DcLinkStats *stats;

	dc_vector_read(own);
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
		level &= own->at[id] <= peer->at[id] || id == link->node_id ||
				 id == (uint32) datacake_node_id;
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = find_stats(link->node_id);
	if (stats != NULL)
		stats->level = level;
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

static void
take_ack(DcLink *link, const Message *message)
{
	DcAck *ack = MemoryContextAllocZero(link->scratch, sizeof(DcAck));
	DcVv *own = MemoryContextAlloc(link->scratch, sizeof(DcVv));
	TimestampTz now = GetCurrentTimestamp();
	DcSlice plain;

	if (!open_answer(link, 'A', message->sequence, &plain) ||
		dc_ack_decode(plain.data, plain.length, ack) != DC_OK)
	{
		dc_link_close(link, "an ack of the peer does not authenticate");
		return;
	}
	count_acked(link, message);
	count_flushed(link, message, &ack->vector);
	/* acks of one catch-up may arrive when the next one has begun */
	if (message->catchup != 0 && message->catchup == link->catchup_number)
		link->acked_mark = message->mark;
	if (message->closes != 0)
		link->closed_epoch = message->closes;
	note_incoming(link, ack->incoming);
	if (pg_atomic_read_u32(&dc_shared->leaving) == 1)
		note_level(link, &ack->vector);
	if (now < link->relay_at)
		return;
	if (relay_is_owed(link))
	{
		dc_stream_owe(&link->stream);
		link->relay_at = TimestampTzPlusMilliseconds(now, RELAY_MS);
	}
	dc_vector_read(own);
	if (dc_stream_peer_vector(&link->stream, &ack->vector, own, link->covered,
							  (uint32) datacake_node_id))
		link->relay_at = TimestampTzPlusMilliseconds(now, RELAY_MS);
}

/* The oldest message was carried out and committed at the peer. */
static void
complete_message(DcLink *link)
{
	Message message = link->messages[0];

	memmove(&link->messages[0], &link->messages[1],
			sizeof(Message) * (size_t) --link->message_count);
	if (message.kind == MESSAGE_HELLO)
		take_welcome(link);
	else if (message.kind == MESSAGE_CALL)
		take_ack(link, &message);
	free(link->answer);
	link->answer = NULL;
	await_answer(link);
}

/* What the peer says, and how long to leave it alone. */
static void
take_error(DcLink *link, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	/* these pass by themselves, soon */
	if (state != NULL &&
		(strcmp(state, "YD024") == 0 || strcmp(state, "YD025") == 0 ||
		 strcmp(state, "YD022") == 0 || strcmp(state, "YD023") == 0))
		link->retry_ms = RETRY_MIN_MS;
	if (state != NULL && strcmp(state, "YD029") == 0)
		dc_standing_set_removed();
	dc_link_close(link, dc_advice_answer(result, link->node_id));
}

static void
take_result(DcLink *link, PGresult *result)
{
	switch (PQresultStatus(result))
	{
		case PGRES_TUPLES_OK:
			free(link->answer);
			link->answer_length = PQgetlength(result, 0, 0);
			link->answer = malloc((size_t) link->answer_length + 1);
			if (link->answer != NULL)
				memcpy(link->answer, PQgetvalue(result, 0, 0),
					   (size_t) link->answer_length);
			break;
		case PGRES_COMMAND_OK:
			break;
		case PGRES_PIPELINE_SYNC:
			complete_message(link);
			break;
		default:
			take_error(link, result);
			break;
	}
}

static void
read_answers(DcLink *link)
{
	int empty = 0;

	if (!PQconsumeInput(link->conn))
	{
		fail(link);
		return;
	}
	/* a NULL ends the results of one statement; two in a row: no more */
	while (link->conn != NULL && link->message_count > 0 && empty < 2 &&
		   !PQisBusy(link->conn))
	{
		PGresult *result = PQgetResult(link->conn);

		empty = result == NULL ? empty + 1 : 0;
		if (result != NULL)
			take_result(link, result);
		PQclear(result);
	}
}

/* --- sending --- */

static void
send_call(DcLink *link, StringInfo call, Message *draft, bool catchup)
{
	DcAssociated binding = associated(link, 'C');
	const char *values[1];
	int lengths[1];
	const int formats[1] = {1};
	Message *message;

	appendStringInfoChar(call, '\0'); /* dc_call_end */
	binding.sequence = ++link->sequence;
	values[0] = (char *) seal(link, &binding, call->data, (Size) call->len,
							  &lengths[0]);
	if (PQsendQueryPrepared(link->conn, "apply", 1, values, lengths, formats,
							1) != 1 ||
		PQpipelineSync(link->conn) != 1)
	{
		fail(link);
		return;
	}
	message = push_message(link, MESSAGE_CALL);
	*message = *draft;
	message->kind = MESSAGE_CALL;
	message->sequence = link->sequence;
	message->epoch = link->sent_epoch;
	count_sent(link, message, (Size) lengths[0], catchup);
	flush_socket(link);
}

static void
begin_call(DcLink *link, StringInfo call)
{
	uint8 head[8];
	DcWriter w;

	MemoryContextReset(link->scratch);
	call->data = MemoryContextAlloc(link->scratch, 8192);
	call->maxlen = 8192;
	resetStringInfo(call);
	dc_writer_init(&w, head, sizeof(head));
	w.version = link->version;
	dc_call_begin(&w);
	appendBinaryStringInfo(call, (char *) head, (int) w.length);
}

static DcStreamView
view_of(DcLink *link, const DcStreamView *watermark, bool watermark_due)
{
	DcStreamView view = *watermark;
	uint64 position = link->stream.position;

	view.head = dc_queue_head();
	view.oldest = link->detached ? view.head : dc_queue_oldest();
	view.gap = position < view.head && position >= view.oldest &&
			   dc_queue_read(position).data == NULL;
	if (!watermark_due)
		view.watermark = DC_HLC_NONE;
	if (dc_standing_joining())
	{
		/* R13: what is its own it ships when it has joined */
		view.head = view.oldest = position;
		view.gap = false;
		view.watermark = DC_HLC_NONE;
	}
	return view;
}

static void
append_segment(DcLink *link, StringInfo call, Message *draft, DcHlc to)
{
	uint8 bytes[32];
	DcWriter w;

	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_call_segment(&w, link->stream.closed, to);
	appendBinaryStringInfo(call, (char *) bytes, (int) w.length);
	dc_stream_watermark_sent(&link->stream, to);
	draft->watermark = to;
}

/* As many batches as fit, and the segment they complete. */
static void
send_stream(DcLink *link, const DcStreamView *watermark, bool watermark_due)
{
	StringInfoData call;
	Message draft = {0};
	XLogRecPtr flush_to = InvalidXLogRecPtr;
	DcStreamView view;
	DcStreamAction action;

	begin_call(link, &call);
	for (;;)
	{
		DcQueued queued;

		view = view_of(link, watermark, watermark_due);
		action = dc_stream_next(&link->stream, &view);
		if (action != DC_STREAM_SEND_BATCH)
			break;
		queued = dc_queue_read(link->stream.position);
		if (queued.data == NULL ||
			(draft.batches > 0 &&
			 (Size) call.len + queued.length > MESSAGE_BYTES))
			break;
		dc_call_append(&call, DC_PART_BATCH, queued.data, queued.length);
		if (draft.batches == 0)
			draft.first = link->stream.position;
		dc_stream_batch_sent(&link->stream);
		draft.batches++;
		draft.rows += queued.rows;
		if (draft.committed_us == 0)
			draft.committed_us = queued.committed_us;
		flush_to = Max(flush_to, queued.commit_lsn);
	}
	if (action == DC_STREAM_SEND_WATERMARK)
		append_segment(link, &call, &draft, view.watermark);
	if (draft.batches == 0 && draft.watermark == DC_HLC_NONE)
		return;
	if (flush_to != InvalidXLogRecPtr)
		XLogFlush(flush_to); /* R3 */
	dc_stream_message_sent(&link->stream, false);
	send_call(link, &call, &draft, false);
}

/* P15: the calls up to the mark were acknowledged before the link broke. */
static bool
resume_catchup(DcLink *link)
{
	if (link->catchup == NULL)
		return false;
	if (link->catchup_incarnation == link->incarnation &&
		dc_stream_catchup_resume(&link->stream))
	{
		dc_catchup_resume(link->catchup, &link->acked_mark);
		return true;
	}
	dc_catchup_end(link->catchup);
	link->catchup = NULL;
	return false;
}

/*
 * A joiner is sent everything, its own past as well.  What fenced nodes wrote
 * every survivor sends to every other, after it has fenced them (R11).
 */
static void
cover_all_that_is_needed(DcLink *link)
{
	DcMembers *list = MemoryContextAlloc(link->scratch, sizeof(DcMembers));

	link->begun_epoch = dc_standing_members(list, NULL);
	for (uint32 id = 1; link->peer_joins && id < DC_NODE_IDS; id++)
		link->covered[id] = id != (uint32) datacake_node_id;
	for (uint32 i = 0; i < list->count; i++)
	{
		if (list->at[i].state == DC_MEMBER_FENCED)
			link->covered[list->at[i].node_id] = true;
	}
}

static void
begin_catchup(DcLink *link)
{
	DcVv *above;
	DcVv *own = MemoryContextAlloc(link->scratch, sizeof(DcVv));
	DcLinkStats *stats;

	set_phase(link, DC_LINK_CATCHUP, NULL);
	if (resume_catchup(link))
		return;
	cover_all_that_is_needed(link);
	above = MemoryContextAlloc(link->scratch, sizeof(DcVv));
	/* before the vector: what is published by now was merged by now */
	link->catchup_head = dc_queue_head();
	dc_vector_read(own);
	link->partial = dc_standing_joining();
	if (link->partial)
		link->catchup_head = 0; /* nothing of its own takes part */
	dc_stream_catchup_begin(&link->stream, own, link->covered,
							link->partial ? 0 : (uint32) datacake_node_id);
	for (uint32 id = 0; id < DC_NODE_IDS; id++)
		above->at[id] =
			link->stream.covered[id] ? link->stream.base.at[id] : DC_HLC_MAX;
	link->catchup = dc_catchup_begin(link->context, above, &link->stream.base);
	link->catchup_number++;
	link->catchup_incarnation = link->incarnation;
	memset(&link->acked_mark, 0, sizeof(link->acked_mark));
	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_EXCLUSIVE);
	stats = find_stats(link->node_id);
	if (stats != NULL)
	{
		stats->catchups++;
		dc_progress_begin(&stats->catchup, link->node_id, "sending changes");
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
}

/* What was left to third nodes the peer must have before its ack counts. */
static void
await_others(DcLink *link, Message *draft)
{
	DcVv *left = MemoryContextAlloc(link->scratch, sizeof(DcVv));

	*left = *dc_catchup_left(link->catchup);
	left->at[link->node_id] = DC_HLC_NONE; /* its own it has */
	draft->ends = link->catchup_number;
	dc_acked_catchup_sent(&link->acked, link->catchup_number,
						  link->catchup_head, left);
}

/*
 * The closing message follows the last chunk in the same session.  The peer
 * refuses whatever comes after a call that failed, so it counts only if all
 * chunks did.
 */
static void
end_catchup(DcLink *link, StringInfo call, Message *draft)
{
	DcHorizon *horizon = MemoryContextAlloc(link->scratch, sizeof(DcHorizon));
	uint8 *bytes;
	DcWriter w;

	dc_standing_horizon(horizon);
	dc_writer_init(&w, NULL, 0);
	dc_call_adopt(&w, &link->stream.base, &link->stream.donor, horizon);
	bytes = MemoryContextAlloc(link->scratch, w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_call_adopt(&w, &link->stream.base, &link->stream.donor, horizon);
	appendBinaryStringInfo(call, (char *) bytes, (int) w.length);
	draft->closes = link->begun_epoch;
	if (link->catchup_head != 0)
		await_others(link, draft);
	link->peer_joins = false;
	dc_stream_catchup_end(&link->stream, (uint32) datacake_node_id);
	dc_catchup_end(link->catchup);
	link->catchup = NULL;
	set_phase(link, DC_LINK_STREAM, NULL);
}

static void
send_catchup(DcLink *link)
{
	StringInfoData call;
	Message draft = {0};
	DcCatchupResult result;

	begin_call(link, &call);
	dc_stream_message_sent(&link->stream, true);
	result = dc_catchup_next(link->catchup, &call, &draft.rows);
	if (result == DC_CATCHUP_LATER)
	{
		link->later_at =
			TimestampTzPlusMilliseconds(GetCurrentTimestamp(), LATER_MS);
		return;
	}
	if (result == DC_CATCHUP_END)
		end_catchup(link, &call, &draft);
	else if (draft.rows == 0)
		return;
	else
	{
		draft.catchup = link->catchup_number;
		draft.mark = dc_catchup_mark(link->catchup);
	}
	send_call(link, &call, &draft, true);
}

/* The peer hears of every change of the list, from everybody. */
static bool
send_members(DcLink *link)
{
	DcMembers *list;
	DcPosition at;
	uint8 *bytes;
	StringInfoData call;
	Message draft = {0};
	DcWriter w;

	if (dc_standing_epoch() == link->sent_epoch)
		return false;
	begin_call(link, &call);
	list = MemoryContextAlloc(link->scratch, sizeof(DcMembers));
	link->sent_epoch = dc_standing_members(list, &at);
	dc_writer_init(&w, NULL, 0);
	dc_call_members(&w, &at, list);
	bytes = MemoryContextAlloc(link->scratch, w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_call_members(&w, &at, list);
	appendBinaryStringInfo(&call, (char *) bytes, (int) w.length);
	send_call(link, &call, &draft, false);
	if (link->owed_epoch != link->sent_epoch && dc_members_fence(list))
		dc_stream_owe(&link->stream);
	link->owed_epoch = link->sent_epoch;
	return true;
}

/* R11: something of a fenced node is just being applied here. */
static bool
fenced_is_heard(void)
{
	bool heard = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	for (uint32 i = 0; i < dc_shared->standing.members.count; i++)
	{
		const DcMember *member = &dc_shared->standing.members.at[i];

		heard |= member->state == DC_MEMBER_FENCED &&
				 pg_atomic_read_u32(&dc_shared->calls[member->node_id]) > 0;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return heard;
}

/* One message; false: nothing to send. */
static bool
send_next(DcLink *link, const DcStreamView *watermark, bool watermark_due)
{
	DcStreamView view = view_of(link, watermark, watermark_due);
	uint64 sequence = link->sequence;

	link->detached = false;
	switch (dc_stream_next(&link->stream, &view))
	{
		case DC_STREAM_WAIT:
			return false;
		case DC_STREAM_BEGIN_CATCHUP:
			if (fenced_is_heard())
				return false;
			begin_catchup(link);
			return true;
		case DC_STREAM_SEND_CATCHUP:
			if (link->later_at != 0 && GetCurrentTimestamp() < link->later_at)
				return false;
			link->later_at = 0;
			send_catchup(link);
			return link->conn != NULL && link->later_at == 0;
		case DC_STREAM_SEND_BATCH:
		case DC_STREAM_SEND_WATERMARK:
			send_stream(link, watermark, watermark_due);
			return link->sequence != sequence;
	}
	return false;
}

/*
 * A joiner ships nothing, so it would never hear that a peer stopped joining,
 * or that the cluster does not know this node any more.
 */
static void
ask_again(DcLink *link)
{
	TimestampTz now = GetCurrentTimestamp();

	if (link->message_count > 0 ||
		(link->catchup != NULL && link->peer_joins) ||
		link->stream.phase != DC_STREAM_OPEN || now < link->ask_at)
		return;
	link->ask_at = TimestampTzPlusMilliseconds(now, ASK_AGAIN_MS);
	if (link->peer_joined_too)
		dc_link_close(link, "both nodes join");
	else
		link->sent_epoch = 0; /* it is told the list again, and answers */
}

void
dc_link_turn(DcLink *link, const char *conninfo, uint64 incarnation,
			 const DcStreamView *watermark, bool watermark_due)
{
	bool moved = strcmp(conninfo, link->conninfo) != 0;

	MemoryContextReset(link->scratch);
	if (moved && link->phase == DC_LINK_CONNECTING)
		dc_link_close(link, "the peer has a new connection string");
	if (link->phase == DC_LINK_DOWN)
	{
		if (moved)
			link->retry_ms = RETRY_MIN_MS;
		if (moved || GetCurrentTimestamp() >= link->retry_at)
			start_connect(link, conninfo, incarnation);
		return;
	}
	if (link->incarnation != incarnation)
	{
		dc_link_close(link, "the peer has a new incarnation");
		return;
	}
	if (link->phase == DC_LINK_CONNECTING)
	{
		continue_connect(link);
		return;
	}
	if (link->unflushed)
		flush_socket(link);
	if (link->conn != NULL)
		read_answers(link);
	if (link->conn != NULL && dc_standing_joining())
		ask_again(link);
	if (link->answer_by != 0 && GetCurrentTimestamp() > link->answer_by)
		dc_link_close(link, "the peer does not answer");
	while (link->conn != NULL && !link->unflushed &&
		   link->stream.phase == DC_STREAM_OPEN &&
		   link->message_count < IN_FLIGHT_MAX)
	{
		if (send_members(link))
			continue;
		if (dc_standing_joining() && !link->peer_joins)
		{
			link->partial = true; /* it pulls, and helps others who do */
			break;
		}
		if (link->partial && !dc_standing_joining())
		{
			dc_stream_owe(&link->stream);
			link->partial = false;
		}
		if (!send_next(link, watermark, watermark_due))
			break;
	}
}

/* --- for the loop --- */

bool
dc_link_closed(const DcLink *link, uint64 epoch)
{
	return link->phase != DC_LINK_DOWN && link->closed_epoch == epoch;
}

uint32
dc_link_node_id(const DcLink *link)
{
	return link->node_id;
}

int
dc_link_socket(const DcLink *link, uint32 *events)
{
	if (link->conn == NULL)
		return PGINVALID_SOCKET;
	*events = WL_SOCKET_READABLE;
	if (link->unflushed || link->phase == DC_LINK_CONNECTING)
		*events |= WL_SOCKET_WRITEABLE;
	return PQsocket(link->conn);
}

uint64
dc_link_needs(const DcLink *link)
{
	return link->stream.phase == DC_STREAM_DOWN ? DC_QUEUE_NONE :
												  link->stream.position;
}

void
dc_link_detach(DcLink *link)
{
	link->detached = true;
	if (link->stream.phase == DC_STREAM_HELLO)
		link->stream.position = dc_queue_head();
}

long
dc_link_timeout_ms(const DcLink *link)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz due = 0;

	if (link->phase == DC_LINK_DOWN)
		due = link->retry_at;
	else if (link->phase == DC_LINK_CONNECTING)
		due = link->connect_by;
	else if (link->stream.catchup_running &&
			 link->message_count < IN_FLIGHT_MAX)
		due = link->later_at;
	if (link->answer_by != 0 && (due == 0 || link->answer_by < due))
		due = link->answer_by;
	if (due == 0)
		return -1;
	return due > now ? (long) ((due - now) / 1000) + 1 : 0;
}
