/* SPDX-License-Identifier: MIT */
/* HTTP dates against the C library's own calendar, and what is no date. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "guard.h"
#include "http/date.h"

#define NOV_2026 INT64_C(1795305600)

static int parse(const char *text, int64_t now, int64_t *ret)
{
    struct guard g = guard_new(4096);
    size_t len = strlen(text);
    return fibril__http_date_parse((struct fibril__span){guard_put(&g, text, len), len}, now, ret);
}

TEST(format_agrees_with_the_c_library)
{
    uint64_t seed = 88172645463325252u;
    for (int i = 0; i < 20000; i++) {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        /* The years 0 to 9999. */
        time_t t = (time_t)(-62167219200 + (int64_t)(seed % 315569520000u));
        char expected[64];
        char got[FIBRIL__HTTP_DATE_BYTES];
        struct tm tm;
        ASSERT(gmtime_r(&t, &tm) != NULL);
        static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char *const months[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                             "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        snprintf(expected, sizeof(expected), "%s, %02d %s %04d %02d:%02d:%02d GMT",
                 days[tm.tm_wday], tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour,
                 tm.tm_min, tm.tm_sec);
        ASSERT_OK(fibril__http_date_format(t, got));
        ASSERT_MEM(got, expected, FIBRIL__HTTP_DATE_BYTES);
    }
}

TEST(format_refuses_years_of_five_digits)
{
    char out[FIBRIL__HTTP_DATE_BYTES];
    ASSERT_OK(fibril__http_date_format(253402300799, out));
    ASSERT_MEM(out, "Fri, 31 Dec 9999 23:59:59 GMT", sizeof(out));
    ASSERT_ERR(fibril__http_date_format(253402300800, out), -ERANGE);
    ASSERT_OK(fibril__http_date_format(-62167219200, out));
    ASSERT_ERR(fibril__http_date_format(-62167219201, out), -ERANGE);
    ASSERT_ERR(fibril__http_date_format(INT64_MAX, out), -ERANGE);
    ASSERT_ERR(fibril__http_date_format(INT64_MIN, out), -ERANGE);
}

TEST(three_forms_say_the_same_second)
{
    int64_t t = 0;
    ASSERT_OK(parse("Sun, 06 Nov 1994 08:49:37 GMT", NOV_2026, &t));
    ASSERT_EQ(t, 784111777);
    t = 0;
    ASSERT_OK(parse("Sunday, 06-Nov-94 08:49:37 GMT", NOV_2026, &t));
    ASSERT_EQ(t, 784111777);
    t = 0;
    ASSERT_OK(parse("Sun Nov  6 08:49:37 1994", NOV_2026, &t));
    ASSERT_EQ(t, 784111777);
    ASSERT_OK(parse("Wed Nov 16 08:49:37 1994", NOV_2026, &t));
    ASSERT_EQ(t, 784111777 + 10 * 86400);
}

TEST(what_is_formatted_can_be_read)
{
    for (int64_t t = -62167219200; t < 253402300800; t += 12345678901) {
        char text[FIBRIL__HTTP_DATE_BYTES + 1] = {0};
        int64_t back = 1;
        ASSERT_OK(fibril__http_date_format(t, text));
        ASSERT_OK(parse(text, NOV_2026, &back));
        ASSERT_EQ(back, t);
    }
}

TEST(two_digit_years_are_within_fifty_years_of_now)
{
    int64_t t = 0;
    /* 2076 is fifty years on, 2077 would be more: so it is 1977. */
    ASSERT_OK(parse("Sunday, 01-Nov-76 00:00:00 GMT", NOV_2026, &t));
    ASSERT_EQ(t, 3371414400 - 0);
    ASSERT_OK(parse("Tuesday, 01-Nov-77 00:00:00 GMT", NOV_2026, &t));
    ASSERT_EQ(t, 247190400);
}

TEST(leap_days_exist_only_in_leap_years)
{
    int64_t t = 0;
    ASSERT_OK(parse("Tue, 29 Feb 2000 00:00:00 GMT", NOV_2026, &t));
    ASSERT_EQ(t, 951782400);
    ASSERT_ERR(parse("Thu, 29 Feb 1900 00:00:00 GMT", NOV_2026, &t), -EINVAL);
    ASSERT_ERR(parse("Wed, 29 Feb 2023 00:00:00 GMT", NOV_2026, &t), -EINVAL);
}

TEST(a_leap_second_is_the_second_before)
{
    int64_t t = 0;
    ASSERT_OK(parse("Sat, 31 Dec 2016 23:59:60 GMT", NOV_2026, &t));
    ASSERT_EQ(t, 1483228799);
}

TEST(what_is_no_date_is_refused)
{
    static const char *const bad[] = {
        "",
        "S",
        "Sun",
        "Sun,",
        "Sunday",
        "Sun, 06 Nov 1994 08:49:37",
        "Sun, 06 Nov 1994 08:49:37 UTC",
        "Sun, 06 Nov 1994 08:49:37 GMT ",
        " Sun, 06 Nov 1994 08:49:37 GMT",
        "Mon, 06 Nov 1994 08:49:37 GMT",
        "sun, 06 nov 1994 08:49:37 gmt",
        "Sun, 6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 94 08:49:37 GMT",
        "Sun, 06-Nov-94 08:49:37 GMT",
        "Sunday, 06 Nov 1994 08:49:37 GMT",
        "Sunday, 06-Nov-1994 08:49:37 GMT",
        "Sunday Nov  6 08:49:37 1994",
        "Sun Nov 6 08:49:37 1994",
        "Sun Nov  6 08:49:37 1994 GMT",
        "Sun, 00 Nov 1994 08:49:37 GMT",
        "Mon, 31 Nov 1994 08:49:37 GMT",
        "Sun, 06 Nov 1994 24:00:00 GMT",
        "Sun, 06 Nov 1994 08:60:00 GMT",
        "Sun, 06 Nov 1994 08:49:61 GMT",
        "Sun, 06 Nov -994 08:49:37 GMT",
        "Sun, +6 Nov 1994 08:49:37 GMT",
        "Sun, 06 Foo 1994 08:49:37 GMT",
        "784111777",
        "0",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        int64_t t = 7;
        if (parse(bad[i], NOV_2026, &t) != -EINVAL || t != 7) {
            test_fail(__FILE__, __LINE__, "accepted: %s", bad[i]);
        }
    }
}
