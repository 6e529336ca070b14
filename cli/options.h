/* SPDX-License-Identifier: MIT */
/*
 * Options of a command as a table: the parser, the error lines and the help all come from it, so
 * that none of them can forget an option or tell another default.
 */
#ifndef FIBRIL_CLI_OPTIONS_H
#define FIBRIL_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct option;

/* Stores `value` at `field`. Returns NULL, or what is wrong with it as the end of a sentence:
 * "wants
 * ...". The text lives until the next call. */
typedef const char *option_set(const struct option *option, const char *value, void *field);

struct option {
    const char *name;  /* "--bind" */
    const char *value; /* what the help calls its value; NULL: it takes none */
    option_set *set;
    size_t offset; /* of the field in the command's struct */
    double min, max;
    const char *const *choices; /* of option_choice, ends with NULL */
    const char *help;           /* lines, each ended by a newline but the last */
};

struct command {
    const char *name;    /* "serve" */
    const char *summary; /* its usage line and what it does; ends with a newline */
    const char *notes;   /* what the help ends with */
    const char *operand; /* what the one operand is called, NULL: it takes none */
    size_t operand_offset;
    const struct option *options; /* ends with a name of NULL */
};

/* A value that may be given several times. */
enum { WORDS_MAX = 16 };
struct words {
    unsigned count;
    const char *at[WORDS_MAX];
};

/* Reads argv[1...] into the struct at `to`, which holds the defaults. Returns 0 to go on; else the
 * exit status is in *ret_exit and everything has been said: the help, the version or what is wrong.
 */
int options_read(const struct command *command, int argc, char **argv, void *to, int *ret_exit);

/* Values. Fields: bool, const char *, struct words, unsigned, int64_t (nanoseconds), int (the index
 * of the choice). */
option_set option_flag, option_text, option_address, option_number, option_seconds,
    option_milliseconds, option_choice;

/* Pieces for values of other forms. They return false where the text is no such number or out of
 * range. */
bool option_parse_number(const char *text, double min, double max, uint64_t *ret_number);
/* A count of bytes, with k, m or g for 1024 and its powers. */
bool option_parse_bytes(const char *text, uint64_t *ret_bytes);
/* Seconds, with a fraction if wanted; "none" is FIBRIL_FOREVER. */
bool option_parse_seconds(const char *text, double min, double max, int64_t *ret_ns);

/* A place for the sentences that an option_set makes. */
const char *option_wants(const char *format, ...) __attribute__((format(printf, 1, 2)));

#endif
