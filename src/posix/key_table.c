/* SPDX-License-Identifier: MIT */
/*
 * libc's table of pthread keys. It has no public name, but its place follows from what is in it:
 * two keys with destructors of ours are made, and each must be found in libc's writable data at the
 * place that the other predicts, in entries of {sequence, destructor}. What is not found so is not
 * used: then destructors of keys made before the layer are not known, and do not run for fibrils.
 */
#include "posix/imports.h"
#include "posix/key.h"

#include <limits.h>

struct entry {
    uintptr_t sequence; /* odd while the key exists */
    void (*destroy)(void *value);
};

static const struct entry *table; /* NULL: not found */
static bool searched;

static void mark_a(void *value)
{
    (void)value;
}

static void mark_b(void *value)
{
    (void)value;
}

struct search {
    const void *inside; /* an address in libc */
    pthread_key_t a, b;
};

static bool is_table(const struct entry *e, const struct search *s, uintptr_t low, uintptr_t high)
{
    uintptr_t first = (uintptr_t)e, past = (uintptr_t)(e + PTHREAD_KEYS_MAX);
    return first >= low && past <= high && e[s->a].destroy == mark_a && e[s->b].destroy == mark_b &&
           (e[s->a].sequence & 1) && (e[s->b].sequence & 1);
}

/* Looks for a's destructor in the writable bytes from low to high. */
static const struct entry *look(const struct search *s, uintptr_t low, uintptr_t high)
{
    for (uintptr_t at = low; at + sizeof(struct entry) <= high; at += sizeof(void *)) {
        const struct entry *e = (const struct entry *)at - s->a;
        if (is_table(e, s, low, high)) {
            return e;
        }
    }
    return NULL;
}

static int look_in_libc(struct dl_phdr_info *object, size_t size, void *arg)
{
    (void)size;
    const struct search *s = arg;
    if (!fibril__object_holds(object, s->inside)) {
        return 0;
    }
    for (int i = 0; i < object->dlpi_phnum && !table; i++) {
        const ElfW(Phdr) *p = &object->dlpi_phdr[i];
        if (p->p_type == PT_LOAD && (p->p_flags & PF_W)) {
            uintptr_t start = object->dlpi_addr + p->p_vaddr;
            uintptr_t low = (start + sizeof(void *) - 1) & ~(sizeof(void *) - 1);
            table = look(s, low, start + p->p_memsz);
        }
    }
    return 1;
}

static void search(void)
{
    searched = true;
    struct search s = {.inside = (const void *)(uintptr_t)pthread_key_create};
    if (pthread_key_create(&s.a, mark_a) != 0) {
        return;
    }
    if (pthread_key_create(&s.b, mark_b) == 0) {
        dl_iterate_phdr(look_in_libc, &s);
        pthread_key_delete(s.b);
    }
    pthread_key_delete(s.a);
}

bool fibril__key_destructor(pthread_key_t key, void (**ret_destroy)(void *value))
{
    if (!searched) {
        search();
    }
    if (!table || !(table[key].sequence & 1)) {
        return false;
    }
    *ret_destroy = table[key].destroy;
    return true;
}

bool fibril__key_may_exist(pthread_key_t key)
{
    return !table || (__atomic_load_n(&table[key].sequence, __ATOMIC_RELAXED) & 1);
}
