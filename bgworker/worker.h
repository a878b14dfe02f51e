/*
 * worker.h
 *		What the background workers have in common.
 *
 * A worker is crash-only: an ERROR ends the process, the launcher (for the
 * launcher itself the postmaster) starts it again, and the restart is a
 * tested path.  Each has one main function in a file of its own.
 */
#ifndef DATACAKE_WORKER_H
#define DATACAKE_WORKER_H

#include "postgres.h"

#include "shmem.h"

#define DC_LIBRARY "datacake"

/*
 * How often the workers look whether there is something to do, the launcher
 * saves V, and the replicator moves the watermark of a node that writes
 * nothing; the second, when nothing happened of late (dc_shared->quiet).  The
 * first commit after that ends it for all of them at once.
 */
#define DC_TURN_MS       1000
#define DC_QUIET_TURN_MS 10000

/* Registers the launcher; from _PG_init. */
extern void dc_launcher_register(void);

/*
 * First call of a worker's main: signal handlers (SIGTERM, SIGHUP), the slot
 * in dc_shared->workers, and with `database` a connection to
 * datacake.database as the bootstrap superuser.  Exits if another process
 * already is this worker.
 */
extern void dc_worker_begin(DcWorkerKind kind, bool database);

/*
 * Between two turns: rereads the configuration after SIGHUP and leaves the
 * process after SIGTERM or when the postmaster died.
 */
extern void dc_worker_check(void);

/* A short transaction with a snapshot, inside SPI; and its end. */
extern void dc_worker_begin_transaction(void);
extern void dc_worker_commit(void);

/* Milliseconds until the next turn of a worker that left nothing open, or did. */
extern long dc_worker_turn_ms(bool open);

/* Sleeps until the latch is set or `timeout_ms` passed, then checks. */
extern void dc_worker_wait(long timeout_ms, uint32 wait_event);

#endif
