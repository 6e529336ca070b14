/* SPDX-License-Identifier: MIT */
/* See imports.h. The form of the tables is that of the System V ABI and its GNU extensions. */
#include "posix/imports.h"

#include "base/alloc.h"
#include "base/compiler.h"

#include <elf.h>
#include <errno.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <unistd.h>

#if defined(__x86_64__)
enum { R_SLOT = R_X86_64_JUMP_SLOT, R_GOT = R_X86_64_GLOB_DAT, R_DATA = R_X86_64_64 };
#elif defined(__aarch64__)
enum { R_SLOT = R_AARCH64_JUMP_SLOT, R_GOT = R_AARCH64_GLOB_DAT, R_DATA = R_AARCH64_ABS64 };
#else
enum { R_SLOT = -1, R_GOT = -2, R_DATA = -3 };
#endif

/* ---- what has been rewritten ---- */

struct patch {
    void **word;
    void *before, *ours;
};

struct object {
    struct object *next;
    uintptr_t base;
    const ElfW(Dyn) * dynamic; /* with base: which object this is */
    char *path;
    struct patch *patches;
    size_t len, cap;
    uintptr_t relro, relro_end; /* read-only since the object was bound */
    bool seen;
};

static struct object *objects;
static unsigned long long adds, subs; /* of the loader, when last looked at */

static bool add_patch(struct object *o, void **word, void *ours)
{
    if (o->len == o->cap) {
        size_t cap = o->cap ? o->cap * 2 : 16;
        struct patch *patches = fibril__realloc(o->patches, cap * sizeof *patches);
        if (!patches) {
            return false;
        }
        o->patches = patches;
        o->cap = cap;
    }
    o->patches[o->len++] = (struct patch){word, *word, ours};
    return true;
}

static void free_object(struct object *o)
{
    fibril__free(o->path);
    fibril__free(o->patches);
    fibril__free(o);
}

/* ---- writing ---- */

static int protect(const struct object *o, int protection)
{
    if (o->relro == o->relro_end) {
        return 0;
    }
    void *start = (void *)o->relro;
    return mprotect(start, o->relro_end - o->relro, protection) == 0 ? 0 : -errno;
}

static void store(void **word, void *value)
{
    __atomic_store_n(word, value, __ATOMIC_RELEASE);
}

/* ---- reading an object ---- */

struct tables {
    uintptr_t base;
    const ElfW(Sym) * symbols;
    const char *strings;
    const ElfW(Half) * versions;
    const ElfW(Verneed) * needs;
    size_t needs_len;
    const ElfW(Rela) * slots, *data;
    size_t slots_len, data_len;
    bool rela;
};

/* The loader has made most pointers of the dynamic section absolute, but not in every object. */
static const void *pointer(uintptr_t base, uintptr_t value)
{
    return (const void *)(value < base ? base + value : value);
}

static void read_tables(struct tables *t, uintptr_t base, const ElfW(Dyn) * d)
{
    *t = (struct tables){.base = base};
    for (; d->d_tag != DT_NULL; d++) {
        const void *at = pointer(base, d->d_un.d_ptr);
        switch (d->d_tag) {
        case DT_SYMTAB: t->symbols = at; break;
        case DT_STRTAB: t->strings = at; break;
        case DT_VERSYM: t->versions = at; break;
        case DT_VERNEED: t->needs = at; break;
        case DT_VERNEEDNUM: t->needs_len = d->d_un.d_val; break;
        case DT_JMPREL: t->slots = at; break;
        case DT_PLTRELSZ: t->slots_len = d->d_un.d_val / sizeof(ElfW(Rela)); break;
        case DT_PLTREL: t->rela = d->d_un.d_val == DT_RELA; break;
        case DT_RELA: t->data = at; break;
        case DT_RELASZ: t->data_len = d->d_un.d_val / sizeof(ElfW(Rela)); break;
        default: break;
        }
    }
}

/* The name of version number `index` that the object needs of others, "" if unknown. */
static const char *version_name(const struct tables *t, unsigned index)
{
    const ElfW(Verneed) *need = t->needs;
    for (size_t i = 0; need && i < t->needs_len; i++) {
        const ElfW(Vernaux) *v = (const void *)((const char *)need + need->vn_aux);
        for (unsigned k = 0; k < need->vn_cnt; k++) {
            if (v->vna_other == index) {
                return t->strings + v->vna_name;
            }
            v = (const void *)((const char *)v + v->vna_next);
        }
        need = (const void *)((const char *)need + need->vn_next);
    }
    return "";
}

static const char *version_of(const struct tables *t, size_t symbol)
{
    unsigned index = t->versions ? t->versions[symbol] & 0x7fff : 0;
    return index > 1 ? version_name(t, index) : "";
}

struct cover {
    fibril__import_fn *choose;
    const void *const *skip;
    size_t skip_len;
    const void *threads_of;
    int rc;
};

/* An import is a symbol that the object itself does not define. */
static void *choose(const struct cover *c, const struct tables *t, const ElfW(Rela) * r,
                    bool threads)
{
    size_t symbol = ELF64_R_SYM(r->r_info);
    const ElfW(Sym) *s = &t->symbols[symbol];
    int type = (int)ELF64_R_TYPE(r->r_info);
    bool ours = type == R_SLOT || type == R_GOT || (type == R_DATA && r->r_addend == 0);
    if (!ours || symbol == 0 || s->st_shndx != SHN_UNDEF) {
        return NULL;
    }
    return c->choose(t->strings + s->st_name, version_of(t, symbol), threads);
}

static int cover_table(struct cover *c, struct object *o, const struct tables *t,
                       const ElfW(Rela) * r, size_t len, bool threads)
{
    for (size_t i = 0; i < len; i++) {
        void *ours = choose(c, t, &r[i], threads);
        void **word = (void **)(t->base + r[i].r_offset);
        if (!ours || *word == ours || !*word) { /* a weak symbol that nobody has stays away */
            continue;
        }
        if (!add_patch(o, word, ours)) {
            return -ENOMEM;
        }
        store(word, ours);
    }
    return 0;
}

static int cover_object(struct cover *c, struct object *o, bool threads)
{
    struct tables t;
    read_tables(&t, o->base, o->dynamic);
    if (!t.symbols || !t.strings || (t.slots && !t.rela)) {
        return 0;
    }
    int rc = protect(o, PROT_READ | PROT_WRITE);
    if (rc < 0) {
        return rc;
    }
    rc = cover_table(c, o, &t, t.slots, t.slots ? t.slots_len : 0, threads);
    if (rc == 0) {
        rc = cover_table(c, o, &t, t.data, t.data ? t.data_len : 0, threads);
    }
    protect(o, PROT_READ);
    return rc;
}

/* ---- which objects ---- */

static bool is_skipped(const struct cover *c, const struct dl_phdr_info *i)
{
    static const char *const names[] = {"/libc.so",  "/ld-linux",  "/libasan.", "/libgcc_s.",
                                        "/libtsan.", "/libubsan.", "linux-vdso"};
    for (size_t n = 0; n < sizeof names / sizeof names[0]; n++) {
        if (strstr(i->dlpi_name, names[n])) {
            return true;
        }
    }
    for (size_t n = 0; n < c->skip_len; n++) {
        if (fibril__object_holds(i, c->skip[n])) {
            return true;
        }
    }
    return fibril__object_holds(i, (const void *)getauxval(AT_SYSINFO_EHDR));
}

static void read_headers(struct object *o, const struct dl_phdr_info *i)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    for (int n = 0; n < i->dlpi_phnum; n++) {
        const ElfW(Phdr) *p = &i->dlpi_phdr[n];
        uintptr_t start = i->dlpi_addr + p->p_vaddr;
        if (p->p_type == PT_DYNAMIC) {
            o->dynamic = (const void *)start;
        } else if (p->p_type == PT_GNU_RELRO) {
            o->relro = start & ~(page - 1);
            o->relro_end = (start + p->p_memsz) & ~(page - 1);
        }
    }
}

static const char *path_of(const struct dl_phdr_info *i)
{
    return *i->dlpi_name ? i->dlpi_name : "(the program)";
}

static struct object *find(uintptr_t base, const ElfW(Dyn) * dynamic, const char *path)
{
    for (struct object *o = objects; o; o = o->next) {
        if (o->base == base && o->dynamic == dynamic && strcmp(o->path, path) == 0) {
            return o;
        }
    }
    return NULL;
}

static int remember(const struct object *found, const char *path, struct object **ret_object)
{
    struct object *o = fibril__alloc(sizeof *o);
    char *copy = fibril__strdup(path);
    if (!o || !copy) {
        fibril__free(o);
        fibril__free(copy);
        return -ENOMEM;
    }
    *o = *found;
    o->path = copy;
    o->next = objects;
    objects = o;
    *ret_object = o;
    return 0;
}

/* An object may have gone and come back at the same place, or the loader, that was binding a call
 * at the time, may have put back what was there: then what was written is no longer there. */
static bool is_intact(const struct object *o)
{
    for (size_t n = 0; n < o->len; n++) {
        if (__atomic_load_n(o->patches[n].word, __ATOMIC_RELAXED) != o->patches[n].ours) {
            return false;
        }
    }
    return true;
}

static int visit_known(struct cover *c, struct object *o, const struct dl_phdr_info *i)
{
    o->seen = true;
    if (is_intact(o)) {
        return 0;
    }
    o->len = 0;
    return cover_object(c, o, !c->threads_of || fibril__object_holds(i, c->threads_of));
}

static int visit(struct dl_phdr_info *i, size_t size, void *arg)
{
    (void)size;
    struct cover *c = arg;
    adds = i->dlpi_adds;
    subs = i->dlpi_subs;
    struct object found = {.base = i->dlpi_addr};
    read_headers(&found, i);
    struct object *known = find(found.base, found.dynamic, path_of(i));
    if (known) {
        c->rc = visit_known(c, known, i);
        return c->rc;
    }
    if (!found.dynamic || is_skipped(c, i)) {
        return 0;
    }
    struct object *o;
    found.seen = true;
    c->rc = remember(&found, path_of(i), &o);
    if (c->rc == 0) {
        c->rc = cover_object(c, o, !c->threads_of || fibril__object_holds(i, c->threads_of));
    }
    return c->rc;
}

static void forget_the_gone(void)
{
    struct object **at = &objects;
    while (*at) {
        struct object *o = *at;
        if (o->seen) {
            o->seen = false;
            at = &o->next;
        } else {
            *at = o->next;
            free_object(o);
        }
    }
}

int fibril__imports_cover(fibril__import_fn *choose_fn, const void *const *skip, size_t n,
                          const void *threads_of)
{
    struct cover c = {.choose = choose_fn, .skip = skip, .skip_len = n, .threads_of = threads_of};
    dl_iterate_phdr(visit, &c);
    if (c.rc == 0) {
        forget_the_gone();
    }
    return c.rc;
}

static void restore(const struct object *o)
{
    if (protect(o, PROT_READ | PROT_WRITE) == 0) {
        for (size_t i = 0; i < o->len; i++) {
            const struct patch *p = &o->patches[i];
            if (__atomic_load_n(p->word, __ATOMIC_RELAXED) == p->ours) {
                store(p->word, p->before);
            }
        }
        protect(o, PROT_READ);
    }
}

static int mark_present(struct dl_phdr_info *i, size_t size, void *arg)
{
    (void)size;
    (void)arg;
    struct object found = {.base = i->dlpi_addr};
    read_headers(&found, i);
    struct object *known = find(found.base, found.dynamic, path_of(i));
    if (known) {
        known->seen = true;
    }
    return 0;
}

void fibril__imports_restore(void)
{
    dl_iterate_phdr(mark_present, NULL);
    while (objects) {
        struct object *o = objects;
        objects = o->next;
        if (o->seen) {
            restore(o);
        }
        free_object(o);
    }
}

/* ---- asking ---- */

static int compare(struct dl_phdr_info *i, size_t size, void *arg)
{
    (void)size;
    *(bool *)arg = i->dlpi_adds != adds || i->dlpi_subs != subs;
    return 1;
}

bool fibril__imports_changed(void)
{
    bool changed = false;
    dl_iterate_phdr(compare, &changed);
    return changed;
}

size_t fibril__imports_count(size_t *ret_objects)
{
    size_t imports = 0, n = 0;
    for (const struct object *o = objects; o; o = o->next) {
        imports += o->len;
        n += o->len > 0;
    }
    if (ret_objects) {
        *ret_objects = n;
    }
    return imports;
}

void fibril__imports_each(void (*fn)(const char *path, uintptr_t base, size_t imports, void *arg),
                          void *arg)
{
    for (const struct object *o = objects; o; o = o->next) {
        fn(o->path, o->base, o->len, arg);
    }
}
