/*
 * unique.c
 *		P3 in a table: a row that comes in, and those that it cannot be beside.
 *
 * rival.h says which rows are in the table.  This is the step that a node
 * makes for one row: it looks for rivals by the table's own indexes, unique or
 * of exclusion constraints, waiting for writers in progress; locks each, and
 * either puts it aside or gives way to it.  Whoever is put aside keeps its
 * entry and its stamp.  Nothing is shipped; the other nodes do the same.
 *
 * A row may be put aside because the change that frees its value is late.  So
 * it is told as a conflict only when this node has all that was written up to
 * both stamps (dc_conflict_is_certain), by the one who looks at what waits.
 */
#include "unique.h"

#include "executor/nodeModifyTable.h"
#include "miscadmin.h"
#include "storage/itemptr.h"
#include "utils/builtins.h"

#include "changes.h"
#include "conflict.h"
#include "rival.h"

/* The row because of which an item has to wait. */
struct DcUniqueRival
{
	DcSlice key;
	DcHlc stamp;
	DcConflict *conflict; /* NULL: it may be none */
};

static DcSlice
slice_of(StringInfo bytes)
{
	return (DcSlice){(const uint8 *) bytes->data, (Size) bytes->len};
}

/* What the table is to hold, as its indexes see it. */
static void
make_image(DcTable *table, const DcIncoming *item)
{
	TupleConstr *constraints = table->relation->rd_att->constr;

	dc_incoming_image(table, item, false);
	if (constraints != NULL && constraints->has_generated_stored)
		ExecComputeStoredGenerated(table->result, table->estate, table->remote,
								   CMD_INSERT);
}

/*
 * A row that the image cannot be beside, locked; its key.  The image is in
 * table->remote afterwards.
 */
static bool
find_rival(DcTable *table, const DcIncoming *item, StringInfo key)
{
	ItemPointerData tid;

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		make_image(table, item);
		if (!dc_table_find_rival(table, &tid))
			return false;
		slot_getallattrs(table->local);
		resetStringInfo(key);
		dc_rel_key(table->rel, table->local->tts_values,
				   table->local->tts_isnull, key);
		ExecClearTuple(table->local);
		(void) dc_table_find(table, (uint8 *) key->data, (Size) key->len);
		if (TTS_EMPTY(table->local) ||
			!ItemPointerEquals(&table->at->local->tts_tid, &tid))
			continue; /* changed while its lock was waited for */
		slot_getallattrs(table->local);
		make_image(table, item);
		return true;
	}
}

static char *
message_about(const DcApplySet *set, DcRel *rel, DcSlice key)
{
	return psprintf(set->claim_state == ERRCODE_UNIQUE_VIOLATION ?
						"row (%s), which is newer, has a unique value of it" :
						"row (%s), which is newer, excludes it",
					dc_rel_key_text(rel, key.data, key.length));
}

/* The row in table->local as a batch of one. */
static bytea *
batch_of(DcTable *table, DcSlice key, DcHlc stamp)
{
	StringInfoData dictionary;
	StringInfoData image;
	DcChange change = {.entry = {stamp, false}, .key = key};

	initStringInfo(&dictionary);
	initStringInfo(&image);
	dc_rel_dictionary(table->rel, &dictionary);
	dc_rel_image(table->rel, table->local->tts_values, table->local->tts_isnull,
				 &image);
	change.image = slice_of(&image);
	return dc_incoming_batch_of(slice_of(&dictionary), &change);
}

/* The row in table->local goes, and waits for the item. */
static void
displace(DcApplySet *set, DcTable *table, const DcIncoming *item,
		 StringInfo key, DcHlc stamp)
{
	DcWaiting *waiting = palloc0(sizeof(DcWaiting));
	DcHlc incoming = item->change.entry.stamp;

	waiting->slot = item->target->slot;
	waiting->key = slice_of(key);
	waiting->stamp = stamp;
	waiting->change = batch_of(table, waiting->key, stamp);
	waiting->sqlstate = pstrdup(unpack_sql_state(set->claim_state));
	waiting->message = message_about(set, table->rel, item->change.key);
	waiting->other = item->change.key;
	waiting->other_stamp = incoming;
	waiting->told = dc_conflict_is_certain(stamp, incoming);
	if (waiting->told)
		dc_conflict_add(set, dc_conflict_make(item->target, waiting->key,
											  "unique", incoming, table->remote,
											  stamp, table->local));
	set->displaced = lappend(set->displaced, waiting);
	dc_table_require(table, dc_table_delete(table));
	/* it may be visible and not merged yet */
	dc_change_apply(waiting->slot,
					dc_key_make((uint8 *) key->data, (Size) key->len),
					(DcEntry){stamp, false}, stamp);
}

static void
give_way(DcApplySet *set, DcTable *table, DcIncoming *item, StringInfo key,
		 DcHlc stamp)
{
	DcUniqueRival *rival = palloc0(sizeof(DcUniqueRival));
	DcHlc incoming = item->change.entry.stamp;

	rival->key = slice_of(key);
	rival->stamp = stamp;
	if (dc_conflict_is_certain(incoming, stamp))
		rival->conflict =
			dc_conflict_make(item->target, item->change.key, "unique", stamp,
							 table->local, incoming, table->remote);
	item->rival = rival;
	ereport(ERROR, (errcode(set->claim_state),
					errmsg_internal("%s", message_about(set, table->rel,
														rival->key))));
}

void
dc_unique_make_room(DcApplySet *set, DcTable *table, DcIncoming *item)
{
	for (;;)
	{
		StringInfo key = makeStringInfo();
		DcHlc stamp;

		if (!find_rival(table, item, key))
			return;
		stamp = dc_rel_stamp(table->rel, table->local);
		if (stamp == DC_HLC_NONE)
			ereport(ERROR,
					(errcode(set->claim_state),
					 errmsg("row (%s), which was not captured, is in its way",
							dc_rel_key_text(table->rel, (uint8 *) key->data,
											(Size) key->len))));
		if (dc_rival_outranks((DcRival){item->change.entry.stamp,
										item->change.key},
							  (DcRival){stamp, slice_of(key)}))
			displace(set, table, item, key, stamp);
		else
			give_way(set, table, item, key, stamp);
	}
}

void
dc_unique_put_aside(DcApplySet *set)
{
	ListCell *cell;

	foreach (cell, set->displaced)
	{
		dc_quarantine_put(lfirst(cell));
		dc_count(DC_COUNT_QUARANTINED, 1);
	}
	set->displaced = NIL;
}

void
dc_unique_yield(DcApplySet *set, const DcIncoming *item, DcWaiting *waiting)
{
	const DcUniqueRival *rival = item->rival;
	DcEntry entry =
		dc_metadata_get(waiting->slot,
						dc_key_make(rival->key.data, rival->key.length));

	/* a row that is to go itself is looked at on a schedule */
	if (entry.stamp > rival->stamp)
		return;
	waiting->other = rival->key;
	waiting->other_stamp = rival->stamp;
	waiting->told = rival->conflict != NULL;
	if (waiting->told && !dc_quarantine_is_told(waiting))
		dc_conflict_add(set, rival->conflict);
}
