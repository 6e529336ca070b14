/* SPDX-License-Identifier: MIT */
/* Writing heads and chunks, what is refused, and the two small tables: phrases and media types. */
#include "test.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "http/encode.h"
#include "http/mime.h"
#include "http/status.h"

#define ASSERT_TEXT(out, text)                                                                     \
    do {                                                                                           \
        ASSERT_EQ((out).len, sizeof(text) - 1);                                                    \
        ASSERT_MEM((out).ptr, text, sizeof(text) - 1);                                             \
    } while (0)

static const struct fibril__span none = {NULL, 0};

TEST(a_head_is_written)
{
    char buf[200];
    struct fibril__http_out out = {buf, 0, sizeof(buf)};
    ASSERT_OK(fibril__http_put_status(&out, 200, none));
    ASSERT_OK(fibril__http_put_field(&out, FIBRIL__SPAN("X"), FIBRIL__SPAN("a\tb \xe9")));
    ASSERT_OK(fibril__http_put_field(&out, FIBRIL__SPAN("Empty"), none));
    ASSERT_OK(fibril__http_put_field_number(&out, FIBRIL__SPAN("Content-Length"), 0));
    ASSERT_OK(fibril__http_put_field_number(&out, FIBRIL__SPAN("N"), UINT64_MAX));
    ASSERT_OK(fibril__http_put_end(&out));
    ASSERT_TEXT(out, "HTTP/1.1 200 OK\r\nX: a\tb \xe9\r\nEmpty: \r\nContent-Length: 0\r\n"
                     "N: 18446744073709551615\r\n\r\n");
}

TEST(chunks_are_written)
{
    char buf[200];
    struct fibril__http_out out = {buf, 0, sizeof(buf)};
    ASSERT_OK(fibril__http_put_chunk_head(&out, 1));
    ASSERT_OK(fibril__http_put_chunk_head(&out, 0x1a2b));
    ASSERT_OK(fibril__http_put_chunk_head(&out, UINT64_MAX));
    ASSERT_OK(fibril__http_put_last_chunk(&out));
    ASSERT_TEXT(out, "1\r\n1a2b\r\nffffffffffffffff\r\n0\r\n");
    ASSERT_ERR(fibril__http_put_chunk_head(&out, 0), -EINVAL);
}

TEST(response_splitting_is_refused)
{
    static const char bad[] = {'\r', '\n', '\0', '\x01', '\v', '\f', '\x7f'};
    char buf[200];
    struct fibril__http_out out = {buf, 0, sizeof(buf)};
    for (size_t i = 0; i < sizeof(bad); i++) {
        for (size_t place = 0; place < 40; place++) {
            char text[40];
            memset(text, 'a', sizeof(text));
            text[place] = bad[i];
            struct fibril__span s = {text, sizeof(text)};
            ASSERT_ERR(fibril__http_put_field(&out, FIBRIL__SPAN("X"), s), -EINVAL);
            ASSERT_ERR(fibril__http_put_field(&out, s, FIBRIL__SPAN("x")), -EINVAL);
            ASSERT_ERR(fibril__http_put_status(&out, 200, s), -EINVAL);
        }
    }
    ASSERT_ERR(fibril__http_put_field(&out, FIBRIL__SPAN("X Y"), none), -EINVAL);
    ASSERT_ERR(fibril__http_put_field(&out, FIBRIL__SPAN("X:"), none), -EINVAL);
    ASSERT_ERR(fibril__http_put_field(&out, none, none), -EINVAL);
    ASSERT_ERR(fibril__http_put_status(&out, 99, none), -EINVAL);
    ASSERT_ERR(fibril__http_put_status(&out, 1000, none), -EINVAL);
    ASSERT_ERR(fibril__http_put_status(&out, -200, none), -EINVAL);
    ASSERT_EQ(out.len, 0);
}

/* Writes one of each kind; the number of the call that failed first, or 0. */
static int write_all(struct fibril__http_out *out)
{
    if (fibril__http_put_status(out, 404, none) != 0) {
        return 1;
    }
    if (fibril__http_put_field(out, FIBRIL__SPAN("Name"), FIBRIL__SPAN("value")) != 0) {
        return 2;
    }
    if (fibril__http_put_field_number(out, FIBRIL__SPAN("N"), 12345) != 0) {
        return 3;
    }
    if (fibril__http_put_end(out) != 0) {
        return 4;
    }
    return fibril__http_put_chunk_head(out, 0xabc) != 0 ? 5 : 0;
}

TEST(what_does_not_fit_is_not_begun)
{
    static const size_t ends[] = {0, 24, 37, 47, 49, 54};
    char buf[64];
    for (size_t bytes = 0; bytes <= sizeof(buf); bytes++) {
        struct fibril__http_out out = {buf, 0, bytes};
        memset(buf, '~', sizeof(buf));
        int failed = write_all(&out);
        ASSERT_EQ(out.len, ends[failed == 0 ? 5 : failed - 1]);
        ASSERT_LE(out.len, bytes);
        for (size_t i = out.len; i < sizeof(buf); i++) {
            ASSERT_EQ(buf[i], '~');
        }
        ASSERT_EQ(failed == 0, bytes >= 54);
    }
}

TEST(phrases_are_the_registered_ones)
{
    ASSERT_STR(fibril__http_reason(200), "OK");
    ASSERT_STR(fibril__http_reason(404), "Not Found");
    ASSERT_STR(fibril__http_reason(413), "Content Too Large");
    ASSERT_STR(fibril__http_reason(431), "Request Header Fields Too Large");
    ASSERT_STR(fibril__http_reason(505), "HTTP Version Not Supported");
    ASSERT_STR(fibril__http_reason(499), "Client Error");
    ASSERT_STR(fibril__http_reason(299), "Success");
    ASSERT_STR(fibril__http_reason(0), "Unknown");
    ASSERT_STR(fibril__http_reason(600), "Unknown");
}

TEST(bodiless_statuses)
{
    ASSERT_EQ(fibril__http_status_bodiless(100), true);
    ASSERT_EQ(fibril__http_status_bodiless(199), true);
    ASSERT_EQ(fibril__http_status_bodiless(200), false);
    ASSERT_EQ(fibril__http_status_bodiless(204), true);
    ASSERT_EQ(fibril__http_status_bodiless(205), false);
    ASSERT_EQ(fibril__http_status_bodiless(304), true);
}

static const char *mime(const char *path)
{
    return fibril__http_mime((struct fibril__span){path, strlen(path)});
}

TEST(media_types_by_extension)
{
    ASSERT_STR(mime("/index.html"), "text/html; charset=utf-8");
    ASSERT_STR(mime("/a.b/X.JPG"), "image/jpeg");
    ASSERT_STR(mime("x.7z"), "application/x-7z-compressed");
    ASSERT_STR(mime("x.tar.zst"), "application/zstd");
    ASSERT_STR(mime("/fonts/a.woff2"), "font/woff2");
    ASSERT_STR(mime("app.mjs"), "text/javascript; charset=utf-8");
}

TEST(no_extension_is_an_octet_stream)
{
    static const char *const paths[] = {
        "",         "/",      "/a",  "/.html",     ".html",
        "/a.html/", "/a.b/c", "/a.", "/a.unknown", "/a.htmlhtmlhtmlhtml"};
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        ASSERT_STR(mime(paths[i]), "application/octet-stream");
    }
}

/* The binary search needs the order; each row is reached only if the rows round it are in place. */
TEST(every_extension_can_be_found)
{
    static const char *const all[] = {
        "7z",   "aac",         "apng",   "atom", "avi",   "avif",  "bmp", "br",   "bz2",  "c",
        "conf", "css",         "csv",    "deb",  "doc",   "docx",  "eot", "epub", "flac", "geojson",
        "gif",  "gz",          "h",      "htm",  "html",  "ico",   "ics", "jar",  "jpeg", "jpg",
        "js",   "json",        "jsonld", "jxl",  "log",   "m3u8",  "m4a", "m4v",  "map",  "md",
        "mid",  "midi",        "mjs",    "mkv",  "mov",   "mp3",   "mp4", "mpeg", "mpg",  "odp",
        "ods",  "odt",         "oga",    "ogg",  "ogv",   "opus",  "otf", "pdf",  "png",  "ppt",
        "pptx", "ps",          "py",     "rar",  "rss",   "rtf",   "sh",  "svg",  "svgz", "tar",
        "tif",  "tiff",        "toml",   "ts",   "ttf",   "txt",   "vtt", "wasm", "wav",  "weba",
        "webm", "webmanifest", "webp",   "woff", "woff2", "xhtml", "xls", "xlsx", "xml",  "xz",
        "yaml", "yml",         "zip",    "zst"};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        char path[32];
        snprintf(path, sizeof(path), "f.%s", all[i]);
        if (strcmp(mime(path), "application/octet-stream") == 0) {
            test_fail(__FILE__, __LINE__, "not found: %s", all[i]);
        }
    }
}
