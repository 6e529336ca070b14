/* SPDX-License-Identifier: MIT */
/*
 * HTTP dates, in and out, for seconds since 1970. Pure arithmetic on the proleptic Gregorian
 * calendar: gmtime() and strptime() were rejected because they follow the locale, and a server
 * writes a date for every response.
 */
#ifndef FIBRIL_HTTP_DATE_H
#define FIBRIL_HTTP_DATE_H

#include <stdint.h>

#include "http/span.h"

#define FIBRIL__HTTP_DATE_BYTES 29

/*
 * Writes "Sun, 06 Nov 1994 08:49:37 GMT", no NUL behind it. -ERANGE for times before the year 0 or
 * after 9999, which the format cannot say; `out` is left alone then.
 */
int fibril__http_date_format(int64_t seconds, char out[FIBRIL__HTTP_DATE_BYTES]);

/*
 * Reads any of the three forms of RFC 9110, 5.6.7: the above, "Sunday, 06-Nov-94 08:49:37 GMT" and
 * "Sun Nov  6 08:49:37 1994". The two-digit year is the one less than fifty years after `now`.
 * -EINVAL for anything else, also for a date that does not exist or whose day of the week is wrong.
 */
int fibril__http_date_parse(struct fibril__span text, int64_t now, int64_t *ret_seconds);

#endif
