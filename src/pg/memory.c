/*
 * memory.c
 *		What a process does with memory that it no longer needs.
 */
#include "postgres.h"

#include "memory.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif

void
dc_memory_keep(Size bytes)
{
	static Size kept;

	if (bytes <= kept)
		return;
	kept = bytes;
#ifdef __GLIBC__
	/* who sets one of them ends that the library adapts both */
	(void) mallopt(M_TRIM_THRESHOLD, (int) bytes);
	(void) mallopt(M_MMAP_THRESHOLD, (int) bytes);
#endif
}
