/*
 * iblt.c
 *		Which ids are in one of two sets only, at the price of the difference.
 */
#include "iblt.h"

#include <math.h>

#include "canary.h"

/* The cells of one id, in ascending order. */
typedef struct Places
{
	uint64_t state;
	uint32_t at;
} Places;

static inline uint64_t
hash_of(const uint8_t seed[DC_SEED_BYTES], uint64_t id)
{
	uint8_t bytes[8];

	for (unsigned i = 0; i < 8; i++)
		bytes[i] = (uint8_t) (id >> 8 * i);
	return dc_siphash(seed, bytes, sizeof(bytes));
}

static inline uint32_t
check_of(uint64_t hash, uint64_t id)
{
	if (DC_CANARY(DC_CANARY_CHECK))
		return (uint32_t) (id ^ id >> 32); /* not simulated: linear, a canary */
	return (uint32_t) hash;
}

/* Every id is in cell 0. */
static inline Places
places_of(uint64_t hash)
{
	return (Places){.state = hash, .at = 0};
}

/*
 * The gap to the next cell.  With r uniform in (0, 1) it is
 * (at + 3/2) * (1 / sqrt(r) - 1), rounded up (section 4.2 of the paper); and
 * sqrt(r) is distributed like the greater one of two uniform numbers.
 */
static inline void
places_next(Places *p)
{
	uint64_t z = p->state += UINT64_C(0x9e3779b97f4a7c15);
	uint64_t root;
	uint64_t gap;

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	z ^= z >> 31;
	root = z >> 32 > (uint32_t) z ? z >> 32 : (uint32_t) z;
	root += root == 0;
	gap = (2 * (uint64_t) p->at + 3) * ((UINT64_C(1) << 32) - root);
	gap = (gap + 2 * root - 1) / (2 * root);
	p->at =
		gap < DC_IBLT_CELLS_MAX ? p->at + (uint32_t) gap : DC_IBLT_CELLS_MAX;
}

static inline void
xor_cell(DcIbltCell *cell, uint64_t id, uint32_t check)
{
	cell->ids ^= id;
	cell->checks ^= check;
}

static inline void
xor_shared_cell(DcIbltCell *cell, uint64_t id, uint32_t check)
{
	(void) __atomic_fetch_xor(&cell->ids, id, __ATOMIC_RELAXED);
	(void) __atomic_fetch_xor(&cell->checks, check, __ATOMIC_RELAXED);
}

/* Inlined with a constant `shared`. */
static inline void
toggle(DcIbltCell *cells, uint32_t count, const uint8_t seed[DC_SEED_BYTES],
	   uint64_t id, bool shared)
{
	uint64_t hash = hash_of(seed, id);
	uint32_t check = check_of(hash, id);

	for (Places p = places_of(hash); p.at < count; places_next(&p))
	{
		if (shared)
			xor_shared_cell(&cells[p.at], id, check);
		else
			xor_cell(&cells[p.at], id, check);
	}
}

void
dc_iblt_toggle(DcIbltCell *cells, uint32_t count,
			   const uint8_t seed[DC_SEED_BYTES], uint64_t id)
{
	toggle(cells, count, seed, id, false);
}

void
dc_iblt_toggle_shared(DcIbltCell *cells, uint32_t count,
					  const uint8_t seed[DC_SEED_BYTES], uint64_t id)
{
	toggle(cells, count, seed, id, true);
}

void
dc_iblt_copy_shared(DcIbltCell *to, const DcIbltCell *cells, uint32_t count)
{
	for (uint32_t i = 0; i < count; i++)
	{
		to[i].ids = __atomic_load_n(&cells[i].ids, __ATOMIC_RELAXED);
		to[i].checks = __atomic_load_n(&cells[i].checks, __ATOMIC_RELAXED);
	}
}

static inline bool
is_empty(const DcIbltCell *cell)
{
	return cell->ids == 0 && cell->checks == 0;
}

/* How many of the cells so many ids leave empty, about. */
static double
left_empty(double ids, uint32_t count)
{
	double empty = 0;

	for (uint32_t i = 0; i < count; i++)
		empty += exp(-ids / (1 + i / 2.0));
	return empty;
}

/*
 * No empty cell counts as so many.  Of 0.1, 0.3 and 0.5 the one with which the
 * cells that are asked for in all are the fewest (10 to 2,000 ids, 400 runs).
 */
#define NONE_EMPTY 0.3

uint32_t
dc_iblt_estimate(const DcIbltCell *cells, uint32_t count)
{
	double low = 0;
	double high = count;
	double empty = 0;

	for (uint32_t i = 0; i < count; i++)
		empty += is_empty(&cells[i]);
	if (empty == 0)
		empty = NONE_EMPTY;
	while (left_empty(high, count) > empty)
		high *= 2;
	while (high - low > 1)
	{
		double middle = (low + high) / 2;

		if (left_empty(middle, count) > empty)
			low = middle;
		else
			high = middle;
	}
	return (uint32_t) high;
}

/* Cells that looked as if they held one id, as a list. */
#define LIST_END   UINT32_MAX       /* behind the last one */
#define LIST_APART (UINT32_MAX - 1) /* not on the list */

static inline void
push_if_single(DcIbltCell *cells, uint32_t at,
			   const uint8_t seed[DC_SEED_BYTES], uint32_t *first)
{
	DcIbltCell *cell = &cells[at];

	if (cell->next != LIST_APART || is_empty(cell) ||
		cell->checks != check_of(hash_of(seed, cell->ids), cell->ids))
		return;
	cell->next = *first;
	*first = at;
}

bool
dc_iblt_decode(DcIbltCell *cells, uint32_t count,
			   const uint8_t seed[DC_SEED_BYTES], uint64_t *ids,
			   uint32_t *found)
{
	uint32_t first = LIST_END;
	bool empty = true;

	*found = 0;
	for (uint32_t i = 0; i < count; i++)
	{
		cells[i].next = LIST_APART;
		push_if_single(cells, i, seed, &first);
	}
	while (first != LIST_END && *found < count)
	{
		DcIbltCell *cell = &cells[first];
		uint64_t id = cell->ids;
		uint64_t hash = hash_of(seed, id);
		uint32_t check = check_of(hash, id);

		first = cell->next;
		cell->next = LIST_APART;
		if (cell->checks != check || (id == 0 && check == 0))
			continue; /* another one took its id away */
		ids[(*found)++] = id;
		for (Places p = places_of(hash); p.at < count; places_next(&p))
		{
			xor_cell(&cells[p.at], id, check);
			push_if_single(cells, p.at, seed, &first);
		}
	}
	for (uint32_t i = 0; i < count && empty; i++)
		empty = is_empty(&cells[i]);
	return empty;
}
