/* SPDX-License-Identifier: MIT */
/*
 * The inside of the simulated poller: its clock and events, descriptors, and the network between
 * them.
 *
 *   sim_core.c    chance, trace, events, operations that are over
 *   sim_fd.c      descriptors, names, and the calls of struct fibril__sys
 *   sim_stream.c  pipes and connections: two flows of bytes
 *   sim_dgram.c   datagrams
 *   poll_sim.c    the table of functions
 *
 * Who may be gone when: a socket lives as long as its descriptor (or its place in an accept queue)
 * and each event on the way to it; a flow as long as its two ends and each event in it. So an event
 * never finds freed memory, and a number that was closed and given out again is another socket.
 *
 * What must not fail later is made early: events that a close or a reset needs lie in the socket
 * and the flow, and fibril__sim_room keeps places in the heap for them.
 */
#ifndef FIBRIL_POLL_SIM_H
#define FIBRIL_POLL_SIM_H

#include "poll/poll_sim.h"
#include "base/compiler.h"
#include "base/heap.h"

#include <stdatomic.h>
#include <stdbool.h>

struct fibril__sim;
struct fibril__sim_sock;
struct fibril__sim_flow;
struct fibril__sim_message;

enum fibril__sim_event_kind {
    FIBRIL__SIM_DATA = 1,    /* flow, len: bytes arrive */
    FIBRIL__SIM_FIN,         /* flow: its end arrives */
    FIBRIL__SIM_RESET,       /* sock: the connection breaks */
    FIBRIL__SIM_SYN,         /* sock: its request for a connection arrives at the listener */
    FIBRIL__SIM_ANSWER,      /* sock: the listener's answer arrives */
    FIBRIL__SIM_RETRY,       /* sock: operations that were put off are tried */
    FIBRIL__SIM_MESSAGE,     /* message: a datagram arrives */
    FIBRIL__SIM_UNREACHABLE, /* message: nobody took it, and its sender hears of it */
    /* Not events, but in the trace. */
    FIBRIL__SIM_DONE,
    FIBRIL__SIM_START,
    FIBRIL__SIM_CANCEL,
    FIBRIL__SIM_OUTSIDE,
};

struct fibril__sim_event {
    struct fibril__heap_node node; /* first */
    uint8_t kind;
    bool own;                      /* allocated by itself: freed when it has happened */
    struct fibril__sim_sock *sock; /* each holds a reference */
    struct fibril__sim_flow *flow;
    struct fibril__sim_message *message;
    size_t len;
};

/* One direction of bytes. Positions only grow; the byte at position i lies at bytes[i % cap].
 *
 *      head       arrived          tail
 *       | readable |  on the way    |   room up to head + cap
 */
struct fibril__sim_flow {
    uint32_t refs;
    uint32_t cap;
    uint8_t *bytes; /* made when first written */
    uint64_t head, arrived, tail;
    int64_t last_ns; /* when what was sent last arrives: nothing overtakes */
    struct fibril__sim_sock *reader, *writer; /* NULL when closed */
    bool local;                               /* a pipe or UNIX socket: no network in between */
    bool atomic;                              /* a pipe: up to 4096 bytes go at once or wait */
    bool fin_sent, fin;                       /* no more is written; and that has been heard */
    struct fibril__sim_event fin_event;
};

struct fibril__sim_addr {
    socklen_t len; /* 0: none */
    struct sockaddr_storage ss;
};

enum fibril__sim_type { FIBRIL__SIM_STREAM, FIBRIL__SIM_DGRAM, FIBRIL__SIM_PIPE };

/*
 *   FRESH -> LISTENING
 *     |
 *     +--> CONNECTING -> CONNECTED -> DEAD (reset; from CONNECTING too)
 */
enum fibril__sim_state {
    FIBRIL__SIM_FRESH,
    FIBRIL__SIM_LISTENING,
    FIBRIL__SIM_CONNECTING,
    FIBRIL__SIM_CONNECTED, /* pipes always; datagram sockets that have a peer */
    FIBRIL__SIM_DEAD,
};

struct fibril__sim_sock {
    uint32_t refs;
    int fd; /* -1 while it has none: not accepted yet, or closed */
    uint8_t type, state;
    bool shut_read, shut_write;
    bool connect_told; /* a connect has said that the connection stands */
    bool retrying;     /* its operations are being tried: no second time inside */
    int error;         /* told once: 0 or -errno */
    sa_family_t family;
    struct fibril__list readers, writers, pollers; /* operations that wait, first in first out */
    struct fibril__sim_flow *in, *out;
    struct fibril__sim_addr local, peer;
    struct fibril__link named; /* in sim->named, when others can find it by name */
    struct fibril__sim_event connect_event, reset_event, retry_event;

    struct fibril__list accepts; /* of a listener: connections not yet accepted, by `waiting` */
    struct fibril__list blocked; /* UNIX: those who wait for room here, by `waiting` */
    struct fibril__link waiting;
    struct fibril__sim_sock *listener; /* in whose accepts it stands */
    uint32_t accepts_len, backlog;
    uint32_t tries; /* of a connecting one */

    struct fibril__list messages; /* datagrams that have come */
    size_t message_bytes;
    int64_t last_ns; /* when the last UNIX datagram arrives */
};

struct fibril__sim_message {
    struct fibril__link link;
    struct fibril__sim_event event; /* holds the destination, then maybe the sender */
    struct fibril__sim_sock *sender;
    struct fibril__sim_addr from;
    size_t len;
    uint8_t bytes[];
};

struct fibril__sim {
    struct fibril__poller base; /* first */
    struct fibril__sim_config config;
    uint64_t random, hash;
    int64_t now_ns;
    struct fibril__heap events;
    uint32_t promised;         /* events inside sockets and flows: each has a place in the heap */
    struct fibril__list over;  /* operations that are over and whose done is still to be called */
    struct fibril__list batch; /* those of them whose turn it is in the present wait() */
    struct fibril__sim_sock **fds;
    uint32_t fds_cap, fds_lowest; /* no number below fds_lowest is free */
    struct fibril__list named;
    uint16_t next_port;
    int turn;               /* the place of the loop's OS thread, or -1: see base/turns.h */
    _Atomic uint32_t woken; /* 1: wake() has been called; the OS thread that waits really sleeps on
                               it */
};

/* fibril__op.poller_state */
enum { FIBRIL__SIM_WAITS = 0, FIBRIL__SIM_CANCELLED, FIBRIL__SIM_OVER };

/* What try functions return while an operation has to wait. */
#define FIBRIL__SIM_WAIT INT64_MIN

/* ---- sim_core.c ---- */

/* The next random number; one below n (n > 0); whether a thing of that rate happens. */
uint64_t fibril__sim_random(struct fibril__sim *s);
uint64_t fibril__sim_below(struct fibril__sim *s, uint64_t n);
bool fibril__sim_chance(struct fibril__sim *s, uint64_t rate);
/* How long a packet takes, over the network or inside the machine. */
int64_t fibril__sim_latency(struct fibril__sim *s, bool local);
/* Puts one happening into the hash. */
void fibril__sim_note(struct fibril__sim *s, unsigned kind, int fd, int64_t len);
/* Promises n more embedded events a place in the heap. 0 or -ENOMEM. Takes back: a negative n. */
int fibril__sim_promise(struct fibril__sim *s, int n);
/* Lets a prepared event happen at a time; it must not be under way. The references it holds are the
 * caller's gift. */
void fibril__sim_at(struct fibril__sim *s, struct fibril__sim_event *e, int64_t at_ns);
/* A new event of its own with a place in the heap, or NULL. */
struct fibril__sim_event *fibril__sim_event_new(struct fibril__sim *s, unsigned kind);
bool fibril__sim_under_way(const struct fibril__sim_event *e);
/* Lets happen what is due. */
void fibril__sim_happen(struct fibril__sim *s);
/* Ends an operation that waits. */
void fibril__sim_end(struct fibril__sim *s, struct fibril__op *op, int64_t result);
/* Tries an operation: its result, or FIBRIL__SIM_WAIT. */
int64_t fibril__sim_try(struct fibril__sim *s, struct fibril__sim_sock *k, struct fibril__op *op);
/* Tries those that wait on k, first in first out in each direction. */
void fibril__sim_retry(struct fibril__sim *s, struct fibril__sim_sock *k);
/* The list where op waits on k. */
struct fibril__list *fibril__sim_queue(struct fibril__sim_sock *k, const struct fibril__op *op);
/* Has k's operations tried in the next wait(). */
void fibril__sim_retry_soon(struct fibril__sim *s, struct fibril__sim_sock *k);

/* The bytes that an operation is about, whatever its form. */
struct fibril__sim_bytes {
    const struct iovec *iov;
    size_t n;
    struct iovec one;
};
int fibril__sim_bytes_of(const struct fibril__op *op, struct fibril__sim_bytes *ret_bytes);
size_t fibril__sim_bytes_len(const struct fibril__sim_bytes *b);
/* Copies len bytes between flat memory and the pieces, starting at their byte `skip`. */
void fibril__sim_scatter(const struct fibril__sim_bytes *b, size_t skip, const void *from,
                         size_t len);
void fibril__sim_gather(const struct fibril__sim_bytes *b, size_t skip, void *to, size_t len);

/* ---- sim_fd.c ---- */

extern const struct fibril__sys fibril__sim_sys;

struct fibril__sim_sock *fibril__sim_sock_of(struct fibril__sim *s, int fd); /* or NULL */
/* A socket without a descriptor, with one reference. */
struct fibril__sim_sock *fibril__sim_sock_new(struct fibril__sim *s, unsigned type,
                                              sa_family_t family);
void fibril__sim_sock_unref(struct fibril__sim *s, struct fibril__sim_sock *k);
/* Gives k the lowest free number: it, -EMFILE or -ENOMEM. */
int fibril__sim_fd_new(struct fibril__sim *s, struct fibril__sim_sock *k);
/* Ends all operations on k with -EBADF. */
void fibril__sim_sock_forget(struct fibril__sim *s, struct fibril__sim_sock *k);
/* Ends all operations on k, gives up its number and its place in the world, and the reference that
 * stood for it. */
void fibril__sim_sock_close(struct fibril__sim *s, struct fibril__sim_sock *k);
/* Whether a socket with this name takes what is sent to that address. */
bool fibril__sim_addr_takes(const struct fibril__sim_addr *name, const struct fibril__sim_addr *to);
int fibril__sim_addr_of(const struct sockaddr *addr, socklen_t len, sa_family_t family,
                        struct fibril__sim_addr *ret_addr);
/* Writes as much of the address as fits, and its whole length, as the kernel does. */
void fibril__sim_addr_out(const struct fibril__sim_addr *a, sa_family_t family, void *to,
                          socklen_t *len);
/* A port for a socket that did not ask for one. */
uint16_t fibril__sim_port_new(struct fibril__sim *s);
void fibril__sim_port_set(struct fibril__sim_addr *a, uint16_t port);
uint16_t fibril__sim_port(const struct fibril__sim_addr *a);
/* Names an unnamed network socket that is about to speak to `to`. */
void fibril__sim_name_self(struct fibril__sim *s, struct fibril__sim_sock *k,
                           const struct fibril__sim_addr *to);

/* ---- sim_stream.c ---- */

int fibril__sim_pipe_join(struct fibril__sim *s, struct fibril__sim_sock *from,
                          struct fibril__sim_sock *to);
void fibril__sim_flow_unref(struct fibril__sim *s, struct fibril__sim_flow *f);
int64_t fibril__sim_stream_recv(struct fibril__sim *s, struct fibril__sim_sock *k,
                                const struct fibril__sim_bytes *b, int flags);
int64_t fibril__sim_stream_send(struct fibril__sim *s, struct fibril__sim_sock *k,
                                const struct fibril__sim_bytes *b);
int64_t fibril__sim_accept(struct fibril__sim *s, struct fibril__sim_sock *k,
                           struct fibril__op *op);
int64_t fibril__sim_connect(struct fibril__sim *s, struct fibril__sim_sock *k,
                            const struct fibril__op *op);
short fibril__sim_stream_ready(const struct fibril__sim_sock *k);
void fibril__sim_stream_shut_write(struct fibril__sim *s, struct fibril__sim_sock *k);
void fibril__sim_stream_close(struct fibril__sim *s, struct fibril__sim_sock *k);
void fibril__sim_stream_event(struct fibril__sim *s, struct fibril__sim_event *e);
/* Breaks the connection of k; k hears of it after `delay_ns`. */
void fibril__sim_reset(struct fibril__sim *s, struct fibril__sim_sock *k, int64_t delay_ns);

/* ---- sim_dgram.c ---- */

int64_t fibril__sim_dgram_recv(struct fibril__sim *s, struct fibril__sim_sock *k,
                               const struct fibril__sim_bytes *b, struct fibril__op *op);
int64_t fibril__sim_dgram_send(struct fibril__sim *s, struct fibril__sim_sock *k,
                               const struct fibril__sim_bytes *b, const struct fibril__op *op);
short fibril__sim_dgram_ready(const struct fibril__sim_sock *k);
void fibril__sim_dgram_close(struct fibril__sim *s, struct fibril__sim_sock *k);
void fibril__sim_dgram_event(struct fibril__sim *s, struct fibril__sim_event *e);
void fibril__sim_message_free(struct fibril__sim *s, struct fibril__sim_message *m);
/* Tries those again who waited for room at k. */
void fibril__sim_unblock(struct fibril__sim *s, struct fibril__sim_sock *k);

#endif
