/*
 * world.c
 *		The hosts, their network and their clock.
 *
 * A wheel of milliseconds holds what happens: datagrams that arrive, and the
 * hosts that want to run.
 */
#define _POSIX_C_SOURCE 200809L
#include "world.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CLUSTER UINT64_C(0x1122334455667788)

/* A datagram grows by so much when it is sealed (src/pg/seal.h). */
#define SEAL_BYTES 41

/* Datagrams of full length that the usual socket buffer of 208 kB holds. */
#define SOCKET_MAX 92

/* Stalls that are closer look like one. */
#define CLOSE_US (5 * SECOND)

/* Of the worker (bgworker/gossip.c): taken before the clock gets its turn. */
#define DATAGRAMS_PER_TURN 64

uint64_t dc_canaries;

const Network network_usual = {.loss = 0.05,
							   .delay_us = 300,
							   .jitter_us = 3 * MS,
							   .late = 0.01,
							   .late_us = 200 * MS,
							   .stall_every = HOUR,
							   .stall_min_us = SECOND,
							   .stall_max_us = 2 * SECOND,
							   .skew_us = 400 * MS};

/* ---- chance ------------------------------------------------------------- */

uint64_t
world_random(World *w)
{
	uint64_t z = w->random += UINT64_C(0x9e3779b97f4a7c15);

	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

uint32_t
world_below(World *w, uint32_t bound)
{
	return (uint32_t) ((world_random(w) >> 32) * bound >> 32);
}

double
world_unit(World *w)
{
	return (double) (world_random(w) >> 11) * 0x1p-53;
}

static uint64_t
exponential(World *w, uint64_t mean_us)
{
	return (uint64_t) (-log(1 - world_unit(w)) * (double) mean_us);
}

/* ---- addresses ---------------------------------------------------------- */

/* "10.MOVES.HIGH.LOW:7432" */
static void
write_address(const World *w, uint32_t index,
			  char address[DC_GOSSIP_ADDRESS_BYTES])
{
	snprintf(address, DC_GOSSIP_ADDRESS_BYTES, "10.%u.%u.%u:7432",
			 w->hosts[index].address, index / 256, index % 256);
}

/* HOSTS_MAX: nobody is there. */
static uint32_t
host_at(const World *w, const char *address)
{
	unsigned part[4] = {0};
	uint32_t index;

	for (int i = 0; i < 4; i++)
	{
		while (*address >= '0' && *address <= '9')
			part[i] = part[i] * 10 + (unsigned) (*address++ - '0');
		address++;
	}
	index = part[2] * 256 + part[3];
	return index < w->host_count && w->hosts[index].address == part[1] ?
			   index :
			   HOSTS_MAX;
}

/* ---- what is seen ------------------------------------------------------- */

Watch *
world_watch(World *w, uint32_t slot, uint32_t index)
{
	Watch *watch = &w->watches[slot];

	memset(watch, 0, sizeof(*watch));
	watch->node_id = index + 1;
	watch->since_us = w->now_us;
	if (w->hosts[index].up)
		watch->config_version = w->hosts[index].gossip->nodes[0].config_version;
	return watch;
}

static void
note_known(World *w, Watch *watch, const Host *host)
{
	uint32_t at = (uint32_t) (host - w->hosts);
	const DcGossipNode *node = dc_gossip_find(host->gossip, watch->node_id);

	if (watch->seen[at] || node == NULL ||
		node->config_version < watch->config_version)
		return;
	watch->seen[at] = 1;
	watch->known_count++;
	watch->known_us = w->now_us;
}

static void
note_state(World *w, Watch *watch, DcGossipState to)
{
	if (to == DC_GOSSIP_ALIVE)
	{
		watch->alive_count++;
		watch->alive_us = w->now_us;
	}
	else if (to == DC_GOSSIP_SUSPECT)
	{
		watch->suspect_count++;
		watch->suspect_us = w->now_us;
	}
	else if (to == DC_GOSSIP_DEAD)
	{
		if (watch->dead_count++ == 0)
			watch->dead_first_us = w->now_us;
		watch->dead_us = w->now_us;
	}
}

static void
note_events(World *w, const Host *host)
{
	for (uint32_t i = 0; i < w->output.event_count; i++)
	{
		const DcGossipEvent *event = &w->output.events[i];
		bool state = event->kind == DC_GOSSIP_EVENT_STATE;
		bool living = w->hosts[event->node_id - 1].up;

		if (state && living && w->hosts[event->node_id - 1].side == host->side)
		{
			w->counts.false_suspects += event->to == DC_GOSSIP_SUSPECT;
			w->counts.false_deaths += event->to == DC_GOSSIP_DEAD;
		}
		for (uint32_t j = 0; j < WATCHES; j++)
		{
			Watch *watch = &w->watches[j];

			if (watch->node_id != event->node_id)
				continue;
			note_known(w, watch, host);
			if (state)
				note_state(w, watch, event->to);
		}
	}
}

/* ---- the network -------------------------------------------------------- */

static uint32_t
slot_of(uint64_t at_us)
{
	return (uint32_t) (at_us / MS % WHEEL);
}

static Packet *
packet_new(World *w)
{
	Packet *packet = w->spare;

	if (packet == NULL)
		return malloc(sizeof(*packet));
	w->spare = packet->next;
	return packet;
}

static void
packet_free(World *w, Packet *packet)
{
	packet->next = w->spare;
	w->spare = packet;
}

static uint64_t
delay_us(World *w)
{
	const Network *network = &w->network;
	uint64_t delay = network->delay_us;

	if (network->jitter_us > 0)
		delay += exponential(w, network->jitter_us);
	if (network->late > 0 && world_unit(w) < network->late)
		delay += world_below(w, (uint32_t) network->late_us);
	return delay < SECOND ? delay : SECOND;
}

static void
post(World *w, Host *host)
{
	note_events(w, host);
	for (uint32_t i = 0; i < w->output.send_count; i++)
	{
		const DcGossipSend *send = &w->output.sends[i];
		uint32_t to = host_at(w, send->address);
		Packet *packet;
		uint32_t slot;

		w->counts.datagrams++;
		w->counts.bytes += send->length + SEAL_BYTES;
		if (to == HOSTS_MAX || world_unit(w) < w->network.loss)
			continue;
		packet = packet_new(w);
		packet->at_us = w->now_us + MS + delay_us(w);
		packet->from = (uint16_t) (host - w->hosts);
		packet->to = (uint16_t) to;
		packet->length = (uint16_t) send->length;
		memcpy(packet->bytes, send->bytes, send->length);
		slot = slot_of(packet->at_us);
		packet->next = w->wheel[slot];
		w->wheel[slot] = packet;
	}
}

static uint64_t
clock_of(const World *w, const Host *host)
{
	return w->now_us + (uint64_t) host->skew_us;
}

static void
take(World *w, Host *host, const Packet *packet)
{
	char from[DC_GOSSIP_ADDRESS_BYTES];

	write_address(w, packet->from, from);
	dc_gossip_receive(host->gossip, from, packet->bytes, packet->length,
					  clock_of(w, host), &w->output);
	post(w, host);
}

static void
deliver(World *w, Packet *packet)
{
	Host *host = &w->hosts[packet->to];

	if (!host->up || host->side != w->hosts[packet->from].side)
		packet_free(w, packet);
	else if (w->now_us >= host->stalled_until_us)
	{
		take(w, host, packet);
		packet_free(w, packet);
	}
	else if (host->socket_count == SOCKET_MAX)
	{
		w->counts.overflows++;
		packet_free(w, packet);
	}
	else
	{
		packet->next = NULL;
		*host->socket_end = packet;
		host->socket_end = &packet->next;
		host->socket_count++;
	}
}

/* ---- hosts -------------------------------------------------------------- */

static void
schedule(World *w, Host *host, uint64_t at_us)
{
	uint64_t latest_us = w->now_us + (WHEEL - 1) * MS;
	uint32_t slot;

	at_us = at_us > w->now_us + MS ? at_us : w->now_us + MS;
	slot = slot_of(at_us < latest_us ? at_us : latest_us);
	host->tick_us = at_us;
	if (host->queued)
		return;
	host->queued = true;
	host->next_due = w->due[slot];
	w->due[slot] = (uint16_t) (host - w->hosts + 1);
}

static void
drain(World *w, Host *host, uint32_t count)
{
	while (host->socket != NULL && count-- > 0)
	{
		Packet *packet = host->socket;

		host->socket = packet->next;
		if (host->socket == NULL)
			host->socket_end = &host->socket;
		host->socket_count--;
		take(w, host, packet);
		packet_free(w, packet);
	}
}

/* How near to a wrong verdict it is. */
static void
note_doubts(World *w, const Host *host)
{
	const DcGossip *g = host->gossip;

	for (uint32_t i = 0; i < g->hot_count; i++)
	{
		const DcGossipNode *node = &g->nodes[g->hot[i]];
		const Host *other = &w->hosts[node->node_id - 1];
		double phi = dc_gossip_phi(g, node);

		/* who has just begun to ask gives no verdict, whatever phi is */
		if (phi > w->counts.phi_max && other->up && other->side == host->side &&
			g->now_us - node->asked_us > 4 * w->interval_us &&
			other->crashed_us + HOUR / 60 < w->now_us)
		{
			w->counts.phi_max = phi;
			w->counts.phi_away_s = (double) other->away_us / 1e6;
		}
	}
}

static void
turn(World *w, Host *host)
{
	uint64_t round_us = host->gossip->last_round_us;

	dc_gossip_tick(host->gossip, clock_of(w, host), world_random(w),
				   &w->output);
	w->counts.rounds += host->gossip->last_round_us != round_us;
	note_doubts(w, host);
	post(w, host);
}

/* Its time has come: to run, or to stop running for a while. */
static void
run_host(World *w, Host *host)
{
	if (!host->up)
		return;
	if (w->network.stall_every > 0 && w->now_us >= host->stall_at_us)
	{
		uint64_t spread_us =
			w->network.stall_max_us - w->network.stall_min_us + 1;

		if (w->now_us - host->stalled_until_us > CLOSE_US)
			host->away_us = 0;
		host->stalled_until_us = w->now_us + w->network.stall_min_us +
								 world_below(w, (uint32_t) spread_us);
		host->away_us += host->stalled_until_us - w->now_us;
		host->stall_at_us =
			host->stalled_until_us + exponential(w, w->network.stall_every);
		w->counts.stalls++;
		schedule(w, host, host->stalled_until_us);
		return;
	}
	if (w->now_us < host->stalled_until_us)
	{
		schedule(w, host, host->stalled_until_us);
		return;
	}
	/* After a stall the worker is anywhere in its loop. */
	if (host->socket != NULL && world_below(w, 2) == 0)
		drain(w, host, DATAGRAMS_PER_TURN);
	turn(w, host);
	drain(w, host, SOCKET_MAX);
	schedule(w, host,
			 dc_gossip_deadline(host->gossip) - (uint64_t) host->skew_us);
}

static void
describe(World *w, uint32_t index)
{
	Host *host = &w->hosts[index];
	char name[DC_GOSSIP_NAME_BYTES];
	char address[DC_GOSSIP_ADDRESS_BYTES];
	DcGossipSelf self = {name, "here", address,
						 "host=10.0.0.1 port=5432 dbname=postgres"};

	snprintf(name, sizeof(name), "node%u", index + 1);
	write_address(w, index, address);
	if (dc_gossip_describe(host->gossip, &self, clock_of(w, host)) != DC_OK)
		abort();
}

void
world_start(World *w, uint32_t index)
{
	Host *host = &w->hosts[index];
	DcGossipConfig config = {.node_id = index + 1,
							 .incarnation = 1,
							 .cluster_hash = CLUSTER,
							 .wire_version = 1,
							 .interval_us = w->interval_us,
							 .phi_suspect = DC_GOSSIP_PHI_SUSPECT,
							 .phi_dead = DC_GOSSIP_PHI_DEAD,
							 .forget_us = DC_GOSSIP_FORGET_US};
	char seed[DC_GOSSIP_ADDRESS_BYTES];
	const char *seeds[] = {seed};
	uint32_t capacity = w->host_count + WATCHES;

	if (index >= w->host_count)
		w->host_count = index + 1;
	if (host->gossip == NULL)
	{
		host->gossip = malloc(sizeof(*host->gossip));
		host->nodes = malloc(sizeof(*host->nodes) * DC_NODE_ID_MAX);
		host->skew_us =
			(int64_t) world_below(w, (uint32_t) (2 * w->network.skew_us + 1)) -
			(int64_t) w->network.skew_us;
	}
	host->socket_end = &host->socket;
	capacity = capacity < DC_NODE_ID_MAX ? capacity : DC_NODE_ID_MAX;
	write_address(w, index == 0 ? 1 : 0, seed);
	if (dc_gossip_init(host->gossip, &config, host->nodes, capacity,
					   clock_of(w, host), world_random(w)) != DC_OK)
		abort();
	w->up_count += !host->up;
	host->up = true;
	describe(w, index);
	dc_gossip_set_seeds(host->gossip, seeds, 1);
	host->stall_at_us = w->now_us + exponential(w, w->network.stall_every);
	host->stalled_until_us = 0;
	schedule(w, host, w->now_us + world_below(w, (uint32_t) w->interval_us));
}

void
world_crash(World *w, uint32_t index)
{
	Host *host = &w->hosts[index];

	w->up_count -= host->up;
	host->up = false;
	host->crashed_us = w->now_us;
	while (host->socket != NULL)
	{
		Packet *packet = host->socket;

		host->socket = packet->next;
		packet_free(w, packet);
	}
	host->socket_count = 0;
	host->socket_end = &host->socket;
}

void
world_move(World *w, uint32_t index)
{
	w->hosts[index].address++;
	describe(w, index);
}

/* ---- time --------------------------------------------------------------- */

static void
step(World *w)
{
	uint32_t slot = slot_of(w->now_us);
	Packet *packet = w->wheel[slot];
	uint32_t due = w->due[slot];

	w->wheel[slot] = NULL;
	w->due[slot] = 0;
	while (packet != NULL)
	{
		Packet *next = packet->next;

		deliver(w, packet);
		packet = next;
	}
	while (due != 0)
	{
		Host *host = &w->hosts[due - 1];

		due = host->next_due;
		host->queued = false;
		if (host->tick_us > w->now_us + MS)
			schedule(w, host, host->tick_us);
		else
			run_host(w, host);
	}
	w->now_us += MS;
}

void
world_run(World *w, uint64_t duration_us)
{
	uint64_t end_us = w->now_us + duration_us;

	while (w->now_us < end_us)
		step(w);
}

bool
world_settled(const World *w)
{
	for (uint32_t i = 0; i < w->host_count; i++)
	{
		const Host *host = &w->hosts[i];
		uint32_t alive = 0;

		if (!host->up)
			continue;
		for (uint32_t j = 0; j < host->gossip->used; j++)
			alive += host->nodes[j].node_id != 0 &&
					 host->nodes[j].state == DC_GOSSIP_ALIVE &&
					 host->nodes[j].described;
		if (alive != w->up_count)
			return false;
	}
	return true;
}

bool
world_settle(World *w, uint64_t limit_us)
{
	uint64_t end_us = w->now_us + limit_us;

	while (!world_settled(w))
	{
		if (w->now_us >= end_us)
			return false;
		world_run(w, w->interval_us);
	}
	return true;
}

/* As if they had spoken a moment ago. */
static void
introduce(World *w, Host *host, const Host *other)
{
	const DcGossipNode *record = &other->gossip->nodes[0];
	uint64_t now_us = clock_of(w, host);
	DcGossipNode *node;

	if (host == other)
		return;
	dc_gossip_restore(host->gossip, record, now_us);
	node = &host->nodes[host->gossip->slot_of[record->node_id] - 1];
	node->version = node->seen_version = record->version;
	node->config_version = record->config_version;
	node->boot = node->session.boot = record->boot;
	node->session.incarnation = record->incarnation;
	node->made_us = node->heard_us = now_us;
	node->advances = 2;
}

World *
world_new(uint64_t seed, uint32_t count, const Network *network, bool warm)
{
	World *w = calloc(1, sizeof(*w));

	if (w == NULL || count > HOSTS_MAX)
		abort();
	w->random = seed;
	w->now_us = WORLD_START;
	w->interval_us = 250 * MS;
	w->network = *network;
	w->host_count = count;
	for (uint32_t i = 0; i < count; i++)
		world_start(w, i);
	for (uint32_t i = 0; warm && i < count; i++)
	{
		for (uint32_t j = 0; j < count; j++)
			introduce(w, &w->hosts[i], &w->hosts[(i + j) % count]);
	}
	return w;
}

void
world_free(World *w)
{
	for (uint32_t i = 0; i < HOSTS_MAX; i++)
	{
		if (w->hosts[i].up)
			world_crash(w, i);
		free(w->hosts[i].gossip);
		free(w->hosts[i].nodes);
	}
	for (uint32_t i = 0; i < WHEEL; i++)
	{
		while (w->wheel[i] != NULL)
		{
			Packet *packet = w->wheel[i];

			w->wheel[i] = packet->next;
			free(packet);
		}
	}
	while (w->spare != NULL)
	{
		Packet *packet = w->spare;

		w->spare = packet->next;
		free(packet);
	}
	free(w);
}
