/*
 * standing.c
 *		Where this node stands in the cluster: list, floor, horizon, joining.
 */
#include "standing.h"

#include "catalog/pg_authid.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "storage/latch.h"
#include "utils/snapmgr.h"

#include "clock.h"
#include "command.h"
#include "compat.h"
#include "guc.h"
#include "roster.h"
#include "sql.h"
#include "vector.h"
#include "watch.h"

/* How long a node that is seen and no member yet is waited for. */
#define NEWCOMER_US (INT64CONST(60) * USECS_PER_SEC)

static DcStanding *
standing(void)
{
	return &dc_shared->standing;
}

/* --- what others ask --- */

uint64
dc_standing_members(DcMembers *members, DcPosition *at)
{
	uint64 epoch;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	*members = standing()->members;
	if (at != NULL)
		*at = standing()->at;
	epoch = standing()->epoch;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return epoch;
}

uint64
dc_standing_epoch(void)
{
	uint64 epoch;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	epoch = standing()->epoch;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return epoch;
}

/* Has every other member that is alive answered since the start? */
static bool
all_answered(const DcMembers *list, const bool *answered)
{
	bool all = true;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		const DcNode *node = &dc_shared->nodes[i];

		if (node->node_id != 0 && !node->local &&
			node->state == DC_NODE_ALIVE &&
			dc_members_includes(list, node->node_id, node->incarnation))
			all &= answered[node->node_id];
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return all;
}

bool
dc_standing_claims(void)
{
	static DcMembers list;
	static bool answered[DC_NODE_IDS];
	bool joining;
	bool any;
	bool late;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	joining = standing()->joining;
	any = standing()->answered;
	late = dc_now_us() > standing()->claim_at_us;
	if (!joining && any && !late)
	{
		list = standing()->members;
		memcpy(answered, standing()->answered_by, sizeof(answered));
	}
	else if (!any)
		any = dc_members_count(&standing()->members) < 2;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return !joining && any && (late || all_answered(&list, answered));
}

bool
dc_standing_joining(void)
{
	bool joining;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	joining = standing()->joining;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return joining;
}

uint64
dc_standing_life(void)
{
	uint64 life;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	life = standing()->joining ? standing()->life : 0;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return life;
}

void
dc_standing_horizon(DcHorizon *horizon)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	*horizon = standing()->horizon;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
}

static const char *
complaint_of(DcMember member, uint64 incarnation, bool *removed)
{
	*removed = false;
	if (member.state == DC_MEMBER_ABSENT || member.incarnation < incarnation)
		return NULL;
	if (member.incarnation > incarnation)
		return "The calling node goes on elsewhere, as a later incarnation.";
	*removed = member.state != DC_MEMBER_PRESENT;
	return *removed ? "Bring the node back with datacake.join() on it." : NULL;
}

const char *
dc_standing_complaint(uint32 node_id, uint64 incarnation, bool *removed)
{
	DcMember member;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	member = dc_members_get(&standing()->members, node_id);
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return complaint_of(member, incarnation, removed);
}

/* --- the list --- */

static uint64
draw_founder(void)
{
	uint64 founder;

	if (!pg_strong_random(&founder, sizeof(founder)))
		elog(ERROR, "could not draw a random number");
	return founder | 1;
}

void
dc_standing_found(uint64 incarnation)
{
	DcRegister *reg = dc_roster_lock();

	if (reg->at.founder != 0 || reg->adrift)
		return;
	if (!dc_register_found(reg, (uint32) datacake_node_id, incarnation,
						   draw_founder()))
		elog(ERROR, "could not found a member list");
	dc_roster_save(reg);
}

bool
dc_standing_load(DcStandingUpdate *update)
{
	DcRegister *reg = dc_roster_try_read();

	if (reg == NULL)
		return false;
	update->members = reg->list;
	update->at = reg->at;
	update->member = dc_register_member(reg);
	pfree(reg);
	return true;
}

/* --- hello and welcome --- */

static void
refuse(const DcMember *member, uint64 incarnation)
{
	bool removed;
	const char *complaint = complaint_of(*member, incarnation, &removed);

	if (complaint == NULL)
		return;
	if (removed)
		ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '9')),
						errmsg("node %u was removed from the cluster",
							   member->node_id),
						errhint("%s", complaint)));
	ereport(ERROR, (errcode(MAKE_SQLSTATE('Y', 'D', '0', '2', '1')),
					errmsg("node %u is known under a later incarnation",
						   member->node_id),
					errhint("%s", complaint)));
}

static DcStanding *
copy_standing(void)
{
	DcStanding *copy = palloc(sizeof(DcStanding));

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	*copy = *standing();
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return copy;
}

/* Did this node, before it joined, miss a death that others have forgotten? */
static bool
may_hold_ghosts(const DcStanding *now)
{
	return !dc_horizon_reached(&now->horizon, &now->joined_from);
}

void
dc_standing_admit(uint32 node_id, uint64 incarnation, DcWelcome *welcome)
{
	DcRole role = dc_role_begin(BOOTSTRAP_SUPERUSERID, false);
	DcRegister *reg = dc_roster_read();
	DcMember member = dc_members_get(&reg->list, node_id);

	refuse(&member, incarnation);
	welcome->before = member.state;
	welcome->known = dc_members_includes(&reg->list, node_id, incarnation);
	welcome->alone =
		!dc_members_named_others(&reg->list, (uint32) datacake_node_id,
								 node_id);
	/* read after the list: no floor under a list without the caller is above */
	welcome->clock = pg_atomic_read_u64(&dc_shared->clock_last);
	dc_standing_horizon(&welcome->horizon);
	welcome->joining = dc_standing_joining();
	welcome->ghosts = welcome->joining && may_hold_ghosts(copy_standing());
	welcome->at = reg->at;
	welcome->members = reg->list;
	dc_role_end(role);
}

static void
save_joining(const DcStanding *now)
{
	const char *arguments[3] = {now->joining ? "true" : "false",
								dc_sql_number((uint64) now->before),
								dc_sql_number(now->registered)};

	dc_sql("UPDATE datacake.local_state SET joining = $1::boolean, "
		   "before = $2::int, registered = $3::bigint::datacake.hlc",
		   3, arguments);
}

/*
 * In the transaction that saved it, with the list locked, so that nobody else
 * decides at the same time.  Early is harmless: a joiner claims less.
 */
static void
publish_joining(const DcStanding *now, bool begins, const DcWelcome *peer)
{
	DcVv *vector = palloc(sizeof(DcVv));

	dc_vector_read(vector);
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	if (begins)
	{
		memset(standing()->delivered, 0, sizeof(standing()->delivered));
		standing()->joined_from = *vector;
		standing()->floor = DC_HLC_NONE;
		standing()->joining = true;
		standing()->comparing = false;
		standing()->removed = false;
		standing()->life++;
	}
	standing()->before = now->before;
	standing()->registered = now->registered;
	if (peer != NULL)
	{
		standing()->answered = true;
		standing()->answered_by[peer->node_id] = true;
		standing()->joiners[peer->node_id] = peer->joining;
		standing()->ghosts[peer->node_id] = peer->ghosts;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
}

/*
 * The list of another cluster names this node.  Of two that were alone none
 * can have forgotten anything; else this one has missed what was forgotten.
 */
static void
enter(const DcMembers *list)
{
	static const DcHorizon none;
	DcStanding *now = copy_standing();
	DcVv *own = palloc(sizeof(DcVv));
	uint32 host = 0;

	for (uint32 i = 0; i < list->count; i++)
	{
		if (list->at[i].node_id != (uint32) datacake_node_id)
			host = list->at[i].node_id;
	}
	dc_vector_read(own);
	now->joining =
		dc_members_must_join(&none,
							 !dc_members_named_others(list,
													  (uint32) datacake_node_id,
													  host),
							 own, true);
	now->registered = DC_HLC_NONE;
	save_joining(now);
	publish_joining(now, now->joining, NULL);
	ereport(LOG, (errmsg(now->joining ? "datacake node %d joins a cluster" :
										"datacake node %d and another one form "
										"a cluster",
						 datacake_node_id)));
}

void
dc_standing_listed(const DcRegister *before, const DcRegister *now)
{
	DcMember me = dc_members_get(&now->list, (uint32) datacake_node_id);

	if (before->at.founder != now->at.founder && dc_register_member(now))
		enter(&now->list);
	if (me.state > DC_MEMBER_PRESENT && me.incarnation == now->incarnation)
		dc_standing_set_removed();
	dc_worker_wake(DC_WORKER_REGISTRAR);
	dc_worker_wake(DC_WORKER_REPLICATOR);
}

void
dc_standing_found_anew(void)
{
	MemoryContext context = CurrentMemoryContext;
	DcRegister *reg;

	dc_transaction_begin();
	reg = dc_roster_lock();
	if (reg->adrift &&
		dc_register_found(reg, (uint32) datacake_node_id,
						  dc_shared->incarnation, draw_founder()))
		dc_roster_save(reg);
	dc_transaction_commit(context);
}

void
dc_standing_told(const DcPosition *at, const DcMembers *members)
{
	MemoryContext context = CurrentMemoryContext;

	dc_transaction_begin();
	dc_roster_learn(at, members);
	dc_transaction_commit(context);
}

bool
dc_standing_give_way(const DcMembers *theirs)
{
	MemoryContext context = CurrentMemoryContext;
	DcMember me = dc_members_get(theirs, (uint32) datacake_node_id);
	DcStanding *now;
	DcRegister *reg;
	bool gave;

	dc_transaction_begin();
	reg = dc_roster_lock();
	gave = dc_register_abandon(reg);
	if (gave)
	{
		dc_roster_save(reg);
		now = copy_standing();
		if (me.incarnation != reg->incarnation)
			now->before = me.state;
		save_joining(now);
		publish_joining(now, false, NULL);
	}
	dc_transaction_commit(context);
	return gave;
}

/* R12: the peer may have forgotten a death that this node never saw. */
static bool
missed_deaths(const DcHorizon *horizon)
{
	DcVv *own = palloc(sizeof(DcVv));

	dc_vector_read(own);
	return !dc_horizon_reached(horizon, own);
}

/* What the welcome makes of this node; true if it must be saved. */
static bool
follow_welcome(DcStanding *now, const DcWelcome *welcome)
{
	bool changed = false;

	if (!now->joining && missed_deaths(&welcome->horizon))
	{
		now->joining = changed = true;
		now->before = DC_MEMBER_PRESENT;
		now->registered = DC_HLC_NONE;
		ereport(LOG, (errmsg("datacake node %d joins: node %u knows what this "
							 "node does not",
							 datacake_node_id, welcome->node_id)));
	}
	/* a joiner's own floor counts nowhere yet, so its clock says nothing */
	if (now->joining && !welcome->joining && now->registered == DC_HLC_NONE)
	{
		now->registered = welcome->clock;
		changed = true;
	}
	return changed;
}

/*
 * R15: does the peer remember what this node never did since it started, nor
 * can have done before, because no watermark ever passed the durable bound?
 * Or did it forget what this node, which was counted, does not have?
 */
static bool
past_is_lost(const DcStanding *now, const DcWelcome *welcome)
{
	DcHlc heard = welcome->vector.at[datacake_node_id];

	/*
	 * A database that is new here has no past of its own to lose.  The first
	 * watermark since the start may lie just below the clock of then (R2).
	 */
	if (now->bound_at_start != DC_HLC_NONE && heard > now->bound_at_start &&
		heard + 1 < now->clock_at_start)
		return true;
	return now->counted && !now->joining && missed_deaths(&welcome->horizon);
}

void
dc_standing_be_reborn(void)
{
	pg_atomic_write_u32(&dc_shared->incarnation_wanted, DC_WISH_MADE);
	dc_worker_wake(DC_WORKER_LAUNCHER);
}

static void
give_up_past(uint32 peer)
{
	ereport(LOG, (errmsg("node %u knows more of this node than this node "
						 "itself: a part of its past was lost",
						 peer)));
	dc_standing_be_reborn();
}

/* In a transaction.  NULL, or why the link must close. */
static const char *
take_welcome(const DcWelcome *welcome)
{
	DcStanding *now;
	bool joining;

	(void) dc_roster_lock();
	dc_roster_learn(&welcome->at, &welcome->members);
	now = copy_standing();
	joining = now->joining;
	if (past_is_lost(now, welcome))
	{
		give_up_past(welcome->node_id);
		return "this node takes a new incarnation";
	}
	if (follow_welcome(now, welcome))
		save_joining(now);
	publish_joining(now, now->joining && !joining, welcome);
	return NULL;
}

const char *
dc_standing_welcomed(const DcWelcome *welcome)
{
	MemoryContext context = CurrentMemoryContext;
	const char *refusal;
	/* what an earlier life of this node stamped is not stamped again */
	DcHlc seen = Max(welcome->clock, welcome->vector.at[datacake_node_id]);

	if (dc_hlc_ahead(seen, dc_now_us(),
					 (uint64) datacake_max_clock_drift_ms * 1000))
		return "the peer's clock runs ahead";
	if (!dc_members_includes(&welcome->members, (uint32) datacake_node_id,
							 dc_shared->incarnation))
		return "the peer did not take this node in";
	dc_clock_observe(seen);
	dc_transaction_begin();
	refusal = take_welcome(welcome);
	dc_transaction_commit(context);
	return refusal;
}

/* --- the launcher's turn --- */

uint32
dc_standing_reports(DcReport reports[], uint32 max)
{
	uint32 count = 1;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	reports[0] = (DcReport){.node_id = (uint32) datacake_node_id,
							.incarnation = dc_shared->incarnation,
							.epoch = standing()->epoch,
							.floor = standing()->floor,
							.closed = standing()->closed};
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count && count < max; i++)
	{
		const DcNode *node = &dc_shared->nodes[i];

		if (node->node_id == 0 || node->local || node->clash)
			continue;
		reports[count++] = (DcReport){.node_id = node->node_id,
									  .incarnation = node->incarnation,
									  .epoch = node->epoch,
									  .floor = node->floor,
									  .closed = node->closed};
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return count;
}

/* Somebody who is about to be a member: a horizon would not count it yet. */
static bool
newcomer_in_sight(const DcMembers *list)
{
	TimestampTz now = (TimestampTz) dc_now_us();
	bool found = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		const DcNode *node = &dc_shared->nodes[i];
		DcMember member = dc_members_get(list, node->node_id);

		found |= node->node_id != 0 && !node->local &&
				 node->state == DC_NODE_ALIVE &&
				 now - node->since < NEWCOMER_US &&
				 (member.state == DC_MEMBER_ABSENT ||
				  member.incarnation < node->incarnation);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return found;
}

void
dc_standing_prepare(DcStandingUpdate *update, const DcVv *durable, bool loaded)
{
	uint32 max = (uint32) dc_shared->node_count + 1;
	DcReport *reports = palloc(sizeof(DcReport) * max);
	uint32 count = dc_standing_reports(reports, max);

	dc_standing_horizon(&update->horizon);
	update->durable = *durable;
	update->counted = false;
	if (!loaded)
		return;
	update->epoch = dc_members_digest(&update->members);
	update->floor = dc_standing_joining() || !update->member ?
						DC_HLC_NONE :
						dc_members_floor(&update->members, durable);
	if (!newcomer_in_sight(&update->members))
		(void) dc_members_advance(&update->members, reports, count,
								  &update->horizon);
	update->counted =
		update->floor != DC_HLC_NONE && dc_members_count(&update->members) > 1;
}

/* Stamp and counted nodes move together; who only wants the stamp reads it. */
static void
adopt_horizon(const DcHorizon *horizon)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	(void) dc_horizon_join(&standing()->horizon, horizon);
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	dc_raise(&dc_shared->horizon, horizon->stamp);
}

void
dc_standing_publish(const DcStandingUpdate *update, bool loaded)
{
	static DcMembers before;
	uint64 epoch;

	adopt_horizon(&update->horizon);
	dc_raise(&dc_shared->horizon_durable, update->horizon.stamp);
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	standing()->durable = update->durable;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	if (dc_standing_joining())
		dc_worker_wake(DC_WORKER_REPAIRER); /* may wait for just this */
	if (!loaded)
		return;
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	epoch = standing()->epoch;
	if (epoch != update->epoch)
	{
		standing()->closed = false;
		before = standing()->members;
	}
	standing()->members = update->members;
	standing()->at = update->at;
	standing()->member = update->member;
	standing()->epoch = update->epoch;
	standing()->counted |= update->counted;
	standing()->floor = standing()->joining ? DC_HLC_NONE : update->floor;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	if (update->member)
		dc_vector_forgive(&update->members);
	dc_nodes_changed();
	/* what was loaded first is not news */
	if (epoch != 0 && epoch != update->epoch)
		dc_watch_members(&before, &update->members, update->epoch);
}

/* --- joining --- */

void
dc_standing_reincarnate(uint64 incarnation)
{
	DcStanding *now = copy_standing();
	DcRegister *reg = dc_roster_lock();
	DcMember me = dc_members_get(&reg->list, (uint32) datacake_node_id);

	if (dc_members_named_others(&reg->list, (uint32) datacake_node_id, 0))
	{
		if (!now->joining || now->before < me.state)
			now->before = me.state;
		if (now->removed)
			now->before = DC_MEMBER_REMOVED;
		now->joining = true;
		now->registered = DC_HLC_NONE;
		save_joining(now);
		publish_joining(now, true, NULL);
	}
	(void) dc_register_reborn(reg, incarnation, draw_founder());
	dc_roster_save(reg);
}

void
dc_standing_delivered(uint32 node_id, const DcHorizon *horizon, uint64 life)
{
	bool counts;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	counts = standing()->joining && standing()->life == life;
	if (counts)
		standing()->delivered[node_id] = true;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	if (!counts)
		return;
	adopt_horizon(horizon);
	dc_worker_wake(DC_WORKER_REPAIRER);
}

/*
 * Nobody is there to compare with: the cluster was restored as a whole.  Who
 * misses no forgotten death is the first to be a member again; if all miss
 * some, the one with the least id is taken at its word.
 */
static bool
may_go_first(const DcStanding *now)
{
	if (!may_hold_ghosts(now))
		return true;
	for (uint32 i = 0; i < now->members.count; i++)
	{
		DcMember member = now->members.at[i];

		if (member.state == DC_MEMBER_PRESENT &&
			member.node_id != (uint32) datacake_node_id &&
			(member.node_id < (uint32) datacake_node_id ||
			 !now->ghosts[member.node_id]))
			return false;
	}
	return true;
}

/* Has every present member of the list sent its all? */
static bool
all_delivered(const DcStanding *now, const DcMembers *list)
{
	for (uint32 i = 0; i < list->count; i++)
	{
		DcMember member = list->at[i];

		if (member.state == DC_MEMBER_PRESENT &&
			member.node_id != (uint32) datacake_node_id &&
			!now->delivered[member.node_id])
			return false;
	}
	return true;
}

/*
 * A member that is alive, not joining, not paused, and delivered; 0: none.
 * Another one each time, because the last one may not have answered.
 */
static uint32
donor_of(const DcStanding *now)
{
	static uint32 last;
	uint32 first = 0;
	uint32 next = 0;

	for (uint32 i = 0; i < now->members.count; i++)
	{
		DcMember member = now->members.at[i];

		if (member.state == DC_MEMBER_PRESENT &&
			member.node_id != (uint32) datacake_node_id &&
			now->delivered[member.node_id] && !now->joiners[member.node_id] &&
			dc_node_alive(member.node_id) && !dc_paused(member.node_id))
		{
			if (first == 0)
				first = member.node_id;
			if (next == 0 && member.node_id > last)
				next = member.node_id;
		}
	}
	return last = next != 0 ? next : first;
}

/*
 * Does the durable V reach g?  Else a start soon after this node has joined
 * would find that it missed deaths.
 */
static bool
has_saved_up_to(const DcHorizon *horizon, const DcVv *durable)
{
	if (dc_horizon_reached(horizon, durable))
		return true;
	if (!missed_deaths(horizon))
	{
		pg_atomic_write_u32(&dc_shared->standing_stale, 1);
		dc_worker_wake(DC_WORKER_LAUNCHER);
	}
	return false;
}

bool
dc_standing_pulled(uint32 *donor)
{
	DcStanding *now = copy_standing();

	*donor = donor_of(now);
	/* what drew its stamp before it was taken in must be merged by then */
	if (now->registered != DC_HLC_NONE && !dc_slots_above(now->registered))
		return false;
	if (!all_delivered(now, &now->members) && now->before != DC_MEMBER_ABSENT)
		return false;
	if (!has_saved_up_to(&now->horizon, &now->durable))
		return false;
	if (*donor != 0)
		return now->registered != DC_HLC_NONE;
	return all_delivered(now, &now->members) && may_go_first(now);
}

void
dc_standing_joined(uint64 life, uint32 donor)
{
	MemoryContext context = CurrentMemoryContext;
	DcRegister *reg;
	bool current;

	dc_transaction_begin();
	reg = dc_roster_lock();
	/* the list in memory may be one that names nobody to wait for yet */
	current = dc_standing_life() == life &&
			  (donor != 0 || all_delivered(copy_standing(), &reg->list));
	if (current)
		dc_sql("UPDATE datacake.local_state SET joining = false", 0, NULL);
	dc_transaction_commit(context);
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	current &= standing()->life == life;
	if (current)
		standing()->joining = standing()->comparing = false;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	if (!current)
		return;
	ereport(LOG, (errmsg("datacake node %d has joined", datacake_node_id)));
	dc_worker_wake(DC_WORKER_LAUNCHER);
	dc_worker_wake(DC_WORKER_REPLICATOR);
}

void
dc_standing_set_removed(void)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	standing()->removed = true;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
}

/* Has the peer of this link acknowledged all, and holds the rest as well? */
static bool
has_all(uint32 node_id, DcHlc stamp)
{
	bool all = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_LINKS), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
	{
		const DcLinkStats *link = &dc_shared->links[i];

		if (link->node_id == node_id)
			all = link->phase == DC_LINK_STREAM && link->level &&
				  link->acked_watermark >= stamp;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_LINKS));
	return all;
}

static bool
joins(uint32 node_id)
{
	bool found = false;

	LWLockAcquire(DC_LOCK(DC_LOCK_NODES), LW_SHARED);
	for (int i = 0; i < dc_shared->node_count; i++)
		found |= dc_shared->nodes[i].node_id == node_id &&
				 dc_shared->nodes[i].joining;
	LWLockRelease(DC_LOCK(DC_LOCK_NODES));
	return found;
}

uint32
dc_standing_lacking(DcHlc stamp, uint32 *heirs)
{
	DcStanding *now = copy_standing();
	uint32 lacking = 0;

	*heirs = 0;
	for (uint32 i = 0; i < now->members.count; i++)
	{
		uint32 id = now->members.at[i].node_id;

		if (now->members.at[i].state != DC_MEMBER_PRESENT ||
			id == (uint32) datacake_node_id || !dc_node_alive(id) || joins(id))
			continue;
		(*heirs)++;
		if (lacking == 0 && !has_all(id, stamp))
			lacking = id;
	}
	pfree(now);
	return lacking;
}

bool
dc_standing_removed(void)
{
	bool removed;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	removed = standing()->removed;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return removed;
}

bool
dc_standing_behind(uint32 peer, const DcHorizon *horizon)
{
	bool counted;

	if (dc_standing_joining() || !missed_deaths(horizon))
		return false;
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	counted = standing()->counted;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	if (counted)
		give_up_past(peer);
	return true;
}

DcHlc
dc_standing_limit(bool own, bool *newborn)
{
	DcHlc limit = DC_HLC_NONE;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	*newborn = own && standing()->before == DC_MEMBER_ABSENT;
	if (all_delivered(standing(), &standing()->members) && !*newborn)
		limit = standing()->horizon.stamp;
	else if (own)
		limit = standing()->registered;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return limit;
}

void
dc_standing_compare(bool compares)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	standing()->comparing = compares && standing()->joining;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
}

bool
dc_standing_refuses(uint32 peer)
{
	bool refuses;

	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_SHARED);
	refuses = standing()->comparing && standing()->joiners[peer];
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
	return refuses;
}

void
dc_standing_set_closed(uint64 epoch)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_STANDING), LW_EXCLUSIVE);
	if (standing()->epoch == epoch)
		standing()->closed = true;
	LWLockRelease(DC_LOCK(DC_LOCK_STANDING));
}
