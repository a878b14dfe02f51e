/*
 * changes.h
 *		The changes of the running transaction, and what happens to them when
 *		it ends.
 *
 *	statement    dc_change_capture()           list in private memory
 *	PRE_COMMIT   whatever can fail         tombstone rows written, deaths
 *	                                       announced, queue room and map slots
 *	                                       reserved, batch serialised
 *	COMMIT       nothing that can fail     entries merged, batch published,
 *	                                       vector moved, slot emptied
 *	ABORT        everything given back
 *
 * Captured changes (made here) are shipped; applied ones (made elsewhere) are
 * only merged.  A rolled back savepoint cuts its part off the list.
 */
#ifndef DATACAKE_CHANGES_H
#define DATACAKE_CHANGES_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "rel.h"

/* A change made here. */
typedef struct DcCaptured
{
	DcKey key;
	DcEntry entry;
	DcHlc replaced;    /* stamp of the row before; DC_HLC_NONE: none */
	CommandId command; /* that wrote the row, or ended it */
	bool ended;        /* the row was written once more, or deleted, since */
	bool insert;       /* by an INSERT */
} DcCaptured;

/*
 * Notes it, and what the row is like then (NULL when dead).  Bytes are copied.
 * Of several changes of one key the last one stands, whatever their order.
 */
extern void dc_change_capture(DcRel *rel, const DcCaptured *captured,
							  StringInfo image);

/*
 * Notes a change made elsewhere.  `replaced`: stamp of the row before,
 * DC_HLC_NONE if there was none or if it was this transaction's own.
 */
extern void dc_change_apply(int slot, DcKey key, DcEntry entry, DcHlc replaced);

/* The same where nothing was known of the key a moment ago. */
extern void dc_change_apply_new(int slot, DcKey key, DcEntry entry);

/*
 * This transaction truncates the table: a floor above all it wrote to it and
 * below all that it will write; its stamp.  `known`: what is known here of the
 * keyspace (known.h), or empty.  A rolled back savepoint takes it
 * back.
 */
extern DcHlc dc_change_truncate(DcRel *rel, StringInfo known);

/* Is a TRUNCATE of all of it the last change of this keyspace here? */
extern bool dc_change_truncated(int slot);

/* Notes, and announces (P1), a TRUNCATE made elsewhere. */
extern void dc_change_floor(int slot, DcHlc stamp);

/*
 * R8: this transaction decides by entries of the keyspace, and acts on it by
 * its end at the latest.  To be called before they are read.
 */
extern void dc_change_decide(int slot);

/*
 * Announces a death now (P1), before its row is looked for; settled when the
 * (sub)transaction ends.
 */
extern void dc_change_announce(int slot, DcKey key, DcHlc stamp);

/*
 * This transaction made entries whose rows were not captured: publishes a
 * gap, so that links send them by a catch-up.
 */
extern void dc_changes_gap(void);

/*
 * The stamp under which this transaction deleted the key or truncated its
 * table, if that was the last it did to it; DC_HLC_NONE: it did not.
 */
extern DcHlc dc_change_own_death(int slot, DcKey key);

#endif
