/*
 * version.h
 *		Which versions of the peer protocol this build speaks.
 *
 * A build speaks its own wire version and, once there is one, the version
 * before.  So a cluster can be upgraded one node after the other:
 *
 *		A (1..2)  --- hello, offers 1..2 --->  B (1)
 *		A         <-- welcome, version 1 ----  B     and so are all later messages
 *
 * The greatest version that both speak is chosen by who is called, for each
 * session anew.  A hello begins alike in all versions; what a later one adds
 * at its end is skipped by who does not know it.
 *
 * Only version.c knows the numbers, so that a test can link another build.
 */
#ifndef DC_VERSION_H
#define DC_VERSION_H

#include <stdint.h>

/* What one build is, and what it speaks; gossip tells it in 32 bits. */
typedef struct DcVersions
{
	uint32_t release_major; /* each 0 .. 255 */
	uint32_t release_minor;
	uint32_t wire; /* the newest, and the oldest, that it speaks */
	uint32_t wire_min;
} DcVersions;

DcVersions dc_versions_own(void);
uint32_t dc_versions_pack(DcVersions versions);
DcVersions dc_versions_unpack(uint32_t packed);

/* The greatest wire version that both speak; 0: none. */
uint8_t dc_versions_common(DcVersions one, DcVersions other);

#endif
