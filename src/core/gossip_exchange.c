/*
 * gossip_exchange.c
 *		Inside of gossip: what a datagram says.
 *
 * A datagram has room for DC_GOSSIP_DIGESTS_MAX digests, whatever the size of
 * the cluster.  They are, in this order:
 *
 *		the sender | who is called | questions and answers | descriptions that
 *		are news | all others in turn, where the last datagram stopped
 *
 * so that a question or its answer is with everybody after log(n) rounds, and
 * of each node a datagram speaks every n / DC_GOSSIP_DIGESTS_MAX rounds.
 */
#include "canary.h"
#include "gossip_node.h"

/* What is urgent or news takes at most this part of a SYN, and of an ACK. */
#define HOT_DIGESTS (DC_GOSSIP_DIGESTS_MAX / 2)

/* Wanted digests take at most this part of an ACK; deltas get the rest. */
#define WANTED_MAX (DC_GOSSIP_DIGESTS_MAX / 2)
#define ASKED_MAX  (WANTED_MAX / 2)

/* No full delta is shorter. */
#define FULL_BYTES_MIN (DC_GOSSIP_DELTA_BYTES_MIN + 13)

/* Where in a list of digests a node is, plus one. */
typedef uint8_t Places[DC_NODE_IDS];

/* ---- sending ------------------------------------------------------------ */

static void
prepare(DcGossip *g, DcGossipMessage *message, DcGossipKind kind,
		uint64_t receiver_boot)
{
	const DcGossipNode *self = &g->nodes[0];

	message->header.kind = kind;
	message->header.node_id = self->node_id;
	message->header.cluster_hash = g->config.cluster_hash;
	message->header.incarnation = self->incarnation;
	message->header.boot = self->boot;
	message->header.sequence = ++g->sequence;
	message->header.sent_at_us = g->wall_us;
	message->header.receiver_boot = receiver_boot;
	message->complete = false;
	message->digest_count = message->delta_count = 0;
	memset(&message->claim, 0, sizeof(message->claim));
	message->claim.address = dc_gossip_slice("");
}

static void
send_to(const char *address, DcGossipMessage *message, DcGossipOutput *out)
{
	DcGossipSend *send = &out->sends[out->send_count];
	DcWriter w;

	if (out->send_count == DC_GOSSIP_SENDS_MAX || address[0] == '\0')
		return;
	dc_gossip_message_sort(message);
	dc_writer_init(&w, send->bytes, sizeof(send->bytes));
	dc_gossip_encode(&w, message);
	if (w.status != DC_OK)
		return; /* not simulated: what is sent is chosen to fit */
	send->length = w.length;
	dc_gossip_copy(send->address, sizeof(send->address),
				   dc_gossip_slice(address));
	out->send_count++;
}

/* Nodes that left are not mentioned in the second half of their stay. */
static bool
mentionable(const DcGossip *g, const DcGossipNode *node)
{
	return node->node_id != 0 && node->version != 0 &&
		   (node->state != DC_GOSSIP_LEFT || node == &g->nodes[0] ||
			g->now_us - node->since_us < g->config.forget_us / 2);
}

static uint16_t
age_of(const DcGossip *g, const DcGossipNode *node)
{
	if (DC_CANARY(DC_CANARY_AGE))
		return 0;
	return dc_gossip_age(g, node->made_us);
}

/* Up to where we have it: nothing, if its description must come anew. */
static uint64_t
version_of(const DcGossipNode *node)
{
	return node->outdated ? 0 : node->version;
}

static void
add_digest(const DcGossip *g, DcGossipMessage *message,
		   const DcGossipNode *node, Places places)
{
	DcGossipDigest *digest = &message->digests[message->digest_count++];

	places[node->node_id] = (uint8_t) message->digest_count;
	digest->node_id = node->node_id;
	digest->incarnation = node->incarnation;
	digest->version = version_of(node);
	digest->age_ms = age_of(g, node);
	digest->doubt_ms = 0;
	if (node->doubt_us != 0 && !DC_CANARY(DC_CANARY_ASK))
		digest->doubt_ms = dc_gossip_age(g, node->doubt_us);
}

/* Urgent nodes, then those whose description is news. */
static void
add_hot_digests(DcGossip *g, DcGossipMessage *message, Places places)
{
	uint32_t start = g->hot_count > 0 ? dc_gossip_draw(g, g->hot_count) : 0;

	for (int pass = 0; pass < 2; pass++)
	{
		for (uint32_t i = 0; i < g->hot_count; i++)
		{
			const DcGossipNode *node =
				&g->nodes[g->hot[(start + i) % g->hot_count]];

			if (message->digest_count == HOT_DIGESTS)
				return;
			if (mentionable(g, node) && places[node->node_id] == 0 &&
				(pass == 0 ? dc_gossip_is_urgent(g, node) :
							 dc_gossip_is_news(g, node)))
				add_digest(g, message, node, places);
		}
	}
}

/* As many as fit, from where the last datagram stopped. */
static void
add_digests_in_turn(DcGossip *g, DcGossipMessage *message, Places places)
{
	uint32_t start =
		DC_CANARY(DC_CANARY_ROTATE) ? g->slot_of[1] : g->next_digest;

	for (uint32_t i = 0; i < g->used; i++)
	{
		uint32_t slot = (start + i) % g->used;
		const DcGossipNode *node = &g->nodes[slot];

		if (!mentionable(g, node) || places[node->node_id] != 0)
			continue;
		if (message->digest_count == DC_GOSSIP_DIGESTS_MAX)
		{
			g->next_digest = slot;
			return;
		}
		add_digest(g, message, node, places);
	}
	message->complete = true;
}

void
dc_gossip_send_syn(DcGossip *g, const char *address, uint64_t receiver_boot,
				   const DcGossipNode *callee, bool brief, DcGossipOutput *out)
{
	DcGossipMessage message;
	Places places = {0};

	prepare(g, &message, DC_GOSSIP_SYN, receiver_boot);
	if (receiver_boot != 0)
	{
		add_digest(g, &message, &g->nodes[0], places);
		if (callee != NULL && mentionable(g, callee))
			add_digest(g, &message, callee, places);
		if (!DC_CANARY(DC_CANARY_FORWARD))
			add_hot_digests(g, &message, places);
		if (!brief && !DC_CANARY(DC_CANARY_FORWARD))
			add_digests_in_turn(g, &message, places);
	}
	send_to(address, &message, out);
}

/*
 * Answers a SYN that cannot be checked: with nothing but what makes the next
 * one checkable.
 */
void
dc_gossip_send_hello(DcGossip *g, const char *from,
					 const DcGossipHeader *header, DcGossipOutput *out)
{
	const DcGossipNode *node = dc_gossip_node(g, header->node_id);
	DcGossipMessage message;

	prepare(g, &message, DC_GOSSIP_HELLO, header->boot);
	message.claim.address = dc_gossip_slice(from);
	if (node != NULL && node != &g->nodes[0])
	{
		bool later =
			dc_gossip_compare(node->session.incarnation, node->session.boot,
							  node->incarnation, node->boot) > 0;

		message.claim.incarnation =
			later ? node->session.incarnation : node->incarnation;
		message.claim.boot = later ? node->session.boot : node->boot;
		message.claim.version =
			message.claim.incarnation == node->incarnation ? node->version : 0;
	}
	send_to(from, &message, out);
}

void
dc_gossip_send_clash(DcGossip *g, const char *to, uint64_t receiver_boot,
					 const DcGossipSession *claimant, const char *address,
					 DcGossipOutput *out)
{
	DcGossipMessage message;

	prepare(g, &message, DC_GOSSIP_CLASH, receiver_boot);
	message.claim.incarnation = claimant->incarnation;
	message.claim.boot = claimant->boot;
	message.claim.address = dc_gossip_slice(address);
	send_to(to, &message, out);
}

/* ---- deltas ------------------------------------------------------------- */

/*
 * Adds what a receiver lacks that has `node` up to this version.  Returns
 * false if it does not fit any more.
 */
static bool
add_delta(const DcGossip *g, DcGossipMessage *message, const DcGossipNode *node,
		  uint64_t incarnation, uint64_t version, size_t *left_bytes)
{
	DcGossipDelta delta;
	size_t bytes;

	memset(&delta, 0, sizeof(delta));
	delta.node_id = node->node_id;
	delta.incarnation = node->incarnation;
	delta.version = node->version;
	delta.config_version = node->config_version;
	delta.age_ms = age_of(g, node);
	delta.floor = node->floor;
	delta.epoch = node->epoch;
	delta.closed = node->closed;
	delta.disputed = node->disputed;
	delta.joining = node->joining;
	delta.leaving = node->leaving;
	delta.clock = node->clock;
	delta.full =
		incarnation != node->incarnation || version < node->config_version;
	if (delta.full)
	{
		delta.left = node->left;
		delta.boot = node->boot;
		delta.wire_version = node->wire_version;
		delta.name = dc_gossip_slice(node->name);
		delta.data_center = dc_gossip_slice(node->data_center);
		delta.address = dc_gossip_slice(node->address);
		delta.conninfo = dc_gossip_slice(node->conninfo);
	}
	bytes = dc_gossip_delta_bytes(&delta);
	if (bytes > *left_bytes)
		return false;
	*left_bytes -= bytes;
	message->deltas[message->delta_count++] = delta;
	return true;
}

static bool
is_asked_for(const DcGossip *g, const DcGossipNode *node,
			 const DcGossipDigest *digest)
{
	return node == &g->nodes[0] || digest->doubt_ms != 0 ||
		   dc_gossip_is_urgent(g, node);
}

/* What we have above these digests: what somebody asks for, or the rest. */
static void
add_newer(DcGossip *g, DcGossipMessage *message, const DcGossipMessage *asked,
		  bool asked_for, size_t *left_bytes)
{
	/* From a random place on, so that what does not fit is not always last. */
	uint32_t start =
		asked->digest_count > 0 ? dc_gossip_draw(g, asked->digest_count) : 0;

	for (uint32_t i = 0; i < asked->digest_count; i++)
	{
		const DcGossipDigest *digest =
			&asked->digests[(start + i) % asked->digest_count];
		const DcGossipNode *node = dc_gossip_node(g, digest->node_id);

		if (node == NULL || !mentionable(g, node) ||
			dc_gossip_compare(node->incarnation, node->version,
							  digest->incarnation, digest->version) <= 0 ||
			is_asked_for(g, node, digest) != asked_for)
			continue;
		if (node != &g->nodes[0] && DC_CANARY(DC_CANARY_FORWARD))
			continue;
		add_delta(g, message, node, digest->incarnation, digest->version,
				  left_bytes);
	}
}

/*
 * What the sender does not mention it lacks, if it mentioned all; news it
 * would have mentioned first.
 */
static void
add_unmentioned(DcGossip *g, DcGossipMessage *ack, const DcGossipMessage *syn,
				const Places places, size_t *left_bytes)
{
	uint32_t count = syn->complete ? g->used : g->hot_count;
	uint32_t start = count > 0 ? dc_gossip_draw(g, count) : 0;

	for (uint32_t i = 0; i < count && *left_bytes >= FULL_BYTES_MIN; i++)
	{
		uint32_t at = (start + i) % count;
		const DcGossipNode *node = &g->nodes[syn->complete ? at : g->hot[at]];

		if (node != &g->nodes[0] && DC_CANARY(DC_CANARY_FORWARD))
			continue;
		if (mentionable(g, node) && places[node->node_id] == 0 &&
			node->node_id != syn->header.node_id &&
			(syn->complete || dc_gossip_is_news(g, node)))
			add_delta(g, ack, node, 0, 0, left_bytes);
	}
}

/* ---- answers ------------------------------------------------------------ */

/* Do we ask for it since longer than this datagram does? */
static bool
is_question(const DcGossip *g, const DcGossipNode *node,
			const DcGossipMessage *syn, const Places places)
{
	uint8_t place = places[node->node_id];

	if (node == &g->nodes[0] || !dc_gossip_is_urgent(g, node) ||
		!mentionable(g, node))
		return false;
	return place == 0 ||
		   (node->doubt_us != 0 && syn->digests[place - 1].doubt_ms <
									   dc_gossip_age(g, node->doubt_us));
}

/* Urgent nodes of which the sender says nothing, or less than we know. */
static void
add_questions(DcGossip *g, DcGossipMessage *ack, const DcGossipMessage *syn,
			  const Places places)
{
	uint32_t start = g->hot_count > 0 ? dc_gossip_draw(g, g->hot_count) : 0;
	Places added = {0};

	for (uint32_t i = 0; i < g->hot_count && ack->digest_count < ASKED_MAX; i++)
	{
		const DcGossipNode *node =
			&g->nodes[g->hot[(start + i) % g->hot_count]];

		if (is_question(g, node, syn, places) && !DC_CANARY(DC_CANARY_FORWARD))
			add_digest(g, ack, node, added);
	}
}

static void
add_wanted(const DcGossip *g, DcGossipMessage *ack,
		   const DcGossipDigest *digest)
{
	const DcGossipNode *node = dc_gossip_node(g, digest->node_id);
	DcGossipDigest *wanted = &ack->digests[ack->digest_count];

	if (node == &g->nodes[0] || ack->digest_count == WANTED_MAX ||
		(node != NULL &&
		 dc_gossip_compare(digest->incarnation, digest->version,
						   node->incarnation, node->version) <= 0))
		return;
	for (uint32_t i = 0; i < ack->digest_count && i < ASKED_MAX; i++)
	{
		if (ack->digests[i].node_id == digest->node_id)
			return;
	}
	wanted->node_id = digest->node_id;
	wanted->incarnation = node != NULL ? node->incarnation : 0;
	wanted->version = node != NULL ? version_of(node) : 0;
	wanted->age_ms = node != NULL ? age_of(g, node) : DC_GOSSIP_AGE_MAX;
	wanted->doubt_ms = 0;
	ack->digest_count++;
}

void
dc_gossip_answer_syn(DcGossip *g, const char *from, const DcGossipMessage *syn,
					 DcGossipOutput *out)
{
	uint32_t start =
		syn->digest_count > 0 ? dc_gossip_draw(g, syn->digest_count) : 0;
	size_t left_bytes = DC_GOSSIP_BODY_BYTES_MAX - 2;
	Places places = {0};
	DcGossipMessage ack;

	prepare(g, &ack, DC_GOSSIP_ACK, syn->header.boot);
	for (uint32_t i = 0; i < syn->digest_count; i++)
		places[syn->digests[i].node_id] = (uint8_t) (i + 1);
	add_questions(g, &ack, syn, places);
	for (uint32_t i = 0; i < syn->digest_count; i++)
		add_wanted(g, &ack, &syn->digests[(start + i) % syn->digest_count]);
	left_bytes -= DC_GOSSIP_DIGEST_BYTES * ack.digest_count;
	/* Who calls without a word of us does not know us. */
	if (places[g->nodes[0].node_id] == 0)
	{
		add_delta(g, &ack, &g->nodes[0], 0, 0, &left_bytes);
		places[g->nodes[0].node_id] = 1;
	}
	add_newer(g, &ack, syn, true, &left_bytes);
	if (DC_CANARY(DC_CANARY_NEWS))
		add_newer(g, &ack, syn, false, &left_bytes);
	/* before heartbeats, which would leave no room for a description */
	add_unmentioned(g, &ack, syn, places, &left_bytes);
	if (!DC_CANARY(DC_CANARY_NEWS))
		add_newer(g, &ack, syn, false, &left_bytes);
	send_to(from, &ack, out);
}

void
dc_gossip_answer_ack(DcGossip *g, const char *from, const DcGossipMessage *ack,
					 DcGossipOutput *out)
{
	size_t left_bytes = DC_GOSSIP_BODY_BYTES_MAX - 2;
	DcGossipMessage ack2;

	prepare(g, &ack2, DC_GOSSIP_ACK2, ack->header.boot);
	add_newer(g, &ack2, ack, true, &left_bytes);
	add_newer(g, &ack2, ack, false, &left_bytes);
	if (ack2.delta_count > 0)
		send_to(from, &ack2, out);
}
