/*
 * rejoin.h
 *		What a joining node does with what its donor knows nothing of (R13).
 *
 *	own deaths that nobody heard of    first: forgotten
 *	compare with the donor             repair.h, in rejoin mode
 *	live rows that the donor lacks     dc_rule_rejoin: erased, written anew,
 *	                                   set aside in datacake.orphan, or kept
 *
 * From the repairer, outside of a transaction, while the node joins.
 */
#ifndef DATACAKE_REJOIN_H
#define DATACAKE_REJOIN_H

#include "postgres.h"

#include "metadata.h"

/*
 * Deaths that no member's vector covers, from before this node was taken in,
 * are forgotten, so that the donor's rows come back: they may lie
 * below a horizon, where others would not take them.  Returns how many.
 */
extern uint64 dc_rejoin_deaths(int slot, uint64 id, void (*check)(void));

/*
 * One live row of keyspace `id` that the donor does not know; `covered`: its
 * vector covers the row's stamp.  True if anything was done.  ERROR YD023 if
 * the slot is not that keyspace's any more.
 */
extern bool dc_rejoin_row(int slot, uint64 id, const uint8 *key, Size length,
						  bool covered, void (*check)(void));

/*
 * All live rows of a keyspace that the donor does not know at all; this node's
 * vector, which includes the donor's, says what was covered.
 */
extern uint64 dc_rejoin_all(int slot, uint64 id, void (*check)(void));

#endif
