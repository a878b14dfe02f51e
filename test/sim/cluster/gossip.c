/*
 * gossip.c
 *		Datagrams that carry what each node last said of itself.
 *
 * The bytes are those of the core (gossip_wire.h); the boot of each node
 * travels behind them.
 */
#include "cluster.h"

#include <string.h>

#define TRAILER_BYTES 8

Report
report_own(Sim *sim, const Node *node)
{
	DcMembers *members = list_expand(&node->disk.list, &sim->members[0]);
	const DcHlc *durable =
		DEFECT(sim, DEFECT_R7) ? node->mem.vector : node->disk.vector;
	Report r = {.incarnation = node->mem.incarnation,
				.version = sim->now_us + 1,
				.boot = node->boot,
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

static DcAssociated
binding_of(const Datagram *d)
{
	return (DcAssociated){.direction = 'G',
						  .sender = d->from + 1,
						  .receiver = d->to + 1};
}

static void
add_report(DcGossipMessage *g, DcWriter *trailer, uint32_t index,
		   const Report *r)
{
	DcGossipDelta *delta = &g->deltas[g->delta_count++];

	*delta = (DcGossipDelta){.node_id = index + 1,
							 .incarnation = r->incarnation,
							 .version = r->version,
							 .config_version = 1,
							 .floor = r->floor,
							 .epoch = r->epoch,
							 .closed = r->closed,
							 .clock = r->clock};
	dc_write_u64(trailer, r->boot);
}

static void
send_reports(Sim *sim, Node *node, uint32_t to)
{
	Datagram *d = net_datagram(sim, node->index, to);
	DcGossipMessage *g = &sim->gossip;
	DcAssociated binding = binding_of(d);
	uint8_t bytes[TRAILER_BYTES * NODES_MAX];
	DcWriter trailer;
	DcWriter w;
	Report own = report_own(sim, node);

	dc_writer_init(&trailer, bytes, sizeof(bytes));
	g->header = (DcGossipHeader){.kind = DC_GOSSIP_ACK2,
								 .node_id = node_id(node),
								 .cluster_hash = 1,
								 .incarnation = node->mem.incarnation,
								 .boot = node->boot,
								 .sequence = ++sim->next_number,
								 .sent_at_us = node_now(sim, node),
								 .receiver_boot = 1};
	g->digest_count = g->delta_count = 0;
	for (uint32_t i = 0; i < NODES_MAX; i++)
	{
		if (i == node->self)
			add_report(g, &trailer, i, &own);
		else if (node->report[i].version != 0)
			add_report(g, &trailer, i, &node->report[i]);
	}
	dc_writer_init(&w, d->message.bytes, sizeof(d->message.bytes));
	dc_gossip_encode(&w, g);
	dc_write_bytes(&w, bytes, trailer.length);
	dc_write_u16(&w, (uint16_t) trailer.length);
	d->message.length = (uint32_t) w.length;
	net_seal(sim, &d->message, &binding);
	net_datagram_send(sim, d);
}

void
gossip_step(Sim *sim, Node *node)
{
	uint32_t to = rng_below(&sim->rng, sim->config.nodes);

	if (node->mem.outcast || !node->contacts || to == node->index ||
		!sim->node[to].contacts)
		return;
	send_reports(sim, node, to);
}

static void
take_report(Sim *sim, Node *node, const DcGossipDelta *delta, DcReader *extra)
{
	uint32_t index = delta->node_id - 1;
	Report *here = &node->report[index % NODES_MAX];
	Report r = {.incarnation = delta->incarnation,
				.version = delta->version,
				.floor = delta->floor,
				.epoch = delta->epoch,
				.closed = delta->closed,
				.clock = delta->clock,
				.heard_us = sim->now_us};

	r.boot = dc_read_u64(extra);
	if (index >= NODES_MAX || extra->status != DC_OK)
		return;
	if (index == node->self)
	{
		/* it was set back in time: above what is known of it */
		if (r.incarnation > node->mem.incarnation && !node->mem.outcast)
			member_reincarnate(sim, node, "gossip knows a later one");
		return;
	}
	if (r.incarnation > here->incarnation ||
		(r.incarnation == here->incarnation && r.version > here->version))
		*here = r;
}

void
gossip_receive(Sim *sim, Node *node, const Datagram *d)
{
	const Message *m = &d->message;
	DcAssociated binding = binding_of(d);
	DcGossipMessage *g = &sim->gossip;
	DcDetail detail;
	DcReader extra;
	uint32_t trailer;

	if (m->length < 2 || !net_open(sim, m, &binding))
		return;
	trailer = (uint32_t) m->bytes[m->length - 2] << 8 | m->bytes[m->length - 1];
	if (trailer + 2 > m->length)
		return;
	if (dc_gossip_decode(m->bytes, m->length - 2 - trailer, g, &detail) !=
		DC_OK)
	{
		sim->stats.refused++;
		return;
	}
	dc_reader_init(&extra, m->bytes + m->length - 2 - trailer, trailer);
	for (uint32_t i = 0; i < g->delta_count; i++)
		take_report(sim, node, &g->deltas[i], &extra);
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
