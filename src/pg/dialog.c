/*
 * dialog.c
 *		A connection of this process to one peer, to ask it questions.
 */
#include "dialog.h"

#include <poll.h>

#include "lib/stringinfo.h"
#include "libpq-fe.h"
#include "mb/pg_wchar.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#include "guc.h"
#include "seal.h"
#include "standing.h"

/* The peer closes a session for questions that was idle for a minute. */
#define IDLE_MS 45000

struct DcDialog
{
	MemoryContext context;
	DcPeer peer;
	DcSessionKind kind;
	Oid role;
	DcDialogPhase phase;
	PGconn *conn;
	PostgresPollingStatusType polling;
	PGresult *result; /* of the statement under way, so far */
	bool farewell;    /* the peer said that it is going, between statements */
	bool unsent;      /* libpq holds bytes that the socket did not take */
	bool greeted;     /* there is a session */
	uint8 nonce[DC_NONCE_BYTES];
	uint64 own_incarnation; /* under which it was made */
	uint64 session;
	uint64 sequence;
	TimestampTz used_at; /* last */
	const char *function;
	DcReply *reply; /* NULL: nobody waits */
};

/* --- what becomes of the reply --- */

void
dc_reply_fail(DcReply *reply, int sqlstate, const char *format, ...)
{
	MemoryContext old = MemoryContextSwitchTo(reply->memory);
	StringInfoData message;
	va_list args;

	initStringInfo(&message);
	for (int more = -1; more != 0;)
	{
		va_start(args, format);
		more = appendStringInfoVA(&message, format, args);
		va_end(args);
		if (more > 0)
			enlargeStringInfo(&message, more);
	}
	reply->state = reply->asked ? DC_REPLY_LOST : DC_REPLY_REFUSED;
	reply->sqlstate =
		reply->asked ? ERRCODE_TRANSACTION_RESOLUTION_UNKNOWN : sqlstate;
	reply->message = message.data;
	MemoryContextSwitchTo(old);
}

/* Nothing more comes from the peer. */
static void
break_off(DcDialog *dialog, const char *why)
{
	DcReply *reply = dialog->reply;

	dialog->phase = DC_DIALOG_BROKEN;
	dialog->reply = NULL;
	if (reply == NULL)
		return;
	reply->dialog = NULL;
	if (reply->asked)
		dc_reply_fail(reply, 0, "connection to node %u was lost: %s",
					  reply->node_id, why);
	else
		dc_reply_fail(reply,
					  ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION,
					  "could not ask node %u: %s", reply->node_id, why);
}

static void
break_connection(DcDialog *dialog)
{
	char *why = pstrdup(PQerrorMessage(dialog->conn));

	why[strcspn(why, "\n")] = '\0'; /* the rest is guesses */
	break_off(dialog, *why != '\0' ? why : "connection was closed");
	pfree(why);
}

/* What a peer says of its error is input like any other. */
static char *
field(const PGresult *result, int code)
{
	const char *text = PQresultErrorField(result, code);
	char *copy = text != NULL ? pstrdup(text) : NULL;

	if (copy != NULL && !pg_verifymbstr(copy, (int) strlen(copy), true))
	{
		for (char *c = copy; *c != '\0'; c++)
			*c = IS_HIGHBIT_SET(*c) ? '?' : *c;
	}
	return copy;
}

static int
error_code(const PGresult *result)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);

	if (state == NULL ||
		strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 ||
		state[5] != '\0' || strncmp(state, "00", 2) == 0)
		return ERRCODE_CONNECTION_FAILURE;
	return MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
}

/* The peer's error goes into the reply; its transaction is rolled back. */
static void
refuse(DcReply *reply, const PGresult *result)
{
	MemoryContext old = MemoryContextSwitchTo(reply->memory);

	reply->state = DC_REPLY_REFUSED;
	reply->raised = true;
	reply->sqlstate = error_code(result);
	reply->deadline = reply->sqlstate == ERRCODE_QUERY_CANCELED &&
					  GetCurrentTimestamp() >= reply->answer_by;
	reply->message = field(result, PG_DIAG_MESSAGE_PRIMARY);
	reply->detail = field(result, PG_DIAG_MESSAGE_DETAIL);
	reply->hint = field(result, PG_DIAG_MESSAGE_HINT);
	reply->context = field(result, PG_DIAG_CONTEXT);
	if (reply->message == NULL)
		reply->message = pchomp(PQresultErrorMessage(result));
	MemoryContextSwitchTo(old);
}

/* --- connecting --- */

const char *
dc_dialog_find(uint32 node_id, DcPeer *peer, int *sqlstate)
{
	DcNodeState state = DC_NODE_UNKNOWN;
	const char *complaint;
	bool known = false;
	bool removed;

	*sqlstate = ERRCODE_UNDEFINED_OBJECT;
	memset(peer, 0, sizeof(*peer));
	if (node_id == (uint32) datacake_node_id)
		return "it is this one";
	if (node_id == 0 || node_id > DC_NODE_ID_MAX)
		return "there is no such node";
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count && !known; i++)
	{
		const DcNode *node = &dc_shared->nodes[i];

		if (node->node_id != node_id || node->local)
			continue;
		known = true;
		state = node->state;
		peer->node_id = node_id;
		peer->incarnation = node->incarnation;
		strlcpy(peer->conninfo, node->conninfo, sizeof(peer->conninfo));
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	if (!known)
		return "there is no such node";
	*sqlstate = ERRCODE_SQLCLIENT_UNABLE_TO_ESTABLISH_SQLCONNECTION;
	if (state == DC_NODE_DEAD)
		return "it is dead";
	if (state == DC_NODE_LEFT)
		return "it has left";
	complaint = dc_standing_complaint(node_id, peer->incarnation, &removed);
	if (complaint != NULL)
		return removed ? "it was removed" : complaint;
	if (dc_paused(node_id))
		return "the exchange with it is paused";
	if (peer->conninfo[0] == '\0')
		return "it advertises no datacake.conninfo";
	return dc_conninfo_complaint(peer->conninfo);
}

/* Notices of the peer are nobody's here, but for its last words. */
static void
take_notice(void *arg, const PGresult *result)
{
	DcDialog *dialog = arg;
	const char *severity =
		PQresultErrorField(result, PG_DIAG_SEVERITY_NONLOCALIZED);

	if (severity != NULL &&
		(strcmp(severity, "FATAL") == 0 || strcmp(severity, "PANIC") == 0))
		dialog->farewell = true;
}

DcDialog *
dc_dialog_open(const DcPeer *peer, DcSessionKind kind, Oid role,
			   const char *purpose)
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
							peer->conninfo,
							NULL,
							DC_PEER_OPTIONS,
							NULL};
	MemoryContext context =
		AllocSetContextCreate(TopMemoryContext, "datacake dialog",
							  ALLOCSET_SMALL_SIZES);
	DcDialog *dialog = MemoryContextAllocZero(context, sizeof(DcDialog));
	char name[64];

	snprintf(name, sizeof(name), "datacake %s of node %d", purpose,
			 datacake_node_id);
	values[6] = name;
	dialog->context = context;
	dialog->peer = *peer;
	dialog->kind = kind;
	dialog->role = role;
	dialog->phase = DC_DIALOG_CONNECTING;
	dialog->polling = PGRES_POLLING_WRITING;
	dialog->conn = PQconnectStartParams(keywords, values, true);
	if (dialog->conn == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
	PQsetNoticeReceiver(dialog->conn, take_notice, dialog);
	return dialog;
}

void
dc_dialog_close(DcDialog *dialog)
{
	if (dialog == NULL)
		return;
	PQclear(dialog->result);
	PQfinish(dialog->conn);
	MemoryContextDelete(dialog->context);
}

/* --- sealed statements --- */

static DcAssociated
associated(const DcDialog *dialog, char direction)
{
	return (DcAssociated){.direction = direction,
						  .sender = (uint32) datacake_node_id,
						  .receiver = dialog->peer.node_id,
						  .incarnation = dialog->own_incarnation,
						  .session = dialog->session,
						  .sequence = dialog->sequence};
}

/* Seals and hands to libpq; returns the bytes, 0 if the connection is lost. */
static Size
send_sealed(DcDialog *dialog, const char *function, const DcAssociated *binding,
			const void *plain, Size length)
{
	const Oid types[1] = {17}; /* bytea */
	const char *values[1];
	const int lengths[1] = {(int) (length + DC_SEAL_OVERHEAD)};
	const int formats[1] = {1};
	uint8_t ad[DC_ASSOCIATED_BYTES];
	size_t ad_length = dc_associated_encode(ad, binding);
	uint8 *sealed =
		MemoryContextAllocHuge(CurrentMemoryContext, length + DC_SEAL_OVERHEAD);
	char command[NAMEDATALEN + 32];
	bool sent;

	dc_seal(sealed, ad, ad_length, plain, length);
	values[0] = (char *) sealed;
	snprintf(command, sizeof(command), "SELECT datacake.%s($1)", function);
	sent = PQsendQueryParams(dialog->conn, command, 1, types, values, lengths,
							 formats, 1) == 1;
	pfree(sealed);
	if (!sent)
	{
		break_connection(dialog);
		return 0;
	}
	PQclear(dialog->result);
	dialog->result = NULL;
	dialog->unsent = PQflush(dialog->conn) != 0;
	return length + DC_SEAL_OVERHEAD;
}

/* Opens the one value of the result into `memory`; false if it does not. */
static bool
open_result(DcDialog *dialog, char direction, MemoryContext memory,
			DcSlice *plain)
{
	DcAssociated binding = associated(dialog, direction);
	uint8_t ad[DC_ASSOCIATED_BYTES];
	size_t ad_length = dc_associated_encode(ad, &binding);
	PGresult *result = dialog->result;
	size_t length;
	uint8 *bytes;

	if (PQntuples(result) != 1 || PQnfields(result) != 1 ||
		PQgetisnull(result, 0, 0) || PQfformat(result, 0) != 1)
		return false;
	length = (size_t) PQgetlength(result, 0, 0);
	bytes = MemoryContextAllocHuge(memory, length + 1);
	plain->data = bytes;
	return dc_open((uint8 *) PQgetvalue(result, 0, 0), length, ad, ad_length,
				   bytes, &plain->length);
}

/* --- the session --- */

static void
say_hello(DcDialog *dialog)
{
	DcVersions own = dc_versions_own();
	DcHello hello = {
		.wire = (uint8_t) own.wire,
		.wire_min = (uint8_t) own.wire_min,
		.cluster = {(const uint8 *) datacake_cluster_id,
					strlen(datacake_cluster_id)},
		.sender = (uint32) datacake_node_id,
		.incarnation = dc_shared->incarnation,
		.receiver = dialog->peer.node_id,
		.encoding = {(const uint8 *) GetDatabaseEncodingName(),
					 strlen(GetDatabaseEncodingName())},
		.kind = dialog->kind,
	};
	DcAssociated binding = {.direction = 'H'};
	uint8 plain[512];
	DcWriter w;

	if (!pg_strong_random(dialog->nonce, DC_NONCE_BYTES))
		elog(ERROR, "could not generate a nonce");
	memcpy(hello.nonce, dialog->nonce, DC_NONCE_BYTES);
	dialog->greeted = false;
	dialog->own_incarnation = hello.incarnation;
	dialog->session = 0;
	dialog->sequence = 0;
	dialog->phase = DC_DIALOG_GREETING;
	dc_writer_init(&w, plain, sizeof(plain));
	dc_hello_encode(&w, &hello);
	(void) send_sealed(dialog, "peer_hello", &binding, plain, w.length);
}

static void
take_welcome(DcDialog *dialog)
{
	MemoryContext memory =
		AllocSetContextCreate(dialog->context, "datacake welcome",
							  ALLOCSET_DEFAULT_SIZES);
	DcWelcome *welcome = MemoryContextAlloc(memory, sizeof(DcWelcome));
	const char *complaint = NULL;
	DcSlice plain;

	if (!open_result(dialog, 'W', memory, &plain))
		complaint = "its answer does not authenticate";
	else if (dc_welcome_decode(plain.data, plain.length, welcome) != DC_OK ||
			 memcmp(welcome->nonce, dialog->nonce, DC_NONCE_BYTES) != 0 ||
			 welcome->node_id != dialog->peer.node_id)
		complaint = "its welcome does not fit";
	else if (welcome->incarnation != dialog->peer.incarnation)
		complaint = "it has another incarnation than it said";
	else
		dialog->session = welcome->session;
	MemoryContextDelete(memory);
	if (complaint != NULL)
	{
		break_off(dialog, complaint);
		return;
	}
	dialog->greeted = true;
	dialog->phase = DC_DIALOG_IDLE;
}

/*
 * In front of each question stands how long it is waited for, in ms; the
 * peer's clock need not agree with ours.
 */
static void
send_question(DcDialog *dialog)
{
	DcReply *reply = dialog->reply;
	long left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(),
												reply->answer_by);
	Size length = reply->question.length + 4;
	uint8 *plain = MemoryContextAllocHuge(reply->memory, length);
	DcAssociated binding;
	DcWriter w;

	dialog->sequence++;
	binding = associated(dialog, 'Q');
	dc_writer_init(&w, plain, length);
	dc_write_u32(&w, (uint32) Max(left, 1));
	dc_write_bytes(&w, reply->question.data, reply->question.length);
	dialog->phase = DC_DIALOG_ASKED;
	reply->asked = true; /* whatever happens now */
	reply->sent_bytes =
		send_sealed(dialog, dialog->function, &binding, plain, length);
	pfree(plain);
}

static void
take_answer(DcDialog *dialog)
{
	DcReply *reply = dialog->reply;

	dialog->phase = DC_DIALOG_IDLE;
	dialog->reply = NULL;
	if (reply == NULL)
		return;
	reply->received_bytes = (uint64) PQgetlength(dialog->result, 0, 0);
	if (open_result(dialog, 'R', reply->memory, &reply->answer))
	{
		reply->state = DC_REPLY_GIVEN;
		reply->dialog = NULL;
		return;
	}
	dialog->reply = reply;
	break_off(dialog, "its answer does not authenticate");
}

/* The statement failed; what is left of the session is not used any more. */
static void
take_error(DcDialog *dialog)
{
	DcReply *reply = dialog->reply;
	bool alive = PQstatus(dialog->conn) == CONNECTION_OK;

	if (PQresultErrorField(dialog->result, PG_DIAG_SQLSTATE) == NULL)
	{
		break_connection(dialog); /* libpq's own words */
		return;
	}
	dialog->greeted = false;
	dialog->phase = alive ? DC_DIALOG_IDLE : DC_DIALOG_BROKEN;
	dialog->reply = NULL;
	if (reply == NULL)
		return;
	reply->dialog = NULL;
	refuse(reply, dialog->result);
	if (!alive && reply->asked)
		reply->state = DC_REPLY_LOST;
}

/* --- going on --- */

/* From IDLE with a question: hello first, where there is no session. */
static void
go_on(DcDialog *dialog)
{
	if (dialog->own_incarnation != dc_shared->incarnation)
		dialog->greeted = false;
	if (dialog->greeted)
		send_question(dialog);
	else
		say_hello(dialog);
}

/* True when the statement under way is over and dialog->result tells how. */
static bool
pump(DcDialog *dialog)
{
	int unsent = PQflush(dialog->conn);
	bool lost = unsent < 0 || !PQconsumeInput(dialog->conn);

	dialog->unsent = unsent > 0;
	while (!PQisBusy(dialog->conn))
	{
		PGresult *result = PQgetResult(dialog->conn);

		if (result == NULL)
			return dialog->result != NULL;
		/* an error may follow the row: its transaction did not commit */
		if (dialog->result == NULL || PQresultStatus(result) != PGRES_TUPLES_OK)
		{
			PQclear(dialog->result);
			dialog->result = result;
		}
		else
			PQclear(result);
	}
	if (!lost)
		return false;
	if (dialog->result != NULL &&
		PQresultStatus(dialog->result) != PGRES_TUPLES_OK)
		return true; /* its last words */
	break_connection(dialog);
	return false;
}

static void
connect_on(DcDialog *dialog)
{
	dialog->polling = PQconnectPoll(dialog->conn);
	if (dialog->polling == PGRES_POLLING_FAILED)
		break_connection(dialog);
	else if (dialog->polling == PGRES_POLLING_OK)
	{
		PQsetnonblocking(dialog->conn, 1);
		dialog->phase = DC_DIALOG_IDLE;
		if (dialog->reply != NULL)
			go_on(dialog);
	}
}

void
dc_dialog_step(DcDialog *dialog)
{
	switch (dialog->phase)
	{
		case DC_DIALOG_CONNECTING:
			connect_on(dialog);
			break;
		case DC_DIALOG_GREETING:
		case DC_DIALOG_ASKED:
			if (!pump(dialog))
				break;
			if (PQresultStatus(dialog->result) != PGRES_TUPLES_OK)
				take_error(dialog);
			else if (dialog->phase == DC_DIALOG_ASKED)
				take_answer(dialog);
			else
			{
				take_welcome(dialog);
				if (dialog->phase == DC_DIALOG_IDLE && dialog->reply != NULL)
					go_on(dialog);
			}
			break;
		case DC_DIALOG_IDLE:
			/* nothing is awaited, so most likely it is the end */
			if (!PQconsumeInput(dialog->conn) || PQisBusy(dialog->conn) ||
				dialog->farewell)
				dialog->phase = DC_DIALOG_BROKEN;
			break;
		case DC_DIALOG_BROKEN:
			break;
	}
}

/* --- for the owner --- */

DcDialogPhase
dc_dialog_phase(const DcDialog *dialog)
{
	return dialog->phase;
}

bool
dc_dialog_sent(const DcDialog *dialog)
{
	return dialog->phase == DC_DIALOG_ASKED && !dialog->unsent;
}

bool
dc_dialog_old(const DcDialog *dialog)
{
	return dialog->kind == DC_SESSION_QUESTIONS &&
		   dialog->phase == DC_DIALOG_IDLE &&
		   TimestampDifferenceExceeds(dialog->used_at, GetCurrentTimestamp(),
									  IDLE_MS);
}

bool
dc_dialog_fits(const DcDialog *dialog, const DcPeer *peer, DcSessionKind kind,
			   Oid role)
{
	return dialog->kind == kind && dialog->role == role &&
		   dialog->peer.node_id == peer->node_id &&
		   dialog->peer.incarnation == peer->incarnation &&
		   strcmp(dialog->peer.conninfo, peer->conninfo) == 0;
}

void
dc_dialog_ask(DcDialog *dialog, const char *function, DcReply *reply)
{
	Assert(dialog->reply == NULL);
	dialog->function = function;
	dialog->used_at = GetCurrentTimestamp();
	dialog->reply = reply;
	reply->dialog = dialog;
	reply->asked = false;
	if (dialog->phase == DC_DIALOG_IDLE)
		go_on(dialog);
	else if (PQstatus(dialog->conn) == CONNECTION_BAD)
		break_connection(dialog);
}

void
dc_dialog_leave(DcDialog *dialog)
{
	if (dialog->reply != NULL)
		dialog->reply->dialog = NULL;
	dialog->reply = NULL;
}

short
dc_dialog_events(const DcDialog *dialog)
{
	if (dialog->phase == DC_DIALOG_BROKEN)
		return 0;
	if (dialog->phase == DC_DIALOG_CONNECTING)
		return dialog->polling == PGRES_POLLING_READING ? POLLIN : POLLOUT;
	return (short) (POLLIN | (dialog->unsent ? POLLOUT : 0));
}

int
dc_dialog_socket(const DcDialog *dialog)
{
	return PQsocket(dialog->conn);
}
