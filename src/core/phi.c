/*
 * phi.c
 *		Phi-accrual failure detector.
 */
#include "phi.h"

#include "canary.h"

#include <string.h>

#define LOG10_E 0.43429448190325182

void
dc_phi_init(DcPhi *phi, uint64_t expected_us)
{
	memset(phi, 0, sizeof(*phi));
	phi->expected_us = expected_us > 0 ? expected_us : 1;
}

void
dc_phi_note(DcPhi *phi, uint64_t interval_us)
{
	/* One outage must not blunt the detector for a whole window. */
	if (interval_us / DC_PHI_CLIP >= phi->expected_us)
		interval_us = phi->expected_us * DC_PHI_CLIP;

	if (phi->count == DC_PHI_WINDOW)
		phi->sum_us -= phi->interval_us[phi->next];
	else
		phi->count++;
	phi->interval_us[phi->next] = interval_us;
	phi->sum_us += interval_us;
	phi->next = (phi->next + 1) % DC_PHI_WINDOW;
}

double
dc_phi(const DcPhi *phi, uint64_t silence_us)
{
	double expected_us = (double) phi->expected_us;
	double mean_us = ((double) phi->sum_us + DC_PHI_PRIOR * expected_us) /
					 (double) (phi->count + DC_PHI_PRIOR);

	if (DC_CANARY(DC_CANARY_FLOOR) && phi->count > 0)
		mean_us = (double) (phi->sum_us / phi->count + 1);
	else if (mean_us < expected_us)
		mean_us = expected_us;
	return (double) silence_us / mean_us * LOG10_E;
}
