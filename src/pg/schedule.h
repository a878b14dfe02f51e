/*
 * schedule.h
 *		When a process gets the processor.
 */
#ifndef DATACAKE_SCHEDULE_H
#define DATACAKE_SCHEDULE_H

/*
 * From now on this process, when it wakes up, does not take a processor from
 * another one that is just using it; its share is the same as before (sched(7),
 * SCHED_BATCH).  Where processors are free it runs at once.  Where they are not,
 * more gathers for it meanwhile, and it wakes up less often.  No effect where
 * the system has nothing like that.
 */
extern void dc_schedule_gently(void);

#endif
