/* SPDX-License-Identifier: MIT */
/*
 * The current thread state, and how to exchange it while the GIL stays held. 3.11 offers that:
 * PyThreadState_Swap. From 3.12 on that call drops and takes the GIL, so the exchange is made here
 * by hand, in four places: the thread-local that says which thread state is current, the marks in
 * both thread states, and (3.13 on) the GIL's note of its last holder, through which other threads
 * ask for it. The marks are in the public struct; the other two have no name outside, so they are
 * found by what they hold, once, and everything is tried out before it is relied on. Where anything
 * is not as expected, switches go through the GIL like any thread's.
 *
 * Invariant: the last holder is a thread state that exists.
 */
#include "pystate.h"

#include "base/object.h"

#include <dlfcn.h>
#include <string.h>

#define BY_API (PY_VERSION_HEX < 0x030c0000)
#define BY_HAND (!BY_API && !FIBRIL_PY_PORTABLE)
#define HAS_HOLDER (PY_VERSION_HEX >= 0x030d0000)

static bool can_swap;
#if !FIBRIL_PY_PORTABLE
static PyThreadState *main_ts;
#endif

bool fibril__pystate_can_swap(void)
{
    return can_swap;
}

PyThreadState *fibril__pystate_current(void)
{
#if PY_VERSION_HEX >= 0x030d0000
    return PyThreadState_GetUnchecked();
#else
    return _PyThreadState_UncheckedGet();
#endif
}

/* ---- where CPython keeps it ---- */

/* The calling OS thread's block of thread-locals of the object that CPython is in. */
struct locals {
    void **words;
    size_t len;
};

struct code_at {
    const void *address;
    bool core;
};

static int find_code(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct code_at *at = arg;
    const void *core = (const void *)(uintptr_t)PyThreadState_New;
    if (size < sizeof *info || !fibril__object_holds(info, core)) {
        return 0;
    }
    at->core = fibril__object_holds(info, at->address);
    return 1;
}

bool fibril__pystate_is_code(const void *address)
{
    struct code_at at = {.address = address};
    dl_iterate_phdr(find_code, &at);
    return at.core;
}

/* CPython's state is one object, that of the main interpreter included. */
static void **find_runtime(size_t *ret_len)
{
    Dl_info unused;
    ElfW(Sym) *symbol = NULL;
    void **words = dlsym(RTLD_DEFAULT, "_PyRuntime");
    if (!words || !dladdr1(words, &unused, (void **)&symbol, RTLD_DL_SYMENT) || !symbol) {
        return NULL;
    }
    *ret_len = symbol->st_size / sizeof *words;
    return words;
}

bool fibril__pystate_is_runtime(const void *address)
{
    static void **words;
    static size_t len;
    if (!words) {
        words = find_runtime(&len);
    }
    const char *at = address, *low = (const char *)words;
    return low && at >= low && at < low + len * sizeof *words;
}

static int find_locals(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct locals *found = arg;
    const void *core = (const void *)(uintptr_t)PyThreadState_New;
    if (size < sizeof *info || !fibril__object_holds(info, core)) {
        return 0;
    }
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_TLS && info->dlpi_tls_data) {
            *found = (struct locals){info->dlpi_tls_data,
                                     info->dlpi_phdr[i].p_memsz / sizeof *found->words};
        }
    }
    return 1;
}

unsigned fibril__pystate_words(void **ret_words[static FIBRIL__PYSTATE_WORDS])
{
    struct locals all = {0};
    unsigned candidates = 0, len = 0;
    dl_iterate_phdr(find_locals, &all);
    PyThreadState *ts = PyThreadState_Get();
    const void *interp = PyThreadState_GetInterpreter(ts);
    for (size_t i = 0; i < all.len && candidates < FIBRIL__PYSTATE_WORDS; i++) {
        if (all.words[i] == ts || all.words[i] == interp) {
            ret_words[candidates++] = &all.words[i];
        }
    }
    PyEval_SaveThread();
    for (unsigned i = 0; i < candidates; i++) {
        if (*ret_words[i] == NULL) {
            ret_words[len++] = ret_words[i];
        }
    }
    PyEval_RestoreThread(ts);
    return len;
}

#if BY_API && !FIBRIL_PY_PORTABLE

bool fibril__pystate_init(void)
{
    main_ts = PyThreadState_Get();
    can_swap = true;
    return can_swap;
}

void fibril__pystate_swap(PyThreadState *ts)
{
    PyThreadState_Swap(ts);
}

/* The one that parks may stay the current one: no call of CPython minds. */
void fibril__pystate_keep(void)
{
}

/* There is none when the one that parked has ended. */
void fibril__pystate_release(void)
{
    if (!fibril__pystate_current()) {
        PyThreadState_Swap(main_ts);
    }
    PyEval_SaveThread();
}

bool fibril__pystate_delete(PyThreadState *ts)
{
    PyThreadState_Swap(NULL);
    PyThreadState_Delete(ts);
    return true;
}

#elif BY_HAND

/* ---- the marks of a thread state ---- */

static bool is_marked(const PyThreadState *ts, unsigned current)
{
#if PY_VERSION_HEX >= 0x030e0000
    return ts->_status.active == current && (unsigned)ts->holds_gil == current &&
           (unsigned)ts->state == current;
#elif PY_VERSION_HEX >= 0x030d0000
    return ts->_status.active == current && ts->_status.holds_gil == current &&
           (unsigned)ts->state == current;
#else
    return ts->_status.active == current;
#endif
}

static void mark(PyThreadState *ts, unsigned current)
{
    ts->_status.active = current & 1u;
#if PY_VERSION_HEX >= 0x030e0000
    ts->holds_gil = (int)current;
#elif PY_VERSION_HEX >= 0x030d0000
    ts->_status.holds_gil = current & 1u;
#endif
#if PY_VERSION_HEX >= 0x030d0000
    __atomic_store_n(&ts->state, (int)current, __ATOMIC_RELAXED);
#endif
}

/* ---- the thread-local ---- */

static struct {
    void **at[FIBRIL__PYSTATE_WORDS];
    bool is_interp[FIBRIL__PYSTATE_WORDS]; /* it holds the interpreter, not the thread state */
    unsigned len;
} words;

static bool find_words(void)
{
    words.len = fibril__pystate_words(words.at);
    unsigned states = 0;
    for (unsigned i = 0; i < words.len; i++) {
        words.is_interp[i] = *words.at[i] != main_ts;
        states += !words.is_interp[i];
    }
    return states == 1;
}

static inline void set_words(PyThreadState *ts)
{
    for (unsigned i = 0; i < words.len; i++) {
        *words.at[i] = ts && words.is_interp[i] ? (void *)ts->interp : ts;
    }
}

/* ---- the last holder ---- */

#if HAS_HOLDER

static PyThreadState **holder;

/* Looks through the interpreter's global state while the GIL passes to ts and back. */
static bool find_holder(PyThreadState *ts)
{
    enum { MOST = 16 };
    size_t len = 0, found = 0, kept = 0;
    PyThreadState **candidates[MOST], **words_of;
    words_of = (PyThreadState **)(void *)find_runtime(&len);
    if (!words_of) {
        return false;
    }
    PyThreadState_Swap(ts);
    for (size_t i = 0; i < len && found < MOST; i++) {
        if (words_of[i] == ts) {
            candidates[found++] = &words_of[i];
        }
    }
    PyThreadState_Swap(main_ts);
    for (size_t i = 0; i < found; i++) {
        if (*candidates[i] == main_ts) {
            holder = candidates[i];
            kept++;
        }
    }
    return kept == 1;
}

/* The word in which a thread state is told to leave the interpreter's loop has the version of the
 * instrumentation above these bits. */
enum { DROP_REQUEST = 1 << 0, CALLS_TO_DO = 1 << 2, EVENTS = 0xff };

/* As when the GIL is taken: ts is told the version of the instrumentation (with an old one, traced
 * code would never start), and a request to drop the GIL that was made of it earlier counts no more
 * (granting it would be waiting for somebody to take the GIL, and nobody might). A request made of
 * the last holder is passed on, since who made it still waits. Calls to do may be told of twice:
 * who looks finds nothing. */
static inline void hold(PyThreadState *ts)
{
    PyThreadState *last = *holder;
    uintptr_t asked = __atomic_load_n(&last->eval_breaker, __ATOMIC_RELAXED);
    uintptr_t kept = __atomic_load_n(&ts->eval_breaker, __ATOMIC_RELAXED), wanted;
    if (ts == last) {
        return;
    }
    do {
        wanted = (asked & ~(uintptr_t)EVENTS) | (kept & EVENTS & ~(uintptr_t)DROP_REQUEST) |
                 (asked & (DROP_REQUEST | CALLS_TO_DO));
    } while (kept != wanted && !__atomic_compare_exchange_n(&ts->eval_breaker, &kept, wanted, true,
                                                            __ATOMIC_RELAXED, __ATOMIC_RELAXED));
    __atomic_store_n(holder, ts, __ATOMIC_RELAXED);
}

#else

static bool find_holder(PyThreadState *ts)
{
    PyThreadState_Swap(ts); /* so that it has been current once */
    PyThreadState_Swap(main_ts);
    return true;
}

/* 3.12 asks the interpreter, not a thread. */
static inline void hold(PyThreadState *ts)
{
    (void)ts;
}

#endif

/* ---- the exchange ---- */

void fibril__pystate_keep(void)
{
    mark(fibril__pystate_current(), 0);
    set_words(NULL);
}

void fibril__pystate_hide_words(void)
{
    set_words(NULL);
}

void fibril__pystate_show_words(PyThreadState *ts)
{
    set_words(ts);
}

static void become(PyThreadState *ts)
{
    hold(ts);
    mark(ts, 1);
    set_words(ts);
}

/* What CPython does only for one that takes the GIL: it makes it the one of PyGILState_Ensure, and
 * 3.12 sees an exception from outside. */
static inline bool takes_gil(const PyThreadState *ts)
{
    return !ts->_status.bound_gilstate || (!HAS_HOLDER && ts->async_exc);
}

void fibril__pystate_swap(PyThreadState *ts)
{
    if (fibril__pystate_current()) {
        fibril__pystate_keep();
    }
    become(ts);
    if (takes_gil(ts)) {
        PyEval_RestoreThread(PyEval_SaveThread());
    }
}

void fibril__pystate_release(void)
{
    become(main_ts);
    PyEval_SaveThread();
}

/* From 3.13 on a thread that wants the GIL may be about to write to its last holder, under a lock
 * that only CPython can take, and does when it releases the GIL. */
bool fibril__pystate_delete(PyThreadState *ts)
{
    if (HAS_HOLDER) {
        PyThreadState_DeleteCurrent();
        return false;
    }
    fibril__pystate_keep();
    PyThreadState_Delete(ts);
    return true;
}

/* ---- trying it out ---- */

static bool is_current(PyThreadState *ts)
{
#if HAS_HOLDER
    if (*holder != ts) {
        return false;
    }
#endif
    return fibril__pystate_current() == ts && is_marked(ts, 1);
}

/* By hand to ts, through the GIL, and back, looking at everything in between. */
static bool works_with(PyThreadState *ts)
{
    if (!is_current(main_ts) || !is_marked(ts, 0)) {
        return false;
    }
    fibril__pystate_swap(ts);
    bool well = is_current(ts) && is_marked(main_ts, 0);
    PyEval_SaveThread();
    well = well && !fibril__pystate_current() && is_marked(ts, 0);
    PyEval_RestoreThread(ts);
    well = well && is_current(ts);
    fibril__pystate_swap(main_ts);
    return well && is_current(main_ts) && is_marked(ts, 0);
}

bool fibril__pystate_init(void)
{
    main_ts = PyThreadState_Get();
    PyThreadState *ts = PyThreadState_New(PyThreadState_GetInterpreter(main_ts));
    if (ts) {
        can_swap = find_words() && find_holder(ts) && works_with(ts);
        PyThreadState_Clear(ts);
        PyThreadState_Delete(ts);
    }
    return can_swap;
}

#else

bool fibril__pystate_init(void)
{
    return can_swap;
}

/* Never called: can_swap is false. */
void fibril__pystate_hide_words(void)
{
}

void fibril__pystate_show_words(PyThreadState *ts)
{
    (void)ts;
}

void fibril__pystate_swap(PyThreadState *ts)
{
    PyThreadState_Swap(ts);
}

void fibril__pystate_keep(void)
{
}

void fibril__pystate_release(void)
{
    PyEval_SaveThread();
}

bool fibril__pystate_delete(PyThreadState *ts)
{
    PyThreadState_Delete(ts);
    return true;
}

#endif
