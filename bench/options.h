/* SPDX-License-Identifier: MIT */
/*
 * The options that fibril's bench programs share: --stack own|copied, --poller NAME,
 * and what is left over as plain arguments. Anything else ends the program with one line and exit
 * code 2.
 */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <fibril/fibril.h>

struct options {
    enum fibril_stack stack;
    const char *poller; /* NULL: the runtime's choice */
    const char *args[2];
    int n_args;
};

static inline const char *option_value(int argc, char **argv, int *i)
{
    if (*i + 1 >= argc) {
        fprintf(stderr, "%s: %s needs a value\n", argv[0], argv[*i]);
        exit(2);
    }
    return argv[++*i];
}

static inline struct options parse_options(int argc, char **argv)
{
    struct options o = {0};

    for (int i = 1; i < argc; i++) {
        if (!strcmp(argv[i], "--stack")) {
            o.stack = strcmp(option_value(argc, argv, &i), "copied") ? FIBRIL_STACK_OWN
                                                                     : FIBRIL_STACK_COPIED;
        } else if (!strcmp(argv[i], "--poller")) {
            o.poller = option_value(argc, argv, &i);
        } else if (argv[i][0] != '-' && o.n_args < 2) {
            o.args[o.n_args++] = argv[i];
        } else {
            fprintf(stderr, "%s: unknown argument %s\n", argv[0], argv[i]);
            exit(2);
        }
    }
    return o;
}

/* Ends the program when a call of the runtime failed: a benchmark that goes on would measure
 * nothing. */
static inline void must(int result, const char *what)
{
    if (result < 0) {
        fprintf(stderr, "%s: %s\n", what, strerror(-result));
        exit(result == -ENOSYS ? 77 : 1); /* 77: this machine cannot run it */
    }
}

#endif
