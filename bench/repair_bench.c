/*
 * repair_bench.c
 *		Comparing two nodes, without servers: bytes, round trips, time.
 *
 *	make build-bench && build/bench/repair_bench [entries [cells]]
 *
 * 1,000,000 entries if not told, bigint keys; both nodes keep so many cells, or
 * none.  "missed": the asking node lacks entries; "older": it has older ones,
 * so that each key is two differences.  Bytes are those of both directions,
 * without seals and rows, and "naming" is what of them was sent before all ids
 * that differ were known; "least" is what names d of 2^64 ids whatever the
 * method, log2 of the binomial coefficient.  Time is the processor's, of both
 * nodes together.
 */
#include "../test/unit/replica.h"

#include <stdio.h>
#include <time.h>

static double
now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double) t.tv_sec * 1e3 + (double) t.tv_nsec / 1e6;
}

/* Distinct numbers without order. */
static uint64_t
scramble(uint64_t i)
{
	return i * UINT64_C(0x9e3779b97f4a7c15);
}

static void
fill(Replica *a, Replica *b, uint64_t entries)
{
	for (uint64_t i = 0; i < entries; i++)
	{
		replica_put_number(a, scramble(i), 1000 + i, false);
		replica_put_number(b, scramble(i), 1000 + i, false);
	}
}

/* d keys, evenly spread over the entries. */
static void
differ(Replica *a, Replica *b, uint64_t entries, uint64_t d, bool missed)
{
	static uint64_t time = UINT64_C(1) << 30;

	for (uint64_t i = 0; i < d; i++)
	{
		uint64_t number = scramble(i * (entries / d));
		uint8_t key[8];

		for (unsigned k = 0; k < 8; k++)
			key[k] = (uint8_t) (number >> (56 - 8 * k));
		if (missed)
			(void) dc_map_remove(replica_map(a, dc_key_hash(a->env.hash_seed,
															key, 8)),
								 &a->env, key, 8);
		else
			replica_put_number(b, number, ++time, false);
	}
}

int
main(int argc, char **argv)
{
	static const uint64_t sizes[] = {0, 10, 1000, 10000, 100000};
	uint64_t entries = argc > 1 ? strtoull(argv[1], NULL, 10) : 1000000;
	uint32_t cells = argc > 2 ? (uint32_t) strtoul(argv[2], NULL, 10) : 0;
	Replica *a = replica_new(entries, 8), *b = replica_new(entries, 8);
	double start = now_ms();

	if (cells > 0)
	{
		replica_keep_cells(a, cells);
		replica_keep_cells(b, cells);
	}
	fill(a, b, entries);
	printf("entries %llu, cells %u, %.0f ns an insert\n",
		   (unsigned long long) entries, cells,
		   (now_ms() - start) * 1e6 / (2.0 * (double) entries));
	printf("%10s %8s %12s %12s %12s %12s %10s\n", "differ", "kind", "bytes",
		   "naming", "least", "round trips", "ms");
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
	{
		for (int missed = 1; missed >= 0; missed--)
		{
			Talk talk;

			if (sizes[i] > entries || (sizes[i] == 0 && missed == 0))
				continue;
			differ(a, b, entries, sizes[i], missed != 0);
			start = now_ms();
			talk = replica_repair(a, b, false, NULL, NULL);
			printf("%10llu %8s %12zu %12zu %12.0f %12u %10.1f\n",
				   (unsigned long long) sizes[i],
				   missed != 0 ? "missed" : "older", talk.bytes, talk.naming,
				   replica_least(missed != 0 ? sizes[i] : 2 * sizes[i]),
				   talk.round_trips, now_ms() - start);
			if (talk.status != DC_OK || replica_sum(a) != replica_sum(b) ||
				talk.actions[DC_REPAIR_FETCH] != sizes[i])
			{
				printf("WRONG: %s, %u mended\n", dc_status_text(talk.status),
					   talk.actions[DC_REPAIR_FETCH]);
				return 1;
			}
		}
	}
	replica_free(a);
	replica_free(b);
	return 0;
}
