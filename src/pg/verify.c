/*
 * verify.c
 *		Do all live nodes hold the same rows?
 *
 * Each node sums a keyed hash over its rows, whatever their order and that
 * of the columns: key, stamp, and name and value of each column.  The sums of
 * all nodes are compared, and taken again until they agree or time is over.
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/tableam.h"
#include "catalog/pg_authid.h"
#include "fmgr.h"
#include "libpq-fe.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "guc.h"
#include "keyhash.h"
#include "keyspace.h"
#include "rel.h"
#include "repair_run.h"
#include "seal.h"
#include "shmem.h"
#include "wire.h"

DC_SQL_FUNCTION(datacake_peer_fingerprint);
DC_SQL_FUNCTION(datacake_verify);

#define NONCE_BYTES 16
#define RETRY_MS    50

/* What is sealed with: purpose and nonce; the answer has its own purpose. */
typedef struct Binding
{
	char purpose;
	uint8 nonce[NONCE_BYTES];
} Binding;

/* --- here --- */

typedef struct Sum
{
	uint64 sum;
	StringInfoData scratch;
} Sum;

static void
add_row(DcRel *rel, TupleTableSlot *row, DcKey key, void *arg)
{
	Sum *sum = arg;

	sum->sum += dc_row_hash(rel, row, &sum->scratch);
}

static void
sum_table(int slot, uint64 *rows, uint64 *sum)
{
	Snapshot snapshot = RegisterSnapshot(GetLatestSnapshot());
	Sum state = {0};

	initStringInfo(&state.scratch);
	*rows = dc_keyspace_visit(slot, snapshot, add_row, &state);
	*sum = state.sum;
	UnregisterSnapshot(snapshot);
}

static int
compare_slots(const void *left, const void *right)
{
	uint64 a = dc_keyspace(*(const int *) left)->id;
	uint64 b = dc_keyspace(*(const int *) right)->id;

	return a < b ? -1 : a > b;
}

/* (id, rows, sum) of each keyspace, by id. */
static StringInfo
fingerprint(void)
{
	StringInfo out = makeStringInfo();
	int *slots = palloc(sizeof(int) * datacake_max_keyspaces);
	int count = 0;

	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		if (dc_keyspace(slot)->id != 0)
			slots[count++] = slot;
	}
	qsort(slots, (size_t) count, sizeof(int), compare_slots);
	for (int i = 0; i < count; i++)
	{
		uint64 numbers[3];
		uint8 bytes[24];
		DcWriter w;

		numbers[0] = dc_keyspace(slots[i])->id;
		sum_table(slots[i], &numbers[1], &numbers[2]);
		dc_writer_init(&w, bytes, sizeof(bytes));
		for (int k = 0; k < 3; k++)
			dc_write_u64(&w, numbers[k]);
		appendBinaryStringInfo(out, (char *) bytes, (int) w.length);
	}
	return out;
}

/* --- sealed, both ways --- */

static bytea *
seal(const Binding *binding, const char *data, Size length)
{
	bytea *sealed = palloc(VARHDRSZ + length + DC_SEAL_OVERHEAD);

	SET_VARSIZE(sealed, VARHDRSZ + length + DC_SEAL_OVERHEAD);
	dc_seal((uint8 *) VARDATA(sealed), binding, sizeof(*binding), data, length);
	return sealed;
}

/* datacake.peer_fingerprint(bytea): nonce in front, sealed nothing behind */
Datum
datacake_peer_fingerprint(PG_FUNCTION_ARGS)
{
	bytea *request = PG_GETARG_BYTEA_PP(0);
	Size length = VARSIZE_ANY_EXHDR(request);
	const uint8 *data = (const uint8 *) VARDATA_ANY(request);
	Binding binding = {.purpose = 'F'};
	uint8 nothing[16];
	size_t opened;
	StringInfo sums;

	dc_require_loaded();
	if (length != NONCE_BYTES + DC_SEAL_OVERHEAD)
		ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '1', '1')),
						errmsg("request is malformed")));
	memcpy(binding.nonce, data, NONCE_BYTES);
	if (!dc_open(data + NONCE_BYTES, length - NONCE_BYTES, &binding,
				 sizeof(binding), nothing, &opened))
		ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '1', '3')),
						errmsg("request does not authenticate")));
	dc_require_ready();
	sums = fingerprint();
	binding.purpose = 'f';
	PG_RETURN_BYTEA_P(seal(&binding, sums->data, (Size) sums->len));
}

/* --- asking a peer --- */

static void
wait_socket(PGconn *conn, int events, TimestampTz deadline)
{
	long left =
		TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);

	(void) WaitLatchOrSocket(MyLatch,
							 events | WL_LATCH_SET | WL_TIMEOUT |
								 WL_EXIT_ON_PM_DEATH,
							 PQsocket(conn), Max(left, 1), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static bool
connect_to(PGconn *conn, TimestampTz deadline)
{
	PostgresPollingStatusType status = PGRES_POLLING_WRITING;

	while (conn != NULL && PQstatus(conn) != CONNECTION_BAD &&
		   status != PGRES_POLLING_OK && status != PGRES_POLLING_FAILED)
	{
		if (GetCurrentTimestamp() > deadline)
			return false;
		wait_socket(conn,
					status == PGRES_POLLING_READING ? WL_SOCKET_READABLE :
													  WL_SOCKET_WRITEABLE,
					deadline);
		status = PQconnectPoll(conn);
	}
	return status == PGRES_POLLING_OK;
}

static PGresult *
ask(PGconn *conn, const char *request, int length, TimestampTz deadline)
{
	const Oid types[1] = {17}; /* bytea */
	const char *values[1] = {request};
	const int lengths[1] = {length};
	const int formats[1] = {1};

	if (PQsendQueryParams(conn, "SELECT datacake.peer_fingerprint($1)", 1,
						  types, values, lengths, formats, 1) != 1)
		return NULL;
	while (PQisBusy(conn))
	{
		if (GetCurrentTimestamp() > deadline)
			return NULL;
		wait_socket(conn, WL_SOCKET_READABLE, deadline);
		if (!PQconsumeInput(conn))
			return NULL;
	}
	return PQgetResult(conn);
}

static bool
peer_agrees(const char *conninfo, StringInfo own, TimestampTz deadline)
{
	Binding binding = {.purpose = 'F'};
	char request[NONCE_BYTES + DC_SEAL_OVERHEAD];
	PGconn *conn = NULL;
	PGresult *volatile result = NULL;
	volatile bool same = false;

	if (!pg_strong_random(binding.nonce, NONCE_BYTES))
		elog(ERROR, "could not generate a nonce");
	memcpy(request, binding.nonce, NONCE_BYTES);
	dc_seal((uint8 *) request + NONCE_BYTES, &binding, sizeof(binding), "", 0);
	binding.purpose = 'f';

	conn = PQconnectStart(conninfo);
	PG_TRY();
	{
		if (connect_to(conn, deadline))
			result = ask(conn, request, sizeof(request), deadline);
		if (result != NULL && PQresultStatus(result) == PGRES_TUPLES_OK)
		{
			size_t length = (size_t) PQgetlength(result, 0, 0);
			uint8 *plain = palloc(length + 1);
			size_t plain_length;

			same = dc_open((uint8 *) PQgetvalue(result, 0, 0), length, &binding,
						   sizeof(binding), plain, &plain_length) &&
				   plain_length == (size_t) own->len &&
				   memcmp(plain, own->data, plain_length) == 0;
		}
		else if (result != NULL)
			ereport(NOTICE, (errmsg("a peer does not answer: %s",
									PQresultErrorMessage(result))));
	}
	PG_FINALLY();
	{
		PQclear(result);
		PQfinish(conn);
	}
	PG_END_TRY();
	return same;
}

/* The connection strings of all live peers. */
static List *
live_peers(void)
{
	List *peers = NIL;
	DcNode *nodes = palloc(sizeof(DcNode) * dc_shared->node_count);

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	memcpy(nodes, dc_shared->nodes, sizeof(DcNode) * dc_shared->node_count);
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		if (nodes[i].node_id != 0 && !nodes[i].local &&
			(nodes[i].state == DC_NODE_ALIVE ||
			 nodes[i].state == DC_NODE_SUSPECT))
			peers = lappend(peers, pstrdup(nodes[i].conninfo));
	}
	return peers;
}

static bool
all_agree(TimestampTz deadline)
{
	StringInfo own = fingerprint();
	ListCell *cell;

	foreach (cell, live_peers())
	{
		char *conninfo = lfirst(cell);

		if (*conninfo == '\0' || dc_conninfo_complaint(conninfo) != NULL ||
			!peer_agrees(conninfo, own, deadline))
			return false;
	}
	return true;
}

/* datacake.verify(timeout) returns boolean */
Datum
datacake_verify(PG_FUNCTION_ARGS)
{
	Interval *timeout = PG_GETARG_INTERVAL_P(0);
	TimestampTz deadline = DatumGetTimestampTz(
		DirectFunctionCall2(timestamptz_pl_interval,
							TimestampTzGetDatum(GetCurrentTimestamp()),
							IntervalPGetDatum(timeout)));

	dc_require_loaded();
	dc_require_ready();
	while (!all_agree(deadline))
	{
		if (GetCurrentTimestamp() >= deadline)
			PG_RETURN_BOOL(false);
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 RETRY_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	PG_RETURN_BOOL(true);
}
