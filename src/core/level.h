/*
 * level.h
 *		Consistency levels: of whom a word is needed.
 *
 *	 level          needed, this node counted like any other
 *	 -------------  ------------------------------------------
 *	 none           1
 *	 one two three  2 3 4
 *	 quorum         floor(N / 2) + 1 of the N members
 *	 local_quorum   a majority of this node's data centre
 *	 each_quorum    a majority of every data centre
 *	 all            N
 *
 * A tally counts nodes by data centre; what is needed is a tally, too.  Data
 * centres are numbers here, from 0 without gaps; the caller knows their names.
 * N are all members, not the living ones: a minority never is a quorum.
 */
#ifndef DC_LEVEL_H
#define DC_LEVEL_H

#include "hlc.h"

#include <stdbool.h>
#include <stdint.h>

#define DC_CENTRES_MAX DC_NODE_ID_MAX /* each node may have its own */

/* In the order of the setting's values. */
typedef enum DcLevel
{
	DC_LEVEL_NONE,
	DC_LEVEL_ONE,
	DC_LEVEL_TWO,
	DC_LEVEL_THREE,
	DC_LEVEL_QUORUM,
	DC_LEVEL_LOCAL_QUORUM,
	DC_LEVEL_EACH_QUORUM,
	DC_LEVEL_ALL,
	DC_LEVELS
} DcLevel;

/* All zero bytes are an empty tally. */
typedef struct DcTally
{
	uint32_t total;
	uint32_t centres; /* the numbers in use are below */
	uint32_t in[DC_CENTRES_MAX];
} DcTally;

/* ASCII letters of either case; false if there is no such level. */
bool dc_level_parse(const char *name, DcLevel *level);

/* A static string. */
const char *dc_level_name(DcLevel level);

void dc_tally_add(DcTally *tally, uint32_t centre);

/* One node, and the position in some order up to which it said its word. */
typedef struct DcVoice
{
	uint32_t centre;
	uint64_t position;
} DcVoice;

/* Takes back what was added. */
void dc_tally_remove(DcTally *tally, uint32_t centre);

/*
 * What the level needs of these members.  `total` and `in` are each to be
 * reached; zero asks for nothing.
 */
void dc_level_needs(DcLevel level, const DcTally *members, uint32_t own_centre,
					DcTally *needs);

bool dc_tally_meets(const DcTally *have, const DcTally *needs);

/*
 * The greatest position that so many reached that the needs are met; 0: none.
 * Sorts the voices.  `scratch` is overwritten.
 */
uint64_t dc_level_reached(const DcTally *needs, DcVoice voices[],
						  uint32_t count, DcTally *scratch);

/* The least number of nodes that can meet the needs. */
uint32_t dc_tally_least(const DcTally *needs);

/* Could it, if all of `open` were added? */
bool dc_tally_could_meet(const DcTally *have, const DcTally *open,
						 const DcTally *needs);

#endif
