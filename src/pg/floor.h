/*
 * floor.h
 *		TRUNCATE: one stamp that is a death of every key of a keyspace.
 *
 *	at the node that truncates      elsewhere
 *	--------------------------      ------------------------------------------
 *	BEFORE TRUNCATE: a stamp above  announced, written, rows at or below it
 *	all rows, written; COMMIT       deleted; what is locked just then is left;
 *	raises the floor                COMMIT raises the floor
 *	                       \        /
 *	                   maintainer: entries at or below it leave the map, rows
 *	                   that were left or came late leave the heap
 *
 * The order in which a TRUNCATE and other writes arrive means nothing: what is
 * at or below the floor is dead whenever it comes.  A floor is never purged.
 */
#ifndef DATACAKE_FLOOR_H
#define DATACAKE_FLOOR_H

#include "postgres.h"

#include "table.h"

/*
 * Writes the floor into datacake.floor and drops what waits below it in the
 * quarantine, in the running (sub)transaction, inside SPI_connect().
 */
extern void dc_floor_write(int slot, DcHlc stamp);

/*
 * Appends what this node knows of the keyspace (known.h), or nothing if that
 * is too much.  The table is locked against every writer.
 */
extern void dc_floor_known(int slot, StringInfo out);

/* At start, before any entry: raises what datacake.floor says. */
extern void dc_floor_load(void);

/*
 * Deletes the rows at or below the stamp; each is shown to `visit` before, in
 * table->local.  Waits for nobody: a row that somebody keeps locked stays, and
 * without `visit` is queued for the maintainer.
 */
typedef void (*DcFloorVisitor)(DcTable *table, void *arg);
extern void dc_floor_erase(DcTable *table, DcHlc stamp, DcFloorVisitor visit,
						   void *arg);

/*
 * Maintainer, in a transaction of its own: what an apply left in the heap.
 * Does nothing where nothing was left, or while the table is locked.
 */
extern void dc_floor_sweep(int slot);

/* Maintainer, likewise: rows of floors and tombstones that count no more. */
extern void dc_floor_thin(int slot, DcHlc stamp);

#endif
