/* SPDX-License-Identifier: MIT */
/*
 * Reading and writing files inside this floor: by the ring, or by the offload pool.
 */
#ifndef FIBRIL_IO_FILE_H
#define FIBRIL_IO_FILE_H

#include <stdint.h>
#include <sys/types.h>

/* Instead of an offset: at the file's own position, which moves. */
#define FIBRIL__FILE_POSITION INT64_C(-1)

ssize_t fibril__file_read(int fd, void *buf, size_t len, int64_t offset, int64_t deadline_ns);
ssize_t fibril__file_write(int fd, const void *buf, size_t len, int64_t offset,
                           int64_t deadline_ns);

#endif
