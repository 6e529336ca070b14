/* SPDX-License-Identifier: MIT */
/*
 * What fibril observe looks at, and the connection to the program that tells it.
 */
#ifndef FIBRIL_CLI_WATCH_H
#define FIBRIL_CLI_WATCH_H

#include <stdbool.h>
#include <stddef.h>

enum watch_view { WATCH_ACTORS, WATCH_FIBRILS, WATCH_TREE };

struct watch {
    const char *target; /* as the user typed it */
    enum watch_view view;
    const char *sort; /* "cpu" */
    bool ascending;
    unsigned skip, count;
};

/* Opens a connection and asks for `what` ("text", "json") with the query of w, again and again if
 * live; reads up to the body, of which the first bytes may be in `first` already. Returns the
 * descriptor; -1: *ret_wrong says why as the end of a sentence. */
int watch_open(const struct watch *w, const char *what, bool live, char *first, size_t size,
               size_t *ret_len, const char **ret_wrong);

#endif
