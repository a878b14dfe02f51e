/*
 * repair_answer.c
 *		The answering side of a repair: one question, one answer, no memory.
 */
#include "repair_common.h"

void
dc_repair_head_encode(DcWriter *w, const DcRepairHead *head)
{
	dc_write_version(w);
	dc_write_u8(w, DC_REPAIR_QUESTION);
	dc_write_u8(w, (uint8_t) head->kind);
	dc_write_u64(w, head->keyspace);
	dc_write_u64(w, head->floor);
}

void
dc_repair_head_decode(DcReader *r, DcRepairHead *head)
{
	dc_repair_read_begin(r, DC_REPAIR_QUESTION);
	head->kind = (DcRepairKind) dc_read_u8(r);
	head->keyspace = dc_read_u64(r);
	head->floor = dc_repair_read_watermark(r);
}

/* One question being answered. */
typedef struct Reply
{
	const DcRepairNode *self;
	DcRepairScratch *s;
	DcReader r;
	DcWriter *w;
	DcHlc floor; /* the higher one */
} Reply;

static void
begin_answer(Reply *a, DcRepairKind kind)
{
	dc_write_version(a->w);
	dc_write_u8(a->w, DC_REPAIR_ANSWER);
	dc_write_u8(a->w, (uint8_t) kind);
	dc_write_u64(a->w, a->self->floor);
}

/* Cells that are wanted, beyond those that the asking node has. */
typedef struct Wanted
{
	uint32_t count;
	uint32_t had;
	uint64_t first_ids; /* of the first that it has: every id is in there */
} Wanted;

/* What a question for cells ends with: count | had | ids, if it had any. */
static DcStatus
read_wanted(Reply *a, Wanted *wanted)
{
	wanted->count = (uint32_t) dc_read_varint(&a->r, DC_IBLT_CELLS_MAX);
	wanted->had = (uint32_t) dc_read_varint(&a->r, DC_IBLT_CELLS_MAX);
	wanted->first_ids = wanted->had > 0 ? dc_read_u64(&a->r) : 0;
	if (wanted->had >= wanted->count)
		dc_reader_fail(&a->r, DC_MALFORMED);
	return dc_reader_finish(&a->r);
}

/* first | count | cells from `first` on: all of them if they have changed. */
static void
write_cells(Reply *a, Wanted wanted)
{
	const DcIbltCell *cells = a->s->cells;
	uint32_t first = wanted.had;

	if (first > 0 && cells[0].ids != wanted.first_ids)
		first = 0;
	dc_write_varint(a->w, first);
	dc_write_varint(a->w, wanted.count);
	for (uint32_t i = first; i < wanted.count; i++)
	{
		dc_write_u64(a->w, cells[i].ids);
		dc_write_u32(a->w, cells[i].checks);
	}
}

/* The cells of the scope. */
static void
make_cells(Reply *a, Wanted wanted)
{
	if (wanted.count > 0)
		dc_repair_fill_cells(&a->self->maps, &a->s->scope, a->floor,
							 &a->s->room, a->s->cells, wanted.count);
	write_cells(a, wanted);
}

/* Q: wanted     R: at first the sum of all | cells, none if not so many */
static DcStatus
answer_kept(Reply *a)
{
	Wanted wanted;
	DcStatus status = read_wanted(a, &wanted);

	if (status != DC_OK)
		return status;
	begin_answer(a, DC_REPAIR_KEPT);
	if (wanted.had == 0)
		dc_write_u64(a->w, dc_maps_sum(&a->self->maps));
	if (wanted.count > a->self->cell_count)
		wanted = (Wanted){.count = 0};
	dc_iblt_copy_shared(a->s->cells, a->self->cells, wanted.count);
	write_cells(a, wanted);
	return DC_OK;
}

/* The leaves that differ: children of `scope`, which become `differing`. */
static void
compare_sums(Reply *a, uint32_t bits)
{
	const DcLeafSet *parents = &a->s->scope;
	uint32_t wider = bits - parents->bits;

	dc_leaf_set_init(&a->s->differing, bits);
	a->s->sums.view = &a->self->maps;
	a->s->sums.loaded = false;
	for (uint32_t parent = dc_leaf_set_next(parents, 0); parent != DC_LEAF_NONE;
		 parent = dc_leaf_set_next(parents, parent + 1))
	{
		for (uint32_t i = 0; i < 1u << wider; i++)
		{
			uint32_t leaf = (parent << wider) + i;
			uint64_t sum = dc_read_u64(&a->r);

			if (a->r.status != DC_OK)
				return; /* not simulated: the length was checked */
			if (sum != dc_leaf_sum(&a->s->sums, leaf, bits))
				dc_leaf_set_add(&a->s->differing, leaf);
		}
	}
}

/* Q: parents | bits | sums     R: live | differing | keys | finer | cells? */
static DcStatus
answer_compare(Reply *a)
{
	DcLeafSet *differing = &a->s->differing;
	uint32_t bits;
	uint32_t compared;
	uint32_t keys;
	uint32_t finer = 0;
	uint32_t cells;
	uint64_t live = dc_maps_live(&a->self->maps);

	dc_leaf_set_decode(&a->r, &a->s->scope);
	bits = dc_read_u8(&a->r);
	if (a->r.status == DC_OK &&
		(bits < a->s->scope.bits || bits > DC_LEAF_BITS_MAX))
		dc_reader_fail(&a->r, DC_MALFORMED);
	if (a->r.status != DC_OK)
		return a->r.status;
	compared = a->s->scope.count << (bits - a->s->scope.bits);
	if (dc_reader_left(&a->r) != (size_t) compared * 8)
		return DC_MALFORMED;
	compare_sums(a, bits);
	keys = dc_sketch_estimate(differing->count, compared);
	finer = dc_sketch_refine(live, differing->count, bits, keys);

	begin_answer(a, DC_REPAIR_COMPARE);
	dc_write_varint(a->w, live);
	dc_leaf_set_encode(a->w, differing);
	dc_write_varint(a->w, keys);
	dc_write_u8(a->w, (uint8_t) finer);
	if (finer > 0 || differing->count == 0)
		return DC_OK;
	dc_leaf_set_split(differing, &a->s->scope,
					  dc_repair_chunk_leaves(
						  dc_repair_density_of(keys, differing->count)));
	dc_write_varint(a->w, a->s->scope.count);
	cells = dc_repair_cells_for((uint64_t) keys * a->s->scope.count /
								(a->s->scope.count + differing->count));
	if (dc_repair_better_listed(cells,
								dc_repair_entries_in(live, a->s->scope.count,
													 bits)))
		cells = 0;
	make_cells(a, (Wanted){.count = cells});
	return DC_OK;
}

/* Q: scope | wanted     R: cells */
static DcStatus
answer_cells(Reply *a)
{
	Wanted wanted;
	DcStatus status;

	dc_leaf_set_decode(&a->r, &a->s->scope);
	status = read_wanted(a, &wanted);
	if (status != DC_OK)
		return status;
	begin_answer(a, DC_REPAIR_CELLS);
	make_cells(a, wanted);
	return DC_OK;
}

/*
 * Q: scope | from     R: entries, 0, until
 * Entries that share a hash are never torn apart, so `until` is a hash.
 */
static DcStatus
answer_list(Reply *a)
{
	const DcMapsView *maps = &a->self->maps;
	DcScopeRoom *room = &a->s->room;
	DcScopeScan scan = {.from = 0};
	uint64_t until = 0;
	uint64_t last = 0;
	uint32_t count = 0;

	dc_leaf_set_decode(&a->r, &a->s->scope);
	scan.from = dc_read_u64(&a->r);
	if (dc_reader_finish(&a->r) != DC_OK)
		return a->r.status;
	begin_answer(a, DC_REPAIR_LIST);
	while (until == 0 &&
		   dc_scope_next(&scan, maps, &a->s->scope, a->floor, room))
	{
		for (size_t i = 0; i < room->count && until == 0; i++)
		{
			const DcMapItem *item = &room->items[i];
			uint64_t hash = dc_repair_hash_of(maps, item->key);

			if ((a->w->length > DC_REPAIR_LIST_BYTES - 4096 ||
				 count == DC_IBLT_CELLS_MAX) &&
				hash != last)
			{
				until = hash;
				break;
			}
			dc_write_string(a->w, item->key.data, item->key.length);
			dc_write_u64(a->w, item->entry.stamp);
			last = hash;
			count++;
		}
	}
	dc_write_varint(a->w, 0);
	dc_write_u64(a->w, until);
	return DC_OK;
}

/* Smaller ones first; n log n without recursion or memory of its own. */
static void
sift_down(uint64_t *ids, uint32_t at, uint32_t count)
{
	uint64_t id = ids[at];

	for (uint32_t child; (child = 2 * at + 1) < count; at = child)
	{
		child += child + 1 < count && ids[child + 1] > ids[child];
		if (ids[child] <= id)
			break;
		ids[at] = ids[child];
	}
	ids[at] = id;
}

static void
sort_ids(uint64_t *ids, uint32_t count)
{
	for (uint32_t i = count / 2; i-- > 0;)
		sift_down(ids, i, count);
	while (count > 1)
	{
		uint64_t greatest = ids[0];

		ids[0] = ids[--count];
		ids[count] = greatest;
		sift_down(ids, 0, count);
	}
}

static bool
is_among(const uint64_t *ids, uint32_t count, uint64_t id)
{
	uint32_t low = 0;

	while (count > 0)
	{
		uint32_t half = count / 2;

		if (ids[low + half] < id)
		{
			low += half + 1;
			count -= half + 1;
		}
		else if (ids[low + half] == id)
			return true;
		else
			count = half;
	}
	return false;
}

static bool
answer_is_full(const Reply *a)
{
	return a->w->length > DC_REPAIR_LIST_BYTES;
}

/* The entries of the asked ids: key | stamp, 0; true: there are more. */
static bool
write_asked(Reply *a, uint32_t id_count)
{
	const DcMapsView *maps = &a->self->maps;
	DcScopeRoom *room = &a->s->room;
	DcScopeScan scan = {.from = 0};
	uint32_t left = id_count;

	sort_ids(a->s->ids, id_count);
	while (left > 0 && dc_scope_next(&scan, maps, &a->s->scope, a->floor, room))
	{
		for (size_t i = 0; i < room->count && left > 0; i++)
		{
			const DcMapItem *item = &room->items[i];

			if (!is_among(a->s->ids, id_count,
						  dc_repair_id(maps, item->key, item->entry.stamp)))
				continue;
			if (answer_is_full(a))
			{
				/* not simulated: ids of long keys are listed before */
				dc_write_varint(a->w, 0);
				return true;
			}
			dc_write_string(a->w, item->key.data, item->key.length);
			dc_write_u64(a->w, item->entry.stamp);
			left--;
		}
	}
	dc_write_varint(a->w, 0);
	return false;
}

/* count | ids; their number, and as the scope the leaves they are in. */
static uint32_t
read_ids(Reply *a)
{
	uint32_t count = (uint32_t) dc_read_varint(&a->r, DC_REPAIR_IDS_MAX);

	dc_leaf_set_init(&a->s->scope, DC_LEAF_BITS_MAX);
	for (uint32_t i = 0; i < count && a->r.status == DC_OK; i++)
	{
		a->s->ids[i] = dc_read_u64(&a->r);
		dc_repair_add_leaf(&a->s->scope, a->s->ids[i]);
	}
	return count;
}

/*
 * Q: vector | horizon | keys, 0 | count | ids
 * R: vector | horizon | count | entries | key and stamp, 0 | more
 */
static DcStatus
answer_offer(Reply *a)
{
	DcReader keys;
	uint32_t offered = 0;
	uint32_t count = 0;
	uint32_t id_count;
	bool more = false;

	dc_vv_decode(&a->r, &a->s->vector);
	(void) dc_repair_read_watermark(&a->r);
	keys = a->r;
	while (a->r.status == DC_OK &&
		   dc_read_string(&a->r, DC_KEY_BYTES_MAX).length > 0)
		offered++;
	if (offered > DC_REPAIR_OFFERS_MAX) /* not simulated: a lie of 2,048 keys */
		dc_reader_fail(&a->r, DC_MALFORMED);
	id_count = read_ids(a);
	if (dc_reader_finish(&a->r) != DC_OK)
		return a->r.status;

	begin_answer(a, DC_REPAIR_OFFER);
	dc_vv_encode(a->w, a->self->vector);
	dc_write_u64(a->w, a->self->horizon);
	dc_write_varint(a->w, offered);
	for (; count < offered; count++)
		dc_repair_write_entry(a->w,
							  dc_repair_look_up(&a->self->maps,
												dc_repair_read_key(&keys)));
	more = write_asked(a, id_count);
	dc_write_u8(a->w, more);
	return DC_OK;
}

DcStatus
dc_repair_answer(const DcRepairNode *self, const void *question, size_t length,
				 DcRepairScratch *scratch, DcWriter *w)
{
	Reply a = {.self = self, .s = scratch, .w = w};
	DcRepairHead head;
	DcStatus status = DC_MALFORMED;

	dc_reader_init(&a.r, question, length);
	dc_repair_head_decode(&a.r, &head);
	if (a.r.status != DC_OK)
		return a.r.status;
	a.floor = dc_repair_greater(self->floor, head.floor);
	switch (head.kind)
	{
		case DC_REPAIR_KEPT:
			status = answer_kept(&a);
			break;
		case DC_REPAIR_COMPARE:
			status = answer_compare(&a);
			break;
		case DC_REPAIR_CELLS:
			status = answer_cells(&a);
			break;
		case DC_REPAIR_LIST:
			status = answer_list(&a);
			break;
		case DC_REPAIR_OFFER:
			status = answer_offer(&a);
			break;
		case DC_REPAIR_ROWS:
		case DC_REPAIR_IMAGES:
			break;
	}
	return status == DC_OK ? w->status : status;
}
