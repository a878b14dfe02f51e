/*
 * lag: how long after its commit a row is seen on another server.
 *
 *	lag ORIGIN PEER COUNT PAUSE
 *
 * Inserts COUNT rows into table lag (id bigint, payload text) through the
 * connection string ORIGIN, one every PAUSE microseconds.  After each, asks
 * PEER for it until it is there.  Prints the median, the 99th percentile and
 * the longest time in microseconds from the answer to the INSERT to the answer
 * that has the row; a row that was there at the first question counts with the
 * time of one question.
 */
#include <libpq-fe.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define GIVE_UP_US 60000000.0

static double
now_us(clockid_t which)
{
	struct timespec now;

	clock_gettime(which, &now);
	return (double) now.tv_sec * 1e6 + (double) now.tv_nsec / 1e3;
}

static void
give_up(const char *what, PGconn *conn)
{
	fprintf(stderr, "lag: %s: %s", what, PQerrorMessage(conn));
	exit(1);
}

static PGconn *
connect_and_prepare(const char *conninfo, const char *statement)
{
	PGconn *conn = PQconnectdb(conninfo);
	PGresult *result;

	if (PQstatus(conn) != CONNECTION_OK)
		give_up("connection", conn);
	result = PQprepare(conn, "s", statement, 1, NULL);
	if (PQresultStatus(result) != PGRES_COMMAND_OK)
		give_up("PREPARE", conn);
	PQclear(result);
	return conn;
}

/* Run the statement with this id; the number of rows of its answer. */
static int
run(PGconn *conn, int64_t id)
{
	char text[24];
	const char *values[] = {text};
	PGresult *result;
	int rows;

	snprintf(text, sizeof(text), "%lld", (long long) id);
	result = PQexecPrepared(conn, "s", 1, values, NULL, NULL, 0);
	if (PQresultStatus(result) != PGRES_COMMAND_OK &&
		PQresultStatus(result) != PGRES_TUPLES_OK)
		give_up("statement", conn);
	rows = PQntuples(result);
	PQclear(result);
	return rows;
}

static int
compare(const void *a, const void *b)
{
	const double x = *(const double *) a;
	const double y = *(const double *) b;

	return (x > y) - (x < y);
}

int
main(int argc, char **argv)
{
	PGconn *origin;
	PGconn *peer;
	double *lags;
	int64_t first;
	int count;

	if (argc != 5 || (count = atoi(argv[3])) <= 0)
	{
		fprintf(stderr, "usage: lag ORIGIN PEER COUNT PAUSE\n");
		return 2;
	}
	lags = calloc((size_t) count, sizeof(*lags));
	if (lags == NULL)
		return 1;
	origin =
		connect_and_prepare(argv[1],
							"INSERT INTO lag VALUES ($1, repeat('x', 100))");
	peer = connect_and_prepare(argv[2], "SELECT 1 FROM lag WHERE id = $1");
	first = (int64_t) now_us(CLOCK_REALTIME); /* no two runs share ids */

	for (int i = 0; i < count; i++)
	{
		double committed;

		run(origin, first + i);
		committed = now_us(CLOCK_MONOTONIC);
		while (run(peer, first + i) == 0)
			if (now_us(CLOCK_MONOTONIC) - committed > GIVE_UP_US)
				give_up("the row does not arrive", peer);
		lags[i] = now_us(CLOCK_MONOTONIC) - committed;
		usleep((useconds_t) atoi(argv[4]));
	}
	qsort(lags, (size_t) count, sizeof(*lags), compare);
	printf("%.0f %.0f %.0f\n", lags[count / 2], lags[count - 1 - count / 100],
		   lags[count - 1]);
	PQfinish(origin);
	PQfinish(peer);
	free(lags);
	return 0;
}
