/*
 * selector_sql.h
 *		Selectors written in SQL.
 *
 * A function (candidates jsonb, level text) returns integer[], under a name in
 * datacake.selector.  The candidates are an array of {node_id, local, alive,
 * lag_us, data_center}; lag_us is null while it is not known.  It runs as its
 * owner, in the transaction that asks, as a security-restricted operation.
 */
#ifndef DATACAKE_SELECTOR_SQL_H
#define DATACAKE_SELECTOR_SQL_H

#include "postgres.h"

#include "datacake_api.h"

/*
 * As a DatacakeSelector; false if there is none of that name, or its function
 * is not there any more, or nothing can be run now.
 */
extern bool dc_selector_sql(const char *name,
							const DatacakeCandidate *candidates, int count,
							const char *level, uint32 *chosen,
							int *chosen_count);

#endif
