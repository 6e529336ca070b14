/* SPDX-License-Identifier: MIT */
/*
 * Throwing to a tasklet that waits for something outside. Its fibril's wait is cancelled, and where
 * CPython, or a call of ours, makes an exception of that, it is what was thrown. Of a wait that has
 * ended already, or in a library that knows no such error, an asynchronous exception makes it: one
 * of a class whose instances are whatever the running tasklet has been thrown.
 *
 * Invariant: an asynchronous exception is set in a thread state only while the tasklet it is for is
 * the next to run there.
 */
#include "stackless_core.h"

static PyObject *thrown_type;

static struct tasklet *tasklet_of_fibril(const struct fibril *f)
{
    struct fibril_embed_node *n = f ? fibril_embed_find(f, &fibril_turn_owner) : NULL;
    return n ? (struct tasklet *)(void *)((char *)n - offsetof(struct tasklet, turn.node)) : NULL;
}

/* ---- in the tasklet ---- */

bool fibril__slp_is_thrown(const struct fibril *f)
{
    const struct tasklet *t = tasklet_of_fibril(f);
    return t && t->thrown;
}

PyObject *fibril__slp_raise_thrown(struct fibril *f)
{
    struct tasklet *t = tasklet_of_fibril(f);
    PyObject *bomb = t->thrown;
    t->thrown = NULL;
    fibril_cancel_clear();
    PyThreadState_SetAsyncExc(t->world->ts->thread_id, NULL);
    return fibril__slp_bomb_explode(bomb);
}

/* Instances are made where the asynchronous exception is caught or ends the tasklet. Whoever makes
 * another one of what that was, because its class is not this one, gets the same again. */
static PyObject *new_thrown(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    struct fibril *f = fibril_current();
    if (PyTuple_GET_SIZE(args) == 1 && PyExceptionInstance_Check(PyTuple_GET_ITEM(args, 0))) {
        return Py_NewRef(PyTuple_GET_ITEM(args, 0));
    }
    if (!fibril__slp_is_thrown(f)) {
        return ((PyTypeObject *)PyExc_BaseException)->tp_new(type, args, kwargs);
    }
    fibril__slp_raise_thrown(f);
    return fibril__py_take_exception();
}

/* ---- from others ---- */

/* Waits for locks want one: see cancel_inside.c. */
static int record(struct tasklet *t)
{
    if (fibril__py_of(t->fibril)) {
        return 0;
    }
    struct pyfibril *p = PyMem_RawCalloc(1, sizeof *p);
    if (!p) {
        return -1;
    }
    p->fibril = t->fibril;
    p->tstate = t->world->ts;
    p->adopted = true;
    fibril__py_bind(t->fibril, p);
    t->recorded = true;
    return 0;
}

/* Whether what happens to w without the GIL happens on the calling OS thread. */
static bool is_near(const struct world *w)
{
    return !w->loop_ours && fibril_current() && fibril_loop_current() == fibril__py.loop;
}

int fibril__slp_throw_out(struct tasklet *t, PyObject *bomb)
{
    bool near = is_near(t->world);
    if (near) {
        fibril__slp_sync(t->world);
    }
    if (record(t) < 0 || (t->place == AT_OUT && fibril_cancel(t->fibril) < 0)) {
        Py_DECREF(bomb);
        PyErr_NoMemory();
        return -1;
    }
    Py_XSETREF(t->thrown, bomb);
    if (near) {
        fibril__slp_sync(t->world);
    }
    return t->place == AT_RING;
}

void fibril__slp_announce(const struct tasklet *t)
{
    PyThreadState_SetAsyncExc(t->world->ts->thread_id, thrown_type);
}

void fibril__slp_forget_thrown(struct tasklet *t)
{
    Py_CLEAR(t->thrown);
    if (t->recorded) {
        struct pyfibril *p = fibril__py_of(t->fibril);
        fibril__py_bind(t->fibril, NULL);
        PyMem_RawFree(p);
        t->recorded = false;
    }
}

/* ---- the type ---- */

PyDoc_STRVAR(thrown_doc, "What a tasklet outside has been thrown, on its way.");

static PyType_Slot slots[] = {
    {Py_tp_new, new_thrown}, {Py_tp_doc, (void *)(uintptr_t)thrown_doc}, {0, NULL}};

static PyType_Spec spec = {.name = "stackless.thrown", .flags = Py_TPFLAGS_DEFAULT, .slots = slots};

int fibril__slp_throw_init(PyObject *module)
{
    thrown_type = PyType_FromModuleAndSpec(module, &spec, PyExc_BaseException);
    return thrown_type ? 0 : -1;
}
