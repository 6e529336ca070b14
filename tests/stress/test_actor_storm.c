/* SPDX-License-Identifier: MIT */
/*
 * Four loops and two OS threads send, call, watch and kill at random the children of four
 * supervisors, which start them again on other loops than their own. Their mailboxes hold eight
 * messages, and each policy is among them. Whatever happens: a message that was taken was received,
 * dropped or became a dead letter, and is in the counts; each monitor brings one DOWN, though the
 * mailboxes are full all the time; who was killed is no more; and a call ends at its deadline.
 * Meant for ThreadSanitizer.
 */
#include <fibril/supervisor.h>

#include "test.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>

enum { LOOPS = 4, CHILDREN = 4, VICTIMS = LOOPS * CHILDREN, FLOODERS = 2 * LOOPS, THREADS = 2 };
enum { PLAIN = 1, ASK = 2, US = 1000, ROOM = 8, KILLED_MAX = 1 << 16 };

static char names[VICTIMS][16];
static atomic_ullong sent, received, called, answered, asked, monitors, downs, unwatched;
static atomic_uint through;
static _Atomic uint64_t killed[KILLED_MAX];
static atomic_uint kills;

static int operations(void)
{
    return test_is_long() ? 200000 : test_is_slow() ? 6000 : 40000;
}

static unsigned next_random(uint64_t *random)
{
    *random = *random * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(*random >> 33);
}

static int64_t soon(uint64_t *random)
{
    return fibril_after((int64_t)(next_random(random) % 50) * US);
}

static uint64_t victim(uint64_t *random)
{
    return fibril_actor_whereis(names[next_random(random) % VICTIMS]);
}

/* ---- those who are flooded ---- */

static int suffer(void *arg)
{
    struct fibril_message *m;
    (void)arg;
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        struct fibril_from from = fibril_message_from(m);
        if (fibril_message_tag(m) == ASK) {
            atomic_fetch_add(&asked, 1);
            fibril_actor_reply(from, m);
        } else {
            atomic_fetch_add(&received, 1);
            fibril_message_free(m);
        }
    }
    return 0;
}

/* ---- those who flood ---- */

static void kill_one(uint64_t actor, int reason)
{
    unsigned n = atomic_fetch_add(&kills, 1);
    ASSERT_OK(fibril_actor_exit(actor, reason));
    if (n < KILLED_MAX) {
        atomic_store(&killed[n], actor);
    }
}

static void send_one(uint64_t actor, int64_t deadline_ns)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_message_new(PLAIN, 16, NULL, &m));
    int rc = fibril_actor_send(actor, m, deadline_ns);
    if (rc == 0) {
        atomic_fetch_add(&sent, 1);
        return;
    }
    ASSERT(rc == -EAGAIN || rc == -ETIMEDOUT);
    fibril_message_free(m);
}

static void call_one(uint64_t actor, uint64_t *random)
{
    struct fibril_message *m, *reply;
    ASSERT_OK(fibril_message_new(ASK, 16, NULL, &m));
    atomic_fetch_add(&called, 1);
    int rc = fibril_actor_call(actor, m, soon(random), &reply);
    if (rc == 0) {
        atomic_fetch_add(&answered, 1);
        fibril_message_free(reply);
    } else {
        ASSERT(rc == -ETIMEDOUT || rc == -EPIPE || rc == -ESRCH || rc == -EAGAIN);
    }
}

static void watch_one(uint64_t actor, uint64_t *random)
{
    uint64_t ref;
    ASSERT_OK(fibril_actor_monitor(actor, &ref));
    atomic_fetch_add(&monitors, 1);
    if (next_random(random) % 4 == 0) {
        fibril_yield();
        if (fibril_actor_demonitor(ref) == 0) { /* or it has been received */
            atomic_fetch_add(&unwatched, 1);
        }
    }
}

/* Takes what has come; it can be nothing but the ends of those that are watched. */
static int take_downs(int64_t deadline_ns, unsigned *ret_taken)
{
    struct fibril_message *m;
    int rc = fibril_actor_receive(deadline_ns, &m);
    if (rc == 0) {
        ASSERT_EQ(fibril_message_tag(m), FIBRIL_TAG_DOWN);
        fibril_message_free(m);
        atomic_fetch_add(&downs, 1);
        ++*ret_taken;
    }
    return rc;
}

static void do_something(uint64_t actor, uint64_t *random)
{
    unsigned what = next_random(random) % 256;
    if (what < 4) {
        kill_one(actor, what % 2 ? FIBRIL_EXIT_KILL : -EIO);
    } else if (what < 16) {
        watch_one(actor, random);
    } else if (what < 48) {
        call_one(actor, random);
    } else {
        send_one(actor, soon(random));
    }
}

static int flood(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    unsigned taken = 0;
    for (int i = 0; i < operations(); i++) {
        uint64_t actor = victim(&random);
        if (actor) {
            do_something(actor, &random);
        } else {
            fibril_yield(); /* it is just being started again */
        }
        while (i % 64 == 0 && take_downs(0, &taken) == 0) {}
    }
    atomic_fetch_add(&through, 1);
    while (take_downs(FIBRIL_FOREVER, &taken) == 0) {} /* until it is told to end */
    return 0;
}

static void *thread_floods(void *arg)
{
    uint64_t random = (uint64_t)(uintptr_t)arg;
    for (int i = 0; i < operations(); i++) {
        uint64_t actor = victim(&random);
        if (actor && next_random(&random) % 128 == 0) {
            kill_one(actor, FIBRIL_EXIT_KILL);
        } else if (actor) {
            send_one(actor, FIBRIL_FOREVER);
        } else {
            sched_yield();
        }
    }
    return NULL;
}

/* ---- the storm ---- */

static uint64_t start_supervisor(unsigned loop)
{
    struct fibril_child_spec children[CHILDREN];
    struct fibril_supervisor_spec spec = {
        .intensity = UINT_MAX, .children = children, .n_children = CHILDREN};
    struct fibril_actor_opts opts = {.loop = fibril_loop_at(loop)};
    uint64_t actor;
    for (unsigned i = 0; i < CHILDREN; i++) {
        const char *name = names[loop * CHILDREN + i];
        children[i] = (struct fibril_child_spec){
            .id = name,
            .fn = suffer,
            .opts = {.name = name,
                     .stack = i % 2 ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN,
                     .loop = fibril_loop_at((loop + i) % LOOPS),
                     .mailbox = {.messages = ROOM, .overflow = (enum fibril_overflow)i}}};
    }
    ASSERT_OK(fibril_supervisor_start(&spec, &opts, &actor));
    return actor;
}

static void end_all(const uint64_t *actors, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        struct fibril_message *m;
        uint64_t ref;
        ASSERT_OK(fibril_actor_monitor(actors[i], &ref));
        ASSERT_OK(fibril_actor_exit(actors[i], FIBRIL_EXIT_SHUTDOWN));
        ASSERT_OK(fibril_actor_receive_tag(FIBRIL_TAG_DOWN, FIBRIL_FOREVER, &m));
        fibril_message_free(m);
    }
}

static void wait_for_downs(void)
{
    while (atomic_load(&downs) + atomic_load(&unwatched) < atomic_load(&monitors)) {
        fibril_sleep(US * 1000);
    }
}

static int storm(void *arg)
{
    uint64_t supervisors[LOOPS], flooders[FLOODERS];
    pthread_t threads[THREADS];
    (void)arg;
    for (unsigned i = 0; i < VICTIMS; i++) {
        snprintf(names[i], sizeof names[i], "victim %u", i);
    }
    for (unsigned i = 0; i < LOOPS; i++) {
        supervisors[i] = start_supervisor(i);
    }
    for (uintptr_t i = 0; i < FLOODERS; i++) {
        struct fibril_actor_opts opts = {.loop = fibril_loop_at((unsigned)i % LOOPS)};
        ASSERT_OK(fibril_actor_spawn(flood, (void *)(i + 1), &opts, &flooders[i]));
    }
    for (uintptr_t i = 0; i < THREADS; i++) {
        ASSERT_EQ(pthread_create(&threads[i], NULL, thread_floods, (void *)(i + 100)), 0);
    }
    while (atomic_load(&through) < FLOODERS) {
        fibril_sleep(US * 1000);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    end_all(supervisors, LOOPS);
    wait_for_downs();
    end_all(flooders, FLOODERS);
    return 0;
}

static void say_nothing(const struct fibril_actor_report *r)
{
    (void)r;
}

TEST_WITHIN(nothing_is_lost_in_a_storm, 200)
{
    struct fibril_opts opts = {.loops = LOOPS};
    struct fibril_actor_counts c;
    fibril_actor_on_trouble(say_nothing);
    ASSERT_OK(fibril_run(&opts, storm, NULL));
    fibril_actor_counts(&c);
    ASSERT_EQ(c.spawned, c.ended);
    ASSERT_EQ(atomic_load(&downs) + atomic_load(&unwatched), atomic_load(&monitors));
    unsigned long long all =
        atomic_load(&received) + atomic_load(&asked) + c.dead_letters + c.dropped;
    ASSERT_LE(atomic_load(&sent) + atomic_load(&answered), all);
    ASSERT_LE(all, atomic_load(&sent) + atomic_load(&called));
    for (unsigned i = 0; i < atomic_load(&kills) && i < KILLED_MAX; i++) {
        ASSERT(!fibril_actor_alive(atomic_load(&killed[i])));
    }
    ASSERT_GT(atomic_load(&kills), 20);
    ASSERT_GT(atomic_load(&received), 1000);
    printf(
        "# %llu sent, %llu received, %llu dropped, %llu dead letters, %llu of %llu calls answered, "
        "%u killed, %llu ends seen\n",
        atomic_load(&sent), atomic_load(&received), (unsigned long long)c.dropped,
        (unsigned long long)c.dead_letters, atomic_load(&answered), atomic_load(&called),
        atomic_load(&kills), atomic_load(&downs));
}
