/* SPDX-License-Identifier: MIT */
/*
 * Frames by a table: the fields of each type are the letters of a string, and reading, measuring
 * and writing walk along it. What was read and written again is the same bytes, which the fuzz
 * target relies on.
 */
#include "actor/frame.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>

/* g tag, t to, n number, b bytes, l total, w who, m messages, r reason, k kind, s name, x refs,
 * d data (the rest) */
static const struct {
    const char *name, *fields;
} types[FIBRIL__FRAME_TYPES] = {
    [0] = {"unknown", NULL},
    [FIBRIL__FRAME_HELLO] = {"hello", "gnmbwrs"},
    [FIBRIL__FRAME_BYE] = {"bye", "rd"},
    [FIBRIL__FRAME_PING] = {"ping", ""},
    [FIBRIL__FRAME_PONG] = {"pong", ""},
    [FIBRIL__FRAME_LINK] = {"link", "wtn"},
    [FIBRIL__FRAME_UNLINK] = {"unlink", "tnk"},
    [FIBRIL__FRAME_LINK_EXIT] = {"link exit", "tnkr"},
    [FIBRIL__FRAME_EXIT] = {"exit", "wtr"},
    [FIBRIL__FRAME_DOWN] = {"down", "tr"},
    [FIBRIL__FRAME_CREDIT] = {"credit", "wmb"},
    [FIBRIL__FRAME_WHEREIS] = {"whereis", "ns"},
    [FIBRIL__FRAME_FOUND] = {"found", "nw"},
    [FIBRIL__FRAME_MESSAGE] = {"message", "tgkwnlsxd"},
    [FIBRIL__FRAME_REPLY] = {"reply", "tgkwnlsxd"},
    [FIBRIL__FRAME_STREAM_CLOSE] = {"stream close", "tn"},
    [FIBRIL__FRAME_STREAM_BROKEN] = {"stream broken", "tnr"},
};

const char *fibril__frame_name(unsigned type)
{
    return types[type < FIBRIL__FRAME_TYPES ? type : 0].name;
}

/* ---- numbers ---- */

static uint64_t load(const uint8_t *p, unsigned bytes)
{
    uint64_t v = 0;
    for (unsigned i = 0; i < bytes; i++) {
        v |= (uint64_t)p[i] << (8 * i);
    }
    return v;
}

static void store(uint8_t *p, uint64_t v, unsigned bytes)
{
    for (unsigned i = 0; i < bytes; i++) {
        p[i] = (uint8_t)(v >> (8 * i));
    }
}

struct fibril__ref fibril__ref_read(const uint8_t *bytes)
{
    return (struct fibril__ref){.id = load(bytes, 8),
                                .window = (uint32_t)load(bytes + 8, 4),
                                .owner = bytes[12],
                                .overflow = bytes[13]};
}

void fibril__ref_write(struct fibril__ref ref, uint8_t *ret_bytes)
{
    store(ret_bytes, ref.id, 8);
    store(ret_bytes + 8, ref.window, 4);
    ret_bytes[12] = ref.owner;
    ret_bytes[13] = ref.overflow;
    ret_bytes[14] = ret_bytes[15] = 0;
}

static bool ref_is_good(const uint8_t *bytes)
{
    enum { POLICIES = 4 };
    struct fibril__ref ref = fibril__ref_read(bytes);
    return ref.owner <= FIBRIL__YOURS && ref.overflow < POLICIES && ref.window > 0 &&
           bytes[14] == 0 && bytes[15] == 0;
}

/* ---- what the fields of a frame are ---- */

static const char *fields_of(unsigned type, unsigned flags)
{
    return flags & FIBRIL__FRAME_NEXT ? "d" : types[type].fields;
}

/* Bytes of a field of fixed size; 0: it is of another sort. */
static unsigned size_of(char field)
{
    switch (field) {
    case 'g':
    case 't':
    case 'n':
    case 'b':
    case 'l': return 8;
    case 'm':
    case 'r': return 4;
    case 'k': return 1;
    case 'w': return FIBRIL__FRAME_REF;
    default: return 0;
    }
}

/* ---- reading ---- */

int fibril__frame_head(const uint8_t head[FIBRIL__FRAME_HEAD], uint32_t max, uint32_t *ret_len)
{
    uint32_t len = (uint32_t)load(head, 4);
    uint8_t type = head[4], flags = head[5];
    bool long_one = type == FIBRIL__FRAME_MESSAGE || type == FIBRIL__FRAME_REPLY;
    if (type == 0 || type >= FIBRIL__FRAME_TYPES || head[6] || head[7] ||
        (flags & ~(FIBRIL__FRAME_MORE | FIBRIL__FRAME_NEXT)) || (flags && !long_one)) {
        return -EBADMSG;
    }
    *ret_len = len;
    return len <= max ? 0 : -EMSGSIZE;
}

static void set_fixed(struct fibril__frame *f, char field, const uint8_t *p)
{
    switch (field) {
    case 'g': f->tag = load(p, 8); break;
    case 't': f->to = load(p, 8); break;
    case 'n': f->number = load(p, 8); break;
    case 'b': f->bytes = load(p, 8); break;
    case 'l': f->total = load(p, 8); break;
    case 'm': f->messages = (uint32_t)load(p, 4); break;
    case 'r': f->reason = (int32_t)(uint32_t)load(p, 4); break;
    case 'k': f->kind = *p; break;
    default: f->who = fibril__ref_read(p);
    }
}

static bool read_refs(struct fibril__frame *f, const uint8_t *p, size_t left, size_t *ret_used)
{
    f->n_refs = left >= 2 ? (uint16_t)load(p, 2) : 0;
    f->refs = p + 2;
    *ret_used = 2 + (size_t)f->n_refs * FIBRIL__FRAME_REF;
    if (*ret_used > left || f->n_refs > FIBRIL__FRAME_REFS_MAX) {
        return false;
    }
    for (unsigned i = 0; i < f->n_refs; i++) {
        if (!ref_is_good(f->refs + (size_t)i * FIBRIL__FRAME_REF)) {
            return false;
        }
    }
    return true;
}

static bool read_field(struct fibril__frame *f, char field, const uint8_t *p, size_t left,
                       size_t *ret_used)
{
    *ret_used = size_of(field);
    if (*ret_used) {
        bool good = *ret_used <= left && (field != 'w' || ref_is_good(p));
        if (good) {
            set_fixed(f, field, p);
        }
        return good;
    }
    switch (field) {
    case 's':
        f->name_len = left > 0 ? *p : 0;
        f->name = p + 1;
        *ret_used = 1 + (size_t)f->name_len;
        return *ret_used <= left && !memchr(f->name, '\0', f->name_len);
    case 'x': return read_refs(f, p, left, ret_used);
    default:
        f->data = p;
        *ret_used = f->data_len = left;
        return true;
    }
}

/* What is true of the values, beyond their sizes. */
static const char *complaint_of(const struct fibril__frame *f)
{
    bool more = f->flags & FIBRIL__FRAME_MORE, next = f->flags & FIBRIL__FRAME_NEXT;
    bool long_one = f->type == FIBRIL__FRAME_MESSAGE || f->type == FIBRIL__FRAME_REPLY;
    bool answer = f->kind == FIBRIL__FRAME_ANSWER || f->kind == FIBRIL__FRAME_REFUSAL;
    if (long_one && !next) {
        if (f->kind >= FIBRIL__FRAME_KINDS || answer != (f->type == FIBRIL__FRAME_REPLY)) {
            return "its kind does not exist";
        }
        if (more ? f->data_len >= f->total : f->data_len != f->total) {
            return "its length is not what it says";
        }
    }
    if (next && f->data_len == 0) {
        return "it brings nothing";
    }
    if ((f->type == FIBRIL__FRAME_UNLINK || f->type == FIBRIL__FRAME_LINK_EXIT) &&
        f->kind > FIBRIL__YOURS) {
        return "nobody asked for that link";
    }
    return NULL;
}

int fibril__frame_read(const uint8_t *frame, uint32_t len, struct fibril__frame *ret_frame,
                       const char **ret_what)
{
    struct fibril__frame f = {.type = frame[4], .flags = frame[5]};
    const uint8_t *p = frame + FIBRIL__FRAME_HEAD;
    size_t left = len, used;
    const char *fields = fields_of(f.type, f.flags);
    for (; fields && *fields; fields++) {
        if (!read_field(&f, *fields, p, left, &used)) {
            *ret_what = "a field is cut off, or has a value that does not exist";
            return -EBADMSG;
        }
        p += used;
        left -= used;
    }
    const char *what = !fields || left > 0 ? "it is longer than its fields" : complaint_of(&f);
    if (what) {
        *ret_what = what;
        return -EBADMSG;
    }
    *ret_frame = f;
    return 0;
}

/* ---- writing ---- */

static size_t length_of(const struct fibril__frame *f, char field)
{
    switch (field) {
    case 's': return 1 + (size_t)f->name_len;
    case 'x': return 2 + (size_t)f->n_refs * FIBRIL__FRAME_REF;
    case 'd': return f->data_len;
    default: return size_of(field);
    }
}

size_t fibril__frame_size(const struct fibril__frame *f)
{
    size_t n = FIBRIL__FRAME_HEAD;
    for (const char *field = fields_of(f->type, f->flags); *field; field++) {
        n += length_of(f, *field);
    }
    return n;
}

static void write_fixed(const struct fibril__frame *f, char field, uint8_t *p)
{
    switch (field) {
    case 'g': store(p, f->tag, 8); break;
    case 't': store(p, f->to, 8); break;
    case 'n': store(p, f->number, 8); break;
    case 'b': store(p, f->bytes, 8); break;
    case 'l': store(p, f->total, 8); break;
    case 'm': store(p, f->messages, 4); break;
    case 'r': store(p, (uint32_t)f->reason, 4); break;
    case 'k': *p = f->kind; break;
    default: fibril__ref_write(f->who, p);
    }
}

static void copy(uint8_t *to, const uint8_t *from, size_t n)
{
    if (n > 0) {
        memcpy(to, from, n);
    }
}

void fibril__frame_write(const struct fibril__frame *f, uint8_t *ret_bytes)
{
    uint8_t *p = ret_bytes + FIBRIL__FRAME_HEAD;
    for (const char *field = fields_of(f->type, f->flags); *field; field++) {
        switch (*field) {
        case 's':
            *p = f->name_len;
            copy(p + 1, f->name, f->name_len);
            break;
        case 'x':
            store(p, f->n_refs, 2);
            copy(p + 2, f->refs, (size_t)f->n_refs * FIBRIL__FRAME_REF);
            break;
        case 'd': copy(p, f->data, f->data_len); break;
        default: write_fixed(f, *field, p);
        }
        p += length_of(f, *field);
    }
    store(ret_bytes, (uint64_t)(p - ret_bytes) - FIBRIL__FRAME_HEAD, 4);
    ret_bytes[4] = f->type;
    ret_bytes[5] = f->flags;
    ret_bytes[6] = ret_bytes[7] = 0;
}
