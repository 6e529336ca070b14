/* SPDX-License-Identifier: MIT */
/*
 * The buffered reader: delimiters split in every place, ends in every place, full buffers.
 */
#include "io_test.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const char text[] = "GET / HTTP\r\nHost: a\r\n\r\r\n\r\n\r\nrest";

static const char *const lines[] = {"GET / HTTP\r\n", "Host: a\r\n", "\r\r\n", "\r\n", "\r\n"};

struct split {
    int fd;
    size_t first, second; /* where the text is cut */
};

static int write_split(void *arg)
{
    struct split *s = arg;
    size_t cuts[4] = {0, s->first, s->second, sizeof(text) - 1};
    for (int i = 0; i < 3; i++) {
        size_t n = cuts[i + 1] - cuts[i];
        ASSERT_EQ(fibril_write_all(s->fd, text + cuts[i], n, FIBRIL_FOREVER), (ssize_t)n);
        io_settle();
    }
    ASSERT_OK(fibril_close(s->fd));
    return 0;
}

static void expect_lines(struct fibril_reader *r)
{
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
        const char *span;
        ssize_t n = fibril_read_until(r, "\r\n", 2, &span, FIBRIL_FOREVER);
        ASSERT_EQ(n, (ssize_t)strlen(lines[i]));
        ASSERT_MEM(span, lines[i], (size_t)n);
    }
}

EACH_STACK(a_delimiter_is_found_wherever_it_is_split)
{
    for (size_t first = 0; first < sizeof(text); first++) {
        for (size_t second = first; second < sizeof(text); second += test_is_slow() ? 5 : 1) {
            int q[2];
            struct split *s = calloc(1, sizeof(*s));
            struct fibril_reader *r;
            const char *span;
            io_unix_pair(false, q);
            *s = (struct split){q[1], first, second};
            struct fibril *f = io_start(write_split, s);
            ASSERT_OK(fibril_reader_new(q[0], 16, &r));
            expect_lines(r);
            ASSERT_ERR(fibril_read_until(r, "\r\n", 2, &span, FIBRIL_FOREVER), -EPIPE);
            char rest[4];
            ASSERT_EQ(fibril_reader_read_all(r, rest, 4, FIBRIL_FOREVER), 4);
            ASSERT_MEM(rest, "rest", 4);
            ASSERT_EQ(fibril_read_until(r, "\r\n", 2, &span, FIBRIL_FOREVER), 0);
            io_end(f);
            fibril_reader_free(r);
            ASSERT_OK(fibril_close(q[0]));
            free(s);
        }
    }
    return 0;
}

EACH_STACK(a_full_buffer_without_a_delimiter_is_said)
{
    int q[2];
    struct fibril_reader *r;
    const char *span;
    io_unix_pair(false, q);
    ASSERT_OK(fibril_reader_new(q[0], 8, &r));
    ASSERT_EQ(fibril_write_all(q[1], "1234567;12345678;", 17, FIBRIL_FOREVER), 17);
    ASSERT_EQ(fibril_read_until(r, ";", 1, &span, FIBRIL_FOREVER), 8);
    ASSERT_MEM(span, "1234567;", 8);
    ASSERT_ERR(fibril_read_until(r, ";", 1, &span, FIBRIL_FOREVER), -EMSGSIZE);
    ASSERT_ERR(fibril_read_until(r, ";", 1, &span, FIBRIL_FOREVER), -EMSGSIZE);
    char bytes[9];
    ASSERT_EQ(fibril_reader_read_all(r, bytes, 9, FIBRIL_FOREVER), 9); /* nothing was lost */
    ASSERT_MEM(bytes, "12345678;", 9);
    ASSERT_ERR(fibril_read_until(r, "", 0, &span, FIBRIL_FOREVER), -EINVAL);
    fibril_reader_free(r);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

EACH_STACK(a_timeout_loses_nothing_and_delimiters_may_change)
{
    int q[2];
    struct fibril_reader *r;
    const char *span;
    io_unix_pair(false, q);
    ASSERT_OK(fibril_reader_new(q[0], 64, &r));
    ASSERT_EQ(fibril_write_all(q[1], "ab--c", 5, FIBRIL_FOREVER), 5);
    ASSERT_ERR(fibril_read_until(r, "==", 2, &span, io_in(3)), -ETIMEDOUT);
    ASSERT_EQ(fibril_read_until(r, "--", 2, &span, FIBRIL_FOREVER), 4);
    ASSERT_MEM(span, "ab--", 4);
    ASSERT_EQ(fibril_write_all(q[1], "d==", 3, FIBRIL_FOREVER), 3);
    ASSERT_EQ(fibril_read_until(r, "==", 2, &span, FIBRIL_FOREVER), 4);
    ASSERT_MEM(span, "cd==", 4);
    fibril_reader_free(r);
    fibril_close(q[0]);
    fibril_close(q[1]);
    return 0;
}

TEST(a_reader_without_room_is_refused)
{
    struct fibril_reader *r;
    ASSERT_ERR(fibril_reader_new(0, 0, &r), -EINVAL);
    ASSERT_ERR(fibril_reader_new(0, SIZE_MAX, &r), -EINVAL);
    fibril_reader_free(NULL);
}
