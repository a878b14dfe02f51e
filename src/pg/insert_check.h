/*
 * insert_check.h
 *		An INSERT without a list of columns must not fill the stamp by
 *		position.
 */
#ifndef DATACAKE_INSERT_CHECK_H
#define DATACAKE_INSERT_CHECK_H

/* Looks at each statement after its analysis; at load time. */
extern void dc_insert_check_init(void);

#endif
