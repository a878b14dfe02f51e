/*
 * peer.h
 *		The session that a peer opened in this backend, for other calls of it.
 */
#ifndef DATACAKE_PEER_H
#define DATACAKE_PEER_H

#include "postgres.h"

#include "status.h"
#include "wire.h"

/* ERROR with the status's own SQLSTATE; `hint` may be NULL. */
extern void dc_peer_refuse(DcStatus status, const char *hint)
	pg_attribute_noreturn();

/*
 * Opens the next call of the session, which is in it until the transaction
 * commits.  ERROR if there is no session, or it is not the next call.
 */
extern DcSlice dc_peer_open(bytea *sealed, char direction);

/* Seals the answer to it. */
extern bytea *dc_peer_seal(char direction, const void *plain, Size length);

/* The node that called, and the wire version to answer in. */
extern uint32 dc_peer_node(void);
extern uint8 dc_peer_version(void);

#endif
