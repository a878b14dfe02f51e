/*
 * gossip.c
 *		The core's gossip among the servers, and what a node makes of it.
 *
 * A microsecond of the simulation is a millisecond of gossip: its silences and
 * deadlines are seconds, a run is a tenth of one.  Each server has an address
 * for each other one, "10.0.0.N" or "127.0.0.N".  What gossip says of a node is
 * copied into `report` (floors, epochs); who is alive, where, and whether two
 * speak as one (R15) is asked of the machine itself.
 */
#include "cluster.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SCALE       1000
#define HOLD_ROUNDS 20

/* ---- names -------------------------------------------------------------- */

static Voice *
voice_of(Sim *sim, const Node *node)
{
	return &sim->voice[node->index];
}

static uint64_t
gossip_now(const Sim *sim, const Node *node)
{
	int64_t skew = node->skew_us * (SCALE / 10);

	return (uint64_t) ((int64_t) (sim->now_us + 10000000) * SCALE + skew);
}

/* How `from` is seen by `to`: some pairs share a machine. */
static const char *
address_of(const Sim *sim, uint32_t from, uint32_t to, char text[24])
{
	bool near = sim->config.loopback && (from + to) % 2 == 0;

	snprintf(text, 24, "%s.0.0.%u", near ? "127" : "10", from + 1);
	return text;
}

/* The server at an address; SERVERS_MAX: none. */
static uint32_t
server_at(const char *address)
{
	const char *last = strrchr(address, '.');
	unsigned long number = last != NULL ? strtoul(last + 1, NULL, 10) : 0;

	return number > 0 && number <= SERVERS_MAX ? (uint32_t) number - 1 :
												 SERVERS_MAX;
}

/* The server that speaks as this node, as far as `node` knows. */
uint32_t
gossip_server(Sim *sim, const Node *node, uint32_t index)
{
	const DcGossipNode *n =
		dc_gossip_find(&voice_of(sim, node)->gossip, index + 1);
	uint32_t server = SERVERS_MAX;

	if (n != NULL && n->described)
		server =
			server_at(n->address[0] != '\0' ? n->address : n->seen_address);
	return server == SERVERS_MAX ? index : server;
}

/* ---- verdicts ----------------------------------------------------------- */

/* R15: does another server speak as this node itself? */
bool
gossip_has_rival(Sim *sim, const Node *node)
{
	return dc_gossip_rival(&voice_of(sim, node)->gossip) != NULL &&
		   !DEFECT(sim, DEFECT_R15_VERDICT) && !DEFECT(sim, DEFECT_R15_PEERS);
}

/* R15: two servers speak as this node, or did a moment ago. */
bool
gossip_disputes(Sim *sim, const Node *node, uint32_t index)
{
	const Voice *v = voice_of(sim, node);
	const DcGossipNode *n = dc_gossip_find(&v->gossip, index + 1);

	if (n == NULL || DEFECT(sim, DEFECT_R15_VERDICT) ||
		DEFECT(sim, DEFECT_R15_SELF))
		return false;
	if (DEFECT(sim, DEFECT_R15_EARLY))
		return v->gossip.now_us <
			   v->disputed_us[index] + 5 * v->gossip.config.interval_us;
	return dc_gossip_disputed(&v->gossip, n) ||
		   v->gossip.now_us < v->held_until_us[index];
}

/* Is there a node to call at that server, and may it be called? */
bool
gossip_wants(Sim *sim, const Node *node, uint32_t server)
{
	uint32_t index = sim->node[server].self;
	const DcGossipNode *n =
		dc_gossip_find(&voice_of(sim, node)->gossip, index + 1);

	if (index == node->self || gossip_has_rival(sim, node) ||
		gossip_disputes(sim, node, index) ||
		gossip_server(sim, node, index) != server)
		return false;
	return !sim->config.by_gossip ||
		   (n != NULL && n->described &&
			(n->state == DC_GOSSIP_ALIVE || n->state == DC_GOSSIP_SUSPECT));
}

/* Does gossip know the caller, if it knows him, as this life of his? */
bool
gossip_admits(Sim *sim, const Node *node, uint32_t index, uint64_t incarnation)
{
	const DcGossipNode *n =
		dc_gossip_find(&voice_of(sim, node)->gossip, index + 1);

	if (gossip_has_rival(sim, node) || gossip_disputes(sim, node, index))
		return false;
	return !sim->config.by_gossip || n == NULL || !n->described ||
		   n->incarnation == incarnation;
}

/* ---- reports ------------------------------------------------------------ */

Report
report_own(Sim *sim, const Node *node)
{
	DcMembers *members = list_expand(&node->disk.list, &sim->members[0]);
	const DcHlc *durable =
		DEFECT(sim, DEFECT_R7) ? node->mem.vector : node->disk.vector;
	Report r = {.incarnation = node->mem.incarnation,
				.version = sim->now_us + 1,
				.epoch = dc_members_digest(members),
				.clock = node->clock};
	uint32_t others;

	vector_expand(durable, &sim->vv[0]);
	if (!node->disk.joining)
		r.floor = dc_members_floor(members, &sim->vv[0]);
	others = list_present(&node->disk.list) & ~BIT(node->self);
	r.closed = (others & ~node->closed) == 0 &&
			   (node->closed_epoch == r.epoch || DEFECT(sim, DEFECT_R11_LIST));
	return r;
}

/* Another incarnation of a node that was alive a moment ago is held. */
static void
copy_report(Sim *sim, Node *node, uint32_t index)
{
	Voice *v = voice_of(sim, node);
	const DcGossipNode *n = dc_gossip_find(&v->gossip, index + 1);
	Report *r = &node->report[index];
	bool disputed;

	if (n == NULL || !n->described)
		return;
	disputed = dc_gossip_disputed(&v->gossip, n);
	if (disputed && !v->was_disputed[index])
		v->disputed_us[index] = v->gossip.now_us;
	v->was_disputed[index] = disputed;
	if (index == node->self)
		return;
	if (r->incarnation != 0 && r->incarnation != n->incarnation &&
		sim->config.by_gossip)
		v->held_until_us[index] =
			v->gossip.now_us + HOLD_ROUNDS * v->gossip.config.interval_us;
	if (r->incarnation == n->incarnation && r->version == n->version)
		return;
	*r = (Report){.incarnation = n->incarnation,
				  .version = n->version,
				  .heard_us = sim->now_us,
				  .floor = n->floor,
				  .epoch = n->epoch,
				  .clock = n->clock,
				  .closed = n->closed};
}

/*
 * When a rival has fallen silent, who is left goes on under a greater
 * incarnation, or the peers would wait for the other.
 */
static void
watch_rival(Sim *sim, Node *node)
{
	Voice *v = voice_of(sim, node);
	bool here = dc_gossip_rival(&v->gossip) != NULL;

	v->outlived |= v->rival_seen && !here;
	v->rival_seen = here;
	if (!v->outlived || here || node->mem.outcast)
		return;
	node->mem.ghosts = true;
	if (!member_reincarnate(sim, node, "its rival fell silent"))
		return;
	v->outlived = false;
	sim->stats.survivors++;
}

/* Takes over what the machine knows now, and does what it asks for. */
static void
follow(Sim *sim, Node *node)
{
	DcGossipOutput *out = &sim->gossip_out;

	for (uint32_t i = 0; i < out->send_count; i++)
	{
		const DcGossipSend *send = &out->sends[i];
		uint32_t to = server_at(send->address);
		Datagram *d;
		DcAssociated binding;

		if (to >= sim->servers)
			continue;
		d = net_datagram(sim, node->index, to);
		binding = (DcAssociated){.direction = 'G',
								 .sender = node->index + 1,
								 .receiver = to + 1};
		memcpy(d->message.bytes, send->bytes, send->length);
		d->message.length = (uint32_t) send->length;
		net_seal(sim, &d->message, &binding);
		net_datagram_send(sim, d);
	}
	sim->stats.events += out->event_count;
	for (uint32_t i = 0; i < out->event_count; i++)
	{
		sim->stats.event[out->events[i].kind]++;
		if (dc_gossip_state_name(out->events[i].to)[0] == '?')
			sim_fail(sim, "gossip tells of a state without a name");
	}
	for (uint32_t i = 0; i < NODES_MAX; i++)
		copy_report(sim, node, i);
	watch_rival(sim, node);
}

/* ---- life --------------------------------------------------------------- */

static void
set_seeds(Sim *sim, Node *node)
{
	char text[SERVERS_MAX][24];
	const char *seeds[SERVERS_MAX + 1] = {""}; /* a comma too many */
	uint32_t count = rng_below(&sim->rng, 2);

	for (uint32_t i = 0; i < sim->servers; i++)
	{
		if (!sim->node[i].used || !sim->node[i].contacts)
			continue; /* its own address may be among them */
		seeds[count] = address_of(sim, i, node->index, text[i]);
		count++;
	}
	dc_gossip_set_seeds(&voice_of(sim, node)->gossip, seeds, count);
}

/* Some of what it knew may be lost. */
static void
restore(Sim *sim, Node *node)
{
	Voice *v = voice_of(sim, node);

	for (uint32_t i = 0; i < v->saved_count; i++)
	{
		if (rng_chance(&sim->rng, 3, 4))
			(void) dc_gossip_restore(&v->gossip, &v->saved[i],
									 gossip_now(sim, node));
	}
	if (v->saved_count > 0 &&
		dc_gossip_restore(&v->gossip, &v->known[0], gossip_now(sim, node)))
		sim_fail(sim, "gossip restores what it has");
}

static void
describe(Sim *sim, Node *node)
{
	Voice *v = voice_of(sim, node);
	char address[24] = "";
	char name[32];
	DcGossipSelf self = {.name = name,
						 .data_center = "dc",
						 .address = address,
						 .conninfo = "host=x"};

	snprintf(name, sizeof(name), "node%u-%u", node_id(node), v->described++);
	if (!sim->config.loopback)
		snprintf(address, sizeof(address), "10.0.0.%u", node->index + 1);
	if (dc_gossip_describe(&v->gossip, &self, gossip_now(sim, node)) != DC_OK)
		sim_fail(sim, "gossip refuses its own description");
}

/* What an administrator may not ask for. */
static void
refuses_nonsense(Sim *sim, Node *node, const DcGossipConfig *config)
{
	Voice *v = voice_of(sim, node);
	DcGossipConfig wrong = *config;
	DcGossipSelf self = {"two\nlines", "dc", "", ""};

	wrong.interval_us = 1;
	if (dc_gossip_init(&v->gossip, &wrong, v->known, sim->config.slots,
					   gossip_now(sim, node), 1) != DC_MALFORMED ||
		dc_gossip_describe(&v->gossip, &self, gossip_now(sim, node)) !=
			DC_MALFORMED)
		sim_fail(sim, "gossip takes nonsense");
}

void
gossip_start(Sim *sim, Node *node)
{
	Voice *v = voice_of(sim, node);
	DcGossipConfig config = {.node_id = node_id(node),
							 .incarnation = node->mem.incarnation,
							 .cluster_hash = 1,
							 .wire_version =
								 dc_versions_pack(dc_versions_own()),
							 .interval_us =
								 (uint64_t) sim->config.round_us * SCALE,
							 .phi_suspect = DC_GOSSIP_PHI_SUSPECT,
							 .phi_dead = DC_GOSSIP_PHI_DEAD,
							 .forget_us = 20000000};

	v->rival_seen = v->outlived = false;
	memset(v->held_until_us, 0, sizeof(v->held_until_us));
	memset(v->was_disputed, 0, sizeof(v->was_disputed));
	if (rng_chance(&sim->rng, 1, 100))
		refuses_nonsense(sim, node, &config);
	if (dc_gossip_init(&v->gossip, &config, v->known, sim->config.slots,
					   gossip_now(sim, node), rng_next(&sim->rng)) != DC_OK)
		sim_fail(sim, "gossip does not start");
	restore(sim, node);
	describe(sim, node);
}

/* It says goodbye, and stops a little later. */
void
gossip_leave(Sim *sim, Node *node)
{
	dc_gossip_leave(&voice_of(sim, node)->gossip, gossip_now(sim, node),
					rng_next(&sim->rng), &sim->gossip_out);
	follow(sim, node);
}

/* What the last run of the server knew, as the table of nodes has it. */
void
gossip_stop(Sim *sim, Node *node)
{
	Voice *v = voice_of(sim, node);

	v->saved_count = 0;
	for (uint32_t i = 1; i < sim->config.slots; i++)
	{
		if (v->known[i].described)
			v->saved[v->saved_count++] = v->known[i];
	}
}

void
gossip_reincarnate(Sim *sim, Node *node)
{
	Voice *v = voice_of(sim, node);

	v->outlived = false;
	dc_gossip_reincarnate(&v->gossip, node->mem.incarnation,
						  gossip_now(sim, node));
}

/* The list says that it was removed: its record is not kept for long. */
void
gossip_forget(Sim *sim, Node *node, uint32_t index)
{
	dc_gossip_forget(&voice_of(sim, node)->gossip, index + 1);
	memset(&node->report[index], 0, sizeof(node->report[index]));
}

/* ---- rounds ------------------------------------------------------------- */

void
gossip_step(Sim *sim, Node *node)
{
	Voice *v = voice_of(sim, node);
	uint64_t now = gossip_now(sim, node);
	Report own;

	if (node->mem.outcast || !node->contacts)
		return;
	if (now < dc_gossip_deadline(&v->gossip) && !rng_chance(&sim->rng, 1, 99))
		return;
	own = report_own(sim, node);
	set_seeds(sim, node);
	if (!sim->calm && rng_chance(&sim->rng, 1, 500))
		describe(sim, node);
	dc_gossip_progress(&v->gossip, own.floor, own.epoch, own.closed,
					   node->mem.joining, false, own.clock);
	dc_gossip_tick(&v->gossip, now, rng_next(&sim->rng), &sim->gossip_out);
	follow(sim, node);
}

/* Whatever the bytes are: a message that is taken has one encoding only. */
static void
read_nonsense(Sim *sim, const Message *m)
{
	DcGossipMessage *g = &sim->gossip;
	DcDetail detail;
	uint8_t bytes[BYTES_MAX];
	uint8_t again[BYTES_MAX];
	size_t length = m->length;
	DcWriter w;

	memcpy(bytes, m->bytes, length);
	for (uint32_t i = 0; i < 3 && length > 0; i++)
		bytes[rng_below(&sim->rng, (uint32_t) length)] ^=
			(uint8_t) (1u << rng_below(&sim->rng, 8));
	if (rng_chance(&sim->rng, 1, 4))
		length = rng_below(&sim->rng, (uint32_t) length + 1);
	if (dc_gossip_decode(bytes, DC_GOSSIP_BYTES_MAX + 1, g, &detail) == DC_OK)
		sim_fail(sim, "gossip takes a datagram that is too long");
	if (dc_gossip_decode(bytes, length, g, &detail) != DC_OK)
		return;
	dc_writer_init(&w, again, sizeof(again));
	dc_gossip_encode(&w, g);
	if (w.status != DC_OK || w.length != length ||
		memcmp(again, bytes, length) != 0)
		sim_fail(sim, "a datagram of gossip has two encodings");
}

void
gossip_receive(Sim *sim, Node *node, const Datagram *d)
{
	const Message *m = &d->message;
	DcAssociated binding = {.direction = 'G',
							.sender = d->from + 1,
							.receiver = d->to + 1};
	char from[24];

	if (node->mem.outcast || !node->contacts || !net_open(sim, m, &binding))
		return;
	if (rng_chance(&sim->rng, 1, 20))
		read_nonsense(sim, m);
	sim->stats.refused +=
		dc_gossip_receive(&voice_of(sim, node)->gossip,
						  address_of(sim, d->from, d->to, from), m->bytes,
						  m->length, gossip_now(sim, node),
						  &sim->gossip_out) != DC_OK;
	follow(sim, node);
}

/* One stranger may stay, in the slot that is meant for him. */
static uint32_t
stranger_id(const Sim *sim, const Voice *v)
{
	uint32_t known = 0;

	/* the slot of a member that left he must not get, or it cannot return */
	for (uint32_t i = 0; i < sim->config.slots; i++)
		known +=
			v->known[i].node_id != 0 && v->known[i].state != DC_GOSSIP_LEFT;
	return known == sim->config.slots ? 901 : 900;
}

/*
 * A server that holds the key and has no business here: of another cluster,
 * of another version, or under an id of its own.
 */
static void
call_as_stranger(Sim *sim, uint32_t to)
{
	Rng *rng = &sim->rng;
	Node *node = &sim->node[to];
	DcGossipMessage *g = &sim->gossip;
	uint32_t kind = rng_below(rng, 4);
	uint8_t bytes[BYTES_MAX];
	char from[24];
	DcWriter w;

	if (!node->up || !node->contacts || node->mem.outcast)
		return;
	g->header =
		(DcGossipHeader){.kind = DC_GOSSIP_SYN,
						 .node_id = stranger_id(sim, &sim->voice[to]),
						 .cluster_hash = kind == 0 ? 2 : 1,
						 .incarnation = 1,
						 .boot = gossip_now(sim, node),
						 .sequence = ++sim->next_number,
						 .sent_at_us = gossip_now(sim, node),
						 .receiver_boot =
							 kind == 3 ? sim->voice[to].known[0].boot : 0};
	g->digest_count = g->delta_count = 0;
	g->complete = false;
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_gossip_encode(&w, g);
	if (kind == 1)
		bytes[rng_below(rng, 4)] ^= 3;
	snprintf(from, sizeof(from), "10.9.0.%u", 100 + rng_below(rng, 60));
	(void) dc_gossip_receive(&sim->voice[to].gossip, from, bytes, w.length,
							 gossip_now(sim, node), &sim->gossip_out);
	sim->gossip_out.send_count = 0; /* nobody is there */
	follow(sim, node);
}

/* One call, or a flood. */
void
gossip_stranger(Sim *sim)
{
	uint32_t to = rng_below(&sim->rng, sim->config.nodes);
	uint32_t calls = rng_chance(&sim->rng, 1, 10) ? 40 : 1;

	count_fault(sim, FAULT_STRANGER);
	for (uint32_t i = 0; i < calls; i++)
		call_as_stranger(sim, to);
}

/* R8: g, durable before it licenses anything. */
void
horizon_step(Sim *sim, Node *node)
{
	DcReport reports[NODES_MAX];
	DcHlc previous = node->mem.horizon;
	uint32_t counted = node->mem.counted;
	DcHorizon *horizon = &sim->horizon;
	uint32_t count;

	if (node->mem.joining || node->mem.outcast)
		return;
	count = member_reports(sim, node, reports);
	(void) horizon_expand(previous, counted, horizon);
	if (!dc_members_advance(list_expand(&node->disk.list, &sim->members[0]),
							reports, count, horizon))
		return;
	node->mem.horizon = horizon->stamp;
	node->mem.counted = horizon_counted(horizon);
	if (!DEFECT(sim, DEFECT_R8_DURABLE) && !node_commit_state(sim, node))
	{
		node->mem.horizon = previous;
		node->mem.counted = counted;
		return;
	}
	sim->stats.horizons++;
	check_horizon(sim, node);
}
