/*
 * walwriter.c
 *		Asynchronous commits that do not wake the WAL writer one by one.
 *
 * SetLatch() sends no signal to a latch that is set already.  So one that is
 * set silently holds signals back, and one that is cleared and set again makes
 * up for all of them: whatever the WAL writer was to be woken for meanwhile, it
 * wakes up then.  It may wake up before, and finds its latch set.
 */
#include "postgres.h"

#include "access/xact.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/proc.h"

#include "walwriter.h"

static bool held;

void
dc_walwriter_release(void)
{
	Latch *latch = ProcGlobal->walwriterLatch;

	if (!held)
		return;
	held = false;
	latch->is_set = false;
	SetLatch(latch);
}

static void
on_transaction_event(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_ABORT)
		dc_walwriter_release();
}

static void
at_exit(int code, Datum arg)
{
	dc_walwriter_release();
}

void
dc_walwriter_hold(void)
{
	static bool registered;

	if (ProcGlobal->walwriterLatch == NULL)
		return;
	if (!registered)
	{
		before_shmem_exit(at_exit, (Datum) 0);
		RegisterXactCallback(on_transaction_event, NULL);
		registered = true;
	}
	held = true;
	ProcGlobal->walwriterLatch->is_set = true;
}
