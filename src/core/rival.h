/*
 * rival.h
 *		P3: rows that cannot all be in their table, because they claim one
 *		unique value or exclude each other.
 *
 * The entries of a keyspace say which rows exist, and agree on all nodes (R5).
 * Which of them are *in the table* is a function of the entries alone: rows
 * are taken in descending order, and each is in unless one that is in already
 * excludes it.  The others wait (P12).  So there is nothing to ship, and
 * nothing to decide once and for all: who excluded a row may leave.
 *
 *	      9: x=1        in                  Draw an arrow from each row to the
 *	      |             ^                   rows before it that exclude it.
 *	      7: x=1, y=2   waits for 9         There is no cycle, since arrows go
 *	      |                                 up; so there is exactly one set of
 *	      5: y=2        in, since 7 is not  rows without arrows inside it, and
 *	                                        with one into it from every other.
 *
 * Each node keeps the two halves of that: no two rivals are in (the index sees
 * to it; a newcomer puts aside whom it outranks), and whoever is not waits for
 * one that is in and outranks it (dc_rival_waits, asked again and again).
 * Hence the order in which rows come does not matter, nor does a restart.
 * That it ends: each step adds a row to the table and removes only rows after
 * it, so the sets of rows grow in their lexicographic order.
 */
#ifndef DC_RIVAL_H
#define DC_RIVAL_H

#include "rules.h"
#include "wire.h"

/* A row as its rivals see it. */
typedef struct DcRival
{
	DcHlc stamp;
	DcSlice key;
} DcRival;

/*
 * Is `row` before `other`?  By stamp; of one transaction, whose rows are no
 * rivals where they were written, by key.  A total order of all rows.
 */
bool dc_rival_outranks(DcRival row, DcRival other);

/* A row that is not in the table, and the one because of which. */
typedef struct DcRivalWaiting
{
	DcHlc stamp;
	DcEntry entry;        /* of its key, as it is now */
	DcHlc other;          /* stamp of the row that outranks it */
	DcEntry other_entry;  /* of that row's key, as it is now */
	bool other_put_aside; /* that row waits itself */
} DcRivalWaiting;

/* False: something has changed, and it is to be tried again. */
bool dc_rival_waits(const DcRivalWaiting *waiting);

#endif
