/*
 * keyhash.h
 *		Two keyed hashes: one that places keys, one that vouches for entries.
 *
 * dc_key_hash orders the slots of the metadata map.  It is recomputed for
 * each entry that a lookup passes, so it must cost a few nanoseconds: one
 * 64 x 64 -> 128 bit multiplication per 16 bytes, and one to finish (the
 * construction of wyhash).  All nodes of a cluster use one seed, and the
 * values are the same on every machine, so that a range of hashes names the
 * same keys everywhere: repair compares nodes range by range.
 *
 * dc_siphash is SipHash-1-3 (Aumasson and Bernstein, "SipHash: a fast
 * short-input PRF", 2012): a pseudorandom function, equal on every machine.
 * Fingerprints are sums of its values and travel between nodes under a seed
 * that the whole cluster shares.
 */
#ifndef DC_KEYHASH_H
#define DC_KEYHASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define DC_SEED_BYTES 16

/* SipHash-1-3 of `length` bytes. */
uint64_t dc_siphash(const uint8_t seed[DC_SEED_BYTES], const uint8_t *data,
					size_t length);

/* SipHash-1-3 of the key's bytes followed by the 8 bytes of the stamp. */
uint64_t dc_siphash_entry(const uint8_t seed[DC_SEED_BYTES], const uint8_t *key,
						  size_t length, uint64_t stamp);

/* SipHash with `c` and `d` rounds; the tests know the vectors of 2-4. */
uint64_t dc_siphash_rounds(const uint8_t seed[DC_SEED_BYTES],
						   const uint8_t *data, size_t length, unsigned c,
						   unsigned d);

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
#define DC_LITTLE64(value) __builtin_bswap64(value)
#define DC_LITTLE32(value) __builtin_bswap32(value)
#else
#define DC_LITTLE64(value) (value)
#define DC_LITTLE32(value) (value)
#endif

static inline uint64_t
dc_hash_load64(const uint8_t *from)
{
	uint64_t value;

	memcpy(&value, from, sizeof(value));
	return DC_LITTLE64(value);
}

static inline uint64_t
dc_hash_load32(const uint8_t *from)
{
	uint32_t value;

	memcpy(&value, from, sizeof(value));
	return DC_LITTLE32(value);
}

/* The low and the high half of a * b, in place. */
static inline void
dc_hash_multiply(uint64_t *a, uint64_t *b)
{
#ifdef __SIZEOF_INT128__
	__extension__ typedef unsigned __int128 Wide;
	Wide product = (Wide) *a * *b;

	*a = (uint64_t) product;
	*b = (uint64_t) (product >> 64);
#else
	uint64_t a0 = (uint32_t) *a, a1 = *a >> 32;
	uint64_t b0 = (uint32_t) *b, b1 = *b >> 32;
	uint64_t low = a0 * b0;
	uint64_t middle = a1 * b0 + (low >> 32); /* never overflows */
	uint64_t cross = a0 * b1 + (uint32_t) middle;

	*a = cross << 32 | (uint32_t) low;
	*b = a1 * b1 + (middle >> 32) + (cross >> 32);
#endif
}

static inline uint64_t
dc_hash_fold(uint64_t a, uint64_t b)
{
	dc_hash_multiply(&a, &b);
	return a ^ b;
}

/* The place of a key in its keyspace: the top bits name the partition. */
static inline uint64_t
dc_key_hash(const uint8_t seed[DC_SEED_BYTES], const uint8_t *key,
			size_t length)
{
	uint64_t s0 = dc_hash_load64(seed);
	uint64_t s1 = dc_hash_load64(seed + 8);
	uint64_t a = 0;
	uint64_t b = 0;

	if (length > 16)
	{
		const uint8_t *end = key + length;

		for (; end - key > 16; key += 16)
			s0 = dc_hash_fold(dc_hash_load64(key) ^ s1,
							  dc_hash_load64(key + 8) ^ s0);
		a = dc_hash_load64(end - 16);
		b = dc_hash_load64(end - 8);
	}
	else if (length >= 8)
	{
		a = dc_hash_load64(key);
		b = dc_hash_load64(key + length - 8);
	}
	else if (length >= 4)
	{
		a = dc_hash_load32(key);
		b = dc_hash_load32(key + length - 4);
	}
	else if (length > 0)
		a = (uint64_t) key[0] << 16 | (uint64_t) key[length / 2] << 8 |
			key[length - 1];

	a ^= s1;
	b ^= s0;
	dc_hash_multiply(&a, &b);
	return dc_hash_fold(a ^ UINT64_C(0xa0761d6478bd642f) ^ length, b ^ s1);
}

#endif
