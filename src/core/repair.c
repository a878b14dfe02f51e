/*
 * repair.c
 *		The asking side of a repair: which question is next, and what the
 *		answers say.
 */
#include "repair_common.h"

/* So many ids are asked for together with keys that may tell them. */
#define FEW_IDS 64u

/* So many kept cells are asked for first, if there are so many. */
#define KEPT_FIRST 20u

/* Few ids may need so many by bad luck: ids that share their first cells. */
#define KEPT_MANY 100u

/* All entries, leaf by leaf. */
static void
begin_compare(DcRepair *r)
{
	r->phase = DC_REPAIR_PHASE_COMPARE;
	r->bits = DC_LEAF_BITS_MIN;
	dc_leaf_set_fill(&r->todo, r->bits);
}

void
dc_repair_begin(DcRepair *r, uint64_t keyspace, bool rejoin, bool cells)
{
	memset(r, 0, sizeof(*r));
	r->keyspace = keyspace;
	r->rejoin = rejoin;
	r->phase = DC_REPAIR_PHASE_KEPT;
	if (!cells)
		begin_compare(r);
}

static DcHlc
common_floor(const DcRepair *r, const DcRepairNode *self)
{
	return dc_repair_greater(r->peer_floor, self->floor);
}

/* ---- which leaves, and how */

/* The next leaves that differ, or the end. */
static void
next_scope(DcRepair *r)
{
	uint64_t keys;

	if (r->todo.count == 0)
	{
		r->phase = DC_REPAIR_PHASE_DONE;
		return;
	}
	dc_leaf_set_split(&r->todo, &r->scope, dc_repair_chunk_leaves(r->density));
	keys = (uint64_t) r->density * r->scope.count / 16;
	r->cell_count = 0;
	r->cells_wanted = dc_repair_cells_for(keys);
	r->list_from = 0;
	r->phase = DC_REPAIR_PHASE_CELLS;
	if (dc_repair_better_listed(r->cells_wanted,
								dc_repair_entries_in(r->peer_live,
													 r->scope.count,
													 r->scope.bits)))
		r->phase = DC_REPAIR_PHASE_LIST;
}

/* The cells did not tell: more of them, fewer leaves, or the entries. */
static void
try_harder(DcRepair *r)
{
	uint32_t count = r->cell_count;
	uint32_t bits = r->scope.bits;
	DcLeafSet *rest = &r->todo;

	r->cells_wanted =
		count * 2 < DC_IBLT_CELLS_MAX ? count * 2 : DC_IBLT_CELLS_MAX;
	r->phase = DC_REPAIR_PHASE_CELLS;
	if (r->density < 1u << 20)
		r->density += r->density / 2 + 1;
	if (dc_repair_better_listed(r->cells_wanted,
								dc_repair_entries_in(r->peer_live,
													 r->scope.count, bits)) ||
		(count == DC_IBLT_CELLS_MAX && r->scope.count == 1))
	{
		r->phase = DC_REPAIR_PHASE_LIST;
		return;
	}
	if (count < DC_IBLT_CELLS_MAX)
		return;
	/* put the leaves back, and take fewer */
	for (uint32_t leaf = dc_leaf_set_next(&r->scope, 0); leaf != DC_LEAF_NONE;
		 leaf = dc_leaf_set_next(&r->scope, leaf + 1))
		dc_leaf_set_add(rest, leaf);
	r->density = DC_REPAIR_CHUNK_KEYS * 16 / (r->scope.count / 2 + 1) + 1;
	next_scope(r);
}

/* ---- candidates */

static void
sift_found(DcRepairId *ids, uint32_t at, uint32_t count)
{
	DcRepairId id = ids[at];

	for (uint32_t child; (child = 2 * at + 1) < count; at = child)
	{
		child += child + 1 < count && ids[child + 1].id > ids[child].id;
		if (ids[child].id <= id.id)
			break;
		ids[at] = ids[child];
	}
	ids[at] = id;
}

static void
sort_found(DcRepairId *ids, uint32_t count)
{
	for (uint32_t i = count / 2; i-- > 0;)
		sift_found(ids, i, count);
	while (count > 1)
	{
		DcRepairId greatest = ids[0];

		ids[0] = ids[--count];
		ids[count] = greatest;
		sift_found(ids, 0, count);
	}
}

static DcRepairId *
find_id(DcRepair *r, uint64_t id)
{
	uint32_t low = 0;
	uint32_t count = r->id_count;

	while (count > 0)
	{
		uint32_t half = count / 2;

		if (r->ids[low + half].id < id)
		{
			low += half + 1;
			count -= half + 1;
		}
		else
			count = half;
	}
	return low < r->id_count && r->ids[low].id == id ? &r->ids[low] : NULL;
}

/* Begins to go through the own entries with the candidates in r->ids. */
static void
begin_offers(DcRepair *r, bool listing)
{
	sort_found(r->ids, r->id_count);
	r->listing = listing;
	r->own = (DcScopeScan){.from = listing ? r->list_from : 0};
	r->own_done = false;
	r->room.count = 0;
	r->room_at = 0;
	r->phase = DC_REPAIR_PHASE_OFFER;
}

/* The peer's cells into the own ones in r->work: what both have falls out. */
static void
join_cells(DcRepair *r)
{
	for (uint32_t i = 0; i < r->cell_count; i++)
	{
		r->work[i].ids ^= r->cells[i].ids;
		r->work[i].checks ^= r->cells[i].checks;
	}
}

/*
 * The ids that only one of the two has become the candidates, and the leaves
 * that they are in the scope.  False: the cells do not tell, and nothing has
 * changed.
 */
static bool
take_named_ids(DcRepair *r, const DcRepairNode *self)
{
	if (!dc_iblt_decode(r->work, r->cell_count, self->maps.env->sum_seed,
						r->found, &r->id_count))
		return false;
	dc_leaf_set_init(&r->scope, DC_LEAF_BITS_MAX);
	for (uint32_t i = 0; i < r->id_count; i++)
	{
		r->ids[i] = (DcRepairId){.id = r->found[i]};
		dc_repair_add_leaf(&r->scope, r->found[i]);
	}
	begin_offers(r, false);
	return true;
}

static void
decode_cells(DcRepair *r, const DcRepairNode *self)
{
	dc_repair_fill_cells(&self->maps, &r->scope, common_floor(r, self),
						 &r->room, r->work, r->cell_count);
	join_cells(r);
	if (!take_named_ids(r, self))
		try_harder(r);
}

static void
want_first_kept(DcRepair *r, const DcRepairNode *self)
{
	r->cells_wanted =
		self->cell_count < KEPT_FIRST ? self->cell_count : KEPT_FIRST;
	if (r->cells_wanted == 0)
		begin_compare(r);
}

/*
 * More kept cells, as many as may do: 1.35 for each id (iblt.h).  Where there
 * should be enough already, a few more, then twice that.  Leaves, if so many
 * are not kept, or if far fewer should have done: then cells are wrong, or have
 * changed while they were read.
 */
static void
want_more_kept(DcRepair *r, const DcRepairNode *self, uint32_t estimate)
{
	uint32_t count = r->cell_count;
	uint32_t enough = estimate + estimate / 3 + 3;

	if (enough > count)
		r->extra_cells = 0;
	else
	{
		r->extra_cells =
			r->extra_cells > 0 ? 2 * r->extra_cells : count / 10 + 3;
		enough = count + r->extra_cells;
	}
	r->cells_wanted = enough;
	if (enough > self->cell_count || count > 4 * estimate + KEPT_MANY)
		begin_compare(r);
}

static void
decode_kept(DcRepair *r, const DcRepairNode *self)
{
	uint32_t estimate;

	dc_iblt_copy_shared(r->work, self->cells, r->cell_count);
	join_cells(r);
	estimate = dc_iblt_estimate(r->work, r->cell_count);
	if (!take_named_ids(r, self))
		want_more_kept(r, self, estimate);
	else if (r->id_count == 0 && r->peer_sum != dc_maps_sum(&self->maps))
		begin_compare(r);
}

static bool
offers_full(const DcRepair *r)
{
	return r->offer_count == DC_REPAIR_OFFERS_MAX ||
		   r->key_bytes >= DC_REPAIR_OFFER_BYTES;
}

static void
offer(DcRepair *r, DcSlice key, DcEntry entry)
{
	DcRepairOffer *o = &r->offers[r->offer_count++];

	o->at = r->key_bytes;
	o->length = (uint32_t) key.length;
	o->entry = entry;
	memcpy(r->keys + r->key_bytes, key.data, key.length);
	r->key_bytes += o->length;
}

/* Is this entry of ours one that the peer does not have? */
static bool
is_candidate(DcRepair *r, const DcMapsView *maps, const DcMapItem *item)
{
	DcRepairId *id =
		find_id(r, dc_repair_id(maps, item->key, item->entry.stamp));

	if (id != NULL)
		id->done = true;
	return (id != NULL) != r->listing;
}

/* Goes on through the own entries until the question is full. */
static void
offer_own(DcRepair *r, const DcRepairNode *self)
{
	while (!r->own_done && !offers_full(r))
	{
		const DcMapItem *item;

		if (r->room_at == r->room.count)
		{
			r->room_at = 0;
			r->own_done = !dc_scope_next(&r->own, &self->maps, &r->scope,
										 common_floor(r, self), &r->room);
			continue;
		}
		item = &r->room.items[r->room_at++];
		if (r->listing && r->list_until != 0 &&
			dc_repair_hash_of(&self->maps, item->key) >= r->list_until)
			r->own_done = true;
		else if (is_candidate(r, &self->maps, item))
			offer(r, item->key, item->entry);
	}
}

/* What only the peer has: its listed keys, with our entries of them. */
static void
offer_listed(DcRepair *r, const DcRepairNode *self)
{
	for (uint32_t i = 0; i < r->id_count && !offers_full(r); i++)
	{
		DcReader reader;
		DcSlice key;
		DcEntry entry;

		if (r->ids[i].done)
			continue;
		dc_reader_init(&reader, r->list, sizeof(r->list));
		reader.offset = r->ids[i].at;
		key = dc_repair_read_key(&reader);
		entry = dc_repair_look_up(&self->maps, key);
		r->ids[i].done = true;
		/* an own live entry was offered when it was met */
		if (entry.dead || entry.stamp <= common_floor(r, self))
			offer(r, key, entry);
	}
}

/*
 * Ids whose keys are the peer's alone.  Where they are many and keys are
 * offered, the answer to these may tell some of them.
 */
static void
ask_ids(DcRepair *r)
{
	for (uint32_t i = 0; i < r->id_count; i++)
		r->asked += !r->ids[i].done;
	if (r->offer_count > 0 && r->asked > FEW_IDS)
		r->asked = 0;
	if (r->asked > DC_REPAIR_IDS_MAX)
		r->asked = DC_REPAIR_IDS_MAX; /* not simulated: twice a chunk of keys */
}

/* True when there is something to ask. */
static bool
prepare_offers(DcRepair *r, const DcRepairNode *self)
{
	r->asked = 0;
	r->offer_count = 0;
	r->key_bytes = 0;
	offer_own(r, self);
	if (r->own_done && r->listing)
		offer_listed(r, self);
	if (r->own_done && !r->listing)
		ask_ids(r);
	return r->offer_count > 0 || r->asked > 0;
}

/* ---- questions */

static void
ask_compare(DcRepair *r, const DcRepairNode *self, DcWriter *w)
{
	uint32_t wider = r->bits - r->todo.bits;

	r->sums.view = &self->maps;
	r->sums.loaded = false;
	dc_leaf_set_encode(w, &r->todo);
	dc_write_u8(w, (uint8_t) r->bits);
	for (uint32_t parent = dc_leaf_set_next(&r->todo, 0);
		 parent != DC_LEAF_NONE;
		 parent = dc_leaf_set_next(&r->todo, parent + 1))
	{
		for (uint32_t i = 0; i < 1u << wider; i++)
			dc_write_u64(w,
						 dc_leaf_sum(&r->sums, (parent << wider) + i, r->bits));
	}
	r->sums.view = NULL;
}

/* Kept cells, or those of the scope. */
static void
ask_cells(DcRepair *r, DcWriter *w)
{
	if (r->phase == DC_REPAIR_PHASE_CELLS)
		dc_leaf_set_encode(w, &r->scope);
	dc_write_varint(w, r->cells_wanted);
	dc_write_varint(w, r->cell_count);
	if (r->cell_count > 0)
		dc_write_u64(w, r->cells[0].ids);
}

static void
ask_offer(DcRepair *r, const DcRepairNode *self, DcWriter *w)
{
	uint32_t left = r->asked;

	dc_vv_encode(w, self->vector);
	dc_write_u64(w, self->horizon);
	for (uint32_t i = 0; i < r->offer_count; i++)
		dc_write_string(w, r->keys + r->offers[i].at, r->offers[i].length);
	dc_write_varint(w, 0);
	dc_write_varint(w, r->asked);
	for (uint32_t i = 0; i < r->id_count && left > 0; i++)
	{
		if (r->ids[i].done)
			continue;
		dc_write_u64(w, r->ids[i].id);
		left--;
	}
}

/* A stretch of leaves is through: the rest of the list, or other leaves. */
static void
after_offers(DcRepair *r)
{
	if (r->listing && r->list_until != 0)
	{
		r->list_from = r->list_until;
		r->phase = DC_REPAIR_PHASE_LIST;
		return;
	}
	next_scope(r);
}

bool
dc_repair_next(DcRepair *r, const DcRepairNode *self, DcWriter *w)
{
	static const DcRepairKind kinds[] = {
		[DC_REPAIR_PHASE_KEPT] = DC_REPAIR_KEPT,
		[DC_REPAIR_PHASE_COMPARE] = DC_REPAIR_COMPARE,
		[DC_REPAIR_PHASE_CELLS] = DC_REPAIR_CELLS,
		[DC_REPAIR_PHASE_LIST] = DC_REPAIR_LIST,
		[DC_REPAIR_PHASE_OFFER] = DC_REPAIR_OFFER,
		[DC_REPAIR_PHASE_DONE] = DC_REPAIR_OFFER,
	};
	DcRepairHead head = {.keyspace = r->keyspace, .floor = self->floor};

	if (r->phase == DC_REPAIR_PHASE_KEPT && r->cells_wanted == 0)
		want_first_kept(r, self);
	while (r->phase == DC_REPAIR_PHASE_OFFER && !prepare_offers(r, self))
		after_offers(r);
	if (r->phase == DC_REPAIR_PHASE_DONE)
		return false;
	head.kind = kinds[r->phase];
	dc_repair_head_encode(w, &head);
	switch (r->phase)
	{
		case DC_REPAIR_PHASE_COMPARE:
			ask_compare(r, self, w);
			break;
		case DC_REPAIR_PHASE_KEPT:
		case DC_REPAIR_PHASE_CELLS:
			ask_cells(r, w);
			break;
		case DC_REPAIR_PHASE_LIST:
			dc_leaf_set_encode(w, &r->scope);
			dc_write_u64(w, r->list_from);
			break;
		case DC_REPAIR_PHASE_OFFER:
			ask_offer(r, self, w);
			break;
		case DC_REPAIR_PHASE_DONE: /* not simulated: it has returned */
			break;
	}
	r->questions++;
	return true;
}

/* ---- answers */

/* Takes cells into r->cells; false: they do not fit what was asked. */
static bool
read_cells(DcRepair *r, DcReader *in)
{
	uint32_t first = (uint32_t) dc_read_varint(in, DC_IBLT_CELLS_MAX);
	uint32_t count = (uint32_t) dc_read_varint(in, DC_IBLT_CELLS_MAX);

	if (first > count || (first != 0 && first != r->cell_count))
		dc_reader_fail(in, DC_MALFORMED);
	for (uint32_t i = first; i < count && in->status == DC_OK; i++)
	{
		r->cells[i].ids = dc_read_u64(in);
		r->cells[i].checks = dc_read_u32(in);
	}
	r->cell_count = count;
	return dc_reader_finish(in) == DC_OK;
}

static DcStatus
take_kept(DcRepair *r, const DcRepairNode *self, DcReader *in)
{
	uint32_t wanted = r->cells_wanted;

	if (r->cell_count == 0)
		r->peer_sum = dc_read_u64(in);
	if (!read_cells(r, in))
		return in->status;
	if (r->cell_count == 0 || self->cell_count < wanted)
		begin_compare(r);
	else if (r->cell_count != wanted)
		return DC_MALFORMED; /* not simulated: a lie for the fuzzer */
	else
		decode_kept(r, self);
	return DC_OK;
}

/* The leaves that differ are some of those that were compared. */
static bool
are_children(const DcRepair *r, const DcLeafSet *differing)
{
	uint32_t wider = r->bits - r->todo.bits;

	for (uint32_t leaf = dc_leaf_set_next(differing, 0); leaf != DC_LEAF_NONE;
		 leaf = dc_leaf_set_next(differing, leaf + 1))
	{
		if (!dc_leaf_set_has(&r->todo, leaf >> wider))
			return false; /* not simulated: a lie for the fuzzer */
	}
	return true;
}

static DcStatus
take_compare(DcRepair *r, const DcRepairNode *self, DcReader *in)
{
	DcLeafSet *differing = &r->scope;
	uint32_t keys;
	uint32_t finer;
	uint32_t leaves;

	r->peer_live = dc_read_varint(in, UINT64_MAX >> 16);
	dc_leaf_set_decode(in, differing);
	keys = (uint32_t) dc_read_varint(in, UINT32_MAX);
	finer = dc_read_u8(in);
	if (in->status != DC_OK)
		return in->status;
	if (differing->bits != r->bits || !are_children(r, differing) ||
		(finer != 0 && (finer <= r->bits || finer > DC_LEAF_BITS_MAX ||
						(uint64_t) differing->count << (finer - r->bits) >
							DC_SKETCH_SUMS_MAX)))
		return DC_MALFORMED;
	r->estimate = keys;
	r->todo = *differing;
	if (differing->count == 0 || finer > 0)
	{
		if (differing->count == 0)
			r->phase = DC_REPAIR_PHASE_DONE;
		r->bits = finer;
		return dc_reader_finish(in);
	}
	r->density = dc_repair_density_of(keys, differing->count);
	leaves = (uint32_t) dc_read_varint(in, differing->count);
	dc_leaf_set_split(&r->todo, &r->scope, leaves > 0 ? leaves : 1);
	r->cell_count = 0;
	if (!read_cells(r, in))
		return in->status;
	r->list_from = 0;
	if (r->cell_count == 0)
		r->phase = DC_REPAIR_PHASE_LIST;
	else
		decode_cells(r, self);
	return DC_OK;
}

static DcStatus
take_cells(DcRepair *r, const DcRepairNode *self, DcReader *in)
{
	uint32_t wanted = r->cells_wanted;

	if (!read_cells(r, in))
		return in->status;
	if (r->cell_count != wanted)
		return DC_MALFORMED; /* not simulated: a lie for the fuzzer */
	decode_cells(r, self);
	return DC_OK;
}

static DcStatus
take_list(DcRepair *r, const DcRepairNode *self, DcReader *in)
{
	size_t start = in->offset;
	DcSlice key;

	r->id_count = 0;
	if (dc_reader_left(in) > sizeof(r->list))
		return DC_MALFORMED; /* not simulated: a lie of 200 kB */
	memcpy(r->list, in->data + start, dc_reader_left(in));
	for (;;)
	{
		size_t at = in->offset - start;
		DcHlc stamp;

		key = dc_read_string(in, DC_KEY_BYTES_MAX);
		if (in->status != DC_OK || key.length == 0)
			break;
		stamp = dc_read_u64(in);
		if (r->id_count == DC_IBLT_CELLS_MAX)
			return DC_MALFORMED; /* not simulated: a lie of 16,384 keys */
		r->ids[r->id_count++] =
			(DcRepairId){.id = dc_repair_id(&self->maps, key, stamp),
						 .at = (uint32_t) at};
	}
	r->list_until = dc_read_u64(in);
	if (in->status == DC_OK && r->list_until != 0 &&
		r->list_until <= r->list_from)
		dc_reader_fail(in, DC_MALFORMED); /* not simulated: another one */
	if (dc_reader_finish(in) != DC_OK)
		return in->status;
	begin_offers(r, true);
	return DC_OK;
}

/* What was asked for and is not there any more: the first `left` open ids. */
static void
give_up_ids(DcRepair *r, uint32_t left)
{
	for (uint32_t i = 0; i < r->id_count && left > 0; i++)
	{
		if (r->ids[i].done)
			continue;
		r->ids[i].done = true;
		left--;
	}
}

/*
 * The peer's entries of the offered keys.  If one of them is an id that was
 * still to be asked for, its key is known now.
 */
static void
read_offered(DcRepair *r, const DcRepairNode *self, DcReader *in)
{
	for (uint32_t i = 0; i < r->results_offers && in->status == DC_OK; i++)
	{
		DcEntry entry = dc_repair_read_entry(in);
		const DcRepairOffer *o = &r->offers[i];
		DcRepairId *id = NULL;

		if (!r->listing && !entry.dead && entry.stamp != DC_HLC_NONE)
			id = find_id(r, dc_repair_id(&self->maps,
										 (DcSlice){r->keys + o->at, o->length},
										 entry.stamp));
		if (id != NULL)
			id->known = true;
	}
}

/* Reads the entries of asked ids; how many of them were still open. */
static uint32_t
read_asked(DcRepair *r, const DcRepairNode *self, DcReader *in)
{
	uint32_t settled = 0;

	for (r->results_ids = 0;; r->results_ids++)
	{
		DcSlice key = dc_read_string(in, DC_KEY_BYTES_MAX);
		DcRepairId *id;
		DcHlc stamp;

		if (in->status != DC_OK || key.length == 0)
			return settled;
		stamp = dc_read_u64(in);
		if (!dc_hlc_valid(stamp) || r->results_ids == r->asked)
			dc_reader_fail(in, DC_MALFORMED);
		id = find_id(r, dc_repair_id(&self->maps, key, stamp));
		if (id != NULL && !id->done)
		{
			id->done = true;
			settled++;
		}
	}
}

static DcStatus
take_offer(DcRepair *r, const DcRepairNode *self, DcReader *in)
{
	uint32_t settled;
	uint8_t more;

	dc_vv_decode(in, &r->peer_vector);
	r->peer_horizon = dc_repair_read_watermark(in);
	r->results_offers = (uint32_t) dc_read_varint(in, r->offer_count);
	if (r->results_offers != r->offer_count)
		dc_reader_fail(in, DC_MALFORMED);
	r->results_at = in->offset;
	read_offered(r, self, in);
	settled = read_asked(r, self, in);
	more = dc_read_u8(in);
	if (more > 1 || (more == 1 && settled == 0))
		dc_reader_fail(in, DC_MALFORMED);
	if (dc_reader_finish(in) != DC_OK)
		return in->status;
	if (more == 0)
		give_up_ids(r, r->asked - settled);
	for (uint32_t i = 0; i < r->id_count; i++)
		r->ids[i].done |= r->ids[i].known;
	r->offer_at = 0;
	r->results = in->data;
	r->results_length = in->length;
	return DC_OK;
}

DcStatus
dc_repair_take(DcRepair *r, const DcRepairNode *self, const void *answer,
			   size_t length)
{
	DcStatus status = DC_MALFORMED;
	DcReader in;
	uint8_t kind;

	r->results_offers = 0;
	r->results_ids = 0;
	dc_reader_init(&in, answer, length);
	dc_repair_read_begin(&in, DC_REPAIR_ANSWER);
	kind = dc_read_u8(&in);
	r->peer_floor = dc_repair_read_watermark(&in);
	if (in.status != DC_OK)
		status = in.status;
	else if (r->phase == DC_REPAIR_PHASE_KEPT && kind == DC_REPAIR_KEPT)
		status = take_kept(r, self, &in);
	else if (r->phase == DC_REPAIR_PHASE_COMPARE && kind == DC_REPAIR_COMPARE)
		status = take_compare(r, self, &in);
	else if (r->phase == DC_REPAIR_PHASE_CELLS && kind == DC_REPAIR_CELLS)
		status = take_cells(r, self, &in);
	else if (r->phase == DC_REPAIR_PHASE_LIST && kind == DC_REPAIR_LIST)
		status = take_list(r, self, &in);
	else if (r->phase == DC_REPAIR_PHASE_OFFER && kind == DC_REPAIR_OFFER)
		status = take_offer(r, self, &in);
	if (status != DC_OK)
	{
		r->phase = DC_REPAIR_PHASE_DONE;
		r->results_offers = 0;
		r->results_ids = 0;
	}
	return status;
}

/* The next key and what the peer has of it. */
static void
read_result(DcRepair *r, DcRepairResult *result)
{
	DcReader in;

	dc_reader_init(&in, r->results, r->results_length);
	in.offset = r->results_at;
	if (r->results_offers > 0)
	{
		const DcRepairOffer *o = &r->offers[r->offer_at++];

		result->key = (DcSlice){r->keys + o->at, o->length};
		result->peer = dc_repair_read_entry(&in);
		r->results_offers--;
	}
	else
	{
		result->key = dc_repair_read_key(&in);
		result->peer = (DcEntry){.stamp = dc_read_u64(&in)};
		r->results_ids--;
	}
	r->results_at = in.offset;
}

/*
 * Was this own entry offered, so that its key has a result of its own?  Kept
 * cells also name what lies at or below the floor, which is not.
 */
static bool
was_offered(DcRepair *r, const DcRepairNode *self, const DcRepairResult *result)
{
	return !result->own.dead && result->own.stamp > common_floor(r, self) &&
		   find_id(r, dc_repair_id(&self->maps, result->key,
								   result->own.stamp)) != NULL;
}

bool
dc_repair_result(DcRepair *r, const DcRepairNode *self, DcRepairResult *result)
{
	DcRepairSide own = {.floor = self->floor,
						.horizon = self->horizon,
						.vector = self->vector};
	DcRepairSide peer = {.floor = r->peer_floor,
						 .horizon = r->peer_horizon,
						 .vector = &r->peer_vector};

	while (r->results_offers > 0 || r->results_ids > 0)
	{
		bool asked = r->results_offers == 0;

		read_result(r, result);
		result->own = dc_repair_look_up(&self->maps, result->key);
		if (asked && was_offered(r, self, result))
			continue;
		own.entry = result->own;
		peer.entry = result->peer;
		result->action = dc_rule_repair(&own, &peer, r->rejoin);
		result->peer_covers = dc_vv_covers(&r->peer_vector, result->own.stamp);
		return true;
	}
	return false;
}
