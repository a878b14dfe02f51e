/*
 * phi.h
 *		Phi-accrual failure detector: how surprising a node's silence is.
 *
 * phi = -log10(probability that a heartbeat comes even later than now), so
 * phi 1 is wrong one time in ten, phi 8 one time in a hundred million
 * (Hayashibara et al., "The phi accrual failure detector", 2004, section 4).
 * The paper fits a normal distribution to the intervals; gossip's intervals
 * are closer to an exponential one, for which phi needs no logarithm:
 *
 *		P(later than t) = exp(-t / mean)  ->  phi = t / mean * log10(e)
 *
 * (the form Cassandra uses).  The mean runs over a fixed window and is never
 * taken below the expected interval: news that comes in bursts does not make
 * the detector nervous.
 *
 * Pure and without a clock: the caller says what time it is.
 */
#ifndef DC_PHI_H
#define DC_PHI_H

#include <stdint.h>

#define DC_PHI_WINDOW 32

/* No interval counts for more than this many expected ones. */
#define DC_PHI_CLIP 32

typedef struct DcPhi
{
	uint64_t expected_us;
	uint64_t last_us; /* latest heartbeat */
	uint64_t sum_us;  /* of the window */
	uint32_t count;
	uint32_t next;
	uint64_t interval_us[DC_PHI_WINDOW];
} DcPhi;

/* Starts as if a heartbeat had come now; `expected_us` > 0. */
void dc_phi_init(DcPhi *phi, uint64_t expected_us, uint64_t now_us);

/* A heartbeat was heard.  An earlier time than the last one is ignored. */
void dc_phi_heartbeat(DcPhi *phi, uint64_t now_us);

/* Time in which nobody listened (the process was stopped) does not count. */
void dc_phi_skip(DcPhi *phi, uint64_t skipped_us, uint64_t now_us);

/* Surprise at this time, from 0 upwards. */
double dc_phi(const DcPhi *phi, uint64_t now_us);

#endif
