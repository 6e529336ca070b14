/* SPDX-License-Identifier: MIT */
/* The media type of a file by the extension of its name. */
#ifndef FIBRIL_HTTP_MIME_H
#define FIBRIL_HTTP_MIME_H

#include "http/span.h"

/*
 * A Content-Type value for the path, never NULL: "application/octet-stream" when the extension is
 * unknown or missing (a name that only begins with a dot has none). Text types carry charset=utf-8.
 */
const char *fibril__http_mime(struct fibril__span path);

#endif
