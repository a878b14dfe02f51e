/*
 * heal.h
 *		Keys that readers found stale somewhere, for the repairer.
 *
 *	 reader --> ring of keys in shared memory --> repairer: the rows, one way
 *
 * A reader mends nothing itself: its transaction may be read only, may be
 * rolled back, and runs as somebody who may not write.  The ring is bounded;
 * what does not fit is left to the stream and to the next repair.
 */
#ifndef DATACAKE_HEAL_H
#define DATACAKE_HEAL_H

#include "postgres.h"

#include "scrub.h"

extern Size dc_heal_bytes(void);
extern void dc_heal_attach(void);

/* One keyspace, one peer, one direction. */
typedef struct DcHeal
{
	uint64 keyspace;
	uint32 node_id; /* the peer */
	bool fetch;     /* the peer has the newer version; else it lacks it */
} DcHeal;

/* Notes a key and wakes the repairer; once is enough.  Never fails. */
extern void dc_heal_push(const DcHeal *heal, DcKey key);

/* Takes the oldest keys that belong together; false: there are none. */
extern bool dc_heal_take(DcHeal *heal, DcKeyList *keys);

#endif
