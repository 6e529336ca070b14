/* SPDX-License-Identifier: MIT */
/*
 * How many connections each peer address has, over all loops: for limits.per_address_max only. An
 * IPv4 address counts whole, an IPv6 one by its first 64 bits (that is what one customer gets), and
 * UNIX sockets do not count.
 *
 * A lock around a small hash table: it is taken twice per connection, for some ten instructions.
 * One table per loop was rejected, for SO_REUSEPORT spreads a peer's connections over the loops.
 */
#ifndef FIBRIL_HTTP_ADDRESS_H
#define FIBRIL_HTTP_ADDRESS_H

#include <fibril/io.h>

#include <pthread.h>

/* A peer's address in little room. */
struct fibril__http_peer {
    uint8_t bytes[16];
    uint16_t port;  /* host order */
    uint8_t family; /* 4, 6, or 0 for anything else */
};

struct fibril__http_addresses {
    pthread_mutex_t lock;
    struct fibril__http_count *slots; /* open addressing; NULL until first used */
    size_t size, used;
};

void fibril__http_peer_set(struct fibril__http_peer *peer, const struct fibril_addr *addr);

/* Room for any peer as text. */
enum { FIBRIL__HTTP_PEER_TEXT = 64 };

/* Writes it with or without port, "unix:" for the others. Returns the length or -ENOSPC. */
int fibril__http_peer_format(const struct fibril__http_peer *peer, bool with_port, char *ret_text,
                             size_t size);

void fibril__http_addresses_init(struct fibril__http_addresses *a);
void fibril__http_addresses_fini(struct fibril__http_addresses *a);

/* Counts one more connection of the peer: 0, -EAGAIN if it has max already, -ENOMEM. */
int fibril__http_addresses_add(struct fibril__http_addresses *a,
                               const struct fibril__http_peer *peer, unsigned max);

/* Takes one back that was counted. */
void fibril__http_addresses_remove(struct fibril__http_addresses *a,
                                   const struct fibril__http_peer *peer);

#endif
