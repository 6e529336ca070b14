/* SPDX-License-Identifier: MIT */
/*
 * Children that nobody waits for any more, and that must not become zombies.
 */
#ifndef FIBRIL_IO_REAP_H
#define FIBRIL_IO_REAP_H

/* Reaps the child of pidfd when it ends, whatever becomes of the calling loop, and closes pidfd. */
void fibril__reap_later(int pidfd);

#endif
