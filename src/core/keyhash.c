/*
 * keyhash.c
 *		SipHash with little-endian loads, whole words first.
 */
#include "keyhash.h"

typedef struct Sip
{
	uint64_t v0, v1, v2, v3;
} Sip;

static inline uint64_t
rotate(uint64_t x, unsigned bits)
{
	return x << bits | x >> (64 - bits);
}

/* `length` <= 8 bytes as a little-endian number. */
static inline uint64_t
load_little(const uint8_t *from, size_t length)
{
	uint64_t value = 0;

	for (size_t i = 0; i < length; i++)
		value |= (uint64_t) from[i] << 8 * i;
	return value;
}

static inline void
sip_rounds(Sip *s, unsigned rounds)
{
	for (unsigned i = 0; i < rounds; i++)
	{
		s->v0 += s->v1;
		s->v1 = rotate(s->v1, 13) ^ s->v0;
		s->v0 = rotate(s->v0, 32);
		s->v2 += s->v3;
		s->v3 = rotate(s->v3, 16) ^ s->v2;
		s->v0 += s->v3;
		s->v3 = rotate(s->v3, 21) ^ s->v0;
		s->v2 += s->v1;
		s->v1 = rotate(s->v1, 17) ^ s->v2;
		s->v2 = rotate(s->v2, 32);
	}
}

static inline void
sip_word(Sip *s, uint64_t word, unsigned c)
{
	s->v3 ^= word;
	sip_rounds(s, c);
	s->v0 ^= word;
}

static inline void
sip_init(Sip *s, const uint8_t seed[DC_SEED_BYTES])
{
	uint64_t k0 = load_little(seed, 8);
	uint64_t k1 = load_little(seed + 8, 8);

	s->v0 = k0 ^ UINT64_C(0x736f6d6570736575);
	s->v1 = k1 ^ UINT64_C(0x646f72616e646f6d);
	s->v2 = k0 ^ UINT64_C(0x6c7967656e657261);
	s->v3 = k1 ^ UINT64_C(0x7465646279746573);
}

/* `rest`: the last length % 8 bytes. */
static inline uint64_t
sip_finish(Sip *s, uint64_t rest, size_t length, unsigned c, unsigned d)
{
	sip_word(s, rest | (uint64_t) length << 56, c);
	s->v2 ^= 0xff;
	sip_rounds(s, d);
	return s->v0 ^ s->v1 ^ s->v2 ^ s->v3;
}

static inline uint64_t
siphash(const uint8_t seed[DC_SEED_BYTES], const uint8_t *data, size_t length,
		unsigned c, unsigned d)
{
	const uint8_t *end = data + (length & ~(size_t) 7);
	Sip s;

	sip_init(&s, seed);
	for (; data < end; data += 8)
		sip_word(&s, load_little(data, 8), c);
	return sip_finish(&s, load_little(data, length & 7), length, c, d);
}

/* not simulated: it gives known answers to unit tests */
uint64_t
dc_siphash_rounds(const uint8_t seed[DC_SEED_BYTES], const uint8_t *data,
				  size_t length, unsigned c, unsigned d)
{
	return siphash(seed, data, length, c, d);
}

uint64_t
dc_siphash(const uint8_t seed[DC_SEED_BYTES], const uint8_t *data,
		   size_t length)
{
	return siphash(seed, data, length, 1, 3);
}

/* The stamp's bytes fill the key's last word and spill into the final one. */
uint64_t
dc_siphash_entry(const uint8_t seed[DC_SEED_BYTES], const uint8_t *key,
				 size_t length, uint64_t stamp)
{
	const uint8_t *end = key + (length & ~(size_t) 7);
	unsigned rest_bits = 8 * (unsigned) (length & 7);
	uint64_t rest;
	Sip s;

	sip_init(&s, seed);
	for (; key < end; key += 8)
		sip_word(&s, load_little(key, 8), 1);
	rest = load_little(key, length & 7);
	sip_word(&s, rest | stamp << rest_bits, 1);
	rest = rest_bits > 0 ? stamp >> (64 - rest_bits) : 0;
	return sip_finish(&s, rest, length + sizeof(stamp), 1, 3);
}
