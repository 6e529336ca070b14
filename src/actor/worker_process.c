/* SPDX-License-Identifier: MIT */
/*
 * Worker processes: started with one end of a socket pair as descriptor 3, and told so in the
 * environment. Each has an actor here that lives as long as the process does, and sees to it that
 * the process ends when its node has: a worker that nobody can reach is of no use. The descriptor
 * closes with the process, so the kernel tells of its end, whatever ended it.
 */
#include <fibril/node.h>

#include <fibril/io.h>

#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

extern char **environ;

enum { SOCKET = 3, SIGNALLED = 128 };
#define SECOND_NS INT64_C(1000000000)

static const char is_worker[] = "FIBRIL_WORKER=3";

/* ---- starting ---- */

/* The environment, with a word of ours. */
static const char **environment(const char *const *envp)
{
    const char *const *from = envp ? envp : (const char *const *)(uintptr_t)environ;
    size_t n = 0;
    while (from && from[n]) {
        n++;
    }
    const char **copy = (const char **)fibril__alloc((n + 2) * sizeof *copy);
    if (!copy) {
        return NULL;
    }
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        if (strncmp(from[i], is_worker, sizeof is_worker - 2) != 0) {
            copy[kept++] = from[i];
        }
    }
    copy[kept++] = is_worker;
    copy[kept] = NULL;
    return copy;
}

static int start(const struct fibril_worker_opts *opts, struct fibril_process **ret_process)
{
    const char **envp = environment(opts->envp);
    struct fibril_process_opts process = {
        .argv = opts->argv, .envp = envp, .cwd = opts->cwd, .socket = true};
    int rc = envp ? fibril_process_start(&process, ret_process) : -ENOMEM;
    fibril__free((void *)envp);
    return rc;
}

/* ---- the end ---- */

static int reason_of(int status)
{
    return WIFSIGNALED(status) ? SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

/* It has a fifth of its time to end by itself, then it is asked to, then it is killed. */
static int end_process(struct fibril_process *p, int64_t patience_ns)
{
    enum { PARTS = 5 };
    int64_t end_ns = fibril_after(patience_ns);
    int status = 0;
    fibril_shield_begin();
    int rc = fibril_process_wait(p, fibril_after(patience_ns / PARTS), &status);
    if (rc == -ETIMEDOUT) {
        fibril_process_kill(p, SIGTERM);
        rc = fibril_process_wait(p, end_ns, &status);
    }
    if (rc == -ETIMEDOUT) {
        fibril_process_kill(p, SIGKILL);
        rc = fibril_process_wait(p, FIBRIL_FOREVER, &status);
    }
    fibril_shield_end();
    fibril_process_free(p);
    return rc < 0 ? rc : reason_of(status);
}

static int64_t patience(const struct fibril_worker_opts *opts)
{
    int told;
    if (fibril_actor_exiting(&told) && told == FIBRIL_EXIT_KILLED) {
        return 0;
    }
    return opts->shutdown_ns ? opts->shutdown_ns : 5 * SECOND_NS;
}

/* ---- its life ---- */

static int begin(const struct fibril_worker_opts *opts, struct fibril_process *p,
                 uint64_t *ret_node)
{
    int64_t start_ns = opts->start_ns ? opts->start_ns : 10 * SECOND_NS;
    int rc = fibril_node_join(fibril_process_take_socket(p), &opts->node, fibril_after(start_ns),
                              ret_node);
    if (rc == 0 && opts->name) {
        rc = fibril_actor_register(*ret_node, opts->name);
        if (rc < 0) {
            fibril_node_leave(*ret_node);
        }
    }
    return rc;
}

/* Waits for the end of the node, or until the caller is told to end. */
static void watch(uint64_t node)
{
    uint64_t ref;
    struct fibril_message *m;
    int rc = fibril_actor_monitor(node, &ref);
    while (rc == 0) {
        rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
        if (rc == 0) {
            bool down = fibril_message_tag(m) == FIBRIL_TAG_DOWN;
            if (!down && fibril_message_from(m).ref) {
                fibril_actor_refuse(fibril_message_from(m), -EINVAL);
            }
            fibril_message_free(m);
            rc = down ? -EPIPE : 0;
        }
    }
    fibril_node_leave(node);
}

/* Answers with the node, or why there is none. */
static void answer(struct fibril_from asker, int rc, uint64_t node)
{
    struct fibril_message *m;
    if (!asker.ref) {
        return;
    }
    rc = rc == 0 ? fibril_message_of(0, &node, sizeof node, &m) : rc;
    if (rc == 0) {
        fibril_actor_reply(asker, m);
    } else {
        fibril_actor_refuse(asker, rc);
    }
}

static int serve(const struct fibril_worker_opts *opts, struct fibril_from asker)
{
    struct fibril_process *p;
    uint64_t node = 0;
    int rc = start(opts, &p);
    if (rc < 0) {
        answer(asker, rc, 0);
        return rc;
    }
    rc = begin(opts, p, &node);
    answer(asker, rc, node);
    if (rc < 0) {
        end_process(p, 0);
        return rc;
    }
    watch(node);
    return end_process(p, patience(opts));
}

int fibril_worker_run(void *arg)
{
    return serve(arg, (struct fibril_from){0, 0});
}

/* For fibril_worker_start, which asks first. */
static int run_asked(void *arg)
{
    struct fibril_message *m;
    int rc = fibril_actor_receive(FIBRIL_FOREVER, &m);
    if (rc == 0) {
        struct fibril_from asker = fibril_message_from(m);
        fibril_message_free(m);
        rc = serve(arg, asker);
    }
    fibril__free(arg);
    return rc;
}

/* ---- options of our own: the caller may give up, and go, before the process has begun ---- */

/* Copies a text to *at, and moves that; NULL stays. */
static const char *keep_text(char **at, const char *text)
{
    size_t size = text ? strlen(text) + 1 : 0;
    char *copy = text ? memcpy(*at, text, size) : NULL;
    *at += size;
    return copy;
}

/* Of a list that ends with NULL, which may be none. */
static size_t list_bytes(const char *const *list, size_t *ret_n)
{
    size_t bytes = 0;
    for (*ret_n = 0; list && list[*ret_n]; ++*ret_n) {
        bytes += strlen(list[*ret_n]) + 1;
    }
    return bytes;
}

static const char *const *keep_list(const char ***to, char **at, const char *const *list, size_t n)
{
    const char **copy = *to;
    if (!list) {
        return NULL;
    }
    for (size_t i = 0; i < n; i++) {
        copy[i] = keep_text(at, list[i]);
    }
    copy[n] = NULL;
    *to += n + 1;
    return copy;
}

static size_t text_bytes(const char *text)
{
    return text ? strlen(text) + 1 : 0;
}

/* All in one piece; NULL: no memory. */
static struct fibril_worker_opts *keep(const struct fibril_worker_opts *opts)
{
    size_t n_args, n_vars;
    size_t bytes = list_bytes(opts->argv, &n_args) + list_bytes(opts->envp, &n_vars) +
                   text_bytes(opts->cwd) + text_bytes(opts->name) + text_bytes(opts->node.name);
    size_t lists = (n_args + n_vars + 2) * sizeof(char *);
    struct fibril_worker_opts *copy = fibril__alloc(sizeof *copy + lists + bytes);
    if (copy) {
        const char **to = (const char **)(copy + 1);
        char *at = (char *)(copy + 1) + lists;
        *copy = *opts;
        copy->argv = keep_list(&to, &at, opts->argv, n_args);
        copy->envp = keep_list(&to, &at, opts->envp, n_vars);
        copy->cwd = keep_text(&at, opts->cwd);
        copy->name = keep_text(&at, opts->name);
        copy->node.name = keep_text(&at, opts->node.name);
    }
    return copy;
}

static bool is_end(const struct fibril_message *m, void *ref)
{
    const struct fibril_signal *s = fibril_message_peek(m);
    return fibril_message_kind(m) == FIBRIL_MESSAGE_SIGNAL &&
           fibril_message_tag(m) == FIBRIL_TAG_DOWN && s->ref == *(uint64_t *)ref;
}

/* Kills the process with its actor, so that it is gone when the caller says that there is none. */
static void give_up(uint64_t actor)
{
    uint64_t ref;
    struct fibril_message *m;
    int rc = fibril_actor_monitor(actor, &ref);
    fibril_actor_exit(actor, FIBRIL_EXIT_KILL);
    fibril_shield_begin();
    if (rc == 0 && fibril_actor_receive_match(is_end, &ref, FIBRIL_FOREVER, &m) == 0) {
        fibril_message_free(m);
    }
    fibril_shield_end();
}

int fibril_worker_start(const struct fibril_worker_opts *opts, int64_t deadline_ns,
                        uint64_t *ret_node)
{
    uint64_t actor = 0;
    struct fibril_message *m, *reply;
    struct fibril_worker_opts *copy = keep(opts);
    if (!copy) {
        return -ENOMEM;
    }
    int rc = fibril_message_new(0, 0, NULL, &m);
    if (rc == 0) {
        rc = fibril_actor_spawn(run_asked, copy, NULL, &actor);
        if (rc < 0) {
            fibril_message_free(m);
        }
    }
    if (rc != 0) {
        fibril__free(copy);
        return rc;
    }
    rc = fibril_actor_call(actor, m, deadline_ns, &reply);
    if (rc < 0) {
        give_up(actor);
        return rc;
    }
    memcpy(ret_node, fibril_message_data(reply), sizeof *ret_node);
    fibril_message_free(reply);
    return 0;
}

/* ---- in the worker ---- */

int fibril_worker_join(const struct fibril_node_opts *opts, int64_t deadline_ns, uint64_t *ret_node)
{
    static atomic_flag joined = ATOMIC_FLAG_INIT;
    const char *word = getenv("FIBRIL_WORKER"); /* NOLINT(concurrency-mt-unsafe): only read */
    if (!word || strcmp(word, strchr(is_worker, '=') + 1) != 0 ||
        atomic_flag_test_and_set(&joined)) {
        return -ENOTCONN;
    }
    if (fcntl(SOCKET, F_SETFD, FD_CLOEXEC) != 0 || fcntl(SOCKET, F_SETFL, O_NONBLOCK) != 0) {
        return -ENOTCONN;
    }
    unsetenv("FIBRIL_WORKER"); /* NOLINT(concurrency-mt-unsafe): our children are not workers */
    return fibril_node_join(SOCKET, opts, deadline_ns, ret_node);
}
