/* SPDX-License-Identifier: MIT */
/*
 * poll, select and epoll_wait with their p-variants. Each way of asking for one or several
 * descriptors goes through the same questions.
 */
#include "io_rig.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>

static struct pollfd fds[2000];
static nfds_t n_fds;

static int pipes[4][2];

static void open_pipes(void)
{
    for (int i = 0; i < 4; i++) {
        ASSERT_OK(fibril_posix_pipe(pipes[i]));
    }
}

static void close_pipes(void)
{
    for (int i = 0; i < 4; i++) {
        fibril_posix_close(pipes[i][0]);
        fibril_posix_close(pipes[i][1]);
    }
}

/* ---- one question in six ways: which of the first n pipes can be read? ----------------------- */

static long by_poll(int n, int ms)
{
    struct pollfd p[4];
    for (int i = 0; i < n; i++) {
        p[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN, .revents = -1};
    }
    int rc = fibril_posix_poll(p, (nfds_t)n, ms);
    long set = 0;
    for (int i = 0; rc >= 0 && i < n; i++) {
        set |= (p[i].revents & (POLLIN | POLLNVAL) ? 1L : 0L) << i;
    }
    return rc < 0 ? rc : set;
}

static struct timespec *timespec_of(int ms, struct timespec *room)
{
    *room = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};
    return ms < 0 ? NULL : room;
}

static long by_ppoll(int n, int ms)
{
    struct pollfd p[4];
    struct timespec t;
    sigset_t none;
    sigemptyset(&none);
    for (int i = 0; i < n; i++) {
        p[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN, .revents = -1};
    }
    int rc = fibril_posix_ppoll(p, (nfds_t)n, timespec_of(ms, &t), &none);
    long set = 0;
    for (int i = 0; rc >= 0 && i < n; i++) {
        set |= (p[i].revents & (POLLIN | POLLNVAL) ? 1L : 0L) << i;
    }
    return rc < 0 ? rc : set;
}

static int fill_set(int n, fd_set *set)
{
    int last = 0;
    FD_ZERO(set);
    for (int i = 0; i < n; i++) {
        FD_SET(pipes[i][0], set);
        last = pipes[i][0] > last ? pipes[i][0] : last;
    }
    return last + 1;
}

static long members(int n, const fd_set *set)
{
    long found = 0;
    for (int i = 0; i < n; i++) {
        found |= (FD_ISSET(pipes[i][0], set) ? 1L : 0L) << i;
    }
    return found;
}

static long by_select(int n, int ms)
{
    fd_set in;
    int most = fill_set(n, &in);
    struct timeval t = {.tv_sec = ms / 1000, .tv_usec = (long)(ms % 1000) * 1000};
    int rc = fibril_posix_select(most, &in, NULL, NULL, ms < 0 ? NULL : &t);
    return rc < 0 ? rc : members(n, &in);
}

static long by_pselect(int n, int ms)
{
    fd_set in;
    struct timespec t;
    sigset_t none;
    sigemptyset(&none);
    int most = fill_set(n, &in);
    int rc = fibril_posix_pselect(most, &in, NULL, NULL, timespec_of(ms, &t), &none);
    return rc < 0 ? rc : members(n, &in);
}

static long by_any_epoll(int n, int ms, bool second)
{
    struct epoll_event events[4], e = {.events = EPOLLIN};
    struct timespec t;
    int set = fibril_posix_epoll_create1(0);
    for (int i = 0; i < n; i++) {
        e.data.u32 = (uint32_t)i;
        ASSERT_OK(epoll_ctl(set, EPOLL_CTL_ADD, pipes[i][0], &e));
    }
    int rc = second ? fibril_posix_epoll_pwait2(set, events, 4, timespec_of(ms, &t), NULL)
                    : fibril_posix_epoll_wait(set, events, 4, ms);
    int error = errno;
    long found = 0;
    for (int i = 0; i < rc; i++) {
        found |= 1L << events[i].data.u32;
    }
    ASSERT_OK(fibril_posix_close(set));
    errno = error;
    return rc < 0 ? rc : found;
}

static long by_epoll(int n, int ms)
{
    return by_any_epoll(n, ms, false);
}

static long by_epoll2(int n, int ms)
{
    return by_any_epoll(n, ms, true);
}

static long (*const ways[])(int n, int ms) = {by_poll,    by_ppoll, by_select,
                                              by_pselect, by_epoll, by_epoll2};
enum { WAYS = 6 };

static void ask(struct rig_call *c)
{
    c->rc = ways[c->other]((int)c->len, c->flags);
}

static struct rig_call question(int way, int n, int ms)
{
    return (struct rig_call){.call = ask, .other = way, .len = (size_t)n, .flags = ms};
}

static void feed(int pipe)
{
    ASSERT_EQ(fibril_posix_write(pipes[pipe][1], "x", 1), 1);
}

static void drain(int pipe)
{
    char byte;
    ASSERT_EQ(fibril_posix_read(pipes[pipe][0], &byte, 1), 1);
}

POSIX_TEST(what_is_ready_is_told_at_once)
{
    static struct rig_call c;
    open_pipes();
    feed(1);
    feed(3);
    for (int way = 0; way < WAYS; way++) {
        for (int ms = -1; ms <= 1000; ms += 1001) { /* for ever, and a second */
            c = question(way, 4, ms);
            rig_start(&c);
            ASSERT(c.over);
            ASSERT_EQ(rig_end(&c), 10);
        }
        c = question(way, 4, 0);
        rig_start(&c);
        ASSERT(c.over);
        ASSERT_EQ(rig_end(&c), 10);
    }
    close_pipes();
    return 0;
}

POSIX_TEST(nothing_ready_and_no_time_is_told_at_once)
{
    static struct rig_call c;
    open_pipes();
    for (int way = 0; way < WAYS; way++) {
        c = question(way, 1 + way % 4, 0);
        rig_start(&c);
        ASSERT(c.over);
        ASSERT_EQ(rig_end(&c), 0);
    }
    close_pipes();
    return 0;
}

POSIX_TEST(each_way_parks_until_something_is_ready)
{
    static struct rig_call c;
    open_pipes();
    for (int way = 0; way < WAYS; way++) {
        for (int n = 1; n <= 4; n++) {
            c = question(way, n, n % 2 ? -1 : 20000);
            rig_start(&c);
            ASSERT(!c.over);
            feed(n - 1);
            ASSERT_EQ(rig_end(&c), 1L << (n - 1));
            drain(n - 1);
        }
    }
    close_pipes();
    return 0;
}

POSIX_TEST(each_way_times_out)
{
    static struct rig_call c;
    open_pipes();
    for (int way = 0; way < WAYS; way++) {
        for (int n = 1; n <= 4; n += 3) {
            c = question(way, n, 10);
            rig_start(&c);
            ASSERT(!c.over);
            ASSERT_EQ(rig_end(&c), 0);
        }
    }
    close_pipes();
    return 0;
}

POSIX_TEST(cancel_and_interrupt_end_each_way)
{
    static struct rig_call c;
    open_pipes();
    for (int way = 0; way < WAYS; way++) {
        for (int n = 1; n <= 4; n += 3) {
            c = question(way, n, -1);
            rig_cancel_ends_it(&c);
            c = question(way, n, -1);
            rig_interrupt_ends_it(&c);
        }
    }
    close_pipes();
    return 0;
}

POSIX_TEST(many_ask_for_the_same_descriptor)
{
    static struct rig_call calls[WAYS];
    open_pipes();
    for (int way = 0; way < WAYS; way++) {
        calls[way] = question(way, 2, -1);
        rig_start(&calls[way]);
    }
    feed(1);
    for (int way = 0; way < WAYS; way++) {
        ASSERT_EQ(rig_end(&calls[way]), 2);
    }
    close_pipes();
    return 0;
}

/* ---- poll ---- */

static void poll_all(struct rig_call *c)
{
    c->rc = fibril_posix_poll(fds, n_fds, c->flags);
}

POSIX_TEST(a_poll_of_a_closed_descriptor_says_so)
{
    static struct rig_call c;
    for (n_fds = 1; n_fds <= 2; n_fds++) {
        open_pipes();
        for (nfds_t i = 0; i < n_fds; i++) {
            fds[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLIN};
        }
        c = (struct rig_call){.call = poll_all, .flags = -1};
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_OK(fibril_posix_close(pipes[0][0]));
        ASSERT_EQ(rig_end(&c), 1);
        ASSERT_EQ(fds[0].revents, POLLNVAL);
        rig_start(&c);
        ASSERT(c.over);
        ASSERT_EQ(rig_end(&c), 1);
        close_pipes();
    }
    return 0;
}

POSIX_TEST(a_poll_of_nothing_sleeps)
{
    static struct rig_call c;
    fds[0].fd = -1;
    fds[0].revents = POLLIN;
    for (n_fds = 0; n_fds <= 1; n_fds++) {
        c = (struct rig_call){.call = poll_all, .flags = 10};
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_EQ(rig_end(&c), 0);
        ASSERT_EQ(fds[0].revents, n_fds ? 0 : POLLIN);
    }
    return 0;
}

POSIX_TEST(a_poll_tells_of_hangups_and_room)
{
    open_pipes();
    struct pollfd p[3] = {{.fd = pipes[0][1], .events = POLLOUT},
                          {.fd = pipes[1][0], .events = POLLIN},
                          {.fd = pipes[2][0], .events = POLLIN}};
    ASSERT_OK(fibril_posix_close(pipes[1][1]));
    ASSERT_KEEPS_ERRNO(fibril_posix_poll(p, 3, -1), 2);
    ASSERT_EQ(p[0].revents, POLLOUT);
    ASSERT_EQ(p[1].revents, POLLHUP);
    ASSERT_EQ(p[2].revents, 0);
    ASSERT_EQ(fibril_posix_poll(p, 1, -1), 1);
    ASSERT_EQ(fibril_posix_poll(p + 1, 1, -1), 1);
    ASSERT_EQ(p[1].revents, POLLHUP);
    close_pipes();
    return 0;
}

POSIX_TEST(the_finer_events_of_poll_are_waited_for_too)
{
    static struct rig_call c;
    for (n_fds = 1; n_fds <= 2; n_fds++) {
        open_pipes();
        for (nfds_t i = 0; i < n_fds; i++) {
            fds[i] = (struct pollfd){.fd = pipes[i][0], .events = POLLRDNORM};
        }
        c = (struct rig_call){.call = poll_all, .flags = -1};
        rig_start(&c);
        ASSERT(!c.over);
        feed(0);
        ASSERT_EQ(rig_end(&c), 1);
        ASSERT_EQ(fds[0].revents, POLLRDNORM);
        close_pipes();
    }
    return 0;
}

/* As servers with a list of all their connections do. */
POSIX_TEST(a_poll_of_two_thousand_works)
{
    static struct rig_call c;
    static int ends[1000][2];
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < 2100) {
        SKIP("too few descriptors");
    }
    for (int i = 0; i < 1000; i++) {
        ASSERT_OK(fibril_posix_pipe(ends[i]));
    }
    n_fds = 1999; /* each twice, the last one once */
    for (nfds_t i = 0; i < n_fds; i++) {
        fds[i] = (struct pollfd){.fd = ends[i % 1000][0], .events = POLLIN};
    }
    c = (struct rig_call){.call = poll_all, .flags = -1};
    for (int i = 0; i < 3; i++) {
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_EQ(fibril_posix_write(ends[500][1], "x", 1), 1);
        ASSERT_EQ(rig_end(&c), 2);
        ASSERT_EQ(fds[500].revents, POLLIN);
        ASSERT_EQ(fds[1500].revents, POLLIN);
        char byte;
        ASSERT_EQ(fibril_posix_read(ends[500][0], &byte, 1), 1);
    }
    for (int i = 0; i < 1000; i++) {
        fibril_posix_close(ends[i][0]);
        fibril_posix_close(ends[i][1]);
    }
    return 0;
}

/* ---- select ---- */

POSIX_TEST(select_leaves_the_time_that_is_left)
{
    open_pipes();
    fd_set in;
    struct timeval t = {.tv_sec = 100};
    feed(0);
    int most = fill_set(1, &in);
    ASSERT_EQ(fibril_posix_select(most, &in, NULL, NULL, &t), 1);
    ASSERT_GE(t.tv_sec, 50);
    drain(0);
    t = (struct timeval){.tv_usec = 5000};
    most = fill_set(1, &in);
    ASSERT_KEEPS_ERRNO(fibril_posix_select(most, &in, NULL, NULL, &t), 0);
    ASSERT_EQ(t.tv_sec, 0);
    ASSERT_EQ(t.tv_usec, 0);
    ASSERT(!FD_ISSET(pipes[0][0], &in));
    t.tv_sec = -1;
    ASSERT_ERRNO(fibril_posix_select(0, NULL, NULL, NULL, &t), EINVAL);
    close_pipes();
    return 0;
}

POSIX_TEST(select_tells_reading_from_writing)
{
    open_pipes();
    fd_set in, out, except;
    int most = fill_set(2, &in);
    FD_ZERO(&out);
    FD_SET(pipes[0][1], &out);
    FD_ZERO(&except);
    FD_SET(pipes[0][0], &except);
    most = pipes[0][1] >= most ? pipes[0][1] + 1 : most;
    ASSERT_EQ(fibril_posix_select(most, &in, &out, &except, NULL), 1);
    ASSERT(FD_ISSET(pipes[0][1], &out));
    ASSERT_EQ(members(2, &in), 0);
    ASSERT_EQ(members(2, &except), 0);
    ASSERT_OK(fibril_posix_close(pipes[0][0]));
    fill_set(2, &in);
    ASSERT_ERRNO(fibril_posix_select(most, &in, NULL, NULL, NULL), EBADF);
    close_pipes();
    return 0;
}

/* ---- masks ---- */

static volatile sig_atomic_t signals_seen;

static void on_signal(int signo)
{
    (void)signo;
    signals_seen++;
}

POSIX_TEST(a_pending_signal_that_the_mask_lets_in_ends_a_ppoll)
{
    sigset_t blocked, before, none;
    struct sigaction ours = {.sa_handler = on_signal}, old;
    sigemptyset(&none);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGUSR1);
    sigaction(SIGUSR1, &ours, &old);
    open_pipes();
    pthread_sigmask(SIG_BLOCK, &blocked, &before);
    signals_seen = 0;
    raise(SIGUSR1);
    ASSERT_EQ(by_poll(1, 0), 0);
    ASSERT_EQ(signals_seen, 0);
    struct pollfd p = {.fd = pipes[0][0], .events = POLLIN};
    ASSERT_ERRNO(fibril_posix_ppoll(&p, 1, NULL, &none), EINTR);
    ASSERT_EQ(signals_seen, 1);
    pthread_sigmask(SIG_BLOCK, NULL, &none);
    ASSERT(sigismember(&none, SIGUSR1));
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    sigaction(SIGUSR1, &old, NULL);
    close_pipes();
    return 0;
}

/* ---- epoll ---- */

static int sets[50], set_pipes[50][2];

static void wait_on_set(struct rig_call *c)
{
    struct epoll_event e;
    c->rc = fibril_posix_epoll_wait(sets[c->other], &e, 1, -1);
    ASSERT(c->rc < 0 || e.data.fd == c->other);
}

POSIX_TEST(fifty_event_loops_wait_side_by_side)
{
    static struct rig_call calls[50];
    for (int i = 0; i < 50; i++) {
        struct epoll_event e = {.events = EPOLLIN, .data.fd = i};
        sets[i] = fibril_posix_epoll_create(1);
        ASSERT_OK(fibril_posix_pipe(set_pipes[i]));
        ASSERT_OK(epoll_ctl(sets[i], EPOLL_CTL_ADD, set_pipes[i][0], &e));
        calls[i] = (struct rig_call){.call = wait_on_set, .other = i};
    }
    for (int turn = 0; turn < 3; turn++) {
        for (int i = 0; i < 50; i++) {
            rig_start(&calls[i]);
            ASSERT(!calls[i].over);
        }
        for (int i = 49; i >= 0; i--) {
            char byte;
            ASSERT_EQ(fibril_posix_write(set_pipes[i][1], "x", 1), 1);
            ASSERT_EQ(rig_end(&calls[i]), 1);
            ASSERT_EQ(fibril_posix_read(set_pipes[i][0], &byte, 1), 1);
        }
    }
    for (int i = 0; i < 50; i++) {
        fibril_posix_close(sets[i]);
        fibril_posix_close(set_pipes[i][0]);
        fibril_posix_close(set_pipes[i][1]);
    }
    return 0;
}

POSIX_TEST(a_closed_epoll_set_ends_the_wait)
{
    static struct rig_call c;
    sets[0] = fibril_posix_epoll_create1(EPOLL_CLOEXEC);
    c = (struct rig_call){.call = wait_on_set, .fd = sets[0]};
    rig_start(&c);
    ASSERT(!c.over);
    struct epoll_event e;
    ASSERT_ERRNO(fibril_posix_epoll_wait(sets[0], &e, 0, 0), EINVAL);
    ASSERT_ERRNO(fibril_posix_epoll_wait(-1, &e, 1, 0), EBADF);
    ASSERT_OK(fibril_posix_close(sets[0]));
    ASSERT_EQ(rig_end(&c), -1);
    ASSERT_EQ(c.error, EBADF);
    return 0;
}
