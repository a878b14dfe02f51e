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

	/* no privilege is needed, and it is only for speed */
	(void) sched_setscheduler(0, SCHED_BATCH, &none);
#endif
}
