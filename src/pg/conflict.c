/*
 * conflict.c
 *		Concurrent writes: recognised, recorded, and judged where two rows
 *		claim one unique value.
 *
 * A change says which stamp it replaced.  If what is here is newer than that
 * and is not the change itself, its writer did not know it: a conflict,
 * whoever wins.
 *
 * Two rows with one unique value (P3) are no conflict of one key.  y may have
 * overtaken the change of x that freed the value, so nothing is judged before
 * this node's vector covers both stamps for every live source.  Then the
 * greater stamp stays.  The other row dies by an ordinary write of this node,
 * with a stamp of its own; several nodes may do that alike.
 */
#include "conflict.h"

#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "changes.h"
#include "guc.h"
#include "sql.h"
#include "vector.h"

typedef struct DcConflict
{
	int slot;
	const char *key;
	const char *kind;
	DcHlc kept;
	DcHlc lost;
	const char *lost_row; /* JSON; NULL: a death lost */
} DcConflict;

static const char *
row_as_json(TupleTableSlot *slot)
{
	return TextDatumGetCString(
		DirectFunctionCall1(row_to_json, ExecFetchSlotHeapTupleDatum(slot)));
}

static void
add_conflict(DcApplySet *set, const DcIncoming *item, const char *kind,
			 DcHlc kept, DcHlc lost, const char *lost_row)
{
	DcConflict *conflict = palloc(sizeof(DcConflict));

	conflict->slot = item->target->slot;
	conflict->key = dc_rel_key_text(item->target->rel, item->change.key.data,
									item->change.key.length);
	conflict->kind = kind;
	conflict->kept = kept;
	conflict->lost = lost;
	conflict->lost_row = lost_row;
	set->conflicts = lappend(set->conflicts, conflict);
}

/* The stamp of what is here and what the writer did not know; else NONE. */
static DcHlc
unknown_to_writer(const DcApplySet *set, const DcIncoming *item)
{
	DcHlc here = item->row;

	if (!item->exact || dc_vv_covers(&set->vector, item->change.entry.stamp))
		return DC_HLC_NONE;
	if (here == DC_HLC_NONE)
	{
		DcEntry entry = dc_metadata_get(item->target->slot, item->key);

		/* an insert after the death of its key is no conflict */
		if (item->change.replaced == DC_HLC_NONE &&
			item->change.entry.stamp > entry.stamp)
			return DC_HLC_NONE;
		here = entry.stamp;
	}
	if (here <= item->change.replaced || here == item->change.entry.stamp)
		return DC_HLC_NONE;
	return here;
}

void
dc_conflict_observe(DcApplySet *set, DcTable *table, DcIncoming *item)
{
	DcHlc here = unknown_to_writer(set, item);
	DcHlc incoming = item->change.entry.stamp;
	const char *kind = "update";
	const char *lost_row = NULL;

	if (here == DC_HLC_NONE)
		return;
	if (item->change.entry.dead)
		kind = "delete";
	else if (item->change.replaced == DC_HLC_NONE)
		kind = "insert";
	if (incoming > here)
	{
		if (item->row != DC_HLC_NONE)
			lost_row = row_as_json(table->local);
	}
	else if (!item->change.entry.dead)
	{
		dc_incoming_image(table, item, false);
		lost_row = row_as_json(table->remote);
	}
	add_conflict(set, item, kind, Max(incoming, here), Min(incoming, here),
				 lost_row);
}

void
dc_conflict_record(DcApplySet *set)
{
	ListCell *cell;

	foreach (cell, set->conflicts)
	{
		DcConflict *conflict = lfirst(cell);
		const char *arguments[6] = {dc_sql_number(
										dc_keyspace(conflict->slot)->id),
									conflict->key,
									conflict->kind,
									dc_sql_number(conflict->kept),
									dc_sql_number(conflict->lost),
									conflict->lost_row};

		dc_sql("INSERT INTO datacake.conflict (keyspace, key, kind, kept, "
			   "lost, lost_row) VALUES ($1::bigint, $2, $3, "
			   "$4::datacake.hlc, $5::datacake.hlc, $6::jsonb)",
			   6, arguments);
		pg_atomic_fetch_add_u64(&dc_keyspace(conflict->slot)->conflicts, 1);
	}
	set->conflicts = NIL;
}

/* --- unique values --- */

/* Has this node all that live sources committed up to this stamp? */
static bool
all_known_until(DcHlc stamp)
{
	DcVv *vector = palloc(sizeof(DcVv));
	bool known = true;

	dc_vector_read(vector);
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		DcNode *node = &dc_shared->nodes[i];

		if (node->node_id != 0 &&
			(node->state == DC_NODE_ALIVE || node->state == DC_NODE_SUSPECT ||
			 node->node_id == dc_hlc_node_id(stamp)) &&
			vector->at[node->node_id] < stamp)
			known = false;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	pfree(vector);
	return known;
}

/* The other row with a unique value of table->remote, into table->local. */
static bool
find_rival(DcTable *table)
{
	ItemPointerData tid;

	ItemPointerSetInvalid(&tid);
	if (ExecCheckIndexConstraints(table->result, table->remote, table->estate,
								  &tid, NIL))
		return false;
	return ItemPointerIsValid(&tid) &&
		   table_tuple_fetch_row_version(table->relation, &tid, SnapshotAny,
										 table->local);
}

/* The incoming row is the older one: its key dies everywhere. */
static void
reject_incoming(DcApplySet *set, DcIncoming *item, DcHlc rival,
				const char *lost_row)
{
	DcHlc stamp = dc_transaction_fresh_stamp();

	dc_change_capture(item->target->rel, item->key,
					  (DcEntry){.stamp = stamp, .dead = true},
					  item->change.entry.stamp, false, NULL);
	add_conflict(set, item, "unique", rival, item->change.entry.stamp,
				 lost_row);
}

/* The row here is the older one: it dies, and makes room. */
static void
reject_local(DcApplySet *set, DcTable *table, DcIncoming *item, DcHlc rival)
{
	StringInfoData key;
	const char *lost_row = row_as_json(table->local);

	initStringInfo(&key);
	slot_getallattrs(table->local);
	dc_rel_key(table->rel, table->local->tts_values, table->local->tts_isnull,
			   &key);
	dc_table_delete(table);
	dc_change_capture(table->rel,
					  dc_key_make((uint8 *) key.data, (Size) key.len),
					  (DcEntry){.stamp = dc_transaction_fresh_stamp(),
								.dead = true},
					  rival, false, NULL);
	add_conflict(set, item, "unique", item->change.entry.stamp, rival,
				 lost_row);
}

static bool
judge(DcApplySet *set, DcTable *table, DcIncoming *item)
{
	DcHlc incoming = item->change.entry.stamp;
	DcHlc row =
		dc_table_find(table, item->change.key.data, item->change.key.length);
	DcHlc rival;

	if (row >= incoming)
		return false; /* the ordinary retry finds it stale */
	dc_incoming_image(table, item, false);
	if (row != DC_HLC_NONE || !find_rival(table))
		return false;
	rival = dc_rel_stamp(table->rel, table->local);
	if (!all_known_until(Max(incoming, rival)))
		return false;
	if (incoming < rival)
		reject_incoming(set, item, rival, row_as_json(table->remote));
	else
		reject_local(set, table, item, rival);
	item->judged_stays = incoming > rival;
	return true;
}

bool
dc_conflict_judge(DcApplySet *set, DcIncoming *item)
{
	DcTarget *target = item->target;
	DcRole role;
	DcTable table;
	bool judged;

	if (target->rel == NULL || item->change.entry.dead)
		return false;
	role = dc_role_begin(target->rel->owner, true);
	PushActiveSnapshot(GetTransactionSnapshot());
	dc_table_open(&table, target->relation, target->rel, true);
	judged = judge(set, &table, item);
	dc_table_close(&table);
	PopActiveSnapshot();
	dc_role_end(role);
	return judged;
}
