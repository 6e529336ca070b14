/* SPDX-License-Identifier: MIT */
/*
 * Reads a command line by a table. getopt_long is not used: its messages name the program by
 * argv[0] and not the value, it takes abbreviations (which turn into other options when one is
 * added), and the help would be a second table to keep in step.
 */
#include "options.h"

#include "say.h"

#include <stdio.h>
#include <string.h>

#include <fibril/fibril.h>

static void print_help(const struct command *command)
{
    fputs(command->summary, stdout);
    fputs("\noptions:\n", stdout);
    for (const struct option *o = command->options; o->name; o++) {
        printf("  %s%s%s\n", o->name, o->value ? " " : "", o->value ? o->value : "");
        for (const char *line = o->help; *line;) {
            int len = (int)strcspn(line, "\n");
            printf("        %.*s\n", len, line);
            line += len + (line[len] == '\n');
        }
    }
    fputs("  --help\n        this\n  --version\n        the version of the library\n", stdout);
    fputs(command->notes, stdout);
}

/* Splits --name=value; returns the length of the name. */
static size_t name_length(const char *arg, const char **ret_value)
{
    const char *equals = strchr(arg, '=');

    *ret_value = equals ? equals + 1 : NULL;
    return equals ? (size_t)(equals - arg) : strlen(arg);
}

static const struct option *find(const struct command *command, const char *arg, size_t len)
{
    for (const struct option *o = command->options; o->name; o++) {
        if (strlen(o->name) == len && memcmp(o->name, arg, len) == 0) {
            return o;
        }
    }
    return NULL;
}

/* One option, with its value in the same word or in the next. Returns how many words it took, 0
 * after a mistake. */
static int take_option(const struct command *command, char **argv, void *to)
{
    const char *value;
    size_t len = name_length(argv[0], &value);
    const struct option *o = find(command, argv[0], len);
    int words = 1;

    if (!o) {
        say_wrong(command->name, "unknown option '%.*s' (see fibril %s --help)", (int)len, argv[0],
                  command->name);
        return 0;
    }
    if (!o->value && value) {
        say_wrong(command->name, "%s takes no value, not '%s'", o->name, value);
        return 0;
    }
    if (o->value && !value) {
        value = argv[words++];
        if (!value) {
            say_wrong(command->name, "%s wants a value: %s", o->name, o->value);
            return 0;
        }
    }
    const char *wrong = o->set(o, value, (char *)to + o->offset);
    if (wrong) {
        say_wrong(command->name, "%s %s, not '%s'", o->name, wrong, value);
        return 0;
    }
    return words;
}

static bool take_operand(const struct command *command, const char *word, void *to)
{
    if (!command->operand) {
        say_wrong(command->name, "unexpected word '%s' (see fibril %s --help)", word,
                  command->name);
        return false;
    }
    const char **field = (const char **)(void *)((char *)to + command->operand_offset);
    if (*field) {
        say_wrong(command->name, "one %s only, not also '%s'", command->operand, word);
        return false;
    }
    *field = word;
    return true;
}

/* Whether the word ends it all: the help or the version has been asked for. */
static bool tells(const struct command *command, const char *word)
{
    if (strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0) {
        print_help(command);
        return true;
    }
    if (strcmp(word, "--version") == 0) {
        printf("fibril %s\n", fibril_version());
        return true;
    }
    return false;
}

int options_read(const struct command *command, int argc, char **argv, void *to, int *ret_exit)
{
    bool only_operands = false;

    *ret_exit = EXIT_USAGE;
    for (int i = 1; i < argc;) {
        if (only_operands || argv[i][0] != '-' || !argv[i][1]) {
            if (!take_operand(command, argv[i++], to)) {
                return -1;
            }
        } else if (strcmp(argv[i], "--") == 0) {
            only_operands = true;
            i++;
        } else if (tells(command, argv[i])) {
            *ret_exit = EXIT_FINE;
            return -1;
        } else {
            int words = take_option(command, argv + i, to);
            if (!words) {
                return -1;
            }
            i += words;
        }
    }
    if (command->operand && !*(const char **)(void *)((char *)to + command->operand_offset)) {
        say_wrong(command->name, "%s is missing (see fibril %s --help)", command->operand,
                  command->name);
        return -1;
    }
    return 0;
}
