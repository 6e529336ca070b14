/* SPDX-License-Identifier: MIT */
/*
 * The other process of test_node_process.c: it joins whoever started it, has an actor "echo" and as
 * many called "a0", "a1", ... as it is told by its argument, and ends when its node does.
 */
#include <fibril/node.h>

#include <stdio.h>
#include <stdlib.h>

enum { ECHO = 1, SWALLOW };

static int echoes(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    int rc;
    while ((rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
        if (fibril_message_tag(m) == SWALLOW) {
            fibril_message_free(m);
        } else {
            fibril_actor_reply(fibril_message_from(m), m);
        }
    }
    return rc;
}

static int work(void *arg)
{
    struct fibril_node_opts node_opts = {.name = "tester"};
    uint64_t node, ref;
    char name[16];
    int actors = *(int *)arg;
    int rc = fibril_actor_spawn(echoes, NULL, &(struct fibril_actor_opts){.name = "echo"}, NULL);
    for (int i = 0; rc == 0 && i < actors; i++) {
        struct fibril_actor_opts opts = {.name = name, .stack = FIBRIL_STACK_COPIED};
        snprintf(name, sizeof name, "a%d", i);
        rc = fibril_actor_spawn(echoes, NULL, &opts, NULL);
    }
    rc = rc == 0 ? fibril_worker_join(&node_opts, FIBRIL_FOREVER, &node) : rc;
    rc = rc == 0 ? fibril_actor_monitor(node, &ref) : rc;
    struct fibril_message *m;
    rc = rc == 0 ? fibril_actor_receive_tag(FIBRIL_TAG_DOWN, FIBRIL_FOREVER, &m) : rc;
    if (rc == 0) {
        fibril_message_free(m);
    }
    return rc;
}

int main(int argc, char **argv)
{
    int actors = argc > 1 ? (int)strtol(argv[1], NULL, 10) : 0;
    return fibril_run(NULL, work, &actors) == 0 ? 0 : 3;
}
