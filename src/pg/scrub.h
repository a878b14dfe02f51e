/*
 * scrub.h
 *		Do the table and the metadata of this node agree?
 *
 * They can only differ where a row was written behind the back of capture:
 * triggers disabled, datacake.capture off, a page restored.  One pass over the
 * table, in transactions of some megabytes each, looks up the entry of every
 * row and adds up fingerprints by leaf; where the sums of the metadata are
 * others, entries without a row are looked for by key.  A key that does not
 * agree is looked at again, because a commit is visible before it is merged;
 * if it still does not, its row is locked and
 *
 *	a row without entry, or newer than it  is written anew by this node
 *	a row older than its death or TRUNCATE is deleted
 *	a row older than its entry, or gone    is fetched from a peer
 */
#ifndef DATACAKE_SCRUB_H
#define DATACAKE_SCRUB_H

#include "postgres.h"

#include "keyspace.h"

/* Keys, in a memory context of their own. */
typedef struct DcKeyList
{
	MemoryContext context;
	DcSlice *keys;
	uint32 count;
	uint32 capacity;
	uint32 at; /* of whoever works it off */
} DcKeyList;

extern void dc_key_list_init(DcKeyList *list, MemoryContext parent);
extern void dc_key_list_add(DcKeyList *list, const uint8 *key, Size length);
extern void dc_key_list_clear(DcKeyList *list);

/*
 * Calls `visit` for the rows of a keyspace, some pages in a transaction.
 * Rows that are updated meanwhile may be met twice, or not at all.
 */
extern uint64 dc_scrub_visit(int slot, DcRowVisitor visit, void *arg,
							 void (*check)(void));

typedef struct DcScrubbed
{
	uint64 rows;   /* looked at */
	uint64 mended; /* settled here */
	uint64 reading_us;
} DcScrubbed;

/* From a worker, outside of a transaction; `lost`: to be fetched. */
extern DcScrubbed dc_scrub(int slot, DcKeyList *lost, void (*check)(void));

/* Which of the keys still have a live entry without its row. */
extern uint32 dc_scrub_count_lost(int slot, const DcKeyList *keys);

#endif
