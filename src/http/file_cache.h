/* SPDX-License-Identifier: MIT */
/*
 * Small files in memory, with the head of their response ready made, per loop and so without locks.
 * What is here was true at `checked_ns`; static.c looks again after a second, one request at a
 * time, while the others are served what is known.
 *
 * A file is kept until it is the least recently used one and room is needed; one that is being sent
 * stays until its last user lets go. Watching the directory (inotify) was rejected: it needs a
 * descriptor per directory and still misses network file systems.
 */
#ifndef FIBRIL_HTTP_FILE_CACHE_H
#define FIBRIL_HTTP_FILE_CACHE_H

#include "base/list.h"
#include "http/span.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct fibril__http_file {
    struct fibril__http_file *next; /* in its hash chain */
    struct fibril__link used;       /* in the list of all, the least recently used first */
    const void *owner;              /* which folder it is from */
    char *path;                     /* below that folder */
    uint32_t hash, refs;            /* users, the cache included */
    bool checking;                  /* somebody looks whether it is still so */
    int64_t checked_ns;
    uint64_t inode, device, size;
    int64_t mtime_ns;
    struct fibril__span head; /* of a 200: status line and fields that do not change */
    struct fibril__span etag, modified, type;
    char *content; /* NULL: too large to keep */
    size_t bytes;  /* of this block, content included */
};

struct fibril__http_file_cache;

int fibril__http_file_cache_new(struct fibril__http_file_cache **ret_cache);
void fibril__http_file_cache_free(struct fibril__http_file_cache *cache);

/* Returns the file and a use of it, or NULL. */
struct fibril__http_file *fibril__http_file_find(struct fibril__http_file_cache *cache,
                                                 const void *owner, const char *path);

/*
 * Makes a description of a file, with room for its content if asked, and one use of it.
 * server_field and cache_control are header lines or "". NULL without memory.
 */
struct fibril__http_file *fibril__http_file_new(const void *owner, const char *path,
                                                const struct stat *st, bool with_content,
                                                const char *server_field,
                                                const char *cache_control);

/* Whether that is still the same file with the same content. */
bool fibril__http_file_same(const struct fibril__http_file *file, const struct stat *st);

/* Keeps it, in the place of any other of that name, at most max_bytes in all. */
void fibril__http_file_keep(struct fibril__http_file_cache *cache, struct fibril__http_file *file,
                            size_t max_bytes);

/* Forgets it, if it is kept. */
void fibril__http_file_drop(struct fibril__http_file_cache *cache, struct fibril__http_file *file);

/* Ends a use. */
void fibril__http_file_release(struct fibril__http_file *file);

#endif
