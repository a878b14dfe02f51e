/*
 * table.h
 *		Writing rows of a replicated table below its capture.
 *
 * One open table with its indexes, in the current (sub)transaction.  Rows are
 * found by key and locked; writers in progress are waited for.  Triggers fire
 * as session_replication_role says, except ours, which let pass what is written
 * here.
 *
 * Of a partitioned table each partition is a DcTable of its own, opened when a
 * key first leads there; `remote` and `local` of the root are rows of the root.
 */
#ifndef DATACAKE_TABLE_H
#define DATACAKE_TABLE_H

#include "postgres.h"

#include "executor/executor.h"

#include "rel.h"

typedef struct DcTable
{
	Relation relation;
	DcRel *rel;
	EState *estate;
	ResultRelInfo *result;
	EPQState epq;
	TupleTableSlot *remote; /* what comes in: a key, then a row */
	TupleTableSlot *local;  /* what was found and locked */
	List *parts;            /* DcTable of each partition used so far */
	struct DcTable *at;     /* where the key leads: itself, or NULL: nowhere */
	bool check;
	bool plain; /* rows can be written without their lock */
} DcTable;

/*
 * RowExclusiveLock held on the relation by the caller.  `check`: unique
 * values will be looked up before rows are written.
 */
extern void dc_table_open(DcTable *table, Relation relation, DcRel *rel,
						  bool check);
extern void dc_table_close(DcTable *table);

/*
 * Finds the row of a key and locks it; its stamp, or DC_HLC_NONE if there is
 * none.  Leaves the key in `remote`.
 */
extern DcHlc dc_table_find(DcTable *table, const uint8 *key, Size length);

/*
 * The same without a lock, in a table that is plain; also DC_HLC_NONE if
 * somebody is writing to the row.
 */
extern DcHlc dc_table_look(DcTable *table, const uint8 *key, Size length);

/* A row that `remote` cannot be beside, into `local`; not locked. */
extern bool dc_table_find_rival(DcTable *table, ItemPointer tid);

/* The row in `local` of a partition, into `local` of the table. */
extern void dc_table_show(DcTable *table, DcTable *part);

/* This partition, or the table itself, opened alike. */
extern DcTable *dc_table_part(DcTable *table, Oid relid);

/*
 * False: nothing was done, a BEFORE ROW trigger that fires here, too, left it
 * out.
 */
extern bool dc_table_insert(DcTable *table); /* remote */
extern bool dc_table_update(DcTable *table); /* local -> remote */
extern bool dc_table_delete(DcTable *table); /* local */

/* ERROR unless it was done. */
extern void dc_table_require(const DcTable *table, bool done);

/*
 * The same after dc_table_look().  False: nothing was done, because the row has
 * been locked or written since.
 */
extern bool dc_table_try_update(DcTable *table);
extern bool dc_table_try_delete(DcTable *table);

/*
 * Generated columns and constraints of a row that is about to be written by
 * that command, as the executor does; ERROR if it is not allowed.
 */
extern void dc_table_check_row(DcTable *table, TupleTableSlot *slot,
							   CmdType command);

/*
 * Does a row trigger of somebody else fire for rows written in this session?
 * `events` of TRIGGER_TYPE_INSERT, _UPDATE and _DELETE.
 */
extern bool dc_table_fires(Relation relation, int16 events);

#endif
