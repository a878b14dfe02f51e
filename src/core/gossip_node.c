/*
 * gossip_node.c
 *		Inside of gossip: the table of nodes and what is believed of each.
 */
#include "gossip_node.h"

/* How long after its last sign a clash is over: in gossip rounds. */
#define CLASH_ROUNDS 60

/* Refusals and a full table are reported this often for each address. */
#define REPORT_US (UINT64_C(60) * 1000000)

/* How often a node starts above its past before that counts as a rival. */
#define STARTS_MAX 3

#define BIT(state) (1u << (state))

/* Allowed moves, by state. */
static const unsigned moves[] = {
	[DC_GOSSIP_UNKNOWN] =
		BIT(DC_GOSSIP_ALIVE) | BIT(DC_GOSSIP_DEAD) | BIT(DC_GOSSIP_LEFT),
	[DC_GOSSIP_ALIVE] = BIT(DC_GOSSIP_SUSPECT) | BIT(DC_GOSSIP_LEFT),
	[DC_GOSSIP_SUSPECT] =
		BIT(DC_GOSSIP_ALIVE) | BIT(DC_GOSSIP_DEAD) | BIT(DC_GOSSIP_LEFT),
	[DC_GOSSIP_DEAD] = BIT(DC_GOSSIP_ALIVE) | BIT(DC_GOSSIP_LEFT),
	[DC_GOSSIP_LEFT] = BIT(DC_GOSSIP_ALIVE),
};

/* ---- small things ------------------------------------------------------- */

static uint64_t
mix(uint64_t x)
{
	x ^= x >> 30;
	x *= UINT64_C(0xbf58476d1ce4e5b9);
	x ^= x >> 27;
	x *= UINT64_C(0x94d049bb133111eb);
	return x ^ x >> 31;
}

/* 0 .. bound - 1 (splitmix64; the tiny bias does not matter here). */
uint32_t
dc_gossip_draw(DcGossip *g, uint32_t bound)
{
	g->random += UINT64_C(0x9e3779b97f4a7c15);
	return (uint32_t) (mix(g->random) % bound);
}

DcGossipNode *
dc_gossip_node(const DcGossip *g, uint32_t node_id)
{
	uint32_t slot = node_id <= DC_NODE_ID_MAX ? g->slot_of[node_id] : 0;

	return slot == 0 ? NULL : &g->nodes[slot - 1];
}

/* ---- events ------------------------------------------------------------- */

/*
 * Inside, time never runs back: what the wall clock lost is added from then
 * on, so that silences and deadlines keep their length.
 */
void
dc_gossip_set_time(DcGossip *g, uint64_t wall_us)
{
	g->wall_us = wall_us;
	if (wall_us + g->behind_us < g->now_us)
		g->behind_us = g->now_us - wall_us;
	g->now_us = wall_us + g->behind_us;
}

void
dc_gossip_begin(DcGossip *g, uint64_t wall_us, DcGossipOutput *out)
{
	dc_gossip_set_time(g, wall_us);
	out->send_count = out->event_count = 0;
	out->events_lost = false;
}

DcGossipEvent *
dc_gossip_add_event(DcGossipOutput *out, DcGossipEventKind kind,
					uint32_t node_id)
{
	DcGossipEvent *event = &out->events[DC_GOSSIP_EVENTS_MAX - 1];

	if (out->event_count < DC_GOSSIP_EVENTS_MAX)
		event = &out->events[out->event_count++];
	else
		out->events_lost = true; /* not simulated: more than 70 at once */
	memset(event, 0, sizeof(*event));
	event->kind = kind;
	event->node_id = node_id;
	return event;
}

void
dc_gossip_add_node_event(DcGossipOutput *out, DcGossipEventKind kind,
						 const DcGossipNode *node)
{
	DcGossipEvent *event = dc_gossip_add_event(out, kind, node->node_id);

	event->from = event->to = node->state;
	event->incarnation = node->incarnation;
	event->boot = node->boot;
	dc_gossip_copy(event->address, sizeof(event->address),
				   dc_gossip_slice(node->seen_address[0] != '\0' ?
									   node->seen_address :
									   node->address));
}

/* True once a minute for each (status, address); so is a log line. */
static bool
worth_report(DcGossip *g, DcStatus status, const char *address)
{
	uint64_t key = mix((uint64_t) status + 1);
	uint32_t oldest = 0;

	for (const char *c = address; *c != '\0'; c++)
		key = mix(key ^ (uint8_t) *c);
	for (uint32_t i = 0; i < DC_GOSSIP_REPORTS; i++)
	{
		if (g->reports[i].key == key && g->reports[i].until_us > g->now_us)
			return false;
		if (g->reports[i].until_us < g->reports[oldest].until_us)
			oldest = i;
	}
	/* Many addresses at once are one flood: it does not get one line each. */
	if (g->reports[oldest].until_us > g->now_us)
		return false;
	g->reports[oldest].key = key;
	g->reports[oldest].until_us = g->now_us + REPORT_US;
	return true;
}

bool
dc_gossip_report_refusal(DcGossip *g, DcStatus status, uint32_t node_id,
						 uint64_t value, const char *from, DcGossipOutput *out)
{
	DcGossipEvent *event;

	if (!worth_report(g, status, from))
		return false;
	event = dc_gossip_add_event(out, DC_GOSSIP_EVENT_REFUSED, node_id);
	event->status = status;
	event->value = value;
	dc_gossip_copy(event->address, sizeof(event->address),
				   dc_gossip_slice(from));
	return true;
}

/* ---- state of a node ---------------------------------------------------- */

void
dc_gossip_move(DcGossip *g, DcGossipNode *node, DcGossipState to,
			   DcGossipOutput *out)
{
	DcGossipState from = node->state;
	DcGossipEvent *event;

	if ((moves[from] & BIT(to)) == 0)
		return;
	g->roster_stale |= dc_gossip_is_silent(node);
	node->state = to;
	g->roster_stale |= dc_gossip_is_silent(node);
	node->since_us = g->now_us;
	if (to == DC_GOSSIP_DEAD || to == DC_GOSSIP_LEFT)
		node->advances = 0;
	if (to == DC_GOSSIP_LEFT)
		node->doubt_us = node->called_us = 0;
	if (out == NULL)
		return;
	event = dc_gossip_add_event(out, DC_GOSSIP_EVENT_STATE, node->node_id);
	event->from = from;
	event->to = to;
	event->incarnation = node->incarnation;
	event->boot = node->boot;
}

void
dc_gossip_refresh_roster(DcGossip *g)
{
	if (!g->roster_stale)
		return;
	g->roster_stale = false;
	g->live_count = g->silent_count = 0;
	for (uint32_t i = 1; i < g->used; i++)
	{
		const DcGossipNode *node = &g->nodes[i];

		if (node->node_id == 0 ||
			(node->address[0] == '\0' && node->seen_address[0] == '\0'))
			continue;
		if (dc_gossip_is_silent(node))
			g->silent[g->silent_count++] = (uint16_t) i;
		else
			g->live[g->live_count++] = (uint16_t) i;
	}
}

void
dc_gossip_watch(DcGossip *g, DcGossipNode *node)
{
	if (node->listed)
		return;
	node->listed = true;
	g->hot[g->hot_count++] = (uint16_t) (node - g->nodes);
}

void
dc_gossip_note_news(DcGossip *g, DcGossipNode *node)
{
	node->news_us = g->now_us;
	dc_gossip_watch(g, node);
}

void
dc_gossip_drop_node(DcGossip *g, DcGossipNode *node)
{
	g->slot_of[node->node_id] = 0;
	g->roster_stale = true;
	for (uint32_t i = 0; node->listed && i < g->hot_count; i++)
	{
		if (&g->nodes[g->hot[i]] != node)
			continue;
		g->hot[i] = g->hot[--g->hot_count];
		break;
	}
	memset(node, 0, sizeof(*node));
}

/* Who says nothing of itself is the first to make room, then who has left. */
static bool
is_older(const DcGossipNode *node, const DcGossipNode *oldest)
{
	if (oldest == NULL || node->described != oldest->described)
		return oldest == NULL || !node->described;
	return node->described ? node->since_us < oldest->since_us :
							 node->session.heard_us < oldest->session.heard_us;
}

/* A free slot, or that of the longest silent stranger, or of who left. */
static DcGossipNode *
find_room(DcGossip *g)
{
	DcGossipNode *oldest = NULL;

	for (uint32_t i = 1; i < g->capacity; i++)
	{
		DcGossipNode *node = &g->nodes[i];

		if (node->node_id == 0)
			return node;
		/* not who speaks just now: its datagram is still being read */
		if (node->described ? node->state != DC_GOSSIP_LEFT :
							  node->session.heard_us == g->now_us)
			continue;
		if (is_older(node, oldest))
			oldest = node;
	}
	if (oldest != NULL)
		/* not simulated: the slot of a member that left and will return */
		dc_gossip_drop_node(g, oldest);
	return oldest;
}

DcGossipNode *
dc_gossip_add_node(DcGossip *g, uint32_t node_id, const char *from,
				   DcGossipOutput *out)
{
	DcGossipNode *node = find_room(g);

	if (node == NULL)
	{
		if (out != NULL && worth_report(g, DC_FULL, ""))
		{
			DcGossipEvent *event =
				dc_gossip_add_event(out, DC_GOSSIP_EVENT_FULL, node_id);

			dc_gossip_copy(event->address, sizeof(event->address),
						   dc_gossip_slice(from));
		}
		return NULL;
	}
	memset(node, 0, sizeof(*node));
	node->node_id = node_id;
	node->since_us = node->heard_us = g->now_us;
	g->slot_of[node_id] = (uint16_t) (node - g->nodes + 1);
	if (g->used < g->slot_of[node_id])
		g->used = g->slot_of[node_id];
	g->roster_stale = true;
	return node;
}

/* ---- two nodes under one id --------------------------------------------- */

static int
compare_starts(const DcGossipSession *left, const DcGossipSession *right)
{
	return dc_gossip_compare(left->incarnation, left->boot, right->incarnation,
							 right->boot);
}

/* Among the others, the one that was not heard for longest. */
static DcGossipSession *
forget_other(DcGossipNode *node)
{
	DcGossipSession *oldest = &node->others[0];

	for (uint32_t i = 1; i < DC_GOSSIP_OTHERS; i++)
	{
		if (node->others[i].heard_us < oldest->heard_us)
			oldest = &node->others[i];
	}
	if (compare_starts(oldest, &node->forgotten) > 0)
		node->forgotten = *oldest;
	return oldest;
}

DcGossipSession *
dc_gossip_start_of(DcGossipNode *node, uint64_t incarnation, uint64_t boot)
{
	DcGossipSession start = {.incarnation = incarnation, .boot = boot};
	DcGossipSession *other;

	if (compare_starts(&node->session, &start) == 0)
		return &node->session;
	for (uint32_t i = 0; i < DC_GOSSIP_OTHERS; i++)
	{
		if (compare_starts(&node->others[i], &start) == 0)
			return &node->others[i];
	}
	if (compare_starts(&start, &node->forgotten) <= 0)
		return NULL;
	other = forget_other(node);
	*other = start;
	return other;
}

void
dc_gossip_shift_session(DcGossip *g, DcGossipNode *node, DcGossipSession *other)
{
	DcGossipSession before = node->session;

	if (other == NULL)
		return;
	node->session = *other;
	*other = before;
	node->session_since_us = node->session.heard_us = g->now_us;
}

/* Signs may be that far apart as telling an outdated start takes. */
uint64_t
dc_gossip_clash_us(const DcGossip *g)
{
	uint64_t rounds_us = CLASH_ROUNDS * g->config.interval_us;

	return rounds_us > 3 * DC_GOSSIP_RIVAL_US ? rounds_us :
												3 * DC_GOSSIP_RIVAL_US;
}

void
dc_gossip_note_clash(DcGossip *g, DcGossipNode *node, uint64_t incarnation,
					 uint64_t boot, const char *address, DcGossipOutput *out)
{
	bool lasting = node->clash_until_us > g->now_us;
	DcGossipEvent *event;

	node->clash_until_us = g->now_us + dc_gossip_clash_us(g);
	if (lasting)
		return;
	event = dc_gossip_add_event(out, DC_GOSSIP_EVENT_IDENTITY, node->node_id);
	event->status = DC_IDENTITY;
	event->incarnation = incarnation;
	event->boot = boot;
	dc_gossip_copy(event->address, sizeof(event->address),
				   dc_gossip_slice(address));
}

void
dc_gossip_note_rival(DcGossip *g, uint64_t incarnation, uint64_t boot,
					 const char *address, DcGossipOutput *out)
{
	g->rival.until_us = g->now_us + dc_gossip_clash_us(g);
	g->rival.incarnation = incarnation;
	g->rival.boot = boot;
	if (address[0] != '\0' || g->nodes[0].clash_until_us <= g->now_us)
		dc_gossip_copy(g->rival.address, sizeof(g->rival.address),
					   dc_gossip_slice(address));
	dc_gossip_note_clash(g, &g->nodes[0], incarnation, boot, address, out);
}

/* The random part keeps two clones that start at once apart. */
void
dc_gossip_start_self(DcGossip *g, uint64_t least_version)
{
	DcGossipNode *self = &g->nodes[0];
	uint64_t version = g->now_us > least_version ? g->now_us : least_version;

	version += dc_gossip_draw(g, 1024);
	self->boot = self->version = self->config_version = version;
	self->made_us = g->now_us;
	dc_gossip_note_news(g, self);
	g->past_version = 0;
}

/*
 * Soon after our start a greater record of ours is what we said before a
 * clock was set back, and we start again above it.  Later it is our past only
 * if it does not move.
 */
void
dc_gossip_hear_of_self(DcGossip *g, uint64_t incarnation, uint64_t boot,
					   uint64_t version, const char *address,
					   DcGossipOutput *out)
{
	DcGossipNode *self = &g->nodes[0];
	uint64_t least = version > boot ? version : boot;
	bool ours = boot == self->boot;

	if (incarnation < self->incarnation)
		return;
	if (incarnation > self->incarnation)
	{
		/* others may remember a rival that is long gone */
		if (incarnation == g->rival.incarnation && version <= g->rival.version)
			return;
		dc_gossip_note_rival(g, incarnation, boot, address, out);
		g->rival.version = version;
		return;
	}
	if (ours || (version <= self->version && boot <= self->boot))
		return;
	if (least >= (uint64_t) INT64_MAX)
	{
		/* not simulated: a peer that holds the key, and lies */
		dc_gossip_note_rival(g, incarnation, boot, address, out);
		return;
	}
	/* Each peer may know another past, but there is an end to it. */
	if ((g->settled_us == 0 || g->now_us < g->settled_us) &&
		g->start_count < STARTS_MAX)
	{
		g->start_count++;
		dc_gossip_start_self(g, least + 1);
		return;
	}
	if (g->past_version == 0)
	{
		g->past_version = least;
		g->past_since_us = g->now_us;
	}
	else if (g->now_us - g->past_since_us < DC_GOSSIP_RIVAL_US)
		g->past_version = least > g->past_version ? least : g->past_version;
	else if (least > g->past_version)
	{
		g->past_version = 0;
		dc_gossip_note_rival(g, incarnation, boot, address, out);
	}
	else if (g->now_us - g->past_since_us > DC_GOSSIP_PAST_US)
		dc_gossip_start_self(g, g->past_version + 1);
}
