/* SPDX-License-Identifier: MIT */
/*
 * A worker process under a supervisor: it counts for us, is killed in the middle, and is replaced.
 * The program starts itself as its worker. Who calls learns of the loss from the call, asks for the
 * name again and goes on with the new one.
 */
#include <fibril/node.h>
#include <fibril/supervisor.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

#define MS 1000000LL

enum { ADD = 1, DIE };

/* ---- the worker ---- */

static int counter(void *arg)
{
    (void)arg;
    struct fibril_message *m;
    long sum = 0;
    int rc;
    while ((rc = fibril_actor_receive(FIBRIL_FOREVER, &m)) == 0) {
        long n;
        if (fibril_message_tag(m) == DIE) {
            raise(SIGKILL);
        }
        if (fibril_message_size(m) != sizeof n) {
            fibril_actor_refuse(fibril_message_from(m), -EINVAL);
            fibril_message_free(m);
            continue;
        }
        memcpy(&n, fibril_message_data(m), sizeof n);
        sum += n;
        memcpy(fibril_message_data(m), &sum, sizeof sum);
        fibril_actor_reply(fibril_message_from(m), m);
    }
    return rc;
}

static int work(void *arg)
{
    (void)arg;
    uint64_t node, ref;
    struct fibril_message *m;
    int rc =
        fibril_actor_spawn(counter, NULL, &(struct fibril_actor_opts){.name = "counter"}, NULL);
    rc = rc == 0 ? fibril_worker_join(NULL, fibril_after(10000 * MS), &node) : rc;
    rc = rc == 0 ? fibril_actor_monitor(node, &ref) : rc;
    rc = rc == 0 ? fibril_actor_receive(FIBRIL_FOREVER, &m) : rc; /* until the node ends */
    if (rc == 0) {
        fibril_message_free(m);
    }
    return rc;
}

/* ---- who uses it ---- */

/* The counter of the worker that there is now. */
static int find(uint64_t *ret_counter)
{
    int64_t deadline_ns = fibril_after(20000 * MS);
    while (fibril_now() < deadline_ns) {
        uint64_t node = fibril_actor_whereis("worker");
        int rc = node ? fibril_actor_whereis_at(node, "counter", deadline_ns, ret_counter) : -ESRCH;
        if (rc == 0 && *ret_counter) {
            return 0;
        }
        if (fibril_sleep(10 * MS) < 0) {
            return -ECANCELED;
        }
    }
    return -ETIMEDOUT;
}

static int call(uint64_t tag, long n, long *ret_sum)
{
    uint64_t actor;
    struct fibril_message *m, *reply;
    int rc = find(&actor);
    rc = rc == 0 ? fibril_message_of(tag, &n, sizeof n, &m) : rc;
    rc = rc == 0 ? fibril_actor_call(actor, m, fibril_after(10000 * MS), &reply) : rc;
    if (rc == 0) {
        memcpy(ret_sum, fibril_message_data(reply), sizeof *ret_sum);
        fibril_message_free(reply);
    }
    return rc;
}

static int count(long *ret_sum)
{
    int rc = 0;
    for (long i = 1; rc == 0 && i <= 100; i++) {
        rc = call(ADD, i, ret_sum);
    }
    printf("sum: %ld\n", *ret_sum);
    return rc;
}

static int boss(void *arg)
{
    const char *const argv[] = {arg, "--worker", NULL};
    struct fibril_worker_opts worker = {.argv = argv, .name = "worker"};
    const struct fibril_child_spec children[] = {
        {.id = "worker", .fn = fibril_worker_run, .arg = &worker}};
    struct fibril_supervisor_spec tree = {.intensity = 5, .children = children, .n_children = 1};
    uint64_t top, ref;
    long first = 0, second = 0, none;
    struct fibril_message *m;
    int rc = fibril_supervisor_start(&tree, NULL, &top);
    rc = rc == 0 ? count(&first) : rc;
    if (rc == 0) {
        printf("the worker is killed: %s\n", strerror(-call(DIE, 0, &none)));
        rc = count(&second);
    }
    rc = rc == 0 ? fibril_actor_monitor(top, &ref) : rc;
    rc = rc == 0 ? fibril_actor_exit(top, FIBRIL_EXIT_SHUTDOWN) : rc;
    rc = rc == 0 ? fibril_actor_receive(fibril_after(20000 * MS), &m) : rc;
    if (rc == 0) {
        fibril_message_free(m);
    }
    return rc == 0 && (first != 5050 || second != 5050) ? -EIO : rc;
}

int main(int argc, char **argv)
{
    static char self[] = "/proc/self/exe";
    int rc = fibril_run(NULL, argc > 1 && strcmp(argv[1], "--worker") == 0 ? work : boss, self);
    if (rc < 0) {
        fprintf(stderr, "workers: %s\n", strerror(-rc));
    }
    return rc < 0;
}
