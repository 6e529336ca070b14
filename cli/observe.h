/* SPDX-License-Identifier: MIT */
/* fibril observe: a running program's loops, fibrils and actors in the terminal. */
#ifndef FIBRIL_CLI_OBSERVE_H
#define FIBRIL_CLI_OBSERVE_H

int observe_main(int argc, char **argv);

#endif
