/* SPDX-License-Identifier: MIT */
/*
 * Random scripts on one to four loops, whose OS threads run in turns, against the model of rules.h.
 * A conductor gives one order in each step: to an actor, which does what it is told, or an exit
 * signal to one wherever it is, waiting in a place of any kind included. At the end of the step it
 * compares with the model who lives, who has which name, and what everybody has received.
 */
#include "rig.h"
#include "rules.h"

#include "../sim/seeds.h"
#include "base/turns.h"

#include <fibril/io.h>

enum { STEPS = 80, LOOPS = 4, ORDER = 1, VALUE, REASONS = 6 };

/* Within a step; the order is given at its beginning. */
#define STEP_NS MS(10)
#define SEND_NS (MS(1) / 2) /* how long sends and calls wait */
#define TIMER_NS(k) (MS(1) + (k)*MS(1) / 10)
#define WAIT_NS(i) (MS(5) + (i)*MS(1) / 10)

struct player {
    uint64_t refs[R_MONITORS];
    struct r_log signals, messages;
};

static struct world {
    const struct script *script;
    struct script_result result;
    struct r_model model;
    struct player players[R_ACTORS];
    uint64_t random, values;
    unsigned loops;
    uint64_t full, silent; /* whom one can wait for */
    struct fibril_mutex *mutex;
    struct fibril_sem *sem;
    struct fibril_chan *chan;
} w;

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            script_failed(w.script, __FILE__, __LINE__, #x);                                       \
        }                                                                                          \
    } while (0)

static const int reasons[REASONS] = {0, -EIO, 7, FIBRIL_EXIT_SHUTDOWN, FIBRIL_EXIT_KILL, -EPIPE};

static int choose(int n)
{
    w.random = w.random * 6364136223846793005u + 1442695040888963407u;
    return (int)((w.random >> 33) % (unsigned)n);
}

static void say(int i, const struct r_order *o)
{
    static const char *const names[] = {"link",  "unlink",   "monitor",    "demonitor", "trap",
                                        "exit",  "end",      "spawn",      "tell",      "call",
                                        "timer", "register", "unregister", "wait"};
    if (w.script->print) {
        fprintf(stderr, "%3d: %d %s %d value %d steps %d slot %d expected %d\n", w.model.step, i,
                names[o->what], o->whom, o->value, o->steps, o->slot, o->expected);
    }
}

/* ---- waiting in all places ---- */

static struct fibril_message *message(uint64_t value)
{
    struct fibril_message *m;
    CHECK(fibril_message_of(VALUE, &value, sizeof value, &m) == 0);
    return m;
}

static int wait_in_call(int64_t deadline_ns)
{
    struct fibril_message *reply;
    return fibril_actor_call(w.silent, message(0), deadline_ns, &reply);
}

static int wait_in_send(int64_t deadline_ns)
{
    struct fibril_message *m = message(0);
    int rc = fibril_actor_send(w.full, m, deadline_ns);
    CHECK(rc < 0);
    fibril_message_free(m);
    return rc;
}

static int wait_in_stream(int64_t deadline_ns)
{
    struct fibril_stream *s;
    struct fibril_message *m;
    CHECK(fibril_stream_open(w.silent, message(0), deadline_ns, &s) == 0);
    int rc = fibril_stream_next(s, deadline_ns, &m);
    fibril_stream_close(s);
    return rc;
}

static bool never(const struct fibril_message *m, void *arg)
{
    (void)m;
    (void)arg;
    return false;
}

/* As wanted: signals come first for whoever chooses, too, so that they wait here untouched. */
static int wait_in_choice(int64_t deadline_ns)
{
    struct fibril_message *m;
    return fibril_actor_receive_match(never, NULL, deadline_ns, &m);
}

static int sleeps(void *arg)
{
    (void)arg;
    return fibril_sleep(FIBRIL_FOREVER);
}

static int wait_in_join(int64_t deadline_ns)
{
    struct fibril_spawn_opts daemon = {.daemon = true};
    struct fibril *f;
    CHECK(fibril_spawn(sleeps, NULL, &daemon, &f) == 0);
    int rc = fibril_join(f, deadline_ns, NULL);
    CHECK(fibril_cancel(f) == 0);
    fibril_detach(f);
    return rc;
}

static int wait_in_pipe(int64_t deadline_ns)
{
    int fds[2];
    char byte;
    CHECK(fibril_pipe(fds) == 0);
    int rc = (int)fibril_read(fds[0], &byte, 1, deadline_ns);
    fibril_shield_begin();
    CHECK(fibril_close(fds[0]) == 0 && fibril_close(fds[1]) == 0);
    fibril_shield_end();
    return rc;
}

static int wait_shielded(int64_t deadline_ns)
{
    fibril_shield_begin();
    int rc = fibril_sleep_until(deadline_ns);
    fibril_shield_end();
    CHECK(rc == 0);
    return -ETIMEDOUT;
}

static int wait_in_sleep(int64_t deadline_ns)
{
    int rc = fibril_sleep_until(deadline_ns);
    return rc == 0 ? -ETIMEDOUT : rc;
}

static int wait_in_chan(int64_t deadline_ns, bool send)
{
    uint64_t value = 1;
    return send ? fibril_chan_send(w.chan, &value, deadline_ns)
                : fibril_sem_wait(w.sem, deadline_ns);
}

static int wait_in(enum r_place place, int64_t deadline_ns)
{
    switch (place) {
    case R_SLEEPS: return wait_in_sleep(deadline_ns);
    case R_CALLS: return wait_in_call(deadline_ns);
    case R_SENDS: return wait_in_send(deadline_ns);
    case R_OPENS: return wait_in_stream(deadline_ns);
    case R_CHOOSES: return wait_in_choice(deadline_ns);
    case R_LOCKS: return fibril_mutex_lock(w.mutex, deadline_ns);
    case R_JOINS: return wait_in_join(deadline_ns);
    case R_READS: return wait_in_pipe(deadline_ns);
    case R_SHIELDED: return wait_shielded(deadline_ns);
    default: return wait_in_chan(deadline_ns, place == R_GIVES);
    }
}

static void wait(int i, const struct r_order *o)
{
    int64_t deadline_ns =
        o->steps == R_FOR_EVER ? FIBRIL_FOREVER : o->now_ns + o->steps * STEP_NS + WAIT_NS(i);
    int rc = wait_in((enum r_place)o->value, deadline_ns);
    int reason;
    bool told = fibril_actor_exiting(&reason);
    CHECK(!told || reason == w.model.actor[i].reason);
    CHECK(rc == (told && o->value != R_SHIELDED ? -ECANCELED : -ETIMEDOUT));
}

/* ---- players ---- */

static int play(void *arg);

static int spawn_as(int i, const struct r_order *o)
{
    static const char *const names[R_NAMES] = {"a", "b", "c"};
    struct fibril_actor_opts opts = {
        .name = o->name >= 0 ? names[o->name] : NULL,
        .stack = o->copied ? FIBRIL_STACK_COPIED : FIBRIL_STACK_OWN,
        .loop = fibril_loop_at(o->loop),
        .least_loaded = o->least_loaded,
        .link = o->link,
        .trap_exits = o->trap,
        .ret_monitor = o->monitor ? &w.players[i].refs[o->slot] : NULL,
        .mailbox = o->mailbox,
    };
    uint64_t actor;
    w.players[o->whom] = (struct player){.signals = {.n = 0}};
    int rc = fibril_actor_spawn(play, (void *)(intptr_t)o->whom, &opts, &actor);
    if (rc == 0) {
        w.model.actor[o->whom].actor = actor;
    }
    return rc;
}

static int tell_burst(const struct r_order *o)
{
    int rcs = 0;
    for (int k = 0; k < o->value; k++) {
        struct fibril_message *m = message(o->first + (uint64_t)k);
        int rc = fibril_actor_send(o->actor, m, o->now_ns + SEND_NS);
        if (rc < 0) {
            CHECK(rc == -EAGAIN || rc == -ETIMEDOUT);
            fibril_message_free(m);
            rcs |= 1 << k | (rc == -EAGAIN) << (R_BURST + k);
        }
    }
    return rcs;
}

static int call(const struct r_order *o)
{
    struct fibril_message *reply;
    int rc = fibril_actor_call(o->actor, message(o->first), o->now_ns + SEND_NS, &reply);
    if (rc == 0) {
        CHECK(*(uint64_t *)fibril_message_data(reply) == o->first);
        fibril_message_free(reply);
    }
    return rc;
}

static int arm(const struct r_order *o)
{
    return fibril_actor_send_at(o->actor, message(o->first),
                                o->now_ns + o->steps * STEP_NS + TIMER_NS(o->slot), 0, NULL);
}

static int do_order(int i, const struct r_order *o)
{
    static const char *const names[R_NAMES] = {"a", "b", "c"};
    struct player *self = &w.players[i];
    switch (o->what) {
    case R_LINK: return fibril_actor_link(o->actor);
    case R_UNLINK: return fibril_actor_unlink(o->actor);
    case R_MONITOR: return fibril_actor_monitor(o->actor, &self->refs[o->slot]);
    case R_DEMONITOR: return fibril_actor_demonitor(self->refs[o->slot]);
    case R_TRAP: fibril_actor_trap_exits(o->value); return 0;
    case R_EXIT: return fibril_actor_exit(o->actor, o->value);
    case R_SPAWN: return spawn_as(i, o);
    case R_TELL: return tell_burst(o);
    case R_CALL: return call(o);
    case R_TIMER: return arm(o);
    case R_REGISTER: return fibril_actor_register(fibril_actor_self(), names[o->value]);
    case R_UNREGISTER: return fibril_actor_unregister(names[o->value]);
    default: wait(i, o); return 0;
    }
}

static void note_event(struct r_log *log, struct r_event e)
{
    CHECK(log->n < R_LOG);
    log->event[log->n++] = e;
}

static void hear(struct player *self, struct fibril_message *m)
{
    const struct fibril_signal *s = fibril_message_data(m);
    struct r_event e = {fibril_message_tag(m), s->actor, 0, s->reason, 0, false};
    if (e.tag == FIBRIL_TAG_DOWN) {
        while (e.value < R_MONITORS && self->refs[e.value] != s->ref) {
            e.value++;
        }
        CHECK(e.value < R_MONITORS);
    }
    note_event(&self->signals, e);
}

static void take(struct player *self, struct fibril_message *m)
{
    note_event(&self->messages, (struct r_event){.value = *(uint64_t *)fibril_message_data(m)});
    if (fibril_message_kind(m) == FIBRIL_MESSAGE_CALL) {
        fibril_actor_reply(fibril_message_from(m), m);
    } else {
        fibril_message_free(m);
    }
}

static int play(void *arg)
{
    int i = (int)(intptr_t)arg;
    struct player *self = &w.players[i];
    struct fibril_message *m;
    int rc;
    while ((rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
        if (fibril_message_kind(m) == FIBRIL_MESSAGE_SIGNAL) {
            hear(self, m);
            fibril_message_free(m);
        } else if (fibril_message_tag(m) == ORDER) {
            struct r_order o = *(struct r_order *)fibril_message_data(m);
            fibril_message_free(m);
            if (o.what == R_END) {
                return o.value;
            }
            CHECK(do_order(i, &o) == o.expected);
        } else {
            take(self, m);
        }
    }
    CHECK(rc == -ECANCELED);
    return rc;
}

/* ---- the conductor ---- */

static void choose_birth(struct r_order *o)
{
    o->loop = (unsigned)choose((int)w.loops);
    o->least_loaded = choose(6) == 0;
    o->copied = choose(2);
    o->trap = choose(2);
    o->name = choose(3) == 0 ? choose(R_NAMES) : -1;
    o->mailbox = (struct fibril_mailbox){.messages = R_BURST + 1 + (unsigned)choose(3),
                                         .overflow = (enum fibril_overflow)choose(4)};
}

/* An unused monitor of it, or for DEMONITOR any that was ever used; -1: none. */
static int choose_slot(int i, bool used)
{
    int slot = choose(R_MONITORS);
    bool fits = used ? w.players[i].refs[slot] != 0 : w.model.actor[i].monitored[slot] < 0;
    return fits ? slot : -1;
}

/* Fills in the rest of an order to i; false: it makes no sense now. */
static bool choose_order(int i, struct r_order *o)
{
    o->what = (enum r_command)choose(R_COMMANDS);
    o->whom = choose(R_ACTORS);
    o->actor = w.model.actor[o->whom].actor;
    o->value = reasons[choose(REASONS)];
    o->steps = 1 + choose(8);
    o->first = w.values += R_BURST;
    switch (o->what) {
    case R_MONITOR:
    case R_DEMONITOR: return (o->slot = choose_slot(i, o->what == R_DEMONITOR)) >= 0;
    case R_TRAP: o->value = choose(2); break;
    case R_SPAWN:
        choose_birth(o);
        o->link = choose(2);
        o->monitor = choose(2);
        o->slot = choose_slot(i, false);
        return o->slot >= 0 && w.model.actor[o->whom].state == R_DEAD;
    case R_TELL: o->value = 1 + choose(R_BURST); break;
    case R_REGISTER:
    case R_UNREGISTER: o->value = choose(R_NAMES); break;
    case R_TIMER: o->slot = choose(R_TIMERS); return w.model.timers[o->slot].step == 0;
    case R_WAIT:
        o->value = choose(R_PLACES);
        o->steps = o->value != R_SHIELDED && choose(3) == 0 ? R_FOR_EVER : o->steps;
        break;
    default: break;
    }
    return true;
}

static void signal_one(int i, int reason)
{
    struct r_order o = {.what = R_EXIT, .whom = i, .value = reason};
    say(R_ACTORS, &o);
    r_signalled(&w.model, i, fibril_actor_self(), reason); /* the turn may pass in the call */
    CHECK(fibril_actor_exit(w.model.actor[i].actor, reason) == 0);
}

/* Whether whom the order is about is to be killed while it is obeyed. Who is linked already would
 * hear of the end of that link, and then that there is nobody to link. */
static bool choose_race(int i, const struct r_order *o)
{
    const struct r_actor *p = &w.model.actor[i];
    bool fits = o->what == R_MONITOR || (o->what == R_LINK && !p->linked[o->whom]);
    return fits && o->whom != i && p->traps && w.model.actor[o->whom].state != R_DEAD &&
           choose(3) == 0;
}

static void give_order(int64_t now_ns)
{
    int i = choose(R_ACTORS);
    struct r_order o = {.now_ns = now_ns, .name = -1};
    struct r_actor *p = &w.model.actor[i];
    if (p->state == R_DEAD) {
        choose_birth(&o);
        o.what = R_SPAWN;
        o.whom = i;
        bool taken = o.name >= 0 && w.model.names[o.name] >= 0;
        if (!taken) {
            r_born(&w.model, i, &o);
        }
        say(R_ACTORS, &o);
        CHECK(spawn_as(i, &o) == (taken ? -EEXIST : 0));
    } else if (p->waits_until || choose(8) == 0) {
        if (choose(2)) {
            signal_one(i, reasons[choose(REASONS)]);
        }
    } else if (choose_order(i, &o)) {
        struct fibril_message *m;
        bool race = choose_race(i, &o);
        r_ordered(&w.model, i, &o);
        say(i, &o);
        if (race) {
            r_raced(&w.model, i, o.actor);
        }
        CHECK(fibril_message_of(ORDER, &o, sizeof o, &m) == 0);
        CHECK(fibril_actor_send(p->actor, m, FIBRIL_FOREVER) == 0);
        if (race) {
            CHECK(fibril_actor_exit(o.actor, FIBRIL_EXIT_KILL) == 0);
        }
        w.result.operations++;
    }
}

static void compare(void)
{
    static const char *const names[R_NAMES] = {"a", "b", "c"};
    for (int i = 0; i < R_ACTORS; i++) {
        struct r_actor *p = &w.model.actor[i];
        CHECK(fibril_actor_alive(p->actor) == (p->state != R_DEAD));
        if (p->state == R_ALIVE && !p->waits_until) {
            const char *what =
                r_differs(&w.model, i, &w.players[i].signals, &w.players[i].messages);
            if (what) {
                script_failed(w.script, __FILE__, __LINE__, what);
            }
        }
    }
    for (int k = 0; k < R_NAMES; k++) {
        int whose = w.model.names[k];
        CHECK(fibril_actor_whereis(names[k]) == (whose < 0 ? 0 : w.model.actor[whose].actor));
    }
}

static void step(void)
{
    int64_t now_ns = fibril_now();
    give_order(now_ns);
    r_passed(&w.model);
    CHECK(fibril_sleep_until(now_ns + STEP_NS) == 0);
    compare();
    w.model.step++;
}

/* ---- scripts ---- */

static int fills_up(void *arg)
{
    (void)arg;
    return fibril_sleep(FIBRIL_FOREVER);
}

static void make_world(void)
{
    struct fibril_actor_opts one = {.mailbox = {.messages = 1}};
    CHECK(fibril_actor_self() != 0); /* exit signals come from it */
    CHECK(fibril_mutex_new(FIBRIL_SHARED, &w.mutex) == 0);
    CHECK(fibril_sem_new(0, FIBRIL_SHARED, &w.sem) == 0);
    CHECK(fibril_chan_new(8, 0, FIBRIL_SHARED, &w.chan) == 0);
    CHECK(fibril_mutex_lock(w.mutex, FIBRIL_FOREVER) == 0);
    CHECK(fibril_actor_spawn(fills_up, NULL, &one, &w.full) == 0);
    CHECK(fibril_actor_spawn(idle, NULL, NULL, &w.silent) == 0);
    CHECK(fibril_actor_send(w.full, message(0), FIBRIL_FOREVER) == 0);
}

static void end_world(void)
{
    for (int i = 0; i < R_ACTORS; i++) {
        signal_one(i, FIBRIL_EXIT_KILL);
    }
    CHECK(fibril_sleep(12 * STEP_NS) == 0); /* those that are shielded too */
    CHECK(fibril_actor_exit(w.full, FIBRIL_EXIT_KILL) == 0);
    CHECK(fibril_actor_exit(w.silent, FIBRIL_EXIT_KILL) == 0);
    CHECK(fibril_sleep(STEP_NS) == 0);
    CHECK(fibril_mutex_unlock(w.mutex) == 0);
    fibril_mutex_free(w.mutex);
    fibril_sem_free(w.sem);
    fibril_chan_free(w.chan);
}

static int conduct(void *arg)
{
    (void)arg;
    int64_t start_ns = fibril_now();
    struct fibril_actor_counts before, after;
    make_world();
    settle();
    fibril_actor_counts(&before);
    for (int i = 0; i < STEPS; i++) {
        step();
    }
    fibril_actor_counts(&after);
    CHECK(after.dead_letters - before.dead_letters == w.model.dead_letters);
    CHECK(after.dropped - before.dropped == w.model.dropped);
    CHECK(after.late_replies - before.late_replies == w.model.late_replies);
    w.result.virtual_ns = fibril_now() - start_ns;
    w.result.timeouts = w.model.timeouts;
    w.result.cancels = w.model.told;
    end_world();
    return 0;
}

static void run_script(const struct script *script, struct script_result *ret_result)
{
    memset(&w, 0, sizeof w);
    w.script = script;
    w.random = script->seed ^ UINT64_C(0x72756c6573);
    w.loops = 1 + (unsigned)choose(LOOPS);
    r_begin(&w.model);
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

TEST_WITHIN(actors_follow_the_model, 1800)
{
    static const struct seeds seeds = {"actors_follow_the_model", run_script, 20, 2, 3};
    seeds_play(&seeds);
}
