/* SPDX-License-Identifier: MIT */
/*
 * Operations on regular files, which only io_uring takes; epoll must say so.
 */
#include <linux/openat2.h>
#include <stdlib.h>

#include "rig.h"

static int make_file(char *path)
{
    int fd = mkstemp(path);
    ASSERT_OK(fd);
    return fd;
}

BOTH(files_are_taken_where_the_poller_says_so)
{
    char path[] = "/tmp/fibril-files-XXXXXX", buf[8] = "";
    int fd = make_file(path);
    struct waiter w;
    START(&w, PWRITE, fd, .buf = "abcdef", .len = 6, .offset = 2);
    if (!p->files_by_ring) {
        ASSERT_EQ(w.at_once, 1);
        ASSERT_EQ(w.op.result, -EOPNOTSUPP);
    } else {
        ASSERT_EQ(rig_finish(p, &w), 6);
        START(&w, FSYNC, fd, .flags = 1);
        ASSERT_EQ(rig_finish(p, &w), 0);
        START(&w, PREAD, fd, .buf = buf, .len = sizeof(buf), .offset = 0);
        ASSERT_EQ(rig_finish(p, &w), 8);
        ASSERT_MEM(buf, "\0\0abcdef", 8);
        START(&w, PREAD, fd, .buf = buf, .len = sizeof(buf), .offset = 8);
        ASSERT_EQ(rig_finish(p, &w), 0);
        START(&w, PREAD, fd, .buf = buf, .len = sizeof(buf), .offset = -1);
        ASSERT_EQ(rig_finish(p, &w), 8); /* at the file's own position, as for read(2) */
    }
    rig_close(p, fd);
    unlink(path);
}

BOTH(open_beneath_a_directory_stays_beneath)
{
    char path[] = "/tmp/fibril-files-XXXXXX";
    struct waiter w;
    if (!p->files_by_ring) {
        SKIP("this poller opens no files");
    }
    rig_close(p, make_file(path));
    int dir = open("/tmp", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    struct open_how how = {.flags = O_RDONLY | O_CLOEXEC, .resolve = RESOLVE_BENEATH};
    START(&w, OPENAT2, dir, .buf = path + 5, .len = (size_t)(uintptr_t)&how);
    int64_t fd = rig_finish(p, &w);
    ASSERT_GT(fd, 0);
    rig_close(p, (int)fd);
    START(&w, OPENAT2, dir, .buf = "../etc/passwd", .len = (size_t)(uintptr_t)&how);
    ASSERT_EQ(rig_finish(p, &w), -EXDEV);
    how.resolve = 0;
    START(&w, OPENAT2, AT_FDCWD, .buf = path, .len = (size_t)(uintptr_t)&how);
    fd = rig_finish(p, &w);
    ASSERT_GT(fd, 0);
    rig_close(p, (int)fd);
    rig_close(p, dir);
    unlink(path);
}

/* Several at once on one file, and FORGET waits for those the kernel has. */
BOTH(forget_waits_for_operations_on_files)
{
    enum { N = 32 };
    static char data[N][4096];
    char path[] = "/tmp/fibril-files-XXXXXX";
    struct waiter w[N];
    if (!p->files_by_ring) {
        SKIP("this poller takes no files");
    }
    int fd = make_file(path);
    for (int i = 0; i < N; i++) {
        memset(data[i], i + 1, sizeof(data[i]));
        START(&w[i], PWRITE, fd, .buf = data[i], .len = sizeof(data[i]), .offset = i * 4096);
    }
    rig_close(p, fd);
    for (int i = 0; i < N; i++) {
        ASSERT_EQ(w[i].calls, 1);
        ASSERT_EQ(w[i].op.result == 4096 || w[i].op.result == -EBADF, 1);
    }
    unlink(path);
}
