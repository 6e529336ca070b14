/* SPDX-License-Identifier: MIT */
/*
 * What the kernel says of this process: memory, OS threads, descriptors.
 */
#ifndef FIBRIL_CLI_PROCESS_H
#define FIBRIL_CLI_PROCESS_H

#include <stdint.h>

struct process_use {
    int64_t bytes;    /* resident pages and page tables */
    unsigned threads; /* of the OS, the kernel's workers for this process included */
};

/* All zero where there is no /proc. Never parks: procfs answers from memory. */
struct process_use process_look(void);

/* Raises the soft limit of descriptors to the hard one; returns what holds afterwards. */
unsigned process_raise_descriptors(void);

#endif
