/* SPDX-License-Identifier: MIT */
/*
 * Kernels that refuse io_uring, as containers do: a seccomp filter makes its system calls fail.
 * "auto" must then give epoll without a word, "uring" just that error; and a poller that works must
 * come out of it.
 */
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "rig.h"

/* From now on the system calls of this process from `first` to `last` fail with `error`. */
static void refuse(unsigned first, unsigned last, unsigned error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, first, 0, 2),
        BPF_JUMP(BPF_JMP | BPF_JGT | BPF_K, last, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = sizeof(code) / sizeof(code[0]), .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) < 0) {
        SKIP("no seccomp filters here");
    }
    errno = 0;
    if (syscall((long)first, -1, NULL, 0, 0, NULL, 0) != -1 || errno != (int)error) {
        SKIP("the filter is not obeyed here"); /* an emulator */
    }
}

/* "auto" must give a poller of that name, through which a byte can be had. */
static void expect_auto(const char *name)
{
    struct fibril__poller *p = NULL;
    int fds[2];
    char c = 0;
    struct waiter w;
    ASSERT_OK(fibril__poll_open("auto", NULL, &p));
    ASSERT_STR(p->ops->name, name);
    rig_pair(fds);
    START(&w, RECV, fds[0], .buf = &c, .len = 1);
    rig_look(p);
    ASSERT_EQ(write(fds[1], "x", 1), 1);
    ASSERT_EQ(rig_finish(p, &w), 1);
    ASSERT_EQ(c, 'x');
    rig_close(p, fds[0]);
    close(fds[1]);
    p->ops->close(p);
}

/* The lowest descriptor that is free: the same before and after means that none was leaked. */
static int lowest_free(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

static void refused_setup(unsigned error)
{
    struct fibril__poller *p = NULL;
    refuse(SYS_io_uring_setup, SYS_io_uring_setup, error);
    int before = lowest_free();
    ASSERT_ERR(fibril__poll_open("uring", NULL, &p), -(int)error);
    expect_auto("epoll");
    ASSERT_EQ(lowest_free(), before);
}

TEST(auto_is_epoll_where_setup_is_not_permitted)
{
    refused_setup(EPERM);
}

TEST(auto_is_epoll_where_setup_is_unknown)
{
    refused_setup(ENOSYS);
}

TEST(auto_is_epoll_where_setup_finds_its_flags_invalid)
{
    refused_setup(EINVAL);
}

TEST(auto_is_epoll_where_memory_may_not_be_locked)
{
    refused_setup(ENOMEM);
}

TEST(auto_is_epoll_where_a_ring_can_be_made_but_not_probed)
{
    struct fibril__poller *p = NULL;
    if (fibril__poll_open("uring", NULL, &p) < 0) {
        SKIP("the kernel refuses io_uring");
    }
    p->ops->close(p);
    refuse(SYS_io_uring_register, SYS_io_uring_register, EPERM);
    int before = lowest_free();
    ASSERT_ERR(fibril__poll_open("uring", NULL, &p), -EPERM);
    expect_auto("epoll");
    ASSERT_EQ(lowest_free(), before);
}

TEST(auto_is_epoll_where_a_ring_can_be_made_but_not_entered)
{
    struct fibril__poller *p = NULL;
    if (fibril__poll_open("uring", NULL, &p) < 0) {
        SKIP("the kernel refuses io_uring");
    }
    p->ops->close(p);
    refuse(SYS_io_uring_enter, SYS_io_uring_enter, EPERM);
    int before = lowest_free();
    ASSERT_ERR(fibril__poll_open("uring", NULL, &p), -EPERM);
    expect_auto("epoll");
    ASSERT_EQ(lowest_free(), before);
}

TEST(epoll_waits_by_milliseconds_where_epoll_pwait2_is_unknown)
{
    struct fibril__poller *p = NULL;
    refuse(SYS_epoll_pwait2, SYS_epoll_pwait2, ENOSYS);
    ASSERT_OK(fibril__poll_open("epoll", NULL, &p));
    for (int i = 0; i < 3; i++) {
        int64_t deadline = p->ops->now(p) + 1200000;
        ASSERT_EQ(p->ops->wait(p, deadline), 0);
        ASSERT_GE(p->ops->now(p), deadline);
    }
    p->ops->close(p);
}

TEST(auto_is_uring_where_the_kernel_grants_it)
{
    struct fibril__poller *p = NULL;
    if (fibril__poll_open("uring", NULL, &p) < 0) {
        SKIP("the kernel refuses io_uring");
    }
    p->ops->close(p);
    expect_auto("uring");
}

TEST(unknown_names_are_invalid)
{
    struct fibril__poller *p = NULL;
    ASSERT_ERR(fibril__poll_open("kqueue", NULL, &p), -EINVAL);
    ASSERT_ERR(fibril__poll_open("", NULL, &p), -EINVAL);
}
