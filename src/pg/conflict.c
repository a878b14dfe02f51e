/*
 * conflict.c
 *		Concurrent writes: recognised, recorded, and judged where two rows
 *		claim one unique value.
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
#include "utils/json.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

#include "changes.h"
#include "guc.h"
#include "known.h"
#include "sql.h"
#include "vector.h"

#define ROW_BYTES_MAX (64 * 1024) /* of a row kept, as JSON */

typedef struct DcConflict
{
	int slot;
	const char *key; /* NULL: only counted */
	const char *kind;
	DcHlc kept;
	DcHlc lost;
	char *kept_row; /* JSON; NULL: a death stays */
	char *lost_row; /* JSON; NULL: a death lost */
} DcConflict;

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

/* NULL for no row. */
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

/* `kept_row` and `lost_row`: NULL for a death. */
static void
add_conflict(DcApplySet *set, const DcTarget *target, DcSlice key,
			 const char *kind, DcHlc kept, TupleTableSlot *kept_row, DcHlc lost,
			 TupleTableSlot *lost_row)
{
	DcRel *rel = target->rel;
	DcConflict *conflict = palloc0(sizeof(DcConflict));

	if (datacake_conflict_history > 0)
		forget_oldest(set);
	set->conflicts = lappend(set->conflicts, conflict);
	conflict->slot = target->slot;
	if (datacake_conflict_history == 0)
		return;
	conflict->key = dc_rel_key_text(rel, key.data, key.length);
	conflict->kind = kind;
	conflict->kept = kept;
	conflict->lost = lost;
	conflict->kept_row = row_as_json(rel, kept_row);
	conflict->lost_row = row_as_json(rel, lost_row);
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
	add_conflict(set, item->target, item->change.key, kind_of(set, item, lost),
				 item->change.entry.stamp,
				 item->change.entry.dead ? NULL : table->remote, lost.stamp,
				 !lost.dead && row_is_found ? table->local : NULL);
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
		add_conflict(set, item->target, slice, "truncate", floor->entry.stamp,
					 NULL, row, table->local);
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
			   "$4::datacake.hlc, $5::datacake.hlc, $6::jsonb, $7::jsonb)",
			   7, arguments);
	}
	set->conflicts = NIL;
}

void
dc_conflict_trim(void)
{
	const char *arguments[1] = {
		dc_sql_number((uint64) datacake_conflict_history)};

	dc_sql("DELETE FROM datacake.conflict WHERE id <= "
		   "(SELECT pg_catalog.max(id) FROM datacake.conflict) - $1::bigint",
		   1, arguments);
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

/* The incoming row is the older one: its key dies everywhere. */
static void
reject_incoming(DcApplySet *set, DcTable *table, DcIncoming *item, DcHlc rival)
{
	DcHlc stamp = dc_transaction_fresh_stamp();

	dc_change_capture(item->target->rel, item->key,
					  (DcEntry){.stamp = stamp, .dead = true},
					  item->change.entry.stamp, false, NULL);
	add_conflict(set, item->target, item->change.key, "unique", rival,
				 table->local, item->change.entry.stamp, table->remote);
}

/* The row here is the older one: it dies, and makes room. */
static void
reject_local(DcApplySet *set, DcTable *table, DcIncoming *item, DcHlc rival)
{
	StringInfoData key;

	add_conflict(set, item->target, item->change.key, "unique",
				 item->change.entry.stamp, table->remote, rival, table->local);
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
	if (row != DC_HLC_NONE || !dc_table_find_rival(table))
		return false;
	rival = dc_rel_stamp(table->rel, table->local);
	if (!all_known_until(Max(incoming, rival)))
		return false;
	if (incoming < rival)
		reject_incoming(set, table, item, rival);
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
