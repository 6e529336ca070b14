/* SPDX-License-Identifier: MIT */
/*
 * Behaviours together: clients query a shaky service through a pool of connections, which are
 * servers. A circuit breaker, a state machine, holds the clients back after three failures in a
 * row; who asks it meanwhile is postponed, not refused. A bus counts what happens. All of it hangs
 * in one supervision tree, and every query is answered in the end.
 */
#include <fibril/bus.h>
#include <fibril/machine.h>
#include <fibril/pool.h>
#include <fibril/supervisor.h>

#include <errno.h>
#include <stdio.h>

#define MS 1000000LL
enum { CLIENTS = 8, QUERIES = 25, PATIENCE = 3 };
enum { QUERY = 1, MAY_I, WENT_WELL, WENT_WRONG, OPENED };

/* ---- a connection: a worker ---- */

static int asked; /* of the service, by all */

/* The service loses one connection in 17 queries, and is away for ten of them. */
static int on_query(struct fibril_server *s, void *state, struct fibril_message *m)
{
    long *answered = state;

    asked++;
    if (asked % 17 == 0 || (asked >= 100 && asked < 110)) {
        return -ECONNRESET;
    }
    fibril_sleep(MS / 10);
    ++*answered;
    return fibril_server_reply(fibril_message_from(m), answered, sizeof *answered);
}

static const struct fibril_server_type connection = {
    .name = "connection", .state_bytes = sizeof(long), .call = on_query};

/* ---- the breaker: a machine ---- */

enum { CLOSED, OPEN, HALF_OPEN };

struct breaker {
    int failures; /* in a row */
    bool trying;  /* HALF_OPEN: somebody has been let through */
};

static int let(const struct fibril_happening *h)
{
    return fibril_server_reply(fibril_message_from(h->message), NULL, 0);
}

static int open_up(struct fibril_machine *m)
{
    uint64_t bus = fibril_actor_whereis("events");
    int rc = fibril_server_cast(bus, OPENED, NULL, 0, fibril_after(100 * MS));

    fibril_machine_go(m, OPEN);
    fibril_machine_state_timeout(m, 2 * MS);
    return rc;
}

static int closed(struct fibril_machine *m, void *data, const struct fibril_happening *h)
{
    struct breaker *b = data;

    switch (h->tag) {
    case MAY_I: return let(h);
    case WENT_WELL: b->failures = 0; return 0;
    case WENT_WRONG: return ++b->failures < PATIENCE ? 0 : open_up(m);
    default: return FIBRIL_UNHANDLED;
    }
}

static int open(struct fibril_machine *m, void *data, const struct fibril_happening *h)
{
    struct breaker *b = data;

    if (h->kind == FIBRIL_HAPPENS_STATE_TIMEOUT) {
        b->trying = false;
        fibril_machine_go(m, HALF_OPEN);
    } else if (h->tag == MAY_I) {
        fibril_machine_postpone(m);
    } /* else news of those that were let through before */
    return 0;
}

static int half_open(struct fibril_machine *m, void *data, const struct fibril_happening *h)
{
    struct breaker *b = data;

    switch (h->tag) {
    case MAY_I:
        if (b->trying) {
            fibril_machine_postpone(m);
            return 0;
        }
        b->trying = true;
        return let(h);
    case WENT_WELL:
        b->failures = 0;
        fibril_machine_go(m, CLOSED);
        return 0;
    case WENT_WRONG: return open_up(m);
    default: return FIBRIL_UNHANDLED;
    }
}

static int start_breaker(void *arg, const struct fibril_actor_opts *opts, uint64_t *ret_actor)
{
    static const struct fibril_machine_state states[] = {
        [CLOSED] = {.name = "closed", .happens = closed},
        [OPEN] = {.name = "open", .happens = open},
        [HALF_OPEN] = {.name = "half open", .happens = half_open}};
    static const struct fibril_machine_type breaker = {
        .name = "breaker", .data_bytes = sizeof(struct breaker), .states = states, .n_states = 3};

    return fibril_machine_start(&breaker, arg, opts, FIBRIL_FOREVER, ret_actor);
}

/* ---- what is counted ---- */

static int count(void *state, const struct fibril_message *event)
{
    long **counter = state;

    ++**counter;
    return 0;
}

static int count_into(void *state, void *arg)
{
    *(long **)state = arg;
    return 0;
}

static const struct fibril_handler_type counting = {
    .name = "counting", .state_bytes = sizeof(long *), .init = count_into, .event = count};

/* ---- the clients ---- */

static int query(void)
{
    uint64_t breaker = fibril_actor_whereis("breaker");
    struct fibril_message *m, *reply;
    int rc = fibril_server_call(breaker, MAY_I, NULL, 0, FIBRIL_FOREVER, NULL, 0);

    if (rc < 0) {
        return rc;
    }
    rc = fibril_message_new(QUERY, 0, NULL, &m);
    if (rc == 0) {
        rc = fibril_pool_call(fibril_actor_whereis("connections"), m, fibril_after(1000 * MS),
                              &reply);
    }
    if (rc == 0) {
        fibril_message_free(reply);
    }
    fibril_server_cast(breaker, rc == 0 ? WENT_WELL : WENT_WRONG, NULL, 0, FIBRIL_FOREVER);
    return rc;
}

static int client(void *arg)
{
    int *again = arg;

    for (int i = 0; i < QUERIES;) {
        int rc = query();
        if (rc == 0) {
            i++;
        } else if (rc == -EPIPE) {
            ++*again;
        } else {
            return rc;
        }
    }
    return 0;
}

static int run_clients(int *again)
{
    struct fibril_scope *scope;
    int rc = fibril_scope_open(&scope);

    for (int i = 0; rc == 0 && i < CLIENTS; i++) {
        rc = fibril_scope_spawn(scope, client, again, NULL);
    }
    int ended = fibril_scope_close(scope, FIBRIL_FOREVER);
    return rc < 0 ? rc : ended;
}

/* ---- the tree ---- */

static int start_tree(uint64_t *ret_tree)
{
    static struct fibril_pool_spec connections = {
        .server = &connection, .size = 3, .overflow = 1, .pause_ns = MS};
    struct fibril_child_spec children[] = {
        {.id = "events", .start = fibril_bus_child, .opts = {.name = "events"}},
        {.id = "breaker", .start = start_breaker, .opts = {.name = "breaker"}},
        {.id = "connections",
         .start = fibril_pool_child,
         .arg = &connections,
         .opts = {.name = "connections"}}};
    struct fibril_supervisor_spec tree = {
        .strategy = FIBRIL_REST_FOR_ONE, .children = children, .n_children = 3};

    return fibril_supervisor_start(&tree, NULL, ret_tree);
}

/* What a connection's end says is known here: it is a part of the play. */
static void be_quiet(const struct fibril_actor_report *report)
{
    (void)report;
}

static int run(void *arg)
{
    uint64_t tree;
    static long opened;
    int again = 0;
    struct fibril_pool_status status = {0};

    (void)arg;
    fibril_actor_on_trouble(be_quiet);
    int rc = start_tree(&tree);
    if (rc == 0) {
        rc = fibril_bus_add(fibril_actor_whereis("events"), "counter", &counting, &opened,
                            /* owned= */ false, FIBRIL_FOREVER);
    }
    rc = rc == 0 ? run_clients(&again) : rc;
    if (rc == 0) {
        rc = fibril_pool_status(fibril_actor_whereis("connections"), FIBRIL_FOREVER, &status);
    }
    if (rc < 0) {
        return rc;
    }
    printf("%d queries answered, %d of them not at the first attempt\n", CLIENTS * QUERIES, again);
    printf("%llu connections were lost, the breaker opened %ld times\n",
           (unsigned long long)status.died, opened);
    return opened > 0 && status.died > 0 ? 0 : -EPROTO;
}

int main(void)
{
    return fibril_run(NULL, run, NULL) < 0;
}
