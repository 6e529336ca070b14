/* SPDX-License-Identifier: MIT */
/*
 * A connection. Between requests it is this record alone, at most 256 bytes: no stack, no buffer; a
 * watch waits for its next byte.
 *
 *   accepted -> IDLE -- readable --> BUSY: a fibril per request (serve.c) --+
 *                ^          |         ^                                     |
 *                |          +-> READY-+ one of those before has begun       |
 *                +-- response sent, nothing more has been received ---------+
 *                |                                                          |
 *                +-- late --> doomed: closed by the lane fibril             +--> closed
 *
 * Invariant: a connection is in exactly one of its lane's lists idle, ready, busy and doomed; while
 * busy it has one fibril, which alone touches its buffers (and the flusher, see out.h).
 */
#ifndef FIBRIL_HTTP_CONN_H
#define FIBRIL_HTTP_CONN_H

#include <fibril/embed.h>
#include <fibril/io.h>

#include "base/list.h"
#include "http/address.h"
#include "http/lane.h"

enum fibril__http_conn_flags {
    FIBRIL__CONN_FRESH = 1u << 0,    /* no request yet */
    FIBRIL__CONN_FLUSHING = 1u << 1, /* the flusher is sending `out` */
    FIBRIL__CONN_COUNTED = 1u << 2,  /* in the table of addresses */
    FIBRIL__CONN_HELD = 1u << 3,     /* in the lane's list of held ones */
    FIBRIL__CONN_EVICTED = 1u << 5,  /* idle, and told to go to make room */
    FIBRIL__CONN_REFUSED = 1u << 4,  /* over a cap: gets a 503 and is closed */
};

struct fibril__http_conn {
    struct fibril_watch watch; /* while idle */
    struct fibril__link link;  /* idle, ready, busy or doomed */
    struct fibril__http_lane *lane;
    union {
        struct fibril *fibril; /* while busy: who serves it, NULL until it runs */
        int64_t idle_since;
    };
    int64_t born_ns;
    char *in;  /* received and not used up: in[in_at .. in_len) */
    char *out; /* to be sent: out[0 .. out_len), of FIBRIL__HTTP_BUFFER bytes */
    uint32_t in_at, in_len, in_bytes;
    uint16_t out_len;
    uint16_t held_len; /* of it: responses that are complete, see out.h */
    uint16_t chunk_at; /* where in it an unfinished chunk begins, see response.c */
    uint8_t flags;
    uint8_t error;     /* what broke it, a positive errno below 256; 0: nothing */
    uint32_t requests; /* begun so far */
    int fd;
    struct fibril__http_peer peer;
};

_Static_assert(sizeof(struct fibril__http_conn) <= 256, "an idle connection is to cost 256 bytes");

/* Takes over an accepted descriptor and begins to serve it; whatever fails closes it. MAY PARK. */
void fibril__http_conn_start(struct fibril__http_lane *lane, int fd, const struct fibril_addr *peer,
                             uint8_t flags);

/* Gives the buffers back and waits for the next byte without a fibril. The caller's fibril must not
 * touch the connection any more. */
void fibril__http_conn_idle(struct fibril__http_conn *conn, int64_t deadline_ns);

/* Goes on in a fibril of its own, from the callers's one, which then lets go. */
void fibril__http_conn_spawn(struct fibril__http_conn *conn);

/* The first thing that fibril calls: others may follow now. */
void fibril__http_conn_started(struct fibril__http_conn *conn);

/* Closes it and frees the record. MAY PARK. */
void fibril__http_conn_close(struct fibril__http_conn *conn);

/* Says that no more comes, reads on for a while so that the peer sees what it was told, and closes.
 * MAY PARK. */
void fibril__http_conn_linger(struct fibril__http_conn *conn);

/* Closes an idle connection to make room: now, or as soon as the kernel lets go of it, unless a
 * request comes first. MAY PARK. */
void fibril__http_conn_evict(struct fibril__http_conn *conn);

/* Takes an idle connection out of its wait: true when it is the caller's; false when it will be
 * served or closed by somebody else. */
bool fibril__http_conn_wake(struct fibril__http_conn *conn);

/* Receives into `in`, making room: the number of bytes, 0 at the end, -errno. MAY PARK. */
ssize_t fibril__http_conn_fill(struct fibril__http_conn *conn, size_t bytes_max,
                               int64_t deadline_ns);

/* Receives into memory of the caller's, trying without a wait first. MAY PARK. */
ssize_t fibril__http_conn_recv(struct fibril__http_conn *conn, void *buf, size_t len,
                               int64_t deadline_ns);

/* Gives an input buffer back that holds nothing. */
void fibril__http_conn_trim(struct fibril__http_conn *conn);

static inline size_t fibril__http_conn_buffered(const struct fibril__http_conn *conn)
{
    return conn->in_len - conn->in_at;
}

#endif
