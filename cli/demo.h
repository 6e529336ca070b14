/* SPDX-License-Identifier: MIT */
/* The command `fibril demo`. */
#ifndef FIBRIL_CLI_DEMO_H
#define FIBRIL_CLI_DEMO_H

/* argv[0] is the name of the command. Returns the exit status. */
int demo_main(int argc, char **argv);

#endif
