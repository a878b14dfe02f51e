/*
 * notes.h
 *		The running transaction, and the notes of its changes; private to
 *
 *	changes.c			what was captured or applied is noted
 *	changes_reduce.c	which of the notes stand in the end
 *	changes_ship.c		PRE_COMMIT: into the queue, or a file
 *	changes_settle.c	map slots reserved at PRE_COMMIT, merged at COMMIT
 *	transaction.c		stamps; calls the others when it ends
 *
 * Notes live in memory of the transaction, in the order in which they were
 * made.  A large transaction reads them only a few times, each time from memory
 * that no cache holds: so they are small, and what a merge needs comes first.
 */
#ifndef DATACAKE_NOTES_H
#define DATACAKE_NOTES_H

#include "postgres.h"

#include "batch.h"
#include "changes.h"
#include "hash_order.h"
#include "transaction.h"

#define DC_NOTE_KEY_BYTES sizeof(uint64) /* of a key that lies in the note */

typedef struct DcNote
{
	uint64 hash; /* of the key */
	DcHlc stamp;
	DcHlc replaced; /* the row before; of one reborn, the death before it */
	union
	{
		uint8 bytes[DC_NOTE_KEY_BYTES]; /* of a short key */
		uint8 *at;
	} key;
	uint16 slot;
	uint16 key_length;
	int16 dictionary;    /* -1: applied, not to be shipped; unused if by_key */
	bool dead : 1;       /* the row was deleted */
	bool floor : 1;      /* a TRUNCATE: no key */
	bool reborn : 1;     /* the key was dead before, and known to be */
	bool ended : 1;      /* the row was not there any more when noted */
	bool superseded : 1; /* a later change of the key, or a TRUNCATE, stands */
	bool absent : 1;     /* its key was not known here */
	bool prepared : 1;   /* its merge cannot fail any more */
	bool reserved : 1;   /* because of a reserved slot; else of a pin */
	bool announced : 1;  /* its death was announced */
	bool filed : 1;      /* its image is in a file (images.h) */
	uint32 generation;   /* of the slot's use */
	uint32 births;       /* late ones before our commit, if this is a death */
	union
	{
		uint8 *at;
		uint64 position; /* filed */
	} image;
	uint32 image_length;
	SubTransactionId subid;
	CommandId command; /* that wrote the row, or ended it */
} DcNote;

StaticAssertDecl(sizeof(DcNote) == 72, "a note is small");

/* A table as it looked when its changes were captured. */
typedef struct DcDictionary
{
	uint64 generation; /* of its description (rel.h) */
	StringInfoData bytes;
} DcDictionary;

/*
 * Bytes that live as long as the transaction.  Blocks grow, because a block
 * that outweighs a small transaction would be taken from the system and given
 * back by every one of them.
 */
typedef struct DcArena
{
	MemoryContext context;
	uint8 *next;
	Size left;
	Size block;
	Size total;
} DcArena;

/* A keyspace by whose entries the transaction decides (R8). */
typedef struct DcReading
{
	int slot;
	int side;
} DcReading;

typedef struct DcTransaction
{
	MemoryContext context; /* NULL: nothing happened yet */
	DcNote *notes;
	int64 count;
	int64 capacity;
	DcArena keys;
	DcArena images;
	DcDictionary *dictionaries;
	int dictionary_count;
	DcReading *readings;
	int reading_count;
	DcHlc *stamps; /* drawn, ascending; the last is current */
	int stamp_count;
	bool filed;  /* some images are in a file */
	bool by_key; /* images were dropped */
	bool only_inserts;
	bool has_deaths; /* these two maybe; a savepoint may have dropped them */
	bool has_floors;
	int64 captured;      /* with those that were reduced since */
	Size captured_bytes; /* of their keys and images */
	int64 shipped;       /* after reducing */
	bool unsettled;      /* committed; to be settled after the locks */
	bool has_queued;     /* something must be published */
	uint64 queued;       /* reservation, or DC_QUEUE_NONE for a gap */
	uint64 spool;        /* its file, if it is too large for the queue */
	DcHashOrder *order;  /* for the merges of many changes, or NULL */
} DcTransaction;

extern DcTransaction dc_xact;

static inline DcKey
dc_note_key(const DcNote *note)
{
	return (DcKey){.data = note->key_length <= DC_NOTE_KEY_BYTES ?
							   note->key.bytes :
							   note->key.at,
				   .length = note->key_length,
				   .hash = note->hash};
}

static inline DcEntry
dc_note_entry(const DcNote *note)
{
	return (DcEntry){.stamp = note->stamp, .dead = note->dead};
}

/* Made here, and it stands. */
static inline bool
dc_note_is_shipped(const DcNote *note)
{
	return !note->superseded && note->dictionary >= 0;
}

/* --- transaction.c --- */

/* The transaction does its first thing that somebody must know. */
extern void dc_transaction_touch(void);

/* --- changes.c --- */

extern void dc_arena_init(DcArena *arena, const char *name);

/* Cuts the last note off the list. */
extern void dc_note_take_back(void);

/* --- changes_reduce.c --- */

/*
 * Marks what does not stand in the end as superseded.  Not while a savepoint
 * may bring something back.
 */
extern void dc_notes_reduce(void);

/* Of two changes of one key, noted in this order: does the second one stand? */
extern bool dc_note_stands(const DcNote *second, const DcNote *first);

/* Is it a change of that key? */
extern bool dc_note_is_of(const DcNote *note, int slot, DcKey key);

/* ERROR where what stands is older than what the transaction found. */
extern void dc_notes_check_newer(void);

/* --- changes_ship.c --- */

/* At PRE_COMMIT: what was captured gets a place in the queue, or a file. */
extern void dc_notes_reserve_queue(void);

/* --- changes_settle.c --- */

/* At PRE_COMMIT: tombstones are written, map slots reserved, deaths announced. */
extern void dc_notes_reserve(void);

/* At COMMIT, while the locks are held: who gets them then finds the floors. */
extern void dc_notes_raise_floors(void);

/* At COMMIT, or after the locks: into the metadata.  Cannot fail. */
extern void dc_notes_merge(void);

/* What it has reserved and announced.  Cannot fail. */
extern void dc_note_give_back(DcNote *note);

#endif
