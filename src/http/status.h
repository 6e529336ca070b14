/* SPDX-License-Identifier: MIT */
/* Reason phrases of the registered status codes. */
#ifndef FIBRIL_HTTP_STATUS_H
#define FIBRIL_HTTP_STATUS_H

#include <stdbool.h>

/* The registered phrase; for a code without one the name of its class ("Client Error"); never NULL.
 */
const char *fibril__http_reason(int status);

/* Whether a response with this status ends with its head: 1xx, 204 and 304. */
bool fibril__http_status_bodiless(int status);

#endif
