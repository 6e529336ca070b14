/* SPDX-License-Identifier: MIT */
/*
 * Names of headers, as sent, to keys of the environ: clients of a server send the same few dozen
 * names in the same spelling, so each is turned into its key once.
 *
 * With a name goes the last value it had: of Host, Accept, User-Agent and their like most requests
 * repeat it, and comparing is cheaper than making a string. Values that are secrets are not kept.
 * The table is bounded, so that a client that makes names up fills it and no more.
 */
#include "wsgi.h"

#include <string.h>
#include <strings.h>

enum { BUCKETS = 256, NAMES_MAX = 512 };

struct fibril__wsgi_names {
    unsigned count;
    struct fibril__wsgi_name *buckets[BUCKETS];
};

static const struct {
    const char *name;
    uint8_t kind;
} special[] = {
    {"cookie", FIBRIL__WSGI_COOKIE},
    {"authorization", FIBRIL__WSGI_SECRET},
    {"proxy-authorization", FIBRIL__WSGI_SECRET},
    {"x-forwarded-for", FIBRIL__WSGI_FORWARDED_FOR},
    {"x-forwarded-proto", FIBRIL__WSGI_FORWARDED_PROTO},
    {"proxy", FIBRIL__WSGI_DROPPED}, /* programs take $HTTP_PROXY for the proxy to use */
};

struct fibril__wsgi_names *fibril__wsgi_names_new(void)
{
    struct fibril__wsgi_names *names = PyMem_Calloc(1, sizeof(*names));
    if (!names) {
        PyErr_NoMemory();
    }
    return names;
}

void fibril__wsgi_name_free(struct fibril__wsgi_name *name)
{
    if (name) {
        Py_XDECREF(name->key);
        Py_XDECREF(name->value);
        PyMem_Free(name);
    }
}

void fibril__wsgi_names_free(struct fibril__wsgi_names *names)
{
    for (unsigned i = 0; names && i < BUCKETS; i++) {
        while (names->buckets[i]) {
            struct fibril__wsgi_name *name = names->buckets[i];
            names->buckets[i] = name->next;
            fibril__wsgi_name_free(name);
        }
    }
    PyMem_Free(names);
}

static uint8_t kind_of(const char *raw)
{
    for (size_t i = 0; i < sizeof(special) / sizeof(special[0]); i++) {
        if (strcasecmp(raw, special[i].name) == 0) {
            return special[i].kind;
        }
    }
    /* An underscore would be the same key as the hyphen that somebody else relies on. */
    return strchr(raw, '_') ? FIBRIL__WSGI_DROPPED : FIBRIL__WSGI_PLAIN;
}

/* "Accept-Encoding" as "HTTP_ACCEPT_ENCODING". */
static PyObject *key_of(const char *raw, size_t len)
{
    char small[256], *text = small;
    static const char prefix[] = "HTTP_";
    bool bare = strcasecmp(raw, "content-type") == 0 || strcasecmp(raw, "content-length") == 0;
    size_t at = bare ? 0 : sizeof(prefix) - 1;
    if (len + at + 1 > sizeof(small) && !(text = PyMem_Malloc(len + at + 1))) {
        return PyErr_NoMemory();
    }
    memcpy(text, prefix, at);
    for (size_t i = 0; i < len; i++) {
        char c = raw[i];
        text[at++] = c == '-' ? '_' : c >= 'a' && c <= 'z' ? (char)(c - 'a' + 'A') : c;
    }
    PyObject *key = PyUnicode_DecodeLatin1(text, (Py_ssize_t)at, NULL);
    if (text != small) {
        PyMem_Free(text);
    }
    if (key) {
        PyUnicode_InternInPlace(&key);
    }
    return key;
}

static struct fibril__wsgi_name *make(const char *raw, size_t len, uint32_t hash)
{
    struct fibril__wsgi_name *name = PyMem_Calloc(1, sizeof(*name) + len + 1);
    if (!name) {
        PyErr_NoMemory();
        return NULL;
    }
    memcpy(name->raw, raw, len + 1);
    name->len = (uint16_t)len;
    name->hash = hash;
    name->kind = kind_of(raw);
    if (name->kind != FIBRIL__WSGI_DROPPED && !(name->key = key_of(raw, len))) {
        fibril__wsgi_name_free(name);
        return NULL;
    }
    return name;
}

struct fibril__wsgi_name *fibril__wsgi_name_of(struct fibril__wsgi_names *names, const char *raw,
                                               struct fibril__wsgi_name **ret_own)
{
    uint32_t hash = 2166136261u;
    size_t len = 0;
    for (; raw[len]; len++) {
        hash = (hash ^ (unsigned char)raw[len]) * 16777619u;
    }
    struct fibril__wsgi_name **bucket = &names->buckets[hash % BUCKETS];
    for (struct fibril__wsgi_name *name = *bucket; name; name = name->next) {
        if (name->hash == hash && name->len == len && memcmp(name->raw, raw, len) == 0) {
            return name;
        }
    }
    struct fibril__wsgi_name *name = make(raw, len, hash);
    if (name && names->count < NAMES_MAX) {
        name->next = *bucket;
        *bucket = name;
        names->count++;
    } else {
        *ret_own = name;
    }
    return name;
}
