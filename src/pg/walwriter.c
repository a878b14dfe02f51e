/*
 * walwriter.c
 *		Asynchronous commits that do not wake the WAL writer one by one.
 *
 * SetLatch() sends no signal to a latch that is set already.  So the WAL
 * writer's is set silently for the moment of a commit.  Who meant to wake it in
 * that moment has not; that is made up for by waking it after the flush.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "walwriter.h"

static bool mute;
static bool owed; /* it was mute, and has not been woken since */

void
dc_walwriter_unmute(void)
{
	if (mute)
		ProcGlobal->walwriterLatch->is_set = false;
	mute = false;
}

void
dc_walwriter_wake(void)
{
	dc_walwriter_unmute();
	if (owed)
		SetLatch(ProcGlobal->walwriterLatch);
	owed = false;
}

static void
on_transaction_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		dc_walwriter_wake();
}

static void
at_exit(int code, Datum arg)
{
	dc_walwriter_wake();
}

void
dc_walwriter_mute(void)
{
	static bool registered;
	Latch *latch = ProcGlobal->walwriterLatch;

	if (latch == NULL || latch->is_set)
		return; /* not there yet, or waking up anyhow */
	if (!registered)
	{
		before_shmem_exit(at_exit, (Datum) 0);
		RegisterXactCallback(on_transaction_event, NULL);
		registered = true;
	}
	mute = owed = true;
	latch->is_set = true;
}
