/*
 * images.h
 *		Row images for which a transaction has no memory left, in a file.
 *
 * One file, of the running transaction of this backend, among those of spool.h
 * and like them not flushed.  What cannot be written or read is reported as
 * LOG, and the transaction goes to the peers by key instead.
 */
#ifndef DATACAKE_IMAGES_H
#define DATACAKE_IMAGES_H

#include "postgres.h"

/*
 * Appends an image; *position: where dc_images_get() finds it.  False: it was
 * not written, or has no room within datacake.spool_size.
 */
extern bool dc_images_put(const void *bytes, Size length, uint64 *position);

/*
 * The image that was put there, valid until the next call; fast for ascending
 * positions.  NULL: it cannot be read.
 */
extern const uint8 *dc_images_get(uint64 position, Size length);

/* The file goes.  Cannot fail; at the latest when the transaction ends. */
extern void dc_images_end(void);

#endif
