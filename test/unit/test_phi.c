/*
 * test_phi.c
 *		The failure detector: what silence means after which heartbeats.
 */
#include "phi.h"
#include "tap.h"

#define SECOND UINT64_C(1000000)
#define START  (UINT64_C(800000000) * SECOND)

/* Heartbeats `interval_us` apart; returns the time of the last one. */
static uint64_t
beat(DcPhi *phi, uint64_t now_us, uint64_t interval_us, int count)
{
	for (int i = 0; i < count; i++)
	{
		now_us += interval_us;
		dc_phi_heartbeat(phi, now_us);
	}
	return now_us;
}

static void
test_growth(void)
{
	DcPhi phi;
	uint64_t now_us;
	double previous = -1;
	bool grows = true;

	dc_phi_init(&phi, SECOND, START);
	ok(dc_phi(&phi, START) == 0, "no surprise right after the start");
	ok(dc_phi(&phi, START - SECOND) == 0,
	   "a time before the last heartbeat is no surprise");

	now_us = beat(&phi, START, SECOND, 100);
	for (uint64_t t = 0; t <= 60 * SECOND; t += SECOND / 7)
	{
		grows = grows && dc_phi(&phi, now_us + t) > previous;
		previous = dc_phi(&phi, now_us + t);
	}
	ok(grows, "phi grows strictly with silence");
	ok(dc_phi(&phi, now_us + 2 * SECOND) < 1,
	   "one missed heartbeat is below phi 1");
	ok(dc_phi(&phi, now_us + 18 * SECOND) < 8 &&
		   dc_phi(&phi, now_us + 20 * SECOND) > 8,
	   "phi 8 lies between 18 and 20 regular intervals");
}

static void
test_adaption(void)
{
	DcPhi phi;
	uint64_t now_us;
	double slow;
	double fast;

	dc_phi_init(&phi, SECOND, START);
	now_us = beat(&phi, START, 4 * SECOND, DC_PHI_WINDOW);
	slow = dc_phi(&phi, now_us + 20 * SECOND);
	now_us = beat(&phi, now_us, SECOND, DC_PHI_WINDOW);
	fast = dc_phi(&phi, now_us + 20 * SECOND);
	ok(slow * 3.5 < fast, "a slower rhythm makes silence less surprising");
	ok(phi.count == DC_PHI_WINDOW && phi.sum_us == DC_PHI_WINDOW * SECOND,
	   "the window forgets what is older than itself");

	now_us = beat(&phi, now_us, 1000, 10 * DC_PHI_WINDOW);
	ok(dc_phi(&phi, now_us + 5 * SECOND) < 2.5,
	   "a burst does not make the detector nervous");
}

static void
test_outage(void)
{
	DcPhi phi;
	uint64_t now_us;
	double before;

	dc_phi_init(&phi, SECOND, START);
	now_us = beat(&phi, START, SECOND, 100);
	before = dc_phi(&phi, now_us + 10 * SECOND);
	now_us += 24 * 3600 * SECOND;
	dc_phi_heartbeat(&phi, now_us);
	ok(dc_phi(&phi, now_us + 10 * SECOND) > before / 2.1,
	   "an outage of a day blunts the detector by no more than half");

	now_us = beat(&phi, now_us, SECOND, DC_PHI_WINDOW);
	ok(dc_phi(&phi, now_us + 10 * SECOND) > before * 0.99,
	   "after one window the outage is forgotten");

	dc_phi_skip(&phi, 3600 * SECOND, now_us + 3600 * SECOND);
	ok(dc_phi(&phi, now_us + 3600 * SECOND) == 0,
	   "time in which nobody listened does not count");
	dc_phi_skip(&phi, 9 * SECOND, now_us + 3601 * SECOND);
	ok(dc_phi(&phi, now_us + 3600 * SECOND) == 0,
	   "more cannot be skipped than was silent");
	dc_phi_heartbeat(&phi, now_us);
	ok(phi.last_us == now_us + 3601 * SECOND,
	   "a heartbeat from before the last one changes nothing");
}

int
main(void)
{
	test_growth();
	test_adaption();
	test_outage();
	return tap_done();
}
