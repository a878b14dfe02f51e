/*
 * keyspace.h
 *		Tables become keyspaces, here and on the peers.
 *
 * A definition (definition.h) travels as a row, ahead of the rows of its table
 * (P16).  When such a row is applied, the table is created or checked, and
 * adopted.
 */
#ifndef DATACAKE_KEYSPACE_H
#define DATACAKE_KEYSPACE_H

#include "postgres.h"

#include "storage/lockdefs.h"
#include "utils/rel.h"

#include "metadata.h"
#include "rel.h"

/* At load time, before dc_transaction_init(): its callback must run after. */
extern void dc_keyspace_init(void);

/*
 * Makes the definition with this id real on this node: creates or checks the
 * table as its owning role and adopts its rows.  Does nothing if done.
 * ordinary ERRORs; runs inside the apply transaction or the maintainer's.
 */
extern void dc_keyspace_realize(uint64 id);

/* The definition with this id was deleted: the table becomes ordinary. */
extern void dc_keyspace_dissolve(uint64 id);

/* The table was dropped here: the keyspace ends, here or on all nodes. */
extern void dc_keyspace_dropped(Oid relid, bool everywhere);

/*
 * Enters every keyspace, with its table if it has one here, and the aliases of
 * names that were created twice.  Locks no table of a user.  By the launcher,
 * in a transaction, before the node is awake: from then on memory says which
 * table is which keyspace.
 */
extern void dc_keyspace_load_all(void);

/*
 * Lets the map of a keyspace grow at once to the rows that its table has, as
 * the last VACUUM or ANALYZE counted them.  Before their entries are merged.
 */
extern void dc_keyspace_expect_rows(int slot);

/*
 * Calls `visit` for each row of a keyspace's table that the snapshot shows,
 * with its key; returns how many there were.  AccessShareLock stays.
 */
typedef void (*DcRowVisitor)(DcRel *rel, TupleTableSlot *row, DcKey key,
							 void *arg);
extern uint64 dc_keyspace_visit(int slot, Snapshot snapshot, DcRowVisitor visit,
								void *arg);

/* Relation of a keyspace slot with this lock, or NULL if it has none. */
extern Relation dc_keyspace_open_relation(int slot, LOCKMODE lock);

#endif
