/* SPDX-License-Identifier: MIT */
/* See describe.h. */
#include "debug/describe.h"

#include "sched/current.h"

#include <fibril/embed.h>

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

enum { LABEL_MAX = 80 };

void fibril__text_str(struct fibril__text *t, const char *s)
{
    size_t n = strlen(s), room = sizeof t->bytes - t->len;
    n = n < room ? n : room;
    memcpy(t->bytes + t->len, s, n);
    t->len += n;
}

static void number(struct fibril__text *t, uint64_t n, unsigned base, unsigned digits_min)
{
    char digits[24];
    size_t i = sizeof digits - 1;
    digits[i] = 0;
    do {
        digits[--i] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n > 0 || sizeof digits - 1 - i < digits_min);
    fibril__text_str(t, digits + i);
}

void fibril__text_dec(struct fibril__text *t, uint64_t n)
{
    number(t, n, 10, 1);
}

void fibril__text_hex(struct fibril__text *t, uint64_t n)
{
    fibril__text_str(t, "0x");
    number(t, n, 16, 1);
}

void fibril__text_seconds(struct fibril__text *t, int64_t ns)
{
    uint64_t ms = (uint64_t)(ns > 0 ? ns : 0) / 1000000;
    number(t, ms / 1000, 10, 1);
    fibril__text_str(t, ".");
    number(t, ms % 1000, 10, 3);
    fibril__text_str(t, " s");
}

void fibril__text_code(struct fibril__text *t, const void *address)
{
    Dl_info info;
    if (!dladdr(address, &info) || !info.dli_fname) {
        fibril__text_hex(t, (uintptr_t)address);
        return;
    }
    const char *slash = strrchr(info.dli_fname, '/');
    const void *from = info.dli_sname ? info.dli_saddr : info.dli_fbase;
    fibril__text_str(t, info.dli_sname ? info.dli_sname : slash ? slash + 1 : info.dli_fname);
    fibril__text_str(t, "+");
    fibril__text_hex(t, (uintptr_t)address - (uintptr_t)from);
    if (info.dli_sname) {
        fibril__text_str(t, " (");
        fibril__text_str(t, slash ? slash + 1 : info.dli_fname);
        fibril__text_str(t, ")");
    }
}

/* Bytes that would end the line or the quotes show as dots. */
static void write_label(struct fibril__text *t, const struct fibril_label *label)
{
    char text[LABEL_MAX + 3];
    size_t n = label->write(label, text + 2, LABEL_MAX);
    for (size_t i = 2; i < n + 2; i++) {
        if (text[i] < ' ' || text[i] > '~' || text[i] == '"') {
            text[i] = '.';
        }
    }
    memcpy(text, " \"", 2);
    text[n + 2] = 0;
    fibril__text_str(t, text);
    fibril__text_str(t, "\"");
}

__attribute__((no_sanitize_thread)) void fibril__text_fibril(struct fibril__text *t,
                                                             const struct fibril *f)
{
    fibril__text_str(t, "fibril ");
    fibril__text_dec(t, f->id);
    const char *name = fibril_name(f);
    if (!*name && (f->flags & FIBRIL__F_MAIN)) {
        name = "main";
    }
    if (*name) {
        fibril__text_str(t, " \"");
        fibril__text_str(t, name);
        fibril__text_str(t, "\"");
    } else if ((f->flags & FIBRIL__F_LABEL) && f->loop == fibril__loop) {
        write_label(t, f->site);
    }
}

static void wait_object(struct fibril__text *t, const struct fibril *f)
{
    const struct fibril__wait_kind *kind = f->wait;
    int fd = kind->fd ? kind->fd(f) : -1;
    if (fd >= 0) {
        fibril__text_str(t, " on descriptor ");
        fibril__text_dec(t, (uint64_t)fd);
        return;
    }
    const struct fibril *blocker = kind->blocker ? kind->blocker(f) : NULL;
    if (blocker) {
        fibril__text_str(t, kind->reason == FIBRIL__BY_JOIN ? " of " : " held by ");
        fibril__text_fibril(t, blocker);
    } else if (f->wait_on) {
        fibril__text_str(t, " ");
        fibril__text_hex(t, (uintptr_t)f->wait_on);
    }
}

/* Whoever parks last polls on its own stack: it is the loop's current fibril, and waits all the
 * same. */
__attribute__((no_sanitize_thread)) static void
state(struct fibril__text *t, const struct fibril *f, int64_t now_ns, bool look)
{
    const struct fibril__wait_kind *kind = f->wait;
    if (f->state == FIBRIL__PARKED && kind) {
        fibril__text_str(t, "waits: ");
        fibril__text_str(t, look && kind->called ? kind->called(f) : kind->name);
        if (look) {
            wait_object(t, f);
        }
    } else if (f->loop->current == f) {
        fibril__text_str(t, "running");
    } else {
        fibril__text_str(t, f->state == FIBRIL__READY ? "ready" : "ended, not joined");
    }
    fibril__text_str(t, " since ");
    fibril__text_seconds(t, now_ns - f->since_ns);
}

void fibril__text_state(struct fibril__text *t, const struct fibril *f, int64_t now_ns)
{
    state(t, f, now_ns, /* look= */ true);
}

void fibril__text_state_outside(struct fibril__text *t, const struct fibril *f, int64_t now_ns)
{
    state(t, f, now_ns, /* look= */ false);
}

void fibril__text_flush(struct fibril__text *t, int fd)
{
    size_t done = 0;
    while (done < t->len) {
        ssize_t n = write(fd, t->bytes + done, t->len - done);
        if (n <= 0) {
            break;
        }
        done += (size_t)n;
    }
    t->len = 0;
}
