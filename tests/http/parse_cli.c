/* SPDX-License-Identifier: MIT */
/*
 * The parser as a filter, for scripts that compare it with others. Without arguments: reads frames
 * (four bytes of length, little endian, then a request with its body) from standard input and
 * prints one line of JSON for each. With
 * `--cases` or `--chunk-cases`: prints the rows of the strictness table, bytes in hexadecimal.
 *
 * Bytes appear in JSON strings as the characters of the same number, so nothing is lost that is no
 * UTF-8.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "cases.h"
#include "http/chunk.h"
#include "http/parse.h"

#define FRAME_BYTES_MAX (1 << 22)
#define FIELDS_MAX 100

static const struct fibril__http_limits limits = FIBRIL__HTTP_LIMITS_DEFAULT;

static void print_string(struct fibril__span s)
{
    putchar('"');
    for (size_t i = 0; i < s.len; i++) {
        unsigned char c = (unsigned char)s.ptr[i];
        if (c < 0x20 || c >= 0x7f || c == '"' || c == '\\') {
            printf("\\u%04x", c);
        } else {
            putchar(c);
        }
    }
    putchar('"');
}

static void print_member(const char *name, struct fibril__span s)
{
    printf(", \"%s\": ", name);
    print_string(s);
}

static void print_fields(const char *name, const struct fibril__http_field *fields, size_t count)
{
    printf(", \"%s\": [", name);
    for (size_t i = 0; i < count; i++) {
        printf("%s[", i > 0 ? ", " : "");
        print_string(fields[i].name);
        printf(", ");
        print_string(fields[i].value);
        printf("]");
    }
    printf("]");
}

/* Prints the body and returns how it ended: 0, -EAGAIN or a status. *ret_used bytes belong to it.
 */
static int print_chunked(const char *buf, size_t len, char *body, size_t *ret_used)
{
    struct fibril__http_field trailers[FIELDS_MAX];
    struct fibril__http_chunk c;
    struct fibril__span data = {NULL, 0};
    size_t body_len = 0;
    size_t used = 0;
    size_t at = 0;
    int rc;
    fibril__http_chunk_init(&c, &limits, trailers, FIELDS_MAX);
    while ((rc = fibril__http_chunk_next(&c, buf + at, len - at, &used, &data)) ==
           FIBRIL__HTTP_CHUNK_DATA) {
        memcpy(body + body_len, data.ptr, data.len);
        body_len += data.len;
        at += used;
    }
    *ret_used = at + used;
    print_member("body", (struct fibril__span){body, body_len});
    print_fields("trailers", trailers, rc == 0 ? c.field_count : 0);
    return rc;
}

static int print_body(const struct fibril__http_head *head, const char *buf, size_t len, char *body,
                      size_t *ret_used)
{
    if (head->chunked) {
        return print_chunked(buf, len, body, ret_used);
    }
    uint64_t wanted = head->content_length > 0 ? (uint64_t)head->content_length : 0;
    *ret_used = wanted < len ? (size_t)wanted : len;
    print_member("body", (struct fibril__span){buf, *ret_used});
    return wanted <= len ? 0 : -EAGAIN;
}

static void print_head(const struct fibril__http_head *head)
{
    print_member("method", head->method);
    print_member("target", head->target);
    print_member("path", head->path);
    print_member("query", head->query);
    print_member("authority", head->authority);
    print_member("upgrade", head->upgrade);
    print_fields("fields", head->fields, head->field_count);
    printf(", \"minor\": %d, \"chunked\": %s, \"keep_alive\": %s, \"content_length\": %lld",
           head->minor, head->chunked ? "true" : "false", head->keep_alive ? "true" : "false",
           (long long)head->content_length);
}

static void answer(const char *buf, size_t len, char *body)
{
    struct fibril__http_field fields[FIELDS_MAX];
    struct fibril__http_parser p;
    fibril__http_parser_init(&p, &limits, fields, FIELDS_MAX);
    int rc = fibril__http_parse(&p, buf, len);
    printf("{\"status\": %d", rc == -EAGAIN ? -1 : rc);
    if (rc > 0) {
        print_member("why", (struct fibril__span){p.why, strlen(p.why)});
    }
    if (rc == 0) {
        size_t used = 0;
        print_head(&p.head);
        int body_rc = print_body(&p.head, buf + p.head.bytes, len - p.head.bytes, body, &used);
        printf(", \"body_status\": %d, \"used\": %zu", body_rc == -EAGAIN ? -1 : body_rc,
               p.head.bytes + used);
    }
    printf("}\n");
    fflush(stdout);
}

static void print_cases(const struct http_case *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        printf("{\"name\": ");
        print_string((struct fibril__span){cases[i].name, strlen(cases[i].name)});
        printf(", \"status\": %d, \"raw\": \"", cases[i].status == -EAGAIN ? -1 : cases[i].status);
        for (size_t b = 0; b < cases[i].len; b++) {
            printf("%02x", (unsigned char)cases[i].raw[b]);
        }
        printf("\"}\n");
    }
}

static int serve_frames(void)
{
    unsigned char head[4];
    char *buf = malloc(FRAME_BYTES_MAX);
    char *body = malloc(FRAME_BYTES_MAX);
    int rc = buf != NULL && body != NULL ? 0 : 1;
    while (rc == 0 && fread(head, 1, sizeof(head), stdin) == sizeof(head)) {
        size_t len = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        if (len > FRAME_BYTES_MAX || fread(buf, 1, len, stdin) != len) {
            fprintf(stderr, "parse_cli: bad frame\n");
            rc = 1;
        } else {
            answer(buf, len, body);
        }
    }
    free(buf);
    free(body);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "--cases") == 0) {
        print_cases(http_cases, http_case_count);
        return 0;
    }
    if (argc == 2 && strcmp(argv[1], "--chunk-cases") == 0) {
        print_cases(chunk_cases, chunk_case_count);
        return 0;
    }
    return argc == 1 ? serve_frames() : 2;
}
