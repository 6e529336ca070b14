/* SPDX-License-Identifier: MIT */
/*
 * Pools under random scripts on one to four loops, whose OS threads run in turns. Users borrow with
 * random patience, hold, give back, throw away or end; they and the workers are killed wherever
 * they are, and workers begin slowly or not at all. In every moment a worker has one user, and in
 * the end the pool has all its workers and nobody waits.
 */
#include "rig.h"

#include "../sim/seeds.h"
#include "base/turns.h"

#include <fibril/pool.h>

enum { STEPS = 60, LOOPS = 4, USERS = 6, WORKERS = 64 };

static struct world {
    const struct script *script;
    struct script_result result;
    uint64_t random, pool;
    unsigned loops, size;
    uint64_t users[USERS];
    uint64_t holds[USERS];     /* the worker; 0: none */
    uint64_t workers[WORKERS]; /* the last ones that were lent */
    unsigned n_workers;
    bool ending, sick, slow;
} w;

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            script_failed(w.script, __FILE__, __LINE__, #x);                                       \
        }                                                                                          \
    } while (0)

static unsigned choose(unsigned n)
{
    w.random = w.random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)((w.random >> 33) % n);
}

static void say(const char *what, unsigned i, long long value)
{
    if (w.script->print) {
        fprintf(stderr, "%9.3f ms: %s %u: %lld\n", (double)fibril_now() / 1e6, what, i, value);
    }
}

/* ---- workers ---- */

static int init(struct fibril_server *s, void *state, void *arg)
{
    (void)s;
    (void)state;
    (void)arg;
    int rc = w.slow ? fibril_sleep(MS(1 + choose(5))) : 0;
    return rc < 0 ? rc : w.sick ? -EIO : 0;
}

static int on_call(struct fibril_server *s, void *state, struct fibril_message *m)
{
    (void)s;
    (void)state;
    return fibril_server_reply(fibril_message_from(m), NULL, 0);
}

static const struct fibril_server_type type = {.init = init, .call = on_call};

/* ---- users ---- */

static void borrowed(unsigned i, uint64_t worker)
{
    for (unsigned k = 0; k < USERS; k++) {
        CHECK(w.holds[k] != worker);
    }
    w.holds[i] = worker;
    w.workers[w.n_workers++ % WORKERS] = worker;
}

/* Returns whether it goes on. */
static bool use(unsigned i)
{
    uint64_t worker = w.holds[i];
    int rc = choose(2) ? fibril_sleep(MS(1) * choose(4)) : 0;
    if (rc == 0 && choose(2)) {
        fibril_server_call(worker, 1, NULL, 0, fibril_after(MS(2)), NULL, 0);
    }
    unsigned how = choose(8);
    w.holds[i] = 0;
    if (how > 0 && fibril_actor_alive(w.pool)) {
        CHECK((how == 1 ? fibril_pool_discard : fibril_pool_checkin)(w.pool, worker) == 0);
    }
    return how > 0;
}

static int user(void *arg)
{
    unsigned i = (unsigned)(uintptr_t)arg;
    bool goes_on = true;
    while (goes_on && !w.ending && !fibril_actor_exiting(NULL)) {
        uint64_t worker;
        int64_t patience_ns = choose(4) ? FIBRIL_FOREVER : MS(choose(5));
        int rc = fibril_pool_checkout(w.pool, fibril_after(patience_ns), &worker);
        say("checkout", i, rc);
        w.result.operations++;
        w.result.timeouts += rc == -ETIMEDOUT;
        w.result.cancels += rc == -ECANCELED;
        if (rc == 0) {
            borrowed(i, worker);
            goes_on = use(i);
        } else {
            CHECK(rc == -ETIMEDOUT || rc == -ECANCELED || rc == -EAGAIN);
            goes_on = fibril_sleep(MS(1) * choose(3)) == 0;
        }
    }
    return 0;
}

/* ---- the script ---- */

static void start_user(unsigned i)
{
    struct fibril_actor_opts opts = {.loop = fibril_loop_at(choose(w.loops)),
                                     .stack = choose(2) ? FIBRIL_STACK_OWN : FIBRIL_STACK_COPIED};
    CHECK(fibril_actor_spawn(user, (void *)(uintptr_t)i, &opts, &w.users[i]) == 0);
}

static void step(void)
{
    unsigned i = choose(USERS), what = choose(8);
    say("step", what, i);
    switch (what) {
    case 0:
    case 1: CHECK(fibril_actor_exit(w.users[i], FIBRIL_EXIT_KILL) == 0); break;
    case 2:
    case 3:
        CHECK(fibril_actor_exit(w.workers[choose(WORKERS)], choose(2) ? FIBRIL_EXIT_KILL : -EIO) ==
              0);
        break;
    case 4: w.sick = !w.sick && choose(2); break;
    case 5: w.slow = !w.slow; break;
    default: break;
    }
    for (unsigned k = 0; k < USERS; k++) {
        if (!fibril_actor_alive(w.users[k])) {
            start_user(k);
        }
    }
    CHECK(fibril_sleep(MS(1) * choose(4)) == 0);
}

static void check_end(void)
{
    struct fibril_pool_status s;
    w.sick = w.slow = false;
    w.ending = true;
    CHECK(fibril_sleep(MS(20000)) == 0);
    for (unsigned i = 0; i < USERS; i++) {
        CHECK(!fibril_actor_alive(w.users[i]));
    }
    CHECK(fibril_pool_status(w.pool, fibril_after(MS(10)), &s) == 0);
    CHECK(s.idle == w.size && s.lent == 0 && s.starting == 0 && s.ending == 0 && s.waiting == 0);
    if (choose(2)) {
        int rc = fibril_server_stop(w.pool, 0, fibril_after(MS(100)));
        say("stop", 0, rc);
        CHECK(rc == 0);
    } else {
        CHECK(fibril_actor_exit(w.pool, FIBRIL_EXIT_KILL) == 0);
        CHECK(fibril_sleep(MS(20)) == 0);
    }
    CHECK(!fibril_actor_alive(w.pool));
}

static int conduct(void *arg)
{
    (void)arg;
    int64_t start_ns = fibril_now();
    struct fibril_pool_spec spec = {.server = &type,
                                    .size = w.size,
                                    .overflow = choose(3),
                                    .waiting_max = choose(2) ? 2 : 0,
                                    .newest_first = choose(2),
                                    .shutdown_ns = MS(5),
                                    .worker = {.least_loaded = choose(2)}};
    struct fibril_actor_opts opts = {.loop = fibril_loop_at(choose(w.loops))};
    CHECK(fibril_pool_start(&spec, &opts, FIBRIL_FOREVER, &w.pool) == 0);
    for (unsigned i = 0; i < USERS; i++) {
        start_user(i);
    }
    for (int i = 0; i < STEPS; i++) {
        step();
    }
    check_end();
    w.result.virtual_ns = fibril_now() - start_ns;
    return 0;
}

static void run_script(const struct script *script, struct script_result *ret_result)
{
    memset(&w, 0, sizeof w);
    w.script = script;
    w.random = script->seed ^ UINT64_C(0x706f6f6c73);
    w.loops = 1 + choose(LOOPS);
    w.size = 1 + choose(3);
    struct fibril_opts opts = {
        .poller = "sim", .seed = script->seed, .loops = w.loops, .run_stack_bytes = 64 << 10};
    struct fibril_actor_counts counts;
    fibril_actor_on_trouble(note_nothing);
    fibril__turns_begin(script->seed, 1000000000);
    CHECK(fibril_run(&opts, conduct, NULL) == 0);
    w.result.hash = fibril__turns_end();
    fibril_actor_counts(&counts);
    CHECK(counts.spawned == counts.ended);
    *ret_result = w.result;
}

TEST_WITHIN(pools_lose_nothing, 1800)
{
    static const struct seeds seeds = {"pools_lose_nothing", run_script, 20, 1, 1};
    seeds_play(&seeds);
}
