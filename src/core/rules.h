/*
 * rules.h
 *		The decisions of replication, one function per rule.
 *
 * A key has two places: the heap (its row, with the stamp in a column) and
 * the metadata (its entry: a stamp, live or dead).  Each is written at its
 * own moment: the heap when a statement runs, visible to others when its
 * transaction ends; the metadata right after that.  The functions here say
 * what to do when the two meet a write from elsewhere.  They are pure, so
 * that the server and the simulator run the very same decisions.
 */
#ifndef DC_RULES_H
#define DC_RULES_H

#include "hlc.h"
#include "members.h"
#include "vv.h"

#include <stddef.h>

/* An entry of the metadata.  stamp == DC_HLC_NONE: the key is unknown. */
typedef struct DcEntry
{
	DcHlc stamp;
	bool dead;
} DcEntry;

/*
 * R1, P1: must the transaction draw a fresh stamp for this write?
 * `own` is its current stamp, `row` the stamp that the row bears
 * (DC_HLC_NONE for an INSERT, or when the row bears a stamp of this very
 * transaction), `death` the greatest stamp of a death that may concern the
 * key (DC_HLC_NONE for a write that finds its row).
 */
bool dc_rule_needs_fresh(DcHlc own, DcHlc row, DcHlc death);

/*
 * R2: the watermark, given a stamp `drawn` before the slots were read, the
 * slots (DC_HLC_NONE: empty) and the durable bound of the clock.  Never less
 * than `previous`.
 */
DcHlc dc_rule_watermark(DcHlc drawn, const DcHlc *slots, size_t slot_count,
						DcHlc bound, DcHlc previous);

/*
 * A TRUNCATE is a death of every key at once, the keyspace's floor: what an
 * entry, or its absence, says of the key once the floor is known.
 */
DcEntry dc_rule_above_floor(DcEntry entry, DcHlc floor);

/* What apply does with one incoming change. */
typedef enum DcApply
{
	DC_APPLY_STORE, /* write the row with its image and stamp */
	DC_APPLY_ERASE, /* delete the row, keep the tombstone */
	DC_APPLY_MARK,  /* no row to delete: keep the tombstone */
	DC_APPLY_SAME,  /* already here */
	DC_APPLY_STALE  /* something newer is here, or its death was purged */
} DcApply;

/*
 * P2, R5: `row` is the stamp of the locked heap row, DC_HLC_NONE when the
 * key has no row; `entry` what the metadata holds; `horizon` is g; `floor`
 * the stamp of the keyspace's last TRUNCATE.  The heap decides where there
 * is a row, the metadata only where there is none.  Row and entry at or below
 * the floor are dead; of such a key nothing else is known, so that the horizon
 * counts as for an absent one.
 */
DcApply dc_rule_apply(DcHlc row, DcEntry entry, DcEntry incoming, DcHlc horizon,
					  DcHlc floor);

/*
 * P2: after a commit merged `merged` into the metadata and found `found`
 * there while its statement had replaced a row stamped `replaced`
 * (DC_HLC_NONE: no row): may heap and metadata disagree now?
 */
bool dc_rule_needs_reconcile(DcEntry found, DcEntry merged, DcHlc replaced);

/*
 * P2: apply found no row for a live change and will believe the entry.  But a
 * death of the key may be visible and not merged yet, so that the entry still
 * names what died, and the change may be that very row, or an older one, come
 * again.  True when this is possible: `death` is dmax, read after the probe.
 *
 * Then the partition's count of late births goes up *before* the entry is
 * read.  Who merges a death takes that count before its commit record and
 * again after the merge: where it moved, the key is reconciled.  One of the
 * two always sees the other; dc_rule_needs_reconcile alone cannot, because
 * such a death finds exactly the row it replaced.
 */
bool dc_rule_late_birth(DcHlc row, DcEntry incoming, DcHlc death);

/* What makes heap and metadata of one key agree again. */
typedef enum DcReconcile
{
	DC_RECONCILE_NOTHING,   /* they agree */
	DC_RECONCILE_ERASE_ROW, /* the row outlived its newer death */
	DC_RECONCILE_MERGE_ROW, /* the row is newer than its entry */
	DC_RECONCILE_FETCH_ROW  /* the entry is live and newer: row is elsewhere */
} DcReconcile;

DcReconcile dc_rule_reconcile(DcHlc row, DcEntry entry);

/* What a joining node does with a live row that its donor knows nothing of. */
typedef enum DcRejoin
{
	DC_REJOIN_KEEP,      /* the donor will get it in the usual way */
	DC_REJOIN_ERASE,     /* the cluster had it; it died and was forgotten */
	DC_REJOIN_REISSUE,   /* nobody ever had it: write it anew */
	DC_REJOIN_QUARANTINE /* nobody has it, and its death may be forgotten */
} DcRejoin;

/*
 * R13: `stamp` is the entry's, `covered` whether the donor's vector covers
 * it.  `horizon`: no g of a member is above it; that is the greatest g when
 * all present members have delivered to this life of the node, and the stamp
 * observed when the cluster took it in before that.  `newborn`: the entry is
 * this node's own, and no life of this node was in the cluster before.
 */
DcRejoin dc_rule_rejoin(DcHlc stamp, bool covered, DcHlc horizon, bool newborn);

/* One of the two nodes that compare a key (R9). */
typedef struct DcRepairSide
{
	DcEntry entry;
	DcHlc floor;        /* stamp of the keyspace's last TRUNCATE */
	DcHlc horizon;      /* g; read before the entry */
	const DcVv *vector; /* V; read before the entry */
} DcRepairSide;

/* What the asking node does about a key that was compared. */
typedef enum DcRepairAction
{
	DC_REPAIR_NOTHING, /* they agree, or both deaths are purged */
	DC_REPAIR_WAIT,    /* not covered yet: the stream will bring it */
	DC_REPAIR_FETCH,   /* the peer's is newer, and should be here */
	DC_REPAIR_PUSH,    /* ours is newer, and should be there */
	DC_REPAIR_KEEP,    /* live on one side, claimed purged by the other */
	DC_REPAIR_ALONE    /* rejoining, live here alone: dc_rule_rejoin says */
} DcRepairAction;

/*
 * R9, R13: `own` asks, `peer` answered.  The newer entry wins on both sides.
 * What one side has and the other should have (its V covers the stamp) but
 * does not know is lost there, unless it is at or below g: then it is claimed
 * to be dead and purged.  Between members that cannot be; it is kept and
 * reported.  `rejoin`: own is joining, and took the peer's catch-up and g, so
 * that the peer's word counts; what joins ships nothing, so there is no PUSH.
 */
DcRepairAction dc_rule_repair(const DcRepairSide *own, const DcRepairSide *peer,
							  bool rejoin);

#endif
