/*
 * schedule.c
 *		When a process gets the processor.
 */
#include "postgres.h"

#include <sched.h>

#include "schedule.h"

void
dc_schedule_gently(void)
{
#ifdef SCHED_BATCH
	struct sched_param none = {0};

	/* not if somebody gave the server another policy; it is only for speed */
	if (sched_getscheduler(0) == SCHED_OTHER)
		(void) sched_setscheduler(0, SCHED_BATCH, &none);
#endif
}
