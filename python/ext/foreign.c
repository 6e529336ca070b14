/* SPDX-License-Identifier: MIT */
/*
 * OS threads that come to the interpreter from outside: those of os_thread, of the pool, and the
 * ticker. PyGILState_Ensure crashes when the interpreter is gone already, and nothing of CPython's
 * can be asked before: a thread that the system had only just begun to run did so at the process's
 * end. So they come through a door, which is shut before the interpreter ends; whoever stands in it
 * by then, waiting for the GIL, gets in first. From then on CPython itself ends (3.14: stops) a
 * thread that asks for the GIL.
 *
 * Rejected: a thread state made by the starter for the thread to take over. The public call binds
 * it to the starter's identity, and 3.11 frees it before the thread has begun.
 */
#include "fibril_py.h"

#include <pthread.h>
#include <stdatomic.h>
#include <time.h>

enum { SHUT = 1 << 30, NAP_NS = 50000 };

static _Atomic int door; /* how many stand in it, and SHUT */

bool fibril__py_come(PyGILState_STATE *ret_state)
{
    if (atomic_fetch_add(&door, 1) >= SHUT) {
        atomic_fetch_sub(&door, 1);
        return false;
    }
    *ret_state = PyGILState_Ensure();
    atomic_fetch_sub(&door, 1);
    return true;
}

bool fibril__py_is_shut(void)
{
    return atomic_load(&door) >= SHUT;
}

static void nap(struct pyfibril *p)
{
    const struct timespec a_little = {.tv_nsec = NAP_NS};
    if (p) {
        fibril__py_leave(p);
        fibril_shield_begin();
        fibril_sleep(NAP_NS);
        fibril_shield_end();
        fibril__py_enter(p);
        return;
    }
    Py_BEGIN_ALLOW_THREADS;
    nanosleep(&a_little, NULL);
    Py_END_ALLOW_THREADS;
}

void fibril__py_shut(void)
{
    struct fibril *self = fibril_current();
    atomic_fetch_or(&door, SHUT);
    while (atomic_load(&door) != SHUT) {
        nap(self ? fibril__py_of(self) : NULL);
    }
}

/* Those who stood in it stayed behind. */
static void forked(void)
{
    atomic_store(&door, 0);
}

int fibril__py_foreign_start(void)
{
    static bool watching;
    watching = watching || pthread_atfork(NULL, NULL, forked) == 0;
    return watching ? 0 : -ENOMEM;
}
