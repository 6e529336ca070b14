/* SPDX-License-Identifier: MIT */
/*
 * f_back of frames of suspended greenlets. From 3.12 on, a Python frame that C code called is
 * linked to its caller by way of a frame on the C stack; of a suspended greenlet that stack may be
 * elsewhere, and another one's in its place. CPython's getter would follow the link, so ours comes
 * first: a link that leads to a shared stack is followed with the addresses translated.
 *
 * Rejected: what the original does, to give every frame a frame object and to rewrite the links at
 * each switch. It costs each switch the depth of the stack; this costs a suspended greenlet
 * nothing, and f_back a search where it crosses C code.
 */
#include "greenlet_core.h"

static getter plain_back;

static bool shared(const struct green_thread *t, const void *p)
{
    return t->nest && fibril__nest_shares(t->nest, p);
}

/* Whether frame belongs to a suspended greenlet of t. */
static bool search(const struct green_thread *t, PyObject *frame, PyObject **ret_back)
{
    for (struct green *g = t->active; g; g = g->next) {
        if (t->current != g->self && fibril__pyslice_back(&g->slice, green_at, &g->nested, frame,
                                                          PyThreadState_Get(), ret_back)) {
            return true;
        }
    }
    return false;
}

static PyObject *back(PyObject *frame, void *closure)
{
    const void *below = fibril__pyframe_below(frame);
    PyObject *result;
    for (struct green_thread *t = below ? fibril__green_threads : NULL; t; t = t->next_thread) {
        if (shared(t, below)) {
            return search(t, frame, &result) ? result : plain_back(frame, closure);
        }
    }
    return plain_back(frame, closure);
}

void fibril__green_watch_frames(void)
{
    if (!plain_back) {
        plain_back = fibril__pyframe_on_back(back);
    }
}
