/*
 * walwriter.h
 *		Asynchronous commits that do not wake the WAL writer one by one.
 */
#ifndef DATACAKE_WALWRITER_H
#define DATACAKE_WALWRITER_H

/*
 * Until dc_walwriter_release(), no commit wakes the WAL writer: the caller
 * flushes what it commits, soon.  Before PostgreSQL 17 each asynchronous commit
 * does, as soon as a page of the log is full and not flushed, and it finds
 * nothing to do.  Others' asynchronous commits wait for it no longer than ours.
 */
extern void dc_walwriter_hold(void);

/*
 * Wakes it, if that was held back.  Done at the end of a transaction that
 * fails, and of the process, too.
 */
extern void dc_walwriter_release(void);

#endif
