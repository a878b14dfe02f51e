/*
 * vector.h
 *		The version vector of this node: moved by apply, made durable later.
 *
 * In memory it moves when the transaction that took the changes has committed
 * and is flushed (R4).  On disk it lags (P14): the launcher writes it at most
 * once a second; a restart claims only what is on disk.
 * With it go the debts: what V claims and third nodes have yet to bring.
 */
#ifndef DATACAKE_VECTOR_H
#define DATACAKE_VECTOR_H

#include "postgres.h"

#include "shmem.h"

/* A copy of V; and with what is owed below it. */
extern void dc_vector_read(DcVv *vector);
extern void dc_vector_read_debts(DcVv *vector, DcDebts *debts);

/* Is all here that V claims? */
extern bool dc_vector_settled(void);

/*
 * Is this stamp's transaction here, or what is newer?  Asked again and again,
 * from all zero bytes on: what is owed later than V came to cover the stamp
 * does not matter.
 */
typedef struct DcVectorWait
{
	bool covered;
	DcVv owed; /* then */
} DcVectorWait;

extern bool dc_vector_has(DcHlc stamp, DcVectorWait *wait);

/* What sources owe that are no members of this list, nobody will bring. */
extern void dc_vector_forgive(const DcMembers *list);

/*
 * Another number whenever V, debts or `incoming` have changed; read it before them.
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
								 const DcVv *base, DcSlice debts,
								 const DcHorizon *horizon);

/*
 * The running transaction commits asynchronously: what is to be done then waits
 * for dc_vector_release(), which this process calls when it is flushed.
 */
extern void dc_vector_hold(void);
extern void dc_vector_release(void);

/* From the transaction callbacks; cannot fail. */
extern void dc_vector_at_commit(void);
extern void dc_vector_at_abort(void);

/*
 * Launcher: writes V and debts in the running transaction; returns the V that
 * it wrote, which is durable after the commit.
 */
extern const DcVv *dc_vector_save(void);

/* At start: loads them. */
extern void dc_vector_load(void);

#endif
