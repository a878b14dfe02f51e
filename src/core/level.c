/*
 * level.c
 *		Consistency levels: of whom a word is needed.
 */
#include "level.h"

#include <assert.h>
#include <stddef.h>
#include <string.h>

static const char *const names[DC_LEVELS] = {
	[DC_LEVEL_NONE] = "none",
	[DC_LEVEL_ONE] = "one",
	[DC_LEVEL_TWO] = "two",
	[DC_LEVEL_THREE] = "three",
	[DC_LEVEL_QUORUM] = "quorum",
	[DC_LEVEL_LOCAL_QUORUM] = "local_quorum",
	[DC_LEVEL_EACH_QUORUM] = "each_quorum",
	[DC_LEVEL_ALL] = "all",
};

static bool
same_word(const char *a, const char *b)
{
	for (; *a != '\0'; a++, b++)
	{
		int lower = *a >= 'A' && *a <= 'Z' ? *a + ('a' - 'A') : *a;

		if (lower != *b)
			return false;
	}
	return *b == '\0';
}

bool
dc_level_parse(const char *name, DcLevel *level)
{
	for (int i = 0; i < DC_LEVELS; i++)
	{
		if (!same_word(name, names[i]))
			continue;
		*level = (DcLevel) i;
		return true;
	}
	return false;
}

const char *
dc_level_name(DcLevel level)
{
	return names[level];
}

void
dc_tally_add(DcTally *tally, uint32_t centre)
{
	assert(centre < DC_CENTRES_MAX);
	tally->total++;
	tally->in[centre]++;
	if (tally->centres <= centre)
		tally->centres = centre + 1;
}

void
dc_tally_remove(DcTally *tally, uint32_t centre)
{
	assert(tally->in[centre] > 0);
	tally->total--;
	tally->in[centre]--;
}

static uint32_t
majority(uint32_t count)
{
	return count / 2 + 1;
}

void
dc_level_needs(DcLevel level, const DcTally *members, uint32_t own_centre,
			   DcTally *needs)
{
	memset(needs, 0, sizeof(*needs));
	needs->centres = members->centres;
	switch (level)
	{
		case DC_LEVEL_NONE:
		case DC_LEVEL_ONE:
		case DC_LEVEL_TWO:
		case DC_LEVEL_THREE:
			needs->total = 1 + (uint32_t) (level - DC_LEVEL_NONE);
			break;
		case DC_LEVEL_QUORUM:
			needs->total = majority(members->total);
			break;
		case DC_LEVEL_LOCAL_QUORUM:
			assert(own_centre < members->centres);
			needs->in[own_centre] = majority(members->in[own_centre]);
			break;
		case DC_LEVEL_EACH_QUORUM:
			for (uint32_t i = 0; i < members->centres; i++)
			{
				if (members->in[i] > 0)
					needs->in[i] = majority(members->in[i]);
			}
			break;
		case DC_LEVEL_ALL:
		case DC_LEVELS:
			needs->total = members->total;
			break;
	}
}

static bool
reaches(const DcTally *have, const DcTally *open, const DcTally *needs)
{
	if (have->total + (open ? open->total : 0) < needs->total)
		return false;
	for (uint32_t i = 0; i < needs->centres; i++)
	{
		if (have->in[i] + (open ? open->in[i] : 0) < needs->in[i])
			return false;
	}
	return true;
}

bool
dc_tally_meets(const DcTally *have, const DcTally *needs)
{
	return reaches(have, NULL, needs);
}

bool
dc_tally_could_meet(const DcTally *have, const DcTally *open,
					const DcTally *needs)
{
	return reaches(have, open, needs);
}

static void
sort_descending(DcVoice voices[], uint32_t count)
{
	for (uint32_t i = 1; i < count; i++)
	{
		DcVoice voice = voices[i];
		uint32_t at = i;

		for (; at > 0 && voices[at - 1].position < voice.position; at--)
			voices[at] = voices[at - 1];
		voices[at] = voice;
	}
}

uint64_t
dc_level_reached(const DcTally *needs, DcVoice voices[], uint32_t count,
				 DcTally *scratch)
{
	uint32_t centres = needs->centres;

	sort_descending(voices, count);
	for (uint32_t i = 0; i < count; i++)
		centres = voices[i].centre < centres ? centres : voices[i].centre + 1;
	memset(scratch, 0,
		   offsetof(DcTally, in) + centres * sizeof(scratch->in[0]));
	for (uint32_t i = 0; i < count; i++)
	{
		dc_tally_add(scratch, voices[i].centre);
		if (dc_tally_meets(scratch, needs))
			return voices[i].position;
	}
	return 0;
}

uint32_t
dc_tally_least(const DcTally *needs)
{
	uint32_t by_centre = 0;

	for (uint32_t i = 0; i < needs->centres; i++)
		by_centre += needs->in[i];
	return by_centre > needs->total ? by_centre : needs->total;
}
