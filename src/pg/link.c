/*
 * link.c
 *		The sending side of the connection to one peer: its life and its turn.
 */
#include "link.h"

#include "storage/latch.h"
#include "utils/memutils.h"

#include "advice.h"
#include "link_connect.h"
#include "link_flow.h"
#include "link_spool.h"
#include "link_stats.h"
#include "link_wire.h"
#include "queue.h"
#include "standing.h"

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
	link->retry_ms = DC_LINK_RETRY_MIN_MS;
	dc_stream_init(&link->stream);
	dc_link_set_phase(link, DC_LINK_DOWN, NULL);
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
	dc_link_end_spool(link);
	link->message_count = 0;
	link->awaited_count = 0;
	link->streams = false;
	link->unflushed = false;
	link->answer_by = 0;
	link->detached = false;
	link->later_at = 0;
	dc_stream_lost(&link->stream);
	dc_acked_lost(&link->acked);
	link->retry_at =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), link->retry_ms);
	link->retry_ms = Min(link->retry_ms * 2, DC_LINK_RETRY_MAX_MS);
	dc_link_set_phase(link, DC_LINK_DOWN, reason);
}

void
dc_link_destroy(DcLink *link)
{
	dc_link_close(link, NULL);
	if (link->catchup != NULL)
		dc_catchup_end(link->catchup);
	MemoryContextDelete(link->context);
}

/* --- answers --- */

/* What the peer says, and how long to leave it alone. */
static void
take_error(DcLink *link, const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	/* these pass by themselves, soon */
	if (state != NULL &&
		(strcmp(state, "YD024") == 0 || strcmp(state, "YD025") == 0 ||
		 strcmp(state, "YD022") == 0 || strcmp(state, "YD023") == 0 ||
		 strcmp(state, "YD038") == 0))
		link->retry_ms = DC_LINK_RETRY_MIN_MS;
	if (state != NULL && strcmp(state, "YD029") == 0)
		dc_standing_set_removed();
	dc_link_close(link, dc_advice_answer(result, link->node_id));
}

static void
take_result(DcLink *link, const PGresult *result)
{
	switch (PQresultStatus(result))
	{
		case PGRES_TUPLES_OK:
			dc_link_take_welcome(link,
								 (DcSlice){(uint8 *) PQgetvalue(result, 0, 0),
										   (size_t) PQgetlength(result, 0, 0)});
			break;
		case PGRES_COPY_BOTH:
			dc_link_pop(link, 1);
			link->streams = true;
			break;
		case PGRES_COMMAND_OK:
			dc_link_close(link, "the peer takes no more calls");
			break;
		default:
			take_error(link, result);
			break;
	}
}

/* A query has no more results. */
static void
end_query(DcLink *link)
{
	bool hello = link->messages[0].kind == DC_LINK_HELLO_CALL;

	dc_link_pop(link, 1);
	if (hello)
		dc_link_start(link);
	else
		dc_link_close(link, "the peer takes no more calls");
}

/* Of a query; false: there is nothing more now. */
static bool
read_result(DcLink *link)
{
	PGresult *result;

	if (link->message_count == 0 || PQisBusy(link->conn))
		return false;
	result = PQgetResult(link->conn);
	if (result != NULL)
		take_result(link, result);
	else
		end_query(link);
	PQclear(result);
	return true;
}

/* An ack; false: there is none now. */
static bool
read_ack(DcLink *link)
{
	char *bytes;
	int length = PQgetCopyData(link->conn, &bytes, true);

	if (length > 0)
	{
		dc_link_take_ack(link, (DcSlice){(uint8 *) bytes, (size_t) length});
		PQfreemem(bytes);
	}
	else if (length == -2)
		dc_link_fail(link);
	else if (length == -1)
	{
		link->streams = false; /* why, its last result says */
		if (link->message_count == 0)
			dc_link_push(link, DC_LINK_START);
	}
	return length != 0;
}

static void
read_answers(DcLink *link)
{
	bool more = true;

	if (!PQconsumeInput(link->conn))
	{
		dc_link_fail(link);
		return;
	}
	while (more && link->conn != NULL)
		more = link->streams ? read_ack(link) : read_result(link);
}

/* --- a turn --- */

void
dc_link_turn(DcLink *link, const char *conninfo, uint64 incarnation, bool ready,
			 const DcStreamView *watermark, bool watermark_due)
{
	bool moved = strcmp(conninfo, link->conninfo) != 0;

	MemoryContextReset(link->scratch);
	if (moved && link->phase == DC_LINK_CONNECTING)
		dc_link_close(link, "the peer has a new connection string");
	if (link->phase == DC_LINK_DOWN)
	{
		if (moved)
			link->retry_ms = DC_LINK_RETRY_MIN_MS;
		if (moved || GetCurrentTimestamp() >= link->retry_at)
			dc_link_connect(link, conninfo, incarnation);
		return;
	}
	if (link->incarnation != incarnation)
	{
		dc_link_close(link, "the peer has a new incarnation");
		return;
	}
	if (link->phase == DC_LINK_CONNECTING)
	{
		dc_link_continue_connect(link);
		return;
	}
	if (link->unflushed)
	{
		dc_link_flush(link);
		ready = true; /* libpq may have read while it could not write */
	}
	/* now and then without being told: TLS may hold what the socket has not */
	if (link->conn != NULL && (ready || watermark_due))
		read_answers(link);
	if (link->conn != NULL && dc_standing_joining())
		dc_link_ask_again(link);
	if (link->answer_by != 0 && GetCurrentTimestamp() > link->answer_by)
		dc_link_close(link, "the peer does not answer");
	dc_link_send_all(link, watermark, watermark_due);
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
			 link->message_count < DC_LINK_IN_FLIGHT_MAX)
		due = link->later_at;
	else if (link->message_count < DC_LINK_IN_FLIGHT_MAX &&
			 dc_link_gathers(link) != DC_GATHER_NOTHING)
		due = TimestampTzPlusMilliseconds(link->sent_at, DC_LINK_SPACING_MS);
	if (link->answer_by != 0 && (due == 0 || link->answer_by < due))
		due = link->answer_by;
	if (due == 0)
		return -1;
	return due > now ? (long) ((due - now) / 1000) + 1 : 0;
}
