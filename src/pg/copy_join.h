/*
 * copy_join.h
 *		An empty node copies the rows of another one, and then catches up.
 *
 * A node without any row, which knows nothing of other sources, first asks one
 * member for everything (copy.h), over a connection of its own.  Until that is
 * over it takes no links: its welcome says so, and the peers come again.  What
 * was committed meanwhile is then an ordinary catch-up.
 */
#ifndef DATACAKE_COPY_JOIN_H
#define DATACAKE_COPY_JOIN_H

#include "postgres.h"

/* Does this node copy first? */
extern bool dc_copy_wanted(void);

/* At start, SPI connected: was a copy begun in this incarnation? */
extern void dc_copy_load(uint64 incarnation);

/*
 * Copies, if that is wanted.  Repairer, outside of a transaction; `check`,
 * called while waiting, may raise.  What fails is tried again at the next
 * call, from where it stopped; after some failures the node does without.
 */
extern void dc_copy_run(void (*check)(void));

#endif
