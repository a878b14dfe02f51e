/*
 * council.h
 *		Getting the members to agree on a change of their list (R10).
 *
 * Moves the bytes of a proposer (proposer.h of the core): to the other members
 * through questions to datacake.peer_register(), to this node's own register
 * through transactions of its own.  For a worker, outside of a transaction.
 */
#ifndef DATACAKE_COUNCIL_H
#define DATACAKE_COUNCIL_H

#include "postgres.h"

#include "job.h"
#include "proposer.h"

/*
 * Carries one change through; takes some seconds if members are missing.
 * `via`: the node to ask for the list, if this node has none; else 0.  DC_OK:
 * it is in force.  Otherwise *end says why not, for a person; DC_UNDECIDED:
 * the outcome is not known.  `check` is called while waiting and may raise.
 */
extern DcStatus dc_council_change(const DcListChange *change, uint32 via,
								  DcJobEnd *end, void (*check)(void));

/* Forced recovery: only these nodes stay members, without a majority. */
extern DcStatus dc_council_force(const uint32 *survivors, uint32 count,
								 DcJobEnd *end, void (*check)(void));

/*
 * What a node knows of the list; false if it does not answer, and why (as
 * long as DC_ERROR_BYTES).
 */
extern bool dc_council_read(uint32 node_id, DcRegisterReply *reply, char *why,
							void (*check)(void));

/* Tells a node this node's list, as long as it may be told; true: it took it. */
extern bool dc_council_tell(uint32 node_id, void (*check)(void));

#endif
