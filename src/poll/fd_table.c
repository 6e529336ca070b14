/* SPDX-License-Identifier: MIT */
/*
 * See fd_table.h. Classification is careful about "stream": only TCP and pipes without packet mode
 * promise that a short read has emptied them. A UNIX stream socket stops at each message that
 * carries descriptors or other credentials, a terminal at each line, and so a reader that believed
 * in their short reads could sleep on data.
 */
#include "poll/fd_table.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { RECORDS = 1 << FIBRIL__FD_CHUNK_BITS };

_Static_assert(sizeof(struct fibril__fd_record) <= 64, "a record should stay one cache line");

void fibril__fd_table_fini(struct fibril__fd_table *t)
{
    for (uint32_t i = 0; i < t->count; i++) {
        fibril__free(t->chunks[i]);
    }
    fibril__free(t->chunks);
    *t = (struct fibril__fd_table){NULL, 0};
}

static int grow_directory(struct fibril__fd_table *t, uint32_t need)
{
    uint32_t count = t->count ? t->count : 16;
    while (count < need) {
        count *= 2;
    }
    struct fibril__fd_record **chunks = fibril__realloc(t->chunks, count * sizeof(*chunks));
    if (!chunks) {
        return -ENOMEM;
    }
    memset(chunks + t->count, 0, (count - t->count) * sizeof(*chunks));
    t->chunks = chunks;
    t->count = count;
    return 0;
}

static struct fibril__fd_record *make_chunk(void)
{
    struct fibril__fd_record *chunk = fibril__alloc_zero(RECORDS * sizeof(*chunk));
    for (int i = 0; chunk && i < RECORDS; i++) {
        fibril__list_init(&chunk[i].readers);
        fibril__list_init(&chunk[i].writers);
        fibril__list_init(&chunk[i].watchers);
    }
    return chunk;
}

struct fibril__fd_record *fibril__fd_table_grow(struct fibril__fd_table *t, int fd)
{
    uint32_t at = (uint32_t)fd >> FIBRIL__FD_CHUNK_BITS;
    if (at >= t->count && grow_directory(t, at + 1) < 0) {
        return NULL;
    }
    if (!t->chunks[at]) {
        t->chunks[at] = make_chunk();
    }
    return t->chunks[at] ? &t->chunks[at][fd & (RECORDS - 1)] : NULL;
}

static uint8_t kind_of_socket(int fd)
{
    int protocol = 0;
    socklen_t len = sizeof(protocol);
    if (getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &protocol, &len) == 0 && protocol == IPPROTO_TCP) {
        return FIBRIL__KIND_TCP;
    }
    return FIBRIL__KIND_SOCKET;
}

void fibril__fd_classify_socket(struct fibril__fd_record *r, int fd)
{
    r->kind = kind_of_socket(fd);
}

static uint8_t kind_of(int fd, mode_t mode, int status)
{
    if (S_ISSOCK(mode)) {
        return kind_of_socket(fd);
    }
    if (S_ISFIFO(mode)) {
        return status & O_DIRECT ? FIBRIL__KIND_OTHER : FIBRIL__KIND_PIPE;
    }
    return S_ISREG(mode) || S_ISDIR(mode) || S_ISBLK(mode) ? FIBRIL__KIND_FILE : FIBRIL__KIND_OTHER;
}

int fibril__fd_classify(struct fibril__fd_record *r, int fd)
{
    struct stat st;
    int status = fcntl(fd, F_GETFL);
    if (status < 0 || fstat(fd, &st) < 0) {
        return -errno;
    }
    r->kind = kind_of(fd, st.st_mode, status);
    r->flags &= (uint8_t)~FIBRIL__FD_BLOCKING;
    r->flags |= status & O_NONBLOCK ? 0 : FIBRIL__FD_BLOCKING;
    return 0;
}
