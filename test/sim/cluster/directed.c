/*
 * directed.c
 *		Schedules too rare for chance.
 */
#include "cluster.h"

const uint32_t directed_count = 0;

void
directed_run(Sim *sim, uint32_t number)
{
	(void) sim;
	(void) number;
}
