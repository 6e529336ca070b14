/* SPDX-License-Identifier: MIT */
/*
 * Writing about fibrils without stdio or allocation, so that it works in signal handlers and out of
 * memory.
 */
#ifndef FIBRIL_DEBUG_DESCRIBE_H
#define FIBRIL_DEBUG_DESCRIBE_H

#include "sched/fibril.h"

/* A text that is put together in a fixed buffer and written in one go; what does not fit is left
 * out. */
struct fibril__text {
    char bytes[1024];
    size_t len;
};

void fibril__text_str(struct fibril__text *t, const char *s);
void fibril__text_dec(struct fibril__text *t, uint64_t n);
void fibril__text_hex(struct fibril__text *t, uint64_t n);
/* A span of time as "1.234 s". */
void fibril__text_seconds(struct fibril__text *t, int64_t ns);
/* A code address as "symbol+0x12 (object)", as far as it is known. */
void fibril__text_code(struct fibril__text *t, const void *address);
/* 'fibril 12 "name"'. */
void fibril__text_fibril(struct fibril__text *t, const struct fibril *f);
/* What f is doing: "running", "ready", "waits: recv on descriptor 5", each "since 1.234 s". */
void fibril__text_state(struct fibril__text *t, const struct fibril *f, int64_t now_ns);
/* The same of a fibril whose loop may be running meanwhile: the object that it waits on is not
 * looked at, it may be going. */
void fibril__text_state_outside(struct fibril__text *t, const struct fibril *f, int64_t now_ns);
/* Writes the text and empties it. */
void fibril__text_flush(struct fibril__text *t, int fd);

#endif
