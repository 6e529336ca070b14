/* SPDX-License-Identifier: MIT */
/*
 * pthread keys: each fibril has values of its own. The keys themselves are libc's, so foreign OS
 * threads and the main fibril (whose values are those of its OS thread, also from before the layer
 * was installed) go on as before. What is kept here per key is its age, so that a key that was
 * deleted and made again starts with NULL everywhere, and its destructor, which libc does not tell:
 * of keys made before the layer came, it is found in libc's own table (key_table.c).
 */
#include "posix/key.h"

#include "posix/calls.h"

#include "base/alloc.h"

#include <limits.h>
#include <stdatomic.h>

struct key {
    _Atomic uint32_t age; /* changes when the key is made */
    void (*_Atomic destroy)(void *value);
};

static struct key keys[PTHREAD_KEYS_MAX];

enum { ROUNDS = PTHREAD_DESTRUCTOR_ITERATIONS, VALUES_MAX = PTHREAD_KEYS_MAX };

/* ---- keys ---- */

static void note(pthread_key_t key, void (*destroy)(void *value))
{
    if (key < PTHREAD_KEYS_MAX) {
        atomic_fetch_add(&keys[key].age, 1);
        atomic_store(&keys[key].destroy, destroy);
    }
}

int fibril_posix_pthread_key_create(pthread_key_t *ret_key, void (*destroy)(void *value))
{
    int rc = pthread_key_create(ret_key, destroy);
    if (rc == 0) {
        note(*ret_key, destroy);
    }
    return rc;
}

int fibril_posix_pthread_key_delete(pthread_key_t key)
{
    int rc = pthread_key_delete(key);
    if (rc == 0) {
        note(key, NULL);
    }
    return rc;
}

void fibril__keys_learn(void)
{
    void (*destroy)(void *value);
    for (pthread_key_t key = 0; key < PTHREAD_KEYS_MAX; key++) {
        if (fibril__key_destructor(key, &destroy)) {
            atomic_store(&keys[key].destroy, destroy);
        }
    }
}

/* ---- values ---- */

static struct fibril__value *find(struct fibril__thread *t, pthread_key_t key)
{
    for (unsigned i = 0; i < t->values_len; i++) {
        if (t->values[i].key == key) {
            return &t->values[i];
        }
    }
    return NULL;
}

static bool grow(struct fibril__thread *t)
{
    unsigned cap = t->values_cap * 2u;
    bool inside = t->values == t->inside;
    struct fibril__value *values =
        fibril__realloc(inside ? NULL : t->values, cap * sizeof *t->values);
    if (!values) {
        return false;
    }
    for (unsigned i = 0; inside && i < t->values_len; i++) {
        values[i] = t->inside[i];
    }
    t->values = values;
    t->values_cap = (uint16_t)cap;
    return true;
}

/* The main fibril's values are those of its OS thread. */
void *fibril_posix_pthread_getspecific(pthread_key_t key)
{
    if (!fibril__on_loop()) {
        return pthread_getspecific(key);
    }
    struct fibril__thread *t = fibril__thread_known(fibril__thread_leader(fibril_current()));
    if (!t) {
        return NULL;
    }
    if (t->main) {
        return pthread_getspecific(key);
    }
    const struct fibril__value *v = find(t, key);
    bool set = v && v->age == atomic_load_explicit(&keys[key].age, memory_order_relaxed);
    return set ? v->value : NULL;
}

static int set(struct fibril__thread *t, pthread_key_t key, void *value)
{
    struct fibril__value *v = find(t, key);
    if (!v && !value) {
        return 0;
    }
    if (!v && t->values_len == t->values_cap && (t->values_cap >= VALUES_MAX || !grow(t))) {
        return ENOMEM;
    }
    v = v ? v : &t->values[t->values_len++];
    *v = (struct fibril__value){key, atomic_load(&keys[key].age), value};
    return 0;
}

int fibril_posix_pthread_setspecific(pthread_key_t key, const void *value)
{
    if (!fibril__on_loop()) {
        return pthread_setspecific(key, value);
    }
    struct fibril__thread *t = fibril__thread_face();
    if (!t) {
        return ENOMEM;
    }
    if (t->main) {
        return pthread_setspecific(key, value);
    }
    if (key >= PTHREAD_KEYS_MAX || !fibril__key_may_exist(key)) {
        return EINVAL;
    }
    fibril__posix_value_hook hook = fibril__posix_on_value;
    if (hook) {
        hook(key, value);
    }
    return set(t, key, (void *)(uintptr_t)value);
}

fibril__posix_value_hook fibril__posix_on_value;

/* One round: values that destructors set anew have their turn in the next. */
static bool destroy_round(struct fibril__thread *t)
{
    bool any = false;
    for (unsigned i = 0; i < t->values_len; i++) {
        struct fibril__value v = t->values[i];
        t->values[i].value = NULL;
        if (!v.value || v.age != atomic_load(&keys[v.key].age)) {
            continue;
        }
        void (*destroy)(void *value) = atomic_load(&keys[v.key].destroy);
        if (destroy) {
            destroy(v.value);
            any = true;
        }
    }
    return any;
}

void fibril__values_destroy(struct fibril__thread *t)
{
    for (int round = 0; round < ROUNDS && destroy_round(t); round++) {}
    t->values_len = 0;
}

/* What libgcc and libstdc++ call. */
static int key_create_too(pthread_key_t *ret_key, void (*destroy)(void *value))
{
    return fibril_posix_pthread_key_create(ret_key, destroy);
}

const struct fibril__call fibril__calls_key[] = {
    FIBRIL__CALL(pthread_key_create),
    {"__pthread_key_create", (void (*)(void))key_create_too, false, NULL},
    FIBRIL__CALL(pthread_key_delete),
    FIBRIL__CALL(pthread_getspecific),
    FIBRIL__CALL(pthread_setspecific),
    {NULL, NULL, false, NULL},
};
