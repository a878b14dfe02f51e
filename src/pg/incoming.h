/*
 * incoming.h
 *		What a call brings, and what is here for it.
 *
 *	call -> batches -> DcApplySet
 *	                     targets: keyspaces, as the batches describe them
 *	                     items:   changes, pointing into the message
 *
 * Shared by the files that apply, judge and record; nobody else needs it.
 */
#ifndef DATACAKE_INCOMING_H
#define DATACAKE_INCOMING_H

#include "postgres.h"

#include "apply.h"
#include "rel.h"
#include "shape.h"
#include "table.h"

/* A keyspace as one batch describes it, and what is here for it. */
typedef struct DcTarget
{
	uint64 id;
	DcSlice dictionary; /* the bytes of its dictionary entry */
	int image_columns;
	DcSlice *names;
	DcSlice *types;
	int slot;
	uint32 generation; /* of the slot's use */
	bool opened;       /* relation was tried */
	Relation relation;
	DcRel *rel;
	DcColumn **columns;    /* by image column; NULL: not here */
	bool same_columns;     /* the image has exactly our columns, in our order */
	const char *complaint; /* why no row can be written */
	DcShape *shape;        /* NULL: the columns of the image are ours */
	DcHlc until;           /* rows from this stamp on do not fit ... */
	const char *late_complaint; /* ... because of this; NULL: they do */
	bool unique;                /* has unique indexes beside its key */
} DcTarget;

typedef enum DcBulk
{
	DC_BULK_NOT,   /* by itself */
	DC_BULK_STORE, /* together with others (bulk.h) */
	DC_BULK_HERE   /* not at all: its entry says that it is here */
} DcBulk;

typedef struct DcIncoming
{
	DcTarget *target;
	DcChange change;
	DcKey key;
	int order; /* in the call; of equal stamps the later one counts */
	bool exact;
	DcHlc row;     /* stamp of the locked row, once found */
	DcEntry entry; /* as it stood after the row was locked */
	DcApply decision;
	DcBulk bulk;                 /* how its row is written */
	bool floor;                  /* a TRUNCATE: no key */
	struct DcUniqueRival *rival; /* P3: a row that outranks it (unique.c) */
} DcIncoming;

/* P3: what a row does whose unique values are taken. */
typedef enum DcClaim
{
	DC_CLAIM_NOT,  /* it fails */
	DC_CLAIM_TAKE, /* it puts aside what it outranks, or fails */
	DC_CLAIM_YIELD /* it goes to the quarantine, its former version goes */
} DcClaim;

struct DcApplySet
{
	List *targets;
	DcIncoming *items;
	int count;
	int capacity;
	List *floors; /* DcIncoming, of TRUNCATEs; not among the items */
	DcHlc latest;
	uint64 definition; /* for realize() */
	bool retry;   /* changes that waited: their entries are there already */
	bool again;   /* equal stamps: the row is written anew */
	bool copied;  /* entries suffice to say what is here */
	bool by_row;  /* many at a time failed */
	bool frees;   /* P3: unique values are freed before they are used */
	bool hurried; /* patience is used up: locks are not waited for again */
	bool below_horizon; /* R5: takes what the horizon would have refused */
	DcClaim claim;
	int claim_state;              /* the SQLSTATE that made it claim */
	const ErrorData *claim_error; /* why it yields */
	List *displaced; /* DcWaiting; on their way to the quarantine */
	DcApplied result;
	DcVv vector;     /* as it was when the set began */
	List *conflicts; /* DcConflict, in the order met */
};

/* Sorts: the catalogue first, then by keyspace, key and stamp; leaves the
 * newest change of each key, with what was replaced before all of them. */
extern void dc_incoming_sort(DcApplySet *set);

/* The floor of a keyspace, with those that this set has applied so far. */
extern DcHlc dc_incoming_floor(const DcApplySet *set, int slot);

/* Number of items with the same target, from `items` on. */
extern int dc_incoming_run(const DcApplySet *set, const DcIncoming *items);

/*
 * Finds table and columns of a target, with a lock on the table; what is
 * missing or locked becomes the complaint.  ERROR YD023 if the keyspace is
 * not known.
 */
extern void dc_incoming_open(DcTarget *target);

/* Did a lock of others not come, in time or without a deadlock? */
extern bool dc_incoming_lock_missed(const ErrorData *error);
extern void dc_incoming_close(DcApplySet *set);

/* Only the columns, of a table that the caller has opened. */
extern void dc_incoming_map(DcTarget *target, DcRel *rel);

/* The image of an item, with its stamp, into a slot; the rest is null. */
extern void dc_incoming_decode(const DcIncoming *item, TupleTableSlot *slot);

/* The image of an item into table->remote, over the local row or alone. */
extern void dc_incoming_image(DcTable *table, const DcIncoming *item,
							  bool over_local);

/* The item as a batch of one, and any change of a keyspace; palloc'd. */
extern bytea *dc_incoming_batch(const DcIncoming *item);
extern bytea *dc_incoming_batch_of(DcSlice dictionary, const DcChange *change);

#endif
