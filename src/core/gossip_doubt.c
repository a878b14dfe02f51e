/*
 * gossip_doubt.c
 *		Inside of gossip: signs of life, and what their absence means.
 *
 *	round	A calls X ...................................... no answer
 *	  +1	A calls X again, twice ......................... no answer
 *	  +2	and again ...................................... no answer
 *	  +3	so much bad luck is unlikely: A asks everybody for a sign of life
 *			of X later than its first call.  Who has none asks as well, so
 *			that all ask within log(n) rounds; who has one tells; so does X
 *			itself, to more nodes than usual, when it hears the question.
 *	 +14	phi of the question's age reaches 6: X is suspect where it stands
 *	 +19	phi reaches 8: X is dead, everywhere in about the same round
 *
 * Times.  A version travels with its age and a question with its own, so that
 * all nodes agree on "later" without a common clock.  Time on the way is not
 * counted, so an age is never too great by more than the carriers' clocks
 * drift in a minute: a version may refute a question that it should not (and
 * the next call asks it again), but no question outruns an answer.
 *
 * What keeps the innocent alive: a caller in trouble itself asks later (the
 * chance of so many lost calls is reckoned with the losses it sees); one who
 * did not run or heard nobody does not count that time; nobody gives up
 * before asking some nodes himself.
 */
#include "canary.h"
#include "gossip_node.h"

/* Chance of so many lost calls at which the others are asked. */
#define ASK_CHANCE 3e-5

/* Bounds of the losses that this chance is reckoned with. */
#define MISSED_MIN 0.1
#define MISSED_MAX 0.75

/* Calls over which the losses are averaged. */
#define MISSED_CALLS 64

/* Rounds that a question takes through a large cluster and back. */
#define SPREAD_ROUNDS 12

/* A node asks for so long itself before it believes in a death. */
#define OWN_ROUNDS 4

/* After an answer the version goes first for so long. */
#define URGENT_ROUNDS 12

/*
 * A version that was mentioned but never came answers questions here and
 * nowhere else: not for longer than this.
 */
#define UNPROVEN_ROUNDS 8

/* Hearing nobody for so long is a failure of our own. */
#define DEAF_ROUNDS 8

/* Rounds in which it tells more nodes that it lives, who was in doubt. */
#define RALLY_ROUNDS 3

/*
 * Who is heard of so rarely is asked for without a call, as if since
 * SILENT_ASK_ROUNDS ago: nobody may have an address of it, and who is cut off
 * would need as many rounds as there are nodes to call all of them.  In a large
 * cluster, where chance alone makes a node that rare and an answer takes its
 * time, the question is as old as it is.
 */
#define SILENT_ROUNDS     16
#define SILENT_ASK_ROUNDS 10

/* Who never described itself is forgotten after so long a silence. */
#define STRANGER_ROUNDS 240

/* Slots that a round looks at. */
#define SWEEP 64

/* Two signs of life that nobody forwarded late by mistake. */
#define ADVANCES_ALIVE 2

static uint64_t
rounds_us(const DcGossip *g, uint32_t rounds)
{
	return rounds * g->config.interval_us;
}

/* ---- signs of life ------------------------------------------------------ */

static void
note_outcome(DcGossip *g, bool missed)
{
	g->missed += ((missed ? 1.0 : 0.0) - g->missed) / MISSED_CALLS;
}

static void
forget_calls(DcGossip *g, DcGossipNode *node)
{
	if (node->calls == 1)
		note_outcome(g, false);
	node->calls = 0;
	node->called_us = 0;
}

static void
refute(DcGossip *g, DcGossipNode *node)
{
	if (node->state != DC_GOSSIP_DEAD)
		dc_phi_note(&g->phi, (g->now_us - node->doubt_us) / SPREAD_ROUNDS);
	node->doubt_us = 0;
	if (DC_CANARY(DC_CANARY_REFUTE))
		return;
	node->urgent_us = g->now_us + rounds_us(g, URGENT_ROUNDS);
	dc_gossip_watch(g, node);
}

/* What the last sign of life changes. */
static void
settle(DcGossip *g, DcGossipNode *node, DcGossipOutput *out)
{
	bool moved = node->advances >= ADVANCES_ALIVE;

	if (node->doubt_us != 0 && node->heard_us > node->doubt_us &&
		(moved || !dc_gossip_is_silent(node)))
		refute(g, node);
	if (!node->described)
		return;
	if (node->left)
		dc_gossip_move(g, node, DC_GOSSIP_LEFT, out);
	else if (node->doubt_us == 0 && (moved || node->state == DC_GOSSIP_SUSPECT))
		dc_gossip_move(g, node, DC_GOSSIP_ALIVE, out);
}

/*
 * What others forward may be old news: who is dead or was never heard speaking
 * counts as alive only when its version moved twice.
 *
 * A life is as long as its versions tell, which all nodes can know alike; of
 * two ages of one version the greater is nearer to the truth.
 */
void
dc_gossip_note_version(DcGossip *g, DcGossipNode *node, uint64_t version,
					   uint64_t made_us, DcGossipOutput *out)
{
	if (version > node->seen_version)
	{
		node->seen_version = version;
		node->heard_us = made_us;
		if (node->advances < ADVANCES_ALIVE)
			node->advances++;
	}
	else if (version == node->seen_version && made_us < node->heard_us)
		node->heard_us = made_us;
	if (version == node->version && made_us < node->made_us)
		node->made_us = made_us;
	settle(g, node, out);
}

void
dc_gossip_note_contact(DcGossip *g, DcGossipNode *node, DcGossipOutput *out)
{
	if (node->version == 0)
		node->heard_us = g->now_us;
	node->advances = ADVANCES_ALIVE;
	forget_calls(g, node);
	settle(g, node, out);
}

/* ---- questions ---------------------------------------------------------- */

void
dc_gossip_note_call(DcGossip *g, DcGossipNode *node)
{
	if (dc_gossip_is_silent(node))
		return;
	if (node->called_us == 0)
	{
		node->called_us = g->now_us;
		node->calls = 0;
	}
	node->calls++;
	dc_gossip_watch(g, node);
}

void
dc_gossip_hear_doubt(DcGossip *g, DcGossipNode *node, uint64_t since_us)
{
	if (node == &g->nodes[0])
	{
		if (!DC_CANARY(DC_CANARY_REFUTE))
			g->rally = RALLY_ROUNDS;
		return;
	}
	if (node->state == DC_GOSSIP_LEFT)
		return;
	if (since_us <= node->heard_us && since_us > node->made_us &&
		g->now_us - node->heard_us > rounds_us(g, UNPROVEN_ROUNDS))
		node->heard_us = node->made_us;
	if (since_us <= node->heard_us)
	{
		/* We know better, and are about to say so. */
		if (!DC_CANARY(DC_CANARY_REFUTE))
			node->urgent_us = g->now_us + rounds_us(g, URGENT_ROUNDS);
	}
	else if (node->doubt_us == 0)
	{
		node->doubt_us = since_us;
		node->asked_us = g->now_us;
	}
	else if (since_us < node->doubt_us)
		node->doubt_us = since_us;
	else
		return;
	dc_gossip_watch(g, node);
}

/* Is it beyond belief that all calls were lost on the way? */
static bool
calls_convince(const DcGossip *g, uint32_t calls)
{
	double missed = g->missed;
	double chance = 1;

	missed = missed > MISSED_MIN ? missed : MISSED_MIN;
	missed = missed < MISSED_MAX ? missed : MISSED_MAX;
	for (uint32_t i = 0; i < calls && chance >= ASK_CHANCE; i++)
		chance *= missed;
	return chance < ASK_CHANCE;
}

static void
judge_calls(DcGossip *g, DcGossipNode *node)
{
	if (node->called_us == 0)
		return;
	if (node->calls == 1)
		note_outcome(g, true);
	/* Others hear it; then the way to it is at fault. */
	if (node->heard_us > node->called_us || dc_gossip_is_silent(node))
	{
		node->calls = 0;
		node->called_us = 0;
		return;
	}
	if (node->doubt_us == 0 && calls_convince(g, node->calls))
		dc_gossip_hear_doubt(g, node, node->called_us);
}

/* ---- the verdict -------------------------------------------------------- */

double
dc_gossip_phi(const DcGossip *g, const DcGossipNode *node)
{
	if (node->doubt_us == 0 || node->doubt_us >= g->now_us)
		return 0;
	return dc_phi(&g->phi, g->now_us - node->doubt_us);
}

static void
judge_doubt(DcGossip *g, DcGossipNode *node, DcGossipOutput *out)
{
	double phi = dc_gossip_phi(g, node);

	if (node->doubt_us == 0)
		return;
	if (phi >= g->config.phi_suspect)
		dc_gossip_move(g, node, DC_GOSSIP_SUSPECT, out);
	if (phi < g->config.phi_dead ||
		g->now_us - node->asked_us < rounds_us(g, OWN_ROUNDS) ||
		dc_gossip_is_silent(node))
		return;
	dc_gossip_move(g, node, DC_GOSSIP_DEAD, out);
	node->calls = 0;
	node->called_us = 0;
	node->urgent_us = g->now_us + rounds_us(g, URGENT_ROUNDS);
}

static void
judge_hot(DcGossip *g, DcGossipOutput *out)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < g->hot_count; i++)
	{
		DcGossipNode *node = &g->nodes[g->hot[i]];

		/* The rest waits for the next round rather than going unreported. */
		if (out->event_count + 2 <= DC_GOSSIP_EVENTS_MAX)
		{
			judge_calls(g, node);
			judge_doubt(g, node, out);
		}
		node->listed = node->called_us != 0 || dc_gossip_is_urgent(g, node) ||
					   dc_gossip_is_news(g, node);
		if (node->listed)
			g->hot[kept++] = g->hot[i];
	}
	g->hot_count = kept;
}

static uint64_t
later(uint64_t left_us, uint64_t right_us)
{
	return left_us > right_us ? left_us : right_us;
}

/* Who left long ago, and who never was more than a number. */
static bool
is_forgotten(const DcGossip *g, const DcGossipNode *node)
{
	uint64_t heard_us = later(node->session.heard_us, node->since_us);

	if (!node->described)
		return g->now_us - heard_us > rounds_us(g, STRANGER_ROUNDS);
	return node->state == DC_GOSSIP_LEFT &&
		   g->now_us - node->since_us > g->config.forget_us;
}

/* Who was not heard of for too long, and who is forgotten. */
static void
look_around(DcGossip *g)
{
	uint32_t known = g->live_count + g->silent_count;
	uint32_t turns = 1 + known / DC_GOSSIP_DIGESTS_MAX;
	uint64_t silent_us = rounds_us(g, SILENT_ROUNDS * turns);

	for (uint32_t i = 0; i < SWEEP && i < g->used; i++)
	{
		DcGossipNode *node;
		uint64_t heard_us;

		g->sweep = g->sweep + 1 < g->used ? g->sweep + 1 : 0;
		node = &g->nodes[g->sweep];
		if (g->sweep == 0 || node->node_id == 0)
			continue;
		if (is_forgotten(g, node))
		{
			dc_gossip_drop_node(g, node);
			continue;
		}
		heard_us =
			later(node->heard_us, later(node->since_us, g->listening_us));
		if (!dc_gossip_is_silent(node) && node->doubt_us == 0 &&
			heard_us < g->now_us && g->now_us - heard_us > silent_us)
			dc_gossip_hear_doubt(g, node,
								 g->now_us -
									 rounds_us(g, SILENT_ASK_ROUNDS / turns));
	}
}

/* ---- our own failures --------------------------------------------------- */

/*
 * If this process was stopped, everybody seems silent.  The time in which
 * nobody listened does not count, and we were missed.
 */
static void
forgive_pause(DcGossip *g)
{
	uint64_t usual_us = 2 * g->config.interval_us;
	uint64_t gap_us = g->now_us - g->last_round_us;

	if (g->last_round_us == 0 || gap_us <= usual_us)
		return;
	g->listening_us = g->now_us;
	g->rally = RALLY_ROUNDS;
	for (uint32_t i = 0; i < g->hot_count; i++)
	{
		DcGossipNode *node = &g->nodes[g->hot[i]];

		node->calls = 0;
		node->called_us = 0;
		if (node->doubt_us == 0 || dc_gossip_is_silent(node))
			continue;
		node->doubt_us += gap_us - g->config.interval_us;
		node->asked_us = g->now_us;
	}
}

/*
 * Who heard nobody knows nothing of the others: questions that began in that
 * time are dropped, and for those who are dead begin anew, lest our silence
 * count as theirs elsewhere.
 */
void
dc_gossip_note_hearing(DcGossip *g)
{
	uint64_t heard_us = g->received_us;

	g->received_us = g->now_us;
	if (heard_us == 0 || g->now_us - heard_us < rounds_us(g, DEAF_ROUNDS))
		return;
	g->listening_us = g->now_us;
	for (uint32_t i = 1; i < g->used; i++)
	{
		DcGossipNode *node = &g->nodes[i];

		node->calls = 0;
		node->called_us = 0;
		if (node->doubt_us > heard_us)
			node->doubt_us = dc_gossip_is_silent(node) ? g->now_us : 0;
	}
}

void
dc_gossip_judge(DcGossip *g, DcGossipOutput *out)
{
	if (g->phi.expected_us != g->config.interval_us)
		dc_phi_init(&g->phi, g->config.interval_us);
	forgive_pause(g);
	judge_hot(g, out);
	look_around(g);
}
