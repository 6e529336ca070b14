/* SPDX-License-Identifier: MIT */
/*
 * What the command says when it cannot go on: exactly one line on standard error, whatever the
 * user passed in.
 */
#ifndef FIBRIL_CLI_SAY_H
#define FIBRIL_CLI_SAY_H

enum {
    EXIT_FINE = 0,
    EXIT_LOST = 1,  /* something failed while it ran */
    EXIT_USAGE = 2, /* it could not begin: wrong option, unreadable folder, port in use */
};

/* Prints "fibril COMMAND: ..." and a newline on standard error (command NULL: "fibril: ..."). Bytes
 * that would break the line or speak to the terminal become question marks. Returns EXIT_USAGE. */
int say_wrong(const char *command, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
