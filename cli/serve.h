/* SPDX-License-Identifier: MIT */
/* The command `fibril serve`. */
#ifndef FIBRIL_CLI_SERVE_H
#define FIBRIL_CLI_SERVE_H

/* argv[0] is the name of the command. Returns the exit status. */
int serve_main(int argc, char **argv);

#endif
