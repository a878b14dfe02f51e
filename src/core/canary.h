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

#include <stdint.h>

/* Replication, members, repair. */
#define DC_CANARY_P1                                                           \
	(UINT64_C(1) << 0) /* an insert ignores the deaths of its key */
#define DC_CANARY_P2                                                           \
	(UINT64_C(1) << 1) /* apply believes the metadata, not the heap */
#define DC_CANARY_R2                                                           \
	(UINT64_C(1) << 2) /* the watermark ignores transactions in flight */
#define DC_CANARY_R4 (UINT64_C(1) << 3) /* a vector moves over gaps */
#define DC_CANARY_R5 (UINT64_C(1) << 4) /* what was forgotten is taken again */
#define DC_CANARY_R8                                                           \
	(UINT64_C(1) << 5) /* who does not answer is not waited for */
#define DC_CANARY_R10 (UINT64_C(1) << 6) /* floors count under any list */
#define DC_CANARY_R11                                                          \
	(UINT64_C(1) << 7) /* a node is removed before the others closed it */
#define DC_CANARY_R12 (UINT64_C(1) << 8) /* a newcomer need not join */
#define DC_CANARY_R13 (UINT64_C(1) << 9) /* a joiner keeps what others forgot */
#define DC_CANARY_R15                                                          \
	(UINT64_C(1) << 10) /* a clone that fell silent is not forgotten */
#define DC_CANARY_CHECK                                                        \
	(UINT64_C(1) << 11) /* the check of a sketch's cell is linear */
#define DC_CANARY_LEFT                                                         \
	(UINT64_C(1) << 33) /* what a catch-up left to others counts as there */

/* The register of the member list (R10). */
#define DC_CANARY_REG_PROMISE                                                  \
	(UINT64_C(1) << 12) /* accepts below its promise */
#define DC_CANARY_REG_VALUE                                                    \
	(UINT64_C(1) << 13) /* phase 1 ignores accepted lists */
#define DC_CANARY_REG_HIGHEST                                                  \
	(UINT64_C(1) << 14) /* ... takes the least ballot's */
#define DC_CANARY_REG_HALF (UINT64_C(1) << 15) /* half of the members will do */
#define DC_CANARY_REG_NEXT                                                     \
	(UINT64_C(1) << 16) /* the new list's members are counted */
#define DC_CANARY_REG_LIFE                                                     \
	(UINT64_C(1) << 17) /* a new life votes for the old one */
#define DC_CANARY_REG_TAKEOVER                                                 \
	(UINT64_C(1) << 18) /* ... after promises of all of many */
#define DC_CANARY_REG_SOME                                                     \
	(UINT64_C(1) << 19) /* ... after promises of some of many */
#define DC_CANARY_REG_MEMBER (UINT64_C(1) << 20) /* who is no member votes */
#define DC_CANARY_REG_LEARN                                                    \
	(UINT64_C(1) << 21) /* one acceptance is a decision */
#define DC_CANARY_REG_CLEAR                                                    \
	(UINT64_C(1) << 22) /* an old instance's vote stays */
#define DC_CANARY_REG_ABANDON                                                  \
	(UINT64_C(1) << 23) /* a group leaves its lineage */
#define DC_CANARY_REG_ALONE                                                    \
	(UINT64_C(1) << 24) /* a restored lone node goes on */
#define DC_CANARY_REG_BEHIND                                                   \
	(UINT64_C(1) << 25) /* votes under an older list count */
#define DC_CANARY_REG_GENERATION                                               \
	(UINT64_C(1) << 26) /* generations are counted */

#define DC_CANARY_REG_OVERTAKEN                                                \
	(UINT64_C(1) << 35) /* a command that was overtaken was not run */
#define DC_CANARY_REG_NUMBER (UINT64_C(1) << 36) /* a command suits any list */
#define DC_CANARY_REG_NAME                                                     \
	(UINT64_C(1) << 37) /* lists are equal, whatever their commands */

/* Rows of one table against each other. */
#define DC_CANARY_P3 (UINT64_C(1) << 33) /* the row that came first stays */
#define DC_CANARY_P3_ASIDE                                                     \
	(UINT64_C(1) << 34) /* a row that was put aside is still waited for */

/* Gossip. */
#define DC_CANARY_FORWARD (UINT64_C(1) << 27) /* nobody speaks of others */
#define DC_CANARY_REFUTE  (UINT64_C(1) << 28) /* answers do not go first */
#define DC_CANARY_FLOOR   (UINT64_C(1) << 29) /* phi without its floor */
#define DC_CANARY_ROTATE  (UINT64_C(1) << 30) /* always the same digests */
#define DC_CANARY_AGE     (UINT64_C(1) << 31) /* versions travel without age */
#define DC_CANARY_ASK     (UINT64_C(1) << 32) /* questions are kept to oneself */
#define DC_CANARY_NEWS    (UINT64_C(1) << 33) /* heartbeats go before news */

#ifdef DC_CANARIES
extern uint64_t dc_canaries;
#define DC_CANARY(rule) ((dc_canaries & (rule)) != 0)
#else
#define DC_CANARY(rule) 0
#endif

#endif
