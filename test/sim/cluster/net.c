/*
 * net.c
 *		The network as a value: what was sent and when it arrives, if it does.
 *
 * A session is a pair of pipes of messages in order, as TCP is: a message
 * that is lost or damaged ends it.  Datagrams are each on their own.
 */
#include "cluster.h"

#include <string.h>

#define DATAGRAM_US 400

/* ---- the seal ----------------------------------------------------------- */

static uint64_t
tag_of(const Message *m, const DcAssociated *binding)
{
	uint8_t ad[DC_ASSOCIATED_BYTES];
	uint8_t seed[DC_SEED_BYTES] = "cluster key";
	size_t length = dc_associated_encode(ad, binding);
	uint64_t hash = dc_siphash(seed, ad, length);

	memcpy(seed, &hash, sizeof(hash));
	return dc_siphash(seed, m->bytes, m->length);
}

void
net_seal(const Sim *sim, Message *m, const DcAssociated *binding)
{
	(void) sim;
	m->tag = tag_of(m, binding);
}

bool
net_open(Sim *sim, const Message *m, const DcAssociated *binding)
{
	DcAssociated loose = *binding;

	if (m->tag == tag_of(m, binding) || DEFECT(sim, DEFECT_SEAL))
		return true;
	sim->stats.refused++;
	/* the sequence number is what makes a call unique */
	for (uint64_t back = 0; DEFECT(sim, DEFECT_REPLAY) && back < 8; back++)
	{
		loose.sequence = binding->sequence - back;
		if (m->tag == tag_of(m, &loose))
			return true;
	}
	return false;
}

/* ---- who reaches whom --------------------------------------------------- */

bool
net_cut(const Sim *sim, uint32_t from, uint32_t to)
{
	return !sim->calm && sim->cut[from][to] != 0;
}

uint64_t
net_delay(Sim *sim, uint32_t to)
{
	const Node *node = &sim->node[to];
	uint64_t us = 1 + rng_below(&sim->rng, sim->config.delay_us + 1);

	if (sim->calm)
		return us;
	if (rng_chance(&sim->rng, 1, 50))
	{
		us *= 10;
		count_fault(sim, FAULT_DELAY);
	}
	if (sim->step < node->slow_until)
		us *= 20;
	return us;
}

void
net_damage(Sim *sim, Message *m)
{
	if (m->length == 0)
		return;
	m->bytes[rng_below(&sim->rng, m->length)] ^=
		(uint8_t) (1u << rng_below(&sim->rng, 8));
	count_fault(sim, FAULT_CORRUPT);
}

/* ---- sessions ----------------------------------------------------------- */

/* A place at the end; NULL: full.  Counts only once net_send() is called. */
Message *
net_push(Sim *sim, Pipe *pipe)
{
	(void) sim;
	if (pipe->count == PIPE_MAX)
		return NULL;
	return &pipe->item[(pipe->first + pipe->count) % PIPE_MAX];
}

/* False: it was lost, and with it the session. */
bool
net_send(Sim *sim, Link *link, Pipe *pipe, Message *m)
{
	uint32_t to = pipe == &link->forth ? link->to : link->from;
	uint32_t from = pipe == &link->forth ? link->from : link->to;
	uint64_t due = sim->now_us + net_delay(sim, to);

	sim->stats.messages++;
	m->due_us = due > pipe->last_due_us ? due : pipe->last_due_us;
	pipe->last_due_us = m->due_us;
	pipe->count++;
	if (pipe == &link->forth && sim->config.replay > 0)
	{
		sim->last_call.length = m->length;
		sim->last_call.tag = m->tag;
		memcpy(sim->last_call.bytes, m->bytes, m->length);
		sim->last_call_link = (uint32_t) (link - sim->link);
	}
	if (sim->calm)
		return true;
	if (rng_chance(&sim->rng, sim->config.corrupt, 10000))
		net_damage(sim, m);
	if (net_cut(sim, from, to) ||
		rng_chance(&sim->rng, sim->config.breaks, 10000))
	{
		if (!net_cut(sim, from, to))
			count_fault(sim, FAULT_BREAK);
		link_close(sim, link, "the network broke it");
		return false;
	}
	return true;
}

Message *
net_due(Sim *sim, Pipe *pipe)
{
	Message *m = &pipe->item[pipe->first];

	return pipe->count > 0 && m->due_us <= sim->now_us ? m : NULL;
}

void
net_pop(Pipe *pipe)
{
	pipe->first = (pipe->first + 1) % PIPE_MAX;
	pipe->count--;
}

/* ---- datagrams ---------------------------------------------------------- */

Datagram *
net_datagram(Sim *sim, uint32_t from, uint32_t to)
{
	Datagram *d = &sim->datagram[rng_below(&sim->rng, DATAGRAMS)];

	/* a full buffer drops what was in it */
	d->used = false;
	d->from = from;
	d->to = to;
	return d;
}

/* Seconds of gossip would be longer than a datagram lives. */
static uint64_t
datagram_delay(Sim *sim, uint32_t to)
{
	uint64_t us = net_delay(sim, to);

	return us < DATAGRAM_US ? us : DATAGRAM_US;
}

void
net_datagram_send(Sim *sim, Datagram *d)
{
	sim->stats.datagrams++;
	d->message.due_us = sim->now_us + datagram_delay(sim, d->to);
	d->used = true;
	if (sim->calm)
		return;
	if (net_cut(sim, d->from, d->to))
		d->used = false;
	else if (rng_chance(&sim->rng, sim->config.loss, 10000))
	{
		d->used = false;
		count_fault(sim, FAULT_LOSS);
	}
	else if (rng_chance(&sim->rng, sim->config.corrupt, 10000))
		net_damage(sim, &d->message);
	else if (rng_chance(&sim->rng, sim->config.duplicate, 10000))
	{
		Datagram *again = &sim->datagram[rng_below(&sim->rng, DATAGRAMS)];

		if (again != d)
		{
			*again = *d;
			again->message.due_us += 1 + rng_below(&sim->rng, 2000);
			count_fault(sim, FAULT_DUPLICATE);
		}
	}
}

void
net_deliver_step(Sim *sim)
{
	uint32_t start = rng_below(&sim->rng, DATAGRAMS);

	for (uint32_t i = 0; i < DATAGRAMS; i++)
	{
		Datagram *d = &sim->datagram[(start + i) % DATAGRAMS];

		if (!d->used || d->message.due_us > sim->now_us)
			continue;
		d->used = false;
		if (i > 0)
			count_fault(sim, FAULT_REORDER);
		if (sim->node[d->to].up && !net_cut(sim, d->from, d->to))
			gossip_receive(sim, &sim->node[d->to], d);
		return;
	}
}

/* ---- faults ------------------------------------------------------------- */

static void
cut(Sim *sim, uint32_t from, uint32_t to, bool both)
{
	sim->cut[from][to] = 1;
	if (both)
		sim->cut[to][from] = 1;
}

void
net_heal(Sim *sim)
{
	memset(sim->cut, 0, sizeof(sim->cut));
}

static void
partition(Sim *sim)
{
	Rng *rng = &sim->rng;
	uint32_t nodes = sim->servers;
	uint32_t side = 1 + rng_below(rng, (1u << nodes) - 2);
	uint32_t alone = rng_below(rng, nodes);
	uint32_t kind = rng_below(rng, 3);

	net_heal(sim);
	for (uint32_t a = 0; a < nodes; a++)
	{
		for (uint32_t b = 0; b < nodes; b++)
		{
			if (a == b)
				continue;
			if (kind == 0 && (side & BIT(a)) && !(side & BIT(b)))
				cut(sim, a, b, true);
			if (kind == 1 && (side & BIT(a)) && !(side & BIT(b)))
				cut(sim, a, b, false);
			if (kind == 2 && (a == alone) != (b == alone))
				cut(sim, a, b, true);
		}
	}
	count_fault(sim, FAULT_PARTITION + kind);
	sim_trace(sim, "partition of kind %u, %x, %u", kind, side, alone + 1);
	sim->healed_at = sim->step + 50 + rng_below(rng, 1500);
}

/* Somebody sends a call again that he saw go by. */
static void
replay(Sim *sim)
{
	Link *link = &sim->link[sim->last_call_link];
	Message *m;

	if (sim->last_call.length == 0 || !link->up || !link->open ||
		(m = net_push(sim, &link->forth)) == NULL ||
		link->sent_count >= PIPE_MAX)
		return;
	m->length = sim->last_call.length;
	m->tag = sim->last_call.tag;
	memcpy(m->bytes, sim->last_call.bytes, m->length);
	link->forth.count++;
	m->due_us = sim->now_us;
	link->forth.last_due_us = sim->now_us;
	count_fault(sim, FAULT_REPLAY);
}

void
net_faults(Sim *sim)
{
	Rng *rng = &sim->rng;

	if (sim->healed_at != 0 && sim->step >= sim->healed_at)
	{
		net_heal(sim);
		sim->healed_at = 0;
	}
	if (rng_chance(rng, sim->config.partition, 10000))
		partition(sim);
	if (rng_chance(rng, sim->config.replay, 10000))
		replay(sim);
	if (rng_chance(rng, sim->config.slow, 10000))
	{
		sim->node[rng_below(rng, sim->servers)].slow_until =
			sim->step + 100 + rng_below(rng, 2000);
		count_fault(sim, FAULT_SLOW);
	}
}
