/*
 * bulk.h
 *		Two nodes with whole maps; see bulk.c.
 */
#ifndef BULK_H
#define BULK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct BulkStats
{
	uint64_t runs;
	uint64_t operations;
	uint64_t messages;
	uint64_t bytes;
	uint64_t full;        /* writes that found no room */
	uint64_t full_before; /* this run */
	uint64_t truncates;
	uint64_t lies;
} BulkStats;

/* One run; false: see `failure`. */
bool bulk_run(uint64_t seed, BulkStats *stats, char failure[160]);

#endif
