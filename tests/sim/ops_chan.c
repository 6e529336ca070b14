/* SPDX-License-Identifier: MIT */
/* Scripts on channels: elements say who sent them and as which of his, and have a fate in the
 * model. */
#include "world.h"

#include <errno.h>

struct elem {
    uint64_t word[WORDS];
};

/* The next element of self for channel c, which counts as being tried from now on. NULL: he has
 * sent enough. */
static bool elem_new(struct player *self, int c, struct elem *ret_elem)
{
    unsigned n = self->sends[c];
    if (n == SENDS) {
        return false;
    }
    self->sends[c]++;
    world.chans[c].fate[self->index][n] = TRYING;
    for (uint64_t i = 0; i < WORDS; i++) {
        ret_elem->word[i] = (i << 32) + ((uint64_t)self->index << 16) + n;
    }
    return true;
}

static void sent(struct player *self, int c, const struct elem *e, int rc)
{
    uint8_t *fate = &world.chans[c].fate[self->index][e->word[0] & 0xffff];
    CHECK(*fate & TRYING);
    CHECK(rc == 0 || !(*fate & ARRIVED)); /* refused, and yet it went */
    CHECK(rc != -EPIPE || world.chans[c].closed);
    *fate = (uint8_t)((*fate & ~TRYING) | (rc == 0 ? TAKEN : REFUSED));
}

static void arrived(struct player *self, int c, const struct elem *e)
{
    unsigned from = (unsigned)(e->word[0] >> 16), n = e->word[0] & 0xffff;
    CHECK(from < (unsigned)world.count && n < world.players[from].sends[c]);
    for (uint64_t i = 0; i < world.chans[c].words; i++) {
        CHECK(e->word[i] == (i << 32) + e->word[0]);
    }
    uint8_t *fate = &world.chans[c].fate[from][n];
    CHECK(!(*fate & (ARRIVED | REFUSED)));
    *fate |= ARRIVED;
    if (self) {
        CHECK(self->last[c][from] < (int)n);
        self->last[c][from] = (int)n;
    }
}

/* Nobody waits for a closed channel. */
static bool closed_long(int c, const struct step *step)
{
    return world.chans[c].closed && was_missed(step, world.chans[c].closed_ns);
}

static void send(struct player *self, int c)
{
    struct elem e;
    if (!elem_new(self, c, &e)) {
        return;
    }
    struct step step = step_wait(self, "send", c);
    int rc = step_end(&step, fibril_chan_send(world.chans[c].chan, &e, step.deadline_ns));
    CHECK(rc == 0 || rc == -EPIPE || rc == -ETIMEDOUT || rc == -ECANCELED);
    CHECK(rc != -ETIMEDOUT || !closed_long(c, &step));
    sent(self, c, &e, rc);
}

static void recv(struct player *self, int c)
{
    struct elem e;
    struct step step = step_wait(self, "receive", c);
    int rc = step_end(&step, fibril_chan_recv(world.chans[c].chan, &e, step.deadline_ns));
    CHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED ||
          (rc == -EPIPE && world.chans[c].closed));
    CHECK(rc != -ETIMEDOUT || !closed_long(c, &step));
    if (rc == 0) {
        arrived(self, c, &e);
    }
}

static void try_one(struct player *self, int c)
{
    struct elem e;
    bool sends = choose(2);
    if (sends && !elem_new(self, c, &e)) {
        return;
    }
    struct step step = step_begin(self, sends ? "try send" : "try receive", c);
    int rc = sends ? fibril_chan_try_send(world.chans[c].chan, &e)
                   : fibril_chan_try_recv(world.chans[c].chan, &e);
    step_end(&step, rc);
    CHECK(rc == 0 || rc == -EAGAIN || (rc == -EPIPE && world.chans[c].closed));
    CHECK(world.steps == step.number); /* never parks */
    if (sends) {
        sent(self, c, &e, rc);
    } else if (rc == 0) {
        arrived(self, c, &e);
    }
}

static void close_chan(struct player *self, int c)
{
    struct step step = step_begin(self, "close", c);
    bool was = world.chans[c].closed;
    world.chans[c].closed = true;
    world.chans[c].closed_ns = was ? world.chans[c].closed_ns : fibril_now();
    int rc = step_end(&step, fibril_chan_close(world.chans[c].chan));
    CHECK(rc == (was ? -EPIPE : 0));
}

void play_chan(struct player *self)
{
    int c = (int)choose(CHANS);
    unsigned what = choose(40);
    if (what == 0) {
        close_chan(self, c);
    } else if (what < 5) {
        try_one(self, c);
    } else if (what < 22) {
        send(self, c);
    } else {
        recv(self, c);
    }
}

/* ---- select ---------------------------------------------------------------------------------- */

enum { CASES = 4 };

void play_select(struct player *self)
{
    struct elem elems[CASES];
    struct fibril_case cases[CASES] = {{.op = FIBRIL_CASE_RECV}};
    int chans[CASES];
    unsigned n = 1 + choose(CASES);
    for (unsigned i = 0; i < n; i++) {
        int c = chans[i] = (int)choose(CHANS);
        bool sends = choose(2) && elem_new(self, c, &elems[i]);
        bool dead = !sends && choose(8) == 0;
        cases[i] = (struct fibril_case){.op = sends ? FIBRIL_CASE_SEND : FIBRIL_CASE_RECV,
                                        .chan = dead ? NULL : world.chans[c].chan,
                                        .elem = &elems[i]};
        if (!sends) {
            elems[i].word[0] = UINT64_MAX;
        }
    }
    struct step step = step_wait(self, "select", (int)n);
    int rc = step_end(&step, fibril_select(cases, n, step.deadline_ns));
    CHECK(rc == -ETIMEDOUT || rc == -ECANCELED || (rc >= 0 && rc < (int)n));
    for (unsigned i = 0; i < n; i++) {
        bool won = (int)i == rc;
        CHECK(!won || cases[i].chan);
        CHECK(rc != -ETIMEDOUT || !cases[i].chan || !closed_long(chans[i], &step));
        CHECK(!won || cases[i].result == 0 ||
              (cases[i].result == -EPIPE && world.chans[chans[i]].closed));
        if (cases[i].op == FIBRIL_CASE_SEND) {
            sent(self, chans[i], &elems[i], won ? cases[i].result : -EAGAIN);
        } else if (won && cases[i].result == 0) {
            arrived(self, chans[i], &elems[i]);
        } else {
            CHECK(elems[i].word[0] == UINT64_MAX);
        }
    }
}

/* ---- the end --------------------------------------------------------------------------------- */

static void check_fates(int c)
{
    for (int i = 0; i < world.count; i++) {
        for (unsigned n = 0; n < world.players[i].sends[c]; n++) {
            uint8_t fate = world.chans[c].fate[i][n];
            CHECK(fate == (TAKEN | ARRIVED) || fate == REFUSED);
        }
    }
}

void chan_drain(void)
{
    for (int c = 0; c < CHANS; c++) {
        struct elem e;
        int rc;
        size_t left = fibril_chan_len(world.chans[c].chan);
        while ((rc = fibril_chan_try_recv(world.chans[c].chan, &e)) == 0) {
            arrived(NULL, c, &e);
            CHECK(left-- > 0);
        }
        CHECK(left == 0 && rc == (world.chans[c].closed ? -EPIPE : -EAGAIN));
        check_fates(c);
    }
}
