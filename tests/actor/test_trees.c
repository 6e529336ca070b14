/* SPDX-License-Identifier: MIT */
/*
 * Supervisors under random ends of their children and random requests, against a model: who is
 * ended and started in which order, who is restarted, when it has been too often, and what each
 * request returns. One step takes a second, so that the model knows which restarts are within a
 * period.
 */
#include "rig.h"

#include "../sim/seeds.h"
#include "base/compiler.h"

#include <fibril/supervisor.h>

enum { STEPS = 60, CHILDREN = 6, EVENTS = 4 * CHILDREN, REASONS = 5 };

/* A child of the model; a supervisor's are in order. */
struct m_child {
    char id;
    enum fibril_restart restart;
    bool runs;
    uint64_t restarts;
};

static struct world {
    const struct script *script;
    struct script_result result;
    uint64_t random;
    enum fibril_strategy strategy;
    int intensity, period_s, step;
    struct m_child child[CHILDREN];
    int n, restarted[STEPS + 1], n_restarted;
    bool over;
    char expected[EVENTS + 1], events[EVENTS + 1]; /* "+a" is the beginning of a, "-a" its end */
    uint64_t supervisor;
} w;

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            script_failed(w.script, __FILE__, __LINE__, #x);                                       \
        }                                                                                          \
    } while (0)

static const int reasons[REASONS] = {0, -EIO, 7, FIBRIL_EXIT_SHUTDOWN, FIBRIL_EXIT_KILL};

static int choose(int n)
{
    w.random = w.random * 6364136223846793005u + 1442695040888963407u;
    return (int)((w.random >> 33) % (unsigned)n);
}

static void note_event(char *events, char what, char id)
{
    size_t len = strlen(events);
    CHECK(len + 2 <= EVENTS);
    events[len] = what;
    events[len + 1] = id;
    events[len + 2] = '\0';
}

/* ---- children ---- */

/* Some take their time when told to end, longer than the supervisor waits. */
static int child(void *arg)
{
    char id = *(const char *)arg;
    struct fibril_message *m;
    int rc;
    note_event(w.events, '+', id);
    rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
    if (rc == 0) {
        rc = value_of(m);
        fibril_message_free(m);
    } else if (id % 3 == 0) {
        fibril_shield_begin();
        fibril_sleep(MS(20));
        fibril_shield_end();
    }
    note_event(w.events, '-', id);
    return rc;
}

static struct fibril_child_spec spec_of(const struct m_child *c)
{
    static const char ids[][2] = {"a", "b", "c", "d", "e", "f"};
    const char *id = ids[c->id - 'a'];
    return (struct fibril_child_spec){
        .id = id,
        .fn = child,
        .arg = (void *)(uintptr_t)id,
        .restart = c->restart,
        .shutdown_ns = c->id % 2   ? MS(10)
                       : c->id % 4 ? FIBRIL_SHUTDOWN_KILL
                                   : 0,
        .opts = {.name = id, .stack = c->id % 2 ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN}};
}

/* ---- the model ---- */

static int find(char id)
{
    for (int i = 0; i < w.n; i++) {
        if (w.child[i].id == id) {
            return i;
        }
    }
    return -1;
}

static void m_start(int i)
{
    w.child[i].runs = true;
    note_event(w.expected, '+', w.child[i].id);
}

static void m_end(int i)
{
    if (w.child[i].runs) {
        note_event(w.expected, '-', w.child[i].id);
    }
    w.child[i].runs = false;
}

static void m_forget(int i)
{
    memmove(&w.child[i], &w.child[i + 1], sizeof w.child[0] * (size_t)(w.n - i - 1));
    w.n--;
}

static void m_end_all(void)
{
    for (int i = w.n; i-- > 0;) {
        m_end(i);
    }
    w.over = true;
}

/* One restart more is one too many if there have been `intensity` within the period. */
static bool m_too_often(void)
{
    int within = 0;
    for (int k = 0; k < w.n_restarted; k++) {
        within += w.step - w.restarted[k] <= w.period_s;
    }
    w.restarted[w.n_restarted++] = w.step;
    return within >= w.intensity;
}

static void m_restart(int i)
{
    char id = w.child[i].id;
    if (m_too_often()) {
        m_end_all();
        return;
    }
    w.child[i].restarts++;
    int first = w.strategy == FIBRIL_ONE_FOR_ALL ? 0 : i;
    int last = w.strategy == FIBRIL_ONE_FOR_ONE ? i : w.n - 1;
    for (int k = last; k >= first; k--) {
        m_end(k);
    }
    for (int k = last; k >= first; k--) {
        if (w.child[k].restart == FIBRIL_RESTART_TEMPORARY && w.child[k].id != id) {
            m_forget(k);
            last--;
        }
    }
    for (int k = first; k <= last; k++) {
        m_start(k);
    }
}

static void m_ended(int i, int reason)
{
    enum fibril_restart rule = w.child[i].restart;
    bool failed = reason != FIBRIL_EXIT_NORMAL && reason != FIBRIL_EXIT_SHUTDOWN;
    m_end(i);
    if (rule == FIBRIL_RESTART_PERMANENT || (rule == FIBRIL_RESTART_TRANSIENT && failed)) {
        m_restart(i);
    } else if (rule == FIBRIL_RESTART_TEMPORARY) {
        m_forget(i);
    }
}

/* ---- steps ---- */

static uint64_t actor_of(char id)
{
    char name[2] = {id, '\0'};
    return fibril_actor_whereis(name);
}

static void end_one(char id)
{
    int i = find(id), reason = reasons[choose(REASONS)];
    if (i < 0 || !w.child[i].runs) {
        return;
    }
    uint64_t actor = actor_of(id);
    CHECK(actor != 0);
    if (choose(2) && reason != FIBRIL_EXIT_NORMAL) {
        CHECK(fibril_actor_exit(actor, reason) == 0);
        m_ended(i, reason == FIBRIL_EXIT_KILL ? FIBRIL_EXIT_KILLED : reason);
    } else {
        tell(actor, 1, reason);
        m_ended(i, reason);
    }
}

static void request(char id)
{
    char name[2] = {id, '\0'};
    int i = find(id);
    bool runs = i >= 0 && w.child[i].runs;
    struct m_child more = {.id = id, .restart = (enum fibril_restart)choose(3)};
    struct fibril_child_spec spec = spec_of(&more);
    uint64_t actor = 0;
    switch (choose(4)) {
    case 0:
        CHECK(fibril_supervisor_add(w.supervisor, &spec, NULL, FIBRIL_FOREVER, &actor) ==
              (i < 0 ? 0 : -EEXIST));
        if (i < 0) {
            w.child[w.n++] = more;
            m_start(w.n - 1);
        }
        break;
    case 1:
        CHECK(fibril_supervisor_end(w.supervisor, name, FIBRIL_FOREVER) == (i < 0 ? -ENOENT : 0));
        if (i >= 0) {
            m_end(i);
            if (w.child[i].restart == FIBRIL_RESTART_TEMPORARY) {
                m_forget(i);
            }
        }
        break;
    case 2:
        CHECK(fibril_supervisor_restart(w.supervisor, name, FIBRIL_FOREVER, &actor) ==
              (i < 0  ? -ENOENT
               : runs ? -EBUSY
                      : 0));
        if (i >= 0 && !runs) {
            m_start(i);
        }
        break;
    default:
        CHECK(fibril_supervisor_remove(w.supervisor, name, FIBRIL_FOREVER) == (i < 0  ? -ENOENT
                                                                               : runs ? -EBUSY
                                                                                      : 0));
        if (i >= 0 && !runs) {
            m_forget(i);
        }
    }
}

/* The hard flavour shuffles those that begin. */
static void sort_beginnings(char *events)
{
    for (size_t i = 0; FIBRIL_HARD && events[i]; i += 2) {
        for (size_t k = i + 2; events[i] == '+' && events[k] == '+'; k += 2) {
            if (events[k + 1] < events[i + 1]) {
                char id = events[i + 1];
                events[i + 1] = events[k + 1];
                events[k + 1] = id;
            }
        }
    }
}

static void compare(void)
{
    struct fibril_child now[CHILDREN];
    size_t n;
    sort_beginnings(w.events);
    sort_beginnings(w.expected);
    if (w.script->print || strcmp(w.events, w.expected) != 0) {
        fprintf(stderr, "%2d: %s, expected %s%s\n", w.step, w.events, w.expected,
                w.over ? " and the end" : "");
    }
    CHECK(strcmp(w.events, w.expected) == 0);
    CHECK(fibril_actor_alive(w.supervisor) == !w.over);
    w.result.operations += strlen(w.events) / 2;
    w.events[0] = w.expected[0] = '\0';
    if (w.over) {
        return;
    }
    CHECK(fibril_supervisor_children(w.supervisor, now, CHILDREN, FIBRIL_FOREVER, &n) == 0);
    CHECK((int)n == w.n);
    for (int i = 0; i < w.n; i++) {
        CHECK(now[i].id[0] == w.child[i].id && (now[i].actor != 0) == w.child[i].runs);
        CHECK(now[i].actor == actor_of(w.child[i].id));
        CHECK(now[i].restarts == w.child[i].restarts);
    }
}

static void step(void)
{
    int64_t now_ns = fibril_now();
    char id = (char)('a' + choose(CHILDREN));
    w.step++;
    if (choose(3)) {
        end_one(id);
    } else if (choose(2)) {
        request(id);
    }
    CHECK(fibril_sleep_until(now_ns + MS(1000)) == 0);
    compare();
}

/* ---- scripts ---- */

static void start_tree(void)
{
    struct fibril_child_spec specs[CHILDREN];
    w.n = choose(CHILDREN + 1);
    for (int i = 0; i < w.n; i++) {
        w.child[i] =
            (struct m_child){.id = (char)('a' + i), .restart = (enum fibril_restart)choose(3)};
        specs[i] = spec_of(&w.child[i]);
        m_start(i);
    }
    struct fibril_supervisor_spec spec = {.strategy = w.strategy,
                                          .intensity = (unsigned)w.intensity,
                                          .period_ns = w.period_s * MS(1000) + MS(500),
                                          .children = specs,
                                          .n_children = (size_t)w.n};
    CHECK(fibril_supervisor_start(&spec, NULL, &w.supervisor) == 0);
    settle();
    compare();
}

static int conduct(void *arg)
{
    (void)arg;
    start_tree();
    while (w.step < STEPS && !w.over) {
        step();
    }
    if (!w.over) {
        CHECK(fibril_actor_exit(w.supervisor, FIBRIL_EXIT_SHUTDOWN) == 0);
        m_end_all();
        CHECK(fibril_sleep(MS(1000)) == 0);
        compare();
    }
    w.result.timeouts = (uint64_t)w.n_restarted;
    w.result.cancels = w.step < STEPS; /* it gave up */
    w.result.virtual_ns = fibril_now();
    return 0;
}

static void run_script(const struct script *script, struct script_result *ret_result)
{
    memset(&w, 0, sizeof w);
    w.script = script;
    w.random = script->seed ^ UINT64_C(0x7472656573);
    w.strategy = (enum fibril_strategy)choose(3);
    w.intensity = 1 + choose(6);
    w.period_s = 1 + choose(10);
    struct fibril_opts opts = {.poller = "sim", .seed = script->seed, .run_stack_bytes = 64 << 10};
    struct fibril_actor_counts counts;
    fibril_actor_on_trouble(note_nothing);
    CHECK(fibril_run(&opts, conduct, NULL) == 0);
    fibril_actor_counts(&counts);
    CHECK(counts.spawned == counts.ended);
    w.result.hash = w.random ^ script->seed << 32;
    *ret_result = w.result;
}

TEST_WITHIN(supervisors_follow_the_model, 1800)
{
    static const struct seeds seeds = {"supervisors_follow_the_model", run_script, 20, 2, 0};
    seeds_play(&seeds);
}
