/*
 * metadata.h
 *		The entries of all keyspaces, in shared memory.
 *
 *	keyspaces[slot] --> 64 partitions, each a DcMap (map.h) and a death mark
 *	          |              |
 *	          |              +--> pages of 2 kB from one pool
 *	          +--> cells of its live entries (iblt.h), if they are kept
 *
 * A key belongs to the partition that the top bits of its hash name.  The
 * partition's lock guards its map; the pool has a spinlock of its own, taken
 * inside.  Locks are held for the time of one lookup, never across I/O, and
 * never two at once.
 *
 * A TRUNCATE is one stamp, the keyspace's floor.  From the moment it is raised
 * every entry at or below it reads as a death at the floor; the entries
 * themselves leave the map afterwards, in short steps of the maintainer.
 *
 * A slot of the keyspace table is stable for whoever holds any lock on the
 * keyspace's table: it is closed only under AccessExclusiveLock.  Of a keyspace
 * without a table it can be closed at any time: each use of it has another
 * generation.
 */
#ifndef DATACAKE_METADATA_H
#define DATACAKE_METADATA_H

#include "postgres.h"

#include "map.h"
#include "rules.h"
#include "shmem.h"
#include "sketch.h"

#define DC_PARTITION_BITS  6
#define DC_PARTITIONS      (1 << DC_PARTITION_BITS)
#define DC_PARTITION_LOCKS 256
#define DC_ALIASES         4

typedef struct DcKeyspace
{
	uint64 id;                  /* 0: slot is free; DC_LOCK_KEYSPACES */
	uint64 aliases[DC_ALIASES]; /* ids that lost the same name (P16) */
	uint32 generation;          /* another for each use of the slot */
	Oid relid;                  /* InvalidOid: no table here yet */
	uint32 key_bytes;           /* fixed width of its keys, or 0 */
	pg_atomic_uint64 floor;     /* stamp of the last TRUNCATE */
	pg_atomic_uint64 purged;    /* floor whose dead have left the map */
	pg_atomic_uint64 swept;     /* floor whose dead have left the heap */
	pg_atomic_uint64 captured;  /* changes made here */
	pg_atomic_uint64 applied;   /* changes taken from others */
	pg_atomic_uint64 conflicts; /* concurrent writes met by apply */
	pg_atomic_uint64 deaths[DC_PARTITIONS]; /* dmax of P1 */
	pg_atomic_uint64 last_death;            /* not below any of them */
	pg_atomic_uint32 dying[DC_PARTITIONS];  /* deaths not merged yet */
	pg_atomic_uint32 births[DC_PARTITIONS]; /* late ones, of apply (P2) */
	pg_atomic_uint32 side;       /* which of the readers is counted up */
	pg_atomic_uint32 readers[2]; /* who decided and has not acted (R8) */
	uint32 pins[DC_PARTITIONS];  /* merges to come; the partition's lock */
	DcMap maps[DC_PARTITIONS];
} DcKeyspace;

typedef struct DcKey
{
	const uint8 *data;
	Size length;
	uint64 hash;
} DcKey;

typedef struct DcMetadataCursor
{
	int partition;
	DcMapCursor cursor;
} DcMetadataCursor;

typedef struct DcMetadataCounts
{
	uint64 live;
	uint64 dead;
	uint64 bytes;
	uint64 sum; /* of the fingerprints of live entries */
} DcMetadataCounts;

extern Size dc_metadata_bytes(void);
extern void dc_metadata_attach(void);

/* --- the table of keyspaces; ERROR where a limit is reached --- */

/*
 * The slot of this id or alias, or -1; and which use of the slot that is.
 * Whoever has no lock on its table compares that later.
 */
extern int dc_keyspace_find(uint64 id, uint32 *generation);
extern int dc_keyspace_by_id(uint64 id);

/* ERROR YD023: this keyspace is not known here, or not any more. */
extern void dc_keyspace_refuse(uint64 id) pg_attribute_noreturn();

/* The same unless `slot` is in that use still, as dc_keyspace_find() said. */
extern void dc_keyspace_require(int slot, uint32 generation, uint64 id);

/*
 * Enters a keyspace, or finds it and completes its relid.  Its death marks
 * start at the clock.  ERROR YD001 / 53400 when max_keyspaces is reached.
 */
extern int dc_keyspace_enter(uint64 id, Oid relid, uint32 key_bytes);

/* Another id for the same name; the least id becomes the name's id. */
extern void dc_keyspace_alias(int slot, uint64 id);

/*
 * Frees the slot and its pages.  AccessExclusiveLock on its table held, if it
 * has one, or aborting.
 */
extern void dc_keyspace_close(int slot);

/* It has no table here any more; its entries stay.  Aborting. */
extern void dc_keyspace_detach(int slot);

/* Closes all; before a node starts anew without a restart of the server. */
extern void dc_metadata_reset(void);

extern DcKeyspace *dc_keyspace(int slot);

/* All keyspaces are in slots below this one; each slot is some pages apart. */
extern int dc_keyspace_slots(void);

/* --- keys --- */

extern DcKey dc_key_make(const uint8 *data, Size length);

/*
 * P1.  Whoever is about to make a death visible announces it first (full
 * barrier), and settles it after its tombstone was merged or its transaction
 * aborted.  So a later writer of the key finds the death in the entry, or
 * finds it announced.
 */
extern void dc_death_announce(int slot, uint64 hash, DcHlc stamp);
extern void dc_death_settle(int slot, uint64 hash);

/* dmax of the key's partition; only dc_rule_late_birth asks for it. */
extern DcHlc dc_death_mark(int slot, uint64 hash);

/* P2: a birth that may come too late, counted (full barrier); the count. */
extern void dc_birth_announce(int slot, uint64 hash);
extern uint32 dc_birth_count(int slot, uint64 hash);

/*
 * The greatest death that may concern this key and is not older than `stamp`;
 * DC_HLC_NONE if there is none.
 */
extern DcHlc dc_death_after(int slot, DcKey key, DcHlc stamp);

/* May it answer anything else for some key?  False is certain. */
extern bool dc_death_after_any(int slot, DcHlc stamp);

/* The entry as it counts: at or below the floor a death at the floor. */
extern DcEntry dc_metadata_get(int slot, DcKey key);

/*
 * Some keys ahead of one of the above or a merge: what it will look at comes
 * into the processor's cache.  Cannot fail.
 */
extern void dc_metadata_prefetch(int slot, uint64 hash);

#define DC_PREFETCH 8 /* keys ahead of a lookup or a merge */

/* The death of the key, if that is the last that is known; else NONE. */
extern DcHlc dc_metadata_death(int slot, DcKey key);

/*
 * So many inserts are about to come, of keys that hash anywhere: if they are
 * many, and need less than half of the memory that is left, their partitions
 * grow once, not often.  Promises nothing.
 */
#define DC_MANY_INSERTS 10000

extern void dc_metadata_expect(int slot, uint32 generation, uint64 inserts);

/*
 * Sees to it that one later merge of this key cannot fail.  With
 * `known_absent` no lookup is made first.  Returns true if room was taken;
 * false if the key is present: then its partition is pinned, that is no entry
 * of it is purged.  Either is undone by the merge (`reserved` says which) or
 * by dc_metadata_unreserve().  ERROR YD001 when full; YD023 if that use of the
 * slot is over, which none of the others takes for an error.
 */
extern bool dc_metadata_reserve(int slot, uint32 generation, DcKey key,
								bool known_absent);
extern void dc_metadata_unreserve(int slot, uint32 generation, DcKey key,
								  bool reserved);

/*
 * Joins an entry after dc_metadata_reserve(), which returned `reserved`.
 * Cannot fail.  Returns what counted before; an entry at or below the floor is
 * not stored.
 */
extern DcEntry dc_metadata_merge(int slot, uint32 generation, DcKey key,
								 DcEntry entry, bool reserved);

/* The same for an absent key without a reservation; DC_FULL possible. */
extern DcStatus dc_metadata_try_merge(int slot, uint32 generation, DcKey key,
									  DcEntry entry, DcEntry *found);

/* --- floors --- */

extern DcHlc dc_floor(int slot);

/*
 * The keyspace was truncated at this stamp; `swept`: no row at or below it
 * can be left.  Cannot fail (full barrier).
 */
extern void dc_floor_raise(int slot, uint32 generation, DcHlc stamp,
						   bool swept);

/*
 * P1 for a TRUNCATE of another node, whose rows are deleted while others
 * insert: announced before they are looked for, settled after the floor was
 * raised or its transaction aborted.
 */
extern void dc_floor_announce(int slot, DcHlc stamp);
extern void dc_floor_settle(int slot);

/*
 * Removes some entries at or below the floor, holding one lock for a short
 * while; `cursor` is all zero at first.  False: the cursor is at the end.
 * *complete becomes false where a partition is pinned: its entries stay until
 * a cursor comes by again.
 */
extern bool dc_metadata_purge_floor(int slot, DcMetadataCursor *cursor,
									bool *complete);

/* --- scans, resumable between calls --- */

extern void dc_metadata_scan_begin(DcMetadataCursor *cursor);

/*
 * Up to `max` items above the floor whose stamp is not covered by `above`
 * (NULL: all); keys are copied to `arena`.  0: the end.  `left`, if given, is
 * raised to the stamps that DC_HLC_MAX keeps out.
 */
extern int dc_metadata_scan(int slot, DcMetadataCursor *cursor,
							const DcVv *above, DcVv *left, DcMapItem *items,
							int max, uint8 *arena, Size arena_bytes);

/* The same, and in any case what is dead. */
extern int dc_metadata_scan_changed(int slot, DcMetadataCursor *cursor,
									const DcVv *above, DcMapItem *items,
									int max, uint8 *arena, Size arena_bytes);

/*
 * R8.  Who reads entries, decides by them and acts on that later, enters
 * before and leaves afterwards (in COMMIT: cannot fail); `side` is told by the
 * one and asked by the other.  A purge turns the sides over when its horizon
 * is in use, and waits for those who entered before.
 */
extern int dc_metadata_enter(int slot);
extern void dc_metadata_leave(int slot, int side);
extern void dc_metadata_turn(int slot);
extern uint32 dc_metadata_readers_before(int slot);

typedef enum DcPurge
{
	DC_PURGE_MORE,
	DC_PURGE_PINNED, /* a commit relies on this partition: later */
	DC_PURGE_DONE
} DcPurge;

/*
 * Forgets dead entries at or below the horizon in the next stretch of the
 * keyspace.  A cursor starts out as dc_metadata_scan_begin() makes it.
 */
extern DcPurge dc_metadata_purge(int slot, DcMetadataCursor *cursor,
								 DcHlc horizon);

/*
 * Forgets the key if its entry bears this stamp.  False: a commit under way
 * relies on the partition; try again.
 */
extern bool dc_metadata_forget(int slot, DcKey key, DcHlc stamp);

extern void dc_metadata_count(int slot, DcMetadataCounts *counts);

/* The maps of a keyspace, for repair (sketch.h). */
extern DcMapsView dc_metadata_view(int slot);

/* Its datacake.repair_cells kept cells; NULL if that is 0. */
extern DcIbltCell *dc_metadata_cells(int slot);

/* --- keys whose heap row and entry may disagree (P2) --- */

/* Queues a key for the maintainer and wakes it; never fails. */
extern void dc_reconcile_push(int slot, DcKey key);

/* Is no key queued? */
extern bool dc_reconcile_empty(void);

/*
 * Takes the oldest key (copied to `data`, DC_KEY_BYTES_MAX).  False when
 * empty.  *overflow is set, once, if keys were dropped since: then everything
 * must be compared.
 */
extern bool dc_reconcile_pop(uint64 *id, uint8 *data, Size *length,
							 bool *overflow);

#endif
