/* SPDX-License-Identifier: MIT */
/* Actors in the child of a fork: there is the caller alone, and it can go on. */
#include "rig.h"

#include <fibril/embed.h>

#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOON fibril_after(MS(10000))

static int echo(void *arg)
{
    struct fibril_message *m;
    (void)arg;
    while (fibril_actor_receive(FIBRIL_FOREVER, &m) == 0) {
        fibril_actor_reply(fibril_message_from(m), m);
    }
    return 0;
}

/* Runs body in a child; returns whether it said so. */
static bool in_child(bool (*body)(uint64_t other), uint64_t other)
{
    int status;
    pid_t pid = fork();
    ASSERT_OK(pid);
    if (pid == 0) {
        _exit(fibril_embed_forked() == 0 && body(other) ? 0 : 1);
    }
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    return status == 0;
}

static void run_real(fibril_fn *fn)
{
    fibril_actor_on_trouble(note_nothing);
    ASSERT_OK(fibril_run(NULL, fn, NULL));
}

#define FORK_TEST(test_name)                                                                       \
    static int fork_body_##test_name(void *arg);                                                   \
    TEST(test_name)                                                                                \
    {                                                                                              \
        run_real(fork_body_##test_name);                                                           \
    }                                                                                              \
    static int fork_body_##test_name(void *arg UNUSED_ARG)

static bool others_are_gone(uint64_t other)
{
    uint64_t ref;
    struct fibril_message *m;
    bool gone = !fibril_actor_alive(other) && fibril_actor_whereis("other") == 0 &&
                fibril_topic_members("topic", NULL, 0) == 0 &&
                fibril_actor_monitor(other, &ref) == 0 && fibril_actor_receive(SOON, &m) == 0 &&
                fibril_message_tag(m) == FIBRIL_TAG_DOWN;
    struct fibril_actor_info info;
    return gone && fibril_actor_whereis("me") == fibril_actor_self() &&
           fibril_actor_info(fibril_actor_self(), &info) == 0 && info.links == 0;
}

FORK_TEST(the_others_are_gone_and_the_caller_keeps_its_number_and_name)
{
    uint64_t other = spawn(idle, NULL);
    ASSERT_OK(fibril_actor_register(other, "other"));
    ASSERT_OK(fibril_topic_join("topic", other));
    ASSERT_OK(fibril_actor_register(fibril_actor_self(), "me"));
    ASSERT_OK(fibril_actor_link(other));
    ASSERT(in_child(others_are_gone, other));
    ASSERT(fibril_actor_alive(other));
    ASSERT_EQ(fibril_actor_whereis("other"), other);
    ASSERT_OK(fibril_actor_unlink(other));
    return 0;
}

static bool new_ones_work(uint64_t before)
{
    uint64_t actor = 0;
    struct fibril_message *m = NULL, *reply = NULL;
    for (int i = 0; i < 3000; i++) { /* further than the caller's part of the table */
        if (fibril_actor_spawn(echo, NULL, NULL, &actor) < 0 || actor <= before ||
            fibril_message_of(1, &i, sizeof i, &m) < 0 ||
            fibril_actor_call(actor, m, SOON, &reply) < 0 ||
            *(const int *)fibril_message_peek(reply) != i) {
            return false;
        }
        fibril_message_free(reply);
    }
    return fibril_message_new(7, 0, NULL, &m) == 0 &&
           fibril_actor_send_at(fibril_actor_self(), m, fibril_after(MS(5)), 0, NULL) == 0 &&
           fibril_actor_receive_tag(7, SOON, &m) == 0;
}

FORK_TEST(new_actors_and_timers_work_and_numbers_are_new)
{
    uint64_t other = spawn(idle, NULL);
    struct fibril_message *m;
    ASSERT_OK(fibril_message_new(7, 0, NULL, &m));
    ASSERT_OK(fibril_actor_send_at(other, m, fibril_after(MS(10000)), 0, NULL));
    ASSERT(in_child(new_ones_work, other));
    return 0;
}

static int in_actor(void *arg)
{
    uint64_t *ret_status = arg;
    *ret_status = in_child(new_ones_work, fibril_actor_self()) ? 1 : 2;
    return 0;
}

FORK_TEST(an_actor_can_fork_and_end_in_both)
{
    uint64_t status = 0;
    struct fibril_message *m;
    struct fibril_actor_opts opts = {.ret_monitor = &(uint64_t){0}};
    ASSERT_OK(fibril_actor_spawn(in_actor, &status, &opts, NULL));
    ASSERT_OK(fibril_actor_receive(SOON, &m));
    fibril_message_free(m);
    ASSERT_EQ(status, 1);
    return 0;
}

static int child_main(void *unused)
{
    (void)unused;
    return new_ones_work(1) ? 0 : 1;
}

static void *thread_forks(void *arg)
{
    int *ret_status = arg;
    pid_t pid = fork();
    if (pid == 0) {
        _exit(fibril_run(NULL, child_main, NULL));
    }
    waitpid(pid, ret_status, 0);
    return NULL;
}

FORK_TEST(in_the_child_of_another_os_thread_a_runtime_with_actors_can_be_started)
{
    pthread_t thread;
    int status = -1;
    spawn(idle, NULL);
    fibril_yield();
    ASSERT_EQ(pthread_create(&thread, NULL, thread_forks, &status), 0);
    pthread_join(thread, NULL);
    ASSERT_EQ(status, 0);
    return 0;
}
