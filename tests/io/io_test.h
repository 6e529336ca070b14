/* SPDX-License-Identifier: MIT */
/*
 * What the I/O tests share. A test body runs in a fibril; EACH_STACK runs it twice, on an own and
 * on a copied stack, since the way to the poller differs. The poller comes from $FIBRIL_POLLER: the
 * build runs each program once per poller.
 */
#ifndef FIBRIL_TESTS_IO_TEST_H
#define FIBRIL_TESTS_IO_TEST_H

#include "test.h"

#include <fibril/fibril.h>
#include <fibril/io.h>

/* A body on an own stack only. */
#define IO_TEST(name)                                                                              \
    static int body_##name(void *arg);                                                             \
    TEST(name)                                                                                     \
    {                                                                                              \
        io_run(body_##name, FIBRIL_STACK_OWN);                                                     \
    }                                                                                              \
    static int body_##name(void *arg)

/* A body on either stack, one after the other. */
#define EACH_STACK(name)                                                                           \
    static int body_##name(void *arg);                                                             \
    TEST(name)                                                                                     \
    {                                                                                              \
        io_run(body_##name, FIBRIL_STACK_OWN);                                                     \
        io_run(body_##name, FIBRIL_STACK_COPIED);                                                  \
    }                                                                                              \
    static int body_##name(void *arg)

/* Runs fn in a fibril of its own, as the only one of a runtime; its result must be 0. */
void io_run(fibril_fn *fn, enum fibril_stack stack);

/* Which kind of stack io_start uses from now on. */
void io_policy(enum fibril_stack stack);

/* Starts fn on the kind of stack that the test runs on. */
struct fibril *io_start(fibril_fn *fn, void *arg);

/* Joins f and returns its result. */
int io_end(struct fibril *f);

/* Lets the others run until each of them waits for something outside. */
void io_settle(void);

/* A deadline `ms` from now. */
int64_t io_in(int ms);

/* A listener on 127.0.0.1 and its address. */
int io_listener(struct fibril_addr *ret_addr);

/* A connected TCP pair. */
void io_tcp_pair(int ret_fds[2]);

/* A connected UNIX stream pair, blocking or not. */
void io_unix_pair(bool blocking, int ret_fds[2]);

/* Fills a descriptor until it takes no more; returns how many bytes that were. */
size_t io_fill(int fd);

/* Skips the test where the system call with this number is unknown: valgrind has a list of its own,
 * behind the kernel's. */
void io_need_call(long number);

/* How many descriptors the process has open. */
int io_count_fds(void);

/* Byte i of the test pattern. */
static inline char io_byte(size_t i)
{
    return (char)(i * 31 + i / 251);
}

#endif
