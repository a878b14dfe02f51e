/*
 * test_vv.c
 *		Version vectors: rule R4, adoption, codec.  Built with -DDC_CANARIES
 *		it also shows that the test of R4 notices when the rule is left out.
 */
/* also with: -DDC_CANARIES */
#include "canary.h"
#include "tap.h"
#include "vv.h"

#include <string.h>

static DcHlc
at(unsigned us)
{
	return dc_hlc_make(us, 7);
}

static bool
equal(const DcVv *a, const DcVv *b)
{
	return memcmp(a, b, sizeof(*a)) == 0;
}

/*
 * R4 in small: source 7 commits at 1 .. 4 us and closes the segments (0, 1],
 * (1, 2], (2, 3], (3, 4].  Some arrive, in some order.  True when the vector
 * never claims a change that did not arrive, and claims all when all did and
 * the segments were offered again.
 */
static bool
claims_only_what_arrived(void)
{
	bool honest = true;

	for (unsigned code = 0; code < 5 * 5 * 5 * 5; code++)
	{
		bool arrived[5] = {false};
		DcVv vv;

		dc_vv_init(&vv);
		for (unsigned i = 0, rest = code; i < 4; i++, rest /= 5)
		{
			unsigned segment = rest % 5; /* 0: lost */

			if (segment == 0)
				continue;
			arrived[segment] = true;
			dc_vv_advance(&vv, 7, at(segment - 1), at(segment));
			for (unsigned us = 1; us <= 4; us++)
				honest &= !dc_vv_covers(&vv, at(us)) || arrived[us];
		}
	}
	return honest;
}

static void
test_advance(void)
{
	DcVv vv, before;

	dc_vv_init(&vv);
	ok(!dc_vv_covers(&vv, at(1)), "an empty vector covers nothing");
	ok(claims_only_what_arrived(),
	   "R4: a vector claims only what arrived, whatever the order and loss");
	ok(dc_vv_advance(&vv, 7, DC_HLC_NONE, at(5)) && vv.at[7] == at(5),
	   "R4: a segment that meets the vector moves it");
	before = vv;
	ok(!dc_vv_advance(&vv, 7, at(6), at(9)) && equal(&vv, &before),
	   "R4: behind a gap nothing moves");
	ok(dc_vv_advance(&vv, 7, at(1), at(3)) && equal(&vv, &before),
	   "R4: a segment that is known already moves nothing back");
	ok(dc_vv_advance(&vv, 7, at(4), at(8)) && vv.at[7] == at(8),
	   "R4: an overlapping segment moves to its end");
	ok(dc_vv_covers(&vv, at(8)) && !dc_vv_covers(&vv, at(9)) &&
		   !dc_vv_covers(&vv, dc_hlc_make(1, 8)),
	   "a vector covers up to its claim, source by source");
}

static void
test_includes(void)
{
	DcVv a, b;

	dc_vv_init(&a);
	dc_vv_init(&b);
	ok(dc_vv_includes(&a, &b), "a vector includes its equal");
	a.at[1] = 5;
	ok(dc_vv_includes(&a, &b) && !dc_vv_includes(&b, &a),
	   "a greater vector includes a smaller one");
	b.at[DC_NODE_ID_MAX] = 1;
	ok(!dc_vv_includes(&a, &b) && !dc_vv_includes(&b, &a),
	   "vectors may be apart");
}

/* R6, each source on its own: base, donor and own claim 0 .. 3. */
static void
test_adopt(void)
{
	bool right = true;
	DcVv vv, donor, base;

	for (unsigned code = 0; code < 64; code++)
	{
		unsigned own = code % 4, given = code / 4 % 4, from = code / 16;
		bool whole;
		unsigned expected = own;

		dc_vv_init(&vv);
		dc_vv_init(&donor);
		dc_vv_init(&base);
		vv.at[7] = own == 0 ? DC_HLC_NONE : at(own);
		donor.at[7] = given == 0 ? DC_HLC_NONE : at(given);
		base.at[7] = from == 0 ? DC_HLC_NONE : at(from);
		whole = dc_vv_adopt(&vv, &donor, &base);
		if (own >= from && given > own)
			expected = given;
		right &= whole == (own >= from);
		right &= vv.at[7] == (expected == 0 ? DC_HLC_NONE : at(expected));
	}
	ok(right, "R6: a donor is adopted where the base is still reached");
	dc_vv_init(&vv);
	dc_vv_init(&donor);
	dc_vv_init(&base);
	base.at[1] = donor.at[1] = donor.at[2] = 500;
	ok(!dc_vv_adopt(&vv, &donor, &base) && vv.at[1] == 0 && vv.at[2] == 500,
	   "R6: a source below its base does not stop the others");
}

static DcStatus
decode(const uint8_t *data, size_t length, DcVv *vv)
{
	DcReader r;

	dc_reader_init(&r, data, length);
	dc_vv_decode(&r, vv);
	return dc_reader_finish(&r);
}

static void
test_codec(void)
{
	static uint8_t data[16 + DC_NODE_IDS * 10];
	uint64_t random = 3;
	bool back = true, cut = true, cleared = true;
	DcVv vv, read, empty;
	DcWriter w;

	dc_vv_init(&empty);
	for (unsigned nodes = 0; nodes <= DC_NODE_ID_MAX;
		 nodes = nodes < 8 ? nodes + 1 : nodes * 2 + 1)
	{
		dc_vv_init(&vv);
		for (unsigned i = 0; i < nodes; i++)
			vv.at[1 + tap_below(&random, DC_NODE_ID_MAX)] =
				1 + (tap_random(&random) >> 1) % DC_HLC_MAX;
		dc_writer_init(&w, data, sizeof(data));
		dc_vv_encode(&w, &vv);
		back &= w.status == DC_OK && decode(data, w.length, &read) == DC_OK &&
				equal(&vv, &read);
		for (size_t n = 0; n < w.length; n += 1 + n / 100)
		{
			cut &= decode(data, n, &read) == DC_TRUNCATED;
			cleared &= equal(&read, &empty);
		}
	}
	ok(back, "vectors of 0 .. %u sources come back", DC_NODE_ID_MAX);
	ok(cut && cleared, "a truncated vector is refused and leaves none");
}

static void
test_malformed(void)
{
	static const struct
	{
		const char *what;
		size_t length;
		uint8_t data[24];
	} cases[] = {
		{"node 0", 11, {1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9}},
		{"node 1024", 11, {1, 4, 0, 0, 0, 0, 0, 0, 0, 0, 9}},
		{"stamp 0", 11, {1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}},
		{"a negative stamp", 11, {1, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0}},
		{"a node twice", 21, {2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 9,
							  0, 1, 0, 0, 0, 0, 0, 0, 0, 9}},
		{"descending nodes", 21, {2, 0, 2, 0, 0, 0, 0, 0, 0, 0, 9,
								  0, 1, 0, 0, 0, 0, 0, 0, 0, 9}},
		{"1024 sources", 2, {0x80, 0x08}},
		{"a padded count", 2, {0x80, 0x00}},
		{"bytes behind it", 2, {0, 0}},
	};
	DcVv vv;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
		ok(decode(cases[i].data, cases[i].length, &vv) == DC_MALFORMED,
		   "a vector with %s is malformed", cases[i].what);
}

static void
test_canary(void)
{
#ifdef DC_CANARIES
	dc_canaries = DC_CANARY_R4;
	ok(!claims_only_what_arrived(),
	   "without R4 the test sees a vector that claims what never came");
	dc_canaries = 0;
#endif
}

int
main(void)
{
	test_advance();
	test_includes();
	test_adopt();
	test_codec();
	test_malformed();
	test_canary();
	return tap_done();
}
