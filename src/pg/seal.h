/*
 * seal.h
 *		Sealing of what nodes send each other, with the cluster's key.
 *
 *	 0     1            25                       25 + length
 *	+-----+------------+------------------------+-----------+
 *	| key | nonce (24) | ciphertext             | tag (16)  |
 *	+-----+------------+------------------------+-----------+
 *
 * XChaCha20-Poly1305 with a random nonce, so that processes need not agree on
 * a counter.  Each use has a subkey of its own (libsodium's crypto_kdf): a
 * datagram does not open as a peer call, whatever it contains.
 *
 * The key file named by datacake.cluster_key_file holds a ring of keys:
 *
 *		# comment
 *		2 8f1c...   64 hexadecimal digits: seals and opens
 *		1 03ab...   opens only
 *
 * To rotate: append the new key as the last line on every node and reload;
 * move it to the first line on every node and reload; drop the old one.
 *
 * The ring lives in memory of the process, never in shared memory, a setting,
 * a message or a table.  It is read at first use and again after each reload
 * of the configuration; if that fails the ring in use stays, with a warning.
 *
 * There is no protection here against sending the same bytes twice; that is
 * the caller's (gossip has windows, peer calls have sequence numbers).
 */
#ifndef DATACAKE_SEAL_H
#define DATACAKE_SEAL_H

#include "postgres.h"

#define DC_SEAL_OVERHEAD 41 /* key id, nonce, tag */

typedef enum DcSealUse
{
	DC_SEAL_CALL = 1, /* peer calls over libpq */
	DC_SEAL_DATAGRAM  /* gossip */
} DcSealUse;

/*
 * Reads the key file now.  ERROR (ERRCODE_CONFIG_FILE_ERROR) if it is
 * missing, readable by others or wrong; then the ring in use stays.
 */
extern void dc_seal_load(void);

/*
 * What is wrong with the key file, as a palloc'd sentence; NULL: nothing.
 * Does not raise and does not change the ring in use.
 */
extern char *dc_seal_complaint(void);

/*
 * Seals `length` bytes into `out`, which has room for DC_SEAL_OVERHEAD more,
 * and returns that sum.  `ad` is protected but not included.  ERROR without
 * a ring.
 */
extern size_t dc_seal_for(DcSealUse use, uint8 *out, const void *ad,
						  size_t ad_length, const void *plain, size_t length);

/*
 * Opens what dc_seal_for made with the same use and `ad`.  `plain` has room
 * for length - DC_SEAL_OVERHEAD bytes.  False, and nothing of use in `plain`,
 * if it does not authenticate, for whatever reason.
 */
extern bool dc_open_for(DcSealUse use, const uint8 *sealed, size_t length,
						const void *ad, size_t ad_length, uint8 *plain,
						size_t *plain_length);

/*
 * Sixteen bytes that are the same on every node of the cluster and different
 * for each purpose.  They follow from datacake.cluster_id alone, so that they
 * stay when keys are rotated: they are no secret.
 */
extern void dc_seal_derive(const char *purpose, uint8 out[16]);

static inline size_t
dc_seal(uint8 *out, const void *ad, size_t ad_length, const void *plain,
		size_t length)
{
	return dc_seal_for(DC_SEAL_CALL, out, ad, ad_length, plain, length);
}

static inline bool
dc_open(const uint8 *sealed, size_t length, const void *ad, size_t ad_length,
		uint8 *plain, size_t *plain_length)
{
	return dc_open_for(DC_SEAL_CALL, sealed, length, ad, ad_length, plain,
					   plain_length);
}

#endif
