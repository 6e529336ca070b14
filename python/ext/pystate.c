/* SPDX-License-Identifier: MIT */
/*
 * The parts of CPython that change from version to version, and nothing else of the extension.
 * Every way here that is not public API has a public one beside it, which -DFIBRIL_PY_PORTABLE=1
 * forces; a version that nobody has looked at does not compile without it.
 *
 * Three shortcuts are taken. A thread state's first frames go to memory of the fibril's own stack
 * instead of a 16 KiB mapping (the fields are in the public struct since 3.11). The current thread
 * state is exchanged while the GIL stays held (pystate_swap.c). And greenlets share a thread state
 * (pystate_slice.c).
 *
 * Rejected: the internal headers (Py_BUILD_CORE), which break with each release.
 */
#include "pystate.h"

#include <stdatomic.h>
#include <stdio.h>

#if PY_VERSION_HEX < 0x030b0000
#error "fibril needs CPython 3.11 or newer"
#endif
#ifdef Py_GIL_DISABLED
#error "fibril needs a CPython that has a GIL: this one is free-threaded"
#endif
#if PY_VERSION_HEX >= 0x030f0000 && !FIBRIL_PY_PORTABLE
#error                                                                                             \
    "this version of CPython is unknown to fibril: check pystate.c, or set -Dpython_portable=true"
#endif

/* ---- frames ---- */

#if FIBRIL_PY_PORTABLE

bool fibril__pystate_lend_frames(PyThreadState *ts, void *memory, size_t bytes)
{
    (void)ts;
    (void)memory;
    (void)bytes;
    return false;
}

void *fibril__pystate_lent_frames(const PyThreadState *ts, size_t bytes)
{
    (void)ts;
    (void)bytes;
    return NULL;
}

void fibril__pystate_return_frames(PyThreadState *ts)
{
    (void)ts;
}

#else

/* The first element of a root chunk stays unused: by that CPython knows never to free it. */
bool fibril__pystate_lend_frames(PyThreadState *ts, void *memory, size_t bytes)
{
    if (ts->datastack_chunk) {
        return false;
    }
    _PyStackChunk *chunk = memory;
    *chunk = (_PyStackChunk){.previous = NULL, .size = bytes};
    ts->datastack_chunk = chunk;
    ts->datastack_top = &chunk->data[1];
    ts->datastack_limit = (PyObject **)(void *)((char *)memory + bytes);
    return true;
}

/* CPython's own chunks have sizes that are powers of two from 16 KiB on. */
void *fibril__pystate_lent_frames(const PyThreadState *ts, size_t bytes)
{
    _PyStackChunk *chunk = ts->datastack_chunk;
    return chunk && !chunk->previous && chunk->size == bytes ? chunk : NULL;
}

void fibril__pystate_return_frames(PyThreadState *ts)
{
    ts->datastack_chunk = NULL;
    ts->datastack_top = NULL;
    ts->datastack_limit = NULL;
}

#endif

/* ---- chunks ---- */

/* A call at the edge of a chunk maps a new one, and its return unmaps it, each time. So CPython's
 * arena allocator, through which both go, gets a few idle chunks to draw on. */
enum { CHUNK_BYTES = 16384, CHUNKS_MAX = 256 };

static PyObjectArenaAllocator arenas;
static void *idle_chunks[CHUNKS_MAX];
static unsigned idle_count;
static atomic_flag idle_lock = ATOMIC_FLAG_INIT;

static void lock_idle(void)
{
    while (atomic_flag_test_and_set_explicit(&idle_lock, memory_order_acquire)) {}
}

static void unlock_idle(void)
{
    atomic_flag_clear_explicit(&idle_lock, memory_order_release);
}

static void *arena_alloc(void *context, size_t size)
{
    void *chunk = NULL;
    if (size == CHUNK_BYTES) {
        lock_idle();
        chunk = idle_count > 0 ? idle_chunks[--idle_count] : NULL;
        unlock_idle();
    }
    return chunk ? chunk : arenas.alloc(context, size);
}

static void arena_free(void *context, void *chunk, size_t size)
{
    bool kept = false;
    if (size == CHUNK_BYTES) {
        lock_idle();
        kept = idle_count < CHUNKS_MAX;
        if (kept) {
            idle_chunks[idle_count++] = chunk;
        }
        unlock_idle();
    }
    if (!kept) {
        arenas.free(context, chunk, size);
    }
}

void fibril__pystate_pool_chunks(void)
{
    PyObjectArenaAllocator now;
    PyObject_GetArenaAllocator(&now);
    if (now.alloc != arena_alloc) {
        arenas = now;
        PyObjectArenaAllocator ours = {arenas.ctx, arena_alloc, arena_free};
        PyObject_SetArenaAllocator(&ours);
    }
}

/* ---- the end ---- */

bool fibril__pystate_is_gone(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return Py_IsFinalizing();
#else
    return _Py_IsFinalizing();
#endif
}

/* ---- exceptions from outside ---- */

bool fibril__pystate_async_pending(PyThreadState *ts)
{
    return ts->async_exc != NULL;
}

PyObject *fibril__pystate_context(const PyThreadState *ts)
{
    return ts->context;
}

/* ---- the depth of recursion ---- */

/* 3.14 looks at the stack pointer instead, and raises before the stack is full. What fills it all
 * the same is C code that takes much at once and soon comes back: there is nothing to be done but
 * to let it. */
#if FIBRIL_PY_PORTABLE || PY_VERSION_HEX >= 0x030e0000

bool fibril__pystate_exhaust(PyThreadState *ts, int *ret_levels)
{
    (void)ts;
    *ret_levels = 0;
    return PY_VERSION_HEX >= 0x030e0000;
}

void fibril__pystate_replenish(PyThreadState *ts, int levels)
{
    (void)ts, (void)levels;
}

#else

#if PY_VERSION_HEX < 0x030c0000
#define LEVELS_LEFT(ts) ((ts)->recursion_remaining)
#else
#define LEVELS_LEFT(ts) ((ts)->c_recursion_remaining)
#endif

/* Below zero it is making the exception already. */
bool fibril__pystate_exhaust(PyThreadState *ts, int *ret_levels)
{
    *ret_levels = LEVELS_LEFT(ts) > 0 ? LEVELS_LEFT(ts) : 0;
    LEVELS_LEFT(ts) -= *ret_levels;
    return true;
}

void fibril__pystate_replenish(PyThreadState *ts, int levels)
{
    LEVELS_LEFT(ts) += levels;
}

#endif

/* ---- for people ---- */

const char *fibril__pystate_describe(void)
{
    static char text[160];
    snprintf(text, sizeof text, "thread states %s; first frames %s; stacks in signal handlers %s",
             fibril__pystate_can_swap() ? "swapped with the GIL held" : "exchanged through the GIL",
             FIBRIL_PY_PORTABLE ? "in chunks of CPython's" : "on the fibril's stack",
             fibril__pystate_frames_source());
    return text;
}
