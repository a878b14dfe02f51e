/*
 * peer_stream.c
 *		Takes the calls of a peer's replicator, as they come.
 *
 * CALL datacake.peer_stream() turns an open session for changes into a stream
 * in both directions, as COPY does for a standby:
 *
 *	   peer    CopyData  call, call, call ...
 *	   here    CopyData  ack of all calls up to number n ...
 *
 * Calls that have arrived together are carried out in one transaction, with
 * one flush, and are acknowledged together: under load a call costs its rows,
 * not a statement and a flush.  The stream ends with the connection, or with
 * the first error (see on_transaction_event() in peer.c).
 *
 * As in VACUUM, which commits as often as it likes, no transaction is open
 * between calls: nothing is held, and now() is the time of the call.
 */
#include "postgres.h"

/* struct Port names types of GSSAPI, whose headers nothing else here needs */
#undef ENABLE_GSS

#include "access/xact.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "libpq/libpq.h"
#include "libpq/pqformat.h"
#include "miscadmin.h"
#include "nodes/parsenodes.h"
#include "pgstat.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/sinval.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "peer.h"
#include "shmem.h"

DC_SQL_FUNCTION(datacake_peer_stream);

#define GROUP_BYTES (1024 * 1024) /* calls join a transaction up to here */

/* --- the connection --- */

static void
begin_copy(void)
{
	StringInfoData message;

	pq_beginmessage(&message, 'W'); /* CopyBothResponse: binary, no columns */
	pq_sendbyte(&message, 1);
	pq_sendint16(&message, 0);
	pq_endmessage(&message);
	pq_flush();
}

/* What the main loop of a backend does between two statements. */
static void
housekeep(void)
{
	CHECK_FOR_INTERRUPTS();
	if (catchupInterruptPending)
		ProcessCatchupInterrupt();
	if (!ConfigReloadPending)
		return;
	ConfigReloadPending = false;
	ProcessConfigFile(PGC_SIGHUP);
}

static void
wait_for_socket(void)
{
	long timeout_ms = pgstat_report_stat(false);
	WaitEvent event;

	pgstat_report_activity(STATE_IDLE, NULL);
	(void) WaitEventSetWait(FeBeWaitSet, timeout_ms > 0 ? timeout_ms : -1,
							&event, 1, WAIT_EVENT_CLIENT_READ);
	if (event.events & WL_POSTMASTER_DEATH)
		proc_exit(1);
	ResetLatch(MyLatch);
}

/* The first byte of a message; sleeps until there is one. */
static unsigned char
await_message(void)
{
	unsigned char first;
	int got;

	for (;;)
	{
		housekeep();
		pq_startmsgread();
		got = pq_getbyte_if_available(&first);
		if (got != 0)
			break;
		pq_endmsgread();
		wait_for_socket();
	}
	if (got < 0)
		proc_exit(0); /* the peer closed the connection */
	return first;
}

/* The rest of a message; false: it is no call, and the stream ends. */
static bool
read_message(unsigned char first, StringInfo message)
{
	resetStringInfo(message);
	if (pq_getmessage(message, first == 'd' ? MaxAllocSize - 1 : 10000) != 0)
		proc_exit(0);
	if (first == 'X')
		proc_exit(0);
	if (first != 'd' && first != 'c')
		ereport(ERROR,
				(errcode(ERRCODE_PROTOCOL_VIOLATION),
				 errmsg("unexpected message type 0x%02X in a stream of calls",
						first)));
	return first == 'd';
}

/* Another message that is here already, without asking the system. */
static bool
read_waiting(StringInfo message, bool *ends)
{
	int first;

	if (!pq_buffer_has_data())
		return false;
	pq_startmsgread();
	first = pq_getbyte();
	if (first == EOF)
		proc_exit(0);
	*ends = !read_message((unsigned char) first, message);
	return !*ends;
}

static void
send_ack(uint64 number, DcSlice sealed)
{
	StringInfoData message;

	pq_beginmessage(&message, 'd');
	pq_sendint64(&message, number);
	pq_sendbytes(&message, (const char *) sealed.data, (int) sealed.length);
	pq_endmessage(&message);
	pq_flush();
}

/* --- calls --- */

/*
 * The call in `message`, and those behind it that may join it, in a transaction
 * of their own.  Returns the ack, in the caller's memory.  *ends: the stream
 * does, after this.
 */
static DcSlice
carry_out(StringInfo message, bool *ends)
{
	MemoryContext caller = CurrentMemoryContext;
	Size bytes = 0;
	DcPeerCalls *calls;
	DcApplied result;
	bool joins;
	DcRole role;

	pgstat_report_activity(STATE_RUNNING, NULL);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
	SPI_connect();
	calls = dc_peer_calls_begin(&role);
	do
	{
		bytes += (Size) message->len;
		joins = dc_peer_calls_add(calls, (DcSlice){(uint8 *) message->data,
												   (Size) message->len});
	} while (joins && bytes < GROUP_BYTES && read_waiting(message, ends));
	result = dc_peer_calls_run(calls);
	dc_peer_calls_end(&role);
	SPI_finish();
	PopActiveSnapshot();
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return dc_peer_calls_ack(result);
}

static void
end_statement_transaction(void)
{
	while (ActiveSnapshotSet())
		PopActiveSnapshot();
	CommitTransactionCommand();
}

/* CALL datacake.peer_stream() */
Datum
datacake_peer_stream(PG_FUNCTION_ARGS)
{
	CallContext *context = (CallContext *) fcinfo->context;
	MemoryContext scratch;
	StringInfoData message;
	bool ends = false;

	dc_require_loaded();
	dc_peer_require_stream();
	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("datacake.peer_stream() cannot be called in a "
							   "transaction")));
	MemoryContextSwitchTo(PortalContext);
	scratch = AllocSetContextCreate(PortalContext, "datacake calls",
									ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&message);
	end_statement_transaction();
	begin_copy();
	while (!ends)
	{
		unsigned char first = await_message();

		if (!read_message(first, &message))
			break;
		MemoryContextSwitchTo(scratch);
		send_ack(dc_peer_sequence(), carry_out(&message, &ends));
		MemoryContextReset(scratch);
		MemoryContextSwitchTo(PortalContext);
		if (message.maxlen > GROUP_BYTES * 2)
		{
			pfree(message.data); /* of a row that is seldom so large */
			initStringInfo(&message);
		}
	}
	StartTransactionCommand();
	PG_RETURN_VOID();
}
