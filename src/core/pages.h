/*
 * pages.h
 *		Pages of 2 kB from a region that was sized once, at start.
 *
 *	region:  | page 0 | page 1 | ... |  fresh  ....  never used yet | total
 *	             \________/
 *	              given back: a list, each page holds the next one's number
 *
 * The metadata lies in shared memory that each process may map elsewhere, so
 * everything inside refers to pages by number; only the handle DcPages, which
 * each process builds for itself, knows an address.
 */
#ifndef DC_PAGES_H
#define DC_PAGES_H

#include <stddef.h>
#include <stdint.h>

#define DC_PAGE_BYTES 2048u
#define DC_PAGE_NONE  UINT32_MAX

/* 64 GB of metadata; page number and 16-byte unit fit one 32-bit word. */
#define DC_PAGES_MAX (1u << 25)

/*
 * How the map gets its pages.  Process-local: never stored in shared memory.
 * `base` is aligned to 8 bytes; page n starts at base + n * DC_PAGE_BYTES.
 * take answers DC_PAGE_NONE when there are no more; the content of a page
 * taken is undefined.  take and give are called under the partition's lock:
 * a lock they need comes after it in the lock order.
 */
typedef struct DcPages
{
	uint8_t *base;
	uint32_t (*take)(void *ctx);
	void (*give)(void *ctx, uint32_t page);
	void *ctx;
} DcPages;

/*
 * The pool itself: relocatable, lies beside the region it governs.  No lock
 * of its own; take and give are a few instructions each.
 */
typedef struct DcPagePool
{
	uint32_t first_free; /* head of the list, DC_PAGE_NONE: empty */
	uint32_t fresh;      /* pages from here on were never taken */
	uint32_t free_count; /* on the list or fresh */
	uint32_t total;
} DcPagePool;

/* A pool of region_bytes / DC_PAGE_BYTES pages, at most DC_PAGES_MAX. */
void dc_page_pool_init(DcPagePool *pool, size_t region_bytes);

/* DC_PAGE_NONE when the pool is empty. */
uint32_t dc_page_pool_take(DcPagePool *pool, const uint8_t *base);

/* `page` was taken from this pool and not given back since. */
void dc_page_pool_give(DcPagePool *pool, uint8_t *base, uint32_t page);

#endif
