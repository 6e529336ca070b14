/* SPDX-License-Identifier: MIT */
/*
 * fibril: threads that cost no OS thread.
 *
 * A fibril is a green thread: a stack, a saved context, a wait state and a name. Each belongs to
 * one loop (the scheduler of one OS thread) for life. Nothing pre-empts: another fibril of the same
 * loop runs only inside a call whose contract below says that it MAY PARK. Ready fibrils run first
 * in, first out.
 *
 * Conventions, true of every call unless its contract says otherwise:
 *   - An int result is >= 0 on success and a negative errno on failure; errno itself is not used.
 *     A failed call leaves its outputs and its objects as they were.
 *   - Time is absolute, in nanoseconds of the loop's monotonic clock; FIBRIL_FOREVER never comes.
 *   - A call that MAY PARK takes a deadline and fails with -ETIMEDOUT when it passes (a deadline in
 *     the past makes it a try), with -ECANCELED when the calling fibril is cancelled, and with
 *     -EDEADLK where the runtime was told to report a deadlock that way.
 *   - Calls must come from a fibril (a thread that runs or has adopted a loop); elsewhere those
 *     that return int fail with -EPERM.
 *   - Outputs come last and are named ret_*; a ret_ pointer may be NULL only where that is said.
 */
#ifndef FIBRIL_FIBRIL_H
#define FIBRIL_FIBRIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define FIBRIL_API __attribute__((visibility("default")))
#else
#define FIBRIL_API
#endif

#define FIBRIL_VERSION_MAJOR 0
#define FIBRIL_VERSION_MINOR 1
#define FIBRIL_VERSION_PATCH 0

/* The deadline that never comes. */
#define FIBRIL_FOREVER INT64_MAX

struct fibril;       /* a green thread */
struct fibril_loop;  /* the scheduler of one OS thread */
struct fibril_scope; /* fibrils that end before their starter goes on */

/* What a fibril runs. The result is handed to whoever joins it; below zero means that it failed. */
typedef int fibril_fn(void *arg);

/* Returns "MAJOR.MINOR.PATCH" of the library that is linked, in static storage. */
FIBRIL_API const char *fibril_version(void);

/* ---- Runtime --------------------------------------------------------------------------------- */

/* What happens when every fibril of a process waits for another and no event can come. A report
 * that names the fibrils and the cycle goes to standard error in each case. */
enum fibril_deadlock {
    FIBRIL_DEADLOCK_ABORT = 0, /* abort(): the state stays visible in a core file */
    FIBRIL_DEADLOCK_RETURN,    /* the main fibril's wait fails with -EDEADLK */
};

/* Options of a runtime; all zero is the default. */
struct fibril_opts {
    const char *poller; /* "auto", "uring", "epoll" or "sim"; NULL: $FIBRIL_POLLER, else "auto" */
    unsigned loops;     /* OS threads that run fibrils, the caller's included; 0 means 1 */
    bool pin;           /* bind each loop's OS thread to a processor of its own */
    size_t stack_bytes; /* default size of own stacks, 0 means 128 KiB; rounded up to 2^n pages */
    size_t run_stack_bytes; /* size of each shared run stack for copied stacks, 0 means 1 MiB */
    uint64_t seed;          /* of the sim poller and of the hard flavour */
    int64_t stall_ns; /* report a fibril that keeps its loop longer than this; 0 means never */
    enum fibril_deadlock deadlock;
    bool no_sigquit_dump; /* do not print all fibrils on SIGQUIT */
    bool measure_stacks; /* exact high-water marks, also per spawn site; costs a page scan per spawn
                          */
    unsigned budget;     /* operations that need not wait before a fibril yields; 0 means 64 */
};

/* Starts a runtime on the calling OS thread, runs fn(arg) as its main fibril, waits for every
 * fibril that is left (daemons are cancelled), and stops the runtime. Returns what fn returned, or
 * -EBUSY if this OS thread has a loop already, -EINVAL for an unknown poller, -ENOSYS for one that
 * the kernel refuses, -ENOMEM. opts may be NULL. Not to be called from a fibril. */
FIBRIL_API int fibril_run(const struct fibril_opts *opts, fibril_fn *fn, void *arg);

/* Adopts the calling OS thread: its stack becomes the main fibril of a new loop, and whenever that
 * fibril parks, the others run. Errors as fibril_run. */
FIBRIL_API int fibril_loop_attach(const struct fibril_opts *opts, struct fibril_loop **ret_loop);

/* Ends the adoption: waits for the loop's other fibrils (daemons are cancelled) and frees the loop.
 * MAY PARK. Only the main fibril may call it (-EPERM otherwise). */
FIBRIL_API int fibril_loop_detach(void);

/* Starts a further loop on a new OS thread; it serves until it is stopped. Never parks. */
FIBRIL_API int fibril_loop_start(const struct fibril_opts *opts, struct fibril_loop **ret_loop);

/* Asks a started loop to end when its fibrils have ended, waits for that and frees it. MAY PARK. */
FIBRIL_API int fibril_loop_stop(struct fibril_loop *loop);

/* Returns the loop of the calling OS thread, NULL where there is none. */
FIBRIL_API struct fibril_loop *fibril_loop_current(void);

/* Loops of the process are numbered from 0 without gaps; returns how many there are. Thread-safe.
 */
FIBRIL_API unsigned fibril_loop_count(void);

/* Returns loop number i, or NULL. Thread-safe; the loop is the caller's only as long as it is known
 * not to be stopped. */
FIBRIL_API struct fibril_loop *fibril_loop_at(unsigned i);

/* Returns the name of the loop's poller: "uring", "epoll" or "sim". */
FIBRIL_API const char *fibril_loop_poller(const struct fibril_loop *loop);

/* ---- Time ------------------------------------------------------------------------------------ */

/* Returns the monotonic clock in nanoseconds: the kernel's, or virtual time under "sim". Callable
 * anywhere, never parks. */
FIBRIL_API int64_t fibril_now(void);

/* Returns the deadline that lies ns nanoseconds from now (FIBRIL_FOREVER if that overflows or ns is
 * FIBRIL_FOREVER). */
FIBRIL_API int64_t fibril_after(int64_t ns);

/* Parks the caller until the deadline. MAY PARK (yields once when the deadline is past). Returns 0
 * when it is reached, -ECANCELED. */
FIBRIL_API int fibril_sleep_until(int64_t deadline_ns);

/* Parks the caller for ns nanoseconds; otherwise as fibril_sleep_until. */
FIBRIL_API int fibril_sleep(int64_t ns);

/* ---- Fibrils --------------------------------------------------------------------------------- */

enum fibril_stack {
    FIBRIL_STACK_OWN = 0, /* a guarded stack of its own: fast; anybody may hold pointers into it */
    FIBRIL_STACK_COPIED,  /* runs on a stack shared by many; while it is parked only its live bytes
                             are  kept, elsewhere: small. No pointer into it may be used while it is
                             parked,  except by fibril's own calls, which know how */
};

/* Options of a spawn; all zero is the default. */
struct fibril_spawn_opts {
    const char *name; /* copied; NULL means none */
    enum fibril_stack stack;
    size_t stack_bytes;       /* own stacks: 0 means the runtime's default */
    struct fibril_loop *loop; /* NULL means the caller's loop; must be given outside loops */
    bool daemon;              /* cancelled, not waited for, when the loop ends */
};

/* Makes a fibril that will run fn(arg), and puts it at the end of the run queue. Never parks. With
 * ret_fibril the caller owns the handle and must end with fibril_join or fibril_detach; NULL
 * detaches at once. opts may be NULL. Fails with -ENOMEM, -EINVAL (copied stack with stack_bytes).
 * Thread-safe when opts->loop is given; the caller may then be any OS thread. */
FIBRIL_API int fibril_spawn(fibril_fn *fn, void *arg, const struct fibril_spawn_opts *opts,
                            struct fibril **ret_fibril);

/* Waits until f has ended, stores its result (ret_result may be NULL) and frees the handle. MAY
 * PARK. On -ETIMEDOUT, -ECANCELED, -EDEADLK (also: joining oneself) the handle stays valid. f may
 * belong to another loop. */
FIBRIL_API int fibril_join(struct fibril *f, int64_t deadline_ns, int *ret_result);

/* Gives the handle up; the fibril frees itself when it ends. Never parks. NULL is ignored. */
FIBRIL_API void fibril_detach(struct fibril *f);

/* Cancels f: its present wait, or its next one, fails with -ECANCELED, and so does each one after
 * that until f calls fibril_cancel_clear. Never parks, thread-safe towards other loops. The handle
 * must be valid. Returns 0, or -ENOMEM when another loop cannot be told. */
FIBRIL_API int fibril_cancel(struct fibril *f);

/* Returns whether the caller has been cancelled and is not shielded. Never parks. */
FIBRIL_API bool fibril_cancelled(void);

/* Forgets a cancellation of the caller that has been dealt with; returns whether there was one. */
FIBRIL_API bool fibril_cancel_clear(void);

/* Between the two, cancellation of the caller is held back (it stays pending). They nest. */
FIBRIL_API void fibril_shield_begin(void);
FIBRIL_API void fibril_shield_end(void);

/* Lets every fibril that is ready now run once. MAY PARK (it is the back of the run queue, no wait:
 * it returns 0 even to a cancelled fibril). */
FIBRIL_API int fibril_yield(void);

/* Between the two, a call that would park aborts with a message instead: it marks code that relies
 * on nobody else running. They nest. */
FIBRIL_API void fibril_nopark_begin(void);
FIBRIL_API void fibril_nopark_end(void);

/* Returns the calling fibril, or NULL where there is none. It is not a handle to join. */
FIBRIL_API struct fibril *fibril_current(void);

/* Returns the number of f, unique in the process and never used twice. */
FIBRIL_API uint64_t fibril_id(const struct fibril *f);

/* Returns the name of f, "" if it has none; valid as long as f is and is not renamed. */
FIBRIL_API const char *fibril_name(const struct fibril *f);

/* Renames f (copied; only from its own loop). Returns 0 or -ENOMEM. */
FIBRIL_API int fibril_set_name(struct fibril *f, const char *name);

/* Returns the loop that f belongs to. */
FIBRIL_API struct fibril_loop *fibril_loop_of(const struct fibril *f);

/* Returns the most stack bytes that f has used so far: exact under fibril_opts.measure_stacks, by
 * touched pages otherwise; copied stacks: the most live bytes at a park. Only from its own loop. */
FIBRIL_API size_t fibril_stack_used(const struct fibril *f);

/* Runs fn(arg) when the calling fibril ends, last registered first. Returns 0 or -ENOMEM. */
FIBRIL_API int fibril_at_exit(void (*fn)(void *arg), void *arg);

/* Makes a key under which every fibril can keep a pointer of its own (NULL at first). destroy, if
 * not NULL, gets the pointer when a fibril that set one ends. At most 64 keys per process
 * (-EAGAIN). Thread-safe. */
FIBRIL_API int fibril_key_new(void (*destroy)(void *value), unsigned *ret_key);

/* Sets the caller's value under key. Returns 0, -EINVAL for an unknown key, -ENOMEM. */
FIBRIL_API int fibril_local_set(unsigned key, void *value);

/* Returns the caller's value under key, NULL if never set. */
FIBRIL_API void *fibril_local_get(unsigned key);

/* ---- Scopes ---------------------------------------------------------------------------------- */

/* Opens a scope of the calling fibril. Scopes nest; the caller closes them in reverse order. */
FIBRIL_API int fibril_scope_open(struct fibril_scope **ret_scope);

/* Spawns a fibril in the scope, on the scope's loop (opts->loop must be NULL, opts->daemon false:
 * -EINVAL). Any fibril of the loop may call it until the last member ends during a close, members
 * themselves included; once a close has given up, because of its deadline or a cancellation, it
 * returns -EPIPE. The new fibril cannot be joined. */
FIBRIL_API int fibril_scope_spawn(struct fibril_scope *scope, fibril_fn *fn, void *arg,
                                  const struct fibril_spawn_opts *opts);

/* Cancels every fibril in the scope, those spawned later included. Never parks. */
FIBRIL_API void fibril_scope_cancel(struct fibril_scope *scope);

/* Waits until all fibrils of the scope have ended and frees it. The first one that failed (result
 * below 0) cancels the others, and its result is returned; else 0. If the deadline passes, or the
 * caller is cancelled, the fibrils are cancelled, waited for all the same, and -ETIMEDOUT or
 * -ECANCELED is returned. MAY PARK. */
FIBRIL_API int fibril_scope_close(struct fibril_scope *scope, int64_t deadline_ns);

/* ---- Synchronisation ------------------------------------------------------------------------- */

/* Flags of the objects below. Without FIBRIL_SHARED all fibrils that use an object must belong to
 * the same loop; with it they may belong to any. Objects are freed only when nobody waits on them.
 * free(NULL) is a no-op. Waiters are served first come, first served. */
enum {
    FIBRIL_SHARED = 1u << 0,
    FIBRIL_RECURSIVE = 1u << 1, /* mutexes: the owner may lock again */
};

struct fibril_mutex;
FIBRIL_API int fibril_mutex_new(unsigned flags, struct fibril_mutex **ret_mutex);
FIBRIL_API void fibril_mutex_free(struct fibril_mutex *m);
/* Locks m. MAY PARK. -EDEADLK if the caller owns it and it is not recursive. */
FIBRIL_API int fibril_mutex_lock(struct fibril_mutex *m, int64_t deadline_ns);
/* Locks m if that needs no wait, else -EAGAIN. Never parks. */
FIBRIL_API int fibril_mutex_try_lock(struct fibril_mutex *m);
/* Unlocks m, handing it to the longest waiter. -EPERM if the caller does not own it. Never parks.
 */
FIBRIL_API int fibril_mutex_unlock(struct fibril_mutex *m);
/* Returns the owner or NULL. */
FIBRIL_API struct fibril *fibril_mutex_owner(const struct fibril_mutex *m);

struct fibril_rwlock; /* writers are not starved: readers queue behind a waiting writer */
FIBRIL_API int fibril_rwlock_new(unsigned flags, struct fibril_rwlock **ret_lock);
FIBRIL_API void fibril_rwlock_free(struct fibril_rwlock *l);
/* Take the lock shared, or alone. MAY PARK. */
FIBRIL_API int fibril_rwlock_read(struct fibril_rwlock *l, int64_t deadline_ns);
FIBRIL_API int fibril_rwlock_write(struct fibril_rwlock *l, int64_t deadline_ns);
/* Ends one read or the write. -EPERM if it is not held. Never parks. */
FIBRIL_API int fibril_rwlock_unlock(struct fibril_rwlock *l);

struct fibril_cond;
FIBRIL_API int fibril_cond_new(unsigned flags, struct fibril_cond **ret_cond);
FIBRIL_API void fibril_cond_free(struct fibril_cond *c);
/* Unlocks m, waits for a signal and locks m again, also when it fails (the lock is then taken under
 * a shield, without a deadline). No wake-up is spurious. MAY PARK. -EPERM if m is not the caller's.
 */
FIBRIL_API int fibril_cond_wait(struct fibril_cond *c, struct fibril_mutex *m, int64_t deadline_ns);
/* Wake the longest waiter, or all. Never park. */
FIBRIL_API void fibril_cond_signal(struct fibril_cond *c);
FIBRIL_API void fibril_cond_broadcast(struct fibril_cond *c);

struct fibril_sem;
FIBRIL_API int fibril_sem_new(unsigned count, unsigned flags, struct fibril_sem **ret_sem);
FIBRIL_API void fibril_sem_free(struct fibril_sem *s);
/* Takes one. MAY PARK. */
FIBRIL_API int fibril_sem_wait(struct fibril_sem *s, int64_t deadline_ns);
/* Takes one if there is one, else -EAGAIN. Never parks. */
FIBRIL_API int fibril_sem_try_wait(struct fibril_sem *s);
/* Gives one. -EOVERFLOW beyond UINT_MAX. Never parks. Shared semaphores: from any OS thread. */
FIBRIL_API int fibril_sem_post(struct fibril_sem *s);

struct fibril_event; /* set and stays set until reset */
FIBRIL_API int fibril_event_new(unsigned flags, struct fibril_event **ret_event);
FIBRIL_API void fibril_event_free(struct fibril_event *e);
FIBRIL_API int fibril_event_wait(struct fibril_event *e, int64_t deadline_ns); /* MAY PARK */
FIBRIL_API void fibril_event_set(struct fibril_event *e); /* shared: from any OS thread */
FIBRIL_API void fibril_event_reset(struct fibril_event *e);
FIBRIL_API bool fibril_event_is_set(const struct fibril_event *e);

struct fibril_group; /* wait group: waits until a count is back at zero */
FIBRIL_API int fibril_group_new(unsigned flags, struct fibril_group **ret_group);
FIBRIL_API void fibril_group_free(struct fibril_group *g);
/* Adds n (may be negative) to the count; -EINVAL if it would fall below zero. Never parks. */
FIBRIL_API int fibril_group_add(struct fibril_group *g, int n);
FIBRIL_API int fibril_group_done(struct fibril_group *g);                      /* add -1 */
FIBRIL_API int fibril_group_wait(struct fibril_group *g, int64_t deadline_ns); /* MAY PARK */

struct fibril_barrier;
FIBRIL_API int fibril_barrier_new(unsigned parties, unsigned flags,
                                  struct fibril_barrier **ret_barrier);
FIBRIL_API void fibril_barrier_free(struct fibril_barrier *b);
/* Waits until `parties` fibrils have come. Returns 1 to the last one, 0 to the others. One that
 * gives up (timeout, cancel) is uncounted. MAY PARK. */
FIBRIL_API int fibril_barrier_wait(struct fibril_barrier *b, int64_t deadline_ns);

/* Runs fn(arg) exactly once per object, initialised by FIBRIL_ONCE_INIT; the others wait for it.
 * MAY PARK. Shared by all loops. If fn fails (below 0) that is returned and the next caller tries
 * again. */
struct fibril_once {
    void *opaque_;
};
#define FIBRIL_ONCE_INIT                                                                           \
    {                                                                                              \
        NULL                                                                                       \
    }
FIBRIL_API int fibril_once_run(struct fibril_once *once, fibril_fn *fn, void *arg,
                               int64_t deadline_ns);

/* ---- Channels -------------------------------------------------------------------------------- */

struct fibril_chan;

/* Makes a channel of elements of elem_bytes each (0 is allowed: signals) that buffers up to
 * capacity of them; capacity 0 makes each send meet its receive. -ENOMEM, -EINVAL (over 1 GiB in
 * all). */
FIBRIL_API int fibril_chan_new(size_t elem_bytes, size_t capacity, unsigned flags,
                               struct fibril_chan **ret_chan);
/* Frees ch; what is still buffered is lost. Nobody may be waiting on it. */
FIBRIL_API void fibril_chan_free(struct fibril_chan *ch);
/* Sends the element at `elem`. MAY PARK. -EPIPE if the channel is, or while waiting becomes,
 * closed; the element has then not been taken. */
FIBRIL_API int fibril_chan_send(struct fibril_chan *ch, const void *elem, int64_t deadline_ns);
/* Receives into `ret_elem`. MAY PARK. -EPIPE if the channel is closed and empty. */
FIBRIL_API int fibril_chan_recv(struct fibril_chan *ch, void *ret_elem, int64_t deadline_ns);
/* The same if it needs no wait, else -EAGAIN. Never park. */
FIBRIL_API int fibril_chan_try_send(struct fibril_chan *ch, const void *elem);
FIBRIL_API int fibril_chan_try_recv(struct fibril_chan *ch, void *ret_elem);
/* Closes ch: no more sends; what is buffered can still be received. -EPIPE if it is closed already.
 * Never parks. */
FIBRIL_API int fibril_chan_close(struct fibril_chan *ch);
/* Returns the number of buffered elements. */
FIBRIL_API size_t fibril_chan_len(const struct fibril_chan *ch);

enum fibril_case_op {
    FIBRIL_CASE_SEND, /* chan, elem */
    FIBRIL_CASE_RECV, /* chan, elem */
    FIBRIL_CASE_FD,   /* fd, events (POLLIN, POLLOUT); ret_events out */
};

struct fibril_case { /* in the order of use: NOLINT(clang-analyzer-optin.performance.Padding) */
    enum fibril_case_op op;
    struct fibril_chan *chan; /* NULL: this case never fires */
    void *elem;               /* what to send, or where to receive */
    int fd;
    short events, ret_events;
    int result; /* out, of the case that fired: 0 or -EPIPE; an fd: 0 or -errno */
};

/* Waits for the first of n cases, carries it out and returns its index; if several can go at once
 * the choice rotates, so none starves. The deadline is the timer case: -ETIMEDOUT. n <= 1024
 * (-EINVAL). MAY PARK. */
FIBRIL_API int fibril_select(struct fibril_case *cases, size_t n, int64_t deadline_ns);

/* ---- Offload --------------------------------------------------------------------------------- */

/* Runs fn(arg) on an OS thread of the pool while the caller is parked, for calls that must block or
 * burn processor time, and returns its result. Cancellation and deadline are seen only until the
 * pool has begun with it (then it is waited for). fn must not call fibril, and arg must not point
 * into a copied stack. MAY PARK. -ENOMEM. */
FIBRIL_API int fibril_offload(fibril_fn *fn, void *arg, int64_t deadline_ns);

/* ---- Seeing inside --------------------------------------------------------------------------- */

/* Writes one record per fibril of all loops to descriptor fd: id, name, state, what it waits for
 * and how long, spawn site, backtrace. Never parks. Other loops answer within 100 ms or are
 * reported as running. */
FIBRIL_API int fibril_dump(int fd);

/* Looks for cycles of fibrils of this loop that wait for each other through mutexes, locks and
 * joins, and writes each to descriptor fd. Returns the number of cycles. Never parks. */
FIBRIL_API int fibril_deadlocks(int fd);

enum {
    FIBRIL_DELAY_BUCKETS = 32, /* run-queue delay: bucket i counts delays below 2^i * 64 ns */
};

/* Counters of one loop since its start, gauges as of now. */
struct fibril_metrics {
    const char *poller;
    uint64_t switches; /* from one fibril to another */
    uint64_t spawned, ended;
    uint64_t fibrils; /* alive now */
    uint64_t parks;   /* waits that did park, by reason below */
    uint64_t parks_sleep, parks_io, parks_lock, parks_chan, parks_join, parks_offload, parks_other;
    uint64_t yields, budget_yields;
    uint64_t timeouts, cancels;
    uint64_t remote_wakes;       /* fibrils made ready by other loops and OS threads */
    uint64_t polls, poll_events; /* calls into the poller, and what they brought */
    uint64_t timers;             /* armed now */
    uint64_t stacks_mapped, stacks_cached, stacks_unguarded;
    uint64_t copied_bytes; /* kept for parked copied stacks now */
    uint64_t stalls;
    uint64_t delay[FIBRIL_DELAY_BUCKETS]; /* sampled: one switch in 64 */
};

/* Fills ret_metrics for the loop, NULL meaning the caller's. Figures of another loop may be a
 * little out of step with each other. Never parks. */
FIBRIL_API int fibril_metrics(const struct fibril_loop *loop, struct fibril_metrics *ret_metrics);

/* One place that spawns fibrils, with the largest stack use seen of those that ended. */
struct fibril_site {
    const void *address;
    uint64_t spawned;
    size_t stack_used_max;
};

/* Stores up to n sites of the caller's loop (under fibril_opts.measure_stacks); returns how many.
 */
FIBRIL_API size_t fibril_sites(struct fibril_site *ret_sites, size_t n);

#ifdef __cplusplus
}
#endif

#endif
