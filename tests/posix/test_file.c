/* SPDX-License-Identifier: MIT */
/*
 * Opening, syncing and locking files; FIFOs.
 */
#include "io_rig.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

static char dir[64], path[100];

static void make_dir(void)
{
    snprintf(dir, sizeof(dir), "/tmp/fibril-test-XXXXXX");
    ASSERT(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/it", dir);
}

static void remove_dir(void)
{
    unlink(path);
    ASSERT_OK(rmdir(dir));
}

static void open_it(struct rig_call *c)
{
    c->rc = fibril_posix_open(path, c->flags);
}

/* ---- opening ---- */

POSIX_TEST(open_makes_what_the_flags_and_the_mode_say)
{
    struct stat st;
    make_dir();
    mode_t mask = umask(0);
    ASSERT_ERRNO(fibril_posix_open(path, O_RDONLY), ENOENT);
    int fd = fibril_posix_open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0640);
    ASSERT_OK(fd);
    ASSERT_OK(fstat(fd, &st));
    ASSERT_EQ(st.st_mode & 07777, 0640);
    ASSERT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    ASSERT_EQ(fibril_posix_write(fd, "text", 4), 4);
    ASSERT_OK(fibril_posix_close(fd));
    ASSERT_ERRNO(fibril_posix_open(path, O_RDWR | O_CREAT | O_EXCL, 0640), EEXIST);
    fd = fibril_posix_openat(AT_FDCWD, path, O_RDONLY);
    ASSERT_OK(fd);
    ASSERT(!(fcntl(fd, F_GETFL) & O_NONBLOCK));
    ASSERT_OK(fibril_posix_close(fd));
    fd = fibril_posix_creat(path, 0600);
    ASSERT_OK(fstat(fd, &st));
    ASSERT_EQ(st.st_size, 0);
    ASSERT_OK(fibril_posix_close(fd));
    fd = fibril_posix_open(dir, O_RDWR | O_TMPFILE, 0604);
    if (fd >= 0) {
        ASSERT_OK(fstat(fd, &st));
        ASSERT_EQ(st.st_mode & 07777, 0604);
        ASSERT_OK(fibril_posix_close(fd));
    }
    ASSERT_OK(fd = fibril_posix___open_2(path, O_RDONLY));
    ASSERT_OK(fibril_posix_close(fd));
    umask(mask);
    remove_dir();
    return 0;
}

POSIX_TEST(a_fifo_waits_for_its_other_end)
{
    static struct rig_call c;
    char bytes[8];
    make_dir();
    ASSERT_OK(mkfifo(path, 0600));
    c = (struct rig_call){.call = open_it, .flags = O_RDONLY};
    rig_start(&c);
    ASSERT(!c.over);
    int out = fibril_posix_open(path, O_WRONLY);
    ASSERT_OK(out);
    int in = (int)rig_end(&c);
    ASSERT_OK(in);
    ASSERT(!(fcntl(in, F_GETFL) & O_NONBLOCK));
    ASSERT_EQ(fibril_posix_write(out, "fifo", 4), 4);
    ASSERT_EQ(fibril_posix_read(in, bytes, 8), 4);
    ASSERT_OK(fibril_posix_close(out));
    ASSERT_EQ(fibril_posix_read(in, bytes, 8), 0);
    ASSERT_OK(fibril_posix_close(in));
    c = (struct rig_call){.call = open_it, .flags = O_WRONLY};
    rig_start(&c);
    ASSERT(!c.over);
    in = fibril_posix_open(path, O_RDONLY);
    ASSERT_OK(in);
    out = (int)rig_end(&c);
    ASSERT_OK(fibril_posix_close(out));
    ASSERT_OK(fibril_posix_close(in));
    remove_dir();
    return 0;
}

static int descriptors(void)
{
    int fd = dup(0);
    close(fd);
    return fd;
}

POSIX_TEST(a_wait_for_the_other_end_of_a_fifo_is_cancelled_and_leaves_nothing)
{
    static struct rig_call c;
    make_dir();
    ASSERT_OK(mkfifo(path, 0600));
    int lowest = descriptors(), flags[] = {O_RDONLY, O_WRONLY};
    for (int i = 0; i < 2; i++) {
        c = (struct rig_call){.call = open_it, .flags = flags[i]};
        rig_cancel_ends_it(&c);
        ASSERT_ERRNO(fibril_posix_open(path, O_WRONLY | O_NONBLOCK), ENXIO); /* nobody reads */
        ASSERT_EQ(descriptors(), lowest);
    }
    remove_dir();
    return 0;
}

/* Another process opens it in the kernel's way. */
static pid_t open_elsewhere(int flags)
{
    pid_t child = fork();
    if (child == 0) {
        int fd = open(path, flags);
        _exit(fd >= 0 ? 0 : 1);
    }
    return child;
}

POSIX_TEST(a_fifo_is_opened_together_with_another_process)
{
    static struct rig_call c;
    int flags[] = {O_RDONLY, O_WRONLY}, status;
    make_dir();
    ASSERT_OK(mkfifo(path, 0600));
    for (int i = 0; i < 4; i++) {
        bool first = i < 2; /* who comes first: we, or the other */
        c = (struct rig_call){.call = open_it, .flags = flags[i % 2]};
        pid_t child = first ? 0 : open_elsewhere(flags[1 - i % 2]);
        rig_start(&c);
        child = first ? open_elsewhere(flags[1 - i % 2]) : child;
        int fd = (int)rig_end(&c);
        ASSERT_OK(fd);
        ASSERT(!(fcntl(fd, F_GETFL) & O_NONBLOCK));
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_EQ(status, 0);
        ASSERT_OK(fibril_posix_close(fd));
    }
    remove_dir();
    return 0;
}

/* More wait than the pool has threads. */
POSIX_TEST(many_wait_for_the_other_ends_of_fifos)
{
    enum { N = 100 };
    static struct rig_call readers[N];
    static int out[N];
    make_dir();
    ASSERT_OK(mkfifo(path, 0600));
    for (int i = 0; i < N; i++) {
        readers[i] = (struct rig_call){.call = open_it, .flags = O_RDONLY};
        rig_start(&readers[i]);
        ASSERT(!readers[i].over);
    }
    int fd = fibril_posix_open(path, O_WRONLY);
    ASSERT_OK(fd);
    for (int i = 0; i < N; i++) {
        ASSERT_OK(out[i] = (int)rig_end(&readers[i]));
    }
    for (int i = 0; i < N; i++) {
        ASSERT_OK(fibril_posix_close(out[i]));
    }
    ASSERT_OK(fibril_posix_close(fd));
    remove_dir();
    return 0;
}

POSIX_TEST(a_fifo_that_need_not_wait_is_opened_at_once)
{
    static struct rig_call c;
    make_dir();
    ASSERT_OK(mkfifo(path, 0600));
    ASSERT_ERRNO(fibril_posix_open(path, O_WRONLY | O_NONBLOCK), ENXIO);
    int flags[] = {O_RDWR, O_RDONLY | O_NONBLOCK};
    for (int i = 0; i < 2; i++) {
        c = (struct rig_call){.call = open_it, .flags = flags[i]};
        rig_start(&c);
        ASSERT(c.over);
        ASSERT_OK(fibril_posix_close((int)rig_end(&c)));
    }
    remove_dir();
    return 0;
}

/* ---- locks ---- */

static void flock_it(struct rig_call *c)
{
    c->rc = fibril_posix_flock(c->fd, c->flags);
}

POSIX_TEST(flock_waits_for_the_holder)
{
    static struct rig_call c;
    make_dir();
    int one = fibril_posix_creat(path, 0600), two = fibril_posix_open(path, O_RDWR);
    ASSERT_KEEPS_ERRNO(fibril_posix_flock(one, LOCK_EX), 0);
    ASSERT_ERRNO(fibril_posix_flock(two, LOCK_EX | LOCK_NB), EWOULDBLOCK);
    c = (struct rig_call){.call = flock_it, .fd = two, .flags = LOCK_SH};
    rig_start(&c);
    ASSERT(!c.over);
    ASSERT_OK(fibril_posix_flock(one, LOCK_UN));
    ASSERT_EQ(rig_end(&c), 0);
    ASSERT_OK(fibril_posix_flock(two, LOCK_UN));
    ASSERT_OK(fibril_posix_flock(one, LOCK_EX));
    rig_cancel_ends_it(&c);
    ASSERT_ERRNO(fibril_posix_flock(-1, LOCK_EX), EBADF);
    ASSERT_OK(fibril_posix_close(one));
    ASSERT_OK(fibril_posix_close(two));
    remove_dir();
    return 0;
}

static void setlkw_it(struct rig_call *c)
{
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    c->rc = fibril_posix_fcntl(c->fd, c->flags, &l);
}

POSIX_TEST(open_file_locks_wait_for_the_holder)
{
    static struct rig_call c;
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    make_dir();
    int one = fibril_posix_creat(path, 0600), two = fibril_posix_open(path, O_RDWR);
    ASSERT_KEEPS_ERRNO(fibril_posix_fcntl(one, F_OFD_SETLKW, &l), 0);
    c = (struct rig_call){.call = setlkw_it, .fd = two, .flags = F_OFD_SETLKW};
    rig_start(&c);
    ASSERT(!c.over);
    l.l_type = F_UNLCK;
    ASSERT_OK(fibril_posix_fcntl(one, F_OFD_SETLK, &l));
    ASSERT_EQ(rig_end(&c), 0);
    ASSERT_OK(fibril_posix_close(one));
    ASSERT_OK(fibril_posix_close(two));
    remove_dir();
    return 0;
}

/* Locks of a process are only held against another one. */
POSIX_TEST(record_locks_wait_for_another_process)
{
    static struct rig_call c;
    int go[2], held[2];
    char byte;
    make_dir();
    int fd = fibril_posix_creat(path, 0600);
    ASSERT_OK(pipe(go));
    ASSERT_OK(pipe(held));
    pid_t child = fork();
    if (child == 0) {
        struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
        bool ok = fcntl(fd, F_SETLK, &l) == 0 && write(held[1], "x", 1) == 1 &&
                  read(go[0], &byte, 1) == 1;
        _exit(ok ? 0 : 1);
    }
    ASSERT_EQ(fibril_posix_read(held[0], &byte, 1), 1);
    c = (struct rig_call){.call = setlkw_it, .fd = fd, .flags = F_SETLKW};
    rig_start(&c);
    ASSERT(!c.over);
    ASSERT_EQ(fibril_posix_lockf(fd, F_TEST, 0), -1);
    ASSERT_EQ(write(go[1], "x", 1), 1);
    ASSERT_EQ(rig_end(&c), 0);
    int status;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_EQ(status, 0);
    ASSERT_KEEPS_ERRNO(fibril_posix_lockf(fd, F_LOCK, 0), 0);
    int fds[] = {fd, go[0], go[1], held[0], held[1]};
    for (int i = 0; i < 5; i++) {
        ASSERT_OK(fibril_posix_close(fds[i]));
    }
    remove_dir();
    return 0;
}

/* ---- the rest ---- */

POSIX_TEST(fcntl_passes_its_arguments_on)
{
    int fd = rig_file("", 0);
    ASSERT_OK(fibril_posix_fcntl(fd, F_SETFD, FD_CLOEXEC));
    ASSERT_EQ(fibril_posix_fcntl(fd, F_GETFD), FD_CLOEXEC);
    int copy = fibril_posix_fcntl(fd, F_DUPFD, 100);
    ASSERT_GE(copy, 100);
    ASSERT_OK(fibril_posix_close(copy));
    struct flock l = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
    ASSERT_OK(fibril_posix_fcntl(fd, F_GETLK, &l));
    ASSERT_EQ(l.l_type, F_UNLCK);
    ASSERT_ERRNO(fibril_posix_fcntl(-1, F_GETFL), EBADF);
    ASSERT_OK(fibril_posix_close(fd));
    return 0;
}

POSIX_TEST(files_are_synced)
{
    int fd = rig_file("bytes", 5);
    ASSERT_KEEPS_ERRNO(fibril_posix_fsync(fd), 0);
    ASSERT_KEEPS_ERRNO(fibril_posix_fdatasync(fd), 0);
    ASSERT_OK(fibril_posix_close(fd));
    ASSERT_ERRNO(fibril_posix_fsync(fd), EBADF);
    int fds[2];
    ASSERT_OK(fibril_posix_pipe(fds));
    ASSERT_ERRNO(fibril_posix_fdatasync(fds[0]), EINVAL);
    ASSERT_OK(fibril_posix_close(fds[0]));
    ASSERT_OK(fibril_posix_close(fds[1]));
    return 0;
}
