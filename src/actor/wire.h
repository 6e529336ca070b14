/* SPDX-License-Identifier: MIT */
/*
 * The bytes that a message is worth elsewhere, and the actors that they mention, which stand apart:
 * only the connection can say what they are called on the other side.
 */
#ifndef FIBRIL_ACTOR_WIRE_H
#define FIBRIL_ACTOR_WIRE_H

#include "actor/remote.h"

enum { FIBRIL__WIRE_BYTES_MAX = 64 << 20 };

struct fibril_wire {
    uint8_t *bytes;
    size_t len, room, at; /* at: how far decode has read */
    uint64_t *actors;     /* numbers of this process */
    uint32_t n_actors, actors_room;
    const struct fibril_message_type *type;
};

/* A type that is known here by its name, NULL if none is. */
const struct fibril_message_type *fibril__type_find(const char *name, size_t len);

#endif
