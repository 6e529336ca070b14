/* SPDX-License-Identifier: MIT */
/*
 * Numbers of descriptors that come to mean something else: closed on OS threads without a loop or
 * by whole ranges, or brought by a message.
 */
#include "io_rig.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>

static struct rig_call call;

static void reads(struct rig_call *c)
{
    c->rc = fibril_posix_read(c->fd, c->buf, c->len);
    c->error = errno;
}

static void start_reading(int fd)
{
    static char buf[8];
    call = (struct rig_call){.call = reads, .fd = fd, .buf = buf, .len = sizeof buf};
    rig_start(&call);
}

static void ends_with_ebadf(void)
{
    ASSERT_EQ(rig_end(&call), -1);
    ASSERT_EQ(call.error, EBADF);
}

/* ---- OS threads without a loop --------------------------------------------------------------- */

static struct outside {
    int fd, other, rc;
    _Atomic bool over;
} outside;

static void *closes(void *arg)
{
    (void)arg;
    outside.rc = fibril_posix_close(outside.fd);
    atomic_store(&outside.over, true);
    return NULL;
}

static void *takes_the_number(void *arg)
{
    (void)arg;
    outside.rc = fibril_posix_dup2(outside.other, outside.fd);
    atomic_store(&outside.over, true);
    return NULL;
}

/* The loop goes on meanwhile: it has to let go. */
static void run_outside(void *(*fn)(void *), int fd, int other)
{
    pthread_t thread;
    outside = (struct outside){.fd = fd, .other = other, .rc = -7};
    ASSERT_EQ(pthread_create(&thread, NULL, fn, NULL), 0);
    while (!atomic_load(&outside.over)) {
        ASSERT_OK(fibril_sleep(100000));
    }
    ASSERT_EQ(pthread_join(thread, NULL), 0);
}

POSIX_TEST(close_on_an_os_thread_without_a_loop_ends_the_waits)
{
    int fds[2];
    (void)arg;
    for (int i = 0; i < 20; i++) {
        ASSERT_EQ(fibril_posix_pipe(fds), 0);
        start_reading(fds[0]);
        run_outside(closes, fds[0], -1);
        ASSERT_EQ(outside.rc, 0);
        ends_with_ebadf();
        ASSERT_EQ(fcntl(fds[0], F_GETFD), -1);
        ASSERT_EQ(fibril_posix_close(fds[1]), 0);
    }
    return 0;
}

POSIX_TEST(dup2_on_an_os_thread_without_a_loop_ends_the_waits)
{
    int fds[2], others[2];
    (void)arg;
    ASSERT_EQ(fibril_posix_pipe(fds), 0);
    ASSERT_EQ(fibril_posix_pipe(others), 0);
    start_reading(fds[0]);
    run_outside(takes_the_number, fds[0], others[0]);
    ASSERT_EQ(outside.rc, fds[0]);
    ends_with_ebadf();
    start_reading(fds[0]); /* the other pipe */
    ASSERT_EQ(fibril_posix_write(others[1], "x", 1), 1);
    ASSERT_EQ(rig_end(&call), 1);
    return 0;
}

/* A loop that stands still delays such a close, and does not prevent it. */
static void *closes_and_says(void *arg)
{
    (void)closes(arg);
    return &outside;
}

POSIX_TEST(a_loop_that_stands_still_does_not_hold_a_close_for_ever)
{
    int fds[2];
    void *result;
    pthread_t thread;
    (void)arg;
    ASSERT_EQ(fibril_posix_pipe(fds), 0);
    start_reading(fds[0]);
    outside = (struct outside){.fd = fds[0]};
    ASSERT_EQ(pthread_create(&thread, NULL, closes_and_says, NULL), 0);
    ASSERT_EQ(pthread_join(thread, &result), 0); /* really blocks */
    ASSERT_EQ(result, &outside);
    ASSERT_EQ(outside.rc, 0);
    ASSERT_EQ(fcntl(fds[0], F_GETFD), -1);
    ASSERT_EQ(fibril_posix_pipe(fds), 0); /* the number is born anew: the wait from before ends */
    ends_with_ebadf();
    return 0;
}

static void *closes_in_the_child_of_a_vfork(void *arg)
{
    (void)arg;
    pid_t pid = vfork();
    if (pid == 0) {
        _exit(fibril_posix_close(outside.fd) == 0 ? 0 : 1);
    }
    int status;
    outside.rc = waitpid(pid, &status, 0) == pid ? status : -1;
    atomic_store(&outside.over, true);
    return NULL;
}

/* Its descriptors are its own, though its memory is ours. */
POSIX_TEST(the_child_of_a_vfork_on_an_os_thread_disturbs_no_loop)
{
    int fds[2];
    (void)arg;
    ASSERT_EQ(fibril_posix_pipe(fds), 0);
    start_reading(fds[0]);
    run_outside(closes_in_the_child_of_a_vfork, fds[0], -1);
    ASSERT_EQ(outside.rc, 0);
    ASSERT_EQ(fibril_posix_write(fds[1], "x", 1), 1);
    ASSERT_EQ(rig_end(&call), 1);
    return 0;
}

/* ---- ranges ---------------------------------------------------------------------------------- */

POSIX_TEST(close_range_ends_the_waits_on_what_it_closes)
{
    int fds[2];
    (void)arg;
    ASSERT_EQ(fibril_posix_pipe(fds), 0);
    int high = fcntl(fds[0], F_DUPFD, 200);
    ASSERT_EQ(high, 200);
    start_reading(high);
    ASSERT_EQ(fibril_posix_close_range(150, 250, CLOSE_RANGE_CLOEXEC), 0);
    ASSERT_EQ(fcntl(high, F_GETFD), FD_CLOEXEC); /* nothing is closed */
    ASSERT_EQ(fibril_posix_close_range(201, 250, 0), 0);
    ASSERT(!call.over);
    ASSERT_EQ(fibril_posix_close_range(150, 250, 0), 0);
    ends_with_ebadf();
    ASSERT_EQ(fcntl(high, F_GETFD), -1);
    ASSERT_NE(fcntl(fds[0], F_GETFD), -1);
    return 0;
}

POSIX_TEST(closefrom_leaves_the_loop_what_it_lives_on)
{
    int fds[2];
    (void)arg;
    ASSERT_EQ(fibril_posix_pipe(fds), 0);
    start_reading(fds[0]);
    fibril_posix_closefrom(3);
    ends_with_ebadf();
    ASSERT_EQ(fcntl(fds[1], F_GETFD), -1);
    ASSERT_EQ(fibril_posix_pipe(fds), 0);
    start_reading(fds[0]);
    ASSERT_OK(fibril_sleep(1000000));
    ASSERT_EQ(fibril_posix_write(fds[1], "x", 1), 1);
    ASSERT_EQ(rig_end(&call), 1);
    return 0;
}

POSIX_TEST(close_range_refuses_what_the_kernel_refuses)
{
    (void)arg;
    ASSERT_ERRNO(fibril_posix_close_range(10, 9, 0), EINVAL);
    ASSERT_ERRNO(fibril_posix_close_range(500, 600, 1 << 20), EINVAL);
    return 0;
}

/* ---- messages -------------------------------------------------------------------------------- */

union control {
    struct cmsghdr head;
    char room[CMSG_SPACE(sizeof(int))];
};

static void send_descriptor(int socket, int fd)
{
    union control control;
    memset(&control, 0, sizeof control);
    struct iovec iov = {.iov_base = "d", .iov_len = 1};
    struct msghdr m = {.msg_iov = &iov,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    ASSERT_EQ(fibril_posix_sendmsg(socket, &m, 0), 1);
}

static int receive_descriptor(int socket, bool many)
{
    union control control;
    char byte;
    int fd = -1;
    struct iovec iov = {.iov_base = &byte, .iov_len = 1};
    struct mmsghdr v = {.msg_hdr = {.msg_iov = &iov,
                                    .msg_iovlen = 1,
                                    .msg_control = &control,
                                    .msg_controllen = sizeof control}};
    long n = many ? fibril_posix_recvmmsg(socket, &v, 1, 0, NULL)
                  : fibril_posix_recvmsg(socket, &v.msg_hdr, 0);
    ASSERT_EQ(n, 1);
    memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&v.msg_hdr)), sizeof fd);
    return fd;
}

/* The number was another's, who closed it where nobody saw it: he gets an error, and what came with
 * the message is read as what it is. */
static void receive_under_an_old_number(bool many)
{
    int sockets[2], old[2], sent[2];
    ASSERT_EQ(fibril_posix_socketpair(AF_UNIX, SOCK_STREAM, 0, sockets), 0);
    ASSERT_EQ(fibril_posix_pipe(sent), 0);
    ASSERT_EQ(fibril_posix_socketpair(AF_UNIX, SOCK_STREAM, 0, old), 0);
    start_reading(old[0]);
    ASSERT_EQ(close(old[0]), 0);
    send_descriptor(sockets[0], sent[0]);
    ASSERT_EQ(receive_descriptor(sockets[1], many), old[0]);
    ASSERT_EQ(rig_end(&call), -1);
    start_reading(old[0]);
    ASSERT_EQ(fibril_posix_write(sent[1], "x", 1), 1);
    ASSERT_EQ(rig_end(&call), 1);
    ASSERT_EQ(call.buf[0], 'x');
}

POSIX_TEST(nothing_stale_is_known_of_a_descriptor_that_recvmsg_brings)
{
    (void)arg;
    receive_under_an_old_number(/* many= */ false);
    return 0;
}

POSIX_TEST(nor_of_one_that_recvmmsg_brings)
{
    (void)arg;
    receive_under_an_old_number(/* many= */ true);
    return 0;
}
