/* SPDX-License-Identifier: MIT */
/*
 * The life of an actor of a class, on the fibril of a worker: __init__, handlers, terminate. What a
 * handler raises ends the actor, is reported, and is what its caller gets.
 */
#include "actor_py.h"

#include <fibril/server.h>

#include "actor/behave.h"

enum { GO_ON = 0, BATCH = 64, TEXT = 128 };

int fibril__py_actor_fn(void *arg)
{
    (void)arg;
    return 0;
}

struct pyactor *fibril__py_actor_self(void)
{
    struct fibril__actor *a = fibril__actor_self();
    return a && a->fn == fibril__py_actor_fn ? a->arg : NULL;
}

/* ---- replying ---- */

static void reply(struct fibril_from from, uint64_t tag, PyObject *value)
{
    struct fibril_message *m;
    if (fibril__py_mail_reply(from.actor, tag, value, &m) == 0) {
        fibril_actor_reply(from, m);
    } else {
        fibril_actor_refuse(from, -ENOMEM);
    }
}

/* C's callers get bytes. */
static void reply_bytes(struct fibril_from from, PyObject *value)
{
    Py_buffer buffer;
    struct fibril_message *m;
    if (value == Py_None) {
        fibril_server_reply(from, NULL, 0);
    } else if (PyObject_GetBuffer(value, &buffer, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        fibril_actor_refuse(from, -EPROTO);
    } else {
        int rc = fibril_message_of(0, buffer.buf, (size_t)buffer.len, &m);
        PyBuffer_Release(&buffer);
        if (rc == 0) {
            fibril_actor_reply(from, m);
        } else {
            fibril_actor_refuse(from, rc);
        }
    }
    Py_DECREF(value);
}

/* An exception, which is taken, is the answer to m; C's callers get a number for it. */
static void reply_error(const struct fibril_message *m, struct fibril_from from, uint64_t tag,
                        PyObject *exception)
{
    if (m->tag == MAIL_METHOD || m->tag == MAIL_STREAM) {
        reply(from, tag, exception);
    } else {
        fibril_actor_refuse(from, -EPROTO);
        Py_DECREF(exception);
    }
}

/* ---- what a handler raised ---- */

int fibril__py_actor_crashed(PyObject *who, PyObject *message, PyObject **ret_exception)
{
    PyObject *exception = fibril__py_take_exception();
    struct fibril__actor *a = fibril__actor_self();
    PyObject *handle = fibril__py_actor_handle(a ? a->id : 0);
    PyObject *reason =
        handle ? PyObject_CallFunctionObjArgs(fibril__py_hooks[HOOK_CRASHED], handle, who,
                                              exception, message ? message : Py_None, NULL)
               : NULL;
    int number = reason ? (int)PyLong_AsLong(reason) : -EFAULT;
    if (PyErr_Occurred()) {
        PyErr_WriteUnraisable(who);
        number = -EFAULT;
    }
    Py_XDECREF(reason);
    Py_XDECREF(handle);
    if (ret_exception) {
        *ret_exception = exception;
    } else {
        Py_XDECREF(exception);
    }
    return number;
}

static bool is_told(const struct pyactor *o)
{
    return o->record->flags & FIBRIL__A_EXITING;
}

/* The exception that is set is the end that the actor was told, or that of its loop. */
static bool end_was_told(void)
{
    fibril__py_cancel_settle(fibril__py_self());
    if (!PyErr_ExceptionMatches(fibril__py.cancelled)) {
        return false;
    }
    PyErr_Clear();
    return true;
}

/* Handlers answer with an error, and live, by raising Refuse(error). */
static bool answer_refusal(struct fibril_message *m, struct fibril_from from)
{
    if (!PyErr_ExceptionMatches(fibril__py_hooks[HOOK_REFUSE])) {
        return false;
    }
    PyObject *refuse = fibril__py_take_exception();
    PyObject *error = PyObject_GetAttrString(refuse, "error");
    Py_DECREF(refuse);
    if (error && m->kind == FIBRIL_MESSAGE_CALL) {
        reply_error(m, from, MAIL_REFUSED, error);
    } else {
        Py_XDECREF(error);
        PyErr_Clear();
    }
    return true;
}

/* There is no such handler: calls are told so, casts are dead letters. m is taken. */
static bool answer_unknown(struct pyactor *o, struct fibril_message *m, PyObject *name)
{
    if (!name || !PyErr_ExceptionMatches(PyExc_AttributeError)) {
        return false;
    }
    PyObject *error = fibril__py_take_exception();
    if (PyObject_HasAttr(o->instance, name)) { /* the handler itself raised it */
        PyErr_SetObject((PyObject *)Py_TYPE(error), error);
        Py_DECREF(error);
        return false;
    }
    if (m->kind == FIBRIL_MESSAGE_CALL) {
        reply(m->from, MAIL_REFUSED, error);
        fibril__py_mail_free(m);
    } else {
        Py_DECREF(error);
        fibril__dead_letter(o->record->id, m);
    }
    return true;
}

/* An exception is set; m, which was being handled, is taken. Returns whether to go on, or why not.
 */
static int failed(struct pyactor *o, struct fibril_message *m, PyObject *name)
{
    int reason;
    if (answer_unknown(o, m, name)) {
        return GO_ON;
    }
    bool waits = m->kind == FIBRIL_MESSAGE_CALL && !o->deferred;
    if (answer_refusal(m, o->from)) {
        reason = GO_ON;
    } else if (end_was_told()) {
        reason = -ECANCELED;
    } else {
        PyObject *type, *value, *traceback, *exception;
        PyErr_Fetch(&type, &value, &traceback);
        PyObject *last = fibril__py_mail_decode(m);
        PyErr_Restore(type, value, traceback);
        reason = fibril__py_actor_crashed(o->instance, last, &exception);
        Py_XDECREF(last);
        if (waits && exception) {
            reply_error(m, o->from, MAIL_ERROR, exception);
        } else {
            Py_XDECREF(exception);
        }
    }
    fibril__py_mail_free(m);
    return reason;
}

/* ---- handlers ---- */

/* The iterator's values, one by one. Returns false with an exception. */
static bool give_all(struct fibril_from from, PyObject *iterator)
{
    PyObject *value;
    while ((value = PyIter_Next(iterator)) != NULL) {
        struct fibril_message *m;
        int rc = fibril__py_mail_reply(from.actor, MAIL_VALUE, value, &m);
        bool unsent = rc == 0 && m->tag != MAIL_VALUE;
        if (rc == 0) {
            struct pyfibril *p = fibril__py_self();
            fibril__py_leave(p);
            rc = fibril_stream_give(from, m, FIBRIL_FOREVER);
            fibril__py_enter(p);
            if (rc < 0) {
                fibril__py_mail_free(m);
            }
        }
        if (rc == -EPIPE || unsent) { /* nobody reads on, or more than this cannot be told */
            return true;
        }
        if (rc < 0) {
            fibril__py_raise(rc);
            return false;
        }
    }
    return !PyErr_Occurred();
}

/* A handler's result is what a stream is made of. */
static bool stream_out(struct fibril_from from, PyObject *result)
{
    PyObject *iterator = PyObject_GetIter(result);
    bool fine = iterator && give_all(from, iterator);
    Py_XDECREF(iterator);
    Py_DECREF(result);
    if (fine) {
        struct pyfibril *p = fibril__py_self();
        fibril__py_leave(p);
        fibril_stream_give(from, NULL, FIBRIL_FOREVER);
        fibril__py_enter(p);
    }
    return fine;
}

static int on_method(struct pyactor *o, struct fibril_message *m)
{
    struct mail *mail = fibril_message_data(m);
    size_t placed = mail->n - (mail->names ? (size_t)PyTuple_GET_SIZE(mail->names) : 0);
    mail->self = o->instance;
    o->from = m->from;
    o->deferred = false;
    PyObject *result = PyObject_VectorcallMethod(mail->name, &mail->self, placed + 1, mail->names);
    if (!result) {
        return failed(o, m, mail->name);
    }
    if (m->kind != FIBRIL_MESSAGE_CALL || o->deferred) {
        Py_DECREF(result);
    } else if (m->tag == MAIL_STREAM) {
        if (!stream_out(m->from, result)) {
            return failed(o, m, NULL);
        }
    } else {
        reply(m->from, MAIL_VALUE, result);
    }
    fibril__py_mail_free(m);
    return GO_ON;
}

/* Calls a hook of the actor with what m is, or with nothing. */
static int on_hook(struct pyactor *o, struct fibril_message *m, enum optional hook, bool with)
{
    PyObject *what = with ? fibril__py_mail_decode(m) : NULL;
    PyObject *name = fibril__py_optional_names[hook], *result = NULL;
    PyObject *args[] = {o->instance, what};
    o->from = m->from;
    o->deferred = false;
    if (what || !with) {
        result = PyObject_VectorcallMethod(name, args, with ? 2 : 1, NULL);
    }
    Py_XDECREF(what);
    if (!result) {
        return failed(o, m, NULL);
    }
    if (m->kind == FIBRIL_MESSAGE_CALL && !o->deferred) {
        reply_bytes(m->from, result);
    } else {
        Py_DECREF(result);
    }
    fibril__py_mail_free(m);
    return GO_ON;
}

/* What is asked of every actor at its end should not make an AttributeError each time. */
static bool handles(const struct pyactor *o, enum optional hook)
{
    PyTypeObject *type = Py_TYPE(o->instance);
#if FIBRIL_PY_PORTABLE
    return PyObject_HasAttr((PyObject *)type, fibril__py_optional_names[hook]);
#else
    return _PyType_Lookup(type, fibril__py_optional_names[hook]) != NULL;
#endif
}

static int on_idle(struct pyactor *o, struct fibril_message *m)
{
    if (*(uint64_t *)fibril_message_data(m) == o->idle_turn && handles(o, ON_IDLE)) {
        return on_hook(o, m, ON_IDLE, /* with= */ false);
    }
    fibril__py_mail_free(m);
    return GO_ON;
}

static int on_signal(struct pyactor *o, struct fibril_message *m)
{
    const struct fibril_signal *signal = fibril_message_data(m);
    enum optional hook = m->tag == FIBRIL_TAG_DOWN ? ON_DOWN : ON_EXIT;
    if (m->tag == FIBRIL_TAG_EXIT && signal->actor == o->parent) {
        int reason = signal->reason;
        fibril__py_mail_free(m);
        o->stopping = true;
        o->reason = reason;
        return GO_ON;
    }
    if (handles(o, hook)) {
        return on_hook(o, m, hook, /* with= */ true);
    }
    fibril__py_mail_free(m);
    return GO_ON;
}

/* ---- what every behaviour is asked ---- */

static int on_replace(struct pyactor *o, struct fibril_message *m)
{
    struct mail *mail = fibril_message_data(m);
    PyObject *result = PyObject_CallFunctionObjArgs(fibril__py_hooks[HOOK_CHANGE], o->instance,
                                                    mail->args[0], NULL);
    if (result) {
        reply(m->from, MAIL_VALUE, result);
    } else { /* all is as it was */
        reply(m->from, MAIL_REFUSED, fibril__py_take_exception());
    }
    fibril__py_mail_free(m);
    return GO_ON;
}

static int on_status(struct pyactor *o, struct fibril_message *m)
{
    PyObject *text =
        PyObject_CallFunctionObjArgs(fibril__py_hooks[HOOK_DESCRIBE], o->instance, NULL);
    Py_ssize_t size = 0;
    const char *utf8 = text && PyUnicode_Check(text) ? PyUnicode_AsUTF8AndSize(text, &size) : NULL;
    if (utf8) {
        fibril_server_reply(m->from, utf8, (size_t)size + 1);
    } else {
        PyErr_Clear();
        fibril_actor_refuse(m->from, -EPROTO);
    }
    Py_XDECREF(text);
    fibril__py_mail_free(m);
    return GO_ON;
}

static int dispatch(struct pyactor *o, struct fibril_message *m)
{
    bool sound = LIKELY(m->type == &fibril__py_mail_type) || fibril__py_mail_is_sound(m);
    switch (sound ? m->tag : 0) {
    case MAIL_METHOD:
    case MAIL_STREAM: return on_method(o, m);
    case MAIL_IDLE: return on_idle(o, m);
    case MAIL_REPLACE: return on_replace(o, m);
    case FIBRIL_TAG_DOWN:
    case FIBRIL_TAG_EXIT: return on_signal(o, m);
    case FIBRIL__TAG(FIBRIL__TAG_STATUS_): return on_status(o, m);
    case FIBRIL__TAG(FIBRIL__TAG_STOP_):
        if (m->size == sizeof o->reason) {
            o->stopping = true;
            o->reason = *(int *)fibril_message_data(m);
        }
        fibril__py_mail_free(m); /* answered by the end */
        return GO_ON;
    default: break;
    }
    if (handles(o, ON_MESSAGE)) {
        return on_hook(o, m, ON_MESSAGE, /* with= */ true);
    }
    fibril__behave_unhandled(m);
    return GO_ON;
}

/* ---- idleness ---- */

static void idle_ends(struct pyactor *o)
{
    if (o->idle_timer) {
        fibril_actor_cancel_timer(o->idle_timer);
        o->idle_timer = 0;
    }
}

/* Without memory for it this idleness is not noticed. */
static void idle_begins(struct pyactor *o)
{
    struct fibril_message *m;
    o->idle_turn++;
    if (fibril_message_of(MAIL_IDLE, &o->idle_turn, sizeof o->idle_turn, &m) == 0 &&
        fibril_actor_send_at(o->record->id, m, fibril_after(o->idle_ns), 0, &o->idle_timer) < 0) {
        fibril_message_free(m);
    }
}

/* ---- beginning and end ---- */

/* The __init__ of class has raised: the starter gets that, a supervisor's child is reported. */
static void fail_to_begin(struct pyactor *o, PyObject *class)
{
    PyObject *exception;
    fibril__py_cancel_settle(fibril__py_self());
    if (o->parent) {
        fibril_actor_unlink(o->parent);
    }
    if (o->child) {
        fibril__py_actor_crashed(class, NULL, &exception);
        Py_XSETREF(o->child->failure, Py_XNewRef(exception));
    } else {
        exception = fibril__py_take_exception();
    }
    reply(o->starter, MAIL_ERROR, exception);
}

static int begin(struct pyactor *o)
{
    PyObject *class = Py_NewRef(o->fn);
    o->instance = PyObject_Call(class, o->args, o->kwargs);
    if (o->instance) {
        fibril_server_reply(o->starter, NULL, 0);
    } else {
        fail_to_begin(o, class);
    }
    Py_DECREF(class);
    fibril__py_actor_forget(o);
    return o->instance ? GO_ON : FIBRIL_STOP;
}

/* terminate(reason), if there is one. What it raises changes nothing. */
static void terminate(struct pyactor *o, int reason)
{
    if (!o->instance || !handles(o, TERMINATE)) {
        return;
    }
    PyObject *why = PyObject_CallFunction(fibril__py_hooks[HOOK_REASON], "i", reason);
    PyObject *name = fibril__py_optional_names[TERMINATE];
    PyObject *result = why ? PyObject_CallMethodOneArg(o->instance, name, why) : NULL;
    if (!result) {
        fibril__py_cancel_settle(fibril__py_self());
        PyErr_WriteUnraisable(o->instance);
    }
    Py_XDECREF(result);
    Py_XDECREF(why);
}

static void end(struct pyactor *o, int result, struct pyfibril *p)
{
    struct fibril__actor *a = o->record;
    if (is_told(o)) {
        result = a->reason;
    } else if (result == -ECANCELED) {
        result = FIBRIL_EXIT_SHUTDOWN;
    } else if (result == FIBRIL_STOP) {
        result = FIBRIL_EXIT_NORMAL;
    }
    fibril__py_cancel_over(p);
    idle_ends(o);
    terminate(o, result);
    Py_CLEAR(o->instance);
    fibril__actor_die(a, result);
    fibril__py_cancel_over(p);
    fibril__py_actor_free(o);
    fibril__py_mail_drain();
}

static int stop_reason(const struct pyactor *o)
{
    return o->reason == FIBRIL_EXIT_NORMAL ? FIBRIL_STOP : o->reason;
}

/* One message, if there is one. Returns false if the actor waits now, or has ended. */
static bool turn(struct pyactor *o, struct pyfibril *p)
{
    struct fibril_message *m = fibril__mailbox_take(o->record);
    int rc = GO_ON;
    if (m) {
        idle_ends(o);
        rc = fibril__py_mail_open(o->record->id, &m) ? dispatch(o, m) : GO_ON;
    } else if (is_told(o)) {
        rc = -ECANCELED;
    } else {
        if (o->idle_ns && !o->idle_timer) {
            idle_begins(o);
        }
        return !fibril__passive_leave(o->record);
    }
    if (o->stopping && rc == GO_ON) {
        rc = stop_reason(o);
    }
    if (rc != GO_ON) {
        end(o, rc, p);
        return false;
    }
    return true;
}

void fibril__py_actor_serve(struct pyactor *o, struct pyfibril *p)
{
    fibril__py_mail_drain();
    fibril__passive_enter(o->record);
    int rc = o->instance ? GO_ON : is_told(o) ? -ECANCELED : begin(o);
    if (rc != GO_ON) {
        end(o, rc, p);
        return;
    }
    for (unsigned n = 0; turn(o, p); n++) {
        if (n == BATCH) {
            n = 0;
            fibril__py_leave(p);
            fibril_yield();
            fibril__py_enter(p);
        }
    }
}
