/*
 * advice.h
 *		Why a peer cannot be reached or refuses, and what to do about it.
 *
 * For peers.last_error, and for errors of who asks a peer: what happened, as
 * the peer or libpq says it, and in parentheses what is to be changed where.
 * All texts are one line, palloc'd.
 */
#ifndef DATACAKE_ADVICE_H
#define DATACAKE_ADVICE_H

#include "postgres.h"

#include "libpq-fe.h"

/*
 * To be called when a connection is begun: then the SQLSTATE of who refuses
 * it is known, whatever language he speaks.
 */
extern void dc_advice_prepare(PGconn *conn);

/* A connection that failed; NULL if there was no memory for one. */
extern char *dc_advice_connection(const PGconn *conn, uint32 node_id);

/* An error that the peer answered with. */
extern char *dc_advice_answer(const PGresult *result, uint32 node_id);

/* The part in parentheses of the latter; NULL: none. */
extern char *dc_advice_hint(const PGresult *result, uint32 node_id);

#endif
