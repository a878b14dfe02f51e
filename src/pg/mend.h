/*
 * mend.h
 *		What the maintainer does for rows that could not be settled at once.
 *
 * All of these run in a transaction of the maintainer, inside SPI_connect().
 */
#ifndef DATACAKE_MEND_H
#define DATACAKE_MEND_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "hlc.h"
#include "table.h"

/*
 * Makes heap row and entry of one key agree (P2): erases a row that outlived
 * its death, or merges a row that is newer than its entry.  False: the entry
 * is newer than what is here and does not wait; look again later.
 */
extern bool dc_mend_key(uint64 id, const uint8 *key, Size length);

/* What the scrub finds under the lock of a row (scrub.h). */
typedef enum DcScrubVerdict
{
	DC_SCRUB_AGREES,
	DC_SCRUB_MENDED,
	DC_SCRUB_LOST /* the entry is live and newer than what is here */
} DcScrubVerdict;

/*
 * Locks the row of a key and settles what was written behind our back.  A row
 * that the metadata does not know is written anew by this node.
 */
extern DcScrubVerdict dc_mend_scrubbed(int slot, const uint8 *key, Size length);

/* Writes the locked row of table->local once more, as this node's own. */
extern void dc_mend_reissue(DcTable *table);

/* Compares every row of every keyspace with its entry; mends what differs. */
extern void dc_mend_all(void);

/*
 * Tries again, where that is due, changes that wait in the quarantine and
 * definitions that could not be realized; trims the record of conflicts.  May
 * there be any of these?
 */
extern bool dc_mend_waiting(void);

/* When this transaction has committed, all of that is due at once. */
extern void dc_retry_soon(void);

/*
 * The waiting change of a key, as a batch of its own, if its stamp is this
 * one.  Appended to `batch`.
 */
extern bool dc_mend_find_waiting(uint64 id, const uint8 *key, Size length,
								 DcHlc stamp, StringInfo batch);

#endif
