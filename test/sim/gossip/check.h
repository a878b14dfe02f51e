/*
 * check.h
 *		What must hold in each world, and what is left out to see that it is
 *		noticed.
 */
#ifndef GOSSIP_CHECK_H
#define GOSSIP_CHECK_H

#include "measure.h"

typedef struct Trial
{
	uint32_t nodes;
	uint64_t seed;
	double loss;
	uint64_t quiet_us; /* before anybody dies */
	uint64_t stall_every;
} Trial;

typedef struct Canary
{
	const char *name;
	uint64_t canary;
	const char *claim;
	Trial trial; /* that found it */
} Canary;

/* NULL, or what did not hold. */
const char *check_trial(const Trial *trial);

/* The suite; speaks TAP. */
int check_all(void);

/* NULL: no such canary. */
const Canary *check_canary(const char *name);

#endif
