/*
 * test_copy.c
 *		The codec of a copy's questions and answers: whatever is encoded is
 *		decoded alike, and nothing else is accepted.
 */
#include "copy.h"

#include "tap.h"

#include <string.h>

static uint8_t bytes[64 * 1024];
static DcCopyQuestion question;
static DcCopyQuestion asked;
static DcCopyAnswer answer;
static DcCopyAnswer got;

static size_t
encode_question(void)
{
	DcWriter w;

	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_copy_question_encode(&w, &question);
	return w.length;
}

static size_t
encode_answer(const char *parts)
{
	DcWriter w;

	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_copy_answer_encode(&w, &answer);
	dc_write_bytes(&w, parts, strlen(parts));
	return w.length;
}

static bool
every_truncation_is_refused(bool of_answer, size_t length)
{
	for (size_t n = 0; n < length; n++)
	{
		DcStatus status = of_answer ? dc_copy_answer_decode(bytes, n, &got) :
									  dc_copy_question_decode(bytes, n, &asked);

		if (status == DC_OK)
			return false;
	}
	return true;
}

static void
test_questions(void)
{
	for (int kind = DC_COPY_BEGIN; kind <= DC_COPY_END; kind++)
	{
		size_t length;

		memset(&question, 0, sizeof(question));
		question.kind = (DcCopyKind) kind;
		question.keyspace = 77;
		question.after = (DcSlice){(const uint8_t *) "key", 3};
		question.place = (DcCopyPlace){16384, 4000000000u, 291};
		question.first = true;
		question.vector.at[9] = dc_hlc_make(5, 9);
		length = encode_question();
		ok(dc_copy_question_decode(bytes, length, &asked) == DC_OK &&
			   asked.kind == question.kind,
		   "question %d is decoded", kind);
		ok(every_truncation_is_refused(false, length),
		   "question %d: every truncation is refused", kind);
		ok(dc_copy_question_decode(bytes, length + 1, &asked) != DC_OK,
		   "question %d: a byte behind its end is refused", kind);
	}
}

static void
test_fields_of_questions(void)
{
	question.kind = DC_COPY_WAITING;
	(void) dc_copy_question_decode(bytes, encode_question(), &asked);
	ok(asked.keyspace == 77 && asked.after.length == 3 &&
		   memcmp(asked.after.data, "key", 3) == 0,
	   "keyspace and last key of what waits come through");
	question.kind = DC_COPY_ROWS;
	(void) dc_copy_question_decode(bytes, encode_question(), &asked);
	ok(asked.keyspace == 77 && asked.place.file == 16384 &&
		   asked.place.block == 4000000000u && asked.place.offset == 291,
	   "a place comes through");
	question.kind = DC_COPY_CHANGED;
	(void) dc_copy_question_decode(bytes, encode_question(), &asked);
	ok(asked.first && asked.vector.at[9] == dc_hlc_make(5, 9),
	   "the vector comes with the first question for what changed");
	question.first = false;
	ok(encode_question() == 4, "and with no other");
}

static void
test_answers(void)
{
	static const uint8_t debts[] = {0, 3, 0, 0, 0, 0, 0, 0, 40, 3, 1, 0, 2};

	memset(&answer, 0, sizeof(answer));
	answer.kind = DC_COPY_BEGIN;
	answer.vector.at[3] = dc_hlc_make(7, 3);
	answer.serving = 2;
	answer.keyspace_count = 2;
	answer.keyspaces[0] = (DcCopyKeyspace){1, 5};
	answer.keyspaces[1] = (DcCopyKeyspace){900, 1000000};
	ok(dc_copy_answer_decode(bytes, encode_answer(""), &got) == DC_OK &&
		   got.vector.at[3] == dc_hlc_make(7, 3) && got.serving == 2 &&
		   got.keyspace_count == 2 && got.keyspaces[1].id == 900 &&
		   got.keyspaces[1].rows == 1000000,
	   "the beginning comes through");
	ok(every_truncation_is_refused(true, encode_answer("")),
	   "every truncation of it is refused");
	answer.keyspaces[1].id = 1;
	ok(dc_copy_answer_decode(bytes, encode_answer(""), &got) == DC_MALFORMED,
	   "keyspaces out of order are refused");

	answer.kind = DC_COPY_ROWS;
	answer.place = (DcCopyPlace){1, 2, 3};
	answer.done = true;
	answer.rows = 1000;
	ok(dc_copy_answer_decode(bytes, encode_answer("parts"), &got) == DC_OK &&
		   got.place.file == 1 && got.place.block == 2 &&
		   got.place.offset == 3 && got.done && got.rows == 1000 &&
		   got.parts.length == 5 && memcmp(got.parts.data, "parts", 5) == 0,
	   "rows come through, with their parts");
	bytes[13] = 2;
	ok(dc_copy_answer_decode(bytes, 18, &got) == DC_MALFORMED,
	   "a flag that is neither 0 nor 1 is refused");

	answer.kind = DC_COPY_END;
	answer.vector.at[3] = dc_hlc_make(8, 3);
	answer.horizon.stamp = dc_hlc_make(4, 1);
	answer.horizon.counted[1] = true;
	answer.debts = (DcSlice){debts, sizeof(debts)};
	ok(dc_copy_answer_decode(bytes, encode_answer(""), &got) == DC_OK &&
		   got.vector.at[3] == dc_hlc_make(8, 3) &&
		   got.horizon.stamp == dc_hlc_make(4, 1) && got.horizon.counted[1] &&
		   got.debts.length == sizeof(debts),
	   "vector, debts and horizon come through");
	ok(every_truncation_is_refused(true, encode_answer("")),
	   "every truncation of them is refused");
	ok(dc_copy_answer_decode(bytes, encode_answer("x"), &got) != DC_OK,
	   "a byte behind it is refused");
}

static void
test_heads(void)
{
	size_t length;

	question.kind = DC_COPY_BEGIN;
	length = encode_question();
	bytes[0] = (uint8_t) (dc_versions_own().wire + 1);
	ok(dc_copy_question_decode(bytes, length, &asked) == DC_VERSION,
	   "another version is refused as such");
	bytes[0] = (uint8_t) dc_versions_own().wire;
	bytes[1] = 'k';
	ok(dc_copy_question_decode(bytes, length, &asked) == DC_MALFORMED,
	   "an answer is no question");
	bytes[1] = 'K';
	bytes[2] = DC_COPY_END + 1;
	ok(dc_copy_question_decode(bytes, length, &asked) == DC_MALFORMED,
	   "another kind is refused");
}

int
main(void)
{
	test_questions();
	test_fields_of_questions();
	test_answers();
	test_heads();
	return tap_done();
}
