/* SPDX-License-Identifier: MIT */
/*
 * For those who build on fibril below its threads: servers that keep idle connections without a
 * fibril, language runtimes that swap state on each switch, foreign OS threads that wake fibrils.
 */
#ifndef FIBRIL_EMBED_H
#define FIBRIL_EMBED_H

#include <fibril/fibril.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Watches: waiting without a fibril ------------------------------------------------------- */

/* A record that waits for a descriptor in the poller of a loop and has neither stack nor buffer.
 * Embed it in the object it stands for. Its callback runs on the loop between fibrils: it must not
 * park, and may spawn fibrils, wake others and start watches. */
struct fibril_watch {
    void (*fn)(struct fibril_watch *w, int result);
    uint64_t opaque_[16];
};

/* Starts w on the calling loop: fn(w, result) is called once, with the poll(2) events that fd is
 * ready for, -ETIMEDOUT, or -EBADF when fd is closed by fibril_close. If fd is ready already fn is
 * still called later, never from inside. w must stay in place until then. Without POLLPRI a watch
 * takes a receive that brought less than asked for as all there was: what follows TCP's urgent data
 * may be noticed with the next bytes only. Returns 0 or -ENOMEM. Never parks. */
FIBRIL_API int fibril_watch_start(struct fibril_watch *w, int fd, short events, int64_t deadline_ns,
                                  void (*fn)(struct fibril_watch *w, int result));

/* Stops w: returns 0 if fn will not be called any more and w is the caller's again; -EINPROGRESS if
 * the kernel still holds it: fn will be called with -ECANCELED (or what came first). Never parks.
 */
FIBRIL_API int fibril_watch_stop(struct fibril_watch *w);

/* ---- Hooks ----------------------------------------------------------------------------------- */

/* Called on the calling loop at each switch from one fibril to another, on the stack of the one
 * that goes; from is NULL when that one has ended. NULL ends it. Must not park. A language runtime
 * swaps its thread state here. */
FIBRIL_API void fibril_embed_on_switch(void (*fn)(struct fibril *from, struct fibril *to));

/* Called on the OS thread of each loop of the process when the loop has started (true) and when it
 * is about to end (false); at registration also, at once, for the caller's own loop. NULL ends it.
 * Must not park. */
FIBRIL_API void fibril_embed_on_loop(void (*fn)(struct fibril_loop *loop, bool started));

/* Called on the stack of each fibril of the process for which an embedder keeps something when it
 * is about to end, after its exit handlers. MAY PARK. NULL ends it. */
FIBRIL_API void fibril_embed_on_end(void (*fn)(struct fibril *f));

/* Called by dumps and reports after the lines of each fibril, to add lines of its own to descriptor
 * fd; f is parked or the caller. Async-signal-safe, must not park. NULL ends it. */
FIBRIL_API void fibril_embed_on_dump(void (*fn)(const struct fibril *f, int fd));

/* Called, full true, on the signal stack of the OS thread when f, which runs, has used up its own
 * stack. If it sees to it that f soon turns back (a language runtime: by making its next check of
 * the depth of recursion fail) it returns true, and f goes on into a reserve; else the process
 * aborts with a report, as it does without the hook and when the reserve is used up too. Called,
 * full false, on f's stack when f parks and has left the reserve; the answer counts for nothing
 * then. Stacks of 128 KiB and more that are mapped after this call give up to a quarter, at most
 * 64 KiB, to the reserve. Async-signal-safe, must not park. NULL: nobody. */
FIBRIL_API void fibril_embed_on_overflow(bool (*fn)(struct fibril *f, bool full));

/* Called on the calling loop, between two fibrils, when it has stood still: no fibril is ready, no
 * operation is under way and no time is waited for, so that only another OS thread or a signal can
 * make it go on. The first time after `patience_ns` of that, then after twice as long as before
 * each time, up to 64 times. May spawn fibrils and wake others; must not park. NULL ends it. */
FIBRIL_API void fibril_embed_on_standstill(void (*fn)(struct fibril_loop *loop),
                                           int64_t patience_ns);

/* A name that is put together only when a dump or a report asks for it. The callback fills `text`
 * with at most `size` bytes, no NUL, and returns how many; it may run in a signal handler. */
struct fibril_label {
    size_t (*write)(const struct fibril_label *label, char *text, size_t size);
    const void *opaque_;
};
/* Gives the caller a label, which must stay in place, and not be shared, until it is taken away
 * again with NULL. A name of fibril_set_name goes first. Costs two stores. Never parks; a no-op
 * outside loops. */
FIBRIL_API void fibril_embed_set_label(struct fibril_label *label);

/* What embedders keep for a fibril: each a record that begins with this node, found by its owner
 * (the address of anything of the embedder's). The node stays the embedder's and must stay in place
 * until it is removed. Only on f's own loop, or before f can have begun. Never parks. */
struct fibril_embed_node {
    struct fibril_embed_node *next;
    const void *owner;
};
FIBRIL_API void fibril_embed_add(struct fibril *f, struct fibril_embed_node *n);
FIBRIL_API void fibril_embed_remove(struct fibril *f, struct fibril_embed_node *n);
/* Returns the owner's node, NULL if there is none. */
FIBRIL_API struct fibril_embed_node *fibril_embed_find(const struct fibril *f, const void *owner);

/* ---- Taking turns ---------------------------------------------------------------------------- */

/* For runtimes whose green threads share a state, so that of several fibrils one at a time may run,
 * and whose own scheduler decides which: it hands the loop from one to the other. Such a fibril is
 * a daemon with a copied stack; others can be made to take part. Where it parks in anything else
 * (a socket, a sleep) its turn ends, and when it is ready again it waits until it is let. */
struct fibril_turn {
    struct fibril_embed_node node; /* found by &fibril_turn_owner */
    struct fibril *leader; /* its thread, for the POSIX layer: identity and values of keys */
};
FIBRIL_API extern const char fibril_turn_owner;

/* What the runtime is told of its fibrils, on their loops; neither may park. left: f has parked
 * elsewhere. back: f is ready again; true if it has to wait for fibril_turn_let. */
struct fibril_turn_hooks {
    void (*left)(struct fibril *f, struct fibril_turn *t);
    bool (*back)(struct fibril *f, struct fibril_turn *t);
};
/* Sets them for the process; there is one such runtime. They must stay in place. */
FIBRIL_API void fibril_turn_hooks(const struct fibril_turn_hooks *hooks);

/* Makes a fibril of the calling loop that begins with its first turn. t->leader is set by the
 * caller; t must stay in place until the fibril has ended. Never parks. Returns 0 or -ENOMEM. */
FIBRIL_API int fibril_turn_new(fibril_fn *fn, void *arg, struct fibril_turn *t,
                               struct fibril **ret_fibril);

/* Makes f, which runs on the calling loop or has parked there, one that takes turns; ends that. */
FIBRIL_API void fibril_turn_join(struct fibril *f, struct fibril_turn *t);
FIBRIL_API void fibril_turn_leave(struct fibril *f, struct fibril_turn *t);

/* Runs `to` at once, which waits in one of these two or has not begun. The caller goes on when it
 * is handed the loop, or let. Not cancelled. Returns 0, or -ENOMEM at once when the bytes of the
 * caller could not be kept. */
FIBRIL_API int fibril_turn_hand_over(struct fibril *to);
/* Waits until the caller is handed the loop, or let. MAY PARK. */
FIBRIL_API void fibril_turn_wait(void);

/* Puts f, which waits for its turn in whatever way, at the end of the run queue, or, for the caller
 * that is about to end, at its front. Never parks. */
FIBRIL_API void fibril_turn_let(struct fibril *f);
FIBRIL_API void fibril_turn_let_first(struct fibril *f);

/* Where the byte at p of the stack of f, which is parked on the calling loop, is now: a copied
 * stack is elsewhere meanwhile. */
FIBRIL_API void *fibril_turn_at(struct fibril *f, void *p);

/* The stack that f, of fibril_turn_new, runs on and shares with others: its low end, ret_bytes its
 * size. And whether p lies on one of those of the calling loop. */
FIBRIL_API void *fibril_turn_stack(const struct fibril *f, size_t *ret_bytes);
FIBRIL_API bool fibril_turn_shares(const void *p);

/* Whether the loop should look outside soon: the caller had better yield. */
FIBRIL_API bool fibril_turn_due(void);

/* Frees f, which waits in one of the two above or has not begun, and never will. */
FIBRIL_API void fibril_turn_drop(struct fibril *f);

/* ---- Looking ahead, interrupting, forking ---------------------------------------------------- */

/* Returns the fibril of the calling loop that runs next if the caller parks now, NULL if that is
 * not known because none is ready or the loop will look outside first. Never parks. */
FIBRIL_API struct fibril *fibril_embed_next(void);

/* Tells the own stack of f: its low end above the guard and the reserve, its size in bytes, and how
 * many bytes of reserve (fibril_embed_on_overflow) lie below; ret_reserve may be NULL. Returns 0,
 * or -ENOTSUP for a copied stack and that of an OS thread. Never parks. */
FIBRIL_API int fibril_embed_stack(const struct fibril *f, void **ret_low, size_t *ret_bytes,
                                  size_t *ret_reserve);

/* Ends the present wait of f, a fibril of the calling loop, with -EINTR, as a signal does. Returns
 * false if f is not parked or its wait cannot be ended now. Never parks. */
FIBRIL_API bool fibril_embed_interrupt(struct fibril *f);

/* Counts an operation of the caller that needed no wait, as the calls of io.h do; when its budget
 * is used up, yields. For system calls that the embedder makes itself. MAY PARK; a no-op outside
 * loops. */
FIBRIL_API void fibril_embed_spend(void);

/* Ends all waits on descriptor fd, on every loop, with -EBADF, and forgets what is known of it, but
 * leaves it open: for numbers that are about to name, or name already, another file (dup2). Costs
 * next to nothing where no loop has used fd. Returns 0; -EBADF while it is being closed. Parks
 * only when another loop uses fd. An OS thread without a loop is blocked until the loops that use
 * fd have forgotten it, a second at most; there it is async-signal-safe, and does nothing in the
 * child of a fork. */
FIBRIL_API int fibril_embed_forget(int fd);

/* Returns the lowest descriptor from first to last that a loop has used and not forgotten since, -1
 * if there is none. Never parks. */
FIBRIL_API int fibril_embed_used(int first, int last);

/* Returns the lowest descriptor from first to last that a loop of this process itself lives on, -1
 * if there is none: who closes a whole range leaves it out. Never parks. */
FIBRIL_API int fibril_embed_owned(int first, int last);

/* In the child of a fork(2) by a fibril: the calling fibril goes on alone, on a loop with a fresh
 * poller; the other fibrils, loops and the pool's threads are gone, and their exit handlers do not
 * run. Those with a handle have ended with -ECANCELED; watches are their owners' again, and
 * stopping them is harmless. A process whose main fibril has gone exits with 0 when the last fibril
 * ends. Returns 0, or -errno of opening the poller or -ENOMEM: then only exec and _exit are left.
 * Never parks. Shared objects that another OS thread was just using may stay locked. */
FIBRIL_API int fibril_embed_forked(void);

/* Returns a number for the wait that f is parked in now, 0 if it is not parked; waits that begin in
 * the same moment may share one. On f's OS thread, also in a signal handler. Never parks. */
FIBRIL_API uint64_t fibril_embed_wait(const struct fibril *f);

/* Something to be done on a loop between two fibrils. */
struct fibril_post {
    void (*fn)(struct fibril_post *p); /* must not park */
    uint64_t opaque_[3];
};

/* Has p->fn(p) called on the loop, soon. p must stay in place, and not be posted again, until then.
 * Any OS thread, also in a signal handler. Lock-free, never parks. */
FIBRIL_API void fibril_embed_post(struct fibril_loop *loop, struct fibril_post *p);

/* Returns the number of the loop in its process: below 256, fixed while it lives, given again after
 * its end. Never parks. */
FIBRIL_API unsigned fibril_embed_number(const struct fibril_loop *loop);

/* As fibril_embed_post, to the loop of that number, which may be ending: returns false, and p is
 * the caller's still, if there is none. What was posted is called even if the loop then ends. */
FIBRIL_API bool fibril_embed_post_to(unsigned number, struct fibril_post *p);

/* ---- Waking from outside --------------------------------------------------------------------- */

/* A place where one fibril waits for something that any OS thread may announce. */
struct fibril_waker;
FIBRIL_API int fibril_waker_new(struct fibril_waker **ret_waker);
FIBRIL_API void fibril_waker_free(struct fibril_waker *w);
/* The same in memory of the caller's, which is all zero at first, must stay in place while anybody
 * may wake it, and is not to be given to fibril_waker_free. */
struct fibril_waker_room {
    uint64_t opaque_[2];
};
static inline struct fibril_waker *fibril_waker_in(struct fibril_waker_room *room)
{
    return (struct fibril_waker *)(void *)room;
}
/* Waits for the next wake; one that came before counts. Several count as one. MAY PARK. */
FIBRIL_API int fibril_waker_wait(struct fibril_waker *w, int64_t deadline_ns);

/* How dumps and deadlock reports see a wait of the embedder's own making. */
struct fibril_waker_info {
    const char *name;                             /* "mutex", "semaphore": static storage */
    const void *object;                           /* what it waits for */
    struct fibril *(*holder)(const void *object); /* who has it, NULL if unknown; may be NULL */
    bool inside; /* only fibrils of loops can end it: if all wait so, that is a deadlock */
};
/* The same, described by info, which must stay in place meanwhile. MAY PARK. */
FIBRIL_API int fibril_waker_wait_as(struct fibril_waker *w, const struct fibril_waker_info *info,
                                    int64_t deadline_ns);
/* What f, a parked fibril of the calling loop, waits for: the object of the info. NULL: another
 * kind of wait. Never parks. */
FIBRIL_API const void *fibril_embed_waits_for(const struct fibril *f);
/* Whether f, a fibril of the calling loop, is parked until a file on a disk has been read, written,
 * synced or opened. Never parks. */
FIBRIL_API bool fibril_embed_waits_for_file(const struct fibril *f);
/* Any OS thread, also one without a loop. Lock-free, never parks. */
FIBRIL_API void fibril_waker_wake(struct fibril_waker *w);

/* A place where one fibril waits for something that only its own loop announces: a waker without
 * atomic instructions, in the caller's memory, all zero at first. A wake with nobody there is
 * nothing: whoever waits looks first whether there is need to. */
struct fibril_spot {
    struct fibril *waiter;                /* NULL: nobody */
    const struct fibril_waker_info *info; /* the caller's to set; NULL: nothing is known */
};
/* Waits for the next wake. MAY PARK. -EBUSY if somebody waits there already. */
FIBRIL_API int fibril_spot_wait(struct fibril_spot *s, int64_t deadline_ns);
/* Ends the wait of whoever is there. On the waiter's loop only. Never parks. */
FIBRIL_API void fibril_spot_wake(struct fibril_spot *s);

#ifdef __cplusplus
}
#endif

#endif
