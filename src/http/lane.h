/* SPDX-License-Identifier: MIT */
/*
 * A lane is what one loop has of a server: its connections, memory, clock texts, figures and log
 * buffer. Everything here is touched by that loop only, so there are no locks; other threads may
 * read the figures, which is why those are written with relaxed atomic stores by their one writer.
 *
 *     lane fibril       lives as long as the lane; waits on the waker; closes doomed connections;
 * drains acceptors         one fibril per listener flusher           sends what a parked handler
 * left in a buffer, see out.c log writer        see log.c request fibrils   see serve.c
 */
#ifndef FIBRIL_HTTP_LANE_H
#define FIBRIL_HTTP_LANE_H

#include <fibril/embed.h>
#include <fibril/http.h>

#include "base/list.h"
#include "http/date.h"
#include "http/log.h"
#include "http/pool.h"

struct fibril_http_server;
struct fibril__http_file_cache;

enum {
    FIBRIL__HTTP_LOG_TIME = 20, /* "22/Nov/2026:19:00:00" */
    FIBRIL__HTTP_STAMP = 40,    /* "Date: ...\r\n" */
};

struct fibril__http_lane {
    struct fibril_http_server *srv;
    unsigned index;
    struct fibril_waker *waker;      /* of the lane fibril; any thread */
    struct fibril_event *room;       /* a connection was closed: paused acceptors try again */
    struct fibril_event *held_event; /* `held` is not empty */
    struct fibril__http_pool pool;
    struct fibril__list idle;    /* connections without a fibril, the longest waiting first */
    struct fibril__list busy;    /* connections with one */
    struct fibril__list ready;   /* to get one, when fewer are starting */
    unsigned starting;           /* fibrils of connections that have not begun */
    struct fibril__list leaving; /* idle ones that were evicted and are still in the kernel's hands
                                  */
    struct fibril__list doomed;  /* to be closed by the lane fibril */
    struct fibril__list held;    /* by held_link: a handler runs and earlier responses are unsent */
    struct fibril__http_scratch *scratch; /* free parsers */
    struct fibril__http_file_cache *files;
    struct fibril__http_log_buffer log;
    int reserve_fd; /* given up while accepting pauses, so that handlers can go on */
    unsigned connections_max, handlers_max; /* this lane's share */
    struct fibril__http_acceptor {
        struct fibril__http_lane *lane;
        int fd;
        struct fibril *fibril;
    } acceptors[16]; /* one per listener */
    struct fibril *flusher;
    bool draining;  /* no more keep-alive */
    bool patient;   /* but idle connections may stay until their next request */
    bool killing;   /* the deadline of the drain has passed */
    int64_t second; /* since 1970, of the texts below */
    size_t stamp_len;
    char stamp[FIBRIL__HTTP_STAMP];
    char log_time[FIBRIL__HTTP_LOG_TIME + 1];
    uint64_t refusing; /* connections over a cap that are being told so */
    struct fibril_http_stats stats;
};

/* Adds to a figure of the lane. */
#define FIBRIL__COUNT(lane, field, n) fibril__http_count(&(lane)->stats.field, (uint64_t)(n))

static inline void fibril__http_count(uint64_t *figure, uint64_t n)
{
    __atomic_store_n(figure, __atomic_load_n(figure, __ATOMIC_RELAXED) + n, __ATOMIC_RELAXED);
}

int fibril__http_lane_new(struct fibril_http_server *srv, unsigned index,
                          struct fibril__http_lane **ret_lane);
void fibril__http_lane_free(struct fibril__http_lane *lane);

/* What the lane fibril runs, its argument the lane: serves until the server is stopped and drained.
 */
int fibril__http_lane_run(void *arg);

/* What an acceptor runs, its argument a struct fibril__http_acceptor: ends when it is cancelled,
 * after taking in who waits already. */
int fibril__http_accept_run(void *arg);

/* "Date: ...\r\n" of now in lane->stamp, and lane->log_time. Renewed once a second. */
void fibril__http_lane_stamp(struct fibril__http_lane *lane);

/* Opens or closes the reserve descriptor. The latter MAY PARK. */
void fibril__http_reserve_open(struct fibril__http_lane *lane);
void fibril__http_reserve_close(struct fibril__http_lane *lane);

#endif
