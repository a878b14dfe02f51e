/*
 * world.h
 *		Up to 1,022 gossip state machines and the network between them.
 *
 * The hosts run src/core/gossip.h, unchanged; the network carries the very
 * datagrams, each lost, delayed or blocked on its own.  A host has a clock of
 * its own, and now and then does not run for a second or two: then what
 * arrives waits in its socket, as long as there is room.  Virtual time, one
 * seed: the same numbers on each run.
 */
#ifndef GOSSIP_WORLD_H
#define GOSSIP_WORLD_H

#include "canary.h"
#include "gossip.h"

#include <stddef.h>

#define MS     UINT64_C(1000)
#define SECOND (1000 * MS)
#define HOUR   (3600 * SECOND)

#define WORLD_START (UINT64_C(800000000) * SECOND) /* of virtual time */

#define HOSTS_MAX (DC_NODE_ID_MAX - 1)

typedef struct Network
{
	double loss;          /* of each datagram, 0 to 1 */
	uint64_t delay_us;    /* at least */
	uint64_t jitter_us;   /* mean of what exponential delay is added */
	double late;          /* part of the datagrams that are late */
	uint64_t late_us;     /* by at most */
	uint64_t stall_every; /* mean time between a host's stalls; 0: never */
	uint64_t stall_min_us;
	uint64_t stall_max_us;
	uint64_t skew_us; /* clocks differ by up to this, either way */
} Network;

/* A data centre in no good shape. */
extern const Network network_usual;

typedef struct Packet
{
	struct Packet *next;
	uint64_t at_us;
	uint16_t from;
	uint16_t to;
	uint16_t length;
	uint8_t bytes[DC_GOSSIP_BYTES_MAX];
} Packet;

typedef struct Host
{
	bool up;
	uint8_t side; /* of a partition */
	int64_t skew_us;
	uint64_t tick_us;     /* when it wants to run */
	uint64_t stall_at_us; /* next stall */
	uint64_t stalled_until_us;
	uint64_t away_us;    /* of its last stalls, if they were close together */
	uint64_t crashed_us; /* when it went down */
	Packet *socket;      /* what arrived while it did not run */
	Packet **socket_end;
	uint32_t socket_count;
	bool queued;       /* in the wheel */
	uint16_t next_due; /* behind it there, plus one */
	uint32_t address;  /* which of its addresses it has */
	DcGossip *gossip;
	DcGossipNode *nodes;
} Host;

typedef struct Counts
{
	uint64_t datagrams;
	uint64_t bytes; /* sealed, without UDP and IP */
	uint64_t rounds;
	uint64_t false_suspects;
	uint64_t false_deaths;
	uint64_t stalls;
	uint64_t overflows; /* a stalled host's socket was full */
	double phi_max;     /* of who lived */
	double phi_away_s;  /* ... and how long that one had not run just before */
} Counts;

/* What the hosts say of one node: who has seen it, since when. */
typedef struct Watch
{
	uint32_t node_id; /* 0: nobody */
	uint64_t since_us;
	uint32_t known_count; /* its newest description */
	uint32_t alive_count;
	uint32_t suspect_count;
	uint32_t dead_count;
	uint64_t known_us; /* when the last one did */
	uint64_t alive_us;
	uint64_t suspect_us;
	uint64_t dead_first_us;
	uint64_t dead_us;
	uint64_t config_version;
	uint8_t seen[HOSTS_MAX];
} Watch;

#define WATCHES 16
#define WHEEL   4096 /* slots of one millisecond */

typedef struct World
{
	uint64_t random;
	uint64_t now_us;
	uint64_t interval_us;
	Network network;
	uint32_t host_count;
	uint32_t up_count;
	Counts counts;
	Watch watches[WATCHES];
	Packet *wheel[WHEEL];
	uint16_t due[WHEEL]; /* hosts that may want to run, plus one */
	Packet *spare;
	Host hosts[HOSTS_MAX];
	DcGossipOutput output;
} World;

/*
 * A world of `count` hosts that start within a round.  `warm`: each knows all
 * of the others already, else one seed.
 */
World *world_new(uint64_t seed, uint32_t count, const Network *network,
				 bool warm);
void world_free(World *w);

/*
 * A world in a file: false, or NULL, if the file cannot be written, or was not
 * written by this very program (save.c).
 */
bool world_save(const World *w, const char *path);
World *world_load(const char *path);

void world_run(World *w, uint64_t duration_us);

/* Until all see all as alive; false: not within the limit. */
bool world_settle(World *w, uint64_t limit_us);
bool world_settled(const World *w);

/* Starts a host, the first or another time. */
void world_start(World *w, uint32_t index);
void world_crash(World *w, uint32_t index);

/* It gets another address, at which it is found from now on. */
void world_move(World *w, uint32_t index);

/* From now on, what do the others say of this host? */
Watch *world_watch(World *w, uint32_t slot, uint32_t index);

uint64_t world_random(World *w);
uint32_t world_below(World *w, uint32_t bound);
double world_unit(World *w);

#endif
