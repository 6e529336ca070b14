/* SPDX-License-Identifier: MIT */
/*
 * The load of the demo: N connections, each with one request in flight, all at once. It runs in a
 * process of its own so that what is measured on the server is the server's.
 *
 * It tells its parent how far it is by lines on standard output:
 *     progress OPENED IN_FLIGHT ANSWERED FAILED   ten times a second
 *     why TEXT                                    of the first failure
 *     round ANSWERED FAILED NANOSECONDS           from the first request sent to the last answer
 */
#ifndef FIBRIL_CLI_LOAD_H
#define FIBRIL_CLI_LOAD_H

/* demo-load ADDRESS MILLISECONDS CONNECTIONS ROUNDS POLLER. Exit status 0 if nothing failed. */
int load_main(int argc, char **argv);

#endif
