/*
 * planned_stamp.h
 *		Plans that put the stamp into their rows, in the trigger's place.
 */
#ifndef DATACAKE_PLANNED_STAMP_H
#define DATACAKE_PLANNED_STAMP_H

/* Looks at each statement when it is planned and started; at load time. */
extern void dc_planned_stamp_init(void);

#endif
