/* SPDX-License-Identifier: MIT */
/* Scripts on several loops: channels between them. */
#include "loops.h"

#include <errno.h>

struct elem {
    uint64_t word[L_WORDS];
};

static bool elem_new(struct lplayer *self, int c, struct elem *ret_elem)
{
    unsigned n = self->sends[c];
    if (n == L_SENDS) {
        return false;
    }
    self->sends[c]++;
    lworld.chans[c].fate[self->index][n] = L_TRYING;
    for (uint64_t i = 0; i < L_WORDS; i++) {
        ret_elem->word[i] = (i << 32) + ((uint64_t)self->index << 16) + n;
    }
    return true;
}

static void sent(struct lplayer *self, int c, const struct elem *e, int rc)
{
    struct lchan *ch = &lworld.chans[c];
    uint8_t *fate = &ch->fate[self->index][e->word[0] & 0xffff];
    LCHECK(*fate & L_TRYING);
    LCHECK(rc == 0 || !(*fate & L_ARRIVED)); /* refused, and yet it went */
    LCHECK(rc != -EPIPE || ch->closed);
    *fate = (uint8_t)((*fate & ~L_TRYING) | (rc == 0 ? L_TAKEN : L_REFUSED));
    ch->put_ns = rc == 0 ? fibril_now() : ch->put_ns;
}

static void arrived(struct lplayer *self, int c, const struct elem *e)
{
    unsigned from = (unsigned)(e->word[0] >> 16), n = e->word[0] & 0xffff;
    LCHECK(from < (unsigned)lworld.count && n < lworld.players[from].sends[c]);
    for (uint64_t i = 0; i < lworld.chans[c].words; i++) {
        LCHECK(e->word[i] == (i << 32) + e->word[0]);
    }
    uint8_t *fate = &lworld.chans[c].fate[from][n];
    LCHECK(!(*fate & (L_ARRIVED | L_REFUSED)));
    *fate |= L_ARRIVED;
    if (self) {
        LCHECK(self->last[c][from] < (int)n); /* in the order of its sender */
        self->last[c][from] = (int)n;
    }
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* One that receives and one that sends cannot both wait for long. */
static void check_no_partner(const struct lplayer *self, int partner, const struct lstep *step)
{
    for (int i = 0; i < lworld.count; i++) {
        const struct lplayer *p = &lworld.players[i];
        if (p != self && !p->ended && p->waits_on == partner) {
            int64_t from = p->since_ns > step->since_ns ? p->since_ns : step->since_ns;
            int64_t to = least(least(step->deadline_ns, p->deadline_ns),
                               least(p->cancel_ns, self->cancel_ns));
            LCHECK(to - from <= SLACK_NS);
        }
    }
}

/* Whether an element may be on its way into the channel at this moment. */
static bool somebody_sends(const struct lplayer *self, int c)
{
    for (int i = 0; i < lworld.count; i++) {
        int on = lworld.players[i].waits_on;
        if (i != self->index && (on == -1 - c || on == L_ANYWHERE)) {
            return true;
        }
    }
    return false;
}

static void check_timeout(const struct lplayer *self, int c, bool sends, const struct lstep *step)
{
    const struct lchan *ch = &lworld.chans[c];
    LCHECK(!ch->closed || !lmissed(step, ch->closed_ns));
    LCHECK(sends || somebody_sends(self, c) || fibril_chan_len(ch->chan) == 0 ||
           !lmissed(step, ch->put_ns));
    check_no_partner(self, sends ? 1 + c : -1 - c, step);
}

static void send(struct lplayer *self, int c)
{
    struct elem e;
    if (!elem_new(self, c, &e)) {
        return;
    }
    struct lstep step = lstep_begin(self, "send", c);
    self->waits_on = -1 - c;
    int rc = lstep_end(&step, fibril_chan_send(lworld.chans[c].chan, &e, step.deadline_ns));
    self->waits_on = 0;
    LCHECK(rc == 0 || rc == -EPIPE || rc == -ETIMEDOUT || rc == -ECANCELED);
    if (rc == -ETIMEDOUT) {
        check_timeout(self, c, /* sends= */ true, &step);
    }
    sent(self, c, &e, rc);
}

static void recv(struct lplayer *self, int c)
{
    struct elem e;
    struct lstep step = lstep_begin(self, "receive", c);
    self->waits_on = 1 + c;
    int rc = lstep_end(&step, fibril_chan_recv(lworld.chans[c].chan, &e, step.deadline_ns));
    self->waits_on = 0;
    LCHECK(rc == 0 || rc == -ETIMEDOUT || rc == -ECANCELED ||
           (rc == -EPIPE && lworld.chans[c].closed));
    if (rc == -ETIMEDOUT) {
        check_timeout(self, c, /* sends= */ false, &step);
    }
    if (rc == 0) {
        arrived(self, c, &e);
    }
}

static void try_one(struct lplayer *self, int c)
{
    struct elem e;
    bool sends = lchoose(2);
    if (sends && !elem_new(self, c, &e)) {
        return;
    }
    struct lstep step = lstep_begin(self, sends ? "try send" : "try receive", c);
    self->waits_on = L_ANYWHERE;
    int rc = lstep_end(&step, sends ? fibril_chan_try_send(lworld.chans[c].chan, &e)
                                    : fibril_chan_try_recv(lworld.chans[c].chan, &e));
    self->waits_on = 0;
    LCHECK(rc == 0 || rc == -EAGAIN || (rc == -EPIPE && lworld.chans[c].closed));
    if (sends) {
        sent(self, c, &e, rc);
    } else if (rc == 0) {
        arrived(self, c, &e);
    }
}

/* Of several that close at once, one is told that it did. */
static void close_chan(struct lplayer *self, int c)
{
    struct lchan *ch = &lworld.chans[c];
    struct lstep step = lstep_begin(self, "close", c);
    ch->closed = true;
    int rc = lstep_end(&step, fibril_chan_close(ch->chan));
    LCHECK(rc == 0 ? ch->closed_ns == L_NEVER : rc == -EPIPE);
    ch->closed_ns = rc == 0 ? fibril_now() : ch->closed_ns;
}

void lplay_chan(struct lplayer *self)
{
    int c = (int)lchoose(L_CHANS);
    unsigned what = lchoose(60);
    if (what == 0) {
        close_chan(self, c);
    } else if (what < 8) {
        try_one(self, c);
    } else if (what < 34) {
        send(self, c);
    } else {
        recv(self, c);
    }
}

void lplay_select(struct lplayer *self)
{
    enum { CASES = 4 };
    struct elem elems[CASES];
    struct fibril_case cases[CASES] = {{.op = FIBRIL_CASE_RECV}};
    int chans[CASES];
    unsigned n = 1 + lchoose(CASES);
    for (unsigned i = 0; i < n; i++) {
        int c = chans[i] = (int)lchoose(L_CHANS);
        bool sends = lchoose(2) && elem_new(self, c, &elems[i]);
        cases[i] = (struct fibril_case){.op = sends ? FIBRIL_CASE_SEND : FIBRIL_CASE_RECV,
                                        .chan = lworld.chans[c].chan,
                                        .elem = &elems[i]};
        if (!sends) {
            elems[i].word[0] = UINT64_MAX;
        }
    }
    struct lstep step = lstep_begin(self, "select", (int)n);
    self->waits_on = L_ANYWHERE;
    int rc = lstep_end(&step, fibril_select(cases, n, step.deadline_ns));
    self->waits_on = 0;
    LCHECK(rc == -ETIMEDOUT || rc == -ECANCELED || (rc >= 0 && rc < (int)n));
    for (unsigned i = 0; i < n; i++) {
        bool won = (int)i == rc, sends = cases[i].op == FIBRIL_CASE_SEND;
        if (rc == -ETIMEDOUT) {
            check_timeout(self, chans[i], sends, &step);
        }
        LCHECK(!won || cases[i].result == 0 ||
               (cases[i].result == -EPIPE && lworld.chans[chans[i]].closed));
        if (sends) {
            sent(self, chans[i], &elems[i], won ? cases[i].result : -EAGAIN);
        } else if (won && cases[i].result == 0) {
            arrived(self, chans[i], &elems[i]);
        } else {
            LCHECK(elems[i].word[0] == UINT64_MAX);
        }
    }
}

void lchan_drain(void)
{
    for (int c = 0; c < L_CHANS; c++) {
        struct lchan *ch = &lworld.chans[c];
        struct elem e;
        int rc;
        while ((rc = fibril_chan_try_recv(ch->chan, &e)) == 0) {
            arrived(NULL, c, &e);
        }
        LCHECK(rc == (ch->closed ? -EPIPE : -EAGAIN));
        for (int i = 0; i < lworld.count; i++) {
            for (unsigned n = 0; n < lworld.players[i].sends[c]; n++) {
                uint8_t fate = ch->fate[i][n];
                LCHECK(fate == (L_TAKEN | L_ARRIVED) || fate == L_REFUSED);
            }
        }
        fibril_chan_free(ch->chan);
    }
}
