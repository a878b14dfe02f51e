/*
 * repair_peer.c
 *		Answering a peer that compares itself with this node (R9).
 *
 * One question, one transaction.  Vector, horizon and floor are read before
 * the maps are looked at, for each question anew; nothing is kept in between.
 *
 *	ROWS    keys, 0 | again | parts, 0     --> applied here
 *	        taken | applied | stale | waiting | parts, 0
 *	                                           (with a greater floor, too)
 *	IMAGES  0 | columns | sum of all rows  --> none of the leaves, or all
 *	        0 | columns | 4,096 sums       --> those that differ
 *	        1 | { key, stamp, hash }       --> which of them are other rows
 */
#include "postgres.h"

#include "access/relation.h"
#include "access/tableam.h"
#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "apply.h"
#include "catchup.h"
#include "clock.h"
#include "compat.h"
#include "guc.h"
#include "keyspace.h"
#include "message.h"
#include "peer.h"
#include "quarantine.h"
#include "repair_run.h"
#include "sql.h"
#include "standing.h"
#include "vector.h"

DC_SQL_FUNCTION(datacake_peer_repair);

#define ROWS_BYTES ((Size) 512 * 1024)
#define ROWS_KEYS  4096

DcRepairNode
dc_repair_self(int slot, DcVv *vector)
{
	DcRepairNode node;

	dc_vector_read(vector);
	node.vector = vector;
	node.horizon = pg_atomic_read_u64(&dc_shared->horizon);
	node.floor = dc_floor(slot);
	pg_memory_barrier(); /* all of it before the entries */
	node.maps = dc_metadata_view(slot);
	node.cells = dc_metadata_cells(slot);
	node.cell_count = (uint32) datacake_repair_cells;
	return node;
}

static void
begin_answer(DcWriter *w, DcRepairKind kind, int slot)
{
	w->version = dc_peer_version();
	dc_write_version(w);
	dc_write_u8(w, 'R');
	dc_write_u8(w, (uint8_t) kind);
	dc_write_u64(w, dc_floor(slot));
}

static void
require_good(const DcReader *r)
{
	if (r->status != DC_OK)
		dc_peer_refuse(r->status, NULL);
}

/* --- entries --- */

static bytea *
compare_entries(int slot, DcSlice question)
{
	DcRepairScratch *scratch = palloc(sizeof(DcRepairScratch));
	uint8 *answer = palloc(DC_REPAIR_MESSAGE_MAX);
	DcVv *vector = palloc(sizeof(DcVv));
	DcRepairNode self = dc_repair_self(slot, vector);
	DcStatus status;
	DcWriter w;

	dc_writer_init(&w, answer, DC_REPAIR_MESSAGE_MAX);
	w.version = dc_peer_version();
	status =
		dc_repair_answer(&self, question.data, question.length, scratch, &w);
	if (status != DC_OK)
		dc_peer_refuse(status, NULL);
	dc_flush_all(); /* what is shown must last (P9) */
	return dc_peer_seal(answer, w.length);
}

/* --- rows --- */

static DcApplied
apply_parts(DcReader *r, bool again)
{
	DcApplySet *set = dc_apply_begin(false);
	DcPart *part = palloc0(sizeof(DcPart));

	while (dc_call_read_part(r, part))
	{
		if (part->kind != DC_PART_CATCHUP)
			dc_reader_fail(r, DC_MALFORMED);
		if (r->status == DC_OK)
			dc_apply_add(set, part->batch, false);
	}
	if (dc_reader_finish(r) != DC_OK)
		dc_peer_refuse(r->status, NULL);
	if (again)
		dc_apply_again(set);
	return dc_apply_run(set);
}

static bytea *
exchange_rows(int slot, DcReader *r, DcHlc floor)
{
	DcSlice *keys = palloc(sizeof(DcSlice) * ROWS_KEYS);
	StringInfo parts = makeStringInfo();
	StringInfo answer = makeStringInfo();
	uint8 head[64];
	uint32 count = 0;
	uint32 taken = 0;
	uint32 rows = 0;
	uint8 again;
	DcApplied applied;
	DcWriter w;

	for (;;)
	{
		DcSlice key = dc_read_string(r, DC_KEY_BYTES_MAX);

		if (r->status != DC_OK || key.length == 0)
			break;
		if (count == ROWS_KEYS)
			dc_peer_refuse(DC_MALFORMED, NULL);
		keys[count++] = key;
	}
	again = dc_read_u8(r);
	require_good(r);
	applied = apply_parts(r, again != 0);
	if (dc_floor(slot) > floor)
		dc_catchup_floor(slot, parts);
	if (count > 0)
		taken =
			dc_catchup_rows(slot, keys, count, ROWS_BYTES, parts, &rows, NULL);
	dc_writer_init(&w, head, sizeof(head));
	begin_answer(&w, DC_REPAIR_ROWS, slot);
	dc_write_varint(&w, taken);
	dc_write_u32(&w, applied.applied);
	dc_write_u32(&w, applied.stale);
	dc_write_u32(&w, applied.waiting);
	appendBinaryStringInfo(answer, (char *) head, (int) w.length);
	appendBinaryStringInfo(answer, parts->data, parts->len);
	appendStringInfoChar(answer, DC_PART_END);
	dc_flush_all();
	return dc_peer_seal(answer->data, (Size) answer->len);
}

/* --- images --- */

/* One sum over all rows, or one for each leaf. */
static void
compare_image_sums(int slot, DcReader *r, DcWriter *w)
{
	DcImageSums *sums = palloc0(sizeof(DcImageSums));
	DcLeafSet *differing = palloc(sizeof(DcLeafSet));
	bool alike = dc_read_u64(r) == dc_columns_hash(slot);
	bool whole = dc_reader_left(r) == sizeof(uint64);

	if (!whole && dc_reader_left(r) != sizeof(sums->at))
		dc_peer_refuse(DC_MALFORMED, NULL);
	dc_leaf_set_init(differing, DC_IMAGE_BITS);
	if (!alike)
	{
		dc_leaf_set_encode(w, differing);
		return;
	}
	dc_image_sums_here(slot, sums);
	if (whole && dc_read_u64(r) != dc_image_sum(sums))
		dc_leaf_set_fill(differing, DC_IMAGE_BITS);
	for (uint32 leaf = 0; !whole && leaf < lengthof(sums->at); leaf++)
	{
		if (dc_read_u64(r) != sums->at[leaf])
			dc_leaf_set_add(differing, leaf);
	}
	dc_leaf_set_encode(w, differing);
}

/*
 * Another image under the same stamp; or one whose columns were not ours when
 * it came.
 */
static bool
image_differs(int slot, bool found, DcRel *rel, TupleTableSlot *row,
			  DcSlice key, DcHlc stamp, uint64 hash, StringInfo scratch)
{
	if (!found)
		return dc_quarantine_misfits(slot, key, stamp);
	return dc_rel_stamp(rel, row) == stamp &&
		   dc_row_hash(rel, row, scratch) != hash;
}

/* One byte for each row. */
static void
compare_images(int slot, DcReader *r, DcWriter *w)
{
	Relation relation = dc_keyspace_open_relation(slot, AccessShareLock);
	DcRel *rel = relation != NULL ? dc_rel(relation) : NULL;
	StringInfo scratch = makeStringInfo();
	TupleTableSlot *row;

	if (rel == NULL)
		dc_peer_refuse(DC_UNKNOWN_KEYSPACE, NULL);
	row = table_slot_create(relation, NULL);
	SPI_connect();
	while (dc_reader_left(r) > 0)
	{
		DcSlice key = dc_read_string(r, DC_KEY_BYTES_MAX);
		DcHlc stamp = dc_read_u64(r);
		uint64 hash = dc_read_u64(r);

		require_good(r);
		CHECK_FOR_INTERRUPTS();
		dc_write_u8(w, image_differs(slot,
									 dc_rel_find(rel, relation, key.data,
												 key.length,
												 GetActiveSnapshot(), row),
									 rel, row, key, stamp, hash, scratch));
	}
	SPI_finish();
	ExecDropSingleTupleTableSlot(row);
	relation_close(relation, NoLock);
}

static bytea *
compare_rows(int slot, DcReader *r)
{
	uint8 *answer = palloc(DC_REPAIR_MESSAGE_MAX);
	uint8 by_key = dc_read_u8(r);
	DcWriter w;

	require_good(r);
	dc_writer_init(&w, answer, DC_REPAIR_MESSAGE_MAX);
	begin_answer(&w, DC_REPAIR_IMAGES, slot);
	if (by_key != 0)
		compare_images(slot, r, &w);
	else
		compare_image_sums(slot, r, &w);
	if (w.status != DC_OK)
		dc_peer_refuse(w.status, NULL);
	dc_flush_all();
	return dc_peer_seal(answer, w.length);
}

/* --- the function --- */

static bytea *
answer_question(DcSlice question)
{
	DcRepairHead head;
	DcReader r;
	int slot;

	dc_reader_init(&r, question.data, question.length);
	dc_repair_head_decode(&r, &head);
	require_good(&r);
	slot = dc_keyspace_by_id(head.keyspace);
	if (slot < 0)
		dc_peer_refuse(DC_UNKNOWN_KEYSPACE, NULL);
	switch (head.kind)
	{
		case DC_REPAIR_KEPT:
		case DC_REPAIR_COMPARE:
		case DC_REPAIR_CELLS:
		case DC_REPAIR_LIST:
		case DC_REPAIR_OFFER:
			return compare_entries(slot, question);
		case DC_REPAIR_ROWS:
			return exchange_rows(slot, &r, head.floor);
		case DC_REPAIR_IMAGES:
			return compare_rows(slot, &r);
	}
	dc_peer_refuse(DC_MALFORMED, NULL);
}

/* datacake.peer_repair(bytea) returns bytea */
Datum
datacake_peer_repair(PG_FUNCTION_ARGS)
{
	PG_RETURN_BYTEA_P(dc_peer_respond(PG_GETARG_BYTEA_PP(0), answer_question));
}
