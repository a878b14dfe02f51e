/*
 * canary.h
 *		Switches that leave one rule out, to prove that the tests notice.
 *
 * In a normal build every switch is the constant false and the compiler
 * removes it.  The simulator is also built with -DDC_CANARIES; then each run
 * chooses the rules that are left out.
 */
#ifndef DC_CANARY_H
#define DC_CANARY_H

enum
{
	DC_CANARY_P1 = 1 << 0,   /* an insert ignores the deaths of its key */
	DC_CANARY_P2 = 1 << 1,   /* apply believes the metadata, not the heap */
	DC_CANARY_R2 = 1 << 2,   /* the watermark ignores transactions in flight */
	DC_CANARY_R4 = 1 << 3,   /* a vector moves over gaps */
	DC_CANARY_R5 = 1 << 4,   /* what was forgotten is taken again */
	DC_CANARY_R8 = 1 << 5,   /* who does not answer is not waited for */
	DC_CANARY_R10 = 1 << 6,  /* floors count under any list */
	DC_CANARY_R11 = 1 << 9,  /* a node is removed before the others closed it */
	DC_CANARY_R12 = 1 << 7,  /* a newcomer need not join */
	DC_CANARY_R13 = 1 << 8,  /* a joiner keeps what others forgot */
	DC_CANARY_R15 = 1 << 10, /* a clone that fell silent is not forgotten */
	DC_CANARY_CHECK = 1 << 24 /* the check of a sketch's cell is linear */
};

#ifdef DC_CANARIES
extern unsigned dc_canaries;
#define DC_CANARY(rule) ((dc_canaries & (rule)) != 0)
#else
#define DC_CANARY(rule) 0
#endif

#endif
