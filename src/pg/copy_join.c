/*
 * copy_join.c
 *		An empty node copies the rows of another one, and then catches up.
 *
 *	choose a donor --> BEGIN: its V, its keyspaces          datacake.copy
 *	   for each keyspace, the catalogue first
 *	      WAITING   changes that wait in its quarantine
 *	      ROWS      ranges of its table       each with the place, in one
 *	   CHANGED      entries above V, and dead ones            transaction
 *	END: V, g --> adopt them --> links, ordinary catch-ups, comparing (R13)
 *
 * The question for the next range is sent before the last one is written, so
 * both nodes work at once.  A transaction of a range need not be flushed by
 * itself: the one that adopts V is, and all before it with it (R4).
 *
 * The place is good as long as both nodes keep their incarnations: what stands
 * before it is here, and the donor's rows stand where they stood.  Another
 * donor begins anew; what is here already is passed over by its entry.
 */
#include "copy_join.h"

#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "apply.h"
#include "caller.h"
#include "copy_donor.h"
#include "guc.h"
#include "metadata.h"
#include "progress.h"
#include "sql.h"
#include "standing.h"
#include "vector.h"

#define FAILURES_MAX  5     /* then it joins by catch-ups alone */
#define SAME_DONOR_MS 15000 /* one that is gone may come back */
#define THROTTLE_MS   200

typedef struct Copy
{
	void (*check)(void);
	MemoryContext context; /* of this attempt */
	MemoryContext scratch; /* of one answer */
	DcAsk *asking;
	uint32 donor;
	uint64 incarnation; /* the donor's */
	DcCopyAnswer *plan; /* what BEGIN told */
	uint32 at;          /* keyspace of the plan */
	DcCopyPlace place;
	uint64 rows;
	uint64 bytes;
	uint64 received;     /* of what was asked for, counted in `bytes` */
	TimestampTz next_at; /* the throttle lets the next range in */
	bool failed;
} Copy;

/* --- is it wanted? --- */

static bool
knows_no_source(void)
{
	bool blank = true;

	LWLockAcquire(DC_LOCK(DC_LOCK_VECTOR), LW_SHARED);
	for (uint32 id = 1; id < DC_NODE_IDS && blank; id++)
		blank = id == (uint32) datacake_node_id ||
				dc_shared->vector.at[id] == DC_HLC_NONE;
	LWLockRelease(DC_LOCK(DC_LOCK_VECTOR));
	return blank;
}

static bool
has_no_keyspace(void)
{
	for (int slot = 0; slot < dc_keyspace_slots(); slot++)
	{
		DcMetadataCounts counts;

		if (dc_keyspace(slot)->id == 0)
			continue;
		dc_metadata_count(slot, &counts);
		if (dc_keyspace(slot)->id != 1 || counts.live + counts.dead > 0)
			return false;
	}
	return true;
}

/* In this life of the node. */
static bool
is_over(void)
{
	return pg_atomic_read_u64(&dc_shared->copy_over) == dc_standing_life() + 1;
}

static void
set_over(void)
{
	pg_atomic_write_u64(&dc_shared->copy_over, dc_standing_life() + 1);
}

bool
dc_copy_wanted(void)
{
	return dc_phase() == DC_PHASE_READY && !is_over() && knows_no_source() &&
		   (dc_standing_joining() ||
			pg_atomic_read_u32(&dc_shared->copy_begun) != 0 ||
			has_no_keyspace());
}

void
dc_copy_load(uint64 incarnation)
{
	const char *own = dc_sql_number(incarnation);
	bool begun = dc_sql("SELECT 1 FROM datacake.copy WHERE incarnation = "
						"$1::bigint",
						1, &own) == 1;

	pg_atomic_write_u64(&dc_shared->copy_over, 0);
	pg_atomic_write_u32(&dc_shared->copy_begun, begun);
}

/* --- the place, in datacake.copy --- */

static char *
as_hex(const uint8 *bytes, Size length)
{
	char *text = palloc(length * 2 + 3);

	strcpy(text, "\\x");
	(void) hex_encode((const char *) bytes, length, text + 2);
	text[length * 2 + 2] = '\0';
	return text;
}

static void
begin_transaction(bool flush)
{
	dc_transaction_begin();
	if (!flush)
		(void) set_config_option("synchronous_commit", "off", PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_LOCAL, true, 0,
								 false);
}

static void
save_plan(Copy *copy)
{
	const char *arguments[4] = {dc_sql_number(dc_shared->incarnation),
								dc_sql_number(copy->donor),
								dc_sql_number(copy->incarnation)};
	DcWriter w;
	uint8 *bytes;

	dc_writer_init(&w, NULL, 0);
	dc_copy_answer_encode(&w, copy->plan);
	bytes = palloc(w.length);
	dc_writer_init(&w, bytes, w.length);
	dc_copy_answer_encode(&w, copy->plan);
	arguments[3] = as_hex(bytes, w.length);
	dc_sql("DELETE FROM datacake.copy", 0, NULL);
	dc_sql("INSERT INTO datacake.copy (incarnation, donor, donor_incarnation, "
		   "plan) VALUES ($1::bigint, $2::int, $3::bigint, $4::bytea)",
		   4, arguments);
}

static void
save_place(const Copy *copy)
{
	const char *arguments[6] = {dc_sql_number(copy->at),
								dc_sql_number(copy->place.file),
								dc_sql_number(copy->place.block),
								dc_sql_number(copy->place.offset),
								dc_sql_number(copy->rows),
								dc_sql_number(copy->bytes)};

	dc_sql("UPDATE datacake.copy SET keyspaces_done = $1::int, "
		   "file = $2::bigint, block = $3::bigint, line = $4::int, "
		   "rows = $5::bigint, bytes = $6::bigint",
		   6, arguments);
}

static DcCopyAnswer *
decode_plan(const char *hex)
{
	DcCopyAnswer *plan = palloc(sizeof(DcCopyAnswer));
	Size length = (strlen(hex) - 2) / 2;
	uint8 *bytes = palloc(length + 1);

	(void) hex_decode(hex + 2, strlen(hex) - 2, (char *) bytes);
	if (dc_copy_answer_decode(bytes, length, plan) != DC_OK)
		return NULL;
	return plan;
}

/* False: there is none, or of another life of this node. */
static bool
load_place(Copy *copy)
{
	const char *own = dc_sql_number(dc_shared->incarnation);
	bool found;

	dc_transaction_begin();
	found = dc_sql("SELECT donor, donor_incarnation, plan, keyspaces_done, "
				   "file, block, line, rows, bytes FROM datacake.copy "
				   "WHERE incarnation = $1::bigint",
				   1, &own) == 1;
	if (found)
	{
		MemoryContext old = MemoryContextSwitchTo(copy->context);

		copy->donor = (uint32) atoi(dc_sql_text(0, 1));
		copy->incarnation = strtoull(dc_sql_text(0, 2), NULL, 10);
		copy->plan = decode_plan(dc_sql_text(0, 3));
		copy->at = (uint32) atoi(dc_sql_text(0, 4));
		copy->place =
			(DcCopyPlace){.file = (uint32) strtoul(dc_sql_text(0, 5), NULL, 10),
						  .block =
							  (uint32) strtoul(dc_sql_text(0, 6), NULL, 10),
						  .offset = (uint16) atoi(dc_sql_text(0, 7))};
		copy->rows = strtoull(dc_sql_text(0, 8), NULL, 10);
		copy->bytes = strtoull(dc_sql_text(0, 9), NULL, 10);
		MemoryContextSwitchTo(old);
	}
	dc_transaction_commit(copy->context);
	return found && copy->plan != NULL;
}

/* --- asking --- */

static void
send_question(Copy *copy, const DcCopyQuestion *question)
{
	dc_copy_send(copy->asking, copy->donor, question);
}

/* The parts are valid until they are stored. */
static void
receive_answer(Copy *copy, DcCopyKind kind, DcCopyAnswer *answer)
{
	MemoryContext old = MemoryContextSwitchTo(copy->scratch);
	uint64 incarnation =
		dc_copy_receive(copy->asking, copy->donor, kind, answer);
	uint64 received = dc_ask_stats(copy->asking)->received_bytes;

	MemoryContextSwitchTo(old);
	if (incarnation != copy->incarnation)
		ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '1')),
						errmsg("node %u goes on as another incarnation",
							   copy->donor)));
	copy->bytes += received - copy->received;
	copy->received = received;
}

static void
ask(Copy *copy, const DcCopyQuestion *question, DcCopyAnswer *answer)
{
	send_question(copy, question);
	receive_answer(copy, question->kind, answer);
}

/* --- writing --- */

static void
show(const Copy *copy, const char *phase)
{
	DcProgress progress = {.node_id = copy->donor,
						   .rows_done = copy->rows,
						   .bytes = copy->bytes};

	strlcpy(progress.phase, phase, sizeof(progress.phase));
	for (uint32 i = 0; i < copy->plan->keyspace_count; i++)
		progress.rows_estimated += copy->plan->keyspaces[i].rows;
	if (copy->at < copy->plan->keyspace_count)
		progress.keyspace = copy->plan->keyspaces[copy->at].id;
	dc_progress_copy(&progress);
}

/* datacake.join_rate; may be changed while it waits. */
static void
throttle(Copy *copy, Size bytes)
{
	TimestampTz now = GetCurrentTimestamp();
	int rate_kb = datacake_join_rate_kb;

	if (rate_kb == 0)
		return;
	copy->next_at =
		Max(copy->next_at, now) +
		(TimestampTz) (bytes * USECS_PER_SEC / ((Size) rate_kb * 1024));
	while ((now = GetCurrentTimestamp()) < copy->next_at &&
		   datacake_join_rate_kb == rate_kb)
	{
		long left_ms = (long) ((copy->next_at - now) / 1000) + 1;

		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 Min(left_ms, THROTTLE_MS), PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		copy->check();
	}
}

static void
apply_parts(DcSlice parts)
{
	DcApplySet *set = dc_apply_begin(false);
	DcPart *part = palloc0(sizeof(DcPart));
	DcReader r;

	dc_apply_copied(set);
	dc_reader_init(&r, parts.data, parts.length);
	while (dc_call_read_part(&r, part))
	{
		if (part->kind != DC_PART_CATCHUP)
			dc_reader_fail(&r, DC_MALFORMED);
		if (r.status == DC_OK)
			dc_apply_add(set, part->batch, false);
	}
	if (dc_reader_finish(&r) != DC_OK)
		ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '1', '1')),
						errmsg("answer of a copy is malformed")));
	(void) dc_apply_run(set);
}

/* Rows, and the place behind them, in one transaction. */
static void
store(Copy *copy, const DcCopyAnswer *answer, uint32 at, DcCopyPlace place,
	  const char *phase)
{
	begin_transaction(false);
	apply_parts(answer->parts);
	copy->rows += answer->rows;
	copy->at = at;
	copy->place = place;
	save_place(copy);
	dc_transaction_commit(copy->context);
	show(copy, phase);
	MemoryContextReset(copy->scratch);
	copy->check();
	throttle(copy, answer->parts.length);
}

/* --- one keyspace, and what comes after all of them --- */

static void
copy_waiting(Copy *copy)
{
	DcCopyAnswer *answer =
		MemoryContextAlloc(copy->context, sizeof(DcCopyAnswer));
	DcCopyQuestion *question =
		MemoryContextAllocZero(copy->context, sizeof(DcCopyQuestion));
	uint8 *key = MemoryContextAlloc(copy->context, DC_KEY_BYTES_MAX);

	question->kind = DC_COPY_WAITING;
	question->keyspace = copy->plan->keyspaces[copy->at].id;
	for (;;)
	{
		ask(copy, question, answer);
		if (answer->after.length == 0)
			break;
		memcpy(key, answer->after.data, answer->after.length);
		question->after = (DcSlice){key, answer->after.length};
		store(copy, answer, copy->at, copy->place, "copying rows");
	}
	pfree(key);
	pfree(question);
	pfree(answer);
}

static void
copy_table(Copy *copy)
{
	DcCopyAnswer *answer =
		MemoryContextAlloc(copy->context, sizeof(DcCopyAnswer));
	DcCopyQuestion *question =
		MemoryContextAllocZero(copy->context, sizeof(DcCopyQuestion));
	bool done = false;

	question->kind = DC_COPY_ROWS;
	question->keyspace = copy->plan->keyspaces[copy->at].id;
	question->place = copy->place;
	send_question(copy, question);
	while (!done)
	{
		receive_answer(copy, DC_COPY_ROWS, answer);
		done = answer->done;
		question->place = answer->place;
		if (!done)
			send_question(copy, question); /* the donor reads while we write */
		store(copy, answer, copy->at + done,
			  done ? (DcCopyPlace){0} : answer->place, "copying rows");
	}
	pfree(question);
	pfree(answer);
}

static void
copy_changed(Copy *copy)
{
	DcCopyAnswer *answer =
		MemoryContextAlloc(copy->context, sizeof(DcCopyAnswer));
	DcCopyQuestion *question =
		MemoryContextAllocZero(copy->context, sizeof(DcCopyQuestion));
	bool done = false;

	question->kind = DC_COPY_CHANGED;
	question->first = true;
	question->vector = copy->plan->vector;
	send_question(copy, question);
	question->first = false;
	show(copy, "copying changes");
	while (!done)
	{
		receive_answer(copy, DC_COPY_CHANGED, answer);
		done = answer->done;
		if (!done)
			send_question(copy, question);
		answer->rows = 0; /* beyond what was estimated */
		store(copy, answer, copy->at, copy->place, "copying changes");
	}
	pfree(question);
	pfree(answer);
}

/*
 * R6: everything of the V that END tells is here.  Of an empty node's own V nothing
 * is asked.  A node that should join and does not yet know waits for that.
 */
static bool
adopt(Copy *copy)
{
	DcCopyQuestion question = {.kind = DC_COPY_END};
	DcCopyAnswer *answer =
		MemoryContextAlloc(copy->context, sizeof(DcCopyAnswer));
	DcVv *base = MemoryContextAlloc(copy->context, sizeof(DcVv));

	ask(copy, &question, answer);
	if (dc_standing_behind(copy->donor, &answer->horizon))
		return false;
	dc_vv_init(base);
	begin_transaction(true);
	dc_vector_plan_adopt(0, &answer->vector, base, answer->debts,
						 &answer->horizon);
	save_place(copy); /* so that something is committed, and flushed */
	dc_transaction_commit(copy->context);
	return true;
}

/* --- the donor --- */

static bool
choose_donor(Copy *copy, uint32 failed)
{
	int candidates;
	DcCopyDonor donor = dc_copy_choose_donor(failed, copy->check, &candidates);

	copy->donor = donor.node_id;
	copy->incarnation = donor.incarnation;
	copy->failed = donor.node_id == 0 && candidates > 0;
	if (donor.node_id == 0)
		return false;
	copy->plan = donor.plan;
	copy->at = 0;
	copy->place = (DcCopyPlace){0};
	copy->rows = copy->bytes = 0;
	begin_transaction(true);
	save_plan(copy);
	dc_transaction_commit(copy->context);
	pg_atomic_write_u32(&dc_shared->copy_begun, 1);
	ereport(LOG, (errmsg("datacake node %d copies node %u", datacake_node_id,
						 copy->donor)));
	return true;
}

/* The donor of the place on disk, if it is there and who it was. */
static bool
resume(Copy *copy)
{
	const char *complaint;
	int sqlstate;
	DcPeer peer;

	if (!load_place(copy))
		return false;
	complaint = dc_dialog_find(copy->donor, &peer, &sqlstate);
	if (complaint != NULL)
		ereport(ERROR, (errcode(sqlstate), errmsg("%s", complaint)));
	if (peer.incarnation != copy->incarnation)
		return false;
	ereport(LOG, (errmsg("datacake node %d goes on copying node %u behind %llu "
						 "rows",
						 datacake_node_id, copy->donor,
						 (unsigned long long) copy->rows)));
	return true;
}

/* --- all of it --- */

/* False: there is nobody to copy, or the node must become a joiner first. */
static bool
copy_all(Copy *copy, uint32 failed)
{
	if ((failed != 0 || !resume(copy)) && !choose_donor(copy, failed))
		return false;
	show(copy, "copying rows");
	while (copy->at < copy->plan->keyspace_count)
	{
		if (copy->place.file == 0)
			copy_waiting(copy);
		copy_table(copy);
	}
	copy_changed(copy);
	return adopt(copy);
}

/* An error is logged; true: it is over. */
static bool
attempt(Copy *copy, uint32 failed)
{
	volatile bool done = false;

	PG_TRY();
	{
		done = copy_all(copy, failed);
	}
	PG_CATCH();
	{
		ErrorData *error;

		MemoryContextSwitchTo(copy->context);
		error = CopyErrorData();
		FlushErrorState();
		dc_transaction_abort();
		MemoryContextSwitchTo(copy->context);
		ereport(LOG, (errmsg("copying node %u stopped: %s", copy->donor,
							 error->message)));
		copy->failed = true;
	}
	PG_END_TRY();
	dc_progress_copy(NULL);
	return done;
}

/*
 * What failed, since when, and how often without a step forward.  The same
 * donor may come back for a while; then it is another one's turn.
 */
static struct
{
	uint32 donor;
	int count;
	TimestampTz since;
	uint64 rows;
} failures;

static bool
donor_may_return(void)
{
	return !TimestampDifferenceExceeds(failures.since, GetCurrentTimestamp(),
									   SAME_DONOR_MS) &&
		   (failures.donor == 0 || !dc_copy_donor_is_gone(failures.donor));
}

static void
note_failure(const Copy *copy)
{
	if (failures.count == 0 || copy->rows > failures.rows ||
		copy->donor != failures.donor)
	{
		failures.count = 0;
		failures.since = GetCurrentTimestamp();
	}
	failures.count++;
	failures.donor = copy->donor;
	failures.rows = copy->rows;
	if (failures.count < FAILURES_MAX || donor_may_return())
		return;
	if (copy->donor != 0)
		return; /* another one may be there */
	set_over();
	ereport(LOG, (errmsg("datacake node %d joins by catch-ups alone",
						 datacake_node_id)));
}

void
dc_copy_run(void (*check)(void))
{
	MemoryContext old = CurrentMemoryContext;
	bool other = failures.count > 0 && !donor_may_return();
	Copy copy = {.check = check};
	bool done;

	if (!dc_copy_wanted())
		return;
	copy.context =
		AllocSetContextCreate(old, "datacake copy", ALLOCSET_DEFAULT_SIZES);
	copy.scratch = AllocSetContextCreate(copy.context, "datacake copy range",
										 ALLOCSET_DEFAULT_SIZES);
	MemoryContextSwitchTo(copy.context);
	copy.asking = dc_copy_begin_asking(check);
	done = attempt(&copy, other ? failures.donor : 0);
	if (copy.failed)
		note_failure(&copy);
	MemoryContextSwitchTo(old);
	MemoryContextDelete(copy.context);
	if (!done)
		return;
	failures.count = 0;
	set_over();
	ereport(LOG,
			(errmsg("datacake node %d has copied all rows", datacake_node_id)));
}
