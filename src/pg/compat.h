/*
 * compat.h
 *		The only place that asks which PostgreSQL this is.
 */
#ifndef DATACAKE_COMPAT_H
#define DATACAKE_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 150000 || PG_VERSION_NUM >= 160000
#error "datacake is tested with PostgreSQL 15 only"
#endif

/*
 * Declares an SQL-callable function and exports it; everything else of the
 * library is hidden (-fvisibility=hidden).
 */
#define DC_SQL_FUNCTION(name)                                                  \
	extern PGDLLEXPORT Datum name(PG_FUNCTION_ARGS);                           \
	PG_FUNCTION_INFO_V1(name)

#endif
