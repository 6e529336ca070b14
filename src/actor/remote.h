/* SPDX-License-Identifier: MIT */
/*
 * Actors of other processes, as the rest of this floor sees them: records like all others, marked
 * FIBRIL__REMOTE, of the loop of their connection. The mailbox of such a record is what waits to be
 * sent, bounded like the mailbox that it is for, so that parked senders, policies and dead letters
 * are those of any actor; its bonds are those of local actors to it, so that its end, when the
 * other process reports it or cannot be reached, is told as any other. What remains are these
 * hooks, which turn what happens to the record into frames.
 *
 * Rejected: a branch in each call of actor.h that speaks to a connection directly. It would have to
 * do bonds, parking and calls again, and every caller would pay.
 */
#ifndef FIBRIL_ACTOR_REMOTE_H
#define FIBRIL_ACTOR_REMOTE_H

#include "actor/actor.h"

/* ---- remote.c; on the loop of the record ---- */

/* There is something in the mailbox. */
void fibril__remote_mail(struct fibril__actor *a);
/* A reply has come to a call of a's. It is taken. */
void fibril__remote_reply(struct fibril__actor *a, struct fibril_message *m);
/* Somebody here has asked a for a bond, and has it. */
void fibril__remote_tied(struct fibril__actor *a, struct fibril__bond *b);
/* A local actor has ended its half of a bond with a. */
void fibril__remote_hears(struct fibril__actor *a, struct fibril__bond *b, unsigned side,
                          unsigned news, int reason);
/* An exit signal for a. */
void fibril__remote_exit(struct fibril__actor *a, uint64_t from, int reason);

/* ---- wire.c; any OS thread ---- */

/* Makes m ready to go: PACKED. 0, -EOPNOTSUPP, or what its type says. */
int fibril__pack(struct fibril_message *m);
/* The same for a reply, which becomes a refusal if it cannot be. */
void fibril__pack_reply(struct fibril_message *m);
/* Takes the packing away again. */
void fibril__unpack(struct fibril_message *m);
/* The same for the mailbox of a record of an actor elsewhere. */
int fibril__remote_pack(struct fibril_message *m);
/* Sends m, whose target and kind are set, to a record of an actor elsewhere. As
 * fibril_actor_send. */
int fibril__remote_send(struct fibril_message *m, int64_t deadline_ns);

#endif
