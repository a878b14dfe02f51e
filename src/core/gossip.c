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

/* A description is news for this many rounds and goes out first. */
#define NEWS_ROUNDS  40
#define NEWS_DIGESTS (DC_GOSSIP_DIGESTS_MAX / 2)

/* Wanted digests take at most this part of an ACK; deltas get the rest. */
#define WANTED_MAX (DC_GOSSIP_DIGESTS_MAX / 2)

/* Both claimants of an id are told this often. */
#define CLASH_TOLD_US (UINT64_C(2) * 1000000)

#define HELLO_CREDIT_MAX 8

#define INTERVAL_US_MAX (UINT64_C(3600) * 1000000)

static const char *const state_names[] = {"unknown", "alive", "suspect", "dead",
										  "left"};

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

static bool
is_news(const DcGossip *g, const DcGossipNode *node)
{
	return g->now_us - node->news_us < NEWS_ROUNDS * g->config.interval_us;
}

static void
add_digest(DcGossipMessage *message, const DcGossipNode *node, bool *mentioned)
{
	DcGossipDigest *digest = &message->digests[message->digest_count++];

	mentioned[node->node_id] = true;
	digest->node_id = node->node_id;
	digest->incarnation = node->incarnation;
	digest->version = node->version;
}

/* This node, then what is news, then as many others as fit. */
static void
choose_digests(DcGossip *g, DcGossipMessage *message)
{
	bool mentioned[DC_NODE_IDS] = {false};
	uint32_t start = dc_gossip_draw(g, g->capacity);

	add_digest(message, &g->nodes[0], mentioned);
	message->complete = true;
	for (int pass = 0; pass < 2; pass++)
	{
		uint32_t limit = pass == 0 ? NEWS_DIGESTS : DC_GOSSIP_DIGESTS_MAX;

		for (uint32_t i = 0; i < g->capacity; i++)
		{
			const DcGossipNode *node = &g->nodes[(start + i) % g->capacity];

			if (!mentionable(g, node) || mentioned[node->node_id] ||
				(pass == 0 && !is_news(g, node)))
				continue;
			if (message->digest_count < limit)
				add_digest(message, node, mentioned);
			else if (pass == 1) /* not simulated: more than 60 nodes */
				message->complete = false;
		}
	}
}

static void
send_syn(DcGossip *g, const char *address, uint64_t receiver_boot,
		 DcGossipOutput *out)
{
	DcGossipMessage message;

	prepare(g, &message, DC_GOSSIP_SYN, receiver_boot);
	if (receiver_boot != 0)
		choose_digests(g, &message);
	send_to(address, &message, out);
}

/*
 * Answers a SYN that cannot be checked: with nothing but what makes the next
 * one checkable.
 */
static void
send_hello(DcGossip *g, const char *from, const DcGossipHeader *header,
		   DcGossipOutput *out)
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

static void
send_clash(DcGossip *g, const char *to, uint64_t receiver_boot,
		   uint64_t incarnation, uint64_t boot, const char *address,
		   DcGossipOutput *out)
{
	DcGossipMessage message;

	prepare(g, &message, DC_GOSSIP_CLASH, receiver_boot);
	message.claim.incarnation = incarnation;
	message.claim.boot = boot;
	message.claim.address = dc_gossip_slice(address);
	send_to(to, &message, out);
}

/*
 * Adds what a receiver lacks that has `node` up to this version.  Returns
 * false if it does not fit any more.
 */
static bool
add_delta(DcGossipMessage *message, const DcGossipNode *node,
		  uint64_t incarnation, uint64_t version, size_t *left_bytes)
{
	DcGossipDelta delta;
	size_t bytes;

	memset(&delta, 0, sizeof(delta));
	delta.node_id = node->node_id;
	delta.incarnation = node->incarnation;
	delta.version = node->version;
	delta.config_version = node->config_version;
	delta.floor = node->floor;
	delta.epoch = node->epoch;
	delta.closed = node->closed;
	delta.disputed = node->disputed;
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
		return false; /* not simulated: more nodes than fit a datagram */
	*left_bytes -= bytes;
	message->deltas[message->delta_count++] = delta;
	return true;
}

/* ---- taking in ---------------------------------------------------------- */

static void
adopt_description(DcGossip *g, DcGossipNode *node, const DcGossipDelta *delta)
{
	node->incarnation = delta->incarnation;
	node->boot = delta->boot;
	node->config_version = delta->config_version;
	node->wire_version = delta->wire_version;
	node->left = delta->left;
	node->described = true;
	node->news_us = g->now_us;
	dc_gossip_copy(node->name, sizeof(node->name), delta->name);
	dc_gossip_copy(node->data_center, sizeof(node->data_center),
				   delta->data_center);
	dc_gossip_copy(node->address, sizeof(node->address), delta->address);
	dc_gossip_copy(node->conninfo, sizeof(node->conninfo), delta->conninfo);
	if (dc_gossip_compare(delta->incarnation, delta->boot,
						  node->session.incarnation, node->session.boot) > 0)
		dc_gossip_shift_session(g, node, delta->incarnation, delta->boot);
}

static void
adopt_delta(DcGossip *g, const DcGossipDelta *delta, uint32_t sender,
			const char *from, DcGossipOutput *out)
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
		return;
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
	node->floor = delta->floor;
	node->epoch = delta->epoch;
	node->closed = delta->closed;
	node->disputed = delta->disputed;
	node->clock = delta->clock;
	if (dc_gossip_compare(node->incarnation, node->boot,
						  node->session.incarnation, node->session.boot) == 0)
		node->session_heard_us = g->now_us;
	if (delta->version > node->seen_version || restarted)
		node->seen_version = delta->version;
	dc_gossip_note_life(g, node, sender == delta->node_id, out);
	if (restarted)
		dc_gossip_add_node_event(out, DC_GOSSIP_EVENT_RESTART, node);
	else if (changed)
		dc_gossip_add_node_event(out, DC_GOSSIP_EVENT_CONFIG, node);
}

/* A digest alone already tells that its node lived to make the version. */
static void
note_digest(DcGossip *g, const DcGossipDigest *digest, DcGossipOutput *out)
{
	DcGossipNode *node = dc_gossip_node(g, digest->node_id);

	if (node == NULL)
		return;
	if (node == &g->nodes[0])
		dc_gossip_hear_of_self(g, digest->incarnation, 0, digest->version, "",
							   out);
	else if (digest->incarnation == node->incarnation &&
			 digest->version > node->seen_version)
	{
		node->seen_version = digest->version;
		dc_gossip_note_life(g, node, false, out);
	}
}

/* SYN -> ACK: what I want, and what the sender lacks. */
static void
answer_syn(DcGossip *g, const char *from, const DcGossipMessage *syn,
		   DcGossipOutput *out)
{
	bool mentioned[DC_NODE_IDS] = {false};
	size_t left_bytes = DC_GOSSIP_BODY_BYTES_MAX - 2;
	uint32_t start =
		syn->digest_count > 0 ? dc_gossip_draw(g, syn->digest_count) : 0;
	DcGossipMessage ack;

	prepare(g, &ack, DC_GOSSIP_ACK, syn->header.boot);
	/* From a random place on, so that what does not fit is not always last. */
	for (uint32_t i = 0; i < syn->digest_count; i++)
	{
		const DcGossipDigest *digest =
			&syn->digests[(start + i) % syn->digest_count];
		const DcGossipNode *node = dc_gossip_node(g, digest->node_id);
		DcGossipDigest *wanted = &ack.digests[ack.digest_count];

		mentioned[digest->node_id] = true;
		if (node == &g->nodes[0] || ack.digest_count == WANTED_MAX ||
			(node != NULL &&
			 dc_gossip_compare(digest->incarnation, digest->version,
							   node->incarnation, node->version) <= 0))
			continue;
		wanted->node_id = digest->node_id;
		wanted->incarnation = node != NULL ? node->incarnation : 0;
		wanted->version = node != NULL ? node->version : 0;
		ack.digest_count++;
		left_bytes -= DC_GOSSIP_DIGEST_BYTES;
	}
	for (uint32_t i = 0; i < syn->digest_count; i++)
	{
		const DcGossipDigest *digest =
			&syn->digests[(start + i) % syn->digest_count];
		const DcGossipNode *node = dc_gossip_node(g, digest->node_id);

		if (node != NULL && mentionable(g, node) &&
			dc_gossip_compare(node->incarnation, node->version,
							  digest->incarnation, digest->version) > 0)
			add_delta(&ack, node, digest->incarnation, digest->version,
					  &left_bytes);
	}
	/*
	 * What the sender does not mention it lacks, if it mentioned all; news it
	 * would have mentioned first.
	 */
	for (uint32_t i = 0; i < g->capacity; i++)
	{
		const DcGossipNode *node = &g->nodes[(start + i) % g->capacity];

		if (mentionable(g, node) && !mentioned[node->node_id] &&
			node->node_id != syn->header.node_id &&
			(syn->complete || is_news(g, node)))
			add_delta(&ack, node, 0, 0, &left_bytes);
	}
	send_to(from, &ack, out);
}

/* ACK -> ACK2: what the other side wanted. */
static void
answer_ack(DcGossip *g, const char *from, const DcGossipMessage *ack,
		   DcGossipOutput *out)
{
	size_t left_bytes = DC_GOSSIP_BODY_BYTES_MAX - 2;
	uint32_t start =
		ack->digest_count > 0 ? dc_gossip_draw(g, ack->digest_count) : 0;
	DcGossipMessage ack2;

	prepare(g, &ack2, DC_GOSSIP_ACK2, ack->header.boot);
	for (uint32_t i = 0; i < ack->digest_count; i++)
	{
		const DcGossipDigest *digest =
			&ack->digests[(start + i) % ack->digest_count];
		const DcGossipNode *node = dc_gossip_node(g, digest->node_id);

		if (node != NULL && mentionable(g, node) &&
			dc_gossip_compare(node->incarnation, node->version,
							  digest->incarnation, digest->version) > 0)
			add_delta(&ack2, node, digest->incarnation, digest->version,
					  &left_bytes);
	}
	if (ack2.delta_count > 0)
		send_to(from, &ack2, out);
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
	self->news_us = g->now_us;
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
	send_syn(g, from, hello->header.boot, out);
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
			send_hello(g, from, header, out);
		return DC_IDENTITY;
	}
	dc_gossip_note_rival(g, header->incarnation, header->boot, from, out);
	if (header->kind == DC_GOSSIP_HELLO && g->hello_credit > 0)
	{
		g->hello_credit--;
		send_syn(g, from, header->boot, out);
	}
	return DC_IDENTITY;
}

/*
 * The latest start fell silent, and nobody forwards what it says: who is left
 * speaks for the node again.
 */
static void
take_back(DcGossip *g, DcGossipNode *node)
{
	DcReplayWindow window = node->previous.window;

	dc_gossip_shift_session(g, node, node->previous.incarnation,
							node->previous.boot);
	node->session.window = window;
}

/*
 * Somebody speaks under the latest start and an outdated one: tell both.  If
 * the latest is taken for dead, the outdated one is left to notice that by
 * itself.
 */
static void
judge_outdated(DcGossip *g, DcGossipNode *node, const char *from,
			   const DcGossipHeader *header, DcGossipOutput *out)
{
	const DcGossipSession *session = &node->session;
	const char *other = strcmp(node->seen_address, from) != 0 ?
							node->seen_address :
							node->address;

	/* It may have started more than once before the latest did. */
	if (dc_gossip_compare(header->incarnation, header->boot,
						  node->previous.incarnation, node->previous.boot) > 0)
	{
		memset(&node->previous, 0, sizeof(node->previous));
		node->previous.incarnation = header->incarnation;
		node->previous.boot = header->boot;
	}
	if (node->state == DC_GOSSIP_DEAD ||
		header->incarnation != node->previous.incarnation ||
		header->boot != node->previous.boot ||
		!dc_replay_accept(&node->previous.window, header->sequence) ||
		g->now_us - node->session_since_us < DC_GOSSIP_RIVAL_US)
		return;
	if (g->now_us - node->session_heard_us > dc_gossip_clash_us(g) &&
		!DC_CANARY(DC_CANARY_R15))
	{
		take_back(g, node);
		return;
	}
	dc_gossip_note_clash(g, node, header->incarnation, header->boot, from, out);
	if (node->clash_told_us != 0 &&
		g->now_us - node->clash_told_us < CLASH_TOLD_US)
		return;
	node->clash_told_us = g->now_us;
	send_clash(g, from, header->boot, session->incarnation, session->boot,
			   other, out);
	send_clash(g, other, session->boot, header->incarnation, header->boot, from,
			   out);
}

static DcStatus
judge_sender(DcGossip *g, DcGossipNode *node, const char *from,
			 const DcGossipHeader *header, DcGossipOutput *out)
{
	int order =
		dc_gossip_compare(header->incarnation, header->boot,
						  node->session.incarnation, node->session.boot);

	if (order < 0)
	{
		judge_outdated(g, node, from, header, out);
		if (header->kind == DC_GOSSIP_SYN)
			send_hello(g, from, header, out);
		return DC_IDENTITY;
	}
	if (order > 0)
		dc_gossip_shift_session(g, node, header->incarnation, header->boot);
	if (!dc_replay_accept(&node->session.window, header->sequence))
		return DC_REPLAYED;
	node->session_heard_us = g->now_us;
	return DC_OK;
}

static void
note_contact(DcGossip *g, DcGossipNode *node, const char *from,
			 const DcGossipHeader *header, DcGossipOutput *out)
{
	int64_t offset_us = (int64_t) header->sent_at_us - (int64_t) g->wall_us;

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
	if (node->described && !node->left)
		dc_gossip_note_life(g, node, true, out);
}

static void
take_message(DcGossip *g, const char *from, const DcGossipMessage *message,
			 DcGossipOutput *out)
{
	for (uint32_t i = 0; i < message->digest_count; i++)
		note_digest(g, &message->digests[i], out);
	for (uint32_t i = 0; i < message->delta_count; i++)
		adopt_delta(g, &message->deltas[i], message->header.node_id, from, out);
	switch (message->header.kind)
	{
		case DC_GOSSIP_SYN:
			answer_syn(g, from, message, out);
			break;
		case DC_GOSSIP_HELLO:
			take_hello(g, from, message, out);
			break;
		case DC_GOSSIP_ACK:
			answer_ack(g, from, message, out);
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
		send_hello(g, from, header, out);
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
			send_hello(g, from, header, out);
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
	take_message(g, from, &message, out);
	return DC_OK;
}

/* ---- rounds ------------------------------------------------------------- */

/*
 * If this process was stopped, everybody seems silent.  The time in which
 * nobody listened does not count.
 */
static void
forgive_pause(DcGossip *g)
{
	uint64_t usual_us = 2 * g->config.interval_us;
	uint64_t gap_us = g->now_us - g->last_round_us;

	if (g->last_round_us == 0 || gap_us <= usual_us)
		return;
	for (uint32_t i = 1; i < g->capacity; i++)
	{
		if (g->nodes[i].node_id != 0)
			dc_phi_skip(&g->nodes[i].phi, gap_us - usual_us, g->now_us);
	}
}

static void
judge_silence(DcGossip *g, DcGossipOutput *out)
{
	for (uint32_t i = 1; i < g->capacity; i++)
	{
		DcGossipNode *node = &g->nodes[i];
		double phi;

		if (node->node_id == 0)
			continue;
		/* The rest waits for the next round rather than going unreported. */
		if (out->event_count + 2 > DC_GOSSIP_EVENTS_MAX)
			return; /* not simulated: dozens of nodes fall silent at once */
		if (node->state == DC_GOSSIP_LEFT &&
			g->now_us - node->since_us > g->config.forget_us)
		{
			dc_gossip_drop_node(g, node);
			continue;
		}
		phi = dc_phi(&node->phi, g->now_us);
		if (phi >= g->config.phi_suspect)
			dc_gossip_move(g, node, DC_GOSSIP_SUSPECT, out);
		if (phi >= g->config.phi_dead)
			dc_gossip_move(g, node, DC_GOSSIP_DEAD, out);
	}
}

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

static bool
is_silent(const DcGossipNode *node)
{
	return node->state == DC_GOSSIP_DEAD || node->state == DC_GOSSIP_LEFT;
}

/* A SYN of our own accord; a HELLO may answer it once. */
static void
call(DcGossip *g, const char *address, uint64_t receiver_boot,
	 DcGossipOutput *out)
{
	if (g->hello_credit < HELLO_CREDIT_MAX)
		g->hello_credit++;
	send_syn(g, address, receiver_boot, out);
}

/* Some node, of the silent ones or of the others; NULL: none.  Counts them. */
static const DcGossipNode *
pick_node(DcGossip *g, bool silent, uint32_t *count)
{
	const DcGossipNode *picked = NULL;

	*count = 0;
	for (uint32_t i = 1; i < g->capacity; i++)
	{
		const DcGossipNode *node = &g->nodes[i];

		if (node->node_id == 0 || is_silent(node) != silent ||
			(node->address[0] == '\0' && node->seen_address[0] == '\0'))
			continue;
		if (dc_gossip_draw(g, ++*count) == 0)
			picked = node;
	}
	return picked;
}

/* Seeds that are a node we talk to anyway need no extra call. */
static bool
seed_is_known(const DcGossip *g, const char *seed)
{
	for (uint32_t i = 0; i < g->capacity; i++)
	{
		const DcGossipNode *node = &g->nodes[i];

		if (node->node_id != 0 && !is_silent(node) &&
			(strcmp(node->address, seed) == 0 ||
			 strcmp(node->seen_address, seed) == 0))
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
		if (!g->seed_is_self[i] && !seed_is_known(g, g->seeds[i]) &&
			dc_gossip_draw(g, ++count) == 0)
			picked = g->seeds[i];
	}
	if (picked != NULL)
		call(g, picked, 0, out);
}

/*
 * One live node each round; now and then a silent one, so that it comes back
 * and a divided cluster heals; a seed that is none of ours every other round,
 * so that clusters that never met find each other.
 */
static void
contact(DcGossip *g, DcGossipOutput *out)
{
	uint32_t live_count;
	uint32_t silent_count;
	const DcGossipNode *live = pick_node(g, false, &live_count);
	const DcGossipNode *silent = pick_node(g, true, &silent_count);

	if (live != NULL)
		call(g, address_of(g, live), live->session.boot, out);
	if (silent != NULL && dc_gossip_draw(g, live_count + 1) < silent_count)
		call(g, address_of(g, silent), silent->session.boot, out);
	if (live == NULL)
		contact_seed(g, out);
	if (live == NULL || dc_gossip_draw(g, 2) == 0)
		contact_seed(g, out);
}

static void
beat(DcGossip *g)
{
	DcGossipNode *self = &g->nodes[0];

	/* The version follows the clock: a restart begins above it. */
	self->version = g->now_us > self->version ? g->now_us : self->version + 1;
	self->heard_us = g->now_us;
	self->disputed = dc_gossip_rival(g) != NULL;
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
	forgive_pause(g);
	g->last_round_us = g->now_us;
	/* Spread by a tenth either way: rounds of a cluster must not align. */
	g->next_round_us = g->now_us + interval_us - interval_us / 10 +
					   dc_gossip_draw(g, (uint32_t) (interval_us / 5) + 1);
	beat(g);
	judge_silence(g, out);
	contact(g, out);
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
	dc_gossip_set_time(g, now_us);
	g->random = random;
	g->slot_of[config->node_id] = 1;
	nodes[0].node_id = config->node_id;
	nodes[0].incarnation = config->incarnation;
	nodes[0].wire_version = config->wire_version;
	nodes[0].state = DC_GOSSIP_ALIVE;
	nodes[0].since_us = nodes[0].heard_us = now_us;
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
		node->news_us = g->now_us;
	}
	return DC_OK;
}

void
dc_gossip_reincarnate(DcGossip *g, uint64_t incarnation, uint64_t now_us)
{
	dc_gossip_set_time(g, now_us);
	g->config.incarnation = g->nodes[0].incarnation = incarnation;
	dc_gossip_start_self(g, g->nodes[0].version + 1);
}

void
dc_gossip_progress(DcGossip *g, DcHlc floor, uint64_t epoch, bool closed,
				   DcHlc clock)
{
	g->nodes[0].floor = floor;
	g->nodes[0].epoch = epoch;
	g->nodes[0].closed = closed;
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
	node->clock = from->clock;
	node->wire_version = from->wire_version;
	node->state = from->state;
	node->left = from->state == DC_GOSSIP_LEFT;
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
	self->news_us = g->now_us;
	dc_gossip_move(g, self, DC_GOSSIP_LEFT, out);
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
