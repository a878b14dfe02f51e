/*
 * tap.h
 *		The harness of the unit tests: claims in, TAP out.
 *
 * One test program includes this once.  A claim is a sentence that is true
 * of the code; ok() prints it and remembers a failure, tap_done() prints the
 * plan and is what main returns.
 */
#ifndef DC_TAP_H
#define DC_TAP_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#ifdef DC_CANARIES
uint64_t dc_canaries; /* the rules that are left out at the moment */
#endif

static unsigned tap_claims;
static unsigned tap_failures;
static bool tap_quiet; /* for claims that are to fail: count, print nothing */

__attribute__((format(printf, 2, 3))) static inline bool
ok(bool holds, const char *claim, ...)
{
	va_list args;

	tap_claims++;
	tap_failures += !holds;
	if (tap_quiet)
		return holds;
	printf("%sok %u - ", holds ? "" : "not ", tap_claims);
	va_start(args, claim);
	vprintf(claim, args);
	va_end(args);
	putchar('\n');
	return holds;
}

/* A remark: measured figures, or where a claim failed. */
__attribute__((format(printf, 1, 2))) static inline void
note(const char *text, ...)
{
	va_list args;

	printf("# ");
	va_start(args, text);
	vprintf(text, args);
	va_end(args);
	putchar('\n');
}

static inline int
tap_done(void)
{
	printf("1..%u\n", tap_claims);
	return tap_failures > 0;
}

/* SplitMix64: small, good enough, the same numbers everywhere. */
static inline uint64_t
tap_random(uint64_t *state)
{
	uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static inline uint32_t
tap_below(uint64_t *state, uint32_t bound)
{
	return (uint32_t) ((tap_random(state) >> 32) * bound >> 32);
}

#endif
