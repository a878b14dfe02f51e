/*
 * tools.h
 *		Arguments that several SQL functions take.
 */
#ifndef DATACAKE_TOOLS_H
#define DATACAKE_TOOLS_H

#include "postgres.h"

#include "utils/timestamp.h"

#include "level.h"

/* Milliseconds, at least 0, at most INT_MAX. */
extern long dc_interval_ms(const Interval *interval);

/* ERROR if there is no level of that name. */
extern DcLevel dc_level_argument(const char *name);

#endif
