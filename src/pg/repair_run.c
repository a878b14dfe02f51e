/*
 * repair_run.c
 *		Comparing this node with a peer and mending both (R9).
 *
 * The order matters: the scrub first, so that what is compared is true of the
 * table; then the entries; then, if asked for, the images of rows whose
 * entries agree.
 */
#include "repair_run.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "apply.h"
#include "caller.h"
#include "catchup.h"
#include "clock.h"
#include "guc.h"
#include "keyspace.h"
#include "message.h"
#include "rejoin.h"
#include "scrub.h"
#include "sql.h"
#include "vector.h"

#define ROWS_BYTES   ((Size) 512 * 1024)
#define ROWS_KEYS    2048
#define IMAGES_BYTES ((Size) 256 * 1024)
#define LOCKED_TRIES 50 /* at a table that somebody keeps locked */
#define LOCKED_MS    100
#define ANSWER_MS    600000 /* a scan of a large table */

typedef struct Run
{
	const DcRepairPlan *plan;
	DcRepairOutcome *out;
	void (*check)(void);
	MemoryContext context; /* of this run */
	MemoryContext scratch; /* of one message */
	int slot;
	uint32 generation;
	DcAsk *asking;
	DcVv vector;
	DcHlc peer_floor; /* as last told */
	DcKeyList fetch;  /* keys whose rows the peer has */
	DcKeyList push;   /* ... and which it lacks */
	DcKeyList dead;   /* joining: rows the peer does not know, but covers */
	DcKeyList alone;  /* ... and does not cover */
	DcKeyList kept;   /* live on one side, claimed purged by the other */
	uint8 question[DC_REPAIR_MESSAGE_MAX];
} Run;

/* The keyspace may have gone, and another one taken its slot. */
static void
require_keyspace(const Run *run)
{
	dc_keyspace_require(run->slot, run->generation, run->plan->keyspace);
}

static void
begin_question(Run *run, DcWriter *w, DcRepairKind kind)
{
	DcRepairHead head = {.kind = kind,
						 .keyspace = run->plan->keyspace,
						 .floor = dc_floor(run->slot)};

	require_keyspace(run);
	dc_writer_init(w, run->question, sizeof(run->question));
	w->version = dc_wire_version(run->plan->node_id);
	dc_repair_head_encode(w, &head);
}

/* Asks; the reader stands behind the head of the answer. */
static void
ask(Run *run, const DcWriter *w, DcRepairKind kind, DcReader *answer)
{
	DcSlice bytes;

	if (w->status != DC_OK)
		elog(ERROR, "question of a repair is too long");
	bytes = dc_ask_one(run->asking, run->plan->node_id, w->data, w->length);
	dc_reader_init(answer, bytes.data, bytes.length);
	dc_read_version(answer);
	if (dc_read_u8(answer) != 'R' || dc_read_u8(answer) != (uint8_t) kind)
		dc_reader_fail(answer, DC_MALFORMED);
	run->peer_floor = dc_read_u64(answer);
}

static void
require_good(const Run *run, DcStatus status)
{
	if (status == DC_OK)
		return;
	ereport(ERROR, (errcode(dc_sqlstate(status)),
					errmsg("answer of node %u is refused: %s",
						   run->plan->node_id, dc_status_text(status))));
}

/* --- rows --- */

/* The rows of keys that the peer lacks, as parts; how many keys. */
static uint32
read_rows(Run *run, StringInfo parts)
{
	MemoryContext context = CurrentMemoryContext;
	DcKeyList *push = &run->push;
	uint32 taken = 0;
	uint32 rows = 0;

	if (push->at == push->count)
		return 0;
	for (int i = 0; taken == 0 && i < LOCKED_TRIES; i++)
	{
		dc_transaction_begin();
		MemoryContextSwitchTo(run->scratch);
		taken = dc_catchup_rows(run->slot, push->keys + push->at,
								push->count - push->at, ROWS_BYTES, parts,
								&rows, NULL);
		dc_transaction_commit(context);
		if (taken > 0)
			break;
		(void) WaitLatch(MyLatch,
						 WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 LOCKED_MS, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
		if (run->check != NULL)
			run->check();
	}
	if (taken == 0)
		ereport(ERROR, (errcode(ERRCODE_LOCK_NOT_AVAILABLE),
						errmsg("table of keyspace %llu stays locked",
							   (unsigned long long) run->plan->keyspace)));
	dc_flush_all(); /* R3 */
	return taken;
}

/* A TRUNCATE that the peer does not know. */
static void
read_floor(Run *run, StringInfo parts)
{
	MemoryContext context = CurrentMemoryContext;

	dc_transaction_begin();
	MemoryContextSwitchTo(run->scratch);
	dc_catchup_floor(run->slot, parts);
	dc_transaction_commit(context);
	dc_flush_all();
}

static void
apply_parts(Run *run, DcReader *answer, bool again)
{
	MemoryContext context = CurrentMemoryContext;
	DcApplySet *set;
	DcPart *part;
	bool any = false;

	dc_transaction_begin();
	set = dc_apply_begin(false);
	part = palloc0(sizeof(DcPart));
	while (dc_call_read_part(answer, part))
	{
		if (part->kind != DC_PART_CATCHUP)
			dc_reader_fail(answer, DC_MALFORMED);
		if (answer->status == DC_OK)
			dc_apply_add(set, part->batch, false);
		any = true;
	}
	require_good(run, dc_reader_finish(answer));
	if (again)
		dc_apply_again(set);
	if (any)
		run->out->fetched += dc_apply_run(set).applied;
	dc_transaction_commit(context);
}

/* One exchange: rows of run->push there, rows of run->fetch here. */
static uint32
exchange_rows(Run *run, bool again)
{
	StringInfoData question;
	StringInfoData parts;
	DcKeyList *fetch = &run->fetch;
	uint32 wanted = Min(fetch->count - fetch->at, ROWS_KEYS);
	uint32 pushed;
	uint32 taken;
	DcReader answer;
	DcWriter w;

	MemoryContextReset(run->scratch);
	MemoryContextSwitchTo(run->scratch);
	initStringInfo(&question);
	initStringInfo(&parts);
	MemoryContextSwitchTo(run->context);
	begin_question(run, &w, DC_REPAIR_ROWS);
	for (uint32 i = 0; i < wanted; i++)
	{
		DcSlice key = fetch->keys[fetch->at + i];

		if (w.length + key.length > sizeof(run->question) - 64)
			break;
		dc_write_string(&w, key.data, key.length);
	}
	dc_write_varint(&w, 0);
	dc_write_u8(&w, again);
	pushed = read_rows(run, &parts);
	if (dc_floor(run->slot) > run->peer_floor && !run->plan->rejoin)
		read_floor(run, &parts);
	appendBinaryStringInfo(&question, (char *) w.data, (int) w.length);
	appendBinaryStringInfo(&question, parts.data, parts.len);
	appendStringInfoChar(&question, DC_PART_END);
	w.data = (uint8 *) question.data;
	w.length = (size_t) question.len;
	ask(run, &w, DC_REPAIR_ROWS, &answer);
	taken = (uint32) dc_read_varint(&answer, wanted);
	run->out->pushed += dc_read_u32(&answer);
	(void) dc_read_u32(&answer);
	(void) dc_read_u32(&answer);
	require_good(run, answer.status);
	apply_parts(run, &answer, again);
	fetch->at += taken;
	run->push.at += pushed;
	return taken + pushed;
}

/* Until both lists are worked off. */
static void
move_rows(Run *run, bool again)
{
	int tries = 0;

	while (run->fetch.at < run->fetch.count || run->push.at < run->push.count)
	{
		if (exchange_rows(run, again) > 0)
			tries = 0;
		else if (++tries == LOCKED_TRIES)
			break; /* the peer's table stays locked: another time */
		if (run->check != NULL)
			run->check();
	}
	dc_key_list_clear(&run->fetch);
	dc_key_list_clear(&run->push);
}

/* --- the scrub --- */

static void
warn_lost(const Run *run, uint32 count)
{
	if (count > 0)
		ereport(WARNING,
				(errcode(MAKE_SQLSTATE('Y', 'D', '0', '3', '0')),
				 errmsg("%u rows of keyspace %llu are lost here and not on "
						"node %u either",
						count, (unsigned long long) run->plan->keyspace,
						run->plan->node_id),
				 errhint("Were they removed while the triggers of the table "
						 "were disabled?  DELETE their keys, or compare with "
						 "another node.")));
}

static void
scrub(Run *run)
{
	DcScrubbed done = dc_scrub(run->slot, &run->fetch, run->check);

	run->out->reading_us += done.reading_us;
	run->out->scrubbed = done.rows;
	run->out->mended = done.mended;
}

/* Rows that are gone or too old: the peer's are taken. */
static void
fetch_lost(Run *run)
{
	DcKeyList lost = run->fetch;
	DcKeyList copy;

	if (lost.count == 0)
		return;
	dc_key_list_init(&copy, run->context);
	for (uint32 i = 0; i < lost.count; i++)
		dc_key_list_add(&copy, lost.keys[i].data, lost.keys[i].length);
	move_rows(run, true);
	run->out->fetched = 0; /* counted as mended */
	run->out->lost = dc_scrub_count_lost(run->slot, &copy);
	run->out->mended += copy.count - run->out->lost;
	warn_lost(run, (uint32) run->out->lost);
}

/* --- entries --- */

static void
take_result(Run *run, const DcRepairResult *result)
{
	run->out->differing +=
		result->action != DC_REPAIR_NOTHING && result->action != DC_REPAIR_WAIT;
	switch (result->action)
	{
		case DC_REPAIR_NOTHING:
			break;
		case DC_REPAIR_WAIT:
			run->out->in_flight++;
			break;
		case DC_REPAIR_FETCH:
			dc_key_list_add(&run->fetch, result->key.data, result->key.length);
			break;
		case DC_REPAIR_PUSH:
			dc_key_list_add(&run->push, result->key.data, result->key.length);
			break;
		case DC_REPAIR_KEEP:
			dc_key_list_add(&run->kept, result->key.data, result->key.length);
			break;
		case DC_REPAIR_ALONE:
			dc_key_list_add(result->peer_covers ? &run->dead : &run->alone,
							result->key.data, result->key.length);
			break;
	}
}

/* A live node that is neither this one nor the peer; 0: none. */
static uint32
third_node(uint32 peer)
{
	uint32 third = 0;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcNode *node = &dc_shared->nodes[i];

		if (node->node_id != 0 && !node->local && node->node_id != peer &&
			node->state == DC_NODE_ALIVE)
			third = node->node_id;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return third;
}

/* Which of these keys live there, from `at` on; how many were asked about. */
static uint32
ask_living(Run *run, DcAsk *asking, uint32 node_id, uint32 at, bool *lives)
{
	DcVv *vector = MemoryContextAlloc(run->context, sizeof(DcVv));
	uint32 count = 0;
	DcReader answer;
	DcSlice bytes;
	DcWriter w;

	begin_question(run, &w, DC_REPAIR_OFFER);
	dc_vector_read(vector);
	dc_vv_encode(&w, vector);
	dc_write_u64(&w, pg_atomic_read_u64(&dc_shared->horizon));
	for (; at + count < run->kept.count && count < DC_REPAIR_OFFERS_MAX &&
		   w.length < DC_REPAIR_OFFER_BYTES;
		 count++)
		dc_write_string(&w, run->kept.keys[at + count].data,
						run->kept.keys[at + count].length);
	dc_write_varint(&w, 0); /* keys */
	dc_write_varint(&w, 0); /* ids */
	bytes = dc_ask_one(asking, node_id, w.data, w.length);
	dc_reader_init(&answer, bytes.data, bytes.length);
	(void) dc_read_bytes(&answer, 3 + 8); /* version, letter, kind, floor */
	dc_vv_decode(&answer, vector);
	(void) dc_read_u64(&answer);
	if (dc_read_varint(&answer, count) != count)
		dc_reader_fail(&answer, DC_MALFORMED);
	for (uint32 i = 0; i < count; i++)
	{
		uint64 word = dc_read_u64(&answer);

		lives[at + i] = word > 1 && (word & 1) == 0;
	}
	require_good(run, answer.status);
	pfree(vector);
	return count;
}

static DcAsk *
begin_asking(const Run *run)
{
	return dc_ask_begin(&(DcAskPlan){.function = "peer_repair",
									 .purpose = "repair",
									 .kind = DC_SESSION_CHANGES,
									 .timeout_ms = ANSWER_MS,
									 .check = run->check});
}

static void
ask_node(Run *run, uint32 node_id, bool *lives)
{
	DcAsk *asking = begin_asking(run);

	PG_TRY();
	{
		for (uint32 at = 0; at < run->kept.count;)
			at += ask_living(run, asking, node_id, at, lives);
	}
	PG_FINALLY();
	{
		dc_ask_end(asking, false);
	}
	PG_END_TRY();
}

/*
 * R9: the peer and this node disagree about what died long ago.  A third node
 * that still has the key alive settles it: members have every death up to the
 * horizon, so two of them cannot both have missed that one.
 */
static void
ask_third(Run *run)
{
	uint32 third = third_node(run->plan->node_id);
	bool *lives = MemoryContextAllocZero(run->context, run->kept.count + 1);

	if (third != 0)
		ask_node(run, third, lives);
	for (uint32 i = 0; i < run->kept.count; i++)
	{
		DcSlice key = run->kept.keys[i];
		DcEntry own =
			dc_metadata_get(run->slot, dc_key_make(key.data, key.length));

		if (!lives[i])
			run->out->kept++;
		else
			dc_key_list_add(own.stamp == DC_HLC_NONE ? &run->fetch : &run->push,
							key.data, key.length);
	}
	move_rows(run, true);
}

static void
warn_kept(const Run *run)
{
	if (run->out->kept == 0)
		return;
	dc_count(DC_COUNT_REPAIR_KEPT, run->out->kept);
	ereport(WARNING,
			(errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '8')),
			 errmsg("%llu rows of keyspace %llu are on one of nodes %d and %u, "
					"and the other claims that they died long ago",
					(unsigned long long) run->out->kept,
					(unsigned long long) run->plan->keyspace, datacake_node_id,
					run->plan->node_id),
			 errdetail("They were kept as they are."),
			 errhint("One of the two lost rows or took some back behind the "
					 "cluster's back.  Compare with a third node, and DELETE "
					 "or UPDATE the rows where they are.")));
}

static void
settle_alone(Run *run, DcKeyList *keys, bool covered)
{
	for (uint32 i = 0; i < keys->count; i++)
		run->out->rejoined +=
			dc_rejoin_row(run->slot, run->plan->keyspace, keys->keys[i].data,
						  keys->keys[i].length, covered, run->check);
	dc_key_list_clear(keys);
}

static void
compare_entries(Run *run)
{
	DcRepair *repair = MemoryContextAllocHuge(run->context, sizeof(DcRepair));
	DcWriter w;

	dc_repair_begin(repair, run->plan->keyspace, run->plan->rejoin,
					run->plan->cells);
	for (;;)
	{
		DcRepairNode self;
		DcRepairResult result;
		DcSlice answer;

		require_keyspace(run);
		self = dc_repair_self(run->slot, &run->vector);
		dc_writer_init(&w, run->question, sizeof(run->question));
		w.version = dc_wire_version(run->plan->node_id);
		if (!dc_repair_next(repair, &self, &w))
			break;
		dc_flush_all(); /* own entries are shown (P9) */
		answer = dc_ask_one(run->asking, run->plan->node_id, w.data, w.length);
		require_keyspace(run);
		self = dc_repair_self(run->slot, &run->vector);
		require_good(run,
					 dc_repair_take(repair, &self, answer.data, answer.length));
		run->peer_floor = repair->peer_floor;
		while (dc_repair_result(repair, &self, &result))
			take_result(run, &result);
		/* a joiner takes also what lies at or below its horizon */
		move_rows(run, run->plan->rejoin);
		settle_alone(run, &run->dead, true);
		settle_alone(run, &run->alone, false);
		if (run->check != NULL)
			run->check();
	}
	pfree(repair);
	if (run->peer_floor != dc_floor(run->slot))
		(void) exchange_rows(run, false); /* a TRUNCATE, one way or other */
	if (run->kept.count > 0)
		ask_third(run);
	warn_kept(run);
}

/* --- images --- */

/* Equal stamps, other rows: whose row stays? */
static bool
own_image_stays(const Run *run, DcHlc stamp)
{
	uint32 source = dc_hlc_node_id(stamp);

	if (source == (uint32) datacake_node_id)
		return true;
	if (source == run->plan->node_id)
		return false;
	return (uint32) datacake_node_id < run->plan->node_id;
}

/* Asks about the rows in `w` and sorts out those that differ. */
static void
ask_images(Run *run, DcWriter *w, const DcKeyList *keys, const DcHlc *stamps)
{
	DcReader answer;

	ask(run, w, DC_REPAIR_IMAGES, &answer);
	for (uint32 i = 0; i < keys->count; i++)
	{
		DcSlice key = keys->keys[i];

		if (dc_read_u8(&answer) == 0)
			continue;
		run->out->images++;
		dc_key_list_add(own_image_stays(run, stamps[i]) ? &run->push :
														  &run->fetch,
						key.data, key.length);
	}
	require_good(run, dc_reader_finish(&answer));
}

/* Adds (key, stamp, hash) of the rows of these entries to the question. */
static void
add_images(Run *run, DcWriter *w, const DcScopeRoom *room, DcKeyList *keys,
		   DcHlc *stamps)
{
	MemoryContext context = CurrentMemoryContext;
	Relation relation;
	DcRel *rel;

	dc_transaction_begin();
	relation = dc_keyspace_open_relation(run->slot, AccessShareLock);
	rel = relation != NULL ? dc_rel(relation) : NULL;
	if (rel != NULL)
	{
		TupleTableSlot *row = table_slot_create(relation, NULL);
		StringInfo scratch = makeStringInfo();

		for (size_t i = 0; i < room->count; i++)
		{
			DcSlice key = room->items[i].key;
			DcHlc stamp = room->items[i].entry.stamp;

			if (!dc_rel_find(rel, relation, key.data, key.length,
							 GetActiveSnapshot(), row) ||
				dc_rel_stamp(rel, row) != stamp)
				continue;
			dc_write_string(w, key.data, key.length);
			dc_write_u64(w, stamp);
			dc_write_u64(w, dc_row_hash(rel, row, scratch));
			stamps[keys->count] = stamp;
			dc_key_list_add(keys, key.data, key.length);
		}
		ExecDropSingleTupleTableSlot(row);
	}
	if (relation != NULL)
		relation_close(relation, NoLock);
	dc_transaction_commit(context);
}

/* The rows of these leaves, key by key. */
static void
compare_leaves(Run *run, const DcLeafSet *leaves)
{
	DcMapsView maps = dc_metadata_view(run->slot);
	DcScopeRoom *room = MemoryContextAlloc(run->context, sizeof(DcScopeRoom));
	Size stamps_max = IMAGES_BYTES / 18 + DC_SCOPE_ITEMS;
	DcHlc *stamps =
		MemoryContextAlloc(run->context, sizeof(DcHlc) * stamps_max);
	DcScopeScan scan = {.from = 0};
	DcKeyList keys;
	DcWriter w;
	bool more = true;

	dc_key_list_init(&keys, run->context);
	while (more)
	{
		begin_question(run, &w, DC_REPAIR_IMAGES);
		dc_write_u8(&w, 1);
		/* 256 keys of up to 2,000 bytes fit what is left */
		while (w.length < sizeof(run->question) - IMAGES_BYTES &&
			   keys.count + DC_SCOPE_ITEMS <= stamps_max &&
			   (more = dc_scope_next(&scan, &maps, leaves, DC_HLC_NONE, room)))
			add_images(run, &w, room, &keys, stamps);
		if (keys.count > 0)
			ask_images(run, &w, &keys, stamps);
		dc_key_list_clear(&keys);
		move_rows(run, true);
		if (run->check != NULL)
			run->check();
	}
	pfree(room);
	pfree(stamps);
}

/* Asks which leaves differ: by one sum, or by those of all leaves. */
static void
ask_image_sums(Run *run, uint64 columns, const uint64 *sums, int count,
			   DcLeafSet *leaves)
{
	DcReader answer;
	DcWriter w;

	begin_question(run, &w, DC_REPAIR_IMAGES);
	dc_write_u8(&w, 0);
	dc_write_u64(&w, columns);
	for (int i = 0; i < count; i++)
		dc_write_u64(&w, sums[i]);
	ask(run, &w, DC_REPAIR_IMAGES, &answer);
	dc_leaf_set_decode(&answer, leaves);
	if (answer.status == DC_OK && leaves->bits != DC_IMAGE_BITS)
		dc_reader_fail(&answer, DC_MALFORMED);
	require_good(run, dc_reader_finish(&answer));
}

static void
compare_images(Run *run)
{
	DcImageSums *sums =
		MemoryContextAllocZero(run->context, sizeof(DcImageSums));
	DcLeafSet *leaves = MemoryContextAlloc(run->context, sizeof(DcLeafSet));
	uint64 fetched = run->out->fetched;
	uint64 pushed = run->out->pushed;
	TimestampTz started = GetCurrentTimestamp();
	uint64 columns;
	uint64 whole;

	dc_transaction_begin();
	columns = dc_columns_hash(run->slot);
	dc_transaction_commit(run->context);
	dc_image_sums(run->slot, sums, run->check);
	run->out->reading_us += (uint64) (GetCurrentTimestamp() - started);
	whole = dc_image_sum(sums);
	ask_image_sums(run, columns, &whole, 1, leaves);
	if (leaves->count > 0)
		ask_image_sums(run, columns, sums->at, lengthof(sums->at), leaves);
	if (leaves->count > 0)
		compare_leaves(run, leaves);
	/* counted as images */
	run->out->fetched = fetched;
	run->out->pushed = pushed;
}

/* --- all of it --- */

static void
compare_with_peer(Run *run)
{
	fetch_lost(run);
	compare_entries(run);
	if (run->plan->images)
		compare_images(run);
}

static void
move_known_rows(Run *run)
{
	move_rows(run, false);
}

static void
run_with_peer(Run *run, void (*work)(Run *))
{
	const DcAskStats *stats;

	run->asking = begin_asking(run);
	PG_TRY();
	{
		work(run);
		stats = dc_ask_stats(run->asking);
		run->out->sent_bytes = stats->sent_bytes;
		run->out->received_bytes = stats->received_bytes;
		run->out->round_trips = stats->round_trips;
	}
	PG_FINALLY();
	{
		dc_ask_end(run->asking, false);
	}
	PG_END_TRY();
}

/* In a context of its own, current until end_run(). */
static Run *
begin_run(const DcRepairPlan *plan, DcRepairOutcome *outcome,
		  void (*check)(void))
{
	MemoryContext context =
		AllocSetContextCreate(CurrentMemoryContext, "datacake repair",
							  ALLOCSET_DEFAULT_SIZES);
	Run *run = MemoryContextAllocZero(context, sizeof(Run));

	memset(outcome, 0, sizeof(*outcome));
	outcome->keyspace = plan->keyspace;
	outcome->node_id = plan->node_id;
	run->plan = plan;
	run->out = outcome;
	run->check = check;
	run->context = context;
	run->scratch = AllocSetContextCreate(context, "datacake repair message",
										 ALLOCSET_DEFAULT_SIZES);
	run->slot = dc_keyspace_find(plan->keyspace, &run->generation);
	MemoryContextSwitchTo(context);
	dc_key_list_init(&run->fetch, context);
	dc_key_list_init(&run->push, context);
	dc_key_list_init(&run->dead, context);
	dc_key_list_init(&run->alone, context);
	dc_key_list_init(&run->kept, context);
	require_keyspace(run);
	return run;
}

static void
end_run(Run *run, MemoryContext old)
{
	MemoryContextSwitchTo(old);
	MemoryContextDelete(run->context);
}

void
dc_repair_run(const DcRepairPlan *plan, DcRepairOutcome *outcome,
			  void (*check)(void))
{
	MemoryContext old = CurrentMemoryContext;
	TimestampTz started = GetCurrentTimestamp();
	Run *run = begin_run(plan, outcome, check);

	if (plan->scrub)
		scrub(run);
	if (plan->node_id != 0)
		run_with_peer(run, compare_with_peer);
	outcome->elapsed_us = (uint64) (GetCurrentTimestamp() - started);
	end_run(run, old);
}

void
dc_repair_keys(const DcRepairPlan *plan, const DcKeyList *keys, bool fetch,
			   DcRepairOutcome *outcome, void (*check)(void))
{
	MemoryContext old = CurrentMemoryContext;
	Run *run = begin_run(plan, outcome, check);

	for (uint32 i = 0; i < keys->count; i++)
		dc_key_list_add(fetch ? &run->fetch : &run->push, keys->keys[i].data,
						keys->keys[i].length);
	run_with_peer(run, move_known_rows);
	end_run(run, old);
}

void
dc_repair_note(const DcRepairOutcome *outcome)
{
	const uint64 numbers[] = {outcome->keyspace,       outcome->node_id,
							  outcome->differing,      outcome->fetched,
							  outcome->pushed,         outcome->kept,
							  outcome->mended,         outcome->lost,
							  outcome->images,         outcome->sent_bytes,
							  outcome->received_bytes, outcome->elapsed_us};
	const char *arguments[lengthof(numbers)];

	for (int i = 0; i < (int) lengthof(numbers); i++)
		arguments[i] = dc_sql_number(numbers[i]);
	dc_sql("INSERT INTO datacake.repaired AS r (keyspace, node_id, differing, "
		   "fetched, pushed, kept, mended, lost, images, sent_bytes, "
		   "received_bytes, elapsed) VALUES ($1::bigint, $2::int, $3::bigint, "
		   "$4::bigint, $5::bigint, $6::bigint, $7::bigint, $8::bigint, "
		   "$9::bigint, $10::bigint, $11::bigint, "
		   "$12::bigint * interval '1 us') ON CONFLICT (keyspace, node_id) "
		   "DO UPDATE SET at = pg_catalog.clock_timestamp(), "
		   "runs = r.runs + 1, differing = excluded.differing, "
		   "fetched = excluded.fetched, pushed = excluded.pushed, "
		   "kept = excluded.kept, mended = excluded.mended, "
		   "lost = excluded.lost, images = excluded.images, "
		   "sent_bytes = excluded.sent_bytes, "
		   "received_bytes = excluded.received_bytes, "
		   "elapsed = excluded.elapsed, "
		   "differing_ever = r.differing_ever + excluded.differing + "
		   "  excluded.mended + excluded.images",
		   (int) lengthof(numbers), arguments);
}
