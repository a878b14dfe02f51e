/*
 * iblt.h
 *		Which ids are in one of two sets only, at the price of the difference.
 *
 *	A:  cells of its ids     . . x . x ...      each id is in about
 *	B:  cells of its ids     . y x . . ...      2 ln(count) of them
 *	A ^ B:  what both have falls out; the rest is found cell by cell
 *
 * A rateless invertible Bloom lookup table (Yang, Gilad, Alizadeh: "Practical
 * Rateless Set Reconciliation", SIGCOMM 2024, section 4): id and check are
 * xored into an endless row of cells, cell i with probability 1 / (1 + i/2).
 * Any prefix of the row is a table; 1.35 to 1.7 cells for each id that differs
 * are enough.  Who sees the sum of A and B does not see whose an id was; he
 * looks that up among his own.
 *
 * The check is half of SipHash: it must not be linear, or the sum of two ids
 * would bear the sum of their checks and pass for one.  Places are drawn with
 * integers only, so that they are the same on every machine.
 */
#ifndef DC_IBLT_H
#define DC_IBLT_H

#include "keyhash.h"

#include <stdbool.h>

/* 12 bytes each on the wire: 192 kB. */
#define DC_IBLT_CELLS_MAX  16384u
#define DC_IBLT_CELL_BYTES 12u

typedef struct DcIbltCell
{
	uint64_t ids;    /* xor of the ids in this cell */
	uint32_t checks; /* xor of their checks */
	uint32_t next;   /* of the decoder */
} DcIbltCell;

/*
 * Puts an id into the first `count` cells, or takes it out again.  All zero
 * bytes are an empty table; count <= DC_IBLT_CELLS_MAX.
 */
void dc_iblt_toggle(DcIbltCell *cells, uint32_t count,
					const uint8_t seed[DC_SEED_BYTES], uint64_t id);

/*
 * The same where others do so at once, each cell by an atomic xor; and the
 * first `count` of such cells as they are read one after the other.  A copy
 * that was made while an id changed has it in some of its cells only: most
 * likely such a copy is not decoded, and never without end.
 */
void dc_iblt_toggle_shared(DcIbltCell *cells, uint32_t count,
						   const uint8_t seed[DC_SEED_BYTES], uint64_t id);
void dc_iblt_copy_shared(DcIbltCell *to, const DcIbltCell *cells,
						 uint32_t count);

/*
 * About how many ids are in these cells, told by those that are empty; if none
 * is, the least number of which that is likely.
 */
uint32_t dc_iblt_estimate(const DcIbltCell *cells, uint32_t count);

/*
 * Takes ids out of the xor of two tables until it is empty; they are written
 * to `ids`, which has room for `count`, and counted in *found.  False: not
 * all could be found, and what was found is not to be trusted.
 *
 * The cells are input from elsewhere: any bytes do.  At most `count` ids are
 * taken out, each at the cost of its cells.
 */
bool dc_iblt_decode(DcIbltCell *cells, uint32_t count,
					const uint8_t seed[DC_SEED_BYTES], uint64_t *ids,
					uint32_t *found);

#endif
