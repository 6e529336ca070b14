/* SPDX-License-Identifier: MIT */
/*
 * See io_test.h.
 */
#include "io_test.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static enum fibril_stack policy;

struct start {
    fibril_fn *fn;
};

void io_policy(enum fibril_stack stack)
{
    policy = stack;
}

static int run_main(void *arg)
{
    struct start *start = arg;
    int result = io_end(io_start(start->fn, NULL));
    ASSERT_EQ(result, 0);
    return 0;
}

void io_run(fibril_fn *fn, enum fibril_stack stack)
{
    struct start start = {fn};
    io_policy(stack);
    int rc = fibril_run(NULL, run_main, &start);
    if (rc == -ENOSYS || rc == -EPERM) {
        SKIP("the kernel refuses this poller");
    }
    ASSERT_OK(rc);
}

struct fibril *io_start(fibril_fn *fn, void *arg)
{
    struct fibril_spawn_opts opts = {.stack = policy};
    struct fibril *f;
    ASSERT_OK(fibril_spawn(fn, arg, &opts, &f));
    return f;
}

int io_end(struct fibril *f)
{
    int result;
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    return result;
}

void io_settle(void)
{
    for (int i = 0; i < 20; i++) {
        ASSERT_OK(fibril_yield());
    }
}

int64_t io_in(int ms)
{
    return fibril_after((int64_t)ms * 1000000);
}

int io_listener(struct fibril_addr *ret_addr)
{
    struct fibril_addr any;
    ASSERT_OK(fibril_addr_parse("127.0.0.1:0", &any));
    int fd = fibril_listen(&any, 1024, 0);
    ASSERT_OK(fd);
    ASSERT_OK(fibril_addr_local(fd, ret_addr));
    return fd;
}

void io_tcp_pair(int ret_fds[2])
{
    struct fibril_addr addr;
    int listener = io_listener(&addr);
    ret_fds[0] = fibril_connect(&addr, FIBRIL_FOREVER);
    ASSERT_OK(ret_fds[0]);
    ret_fds[1] = fibril_accept(listener, NULL, FIBRIL_FOREVER);
    ASSERT_OK(ret_fds[1]);
    ASSERT_OK(fibril_close(listener));
}

void io_unix_pair(bool blocking, int ret_fds[2])
{
    int type = SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK);
    ASSERT_EQ(socketpair(AF_UNIX, type, 0, ret_fds), 0);
}

/* Writes until it would wait. */
static size_t fill_once(int fd)
{
    static const char zeros[4096];
    size_t total = 0;
    for (;;) {
        ssize_t n = fibril_write(fd, zeros, sizeof(zeros), 0);
        if (n < 0) {
            ASSERT_ERR(n, -ETIMEDOUT);
            return total;
        }
        total += (size_t)n;
    }
}

/* TCP makes room a little later when it moves bytes to the peer's side, so it is full only when
 * nothing goes in after a while either. */
size_t io_fill(int fd)
{
    size_t total = 0, more;
    do {
        more = fill_once(fd);
        total += more;
        ASSERT_OK(fibril_sleep(2000000));
    } while (more > 0);
    return total;
}

void io_need_call(long number)
{
    if (syscall(number, -1, -1, NULL, 0) < 0 && errno == ENOSYS) {
        SKIP("a system call that this needs is unknown here");
    }
}

int io_count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    ASSERT(dir);
    int n = 0;
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}
