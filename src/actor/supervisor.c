/* SPDX-License-Identifier: MIT */
/*
 * What a supervisor does: it starts its children in order, waits for their ends and for what it is
 * asked, and starts again whom the strategy says. Children are linked to it, so its own end, of
 * whatever kind, is theirs too.
 *
 * Restarts are counted in a ring of their times: one too many within the period, and it gives up.
 */
#include "actor/child.h"

#include "actor/actor.h"
#include "base/alloc.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

struct supervisor {
    struct fibril__tree *tree;
    int64_t *times; /* of the last `intensity` restarts; NULL: no limit */
    uint64_t restarts;
    int64_t last_ns;  /* of the last restart */
    unsigned series;  /* restarts without a quiet period between them */
    bool timer_armed; /* START_DUE will come */
    int ending;       /* the reason to end for, or 0 */
};

enum { MEMORY_PAUSE_NS = 10000000 };

/* ---- starting and ending children ---- */

static int start(struct supervisor *s, struct fibril__child *c)
{
    int rc = fibril__map_reserve(&s->tree->running);
    rc = rc == 0 ? fibril__child_start(c) : rc;
    if (rc == 0) {
        fibril__map_insert(&s->tree->running, &c->by_actor, c->actor);
        c->due = false;
    }
    return rc;
}

static void has_ended(struct supervisor *s, struct fibril__child *c)
{
    fibril__map_remove(&s->tree->running, &c->by_actor);
    c->actor = 0;
}

struct wait_for {
    uint64_t actor, ref;
};

static bool is_its_end(const struct fibril_message *m, void *arg)
{
    const struct wait_for *w = arg;
    if (m->kind != FIBRIL_MESSAGE_SIGNAL) {
        return false;
    }
    const struct fibril_signal *signal = fibril_message_peek(m);
    return signal->actor == w->actor && (m->tag == FIBRIL_TAG_EXIT || signal->ref == w->ref);
}

/* Waits for the end of c; false: not until then, or the caller was told to end itself. */
static bool await_end(const struct wait_for *w, int64_t deadline_ns)
{
    struct fibril_message *m;
    if (fibril_actor_receive_match(is_its_end, (void *)(uintptr_t)w, deadline_ns, &m) != 0) {
        return false;
    }
    fibril_message_free(m);
    return true;
}

/* An exit signal needs memory where it travels or is trapped: it is tried until there is some. */
static void signal_child(uint64_t actor, int reason)
{
    while (fibril_actor_exit(actor, reason) == -ENOMEM && fibril_sleep(MEMORY_PAUSE_NS) == 0) {}
}

/* Ends c: asks, waits as long as it may take, kills. Its link may be gone, so it is watched too. */
static void end(struct supervisor *s, struct fibril__child *c)
{
    if (!c->actor) {
        c->due = false;
        return;
    }
    struct wait_for w = {.actor = c->actor};
    int64_t patience_ns = fibril__child_patience(c);
    fibril_actor_monitor(c->actor, &w.ref);
    bool ended = false;
    if (patience_ns != FIBRIL_SHUTDOWN_KILL) {
        signal_child(c->actor, FIBRIL_EXIT_SHUTDOWN);
        ended = await_end(&w, fibril_after(patience_ns));
    }
    if (!ended) {
        signal_child(c->actor, FIBRIL_EXIT_KILL);
        await_end(&w, FIBRIL_FOREVER);
    }
    fibril_actor_unlink(c->actor);
    if (w.ref) {
        fibril_actor_demonitor(w.ref);
    }
    has_ended(s, c);
}

static struct fibril__child *child_at(struct fibril__link *l)
{
    return CONTAINER_OF(l, struct fibril__child, link);
}

/* Ends the children from the last one back to `first`; NULL: all. */
static void end_from(struct supervisor *s, struct fibril__child *first)
{
    struct fibril__list *children = &s->tree->children;
    for (struct fibril__link *l = children->head.prev; l != &children->head;) {
        struct fibril__child *c = child_at(l);
        l = l->prev;
        end(s, c);
        if (c == first) {
            return;
        }
    }
}

/* Starts those that are due, in order. At the first one that cannot be started it stops. */
static int start_due(struct supervisor *s)
{
    struct fibril__list *children = &s->tree->children;
    for (struct fibril__link *l = children->head.next; l != &children->head; l = l->next) {
        int rc = child_at(l)->due ? start(s, child_at(l)) : 0;
        if (rc < 0) {
            return rc;
        }
    }
    return 0;
}

/* ---- restarting ---- */

/* Counts a restart; false: that was one too many. */
static bool may_restart(struct supervisor *s)
{
    const struct fibril_supervisor_spec *spec = &s->tree->spec;
    int64_t now_ns = fibril_now();
    s->series = s->restarts && now_ns - s->last_ns <= spec->period_ns ? s->series + 1 : 0;
    s->last_ns = now_ns;
    if (s->times) {
        int64_t *slot = &s->times[s->restarts % spec->intensity];
        if (s->restarts >= spec->intensity && now_ns - *slot <= spec->period_ns) {
            return false;
        }
        *slot = now_ns;
    }
    s->restarts++;
    return true;
}

static int64_t pause_before(const struct supervisor *s)
{
    const struct fibril_supervisor_spec *spec = &s->tree->spec;
    int64_t pause_ns = spec->backoff_ns, max_ns = spec->backoff_max_ns;
    for (unsigned i = 0; i < s->series && pause_ns > 0 && pause_ns < max_ns; i++) {
        pause_ns = pause_ns <= max_ns / 2 ? 2 * pause_ns : max_ns;
    }
    return pause_ns < max_ns ? pause_ns : max_ns;
}

/* Has START_DUE come after a pause. */
static int arm(struct supervisor *s, int64_t pause_ns)
{
    struct fibril_message *m;
    if (s->timer_armed) {
        return 0;
    }
    int rc = fibril_message_new(FIBRIL__ASK(FIBRIL__START_DUE), 0, NULL, &m);
    if (rc == 0) {
        rc = fibril_actor_send_at(fibril_actor_self(), m, fibril_after(pause_ns), 0, NULL);
        if (rc < 0) {
            fibril_message_free(m);
        }
    }
    s->timer_armed = rc == 0;
    return rc;
}

static void give_up(struct supervisor *s)
{
    fibril__log_gave_up(fibril__actor_self(), s->restarts);
    s->ending = FIBRIL_EXIT_SHUTDOWN;
}

/* Starts those that are due. What cannot be started counts as having failed again. */
static void restart_due(struct supervisor *s)
{
    while (!s->ending && start_due(s) < 0) {
        if (!may_restart(s)) {
            give_up(s);
        } else if (arm(s, MEMORY_PAUSE_NS + pause_before(s)) == 0 ||
                   fibril_sleep(MEMORY_PAUSE_NS) < 0) {
            return;
        }
    }
}

/* Ends whom the strategy ends together with c, and makes them due. */
static void make_due(struct supervisor *s, struct fibril__child *c)
{
    struct fibril__list *children = &s->tree->children;
    enum fibril_strategy strategy = s->tree->spec.strategy;
    c->due = true;
    c->restarts++;
    if (strategy == FIBRIL_ONE_FOR_ALL) {
        end_from(s, NULL);
    } else if (strategy == FIBRIL_REST_FOR_ONE && c->link.next != &children->head) {
        end_from(s, child_at(c->link.next));
    } else {
        return;
    }
    struct fibril__link *l = strategy == FIBRIL_ONE_FOR_ALL ? children->head.next : &c->link;
    for (struct fibril__link *next; l != &children->head; l = next) {
        struct fibril__child *other = child_at(l);
        next = l->next;
        other->due = true;
        if (other->spec.restart == FIBRIL_RESTART_TEMPORARY && other != c) {
            fibril__link_remove(&other->link);
            fibril__child_free(other);
        }
    }
}

static void restart(struct supervisor *s, struct fibril__child *c)
{
    if (!may_restart(s)) {
        give_up(s);
        return;
    }
    bool alone =
        s->tree->spec.strategy == FIBRIL_ONE_FOR_ONE || s->tree->spec.strategy == FIBRIL_SIMPLE;
    int64_t pause_ns = pause_before(s);
    make_due(s, c);
    if (pause_ns > 0 && arm(s, pause_ns) == 0) {
        return;
    }
    if (!alone || start(s, c) < 0) {
        restart_due(s);
    }
}

static void child_ended(struct supervisor *s, struct fibril__child *c, int reason)
{
    bool failed = reason != FIBRIL_EXIT_NORMAL && reason != FIBRIL_EXIT_SHUTDOWN;
    enum fibril_restart rule = c->spec.restart;
    has_ended(s, c);
    if (rule == FIBRIL_RESTART_PERMANENT || (rule == FIBRIL_RESTART_TRANSIENT && failed)) {
        restart(s, c);
    } else if (rule == FIBRIL_RESTART_TEMPORARY || s->tree->spec.strategy == FIBRIL_SIMPLE) {
        fibril__link_remove(&c->link);
        fibril__child_free(c);
    }
}

/* An exit signal from nobody of ours, unless it says that all is well, is an order. */
static void exit_came(struct supervisor *s, const struct fibril_signal *signal)
{
    struct fibril__map_node *node = fibril__map_find(&s->tree->running, signal->actor);
    if (node) {
        child_ended(s, CONTAINER_OF(node, struct fibril__child, by_actor), signal->reason);
    } else if (signal->reason != FIBRIL_EXIT_NORMAL) {
        s->ending = signal->reason;
    }
}

/* ---- what it is asked ---- */

static void answer(struct fibril_from from, int rc, uint64_t value)
{
    struct fibril_message *m;
    if (rc == 0) {
        rc = fibril_message_of(0, &value, sizeof value, &m);
    }
    if (rc == 0) {
        fibril_actor_reply(from, m);
    } else {
        fibril_actor_refuse(from, rc);
    }
}

static int add(struct supervisor *s, struct fibril__child **of_message, uint64_t *ret_child)
{
    struct fibril__child *c = *of_message;
    bool simple = s->tree->spec.strategy == FIBRIL_SIMPLE;
    if (simple || fibril__child_find(&s->tree->children, c->spec.id)) {
        return simple ? -EINVAL : -EEXIST;
    }
    int rc = start(s, c);
    if (rc == 0) {
        *of_message = NULL; /* it is ours now */
        fibril__list_push(&s->tree->children, &c->link);
        *ret_child = c->actor;
    }
    return rc;
}

static int add_simple(struct supervisor *s, void *arg, uint64_t *ret_child)
{
    struct fibril__child *c;
    int rc = s->tree->pattern ? fibril__child_of(s->tree->pattern, arg, &c) : -EINVAL;
    if (rc < 0) {
        return rc;
    }
    rc = start(s, c);
    if (rc < 0) {
        fibril__child_free(c);
        return rc;
    }
    fibril__list_push(&s->tree->children, &c->link);
    *ret_child = c->actor;
    return 0;
}

static void forget(struct fibril__child *c)
{
    fibril__link_remove(&c->link);
    fibril__child_free(c);
}

static int end_actor(struct supervisor *s, uint64_t actor)
{
    struct fibril__map_node *node = fibril__map_find(&s->tree->running, actor);
    if (!node) {
        return -ENOENT;
    }
    struct fibril__child *c = CONTAINER_OF(node, struct fibril__child, by_actor);
    end(s, c);
    if (!c->spec.id || c->spec.restart == FIBRIL_RESTART_TEMPORARY) {
        forget(c);
    }
    return 0;
}

static int ask_by_id(struct supervisor *s, int what, const char *id, uint64_t *ret_child)
{
    struct fibril__child *c = fibril__child_find(&s->tree->children, id);
    if (!c) {
        return -ENOENT;
    }
    if (what == FIBRIL__ASK_END) {
        end(s, c);
        if (c->spec.restart == FIBRIL_RESTART_TEMPORARY) {
            forget(c);
        }
        return 0;
    }
    if (c->actor) {
        return -EBUSY;
    }
    if (what == FIBRIL__ASK_REMOVE) {
        forget(c);
        return 0;
    }
    int rc = start(s, c);
    *ret_child = c->actor;
    return rc;
}

static void list_children(const struct supervisor *s, struct fibril_from from)
{
    const struct fibril__list *children = &s->tree->children;
    struct fibril_message *m;
    size_t n = 0;
    for (struct fibril__link *l = children->head.next; l != &children->head; l = l->next) {
        n++;
    }
    int rc = fibril_message_new(0, n * sizeof(struct fibril_child), NULL, &m);
    if (rc < 0) {
        fibril_actor_refuse(from, rc);
        return;
    }
    struct fibril_child *to = fibril_message_data(m);
    for (struct fibril__link *l = children->head.next; l != &children->head; l = l->next, to++) {
        const struct fibril__child *c = child_at(l);
        *to = (struct fibril_child){
            .actor = c->actor, .restarts = c->restarts, .is_supervisor = c->tree != NULL};
        if (c->spec.id) {
            memcpy(to->id, c->spec.id, strlen(c->spec.id)); /* shorter than the room: checked */
        }
    }
    fibril_actor_reply(from, m);
}

static void asked(struct supervisor *s, struct fibril_message *m)
{
    struct fibril_from from = fibril_message_from(m);
    int what = (int)(m->tag & INT_MAX);
    void *data = fibril_message_data(m);
    uint64_t child = 0;
    int rc = 0;
    switch (what) {
    case FIBRIL__ASK_READY: break;
    case FIBRIL__ASK_ADD: rc = add(s, data, &child); break;
    case FIBRIL__ASK_ADD_SIMPLE: rc = add_simple(s, *(void **)data, &child); break;
    case FIBRIL__ASK_END_ACTOR: rc = end_actor(s, *(uint64_t *)data); break;
    case FIBRIL__ASK_CHILDREN: list_children(s, from); return;
    case FIBRIL__ASK_END:
    case FIBRIL__ASK_RESTART:
    case FIBRIL__ASK_REMOVE: rc = ask_by_id(s, what, data, &child); break;
    default: rc = -ENOSYS;
    }
    answer(from, rc, child);
}

static void handle(struct supervisor *s, struct fibril_message *m)
{
    if (m->tag == FIBRIL_TAG_EXIT && m->kind == FIBRIL_MESSAGE_SIGNAL) {
        struct fibril_signal signal = *(struct fibril_signal *)fibril_message_data(m);
        exit_came(s, &signal);
    } else if (m->tag == FIBRIL__ASK(FIBRIL__START_DUE)) {
        s->timer_armed = false;
        restart_due(s);
    } else if (m->kind == FIBRIL_MESSAGE_CALL) {
        asked(s, m);
    }
}

/* ---- its life ---- */

static int begin(struct supervisor *s)
{
    struct fibril__list *children = &s->tree->children;
    unsigned intensity = s->tree->spec.intensity;
    if (intensity != UINT_MAX) {
        s->times = fibril__alloc(intensity * sizeof *s->times);
        if (!s->times) {
            return -ENOMEM;
        }
    }
    for (struct fibril__link *l = children->head.next; l != &children->head; l = l->next) {
        int rc = start(s, child_at(l));
        if (rc < 0) {
            fibril_actor_fail(rc, "child \"%s\" does not start", child_at(l)->spec.id);
            return rc;
        }
    }
    return 0;
}

/* Tells who waits for the start that there is none; the failure is no exit signal besides. */
static int fail_start(struct supervisor *s, int error)
{
    enum { WAIT_NS = 1000000000 };
    struct fibril_message *m;
    end_from(s, NULL);
    if (fibril_actor_receive_tag(FIBRIL__ASK(FIBRIL__ASK_READY), fibril_after(WAIT_NS), &m) == 0) {
        struct fibril_from from = fibril_message_from(m);
        fibril_message_free(m);
        fibril_actor_unlink(from.actor);
        fibril_actor_refuse(from, error);
    }
    return error;
}

int fibril__supervise(void *arg)
{
    struct supervisor s = {.tree = arg};
    struct fibril_message *m;
    int rc = begin(&s);
    if (rc < 0) {
        rc = fail_start(&s, rc);
    } else {
        while (!s.ending && (rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
            handle(&s, m);
            fibril_message_free(m);
        }
        if (s.ending) {
            end_from(&s, NULL);
            rc = s.ending;
        }
    }
    fibril__map_fini(&s.tree->running);
    fibril__free(s.times);
    fibril__tree_free(s.tree);
    return rc;
}

/* ---- the calls ---- */

static int ask(uint64_t supervisor, struct fibril_message *m, int64_t deadline_ns,
               uint64_t *ret_value)
{
    struct fibril_message *reply;
    int rc = fibril_actor_call(supervisor, m, deadline_ns, &reply);
    if (rc == 0) {
        if (ret_value) {
            *ret_value = *(uint64_t *)fibril_message_data(reply);
        }
        fibril_message_free(reply);
    }
    return rc;
}

static int ask_with(uint64_t supervisor, int what, const void *data, size_t size,
                    int64_t deadline_ns, uint64_t *ret_value)
{
    struct fibril_message *m;
    int rc = fibril_message_of(FIBRIL__ASK(what), data, size, &m);
    return rc == 0 ? ask(supervisor, m, deadline_ns, ret_value) : rc;
}

static void free_child(void *data, size_t size)
{
    (void)size;
    fibril__child_free(*(struct fibril__child **)data);
}

static const struct fibril_message_type child_type = {.name = "child", .destroy = free_child};

int fibril_supervisor_add(uint64_t supervisor, const struct fibril_child_spec *spec, void *arg,
                          int64_t deadline_ns, uint64_t *ret_child)
{
    if (!spec) {
        return ask_with(supervisor, FIBRIL__ASK_ADD_SIMPLE, &arg, sizeof arg, deadline_ns,
                        ret_child);
    }
    struct fibril__child *c;
    struct fibril_message *m;
    int rc = fibril__child_new(spec, /* simple= */ false, &c);
    if (rc < 0) {
        return rc;
    }
    rc = fibril_message_new(FIBRIL__ASK(FIBRIL__ASK_ADD), sizeof(struct fibril__child *),
                            &child_type, &m);
    if (rc < 0) {
        fibril__child_free(c);
        return rc;
    }
    *(struct fibril__child **)fibril_message_data(m) = c;
    return ask(supervisor, m, deadline_ns, ret_child);
}

int fibril_supervisor_end(uint64_t supervisor, const char *id, int64_t deadline_ns)
{
    return ask_with(supervisor, FIBRIL__ASK_END, id, strlen(id) + 1, deadline_ns, NULL);
}

int fibril_supervisor_end_child(uint64_t supervisor, uint64_t child, int64_t deadline_ns)
{
    return ask_with(supervisor, FIBRIL__ASK_END_ACTOR, &child, sizeof child, deadline_ns, NULL);
}

int fibril_supervisor_restart(uint64_t supervisor, const char *id, int64_t deadline_ns,
                              uint64_t *ret_child)
{
    return ask_with(supervisor, FIBRIL__ASK_RESTART, id, strlen(id) + 1, deadline_ns, ret_child);
}

int fibril_supervisor_remove(uint64_t supervisor, const char *id, int64_t deadline_ns)
{
    return ask_with(supervisor, FIBRIL__ASK_REMOVE, id, strlen(id) + 1, deadline_ns, NULL);
}

int fibril_supervisor_children(uint64_t supervisor, struct fibril_child *ret_children, size_t n,
                               int64_t deadline_ns, size_t *ret_n)
{
    struct fibril_message *m, *reply = NULL;
    int rc = fibril_message_new(FIBRIL__ASK(FIBRIL__ASK_CHILDREN), 0, NULL, &m);
    rc = rc == 0 ? fibril_actor_call(supervisor, m, deadline_ns, &reply) : rc;
    if (rc < 0) {
        return rc;
    }
    size_t all = fibril_message_size(reply) / sizeof(struct fibril_child);
    memcpy(ret_children, fibril_message_data(reply), (all < n ? all : n) * sizeof *ret_children);
    *ret_n = all;
    fibril_message_free(reply);
    return 0;
}
