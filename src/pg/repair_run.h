/*
 * repair_run.h
 *		Comparing this node with a peer and mending both (R9).
 *
 *	 datacake.repair() --> one job in shared memory --> repairer (a worker)
 *	                                                       |
 *	   scrub: table and metadata of this node (scrub.h)    |
 *	   ask a peer: repair.h of the core over caller.h      v
 *	   rows, both ways, in transactions of a batch each;  outcome, and a row
 *	   none is open while a peer is waited for            in datacake.repaired
 *
 * What differs is only a candidate: each row that arrives is applied like any
 * other change, by the stamps of row and entry under the row's lock.
 */
#ifndef DATACAKE_REPAIR_RUN_H
#define DATACAKE_REPAIR_RUN_H

#include "postgres.h"

#include "rel.h"
#include "repair.h"
#include "scrub.h"
#include "shmem.h"

/*
 * Does one plan.  From a worker, outside of a transaction.  ERROR if the peer
 * cannot be asked; `check`, called now and then, may raise.
 */
extern void dc_repair_run(const DcRepairPlan *plan, DcRepairOutcome *outcome,
						  void (*check)(void));

/*
 * Takes the rows of some keys from the peer, or gives it this node's;
 * otherwise like dc_repair_run().
 */
extern void dc_repair_keys(const DcRepairPlan *plan, const DcKeyList *keys,
						   bool fetch, DcRepairOutcome *outcome,
						   void (*check)(void));

/* What this node is at this moment, for the core; fills *vector. */
extern DcRepairNode dc_repair_self(int slot, DcVv *vector);

/* Notes an outcome in datacake.repaired; in a transaction, SPI connected. */
extern void dc_repair_note(const DcRepairOutcome *outcome);

/* --- the images of rows (repair_images.c) --- */

#define DC_IMAGE_BITS 12u /* leaves whose image sums are compared */

typedef struct DcImageSums
{
	uint64 at[1 << DC_IMAGE_BITS];
} DcImageSums;

/*
 * Names and types of the columns, in any order: images of tables that are not
 * alike are not compared.  0: there is no table.
 */
extern uint64 dc_columns_hash(int slot);

/* Over all rows. */
extern uint64 dc_image_sum(const DcImageSums *sums);

/* Row hash: key, stamp, and name and value of each column. */
extern uint64 dc_row_hash(DcRel *rel, TupleTableSlot *row, StringInfo scratch);

/* Adds the rows of the keyspace; starts and ends transactions. */
extern void dc_image_sums(int slot, DcImageSums *sums, void (*check)(void));

/* The same in the running transaction, under one snapshot. */
extern void dc_image_sums_here(int slot, DcImageSums *sums);

#endif
