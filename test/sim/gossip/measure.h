/*
 * measure.h
 *		What is asked of a world of gossip.
 */
#ifndef GOSSIP_MEASURE_H
#define GOSSIP_MEASURE_H

#include "world.h"

/* A world in which nobody dies. */
typedef struct Quiet
{
	double node_hours;
	Counts counts;           /* of the time measured */
	double bytes_per_second; /* of one node, sent */
	double datagrams_per_second;
	double cpu_us;          /* of a node's round, with all it received */
	double life_rounds;     /* mean age of the last sign of life */
	double life_rounds_max; /* of those looked at */
	double record_rounds;   /* mean age of a record */
} Quiet;

Quiet measure_quiet(World *w, uint64_t duration_us);

/* Somebody dies. */
typedef struct Death
{
	double suspect_s; /* until the last one suspected */
	double first_s;   /* until the first one knew */
	double all_s;     /* until the last one knew; < 0: not in the limit */
} Death;

Death measure_death(World *w, uint32_t index, uint64_t limit_us);

/* Rounds until all know the newest description of the watched; limit: never. */
uint32_t measure_news(World *w, uint32_t limit);

/* The same for hosts that join at once, one that restarts, one that moves. */
uint32_t measure_joins(World *w, uint32_t count, uint32_t limit);
uint32_t measure_restart(World *w, uint32_t index, uint32_t limit);
uint32_t measure_move(World *w, uint32_t index, uint32_t limit);

/* Two for each doubling of the nodes, and four. */
uint32_t news_budget(uint32_t nodes);

double cpu_seconds(void);

#endif
