/* SPDX-License-Identifier: MIT */
/*
 * Conditions in the order of RFC 9110, section 13.2.2:
 *
 *     If-Match           else If-Unmodified-Since    not fulfilled: 412
 *     If-None-Match      else If-Modified-Since      not fulfilled: 304
 *     If-Range           not fulfilled: the whole file
 *     Range              nothing of it there: 416
 *
 * The usual case has none of these headers and leaves through the prebuilt head.
 */
#include "http/respond_file.h"

#include "http/date.h"
#include "http/range.h"
#include "http/server.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { RANGES_MAX = 16, PART_HEAD = 256 };

static const char boundary[] = "fibril-7d1f0c5e9a3b";

static bool known(const struct fibril_http_req *req, enum fibril__http_id id,
                  struct fibril__span *ret_value)
{
    const char *value = fibril__http_req_known(req, id);
    *ret_value = (struct fibril__span){value, value ? strlen(value) : 0};
    return value != NULL;
}

/* ---- conditions ------------------------------------------------------------------------------ */

static int64_t modified_s(const struct fibril__http_file *file)
{
    return file->mtime_ns / 1000000000;
}

/* Whether the date field says that the file was changed after it; an unreadable date says nothing.
 */
static bool changed_since(const struct fibril_http_req *req, const struct fibril__http_file *file,
                          struct fibril__span date, bool otherwise)
{
    int64_t since;
    if (fibril__http_date_parse(date, req->conn->lane->second, &since) < 0) {
        return otherwise;
    }
    return modified_s(file) > since;
}

/* 0 to go on, 304 or 412. */
static int judge(const struct fibril_http_req *req, const struct fibril__http_file *file)
{
    struct fibril__span value;
    if (known(req, FIBRIL__FIELD_IF_MATCH, &value)) {
        if (fibril__http_etag_match(value, file->etag, false) != 1) {
            return 412;
        }
    } else if (known(req, FIBRIL__FIELD_IF_UNMODIFIED_SINCE, &value) &&
               changed_since(req, file, value, false)) {
        return 412;
    }
    if (known(req, FIBRIL__FIELD_IF_NONE_MATCH, &value)) {
        return fibril__http_etag_match(value, file->etag, true) == 1 ? 304 : 0;
    }
    if (known(req, FIBRIL__FIELD_IF_MODIFIED_SINCE, &value) &&
        !changed_since(req, file, value, true)) {
        return 304;
    }
    return 0;
}

/* How many ranges to send, 0 for the whole file, -ERANGE. */
static int choose_ranges(const struct fibril_http_req *req, const struct fibril__http_file *file,
                         struct fibril__http_range *ranges)
{
    struct fibril__span range, condition;
    if (req->method_id != FIBRIL__HTTP_GET || !known(req, FIBRIL__FIELD_RANGE, &range)) {
        return 0;
    }
    if (known(req, FIBRIL__FIELD_IF_RANGE, &condition) &&
        !fibril__http_if_range(condition, file->etag, modified_s(file), req->conn->lane->second)) {
        return 0;
    }
    return fibril__http_range_parse(range, file->size, ranges, RANGES_MAX);
}

static bool has_conditions(const struct fibril_http_req *req)
{
    for (unsigned i = 0; i < req->slot_count; i++) {
        uint8_t id = req->slots[i].id;
        if (id == FIBRIL__FIELD_RANGE ||
            (id >= FIBRIL__FIELD_IF_MATCH && id <= FIBRIL__FIELD_IF_UNMODIFIED_SINCE)) {
            return true;
        }
    }
    return false;
}

/* ---- answers --------------------------------------------------------------------------------- */

static int write_piece(struct fibril_http_req *req, const struct fibril__http_file *file, int fd,
                       uint64_t first, uint64_t len)
{
    return file->content ? fibril_http_write(req, file->content + first, (size_t)len)
                         : fibril__http_write_file(req, fd, first, len);
}

/* A span as a header; it is short. */
static int header(struct fibril_http_req *req, const char *name, struct fibril__span value)
{
    char text[256];
    if (value.len == 0 || value.len >= sizeof(text)) {
        return 0;
    }
    memcpy(text, value.ptr, value.len);
    text[value.len] = '\0';
    return fibril_http_header(req, name, text);
}

/* The lines of the prebuilt head from ETag on: ETag, Last-Modified, Accept-Ranges, Cache-Control.
 */
static int describe(struct fibril_http_req *req, const struct fibril__http_file *file)
{
    const char *etag = memmem(file->head.ptr, file->head.len, "ETag: ", 6);
    size_t skipped = (size_t)(etag - file->head.ptr);
    return fibril__http_text_add(req, &req->extra, etag, file->head.len - skipped, UINT16_MAX);
}

static int answer_condition(struct fibril_http_req *req, const struct fibril__http_file *file,
                            int status)
{
    if (status == 412) {
        return fibril__http_respond_plain(req, 412, "");
    }
    int rc = describe(req, file);
    return rc < 0 ? rc : fibril_http_status(req, status);
}

static int answer_unsatisfiable(struct fibril_http_req *req, const struct fibril__http_file *file)
{
    char extra[96];
    snprintf(extra, sizeof(extra), "Content-Range: bytes */%llu\r\n",
             (unsigned long long)file->size);
    return fibril__http_respond_plain(req, 416, extra);
}

static int answer_range(struct fibril_http_req *req, const struct fibril__http_file *file, int fd,
                        const struct fibril__http_range *range)
{
    char text[96];
    uint64_t len = range->last - range->first + 1;
    snprintf(text, sizeof(text), "bytes %llu-%llu/%llu", (unsigned long long)range->first,
             (unsigned long long)range->last, (unsigned long long)file->size);
    int rc = fibril_http_status(req, 206);
    rc = rc < 0 ? rc : header(req, "Content-Type", file->type);
    rc = rc < 0 ? rc : fibril_http_header(req, "Content-Range", text);
    rc = rc < 0 ? rc : describe(req, file);
    rc = rc < 0 ? rc : fibril_http_content_length(req, len);
    return rc < 0 ? rc : write_piece(req, file, fd, range->first, len);
}

static size_t part_head(char out[PART_HEAD], const struct fibril__http_file *file,
                        const struct fibril__http_range *range)
{
    return (size_t)snprintf(out, PART_HEAD,
                            "\r\n--%s\r\nContent-Type: %.*s\r\n"
                            "Content-Range: bytes %llu-%llu/%llu\r\n\r\n",
                            boundary, (int)file->type.len, file->type.ptr,
                            (unsigned long long)range->first, (unsigned long long)range->last,
                            (unsigned long long)file->size);
}

static int write_parts(struct fibril_http_req *req, const struct fibril__http_file *file, int fd,
                       const struct fibril__http_range *ranges, int n)
{
    char text[PART_HEAD];
    for (int i = 0; i < n; i++) {
        size_t len = part_head(text, file, &ranges[i]);
        int rc = fibril_http_write(req, text, len);
        rc = rc < 0 ? rc
                    : write_piece(req, file, fd, ranges[i].first,
                                  ranges[i].last - ranges[i].first + 1);
        if (rc < 0) {
            return rc;
        }
    }
    int len = snprintf(text, sizeof(text), "\r\n--%s--\r\n", boundary);
    return fibril_http_write(req, text, (size_t)len);
}

static int answer_ranges(struct fibril_http_req *req, const struct fibril__http_file *file, int fd,
                         const struct fibril__http_range *ranges, int n)
{
    char text[PART_HEAD];
    uint64_t total = sizeof("\r\n----\r\n") - 1 + sizeof(boundary) - 1;
    for (int i = 0; i < n; i++) {
        total += part_head(text, file, &ranges[i]) + ranges[i].last - ranges[i].first + 1;
    }
    snprintf(text, sizeof(text), "multipart/byteranges; boundary=%s", boundary);
    int rc = fibril_http_status(req, 206);
    rc = rc < 0 ? rc : fibril_http_header(req, "Content-Type", text);
    rc = rc < 0 ? rc : describe(req, file);
    rc = rc < 0 ? rc : fibril_http_content_length(req, total);
    return rc < 0 ? rc : write_parts(req, file, fd, ranges, n);
}

static int answer_whole(struct fibril_http_req *req, const struct fibril__http_file *file, int fd)
{
    int rc = fibril__http_respond_prebuilt(req, 200, file->head.ptr, file->head.len, file->content,
                                           file->size);
    return rc < 0 || file->content ? rc : fibril__http_write_file(req, fd, 0, file->size);
}

static NOINLINE int answer_conditional(struct fibril_http_req *req,
                                       const struct fibril__http_file *file, int fd)
{
    struct fibril__http_range ranges[RANGES_MAX];
    fibril__http_lane_stamp(req->conn->lane); /* dates with two digits of a year need to know today
                                               */
    int status = judge(req, file);
    if (status != 0) {
        return answer_condition(req, file, status);
    }
    int n = choose_ranges(req, file, ranges);
    if (n < 0) {
        return answer_unsatisfiable(req, file);
    }
    if (n == 0) {
        return answer_whole(req, file, fd);
    }
    return n == 1 ? answer_range(req, file, fd, ranges) : answer_ranges(req, file, fd, ranges, n);
}

int fibril__http_respond_file(struct fibril_http_req *req, const struct fibril__http_file *file,
                              int fd)
{
    return has_conditions(req) ? answer_conditional(req, file, fd) : answer_whole(req, file, fd);
}
