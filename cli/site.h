/* SPDX-License-Identifier: MIT */
/*
 * The demo site: a page with live figures, /hello, /slow?ms=N, /events, /metrics.json and /load.
 */
#ifndef FIBRIL_CLI_SITE_H
#define FIBRIL_CLI_SITE_H

#include "pulse.h"

struct site {
    struct fibril_http_server *srv;
    struct pulse pulse;
    struct fibril *ticker;
    /* Sends `count` concurrent requests to the site and stores what came of it as JSON. MAY PARK.
     */
    int (*load)(struct site *site, unsigned count, char *ret_json, size_t size);
    unsigned load_max; /* most that /load may ask for */
    bool loading;
};

/* Makes the server and its routes. Returns 0 or -errno. */
int site_open(struct site *site, unsigned connections);
/* Starts what counts. From a fibril. */
int site_start(struct site *site);
void site_close(struct site *site);

/* The files of the page, built in. */
struct site_file {
    const char *path, *type;
    const unsigned char *bytes;
    size_t len;
};
extern const struct site_file site_files[]; /* ends with a path of NULL */

#endif
