/*
 * fuzz_repair.c
 *		Any bytes as a question, as an answer in any phase, and as cells.
 *
 * The first byte chooses.  Whatever comes, the answering side writes no more
 * than a message, the asking side ends or asks a question that the answering
 * side understands, and the decoder of cells ends.
 *
 * The seeds in corpus/fuzz_repair are what "build/unit/test_repair FOLDER"
 * writes, and inputs that once broke something.
 */
#include "../unit/replica.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(claim) ((claim) ? (void) 0 : broken(#claim, __LINE__))

static void
broken(const char *claim, int line)
{
	fprintf(stderr, "fuzz_repair.c:%d: does not hold: %s\n", line, claim);
	abort();
}

static Replica *a, *b;
#define PHASES_MAX 12u
static DcRepair *phases[PHASES_MAX]; /* the asking side, before each answer */
static unsigned phase_count;
static DcRepairScratch scratch;
static uint8_t question[DC_REPAIR_MESSAGE_MAX], answer[DC_REPAIR_MESSAGE_MAX];

/* The phases of their comparison, with so many of the kept cells. */
static void
compare(uint32_t cells)
{
	DcRepair *r = malloc(sizeof(DcRepair));
	DcRepairResult result;
	DcWriter q, w;

	a->node.cell_count = b->node.cell_count = cells;
	dc_repair_begin(r, 7, false, true);
	dc_writer_init(&q, question, sizeof(question));
	while (phase_count < PHASES_MAX && dc_repair_next(r, &a->node, &q))
	{
		phases[phase_count] = malloc(sizeof(DcRepair));
		*phases[phase_count++] = *r;
		dc_writer_init(&w, answer, sizeof(answer));
		MUST(dc_repair_answer(&b->node, question, q.length, &scratch, &w) ==
			 DC_OK);
		MUST(dc_repair_take(r, &a->node, answer, w.length) == DC_OK);
		while (dc_repair_result(r, &a->node, &result))
			continue;
		dc_writer_init(&q, question, sizeof(question));
	}
	free(r);
}

/* Two nodes that differ. */
static void
prepare(void)
{
	a = replica_new(2000, 8);
	b = replica_new(2000, 8);
	replica_keep_cells(a, 200);
	replica_keep_cells(b, 200);
	for (uint64_t i = 0; i < 1500; i++)
	{
		if (i % 50 != 0)
			replica_put_number(a, i, 1000 + i, false);
		if (i % 70 != 0)
			replica_put_number(b, i, 1000 + i + (i % 30 == 0), false);
	}
	compare(0);
	compare(200);
}

static void
take_answer(const DcRepair *before, const uint8_t *data, size_t size)
{
	static DcRepair copy;
	DcRepair *r = &copy;
	DcRepairResult result;
	DcWriter q, w;

	*r = *before;
	if (dc_repair_take(r, &a->node, data, size) == DC_OK)
	{
		while (dc_repair_result(r, &a->node, &result))
			MUST(result.key.length >= 1 &&
				 result.key.length <= DC_KEY_BYTES_MAX);
		dc_writer_init(&q, question, sizeof(question));
		if (dc_repair_next(r, &a->node, &q))
		{
			MUST(q.status == DC_OK);
			dc_writer_init(&w, answer, sizeof(answer));
			MUST(dc_repair_answer(&b->node, question, q.length, &scratch, &w) ==
				 DC_OK);
		}
	}
}

static void
take_cells(const uint8_t *data, size_t size)
{
	uint32_t count = (uint32_t) (size / DC_IBLT_CELL_BYTES);
	DcIbltCell *cells = calloc(count + 1, sizeof(DcIbltCell));
	uint64_t *ids = calloc(count + 1, sizeof(uint64_t));
	uint32_t found;

	count = count < DC_IBLT_CELLS_MAX ? count : DC_IBLT_CELLS_MAX;
	for (uint32_t i = 0; i < count; i++)
	{
		memcpy(&cells[i].ids, data + (size_t) i * DC_IBLT_CELL_BYTES, 8);
		memcpy(&cells[i].checks, data + (size_t) i * DC_IBLT_CELL_BYTES + 8, 4);
	}
	(void) dc_iblt_decode(cells, count, a->env.sum_seed, ids, &found);
	MUST(found <= count);
	free(cells);
	free(ids);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	DcWriter w;

	if (a == NULL)
		prepare();
	if (size == 0)
		return 0;
	if (data[0] == 0)
	{
		dc_writer_init(&w, answer, sizeof(answer));
		if (dc_repair_answer(&b->node, data + 1, size - 1, &scratch, &w) ==
			DC_OK)
			MUST(w.length <= sizeof(answer));
	}
	else if (data[0] <= phase_count)
		take_answer(phases[data[0] - 1], data + 1, size - 1);
	else
		take_cells(data + 1, size - 1);
	return 0;
}
