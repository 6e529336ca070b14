/* SPDX-License-Identifier: MIT */
/*
 * Two real processes: worker processes that are killed, leave and are replaced, and what becomes of
 * links, monitors and calls then.
 */
#include "rig.h"

#include <fibril/embed.h>
#include <fibril/node.h>
#include <fibril/supervisor.h>

#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

enum { ECHO = 1, SWALLOW };

static void run_process(fibril_fn *body)
{
    fibril_actor_on_trouble(note_nothing);
    ASSERT_OK(fibril_run(NULL, body, NULL));
    struct fibril_actor_counts counts;
    fibril_actor_counts(&counts);
    ASSERT_EQ(counts.spawned, counts.ended);
}

#define PROCESS_TEST(test_name)                                                                    \
    static int process_body_##test_name(void *arg);                                                \
    TEST_WITHIN(test_name, 60)                                                                     \
    {                                                                                              \
        run_process(process_body_##test_name);                                                     \
    }                                                                                              \
    static int process_body_##test_name(void *arg UNUSED_ARG)

static const char *const plain[] = {NODE_WORKER, NULL};
static const char *const crowded[] = {NODE_WORKER, "1000", NULL};

static uint64_t start(const char *const *argv)
{
    struct fibril_worker_opts opts = {.argv = argv, .start_ns = FIBRIL_FOREVER};
    uint64_t node;
    ASSERT_OK(fibril_worker_start(&opts, FIBRIL_FOREVER, &node));
    return node;
}

static uint64_t find(uint64_t node, const char *name)
{
    uint64_t actor;
    ASSERT_OK(fibril_actor_whereis_at(node, name, FIBRIL_FOREVER, &actor));
    ASSERT_NE(actor, 0);
    return actor;
}

static void kill_worker(uint64_t node)
{
    struct fibril_node_info info;
    ASSERT_OK(fibril_node_info(node, &info));
    ASSERT_NE(info.pid, getpid());
    ASSERT_EQ(kill(info.pid, SIGKILL), 0);
}

static struct fibril_message *next(uint64_t tag)
{
    struct fibril_message *m;
    ASSERT_OK(fibril_actor_receive_tag(tag, FIBRIL_FOREVER, &m));
    return m;
}

static void down(uint64_t ref, int reason)
{
    struct fibril_message *m = next(FIBRIL_TAG_DOWN);
    const struct fibril_signal *s = fibril_message_data(m);
    ASSERT_EQ(s->ref, ref);
    ASSERT_EQ(s->reason, reason);
    fibril_message_free(m);
}

static void calls(uint64_t echo, int n)
{
    for (int i = 0; i < n; i++) {
        struct fibril_message *reply;
        ASSERT_OK(fibril_actor_call(echo, note(ECHO, i), FIBRIL_FOREVER, &reply));
        ASSERT_EQ(value_of(reply), i);
        fibril_message_free(reply);
    }
}

PROCESS_TEST(a_worker_answers_and_ends_with_its_node)
{
    uint64_t ref, node = start(plain), echo = find(node, "echo"), nobody;
    calls(echo, 1000);
    ASSERT_OK(fibril_actor_whereis_at(node, "nobody", FIBRIL_FOREVER, &nobody));
    ASSERT_EQ(nobody, 0);
    ASSERT_OK(fibril_actor_monitor(node, &ref));
    ASSERT_OK(fibril_node_leave(node));
    down(ref, FIBRIL_EXIT_SHUTDOWN);
    ASSERT(!fibril_actor_alive(echo));
    return 0;
}

static int waits_for_ever(void *arg)
{
    struct fibril_message *reply;
    int rc = fibril_actor_call(*(uint64_t *)arg, note(SWALLOW, 1), FIBRIL_FOREVER, &reply);
    ASSERT_ERR(rc, -EPIPE);
    return rc;
}

PROCESS_TEST(a_worker_that_is_killed_is_noticed_by_all)
{
    uint64_t refs[3], node = start(plain);
    static uint64_t echo;
    struct fibril *caller;
    int rc;
    echo = find(node, "echo");
    fibril_actor_trap_exits(true);
    ASSERT_OK(fibril_actor_link(echo));
    ASSERT_OK(fibril_actor_monitor(echo, &refs[0]));
    ASSERT_OK(fibril_spawn(waits_for_ever, &echo, NULL, &caller));
    calls(echo, 1); /* the one before has arrived too */
    kill_worker(node);
    ASSERT_OK(fibril_join(caller, FIBRIL_FOREVER, &rc));
    ASSERT_EQ(rc, -EPIPE);
    down(refs[0], FIBRIL_EXIT_NOCONNECTION);
    struct fibril_message *m = next(FIBRIL_TAG_EXIT);
    const struct fibril_signal *s = fibril_message_data(m);
    ASSERT_EQ(s->actor, echo);
    ASSERT_EQ(s->reason, FIBRIL_EXIT_NOCONNECTION);
    fibril_message_free(m);
    /* The next one is another, with other numbers. */
    node = start(plain);
    ASSERT_NE(find(node, "echo"), echo);
    ASSERT(!fibril_actor_alive(echo));
    calls(find(node, "echo"), 10);
    return 0;
}

static int linked;

static int links_to(void *arg)
{
    uint64_t other = *(uint64_t *)arg;
    struct fibril_message *m;
    fibril_actor_trap_exits(true);
    ASSERT_OK(fibril_actor_link(other));
    linked++;
    int rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
    if (rc < 0) {
        return rc;
    }
    const struct fibril_signal *s = fibril_message_data(m);
    ASSERT_EQ(s->actor, other);
    rc = s->reason;
    fibril_message_free(m);
    return rc;
}

PROCESS_TEST(a_thousand_actors_linked_across_hear_of_the_end)
{
    enum { N = 1000 };
    static uint64_t others[N], refs[N];
    uint64_t node = start(crowded), actor;
    for (int i = 0; i < N; i++) {
        char name[16];
        struct fibril_actor_opts opts = {.stack = FIBRIL_STACK_COPIED, .ret_monitor = &refs[i]};
        snprintf(name, sizeof name, "a%d", i);
        others[i] = find(node, name);
        ASSERT_OK(fibril_actor_spawn(links_to, &others[i], &opts, &actor));
    }
    while (linked < N) {
        fibril_yield();
    }
    calls(find(node, "echo"), 1);
    kill_worker(node);
    for (int i = 0; i < N; i++) {
        struct fibril_message *m = next(FIBRIL_TAG_DOWN);
        ASSERT_EQ(((struct fibril_signal *)fibril_message_data(m))->reason,
                  FIBRIL_EXIT_NOCONNECTION);
        fibril_message_free(m);
    }
    return 0;
}

PROCESS_TEST(a_supervisor_replaces_a_worker_that_was_killed)
{
    static struct fibril_worker_opts worker = {
        .argv = plain, .name = "worker", .start_ns = FIBRIL_FOREVER};
    static const struct fibril_child_spec children[] = {
        {.id = "worker", .fn = fibril_worker_run, .arg = &worker}};
    struct fibril_supervisor_spec spec = {.intensity = 10, .children = children, .n_children = 1};
    uint64_t supervisor, node, before = 0;
    ASSERT_OK(fibril_supervisor_start(&spec, NULL, &supervisor));
    for (int i = 0; i < 3; i++) {
        while ((node = fibril_actor_whereis("worker")) == 0 || node == before) {
            ASSERT_OK(fibril_sleep(MS(1)));
        }
        before = node;
        calls(find(node, "echo"), 10);
        kill_worker(node);
    }
    ASSERT_OK(fibril_actor_exit(supervisor, FIBRIL_EXIT_SHUTDOWN));
    return 0;
}

PROCESS_TEST(a_program_that_is_no_worker_is_an_error_at_once)
{
    static const char *const stranger[] = {"true", NULL}, *const none[] = {"/nonexistent", NULL};
    struct fibril_worker_opts opts = {.argv = stranger};
    uint64_t node;
    ASSERT_ERR(fibril_worker_start(&opts, FIBRIL_FOREVER, &node), -EPIPE);
    opts.argv = none;
    ASSERT_ERR(fibril_worker_start(&opts, FIBRIL_FOREVER, &node), -ENOENT);
    ASSERT_ERR(fibril_worker_join(NULL, FIBRIL_FOREVER, &node), -ENOTCONN);
    return 0;
}

PROCESS_TEST(the_child_of_a_fork_has_no_nodes)
{
    uint64_t node = start(plain), echo = find(node, "echo");
    pid_t pid = fork();
    ASSERT_OK(pid);
    if (pid == 0) {
        uint64_t ref;
        bool good = fibril_embed_forked() == 0 && !fibril_actor_alive(node) &&
                    !fibril_actor_alive(echo) && fibril_actor_monitor(echo, &ref) == 0;
        struct fibril_message *m;
        good = good && fibril_actor_receive(FIBRIL_FOREVER, &m) == 0;
        _exit(good && fibril_message_tag(m) == FIBRIL_TAG_DOWN ? 0 : 1);
    }
    int status;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ASSERT_EQ(status, 0);
    calls(echo, 10); /* its socket is still ours */
    return 0;
}
