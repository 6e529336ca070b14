/* SPDX-License-Identifier: MIT */
/*
 * Files: whole, in ranges, under conditions; from the cache and by sendfile; and nothing outside of
 * the folder.
 */
#include "site.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HOST "Host: test\r\n"
enum { BIG = 700001 };

static char *big_bytes(void)
{
    char *bytes = malloc(BIG);
    for (size_t i = 0; i < BIG; i++) {
        bytes[i] = site_byte(i);
    }
    return bytes;
}

/* small.txt, big.bin (beyond the cache), sub/index.html, .hidden, links in and out. */
static void start(struct site *site, const struct fibril_http_static_opts *opts)
{
    char path[256], target[256];
    site_folder(site);
    site_file(site, "small.txt", "0123456789", 10);
    char *bytes = big_bytes();
    site_file(site, "big.bin", bytes, BIG);
    free(bytes);
    snprintf(path, sizeof(path), "%s/sub", site->folder);
    ASSERT_EQ(mkdir(path, 0755), 0);
    site_file(site, "sub/index.html", "<p>index</p>", 12);
    site_file(site, ".hidden", "secret", 6);
    snprintf(path, sizeof(path), "%s/out", site->folder);
    ASSERT_EQ(symlink("/etc/passwd", path), 0);
    snprintf(path, sizeof(path), "%s/up", site->folder);
    ASSERT_EQ(symlink("../../../../../../etc", path), 0);
    snprintf(path, sizeof(path), "%s/in", site->folder);
    ASSERT_EQ(symlink("small.txt", path), 0);
    snprintf(target, sizeof(target), "%s/pipe", site->folder);
    ASSERT_EQ(mkfifo(target, 0644), 0);
    site_new(site);
    ASSERT_OK(fibril_http_static(site->srv, "/f/", site->folder, opts));
    site_go(site);
}

static void ask_with(struct client *c, const char *target, const char *fields, struct reply *r)
{
    char request[1024];
    snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" HOST "%s\r\n", target, fields);
    client_send(c, request);
    client_reply(c, r);
}

SITE_TEST(files_are_served_with_type_tag_and_date)
{
    struct client c;
    struct reply r;
    start(site, NULL);
    client_open(&c, site);
    for (int i = 0; i < 2; i++) { /* read, then from the cache */
        ask(&c, "/f/small.txt", &r);
        ASSERT_EQ(r.status, 200);
        ASSERT_STR(r.body, "0123456789");
        ASSERT(reply_has(&r, "Content-Type: text/plain; charset=utf-8"));
        ASSERT(reply_has(&r, "Accept-Ranges: bytes"));
        ASSERT_EQ(reply_value(&r, "ETag")[0], '"');
        ASSERT_EQ(strlen(reply_value(&r, "Last-Modified")), 29);
    }
    ask(&c, "/f/in", &r);
    ASSERT_STR(r.body, "0123456789");
    client_send(&c, "HEAD /f/small.txt HTTP/1.1\r\n" HOST "\r\n");
    client_reply_head(&c, &r);
    ASSERT(reply_has(&r, "Content-Length: 10"));
    client_send(&c, "HEAD /f/big.bin HTTP/1.1\r\n" HOST "\r\n");
    client_reply_head(&c, &r);
    ASSERT(reply_has(&r, "Content-Length: 700001"));
    client_send(&c, "POST /f/small.txt HTTP/1.1\r\n" HOST "\r\n");
    client_reply(&c, &r);
    ASSERT_EQ(r.status, 405);
    client_close(&c);
}

SITE_TEST(folders_have_an_index_and_a_slash)
{
    struct client c;
    struct reply r;
    start(site, NULL);
    client_open(&c, site);
    ask(&c, "/f/sub/", &r);
    ASSERT_STR(r.body, "<p>index</p>");
    ASSERT(reply_has(&r, "Content-Type: text/html; charset=utf-8"));
    ask(&c, "/f/sub", &r);
    ASSERT_EQ(r.status, 301);
    ASSERT(reply_has(&r, "Location: /f/sub/"));
    ask(&c, "/f/", &r);
    ASSERT_EQ(r.status, 404); /* there is no index */
    client_close(&c);
}

SITE_TEST(no_way_leads_out_of_the_folder)
{
    static const char *const targets[] = {
        "/f/out",           "/f/up/passwd",   "/f/../../etc/passwd", "/f/%2e%2e/%2e%2e/etc/passwd",
        "/f/..%2fetc",      "/f//etc/passwd", "/f/sub/..%2f..%2f",   "/f/.hidden",
        "/f/sub/.x",        "/f/nothing",     "/f/small.txt/",       "/f/pipe",
        "/f/%2fetc/passwd",
    };
    struct reply r;
    start(site, NULL);
    for (size_t i = 0; i < sizeof(targets) / sizeof(targets[0]); i++) {
        char request[256];
        snprintf(request, sizeof(request), "GET %s HTTP/1.1\r\n" HOST "Connection: close\r\n\r\n",
                 targets[i]);
        ask_once(site, request, &r);
        if (r.status != 404 && r.status != 400) {
            test_fail(__FILE__, __LINE__, "%s: %d", targets[i], r.status);
        }
        ASSERT(strstr(r.body, "root:") == NULL);
    }
}

SITE_TEST(dotfiles_and_headers_follow_the_options)
{
    struct client c;
    struct reply r;
    struct fibril_http_static_opts opts = {.dotfiles = true, .cache_control = "max-age=60"};
    start(site, &opts);
    client_open(&c, site);
    ask(&c, "/f/.hidden", &r);
    ASSERT_STR(r.body, "secret");
    ASSERT(reply_has(&r, "Cache-Control: max-age=60"));
    client_close(&c);
}

static void check_big(const struct reply *r, size_t first, size_t len)
{
    ASSERT_EQ(r->len, len);
    for (size_t i = 0; i < len; i++) {
        ASSERT_EQ(r->body[i], site_byte(first + i));
    }
}

SITE_TEST(big_files_go_by_sendfile)
{
    struct client c;
    struct reply r;
    start(site, NULL);
    client_open(&c, site);
    ask(&c, "/f/big.bin", &r);
    ASSERT_EQ(r.status, 200);
    check_big(&r, 0, BIG);
    ask_with(&c, "/f/big.bin", "Range: bytes=100000-599999\r\n", &r);
    ASSERT_EQ(r.status, 206);
    check_big(&r, 100000, 500000);
    ask(&c, "/f/small.txt", &r);
    ASSERT_STR(r.body, "0123456789");
    client_close(&c);
}

SITE_TEST(a_pipelined_head_and_file_do_not_mix)
{
    struct client c;
    struct reply r;
    start(site, NULL);
    client_open(&c, site);
    client_send(&c, "GET /hello HTTP/1.1\r\n" HOST "\r\nGET /f/big.bin HTTP/1.1\r\n" HOST
                    "\r\nGET /f/small.txt HTTP/1.1\r\n" HOST "\r\n");
    client_reply(&c, &r);
    ASSERT_STR(r.body, "hello\n");
    client_reply(&c, &r);
    check_big(&r, 0, BIG);
    client_reply(&c, &r);
    ASSERT_STR(r.body, "0123456789");
    client_close(&c);
}

SITE_TEST(ranges_are_cut_out)
{
    static const struct {
        const char *range, *body, *content_range;
        int status;
    } cases[] = {
        {"bytes=0-0", "0", "bytes 0-0/10", 206},      {"bytes=2-4", "234", "bytes 2-4/10", 206},
        {"bytes=8-", "89", "bytes 8-9/10", 206},      {"bytes=-3", "789", "bytes 7-9/10", 206},
        {"bytes=5-99", "56789", "bytes 5-9/10", 206}, {"bytes=10-", NULL, "bytes */10", 416},
        {"bytes=4-2", "0123456789", "", 200},         {"lines=1-2", "0123456789", "", 200},
        {"bytes=a-b", "0123456789", "", 200},
    };
    struct client c;
    struct reply r;
    start(site, NULL);
    client_open(&c, site);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char field[64];
        snprintf(field, sizeof(field), "Range: %s\r\n", cases[i].range);
        ask_with(&c, "/f/small.txt", field, &r);
        ASSERT_EQ(r.status, cases[i].status);
        ASSERT_STR(reply_value(&r, "Content-Range"), cases[i].content_range);
        if (cases[i].body) {
            ASSERT_STR(r.body, cases[i].body);
        }
    }
    ask_with(&c, "/f/small.txt", "Range: bytes=0-1,8-9\r\n", &r);
    ASSERT_EQ(r.status, 206);
    ASSERT(strncmp(reply_value(&r, "Content-Type"), "multipart/byteranges; boundary=", 31) == 0);
    ASSERT(strstr(r.body, "Content-Range: bytes 0-1/10\r\n\r\n01\r\n--") != NULL);
    ASSERT(strstr(r.body, "Content-Range: bytes 8-9/10\r\n\r\n89\r\n--") != NULL);
    ASSERT(strcmp(r.body + r.len - 4, "--\r\n") == 0);
    ask(&c, "/hello", &r);
    ASSERT_EQ(r.status, 200);
    client_close(&c);
}

SITE_TEST(conditions_decide_in_order)
{
    struct client c;
    struct reply r;
    char etag[64], date[64], field[256];
    start(site, NULL);
    client_open(&c, site);
    ask(&c, "/f/small.txt", &r);
    snprintf(etag, sizeof(etag), "%s", reply_value(&r, "ETag"));
    snprintf(date, sizeof(date), "%s", reply_value(&r, "Last-Modified"));
    static const struct {
        const char *form; /* %s is the tag, then the date */
        bool by_date;
        int status;
    } cases[] = {
        {"If-None-Match: %s\r\n", false, 304},
        {"If-None-Match: \"other\", W/%s\r\n", false, 304},
        {"If-None-Match: \"other\"\r\n", false, 200},
        {"If-None-Match: *\r\n", false, 304},
        {"If-Modified-Since: %s\r\n", true, 304},
        {"If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", true, 200},
        {"If-Modified-Since: garbage\r\n", true, 200},
        {"If-Match: %s\r\n", false, 200},
        {"If-Match: \"other\"\r\n", false, 412},
        {"If-Match: *\r\n", false, 200},
        {"If-Unmodified-Since: %s\r\n", true, 200},
        {"If-Unmodified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n", true, 412},
        {"If-None-Match: \"other\"\r\nIf-Modified-Since: %s\r\n", true, 200},
        {"Range: bytes=0-1\r\nIf-Range: %s\r\n", false, 206},
        {"Range: bytes=0-1\r\nIf-Range: \"other\"\r\n", false, 200},
        {"Range: bytes=0-1\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n", true, 200},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const char *insert = cases[i].by_date ? date : etag;
        const char *hole = strstr(cases[i].form, "%s");
        int before = hole ? (int)(hole - cases[i].form) : (int)strlen(cases[i].form);
        snprintf(field, sizeof(field), "%.*s%s%s", before, cases[i].form, hole ? insert : "",
                 hole ? hole + 2 : "");
        ask_with(&c, "/f/small.txt", field, &r);
        if (r.status != cases[i].status) {
            test_fail(__FILE__, __LINE__, "%s: %d", cases[i].form, r.status);
        }
        if (r.status == 304) {
            ASSERT_STR(reply_value(&r, "ETag"), etag);
        }
    }
    client_close(&c);
}

SITE_TEST(a_changed_file_is_seen_after_a_second)
{
    struct client c;
    struct reply r;
    start(site, NULL);
    client_open(&c, site);
    ask(&c, "/f/small.txt", &r);
    site_file(site, "small.txt", "changed", 7);
    for (int i = 0; i < 400 && r.len != 7; i++) {
        ask(&c, "/f/small.txt", &r);
        ASSERT(strcmp(r.body, "changed") == 0 || strcmp(r.body, "0123456789") == 0);
        fibril_sleep(10000000);
    }
    ASSERT_STR(r.body, "changed");
    char path[256];
    snprintf(path, sizeof(path), "%s/small.txt", site->folder);
    ASSERT_EQ(unlink(path), 0);
    for (int i = 0; i < 400 && r.status == 200; i++) {
        ask(&c, "/f/small.txt", &r);
        fibril_sleep(10000000);
    }
    ASSERT_EQ(r.status, 404);
    client_close(&c);
}

SITE_TEST(a_small_cache_forgets_the_least_used)
{
    struct client c;
    struct reply r;
    struct fibril_http_static_opts opts = {.cache_bytes = 3000};
    start(site, &opts);
    client_open(&c, site);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i++) {
            char name[32], target[64];
            snprintf(name, sizeof(name), "n%d.txt", i);
            if (round == 0) {
                site_file(site, name, name, strlen(name));
            }
            snprintf(target, sizeof(target), "/f/%s", name);
            ask(&c, target, &r);
            ASSERT_STR(r.body, name);
        }
    }
    client_close(&c);
}

SITE_TEST(folders_that_cannot_be_served_are_told)
{
    site_folder(site);
    site_file(site, "file", "x", 1);
    site_new(site);
    char path[128];
    snprintf(path, sizeof(path), "%s/file", site->folder);
    ASSERT_LT(fibril_http_static(site->srv, "/f/", path, NULL), 0);
    snprintf(path, sizeof(path), "%s/nothing", site->folder);
    ASSERT_LT(fibril_http_static(site->srv, "/f/", path, NULL), 0);
    ASSERT_LT(fibril_http_static(site->srv, "/f", site->folder, NULL), 0);
    ASSERT_LT(fibril_http_static(site->srv, "f/", site->folder, NULL), 0);
    ASSERT_OK(fibril_http_static(site->srv, "/f/", site->folder, NULL));
    ASSERT_LT(fibril_http_static(site->srv, "/f/", site->folder, NULL), 0);
}
