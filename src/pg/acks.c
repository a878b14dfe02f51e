/*
 * acks.c
 *		Who has flushed what of this node, and who waits for that.
 *
 * Each level is one number: the position that so many members reached that it
 * is met.  So a waiter compares numbers, whatever its level means.
 */
#include "acks.h"

#include "lib/ilist.h"
#include "miscadmin.h"
#include "storage/proc.h"
#include "storage/shmem.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

#include "guc.h"
#include "standing.h"

typedef struct Peer
{
	uint64 incarnation;
	uint64 position;
	uint64 epoch;     /* list it had been told when it acknowledged that */
	DcHlc joining_at; /* its clock when it said so; DC_HLC_NONE: it has joined */
} Peer;

typedef struct Waiter
{
	dlist_node node; /* in `waiters` while `waits` */
	bool waits;
	uint64 number;
	DcLevelSet levels;
	Latch *latch;
} Waiter;

typedef struct Acks
{
	uint64 epoch; /* list that `reached` was counted by; 0: none */
	uint64 reached[DC_LEVELS];
	dlist_head waiters;
	Peer peers[DC_NODE_IDS];
	Waiter by_process[FLEXIBLE_ARRAY_MEMBER]; /* by pgprocno */
} Acks;

static Acks *acks;

/* Who counts, and what each level needs of them. */
typedef struct Electorate
{
	uint64 version; /* of the nodes; 0: none was made yet */
	DcVoters *voters;
	DcTally needs[DC_LEVELS];
} Electorate;

/* Replicator. */
static bool changed;           /* since its last turn */
static bool peers_join = true; /* maybe one does */
static Electorate electorate;

Size
dc_acks_bytes(int processes)
{
	return offsetof(Acks, by_process) + sizeof(Waiter) * (Size) processes;
}

void
dc_acks_attach(int processes)
{
	bool found;

	acks = ShmemInitStruct("datacake acks", dc_acks_bytes(processes), &found);
	if (found)
		return;
	memset(acks, 0, dc_acks_bytes(processes));
	dlist_init(&acks->waiters);
}

/* --- links --- */

void
dc_acks_meet(uint32 node_id, uint64 incarnation, DcHlc joining_at)
{
	Peer *peer = &acks->peers[node_id];

	LWLockAcquire(DC_LOCK(DC_LOCK_ACKS), LW_EXCLUSIVE);
	if (peer->incarnation != incarnation)
		memset(peer, 0, sizeof(*peer));
	peer->incarnation = incarnation;
	peer->joining_at = joining_at;
	peers_join |= joining_at != DC_HLC_NONE;
	LWLockRelease(DC_LOCK(DC_LOCK_ACKS));
	dc_nodes_changed();
	changed = true;
}

void
dc_acks_note(uint32 node_id, uint64 epoch, uint64 position)
{
	Peer *peer = &acks->peers[node_id];

	LWLockAcquire(DC_LOCK(DC_LOCK_ACKS), LW_EXCLUSIVE);
	/* a new link knows less than the one before it */
	peer->position = Max(peer->position, position);
	peer->epoch = epoch;
	LWLockRelease(DC_LOCK(DC_LOCK_ACKS));
	changed = true;
}

/* Has the peer told a floor since then?  A joiner has none (R12). */
static bool
has_joined(uint32 node_id, uint64 incarnation, DcHlc joining_at)
{
	bool joined = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		const DcNode *node = &dc_shared->nodes[i];

		joined |= node->node_id == node_id &&
				  node->incarnation == incarnation &&
				  node->floor != DC_HLC_NONE && node->clock > joining_at;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return joined;
}

static void
look_for_joined(void)
{
	peers_join = false;
	for (uint32 id = 1; id < DC_NODE_IDS; id++)
	{
		/* the replicator alone writes these */
		Peer *peer = &acks->peers[id];

		if (peer->joining_at == DC_HLC_NONE)
			continue;
		if (!has_joined(id, peer->incarnation, peer->joining_at))
		{
			peers_join = true;
			continue;
		}
		LWLockAcquire(DC_LOCK(DC_LOCK_ACKS), LW_EXCLUSIVE);
		peer->joining_at = DC_HLC_NONE;
		LWLockRelease(DC_LOCK(DC_LOCK_ACKS));
		dc_nodes_changed();
		changed = true;
	}
}

/* Lock held. */
static bool
counts(const Peer *peer, uint64 epoch)
{
	return peer->joining_at == DC_HLC_NONE && epoch != 0 &&
		   peer->epoch == epoch;
}

/* Lock held.  This node has flushed whatever another one acknowledged (R3). */
static void
take_voices(const DcVoters *voters, DcVoice *voices)
{
	for (int i = 0; i < voters->count; i++)
	{
		const DcVoter *voter = &voters->at[i];
		const Peer *peer = &acks->peers[voter->node_id];

		voices[i].centre = voter->centre;
		voices[i].position = counts(peer, voters->epoch) ? peer->position : 0;
		if (voter->local)
			voices[i].position = UINT64_MAX;
	}
}

static void
read_electorate(uint64 version)
{
	MemoryContext context = MemoryContextSwitchTo(TopMemoryContext);

	if (electorate.voters != NULL)
		pfree(electorate.voters);
	electorate.voters = dc_voters_read();
	MemoryContextSwitchTo(context);
	electorate.version = version;
	if (electorate.voters == NULL)
		return;
	for (int level = 0; level < DC_LEVELS; level++)
		dc_voters_needs(electorate.voters, (DcLevel) level,
						&electorate.needs[level]);
}

static void
count_reached(uint64 reached[DC_LEVELS])
{
	const DcVoters *voters = electorate.voters;
	DcVoice *voices = palloc(sizeof(DcVoice) * (Size) voters->count);
	DcTally *scratch = palloc(sizeof(DcTally));

	LWLockAcquire(DC_LOCK(DC_LOCK_ACKS), LW_SHARED);
	take_voices(voters, voices);
	LWLockRelease(DC_LOCK(DC_LOCK_ACKS));
	for (int level = 0; level < DC_LEVELS; level++)
		reached[level] = dc_level_reached(&electorate.needs[level], voices,
										  (uint32) voters->count, scratch);
}

/* Lock held. */
static bool
is_reached(uint64 number, DcLevelSet levels)
{
	for (int level = 0; level < DC_LEVELS; level++)
	{
		if ((levels >> level & 1) && acks->reached[level] <= number)
			return false;
	}
	return true;
}

/*
 * Lock held.  Returns how many waiters are done, and their latches in `done`;
 * they are set without the lock, which whoever wakes up may need next.
 */
static int
release_waiters(Latch **done)
{
	dlist_mutable_iter at;
	int n = 0;

	dlist_foreach_modify(at, &acks->waiters)
	{
		Waiter *waiter = dlist_container(Waiter, node, at.cur);

		if (!is_reached(waiter->number, waiter->levels))
			continue;
		dlist_delete(&waiter->node);
		done[n++] = waiter->latch;
		pg_write_barrier(); /* out of the list before it is told so */
		waiter->waits = false;
	}
	return n;
}

void
dc_acks_turn(void)
{
	static Latch **done;
	uint64 version = dc_nodes_version();
	uint64 reached[DC_LEVELS] = {0};
	int n;

	if (done == NULL)
		done = MemoryContextAlloc(TopMemoryContext,
								  sizeof(Latch *) * dc_shared->slot_count);

	if (peers_join)
		look_for_joined();
	if (!changed && electorate.version == version)
		return;
	changed = false;
	if (electorate.version != version)
		read_electorate(version);
	if (electorate.voters != NULL)
		count_reached(reached);
	LWLockAcquire(DC_LOCK(DC_LOCK_ACKS), LW_EXCLUSIVE);
	acks->epoch = electorate.voters != NULL ? electorate.voters->epoch : 0;
	memcpy(acks->reached, reached, sizeof(reached));
	n = release_waiters(done);
	LWLockRelease(DC_LOCK(DC_LOCK_ACKS));
	for (int i = 0; i < n; i++)
		SetLatch(done[i]);
}

/* --- backends --- */

/* False: there is nothing to wait for. */
static bool
enter(Waiter *me, uint64 number, DcLevelSet levels)
{
	uint64 epoch = dc_standing_epoch();
	bool waits;

	LWLockAcquire(DC_LOCK(DC_LOCK_ACKS), LW_EXCLUSIVE);
	waits = acks->epoch != epoch || !is_reached(number, levels);
	if (waits)
	{
		me->number = number;
		me->levels = levels;
		me->latch = MyLatch;
		me->waits = true;
		dlist_push_tail(&acks->waiters, &me->node);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_ACKS));
	return waits;
}

/* Did it wait in vain? */
static bool
leave(Waiter *me)
{
	bool waits;

	LWLockAcquire(DC_LOCK(DC_LOCK_ACKS), LW_EXCLUSIVE);
	waits = me->waits;
	if (waits)
		dlist_delete(&me->node);
	me->waits = false;
	LWLockRelease(DC_LOCK(DC_LOCK_ACKS));
	return waits;
}

/* Written by the replicator once, from true to false, before the latch. */
static bool
still_waits(const Waiter *me)
{
	return *(volatile const bool *) &me->waits;
}

DcAcksResult
dc_acks_wait(uint64 number, DcLevelSet levels, TimestampTz deadline)
{
	Waiter *me = &acks->by_process[MyProc->pgprocno];
	DcAcksResult result = DC_ACKS_REACHED;

	if (!enter(me, number, levels))
		return DC_ACKS_REACHED;
	for (;;)
	{
		long left;

		ResetLatch(MyLatch);
		if (!still_waits(me))
			return DC_ACKS_REACHED;
		left = TimestampDifferenceMilliseconds(GetCurrentTimestamp(), deadline);
		if (left <= 0)
			result = DC_ACKS_LATE;
		else if (ProcDiePending || QueryCancelPending ||
				 (InterruptPending && InterruptHoldoffCount == 0))
			result = DC_ACKS_INTERRUPTED;
		else if (WaitLatch(MyLatch,
						   WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH,
						   left, PG_WAIT_EXTENSION) &
				 WL_POSTMASTER_DEATH)
			result = DC_ACKS_POSTMASTER_DIED;
		if (result != DC_ACKS_REACHED)
			break;
	}
	return leave(me) ? result : DC_ACKS_REACHED;
}

bool
dc_acks_joining(uint32 node_id)
{
	bool joins;

	LWLockAcquire(DC_LOCK(DC_LOCK_ACKS), LW_SHARED);
	joins = acks->peers[node_id].joining_at != DC_HLC_NONE;
	LWLockRelease(DC_LOCK(DC_LOCK_ACKS));
	return joins;
}

bool
dc_acks_has(uint32 node_id, uint64 epoch, uint64 number)
{
	const Peer *peer = &acks->peers[node_id];
	bool has;

	LWLockAcquire(DC_LOCK(DC_LOCK_ACKS), LW_SHARED);
	has = counts(peer, epoch) && peer->position > number;
	LWLockRelease(DC_LOCK(DC_LOCK_ACKS));
	return has;
}
