/* SPDX-License-Identifier: MIT */
/*
 * FIBRIL_ASSERT stays in every build: it is used where a broken invariant would corrupt memory or
 * hang. FIBRIL_CHECK is for the debug flavours only, where the test is too dear for a hot path.
 */
#ifndef FIBRIL_BASE_ASSERT_H
#define FIBRIL_BASE_ASSERT_H

#include "base/compiler.h"

/* Prints "fibril: <text>" on standard error and aborts. Async-signal-safe. */
NORETURN void fibril__panic(const char *text);

/* As fibril__panic, formatted like printf; not for signal handlers. */
NORETURN void fibril__panicf(const char *format, ...) PRINTF(1, 2);

#define FIBRIL_STR_(x) #x
#define FIBRIL_STR(x) FIBRIL_STR_(x)

#define FIBRIL_ASSERT(x)                                                                           \
    (LIKELY(x) ? (void)0 : fibril__panic(__FILE__ ":" FIBRIL_STR(__LINE__) ": broken: " #x))

#ifdef NDEBUG
#define FIBRIL_CHECK(x) ((void)0)
#else
#define FIBRIL_CHECK(x) FIBRIL_ASSERT(x)
#endif

#endif
