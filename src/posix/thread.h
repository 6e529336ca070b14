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

struct fibril__thread {
    struct fibril *fibril;       /* NULL when it has ended */
    struct fibril_waker *waker;  /* for waits on addresses; one at a time */
    struct fibril__link waiting; /* in the table of such waits */
    const void *address;         /* what it waits on there */

    struct fibril__value *values; /* of pthread keys: `inside`, or more on the heap */
    uint16_t values_len, values_cap;
    struct fibril__value inside[FIBRIL__VALUES_INLINE];

    void *(*start)(void *); /* made by pthread_create: */
    void *arg, *result;
    struct fibril *handle; /* to be joined; NULL when detached */
    bool ended, detached, main;
    uint8_t cancel_state, cancel_type;
    bool cancel_wanted;
    void *exit_frame;                             /* where pthread_exit unwinds to */
    struct fibril__thread *next_live, *prev_live; /* all threads made by pthread_create */
};

/* The calling fibril's record, made if need be; NULL: no memory. Only on a loop. */
struct fibril__thread *fibril__thread_self(void);

/* The record that t is, or NULL if it is a real OS thread's. Any t that pthread_self returned. */
struct fibril__thread *fibril__thread_of(pthread_t t);

/* Ends the calling thread as pthread_exit does. */
NORETURN void fibril__thread_exit(void *result);

/* The main fibril of the calling loop, which gets the signals; NULL: none. */
struct fibril *fibril__thread_main(void);

/* Runs the destructors of the thread's values and forgets them. MAY PARK. */
void fibril__values_destroy(struct fibril__thread *t);

#endif
