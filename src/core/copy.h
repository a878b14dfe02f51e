/*
 * copy.h
 *		Codec of the questions by which an empty node copies another (R6).
 *
 *	BEGIN    -                                --> vector | serving | keyspaces
 *	WAITING  keyspace | key                   --> key, empty: that was all | parts
 *	ROWS     keyspace | place                 --> place | done | rows | parts
 *	CHANGED  first u8, 1: vector              --> done | rows | parts
 *	END      -                                --> vector | debts | horizon
 *
 *	keyspaces = varint n | n x (id u64 | rows varint)      ascending ids
 *	place     = file u32 | block u32 | offset u16          of the next row
 *
 * A question is version, 'K', kind, fields; its answer version, 'k', kind,
 * fields.  The parts of an answer are those of a call (message.h), with the 0
 * that ends them.
 *
 * Everything that the donor must know is in the question, so that it keeps
 * nothing of a copy, and whoever asks can go on after a crash of either.  Only
 * CHANGED is a scan in one session, and begins anew in the next; END tells what
 * it reached, and follows in the same session.
 */
#ifndef DC_COPY_H
#define DC_COPY_H

#include "message.h"

#define DC_COPY_KEYSPACES_MAX 1024

typedef enum DcCopyKind
{
	DC_COPY_BEGIN = 1,
	DC_COPY_WAITING = 2,
	DC_COPY_ROWS = 3,
	DC_COPY_CHANGED = 4,
	DC_COPY_END = 5
} DcCopyKind;

/* The next row of a table to be sent; all zero: the first. */
typedef struct DcCopyPlace
{
	uint32_t file; /* of the table; another one: begin anew */
	uint32_t block;
	uint16_t offset;
} DcCopyPlace;

typedef struct DcCopyKeyspace
{
	uint64_t id;
	uint64_t rows; /* about */
} DcCopyKeyspace;

/* Which fields count depends on the kind. */
typedef struct DcCopyQuestion
{
	DcCopyKind kind;
	uint64_t keyspace;
	DcSlice after; /* WAITING: the last key that came */
	DcCopyPlace place;
	bool first;  /* CHANGED */
	DcVv vector; /* CHANGED, first: the donor's, as BEGIN told it */
} DcCopyQuestion;

typedef struct DcCopyAnswer
{
	DcCopyKind kind;
	DcVv vector;      /* of the donor; BEGIN: V; END: V before the scan */
	uint32_t serving; /* BEGIN: copies it serves at the moment */
	uint32_t keyspace_count;
	DcCopyKeyspace keyspaces[DC_COPY_KEYSPACES_MAX];
	DcSlice after;
	DcCopyPlace place;
	bool done;
	uint32_t rows;
	DcSlice debts; /* END: that go with the vector; well formed (debts.h) */
	DcHorizon horizon;
	DcSlice parts; /* the rest of the answer */
} DcCopyAnswer;

void dc_copy_question_encode(DcWriter *w, const DcCopyQuestion *question);
DcStatus dc_copy_question_decode(const void *data, size_t length,
								 DcCopyQuestion *question);

/* Without the parts, which the caller appends. */
void dc_copy_answer_encode(DcWriter *w, const DcCopyAnswer *answer);
DcStatus dc_copy_answer_decode(const void *data, size_t length,
							   DcCopyAnswer *answer);

#endif
