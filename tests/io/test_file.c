/* SPDX-License-Identifier: MIT */
/*
 * Regular files and sendfile.
 */
#include "io_test.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static char folder[64];

static void make_folder(void)
{
    snprintf(folder, sizeof(folder), "/tmp/fibril-file-XXXXXX");
    ASSERT(mkdtemp(folder));
}

static void path_of(const char *name, char ret_path[128])
{
    snprintf(ret_path, 128, "%s/%s", folder, name);
}

static void remove_folder(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    ASSERT_EQ(system(command), 0);
}

/* A file of the pattern; when `cold`, the page cache has dropped it (if the kernel obeys). */
static int make_file(const char *name, size_t len, bool cold)
{
    char path[128];
    path_of(name, path);
    int fd = fibril_open(path, O_RDWR | O_CREAT | O_TRUNC, 0600, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    char *bytes = malloc(len + 1);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = io_byte(i);
    }
    for (size_t at = 0; at < len;) {
        ssize_t n = fibril_pwrite(fd, bytes + at, len - at, (off_t)at, FIBRIL_FOREVER);
        ASSERT_GT(n, 0);
        at += (size_t)n;
    }
    free(bytes);
    if (cold) {
        ASSERT_OK(fibril_fsync(fd, FIBRIL_FOREVER));
        posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
    }
    return fd;
}

EACH_STACK(what_is_written_is_read_back)
{
    make_folder();
    for (int cold = 0; cold < 2; cold++) {
        size_t len = 300000;
        int fd = make_file("plain", len, cold);
        char *bytes = malloc(len);
        ssize_t n = fibril_pread(fd, bytes, 1000, 777, FIBRIL_FOREVER);
        ASSERT_EQ(n, 1000);
        ASSERT_EQ(bytes[0], io_byte(777));
        ASSERT_EQ(fibril_read_all(fd, bytes, len, FIBRIL_FOREVER), (ssize_t)len);
        for (size_t i = 0; i < len; i++) {
            ASSERT_EQ(bytes[i], io_byte(i));
        }
        ASSERT_EQ(fibril_read(fd, bytes, 1, FIBRIL_FOREVER), 0);
        ASSERT_EQ(fibril_pread(fd, bytes, 100, (off_t)len - 10, FIBRIL_FOREVER), 10);
        ASSERT_EQ(fibril_pread(fd, bytes, 100, (off_t)len, FIBRIL_FOREVER), 0);
        free(bytes);
        ASSERT_OK(fibril_close(fd));
    }
    remove_folder();
    return 0;
}

EACH_STACK(a_file_has_a_position)
{
    char bytes[16] = "";
    make_folder();
    int fd = make_file("position", 0, false);
    struct iovec iov[2] = {{(char[]){'a', 'b'}, 2}, {(char[]){'c', 'd'}, 2}};
    ASSERT_EQ(fibril_write_all(fd, "12345", 5, FIBRIL_FOREVER), 5);
    ASSERT_EQ(fibril_writev_all(fd, iov, 2, FIBRIL_FOREVER), 4);
    ASSERT_EQ(lseek(fd, 3, SEEK_SET), 3);
    ASSERT_EQ(fibril_read(fd, bytes, 2, FIBRIL_FOREVER), 2);
    ASSERT_EQ(fibril_read(fd, bytes + 2, 10, FIBRIL_FOREVER), 4);
    ASSERT_MEM(bytes, "45abcd", 6);
    ASSERT_EQ(fibril_fd_wait(fd, POLLIN | POLLOUT, FIBRIL_FOREVER), POLLIN | POLLOUT);
    ASSERT_ERR(fibril_pread(fd, bytes, 1, -1, FIBRIL_FOREVER), -EINVAL);
    ASSERT_OK(fibril_close(fd));
    remove_folder();
    return 0;
}

EACH_STACK(syncing_and_asking_work)
{
    struct stat st;
    make_folder();
    int fd = make_file("sync", 1234, false);
    ASSERT_OK(fibril_fsync(fd, FIBRIL_FOREVER));
    ASSERT_OK(fibril_fdatasync(fd, FIBRIL_FOREVER));
    ASSERT_OK(fibril_fstat(fd, &st));
    ASSERT_EQ(st.st_size, 1234);
    ASSERT_EQ(st.st_mode & 07777, 0600u);
    ASSERT_OK(fibril_close(fd));
    ASSERT_ERR(fibril_fsync(fd, FIBRIL_FOREVER), -EBADF);
    ASSERT_ERR(fibril_fstat(fd, &st), -EBADF);
    remove_folder();
    return 0;
}

EACH_STACK(opening_fails_as_open_does)
{
    char path[128];
    make_folder();
    path_of("nothing", path);
    ASSERT_ERR(fibril_open(path, O_RDONLY, 0, FIBRIL_FOREVER), -ENOENT);
    ASSERT_ERR(fibril_open(folder, O_WRONLY, 0, FIBRIL_FOREVER), -EISDIR);
    int fd = fibril_open(path, O_CREAT | O_EXCL | O_RDONLY, 0644, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    ASSERT_ERR(fibril_pwrite(fd, "x", 1, 0, FIBRIL_FOREVER), -EBADF);
    ASSERT_ERR(fibril_open(path, O_CREAT | O_EXCL, 0644, FIBRIL_FOREVER), -EEXIST);
    ASSERT_OK(fibril_close(fd));
    remove_folder();
    return 0;
}

EACH_STACK(nothing_leads_out_of_a_folder)
{
    char path[128];
    io_need_call(SYS_openat2);
    make_folder();
    int dir = fibril_open(folder, O_RDONLY | O_DIRECTORY, 0, FIBRIL_FOREVER);
    ASSERT_OK(dir);
    ASSERT_OK(fibril_close(make_file("inside", 10, false)));
    path_of("out", path);
    ASSERT_EQ(symlink("/etc/passwd", path), 0);
    path_of("up", path);
    ASSERT_EQ(symlink("../../etc/passwd", path), 0);
    path_of("in", path);
    ASSERT_EQ(symlink("inside", path), 0);
    static const char *const outside[] = {"../x", "/etc/passwd", "out", "up", "./../../etc"};
    for (int i = 0; i < 5; i++) {
        ASSERT_ERR(fibril_open_beneath(dir, outside[i], O_RDONLY, 0, FIBRIL_FOREVER), -EXDEV);
    }
    int fd = fibril_open_beneath(dir, "in", O_RDONLY, 0, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    fibril_close(fd);
    fd = fibril_open_beneath(dir, "new", O_WRONLY | O_CREAT, 0600, FIBRIL_FOREVER);
    ASSERT_OK(fd);
    fibril_close(fd);
    ASSERT_ERR(fibril_open_beneath(dir, "no", O_RDONLY, 0, FIBRIL_FOREVER), -ENOENT);
    fibril_close(dir);
    remove_folder();
    return 0;
}

/* ---- many at once ---------------------------------------------------------------------------- */

static int read_slice(void *arg)
{
    int *at = arg;
    char bytes[512];
    for (int i = 0; i < 20; i++) {
        size_t offset = (size_t)(*at * 20 + i) * 512;
        ASSERT_EQ(fibril_pread(at[1], bytes, 512, (off_t)offset, FIBRIL_FOREVER), 512);
        for (size_t k = 0; k < 512; k++) {
            ASSERT_EQ(bytes[k], io_byte(offset + k));
        }
    }
    return 0;
}

EACH_STACK(many_read_one_file_at_once)
{
    make_folder();
    int fd = make_file("many", 100 * 20 * 512, true);
    int(*at)[2] = calloc(100, sizeof(*at));
    struct fibril *f[100];
    for (int i = 0; i < 100; i++) {
        at[i][0] = i;
        at[i][1] = fd;
        f[i] = io_start(read_slice, at[i]);
    }
    for (int i = 0; i < 100; i++) {
        ASSERT_EQ(io_end(f[i]), 0);
    }
    ASSERT_OK(fibril_close(fd));
    free(at);
    remove_folder();
    return 0;
}

/* ---- sendfile -------------------------------------------------------------------------------- */

struct sending {
    int out, in;
    size_t len;
};

static int send_all(void *arg)
{
    struct sending *s = arg;
    off_t offset = 5;
    while ((size_t)offset < s->len) {
        off_t before = offset;
        size_t left = s->len - (size_t)offset;
        ssize_t n = fibril_sendfile(s->out, s->in, &offset, left, FIBRIL_FOREVER);
        ASSERT_GT(n, 0);
        ASSERT_EQ(offset, before + n);
    }
    ASSERT_EQ(fibril_sendfile(s->out, s->in, &offset, 100, FIBRIL_FOREVER), 0);
    ASSERT_OK(fibril_close(s->out));
    return 0;
}

static void send_through(int out, int in, size_t len, bool cold)
{
    struct sending *s = calloc(1, sizeof(*s));
    *s = (struct sending){.out = out, .in = make_file("sent", len, cold), .len = len};
    struct fibril *f = io_start(send_all, s);
    char bytes[3000];
    size_t at = 5;
    ssize_t n;
    while ((n = fibril_read(in, bytes, sizeof(bytes), FIBRIL_FOREVER)) > 0) {
        for (ssize_t i = 0; i < n; i++, at++) {
            ASSERT_EQ(bytes[i], io_byte(at));
        }
    }
    ASSERT_EQ(n, 0);
    ASSERT_EQ(at, len);
    ASSERT_EQ(io_end(f), 0);
    ASSERT_OK(fibril_close(s->in));
    ASSERT_OK(fibril_close(in));
    free(s);
}

EACH_STACK(a_file_is_sent_whole_to_sockets_and_pipes)
{
    int q[2];
    size_t len = test_is_slow() ? 300000 : 2000000;
    make_folder();
    for (int cold = 0; cold < 2; cold++) {
        io_tcp_pair(q);
        send_through(q[0], q[1], len, cold);
        io_unix_pair(true, q);
        send_through(q[0], q[1], len, cold);
        ASSERT_OK(fibril_pipe(q));
        send_through(q[1], q[0], len, cold);
    }
    remove_folder();
    return 0;
}

EACH_STACK(sending_a_file_waits_for_room_and_survives_a_gone_peer)
{
    int q[2];
    make_folder();
    int fd = make_file("gone", 100000, false);
    io_unix_pair(false, q);
    io_fill(q[0]);
    off_t offset = 0;
    ASSERT_ERR(fibril_sendfile(q[0], fd, &offset, 1000, io_in(5)), -ETIMEDOUT);
    ASSERT_EQ(offset, 0);
    fibril_close(q[0]);
    fibril_close(q[1]);
    io_unix_pair(false, q);
    fibril_close(q[1]);
    ASSERT_ERR(fibril_sendfile(q[0], fd, &offset, 1000, FIBRIL_FOREVER), -EPIPE);
    fibril_close(q[0]);
    ASSERT_ERR(fibril_sendfile(q[0], fd, &offset, 1000, FIBRIL_FOREVER), -EBADF);
    fibril_close(fd);
    remove_folder();
    return 0;
}
