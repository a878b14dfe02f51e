/*
 * command.h
 *		DDL for the whole cluster: each member runs the same commands, in one
 *		order, exactly once.
 *
 *	 datacake.ddl()      on the calling node
 *	   |  run it, hold it open, keep its text      on each live member (peer_command)
 *	   |  run it, hold it open                     here
 *	   v
 *	 the member list's successor names it          decided by a majority (R10)
 *	   |
 *	   v
 *	 commit                                        each by itself, when it sees that
 *
 *	 who was away, or crashed in between: the registrar finds that the list
 *	 names more commands than were run here, asks for their text and runs them
 *
 * The number of a command is that of the list that names it, so there is one
 * order and a majority for it, through changes of members as well.  What was
 * run here is a row of datacake.ddl_log, written in the command's own
 * transaction.  A majority has the text on disk before anything is decided.
 *
 * While a member has commands to run, it takes no rows and sends none.  If one
 * of them fails, that is over: what does not fit waits in the quarantine, and
 * the command is tried again.
 *
 * A node that the cluster takes in anew gets the tables as they are: commands
 * up to the end of its joining count as run.
 */
#ifndef DATACAKE_COMMAND_H
#define DATACAKE_COMMAND_H

#include "postgres.h"

#include "job.h"
#include "shmem.h"

typedef struct DcCommand
{
	uint64 founder; /* of the line of member lists */
	uint64 number;
	DcHlc id;
	uint32 origin; /* the node on which it was called */
	char *role;
	bool superuser; /* which that role was there */
	char *search_path;
	char *text;
} DcCommand;

/* As JSON, and back; in a transaction with SPI connected.  ERROR YD011. */
extern char *dc_command_json(const DcCommand *command);
extern DcCommand *dc_command_parse(const char *json);

/*
 * Begins to run this command here, until the transaction ends; false if
 * another one is being run.
 */
extern bool dc_command_claim(DcHlc id);
extern void dc_command_release(void);

/*
 * Runs it in this transaction, as its role; notes that it was run.  SPI
 * connected.
 */
extern void dc_command_run(const DcCommand *command);
extern void dc_command_note(const DcCommand *command);

/* Its text becomes a row: `state` is "proposed", or "decided". */
extern void dc_command_keep(const DcCommand *command, const char *state);

/* Does the list name it as its last command; is it one beyond that? */
extern bool dc_command_decided(const DcCommand *command, bool *overtaken);

/* How many commands a list of this founder names; the last of them. */
typedef struct DcCommandCount
{
	uint64 founder;
	uint64 number;
	DcHlc last;
} DcCommandCount;

extern DcCommandCount dc_commands_of(const DcPosition *at,
									 const DcMembers *list);

/*
 * Are there commands that were neither run nor tried here?  By the list as
 * last published, and another one that is known of (NULL: none).
 */
extern bool dc_commands_missing(const DcCommandCount *known);

/* Registrar: the job of a backend that calls ddl(). */
extern void dc_command_propose(uint64 number, DcHlc id, DcJobEnd *end,
							   void (*check)(void));

/* Registrar, in each turn: runs what is missing.  False: some still is. */
extern bool dc_commands_catch_up(void (*check)(void));

#endif
