/* SPDX-License-Identifier: MIT */
/*
 * HTTP dates. Days are counted in years that begin in March, so that the leap day comes last and a
 * month's first day is a linear formula; eras of 400 years keep the divisions exact before 1970
 * too.
 *
 * Invariant: format(parse(x)) of an accepted x is the preferred form of the same second.
 */
#include "http/date.h"

#include <errno.h>

#include "http/token.h"

#define SECONDS_PER_DAY 86400
#define ERA_DAYS 146097      /* in 400 years */
#define EPOCH_ERA_DAY 719468 /* 1970-01-01, counted from 0000-03-01 */
#define YEAR_0_SECONDS INT64_C(-62167219200)
#define YEAR_10000_SECONDS INT64_C(253402300800)

static const char day_names[7][10] = {"Sunday",   "Monday", "Tuesday", "Wednesday",
                                      "Thursday", "Friday", "Saturday"};
static const char month_names[12][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};

struct civil {
    int64_t year;
    int month; /* 1 to 12 */
    int day;   /* 1 to 31 */
};

static int64_t floor_div(int64_t a, int64_t b)
{
    return a / b - (a % b < 0 ? 1 : 0);
}

static int64_t days_from_civil(struct civil c)
{
    int64_t year = c.year - (c.month <= 2 ? 1 : 0);
    int64_t era = floor_div(year, 400);
    int64_t year_of_era = year - era * 400;
    int64_t day_of_year = (153 * (c.month + (c.month > 2 ? -3 : 9)) + 2) / 5 + c.day - 1;
    int64_t day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    return era * ERA_DAYS + day_of_era - EPOCH_ERA_DAY;
}

static struct civil civil_from_days(int64_t days)
{
    int64_t shifted = days + EPOCH_ERA_DAY;
    int64_t era = floor_div(shifted, ERA_DAYS);
    int64_t doe = shifted - era * ERA_DAYS;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    int month = (int)((5 * doy + 2) / 153);
    struct civil c = {.day = (int)(doy - (153 * month + 2) / 5) + 1,
                      .month = month < 10 ? month + 3 : month - 9};
    c.year = yoe + era * 400 + (c.month <= 2 ? 1 : 0);
    return c;
}

/* 0 is Sunday; 1970-01-01 was a Thursday. */
static int weekday(int64_t days)
{
    return (int)(days + 4 - 7 * floor_div(days + 4, 7));
}

static void put2(char *out, int value)
{
    out[0] = (char)('0' + value / 10);
    out[1] = (char)('0' + value % 10);
}

int fibril__http_date_format(int64_t seconds, char out[FIBRIL__HTTP_DATE_BYTES])
{
    if (seconds < YEAR_0_SECONDS || seconds >= YEAR_10000_SECONDS) {
        return -ERANGE;
    }
    int64_t days = floor_div(seconds, SECONDS_PER_DAY);
    int rest = (int)(seconds - days * SECONDS_PER_DAY);
    struct civil c = civil_from_days(days);
    memcpy(out, "Day, 00 Mon 0000 00:00:00 GMT", FIBRIL__HTTP_DATE_BYTES);
    memcpy(out, day_names[weekday(days)], 3);
    put2(out + 5, c.day);
    memcpy(out + 8, month_names[c.month - 1], 3);
    put2(out + 12, (int)(c.year / 100));
    put2(out + 14, (int)(c.year % 100));
    put2(out + 17, rest / 3600);
    put2(out + 20, rest / 60 % 60);
    put2(out + 23, rest % 60);
    return 0;
}

/* What a reader of a date has found so far; `bad` sticks. */
struct reader {
    const char *at;
    const char *end;
    bool bad;
};

static void expect(struct reader *r, const char *literal)
{
    size_t len = strlen(literal);
    if (r->bad || (size_t)(r->end - r->at) < len || memcmp(r->at, literal, len) != 0) {
        r->bad = true;
        return;
    }
    r->at += len;
}

static int digits(struct reader *r, int count)
{
    int value = 0;
    for (int i = 0; i < count && !r->bad; i++) {
        if (r->at == r->end || !fibril__char_is(*r->at, FIBRIL__DIGIT)) {
            r->bad = true;
        } else {
            value = value * 10 + (*r->at++ - '0');
        }
    }
    return value;
}

/* The day of the month in asctime's form: two columns, padded with a space. */
static int padded_day(struct reader *r)
{
    if (!r->bad && r->at < r->end && *r->at == ' ') {
        r->at++;
        return digits(r, 1);
    }
    return digits(r, 2);
}

static int month(struct reader *r)
{
    for (int i = 0; i < 12 && !r->bad && r->end - r->at >= 3; i++) {
        if (memcmp(r->at, month_names[i], 3) == 0) {
            r->at += 3;
            return i + 1;
        }
    }
    r->bad = true;
    return 1;
}

/* Seconds into the day. A leap second is read as the second before it: the clock here does not know
 * it. */
static int time_of_day(struct reader *r)
{
    int hour = digits(r, 2);
    expect(r, ":");
    int minute = digits(r, 2);
    expect(r, ":");
    int second = digits(r, 2);
    if (hour > 23 || minute > 59 || second > 60) {
        r->bad = true;
    }
    return hour * 3600 + minute * 60 + (second == 60 ? 59 : second);
}

/* RFC 9110: a date that appears to be more than fifty years in the future is in the past century.
 */
static int64_t full_year(int two_digits, int64_t now)
{
    int64_t this_year = civil_from_days(floor_div(now, SECONDS_PER_DAY)).year;
    int64_t year = this_year - this_year % 100 + two_digits;
    if (year > this_year + 50) {
        year -= 100;
    } else if (year <= this_year - 50) {
        year += 100;
    }
    return year;
}

/* "06 Nov 1994" or "06-Nov-94". */
static struct civil dashed(struct reader *r, const char *between, bool two_digits, int64_t now)
{
    struct civil c = {.day = digits(r, 2)};
    expect(r, between);
    c.month = month(r);
    expect(r, between);
    c.year = two_digits ? full_year(digits(r, 2), now) : digits(r, 4);
    return c;
}

/* The index of the day's name at the reader, whole or its first three letters; `ret_whole` says
 * which. */
static int day_name(struct reader *r, bool *ret_whole)
{
    for (int i = 0; i < 7; i++) {
        size_t len = strlen(day_names[i]);
        size_t have = (size_t)(r->end - r->at);
        *ret_whole = have >= len && memcmp(r->at, day_names[i], len) == 0;
        if (*ret_whole || (have >= 3 && memcmp(r->at, day_names[i], 3) == 0)) {
            r->at += *ret_whole ? len : 3;
            return i;
        }
    }
    r->bad = true;
    return 0;
}

static bool exists(struct civil c)
{
    struct civil same = civil_from_days(days_from_civil(c));
    return c.day > 0 && same.year == c.year && same.month == c.month && same.day == c.day;
}

int fibril__http_date_parse(struct fibril__span text, int64_t now, int64_t *ret_seconds)
{
    struct reader r = {text.ptr, text.ptr + text.len, text.len == 0};
    struct civil c = {0, 1, 1};
    bool whole = false;
    int seconds = 0;
    int name = r.bad ? 0 : day_name(&r, &whole);
    if (!r.bad && r.at < r.end && *r.at == ',') {
        expect(&r, ", ");
        c = dashed(&r, whole ? "-" : " ", whole, now);
        expect(&r, " ");
        seconds = time_of_day(&r);
        expect(&r, " GMT");
    } else if (!whole) {
        expect(&r, " ");
        c.month = month(&r);
        expect(&r, " ");
        c.day = padded_day(&r);
        expect(&r, " ");
        seconds = time_of_day(&r);
        expect(&r, " ");
        c.year = digits(&r, 4);
    } else {
        return -EINVAL;
    }
    if (r.bad || r.at != r.end || !exists(c) || weekday(days_from_civil(c)) != name) {
        return -EINVAL;
    }
    *ret_seconds = days_from_civil(c) * SECONDS_PER_DAY + seconds;
    return 0;
}
