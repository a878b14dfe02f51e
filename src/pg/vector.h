/*
 * vector.h
 *		The version vector of this node: moved by apply, made durable later.
 *
 * In memory it moves when the transaction that took the changes has committed
 * and is flushed (R4).  On disk it lags (P14): the launcher writes it at most
 * once a second; a restart claims only what is on disk.
 */
#ifndef DATACAKE_VECTOR_H
#define DATACAKE_VECTOR_H

#include "postgres.h"

#include "shmem.h"

/* A copy of V. */
extern void dc_vector_read(DcVv *vector);

/*
 * Another number whenever V or `incoming` has changed; read it before them.
 * Who changed them says so, with the lock held.
 */
static inline uint64
dc_vector_version(void)
{
	uint64 version = pg_atomic_read_u64(&dc_shared->vector_version);

	pg_read_barrier();
	return version;
}

static inline void
dc_vector_changed(void)
{
	pg_atomic_fetch_add_u64(&dc_shared->vector_version, 1);
}

/*
 * To be done when the running transaction commits: close segment (from, to]
 * of a source, or adopt a donor's vector after its catch-up.
 */
extern void dc_vector_plan_segment(uint32 source, DcHlc from, DcHlc to);
extern void dc_vector_plan_adopt(uint32 peer, const DcVv *donor,
								 const DcVv *base, const DcHorizon *horizon);

/* From the transaction callbacks; cannot fail. */
extern void dc_vector_at_commit(void);
extern void dc_vector_at_abort(void);

/*
 * Launcher: writes V into datacake.vector in the running transaction; returns
 * what it wrote, which is durable after the commit.
 */
extern const DcVv *dc_vector_save(void);

/* At start: loads V from datacake.vector. */
extern void dc_vector_load(void);

#endif
