/* SPDX-License-Identifier: MIT */
/*
 * What the tests of reports share: catching text that goes to a descriptor, and looking into it.
 */
#ifndef FIBRIL_TESTS_DEBUG_SEEING_H
#define FIBRIL_TESTS_DEBUG_SEEING_H

#include "arch/switch.h"

#include <stdbool.h>

#if defined(FIBRIL_ARCH_HAS_VISIT) && !FIBRIL_ASAN && !FIBRIL_TSAN
#define HAS_VISIT 1 /* the stacks of parked fibrils can be walked */
#else
#define HAS_VISIT 0
#endif

/* An empty file in memory to give to a report. */
int catch_new(void);

/* The same, and standard error goes there from now on. */
int catch_stderr(void);

/* All that has been written to it so far, in static storage until the next call. */
const char *caught(int fd);

/* The part of a dump about the fibril of that name: its line and its backtrace; "" if there is
 * none. In static storage. */
const char *record_of(const char *dump, const char *name);

/* How often `what` occurs in `text`. */
int count_of(const char *text, const char *what);

#define ASSERT_HAS(text, what)                                                                     \
    do {                                                                                           \
        const char *text_ = (text);                                                                \
        if (count_of(text_, (what)) == 0) {                                                        \
            test_fail(__FILE__, __LINE__, "\"%s\" is not in \"%.200s\"", (what), text_);           \
        }                                                                                          \
    } while (0)
#define ASSERT_HAS_NOT(text, what)                                                                 \
    do {                                                                                           \
        const char *text_ = (text);                                                                \
        if (count_of(text_, (what)) != 0) {                                                        \
            test_fail(__FILE__, __LINE__, "\"%s\" is in \"%.200s\"", (what), text_);               \
        }                                                                                          \
    } while (0)

#endif
