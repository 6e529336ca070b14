/* SPDX-License-Identifier: MIT */
/*
 * Acceptors: one fibril per listener and loop. Who is over a cap gets a 503 (a few at a time; the
 * others are just closed); before that the connection that has been idle longest makes room.
 *
 * When descriptors or memory run out, accepting pauses until a connection has ended or half a
 * second has passed, instead of spinning on a listener that stays ready. The reserve descriptor is
 * given up for that time, so that the handlers that already run can open a file; taken back, it is
 * the first thing that a recovered server holds again.
 */
#include "http/lane.h"

#include "http/conn.h"
#include "http/server.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { PAUSE_NS = 500000000, REFUSING_MAX = 64, STRAGGLERS_MAX = 4096 };

void fibril__http_reserve_open(struct fibril__http_lane *lane)
{
    if (lane->reserve_fd < 0) {
        lane->reserve_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
}

void fibril__http_reserve_close(struct fibril__http_lane *lane)
{
    if (lane->reserve_fd >= 0) {
        close(lane->reserve_fd); /* no fibril ever waited on it */
        lane->reserve_fd = -1;
    }
}

/* Has the connection go that has been idle longest; false when all are busy. */
static bool make_room(struct fibril__http_lane *lane)
{
    struct fibril__link *link = fibril__list_first(&lane->idle);
    if (link) {
        fibril__http_conn_evict(CONTAINER_OF(link, struct fibril__http_conn, link));
    }
    return link != NULL;
}

/* What is to become of a new connection: flags for it, or -1 to close it on the spot. */
static int judge(struct fibril__http_lane *lane, const struct fibril_addr *addr)
{
    const struct fibril_http_limits *limits = &lane->srv->limits;
    if (lane->stats.connections >= lane->connections_max && !make_room(lane)) {
        bool many = lane->stats.connections >= lane->connections_max + (uint64_t)REFUSING_MAX;
        return many ? -1 : FIBRIL__CONN_REFUSED;
    }
    if (limits->per_address_max == 0) {
        return 0;
    }
    struct fibril__http_peer peer;
    fibril__http_peer_set(&peer, addr);
    int rc = fibril__http_addresses_add(&lane->srv->addresses, &peer, limits->per_address_max);
    if (rc < 0) {
        return lane->refusing >= REFUSING_MAX ? -1 : FIBRIL__CONN_REFUSED;
    }
    return FIBRIL__CONN_COUNTED;
}

static void admit(struct fibril__http_lane *lane, int fd, const struct fibril_addr *addr)
{
    int flags = judge(lane, addr);
    if (flags < 0 || (flags & FIBRIL__CONN_REFUSED)) {
        FIBRIL__COUNT(lane, refused_connections, 1);
    }
    if (flags < 0) {
        fibril_close(fd);
    } else {
        fibril__http_conn_start(lane, fd, addr, (uint8_t)flags);
    }
}

/* Where there is not even memory for a timer, the others get to run at least. */
static void wait_for_room(struct fibril__http_lane *lane)
{
    int rc = fibril_event_wait(lane->room, fibril_after(PAUSE_NS));
    if (rc < 0 && rc != -ETIMEDOUT) {
        fibril_yield();
    }
}

static void pause_accepting(struct fibril__http_lane *lane, int error)
{
    fibril_event_reset(lane->room);
    if (make_room(lane)) {
        wait_for_room(lane);
        return;
    }
    if (lane->stats.accept_pauses == 0) {
        fibril__http_log_error(lane->srv, "accepting pauses: %s",
                               error == -EMFILE || error == -ENFILE ? "out of descriptors"
                                                                    : "out of memory");
    }
    FIBRIL__COUNT(lane, accept_pauses, 1);
    fibril__http_reserve_close(lane);
    wait_for_room(lane);
    fibril__http_reserve_open(lane);
}

static bool is_shortage(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS || error == -ENOMEM;
}

/* A cancelled fibril still gets what needs no wait, so those who already wait are taken in; but a
 * flood of them cannot hold up the end. */
int fibril__http_accept_run(void *arg)
{
    struct fibril__http_acceptor *a = arg;
    struct fibril_addr addr;
    int stragglers = 0;
    while (stragglers < STRAGGLERS_MAX) {
        int fd = fibril_accept(a->fd, &addr, FIBRIL_FOREVER);
        stragglers += fibril_cancelled();
        if (fd >= 0) {
            admit(a->lane, fd, &addr);
        } else if (is_shortage(fd)) {
            pause_accepting(a->lane, fd);
        } else if (fd == -ECANCELED || fd == -EBADF || fd == -EINVAL || fd == -ENOTSOCK) {
            break;
        } /* anything else is the end of one connection before it began */
    }
    return 0;
}
