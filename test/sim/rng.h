/*
 * rng.h
 *		The only source of chance in the simulator: xoshiro256**, seeded by
 *		SplitMix64 (Blackman and Vigna, 2018).  One seed, one run.
 */
#ifndef SIM_RNG_H
#define SIM_RNG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct Rng
{
	uint64_t s[4];
} Rng;

static inline void
rng_seed(Rng *rng, uint64_t seed)
{
	for (int i = 0; i < 4; i++)
	{
		uint64_t z = seed += UINT64_C(0x9e3779b97f4a7c15);

		z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
		z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
		rng->s[i] = z ^ z >> 31;
	}
}

static inline uint64_t
rng_rotate(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

static inline uint64_t
rng_next(Rng *rng)
{
	uint64_t *s = rng->s;
	uint64_t result = rng_rotate(s[1] * 5, 7) * 9;
	uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rng_rotate(s[3], 45);
	return result;
}

/* 0 .. bound - 1. */
static inline uint32_t
rng_below(Rng *rng, uint32_t bound)
{
	return (uint32_t) ((rng_next(rng) >> 32) * bound >> 32);
}

/* True in `in` of `of` cases. */
static inline bool
rng_chance(Rng *rng, uint32_t in, uint32_t of)
{
	return rng_below(rng, of) < in;
}

#endif
