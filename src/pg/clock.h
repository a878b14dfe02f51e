/*
 * clock.h
 *		The cluster clock of this server, and the slots of writers in flight.
 *
 * Time is CLOCK_MONOTONIC plus the wall time read at start, so a step of the
 * wall clock does not disturb stamps.  The last stamp is one atomic word.  No
 * stamp passes the durable bound (R14): a draw beyond it waits on a condition
 * variable until the launcher has moved the bound.
 *
 * A writer publishes its slot before it draws (R1), so that whoever computes
 * a watermark either sees the slot or drew first.
 */
#ifndef DATACAKE_CLOCK_H
#define DATACAKE_CLOCK_H

#include "postgres.h"

#include "shmem.h"

/* Microseconds since 2000-01-01 UTC; steady. */
extern uint64 dc_now_us(void);

/* Re-reads the wall clock; called at start and by the launcher. */
extern void dc_clock_anchor(void);

/*
 * R15: no stamp is drawn for twice the drift; after a start in a cluster, and
 * when this node learns that a part of its past was lost.
 */
extern void dc_clock_be_silent(void);

/* Draws the next stamp; may wait for the bound; interruptible. */
extern DcHlc dc_clock_draw(void);

/* Draws without waiting; DC_HLC_NONE when the bound is reached. */
extern DcHlc dc_clock_try_draw(void);

/*
 * Takes in a stamp from elsewhere.  ERROR YD022 if it lies ahead of the wall
 * time by more than datacake.max_clock_drift.
 */
extern void dc_clock_observe(DcHlc stamp);

/*
 * Waits until the durable bound covers a stamp that was taken in (R14), as
 * dc_clock_draw() does for its own.
 */
extern void dc_clock_await_bound(DcHlc stamp);

/* Flushes all WAL that was inserted so far, whoever wrote it. */
extern void dc_flush_all(void);

/* Publishes a lower bound of this backend's stamps; keeps an earlier one. */
extern void dc_slot_publish(void);

/* Empties the slot of this backend; safe anywhere, cannot fail. */
extern void dc_slot_clear(void);

/*
 * R6: from here on the transaction may become visible before its entries are
 * merged; to be ended when they are, or when it aborts: cannot fail, and may
 * be ended without having begun.
 */
extern void dc_settling_begin(void);
extern void dc_settling_end(void);

/*
 * Waits until all that any snapshot so far can have shown is merged.  That
 * takes as long as commits under way, never as long as open transactions.
 */
extern void dc_settling_await(void);

/* Is no transaction in flight that may have a stamp at or below this one? */
extern bool dc_slots_above(DcHlc stamp);

/*
 * Computes and publishes W (R2, P9): draw, or read the clock at its bound; read
 * slots; flush up to the last merged commit.  Returns it.  By the replicator only; flushes WAL.
 */
extern DcHlc dc_watermark_publish(void);

/* Text form "2026-11-20 17:30:00.123456+00@3" of a stamp, palloc'd. */
extern char *dc_hlc_out(DcHlc stamp);

#endif
