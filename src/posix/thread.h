/* SPDX-License-Identifier: MIT */
/*
 * A thread as POSIX sees it, for a fibril: what pthread_self points to. The main fibril of a loop
 * keeps the identity of its OS thread. Records of other fibrils are made when first needed (those
 * that pthread_create made, at once) and hang on the embedder's word of the fibril.
 */
#ifndef FIBRIL_POSIX_THREAD_H
#define FIBRIL_POSIX_THREAD_H

#include "base/list.h"
#include "posix/layer.h"

#include <pthread.h>

enum { FIBRIL__VALUES_INLINE = 4 };

/* A value under a pthread key; older than the key (deleted and made again), it counts as NULL. */
struct fibril__value {
    uint32_t key, age;
    void *value;
};

enum { FIBRIL__LIFE_ENDED = 1, FIBRIL__LIFE_DETACHED = 2 };

/* What mutexes name as their holder. It outlives a thread that ends with mutexes locked. */
struct fibril__holder {
    struct fibril *fibril; /* NULL when it has ended */
    int held;              /* mutexes that name it */
};

struct fibril__thread {
    struct fibril_embed_node node;
    struct fibril *fibril;          /* NULL when it has ended */
    struct fibril_waker_room waker; /* for waits on addresses; one at a time */
    struct fibril__link waiting;    /* in the table of such waits */
    const void *address;            /* what it waits on there; NULL: it is not in the table */
    uint32_t row;                   /* where in the table */
    bool given;                     /* woken by a gift: it has what it waited for */
    bool tries;                     /* takes no gift, tries itself: see fibril__address_give_slow */
    int owner; /* its mark in mutexes that know their owner, see fibril__owner_mark */
    struct fibril__holder *holder; /* what mutexes that it holds name; NULL: it has held none */

    struct fibril__value *values; /* of pthread keys: `inside`, or more on the heap */
    uint16_t values_len, values_cap;
    struct fibril__value inside[FIBRIL__VALUES_INLINE];

    void *(*start)(void *); /* made by pthread_create: */
    void *arg, *result;
    _Atomic int life; /* FIBRIL__LIFE_*; joiners wait on it; whoever sets the second one frees */
    bool main;
    bool lent;       /* its memory is not its own, see fibril__thread_lend */
    bool masks;      /* it has changed its signal mask, which is kept here: */
    uint64_t mask;   /* see sigmask.c */
    bool told;       /* a wait of its has ended with EINTR: see fibril__posix_on_cancelled */
    bool locals_out; /* its thread-locals are in the copy, see locals.h */
    size_t locals_bytes;
    char *locals;
    uint8_t cancel_state, cancel_type; /* its own loop's only */
    _Atomic bool cancel_wanted;
    struct fibril_loop *loop;   /* whose fibril it is */
    _Atomic int pins;           /* the record's life, and cancellations on their way to it */
    _Atomic int posting;        /* cancellers that may be about to send something to the loop */
    _Atomic bool cancel_posted; /* the post is under way */
    struct fibril_post cancel_post;
    void *exit_frame; /* above this frame pthread_exit need not unwind */
    void **exit_jump; /* where it goes then; NULL: it cannot exit from inside */
    struct _Unwind_Exception *exit_exception;
    __pthread_unwind_buf_t *cleanups; /* of pthread_cleanup_push, newest first */
};

/* A record with one pin, all zero but for its place for values; NULL: no memory. */
struct fibril__thread *fibril__thread_new(void);

/* Makes t the record of f, which has none. */
void fibril__thread_adopt(struct fibril__thread *t, struct fibril *f);

/* Ends that for the calling fibril, with all that is the thread's but its record. MAY PARK. */
void fibril__thread_part(struct fibril__thread *t);

/* Mutexes that t has left locked have no holder that is known. */
void fibril__thread_drop_holder(struct fibril__thread *t);

/* Gives up a pin; the last one frees the record or keeps it for the next one. */
void fibril__thread_unpin(struct fibril__thread *t);

/* Gives the calling fibril of a loop, if it has no record yet, one in `memory` (on its stack, as a
 * rule, where there is room that nobody else needs). It must take it back before it ends, which
 * destroys its values of keys; MAY PARK. */
void fibril__thread_lend(struct fibril__thread *memory);
void fibril__thread_take_back(struct fibril__thread *memory);

/* The calling OS thread's loop ends: those that it keeps go. */
void fibril__thread_forget_kept(void);

/* The calling fibril's record, made if need be; NULL: no memory. Only on a loop. */
struct fibril__thread *fibril__thread_self(void);

/* The fibril whose identity and values of keys f has: its own, but where several fibrils are one
 * thread to their runtime (fibril_turn). */
static inline struct fibril *fibril__thread_leader(struct fibril *f)
{
    struct fibril_embed_node *n = fibril_embed_find(f, &fibril_turn_owner);
    return UNLIKELY(n) ? ((struct fibril_turn *)(void *)n)->leader : f;
}
struct fibril__thread *fibril__thread_face(void);

/* The same for a fibril of the calling loop that has not ended. */
struct fibril__thread *fibril__thread_for(struct fibril *f);

/* The record that t is, or NULL if it is a real OS thread's. Any t that pthread_self returned. */
struct fibril__thread *fibril__thread_of(pthread_t t);

/* Ends the calling thread as pthread_exit does. */
NORETURN void fibril__thread_exit(void *result);

/* The loop of the calling OS thread begins or ends to be one of the layer's. */
int fibril__thread_adopt_main(void);
void fibril__thread_leave_main(void);

/* In the child of a fork: the calling thread is the only one, and gets the signals. It keeps its
 * identity and its values. */
void fibril__thread_forked(void);

/* For a language runtime that raises exceptions when waits fail. Asked when fibril_cancel ends a
 * wait of the calling fibril, called from `caller`, that hides such errors: whether the runtime
 * raises one. Then a sleep ends with ECANCELED instead of success, and a wait for a semaphore with
 * EINTR instead of ECANCELED, once: `told` is set until it is cleared or another such wait has
 * ended, and cancellation is held back from those. NULL: nobody. */
extern bool (*fibril__posix_on_cancelled)(const void *caller);

/* Whether fibril_cancel ends threads as pthread_cancel does. True unless a language runtime sees to
 * their end. */
extern bool fibril__posix_cancel_ends;

/* Whether semaphores note who took them last; and the number of the fibril that took this one last
 * and has not posted it since, 0 if that is not known. */
extern bool fibril__posix_notes_takers;
uint64_t fibril__posix_taker(const void *semaphore);

/* For a language runtime that is finalised while threads of its are parked. Asked by a thread, not
 * the main one, that begins, or that is to end early: whether it is to stay where it is, for ever.
 * NULL: nobody. */
extern bool (*fibril__posix_halted)(void);
static inline bool fibril__thread_is_halted(void)
{
    return fibril__posix_halted && fibril__posix_halted();
}
NORETURN void fibril__thread_halt(void);

/* Asked by pthread_self for the calling fibril, t, when it has been told: whether it is to be taken
 * for the main thread, which it may be, this once. */
extern bool (*fibril__posix_as_main)(struct fibril__thread *t);

/* The kernel's number of the calling OS thread. */
int fibril__os_thread(void);

/* Hook for embed.h: the fibril's record goes. */
void fibril__thread_ended(struct fibril *f);

/* The record of f, NULL if it has none yet. */
extern const char fibril__thread_owner;
static inline struct fibril__thread *fibril__thread_known(const struct fibril *f)
{
    return (struct fibril__thread *)(void *)fibril_embed_find(f, &fibril__thread_owner);
}

/* Runs t->start on the calling fibril, so that pthread_exit comes back here. */
void fibril__thread_run(struct fibril__thread *t);

/* How many threads that pthread_create made have not ended. */
uint64_t fibril__thread_live(void);

/* Waits until that is zero. MAY PARK. */
void fibril__thread_wait_for_all(void);

/* Sets the stack size of threads that ask for none; 0: the runtime's. */
void fibril__thread_stack(size_t bytes);

/* Joins a real thread; on a loop by a thread of the pool. until NULL: for ever. */
int fibril__join_real(pthread_t t, void **ret_result, clockid_t clock,
                      const struct timespec *until);

/* The mark of the fibril with that number in mutexes that know their owner: no number that the
 * kernel gives to threads (those stay below 2^22). */
static inline int fibril__owner_mark(uint64_t id)
{
    return (int)(1u << 30 | (id & ((1u << 30) - 1)));
}

/* The main fibril of the calling loop, which gets the signals; NULL: none. */
struct fibril *fibril__thread_main(void);

/* Ends the calling thread if pthread_cancel wants it to and it allows that. */
void fibril__thread_heed_cancel(void);

/* Runs the destructors of the thread's values and forgets them. MAY PARK. */
void fibril__values_destroy(struct fibril__thread *t);

#endif
