/* SPDX-License-Identifier: MIT */
/*
 * The counters of a loop, and gauges taken from what is there. Another loop's figures are read
 * while it runs: each is right on its own, as 64-bit words are read whole.
 */
#include "ctx/slots.h"
#include "poll/poll.h"
#include "sched/current.h"

#include <errno.h>

__attribute__((no_sanitize_thread)) static uint64_t cached_stacks(const struct fibril_loop *loop)
{
    uint64_t n = loop->stacks.len;
    for (unsigned i = 0; i <= FIBRIL__SLOT_LOG2_MAX; i++) {
        n += loop->other_stacks[i] ? loop->other_stacks[i]->len : 0;
    }
    return n;
}

__attribute__((no_sanitize_thread)) static void fill_parks(const struct fibril__counters *c,
                                                           struct fibril_metrics *m)
{
    m->parks_sleep = c->parks[FIBRIL__BY_SLEEP];
    m->parks_io = c->parks[FIBRIL__BY_IO];
    m->parks_lock = c->parks[FIBRIL__BY_LOCK];
    m->parks_chan = c->parks[FIBRIL__BY_CHAN];
    m->parks_join = c->parks[FIBRIL__BY_JOIN];
    m->parks_offload = c->parks[FIBRIL__BY_OFFLOAD];
    m->parks_other = c->parks[FIBRIL__BY_OTHER];
    for (unsigned i = 0; i < FIBRIL__REASONS; i++) {
        m->parks += c->parks[i];
    }
}

__attribute__((no_sanitize_thread)) int fibril_metrics(const struct fibril_loop *loop,
                                                       struct fibril_metrics *ret_metrics)
{
    loop = loop ? loop : fibril__loop;
    if (!loop) {
        return -EPERM;
    }
    const struct fibril__counters *c = &loop->counters;
    struct fibril_metrics m = {
        .poller = loop->poller->ops->name,
        .switches = c->switches,
        .spawned = c->spawned,
        .ended = c->ended,
        .fibrils = loop->alive + loop->daemons + 1,
        .yields = c->yields,
        .budget_yields = c->budget_yields,
        .timeouts = c->timeouts,
        .cancels = c->cancels,
        .remote_wakes = c->remote_wakes,
        .polls = c->polls,
        .poll_events = c->poll_events,
        .timers = loop->sleepers.len + (uint64_t)loop->timers.len,
        .stacks_mapped = atomic_load(&fibril__slot_counts.mapped),
        .stacks_cached = cached_stacks(loop),
        .stacks_unguarded = atomic_load(&fibril__slot_counts.unguarded),
        .copied_bytes = loop->machine.copies.bytes,
        .stalls = c->stalls,
    };
    fill_parks(c, &m);
    for (unsigned i = 0; i < FIBRIL_DELAY_BUCKETS; i++) {
        m.delay[i] = c->delay[i];
    }
    *ret_metrics = m;
    return 0;
}
