/*
 * tombstone.h
 *		Deaths as rows: the durable side of dead entries.
 *
 * datacake.tombstone is append-only and has no index: nobody looks a death up
 * in it (the metadata answers that), it is read whole after a restart and
 * thinned by the purge.  A key that died twice has two rows; the greater
 * stamp counts.
 */
#ifndef DATACAKE_TOMBSTONE_H
#define DATACAKE_TOMBSTONE_H

#include "postgres.h"

#include "metadata.h"

typedef struct DcTombstoneWriter DcTombstoneWriter;

/* For one transaction, before its commit; ordinary ERRORs. */
extern DcTombstoneWriter *dc_tombstone_begin(void);
extern void dc_tombstone_add(DcTombstoneWriter *writer, uint64 keyspace_id,
							 DcKey key, DcHlc stamp);
extern void dc_tombstone_end(DcTombstoneWriter *writer);

/*
 * There is one of this stamp in the table, or will be; the purge looks for it.
 * One that comes late, below the horizon, goes with the next horizon.
 */
extern void dc_tombstone_written(DcHlc stamp);

#endif
