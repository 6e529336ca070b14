/* SPDX-License-Identifier: MIT */
/*
 * Small first frames for threads that `threading` starts. CPython binds a thread state to its
 * thread by a pthread key, before it runs anything there and again, with NULL, when it is about to
 * free it; the layer tells of both. So the 16 KiB mapping of each thread's first frames becomes a
 * small allocation, without a line of version-specific code here.
 */
#include "fibril_py.h"

#if FIBRIL_PY_POSIX && !FIBRIL_PY_PORTABLE

#include "base/alloc.h"
#include "posix/calls.h"
#include "posix/key.h"

#include <limits.h>
#include <pthread.h>

enum { THREAD_FRAMES = 1024 };

static void on_value(pthread_key_t key, const void *value)
{
    if (key != fibril__py.state_key || fibril__py.beginning) {
        return;
    }
    PyThreadState *ts = (void *)(uintptr_t)value;
    if (ts) {
        void *frames = ts->interp == fibril__py.interp ? fibril__alloc(THREAD_FRAMES) : NULL;
        if (frames && !fibril__pystate_lend_frames(ts, frames, THREAD_FRAMES)) {
            fibril__free(frames);
        }
        return;
    }
    ts = fibril_posix_pthread_getspecific(key);
    void *frames = ts ? fibril__pystate_lent_frames(ts, THREAD_FRAMES) : NULL;
    if (frames) {
        fibril__pystate_return_frames(ts);
        fibril__free(frames);
    }
}

/* The key is the one under which the main thread keeps its state. */
void fibril__py_thread_frames_start(void)
{
    const PyThreadState *ts = PyThreadState_Get();
    for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++) {
        if (pthread_getspecific(key) == ts) {
            fibril__py.state_key = key;
            fibril__py.state_key_known = true;
            fibril__posix_on_value = on_value;
            return;
        }
    }
}

void fibril__py_thread_frames_stop(void)
{
    fibril__posix_on_value = NULL;
    fibril__py.state_key_known = false;
}

#else

void fibril__py_thread_frames_start(void)
{
}

void fibril__py_thread_frames_stop(void)
{
}

#endif
