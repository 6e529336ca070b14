/* SPDX-License-Identifier: MIT */
/*
 * Range and entity-tag parsing.
 *
 *     bytes=FIRST-LAST , FIRST- , -SUFFIX       empty list members are skipped, whitespace only
 * round commas
 *
 * Numbers that do not fit 64 bits are not errors but simply beyond any representation: they
 * saturate.
 */
#include "http/range.h"

#include <errno.h>
#include <limits.h>

#include "http/date.h"
#include "http/token.h"

struct spec {
    bool has_first;
    bool has_last;
    uint64_t first;
    uint64_t last; /* of a suffix range: its length */
};

/* Takes the digits at the front of *s; false when there is none. */
static bool take_number(struct fibril__span *s, uint64_t *ret_value)
{
    uint64_t value = 0;
    size_t i = 0;
    for (; i < s->len && fibril__char_is(s->ptr[i], FIBRIL__DIGIT); i++) {
        uint64_t digit = (uint64_t)(s->ptr[i] - '0');
        if (__builtin_mul_overflow(value, UINT64_C(10), &value) ||
            __builtin_add_overflow(value, digit, &value)) {
            value = UINT64_MAX;
        }
    }
    s->ptr += i;
    s->len -= i;
    *ret_value = value;
    return i > 0;
}

static bool parse_spec(struct fibril__span s, struct spec *ret_spec)
{
    struct spec spec = {0};
    spec.has_first = take_number(&s, &spec.first);
    if (s.len == 0 || s.ptr[0] != '-') {
        return false;
    }
    s.ptr++;
    s.len--;
    spec.has_last = take_number(&s, &spec.last);
    if (s.len != 0 || (!spec.has_first && !spec.has_last)) {
        return false;
    }
    if (spec.has_first && spec.has_last && spec.last < spec.first) {
        return false;
    }
    *ret_spec = spec;
    return true;
}

/* False when the range lies outside of the representation. */
static bool resolve(struct spec spec, uint64_t size, struct fibril__http_range *ret_range)
{
    struct fibril__http_range range = {0, size - 1};
    if (size == 0) {
        return false;
    }
    if (!spec.has_first) {
        if (spec.last == 0) {
            return false;
        }
        range.first = spec.last < size ? size - spec.last : 0;
    } else {
        if (spec.first >= size) {
            return false;
        }
        range.first = spec.first;
        range.last = spec.has_last && spec.last < size ? spec.last : size - 1;
    }
    *ret_range = range;
    return true;
}

int fibril__http_range_parse(struct fibril__span value, uint64_t size,
                             struct fibril__http_range *ranges, size_t ranges_max)
{
    struct fibril__span unit = FIBRIL__SPAN("bytes=");
    struct fibril__span item;
    struct fibril__http_range range;
    struct spec spec;
    uint64_t sum = 0;
    size_t specs = 0;
    size_t count = 0;
    if (value.len < unit.len ||
        !fibril__span_equal_nocase((struct fibril__span){value.ptr, unit.len}, unit)) {
        return 0;
    }
    struct fibril__span list = {value.ptr + unit.len, value.len - unit.len};
    while (fibril__list_next(&list, &item)) {
        if (item.len == 0) {
            continue;
        }
        if (++specs > ranges_max || specs > INT_MAX || !parse_spec(item, &spec)) {
            return 0;
        }
        if (resolve(spec, size, &range)) {
            uint64_t bytes = range.last - range.first + 1;
            if (bytes > size - sum) {
                return 0;
            }
            sum += bytes;
            ranges[count++] = range;
        }
    }
    if (specs == 0) {
        return 0;
    }
    return count > 0 ? (int)count : -ERANGE;
}

/* The bytes of the entity tag at the front of `s`, 0 when there is none. */
static size_t etag_len(struct fibril__span s)
{
    size_t i = s.len >= 2 && s.ptr[0] == 'W' && s.ptr[1] == '/' ? 2 : 0;
    if (i >= s.len || s.ptr[i] != '"') {
        return 0;
    }
    for (i++; i < s.len && s.ptr[i] != '"'; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < 0x21 || c == 0x7f) {
            return 0;
        }
    }
    return i < s.len ? i + 1 : 0;
}

bool fibril__http_etag_valid(struct fibril__span tag)
{
    return tag.len > 0 && etag_len(tag) == tag.len;
}

static bool is_weak(struct fibril__span tag)
{
    return tag.len > 0 && tag.ptr[0] == 'W';
}

static bool same_tag(struct fibril__span a, struct fibril__span b, bool weak)
{
    size_t skip_a = is_weak(a) ? 2 : 0;
    size_t skip_b = is_weak(b) ? 2 : 0;
    if (!weak && (skip_a != 0 || skip_b != 0)) {
        return false;
    }
    return fibril__span_equal((struct fibril__span){a.ptr + skip_a, a.len - skip_a},
                              (struct fibril__span){b.ptr + skip_b, b.len - skip_b});
}

/* Takes the tag at the front of *list and the comma behind it. A tag may hold commas, so no
 * fibril__list_next(). */
static int take_tag(struct fibril__span *list, struct fibril__span *ret_tag)
{
    size_t len = etag_len(*list);
    if (len == 0) {
        return -EINVAL;
    }
    *ret_tag = (struct fibril__span){list->ptr, len};
    *list = fibril__span_trim((struct fibril__span){list->ptr + len, list->len - len});
    return list->len == 0 || list->ptr[0] == ',' ? 0 : -EINVAL;
}

int fibril__http_etag_match(struct fibril__span list, struct fibril__span etag, bool weak)
{
    int match = 0;
    bool any = false;
    list = fibril__span_trim(list);
    if (fibril__span_equal(list, FIBRIL__SPAN("*"))) {
        return 1;
    }
    while (list.len > 0) {
        if (list.ptr[0] == ',') {
            list = fibril__span_trim((struct fibril__span){list.ptr + 1, list.len - 1});
            continue;
        }
        struct fibril__span tag;
        if (take_tag(&list, &tag) != 0) {
            return -EINVAL;
        }
        any = true;
        match |= etag.len > 0 && same_tag(tag, etag, weak) ? 1 : 0;
    }
    return any ? match : -EINVAL;
}

bool fibril__http_if_range(struct fibril__span value, struct fibril__span etag,
                           int64_t last_modified, int64_t now)
{
    int64_t date = 0;
    if (fibril__http_etag_valid(value)) {
        return etag.len > 0 && same_tag(value, etag, false);
    }
    return last_modified >= 0 && fibril__http_date_parse(value, now, &date) == 0 &&
           date == last_modified;
}
