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
	DC_CANARY_P1 = 1 << 0,  /* an insert ignores the deaths of its key */
	DC_CANARY_P2 = 1 << 1,  /* apply believes the metadata, not the heap */
	DC_CANARY_R2 = 1 << 2,  /* the watermark ignores transactions in flight */
	DC_CANARY_R4 = 1 << 3,  /* a vector moves over gaps */
	DC_CANARY_R5 = 1 << 4,  /* what was forgotten is taken again */
	DC_CANARY_R8 = 1 << 5,  /* who does not answer is not waited for */
	DC_CANARY_R10 = 1 << 6, /* floors count under any list */
	DC_CANARY_R11 = 1 << 9, /* a node is removed before the others closed it */
	DC_CANARY_R12 = 1 << 7, /* a newcomer need not join */
	DC_CANARY_R13 = 1 << 8, /* a joiner keeps what others forgot */
	DC_CANARY_CHECK = 1 << 24, /* the check of a sketch's cell is linear */

	/* The register of the member list (R10). */
	DC_CANARY_REG_PROMISE = 1 << 10,   /* accepts below its promise */
	DC_CANARY_REG_VALUE = 1 << 11,     /* phase 1 ignores accepted lists */
	DC_CANARY_REG_HIGHEST = 1 << 12,   /* ... takes the least ballot's */
	DC_CANARY_REG_HALF = 1 << 13,      /* half of the members will do */
	DC_CANARY_REG_NEXT = 1 << 14,      /* the new list's members are counted */
	DC_CANARY_REG_LIFE = 1 << 15,      /* a new life votes for the old one */
	DC_CANARY_REG_TAKEOVER = 1 << 16,  /* ... after promises of all of many */
	DC_CANARY_REG_SOME = 1 << 17,      /* ... after promises of some of many */
	DC_CANARY_REG_MEMBER = 1 << 18,    /* who is no member votes */
	DC_CANARY_REG_LEARN = 1 << 19,     /* one acceptance is a decision */
	DC_CANARY_REG_CLEAR = 1 << 20,     /* an old instance's vote stays */
	DC_CANARY_REG_ABANDON = 1 << 21,   /* a group leaves its lineage */
	DC_CANARY_REG_ALONE = 1 << 22,     /* a restored lone node goes on */
	DC_CANARY_REG_BEHIND = 1 << 23,    /* votes under an older list count */
	DC_CANARY_REG_GENERATION = 1 << 25 /* generations are counted */
};

#ifdef DC_CANARIES
extern unsigned dc_canaries;
#define DC_CANARY(rule) ((dc_canaries & (rule)) != 0)
#else
#define DC_CANARY(rule) 0
#endif

#endif
