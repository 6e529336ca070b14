/* SPDX-License-Identifier: MIT */
/* Descriptors and OS threads without a loop: see outside.c. */
#ifndef FIBRIL_IO_OUTSIDE_H
#define FIBRIL_IO_OUTSIDE_H

/* As fibril_embed_forget, on an OS thread without a loop: blocks it, a second at most. Leaves errno
 * to the caller. Async-signal-safe. */
int fibril__forget_outside(int fd);

#endif
