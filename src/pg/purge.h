/*
 * purge.h
 *		Forgetting deaths that every member knows (R8).
 *
 *	 horizon g durable, and used
 *	   -> who decided before that has acted     (DcKeyspace.readers)
 *	   -> keys of which row and entry may disagree are mended
 *	   -> changes that wait and were overtaken do not wait any more
 *	   -> dead entries <= g leave the map, then their rows the table
 *
 * Each step is needed.  Apply finds a key absent, and writes its row a moment
 * later: the death that comes in between must not be forgotten before that.  A
 * row that outlived its death, and a change that waits, are told from live
 * ones only by that death.
 */
#ifndef DATACAKE_PURGE_H
#define DATACAKE_PURGE_H

#include "postgres.h"

/*
 * One step, as far as it goes without waiting long; from the maintainer,
 * outside of a transaction, `mended`: nothing is left to be mended.  `check`
 * is called now and then.  False: there is more to do.
 */
extern bool dc_purge(bool (*mended)(void), void (*check)(void));

#endif
