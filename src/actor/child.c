/* SPDX-License-Identifier: MIT */
/*
 * See child.h. An OS process is an actor that waits for it: told to end it passes that on, and it
 * ends after the process, whatever happens, so that who is told of its end knows that no process is
 * left.
 */
#include "actor/child.h"

#include <fibril/io.h>
#include <fibril/server.h>

#include "base/alloc.h"
#include "base/compiler.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

enum { SIGNALLED = 128 };
#define SECOND_NS INT64_C(1000000000)

/* ---- specifications ---- */

static int check(const struct fibril_child_spec *spec, bool simple)
{
    int sorts = (spec->fn != NULL) + (spec->server != NULL) + (spec->start != NULL) +
                (spec->process != NULL) + (spec->supervisor != NULL);
    bool fine = sorts == 1 && (simple || spec->id) && (!spec->id || strlen(spec->id) < 64) &&
                (unsigned)spec->restart <= FIBRIL_RESTART_TEMPORARY &&
                spec->shutdown_ns >= FIBRIL_SHUTDOWN_KILL && (!spec->process || spec->process[0]);
    return fine ? 0 : -EINVAL;
}

static int copy_text(const char *text, const char **ret_copy)
{
    *ret_copy = text ? fibril__strdup(text) : NULL;
    return text && !*ret_copy ? -ENOMEM : 0;
}

static void hold(const struct fibril_child_spec *spec, bool on)
{
    if (spec->hold) {
        spec->hold(spec->arg, on);
    }
}

int fibril__child_new(const struct fibril_child_spec *spec, bool simple,
                      struct fibril__child **ret_child)
{
    int rc = check(spec, simple);
    struct fibril__child *c = rc == 0 ? fibril__alloc_zero(sizeof *c) : NULL;
    if (!c) {
        return rc < 0 ? rc : -ENOMEM;
    }
    c->spec = *spec;
    hold(&c->spec, true);
    c->spec.supervisor = NULL;
    c->spec.opts.link = true;
    c->spec.opts.ret_monitor = NULL;
    c->spec.id = c->spec.opts.name = NULL;
    rc = copy_text(spec->id, &c->spec.id);
    rc = rc == 0 ? copy_text(spec->opts.name, &c->spec.opts.name) : rc;
    if (rc == 0 && spec->supervisor) {
        rc = fibril__tree_new(spec->supervisor, &c->tree);
    }
    if (rc < 0) {
        fibril__child_free(c);
        return rc;
    }
    *ret_child = c;
    return 0;
}

static int tree_copy(const struct fibril__tree *tree, struct fibril__tree **ret_copy);

/* A child's specification as it was given, but for the supervisor and the argument. */
static int child_copy(const struct fibril__child *c, void *arg, struct fibril__child **ret_copy)
{
    struct fibril__child *copy = fibril__alloc_zero(sizeof *copy);
    if (!copy) {
        return -ENOMEM;
    }
    copy->spec = c->spec;
    copy->spec.arg = arg;
    hold(&copy->spec, true);
    copy->spec.id = copy->spec.opts.name = NULL;
    int rc = copy_text(c->spec.id, &copy->spec.id);
    rc = rc == 0 ? copy_text(c->spec.opts.name, &copy->spec.opts.name) : rc;
    if (rc == 0 && c->tree) {
        rc = tree_copy(c->tree, &copy->tree);
    }
    if (rc < 0) {
        fibril__child_free(copy);
        return rc;
    }
    *ret_copy = copy;
    return 0;
}

int fibril__child_of(const struct fibril__child *pattern, void *arg,
                     struct fibril__child **ret_child)
{
    return child_copy(pattern, arg, ret_child);
}

static void free_text(const char *text)
{
    fibril__free((void *)(uintptr_t)text);
}

void fibril__child_free(struct fibril__child *c)
{
    if (c) {
        hold(&c->spec, false);
        free_text(c->spec.id);
        free_text(c->spec.opts.name);
        fibril__tree_free(c->tree);
        fibril__free(c);
    }
}

struct fibril__child *fibril__child_find(const struct fibril__list *children, const char *id)
{
    for (struct fibril__link *l = children->head.next; l != &children->head; l = l->next) {
        struct fibril__child *c = CONTAINER_OF(l, struct fibril__child, link);
        if (c->spec.id && strcmp(c->spec.id, id) == 0) {
            return c;
        }
    }
    return NULL;
}

static int add_child(struct fibril__tree *tree, const struct fibril_child_spec *spec)
{
    struct fibril__child *c;
    if (spec->id && fibril__child_find(&tree->children, spec->id)) {
        return -EEXIST;
    }
    int rc = fibril__child_new(spec, tree->spec.strategy == FIBRIL_SIMPLE, &c);
    if (rc == 0 && tree->spec.strategy == FIBRIL_SIMPLE) {
        tree->pattern = c;
    } else if (rc == 0) {
        fibril__list_push(&tree->children, &c->link);
    }
    return rc;
}

static int tree_empty(const struct fibril_supervisor_spec *spec, const char *name,
                      struct fibril__tree **ret_tree)
{
    struct fibril__tree *tree = fibril__alloc_zero(sizeof *tree);
    if (!tree) {
        return -ENOMEM;
    }
    fibril__list_init(&tree->children);
    tree->spec = *spec;
    tree->spec.children = NULL;
    tree->spec.name = NULL;
    tree->spec.intensity = spec->intensity ? spec->intensity : 1;
    tree->spec.period_ns = spec->period_ns ? spec->period_ns : 5 * SECOND_NS;
    tree->spec.backoff_max_ns = spec->backoff_max_ns ? spec->backoff_max_ns : 30 * SECOND_NS;
    tree->name = name ? fibril__strdup(name) : NULL;
    if (name && !tree->name) {
        fibril__free(tree);
        return -ENOMEM;
    }
    *ret_tree = tree;
    return 0;
}

int fibril__tree_new(const struct fibril_supervisor_spec *spec, struct fibril__tree **ret_tree)
{
    bool simple = spec->strategy == FIBRIL_SIMPLE;
    if ((unsigned)spec->strategy > FIBRIL_SIMPLE || (simple && spec->n_children != 1) ||
        spec->period_ns < 0 || spec->backoff_ns < 0 || spec->backoff_max_ns < 0) {
        return -EINVAL;
    }
    struct fibril__tree *tree;
    int rc = tree_empty(spec, spec->name, &tree);
    if (rc < 0) {
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < spec->n_children; i++) {
        rc = add_child(tree, &spec->children[i]);
    }
    if (rc < 0) {
        fibril__tree_free(tree);
        return rc;
    }
    *ret_tree = tree;
    return 0;
}

static int tree_copy(const struct fibril__tree *tree, struct fibril__tree **ret_copy)
{
    struct fibril__tree *copy;
    int rc = tree_empty(&tree->spec, tree->name, &copy);
    if (rc < 0) {
        return rc;
    }
    const struct fibril__list *children = &tree->children;
    for (struct fibril__link *l = children->head.next; rc == 0 && l != &children->head;
         l = l->next) {
        struct fibril__child *c;
        const struct fibril__child *child = CONTAINER_OF(l, struct fibril__child, link);
        rc = child_copy(child, child->spec.arg, &c);
        if (rc == 0) {
            fibril__list_push(&copy->children, &c->link);
        }
    }
    if (rc == 0 && tree->pattern) {
        rc = child_copy(tree->pattern, tree->pattern->spec.arg, &copy->pattern);
    }
    if (rc < 0) {
        fibril__tree_free(copy);
        return rc;
    }
    *ret_copy = copy;
    return 0;
}

void fibril__tree_free(struct fibril__tree *tree)
{
    if (!tree) {
        return;
    }
    for (struct fibril__link *l; (l = fibril__list_pop(&tree->children)) != NULL;) {
        fibril__child_free(CONTAINER_OF(l, struct fibril__child, link));
    }
    fibril__child_free(tree->pattern);
    fibril__free(tree->name);
    fibril__free(tree);
}

int64_t fibril__child_patience(const struct fibril__child *c)
{
    if (c->spec.shutdown_ns != FIBRIL_SHUTDOWN_DEFAULT) {
        return c->spec.shutdown_ns;
    }
    return c->tree ? FIBRIL_FOREVER : 5 * SECOND_NS;
}

/* ---- processes ---- */

static int reason_of(int status)
{
    return WIFSIGNALED(status) ? SIGNALLED + WTERMSIG(status) : WEXITSTATUS(status);
}

/* The caller has been told to end: so is the process, and its end is waited for. */
static int end_process(struct fibril_process *p, int64_t patience_ns)
{
    int status, reason = FIBRIL_EXIT_SHUTDOWN;
    bool patient = !fibril_actor_exiting(&reason) || reason != FIBRIL_EXIT_KILLED;
    fibril_shield_begin();
    int rc = -ETIMEDOUT;
    if (patient) {
        fibril_process_kill(p, SIGTERM);
        rc = fibril_process_wait(p, fibril_after(patience_ns), &status);
    }
    if (rc < 0) {
        fibril_process_kill(p, SIGKILL);
        rc = fibril_process_wait(p, FIBRIL_FOREVER, &status);
    }
    fibril_shield_end();
    return rc < 0 ? rc : -ECANCELED;
}

static int run_process(void *arg)
{
    const struct fibril__child *c = arg;
    struct fibril_process_opts opts = {.argv = c->spec.process};
    struct fibril_process *p;
    int64_t patience_ns = fibril__child_patience(c);
    int rc = fibril_process_start(&opts, &p);
    if (rc < 0) {
        return rc;
    }
    int status;
    rc = fibril_process_wait(p, FIBRIL_FOREVER, &status);
    rc = rc == 0 ? reason_of(status) : end_process(p, patience_ns < 0 ? 0 : patience_ns);
    fibril_process_free(p);
    return rc;
}

/* ---- starting ---- */

int fibril__child_start(struct fibril__child *c)
{
    if (c->tree) {
        struct fibril__tree *tree;
        int rc = tree_copy(c->tree, &tree);
        return rc == 0 ? fibril__tree_start(tree, &c->spec.opts, &c->actor) : rc;
    }
    if (c->spec.server) {
        return fibril_server_start(c->spec.server, c->spec.arg, &c->spec.opts, FIBRIL_FOREVER,
                                   &c->actor);
    }
    if (c->spec.start) {
        return c->spec.start(c->spec.arg, &c->spec.opts, &c->actor);
    }
    fibril_fn *fn = c->spec.process ? run_process : c->spec.fn;
    return fibril_actor_spawn(fn, c->spec.process ? c : c->spec.arg, &c->spec.opts, &c->actor);
}

/* Ends the supervisor whose start has failed; on its own failure it is gone already. One that is
 * told in good order needs memory for that, one that is killed on the same loop does not. */
static void abandon(uint64_t actor)
{
    enum { PAUSE_NS = 10000000 };
    while (fibril_actor_exit(actor, FIBRIL_EXIT_SHUTDOWN) == -ENOMEM &&
           fibril_actor_exit(actor, FIBRIL_EXIT_KILL) == -ENOMEM &&
           fibril_sleep(PAUSE_NS) != -ECANCELED) {}
}

/* READY is asked for the children, which are started before anything is answered. It is made first:
 * from the spawn on nothing but the call itself can fail. */
int fibril__tree_start(struct fibril__tree *tree, const struct fibril_actor_opts *opts,
                       uint64_t *ret_actor)
{
    struct fibril_actor_opts mine = opts ? *opts : (struct fibril_actor_opts){0};
    struct fibril_message *m, *reply;
    uint64_t actor = 0;
    mine.name = tree->name ? tree->name : mine.name;
    mine.trap_exits = true;
    int rc = fibril_message_new(FIBRIL__ASK(FIBRIL__ASK_READY), 0, NULL, &m);
    if (rc == 0) {
        rc = fibril_actor_spawn(fibril__supervise, tree, &mine, &actor);
        if (rc < 0) {
            fibril_message_free(m);
        }
    }
    if (rc < 0) {
        fibril__tree_free(tree);
        return rc;
    }
    rc = fibril_actor_call(actor, m, FIBRIL_FOREVER, &reply);
    if (rc < 0) {
        abandon(actor);
        return rc;
    }
    fibril_message_free(reply);
    *ret_actor = actor;
    return 0;
}

int fibril_supervisor_start(const struct fibril_supervisor_spec *spec,
                            const struct fibril_actor_opts *opts, uint64_t *ret_actor)
{
    struct fibril__tree *tree;
    if (!fibril_current()) {
        return -EPERM;
    }
    int rc = fibril__tree_new(spec, &tree);
    return rc == 0 ? fibril__tree_start(tree, opts, ret_actor) : rc;
}
