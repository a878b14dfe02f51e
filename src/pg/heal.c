/*
 * heal.c
 *		Keys that readers found stale somewhere, for the repairer.
 */
#include "heal.h"

#include "storage/shmem.h"

#define KEYS     1024
#define KEYS_RUN 256 /* of one exchange */

typedef struct StaleKey
{
	DcHeal heal;
	uint64 hash;
	uint16 length;
	uint8 data[DC_KEY_BYTES_MAX];
} StaleKey;

/* DC_LOCK_HEAL */
typedef struct Ring
{
	uint32 first;
	uint32 count;
	StaleKey keys[KEYS];
} Ring;

static Ring *ring;

Size
dc_heal_bytes(void)
{
	return MAXALIGN(sizeof(Ring));
}

void
dc_heal_attach(void)
{
	bool found;

	ring = ShmemInitStruct("datacake stale keys", dc_heal_bytes(), &found);
	if (!found)
		memset(ring, 0, dc_heal_bytes());
}

static bool
same_heal(const DcHeal *a, const DcHeal *b)
{
	return a->keyspace == b->keyspace && a->node_id == b->node_id &&
		   a->fetch == b->fetch;
}

static StaleKey *
key_at(uint32 index)
{
	return &ring->keys[(ring->first + index) % KEYS];
}

static bool
is_noted(const DcHeal *heal, DcKey key)
{
	for (uint32 i = 0; i < ring->count; i++)
	{
		const StaleKey *noted = key_at(i);

		if (noted->hash == key.hash && same_heal(&noted->heal, heal) &&
			noted->length == key.length &&
			memcmp(noted->data, key.data, key.length) == 0)
			return true;
	}
	return false;
}

void
dc_heal_push(const DcHeal *heal, DcKey key)
{
	LWLockAcquire(DC_LOCK(DC_LOCK_HEAL), LW_EXCLUSIVE);
	if (ring->count < KEYS && !is_noted(heal, key))
	{
		StaleKey *next = key_at(ring->count++);

		next->heal = *heal;
		next->hash = key.hash;
		next->length = (uint16) key.length;
		memcpy(next->data, key.data, key.length);
	}
	LWLockRelease(DC_LOCK(DC_LOCK_HEAL));
	dc_worker_wake(DC_WORKER_REPAIRER);
}

bool
dc_heal_take(DcHeal *heal, DcKeyList *keys)
{
	uint32 taken = 0;
	StaleKey *copies = palloc(sizeof(StaleKey) * KEYS_RUN);

	LWLockAcquire(DC_LOCK(DC_LOCK_HEAL), LW_EXCLUSIVE);
	while (taken < KEYS_RUN && ring->count > 0 &&
		   (taken == 0 || same_heal(&copies[0].heal, &key_at(0)->heal)))
	{
		copies[taken++] = *key_at(0);
		ring->first = (ring->first + 1) % KEYS;
		ring->count--;
	}
	LWLockRelease(DC_LOCK(DC_LOCK_HEAL));
	for (uint32 i = 0; i < taken; i++)
		dc_key_list_add(keys, copies[i].data, copies[i].length);
	if (taken > 0)
		*heal = copies[0].heal;
	pfree(copies);
	return taken > 0;
}
