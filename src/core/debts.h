/*
 * debts.h
 *		What catch-ups left to third nodes, and has not come from them yet.
 *
 *	 donor D          this node              source L
 *	   | catch-up: key k       |                  |
 *	   | is (L, y) now, and    |                  |
 *	   | L streams to you ---->| V[D] covers k,   |
 *	   |                       | k is not here    |
 *	   |                       | debt (L, y) by D |
 *	   |                       |<--- k at y ------|
 *	   |                       |<--- V[L] >= y ---|
 *	   |                       | settled          |
 *
 * V alone says "taken, or overwritten by something that somebody else brings".
 * A node without debts has all that its V claims, or what is newer: a debt is
 * paid when V of its source reaches it.  It is void when the donor closes
 * another catch-up, which says anew what the donor leaves to whom, or when the
 * source is no member any more.
 *
 * Who hands on what it claims itself hands on its debts, under the names of
 * the donors that they are from: only a donor itself knows that it has the row.
 * Donor 0 is one that lives no more.
 *
 * Pure state.  All zero bytes: no debts.
 */
#ifndef DC_DEBTS_H
#define DC_DEBTS_H

#include "vv.h"

#define DC_DEBTS_WORDS (DC_NODE_IDS / 64)

typedef struct DcDebts
{
	DcVv to; /* each source owes all up to here, where donors say so: */
	uint64_t by[DC_NODE_IDS][DC_DEBTS_WORDS];
} DcDebts;

void dc_debts_init(DcDebts *debts);

/* Adds that `donor` left to each source what is up to its stamp. */
void dc_debts_leave(DcDebts *debts, uint32_t donor, const DcVv *left);
void dc_debts_add(DcDebts *debts, uint32_t source, uint32_t donor, DcHlc stamp);
bool dc_debts_names(const DcDebts *debts, uint32_t source, uint32_t donor);

/* Does a node with this vector have all that it claims? */
bool dc_debts_settled(const DcDebts *debts, const DcVv *vector);

/* Forgets what is paid. */
void dc_debts_pay(DcDebts *debts, const DcVv *vector);

/*
 * `donor` closed a catch-up, which says `left`; the own vector has moved.
 * What this node itself left or owes it has.
 */
void dc_debts_close(DcDebts *debts, uint32_t donor, const DcDebts *left,
					const DcVv *vector, uint32_t self);

/* That source is gone for good, and all others have told what they had of it. */
void dc_debts_forgive(DcDebts *debts, uint32_t source);

/*
 * Codec: for each source, ascending, u16 node id, u64 stamp, varint count and
 * ascending u16 donors.  Decoding into NULL only checks.
 */
void dc_debts_encode(DcWriter *w, const DcDebts *debts);
DcStatus dc_debts_decode(DcSlice bytes, DcDebts *debts);

/* The string that holds them in a message; the reader fails if it is malformed. */
DcSlice dc_debts_read(DcReader *r);

#endif
