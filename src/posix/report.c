/* SPDX-License-Identifier: MIT */
/*
 * What the layer covers in this process and what it cannot: object by object, how many imports are
 * rewritten, whether its code makes system calls by itself, and how many bytes of compiler
 * thread-locals it has, which all fibrils of an OS thread share.
 *
 * Code is not disassembled. On x86-64 the two bytes of a system call may also be part of something
 * else, so they count only with what compilers put beside them: the number of the call loaded just
 * before, or the comparison with the highest error just after. What is found so may call the kernel
 * itself; whether that blocks is not known. libc, the loader and the kernel's own page do, and the
 * layer stands before them.
 */
#include "posix/imports.h"
#include "posix/install.h"
#include "posix/layer.h"
#include "posix/locals.h"

#include <link.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

/* ---- system calls in code ---- */

#if defined(__x86_64__)
enum { BEFORE = 24, AFTER = 16, CALLS_MOST = 0x200 };

/* mov $number, %eax (or the same for %rax) somewhere in the bytes before. */
static bool loads_number(const unsigned char *call, const unsigned char *low)
{
    const unsigned char *p = call - low > BEFORE ? call - BEFORE : low;
    for (; p + 5 <= call; p++) {
        bool short_form = p[0] == 0xb8, long_form = p + 7 <= call && p[0] == 0xc7 && p[1] == 0xc0;
        const unsigned char *n = p + (short_form ? 1 : 2);
        if ((short_form || long_form) && n[0] + (n[1] << 8) < CALLS_MOST && !n[2] && !n[3]) {
            return true;
        }
    }
    return false;
}

/* cmp $-4095 (or -4096), %rax. */
static bool checks_error(const unsigned char *call, const unsigned char *high)
{
    const unsigned char *end = high - call > AFTER ? call + AFTER : high;
    for (const unsigned char *p = call + 2; p + 5 <= end; p++) {
        if (p[0] == 0x3d && p[1] <= 1 && p[2] == 0xf0 && p[3] == 0xff && p[4] == 0xff) {
            return true;
        }
    }
    return false;
}

static size_t calls_in(const unsigned char *low, const unsigned char *high)
{
    size_t n = 0;
    for (const unsigned char *p = low; p + 2 <= high; p++) {
        p = memchr(p, 0x0f, (size_t)(high - p - 1));
        if (!p) {
            break;
        }
        n += p[1] == 0x05 && (checks_error(p, high) || loads_number(p, low));
    }
    return n;
}
#elif defined(__aarch64__)
static size_t calls_in(const unsigned char *low, const unsigned char *high)
{
    enum { SVC_0 = 0xd4000001 };
    size_t n = 0;
    for (; low + sizeof(uint32_t) <= high; low += sizeof(uint32_t)) {
        uint32_t word;
        memcpy(&word, low, sizeof word);
        n += word == SVC_0;
    }
    return n;
}
#else
static size_t calls_in(const unsigned char *low, const unsigned char *high)
{
    (void)low;
    (void)high;
    return 0;
}
#endif

/* ---- objects ---- */

struct finding {
    const char *path;
    uintptr_t base;
    size_t imports, calls, locals;
};

struct report {
    int fd;
    int may_block;
    struct finding now;
};

static void note_imports(const char *path, uintptr_t base, size_t imports, void *arg)
{
    struct finding *f = arg;
    (void)path;
    if (base == f->base) {
        f->imports += imports;
    }
}

static bool is_below(const struct dl_phdr_info *o)
{
    static const char *const names[] = {"/libc.so", "/ld-linux", "linux-vdso", "/libfibril"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strstr(o->dlpi_name, names[i])) {
            return true;
        }
    }
    for (int i = 0; i < o->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &o->dlpi_phdr[i];
        uintptr_t start = o->dlpi_addr + p->p_vaddr;
        uintptr_t vdso = getauxval(AT_SYSINFO_EHDR), own = (uintptr_t)fibril_posix_report;
        if (p->p_type == PT_LOAD && (vdso - start < p->p_memsz || own - start < p->p_memsz)) {
            return true;
        }
    }
    return false;
}

static void look_at(struct finding *f, const struct dl_phdr_info *o)
{
    *f = (struct finding){.path = *o->dlpi_name ? o->dlpi_name : "the program",
                          .base = o->dlpi_addr};
    for (int i = 0; i < o->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &o->dlpi_phdr[i];
        const unsigned char *start = (const unsigned char *)o->dlpi_addr + p->p_vaddr;
        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) && (p->p_flags & PF_R)) {
            f->calls += calls_in(start, start + p->p_filesz);
        } else if (p->p_type == PT_TLS && !fibril__locals_known(f->path)) {
            f->locals += p->p_memsz;
        }
    }
    fibril__imports_each(note_imports, f);
}

static void write_text(int fd, const char *text, int len)
{
    while (len > 0) {
        ssize_t n = write(fd, text, (size_t)len);
        if (n <= 0) {
            return;
        }
        text += n;
        len -= (int)n;
    }
}

static void write_finding(int fd, const struct finding *f)
{
    char text[4608];
    int n = snprintf(text, 4200, "%7zu  %s\n", f->imports, f->path);
    n = n < 4200 ? n : 4199;
    if (f->calls) {
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "         calls the kernel itself in %zu place%s: may block\n", f->calls,
                      f->calls == 1 ? "" : "s");
    }
    if (f->locals) {
        n += snprintf(text + n, sizeof text - (size_t)n,
                      "         %zu bytes of thread-local variables: fibrils share them\n",
                      f->locals);
    }
    write_text(fd, text, n);
}

static int visit(struct dl_phdr_info *o, size_t size, void *arg)
{
    struct report *r = arg;
    (void)size;
    if (!is_below(o)) {
        look_at(&r->now, o);
        if (r->now.imports || r->now.calls || r->now.locals) {
            write_finding(r->fd, &r->now);
        }
        r->may_block += r->now.calls > 0;
    }
    return 0;
}

static void report(void *arg)
{
    dl_iterate_phdr(visit, arg);
}

int fibril_posix_report(int fd)
{
    char head[160];
    size_t objects, imports = fibril_posix_imports(&objects);
    int n =
        fibril_posix_installed()
            ? snprintf(head, sizeof head, "covered: %zu imports of %zu objects\n", imports, objects)
            : snprintf(head, sizeof head, "the layer is not installed\n");
    struct report r = {.fd = fd};
    write_text(fd, head, n);
    fibril__loader_run(report, &r);
    n = snprintf(head, sizeof head, "%d of them may block: they call the kernel itself\n",
                 r.may_block);
    write_text(fd, head, n);
    return r.may_block;
}
