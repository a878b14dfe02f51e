/*
 * copy.h
 *		An empty node copies another one that goes on writing; see copy.c.
 */
#ifndef COPY_H
#define COPY_H

#include <stdbool.h>
#include <stdint.h>

/* What is left out. */
typedef enum CopyDefect
{
	COPY_SOUND,
	COPY_SETTLE,
	COPY_BASE,
	COPY_REACHED,
	COPY_DEAD,
	COPY_WAITING,
	COPY_FILE,
	COPY_PLACE,
	COPY_FLUSH,
	COPY_HORIZON,
	COPY_DEFECTS
} CopyDefect;

typedef struct CopyStats
{
	uint64_t runs;
	uint64_t steps;
	uint64_t ranges;
	uint64_t rewrites;
	uint64_t donor_crashes;
	uint64_t joiner_crashes;
} CopyStats;

/* One run; false: see `failure`. */
bool copy_run(uint64_t seed, CopyDefect defect, CopyStats *stats,
			  char failure[160]);

const char *copy_defect_name(CopyDefect defect);
const char *copy_defect_claim(CopyDefect defect);

#endif
