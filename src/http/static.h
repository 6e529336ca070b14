/* SPDX-License-Identifier: MIT */
/* Folders that a server serves: what server.c must know of static.c. */
#ifndef FIBRIL_HTTP_STATIC_H
#define FIBRIL_HTTP_STATIC_H

struct fibril__http_static;

/* Frees a list of folders and closes them. */
void fibril__http_statics_free(struct fibril__http_static *list);

#endif
