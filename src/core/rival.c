/*
 * rival.c
 *		P3: rows that cannot all be in their table.
 */
#include "rival.h"

#include "canary.h"

#include <string.h>

/* not simulated: rows against each other; test_rival.c has them */
bool
dc_rival_outranks(DcRival row, DcRival other)
{
	size_t common =
		row.key.length < other.key.length ? row.key.length : other.key.length;
	int order;

	if (DC_CANARY(DC_CANARY_P3))
		return false; /* who came first stays */
	if (row.stamp != other.stamp)
		return row.stamp > other.stamp;
	order = common == 0 ? 0 : memcmp(row.key.data, other.key.data, common);
	return order != 0 ? order > 0 : row.key.length > other.key.length;
}

static bool
is_live(DcEntry entry, DcHlc stamp)
{
	return entry.stamp == stamp && !entry.dead;
}

bool
dc_rival_waits(const DcRivalWaiting *waiting)
{
	if (waiting->other_put_aside && !DC_CANARY(DC_CANARY_P3_ASIDE))
		return false;
	return is_live(waiting->entry, waiting->stamp) &&
		   is_live(waiting->other_entry, waiting->other);
}
