/* SPDX-License-Identifier: MIT */
/*
 * What parsing a request head costs: a short one (60 bytes, two fields) and one as browsers send it
 * (484 bytes, eight fields), each whole in the buffer. CPU time of this process, the median of
 * seven runs; rows of JSON on stdout.
 *
 * No peer runs beside it: none of the comparable parsers is in Debian 12 as a library.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "http/parse.h"

#define RUNS 7
#define ROUNDS 500000

struct sample {
    const char *name;
    const char *text;
};

static const struct sample samples[] = {
    {"60-bytes", "GET /hello/1 HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nAccept: */*\r\n\r\n"},
    {"484-bytes",
     "GET /articles/2026/11/green-threads?page=2&sort=date HTTP/1.1\r\n"
     "Host: www.example.com\r\n"
     "User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n"
     "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,"
     "image/avif,image/webp,*/*;q=0.8\r\n"
     "Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n"
     "Accept-Encoding: gzip, deflate, br\r\n"
     "Connection: keep-alive\r\n"
     "Cookie: session=3f6ad1c09b7e4c55a1b; theme=dark; consent=1; visited=articles%2F2025\r\n"
     "Upgrade-Insecure-Requests: 1\r\n\r\n"},
};

static double cpu_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

/* Parses one head; the sum of what was found keeps the compiler from leaving the work out. */
static size_t parse_once(const char *text, size_t len)
{
    static const struct fibril__http_limits limits = FIBRIL__HTTP_LIMITS_DEFAULT;
    struct fibril__http_field fields[100];
    struct fibril__http_parser p;
    fibril__http_parser_init(&p, &limits, fields, 100);
    if (fibril__http_parse(&p, text, len) != 0) {
        fprintf(stderr, "http_parse: refused: %s\n", p.why != NULL ? p.why : "incomplete");
        exit(1);
    }
    return p.head.bytes + p.head.field_count;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a;
    double y = *(const double *)b;
    return (x > y) - (x < y);
}

static double run(const struct sample *s)
{
    size_t len = strlen(s->text);
    size_t sum = 0;
    double start = cpu_ns();
    for (int i = 0; i < ROUNDS; i++) {
        const char *text = s->text;
        __asm__ volatile("" : "+r"(text)); /* the text is unknown to the compiler in each round */
        sum += parse_once(text, len);
    }
    double end = cpu_ns();
    if (sum < len) {
        exit(1);
    }
    return (end - start) / ROUNDS;
}

int main(void)
{
    size_t count = sizeof(samples) / sizeof(samples[0]);
    printf("[");
    for (size_t i = 0; i < count; i++) {
        double ns[RUNS];
        for (int r = 0; r < RUNS; r++) {
            ns[r] = run(&samples[i]);
        }
        qsort(ns, RUNS, sizeof(ns[0]), by_value);
        printf("%s\n{\"bench\": \"http_parse\", \"case\": \"%s\", \"who\": \"fibril\", ",
               i > 0 ? "," : "", samples[i].name);
        printf("\"metric\": \"ns\", \"value\": %.1f, \"min\": %.1f, \"max\": %.1f, \"runs\": %d}",
               ns[RUNS / 2], ns[0], ns[RUNS - 1], RUNS);
    }
    printf("\n]\n");
    return 0;
}
