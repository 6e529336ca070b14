/* SPDX-License-Identifier: MIT */
/*
 * What the words of a head mean: the form of the target, the framing, the connection options.
 * Called by the parser only; the checks are here so that parse.c deals with bytes alone.
 *
 * Each returns 0, or the status to answer after setting p->why.
 */
#ifndef FIBRIL_HTTP_MEANING_H
#define FIBRIL_HTTP_MEANING_H

#include "http/parse.h"

/* Method and target are complete: identifies the method, splits the target, refuses forms that do
 * not fit. */
int fibril__http_note_request(struct fibril__http_parser *p);

/* The field at head.field_count, not yet counted, is complete. */
int fibril__http_note_field(struct fibril__http_parser *p);

/* The empty line came: what can be said only about all fields together. */
int fibril__http_note_end(struct fibril__http_parser *p);

/* Remembers the reason and returns the status: `return fibril__http_refuse(p, 400, "bare LF")`. */
int fibril__http_refuse(struct fibril__http_parser *p, int status, const char *why);

#endif
