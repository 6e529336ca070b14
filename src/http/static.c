/* SPDX-License-Identifier: MIT */
/*
 * Files below a directory. A path is resolved by the kernel with no way out of the directory
 * (fibril_open_beneath); names are never glued to a root. Small files come from the cache, with
 * their head, in one send; larger ones by sendfile.
 *
 *     find in the cache, checked within the last second ------------------------------+
 *     else open, fstat: the same as cached? -> checked again --------------------------+-> answer
 *                       small -> read and keep; large -> answer from the descriptor --+
 */
#include "http/static.h"

#include "base/alloc.h"
#include "http/file_cache.h"
#include "http/range.h"
#include "http/request.h"
#include "http/respond_file.h"
#include "http/server.h"
#include "http/token.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 1024, CHECK_NS = 1000000000 };

struct fibril__http_static {
    struct fibril__http_static *next;
    struct fibril_http_server *srv;
    int dir;
    bool dotfiles;
    size_t cache_file_bytes, cache_bytes;
    char *index;
    char *cache_control; /* "Cache-Control: ...\r\n" or "" */
};

/* ---- finding the file ------------------------------------------------------------------------ */

/* The name below the directory, with the index for a folder. False when it is not to be served. */
static bool make_name(const struct fibril__http_static *st, const char *rest, char name[PATH_BYTES])
{
    size_t len = strlen(rest);
    bool folder = len == 0 || rest[len - 1] == '/';
    size_t index = folder ? strlen(st->index) : 0;
    if (len + index + 1 > PATH_BYTES || (folder && index == 0)) {
        return false;
    }
    if (!st->dotfiles && (rest[0] == '.' || strstr(rest, "/."))) {
        return false;
    }
    memcpy(name, rest, len);
    memcpy(name + len, st->index, index);
    name[len + index] = '\0';
    return true;
}

/* What the kernel says about a name that came from outside is mostly "not here". */
static int open_error(int error)
{
    switch (error) {
    case -EACCES:
    case -EPERM: return -EACCES;
    case -EMFILE:
    case -ENFILE:
    case -ENOMEM: return -ENOMEM;
    case -ECANCELED: return error;
    default: return -ENOENT;
    }
}

static ssize_t read_all(int fd, char *content, size_t size)
{
    size_t len = 0;
    while (len < size) {
        ssize_t n = fibril_pread(fd, content + len, size - len, (off_t)len, FIBRIL_FOREVER);
        if (n <= 0) {
            return n < 0 ? n : (ssize_t)len;
        }
        len += (size_t)n;
    }
    return (ssize_t)len;
}

/* Describes the open file, reading it if it is small. */
static int load(struct fibril__http_lane *lane, const struct fibril__http_static *st,
                const char *name, int fd, const struct stat *sb,
                struct fibril__http_file **ret_file)
{
    bool small = sb->st_size <= (off_t)st->cache_file_bytes && st->cache_bytes != 0;
    struct fibril__http_file *f =
        fibril__http_file_new(st, name, sb, small, st->srv->server_field, st->cache_control);
    if (!f) {
        return -ENOMEM;
    }
    f->checked_ns = fibril_now();
    if (small) {
        ssize_t n = read_all(fd, f->content, (size_t)sb->st_size);
        if (n != (ssize_t)sb->st_size) {
            fibril__http_file_release(f);
            return n < 0 ? (int)n : -EIO; /* it changes under our hands */
        }
        fibril__http_file_keep(lane->files, f, st->cache_bytes);
    }
    *ret_file = f;
    return 0;
}

static NOINLINE int redirect_to_folder(struct fibril_http_req *req)
{
    static const char hex[] = "0123456789ABCDEF";
    char location[PATH_BYTES * 3 + 2];
    size_t at = 0;
    for (const char *c = req->path; *c; c++) {
        bool plain = fibril__char_is(*c, FIBRIL__ALPHA | FIBRIL__DIGIT) || strchr("/-._~", *c);
        if (at + 5 > sizeof(location)) {
            return -ENOENT;
        }
        if (plain) {
            location[at++] = *c;
        } else {
            location[at++] = '%';
            location[at++] = hex[(unsigned char)*c >> 4];
            location[at++] = hex[(unsigned char)*c & 15];
        }
    }
    location[at] = '/';
    location[at + 1] = '\0';
    int rc = fibril_http_header(req, "Location", location);
    return rc < 0 ? rc : fibril_http_respond(req, 301, "text/plain", "moved\n", 6);
}

/* With the file open: answers, and closes nothing. */
static int answer_opened(struct fibril_http_req *req, const struct fibril__http_static *st,
                         const char *name, int fd, struct fibril__http_file *known)
{
    struct fibril__http_lane *lane = req->conn->lane;
    struct stat sb;
    int rc = fibril_fstat(fd, &sb);
    if (rc < 0) {
        return rc;
    }
    if (S_ISDIR(sb.st_mode)) {
        return redirect_to_folder(req);
    }
    if (!S_ISREG(sb.st_mode)) {
        return -ENOENT;
    }
    if (known && fibril__http_file_same(known, &sb)) {
        known->checked_ns = fibril_now();
        return fibril__http_respond_file(req, known, fd);
    }
    struct fibril__http_file *file = NULL;
    rc = load(lane, st, name, fd, &sb, &file);
    if (rc < 0) {
        return rc;
    }
    rc = fibril__http_respond_file(req, file, fd);
    fibril__http_file_release(file);
    return rc;
}

static NOINLINE int open_and_answer(struct fibril_http_req *req,
                                    const struct fibril__http_static *st, const char *name,
                                    struct fibril__http_file *known)
{
    int fd =
        fibril_open_beneath(st->dir, name, O_RDONLY | O_NONBLOCK | O_CLOEXEC, 0, FIBRIL_FOREVER);
    if (fd < 0) {
        if (known && open_error(fd) == -ENOENT) {
            fibril__http_file_drop(req->conn->lane->files, known);
        }
        return open_error(fd);
    }
    int rc = answer_opened(req, st, name, fd, known);
    fibril_close(fd);
    return rc;
}

static int serve_file(struct fibril_http_req *req, void *arg)
{
    const struct fibril__http_static *st = arg;
    struct fibril__http_lane *lane = req->conn->lane;
    char name[PATH_BYTES];
    if (!make_name(st, req->params[0], name)) {
        return -ENOENT;
    }
    struct fibril__http_file *known = fibril__http_file_find(lane->files, st, name);
    int rc;
    if (known && (known->checking || req->begun_ns < known->checked_ns + CHECK_NS)) {
        rc = fibril__http_respond_file(req, known, -1);
    } else {
        if (known) {
            known->checking = true;
        }
        rc = open_and_answer(req, st, name, known);
        if (known) {
            known->checking = false;
        }
    }
    if (known) {
        fibril__http_file_release(known);
    }
    return rc;
}

/* ---- setting up ------------------------------------------------------------------------------ */

static void static_free(struct fibril__http_static *st)
{
    if (st->dir >= 0) {
        close(st->dir); /* only ever a starting point: nobody waits on it */
    }
    fibril__free(st->index);
    fibril__free(st->cache_control);
    fibril__free(st);
}

void fibril__http_statics_free(struct fibril__http_static *list)
{
    while (list) {
        struct fibril__http_static *st = list;
        list = st->next;
        static_free(st);
    }
}

static char *cache_control_line(const char *value)
{
    size_t size = value ? strlen(value) + sizeof("Cache-Control: \r\n") : 1;
    char *line = fibril__alloc_zero(size);
    if (line && value) {
        snprintf(line, size, "Cache-Control: %s\r\n", value);
    }
    return line;
}

static bool is_clean(const char *value)
{
    for (; value && *value; value++) {
        if (!fibril__char_is(*value, FIBRIL__VISIBLE) && *value != ' ') {
            return false;
        }
    }
    return true;
}

static int static_new(struct fibril_http_server *srv, const char *dir,
                      const struct fibril_http_static_opts *opts,
                      struct fibril__http_static **ret_st)
{
    struct fibril__http_static *st = fibril__alloc_zero(sizeof(*st));
    if (!st) {
        return -ENOMEM;
    }
    st->srv = srv;
    st->dotfiles = opts->dotfiles;
    st->cache_file_bytes = opts->cache_file_bytes ? opts->cache_file_bytes : 65536;
    st->cache_bytes = opts->cache_bytes ? opts->cache_bytes : 16 << 20;
    st->cache_bytes = opts->cache_bytes == SIZE_MAX ? 0 : st->cache_bytes;
    st->index = fibril__strdup(opts->index ? opts->index : "index.html");
    st->cache_control = cache_control_line(opts->cache_control);
    st->dir = -1;
    int rc = st->index && st->cache_control ? 0 : -ENOMEM;
    if (rc == 0) {
        rc = st->dir = fibril_open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC, 0, FIBRIL_FOREVER);
    }
    if (rc < 0) {
        static_free(st);
        return rc;
    }
    *ret_st = st;
    return 0;
}

/* Folders must be searchable for us: a listing is never read, so that is all. */
static int check_access(int dir)
{
    int fd = fibril_open_beneath(dir, ".", O_PATH | O_DIRECTORY | O_CLOEXEC, 0, FIBRIL_FOREVER);
    return fd < 0 ? fd : fibril_close(fd);
}

static int add_route(struct fibril_http_server *srv, const char *prefix,
                     struct fibril__http_static *st)
{
    size_t len = strlen(prefix);
    char *pattern = fibril__alloc(len + sizeof("{path*}"));
    if (!pattern) {
        return -ENOMEM;
    }
    memcpy(pattern, prefix, len);
    memcpy(pattern + len, "{path*}", sizeof("{path*}"));
    int rc = fibril_http_route(srv, "GET", pattern, serve_file, st);
    fibril__free(pattern);
    return rc;
}

int fibril_http_static(struct fibril_http_server *srv, const char *prefix, const char *dir,
                       const struct fibril_http_static_opts *opts)
{
    static const struct fibril_http_static_opts none;
    size_t len = strlen(prefix);
    opts = opts ? opts : &none;
    if (len == 0 || prefix[len - 1] != '/' || strchr(prefix, '{') ||
        !is_clean(opts->cache_control)) {
        return -EINVAL;
    }
    struct fibril__http_static *st;
    int rc = static_new(srv, dir, opts, &st);
    if (rc < 0) {
        return rc;
    }
    rc = check_access(st->dir);
    rc = rc < 0 ? rc : add_route(srv, prefix, st);
    if (rc < 0) {
        static_free(st);
        return rc;
    }
    st->next = srv->statics;
    srv->statics = st;
    return 0;
}
