/* SPDX-License-Identifier: MIT */
/* See extra.h. Names, local values and exit handlers. */
#include "sched/extra.h"

#include "base/alloc.h"
#include "sched/current.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

enum { DESTRUCTOR_ROUNDS = 4 }; /* as PTHREAD_DESTRUCTOR_ITERATIONS: one may set another's value */

static void (*destructors[FIBRIL__KEYS_MAX])(void *value);
static _Atomic unsigned key_count;
static pthread_mutex_t key_lock = PTHREAD_MUTEX_INITIALIZER;

struct fibril__extra *fibril__extra(struct fibril *f)
{
    if (!f->extra) {
        f->extra = fibril__alloc_zero(sizeof *f->extra);
    }
    return f->extra;
}

/* ---- names ---- */

const char *fibril_name(const struct fibril *f)
{
    return f->extra && f->extra->name ? f->extra->name : "";
}

int fibril_set_name(struct fibril *f, const char *name)
{
    struct fibril__extra *extra = fibril__extra(f);
    char *copy = extra ? fibril__strdup(name) : NULL;
    if (!copy) {
        return -ENOMEM;
    }
    fibril__free(extra->name);
    extra->name = copy;
    return 0;
}

/* ---- local values ---- */

int fibril_key_new(void (*destroy)(void *value), unsigned *ret_key)
{
    int rc = -EAGAIN;
    pthread_mutex_lock(&key_lock);
    unsigned n = atomic_load_explicit(&key_count, memory_order_relaxed);
    if (n < FIBRIL__KEYS_MAX) {
        destructors[n] = destroy;
        atomic_store_explicit(&key_count, n + 1, memory_order_release);
        *ret_key = n;
        rc = 0;
    }
    pthread_mutex_unlock(&key_lock);
    return rc;
}

void fibril__extra_forked(void)
{
    pthread_mutex_init(&key_lock, NULL);
}

int fibril_local_set(unsigned key, void *value)
{
    struct fibril *self = fibril__self();
    if (!self) {
        return -EPERM;
    }
    if (key >= atomic_load_explicit(&key_count, memory_order_acquire)) {
        return -EINVAL;
    }
    struct fibril__extra *extra = fibril__extra(self);
    if (extra && !extra->locals) {
        extra->locals = fibril__alloc_zero(FIBRIL__KEYS_MAX * sizeof(void *));
    }
    if (!extra || !extra->locals) {
        return -ENOMEM;
    }
    extra->locals[key] = value;
    return 0;
}

void *fibril_local_get(unsigned key)
{
    struct fibril *self = fibril__self();
    bool has = self && self->extra && self->extra->locals && key < FIBRIL__KEYS_MAX;
    return has ? self->extra->locals[key] : NULL;
}

/* Returns whether a destructor ran. */
static bool destroy_locals(void **locals)
{
    bool any = false;
    for (unsigned key = 0; key < FIBRIL__KEYS_MAX; key++) {
        void *value = locals[key];
        locals[key] = NULL;
        if (value && destructors[key]) {
            destructors[key](value);
            any = true;
        }
    }
    return any;
}

/* ---- exit handlers ---- */

int fibril_at_exit(void (*fn)(void *arg), void *arg)
{
    struct fibril *self = fibril__self();
    if (!self) {
        return -EPERM;
    }
    struct fibril__extra *extra = fibril__extra(self);
    struct fibril__exit_handler *h = extra ? fibril__alloc(sizeof *h) : NULL;
    if (!h) {
        return -ENOMEM;
    }
    *h = (struct fibril__exit_handler){extra->exits, fn, arg};
    extra->exits = h;
    return 0;
}

void fibril__extra_run_exits(struct fibril *self)
{
    struct fibril__exit_handler *h;
    while ((h = self->extra->exits)) {
        self->extra->exits = h->next;
        h->fn(h->arg);
        fibril__free(h);
    }
    for (int round = 0; self->extra->locals && round < DESTRUCTOR_ROUNDS; round++) {
        if (!destroy_locals(self->extra->locals)) {
            break;
        }
    }
}

void fibril__extra_free(struct fibril *f)
{
    struct fibril__exit_handler *h;
    while ((h = f->extra->exits)) { /* of one that has gone without ending */
        f->extra->exits = h->next;
        fibril__free(h);
    }
    fibril__free(f->extra->name);
    fibril__free(f->extra->locals);
    fibril__free(f->extra);
    f->extra = NULL;
}
