/* SPDX-License-Identifier: MIT */
/*
 * Every call without memory: it says -ENOMEM, leaks no descriptor, and works again once there is
 * memory. Each scenario is walked through all of its points of failure.
 */
#include "io_test.h"

#include "base/alloc.h"

#include <errno.h>
#include <fibril/embed.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

/* Runs the scenario with ever more allocations granted until it succeeds. */
static void walk(int (*scenario)(void))
{
    for (int n = 0; n < 200; n++) {
        int before = io_count_fds();
        fibril__alloc_fail_after(n);
        int rc = scenario();
        fibril__alloc_fail_after(-1);
        while (io_count_fds() > before) { /* the reaper may still have a child's; a leak stays */
            usleep(1000);
        }
        if (rc >= 0) {
            return;
        }
        ASSERT_ERR(rc, -ENOMEM);
    }
    test_fail(__FILE__, __LINE__, "never succeeds");
}

static int q[2];

static int wait_and_time_out(void)
{
    char byte;
    int rc = (int)fibril_read(q[0], &byte, 1, io_in(1));
    return rc == -ETIMEDOUT ? 0 : rc;
}

EACH_STACK(a_read_without_memory)
{
    io_unix_pair(false, q);
    walk(wait_and_time_out);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

static struct fibril_addr addr;

static int connect_and_close(void)
{
    int fd = fibril_connect(&addr, FIBRIL_FOREVER);
    return fd < 0 ? fd : fibril_close(fd);
}

EACH_STACK(a_connect_without_memory)
{
    int listener = io_listener(&addr);
    walk(connect_and_close);
    fibril_close(listener);
    return 0;
}

static int connect_host_and_close(void)
{
    char text[64];
    fibril_addr_format(&addr, text, sizeof(text));
    int fd = fibril_connect_host("127.0.0.1", strchr(text, ':') + 1, FIBRIL_FOREVER);
    return fd < 0 ? fd : fibril_close(fd);
}

EACH_STACK(a_connect_to_a_host_without_memory)
{
    int listener = io_listener(&addr);
    walk(connect_host_and_close);
    fibril_close(listener);
    return 0;
}

static int resolve_and_free(void)
{
    struct addrinfo *list;
    int rc = fibril_resolve("localhost", "1", NULL, &list, NULL, FIBRIL_FOREVER);
    if (rc == 0) {
        freeaddrinfo(list);
    }
    return rc;
}

EACH_STACK(a_lookup_without_memory)
{
    walk(resolve_and_free);
    return 0;
}

static int open_and_read(void)
{
    char bytes[64];
    int fd = fibril_open("/etc/passwd", O_RDONLY, 0, FIBRIL_FOREVER);
    if (fd < 0) {
        return fd;
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    int rc = (int)fibril_pread(fd, bytes, sizeof(bytes), 0, FIBRIL_FOREVER);
    rc = rc < 0 ? rc : fibril_fsync(fd, FIBRIL_FOREVER);
    int closed = fibril_close(fd);
    ASSERT_OK(closed); /* never for want of memory */
    return rc;
}

EACH_STACK(a_file_without_memory)
{
    walk(open_and_read);
    return 0;
}

static int run_true(void)
{
    const char *const argv[] = {"true", NULL};
    struct fibril_process_opts opts = {.argv = argv, .pipe_stdout = true};
    struct fibril_process *p;
    int rc = fibril_process_start(&opts, &p);
    if (rc < 0) {
        return rc;
    }
    rc = fibril_process_wait(p, FIBRIL_FOREVER, NULL);
    fibril_process_free(p);
    return rc;
}

EACH_STACK(a_process_without_memory)
{
    io_need_call(SYS_pidfd_open);
    walk(run_true);
    return 0;
}

static void nothing(struct fibril_watch *w, int result)
{
    (void)w;
    (void)result;
}

static int watch_and_stop(void)
{
    struct fibril_watch w;
    int rc = fibril_watch_start(&w, q[0], POLLIN, io_in(100000), nothing);
    if (rc == 0) {
        ASSERT_EQ(fibril_watch_stop(&w), 0);
        rc = fibril_watch_start(&w, q[0], POLLOUT, FIBRIL_FOREVER, nothing);
    }
    return rc == 0 ? fibril_watch_stop(&w) : rc;
}

IO_TEST(a_watch_without_memory)
{
    io_unix_pair(false, q);
    walk(watch_and_stop);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}
