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
 * Calls that have arrived together are carried out in one transaction, which
 * commits asynchronously: its rows are seen at once.  Calls are flushed, and
 * acknowledged, together: as soon as one is among them that somebody waits for,
 * else after some milliseconds.  Under load a call costs its rows, not a
 * statement, a flush and an ack.  The stream ends with the connection, or with
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
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "compat.h"
#include "peer.h"
#include "schedule.h"
#include "shmem.h"
#include "walwriter.h"

DC_SQL_FUNCTION(datacake_peer_stream);

#define GROUP_BYTES (1024 * 1024) /* calls join a transaction up to here */

/*
 * Nobody waits for these: flushed when so old, so large, or so many.  A flush
 * more keeps the disk from those that somebody waits for.
 */
#define FLUSH_US    20000
#define FLUSH_BYTES (1024 * 1024)
#define FLUSH_CALLS 128 /* the peer has twice as many under way */

/* What was carried out and is not acknowledged yet. */
typedef struct Taken
{
	uint32 calls;
	Size bytes;
	bool urgent;
	TimestampTz since; /* the first of them was */
	DcApplied result;
} Taken;

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

/* Milliseconds until what was taken must be flushed; the clock may be set back. */
static long
flush_in(const Taken *taken)
{
	int64 age_us = GetCurrentTimestamp() - taken->since;

	return age_us >= 0 && age_us < FLUSH_US ?
			   (long) ((FLUSH_US - age_us) / 1000) + 1 :
			   0;
}

static void
wait_for_socket(const Taken *taken)
{
	long timeout_ms = pgstat_report_stat(false);
	WaitEvent event = {0};

	if (taken->calls > 0)
		timeout_ms = Max(flush_in(taken), 1);
	pgstat_report_activity(STATE_IDLE, NULL);
	(void) WaitEventSetWait(FeBeWaitSet, timeout_ms > 0 ? timeout_ms : -1,
							&event, 1, WAIT_EVENT_CLIENT_READ);
	if (event.events & WL_POSTMASTER_DEATH)
		proc_exit(1);
	ResetLatch(MyLatch);
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

/* --- acks --- */

static bool
must_flush(const Taken *taken)
{
	return taken->calls > 0 &&
		   (taken->urgent || taken->calls >= FLUSH_CALLS ||
			taken->bytes >= FLUSH_BYTES || flush_in(taken) == 0);
}

static void
acknowledge(Taken *taken)
{
	uint64 held_us = (uint64) (GetCurrentTimestamp() - taken->since);
	DcSlice ack =
		dc_peer_calls_ack(taken->result, (uint32) Min(held_us, UINT32_MAX));

	dc_walwriter_wake();
	send_ack(dc_peer_sequence(), ack);
	memset(taken, 0, sizeof(*taken));
}

/* The first byte of a message; sleeps until there is one, and flushes in time. */
static unsigned char
await_message(Taken *taken)
{
	unsigned char first;
	int got;

	for (;;)
	{
		housekeep();
		if (must_flush(taken))
			acknowledge(taken);
		pq_startmsgread();
		got = pq_getbyte_if_available(&first);
		if (got != 0)
			break;
		pq_endmsgread();
		wait_for_socket(taken);
	}
	if (got < 0)
		proc_exit(0); /* the peer closed the connection */
	return first;
}

/* --- calls --- */

static void
count(Taken *taken, uint32 calls, Size bytes, DcApplied result, bool urgent)
{
	if (taken->calls == 0)
		taken->since = GetCurrentTimestamp();
	taken->calls += calls;
	taken->bytes += bytes;
	taken->urgent |= urgent;
	taken->result.applied += result.applied;
	taken->result.stale += result.stale;
	taken->result.waiting += result.waiting;
}

/*
 * The call in `message`, and those behind it that may join it, in a transaction
 * of their own.  *ends: the stream does, after this.
 */
static void
carry_out(StringInfo message, Taken *taken, bool *ends)
{
	MemoryContext caller = CurrentMemoryContext;
	Size bytes = 0;
	uint32 n = 0;
	DcPeerCalls *calls;
	DcApplied result;
	bool urgent;
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
		n++;
		joins = dc_peer_calls_add(calls, (DcSlice){(uint8 *) message->data,
												   (Size) message->len});
	} while (joins && bytes < GROUP_BYTES && read_waiting(message, ends));
	result = dc_peer_calls_run(calls, &urgent);
	dc_peer_calls_end(&role);
	SPI_finish();
	PopActiveSnapshot();
	if (taken->calls > 0 && !urgent)
		dc_walwriter_mute(); /* we flush soon */
	CommitTransactionCommand();
	dc_walwriter_unmute();
	MemoryContextSwitchTo(caller);
	count(taken, n, bytes, result, urgent);
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
	Taken taken = {0};
	bool ends = false;

	dc_require_loaded();
	dc_peer_begin_stream();
	if (context == NULL || !IsA(context, CallContext) || context->atomic)
		ereport(ERROR, (errcode(ERRCODE_INVALID_TRANSACTION_TERMINATION),
						errmsg("datacake.peer_stream() cannot be called in a "
							   "transaction")));
	dc_schedule_gently();
	MemoryContextSwitchTo(PortalContext);
	scratch = AllocSetContextCreate(PortalContext, "datacake calls",
									ALLOCSET_DEFAULT_SIZES);
	initStringInfo(&message);
	end_statement_transaction();
	begin_copy();
	MemoryContextSwitchTo(scratch);
	while (!ends)
	{
		if (!read_message(await_message(&taken), &message))
			break;
		carry_out(&message, &taken, &ends);
		MemoryContextReset(scratch);
		if (message.maxlen > GROUP_BYTES * 2)
		{
			pfree(message.data); /* of a row that is seldom so large */
			MemoryContextSwitchTo(PortalContext);
			initStringInfo(&message);
			MemoryContextSwitchTo(scratch);
		}
	}
	if (taken.calls > 0)
		acknowledge(&taken);
	StartTransactionCommand();
	PG_RETURN_VOID();
}
