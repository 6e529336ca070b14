/* SPDX-License-Identifier: MIT */
/*
 * Known field names: the perfect hash. The factors were found by trying random ones until all names
 * of the table fell into different slots of 256; adding a name that collides stops the build, and
 * other factors have to be tried.
 *
 * Invariant: the comparison by `| 0x20` is exact because both sides are tokens: what that bit could
 * confuse (`@` and
 * '`', CR and '-') is no tchar in at least one of the two.
 */
#include "http/field.h"

#define SLOT(len, first, middle, last)                                                             \
    (((len)*28u + ((first) | 0x20u) * 36u + ((last) | 0x20u) * 31u + ((middle) | 0x20u) * 36u) &   \
     255u)

#define NAME_LEN_MAX 32

struct known {
    uint8_t len;
    uint8_t forbidden;
    char name[NAME_LEN_MAX];
};

static const struct known known[FIBRIL__FIELD_IDS] = {
#define ROW(id, name, first, middle, last, forbidden)                                              \
    [FIBRIL__FIELD_##id] = {sizeof(name) - 1, forbidden, name},
    FIBRIL__HTTP_FIELDS(ROW)
#undef ROW
};

static const uint8_t slots[256] = {
#define ROW(id, name, first, middle, last, forbidden)                                              \
    [SLOT(sizeof(name) - 1, first, middle, last)] = FIBRIL__FIELD_##id,
    FIBRIL__HTTP_FIELDS(ROW)
#undef ROW
};

enum fibril__http_id fibril__http_field_id(struct fibril__span name)
{
    if (name.len == 0) {
        return FIBRIL__FIELD_OTHER;
    }
    const unsigned char *p = (const unsigned char *)name.ptr;
    uint8_t id = slots[SLOT((unsigned)name.len, p[0], p[name.len / 2], p[name.len - 1])];
    if (id == FIBRIL__FIELD_OTHER || known[id].len != name.len ||
        !fibril__token_equal(known[id].name, name.ptr, name.len)) {
        return FIBRIL__FIELD_OTHER;
    }
    return (enum fibril__http_id)id;
}

struct fibril__span fibril__http_field_name(enum fibril__http_id id)
{
    return (struct fibril__span){known[id].name, known[id].len};
}

bool fibril__http_field_forbidden_in_trailer(enum fibril__http_id id)
{
    return known[id].forbidden != 0;
}

const struct fibril__http_field *fibril__http_field_find(const struct fibril__http_field *fields,
                                                         size_t count, enum fibril__http_id id)
{
    for (size_t i = 0; i < count; i++) {
        if (fields[i].id == id) {
            return &fields[i];
        }
    }
    return NULL;
}
