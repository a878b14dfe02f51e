/*
 * memory.h
 *		What a process does with memory that it no longer needs.
 */
#ifndef DATACAKE_MEMORY_H
#define DATACAKE_MEMORY_H

#include "c.h"

#define DC_KEEP_WRITER  ((Size) 4 * 1024 * 1024)  /* a client's backend */
#define DC_KEEP_SERVICE ((Size) 16 * 1024 * 1024) /* a worker, or a peer's */

/*
 * From now on this process keeps up to so many bytes of what it frees, for the
 * next transaction, call or batch, and gets allocations up to that size from
 * what it has.  Without it the C library hands free memory back beyond 128 kB,
 * and each batch pays anew for the kernel's page faults.  The largest number
 * that was asked for counts.
 */
extern void dc_memory_keep(Size bytes);

#endif
