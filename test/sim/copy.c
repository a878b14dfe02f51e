/*
 * copy.c
 *		An empty node copies another one that goes on writing.
 *
 *	donor    heap      places of rows; a new version gets another one
 *	         waiting   changes that have no row yet
 *	         map       key -> entry, merged some time after the heap changed
 *	         V         own watermark, and what a third node sent
 *	joiner   entries, and its place, in one transaction
 *
 * The conversation is that of src/pg/copy_join.c and copy_peer.c, one range or
 * a few keys in a step; questions and answers pass through the core's codec,
 * their rows beside it.  Between any two steps the donor's transactions,
 * changes of the third node, purges and rewrites of the table go on, and either
 * side loses what it had not flushed.  After the copy an ordinary catch-up
 * brings the rest; then both must hold the same rows, and the joiner every death
 * that is not forgotten.
 */
#include "copy.h"

#include <stdio.h>
#include <string.h>

#include "../../src/core/copy.h"
#include "rng.h"
#include "rules.h"

#define KEYS      12
#define PLACES    24
#define RANGE     4 /* places of a question */
#define CHUNK     2 /* keys of one */
#define WRITERS   3
#define REMOTE    256 /* writes of the third node */
#define REORDER   4   /* of them overtake each other */
#define WRITES    8192
#define STEPS_MAX 20000
#define NOBODY    0xff

enum
{
	DONOR = 1,
	THIRD = 2
};

typedef struct Place
{
	uint8_t key; /* NOBODY: free */
	DcHlc stamp;
} Place;

/* What a crash leaves of the donor, as of the last flush. */
typedef struct DonorDisk
{
	uint32_t file;
	Place heap[PLACES];
	DcHlc waiting[KEYS];
	DcHlc tombstone[KEYS];
	DcVv vector;
} DonorDisk;

typedef enum TxnState
{
	TXN_IDLE,
	TXN_DRAWN,
	TXN_VISIBLE
} TxnState;

typedef struct Txn
{
	TxnState state;
	bool remote;
	uint32_t write; /* of the third node */
	uint8_t key;
	DcHlc lower; /* the slot */
	DcEntry entry;
} Txn;

typedef struct Remote
{
	uint8_t key;
	DcEntry entry;
	bool merged;
} Remote;

/* The same of the joiner. */
typedef struct JoinerDisk
{
	DcEntry at[KEYS];
	bool begun;
	DcVv plan;
	DcCopyPlace place;
	bool rows_done;
	bool adopted;
	DcVv vector;
	DcHlc horizon;
} JoinerDisk;

/* Rows travel beside the codec. */
typedef struct Parts
{
	uint32_t count;
	uint8_t key[KEYS + PLACES];
	DcEntry entry[KEYS + PLACES];
} Parts;

typedef struct CopySim
{
	Rng rng;
	CopyDefect defect;
	CopyStats *stats;
	char *failure;
	uint64_t clock;

	DonorDisk disk, flushed;
	DcEntry map[KEYS];
	DcVv vector;
	DcHlc horizon;
	Txn txns[WRITERS];
	Remote remote[REMOTE];
	uint32_t remote_count;
	struct
	{
		uint8_t key;
		DcEntry entry;
	} writes[WRITES]; /* all that was committed and not lost */
	uint32_t write_count;
	uint32_t writes_flushed;

	/* its session with the joiner */
	bool scans;
	bool scanned;
	uint32_t settle; /* transactions that the scan waits for */
	uint8_t cursor;
	DcVv above;
	DcVv reached;

	JoinerDisk joiner, joiner_flushed;
	bool waited; /* in this life */
} CopySim;

static CopySim sim;

static const struct
{
	const char *name;
	const char *claim;
} defects[COPY_DEFECTS] = {
	[COPY_SOUND] = {"", ""},
	[COPY_SETTLE] = {"copy-settle", "what is visible is not merged yet when "
									"the scan for changes begins"},
	[COPY_BASE] = {"copy-base", "a copy extends a vector that is read after "
								"its rows"},
	[COPY_REACHED] = {"copy-reached", "a copy adopts a vector that is read "
									  "after the scan"},
	[COPY_DEAD] = {"copy-dead", "deaths that the vector covers are not copied"},
	[COPY_WAITING] = {"copy-waiting", "what waits is read after the rows"},
	[COPY_FILE] = {"copy-file", "a copy goes on in a table that was rewritten"},
	[COPY_PLACE] = {"copy-place", "the place of a copy is durable before its "
								  "rows"},
	[COPY_FLUSH] = {"copy-flush", "a range is sent before its log is flushed"},
	[COPY_HORIZON] = {"copy-horizon", "deaths are forgotten during a copy"},
};

const char *
copy_defect_name(CopyDefect defect)
{
	return defects[defect].name;
}

const char *
copy_defect_claim(CopyDefect defect)
{
	return defects[defect].claim;
}

static DcHlc
draw(uint32_t node)
{
	return dc_hlc_make(++sim.clock, node);
}

/* Some keys are written often, some hardly ever. */
static uint8_t
some_key(void)
{
	return (uint8_t) rng_below(&sim.rng, rng_below(&sim.rng, KEYS) + 1);
}

/* ---- the donor's table -------------------------------------------------- */

static Place *
find_row(uint8_t key)
{
	for (uint32_t i = 0; i < PLACES; i++)
	{
		if (sim.disk.heap[i].key == key)
			return &sim.disk.heap[i];
	}
	return NULL;
}

static DcHlc
row_of(uint8_t key)
{
	const Place *place = find_row(key);
	DcHlc row = place != NULL ? place->stamp : DC_HLC_NONE;

	return sim.disk.waiting[key] > row ? sim.disk.waiting[key] : row;
}

static void
erase_row(uint8_t key)
{
	Place *place = find_row(key);

	if (place != NULL)
		place->key = NOBODY;
	sim.disk.waiting[key] = DC_HLC_NONE;
}

/* A new version gets another place, behind or before. */
static void
store_row(uint8_t key, DcHlc stamp)
{
	uint32_t i;

	erase_row(key);
	do
		i = rng_below(&sim.rng, PLACES);
	while (sim.disk.heap[i].key != NOBODY);
	sim.disk.heap[i] = (Place){key, stamp};
}

static void
write_heap(const Txn *txn)
{
	if (sim.write_count < WRITES)
	{
		sim.writes[sim.write_count].key = txn->key;
		sim.writes[sim.write_count++].entry = txn->entry;
	}
	if (txn->entry.dead)
	{
		erase_row(txn->key);
		sim.disk.tombstone[txn->key] = txn->entry.stamp;
	}
	else if (txn->remote && rng_chance(&sim.rng, 1, 4))
		sim.disk.waiting[txn->key] = txn->entry.stamp;
	else
		store_row(txn->key, txn->entry.stamp);
}

static void
rewrite_table(void)
{
	Place before[PLACES];

	memcpy(before, sim.disk.heap, sizeof(before));
	for (uint32_t i = 0; i < PLACES; i++)
		sim.disk.heap[i].key = NOBODY;
	for (uint32_t i = 0; i < PLACES; i++)
	{
		DcHlc waiting;

		if (before[i].key == NOBODY)
			continue;
		waiting = sim.disk.waiting[before[i].key];
		store_row(before[i].key, before[i].stamp);
		sim.disk.waiting[before[i].key] = waiting;
	}
	sim.disk.file++;
	sim.stats->rewrites++;
}

/* ---- the donor's transactions ------------------------------------------- */

static bool
busy(uint8_t key)
{
	for (uint32_t i = 0; i < WRITERS; i++)
	{
		if (sim.txns[i].state != TXN_IDLE && sim.txns[i].key == key)
			return true;
	}
	return false;
}

static void
begin_local(Txn *txn)
{
	uint8_t key = some_key();

	if (busy(key))
		return;
	*txn = (Txn){.state = TXN_DRAWN,
				 .key = key,
				 .lower = dc_hlc_make(sim.clock, DONOR)};
	txn->entry.stamp = draw(DONOR);
	txn->entry.dead = rng_chance(&sim.rng, 1, 4);
}

/* Changes of the third node come in any order, and again after a crash. */
static void
begin_remote(Txn *txn)
{
	uint32_t i = 0;
	const Remote *write;

	while (i < sim.remote_count && sim.remote[i].merged)
		i++;
	i += rng_below(&sim.rng, REORDER);
	write = &sim.remote[i];
	if (i >= sim.remote_count || write->merged || busy(write->key))
		return;
	*txn = (Txn){.state = TXN_DRAWN,
				 .remote = true,
				 .write = i,
				 .key = write->key,
				 .entry = write->entry};
}

static void
advance_txn(uint32_t i)
{
	Txn *txn = &sim.txns[i];
	DcApply apply = txn->entry.dead ? DC_APPLY_ERASE : DC_APPLY_STORE;

	switch (txn->state)
	{
		case TXN_IDLE:
			return;
		case TXN_DRAWN:
			if (txn->remote)
				apply = dc_rule_apply(row_of(txn->key), sim.map[txn->key],
									  txn->entry, sim.horizon, DC_HLC_NONE);
			if (apply != DC_APPLY_SAME && apply != DC_APPLY_STALE)
				write_heap(txn);
			else
				txn->entry.stamp = DC_HLC_NONE;
			txn->state = TXN_VISIBLE;
			return;
		case TXN_VISIBLE:
			if (txn->entry.stamp > sim.map[txn->key].stamp)
				sim.map[txn->key] = txn->entry;
			if (txn->remote)
				sim.remote[txn->write].merged = true;
			txn->state = TXN_IDLE;
			sim.settle &= ~(1u << i);
			return;
	}
}

static void
step_txn(void)
{
	uint32_t i = rng_below(&sim.rng, WRITERS);

	if (sim.txns[i].state != TXN_IDLE)
		advance_txn(i);
	else if (rng_chance(&sim.rng, 1, 2))
		begin_local(&sim.txns[i]);
	else
		begin_remote(&sim.txns[i]);
}

static void
write_remote(void)
{
	if (sim.remote_count == REMOTE)
		return;
	sim.remote[sim.remote_count++] =
		(Remote){.key = some_key(),
				 .entry = {.stamp = draw(THIRD),
						   .dead = rng_chance(&sim.rng, 1, 4)}};
}

/* A change that waited becomes a row. */
static void
retry_waiting(void)
{
	uint8_t key = (uint8_t) rng_below(&sim.rng, KEYS);
	DcHlc waiting = sim.disk.waiting[key];

	if (waiting != DC_HLC_NONE && !busy(key))
		store_row(key, waiting);
}

/* ---- what the donor knows and forgets ----------------------------------- */

static void
flush_donor(void)
{
	sim.flushed = sim.disk;
	sim.writes_flushed = sim.write_count;
}

static void
publish_watermark(void)
{
	DcHlc slots[WRITERS];
	DcHlc drawn = draw(DONOR);

	for (uint32_t i = 0; i < WRITERS; i++)
		slots[i] = sim.txns[i].state != TXN_IDLE && !sim.txns[i].remote ?
					   sim.txns[i].lower :
					   DC_HLC_NONE;
	flush_donor();
	sim.vector.at[DONOR] = dc_rule_watermark(drawn, slots, WRITERS, DC_HLC_MAX,
											 sim.vector.at[DONOR]);
}

static void
advance_vector(void)
{
	DcHlc to = DC_HLC_NONE;

	for (uint32_t i = 0; i < sim.remote_count && sim.remote[i].merged; i++)
		to = sim.remote[i].entry.stamp;
	flush_donor();
	if (to > sim.vector.at[THIRD])
		sim.vector.at[THIRD] = to;
}

static void
save_vector(void)
{
	sim.disk.vector = sim.vector;
	flush_donor();
}

/* Without the rule: as if the joiner were not counted. */
static void
move_horizon(void)
{
	DcHlc own = sim.disk.vector.at[DONOR];
	DcHlc third = sim.disk.vector.at[THIRD];
	DcHlc least = own < third ? own : third;

	if (sim.defect == COPY_HORIZON && least > sim.horizon)
		sim.horizon = least;
}

static void
purge(void)
{
	move_horizon();
	for (uint8_t key = 0; key < KEYS; key++)
	{
		if (busy(key) || sim.disk.tombstone[key] > sim.horizon)
			continue;
		sim.disk.tombstone[key] = DC_HLC_NONE;
		if (sim.map[key].dead && sim.map[key].stamp <= sim.horizon)
			sim.map[key] = (DcEntry){DC_HLC_NONE, false};
	}
}

static void
end_session(void)
{
	sim.scans = sim.scanned = false;
	sim.settle = 0;
}

static void
crash_donor(void)
{
	sim.disk = sim.flushed;
	sim.write_count = sim.writes_flushed;
	sim.vector = sim.disk.vector;
	memset(sim.txns, 0, sizeof(sim.txns));
	for (uint8_t key = 0; key < KEYS; key++)
	{
		DcHlc row = row_of(key);
		DcHlc death = sim.disk.tombstone[key];

		sim.map[key] = (DcEntry){row > death ? row : death, death > row};
	}
	for (uint32_t i = 0; i < sim.remote_count; i++)
		sim.remote[i].merged =
			dc_vv_covers(&sim.vector, sim.remote[i].entry.stamp);
	end_session();
	sim.stats->donor_crashes++;
}

/* ---- the donor answers -------------------------------------------------- */

static void
add_part(Parts *parts, uint8_t key, DcEntry entry)
{
	parts->key[parts->count] = key;
	parts->entry[parts->count++] = entry;
}

static void
answer_rows(const DcCopyQuestion *question, DcCopyAnswer *answer, Parts *parts)
{
	DcCopyPlace place = question->place;

	if (place.file != sim.disk.file &&
		!(sim.defect == COPY_FILE && place.file != 0))
		place = (DcCopyPlace){.file = sim.disk.file};
	for (uint32_t i = 0; i < RANGE && place.block < PLACES; i++, place.block++)
	{
		const Place *row = &sim.disk.heap[place.block];

		if (row->key != NOBODY)
			add_part(parts, row->key, (DcEntry){row->stamp, false});
	}
	answer->place = place;
	answer->done = place.block == PLACES;
	sim.stats->ranges++;
}

/* P15: false: no row, and its death is not merged yet. */
static bool
read_by_key(uint8_t key, Parts *parts)
{
	DcEntry entry = sim.map[key];

	if (!entry.dead && row_of(key) == DC_HLC_NONE)
		return false;
	if (!entry.dead)
		entry.stamp = row_of(key);
	add_part(parts, key, entry);
	return true;
}

static bool
is_changed(DcEntry entry, const DcVv *above)
{
	return entry.stamp != DC_HLC_NONE &&
		   (!dc_vv_covers(above, entry.stamp) ||
			(entry.dead && sim.defect != COPY_DEAD));
}

static void
begin_scan(const DcVv *above)
{
	sim.scans = true;
	sim.scanned = false;
	sim.cursor = 0;
	sim.above = sim.defect == COPY_BASE ? sim.vector : *above;
	for (uint32_t i = 0; i < WRITERS && sim.defect != COPY_SETTLE; i++)
	{
		if (sim.txns[i].state == TXN_VISIBLE)
			sim.settle |= 1u << i;
	}
}

/* False: not now. */
static bool
answer_changed(const DcCopyQuestion *question, DcCopyAnswer *answer,
			   Parts *parts)
{
	if (question->first && !sim.scans)
		begin_scan(&question->vector);
	if (sim.settle != 0)
		return false;
	if (sim.cursor == 0)
		sim.reached = sim.vector;
	for (uint32_t i = 0; i < CHUNK && sim.cursor < KEYS; i++, sim.cursor++)
	{
		if (is_changed(sim.map[sim.cursor], &sim.above) &&
			!read_by_key(sim.cursor, parts))
			break;
	}
	answer->done = sim.cursor == KEYS;
	if (!answer->done)
		return true;
	sim.scans = false;
	sim.scanned = true;
	if (sim.defect == COPY_REACHED)
		sim.reached = sim.vector;
	return true;
}

static bool
fill_answer(const DcCopyQuestion *question, DcCopyAnswer *answer, Parts *parts)
{
	bool now = true;

	answer->kind = question->kind;
	switch (question->kind)
	{
		case DC_COPY_BEGIN:
			answer->vector = sim.vector;
			return true;
		case DC_COPY_WAITING:
			for (uint8_t key = 0; key < KEYS; key++)
			{
				if (sim.disk.waiting[key] != DC_HLC_NONE)
					add_part(parts, key,
							 (DcEntry){sim.disk.waiting[key], false});
			}
			break;
		case DC_COPY_ROWS:
			answer_rows(question, answer, parts);
			break;
		case DC_COPY_CHANGED:
			now = answer_changed(question, answer, parts);
			break;
		case DC_COPY_END:
			answer->vector = sim.reached;
			answer->horizon.stamp = sim.horizon;
			return sim.scanned;
	}
	if (sim.defect != COPY_FLUSH)
		flush_donor();
	return now;
}

/* Both ways through the codec; false: the donor has no answer now. */
static bool
ask(const DcCopyQuestion *question, DcCopyAnswer *answer, Parts *parts)
{
	static DcCopyQuestion heard;
	static DcCopyAnswer said;
	static uint8_t bytes[2 * sizeof(DcVv) + 64];
	DcWriter w;

	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_copy_question_encode(&w, question);
	if (dc_copy_question_decode(bytes, w.length, &heard) != DC_OK)
		return false;
	memset(&said, 0, sizeof(said));
	parts->count = 0;
	if (!fill_answer(&heard, &said, parts))
		return false;
	dc_writer_init(&w, bytes, sizeof(bytes));
	dc_copy_answer_encode(&w, &said);
	return dc_copy_answer_decode(bytes, w.length, answer) == DC_OK;
}

/* ---- the joiner --------------------------------------------------------- */

static void
flush_joiner(void)
{
	sim.joiner_flushed = sim.joiner;
}

static void
take(const Parts *parts)
{
	for (uint32_t i = 0; i < parts->count; i++)
	{
		DcEntry *here = &sim.joiner.at[parts->key[i]];

		if (parts->entry[i].stamp > here->stamp &&
			(here->stamp != DC_HLC_NONE ||
			 parts->entry[i].stamp > sim.joiner.horizon))
			*here = parts->entry[i];
	}
}

static void
copy_range(DcCopyAnswer *answer, Parts *parts)
{
	DcCopyQuestion question = {.kind = DC_COPY_ROWS, .place = sim.joiner.place};

	if (!ask(&question, answer, parts))
		return;
	if (sim.defect == COPY_PLACE)
	{
		sim.joiner_flushed.place = answer->place;
		sim.joiner_flushed.rows_done = answer->done;
	}
	take(parts);
	sim.joiner.place = answer->place;
	sim.joiner.rows_done = answer->done;
}

/* What was changed since V, then the end. */
static void
copy_changes(DcCopyAnswer *answer, Parts *parts)
{
	DcCopyQuestion question = {.kind =
								   sim.scanned ? DC_COPY_END : DC_COPY_CHANGED,
							   .first = !sim.scans,
							   .vector = sim.joiner.plan};

	if (!ask(&question, answer, parts))
		return;
	take(parts);
	if (question.kind == DC_COPY_CHANGED)
		return;
	sim.joiner.vector = answer->vector;
	sim.joiner.horizon = answer->horizon.stamp;
	sim.joiner.adopted = true;
	flush_joiner(); /* R4 */
}

static void
step_joiner(void)
{
	static DcCopyAnswer answer;
	static Parts parts;
	DcCopyQuestion question = {.kind = DC_COPY_BEGIN};
	bool wait_first = sim.defect != COPY_WAITING;

	if (sim.joiner.adopted)
		return;
	if (!sim.joiner.begun)
	{
		if (!ask(&question, &answer, &parts))
			return;
		sim.joiner.plan = answer.vector;
		sim.joiner.begun = true;
		flush_joiner();
	}
	else if (!sim.waited &&
			 (wait_first ? sim.joiner.place.file == 0 : sim.joiner.rows_done))
	{
		question.kind = DC_COPY_WAITING;
		sim.waited = ask(&question, &answer, &parts);
		take(&parts);
	}
	else if (!sim.joiner.rows_done)
		copy_range(&answer, &parts);
	else
		copy_changes(&answer, &parts);
}

static void
crash_joiner(void)
{
	sim.joiner = sim.joiner_flushed;
	sim.waited = false;
	end_session();
	sim.stats->joiner_crashes++;
}

/* ---- a run -------------------------------------------------------------- */

static void
step(void)
{
	uint32_t chance = rng_below(&sim.rng, 1000);

	sim.stats->steps++;
	if (chance < 500)
		step_txn();
	else if (chance < 560)
		write_remote();
	else if (chance < 600)
		retry_waiting();
	else if (chance < 660)
		publish_watermark();
	else if (chance < 720)
		advance_vector();
	else if (chance < 740)
		save_vector();
	else if (chance < 770)
		purge();
	else if (chance < 773)
		rewrite_table();
	else if (chance < 776)
		crash_donor();
	else if (chance < 779)
		crash_joiner();
	else if (chance < 800)
		flush_joiner();
	else if (chance < 860)
		step_joiner();
}

/* Everything in flight ends, and all that was sent arrives. */
static void
calm_down(void)
{
	for (uint32_t i = 0; i < WRITERS; i++)
	{
		while (sim.txns[i].state != TXN_IDLE)
			advance_txn(i);
	}
	for (uint32_t i = 0; i < sim.remote_count; i++)
	{
		if (sim.remote[i].merged)
			continue;
		sim.txns[0] = (Txn){.state = TXN_DRAWN,
							.remote = true,
							.write = i,
							.key = sim.remote[i].key,
							.entry = sim.remote[i].entry};
		while (sim.txns[0].state != TXN_IDLE)
			advance_txn(0);
	}
}

static void
catch_up(void)
{
	static Parts parts;

	parts.count = 0;
	for (uint8_t key = 0; key < KEYS; key++)
	{
		if (sim.map[key].stamp != DC_HLC_NONE &&
			!dc_vv_covers(&sim.joiner.vector, sim.map[key].stamp))
			(void) read_by_key(key, &parts);
	}
	take(&parts);
}

static bool
compare(void)
{
	for (uint8_t key = 0; key < KEYS; key++)
	{
		DcEntry donor = sim.map[key];
		DcEntry joiner = sim.joiner.at[key];
		const char *what = NULL;

		if (donor.stamp != DC_HLC_NONE && !donor.dead &&
			(joiner.dead || joiner.stamp != donor.stamp))
			what = "a row is missing or old";
		else if ((donor.dead || donor.stamp == DC_HLC_NONE) &&
				 joiner.stamp != DC_HLC_NONE && !joiner.dead)
			what = "a row is there that died";
		else if (donor.dead && donor.stamp > sim.horizon &&
				 joiner.stamp != donor.stamp)
			what = "a death is not known";
		if (what == NULL)
			continue;
		snprintf(sim.failure, 160, "%s: key %u, donor %llu%s, joiner %llu%s",
				 what, key, (unsigned long long) donor.stamp,
				 donor.dead ? " dead" : "", (unsigned long long) joiner.stamp,
				 joiner.dead ? " dead" : "");
		return false;
	}
	return true;
}

/* R4, R6: what the adopted vector covers is here, or something newer. */
static bool
covers_what_it_claims(void)
{
	for (uint32_t i = 0; i < sim.write_count; i++)
	{
		DcEntry write = sim.writes[i].entry;
		uint8_t key = sim.writes[i].key;

		if (!dc_vv_covers(&sim.joiner.vector, write.stamp) ||
			sim.joiner.at[key].stamp >= write.stamp ||
			(write.stamp <= sim.horizon &&
			 sim.joiner.at[key].stamp == DC_HLC_NONE))
			continue;
		snprintf(sim.failure, 160,
				 "the vector covers what is not here: key %u, "
				 "%llu%s, here %llu",
				 key, (unsigned long long) write.stamp,
				 write.dead ? " dead" : "",
				 (unsigned long long) sim.joiner.at[key].stamp);
		return false;
	}
	return true;
}

bool
copy_run(uint64_t seed, CopyDefect defect, CopyStats *stats, char failure[160])
{
	uint32_t steps = 0;

	memset(&sim, 0, sizeof(sim));
	rng_seed(&sim.rng, seed);
	sim.defect = defect;
	sim.stats = stats;
	sim.failure = failure;
	stats->runs++;
	sim.disk.file = 1;
	for (uint32_t i = 0; i < PLACES; i++)
		sim.disk.heap[i].key = NOBODY;
	for (uint32_t i = 0; i < 400; i++)
	{
		if (rng_chance(&sim.rng, 1, 2))
			step_txn();
		else if (rng_chance(&sim.rng, 1, 4))
			write_remote();
		else
			publish_watermark();
	}
	advance_vector();
	save_vector();
	/* some deaths are below it; it stands still from here on (R12) */
	sim.horizon = dc_hlc_make(sim.clock / 4, DONOR);
	if (sim.vector.at[THIRD] < sim.horizon)
		sim.horizon = sim.vector.at[THIRD];
	while (!sim.joiner.adopted && steps++ < STEPS_MAX)
		step();
	if (!sim.joiner.adopted)
	{
		snprintf(failure, 160, "the copy does not end");
		return false;
	}
	if (!covers_what_it_claims())
		return false;
	for (steps = rng_below(&sim.rng, 200); steps > 0; steps--)
		step();
	calm_down();
	catch_up();
	return compare();
}
