/* SPDX-License-Identifier: MIT */
/*
 * The server as its own files see it. What is set up before run (options, routes, listeners) is
 * read by all loops without locks; what changes while it runs belongs to a lane, that is to one
 * loop. The two exceptions are atomics here: the wish to stop, and the table of addresses behind
 * its lock.
 */
#ifndef FIBRIL_HTTP_SERVER_H
#define FIBRIL_HTTP_SERVER_H

#include <fibril/http.h>
#include <fibril/io.h>

#include "http/address.h"
#include "http/limits.h"
#include "http/router.h"

#include <stdatomic.h>

struct fibril__http_lane;

struct fibril__http_listener {
    struct fibril_addr addr; /* as bound; length 0 for a socket that was handed over */
    int *fds;                /* one per lane; the same number in all when it is shared */
    bool shared;             /* one socket for all lanes: closed by the first */
    bool given;              /* handed over: its file is not ours to remove */
};

enum { FIBRIL__HTTP_LISTENERS = 16 };

struct fibril_http_server {
    struct fibril_http_limits limits;         /* nothing is zero any more but per_address_max */
    struct fibril__http_limits parser_limits; /* the same in the parser's words */
    struct fibril__http_router router;
    struct fibril__http_addresses addresses;
    struct fibril__http_static *statics; /* all of them, for free */
    struct fibril__http_listener listeners[FIBRIL__HTTP_LISTENERS];
    struct fibril__http_lane **lanes;
    char *server_field; /* "Server: name\r\n" or "" */
    size_t server_field_len;
    size_t stack_bytes;
    bool daemon;
    bool usual; /* handlers need no options of a spawn */
    void (*on_access)(void *log_arg, const struct fibril_http_access *access);
    void (*on_error)(void *log_arg, const char *text);
    void *log_arg;
    _Atomic int64_t drain_deadline_ns;
    enum fibril_stack stack;
    enum fibril_http_log access_log;
    int access_log_fd, error_log_fd;
    int backlog;
    unsigned listener_count;
    unsigned lane_count;
    bool own_loop; /* opts.loops was 0: the one lane is on the caller's loop */
    _Atomic bool running;
    _Atomic bool stopping; /* release, after drain_deadline_ns; pairs with the lanes' acquire */
    _Atomic bool late;     /* some request was cancelled at the deadline */
    _Atomic bool patient;  /* retired: before `stopping`; see fibril_http_server_retire */
};

/* The share of one lane in a number that is meant for the whole server, at least 1. */
static inline unsigned fibril__http_share(const struct fibril_http_server *srv, unsigned whole)
{
    unsigned share = whole / srv->lane_count + (whole % srv->lane_count != 0);
    return share ? share : 1;
}

/* Fills in the defaults for fields that are zero. */
void fibril__http_limits_complete(struct fibril_http_limits *limits);

/* Says them in the parser's words. */
void fibril__http_limits_translate(const struct fibril_http_limits *limits,
                                   struct fibril__http_limits *ret_limits);

/* Opens the sockets that the lanes beyond the first listen on. */
int fibril__http_listeners_open(struct fibril_http_server *srv);

/* Closes what lane number i listens on (the first also what is shared). MAY PARK. */
void fibril__http_listeners_close(struct fibril_http_server *srv, unsigned i);

#endif
