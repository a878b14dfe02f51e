/*
 * quarantine.h
 *		Changes that cannot be in their table yet (P12): put there, and looked
 *		at again.
 *
 * A row waits because of an error, and is tried again on a schedule; or
 * because of a row that outranks it (P3, rival.h), and is tried again when
 * that has changed.
 */
#ifndef DATACAKE_QUARANTINE_H
#define DATACAKE_QUARANTINE_H

#include "postgres.h"

#include "hlc.h"
#include "wire.h"

typedef struct DcWaiting
{
	int slot;
	DcSlice key;
	DcHlc stamp;
	bytea *change; /* as a batch of one */
	const char *sqlstate;
	const char *message;
	DcSlice other;     /* key of the row that outranks it; empty: none */
	DcHlc other_stamp; /* and its stamp */
	bool told;         /* as a conflict with that row */
} DcWaiting;

/*
 * Puts a change there, or counts one more try of one that is there already;
 * something newer that waits for the key stays.  Inside SPI_connect().
 */
extern void dc_quarantine_put(const DcWaiting *waiting);

/* Is this change there, and told as a conflict with that row? */
extern bool dc_quarantine_is_told(const DcWaiting *waiting);

/*
 * Maintainer: what waits for a row that is not in its way any more, or can be
 * told as a conflict by now, becomes due.  Looks at a part of them each time.
 */
extern void dc_quarantine_look(void);

/*
 * Does this change wait because its columns are not those of the table here?
 * They may fit by now at its source.  Inside SPI_connect().
 */
extern bool dc_quarantine_misfits(int slot, DcSlice key, DcHlc stamp);

/* The change of this key becomes due, if it waits under this stamp. */
extern void dc_quarantine_wake(int slot, DcSlice key, DcHlc stamp);

#endif
