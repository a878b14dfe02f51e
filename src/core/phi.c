/*
 * phi.c
 *		Phi-accrual failure detector.
 */
#include "phi.h"

#include <string.h>

#define LOG10_E 0.43429448190325182

void
dc_phi_init(DcPhi *phi, uint64_t expected_us, uint64_t now_us)
{
	memset(phi, 0, sizeof(*phi));
	phi->expected_us = expected_us > 0 ? expected_us : 1;
	phi->last_us = now_us;
}

void
dc_phi_heartbeat(DcPhi *phi, uint64_t now_us)
{
	uint64_t interval_us;

	if (now_us <= phi->last_us)
		return;
	interval_us = now_us - phi->last_us;

	/* One outage must not blunt the detector for a whole window. */
	if (interval_us / DC_PHI_CLIP >= phi->expected_us)
		interval_us = phi->expected_us * DC_PHI_CLIP;

	phi->last_us = now_us;
	if (phi->count == DC_PHI_WINDOW)
		phi->sum_us -= phi->interval_us[phi->next];
	else
		phi->count++;
	phi->interval_us[phi->next] = interval_us;
	phi->sum_us += interval_us;
	phi->next = (phi->next + 1) % DC_PHI_WINDOW;
}

void
dc_phi_skip(DcPhi *phi, uint64_t skipped_us, uint64_t now_us)
{
	uint64_t silence_us = now_us > phi->last_us ? now_us - phi->last_us : 0;

	phi->last_us += skipped_us < silence_us ? skipped_us : silence_us;
}

double
dc_phi(const DcPhi *phi, uint64_t now_us)
{
	double expected_us = (double) phi->expected_us;
	double mean_us;

	if (now_us <= phi->last_us)
		return 0.0;

	/* One patient interval is taken for granted before any was seen. */
	mean_us =
		((double) phi->sum_us + 2.0 * expected_us) / (double) (phi->count + 1);
	if (mean_us < expected_us)
		mean_us = expected_us;
	return (double) (now_us - phi->last_us) / mean_us * LOG10_E;
}
