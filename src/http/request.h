/* SPDX-License-Identifier: MIT */
/*
 * A request with its response. All that was sent in the head lies in one block of just the size it
 * needs, names and values ended by NULs, so that the receive buffer is free while the handler runs:
 * ten thousand handlers that sleep must not hold ten thousand buffers.
 *
 *     struct fibril_http_req | header slots | params | head bytes | path | marks | authority
 *
 * A block that only points into the receive buffer was rejected: it saves a copy of some hundred
 * bytes per request and costs 8 KiB for each handler that waits.
 */
#ifndef FIBRIL_HTTP_REQUEST_H
#define FIBRIL_HTTP_REQUEST_H

#include <fibril/http.h>

#include "http/chunk.h"
#include "http/conn.h"
#include "http/parse.h"
#include "http/router.h"

/* A header line: offsets from the head bytes. */
struct fibril__http_slot {
    uint32_t name, value;
    uint16_t name_len;
    uint8_t id, flags;
};

/* A string that grows: extra response headers, trailers. */
struct fibril__http_text {
    char *ptr;
    uint32_t len, bytes;
};

enum fibril__http_req_flags {
    FIBRIL__REQ_HEAD = 1u << 0,       /* the method is HEAD */
    FIBRIL__REQ_KEEP = 1u << 1,       /* the connection will be used again */
    FIBRIL__REQ_CHUNKED_IN = 1u << 2, /* the request's body is chunked */
    FIBRIL__REQ_EXPECT = 1u << 3,     /* the peer waits for 100-continue */
    FIBRIL__REQ_BODY_BEGUN = 1u << 4,
    FIBRIL__REQ_BODY_DONE = 1u << 5,
    FIBRIL__REQ_COMMITTED = 1u << 6, /* the response head is in the buffer or gone */
    FIBRIL__REQ_CHUNKED_OUT = 1u << 7,
    FIBRIL__REQ_BODILESS = 1u << 8, /* no byte of body is sent, whatever is written */
    FIBRIL__REQ_LENGTH_SET = 1u << 9,
    FIBRIL__REQ_TILL_CLOSE = 1u << 10,  /* the response ends with the connection */
    FIBRIL__REQ_CHUNK_OPEN = 1u << 11,  /* an unfinished chunk begins at conn->chunk_at */
    FIBRIL__REQ_BODY_LATE = 1u << 12,   /* the peer was too slow with the body: 408 */
    FIBRIL__REQ_WANTS_CLOSE = 1u << 13, /* the handler asked for it */
};

struct fibril_http_req {
    struct fibril_label label; /* method and target, for dumps */
    struct fibril__http_conn *conn;
    uint32_t block_bytes;
    uint16_t flags;
    uint16_t slot_count;
    uint16_t status;
    uint16_t trailer_count;
    uint8_t method_id, minor;
    const struct fibril__http_slot *slots;
    const char *head; /* the bytes that slots refer to */
    const char *method, *target, *path, *query, *host;
    const struct fibril__http_pattern *pattern;
    const char **params; /* of the pattern, in its order */
    uint32_t path_len;
    int32_t body_error; /* -errno that repeats */
    int64_t begun_ns;
    /* body of the request */
    int64_t length; /* announced, -1 when chunked */
    uint64_t left;  /* of an announced length */
    uint64_t limit, received;
    int64_t waited_ns;                    /* for the body, so far */
    struct fibril__http_chunks *chunks;   /* while a chunked body is read */
    struct fibril__http_text trailers_in; /* name NUL value NUL ... */
    struct fibril__http_whole *wholes;    /* bodies read at once, freed with the request */
    /* response */
    uint64_t content_length, written;
    struct fibril__http_text extra;        /* header lines of the application */
    struct fibril__http_text trailers_out; /* trailer lines of the application */
};

/* Decoder of a chunked body. */
struct fibril__http_chunks {
    struct fibril__http_chunk decoder;
    size_t bytes; /* of this block */
    struct fibril__http_field fields[];
};

/* Makes the request of a head that lies at the front of conn's input. 0, or the status to refuse it
 * with. Never parks. */
int fibril__http_req_new(struct fibril__http_conn *conn, const struct fibril__http_head *head,
                         int64_t begun_ns, struct fibril_http_req **ret_req);
void fibril__http_req_free(struct fibril_http_req *req);

/* The value of a known header, or NULL. */
const char *fibril__http_req_known(const struct fibril_http_req *req, enum fibril__http_id id);

/* Remembers what the names of the matched pattern stand for. */
void fibril__http_req_matched(struct fibril_http_req *req, const struct fibril__http_match *match);

/* Appends to a text; -ENOMEM, -ENOBUFS beyond `max`. */
int fibril__http_text_add(struct fibril_http_req *req, struct fibril__http_text *text,
                          const char *bytes, size_t len, size_t max);
void fibril__http_text_free(struct fibril_http_req *req, struct fibril__http_text *text);

/* ---- body.c ---- */

/* Reads and drops what is left of the body, as far as the limits go: whether the connection can be
 * used again. MAY PARK. */
bool fibril__http_body_drop(struct fibril_http_req *req);

/* Whether that may work at all, as far as is known before. */
bool fibril__http_body_droppable(const struct fibril_http_req *req);

void fibril__http_body_free(struct fibril_http_req *req);

/* ---- response.c ---- */

/* A response of the server itself, replacing what has been set: a line of text. `extra` is a header
 * line with CRLF, or "". MAY PARK. */
int fibril__http_respond_plain(struct fibril_http_req *req, int status, const char *extra);

/* The refusal of a head, outside of any request. MAY PARK. */
void fibril__http_refuse_head(struct fibril__http_conn *conn, int status);

/* Sends a prebuilt head (status line to the last field, CRLF included) and a body that lies in
 * memory, or only announces one of `len` bytes when body is NULL. MAY PARK. */
int fibril__http_respond_prebuilt(struct fibril_http_req *req, int status, const char *head,
                                  size_t head_len, const void *body, uint64_t len);

/* Writes a piece of a file to a response whose length has been set. MAY PARK. */
int fibril__http_write_file(struct fibril_http_req *req, int fd, uint64_t offset, uint64_t len);

/* Ends the response: what is still unsent is in conn->out. -errno when the peer must be able to
 * tell that it is not whole. MAY PARK. */
int fibril__http_response_end(struct fibril_http_req *req);

#endif
