/*
 * phi.h
 *		Phi-accrual failure detector: how surprising a silence is.
 *
 * phi = -log10(probability that a sign of life comes even later than now), so
 * phi 1 is wrong one time in ten, phi 8 one time in a hundred million
 * (Hayashibara et al., "The phi accrual failure detector", 2004, section 4).
 * The paper fits a normal distribution to the intervals; those of gossip are
 * closer to an exponential one, for which phi needs no logarithm:
 *
 *		P(later than t) = exp(-t / mean)  ->  phi = t / mean * log10(e)
 *
 * (the form Cassandra uses).  The mean runs over a fixed window, begins at the
 * expected interval and is never taken below it: what comes in bursts does
 * not make the detector nervous, what comes late makes it patient.
 *
 * Pure and without a clock: the caller says how long something took.
 */
#ifndef DC_PHI_H
#define DC_PHI_H

#include <stdint.h>

#define DC_PHI_WINDOW 32

/* No interval counts for more than this many expected ones. */
#define DC_PHI_CLIP 32

/* So many expected intervals are taken for granted. */
#define DC_PHI_PRIOR 8

typedef struct DcPhi
{
	uint64_t expected_us;
	uint64_t sum_us; /* of the window */
	uint32_t count;
	uint32_t next;
	uint64_t interval_us[DC_PHI_WINDOW];
} DcPhi;

/* Starts, or starts again: another expectation makes another detector. */
void dc_phi_init(DcPhi *phi, uint64_t expected_us);

/* A sign of life took this long. */
void dc_phi_note(DcPhi *phi, uint64_t interval_us);

/* Surprise at a silence, from 0 upwards. */
double dc_phi(const DcPhi *phi, uint64_t silence_us);

#endif
