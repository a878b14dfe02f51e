/*
 * capture.c
 *		Row triggers: stamp a row before it is written, note it after.
 *
 * BEFORE ROW puts the transaction's stamp into the row and notes nothing:
 * ON CONFLICT fires it for rows that are never stored.  Most plans do that by
 * themselves (planned_stamp.c).  AFTER ROW sees what was really stored, checks
 * that the stamp is this transaction's own (P10) and notes key, stamps and the
 * whole row image.
 *
 * An INSERT has no old row to be newer than, and it waits for a deleter of
 * its key only after it was stamped (P1).  So both triggers ask whether a
 * death that may concern the key is not older than the stamp.  BEFORE then
 * draws a fresh one; AFTER re-stamps the row by an UPDATE of its own, which
 * comes back here and is captured in place of the first version.
 */
#include "capture.h"

#include "access/htup_details.h"
#include "access/xact.h"
#include "catalog/pg_type.h"
#include "commands/trigger.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/lsyscache.h"
#include "utils/rel.h"

#include "changes.h"
#include "clock.h"
#include "compat.h"
#include "floor.h"
#include "guc.h"
#include "partition_ddl.h"
#include "rel.h"
#include "transaction.h"

DC_SQL_FUNCTION(datacake_stamp_row);
DC_SQL_FUNCTION(datacake_capture_row);
DC_SQL_FUNCTION(datacake_capture_truncate);

bool dc_applying = false;

static TriggerData *
row_trigger(FunctionCallInfo fcinfo, bool before)
{
	TriggerData *data = (TriggerData *) fcinfo->context;

	if (!CALLED_AS_TRIGGER(fcinfo) || !TRIGGER_FIRED_FOR_ROW(data->tg_event) ||
		before != (TRIGGER_FIRED_BEFORE(data->tg_event) != 0))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" must be fired as a row trigger",
							   before ? "datacake.stamp_row" :
										"datacake.capture_row")));
	dc_require_loaded();
	return data;
}

static DcRel *
keyspace_of(Relation relation)
{
	DcRel *rel = dc_rel(relation);

	if (rel == NULL && dc_rel_keyspace_id(relation) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" is not a keyspace",
						RelationGetRelationName(relation)),
				 errhint("Use SELECT datacake.replicate_table(...) and do "
						 "not create its triggers by hand.")));
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("table \"%s\" bears the triggers of a replicated "
						"table, but is none",
						RelationGetRelationName(relation)),
				 errdetail("It may have been restored from a dump."),
				 errhint("Use SELECT datacake.replicate_table(...) to "
						 "replicate it, or datacake.unreplicate_table(...) to "
						 "make it an ordinary table.")));
	if (rel->early_trigger != NULL)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("trigger \"%s\" of replicated table \"%s\" fires "
						"before its changes are noted",
						rel->early_trigger, RelationGetRelationName(relation)),
				 errhint("Give it a name that sorts after \"%s\".",
						 DC_CAPTURE_TRIGGER)));
	return rel;
}

/* A row, taken apart. */
typedef struct Row
{
	DcHlc stamp; /* DC_HLC_NONE: null */
	DcKey key;
	StringInfoData key_bytes;
} Row;

/* The row into rel->values and rel->nulls. */
static void
take_columns(DcRel *rel, Relation relation, HeapTuple tuple)
{
	heap_deform_tuple(tuple, RelationGetDescr(relation), rel->values,
					  rel->nulls);
}

/* Stamp and key of the row whose columns were taken. */
static void
take_row(DcRel *rel, Row *row)
{
	row->stamp = rel->nulls[rel->stamp_attnum - 1] ?
					 DC_HLC_NONE :
					 (DcHlc) DatumGetInt64(rel->values[rel->stamp_attnum - 1]);
	initStringInfo(&row->key_bytes);
	dc_rel_key(rel, rel->values, rel->nulls, &row->key_bytes);
	row->key =
		dc_key_make((uint8 *) row->key_bytes.data, (Size) row->key_bytes.len);
}

static void
take_apart(DcRel *rel, Relation relation, HeapTuple tuple, Row *row)
{
	take_columns(rel, relation, tuple);
	take_row(rel, row);
}

static bool
same_key(const Row *a, const Row *b)
{
	return a->key.length == b->key.length &&
		   memcmp(a->key.data, b->key.data, a->key.length) == 0;
}

static DcHlc
stamp_of(DcRel *rel, Relation relation, HeapTuple tuple)
{
	bool null;
	Datum stamp = heap_getattr(tuple, rel->stamp_attnum,
							   RelationGetDescr(relation), &null);

	return null ? DC_HLC_NONE : (DcHlc) DatumGetInt64(stamp);
}

/*
 * Has the key the same bytes in both versions of a row?  Without building
 * keys; so false is not certain, equal values may be stored in two forms.
 */
static bool
key_stays(DcRel *rel, Relation relation, HeapTuple old, HeapTuple new)
{
	TupleDesc desc = RelationGetDescr(relation);

	for (int i = 0; i < rel->key_count; i++)
	{
		AttrNumber attnum = rel->keys[i]->attnum;
		Form_pg_attribute att = TupleDescAttr(desc, attnum - 1);
		bool null[2];
		Datum before = heap_getattr(old, attnum, desc, &null[0]);
		Datum after = heap_getattr(new, attnum, desc, &null[1]);

		if (null[0] || null[1] ||
			!datumIsEqual(before, after, att->attbyval, att->attlen))
			return false;
	}
	return true;
}

static HeapTuple
with_stamp(HeapTuple tuple, Relation relation, DcRel *rel, DcHlc stamp)
{
	int attnum = rel->stamp_attnum;
	Datum value = Int64GetDatum((int64) stamp);
	bool null = false;

	return heap_modify_tuple_by_cols(tuple, RelationGetDescr(relation), 1,
									 &attnum, &value, &null);
}

/* The same for a row that was just taken apart. */
static HeapTuple
assemble_with_stamp(HeapTuple tuple, Relation relation, DcRel *rel, DcHlc stamp)
{
	HeapTuple whole;

	rel->values[rel->stamp_attnum - 1] = Int64GetDatum((int64) stamp);
	rel->nulls[rel->stamp_attnum - 1] = false;
	whole =
		heap_form_tuple(RelationGetDescr(relation), rel->values, rel->nulls);
	whole->t_tableOid = tuple->t_tableOid;
	return whole;
}

/*
 * `row` is the foreign stamp of the row that is replaced, or none; `death` the
 * latest death that may concern the key, or none.
 */
static DcHlc
choose_stamp(DcHlc row, DcHlc death)
{
	DcHlc stamp = dc_transaction_stamp();

	return dc_rule_needs_fresh(stamp, row, death) ?
			   dc_transaction_fresh_stamp() :
			   stamp;
}

static DcHlc
death_of(DcRel *rel, const Row *new)
{
	return dc_death_after(rel->slot, new->key, dc_transaction_stamp());
}

DcHlc
dc_stamp_over(DcHlc replaced)
{
	return choose_stamp(dc_transaction_foreign(replaced), DC_HLC_NONE);
}

/* No row bears it: but what comes after lies above it. */
static HeapTuple
stamp_delete(TriggerData *data, DcRel *rel)
{
	(void) dc_stamp_over(stamp_of(rel, data->tg_relation, data->tg_trigtuple));
	return data->tg_trigtuple;
}

static HeapTuple
stamp_insert(TriggerData *data, DcRel *rel)
{
	DcHlc stamp = dc_transaction_stamp();
	Row new;

	take_columns(rel, data->tg_relation, data->tg_trigtuple);
	if (dc_death_after_any(rel->slot, stamp))
	{
		take_row(rel, &new);
		stamp = choose_stamp(DC_HLC_NONE, death_of(rel, &new));
	}
	return assemble_with_stamp(data->tg_trigtuple, data->tg_relation, rel,
							   stamp);
}

static HeapTuple
stamp_update(TriggerData *data, DcRel *rel)
{
	Relation relation = data->tg_relation;
	DcHlc row =
		dc_transaction_foreign(stamp_of(rel, relation, data->tg_trigtuple));
	DcHlc stamp;
	Row new;

	/* a row of another transaction is newer than the deaths of its key */
	if (row != DC_HLC_NONE &&
		key_stays(rel, relation, data->tg_trigtuple, data->tg_newtuple))
		stamp = choose_stamp(row, DC_HLC_NONE);
	else
	{
		take_apart(rel, relation, data->tg_newtuple, &new);
		stamp = choose_stamp(row, death_of(rel, &new));
	}
	return with_stamp(data->tg_newtuple, relation, rel, stamp);
}

/* With capture off the row keeps its stamp, or gets one that names nothing. */
static HeapTuple
stamp_uncaptured(TriggerData *data, DcRel *rel)
{
	HeapTuple tuple = TRIGGER_FIRED_BY_UPDATE(data->tg_event) ?
						  data->tg_newtuple :
						  data->tg_trigtuple;
	Relation relation = data->tg_relation;

	if (TRIGGER_FIRED_BY_DELETE(data->tg_event) ||
		stamp_of(rel, relation, tuple) != DC_HLC_NONE)
		return tuple;
	return with_stamp(tuple, relation, rel, dc_clock_draw());
}

/*
 * BEFORE INSERT OR UPDATE OR DELETE, last of its kind: puts the stamp into
 * the row.
 */
Datum
datacake_stamp_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = row_trigger(fcinfo, true);
	bool update = TRIGGER_FIRED_BY_UPDATE(data->tg_event);
	DcRel *rel;

	if (dc_applying)
		return PointerGetDatum(update ? data->tg_newtuple : data->tg_trigtuple);
	rel = keyspace_of(data->tg_relation);
	if (!datacake_capture)
		return PointerGetDatum(stamp_uncaptured(data, rel));
	if (update)
		return PointerGetDatum(stamp_update(data, rel));
	if (TRIGGER_FIRED_BY_INSERT(data->tg_event))
		return PointerGetDatum(stamp_insert(data, rel));
	return PointerGetDatum(stamp_delete(data, rel));
}

static void
check_owned(Relation relation, DcHlc stamp)
{
	if (dc_transaction_owns(stamp))
		return;
	ereport(ERROR, (errcode(ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION),
					errmsg("column \"%s\" of table \"%s\" was written by hand",
						   DC_STAMP_COLUMN, RelationGetRelationName(relation)),
					errhint("Leave \"%s\" out of INSERT and UPDATE, and let no "
							"trigger set it.",
							DC_STAMP_COLUMN)));
}

/*
 * Writes the row once more under a fresh stamp, as the table's owner.  If the
 * row has changed since, that change is captured and nothing is found here.
 */
static void
restamp(Relation relation, HeapTuple tuple)
{
	char *sql =
		psprintf("UPDATE ONLY %s SET %s = %s WHERE ctid OPERATOR(pg_catalog.=) $1",
				 quote_qualified_identifier(get_namespace_name(
												RelationGetNamespace(relation)),
											RelationGetRelationName(relation)),
				 DC_STAMP_COLUMN, DC_STAMP_COLUMN);
	Oid types[1] = {TIDOID};
	Datum values[1] = {PointerGetDatum(&tuple->t_self)};
	Oid user;
	int context;

	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(relation->rd_rel->relowner,
						   context | SECURITY_LOCAL_USERID_CHANGE |
							   SECURITY_RESTRICTED_OPERATION);
	SPI_connect();
	(void) dc_transaction_fresh_stamp(); /* above the death */
	if (SPI_execute_with_args(sql, 1, types, values, NULL, false, 0) !=
		SPI_OK_UPDATE)
		elog(ERROR, "could not stamp a row of \"%s\" again",
			 RelationGetRelationName(relation));
	SPI_finish();
	SetUserIdAndSecContext(user, context);
	dc_count(DC_COUNT_RESTAMPED, 1);
}

/* Has this transaction written the row once more, or deleted it? */
static bool
is_ended(HeapTupleHeader row)
{
	return (row->t_infomask & HEAP_XMAX_INVALID) == 0 &&
		   !HEAP_XMAX_IS_LOCKED_ONLY(row->t_infomask) &&
		   TransactionIdIsCurrentTransactionId(
			   HeapTupleHeaderGetUpdateXid(row));
}

/* COPY FREEZE leaves a row without its xmin, but with the command. */
static CommandId
written_by(HeapTupleHeader row)
{
	return HeapTupleHeaderXminFrozen(row) ?
			   HeapTupleHeaderGetRawCommandId(row) :
			   HeapTupleHeaderGetCmin(row);
}

static void
capture_live(DcRel *rel, Relation relation, HeapTuple tuple, Row *row,
			 DcHlc replaced, bool insert)
{
	DcCaptured captured = {.key = row->key,
						   .entry = {.stamp = row->stamp, .dead = false},
						   .replaced = replaced,
						   .command = written_by(tuple->t_data),
						   .ended = is_ended(tuple->t_data),
						   .insert = insert};
	StringInfoData image;

	check_owned(relation, row->stamp);
	if (dc_death_after(rel->slot, row->key, row->stamp) != DC_HLC_NONE)
	{
		restamp(relation, tuple);
		return;
	}
	initStringInfo(&image);
	dc_rel_image(rel, rel->values, rel->nulls, &image);
	dc_change_capture(rel, &captured, &image);
}

static void
capture_dead(DcRel *rel, HeapTuple tuple, const Row *row)
{
	DcCaptured captured = {.key = row->key,
						   .entry = {.stamp = dc_transaction_stamp(),
									 .dead = true},
						   .replaced = row->stamp,
						   .command = HeapTupleHeaderGetCmax(tuple->t_data)};

	dc_change_capture(rel, &captured, NULL);
}

static void
capture_update(TriggerData *data, DcRel *rel)
{
	Relation relation = data->tg_relation;
	bool stays =
		key_stays(rel, relation, data->tg_trigtuple, data->tg_newtuple);
	DcHlc replaced = stamp_of(rel, relation, data->tg_trigtuple);
	Row old;
	Row new;

	if (!stays)
		take_apart(rel, relation, data->tg_trigtuple, &old);
	take_apart(rel, relation, data->tg_newtuple, &new);
	if (!stays && !same_key(&old, &new))
	{
		capture_dead(rel, data->tg_trigtuple, &old);
		replaced = DC_HLC_NONE;
	}
	capture_live(rel, relation, data->tg_newtuple, &new, replaced, false);
}

static void
capture(TriggerData *data, DcRel *rel)
{
	Relation relation = data->tg_relation;
	Row row;

	if (TRIGGER_FIRED_BY_UPDATE(data->tg_event))
	{
		capture_update(data, rel);
		return;
	}
	take_apart(rel, relation, data->tg_trigtuple, &row);
	if (TRIGGER_FIRED_BY_DELETE(data->tg_event))
		capture_dead(rel, data->tg_trigtuple, &row);
	else
		capture_live(rel, relation, data->tg_trigtuple, &row, DC_HLC_NONE,
					 true);
}

/* AFTER INSERT OR UPDATE OR DELETE, first of its kind: notes the change. */
Datum
datacake_capture_row(PG_FUNCTION_ARGS)
{
	TriggerData *data = row_trigger(fcinfo, false);

	if (dc_applying || !datacake_capture)
		return PointerGetDatum(NULL);
	/* trigger functions run in a context that is reset after each row */
	capture(data, keyspace_of(data->tg_relation));
	return PointerGetDatum(NULL);
}

/*
 * TRUNCATE of one partition: each of its rows dies.  If all of the table is
 * truncated, the root came before its partitions, and that says it all.
 */
static void
truncate_partition(DcRel *rel)
{
	if (!dc_change_truncated(rel->slot))
		dc_partition_bury(rel->relid);
}

/*
 * BEFORE TRUNCATE: the table is locked, nothing else writes to it, and a stamp
 * drawn now is above all of its rows.
 */
Datum
datacake_capture_truncate(PG_FUNCTION_ARGS)
{
	TriggerData *data = (TriggerData *) fcinfo->context;
	DcRel *rel;
	StringInfoData known;

	if (!CALLED_AS_TRIGGER(fcinfo) ||
		!TRIGGER_FIRED_BY_TRUNCATE(data->tg_event))
		ereport(ERROR, (errcode(ERRCODE_E_R_I_E_TRIGGER_PROTOCOL_VIOLATED),
						errmsg("function \"%s\" must be fired by TRUNCATE",
							   "datacake.capture_truncate")));
	dc_require_loaded();
	if (dc_applying || !datacake_capture)
		return PointerGetDatum(NULL);
	rel = keyspace_of(data->tg_relation);
	if (rel->id == DC_CATALOGUE_ID)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot TRUNCATE the definitions of all keyspaces"),
				 errhint("Use SELECT datacake.unreplicate_table(...).")));
	if (rel->root != rel->relid)
	{
		truncate_partition(rel);
		return PointerGetDatum(NULL);
	}
	initStringInfo(&known);
	dc_floor_known(rel->slot, &known);
	SPI_connect();
	dc_floor_write(rel->slot, dc_change_truncate(rel, &known));
	SPI_finish();
	return PointerGetDatum(NULL);
}
