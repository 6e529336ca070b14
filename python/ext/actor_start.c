/* SPDX-License-Identifier: MIT */
/*
 * Starting actors: of a class, which waits for its __init__, and of a function, which does not. C's
 * supervisors start their Python children through here too.
 */
#include "actor_py.h"

#include "actor/behave.h"
#include "base/alloc.h"

#include <fibril/server.h>

struct pyactor *fibril__py_actor_new(PyObject *fn, PyObject *args, PyObject *kwargs)
{
    struct pyactor *o = fibril__alloc_zero(sizeof *o);
    if (!o) {
        PyErr_NoMemory();
        return NULL;
    }
    o->fn = Py_NewRef(fn);
    o->args = Py_NewRef(args);
    o->kwargs = Py_XNewRef(kwargs);
    return o;
}

void fibril__py_actor_forget(struct pyactor *o)
{
    if (o->child) {
        fibril__py_child_hold(o->child, false);
        o->child = NULL;
    } else {
        Py_XDECREF(o->fn);
        Py_XDECREF(o->args);
        Py_XDECREF(o->kwargs);
    }
    o->fn = o->args = o->kwargs = NULL;
}

void fibril__py_actor_free(struct pyactor *o)
{
    fibril__py_actor_forget(o);
    fibril__free(o);
}

/* ---- functions ---- */

static int finish(struct pyactor *o, PyObject *result, struct pyfibril *p)
{
    int reason = 0;
    fibril__py_cancel_settle(p);
    if (result) {
        Py_DECREF(result);
    } else if (PyErr_ExceptionMatches(fibril__py.cancelled)) {
        PyErr_Clear();
        reason = FIBRIL_EXIT_SHUTDOWN;
    } else {
        reason = fibril__py_actor_crashed(o->fn, NULL, NULL);
    }
    fibril__py_actor_free(o);
    fibril__py_mail_drain();
    return reason;
}

/* The same without the GIL. */
static void give_up(struct pyactor *o)
{
    if (!o->child) {
        fibril__py_release_later(o->fn);
        fibril__py_release_later(o->args);
        fibril__py_release_later(o->kwargs);
    }
    fibril__py_child_hold(o->child, false);
    fibril__free(o);
}

static int run_function(void *arg)
{
    struct pyactor *o = arg;
    struct pyfibril self = {0};
    char frames[FIBRIL__PY_FRAMES] __attribute__((aligned(16)));
    if (fibril__py_begin(&self, frames, sizeof frames) < 0) {
        give_up(o);
        return -ENOMEM;
    }
    PyObject *result = PyObject_Call(o->fn, o->args, o->kwargs);
    int reason = finish(o, result, &self);
    fibril__py_end(&self);
    return reason;
}

/* ---- starting ---- */

/* The starter waits no longer: the actor, perhaps in its __init__, is ended, and waited for. */
static void abandon(struct fibril__actor *self, uint64_t actor)
{
    enum { PAUSE_NS = 1000000 };
    int rc;
    fibril_actor_unlink(actor);
    fibril_shield_begin();
    do {
        rc = fibril_actor_exit(actor, FIBRIL_EXIT_KILL);
        rc = rc == 0 ? fibril__call_await(self, actor, FIBRIL_FOREVER) : rc;
    } while (rc == -EINTR || (rc == -ENOMEM && fibril_sleep(PAUSE_NS) != -ECANCELED));
    fibril_shield_end();
}

/* Never parks. */
static int spawn(struct fibril__actor *self, struct pyactor *o, struct fibril_actor_opts *opts,
                 uint64_t *ret_actor)
{
    o->starter = fibril__call_expect(self);
    o->parent = opts->link ? self->id : 0;
    int rc = fibril__passive_spawn(fibril__py_actor_fn, o, opts, ret_actor);
    if (rc < 0) {
        fibril__call_give_up(self);
    }
    return rc;
}

/* The wait for its beginning ended with rc: 0, -errno, or 1 for an exception. */
static int settle(struct fibril__actor *self, uint64_t actor, int rc,
                  struct fibril_message **ret_reply)
{
    if (rc != 0 && rc != -EPIPE && rc != -ESRCH) {
        abandon(self, actor);
    }
    int closed = fibril__call_close(self, rc, ret_reply);
    return rc != 0 ? rc : closed;
}

static void choose_loop(struct fibril_actor_opts *opts)
{
    if (fibril_loop_current() != fibril__py.loop) {
        opts->loop = fibril__py.loop;
    }
}

/* Starts o, which is taken if *ret_actor is set, and for a class waits until it has begun. MAY
 * PARK. With a reply: what its __init__ raised. */
static int start(struct pyactor *o, bool passive, struct fibril_actor_opts *opts,
                 int64_t deadline_ns, uint64_t *ret_actor, struct fibril_message **ret_reply)
{
    struct fibril__actor *self = fibril__actor_attach();
    choose_loop(opts);
    if (!passive) {
        return fibril_actor_spawn(run_function, o, opts, ret_actor);
    }
    int rc = self ? spawn(self, o, opts, ret_actor) : -ENOMEM;
    if (rc == 0) {
        rc = fibril__call_await(self, *ret_actor, deadline_ns);
        rc = settle(self, *ret_actor, rc, ret_reply);
    }
    return rc;
}

/* For C's supervisors, on their fibrils, which have no thread state: what the actor needs it has
 * from c, which it holds. */
int fibril__py_child_start(void *arg, const struct fibril_actor_opts *opts, uint64_t *ret_actor)
{
    struct pychild *c = arg;
    struct fibril_actor_opts mine = *opts;
    struct fibril_message *reply = NULL;
    struct pyactor *o = fibril__alloc_zero(sizeof *o);
    if (!o) {
        return -ENOMEM;
    }
    *o = (struct pyactor){.child = c, .fn = c->fn, .args = c->args, .kwargs = c->kwargs};
    fibril__py_child_hold(c, true);
    uint64_t actor = 0;
    int rc = start(o, c->passive, &mine, FIBRIL_FOREVER, &actor, &reply);
    if (rc < 0 && !actor) {
        fibril__py_child_hold(c, false);
        fibril__free(o);
    }
    if (rc == 0 && reply && reply->tag == MAIL_ERROR) {
        rc = -EPROTO;
    }
    fibril_message_free(reply);
    if (rc == 0) {
        *ret_actor = actor;
    }
    return rc;
}

/* ---- from Python ---- */

struct start {
    struct pyactor *o;
    bool passive;
    struct fibril_actor_opts opts;
    uint64_t actor, ref;
    struct fibril_message *reply;
};

/* For OS threads without a loop. */
static int start_op(void *arg, int64_t deadline_ns)
{
    struct start *s = arg;
    return start(s->o, s->passive, &s->opts, deadline_ns, &s->actor, &s->reply);
}

static int await_op(void *arg, int64_t deadline_ns)
{
    const struct start *s = arg;
    return fibril__call_await(fibril__actor_self(), s->actor, deadline_ns);
}

/* On a fibril, whose wait for the beginning may be interrupted by signals. */
static int start_here(struct start *s, struct pyfibril *p, int64_t deadline_ns)
{
    struct fibril__actor *self = fibril__actor_attach();
    int rc = self ? spawn(self, s->o, &s->opts, &s->actor) : -ENOMEM;
    if (rc < 0) {
        return rc;
    }
    rc = fibril__py_wait(await_op, s, deadline_ns);
    fibril__py_leave(p);
    rc = settle(self, s->actor, rc, &s->reply);
    fibril__py_enter(p);
    return rc;
}

static int start_from_python(struct start *s, int64_t deadline_ns)
{
    struct pyfibril *p = fibril__py_self();
    if (!p) {
        return fibril__py_wait(start_op, s, deadline_ns);
    }
    return s->passive ? start_here(s, p, deadline_ns) : start_op(s, deadline_ns);
}

static PyObject *raise_start(struct start *s, int rc)
{
    if (rc == -EEXIST) {
        return PyErr_Format(PyExc_ValueError, "an actor is registered as '%s' already",
                            s->opts.name);
    }
    if (rc == -EINVAL) {
        PyErr_SetString(PyExc_ValueError, "impossible name or mailbox");
        return NULL;
    }
    if (rc == -EPIPE || rc == -ESRCH) {
        return fibril__py_actor_raise(s->actor, rc);
    }
    return rc < 0 ? fibril__py_raise(rc) : NULL;
}

/* The handle, or what __init__ raised. */
static PyObject *started(struct start *s)
{
    if (s->reply && s->reply->tag == MAIL_ERROR && fibril__py_mail_is_sound(s->reply)) {
        PyObject *exception = fibril__py_mail_take(s->reply);
        PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
        Py_DECREF(exception);
        return NULL;
    }
    fibril_message_free(s->reply);
    PyObject *handle = fibril__py_actor_handle(s->actor);
    return handle ? Py_BuildValue("NK", handle, (unsigned long long)s->ref) : NULL;
}

PyDoc_STRVAR(start_doc,
             "_actor_start(passive, function, args, kwargs, name, link, monitor, trap_exits,\n"
             "messages, bytes, overflow, timeout)\n--\n\nSee fibril.Actor.start.");

static PyObject *py_start(PyObject *module, PyObject *all)
{
    int passive, link, monitor, trap;
    PyObject *fn, *args, *kwargs, *timeout;
    unsigned messages, overflow;
    Py_ssize_t bytes;
    int64_t deadline_ns;
    struct start s = {0};
    if (!PyArg_ParseTuple(all, "pOO!O!zpppInIO", &passive, &fn, &PyTuple_Type, &args, &PyDict_Type,
                          &kwargs, &s.opts.name, &link, &monitor, &trap, &messages, &bytes,
                          &overflow, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    if (!fibril__py.loop || ((link || monitor) && !fibril_current())) {
        return fibril__py_raise(-EPERM);
    }
    s.o = fibril__py_actor_new(fn, args, PyDict_GET_SIZE(kwargs) ? kwargs : NULL);
    if (!s.o) {
        return NULL;
    }
    s.passive = passive;
    s.opts.link = link;
    s.opts.trap_exits = trap;
    s.opts.ret_monitor = monitor ? &s.ref : NULL;
    s.opts.mailbox = (struct fibril_mailbox){messages, (size_t)bytes, overflow};
    int rc = start_from_python(&s, deadline_ns);
    if (rc != 0) {
        if (!s.actor) {
            fibril__py_actor_free(s.o);
        }
        return raise_start(&s, rc);
    }
    return started(&s);
}

/* ---- setting up ---- */

/* Python has said more about its own crashes already. */
static void on_trouble(const struct fibril_actor_report *r)
{
    if (r->trouble != FIBRIL_TROUBLE_CRASH ||
        (r->fn != fibril__py_actor_fn && r->fn != run_function) || r->told) {
        fibril__log_print(r);
    }
}

PyDoc_STRVAR(setup_doc, "_actor_setup(hooks)\n--\n\nWhat fibril.actors tells, in order.");

static PyObject *py_setup(PyObject *module, PyObject *hooks)
{
    if (!PyTuple_Check(hooks) || PyTuple_GET_SIZE(hooks) != HOOKS) {
        PyErr_SetString(PyExc_TypeError, "_actor_setup takes a tuple of all");
        return NULL;
    }
    for (Py_ssize_t i = 0; i < HOOKS; i++) {
        Py_XSETREF(fibril__py_hooks[i], Py_NewRef(PyTuple_GET_ITEM(hooks, i)));
    }
    if (fibril__py_workers_start() < 0) {
        return PyErr_NoMemory();
    }
    fibril_actor_on_trouble(on_trouble);
    Py_RETURN_NONE;
}

void fibril__py_actors_end(void)
{
    PyObject *hook = fibril__py_hooks[HOOK_END_ALL]; /* NULL: there never were any */
    PyObject *result = hook ? PyObject_CallNoArgs(hook) : NULL;
    if (hook && !result) {
        PyErr_WriteUnraisable(hook);
    }
    Py_XDECREF(result);
}

static PyMethodDef functions[] = {{"_actor_start", py_start, METH_VARARGS, start_doc},
                                  {"_actor_setup", py_setup, METH_O, setup_doc},
                                  {NULL, NULL, 0, NULL}};

int fibril__py_actor_start_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
