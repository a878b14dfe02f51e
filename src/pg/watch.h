/*
 * watch.h
 *		Who tells of changes of the nodes and of the member list.
 *
 * The gossip worker and the launcher compare what they show with what they
 * showed before, and append the differences to the ring (events.h).  The
 * maintainer, which has a database and may wait, sends each event to those
 * who LISTEN to datacake_membership, as JSON, in a short transaction of its
 * own.
 */
#ifndef DATACAKE_WATCH_H
#define DATACAKE_WATCH_H

#include "postgres.h"

#include "shmem.h"

#define DC_WATCH_CHANNEL "datacake_membership"

/*
 * What people are told of a node: `joining` and `leaving` are what it says of
 * itself, `removed` what the list says of it.
 */
extern DcNodeLife dc_watch_life(DcNodeState state, bool joining, bool leaving,
								bool removed);

/* Does the list fence or name as removed this incarnation of a node? */
extern bool dc_watch_removed(const DcMembers *list, const DcNode *node);

/* The node of this id among `count`; looked for at `slot` first; or NULL. */
extern const DcNode *dc_watch_find(const DcNode *nodes, int count, int slot,
								   uint32 node_id);

/* Appends the differences of two states of dc_shared->nodes. */
extern void dc_watch_nodes(const DcNode *before, const DcNode *after, int count,
						   uint64 epoch);

/* Appends the differences of two member lists; `epoch` of the second. */
extern void dc_watch_members(const DcMembers *before, const DcMembers *after,
							 uint64 epoch);

/*
 * Maintainer, outside of a transaction: notifies of what is new.  False: some
 * of it could not be told for now.
 */
extern bool dc_watch_notify(void);

#endif
