/*
 * selector.h
 *		Whom to ask and to wait for: the default, or what a selector picks.
 *
 * datacake.selector names it: "default", or one that a library registered in
 * this process, or one written in SQL (selector_sql.h).  What it picks is
 * checked.
 */
#ifndef DATACAKE_SELECTOR_H
#define DATACAKE_SELECTOR_H

#include "postgres.h"

#include "datacake_api.h"
#include "voters.h"

/* As in datacake_api.h. */
extern void dc_selector_register(const char *name, DatacakeSelector selector);

/*
 * Fills `chosen`, with room for all voters, and returns how many: what the
 * selector picks, if all of it is alive, each once, and meets the
 * level; otherwise all that are alive.  A WARNING tells of a bad choice.
 */
extern int dc_selector_choose(const DcVoters *voters, DcLevel level,
							  uint32 *chosen);

/*
 * The same for who asks some and replaces those that do not answer: indexes of
 * voters, what the selector picks in front, then the others as choice.h says;
 * room for all of them.
 */
extern uint32 dc_selector_order(const DcVoters *voters, DcLevel level,
								uint32 *order);

#endif
