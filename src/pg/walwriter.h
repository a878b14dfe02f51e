/*
 * walwriter.h
 *		Asynchronous commits that do not wake the WAL writer one by one.
 *
 * Before PostgreSQL 17 each asynchronous commit signals the WAL writer as soon
 * as a page of the log is full and not flushed, and it finds nothing to do.
 * Whoever flushes what he commits, and soon, spares it that:
 *
 *	   mute, commit, unmute ... mute, commit, unmute ... flush, wake
 */
#ifndef DATACAKE_WALWRITER_H
#define DATACAKE_WALWRITER_H

/* From now on no commit, of any process, signals the WAL writer ... */
extern void dc_walwriter_mute(void);

/* ... and now they do again.  Also when the transaction fails. */
extern void dc_walwriter_unmute(void);

/*
 * Wakes it for whoever could not meanwhile, if it was mute since the last call.
 * Also when a transaction fails and when the process ends.
 */
extern void dc_walwriter_wake(void);

#endif
