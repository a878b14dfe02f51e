/*
 * definition.h
 *		What a keyspace is: a row of datacake.keyspace, which replicates like
 *		any other (P16).
 *
 *	 table here --- write, update ---> definition ~~~> peers
 *	                                                     |  create, or compare
 *	                                                     v
 *	                                                   table there
 *
 * It says all that another node needs to make the table: names, owner, columns
 * with defaults, primary key, what excludes rows from each other, partitions;
 * and what names of columns meant before (shape.h).  It is made of the
 * catalogues by one query, and tables are made of it by commands that a query
 * builds from it.  What is in it comes from another node: names are quoted,
 * and commands run as the owner of the table.
 *
 * All inside SPI, with ordinary ERRORs.  keyspace.h adopts the tables.
 */
#ifndef DATACAKE_DEFINITION_H
#define DATACAKE_DEFINITION_H

#include "postgres.h"

typedef struct DcDefinition
{
	char *schema;
	char *table;
	char *owner;
	char *kind;
	char *create; /* the CREATE TABLE command */
	uint64 id;
	uint32 key_bytes;
	uint64 least_id; /* of all definitions with this name */
} DcDefinition;

/* The first definition of this table. */
extern void dc_definition_write(Oid relid, uint64 id, uint32 key_bytes);

/*
 * The table was altered here: its definition, and those of other nodes under
 * its name, become what it is.  Nothing is written if nothing differs.
 * `history`: a JSON object to be added to that of the definition, `forgotten`:
 * a text array of names to be taken out of it.
 */
extern void dc_definition_update(Oid relid, uint64 id, const char *history,
								 const char *forgotten);

/* Deletes it, and those of other nodes under its name. */
extern void dc_definition_delete(uint64 id);

/* False: there is none. */
extern bool dc_definition_read(uint64 id, DcDefinition *definition);

/*
 * The table with its indexes and partitions, its schema if need be, and the
 * functions of a keyspace that create_keyspace() made; returns its oid.
 */
extern Oid dc_definition_create(const DcDefinition *definition, Oid owner);

/* ERROR if the table lacks a column of it, or has another primary key. */
extern void dc_definition_compare(const DcDefinition *definition, Oid relid);

#endif
