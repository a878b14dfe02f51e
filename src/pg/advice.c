/*
 * advice.c
 *		Why a peer cannot be reached or refuses, and what to do about it.
 */
#include "advice.h"

/* By SQLSTATE; %u is the node that was called. */
static const struct
{
	const char *sqlstate;
	const char *hint;
} advices[] = {
	/* refused connections */
	{"28000", "let this node in by pg_hba.conf of node %u, or correct user in "
			  "its datacake.conninfo"},
	{"28P01", "correct the password of that role on node %u, or in the "
			  "passfile here"},
	{"3D000", "correct dbname in datacake.conninfo of node %u: it must be its "
			  "datacake.database"},
	{"53300", "raise max_connections of node %u, or the limit of its database "
			  "or role"},
	{"57P03", "node %u starts or stops; this passes by itself"},
	/* refused calls */
	{"3F000", "run CREATE EXTENSION datacake in the datacake.database of node "
			  "%u, and have its datacake.conninfo name that database"},
	{"42883", "run CREATE EXTENSION datacake anew on node %u: it has another "
			  "release's functions"},
	{"42501", "GRANT datacake_peer to that role on node %u"},
	{"58P01", "install Datacake on the server of node %u"},
};

static const char *
advice_for(const char *sqlstate, uint32 node_id)
{
	for (int i = 0; i < (int) lengthof(advices); i++)
	{
		if (sqlstate != NULL && strcmp(sqlstate, advices[i].sqlstate) == 0)
			return psprintf(advices[i].hint, node_id);
	}
	return NULL;
}

static char *
with_hint(const char *text, const char *hint)
{
	return hint == NULL ? pstrdup(text) : psprintf("%s (%s)", text, hint);
}

void
dc_advice_prepare(PGconn *conn)
{
	if (conn != NULL)
		(void) PQsetErrorVerbosity(conn, PQERRORS_VERBOSE);
}

/*
 * "... failed: FATAL:  28P01: password ...": copies the state and takes it out
 * of the text; false if there is none, as in what libpq itself complains of.
 */
static bool
cut_sqlstate(char *text, char sqlstate[6])
{
	for (char *at = strstr(text, ":  "); at != NULL; at = strstr(at + 1, ":  "))
	{
		char *state = at + 3;

		if (strspn(state, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") != 5 ||
			strncmp(state + 5, ": ", 2) != 0)
			continue;
		strlcpy(sqlstate, state, 6);
		memmove(state, state + 7, strlen(state + 7) + 1);
		return true;
	}
	return false;
}

char *
dc_advice_connection(const PGconn *conn, uint32 node_id)
{
	char *text = pstrdup(PQerrorMessage(conn)); /* of NULL: a text, too */
	char sqlstate[6];

	text[strcspn(text, "\n")] = '\0';
	if (cut_sqlstate(text, sqlstate))
		return with_hint(text, advice_for(sqlstate, node_id));
	if (PQconnectionNeedsPassword(conn))
		return with_hint(text, psprintf("name a passfile with it in "
										"datacake.conninfo of node %u; it is "
										"looked for on this node",
										node_id));
	if (PQstatus(conn) == CONNECTION_OK)
		return text; /* it was lost, and is tried again */
	return with_hint(text, psprintf("check that the server of node %u runs, "
									"and host, port and sslmode in its "
									"datacake.conninfo",
									node_id));
}

char *
dc_advice_hint(const PGresult *result, uint32 node_id)
{
	const char *state = PQresultErrorField(result, PG_DIAG_SQLSTATE);
	const char *hint = advice_for(state, node_id);

	if (hint == NULL)
		hint = PQresultErrorField(result, PG_DIAG_MESSAGE_HINT);
	return hint != NULL ? pstrdup(hint) : NULL;
}

char *
dc_advice_answer(const PGresult *result, uint32 node_id)
{
	const char *text = PQresultErrorField(result, PG_DIAG_MESSAGE_PRIMARY);

	if (text == NULL)
		text = PQresultErrorMessage(result); /* the connection was lost */
	text = pnstrdup(text, strcspn(text, "\n"));
	return with_hint(text, dc_advice_hint(result, node_id));
}
