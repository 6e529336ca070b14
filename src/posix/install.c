/* SPDX-License-Identifier: MIT */
/*
 * Installing the layer: which names are covered, in which objects, and what happens when a loop
 * begins and ends under it. See posix.h and imports.h.
 */
#include "posix/install.h"

#include "posix/imports.h"
#include "posix/key.h"
#include "posix/locals.h"
#include "posix/thread.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/single_threaded.h>

static const struct fibril__call *const tables[] = {
    fibril__calls_thread, fibril__calls_exit,  fibril__calls_attr,    fibril__calls_key,
    fibril__calls_once,   fibril__calls_mutex, fibril__calls_cond,    fibril__calls_rwlock,
    fibril__calls_sem,    fibril__calls_futex, fibril__calls_stream,  fibril__calls_socket,
    fibril__calls_poll,   fibril__calls_epoll, fibril__calls_file,    fibril__calls_sleep,
    fibril__calls_name,   fibril__calls_child, fibril__calls_signal,  fibril__calls_fork,
    fibril__calls_load,   fibril__calls_c11,   fibril__calls_barrier,
};

enum { TABLES = sizeof tables / sizeof tables[0], ROWS = 1024 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* of all below, and of the imports */
static _Atomic bool installed;
static struct fibril_posix_opts options;
static const struct fibril__call *rows[ROWS]; /* by hash of the name, open addressing */

/* ---- names ---- */

static unsigned hash_of(const char *name)
{
    unsigned h = 2166136261u;
    for (; *name; name++) {
        h = (h ^ (unsigned char)*name) * 16777619u;
    }
    return h;
}

static void index_table(const struct fibril__call *call)
{
    for (; call && call->name; call++) {
        unsigned row = hash_of(call->name) % ROWS;
        while (rows[row]) {
            row = (row + 1) % ROWS;
        }
        rows[row] = call;
    }
}

static void index_all(void)
{
    memset(rows, 0, sizeof rows);
    for (int i = 0; i < TABLES; i++) {
        index_table(tables[i]);
    }
}

const struct fibril__call *fibril__call_find(const char *name)
{
    for (unsigned row = hash_of(name) % ROWS; rows[row]; row = (row + 1) % ROWS) {
        if (strcmp(rows[row]->name, name) == 0) {
            return rows[row];
        }
    }
    return NULL;
}

static bool is_older(const struct fibril__call *call, const char *version)
{
    return call->version && version && *version && strcmp(version, call->version) < 0;
}

static void *choose(const char *name, const char *version, bool object_has_threads)
{
    const struct fibril__call *call = fibril__call_find(name);
    if (!call || (call->threads && !object_has_threads)) {
        return NULL;
    }
    if (is_older(call, version)) {
        return NULL; /* another layout, from before that version */
    }
    return (void *)(uintptr_t)call->ours;
}

/* Which object asks is not known: threads are fibrils for all or for none. */
void *fibril__call_asked(const char *name, const char *version)
{
    const struct fibril__call *call =
        atomic_load_explicit(&installed, memory_order_acquire) ? fibril__call_find(name) : NULL;
    bool threads = options.threads == FIBRIL_POSIX_THREADS_ALL;
    bool covered = call && (!call->threads || threads) && !is_older(call, version);
    return covered ? (void *)(uintptr_t)call->ours : NULL;
}

/* ---- objects ---- */

static int cover(void)
{
    /* Ours, and the core's if it is an object of its own. */
    const void *const ours[] = {(const void *)(uintptr_t)fibril_posix_install,
                                (const void *)(uintptr_t)&tables,
                                (const void *)(uintptr_t)fibril_run};
    static const char nobody;
    const void *of = options.threads == FIBRIL_POSIX_THREADS_ALL  ? NULL
                     : options.threads == FIBRIL_POSIX_THREADS_OF ? options.threads_of
                                                                  : &nobody;
    return fibril__imports_cover(choose, ours, sizeof ours / sizeof ours[0], of);
}

/* Without memory it is tried again at the next look. */
static void look(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    if (atomic_load(&installed)) {
        cover();
        fibril__locals_look();
    }
    pthread_mutex_unlock(&lock);
}

void fibril__load_look(void)
{
    if (!atomic_load_explicit(&installed, memory_order_relaxed) || !fibril__imports_changed()) {
        return;
    }
    fibril__loader_run(look, NULL);
}

/* ---- loops ---- */

static void on_loop(struct fibril_loop *loop, bool started)
{
    (void)loop;
    if (started && fibril__thread_adopt_main() == 0) {
        fibril__posix_mode = FIBRIL__POSIX_LOOP;
        fibril__locals_look();
    } else if (!started) {
        fibril__posix_mode = FIBRIL__POSIX_REAL;
        fibril__locals_leave();
        fibril__thread_leave_main();
    }
}

/* ---- in and out ---- */

/* Another thread may have had the lock, and will not give it back. */
void fibril__install_forked(void)
{
    lock = (pthread_mutex_t)PTHREAD_MUTEX_INITIALIZER;
}

static void take_down(void)
{
    fibril__imports_restore();
    fibril__signal_unwrap_all();
    fibril_embed_on_loop(NULL);
    fibril__posix_mode = FIBRIL__POSIX_REAL;
    fibril__locals_leave();
    fibril__thread_leave_main();
}

static int install(const struct fibril_posix_opts *opts)
{
    if (atomic_load(&installed)) {
        return -EALREADY;
    }
    __libc_single_threaded = 0; /* libstdc++ drops its locks where there is one OS thread only */
    options = opts ? *opts : (struct fibril_posix_opts){0};
    fibril__thread_stack(options.stack_bytes);
    index_all();
    fibril__keys_learn();
    fibril_embed_on_loop(on_loop);
    fibril_embed_on_end(fibril__thread_ended);
    int rc = fibril__signal_wrap_all();
    rc = rc ? rc : cover();
    if (rc < 0) {
        fibril_embed_on_end(NULL);
        take_down();
        return rc;
    }
    atomic_store(&installed, true);
    return 0;
}

struct installation {
    const struct fibril_posix_opts *opts;
    int rc;
};

static void install_locked(void *arg)
{
    struct installation *i = arg;
    pthread_mutex_lock(&lock);
    i->rc = install(i->opts);
    pthread_mutex_unlock(&lock);
}

int fibril_posix_install(const struct fibril_posix_opts *opts)
{
#if !defined(__x86_64__) && !defined(__aarch64__)
    return -ENOTSUP;
#endif
    if (!fibril_current()) {
        return -EPERM;
    }
    struct installation i = {.opts = opts};
    fibril__loader_run(install_locked, &i);
    return i.rc;
}

static void uninstall_locked(void *unused)
{
    (void)unused;
    pthread_mutex_lock(&lock);
    if (atomic_exchange(&installed, false)) {
        take_down();
    }
    pthread_mutex_unlock(&lock);
}

int fibril_posix_uninstall(void)
{
    if (fibril__thread_live() > 0) {
        return -EBUSY;
    }
    fibril__loader_run(uninstall_locked, NULL);
    return 0;
}

bool fibril_posix_installed(void)
{
    return atomic_load(&installed);
}

size_t fibril_posix_imports(size_t *ret_objects)
{
    pthread_mutex_lock(&lock);
    size_t n = fibril__imports_count(ret_objects);
    pthread_mutex_unlock(&lock);
    return n;
}

int fibril_posix_bypass(fibril_fn *fn, void *arg)
{
    int mode = fibril__posix_mode;
    fibril__posix_mode = FIBRIL__POSIX_REAL;
    int rc = fn(arg);
    fibril__posix_mode = mode;
    return rc;
}
