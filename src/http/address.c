/* SPDX-License-Identifier: MIT */
/*
 * See address.h. Linear probing with deletion by moving back, so there are no tombstones and a
 * table that has emptied is as fast as a new one.
 */
#include "http/address.h"

#include "base/alloc.h"
#include "base/assert.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

struct fibril__http_count {
    uint64_t key; /* 0: free */
    uint32_t count;
};

/* ---- peers ----------------------------------------------------------------------------------- */

static bool is_mapped(const uint8_t *bytes)
{
    static const uint8_t prefix[12] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return memcmp(bytes, prefix, sizeof(prefix)) == 0;
}

void fibril__http_peer_set(struct fibril__http_peer *peer, const struct fibril_addr *addr)
{
    memset(peer, 0, sizeof(*peer));
    if (addr->ss.ss_family == AF_INET) {
        const struct sockaddr_in *in = (const struct sockaddr_in *)&addr->ss;
        memcpy(peer->bytes, &in->sin_addr, 4);
        peer->port = ntohs(in->sin_port);
        peer->family = 4;
    } else if (addr->ss.ss_family == AF_INET6) {
        const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)&addr->ss;
        const uint8_t *bytes = (const uint8_t *)&in6->sin6_addr;
        peer->family = is_mapped(bytes) ? 4 : 6;
        memcpy(peer->bytes, bytes + (peer->family == 4 ? 12 : 0), peer->family == 4 ? 4 : 16);
        peer->port = ntohs(in6->sin6_port);
    }
}

static char *put_decimal(char *to, unsigned number)
{
    char digits[10];
    int n = 0;
    do {
        digits[n++] = (char)('0' + number % 10);
        number /= 10;
    } while (number);
    while (n > 0) {
        *to++ = digits[--n];
    }
    return to;
}

/* By hand: this is done for each request that a WSGI application sees. */
static char *put_ipv4(char *to, const uint8_t *bytes)
{
    for (int i = 0; i < 4; i++) {
        if (i > 0) {
            *to++ = '.';
        }
        to = put_decimal(to, bytes[i]);
    }
    return to;
}

static char *put_ipv6(char *to, const uint8_t *bytes, bool brackets)
{
    *to = '[';
    inet_ntop(AF_INET6, bytes, to + brackets, INET6_ADDRSTRLEN);
    to += strlen(to);
    *to = ']';
    return to + brackets;
}

int fibril__http_peer_format(const struct fibril__http_peer *peer, bool with_port, char *ret_text,
                             size_t size)
{
    char whole[FIBRIL__HTTP_PEER_TEXT], *at = whole;
    if (peer->family == 0) {
        memcpy(whole, "unix:", 5);
        at += 5;
    } else if (peer->family == 4) {
        at = put_ipv4(at, peer->bytes);
    } else {
        at = put_ipv6(at, peer->bytes, with_port);
    }
    if (with_port && peer->family != 0) {
        *at++ = ':';
        at = put_decimal(at, peer->port);
    }
    size_t len = (size_t)(at - whole);
    if (len >= size) {
        return -ENOSPC;
    }
    memcpy(ret_text, whole, len);
    ret_text[len] = '\0';
    return (int)len;
}

/* ---- counting -------------------------------------------------------------------------------- */

/* Never 0. What IPv4 addresses become would be the IPv6 prefix 02xx, which is not given out. */
static uint64_t key_of(const struct fibril__http_peer *peer)
{
    uint64_t key = 0;
    memcpy(&key, peer->bytes, peer->family == 6 ? 8 : 4);
    if (peer->family == 6) {
        return key ? key : 1;
    }
    return (key << 8) | 2;
}

static size_t home_of(uint64_t key, size_t size)
{
    return (size_t)((key * 0x9e3779b97f4a7c15u) >> 32) & (size - 1);
}

/* The slot of the key, or the free one where it belongs. */
static struct fibril__http_count *find(struct fibril__http_count *slots, size_t size, uint64_t key)
{
    size_t i = home_of(key, size);
    while (slots[i].key != 0 && slots[i].key != key) {
        i = (i + 1) & (size - 1);
    }
    return &slots[i];
}

static int grow(struct fibril__http_addresses *a)
{
    size_t size = a->size ? a->size * 2 : 64;
    struct fibril__http_count *slots = fibril__alloc_zero(size * sizeof(*slots));
    if (!slots) {
        return -ENOMEM;
    }
    for (size_t i = 0; i < a->size; i++) {
        if (a->slots[i].key) {
            *find(slots, size, a->slots[i].key) = a->slots[i];
        }
    }
    fibril__free(a->slots);
    a->slots = slots;
    a->size = size;
    return 0;
}

static int add(struct fibril__http_addresses *a, uint64_t key, unsigned max)
{
    if (a->used * 2 >= a->size && grow(a) < 0) {
        return -ENOMEM;
    }
    struct fibril__http_count *slot = find(a->slots, a->size, key);
    if (slot->count >= max) {
        return -EAGAIN;
    }
    a->used += slot->key == 0;
    slot->key = key;
    slot->count++;
    return 0;
}

int fibril__http_addresses_add(struct fibril__http_addresses *a,
                               const struct fibril__http_peer *peer, unsigned max)
{
    if (peer->family == 0) {
        return 0;
    }
    pthread_mutex_lock(&a->lock);
    int rc = add(a, key_of(peer), max);
    pthread_mutex_unlock(&a->lock);
    return rc;
}

/* Closes the gap: whoever probed across it moves back. */
static void erase(struct fibril__http_addresses *a, size_t gap)
{
    size_t mask = a->size - 1;
    for (size_t i = (gap + 1) & mask; a->slots[i].key != 0; i = (i + 1) & mask) {
        size_t home = home_of(a->slots[i].key, a->size);
        if (((i - home) & mask) >= ((i - gap) & mask)) {
            a->slots[gap] = a->slots[i];
            gap = i;
        }
    }
    a->slots[gap] = (struct fibril__http_count){0};
    a->used--;
}

void fibril__http_addresses_remove(struct fibril__http_addresses *a,
                                   const struct fibril__http_peer *peer)
{
    if (peer->family == 0) {
        return;
    }
    pthread_mutex_lock(&a->lock);
    struct fibril__http_count *slot = find(a->slots, a->size, key_of(peer));
    FIBRIL_ASSERT(slot->count > 0);
    if (--slot->count == 0) {
        erase(a, (size_t)(slot - a->slots));
    }
    pthread_mutex_unlock(&a->lock);
}

void fibril__http_addresses_init(struct fibril__http_addresses *a)
{
    *a = (struct fibril__http_addresses){.size = 0};
    pthread_mutex_init(&a->lock, NULL);
}

void fibril__http_addresses_fini(struct fibril__http_addresses *a)
{
    fibril__free(a->slots);
    pthread_mutex_destroy(&a->lock);
}
