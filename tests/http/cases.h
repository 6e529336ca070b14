/* SPDX-License-Identifier: MIT */
/*
 * The strictness table: raw requests and the answer each must get. Used by test_parse.c in every
 * cut, and by the differential test through parse_cli, so that both judge the same bytes.
 */
#ifndef FIBRIL_TESTS_HTTP_CASES_H
#define FIBRIL_TESTS_HTTP_CASES_H

#include <stddef.h>

struct http_case {
    const char *name;
    const char *raw;
    size_t len;
    int status; /* 0: accepted; -EAGAIN: incomplete; else the status to answer */
};

extern const struct http_case http_cases[];
extern const size_t http_case_count;

/* Bodies, chunked, from the first size line on. */
extern const struct http_case chunk_cases[];
extern const size_t chunk_case_count;

#endif
