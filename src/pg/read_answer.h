/*
 * read_answer.h
 *		What a node knows of some keys of a keyspace, as it tells a reader.
 *
 *	question  version | 'V' | keyspace u64 | varint n | n x key
 *	answer    version | 'V' | floor u64 | varint taken | taken x state u8
 *	          | parts, 0
 *
 * The keys are distinct and ascending.  The answer is about the first `taken`
 * of them; states are DcKeyFound.  The parts bring the versions of those that
 * are "sent" (message.h), rows that wait in the quarantine included (P12).
 * `floor` is read last: a key that is absent, or older, died there.
 *
 * This node makes the same answer for itself.
 */
#ifndef DATACAKE_READ_ANSWER_H
#define DATACAKE_READ_ANSWER_H

#include "postgres.h"

#include "catchup.h"
#include "message.h"

#define DC_READ_KEYS      4096
#define DC_READ_KEY_BYTES ((Size) 512 * 1024) /* of a question */

/*
 * In a transaction, SPI connected, as superuser.  What is in it is flushed
 * (R3, P9).  `own`: for a reader in this transaction, who sees what it did.
 * DC_UNSETTLED if a key is not settled within about a second, or the table is
 * locked; DC_UNKNOWN_KEYSPACE.
 */
extern DcStatus dc_read_answer(uint64 keyspace, const DcSlice *keys,
							   uint32 count, bool own, StringInfo answer);

#endif
