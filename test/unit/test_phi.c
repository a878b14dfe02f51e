/*
 * test_phi.c
 *		The failure detector: what a silence means after which intervals.
 */
#include "phi.h"
#include "tap.h"

#define SECOND UINT64_C(1000000)

static void
note_many(DcPhi *phi, uint64_t interval_us, int count)
{
	for (int i = 0; i < count; i++)
		dc_phi_note(phi, interval_us);
}

static void
test_growth(void)
{
	DcPhi phi;
	double previous = -1;
	bool grows = true;

	dc_phi_init(&phi, SECOND);
	ok(dc_phi(&phi, 0) == 0, "no silence is no surprise");
	ok(dc_phi(&phi, 18 * SECOND) < 8 && dc_phi(&phi, 19 * SECOND) > 8,
	   "phi 8 lies between 18 and 19 expected intervals, before any was seen");

	note_many(&phi, SECOND, 100);
	for (uint64_t t = 0; t <= 60 * SECOND; t += SECOND / 7)
	{
		grows = grows && dc_phi(&phi, t) > previous;
		previous = dc_phi(&phi, t);
	}
	ok(grows, "phi grows strictly with silence");
	ok(dc_phi(&phi, 2 * SECOND) < 1, "one missed interval is below phi 1");
	ok(dc_phi(&phi, 18 * SECOND) < 8 && dc_phi(&phi, 19 * SECOND) > 8,
	   "regular intervals leave it there");
}

static void
test_adaption(void)
{
	DcPhi phi;
	double slow;
	double fast;

	dc_phi_init(&phi, SECOND);
	note_many(&phi, 4 * SECOND, DC_PHI_WINDOW);
	slow = dc_phi(&phi, 20 * SECOND);
	note_many(&phi, SECOND, DC_PHI_WINDOW);
	fast = dc_phi(&phi, 20 * SECOND);
	ok(slow * 3 < fast, "a slower rhythm makes silence less surprising");
	ok(phi.count == DC_PHI_WINDOW && phi.sum_us == DC_PHI_WINDOW * SECOND,
	   "the window forgets what is older than itself");

	note_many(&phi, 1000, 10 * DC_PHI_WINDOW);
	ok(dc_phi(&phi, 5 * SECOND) < 2.5,
	   "a burst does not make the detector nervous");
}

static void
test_outage(void)
{
	DcPhi phi;
	double before;

	dc_phi_init(&phi, SECOND);
	note_many(&phi, SECOND, 100);
	before = dc_phi(&phi, 10 * SECOND);
	dc_phi_note(&phi, 24 * 3600 * SECOND);
	ok(dc_phi(&phi, 10 * SECOND) > before / 2,
	   "an outage of a day blunts the detector by no more than half");
	note_many(&phi, SECOND, DC_PHI_WINDOW);
	ok(dc_phi(&phi, 10 * SECOND) > before * 0.99,
	   "after one window the outage is forgotten");

	dc_phi_init(&phi, SECOND);
	dc_phi_note(&phi, 2 * SECOND);
	ok(dc_phi(&phi, 10 * SECOND) > before * 0.88,
	   "one late sign of life makes hardly a difference");
}

int
main(void)
{
	test_growth();
	test_adaption();
	test_outage();
	return tap_done();
}
