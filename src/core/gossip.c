/*
 * gossip.c
 *		Who is in the cluster, how to reach it, and is it alive.
 *
 * Every entry point sets g->now_us first; everything below reads the time
 * there.  nodes[0] is this node; a slot never moves, so that the caller may
 * keep its own array beside ours.
 */
#include "gossip_node.h"

#include "canary.h"

/* Who did not answer is called so often in a round, and so many such nodes. */
#define RETRY_CALLS 2
#define RETRY_NODES 2

/* Who is in doubt itself calls so many more. */
#define RALLY_CALLS 3

/* Both claimants of an id are told this often. */
#define CLASH_TOLD_US (UINT64_C(2) * 1000000)

#define HELLO_CREDIT_MAX 8

#define INTERVAL_US_MAX (UINT64_C(3600) * 1000000)

static const char *const state_names[] = {"unknown", "alive", "suspect", "dead",
										  "left"};

/* ---- taking in ---------------------------------------------------------- */

static void
adopt_description(DcGossip *g, DcGossipNode *node, const DcGossipDelta *delta)
{
	/* Told again, because somebody did not know that we knew, it is no news. */
	bool news = !node->described || delta->incarnation != node->incarnation ||
				delta->config_version != node->config_version;

	node->incarnation = delta->incarnation;
	node->boot = delta->boot;
	node->config_version = delta->config_version;
	node->wire_version = delta->wire_version;
	node->left = delta->left;
	node->described = true;
	node->outdated = false;
	if (news)
	{
		g->roster_stale = true;
		dc_gossip_note_news(g, node);
	}
	dc_gossip_copy(node->name, sizeof(node->name), delta->name);
	dc_gossip_copy(node->data_center, sizeof(node->data_center),
				   delta->data_center);
	/* It moved: where it was seen nobody answers any more. */
	if (delta->address.length != strlen(node->address) ||
		memcmp(delta->address.data, node->address, delta->address.length) != 0)
		node->seen_address[0] = '\0';
	dc_gossip_copy(node->address, sizeof(node->address), delta->address);
	dc_gossip_copy(node->conninfo, sizeof(node->conninfo), delta->conninfo);
	if (dc_gossip_compare(delta->incarnation, delta->boot,
						  node->session.incarnation, node->session.boot) > 0)
		dc_gossip_shift_session(g, node,
								dc_gossip_start_of(node, delta->incarnation,
												   delta->boot));
}

static void
adopt_delta(DcGossip *g, const DcGossipDelta *delta, const char *from,
			DcGossipOutput *out)
{
	DcGossipNode *node = dc_gossip_node(g, delta->node_id);
	bool restarted;
	bool changed;

	if (node == &g->nodes[0])
	{
		char address[DC_GOSSIP_ADDRESS_BYTES];

		dc_gossip_copy(address, sizeof(address), delta->address);
		dc_gossip_hear_of_self(g, delta->incarnation, delta->boot,
							   delta->version, address, out);
		return;
	}
	if (node == NULL && delta->full)
		node = dc_gossip_add_node(g, delta->node_id, from, out);
	if (node == NULL ||
		dc_gossip_compare(delta->incarnation, delta->version, node->incarnation,
						  node->version) <= 0)
		return;
	/* Heartbeats alone are of no use to who lacks the description. */
	if (!delta->full && (delta->incarnation != node->incarnation ||
						 delta->config_version != node->config_version))
	{
		node->outdated = true;
		return;
	}
	/* The later start is shown, even while an outdated one still speaks. */
	if (delta->full && delta->incarnation == node->incarnation &&
		delta->boot < node->boot)
		return;

	restarted = delta->full && node->described &&
				(delta->incarnation != node->incarnation ||
				 (node->boot != 0 && delta->boot != node->boot));
	changed = delta->full && delta->config_version != node->config_version;
	if (delta->full)
		adopt_description(g, node, delta);
	node->version = delta->version;
	node->made_us = dc_gossip_since(g, delta->age_ms);
	node->floor = delta->floor;
	node->epoch = delta->epoch;
	node->closed = delta->closed;
	node->disputed = delta->disputed;
	node->joining = delta->joining;
	node->leaving = delta->leaving;
	node->clock = delta->clock;
	if (dc_gossip_compare(node->incarnation, node->boot,
						  node->session.incarnation, node->session.boot) == 0)
		node->session.heard_us = g->now_us;
	if (restarted)
		node->seen_version = 0;
	dc_gossip_note_version(g, node, delta->version, node->made_us, out);
	if (restarted)
		dc_gossip_add_node_event(out, DC_GOSSIP_EVENT_RESTART, node);
	else if (changed)
		dc_gossip_add_node_event(out, DC_GOSSIP_EVENT_CONFIG, node);
}

static void
beat(DcGossip *g)
{
	DcGossipNode *self = &g->nodes[0];

	/* The version follows the clock: a restart begins above it. */
	self->version = g->now_us > self->version ? g->now_us : self->version + 1;
	self->heard_us = self->made_us = g->now_us;
	self->disputed = dc_gossip_rival(g) != NULL;
}

/*
 * A digest alone already tells that its node lived to make the version, and
 * who asks for it.
 */
static void
note_digest(DcGossip *g, const DcGossipDigest *digest, DcGossipOutput *out)
{
	DcGossipNode *node = dc_gossip_node(g, digest->node_id);

	if (node == NULL)
		return;
	if (node == &g->nodes[0])
		dc_gossip_hear_of_self(g, digest->incarnation, 0, digest->version, "",
							   out);
	if (digest->incarnation != node->incarnation)
		return;
	if (node != &g->nodes[0] && digest->version != 0)
		dc_gossip_note_version(g, node, digest->version,
							   dc_gossip_since(g, digest->age_ms), out);
	if (digest->doubt_ms == 0)
		return;
	/* It takes a version made later than the question to answer it. */
	if (node == &g->nodes[0] && !DC_CANARY(DC_CANARY_REFUTE) &&
		node->made_us <= dc_gossip_since(g, digest->doubt_ms))
		beat(g);
	dc_gossip_hear_doubt(g, node, dc_gossip_since(g, digest->doubt_ms));
}

static bool
loopback(const char *address)
{
	return strncmp(address, "127.", 4) == 0 ||
		   strncmp(address, "[::1]", 5) == 0;
}

/*
 * Without an address of its own the node takes the one a peer sees; one seen
 * from the same machine only until a better one comes.
 */
static void
learn_address(DcGossip *g, DcSlice seen)
{
	DcGossipNode *self = &g->nodes[0];
	char address[DC_GOSSIP_ADDRESS_BYTES];

	dc_gossip_copy(address, sizeof(address), seen);
	if (g->address_given || address[0] == '\0' ||
		(self->address[0] != '\0' &&
		 (!loopback(self->address) || loopback(address))))
		return;
	dc_gossip_copy(self->address, sizeof(self->address), seen);
	self->config_version = ++self->version;
	self->made_us = g->now_us;
	dc_gossip_note_news(g, self);
}

static void
take_hello(DcGossip *g, const char *from, const DcGossipMessage *hello,
		   DcGossipOutput *out)
{
	/* An answer to nothing: a replay. */
	if (g->hello_credit == 0)
		return;
	g->hello_credit--;
	dc_gossip_hear_of_self(g, hello->claim.incarnation, hello->claim.boot,
						   hello->claim.version, "", out);
	learn_address(g, hello->claim.address);
	dc_gossip_send_syn(g, from, hello->header.boot,
					   dc_gossip_node(g, hello->header.node_id), false, out);
}

static void
take_clash(DcGossip *g, const DcGossipMessage *clash, DcGossipOutput *out)
{
	const DcGossipNode *self = &g->nodes[0];
	char address[DC_GOSSIP_ADDRESS_BYTES];

	if (dc_gossip_compare(clash->claim.incarnation, clash->claim.boot,
						  self->incarnation, self->boot) == 0)
		return;
	dc_gossip_copy(address, sizeof(address), clash->claim.address);
	dc_gossip_note_rival(g, clash->claim.incarnation, clash->claim.boot,
						 address, out);
}

/* ---- who speaks --------------------------------------------------------- */

/* A datagram in our own name: an echo of ours, or a rival. */
static DcStatus
judge_own_name(DcGossip *g, const char *from, const DcGossipHeader *header,
			   DcGossipOutput *out)
{
	const DcGossipNode *self = &g->nodes[0];

	if (header->incarnation == self->incarnation && header->boot == self->boot)
	{
		for (uint32_t i = 0; i < g->seed_count; i++)
		{
			if (strcmp(g->seeds[i], from) == 0)
				g->seed_is_self[i] = true;
		}
		return DC_OK;
	}
	/* Only who knows our boot spoke after our start; the others are asked. */
	if (header->receiver_boot != self->boot)
	{
		if (header->kind == DC_GOSSIP_SYN)
			dc_gossip_send_hello(g, from, header, out);
		return DC_IDENTITY;
	}
	dc_gossip_note_rival(g, header->incarnation, header->boot, from, out);
	if (header->kind == DC_GOSSIP_HELLO && g->hello_credit > 0)
	{
		g->hello_credit--;
		dc_gossip_send_syn(g, from, header->boot, NULL, false, out);
	}
	return DC_IDENTITY;
}

/*
 * Somebody speaks under the latest start and an outdated one: tell both.  If
 * the latest is taken for dead, the outdated one is left to notice that by
 * itself.
 */
static void
judge_outdated(DcGossip *g, DcGossipNode *node, DcGossipSession *speaker,
			   const char *from, const DcGossipHeader *header,
			   DcGossipOutput *out)
{
	const char *other = strcmp(node->seen_address, from) != 0 ?
							node->seen_address :
							node->address;

	speaker->heard_us = g->now_us;
	if (node->state == DC_GOSSIP_DEAD ||
		g->now_us - node->session_since_us < DC_GOSSIP_RIVAL_US)
		return;
	/* The latest fell silent, and nobody forwards what it says. */
	if (g->now_us - node->session.heard_us > dc_gossip_clash_us(g) &&
		!DC_CANARY(DC_CANARY_R15))
	{
		dc_gossip_shift_session(g, node, speaker);
		return;
	}
	dc_gossip_note_clash(g, node, header->incarnation, header->boot, from, out);
	if (node->clash_told_us != 0 &&
		g->now_us - node->clash_told_us < CLASH_TOLD_US)
		return;
	node->clash_told_us = g->now_us;
	dc_gossip_send_clash(g, from, header->boot, &node->session, other, out);
	dc_gossip_send_clash(g, other, node->session.boot, speaker, from, out);
}

static DcStatus
judge_sender(DcGossip *g, DcGossipNode *node, const char *from,
			 const DcGossipHeader *header, DcGossipOutput *out)
{
	DcGossipSession *speaker =
		dc_gossip_start_of(node, header->incarnation, header->boot);
	bool fresh =
		speaker != NULL && dc_replay_accept(&speaker->window, header->sequence);

	if (dc_gossip_compare(header->incarnation, header->boot,
						  node->session.incarnation, node->session.boot) < 0)
	{
		if (fresh)
			judge_outdated(g, node, speaker, from, header, out);
		if (header->kind == DC_GOSSIP_SYN)
			dc_gossip_send_hello(g, from, header, out);
		return DC_IDENTITY;
	}
	if (!fresh)
		return DC_REPLAYED;
	if (speaker != &node->session)
		dc_gossip_shift_session(g, node, speaker);
	node->session.heard_us = g->now_us;
	return DC_OK;
}

static void
note_contact(DcGossip *g, DcGossipNode *node, const char *from,
			 const DcGossipHeader *header, DcGossipOutput *out)
{
	int64_t offset_us = (int64_t) header->sent_at_us - (int64_t) g->wall_us;

	dc_gossip_note_hearing(g);
	g->roster_stale |=
		node->seen_address[0] == '\0' && node->address[0] == '\0';
	dc_gossip_copy(node->seen_address, sizeof(node->seen_address),
				   dc_gossip_slice(from));
	/* The fastest datagram tells best; slower ones wear it out. */
	if (node->clock_offset_us == 0 || offset_us > node->clock_offset_us)
		node->clock_offset_us = offset_us;
	else
		node->clock_offset_us += (offset_us - node->clock_offset_us) / 8;
	if (g->settled_us == 0)
		g->settled_us = g->now_us + DC_GOSSIP_PAST_US;
	/* A goodbye is not a sign of life; only a new record takes it back. */
	if (!node->left)
		dc_gossip_note_contact(g, node, out);
}

static void
take_message(DcGossip *g, const char *from, const DcGossipMessage *message,
			 DcGossipOutput *out)
{
	for (uint32_t i = 0; i < message->digest_count; i++)
		note_digest(g, &message->digests[i], out);
	for (uint32_t i = 0; i < message->delta_count; i++)
		adopt_delta(g, &message->deltas[i], from, out);
	switch (message->header.kind)
	{
		case DC_GOSSIP_SYN:
			dc_gossip_answer_syn(g, from, message, out);
			break;
		case DC_GOSSIP_HELLO:
			take_hello(g, from, message, out);
			break;
		case DC_GOSSIP_ACK:
			dc_gossip_answer_ack(g, from, message, out);
			break;
		case DC_GOSSIP_ACK2:
			break;
		case DC_GOSSIP_CLASH:
			take_clash(g, message, out);
			break;
	}
}

/*
 * A stranger that holds the key is a mistake of the administrator, who may be
 * looking at the other side: it gets one HELLO a minute, from which it reads
 * our cluster or version.  Answers go with reports, so that two strangers do
 * not answer each other for ever.
 */
static void
refuse(DcGossip *g, DcStatus status, const char *from,
	   const DcGossipHeader *header, size_t length, uint64_t value,
	   DcGossipOutput *out)
{
	if (dc_gossip_report_refusal(g, status, header->node_id, value, from,
								 out) &&
		(status == DC_CLUSTER || status == DC_VERSION) &&
		length >= DC_GOSSIP_HEADER_BYTES + DC_GOSSIP_HELLO_BODY_BYTES_MAX)
		dc_gossip_send_hello(g, from, header, out);
}

DcStatus
dc_gossip_receive(DcGossip *g, const char *from, const void *data,
				  size_t length, uint64_t now_us, DcGossipOutput *out)
{
	DcGossipMessage message;
	const DcGossipHeader *header = &message.header;
	DcGossipNode *node;
	DcDetail detail = {0, 0};
	DcStatus status;

	dc_gossip_begin(g, now_us, out);
	status = dc_gossip_decode(data, length, &message, &detail);
	if (status == DC_OK && header->cluster_hash != g->config.cluster_hash)
	{
		status = DC_CLUSTER;
		detail.value = header->cluster_hash;
	}
	if (status != DC_OK)
	{
		refuse(g, status, from, header, length, detail.value, out);
		return status;
	}
	if (header->node_id == g->nodes[0].node_id)
		return judge_own_name(g, from, header, out);
	if (header->receiver_boot != g->nodes[0].boot)
	{
		if (header->kind == DC_GOSSIP_SYN)
			dc_gossip_send_hello(g, from, header, out);
		return header->receiver_boot == 0 ? DC_OK : DC_REPLAYED;
	}
	node = dc_gossip_node(g, header->node_id);
	if (node == NULL)
		node = dc_gossip_add_node(g, header->node_id, from, out);
	if (node == NULL)
		return DC_FULL;
	status = judge_sender(g, node, from, header, out);
	if (status != DC_OK)
		return status;
	note_contact(g, node, from, header, out);
	/* Who was stopped and is spoken to first must not answer as of then. */
	if (g->now_us - g->nodes[0].made_us > 2 * g->config.interval_us)
		beat(g);
	take_message(g, from, &message, out);
	return DC_OK;
}

/* ---- rounds ------------------------------------------------------------- */

static const char *
address_of(DcGossip *g, const DcGossipNode *node)
{
	bool seen = node->seen_address[0] != '\0';

	/*
	 * Where it spoke from needs no lookup; once it is silent it may have
	 * moved, so both are tried in turn.
	 */
	if (!seen || (node->address[0] != '\0' && node->state != DC_GOSSIP_ALIVE &&
				  dc_gossip_draw(g, 2) == 0))
		return node->address;
	return node->seen_address;
}

/* A SYN of our own accord; a HELLO may answer it once. */
static void
call(DcGossip *g, const char *address, DcGossipNode *node, bool brief,
	 DcGossipOutput *out)
{
	if (g->hello_credit < HELLO_CREDIT_MAX)
		g->hello_credit++;
	if (node != NULL)
		dc_gossip_note_call(g, node);
	dc_gossip_send_syn(g, address, node != NULL ? node->session.boot : 0, node,
					   brief, out);
}

static void
call_some(DcGossip *g, const uint16_t *slots, uint32_t count,
		  DcGossipOutput *out)
{
	DcGossipNode *node;

	if (count == 0)
		return;
	node = &g->nodes[slots[dc_gossip_draw(g, count)]];
	call(g, address_of(g, node), node, false, out);
}

/* Those of earlier rounds that did not answer. */
static void
call_again(DcGossip *g, DcGossipOutput *out)
{
	uint32_t count = g->hot_count;
	uint32_t start = count > 0 ? dc_gossip_draw(g, count) : 0;
	uint32_t called = 0;

	for (uint32_t i = 0; i < count && called < RETRY_NODES; i++)
	{
		DcGossipNode *node = &g->nodes[g->hot[(start + i) % count]];

		if (node->called_us == 0 || node->called_us == g->now_us)
			continue;
		called++;
		for (int again = 0; again < RETRY_CALLS; again++)
			call(g, address_of(g, node), node, true, out);
	}
}

/* Seeds that are a node we talk to anyway need no extra call. */
static bool
is_seed(const DcGossipNode *node, const char *seed)
{
	return node->node_id != 0 && !dc_gossip_is_silent(node) &&
		   (strcmp(node->address, seed) == 0 ||
			strcmp(node->seen_address, seed) == 0);
}

static bool
seed_is_known(DcGossip *g, uint32_t seed)
{
	if (is_seed(&g->nodes[g->seed_slot[seed]], g->seeds[seed]))
		return true;
	for (uint32_t i = 0; i < g->used; i++)
	{
		if (!is_seed(&g->nodes[i], g->seeds[seed]))
			continue;
		g->seed_slot[seed] = (uint16_t) i;
		return true;
	}
	return false;
}

static void
contact_seed(DcGossip *g, DcGossipOutput *out)
{
	const char *picked = NULL;
	uint32_t count = 0;

	for (uint32_t i = 0; i < g->seed_count; i++)
	{
		if (!g->seed_is_self[i] && !seed_is_known(g, i) &&
			dc_gossip_draw(g, ++count) == 0)
			picked = g->seeds[i];
	}
	if (picked != NULL)
		call(g, picked, NULL, false, out);
}

/*
 * One live node each round; now and then a silent one, so that it comes back
 * and a divided cluster heals; a seed that is none of ours every other round,
 * so that clusters that never met find each other.
 */
static void
contact(DcGossip *g, DcGossipOutput *out)
{
	call_some(g, g->live, g->live_count, out);
	if (dc_gossip_draw(g, g->live_count + 1) < g->silent_count)
		call_some(g, g->silent, g->silent_count, out);
	if (g->live_count == 0)
		contact_seed(g, out);
	if (g->live_count == 0 || dc_gossip_draw(g, 2) == 0)
		contact_seed(g, out);
}

/* Somebody asks whether we live, or has reason to. */
static void
rally(DcGossip *g, DcGossipOutput *out)
{
	if (g->rally == 0)
		return;
	g->rally--;
	for (int i = 0; i < RALLY_CALLS; i++)
		call_some(g, g->live, g->live_count, out);
}

void
dc_gossip_tick(DcGossip *g, uint64_t now_us, uint64_t random,
			   DcGossipOutput *out)
{
	uint64_t interval_us = g->config.interval_us;

	dc_gossip_begin(g, now_us, out);
	g->random ^= random;
	if (g->now_us < g->next_round_us)
		return;
	dc_gossip_refresh_roster(g);
	dc_gossip_judge(g, out);
	g->last_round_us = g->now_us;
	/* Spread by a tenth either way: rounds of a cluster must not align. */
	g->next_round_us = g->now_us + interval_us - interval_us / 10 +
					   dc_gossip_draw(g, (uint32_t) (interval_us / 5) + 1);
	beat(g);
	dc_gossip_refresh_roster(g);
	contact(g, out);
	call_again(g, out);
	rally(g, out);
}

uint64_t
dc_gossip_deadline(const DcGossip *g)
{
	return g->next_round_us > g->behind_us ? g->next_round_us - g->behind_us :
											 0;
}

/* ---- starting and settings ---------------------------------------------- */

DcStatus
dc_gossip_init(DcGossip *g, const DcGossipConfig *config, DcGossipNode *nodes,
			   uint32_t capacity, uint64_t now_us, uint64_t random)
{
	if (config->node_id == 0 || config->node_id > DC_NODE_ID_MAX ||
		capacity == 0 || capacity > DC_NODE_ID_MAX || now_us == 0 ||
		now_us > DC_HLC_US_MAX || config->interval_us < 10 ||
		config->interval_us > INTERVAL_US_MAX ||
		config->phi_suspect > config->phi_dead)
		return DC_MALFORMED;
	memset(g, 0, sizeof(*g));
	memset(nodes, 0, sizeof(*nodes) * capacity);
	g->config = *config;
	g->nodes = nodes;
	g->capacity = capacity;
	g->used = 1;
	dc_phi_init(&g->phi, config->interval_us);
	dc_gossip_set_time(g, now_us);
	g->random = random;
	g->slot_of[config->node_id] = 1;
	nodes[0].node_id = config->node_id;
	nodes[0].incarnation = config->incarnation;
	nodes[0].wire_version = config->wire_version;
	nodes[0].state = DC_GOSSIP_ALIVE;
	nodes[0].since_us = nodes[0].heard_us = g->listening_us = now_us;
	nodes[0].described = true;
	dc_gossip_start_self(g, 0);
	return DC_OK;
}

/* True if it differed. */
static bool
replace_text(char *text, size_t size, const char *by)
{
	if (strcmp(text, by) == 0)
		return false;
	dc_gossip_copy(text, size, dc_gossip_slice(by));
	return true;
}

DcStatus
dc_gossip_describe(DcGossip *g, const DcGossipSelf *self, uint64_t now_us)
{
	DcGossipNode *node = &g->nodes[0];
	bool changed = false;

	if (!dc_gossip_text_valid(self->name, sizeof(node->name)) ||
		!dc_gossip_text_valid(self->data_center, sizeof(node->data_center)) ||
		!dc_gossip_text_valid(self->address, sizeof(node->address)) ||
		!dc_gossip_text_valid(self->conninfo, sizeof(node->conninfo)))
		return DC_MALFORMED;
	dc_gossip_set_time(g, now_us);
	g->address_given = self->address[0] != '\0';
	changed |= replace_text(node->name, sizeof(node->name), self->name);
	changed |= replace_text(node->data_center, sizeof(node->data_center),
							self->data_center);
	changed |=
		replace_text(node->conninfo, sizeof(node->conninfo), self->conninfo);
	if (g->address_given)
		changed |=
			replace_text(node->address, sizeof(node->address), self->address);
	if (changed)
	{
		beat(g);
		node->config_version = node->version;
		dc_gossip_note_news(g, node);
	}
	return DC_OK;
}

void
dc_gossip_reincarnate(DcGossip *g, uint64_t incarnation, uint64_t now_us)
{
	dc_gossip_set_time(g, now_us);
	g->config.incarnation = g->nodes[0].incarnation = incarnation;
	if (g->nodes[0].left) /* it comes back */
	{
		g->nodes[0].left = false;
		dc_gossip_move(g, &g->nodes[0], DC_GOSSIP_ALIVE, NULL);
	}
	dc_gossip_start_self(g, g->nodes[0].version + 1);
}

void
dc_gossip_progress(DcGossip *g, DcHlc floor, uint64_t epoch, bool closed,
				   bool joining, bool leaving, DcHlc clock)
{
	g->nodes[0].floor = floor;
	g->nodes[0].epoch = epoch;
	g->nodes[0].closed = closed;
	g->nodes[0].joining = joining;
	g->nodes[0].leaving = leaving;
	g->nodes[0].clock = clock;
}

void
dc_gossip_set_seeds(DcGossip *g, const char *const *addresses, uint32_t count)
{
	g->seed_count = 0;
	for (uint32_t i = 0; i < count && g->seed_count < DC_GOSSIP_SEEDS_MAX; i++)
	{
		uint32_t at = g->seed_count;

		if (addresses[i][0] == '\0' ||
			!dc_gossip_text_valid(addresses[i], sizeof(g->seeds[0])))
			continue;
		if (replace_text(g->seeds[at], sizeof(g->seeds[at]), addresses[i]))
			g->seed_is_self[at] = false;
		g->seed_count++;
	}
}

bool
dc_gossip_restore(DcGossip *g, const DcGossipNode *from, uint64_t now_us)
{
	DcGossipNode *node;

	dc_gossip_set_time(g, now_us);
	if (from->node_id == 0 || from->node_id > DC_NODE_ID_MAX ||
		dc_gossip_node(g, from->node_id) != NULL)
		return false;
	node = dc_gossip_add_node(g, from->node_id, "", NULL);
	if (node == NULL)
		return false; /* not simulated: more was saved than there is room */
	node->incarnation = from->incarnation;
	node->floor = from->floor;
	node->epoch = from->epoch;
	node->closed = from->closed;
	node->joining = from->joining;
	node->leaving = from->leaving;
	node->clock = from->clock;
	node->wire_version = from->wire_version;
	node->state = from->state;
	node->left = from->state == DC_GOSSIP_LEFT;
	if (node->state == DC_GOSSIP_DEAD || node->state == DC_GOSSIP_SUSPECT)
		node->doubt_us = node->asked_us = g->now_us;
	node->described = true;
	node->since_us = from->since_us;
	memcpy(node->name, from->name, sizeof(node->name));
	memcpy(node->data_center, from->data_center, sizeof(node->data_center));
	memcpy(node->address, from->address, sizeof(node->address));
	memcpy(node->conninfo, from->conninfo, sizeof(node->conninfo));
	return true;
}

void
dc_gossip_forget(DcGossip *g, uint32_t node_id)
{
	DcGossipNode *node = dc_gossip_node(g, node_id);

	if (node != NULL && node != &g->nodes[0])
		dc_gossip_drop_node(g, node);
}

void
dc_gossip_leave(DcGossip *g, uint64_t now_us, uint64_t random,
				DcGossipOutput *out)
{
	DcGossipNode *self = &g->nodes[0];

	dc_gossip_begin(g, now_us, out);
	g->random ^= random;
	beat(g);
	self->left = true;
	self->config_version = self->version;
	dc_gossip_note_news(g, self);
	dc_gossip_move(g, self, DC_GOSSIP_LEFT, out);
	dc_gossip_refresh_roster(g);
	for (uint32_t i = 0; i < DC_GOSSIP_SENDS_MAX; i++)
		contact(g, out);
}

const DcGossipNode *
dc_gossip_find(const DcGossip *g, uint32_t node_id)
{
	return dc_gossip_node(g, node_id);
}

const DcGossipRival *
dc_gossip_rival(const DcGossip *g)
{
	return g->rival.until_us > g->now_us ? &g->rival : NULL;
}

bool
dc_gossip_disputed(const DcGossip *g, const DcGossipNode *node)
{
	if (node == &g->nodes[0])
		return dc_gossip_rival(g) != NULL;
	return node->disputed || node->clash_until_us > g->now_us;
}

const char *
dc_gossip_state_name(DcGossipState state)
{
	return (unsigned) state <= DC_GOSSIP_LEFT ? state_names[state] : "?";
}
