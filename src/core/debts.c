/*
 * debts.c
 *		What catch-ups left to third nodes, and has not come from them yet.
 */
#include "debts.h"

#include "canary.h"

#include <string.h>

void
dc_debts_init(DcDebts *debts)
{
	memset(debts, 0, sizeof(*debts));
}

void
dc_debts_forgive(DcDebts *debts, uint32_t source)
{
	debts->to.at[source] = DC_HLC_NONE;
	memset(debts->by[source], 0, sizeof(debts->by[source]));
}

static void
raise(DcHlc *to, DcHlc stamp)
{
	if (*to < stamp)
		*to = stamp;
}

void
dc_debts_add(DcDebts *debts, uint32_t source, uint32_t donor, DcHlc stamp)
{
	raise(&debts->to.at[source], stamp);
	debts->by[source][donor / 64] |= UINT64_C(1) << (donor % 64);
}

bool
dc_debts_names(const DcDebts *debts, uint32_t source, uint32_t donor)
{
	return (debts->by[source][donor / 64] >> (donor % 64) & 1) != 0;
}

void
dc_debts_leave(DcDebts *debts, uint32_t donor, const DcVv *left)
{
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (left->at[id] != DC_HLC_NONE)
			dc_debts_add(debts, id, donor, left->at[id]);
	}
}

bool
dc_debts_settled(const DcDebts *debts, const DcVv *vector)
{
	return dc_vv_includes(vector, &debts->to) || DC_CANARY(DC_CANARY_LEFT);
}

void
dc_debts_pay(DcDebts *debts, const DcVv *vector)
{
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (debts->to.at[id] != DC_HLC_NONE &&
			debts->to.at[id] <= vector->at[id])
			dc_debts_forgive(debts, id);
	}
}

/* No donor says so any more. */
static bool
is_void(const uint64_t by[DC_DEBTS_WORDS])
{
	uint64_t any = 0;

	for (uint32_t i = 0; i < DC_DEBTS_WORDS; i++)
		any |= by[i];
	return any == 0;
}

static void
strike(uint64_t by[DC_DEBTS_WORDS], uint32_t donor)
{
	by[donor / 64] &= ~(UINT64_C(1) << (donor % 64));
}

/* The latest catch-up of a donor says all that its earlier ones said. */
static void
strike_donor(DcDebts *debts, uint32_t donor)
{
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (debts->to.at[id] == DC_HLC_NONE)
			continue;
		strike(debts->by[id], donor);
		if (is_void(debts->by[id]))
			dc_debts_forgive(debts, id);
	}
}

void
dc_debts_close(DcDebts *debts, uint32_t donor, const DcDebts *left,
			   const DcVv *vector, uint32_t self)
{
	/* paid ones first: their donors say nothing of later ones */
	dc_debts_pay(debts, vector);
	strike_donor(debts, donor);
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		uint64_t by[DC_DEBTS_WORDS];

		if (left->to.at[id] <= vector->at[id] || id == self)
			continue;
		memcpy(by, left->by[id], sizeof(by));
		strike(by, self);
		if (is_void(by))
			continue;
		raise(&debts->to.at[id], left->to.at[id]);
		for (uint32_t i = 0; i < DC_DEBTS_WORDS; i++)
			debts->by[id][i] |= by[i];
	}
}

static uint32_t
count_donors(const DcDebts *debts, uint32_t source)
{
	uint32_t count = 0;

	for (uint32_t donor = 0; donor < DC_NODE_IDS; donor++)
		count += dc_debts_names(debts, source, donor);
	return count;
}

void
dc_debts_encode(DcWriter *w, const DcDebts *debts)
{
	for (uint32_t id = 1; id < DC_NODE_IDS; id++)
	{
		if (debts->to.at[id] == DC_HLC_NONE)
			continue;
		dc_write_u16(w, (uint16_t) id);
		dc_write_u64(w, debts->to.at[id]);
		dc_write_varint(w, count_donors(debts, id));
		for (uint32_t donor = 0; donor < DC_NODE_IDS; donor++)
		{
			if (dc_debts_names(debts, id, donor))
				dc_write_u16(w, (uint16_t) donor);
		}
	}
}

static void
read_donors(DcReader *r, DcDebts *debts, uint32_t source, DcHlc stamp)
{
	uint64_t count = dc_read_varint(r, DC_NODE_IDS);
	uint32_t next = 0;

	if (count == 0)
		dc_reader_fail(r, DC_MALFORMED);
	for (uint64_t i = 0; i < count && r->status == DC_OK; i++)
	{
		uint32_t donor = dc_read_u16(r);

		if (r->status == DC_OK && (donor < next || donor > DC_NODE_ID_MAX))
			dc_reader_fail(r, DC_MALFORMED);
		if (r->status == DC_OK && debts != NULL)
			dc_debts_add(debts, source, donor, stamp);
		next = donor + 1;
	}
}

DcStatus
dc_debts_decode(DcSlice bytes, DcDebts *debts)
{
	uint32_t previous = 0;
	DcReader r;

	if (debts != NULL)
		dc_debts_init(debts);
	dc_reader_init(&r, bytes.data, bytes.length);
	while (r.status == DC_OK && dc_reader_left(&r) > 0)
	{
		uint32_t id = dc_read_u16(&r);
		DcHlc stamp = dc_read_u64(&r);

		if (r.status == DC_OK && (id <= previous || id > DC_NODE_ID_MAX ||
								  stamp == DC_HLC_NONE || stamp > DC_HLC_MAX))
			dc_reader_fail(&r, DC_MALFORMED);
		if (r.status == DC_OK)
			read_donors(&r, debts, id, stamp);
		previous = id;
	}
	if (r.status != DC_OK && debts != NULL)
		dc_debts_init(debts);
	return dc_reader_finish(&r);
}

DcSlice
dc_debts_read(DcReader *r)
{
	DcSlice debts = dc_read_string(r, SIZE_MAX);

	if (r->status == DC_OK && dc_debts_decode(debts, NULL) != DC_OK)
		dc_reader_fail(r, DC_MALFORMED);
	return debts;
}
