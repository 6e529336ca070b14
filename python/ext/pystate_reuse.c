/* SPDX-License-Identifier: MIT */
/*
 * Thread states used again. To make one costs CPython an allocation, a lock taken twice, a system
 * call (the native thread id) and a walk through its initial values: much of a short fibril. So a
 * few that have been cleared are kept: they stay in the interpreter's list, as
 * only CPython may take them out, without frames and under a thread id that is nobody's. That they
 * stay there also keeps their recursion limit right.
 *
 * What a context variable has cached is told from what is new by the thread state's number and the
 * version of its context, so the version is the one field that goes on counting.
 *
 * For 3.11, whose fields are as simple as that; later versions make new ones.
 */
#include "fibril_py.h"

#if PY_VERSION_HEX < 0x030c0000 && FIBRIL_PY_POSIX && !FIBRIL_PY_PORTABLE

#include "posix/calls.h"

#include <pthread.h>

enum { KEPT_MAX = 16 };

static PyThreadState *kept[KEPT_MAX];
static unsigned kept_len;

/* Of a fork: CPython frees all thread states but the caller's. */
static void forget(void)
{
    kept_len = 0;
}

static bool watch_forks(void)
{
    static bool watching;
    watching = watching || pthread_atfork(NULL, NULL, forget) == 0;
    return watching;
}

/* What PyGILState_Ensure looks for. */
static int bind_to_thread(PyThreadState *ts)
{
    bool before = fibril__py.beginning;
    fibril__py.beginning = true;
    int rc = fibril_posix_pthread_setspecific(fibril__py.state_key, ts);
    fibril__py.beginning = before;
    return rc;
}

PyThreadState *fibril__pystate_reuse(void)
{
    if (kept_len == 0 || fibril__py.ending) {
        return NULL;
    }
    PyThreadState *ts = kept[kept_len - 1];
    if (bind_to_thread(ts) != 0) {
        return NULL;
    }
    kept_len--;
    ts->thread_id = PyThread_get_thread_ident();
    ts->gilstate_counter = 1;
    return ts;
}

/* Whether ts is as its beginning left it, but for what is set again below. */
static bool is_plain(const PyThreadState *ts)
{
    return !ts->on_delete && !ts->dict && !ts->async_exc && !ts->trash_delete_later &&
           ts->exc_info == &ts->exc_state && ts->cframe == &ts->root_cframe &&
           !ts->root_cframe.current_frame && !ts->datastack_chunk && !ts->tracing;
}

bool fibril__pystate_retire(PyThreadState *ts)
{
    if (kept_len == KEPT_MAX || fibril__py.ending || !fibril__py.state_key_known || !is_plain(ts) ||
        !watch_forks()) {
        return false;
    }
    bind_to_thread(NULL);
    ts->thread_id = (unsigned long)(uintptr_t)ts;
    ts->gilstate_counter = 0;
    ts->recursion_remaining = ts->recursion_limit;
    ts->recursion_headroom = 0;
    ts->tracing_what = 0;
    ts->root_cframe.use_tracing = 0;
    ts->trash_delete_nesting = 0;
    ts->coroutine_origin_tracking_depth = 0;
    ts->trace_info = (PyTraceInfo){0};
    ts->context_ver++;
    kept[kept_len++] = ts;
    return true;
}

#else

PyThreadState *fibril__pystate_reuse(void)
{
    return NULL;
}

bool fibril__pystate_retire(PyThreadState *ts)
{
    (void)ts;
    return false;
}

#endif
