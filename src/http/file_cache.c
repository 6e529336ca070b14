/* SPDX-License-Identifier: MIT */
/*
 * See file_cache.h. One block holds the record, its texts and the content.
 */
#include "http/file_cache.h"

#include "base/alloc.h"
#include "base/assert.h"
#include "http/date.h"
#include "http/mime.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { SLOTS = 1024, TEXTS = 512 };

struct fibril__http_file_cache {
    struct fibril__http_file *slots[SLOTS];
    struct fibril__list used;
    size_t bytes;
};

int fibril__http_file_cache_new(struct fibril__http_file_cache **ret_cache)
{
    struct fibril__http_file_cache *cache = fibril__alloc_zero(sizeof(*cache));
    if (!cache) {
        return -ENOMEM;
    }
    fibril__list_init(&cache->used);
    *ret_cache = cache;
    return 0;
}

void fibril__http_file_cache_free(struct fibril__http_file_cache *cache)
{
    if (!cache) {
        return;
    }
    struct fibril__link *link;
    while ((link = fibril__list_first(&cache->used)) != NULL) {
        fibril__http_file_drop(cache, CONTAINER_OF(link, struct fibril__http_file, used));
    }
    fibril__free(cache);
}

static uint32_t hash_of(const void *owner, const char *path)
{
    uint32_t hash = 2166136261u ^ (uint32_t)((uintptr_t)owner >> 4);
    for (; *path; path++) {
        hash = (hash ^ (uint8_t)*path) * 16777619u;
    }
    return hash ^ (hash >> 15);
}

struct fibril__http_file *fibril__http_file_find(struct fibril__http_file_cache *cache,
                                                 const void *owner, const char *path)
{
    uint32_t hash = hash_of(owner, path);
    struct fibril__http_file *f = cache->slots[hash % SLOTS];
    while (f && (f->hash != hash || f->owner != owner || strcmp(f->path, path) != 0)) {
        f = f->next;
    }
    if (f) {
        f->refs++;
        if (cache->used.head.prev != &f->used) {
            fibril__link_remove(&f->used);
            fibril__list_push(&cache->used, &f->used);
        }
    }
    return f;
}

/* ---- descriptions ---------------------------------------------------------------------------- */

static int64_t mtime_of(const struct stat *st)
{
    return (int64_t)st->st_mtim.tv_sec * 1000000000 + st->st_mtim.tv_nsec;
}

static struct fibril__span append(char **at, const char *bytes, size_t len)
{
    struct fibril__span span = {*at, len};
    memcpy(*at, bytes, len);
    *at += len;
    return span;
}

static struct fibril__span append_text(char **at, const char *text)
{
    return append(at, text, strlen(text));
}

static struct fibril__span set_etag(const struct fibril__http_file *f, char **at)
{
    char text[64];
    int len = snprintf(text, sizeof(text), "\"%llx-%llx\"", (unsigned long long)f->mtime_ns,
                       (unsigned long long)f->size);
    return append(at, text, (size_t)len);
}

static struct fibril__span set_modified(const struct fibril__http_file *f, char **at)
{
    char date[FIBRIL__HTTP_DATE_BYTES];
    bool known = fibril__http_date_format(f->mtime_ns / 1000000000, date) == 0;
    return append(at, date, known ? sizeof(date) : 0);
}

static void append_field(char **at, const char *name, struct fibril__span value)
{
    if (value.len > 0) {
        append_text(at, name);
        append(at, value.ptr, value.len);
        append_text(at, "\r\n");
    }
}

static void set_head(struct fibril__http_file *f, char **at, const char *server_field,
                     const char *cache_control)
{
    char *begin = *at;
    append_text(at, "HTTP/1.1 200 OK\r\n");
    append_text(at, server_field);
    append_field(at, "Content-Type: ", f->type);
    append_field(at, "ETag: ", f->etag);
    append_field(at, "Last-Modified: ", f->modified);
    append_text(at, "Accept-Ranges: bytes\r\n");
    append_text(at, cache_control);
    f->head = (struct fibril__span){begin, (size_t)(*at - begin)};
}

struct fibril__http_file *fibril__http_file_new(const void *owner, const char *path,
                                                const struct stat *st, bool with_content,
                                                const char *server_field, const char *cache_control)
{
    size_t path_len = strlen(path);
    const char *type = fibril__http_mime((struct fibril__span){path, path_len});
    size_t texts = TEXTS + path_len + strlen(type) + strlen(server_field) + strlen(cache_control);
    size_t content = with_content ? (size_t)st->st_size : 0;
    struct fibril__http_file *f = fibril__alloc(sizeof(*f) + texts + content);
    if (!f) {
        return NULL;
    }
    memset(f, 0, sizeof(*f));
    char *at = (char *)(f + 1);
    f->content = with_content ? at + texts : NULL;
    f->bytes = sizeof(*f) + texts + content;
    f->owner = owner;
    f->refs = 1;
    f->hash = hash_of(owner, path);
    f->inode = st->st_ino;
    f->device = st->st_dev;
    f->size = (uint64_t)st->st_size;
    f->mtime_ns = mtime_of(st);
    f->path = at;
    append(&at, path, path_len + 1);
    f->type = (struct fibril__span){type, strlen(type)};
    f->etag = set_etag(f, &at);
    f->modified = set_modified(f, &at);
    set_head(f, &at, server_field, cache_control);
    FIBRIL_ASSERT((size_t)(at - (char *)(f + 1)) <= texts);
    return f;
}

bool fibril__http_file_same(const struct fibril__http_file *f, const struct stat *st)
{
    return f->inode == st->st_ino && f->device == st->st_dev && f->size == (uint64_t)st->st_size &&
           f->mtime_ns == mtime_of(st);
}

/* ---- keeping --------------------------------------------------------------------------------- */

void fibril__http_file_release(struct fibril__http_file *f)
{
    if (--f->refs == 0) {
        fibril__free(f);
    }
}

void fibril__http_file_drop(struct fibril__http_file_cache *cache, struct fibril__http_file *f)
{
    struct fibril__http_file **at = &cache->slots[f->hash % SLOTS];
    while (*at && *at != f) {
        at = &(*at)->next;
    }
    if (!*at) {
        return;
    }
    *at = f->next;
    fibril__link_remove(&f->used);
    cache->bytes -= f->bytes;
    fibril__http_file_release(f);
}

void fibril__http_file_keep(struct fibril__http_file_cache *cache, struct fibril__http_file *f,
                            size_t max_bytes)
{
    struct fibril__http_file *old = fibril__http_file_find(cache, f->owner, f->path);
    if (old) {
        fibril__http_file_drop(cache, old);
        fibril__http_file_release(old);
    }
    if (f->bytes > max_bytes) {
        return;
    }
    while (cache->bytes + f->bytes > max_bytes) {
        struct fibril__link *least = fibril__list_first(&cache->used);
        fibril__http_file_drop(cache, CONTAINER_OF(least, struct fibril__http_file, used));
    }
    f->refs++;
    f->next = cache->slots[f->hash % SLOTS];
    cache->slots[f->hash % SLOTS] = f;
    fibril__list_push(&cache->used, &f->used);
    cache->bytes += f->bytes;
}
