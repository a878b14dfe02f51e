/*
 * roster.h
 *		The agreed member list (register.h of the core) as this node keeps it.
 *
 *	 peer_register() of a peer --+
 *	 a welcome, a call ----------+--> datacake.register, one row, durable
 *	 registrar, launcher --------+              |
 *	                                            v
 *	              launcher: reads the list, publishes it in dc_shared->standing
 *
 * Whoever changes the row holds SHARE ROW EXCLUSIVE on its table until commit;
 * the launcher reads it under SHARE.  Nothing of a change is told to anybody
 * before that commit.
 */
#ifndef DATACAKE_ROSTER_H
#define DATACAKE_ROSTER_H

#include "postgres.h"

#include "register.h"

/*
 * In a transaction, SPI connected: what is durable; palloc'd, all zero before
 * the first start.
 */
extern DcRegister *dc_roster_read(void);

/* The same by a worker outside of a transaction. */
extern DcRegister *dc_roster_copy(void);

/* As the first, alone until the transaction ends. */
extern DcRegister *dc_roster_lock(void);

/* Writes it; the launcher publishes it after the commit. */
extern void dc_roster_save(const DcRegister *reg);

/* The launcher: reads it unless somebody changes it just now; else NULL. */
extern DcRegister *dc_roster_try_read(void);

/*
 * Carries a request out on this node's own register, saves it, and draws the
 * consequences for this node.  In a transaction, SPI connected.
 */
extern void dc_roster_answer(const DcRegisterRequest *request,
							 DcRegisterReply *reply);

/* A peer told its list.  In a transaction, SPI connected. */
extern void dc_roster_learn(const DcPosition *at, const DcMembers *members);

#endif
