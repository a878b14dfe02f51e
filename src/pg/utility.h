/*
 * utility.h
 *		What replication adds to utility commands.
 */
#ifndef DATACAKE_UTILITY_H
#define DATACAKE_UTILITY_H

/* Takes its place before ProcessUtility; at load time. */
extern void dc_utility_init(void);

#endif
