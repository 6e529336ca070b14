/* SPDX-License-Identifier: MIT */
/*
 * See request.h: making a request out of a parsed head, and what a handler may ask about it.
 */
#include "http/request.h"

#include "http/server.h"
#include "http/uri.h"

#include <errno.h>
#include <string.h>

/* ---- making ---------------------------------------------------------------------------------- */

/* Where the parts of the block begin. */
struct layout {
    size_t slots, params, head, path, marks, host, bytes;
};

/* Whether the path is in normal form as it was sent. */
static bool is_normal(struct fibril__span path)
{
    if (memchr(path.ptr, '%', path.len)) {
        return false;
    }
    for (const char *at = path.ptr, *end = path.ptr + path.len;
         (at = memchr(at, '/', (size_t)(end - at))) != NULL; at++) {
        if (end - at > 1 && (at[1] == '/' || at[1] == '.')) {
            return false;
        }
    }
    return true;
}

static struct layout lay_out(const struct fibril__http_head *head, unsigned params)
{
    struct layout l;
    l.slots = sizeof(struct fibril_http_req);
    l.params = l.slots + head->field_count * sizeof(struct fibril__http_slot);
    l.params = (l.params + 7) & ~(size_t)7;
    l.head = l.params + params * sizeof(char *);
    l.path = l.head + head->bytes + 1;
    l.marks = l.path + head->path.len + 1;
    l.host = l.marks + (params ? head->path.len + 1 : 0);
    l.bytes = l.host + (head->form == FIBRIL__HTTP_ABSOLUTE ? head->authority.len + 1 : 0);
    return l;
}

/* A span of the receive buffer as a string in the copy: its end is overwritten by a NUL. */
static const char *cut(char *copy, const char *base, struct fibril__span span)
{
    size_t at = (size_t)(span.ptr - base);
    copy[at + span.len] = '\0';
    return copy + at;
}

static void set_slots(struct fibril_http_req *req, struct fibril__http_slot *slots, char *copy,
                      const char *base, const struct fibril__http_head *head)
{
    for (size_t i = 0; i < head->field_count; i++) {
        const struct fibril__http_field *f = &head->fields[i];
        uint32_t name = (uint32_t)(f->name.ptr - base);
        /* An empty value is the NUL behind the name. */
        uint32_t value =
            f->value.len ? (uint32_t)(f->value.ptr - base) : name + (uint32_t)f->name.len;
        copy[name + f->name.len] = '\0';
        copy[value + f->value.len] = '\0';
        slots[i] = (struct fibril__http_slot){name, value, (uint16_t)f->name.len, f->id, f->flags};
    }
    req->slots = slots;
    req->slot_count = (uint16_t)head->field_count;
    req->head = copy;
}

static int set_path(struct fibril_http_req *req, char *path, const struct fibril__http_head *head)
{
    size_t len = head->path.len;
    if (head->form == FIBRIL__HTTP_ASTERISK || head->form == FIBRIL__HTTP_AUTHORITY ||
        is_normal(head->path)) {
        memcpy(path, head->path.ptr ? head->path.ptr : "", len);
    } else if (fibril__http_path_normalise(head->path, path, len, &len) < 0) {
        return 400;
    }
    path[len] = '\0';
    req->path = path;
    req->path_len = (uint32_t)len;
    return 0;
}

static void set_host(struct fibril_http_req *req, char *room, const struct fibril__http_head *head)
{
    req->host = "";
    if (head->form == FIBRIL__HTTP_ABSOLUTE) {
        memcpy(room, head->authority.ptr, head->authority.len);
        room[head->authority.len] = '\0';
        req->host = room;
        return;
    }
    const char *value = fibril__http_req_known(req, FIBRIL__FIELD_HOST);
    if (value) {
        req->host = value;
    }
}

static void set_body(struct fibril_http_req *req, const struct fibril__http_head *head)
{
    req->limit = req->conn->lane->srv->limits.body_bytes;
    if (head->chunked) {
        req->length = -1;
        req->flags |= FIBRIL__REQ_CHUNKED_IN;
    } else {
        req->length = head->content_length > 0 ? head->content_length : 0;
        req->left = (uint64_t)req->length;
    }
    if (head->expect_continue && req->length != 0) {
        req->flags |= FIBRIL__REQ_EXPECT;
    }
    if (req->length == 0) {
        req->flags |= FIBRIL__REQ_BODY_DONE;
    }
}

int fibril__http_req_new(struct fibril__http_conn *conn, const struct fibril__http_head *head,
                         int64_t begun_ns, struct fibril_http_req **ret_req)
{
    struct layout l = lay_out(head, conn->lane->srv->router.params_max);
    char *block = fibril__http_block_take(&conn->lane->pool, l.bytes);
    if (!block) {
        return 503;
    }
    struct fibril_http_req *req = (struct fibril_http_req *)(void *)block;
    memset(req, 0, sizeof(*req));
    req->conn = conn;
    req->block_bytes = (uint32_t)l.bytes;
    req->begun_ns = begun_ns;
    req->status = 200;
    req->method_id = head->method_id;
    req->minor = head->minor;
    req->params = (const char **)(void *)(block + l.params);
    const char *base = conn->in + conn->in_at;
    char *copy = block + l.head;
    memcpy(copy, base, head->bytes);
    copy[head->bytes] = '\0';
    req->method = cut(copy, base, head->method);
    req->target = cut(copy, base, head->target);
    req->query = head->query.ptr ? copy + (head->query.ptr - base) : NULL;
    set_slots(req, (struct fibril__http_slot *)(void *)(block + l.slots), copy, base, head);
    set_host(req, block + l.host, head);
    set_body(req, head);
    req->flags |= head->method_id == FIBRIL__HTTP_HEAD ? FIBRIL__REQ_HEAD : 0;
    req->flags |= head->keep_alive ? FIBRIL__REQ_KEEP : 0;
    int rc = set_path(req, block + l.path, head);
    if (rc != 0) {
        fibril__http_req_free(req);
        return rc;
    }
    *ret_req = req;
    return 0;
}

void fibril__http_req_free(struct fibril_http_req *req)
{
    fibril__http_body_free(req);
    fibril__http_text_free(req, &req->extra);
    fibril__http_text_free(req, &req->trailers_out);
    fibril__http_block_give(&req->conn->lane->pool, req, req->block_bytes);
}

/* The marks are a copy of the path in which what the names stand for ends with a NUL. */
void fibril__http_req_matched(struct fibril_http_req *req, const struct fibril__http_match *match)
{
    req->pattern = match->pattern;
    if (match->pattern->param_count == 0) {
        return;
    }
    char *marks = (char *)(uintptr_t)req->path + req->path_len + 1;
    memcpy(marks, req->path, req->path_len + 1);
    for (unsigned i = 0; i < match->pattern->param_count; i++) {
        req->params[i] = marks + match->begin[i];
        marks[match->begin[i] + match->len[i]] = '\0';
    }
}

/* ---- growing texts --------------------------------------------------------------------------- */

int fibril__http_text_add(struct fibril_http_req *req, struct fibril__http_text *text,
                          const char *bytes, size_t len, size_t max)
{
    struct fibril__http_pool *pool = &req->conn->lane->pool;
    if (len > max || text->len > max - len) {
        return -ENOBUFS;
    }
    if (len == 0) {
        return 0;
    }
    if (text->len + len > text->bytes) {
        size_t wanted = text->bytes ? text->bytes * 2u : FIBRIL__HTTP_BLOCK;
        while (wanted < text->len + len) {
            wanted *= 2;
        }
        char *ptr = fibril__http_block_take(pool, wanted);
        if (!ptr) {
            return -ENOMEM;
        }
        if (text->len) {
            memcpy(ptr, text->ptr, text->len);
        }
        fibril__http_block_give(pool, text->ptr, text->bytes);
        text->ptr = ptr;
        text->bytes = (uint32_t)wanted;
    }
    memcpy(text->ptr + text->len, bytes, len);
    text->len += (uint32_t)len;
    return 0;
}

void fibril__http_text_free(struct fibril_http_req *req, struct fibril__http_text *text)
{
    fibril__http_block_give(&req->conn->lane->pool, text->ptr, text->bytes);
    *text = (struct fibril__http_text){.len = 0};
}

/* ---- what a handler may ask ------------------------------------------------------------------ */

const char *fibril_http_method(const struct fibril_http_req *req)
{
    return req->method;
}

const char *fibril_http_target(const struct fibril_http_req *req)
{
    return req->target;
}

const char *fibril_http_path(const struct fibril_http_req *req)
{
    return req->path;
}

const char *fibril_http_query(const struct fibril_http_req *req)
{
    return req->query;
}

/* Whether an encoded name is the plain one. It is compared a byte at a time, so needs no room. */
static bool query_name_is(struct fibril__span encoded, const char *name)
{
    for (size_t i = 0; i < encoded.len; name++) {
        size_t len = encoded.ptr[i] == '%' ? 3 : 1;
        char c;
        size_t one;
        struct fibril__span piece = {encoded.ptr + i, len};
        if (i + len > encoded.len || *name == '\0' ||
            fibril__http_percent_decode(piece, true, &c, 1, &one) < 0 || c != *name) {
            return false;
        }
        i += len;
    }
    return *name == '\0';
}

ssize_t fibril_http_query_get(const struct fibril_http_req *req, const char *name, char *ret_value,
                              size_t size)
{
    struct fibril__span query = {req->query, req->query ? strlen(req->query) : 0};
    struct fibril__span key, value;
    while (query.len > 0 && fibril__http_query_next(&query, &key, &value)) {
        if (!query_name_is(key, name)) {
            continue;
        }
        size_t len = 0;
        int rc = size == 0 ? -ENOBUFS : 0;
        if (rc == 0 && value.ptr) {
            rc = fibril__http_percent_decode(value, true, ret_value, size - 1, &len);
        }
        if (rc < 0) {
            return rc == -ENOBUFS ? -ENOSPC : rc;
        }
        ret_value[len] = '\0';
        return (ssize_t)len;
    }
    return -ENOENT;
}

const char *fibril_http_param(const struct fibril_http_req *req, const char *name)
{
    unsigned param = 0;
    for (unsigned i = 0; req->pattern && i < req->pattern->segment_count; i++) {
        const struct fibril__http_segment *s = &req->pattern->segments[i];
        if (s->kind == 0) {
            continue;
        }
        if (strcmp(s->text, name) == 0) {
            return req->params[param];
        }
        param++;
    }
    return NULL;
}

const char *fibril__http_req_known(const struct fibril_http_req *req, enum fibril__http_id id)
{
    for (unsigned i = 0; i < req->slot_count; i++) {
        if (req->slots[i].id == id) {
            return req->head + req->slots[i].value;
        }
    }
    return NULL;
}

const char *fibril_http_header_get(const struct fibril_http_req *req, const char *name)
{
    struct fibril__span wanted = {name, strlen(name)};
    for (unsigned i = 0; i < req->slot_count; i++) {
        const struct fibril__http_slot *s = &req->slots[i];
        struct fibril__span have = {req->head + s->name, s->name_len};
        if (fibril__span_equal_nocase(wanted, have)) {
            return req->head + s->value;
        }
    }
    return NULL;
}

bool fibril_http_header_at(const struct fibril_http_req *req, size_t i, const char **ret_name,
                           const char **ret_value)
{
    if (i >= req->slot_count) {
        return false;
    }
    *ret_name = req->head + req->slots[i].name;
    *ret_value = req->head + req->slots[i].value;
    return true;
}

bool fibril_http_header_has_underscore(const struct fibril_http_req *req, size_t i)
{
    return i < req->slot_count && (req->slots[i].flags & FIBRIL__FIELD_HAS_UNDERSCORE) != 0;
}

const char *fibril_http_host(const struct fibril_http_req *req)
{
    return req->host;
}

int fibril_http_peer(const struct fibril_http_req *req, char *ret_text, size_t size)
{
    return fibril__http_peer_format(&req->conn->peer, true, ret_text, size);
}

int fibril_http_version_minor(const struct fibril_http_req *req)
{
    return req->minor;
}

bool fibril_http_keep_alive(const struct fibril_http_req *req)
{
    return (req->flags & FIBRIL__REQ_KEEP) && !req->conn->lane->draining;
}

struct fibril_http_server *fibril_http_server_of(const struct fibril_http_req *req)
{
    return req->conn->lane->srv;
}
