/* SPDX-License-Identifier: MIT */
/*
 * read, write and their kin on pipes, sockets and files; close, dup2 and splice.
 */
#include "io_rig.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

enum { BIG = 1 << 20 };

static char space[BIG], far_end[BIG];

static void read_it(struct rig_call *c)
{
    c->rc = fibril_posix_read(c->fd, c->buf, c->len);
}

static void write_it(struct rig_call *c)
{
    c->rc = fibril_posix_write(c->fd, c->buf, c->len);
}

static struct rig_call reader(int fd)
{
    return (struct rig_call){.call = read_it, .fd = fd, .buf = space, .len = 64};
}

/* A blocking pipe, or a blocking stream socket pair of which the first end is to be read. */
static void open_pair(bool socket, int fds[2])
{
    if (socket) {
        int pair[2];
        io_unix_pair(/* blocking= */ true, pair);
        fds[0] = pair[0];
        fds[1] = pair[1];
    } else {
        ASSERT_OK(fibril_posix_pipe(fds));
    }
}

static void close_pair(const int fds[2])
{
    ASSERT_OK(fibril_posix_close(fds[0]));
    ASSERT_OK(fibril_posix_close(fds[1]));
}

static void check_data_ready(bool socket)
{
    int fds[2];
    open_pair(socket, fds);
    for (int i = 0; i < 3; i++) { /* the first calls find out what it is */
        ASSERT_KEEPS_ERRNO(fibril_posix_write(fds[1], "hello", 5), 5);
        ASSERT_KEEPS_ERRNO(fibril_posix_read(fds[0], space, 3), 3);
        ASSERT_KEEPS_ERRNO(fibril_posix_read(fds[0], space + 3, 64), 2);
        ASSERT_MEM(space, "hello", 5);
    }
    ASSERT_KEEPS_ERRNO(fibril_posix_read(fds[0], space, 0), 0);
    close_pair(fds);
}

POSIX_TEST(data_that_is_there_is_read_at_once)
{
    check_data_ready(false);
    check_data_ready(true);
    return 0;
}

static void check_waits(bool socket)
{
    static struct rig_call c;
    int fds[2];
    open_pair(socket, fds);
    for (int i = 0; i < 5; i++) {
        c = reader(fds[0]);
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_EQ(fibril_posix_write(fds[1], "later", 5), 5);
        ASSERT_EQ(rig_end(&c), 5);
        ASSERT_MEM(space, "later", 5);
    }
    c = reader(fds[0]);
    rig_start(&c);
    ASSERT_OK(fibril_posix_close(fds[1]));
    ASSERT_EQ(rig_end(&c), 0);
    ASSERT_OK(fibril_posix_close(fds[0]));
}

POSIX_TEST(a_read_parks_until_data_or_the_end_comes)
{
    check_waits(false);
    check_waits(true);
    return 0;
}

static void check_early_ends(bool socket)
{
    static struct rig_call c;
    int fds[2];
    open_pair(socket, fds);
    c = reader(fds[0]);
    rig_cancel_ends_it(&c);
    rig_close_ends_it(&c);
    ASSERT_ERRNO(fibril_posix_read(fds[0], space, 1), EBADF);
    ASSERT_OK(fibril_posix_close(fds[1]));
}

POSIX_TEST(cancel_and_close_end_a_read)
{
    check_early_ends(false);
    check_early_ends(true);
    return 0;
}

static void check_nonblocking(bool socket)
{
    int fds[2];
    open_pair(socket, fds);
    rig_nonblocking(fds[0], true);
    rig_nonblocking(fds[1], true);
    for (int i = 0; i < 3; i++) {
        ASSERT_ERRNO(fibril_posix_read(fds[0], space, 8), EAGAIN);
    }
    ssize_t n = fibril_posix_write(fds[1], space, BIG);
    ASSERT_GT(n, 0);
    ASSERT_LT(n, BIG);
    while (fibril_posix_write(fds[1], space, BIG) > 0) {}
    ASSERT_ERRNO(fibril_posix_write(fds[1], space, BIG), EAGAIN);
    close_pair(fds);
}

POSIX_TEST(a_nonblocking_descriptor_says_eagain)
{
    check_nonblocking(false);
    check_nonblocking(true);
    return 0;
}

/* Reads a BIG of the pattern, in pieces. */
static void check_arrival(int fd)
{
    for (size_t at = 0; at < BIG;) {
        ssize_t n = fibril_posix_read(fd, far_end + at, 10000 < BIG - at ? 10000 : BIG - at);
        ASSERT_GT(n, 0);
        at += (size_t)n;
    }
    for (size_t i = 0; i < BIG; i++) {
        if (far_end[i] != io_byte(i)) {
            ASSERT_EQ(far_end[i], io_byte(i));
        }
    }
}

static void check_whole(bool socket)
{
    static struct rig_call c;
    int fds[2];
    open_pair(socket, fds);
    for (size_t i = 0; i < BIG; i++) {
        space[i] = io_byte(i);
    }
    c = (struct rig_call){.call = write_it, .fd = fds[1], .buf = space, .len = BIG};
    rig_start(&c);
    ASSERT(!c.over);
    check_arrival(fds[0]);
    ASSERT_EQ(rig_end(&c), BIG);
    close_pair(fds);
}

POSIX_TEST(a_blocking_write_takes_everything)
{
    check_whole(false);
    check_whole(true);
    return 0;
}

static void writev_it(struct rig_call *c)
{
    static struct iovec iov[40];
    for (int i = 0; i < 40; i++) {
        iov[i] = (struct iovec){.iov_base = space + i * (BIG / 64), .iov_len = BIG / 64};
    }
    c->rc = fibril_posix_writev(c->fd, iov, 40);
}

static void check_vectors(bool socket)
{
    static struct rig_call c;
    int fds[2];
    open_pair(socket, fds);
    for (size_t i = 0; i < BIG; i++) {
        space[i] = io_byte(i);
    }
    c = (struct rig_call){.call = writev_it, .fd = fds[1]};
    rig_start(&c);
    ASSERT(!c.over);
    size_t all = (size_t)40 * (BIG / 64), at = 0;
    while (at < all) {
        struct iovec iov[3] = {{far_end + at, 1}, {NULL, 0}, {far_end + at + 1, all - at - 1}};
        ssize_t n = fibril_posix_readv(fds[0], iov, 3);
        ASSERT_GT(n, 0);
        at += (size_t)n;
    }
    ASSERT_EQ(rig_end(&c), (long)all);
    ASSERT_MEM(far_end, space, all);
    close_pair(fds);
}

POSIX_TEST(a_blocking_vector_goes_out_whole_and_comes_in_pieces)
{
    check_vectors(false);
    check_vectors(true);
    return 0;
}

/* ---- SIGPIPE ---- */

static volatile sig_atomic_t pipes_broken;

static void on_sigpipe(int signo)
{
    (void)signo;
    pipes_broken++;
}

static void check_sigpipe(bool socket)
{
    int fds[2];
    open_pair(socket, fds);
    ASSERT_OK(fibril_posix_close(fds[0]));
    pipes_broken = 0;
    for (int i = 1; i <= 3; i++) {
        ASSERT_ERRNO(fibril_posix_write(fds[1], "x", 1), EPIPE);
        ASSERT_EQ(pipes_broken, i);
    }
    ASSERT_OK(fibril_posix_close(fds[1]));
}

POSIX_TEST(a_broken_pipe_raises_sigpipe)
{
    struct sigaction before, ours = {.sa_handler = on_sigpipe};
    sigaction(SIGPIPE, &ours, &before);
    check_sigpipe(false);
    check_sigpipe(true);
    sigaction(SIGPIPE, &before, NULL);
    return 0;
}

POSIX_TEST(the_default_of_sigpipe_stays_what_it_was)
{
    int fds[2];
    struct sigaction now;
    signal(SIGPIPE, SIG_DFL);
    open_pair(false, fds);
    ASSERT_EQ(fibril_posix_write(fds[1], "x", 1), 1);
    ASSERT_EQ(fibril_posix_read(fds[0], space, 9), 1);
    sigaction(SIGPIPE, NULL, &now);
    ASSERT(now.sa_handler == SIG_DFL);
    close_pair(fds);
    return 0;
}

/* ---- other sorts ---- */

POSIX_TEST(an_eventfd_parks_and_wakes)
{
    static struct rig_call c;
    static uint64_t count;
    int fd = fibril_posix_eventfd(0, 0);
    c = (struct rig_call){.call = read_it, .fd = fd, .buf = (char *)&count, .len = 8};
    rig_start(&c);
    ASSERT(!c.over);
    uint64_t five = 5;
    ASSERT_EQ(fibril_posix_write(fd, &five, 8), 8);
    ASSERT_EQ(rig_end(&c), 8);
    ASSERT_EQ(count, 5);
    ASSERT_EQ(fibril_posix_write(fd, &five, 8), 8);
    ASSERT_ERRNO(fibril_posix_read(fd, space, 4), EINVAL);
    ASSERT_OK(fibril_posix_close(fd));
    return 0;
}

POSIX_TEST(a_timer_parks_its_reader)
{
    static struct rig_call c;
    static uint64_t count;
    int fd = fibril_posix_timerfd_create(CLOCK_MONOTONIC, 0);
    c = (struct rig_call){.call = read_it, .fd = fd, .buf = (char *)&count, .len = 8};
    rig_start(&c);
    ASSERT(!c.over);
    struct itimerspec soon = {.it_value.tv_nsec = 1};
    ASSERT_OK(timerfd_settime(fd, 0, &soon, NULL));
    ASSERT_EQ(rig_end(&c), 8);
    ASSERT_EQ(count, 1);
    rig_close_ends_it(&c);
    return 0;
}

POSIX_TEST(a_file_is_read_up_to_its_end)
{
    static char bytes[100000], got[200000];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = io_byte(i);
    }
    int fd = rig_file(bytes, sizeof(bytes));
    for (int flags = 0; flags < 2; flags++) { /* O_NONBLOCK means nothing to a file */
        rig_nonblocking(fd, flags);
        ASSERT_OK(lseek(fd, 0, SEEK_SET));
        ASSERT_KEEPS_ERRNO(fibril_posix_read(fd, got, sizeof(got)), 100000);
        ASSERT_MEM(got, bytes, sizeof(bytes));
        ASSERT_KEEPS_ERRNO(fibril_posix_read(fd, got, sizeof(got)), 0);
    }
    ASSERT_EQ(fibril_posix_pread(fd, got, sizeof(got), 99990), 10);
    ASSERT_MEM(got, bytes + 99990, 10);
    struct iovec iov[2] = {{got, 5}, {got + 5, 1000}};
    ASSERT_EQ(fibril_posix_preadv(fd, iov, 2, 99000), 1000);
    ASSERT_MEM(got, bytes + 99000, 1000);
    ASSERT_EQ(fibril_posix_preadv2(fd, iov, 1, 7, 0), 5);
    ASSERT_MEM(got, bytes + 7, 5);
    ASSERT_ERRNO(fibril_posix_pread(fd, got, 5, -3), EINVAL);
    ASSERT_OK(fibril_posix_close(fd));
    return 0;
}

POSIX_TEST(what_the_page_cache_lost_is_read_too)
{
    static char bytes[100000], got[200000];
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = io_byte(i);
    }
    int fd = rig_file(bytes, sizeof(bytes));
    ASSERT_OK(fibril_posix_fsync(fd));
    posix_fadvise(fd, 8192, 0, POSIX_FADV_DONTNEED);
    ASSERT_OK(lseek(fd, 0, SEEK_SET));
    ASSERT_EQ(fibril_posix_read(fd, got, sizeof(got)), 100000);
    ASSERT_MEM(got, bytes, sizeof(bytes));
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    memset(got, 0, sizeof(got));
    ASSERT_EQ(fibril_posix_pread(fd, got, sizeof(got), 1), 99999);
    ASSERT_MEM(got, bytes + 1, 99999);
    ASSERT_OK(fibril_posix_close(fd));
    return 0;
}

POSIX_TEST(a_file_is_written_small_and_large)
{
    for (size_t i = 0; i < BIG; i++) {
        space[i] = io_byte(i);
    }
    int fd = rig_file("", 0);
    ASSERT_KEEPS_ERRNO(fibril_posix_write(fd, space, 100), 100);
    ASSERT_KEEPS_ERRNO(fibril_posix_write(fd, space + 100, BIG - 100), BIG - 100);
    ASSERT_EQ(fibril_posix_pread(fd, far_end, BIG, 0), BIG);
    ASSERT_MEM(far_end, space, BIG);
    ASSERT_KEEPS_ERRNO(fibril_posix_pwrite(fd, space + 5, BIG - 5, 0), BIG - 5);
    struct iovec iov[3] = {{space, 3}, {NULL, 0}, {space + 3, 400000}};
    ASSERT_EQ(fibril_posix_pwritev(fd, iov, 3, 600000), 400003);
    ASSERT_EQ(fibril_posix_pread(fd, far_end, BIG, 0), BIG);
    ASSERT_MEM(far_end, space + 5, 600000);
    ASSERT_MEM(far_end + 600000, space, 400003);
    ASSERT_ERRNO(fibril_posix_pwrite(fd, space, 5, -1), EINVAL);
    ASSERT_OK(fibril_posix_close(fd));
    return 0;
}

POSIX_TEST(mistakes_say_what_the_kernel_says)
{
    int fds[2];
    open_pair(false, fds);
    ASSERT_ERRNO(fibril_posix_read(-1, space, 5), EBADF);
    ASSERT_ERRNO(fibril_posix_write(999999, space, 5), EBADF);
    ASSERT_ERRNO(fibril_posix_write(fds[0], space, 5), EBADF);
    ASSERT_ERRNO(fibril_posix_read(fds[1], space, 5), EBADF);
    ASSERT_ERRNO(fibril_posix_pread(fds[0], space, 5, 0), ESPIPE);
    ASSERT_ERRNO(fibril_posix_pwrite(fds[1], space, 5, 0), ESPIPE);
    volatile int nobody = -1;
    ASSERT_ERRNO(fibril_posix_readv(fds[0], NULL, nobody), EINVAL);
    ASSERT_ERRNO(fibril_posix_close(-1), EBADF);
    int dir = open("/", O_RDONLY);
    ASSERT_ERRNO(fibril_posix_read(dir, space, 5), EISDIR);
    ASSERT_OK(fibril_posix_close(dir));
    ASSERT_ERRNO(fibril_posix_close(dir), EBADF);
    close_pair(fds);
    return 0;
}

/* ---- numbers that change hands ---- */

POSIX_TEST(dup2_ends_the_waits_on_the_number_it_takes)
{
    static struct rig_call c;
    int fds[2], others[2];
    open_pair(true, fds);
    open_pair(true, others);
    c = reader(fds[0]);
    rig_start(&c);
    ASSERT_KEEPS_ERRNO(fibril_posix_dup2(others[0], fds[0]), fds[0]);
    ASSERT_EQ(rig_end(&c), -1);
    ASSERT_EQ(c.error, EBADF);
    rig_start(&c);
    ASSERT(!c.over);
    ASSERT_EQ(fibril_posix_write(others[1], "new", 3), 3);
    ASSERT_EQ(rig_end(&c), 3);
    ASSERT_ERRNO(fibril_posix_dup3(others[0], others[0], 0), EINVAL);
    ASSERT_EQ(fibril_posix_dup3(others[0], fds[0], O_CLOEXEC), fds[0]);
    ASSERT(fcntl(fds[0], F_GETFD) & FD_CLOEXEC);
    close_pair(fds);
    close_pair(others);
    return 0;
}

POSIX_TEST(a_failing_dup2_disturbs_nobody)
{
    static struct rig_call c;
    int fds[2];
    open_pair(false, fds);
    c = reader(fds[0]);
    rig_start(&c);
    ASSERT_ERRNO(fibril_posix_dup2(999999, fds[0]), EBADF);
    io_settle();
    ASSERT(!c.over);
    ASSERT_EQ(fibril_posix_write(fds[1], "x", 1), 1);
    ASSERT_EQ(rig_end(&c), 1);
    close_pair(fds);
    return 0;
}

/* Closed behind the layer's back, as fclose does, while the poller knows the number. */
POSIX_TEST(a_number_closed_elsewhere_is_a_new_descriptor_again)
{
    static struct rig_call c;
    for (int i = 0; i < 5; i++) {
        int fds[2];
        ASSERT_OK(fibril_posix_socketpair(AF_UNIX, SOCK_STREAM, 0, fds));
        c = reader(fds[0]);
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_EQ(fibril_posix_write(fds[1], "x", 1), 1);
        ASSERT_EQ(rig_end(&c), 1);
        close(fds[0]);
        close(fds[1]);
    }
    return 0;
}

/* ---- splice, tee, sendfile ---- */

static void splice_it(struct rig_call *c)
{
    c->rc = fibril_posix_splice(c->fd, NULL, c->other, NULL, c->len, 0);
}

static void tee_it(struct rig_call *c)
{
    c->rc = fibril_posix_tee(c->fd, c->other, c->len, 0);
}

POSIX_TEST(splice_and_tee_wait_for_data)
{
    static struct rig_call c;
    for (int socket = 0; socket < 2; socket++) {
        int from[2], to[2];
        open_pair(socket, from);
        open_pair(false, to);
        c = (struct rig_call){.call = splice_it, .fd = from[0], .other = to[1], .len = 100};
        rig_start(&c);
        ASSERT(!c.over);
        ASSERT_EQ(fibril_posix_write(from[1], "spliced", 7), 7);
        ASSERT_EQ(rig_end(&c), 7);
        ASSERT_EQ(fibril_posix_read(to[0], space, 64), 7);
        ASSERT_MEM(space, "spliced", 7);
        close_pair(from);
        close_pair(to);
    }
    int from[2], to[2];
    open_pair(false, from);
    open_pair(false, to);
    c = (struct rig_call){.call = tee_it, .fd = from[0], .other = to[1], .len = 100};
    rig_start(&c);
    ASSERT(!c.over);
    ASSERT_EQ(fibril_posix_write(from[1], "tee", 3), 3);
    ASSERT_EQ(rig_end(&c), 3);
    rig_nonblocking(from[0], true);
    ASSERT_EQ(fibril_posix_read(from[0], space, 9), 3);
    ASSERT_ERRNO(fibril_posix_splice(from[0], NULL, to[1], NULL, 9, 0), EAGAIN);
    close_pair(from);
    close_pair(to);
    return 0;
}

static void sendfile_it(struct rig_call *c)
{
    off_t at = 1000;
    c->rc = fibril_posix_sendfile(c->fd, c->other, &at, c->len);
    ASSERT_EQ(at, 1000 + c->rc);
}

POSIX_TEST(sendfile_sends_all_of_it)
{
    static struct rig_call c;
    int fds[2];
    for (size_t i = 0; i < BIG; i++) {
        space[i] = io_byte(i);
    }
    int file = rig_file(space, BIG);
    open_pair(true, fds);
    c = (struct rig_call){.call = sendfile_it, .fd = fds[1], .other = file, .len = 2 * BIG};
    rig_start(&c);
    ASSERT(!c.over);
    for (size_t at = 0; at < BIG - 1000;) {
        ssize_t n = fibril_posix_read(fds[0], far_end + at, BIG - at);
        ASSERT_GT(n, 0);
        at += (size_t)n;
    }
    ASSERT_EQ(rig_end(&c), BIG - 1000);
    ASSERT_MEM(far_end, space + 1000, BIG - 1000);
    close_pair(fds);
    ASSERT_OK(fibril_posix_close(file));
    return 0;
}
