/* SPDX-License-Identifier: MIT */
/*
 * What an actor does besides calling: receive, be linked, watch, time, names and topics, replies
 * that come later. fibril.actors makes methods and functions of it.
 *
 * A choosing receive looks at messages with the GIL, and what it has seen and not wanted it does
 * not look at again as long as the same pattern is asked for. Patterns are told apart by numbers
 * that are never used twice, not by address: a predicate that is made for one receive may lie where
 * another lay before.
 */
#include "actor_py.h"

/* ---- receiving ---- */

struct pattern {
    PyObject *predicate;
    bool failed; /* it raised */
};

static struct pattern looking; /* for whom match looks; it does not wait meanwhile */

static bool match(const struct fibril_message *m, void *serial)
{
    struct pattern mine = looking;
    (void)serial;
    if (mine.failed) {
        return false;
    }
    PyObject *what = fibril__py_mail_decode((struct fibril_message *)(uintptr_t)m);
    if (!what && m->type == &fibril__py_pickled_type) { /* taken, to be reported */
        PyErr_Clear();
        looking = mine;
        return true;
    }
    PyObject *result = what ? PyObject_CallOneArg(mine.predicate, what) : NULL;
    int wanted = result ? PyObject_IsTrue(result) : -1;
    Py_XDECREF(result);
    Py_XDECREF(what);
    mine.failed = wanted < 0;
    looking = mine;
    return wanted > 0;
}

static bool is_over(const struct fibril__actor *a)
{
    return (a->flags & FIBRIL__A_EXITING) || fibril_cancelled();
}

static int mail_op(void *arg, int64_t deadline_ns)
{
    return fibril__mailbox_wait(arg, deadline_ns);
}

/* Takes what is wanted. 0, 1 with an exception, or -errno. */
static int receive(struct fibril__actor *a, PyObject *predicate, void *serial, int64_t deadline_ns,
                   struct fibril_message **ret_message)
{
    for (int rc = 0;;) {
        if (is_over(a)) {
            return -ECANCELED;
        }
        if (predicate == Py_None) {
            *ret_message = fibril__mailbox_take(a);
        } else {
            looking = (struct pattern){predicate, false};
            *ret_message = fibril__mailbox_choose(a, match, serial);
            if (looking.failed) {
                return 1; /* it has not seen the rest: the serial is not used any more */
            }
        }
        if (*ret_message && !fibril__py_mail_open(a->id, ret_message)) {
            continue; /* from another process, and not to be read */
        }
        if (*ret_message || rc != 0) {
            return *ret_message ? 0 : rc;
        }
        rc = fibril__py_wait(mail_op, a, deadline_ns);
        if (rc == 1) {
            return 1;
        }
    }
}

PyDoc_STRVAR(receive_doc,
             "_actor_receive(predicate, serial, timeout)\n--\n\n"
             "See fibril.receive. serial: a number for the predicate, 0 for a new one.");

static PyObject *py_receive(PyObject *module, PyObject *args)
{
    static uint64_t serials = UINT64_C(1) << 40; /* those of patterns that are kept are below */
    PyObject *predicate, *timeout;
    unsigned long long serial;
    int64_t deadline_ns;
    struct fibril_message *m;
    if (!PyArg_ParseTuple(args, "OKO:_actor_receive", &predicate, &serial, &timeout) ||
        !fibril__py_deadline(timeout, &deadline_ns)) {
        return NULL;
    }
    struct fibril__actor *a = fibril__actor_attach();
    if (!a) {
        return fibril__py_raise(fibril_current() ? -ENOMEM : -EPERM);
    }
    serial = serial ? serial : ++serials;
    int rc = receive(a, predicate, (void *)(uintptr_t)serial, deadline_ns, &m);
    if (rc != 0) {
        return rc < 0 ? fibril__py_raise(rc) : NULL;
    }
    PyObject *what = fibril__py_mail_decode(m);
    fibril__py_mail_free(m);
    return what;
}

#define IN_PLACE "\n--\n\nSee fibril.actors."
static PyMethodDef functions[] = {{"_actor_receive", py_receive, METH_VARARGS, receive_doc},
                                  {NULL, NULL, 0, NULL}};

int fibril__py_actor_receive_init(PyObject *module)
{
    return PyModule_AddFunctions(module, functions);
}
