/*
 * progress.h
 *		What takes long, as datacake.progress shows it.
 *
 *	copy       this node copies another one            by its repairer
 *	catch-up   a link sends what its peer lacks        by the replicator
 *
 * Guarded by DC_LOCK_LINKS; what a process showed goes when it ends or the
 * next one of its kind begins.
 */
#ifndef DATACAKE_PROGRESS_H
#define DATACAKE_PROGRESS_H

#include "postgres.h"

#include "shmem.h"

/*
 * The copy of this node as it stands, NULL: it is over, or stopped.  When it
 * began, and how fast it goes, is found here.
 */
extern void dc_progress_copy(const DcProgress *progress);

/* A catch-up begins; its link's counters say how far it came. */
extern void dc_progress_begin(DcProgress *progress, uint32 node_id,
							  const char *phase);

#endif
