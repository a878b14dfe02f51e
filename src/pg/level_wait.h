/*
 * level_wait.h
 *		Consistency levels of the running transaction: asked for, checked,
 *		waited for.
 *
 *	 writes       dc_level_ask()       levels add up: all of them are to be met
 *	 PRE_COMMIT   dc_level_check()     ERROR if live members cannot meet them
 *	 COMMIT       dc_level_committed() the publish number is known
 *	 after locks  dc_level_wait()      until met, or a WARNING (P4)
 */
#ifndef DATACAKE_LEVEL_WAIT_H
#define DATACAKE_LEVEL_WAIT_H

#include "postgres.h"

#include "access/xact.h"

#include "level.h"

/* From now on this process never waits, whatever is asked for; or it does. */
extern void dc_level_exempt(bool exempt);

/* A rolled back subtransaction takes back what it asked for. */
extern void dc_level_ask(DcLevel level);
extern void dc_level_subabort(SubTransactionId subid);

/* The setting counts as well.  Nothing is written yet. */
extern void dc_level_check(void);

/* Will this transaction wait?  Known after the check. */
extern bool dc_level_asked(void);

/* Cannot fail. */
extern void dc_level_committed(uint64 number, DcHlc stamp);

/* The transaction ended without that. */
extern void dc_level_forget(void);

/* After the locks; at most a WARNING.  Nothing to wait for: returns. */
extern void dc_level_wait(void);

/* The stamp of the last transaction that committed captured changes here. */
extern DcHlc dc_last_commit_stamp(void);

#endif
