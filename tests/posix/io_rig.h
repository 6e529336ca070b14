/* SPDX-License-Identifier: MIT */
/*
 * What the tests of covered descriptor calls share. They call fibril_posix_NAME directly, without
 * an installation, on a loop that the layer takes for its own; each body runs on an own and on a
 * copied stack, and the build runs each program once per poller.
 */
#ifndef FIBRIL_TESTS_POSIX_IO_RIG_H
#define FIBRIL_TESTS_POSIX_IO_RIG_H

#include "io_test.h"
#include "posix/io_calls.h"

#include <errno.h>

#define POSIX_TEST(name)                                                                           \
    static int body_##name(void *arg);                                                             \
    TEST(name)                                                                                     \
    {                                                                                              \
        rig_run(body_##name);                                                                      \
    }                                                                                              \
    static int body_##name(void *arg)

/* Runs body as EACH_STACK does, in the mode in which covered calls park. */
void rig_run(fibril_fn *body);

/* A call in a fibril of its own: `call` sets rc, and error from errno. */
struct rig_call {
    void (*call)(struct rig_call *c);
    int fd, other, flags;
    size_t len;
    char *buf;
    long rc;
    int error;
    bool over;
    struct fibril *fibril;
};

/* Starts it and lets it go as far as it can. c must be static. */
void rig_start(struct rig_call *c);

/* Waits for its end; it must have parked before. */
long rig_end(struct rig_call *c);

/* The four ways in which a wait can end without a result: the fibril is parked in c's call.
 * Each checks rc and errno. */
void rig_close_ends_it(struct rig_call *c);
void rig_cancel_ends_it(struct rig_call *c);
void rig_interrupt_ends_it(struct rig_call *c);

/* The call must fail with just this errno. */
#define ASSERT_ERRNO(call, number)                                                                 \
    do {                                                                                           \
        errno = 0;                                                                                 \
        ASSERT_EQ((call), -1);                                                                     \
        ASSERT_EQ(errno, (number));                                                                \
    } while (0)

/* The call must not touch errno. */
#define ASSERT_KEEPS_ERRNO(call, result)                                                           \
    do {                                                                                           \
        errno = 12345;                                                                             \
        ASSERT_EQ((call), (result));                                                               \
        ASSERT_EQ(errno, 12345);                                                                   \
    } while (0)

void rig_nonblocking(int fd, bool on);

/* Sets SO_RCVTIMEO or SO_SNDTIMEO by the covered call. */
void rig_timeout(int fd, int option, int ms);

/* A new file's descriptor, unlinked already, with these bytes. */
int rig_file(const void *bytes, size_t len);

#endif
