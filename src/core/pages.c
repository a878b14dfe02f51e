/*
 * pages.c
 *		Pages of 2 kB from a region that was sized once, at start.
 */
#include "pages.h"

#include <string.h>

void
dc_page_pool_init(DcPagePool *pool, size_t region_bytes)
{
	size_t pages = region_bytes / DC_PAGE_BYTES;

	pool->first_free = DC_PAGE_NONE;
	pool->fresh = 0;
	pool->total = pages < DC_PAGES_MAX ? (uint32_t) pages : DC_PAGES_MAX;
	pool->free_count = pool->total;
}

uint32_t
dc_page_pool_take(DcPagePool *pool, const uint8_t *base)
{
	uint32_t page = pool->first_free;

	if (page != DC_PAGE_NONE)
		memcpy(&pool->first_free, base + (size_t) page * DC_PAGE_BYTES,
			   sizeof(pool->first_free));
	else if (pool->fresh < pool->total)
		page = pool->fresh++;
	else
		return DC_PAGE_NONE;
	pool->free_count--;
	return page;
}

void
dc_page_pool_give(DcPagePool *pool, uint8_t *base, uint32_t page)
{
	memcpy(base + (size_t) page * DC_PAGE_BYTES, &pool->first_free,
		   sizeof(pool->first_free));
	pool->first_free = page;
	pool->free_count++;
}
