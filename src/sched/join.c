/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a fibril's end. Within a loop the joiner is noted in the record. Across loops a
 * request travels:
 *
 *   joiner's loop                          fibril's loop
 *     ask        -------------------------> noted in the record, or answered at once
 *     answered   <------------------------- at the end (the handle stays)
 *     release    -------------------------> the handle is dropped, the request freed
 *
 * A joiner that gives up sends a withdrawal after its request, by a second message in the same
 * memory; the fibril's loop forgets the request then. An answer that crosses the withdrawal finds
 * nobody. Both are under way in the same memory then: whichever arrives last frees it. And the
 * joiner's loop may have ended by the time of the answer, or another may have its number: so
 * answers go to the number, and to nobody if it stands for none.
 */
#include "base/alloc.h"
#include "sched/current.h"
#include "sched/record.h"

#include <errno.h>

struct fibril__join {
    struct fibril__message message; /* ask, answer, release */
    struct fibril__message withdrawal;
    struct fibril *f;
    struct fibril *joiner; /* NULL once it has given up; the joiner's loop only */
    int result;
    bool busy;            /* the answer: somebody else joins */
    bool noted;           /* f->joiner is this; f's loop only */
    _Atomic bool crossed; /* of a withdrawal and the answer it crosses, one has arrived */
};

static struct fibril *blocker(const struct fibril *f)
{
    return f->wait_on;
}

/* ---- within a loop ---- */

static bool abort_local(struct fibril *f, int error)
{
    (void)error;
    struct fibril *joined = f->wait_on;
    if (joined->joiner != f) {
        return false;
    }
    joined->joiner = NULL;
    return true;
}

static const struct fibril__wait_kind local_kind = {
    .name = "join", .reason = FIBRIL__BY_JOIN, .abort = abort_local, .blocker = blocker};

static int join_local(struct fibril *self, struct fibril *f, int64_t deadline_ns, int *ret_result)
{
    if (f->state < FIBRIL__EXITING) {
        if (UNLIKELY(f->joiner)) {
            fibril__inbox_drain(self->loop); /* one of another loop may have given up */
        }
        if (f->joiner) {
            return -EBUSY;
        }
        f->joiner = self;
        int64_t rc = fibril__park(&local_kind, f, deadline_ns);
        if (rc < 0) {
            return (int)rc;
        }
    }
    if (ret_result) {
        *ret_result = (int)f->result;
    }
    fibril__drop_handle(f);
    return 0;
}

/* ---- across loops ---- */

/* The second to come frees what the first still needed. */
static void cross(struct fibril__join *j)
{
    if (atomic_exchange(&j->crossed, true)) {
        fibril__free(j);
    }
}

static void withdraw(struct fibril__message *message)
{
    struct fibril__join *j = CONTAINER_OF(message, struct fibril__join, withdrawal);
    if (!j->noted) {
        cross(j);
        return;
    }
    j->f->joiner = NULL;
    j->f->flags &= (uint8_t)~FIBRIL__F_REMOTE;
    fibril__free(j);
}

static void release(struct fibril__message *message)
{
    struct fibril__join *j = CONTAINER_OF(message, struct fibril__join, message);
    fibril__drop_handle(j->f);
    fibril__free(j);
}

static void answered(struct fibril__message *message)
{
    struct fibril__join *j = CONTAINER_OF(message, struct fibril__join, message);
    if (j->joiner) {
        struct fibril *joiner = j->joiner;
        j->joiner = NULL;
        fibril__wake(joiner, j->busy ? -EBUSY : 0);
        if (j->busy) {
            fibril__free(j);
        }
    } else {
        cross(j);
    }
}

static bool abort_remote(struct fibril *f, int error)
{
    (void)error;
    struct fibril__join *j = f->wait_data;
    if (!j || !j->joiner) {
        return false;
    }
    j->joiner = NULL;
    j->withdrawal.run = withdraw;
    fibril__loop_send(j->f->loop, &j->withdrawal);
    return true;
}

static const struct fibril__wait_kind remote_kind = {
    .name = "join", .reason = FIBRIL__BY_JOIN, .abort = abort_remote, .blocker = blocker};

/* The number of the joiner's loop is kept beside the request, as the joiner may have given up. */
struct ask {
    struct fibril__join join;
    unsigned home;
};

static void answer(struct ask *a, struct fibril *f)
{
    struct fibril__join *j = &a->join;
    j->noted = false;
    j->result = (int)f->result;
    j->message.run = answered;
    if (!fibril__loop_send_slot(a->home, &j->message)) {
        cross(j); /* it gave up, or its loop would be there */
    }
}

static void ask(struct fibril__message *message)
{
    struct ask *a = CONTAINER_OF(message, struct ask, join.message);
    struct fibril *f = a->join.f;
    if (f->state >= FIBRIL__EXITING) {
        answer(a, f);
        return;
    }
    if (f->joiner) {
        a->join.busy = true;
        answer(a, f);
        return;
    }
    a->join.noted = true;
    f->joiner = &a->join;
    f->flags |= FIBRIL__F_REMOTE;
}

static int join_remote(struct fibril *self, struct fibril *f, int64_t deadline_ns, int *ret_result)
{
    struct ask *a = fibril__alloc(sizeof *a);
    if (!a) {
        return -ENOMEM;
    }
    *a = (struct ask){.join = {.message.run = ask, .f = f, .joiner = self},
                      .home = self->loop->index};
    self->wait_data = &a->join;
    fibril__loop_send(f->loop, &a->join.message);
    int64_t rc = fibril__park(&remote_kind, f, deadline_ns);
    if (rc < 0) {
        return (int)rc;
    }
    if (ret_result) {
        *ret_result = a->join.result;
    }
    a->join.message.run = release;
    fibril__loop_send(f->loop, &a->join.message);
    return 0;
}

void fibril__answer_joiner(struct fibril *f)
{
    struct fibril__join *j = f->joiner;
    struct ask *a = CONTAINER_OF(j, struct ask, join);
    f->joiner = NULL;
    f->flags &= (uint8_t)~FIBRIL__F_REMOTE;
    answer(a, f);
}

/* ---- both ---- */

int fibril_join(struct fibril *f, int64_t deadline_ns, int *ret_result)
{
    struct fibril *self = fibril__self();
    if (UNLIKELY(!self)) {
        return -EPERM;
    }
    if (UNLIKELY(f == self)) {
        return -EDEADLK;
    }
    return LIKELY(f->loop == self->loop) ? join_local(self, f, deadline_ns, ret_result)
                                         : join_remote(self, f, deadline_ns, ret_result);
}

struct detach_message {
    struct fibril__message message;
    struct fibril *f;
};

static void run_detach(struct fibril__message *message)
{
    struct detach_message *m = CONTAINER_OF(message, struct detach_message, message);
    fibril__drop_handle(m->f);
    fibril__free(m);
}

/* Without memory the handle is never dropped: the record stays until the process ends. */
void fibril__detach_remote(struct fibril *f)
{
    struct detach_message *m = fibril__alloc(sizeof *m);
    if (m) {
        *m = (struct detach_message){.message.run = run_detach, .f = f};
        fibril__loop_send(f->loop, &m->message);
    }
}
