/* SPDX-License-Identifier: MIT */
/*
 * The frames between two processes, as bytes and as a struct; no state, no memory of its own.
 *
 * A frame is eight bytes (length of the rest, type, flags, zero) and the fields of its type, in the
 * order of the table in frame.c, little-endian. Whatever is longer than a frame may be is a message
 * or a reply, whose first frame says how long it is in all and the others just go on. An actor is
 * written from the writer's point of view: "mine" is one of the process that wrote the frame,
 * "yours" of the one that reads it. Whoever reads one that is not exactly like this is told so.
 *
 * Rejected: text, and self-describing formats. Both sides are the same library, whose version the
 * greeting compares, and a fixed order of fields leaves nothing to be interpreted.
 */
#ifndef FIBRIL_ACTOR_FRAME_H
#define FIBRIL_ACTOR_FRAME_H

#include <stddef.h>
#include <stdint.h>

enum {
    FIBRIL__FRAME_HEAD = 8,
    FIBRIL__FRAME_REF = 16,          /* bytes of a reference */
    FIBRIL__FRAME_NAME_MAX = 255,    /* of names of actors, types and processes */
    FIBRIL__FRAME_REFS_MAX = 1024,   /* that one message may mention */
    FIBRIL__FRAME_BYTES_MIN = 20480, /* the largest first frame of a message fits */
    FIBRIL__FRAME_BYTES_MAX = 1 << 20,
    FIBRIL__FRAME_VERSION = 1,
};
#define FIBRIL__FRAME_MAGIC UINT64_C(0x65646f6e62696621) /* "!fibnode" */

enum fibril__frame_type {
    FIBRIL__FRAME_HELLO = 1, /* tag: magic, number: version, messages: longest frame that it
                                reads, bytes: window, who.id: incarnation, reason: pid, name */
    FIBRIL__FRAME_BYE,       /* reason, data: text */
    FIBRIL__FRAME_PING,      /* answered by PONG */
    FIBRIL__FRAME_PONG,
    FIBRIL__FRAME_LINK,      /* who (mine) links itself to `to` (yours), under my `number` */
    FIBRIL__FRAME_UNLINK,    /* mine `to` ends link `number` of the one who asked, see kind */
    FIBRIL__FRAME_LINK_EXIT, /* mine `to` has ended for `reason`: the same link is over */
    FIBRIL__FRAME_EXIT,      /* who tells `to` (yours) to end for `reason` */
    FIBRIL__FRAME_DOWN,      /* mine `to`, which I have mentioned, has ended */
    FIBRIL__FRAME_CREDIT,    /* who (mine) has room for so many more messages and bytes */
    FIBRIL__FRAME_WHEREIS,   /* who has this name? Answered by FOUND with the same number */
    FIBRIL__FRAME_FOUND,
    FIBRIL__FRAME_MESSAGE,       /* for `to` (yours); who: of a call or stream, with its number */
    FIBRIL__FRAME_REPLY,         /* the same, not bounded by a mailbox */
    FIBRIL__FRAME_STREAM_CLOSE,  /* mine `to` wants no more of stream `number` */
    FIBRIL__FRAME_STREAM_BROKEN, /* the giver of stream `number` of `to` (yours) has ended */
    FIBRIL__FRAME_TYPES,
};

enum fibril__frame_flags {
    FIBRIL__FRAME_MORE = 1u << 0, /* of MESSAGE and REPLY: another frame goes on with it */
    FIBRIL__FRAME_NEXT = 1u << 1, /* this one goes on with the one before: only data */
};

enum fibril__frame_kind { /* of a message */
                          FIBRIL__FRAME_PLAIN,
                          FIBRIL__FRAME_CAST,
                          FIBRIL__FRAME_CALL,
                          FIBRIL__FRAME_OPEN,    /* a call that opens a stream */
                          FIBRIL__FRAME_ANSWER,  /* these two in a REPLY */
                          FIBRIL__FRAME_REFUSAL, /* tag: the error, negated */
                          FIBRIL__FRAME_GIVE,    /* one of a stream of replies */
                          FIBRIL__FRAME_LAST,    /* its end */
                          FIBRIL__FRAME_KINDS,
};

enum { FIBRIL__MINE, FIBRIL__YOURS };

/* An actor; one of mine with what its mailbox takes. */
struct fibril__ref {
    uint64_t id;     /* 0: nobody */
    uint32_t window; /* messages that may be under way to it; at least 1 */
    uint8_t owner, overflow;
};

struct fibril__frame {
    uint64_t tag, to, number, bytes, total;
    struct fibril__ref who;
    const uint8_t *name, *refs, *data; /* in the bytes that were read */
    size_t data_len;
    uint32_t messages;
    int32_t reason;
    uint16_t n_refs;
    uint8_t name_len, kind, type, flags;
};

/* Reads the head of a frame: how many bytes follow, at most max. 0, -EBADMSG, -EMSGSIZE. */
int fibril__frame_head(const uint8_t head[FIBRIL__FRAME_HEAD], uint32_t max, uint32_t *ret_len);
/* Reads a whole frame, `len` bytes after the head. 0 or -EBADMSG, with a sentence in ret_what. */
int fibril__frame_read(const uint8_t *frame, uint32_t len, struct fibril__frame *ret_frame,
                       const char **ret_what);
/* How many bytes it takes, head included. */
size_t fibril__frame_size(const struct fibril__frame *f);
/* Writes it there. */
void fibril__frame_write(const struct fibril__frame *f, uint8_t *ret_bytes);

/* The i-th reference of a message that was read, and writing one. */
struct fibril__ref fibril__ref_read(const uint8_t *bytes);
void fibril__ref_write(struct fibril__ref ref, uint8_t *ret_bytes);

/* "link", "message", ...; "unknown". */
const char *fibril__frame_name(unsigned type);

#endif
