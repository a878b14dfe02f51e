/*
 * copy_peer.c
 *		Answering an empty node that copies this one (R6).
 *
 *	BEGIN     V is read, before any row
 *	ROWS ...  each range of a table under a snapshot of its own
 *	CHANGED   waits until all that those snapshots showed is merged; reads V
 *	          again; then every entry is looked at once, by key
 *	END       that V, and g, read after the last dead entry was sent
 *
 * That the copy then covers it is shown in doc/architecture.md.  Nothing is
 * kept here between two questions, but for the scan of CHANGED and its V.
 */
#include "postgres.h"

#include "access/xact.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/wait_event.h"

#include "catchup.h"
#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "metadata.h"
#include "peer.h"
#include "shmem.h"
#include "sql.h"
#include "standing.h"
#include "vector.h"

DC_SQL_FUNCTION(datacake_peer_copy);

#define ANSWER_BYTES (1024 * 1024)
#define LATER_MS     20
#define LATER_TRIES  250 /* then the copy is told that a table is locked */

static DcCatchup *changed; /* the scan of this session, or NULL */
static DcVv reached;       /* V, read before it, */
static DcDebts owed;       /* ... and what is owed below it */
static bool scanned;       /* a scan was ended in this session */
static bool counted;       /* this session is counted in copies_served */

static void
end_serving(int code, Datum arg)
{
	pg_atomic_fetch_sub_u32(&dc_shared->copies_served, 1);
}

static void
count_serving(void)
{
	if (counted)
		return;
	counted = true;
	pg_atomic_fetch_add_u32(&dc_shared->copies_served, 1);
	before_shmem_exit(end_serving, (Datum) 0);
}

/* --- the answers --- */

static int
compare_keyspaces(const void *left, const void *right)
{
	uint64 a = ((const DcCopyKeyspace *) left)->id;
	uint64 b = ((const DcCopyKeyspace *) right)->id;

	return a < b ? -1 : a > b;
}

static void
begin_copy(DcCopyAnswer *answer)
{
	dc_vector_read(&answer->vector); /* R6: before any row */
	answer->serving = pg_atomic_read_u32(&dc_shared->copies_served);
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		uint64 id = dc_keyspace(slot)->id;
		DcMetadataCounts counts;

		if (id == 0 || id == UINT64_MAX)
			continue;
		dc_metadata_count(slot, &counts);
		answer->keyspaces[answer->keyspace_count++] =
			(DcCopyKeyspace){.id = id, .rows = counts.live};
	}
	qsort(answer->keyspaces, answer->keyspace_count, sizeof(DcCopyKeyspace),
		  compare_keyspaces);
}

static void
wait_for_table(int *tries)
{
	if (++*tries > LATER_TRIES)
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("a table of the donor stays locked")));
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 LATER_MS, PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

static int
slot_of(uint64 keyspace)
{
	int slot = dc_keyspace_by_id(keyspace);

	if (slot < 0)
		dc_peer_refuse(DC_UNKNOWN_KEYSPACE, NULL);
	return slot;
}

static void
copy_rows(const DcCopyQuestion *question, DcCopyAnswer *answer,
		  StringInfo parts)
{
	int slot = slot_of(question->keyspace);
	DcCatchupResult result;
	int tries = 0;

	count_serving();
	answer->place = question->place;
	while ((result = dc_catchup_range(slot, &answer->place, ANSWER_BYTES, parts,
									  &answer->rows)) == DC_CATCHUP_LATER)
		wait_for_table(&tries);
	answer->done = result == DC_CATCHUP_END;
}

static void
begin_changed(const DcVv *above)
{
	if (changed != NULL)
		dc_catchup_end(changed);
	changed = NULL;
	scanned = false;
	dc_settling_await(); /* what the ranges showed has its entries by now */
	dc_vector_read_debts(&reached, &owed); /* R6: before the scan */
	changed = dc_catchup_begin_changed(TopMemoryContext, above);
}

static void
copy_changed(const DcCopyQuestion *question, DcCopyAnswer *answer,
			 StringInfo parts)
{
	DcCatchupResult result = DC_CATCHUP_CHUNK;
	int tries = 0;

	if (question->first)
		begin_changed(&question->vector);
	if (changed == NULL)
		dc_peer_refuse(DC_SESSION, "The scan of a copy was not begun.");
	while (result != DC_CATCHUP_END && parts->len < ANSWER_BYTES)
	{
		uint32 rows = 0;

		result = dc_catchup_next_here(changed, parts, &rows);
		answer->rows += rows;
		if (result == DC_CATCHUP_LATER)
			wait_for_table(&tries);
	}
	answer->done = result == DC_CATCHUP_END;
	if (!answer->done)
		return;
	dc_catchup_end(changed);
	changed = NULL;
	scanned = true;
}

static DcSlice
debts_bytes(void)
{
	DcWriter w;
	uint8 *bytes;

	dc_writer_init(&w, NULL, 0);
	dc_debts_encode(&w, &owed);
	bytes = palloc(w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_debts_encode(&w, &owed);
	return (DcSlice){bytes, w.length};
}

static void
end_copy(DcCopyAnswer *answer)
{
	if (!scanned)
		dc_peer_refuse(DC_SESSION, "The scan of a copy was not ended.");
	answer->vector = reached;
	answer->debts = debts_bytes();
	dc_standing_horizon(&answer->horizon);
}

static void
fill_answer(const DcCopyQuestion *question, DcCopyAnswer *answer,
			StringInfo parts)
{
	answer->kind = question->kind;
	switch (question->kind)
	{
		case DC_COPY_BEGIN:
			begin_copy(answer);
			return;
		case DC_COPY_WAITING:
			answer->after = dc_catchup_waiting(slot_of(question->keyspace),
											   question->after, parts);
			break;
		case DC_COPY_ROWS:
			copy_rows(question, answer, parts);
			break;
		case DC_COPY_CHANGED:
			copy_changed(question, answer, parts);
			break;
		case DC_COPY_END:
			end_copy(answer);
			return;
	}
	appendStringInfoChar(parts, DC_PART_END);
	dc_flush_all(); /* R3, P9: what was read may be visible and not flushed */
}

static bytea *
answer_question(DcSlice bytes)
{
	DcCopyQuestion *question = palloc(sizeof(DcCopyQuestion));
	DcCopyAnswer *answer = palloc0(sizeof(DcCopyAnswer));
	StringInfo parts = makeStringInfo();
	DcStatus status =
		dc_copy_question_decode(bytes.data, bytes.length, question);
	Size length;
	uint8 *out;
	DcWriter w;

	if (status != DC_OK)
		dc_peer_refuse(status, "Run compatible versions of Datacake.");
	fill_answer(question, answer, parts);
	dc_writer_init(&w, NULL, 0);
	dc_copy_answer_encode(&w, answer);
	length = w.length + (Size) parts->len;
	out = MemoryContextAllocHuge(CurrentMemoryContext, length);
	dc_writer_init(&w, out, length);
	w.version = dc_peer_version();
	dc_copy_answer_encode(&w, answer);
	memcpy(out + w.length, parts->data, (Size) parts->len);
	return dc_peer_seal(out, length);
}

/* datacake.peer_copy(bytea) returns bytea */
Datum
datacake_peer_copy(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(dc_peer_respond(PG_GETARG_BYTEA_PP(0), answer_question));
}
