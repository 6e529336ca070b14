/* SPDX-License-Identifier: MIT */
/*
 * Server-sent events: a response that does not end, in lines that a browser's EventSource reads.
 * Each event leaves at once; a peer that has gone shows as -EPIPE at the next one.
 */
#include <fibril/http.h>

#include <errno.h>
#include <string.h>

int fibril_http_sse_start(struct fibril_http_req *req)
{
    int rc = fibril_http_header(req, "Content-Type", "text/event-stream");
    rc = rc < 0 ? rc : fibril_http_header(req, "Cache-Control", "no-store");
    /* Proxies that gather responses are asked not to. */
    rc = rc < 0 ? rc : fibril_http_header(req, "X-Accel-Buffering", "no");
    return rc < 0 ? rc : fibril_http_flush(req);
}

static int write_text(struct fibril_http_req *req, const char *text)
{
    return fibril_http_write(req, text, strlen(text));
}

static int write_field(struct fibril_http_req *req, const char *name, const char *value, size_t len)
{
    int rc = write_text(req, name);
    rc = rc < 0 ? rc : fibril_http_write(req, value, len);
    return rc < 0 ? rc : write_text(req, "\n");
}

/* A line ends with LF, CR or both; each becomes a field of its own. */
static int write_lines(struct fibril_http_req *req, const char *data)
{
    for (;;) {
        size_t len = strcspn(data, "\r\n");
        int rc = write_field(req, "data: ", data, len);
        if (rc < 0 || data[len] == '\0') {
            return rc;
        }
        data += len + (data[len] == '\r' && data[len + 1] == '\n' ? 2 : 1);
    }
}

int fibril_http_sse_send(struct fibril_http_req *req, const char *event, const char *data)
{
    if (event && strpbrk(event, "\r\n")) {
        return -EINVAL;
    }
    int rc = event ? write_field(req, "event: ", event, strlen(event)) : 0;
    rc = rc < 0 ? rc : write_lines(req, data);
    rc = rc < 0 ? rc : write_text(req, "\n");
    return rc < 0 ? rc : fibril_http_flush(req);
}
