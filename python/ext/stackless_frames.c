/* SPDX-License-Identifier: MIT */
/*
 * f_back of frames of suspended tasklets, as greenlet_frames.c does it for greenlets: from 3.12 on
 * the link from a Python frame that C code called lies on the C stack, which is not in place. Only
 * frames whose link leads to a stack that tasklets share are looked for, and those of the running
 * tasklet first.
 */
#include "stackless_core.h"

static getter plain_back;

static bool search(PyObject *frame, PyThreadState *ts, PyObject **ret_back)
{
    for (const struct world *w = fibril__slp_worlds(); w; w = w->next_world) {
        for (struct tasklet *t = w->live; t; t = t->next_live) {
            if (t->begun && w->turn != t &&
                fibril__pyslice_back(&t->slice, fibril__slp_at, t, frame, ts, ret_back)) {
                return true;
            }
        }
    }
    return false;
}

static PyObject *back(PyObject *frame, void *closure)
{
    const void *below = fibril__pyframe_below(frame);
    PyThreadState *ts = PyThreadState_Get();
    PyObject *result;
    if (below && fibril_turn_shares(below) && !fibril__pyframe_runs(frame, ts) &&
        search(frame, ts, &result)) {
        return result;
    }
    return plain_back(frame, closure);
}

void fibril__slp_watch_frames(void)
{
    if (!plain_back) {
        plain_back = fibril__pyframe_on_back(back);
    }
}
