/*
 * transaction.h
 *		The running transaction: its stamps, and what happens when it ends.
 */
#ifndef DATACAKE_TRANSACTION_H
#define DATACAKE_TRANSACTION_H

#include "postgres.h"

#include "hlc.h"

/* Registers the transaction callbacks; at load time. */
extern void dc_transaction_init(void);

/*
 * The stamp of this transaction; drawn, behind a published slot, once.  ERROR
 * if the node is leaving.
 */
extern DcHlc dc_transaction_stamp(void);

/* Another stamp for this transaction, from now on its current one. */
extern DcHlc dc_transaction_fresh_stamp(void);

/* Was this stamp drawn by this transaction? */
extern bool dc_transaction_owns(DcHlc stamp);

/* The stamp, or DC_HLC_NONE if this transaction drew it. */
extern DcHlc dc_transaction_foreign(DcHlc stamp);

#endif
