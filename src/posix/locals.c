/* SPDX-License-Identifier: MIT */
/* See locals.h. Each OS thread has areas of its own: where the objects' blocks are in that thread.
 */
#include "posix/locals.h"

#include "base/alloc.h"

#include <fibril/posix.h>

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>

enum { AREAS = 16 };

/* The beginnings of their file names. */
static const char *const known[] = {"libstdc++.so", "libc++abi.so", "libabsl_base.so", "cygrpc.",
                                    "libgrpc.so"};

struct area {
    char *live;        /* the OS thread's block of that object */
    const char *image; /* what it is in a new thread: so many bytes, and then zeros */
    size_t image_bytes, bytes;
    size_t at; /* in the copy that a fibril keeps */
};

static __thread struct {
    struct area areas[AREAS];
    unsigned len;
    size_t bytes; /* of all areas */
} here;

/* ---- one area ---- */

static bool is_zero(const char *p, size_t bytes)
{
    return bytes == 0 || (p[0] == 0 && memcmp(p, p + 1, bytes - 1) == 0);
}

static bool is_new(const struct area *a)
{
    return memcmp(a->live, a->image, a->image_bytes) == 0 &&
           is_zero(a->live + a->image_bytes, a->bytes - a->image_bytes);
}

static void make_new(const struct area *a)
{
    memcpy(a->live, a->image, a->image_bytes);
    memset(a->live + a->image_bytes, 0, a->bytes - a->image_bytes);
}

/* ---- all of them ---- */

static bool all_new(void)
{
    for (unsigned i = 0; i < here.len; i++) {
        if (!is_new(&here.areas[i])) {
            return false;
        }
    }
    return true;
}

void fibril__locals_reset(void)
{
    for (unsigned i = 0; i < here.len; i++) {
        make_new(&here.areas[i]);
    }
}

static bool has_room(struct fibril__thread *t)
{
    if (!t || t->locals_bytes >= here.bytes) {
        return t;
    }
    char *copy = fibril__realloc(t->locals, here.bytes);
    if (copy) {
        t->locals = copy;
        t->locals_bytes = here.bytes;
    }
    return copy;
}

/* Without memory for the copy the fibril finds what a new thread would when it goes on. */
static void copy_out(struct fibril *f)
{
    struct fibril__thread *t = fibril__thread_for(f);
    if (!has_room(t)) {
        return;
    }
    for (unsigned i = 0; i < here.len; i++) {
        memcpy(t->locals + here.areas[i].at, here.areas[i].live, here.areas[i].bytes);
    }
    t->locals_out = true;
}

/* Areas that were found after the copy was made are new for this fibril. */
static void copy_in(struct fibril__thread *t)
{
    for (unsigned i = 0; i < here.len; i++) {
        const struct area *a = &here.areas[i];
        if (a->at + a->bytes <= t->locals_bytes) {
            memcpy(a->live, t->locals + a->at, a->bytes);
        } else {
            make_new(a);
        }
    }
    t->locals_out = false;
}

static void on_switch(struct fibril *from, struct fibril *to)
{
    bool leave_new = all_new();
    if (from && !leave_new) {
        copy_out(from);
    }
    struct fibril__thread *t = fibril__thread_known(to);
    if (t && t->locals_out) {
        copy_in(t);
    } else if (!leave_new) {
        fibril__locals_reset();
    }
}

/* ---- finding them ---- */

bool fibril__locals_known(const char *path)
{
    const char *slash = path ? strrchr(path, '/') : NULL;
    const char *name = slash ? slash + 1 : path;
    for (unsigned i = 0; name && i < sizeof known / sizeof known[0]; i++) {
        if (strncmp(name, known[i], strlen(known[i])) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_here(const char *live)
{
    for (unsigned i = 0; i < here.len; i++) {
        if (here.areas[i].live == live) {
            return true;
        }
    }
    return false;
}

static void add(struct area a)
{
    a.at = here.bytes;
    here.areas[here.len++] = a;
    here.bytes += (a.bytes + 15) & ~(size_t)15;
}

static void add_object(const struct dl_phdr_info *info, const ElfW(Phdr) * tls, char *live)
{
    add((struct area){.live = live,
                      .image = (const char *)(info->dlpi_addr + tls->p_vaddr),
                      .image_bytes = tls->p_filesz,
                      .bytes = tls->p_memsz});
}

int fibril_posix_own(void *live, size_t bytes)
{
    if (!fibril_current()) {
        return -EPERM;
    }
    if (!is_here(live)) {
        if (here.len == AREAS) {
            return -ENOMEM;
        }
        add((struct area){.live = live, .image = "", .bytes = bytes});
        fibril_embed_on_switch(on_switch);
    }
    return 0;
}

struct found {
    struct dl_phdr_info info;
    const ElfW(Phdr) * tls;
};

static int collect(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct found *found = arg;
    if (!fibril__locals_known(info->dlpi_name) || size < sizeof *info) {
        return 0;
    }
    for (unsigned i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type == PT_TLS) {
            while (found->tls) {
                if (++found - (struct found *)arg == AREAS) {
                    return 1;
                }
            }
            *found = (struct found){*info, &info->dlpi_phdr[i]};
        }
    }
    return 0;
}

struct block_name {
    unsigned long module, offset;
};
extern void *__tls_get_addr(struct block_name *name);

/* The block of an object is made when it is first asked for, and stays where it is until the object
 * is unloaded: from now on it is not. */
static char *block_of(const struct dl_phdr_info *info)
{
    struct block_name name = {info->dlpi_tls_modid, 0};
    void *object = dlopen(info->dlpi_name, RTLD_LAZY | RTLD_NOLOAD | RTLD_NODELETE);
    if (!object) {
        return NULL;
    }
    dlclose(object);
    return __tls_get_addr(&name);
}

void fibril__locals_look(void)
{
    struct found all[AREAS] = {0};
    dl_iterate_phdr(collect, all);
    for (int i = 0; i < AREAS && all[i].tls && here.len < AREAS; i++) {
        char *live = block_of(&all[i].info);
        if (live && !is_here(live)) {
            add_object(&all[i].info, all[i].tls, live);
        }
    }
    if (here.len > 0 && fibril_current()) {
        fibril_embed_on_switch(on_switch);
    }
}

void fibril__locals_leave(void)
{
    if (here.len > 0 && fibril_current()) {
        fibril_embed_on_switch(NULL);
    }
    here.len = 0;
    here.bytes = 0;
}
