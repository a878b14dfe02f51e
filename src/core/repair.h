/*
 * repair.h
 *		Comparing two nodes' entries of a keyspace at the price of what differs.
 *
 *	asking node A                                   answering node B
 *	 [KEPT     20 cells of all entries   -->
 *	                                     <--  these cells; more of them, or:]
 *	  COMPARE  256 sums, 2 kB            -->
 *	                                     <--  leaves that differ; cells of them,
 *	                                          or: compare them more finely
 *	 [CELLS    more of the leaves, or more cells of these  -->  cells]
 *	 [LIST     the whole of the leaves   -->  entries, in the order of the map]
 *	  OFFER    own entries that differ,  -->
 *	           ids that only B has       <--  its entries of these keys
 *
 * After an OFFER A has pairs of entries, and dc_rule_repair says what is to be
 * done about each; moving rows is not done here.  B keeps nothing between two
 * messages.  Both maps may change at any time: a question that was answered
 * about another state yields keys that turn out not to differ, or misses some
 * that the next repair finds.  Nothing is decided but by entries, key by key.
 *
 * Cells (iblt.h) of all entries name few ids in the fewest bytes: a node that
 * keeps them (DcMapEnv) asks for the first 20, and for more as far as it keeps
 * them.  If one of the two keeps none, or if much differs, leaves are compared;
 * and where cells name no id while the sums of all entries differ.  Who must be
 * certain does not ask for them: cells that are wrong can hide a difference.
 *
 * Leaves (sketch.h) that do not hold many entries, or in which much differs,
 * are not narrowed further; their differing entries are found by cells
 * (iblt.h), some 4,096 keys at a time, and where more than about the half
 * differs by listing them.
 *
 * Only live entries are compared: a dead one matters where the other node
 * shows the key alive, and there it is met.
 *
 * Sans-IO: questions and answers are bytes; memory is the caller's; no message
 * exceeds DC_REPAIR_MESSAGE_MAX.  All input is checked.
 */
#ifndef DC_REPAIR_H
#define DC_REPAIR_H

#include "iblt.h"
#include "sketch.h"

#define DC_REPAIR_MESSAGE_MAX ((size_t) 640 * 1024)
#define DC_REPAIR_OFFERS_MAX  2048u /* keys in one question */
#define DC_REPAIR_IDS_MAX     8192u /* ids in one question */
#define DC_REPAIR_OFFER_BYTES ((size_t) 128 * 1024)
#define DC_REPAIR_LIST_BYTES  ((size_t) 192 * 1024)

typedef enum DcRepairKind
{
	DC_REPAIR_COMPARE = 1,
	DC_REPAIR_CELLS = 2,
	DC_REPAIR_LIST = 3,
	DC_REPAIR_OFFER = 4,
	DC_REPAIR_ROWS = 5,   /* of the glue: rows by key, both ways */
	DC_REPAIR_IMAGES = 6, /* of the glue: sums over row images */
	DC_REPAIR_KEPT = 7
} DcRepairKind;

/*
 * One of the two nodes, as it is now.  Vector, horizon and floor are read
 * before the maps are looked at: anew for each message.
 */
typedef struct DcRepairNode
{
	DcMapsView maps;
	DcHlc floor;
	DcHlc horizon;
	const DcVv *vector;
	const DcIbltCell *cells; /* those that are kept of the keyspace, or NULL */
	uint32_t cell_count;
} DcRepairNode;

/* What stands in front of each question. */
typedef struct DcRepairHead
{
	DcRepairKind kind;
	uint64_t keyspace;
	DcHlc floor; /* of the asking node */
} DcRepairHead;

void dc_repair_head_encode(DcWriter *w, const DcRepairHead *head);

/* Leaves the reader behind the head. */
void dc_repair_head_decode(DcReader *r, DcRepairHead *head);

/* ----------------------------------------------------------- answering */

/* Scratch of one answer; about 300 kB; need not be initialised. */
typedef struct DcRepairScratch
{
	DcIbltCell cells[DC_IBLT_CELLS_MAX];
	DcLeafSums sums;
	DcLeafSet scope;
	DcLeafSet differing;
	DcScopeRoom room;
	DcVv vector;
	uint64_t ids[DC_REPAIR_IDS_MAX];
} DcRepairScratch;

/*
 * Answers a question, but those of the glue, about the maps of `self`, which
 * are those of the keyspace its head names.  Anything else: DC_MALFORMED.
 */
DcStatus dc_repair_answer(const DcRepairNode *self, const void *question,
						  size_t length, DcRepairScratch *scratch, DcWriter *w);

/* -------------------------------------------------------------- asking */

/* An own entry that is offered. */
typedef struct DcRepairOffer
{
	uint32_t at; /* key, in DcRepair.keys */
	uint32_t length;
	DcEntry entry;
} DcRepairOffer;

/* An entry of the peer: its id, and where its key is listed. */
typedef struct DcRepairId
{
	uint64_t id;
	uint32_t at; /* in DcRepair.list */
	bool done;   /* ours as well, or answered */
	bool known;  /* its key was offered, and told */
} DcRepairId;

typedef enum DcRepairPhase
{
	DC_REPAIR_PHASE_KEPT,
	DC_REPAIR_PHASE_COMPARE,
	DC_REPAIR_PHASE_CELLS,
	DC_REPAIR_PHASE_LIST,
	DC_REPAIR_PHASE_OFFER,
	DC_REPAIR_PHASE_DONE
} DcRepairPhase;

/* The asking side; about 1 MB, no pointers. */
typedef struct DcRepair
{
	uint64_t keyspace;
	bool rejoin;
	DcRepairPhase phase;
	uint32_t questions; /* asked so far */
	uint32_t estimate;  /* of keys that differ, at first */
	DcHlc peer_floor;
	DcHlc peer_horizon;
	uint64_t peer_live;
	uint64_t peer_sum; /* of all its entries */
	DcVv peer_vector;

	uint32_t bits;  /* of the leaves that are compared next */
	DcLeafSet todo; /* leaves: to be compared; then: that differ */
	DcLeafSet scope;
	uint32_t density; /* keys that differ, 16ths in a leaf */

	/* cells at the peer: of all entries, then of the scope */
	uint32_t cell_count;
	uint32_t cells_wanted;
	uint32_t extra_cells; /* beyond what should have been enough */
	DcIbltCell cells[DC_IBLT_CELLS_MAX];
	DcIbltCell work[DC_IBLT_CELLS_MAX];

	/* candidates: of the cells, or of a stretch of the list */
	bool listing;
	uint64_t list_from;
	uint64_t list_until; /* 0: the end of the scope */
	uint32_t id_count;
	DcRepairId ids[DC_IBLT_CELLS_MAX];
	uint64_t found[DC_IBLT_CELLS_MAX];
	uint8_t list[DC_REPAIR_LIST_BYTES + 4096];

	/* the own entries of the scope, looked through for candidates */
	DcScopeScan own;
	bool own_done;
	DcScopeRoom room;
	size_t room_at;

	/* the question that is under way, and its answer */
	uint32_t offer_count;
	uint32_t offer_at; /* next one whose result is given */
	uint32_t asked;    /* ids in the question */
	uint32_t key_bytes;
	DcRepairOffer offers[DC_REPAIR_OFFERS_MAX];
	uint8_t keys[DC_REPAIR_OFFER_BYTES + DC_KEY_BYTES_MAX];
	const uint8_t *results; /* in the answer */
	size_t results_length;
	size_t results_at;
	uint32_t results_offers; /* left */
	uint32_t results_ids;    /* left */
	DcLeafSums sums;
} DcRepair;

/* A key that was compared, and what is to be done about it. */
typedef struct DcRepairResult
{
	DcSlice key;
	DcEntry own;
	DcEntry peer;
	bool peer_covers; /* the peer's vector covers our stamp */
	DcRepairAction action;
} DcRepairResult;

/*
 * Begins; `rejoin` as dc_rule_repair takes it.  `cells`: if both keep cells of
 * all entries, what these say will do.
 */
void dc_repair_begin(DcRepair *r, uint64_t keyspace, bool rejoin, bool cells);

/*
 * Writes the next question; false: there is none left.  `w` has room for
 * DC_REPAIR_MESSAGE_MAX bytes.
 */
bool dc_repair_next(DcRepair *r, const DcRepairNode *self, DcWriter *w);

/*
 * Takes the answer to the last question.  The bytes must stay until the
 * results have been read.  Not DC_OK: the conversation is over.
 */
DcStatus dc_repair_take(DcRepair *r, const DcRepairNode *self,
						const void *answer, size_t length);

/*
 * The next key of the last answer; false: no more.  Must be called until then
 * before the next question.
 */
bool dc_repair_result(DcRepair *r, const DcRepairNode *self,
					  DcRepairResult *result);

#endif
