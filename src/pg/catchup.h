/*
 * catchup.h
 *		Reads the rows of a catch-up: entries above a vector, rows by key.
 *
 * Entries come from a scan of the metadata in key-hash order, keyspace by
 * keyspace, the catalogue first (P16).  Then, under a newer snapshot, each
 * row is read by its key and travels with the stamp it bears (P15).  Nothing
 * was stored for the peer; what it gets is what is here now.
 */
#ifndef DATACAKE_CATCHUP_H
#define DATACAKE_CATCHUP_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "copy.h"
#include "metadata.h"

typedef struct DcCatchup DcCatchup;

typedef enum DcCatchupResult
{
	DC_CATCHUP_CHUNK, /* parts were appended */
	DC_CATCHUP_LATER, /* a table is locked; ask again soon */
	DC_CATCHUP_END
} DcCatchupResult;

/* A place in the scan; all zero: the beginning. */
typedef struct DcCatchupMark
{
	int at; /* keyspace, in the order of sending */
	DcMetadataCursor cursor;
} DcCatchupMark;

/*
 * Begins a catch-up in `context`.  above->at[s]: entries of source s beyond
 * it are sent, DC_HLC_MAX: none; the catalogue is sent above `base`.
 */
extern DcCatchup *dc_catchup_begin(MemoryContext context, const DcVv *above,
								   const DcVv *base);

/*
 * Appends the next parts of a call (message.h) to `call` and counts their
 * rows.  Starts and ends a transaction of its own; flushes WAL up to what it
 * read (R3, P9).
 */
extern DcCatchupResult dc_catchup_next(DcCatchup *catchup, StringInfo call,
									   uint32 *rows);

/* At the end: what was left to sources of which none are sent, by stamp. */
extern const DcVv *dc_catchup_left(const DcCatchup *catchup);

/* The keyspace at hand. */
extern uint64 dc_catchup_keyspace(const DcCatchup *catchup);

/*
 * A copy's second part: entries above `above`, and all dead ones.  Its chunks
 * are read in the running transaction (SPI connected), not in one of its own.
 */
extern DcCatchup *dc_catchup_begin_changed(MemoryContext context,
										   const DcVv *above);
extern DcCatchupResult dc_catchup_next_here(DcCatchup *catchup, StringInfo call,
											uint32 *rows);

/*
 * Appends the rows of a table from `place` on, in the order of the heap, as
 * the active snapshot shows them, until there are `bytes_max`; the place moves
 * on.  In a transaction; the caller flushes WAL before any of it leaves.
 */
extern DcCatchupResult dc_catchup_range(int slot, DcCopyPlace *place,
										int bytes_max, StringInfo call,
										uint32 *rows);

/*
 * Appends some of the changes that wait here, those with keys behind `after`;
 * returns the last key, empty: there were none.  Likewise.
 */
extern DcSlice dc_catchup_waiting(int slot, DcSlice after, StringInfo call);

/*
 * P15.  The place up to which everything was appended to calls; and going on
 * from such a place, when the calls up to it were acknowledged and the rest
 * was lost with the connection.
 */
extern DcCatchupMark dc_catchup_mark(const DcCatchup *catchup);
extern void dc_catchup_resume(DcCatchup *catchup, const DcCatchupMark *mark);

extern void dc_catchup_end(DcCatchup *catchup);

/* What is here of a key. */
typedef enum DcKeyFound
{
	DC_KEY_ABSENT, /* nothing, or only what the floor killed */
	DC_KEY_SENT,
	DC_KEY_UNSETTLED /* a commit is visible and not merged yet, or a loss */
} DcKeyFound;

/*
 * Appends, as parts of a call, what is here of these keys of one keyspace:
 * rows, tombstones, changes that wait; found[] (may be NULL) says it of each.
 * Stops after `bytes_max`; returns how many keys were looked at, at least one,
 * or 0 if the table is locked by somebody else.  In a transaction, SPI
 * connected; the caller flushes WAL (dc_flush_all) before any of it leaves.
 */
extern uint32 dc_catchup_rows(int slot, const DcSlice *keys, uint32 count,
							  Size bytes_max, StringInfo call, uint32 *rows,
							  uint8 *found);

/* Appends the keyspace's floor, if it has one; likewise. */
extern void dc_catchup_floor(int slot, StringInfo call);

/* Appends a batch part to a call under construction. */
extern void dc_call_append(StringInfo call, int kind, const void *data,
						   Size length);

#endif
