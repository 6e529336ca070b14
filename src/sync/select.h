/* SPDX-License-Identifier: MIT */
/*
 * The record of a select that waits, as select.c and its descriptors' side, select_fd.c, share it.
 */
#ifndef FIBRIL_SYNC_SELECT_H
#define FIBRIL_SYNC_SELECT_H

#include "sync/chan.h"

#include "poll/poll.h"

struct fibril__select_record;

struct fibril__select_fd {
    struct fibril__op op;
    struct fibril__select_record *record;
    size_t index; /* of the case */
    bool started; /* and not over */
};

struct fibril__select_record {
    struct fibril__select select; /* what channels see */
    struct fibril__clause *clauses;
    struct fibril__select_fd *fds;
    struct fibril_chan **shared; /* shared channels by address, each once */
    char *slots;                 /* elements of shared channels */
    size_t clause_count, fd_count, shared_count;
    size_t pending;                   /* operations started and not over */
    struct fibril__select_fd *won_fd; /* set by who claimed the select for a descriptor */
    bool draining; /* over, but for pending operations; the last one wakes with `outcome` */
    int64_t outcome;
};

/* Stores what became of a descriptor: poll events or a negative errno. */
void fibril__select_fd_fired(struct fibril_case *c, int64_t result);

/* Carries out the case of a descriptor if it is ready now. Simulated ones never are: only an
 * operation can tell. */
bool fibril__select_try_fd(struct fibril_case *c, bool simulated);

/* Starts an operation for each descriptor; ends early, with won_fd, when one is over at once. */
void fibril__select_start_fds(struct fibril__select_record *r, const struct fibril_case *cases,
                              size_t n, size_t start);

/* Takes the operations back. Returns how many the kernel does not let go of yet. */
size_t fibril__select_cancel_fds(struct fibril__select_record *r);

#endif
