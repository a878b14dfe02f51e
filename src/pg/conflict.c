/*
 * conflict.c
 *		Concurrent writes: recognised and recorded.
 *
 * A change says which stamp it replaced.  If what it overwrites here is newer
 * than that, its writer did not know it, and who wrote that did not know the
 * change, or it would bear the greater stamp: a conflict.
 *
 * It is seen where the version that loses stood.  Where the version that stays
 * came first, the one that comes late says nothing about it: its writer may
 * not have known it, but whoever wrote the newer one may well have known the
 * late one by way of a third node.
 *
 * A TRUNCATE replaces no row; it says what was known of its keyspace instead.
 *
 * Two rows with one unique value (P3) are no conflict of one key; unique.c says
 * when they are told as one.
 */
#include "conflict.h"

#include "access/tableam.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "changes.h"
#include "guc.h"
#include "known.h"
#include "sql.h"
#include "vector.h"

#define ROW_BYTES_MAX (64 * 1024) /* of a row kept, as JSON */

struct DcConflict
{
	int slot;
	const char *key; /* NULL: only counted */
	const char *kind;
	DcHlc kept;
	DcHlc lost;
	char *kept_row; /* JSON; NULL: a death stays */
	char *lost_row; /* JSON; NULL: a death lost */
};

/* In place of a row that is too large to be kept. */
static char *
note_as_json(const char *key, Size bytes)
{
	StringInfoData note;

	initStringInfo(&note);
	appendStringInfoString(&note, "{\"key\": ");
	escape_json(&note, key);
	appendStringInfo(&note,
					 ", \"note\": \"a row of %zu bytes as JSON is not "
					 "kept\"}",
					 bytes);
	return note.data;
}

/*
 * NULL for no row.  It may hold what json takes and jsonb does not: \u0000, and
 * numbers beyond all bounds.
 */
static char *
row_as_json(DcRel *rel, TupleTableSlot *slot)
{
	StringInfoData key;
	text *row;
	char *json;

	if (slot == NULL)
		return NULL;
	row = DatumGetTextPP(
		DirectFunctionCall1(row_to_json, ExecFetchSlotHeapTupleDatum(slot)));
	if (VARSIZE_ANY_EXHDR(row) <= ROW_BYTES_MAX)
	{
		json = text_to_cstring(row);
		pfree(row);
		return json;
	}
	initStringInfo(&key);
	slot_getallattrs(slot);
	dc_rel_key(rel, slot->tts_values, slot->tts_isnull, &key);
	return note_as_json(dc_rel_key_text(rel, (uint8 *) key.data,
										(Size) key.len),
						VARSIZE_ANY_EXHDR(row));
}

/* The one that falls out of the history when one more comes is only counted. */
static void
forget_oldest(DcApplySet *set)
{
	int oldest = list_length(set->conflicts) - datacake_conflict_history;
	DcConflict *conflict;

	if (oldest < 0)
		return;
	conflict = list_nth(set->conflicts, oldest);
	conflict->key = NULL;
	if (conflict->kept_row != NULL)
		pfree(conflict->kept_row);
	if (conflict->lost_row != NULL)
		pfree(conflict->lost_row);
	conflict->kept_row = conflict->lost_row = NULL;
}

DcConflict *
dc_conflict_make(const DcTarget *target, DcSlice key, const char *kind,
				 DcHlc kept, TupleTableSlot *kept_row, DcHlc lost,
				 TupleTableSlot *lost_row)
{
	DcRel *rel = target->rel;
	DcConflict *conflict = palloc0(sizeof(DcConflict));

	conflict->slot = target->slot;
	if (datacake_conflict_history == 0)
		return conflict;
	conflict->key = dc_rel_key_text(rel, key.data, key.length);
	conflict->kind = kind;
	conflict->kept = kept;
	conflict->lost = lost;
	conflict->kept_row = row_as_json(rel, kept_row);
	conflict->lost_row = row_as_json(rel, lost_row);
	return conflict;
}

void
dc_conflict_add(DcApplySet *set, DcConflict *conflict)
{
	if (datacake_conflict_history > 0)
		forget_oldest(set);
	set->conflicts = lappend(set->conflicts, conflict);
}

/* --- versions of one key --- */

/* What is here and goes; {NONE} if nothing is, or nothing goes. */
static DcEntry
what_loses(const DcIncoming *item)
{
	DcEntry row = {.stamp = item->row, .dead = false};

	if (item->decision == DC_APPLY_STALE || item->decision == DC_APPLY_SAME)
		return (DcEntry){DC_HLC_NONE, false};
	return item->row > item->entry.stamp ||
				   (item->row != DC_HLC_NONE && !item->entry.dead) ?
			   row :
			   item->entry;
}

/*
 * Did the writer of the change know of what loses?  The change names the
 * newest version of the key that it knew.
 */
static bool
is_conflict(const DcApplySet *set, const DcIncoming *item, DcEntry lost)
{
	const DcChange *change = &item->change;

	if (lost.stamp == DC_HLC_NONE || lost.stamp <= change->replaced)
		return false;
	if (!item->exact || dc_vv_covers(&set->vector, change->entry.stamp))
		return false; /* found by a scan, or here before */
	if (!lost.dead)
		return true;
	/* a death and another, or a new row: nobody's write is lost */
	return !change->entry.dead && change->replaced != DC_HLC_NONE &&
		   !change->reborn;
}

static const char *
kind_of(const DcApplySet *set, const DcIncoming *item, DcEntry lost)
{
	if (lost.dead && lost.stamp == dc_incoming_floor(set, item->target->slot))
		return "truncate";
	if (item->change.entry.dead)
		return "delete";
	if (item->change.replaced == DC_HLC_NONE || item->change.reborn)
		return "insert";
	return "update";
}

void
dc_conflict_observe(DcApplySet *set, DcTable *table, DcIncoming *item)
{
	DcEntry lost = what_loses(item);
	bool row_is_found = item->row != DC_HLC_NONE;

	if (!is_conflict(set, item, lost))
		return;
	if (!item->change.entry.dead)
		dc_incoming_image(table, item, row_is_found);
	dc_conflict_add(set,
					dc_conflict_make(item->target, item->change.key,
									 kind_of(set, item, lost),
									 item->change.entry.stamp,
									 item->change.entry.dead ? NULL :
															   table->remote,
									 lost.stamp,
									 !lost.dead && row_is_found ? table->local :
																  NULL));
}

void
dc_conflict_truncated(DcApplySet *set, DcTable *table, const DcIncoming *item)
{
	const DcChange *floor = &item->change;
	DcHlc row = dc_rel_stamp(table->rel, table->local);
	StringInfoData key;
	DcSlice slice;

	if (!item->exact || floor->image.length == 0 ||
		dc_vv_covers(&set->vector, floor->entry.stamp))
		return;
	initStringInfo(&key);
	slot_getallattrs(table->local);
	dc_rel_key(table->rel, table->local->tts_values, table->local->tts_isnull,
			   &key);
	slice = (DcSlice){(const uint8 *) key.data, (Size) key.len};
	if (!dc_known_covers(floor->image, slice, row))
		dc_conflict_add(set, dc_conflict_make(item->target, slice, "truncate",
											  floor->entry.stamp, NULL, row,
											  table->local));
	pfree(key.data);
}

void
dc_conflict_record(DcApplySet *set)
{
	ListCell *cell;

	foreach (cell, set->conflicts)
	{
		DcConflict *conflict = lfirst(cell);
		const char *arguments[7] = {dc_sql_number(
										dc_keyspace(conflict->slot)->id),
									conflict->key,
									conflict->kind,
									dc_sql_number(conflict->kept),
									dc_sql_number(conflict->lost),
									conflict->kept_row,
									conflict->lost_row};

		pg_atomic_fetch_add_u64(&dc_keyspace(conflict->slot)->conflicts, 1);
		if (conflict->key == NULL)
			continue; /* only counted */
		dc_sql("INSERT INTO datacake.conflict (keyspace, key, kind, kept, "
			   "lost, kept_row, lost_row) VALUES ($1::bigint, $2, $3, "
			   "$4::datacake.hlc, $5::datacake.hlc, $6::json, $7::json)",
			   7, arguments);
	}
	set->conflicts = NIL;
}

void
dc_conflict_trim(void)
{
	static DcStatement trim = {
		"DELETE FROM datacake.conflict WHERE id <= "
		"(SELECT pg_catalog.max(id) FROM datacake.conflict) - $1::bigint"};
	const char *arguments[1] = {
		dc_sql_number((uint64) datacake_conflict_history)};

	(void) dc_sql_often(&trim, 1, arguments);
}

/* --- unique values --- */

bool
dc_conflict_is_certain(DcHlc one, DcHlc other)
{
	DcHlc stamp = Max(one, other);
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
