/*
 * caller.c
 *		Asking one peer, question by question, outside of the stream.
 */
#include "caller.h"

#include "libpq-fe.h"
#include "mb/pg_wchar.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "guc.h"
#include "seal.h"

#define CONNECT_MS 10000
#define ANSWER_MS  600000 /* a scan of a large table */
#define CHECK_MS   200

struct DcCaller
{
	MemoryContext context;
	MemoryContext answers;
	void (*check)(void);
	PGconn *conn;
	uint32 node_id;
	uint64 incarnation; /* of the peer */
	uint64 session;
	uint64 sequence;
	DcCallerStats stats;
};

static void
refuse(const DcCaller *caller, const char *what)
{
	ereport(ERROR,
			(errcode(ERRCODE_CONNECTION_FAILURE),
			 errmsg("could not talk to node %u: %s", caller->node_id, what)));
}

static void
wait_socket(DcCaller *caller, int events)
{
	(void) WaitLatchOrSocket(MyLatch,
							 events | WL_LATCH_SET | WL_TIMEOUT |
								 WL_EXIT_ON_PM_DEATH,
							 PQsocket(caller->conn), CHECK_MS,
							 PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
	if (caller->check != NULL)
		caller->check();
}

static void
connect_to(DcCaller *caller, const char *conninfo)
{
	const char *keywords[] = {"keepalives_idle",  "keepalives_interval",
							  "keepalives_count", "tcp_user_timeout",
							  "connect_timeout",  "dbname",
							  "application_name", NULL};
	const char *values[] = {"5", "3", "3", "15000", "10", conninfo, NULL, NULL};
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), CONNECT_MS);

	values[6] = psprintf("datacake repair of node %d", datacake_node_id);
	caller->conn = PQconnectStartParams(keywords, values, true);
	while (caller->conn != NULL && PQstatus(caller->conn) != CONNECTION_BAD &&
		   status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
	{
		if (GetCurrentTimestamp() > deadline)
			refuse(caller, "it does not answer");
		wait_socket(caller, status == PGRES_POLLING_READING ?
								WL_SOCKET_READABLE :
								WL_SOCKET_WRITEABLE);
		status = PQconnectPoll(caller->conn);
	}
	if (status != PGRES_POLLING_OK)
		refuse(caller, pchomp(PQerrorMessage(caller->conn)));
	PQsetnonblocking(caller->conn, 1);
}

static DcAssociated
associated(const DcCaller *caller, char direction)
{
	return (DcAssociated){.direction = direction,
						  .sender = (uint32) datacake_node_id,
						  .receiver = caller->node_id,
						  .incarnation = dc_shared->incarnation,
						  .session = caller->session,
						  .sequence = caller->sequence};
}

static char *
field(const PGresult *result, int code)
{
	const char *text = PQresultErrorField(result, code);

	return text != NULL ? pstrdup(text) : NULL;
}

/* The peer's error, as ours. */
static void
raise_answer(const DcCaller *caller, PGresult *result)
{
	char *state = field(result, PG_DIAG_SQLSTATE);
	char *text = field(result, PG_DIAG_MESSAGE_PRIMARY);
	char *hint = field(result, PG_DIAG_MESSAGE_HINT);
	int code = ERRCODE_CONNECTION_FAILURE;

	PQclear(result);
	if (text == NULL)
		text = pchomp(PQerrorMessage(caller->conn));
	if (state != NULL && strlen(state) == 5)
		code = MAKE_SQLSTATE(state[0], state[1], state[2], state[3], state[4]);
	ereport(ERROR, (errcode(code),
					errmsg("node %u refuses: %s", caller->node_id, text),
					hint != NULL ? errhint("%s", hint) : 0));
}

/* Sends one statement with one bytea, as far as the socket takes it now. */
static void
post(DcCaller *caller, const char *command, const void *sealed,
	 Size sealed_length)
{
	const Oid types[1] = {17}; /* bytea */
	const char *values[1] = {sealed};
	const int lengths[1] = {(int) sealed_length};
	const int formats[1] = {1};

	if (PQsendQueryParams(caller->conn, command, 1, types, values, lengths,
						  formats, 1) != 1 ||
		PQflush(caller->conn) < 0)
		refuse(caller, pchomp(PQerrorMessage(caller->conn)));
}

/* Opens what comes back. */
static DcSlice
collect(DcCaller *caller, DcAssociated answer)
{
	TimestampTz deadline =
		TimestampTzPlusMilliseconds(GetCurrentTimestamp(), ANSWER_MS);
	uint8_t ad[DC_ASSOCIATED_BYTES];
	size_t ad_length = dc_associated_encode(ad, &answer);
	PGresult *result;
	uint8 *plain;
	size_t length;
	size_t plain_length = 0;
	bool opened;

	for (int unsent = 1; unsent > 0 || PQisBusy(caller->conn);)
	{
		unsent = PQflush(caller->conn);
		if (unsent < 0 || !PQconsumeInput(caller->conn))
			refuse(caller, pchomp(PQerrorMessage(caller->conn)));
		if (unsent == 0 && !PQisBusy(caller->conn))
			break;
		if (GetCurrentTimestamp() > deadline)
			refuse(caller, "it does not answer");
		wait_socket(caller, WL_SOCKET_READABLE |
								(unsent > 0 ? WL_SOCKET_WRITEABLE : 0));
	}
	result = PQgetResult(caller->conn);
	if (PQresultStatus(result) != PGRES_TUPLES_OK)
		raise_answer(caller, result);
	MemoryContextReset(caller->answers);
	length = (size_t) PQgetlength(result, 0, 0);
	plain = MemoryContextAllocHuge(caller->answers, length + 1);
	opened = PQntuples(result) == 1 &&
			 dc_open((uint8 *) PQgetvalue(result, 0, 0), length, ad, ad_length,
					 plain, &plain_length);
	PQclear(result);
	while ((result = PQgetResult(caller->conn)) != NULL)
		PQclear(result);
	if (!opened)
		refuse(caller, "its answer does not authenticate");
	caller->stats.received_bytes += length;
	return (DcSlice){plain, plain_length};
}

static uint8 *
seal(DcCaller *caller, const DcAssociated *binding, const void *plain,
	 Size length)
{
	uint8_t ad[DC_ASSOCIATED_BYTES];
	size_t ad_length = dc_associated_encode(ad, binding);
	uint8 *sealed =
		MemoryContextAllocHuge(caller->context, length + DC_SEAL_OVERHEAD);

	dc_seal(sealed, ad, ad_length, plain, length);
	return sealed;
}

static void
say_hello(DcCaller *caller)
{
	DcHello hello = {
		.cluster = {(const uint8 *) datacake_cluster_id,
					strlen(datacake_cluster_id)},
		.sender = (uint32) datacake_node_id,
		.incarnation = dc_shared->incarnation,
		.receiver = caller->node_id,
		.encoding = {(const uint8 *) GetDatabaseEncodingName(),
					 strlen(GetDatabaseEncodingName())},
	};
	DcAssociated binding = {.direction = 'H'};
	DcWelcome *welcome = palloc0(sizeof(DcWelcome));
	uint8 plain[512];
	uint8 *sealed;
	DcSlice answer;
	DcWriter w;

	if (!pg_strong_random(hello.nonce, DC_NONCE_BYTES))
		elog(ERROR, "could not generate a nonce");
	dc_writer_init(&w, plain, sizeof(plain));
	dc_hello_encode(&w, &hello);
	sealed = seal(caller, &binding, plain, w.length);
	post(caller, "SELECT datacake.peer_hello($1)", sealed,
		 w.length + DC_SEAL_OVERHEAD);
	pfree(sealed);
	answer = collect(caller, associated(caller, 'W'));
	if (dc_welcome_decode(answer.data, answer.length, welcome) != DC_OK ||
		memcmp(welcome->nonce, hello.nonce, DC_NONCE_BYTES) != 0 ||
		welcome->node_id != caller->node_id)
		refuse(caller, "its welcome does not fit");
	if (welcome->incarnation != caller->incarnation)
		refuse(caller, "it has another incarnation than it said");
	caller->session = welcome->session;
	memset(&caller->stats, 0, sizeof(caller->stats));
	pfree(welcome);
}

DcCaller *
dc_caller_open(uint32 node_id, void (*check)(void))
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "datacake caller",
							  ALLOCSET_DEFAULT_SIZES);
	DcCaller *caller = MemoryContextAllocZero(context, sizeof(DcCaller));
	char conninfo[DC_CONNINFO_BYTES] = "";
	char *complaint;

	caller->context = context;
	caller->answers = AllocSetContextCreate(context, "datacake answers",
											ALLOCSET_DEFAULT_SIZES);
	caller->node_id = node_id;
	caller->check = check;
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcNode *node = &dc_shared->nodes[i];

		if (node->node_id != node_id || node->local)
			continue;
		strlcpy(conninfo, node->conninfo, sizeof(conninfo));
		caller->incarnation = node->incarnation;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	complaint = dc_conninfo_complaint(conninfo);
	if (*conninfo == '\0' || complaint != NULL)
		refuse(caller,
			   complaint != NULL ? complaint : "it advertises no conninfo");
	if (dc_paused(node_id))
		refuse(caller, "the exchange with it is paused");
	PG_TRY();
	{
		connect_to(caller, conninfo);
		say_hello(caller);
	}
	PG_CATCH();
	{
		PQfinish(caller->conn);
		PG_RE_THROW();
	}
	PG_END_TRY();
	return caller;
}

void
dc_caller_send(DcCaller *caller, const char *function, const void *question,
			   Size length)
{
	char command[64];
	DcAssociated binding;
	uint8 *sealed;

	caller->sequence++;
	binding = associated(caller, 'Q');
	sealed = seal(caller, &binding, question, length);
	caller->stats.sent_bytes += length + DC_SEAL_OVERHEAD;
	caller->stats.round_trips++;
	snprintf(command, sizeof(command), "SELECT datacake.%s($1)", function);
	post(caller, command, sealed, length + DC_SEAL_OVERHEAD);
	pfree(sealed);
}

DcSlice
dc_caller_receive(DcCaller *caller)
{
	return collect(caller, associated(caller, 'R'));
}

DcSlice
dc_caller_ask(DcCaller *caller, const void *question, Size length)
{
	dc_caller_send(caller, "peer_repair", question, length);
	return dc_caller_receive(caller);
}

uint64
dc_caller_incarnation(const DcCaller *caller)
{
	return caller->incarnation;
}

const DcCallerStats *
dc_caller_stats(const DcCaller *caller)
{
	return &caller->stats;
}

void
dc_caller_close(DcCaller *caller)
{
	if (caller == NULL)
		return;
	PQfinish(caller->conn);
	MemoryContextDelete(caller->context);
}
