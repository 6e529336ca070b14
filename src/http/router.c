/* SPDX-License-Identifier: MIT */
/*
 * See router.h. A pattern is compared segment by segment: fixed text, {name} for one segment,
 * {name*} for the rest. More specific means: at the first segment where two patterns differ in
 * kind, fixed text comes before a name and a name before a rest. Patterns that say the same are one
 * pattern with several routes.
 */
#include "http/router.h"

#include "base/alloc.h"
#include "http/token.h"

#include <errno.h>
#include <string.h>

enum { FIXED, NAME, REST };

enum { SEGMENTS_MAX = 64 };

static uint32_t hash_of(struct fibril__span path)
{
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < path.len; i++) {
        hash = (hash ^ (uint8_t)path.ptr[i]) * 16777619u;
    }
    return hash ^ (hash >> 15);
}

/* ---- reading patterns ------------------------------------------------------------------------ */

static bool is_name_byte(char c)
{
    return fibril__char_is(c, FIBRIL__ALPHA | FIBRIL__DIGIT | FIBRIL__UNDERSCORE);
}

/* "{name}" or "{name*}", cut at its end already. */
static int read_name(struct fibril__http_segment *s, char *text, bool last)
{
    size_t len = strlen(text);
    if (len < 3 || text[len - 1] != '}') {
        return -EINVAL;
    }
    bool rest = text[len - 2] == '*';
    size_t name = len - 2 - rest;
    for (size_t i = 1; i <= name; i++) {
        if (!is_name_byte(text[i])) {
            return -EINVAL;
        }
    }
    if (name == 0 || (rest && !last)) {
        return -EINVAL;
    }
    text[name + 1] = '\0';
    *s = (struct fibril__http_segment){text + 1, (uint32_t)name, rest ? REST : NAME};
    return 0;
}

static int read_segment(struct fibril__http_segment *s, char *text, bool last)
{
    if (text[0] == '{') {
        return read_name(s, text, last);
    }
    if (strpbrk(text, "{}") || strcmp(text, ".") == 0 || strcmp(text, "..") == 0 ||
        (text[0] == '\0' && !last)) {
        return -EINVAL;
    }
    *s = (struct fibril__http_segment){text, (uint32_t)strlen(text), FIXED};
    return 0;
}

/* Cuts p->text, which begins with a slash, into segments. */
static int read_pattern(struct fibril__http_pattern *p)
{
    char *at = p->text + 1;
    for (bool last = false; !last;) {
        if (p->segment_count == SEGMENTS_MAX) {
            return -EINVAL;
        }
        char *slash = strchr(at, '/');
        last = slash == NULL;
        if (slash) {
            *slash = '\0';
        }
        struct fibril__http_segment *s = &p->segments[p->segment_count];
        int rc = read_segment(s, at, last);
        if (rc < 0) {
            return rc;
        }
        p->segment_count++;
        p->param_count = (uint16_t)(p->param_count + (s->kind != FIXED));
        at = slash + 1;
    }
    return p->param_count <= FIBRIL__HTTP_PARAMS ? 0 : -EINVAL;
}

static void pattern_free(struct fibril__http_pattern *p)
{
    while (p->routes) {
        struct fibril__http_route *route = p->routes;
        p->routes = route->next;
        fibril__free(route->method);
        fibril__free(route);
    }
    fibril__free(p->text);
    fibril__free(p->segments);
    fibril__free(p);
}

static int pattern_new(const char *text, struct fibril__http_pattern **ret_pattern)
{
    size_t segments = 1;
    for (const char *at = text; *at; at++) {
        segments += *at == '/';
    }
    struct fibril__http_pattern *p = fibril__alloc_zero(sizeof(*p));
    if (!p) {
        return -ENOMEM;
    }
    p->text = fibril__strdup(text);
    p->segments = fibril__alloc_zero(segments * sizeof(*p->segments));
    int rc = p->text && p->segments ? read_pattern(p) : -ENOMEM;
    if (rc < 0) {
        pattern_free(p);
        return rc;
    }
    p->hash = hash_of((struct fibril__span){text, strlen(text)});
    *ret_pattern = p;
    return 0;
}

/* ---- adding ---------------------------------------------------------------------------------- */

/* Below 0 when a is to be tried first, 0 when both match the same paths. */
static int compare(const struct fibril__http_pattern *a, const struct fibril__http_pattern *b)
{
    for (unsigned i = 0; i < a->segment_count && i < b->segment_count; i++) {
        const struct fibril__http_segment *x = &a->segments[i];
        const struct fibril__http_segment *y = &b->segments[i];
        if (x->kind != y->kind) {
            return x->kind - y->kind;
        }
        int order = x->kind == FIXED ? strcmp(x->text, y->text) : 0;
        if (order) {
            return order;
        }
    }
    return b->segment_count - a->segment_count;
}

/* The place in the lists where the pattern is, or belongs. */
static struct fibril__http_pattern **place_of(struct fibril__http_router *r,
                                              const struct fibril__http_pattern *p, bool *ret_there)
{
    struct fibril__http_pattern **at =
        p->param_count ? &r->named : &r->fixed[p->hash % FIBRIL__HTTP_ROUTER_SLOTS];
    while (*at && compare(*at, p) < 0) {
        at = &(*at)->next;
    }
    *ret_there = *at && compare(*at, p) == 0;
    return at;
}

static int route_new(const char *method, fibril_http_handler *handler, void *arg,
                     struct fibril__http_route **ret_route)
{
    struct fibril__http_route *route = fibril__alloc_zero(sizeof(*route));
    if (!route) {
        return -ENOMEM;
    }
    *route = (struct fibril__http_route){.handler = handler, .arg = arg};
    if (method) {
        route->method = fibril__strdup(method);
        if (!route->method) {
            fibril__free(route);
            return -ENOMEM;
        }
    }
    *ret_route = route;
    return 0;
}

static bool same_method(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* Puts a route into a pattern: those with a method before the one without. */
static int add_route(struct fibril__http_pattern *p, struct fibril__http_route *route)
{
    struct fibril__http_route **at = &p->routes;
    while (*at) {
        if (same_method((*at)->method, route->method)) {
            return -EEXIST;
        }
        if (!(*at)->method) {
            break;
        }
        at = &(*at)->next;
    }
    route->next = *at;
    *at = route;
    return 0;
}

static void route_free(struct fibril__http_route *route)
{
    fibril__free(route->method);
    fibril__free(route);
}

int fibril__http_router_add(struct fibril__http_router *r, const char *method, const char *pattern,
                            fibril_http_handler *handler, void *arg)
{
    struct fibril__span name = {method, method ? strlen(method) : 0};
    if (!handler || !pattern || pattern[0] != '/' || (method && !fibril__is_token(name))) {
        return -EINVAL;
    }
    struct fibril__http_pattern *p;
    int rc = pattern_new(pattern, &p);
    if (rc < 0) {
        return rc;
    }
    struct fibril__http_route *route;
    rc = route_new(method, handler, arg, &route);
    if (rc < 0) {
        pattern_free(p);
        return rc;
    }
    bool there;
    struct fibril__http_pattern **at = place_of(r, p, &there);
    rc = add_route(there ? *at : p, route);
    if (rc < 0) {
        route_free(route);
    }
    if (there) {
        pattern_free(p);
    } else {
        p->next = *at;
        *at = p;
        r->params_max = p->param_count > r->params_max ? p->param_count : r->params_max;
    }
    return rc;
}

/* ---- finding --------------------------------------------------------------------------------- */

/* The segment of the path that begins at `at`. */
static uint32_t segment_len(struct fibril__span path, size_t at)
{
    const char *slash = memchr(path.ptr + at, '/', path.len - at);
    return (uint32_t)(slash ? (size_t)(slash - path.ptr) - at : path.len - at);
}

static bool matches_named(const struct fibril__http_pattern *p, struct fibril__span path,
                          struct fibril__http_match *m)
{
    size_t at = 0; /* of the slash before the segment at hand */
    unsigned params = 0;
    for (unsigned i = 0; i < p->segment_count; i++) {
        const struct fibril__http_segment *s = &p->segments[i];
        if (at >= path.len) {
            return false;
        }
        at++;
        uint32_t len = s->kind == REST ? (uint32_t)(path.len - at) : segment_len(path, at);
        if (s->kind == FIXED && (len != s->len || memcmp(path.ptr + at, s->text, len) != 0)) {
            return false;
        }
        if (s->kind == NAME && len == 0) {
            return false;
        }
        if (s->kind != FIXED) {
            m->begin[params] = (uint32_t)at;
            m->len[params++] = len;
        }
        at += len;
    }
    return at == path.len;
}

static bool matches_fixed(const struct fibril__http_pattern *p, struct fibril__span path)
{
    size_t at = 0;
    for (unsigned i = 0; i < p->segment_count; i++) {
        const struct fibril__http_segment *s = &p->segments[i];
        if (path.len - at < s->len + 1u || path.ptr[at] != '/' ||
            memcmp(path.ptr + at + 1, s->text, s->len) != 0) {
            return false;
        }
        at += s->len + 1u;
    }
    return at == path.len;
}

static const struct fibril__http_route *route_for(const struct fibril__http_pattern *p,
                                                  const char *method, uint8_t method_id)
{
    for (const struct fibril__http_route *r = p->routes; r; r = r->next) {
        if (!r->method || strcmp(r->method, method) == 0) {
            return r;
        }
    }
    return method_id == FIBRIL__HTTP_HEAD ? route_for(p, "GET", FIBRIL__HTTP_GET) : NULL;
}

/* The next pattern after `p` (NULL: the first) that matches the path. */
static const struct fibril__http_pattern *next_match(const struct fibril__http_router *r,
                                                     struct fibril__span path, uint32_t hash,
                                                     const struct fibril__http_pattern *p,
                                                     struct fibril__http_match *m)
{
    if (!p) {
        for (p = r->fixed[hash % FIBRIL__HTTP_ROUTER_SLOTS]; p; p = p->next) {
            if (p->hash == hash && matches_fixed(p, path)) {
                return p;
            }
        }
        p = r->named;
    } else {
        p = p->param_count ? p->next : r->named;
    }
    while (p && !matches_named(p, path, m)) {
        p = p->next;
    }
    return p;
}

int fibril__http_router_find(const struct fibril__http_router *r, const char *method,
                             uint8_t method_id, struct fibril__span path,
                             struct fibril__http_match *ret_match)
{
    uint32_t hash = hash_of(path);
    const struct fibril__http_pattern *p = NULL;
    bool known = false;
    while ((p = next_match(r, path, hash, p, ret_match)) != NULL) {
        ret_match->pattern = p;
        ret_match->route = route_for(p, method, method_id);
        if (ret_match->route) {
            return 0;
        }
        known = true;
    }
    if (!known) {
        return 404;
    }
    return method_id == FIBRIL__HTTP_OPTIONS ? 204 : 405;
}

/* ---- Allow ----------------------------------------------------------------------------------- */

static bool list_has(const char *list, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = list; (at = strstr(at, word)) != NULL; at += len) {
        bool begins = at == list || at[-1] == ' ';
        if (begins && (at[len] == '\0' || at[len] == ',')) {
            return true;
        }
    }
    return false;
}

static void list_add(char *list, size_t size, const char *word)
{
    size_t at = strlen(list), len = strlen(word);
    if (list_has(list, word) || at + len + 3 > size) {
        return;
    }
    if (at > 0) {
        memcpy(list + at, ", ", 2);
        at += 2;
    }
    memcpy(list + at, word, len + 1);
}

void fibril__http_router_allow(const struct fibril__http_router *r, struct fibril__span path,
                               char *ret_allow, size_t size)
{
    struct fibril__http_match m;
    uint32_t hash = hash_of(path);
    const struct fibril__http_pattern *p = NULL;
    ret_allow[0] = '\0';
    while ((p = next_match(r, path, hash, p, &m)) != NULL) {
        for (const struct fibril__http_route *route = p->routes; route; route = route->next) {
            if (route->method) {
                list_add(ret_allow, size, route->method);
            }
        }
    }
    if (list_has(ret_allow, "GET")) {
        list_add(ret_allow, size, "HEAD");
    }
    list_add(ret_allow, size, "OPTIONS");
}

static void free_list(struct fibril__http_pattern **list)
{
    while (*list) {
        struct fibril__http_pattern *p = *list;
        *list = p->next;
        pattern_free(p);
    }
}

void fibril__http_router_fini(struct fibril__http_router *r)
{
    for (unsigned i = 0; i < FIBRIL__HTTP_ROUTER_SLOTS; i++) {
        free_list(&r->fixed[i]);
    }
    free_list(&r->named);
}
