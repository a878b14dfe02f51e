/*
 * version.c
 *		Which versions of the peer protocol this build speaks.
 */
#include "version.h"

#define RELEASE_MAJOR 0
#define RELEASE_MINOR 1

#ifndef DC_WIRE_VERSION
#define DC_WIRE_VERSION 1
#endif
#ifndef DC_WIRE_VERSION_MIN
#define DC_WIRE_VERSION_MIN 1
#endif

_Static_assert(DC_WIRE_VERSION_MIN >= 1 &&
				   DC_WIRE_VERSION_MIN <= DC_WIRE_VERSION &&
				   DC_WIRE_VERSION <= UINT8_MAX,
			   "a version is one byte, and 0 is none");

DcVersions
dc_versions_own(void)
{
	return (DcVersions){.release_major = RELEASE_MAJOR,
						.release_minor = RELEASE_MINOR,
						.wire = DC_WIRE_VERSION,
						.wire_min = DC_WIRE_VERSION_MIN};
}

uint32_t
dc_versions_pack(DcVersions versions)
{
	return (versions.release_major & 0xff) << 24 |
		   (versions.release_minor & 0xff) << 16 |
		   (versions.wire_min & 0xff) << 8 | (versions.wire & 0xff);
}

DcVersions
dc_versions_unpack(uint32_t packed)
{
	return (DcVersions){.release_major = packed >> 24,
						.release_minor = packed >> 16 & 0xff,
						.wire_min = packed >> 8 & 0xff,
						.wire = packed & 0xff};
}

uint8_t
dc_versions_common(DcVersions one, DcVersions other)
{
	uint32_t newest = one.wire < other.wire ? one.wire : other.wire;

	if (newest < one.wire_min || newest < other.wire_min)
		return 0;
	return (uint8_t) newest;
}
