/* SPDX-License-Identifier: MIT */
/*
 * From method and path to handler. Patterns without names are found through a hash table; the
 * others are few and are tried in order of how specific they are. It knows nothing of requests.
 *
 * A trie was rejected: it pays from hundreds of patterns with names on, and a list that is read
 * from top to bottom shows at a glance who wins.
 */
#ifndef FIBRIL_HTTP_ROUTER_H
#define FIBRIL_HTTP_ROUTER_H

#include <fibril/http.h>

#include "http/parse.h"

enum { FIBRIL__HTTP_PARAMS = 16 }; /* names in one pattern */

/* What one method of a pattern does. */
struct fibril__http_route {
    struct fibril__http_route *next; /* of the same pattern */
    char *method;                    /* NULL: any */
    fibril_http_handler *handler;
    void *arg;
};

struct fibril__http_pattern {
    struct fibril__http_pattern *next; /* in the hash chain, or in order of specificity */
    struct fibril__http_route *routes; /* the one for any method last */
    char *text;                        /* the pattern; segments point into it, cut by NULs */
    struct fibril__http_segment {
        const char *text; /* fixed text, or the name */
        uint32_t len;
        uint8_t kind; /* enum of router.c */
    } * segments;
    uint16_t segment_count, param_count;
    uint32_t hash;
};

enum { FIBRIL__HTTP_ROUTER_SLOTS = 256 };

struct fibril__http_router {
    struct fibril__http_pattern *fixed[FIBRIL__HTTP_ROUTER_SLOTS];
    struct fibril__http_pattern *named;
    unsigned params_max; /* most names of any pattern */
};

/* Where in the path a name's part lies. */
struct fibril__http_match {
    const struct fibril__http_pattern *pattern;
    const struct fibril__http_route *route;
    uint32_t begin[FIBRIL__HTTP_PARAMS], len[FIBRIL__HTTP_PARAMS];
};

int fibril__http_router_add(struct fibril__http_router *r, const char *method, const char *pattern,
                            fibril_http_handler *handler, void *arg);

/* Finds the route for a method and a normalised path: 0; 404 for an unknown path; 405, or 204 for
 * OPTIONS, when the path has other methods only. */
int fibril__http_router_find(const struct fibril__http_router *r, const char *method,
                             uint8_t method_id, struct fibril__span path,
                             struct fibril__http_match *ret_match);

/* The value of Allow for a path, after a 405 or 204; cut short when there is too little room. */
void fibril__http_router_allow(const struct fibril__http_router *r, struct fibril__span path,
                               char *ret_allow, size_t size);

void fibril__http_router_fini(struct fibril__http_router *r);

#endif
