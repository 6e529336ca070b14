/* SPDX-License-Identifier: MIT */
/*
 * Full stacks. CPython counts the levels of recursion, not what they take of the C stack; those
 * that go through C (properties, __repr__, sort keys) can fill the stack of a fibril before they
 * are too many. Then the signal handler of the core asks here: CPython is made to believe that the
 * limit is reached, so that its next check raises RecursionError, and the fibril goes on into its
 * reserve until that comes.
 *
 * From 3.14 on CPython knows where the stack ends and raises by itself; there the reserve is for C
 * code that takes more at once than CPython leaves.
 *
 * The levels that were taken away are given back when the fibril parks with less on its stack.
 * Until then the limit is where the stack was full, which is right for the same recursion again.
 */
#include "fibril_py.h"

static PyThreadState *state_of(const struct fibril *f)
{
    const struct pyfibril *p = fibril__py_of(f);
    return p ? p->tstate : PyGILState_GetThisThreadState();
}

/* In a signal handler if full. A thread that has let the GIL go is in C code which checks nothing,
 * but most of such code comes back.
 */
static bool on_overflow(struct fibril *f, bool full)
{
    struct pyfibril *p = fibril__py_of(f);
    int levels;
    if (!full) {
        if (p && p->tstate) {
            fibril__pystate_replenish(p->tstate, p->levels_taken);
            p->levels_taken = 0;
        }
        return false;
    }
    PyThreadState *ts = state_of(f);
    if (!ts || !fibril__pystate_exhaust(ts, &levels)) {
        return false;
    }
    if (p) {
        p->levels_taken += levels;
    }
    return true;
}

void fibril__py_overflow_start(void)
{
#if !FIBRIL_PY_PORTABLE || PY_VERSION_HEX >= 0x030e0000
    fibril_embed_on_overflow(on_overflow);
#else
    (void)on_overflow;
#endif
}
