/* SPDX-License-Identifier: MIT */
/*
 * The transport that comes with fibril: a connected stream socket.
 */
#ifndef FIBRIL_ACTOR_TRANSPORT_H
#define FIBRIL_ACTOR_TRANSPORT_H

#include <fibril/node.h>

extern const struct fibril_transport fibril__transport_fd;
/* Its object for fd, which is the object's then, or is closed: NULL. */
void *fibril__transport_of(int fd);

#endif
