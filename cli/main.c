/* SPDX-License-Identifier: MIT */
/*
 * The command fibril: finds the subcommand and leaves the rest to it. It uses nothing of the
 * library but its public headers.
 */
#include "demo.h"
#include "doctor.h"
#include "load.h"
#include "observe.h"
#include "say.h"
#include "serve.h"

#include <fibril/fibril.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>

static const char help[] =
    "usage: fibril COMMAND [OPTION]...\n"
    "\n"
    "  serve DIR   serve the files of a folder over HTTP\n"
    "  serve MODULE:APP\n"
    "              serve a Python application (WSGI), each request in a fibril of its own\n"
    "  demo        serve the demo site and send it 10,000 concurrent requests, each of which\n"
    "              runs in a fibril of its own, on one OS thread\n"
    "  doctor [--preload PROGRAM ARGUMENT...]\n"
    "              what fibril has to work with here; or run a program with the POSIX layer and\n"
    "              say at its end what was covered and what may still block\n"
    "  observe TARGET\n"
    "              the loops, fibrils and actors of a running program, and what each waits for\n"
    "\n"
    "  --help      this; fibril COMMAND --help tells its options\n"
    "  --version   the version of the library\n";

static const struct {
    const char *name;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", serve_main},     {"demo", demo_main},      {"doctor", doctor_main},
    {"observe", observe_main}, {"demo-load", load_main}, /* demo starts it; of no
                                   use by hand */
};

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";

    signal(SIGPIPE, SIG_IGN); /* a closed pipe on standard output is an error, not the end */
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(name, commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        fputs(help, stdout);
        return EXIT_FINE;
    }
    if (strcmp(name, "--version") == 0) {
        printf("fibril %s\n", fibril_version());
        return EXIT_FINE;
    }
    if (!*name) {
        return say_wrong(NULL, "a command is missing: serve, demo, doctor or observe "
                               "(see fibril --help)");
    }
    return say_wrong(NULL, "unknown command '%s' (see fibril --help)", name);
}
