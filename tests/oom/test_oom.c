/* SPDX-License-Identifier: MIT */
/*
 * Every allocation of a scenario fails once, see walk.h.
 *
 * Scenarios clean up after themselves as a program would; what they call for that must not need
 * memory. A fibril with a copied stack cannot even wait without memory, so where such fibrils are
 * joined there is memory again.
 */
#include "walk.h"

#include <fibril/io.h>

#include <errno.h>
#include <string.h>

/* ---- fibrils ------------------------------------------------------------- */

static int nothing(void *arg)
{
    (void)arg;
    return 0;
}

TEST(a_run_of_nothing)
{
    walk(nothing, &walk_simulated, 1);
}

TEST(a_run_of_nothing_on_the_kernel)
{
    walk(nothing, &walk_real, 1);
}

static int answer(void *arg)
{
    fibril_yield();
    return *(int *)arg;
}

static int spawn_and_join(void *arg)
{
    static const struct fibril_spawn_opts kinds[] = {
        {.name = NULL},
        {.name = "named"},
        {.name = "large", .stack_bytes = 512 << 10},
        {.name = "copied", .stack = FIBRIL_STACK_COPIED},
        {.stack = FIBRIL_STACK_COPIED},
        {.name = "daemon", .daemon = true},
    };
    enum { KINDS = sizeof kinds / sizeof *kinds, N = 3 * KINDS };
    struct fibril *f[N] = {NULL};
    static int value;
    int rc = 0;
    (void)arg;
    value = 41;
    for (int i = 0; i < N; i++) {
        TRY(fibril_spawn(answer, &value, &kinds[i % KINDS], &f[i]));
    }
out:
    if (rc < 0) {
        grant();
    }
    for (int i = 0; i < N; i++) {
        int result = 0;
        if (f[i]) {
            int joined = fibril_join(f[i], FIBRIL_FOREVER, &result);
            ASSERT(joined == 0 || joined == -ENOMEM);
            if (joined < 0) {
                rc = joined;
                grant();
                ASSERT_OK(fibril_join(f[i], FIBRIL_FOREVER, &result));
            }
            ASSERT_EQ(result, 41);
        }
    }
    return rc;
}

TEST(spawning_and_joining)
{
    walk(spawn_and_join, &walk_simulated, 5);
}

static int sleeps(void *arg)
{
    (void)arg;
    return fibril_sleep(1000000);
}

static int sleep_all(void *arg)
{
    enum { N = 200 };
    struct fibril *f[N] = {NULL};
    int rc = 0;
    (void)arg;
    for (int i = 0; i < N; i++) {
        TRY(fibril_spawn(sleeps, NULL, NULL, &f[i]));
    }
out:
    for (int i = 0; i < N; i++) {
        int result;
        if (f[i]) {
            ASSERT_OK(fibril_join(f[i], FIBRIL_FOREVER, &result));
            rc = rc ? rc : result;
        }
    }
    return rc;
}

TEST(deadlines)
{
    walk(sleep_all, &walk_simulated, 2);
}

static void count_one(void *arg)
{
    ++*(int *)arg;
}

static int keeps_things(void *arg)
{
    static unsigned key;
    static bool made;
    static int exits;
    int rc = 0;
    (void)arg;
    if (!made) {
        ASSERT_OK(fibril_key_new(NULL, &key));
        made = true;
    }
    TRY(fibril_local_set(key, &exits));
    TRY(fibril_set_name(fibril_current(), "keeper"));
    TRY(fibril_at_exit(count_one, &exits));
    TRY(fibril_at_exit(count_one, &exits));
    ASSERT_EQ(fibril_local_get(key), &exits);
out:
    return rc;
}

static int in_another(void *arg)
{
    struct fibril *f;
    int result, rc = fibril_spawn(keeps_things, arg, NULL, &f);
    if (rc < 0) {
        return rc;
    }
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    return result;
}

TEST(names_locals_and_exit_handlers)
{
    walk(keeps_things, &walk_simulated, 4);
    walk(in_another, &walk_simulated, 4);
}

static int scopes(void *arg)
{
    struct fibril_scope *scope;
    int rc = fibril_scope_open(&scope);
    (void)arg;
    if (rc < 0) {
        return rc;
    }
    for (int i = 0; i < 4; i++) {
        TRY(fibril_scope_spawn(scope, sleeps, NULL,
                               i % 2 ? &(struct fibril_spawn_opts){.name = "x"} : NULL));
    }
out:;
    int closed = fibril_scope_close(scope, FIBRIL_FOREVER);
    return rc ? rc : closed;
}

TEST(scopes_of_fibrils)
{
    walk(scopes, &walk_simulated, 5);
}

/* ---- sync ---------------------------------------------------------------- */

struct pair {
    struct fibril_chan *there, *back;
};

static int echo_numbers(void *arg)
{
    struct pair *p = arg;
    uint64_t n[4];
    int rc;
    while ((rc = fibril_chan_recv(p->there, n, FIBRIL_FOREVER)) == 0) {
        rc = fibril_chan_send(p->back, n, FIBRIL_FOREVER);
        if (rc < 0) {
            break;
        }
    }
    fibril_chan_close(p->back);
    return rc == -EPIPE ? 0 : rc;
}

static int channels(void *arg, unsigned flags, size_t capacity)
{
    struct pair p = {NULL, NULL};
    struct fibril *f = NULL;
    uint64_t n[4] = {0};
    int rc = 0, result = 0;
    (void)arg;
    TRY(fibril_chan_new(sizeof n, capacity, flags, &p.there));
    TRY(fibril_chan_new(sizeof n, capacity, flags, &p.back));
    TRY(fibril_spawn(echo_numbers, &p, NULL, &f));
    for (uint64_t i = 0; i < 20; i++) {
        n[3] = i;
        TRY(fibril_chan_send(p.there, n, FIBRIL_FOREVER));
        TRY(fibril_chan_recv(p.back, n, FIBRIL_FOREVER));
        ASSERT_EQ(n[3], i);
    }
out:
    if (f) {
        fibril_chan_close(p.there);
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    }
    fibril_chan_free(p.there);
    fibril_chan_free(p.back);
    /* The peer saw the end of the memory before we did: its channel ended. */
    return result < 0 ? result : rc;
}

static int plain_channels(void *arg)
{
    return channels(arg, 0, 0);
}

static int buffered_channels(void *arg)
{
    return channels(arg, 0, 3);
}

static int shared_channels(void *arg)
{
    return channels(arg, FIBRIL_SHARED, 0);
}

TEST(channels_of_each_kind)
{
    walk(plain_channels, &walk_simulated, 3);
    walk(buffered_channels, &walk_simulated, 5);
    walk(shared_channels, &walk_simulated, 5);
}

static int select_many(void *arg)
{
    enum { N = 40 };
    struct fibril_chan *chans[N] = {NULL};
    struct fibril_case cases[N] = {{.op = FIBRIL_CASE_RECV}};
    uint64_t data[N];
    int rc = 0;
    (void)arg;
    for (int i = 0; i < N; i++) {
        TRY(fibril_chan_new(8, 0, i % 2 ? FIBRIL_SHARED : 0, &chans[i]));
        cases[i] = (struct fibril_case){
            .op = i % 3 ? FIBRIL_CASE_RECV : FIBRIL_CASE_SEND, .chan = chans[i], .elem = &data[i]};
    }
    rc = fibril_select(cases, N, fibril_after(1000));
    rc = rc == -ETIMEDOUT ? 0 : rc;
    ASSERT(rc == 0 || rc == -ENOMEM);
out:
    for (int i = 0; i < N; i++) {
        fibril_chan_free(chans[i]);
    }
    return rc;
}

TEST(a_large_select)
{
    walk(select_many, &walk_simulated, 41);
}

static int sync_objects(void *arg)
{
    struct fibril_mutex *mutex = NULL;
    struct fibril_rwlock *rwlock = NULL;
    struct fibril_cond *cond = NULL;
    struct fibril_sem *sem = NULL;
    struct fibril_event *event = NULL;
    struct fibril_group *group = NULL;
    struct fibril_barrier *barrier = NULL;
    int rc = 0;
    (void)arg;
    TRY(fibril_mutex_new(FIBRIL_RECURSIVE, &mutex));
    TRY(fibril_rwlock_new(0, &rwlock));
    TRY(fibril_cond_new(0, &cond));
    TRY(fibril_sem_new(1, 0, &sem));
    TRY(fibril_event_new(0, &event));
    TRY(fibril_group_new(0, &group));
    TRY(fibril_barrier_new(2, 0, &barrier));
    TRY(fibril_mutex_lock(mutex, FIBRIL_FOREVER));
    rc = fibril_cond_wait(cond, mutex, fibril_after(1000));
    ASSERT(rc == -ETIMEDOUT || rc == -ENOMEM);
    rc = rc == -ETIMEDOUT ? 0 : rc;
    ASSERT_OK(fibril_mutex_unlock(mutex)); /* it is ours again, whatever failed */
out:
    fibril_mutex_free(mutex);
    fibril_rwlock_free(rwlock);
    fibril_cond_free(cond);
    fibril_sem_free(sem);
    fibril_event_free(event);
    fibril_group_free(group);
    fibril_barrier_free(barrier);
    return rc;
}

TEST(objects_of_sync)
{
    walk(sync_objects, &walk_simulated, 8);
}

/* ---- input and output ---------------------------------------------------- */

struct server {
    int listener;
};

static int serve_one(void *arg)
{
    struct server *s = arg;
    char buf[100];
    int rc = 0, fd = fibril_accept(s->listener, NULL, FIBRIL_FOREVER);
    if (fd < 0) {
        return fd == -EBADF ? 0 : fd;
    }
    for (;;) {
        ssize_t n = fibril_recv(fd, buf, sizeof buf, 0, FIBRIL_FOREVER);
        if (n <= 0) {
            rc = (int)n;
            break;
        }
        TRY(fibril_write_all(fd, buf, (size_t)n, FIBRIL_FOREVER));
    }
out:
    fibril_close(fd);
    return rc;
}

/* An error that is only the echo of the other side's is not the one to tell. */
static int worse(int a, int b)
{
    return a == -ENOMEM || b == -ENOMEM ? -ENOMEM : a < 0 ? a : b;
}

static int echo(void *arg)
{
    struct fibril_addr addr;
    struct server server = {-1};
    struct fibril *f = NULL;
    char buf[300] = "";
    int rc = 0, result = 0, fd = -1;
    (void)arg;
    TRY(fibril_addr_parse("127.0.0.1:0", &addr));
    TRY(server.listener = fibril_listen(&addr, 5, 0));
    TRY(fibril_addr_local(server.listener, &addr));
    TRY(fibril_spawn(serve_one, &server, NULL, &f));
    TRY(fd = fibril_connect(&addr, fibril_after(10000000000)));
    for (int i = 0; i < 3; i++) {
        TRY(fibril_write_all(fd, buf, sizeof buf, fibril_after(10000000000)));
        TRY(fibril_read_all(fd, buf, sizeof buf, fibril_after(10000000000)));
    }
out:
    if (fd >= 0) {
        fibril_close(fd);
    }
    if (server.listener >= 0) {
        fibril_close(server.listener);
    }
    if (f) {
        ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, &result));
    }
    return worse(result, rc);
}

TEST(an_echo_over_the_simulation)
{
    walk(echo, &walk_simulated, 10);
}

TEST(an_echo_over_the_kernel)
{
    walk(echo, &walk_real, 3);
}

static int lines(void *arg)
{
    struct fibril_reader *reader = NULL;
    int rc = 0, fds[2] = {-1, -1};
    const char *line;
    (void)arg;
    TRY(fibril_pipe(fds));
    TRY(fibril_reader_new(fds[0], 64, &reader));
    TRY(fibril_write_all(fds[1], "one\ntwo\n", 8, FIBRIL_FOREVER));
    TRY(fibril_read_until(reader, "\n", 1, &line, fibril_after(1000000000)));
    TRY(fibril_read_until(reader, "\n", 1, &line, fibril_after(1000000000)));
    ASSERT_MEM(line, "two\n", 4);
out:
    fibril_reader_free(reader);
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            fibril_close(fds[i]);
        }
    }
    return rc;
}

TEST(lines_from_a_pipe)
{
    walk(lines, &walk_simulated, 4);
    walk(lines, &walk_real, 1);
}

static int add_one(void *arg)
{
    ++*(int *)arg;
    return 0;
}

static int offload_one(void *arg)
{
    static int value;
    (void)arg;
    value = 0;
    int rc = fibril_offload(add_one, &value, FIBRIL_FOREVER);
    ASSERT_EQ(value, rc == 0);
    return rc;
}

TEST(an_offloaded_call)
{
    walk(offload_one, &walk_real, 1);
    walk(offload_one, &walk_simulated, 1);
}
