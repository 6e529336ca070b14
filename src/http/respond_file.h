/* SPDX-License-Identifier: MIT */
/* The answer about one known file: conditions, ranges, the bytes. */
#ifndef FIBRIL_HTTP_RESPOND_FILE_H
#define FIBRIL_HTTP_RESPOND_FILE_H

#include "http/file_cache.h"
#include "http/request.h"

/* Answers GET or HEAD. The bytes come from file->content, or from fd where that is NULL. MAY PARK.
 */
int fibril__http_respond_file(struct fibril_http_req *req, const struct fibril__http_file *file,
                              int fd);

#endif
