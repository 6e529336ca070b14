/* SPDX-License-Identifier: MIT */
/* Scripts on several loops: spawn, cancel, join, wake and sleep across them; loops that end. */
#include "loops.h"

#include <errno.h>

static void sleep_some(struct lplayer *self)
{
    struct lstep step = lstep_begin(self, "sleep", 0);
    int rc = lstep_end(&step, fibril_sleep_until(step.deadline_ns));
    LCHECK(rc == 0 || rc == -ECANCELED);
    LCHECK(rc != 0 || fibril_now() >= step.deadline_ns);
}

static void cancel(struct lplayer *self)
{
    struct lplayer *p = &lworld.players[lchoose((unsigned)lworld.count)];
    if (!p->handle || p->claimed) { /* claimed: the handle may go while we use it */
        return;
    }
    lstep_begin(self, "cancel", p->index);
    p->claimed = true;
    p->cancel_maybe = true;
    p->cancel_last_ns = fibril_now();
    p->cancel_ns = p->cancel_ns == L_NEVER ? p->cancel_last_ns : p->cancel_ns;
    LCHECK(fibril_cancel(p->handle) == 0);
    p->claimed = false;
    self->inside = false;
}

static void clear(struct lplayer *self)
{
    lstep_begin(self, "clear", 0);
    fibril_cancel_clear();
    self->cancel_ns = L_NEVER;
    self->cancel_maybe &= self->cancel_last_ns >= lworld.now_ns - SLACK_NS;
    self->inside = false;
}

static void join(struct lplayer *self)
{
    struct lplayer *p = &lworld.players[lchoose((unsigned)lworld.count)];
    if (!p->handle || p->claimed || p == self) {
        return;
    }
    int result = -12345;
    p->claimed = true;
    struct lstep step = lstep_begin(self, "join", p->index);
    int rc = lstep_end(&step, fibril_join(p->handle, step.deadline_ns, &result));
    p->claimed = false;
    LCHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED || rc == -EBUSY);
    if (rc == 0) {
        LCHECK(p->ended && result == p->result);
        p->handle = NULL;
    } else {
        LCHECK(result == -12345);
        LCHECK(rc != -ETIMEDOUT || !p->ended || !lmissed(&step, p->ended_ns));
    }
}

static void wake(struct lplayer *self)
{
    struct lplayer *p = &lworld.players[lchoose((unsigned)lworld.count)];
    lstep_begin(self, "wake", p->index);
    p->woken_ns = p->woken_ns == L_NEVER ? fibril_now() : p->woken_ns;
    fibril_waker_wake(p->waker);
    self->inside = false;
}

static void await_wake(struct lplayer *self)
{
    struct lstep step = lstep_begin(self, "await wake", 0);
    int rc = lstep_end(&step, fibril_waker_wait(self->waker, step.deadline_ns));
    LCHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == 0) {
        /* A second wake that is still on its way may have been counted with the first: then the
         * next is free. */
        self->woken_ns = L_NEVER;
    } else if (rc == -ETIMEDOUT && self->woken_ns != L_NEVER) {
        LCHECK(!lmissed(&step, self->woken_ns));
    }
}

/* A loop that ends while others still send to its fibrils. Its players have no handles, since
 * those would outlive it. */
static void short_loop(struct lplayer *self)
{
    if (lworld.shorts == L_SHORT) {
        return;
    }
    int number = lworld.shorts++;
    struct fibril_opts opts = {
        .poller = "sim", .seed = lworld.script->seed + 77, .run_stack_bytes = 64 << 10};
    struct fibril_loop *loop;
    lstep_begin(self, "short loop", number);
    LCHECK(fibril_loop_start(&opts, &loop) == 0);
    self->inside = false;
    for (unsigned n = 1 + lchoose(3); n > 0; n--) {
        lplayer_new(loop, /* handle= */ false);
    }
    if (lchoose(2)) {
        sleep_some(self);
    }
    lstep_begin(self, "loop stop", number);
    LCHECK(fibril_loop_stop(loop) == 0);
    self->inside = false;
}

void lplay_life(struct lplayer *self)
{
    switch (lchoose(24)) {
    case 0:
    case 1:
    case 2:
    case 3: lplayer_new(lworld.loop[lchoose(lworld.loops)], /* handle= */ true); break;
    case 4:
    case 5: cancel(self); break;
    case 6:
    case 7: clear(self); break;
    case 8:
    case 9:
    case 10: join(self); break;
    case 11:
    case 12: wake(self); break;
    case 13:
    case 14: await_wake(self); break;
    case 15: short_loop(self); break;
    case 16:
    case 17:
    case 18:
        lstep_begin(self, "yield", 0);
        LCHECK(fibril_yield() == 0);
        self->inside = false;
        break;
    default: sleep_some(self);
    }
}
