/*
 * link_connect.c
 *		How a link comes up: connecting, hello, welcome.
 */
#include "link_connect.h"

#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "utils/memutils.h"

#include "acks.h"
#include "advice.h"
#include "command.h"
#include "copy_join.h"
#include "guc.h"
#include "link_catchup.h"
#include "link_stats.h"
#include "link_wire.h"
#include "queue.h"
#include "standing.h"

#define CONNECT_MS 10000
#define COPIES_MS  200 /* until a node that copies is asked again */

void
dc_link_connect(DcLink *link, const char *conninfo, uint64 incarnation)
{
	const char *keywords[] = {"keepalives_idle",
							  "keepalives_interval",
							  "keepalives_count",
							  "tcp_user_timeout",
							  "connect_timeout",
							  "dbname",
							  "application_name",
							  "options",
							  NULL};
	const char *values[] = {DC_ALIVE_IDLE_S,
							DC_ALIVE_INTERVAL_S,
							DC_ALIVE_COUNT,
							DC_ALIVE_UNACKED_MS,
							"10",
							conninfo,
							NULL,
							DC_PEER_OPTIONS,
							NULL};
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
		dc_link_fail(link);
		return;
	}
	link->connect_by =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CONNECT_MS);
	dc_link_set_phase(link, DC_LINK_CONNECTING, NULL);
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
	values[0] =
		(char *) dc_link_seal(link, &binding, plain, w.length, &lengths[0]);

	(void) dc_stream_connected(&link->stream);
	link->stream.position = dc_queue_head();
	if (PQsetnonblocking(link->conn, 1) != 0 ||
		PQsendQueryParams(link->conn, "SELECT datacake.peer_hello($1)", 1,
						  types, values, lengths, formats, 1) != 1)
	{
		dc_link_fail(link);
		return;
	}
	dc_link_push(link, DC_LINK_HELLO_CALL);
	dc_link_set_phase(link, DC_LINK_HELLO, NULL);
	dc_link_flush(link);
}

void
dc_link_continue_connect(DcLink *link)
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
			dc_link_fail(link);
			break;
		default:
			break;
	}
}

/* --- the welcome --- */

/* The peer copies somebody first, and takes nothing; soon again. */
static void
wait_for_copy(DcLink *link)
{
	link->retry_ms = COPIES_MS;
	dc_link_close(link, NULL);
	link->retry_ms = DC_LINK_RETRY_MIN_MS;
	dc_link_set_phase(link, DC_LINK_DOWN, "the peer copies another node first");
}

void
dc_link_take_welcome(DcLink *link, DcSlice sealed)
{
	DcWelcome *welcome =
		MemoryContextAllocZero(link->scratch, sizeof(DcWelcome));
	DcCommandCount known;
	const char *refusal;
	DcSlice plain;

	if (!dc_link_open(link, 'W', 0, sealed, &plain) ||
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
	known = dc_commands_of(&welcome->at, &welcome->members);
	if (dc_commands_missing(&known))
	{
		link->retry_ms = DC_LINK_RETRY_MIN_MS;
		dc_link_close(link, "this node has commands of the cluster to run "
							"first");
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
	link->ask_at = TimestampTzPlusMilliseconds(GetCurrentTimestamp(),
											   DC_LINK_ASK_AGAIN_MS);
	link->sent_epoch = 0;
	link->owed_epoch = 0;
	link->closed_epoch = 0;
	link->session = welcome->session;
	dc_acks_meet(link->node_id, link->incarnation,
				 welcome->joining ? welcome->clock : DC_HLC_NONE);
	link->version = welcome->version;
	link->told = welcome->vector;
	link->settled = false;
	link->weighed = 0;
	dc_link_note_incoming(link, welcome->incoming);
	(void) dc_stream_hello(&link->stream, &welcome->vector,
						   link->stream.position);
	link->retry_ms = DC_LINK_RETRY_MIN_MS;
	dc_link_set_phase(link, DC_LINK_CATCHUP, NULL);
	ereport(LOG, (errmsg("datacake link to node %u is up", link->node_id)));
}
