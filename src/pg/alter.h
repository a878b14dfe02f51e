/*
 * alter.h
 *		What DDL does to replicated tables of this node.
 *
 * Event triggers call datacake.follow_ddl():
 *
 *	 sql_drop          a table is gone: the keyspace ends; a column is gone: so
 *	                   says the history of its definition (shape.h)
 *	 ddl_command_end   what a keyspace cannot be without must still be there;
 *	                   the definition becomes what the table is now; what
 *	                   waits in the quarantine is tried again
 *
 * Commands are not foreseen: what one has made of the table is looked at, and
 * an ERROR takes it back.
 */
#ifndef DATACAKE_ALTER_H
#define DATACAKE_ALTER_H

#include "postgres.h"

/*
 * True while another node's command runs here (command.h): that node takes
 * care of the definitions.
 */
extern bool dc_defined_elsewhere;

#endif
