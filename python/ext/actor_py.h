/* SPDX-License-Identifier: MIT */
/*
 * Actors in Python: what the files actor_*.c share.
 *
 * An actor of a class is a passive actor of the core (src/actor/passive.c): a record with an object
 * and no fibril. When there is mail one of a few Python fibrils, the workers, acts as the actor,
 * calls the handlers, and goes on to the next. Function actors have a fibril of their own. Both are
 * actors like C's: same numbers, signals, supervisors.
 *
 * Messages carry references. They are released on whatever OS thread a message ends, which may not
 * have the GIL: those references go on a list that is emptied by whoever next runs Python here.
 */
#ifndef FIBRIL_PY_ACTOR_H
#define FIBRIL_PY_ACTOR_H

#include "fibril_py.h"

#include "actor/actor.h"
#include "actor/remote.h"
#include "base/compiler.h"

/* ---- messages (actor_message.c) ---- */

/* Tags of messages that Python made, and Python only. */
#define MAIL_TAG(n) (UINT64_C(1) << 63 | UINT64_C(0x70790000) | (n))
#define MAIL_METHOD MAIL_TAG(1)  /* a struct mail with a name: call, cast */
#define MAIL_STREAM MAIL_TAG(2)  /* the same: a call with many replies */
#define MAIL_OBJECT MAIL_TAG(3)  /* a struct mail with one argument and no name */
#define MAIL_BOX MAIL_TAG(4)     /* a struct box *: an object that can be copied without the GIL */
#define MAIL_VALUE MAIL_TAG(5)   /* a reference: a reply */
#define MAIL_ERROR MAIL_TAG(6)   /* the same: the handler's exception, which ended the actor */
#define MAIL_REFUSED MAIL_TAG(7) /* the same: an exception that is the answer */
#define MAIL_IDLE MAIL_TAG(8)    /* a uint64_t: which idleness this is */
#define MAIL_REPLACE MAIL_TAG(9) /* a struct mail whose argument is the new class */

/* What calls carry: a method with its arguments, laid out as they are passed on. */
struct mail {
    PyObject *name;   /* of the method; NULL: none */
    PyObject *names;  /* of the last arguments; NULL: all are by place */
    size_t n;         /* arguments in all */
    PyObject *self;   /* borrowed: who is called */
    PyObject *args[]; /* references */
};

/* Makes a message from arguments, which are borrowed. 0 or -ENOMEM. With the GIL. */
int fibril__py_mail_new(uint64_t tag, PyObject *name, PyObject *const *args, size_t n,
                        PyObject *names, struct fibril_message **ret_message);
/* Makes one with a single reference, which is taken: MAIL_VALUE and so on. */
int fibril__py_mail_value(uint64_t tag, PyObject *value, struct fibril_message **ret_message);
/* Makes one that fibril_message_copy can copy. */
int fibril__py_mail_box(PyObject *object, struct fibril_message **ret_message);

/* What the message is to Python: an object that was sent, or one of fibril.actors' classes. The
 * message keeps what it has. A new reference; NULL with an exception. */
PyObject *fibril__py_mail_decode(struct fibril_message *m);

/* Takes the reference out of a message of one, and frees that. */
PyObject *fibril__py_mail_take(struct fibril_message *m);

/* Frees a message with the GIL. */
void fibril__py_mail_free(struct fibril_message *m);

/* Releases a reference, or NULL, with or without the GIL, from any OS thread, some time. */
void fibril__py_release_later(PyObject *object);

extern const struct fibril_message_type fibril__py_mail_type, fibril__py_value_type,
    fibril__py_box_type;

/* ---- messages to and from other processes (actor_pickle.c) ---- */

/* What has come from, or goes to, another process: a pickle. */
extern const struct fibril_message_type fibril__py_pickled_type;

/* Whether there may be other processes. */
extern bool fibril__py_nodes;

/* Whether an actor is of another process. */
bool fibril__py_is_away(uint64_t actor);

/* Makes *m what can be sent to `to`: for actors of other processes a pickle. Returns false with an
 * exception, and *m as it was. With the GIL; may run Python. */
bool fibril__py_mail_carry_slow(uint64_t to, struct fibril_message **m);
static inline bool fibril__py_mail_carry(uint64_t to, struct fibril_message **m)
{
    return LIKELY(!fibril__py_nodes) || fibril__py_mail_carry_slow(to, m);
}

/* A message that replies to `to` with a value, which is taken; if that cannot go there, with the
 * exception that says so. 0 or -ENOMEM. */
int fibril__py_mail_reply(uint64_t to, uint64_t tag, PyObject *value,
                          struct fibril_message **ret_message);

/* Makes *m, which `self` has taken from its mailbox, what was sent. Returns false if that cannot be
 * read: then it was reported and answered, and is gone. */
bool fibril__py_mail_open_slow(uint64_t self, struct fibril_message **m);
static inline bool fibril__py_mail_open(uint64_t self, struct fibril_message **m)
{
    return LIKELY((*m)->type != &fibril__py_pickled_type) || fibril__py_mail_open_slow(self, m);
}

/* What was sent, as a message of its own; NULL with an exception. m is a pickle, and stays. */
struct fibril_message *fibril__py_mail_read(struct fibril_message *m);

/* Whether the data are what the tag says: another process can write any tag. */
bool fibril__py_mail_is_sound(const struct fibril_message *m);

/* Sends an object to each of them; counts who took it. 0, 1 or -errno. MAY PARK. */
int fibril__py_fan_out(uint64_t *actors, size_t n, PyObject *object, int64_t deadline_ns,
                       int *ret_taken);

/* Raises that a message cannot be sent there, or could not be read there; NULL. */
PyObject *fibril__py_raise_unsent(int rc);

/* Releases what waits for the GIL. With it. */
void fibril__py_mail_drain_slow(void);
extern void *_Atomic fibril__py_mail_dead;
static inline void fibril__py_mail_drain(void)
{
    if (atomic_load_explicit(&fibril__py_mail_dead, memory_order_relaxed)) {
        fibril__py_mail_drain_slow();
    }
}

/* ---- what fibril.actors tells this module: its classes and functions ---- */

enum hook {
    HOOK_HANDLE,   /* ActorHandle, a subclass of _Handle */
    HOOK_DOWN,     /* Down(actor, ref, reason) */
    HOOK_EXIT,     /* Exit(actor, reason) */
    HOOK_LETTER,   /* DeadLetter(to, message) */
    HOOK_REQUEST,  /* Request(kind, name, args, kwargs, caller) */
    HOOK_FOREIGN,  /* Foreign(tag, data, caller): a message of C's */
    HOOK_REASON,   /* of a number: what Python says for it */
    HOOK_CRASHED,  /* (handle, actor or function, exception, message): reports, returns a number */
    HOOK_RAISED,   /* (handle, method, exception): what the caller gets */
    HOOK_ENDED,    /* (handle, errno): what the caller gets */
    HOOK_FULL,     /* MailboxFull */
    HOOK_REFUSE,   /* Refuse */
    HOOK_DESCRIBE, /* (actor): its state as text */
    HOOK_CHANGE,   /* (actor, class): gives it another class */
    HOOK_END_ALL,  /* (): at exit */
    HOOKS
};
extern PyObject *fibril__py_hooks[HOOKS];

/* ---- handles (actor_handle.c) ---- */

struct actor_handle {
    PyObject_HEAD uint64_t id;
};
extern PyTypeObject *fibril__py_handle_base;

/* A handle of an actor; None for 0. */
PyObject *fibril__py_actor_handle(uint64_t id);
/* The number that an object names; false with TypeError. */
bool fibril__py_actor_id(PyObject *handle, uint64_t *ret_id);
/* Raises what a call or a sending to `id` failed with; NULL. */
PyObject *fibril__py_actor_raise(uint64_t id, int rc);
/* "on_" and the name of a handler: of a str, or of the function itself. Borrowed. */
PyObject *fibril__py_method_name(PyObject *name);

/* What classes of actors may have. */
enum optional { ON_MESSAGE, ON_DOWN, ON_EXIT, ON_IDLE, TERMINATE, OPTIONALS };
extern PyObject *fibril__py_optional_names[OPTIONALS]; /* interned */
/* Sends m, which is taken, as a kind. Returns 0, or 1 or -errno. MAY PARK. */
int fibril__py_actor_send(uint64_t id, struct fibril_message *m, uint8_t kind, int64_t deadline_ns);

/* None, or the exception for -errno. */
static inline PyObject *fibril__py_none(int rc)
{
    return rc < 0 ? fibril__py_raise(rc) : Py_NewRef(Py_None);
}

/* ---- talking (actor_talk.c) ---- */

/* The message for a method, by the arguments of call, cast or stream, whose deadline it also reads.
 * NULL with an exception. */
struct fibril_message *fibril__py_method_message(uint64_t tag, PyObject *const *args, Py_ssize_t n,
                                                 PyObject *names, int64_t *ret_deadline_ns);
/* What a reply says: its value, or raises. m is taken. */
PyObject *fibril__py_answer(uint64_t id, PyObject *method, struct fibril_message *m);
/* The methods of handles. */
extern PyMethodDef fibril__py_talk_methods[];
PyObject *fibril__py_handle_stream(struct actor_handle *h, PyObject *const *args, Py_ssize_t n,
                                   PyObject *names);
extern const char fibril__py_handle_stream_doc[];

/* ---- lives (actor_start.c, actor_worker.c) ---- */

/* One Python actor, class or function. */
struct pyactor {
    struct fibril__actor *record; /* NULL: of a function */
    struct fibril__actor *next;   /* among those that wait for a worker */
    PyObject *fn, *args, *kwargs; /* until it has begun: the class or function, with arguments */
    PyObject *instance;
    struct fibril_from starter; /* who waits for its beginning */
    struct fibril_from from;    /* of the call that is being handled */
    uint64_t parent;            /* linked to it as its starter */
    uint64_t idle_timer, idle_turn;
    int64_t idle_ns;       /* 0: never idle */
    int reason;            /* with which it stops itself */
    struct pychild *child; /* of a supervisor: fn, args and kwargs are its; NULL: they are o's */
    bool stopping, deferred;
};

/* What a supervisor starts a Python child with; as long as anybody may start or be it. */
struct pychild {
    _Atomic uint32_t holders;
    bool passive;
    PyObject *fn, *args, *kwargs;
    PyObject *failure; /* what its last __init__ raised */
    const char **argv; /* of an OS process */
};

/* A pyactor with references of its own; NULL with MemoryError. */
struct pyactor *fibril__py_actor_new(PyObject *fn, PyObject *args, PyObject *kwargs);
void fibril__py_actor_free(struct pyactor *o);
/* It has begun: what it was to begin with goes. */
void fibril__py_actor_forget(struct pyactor *o);
/* The `hold` and the `start` of a child; arg is a struct pychild, or NULL to be held. Without the
 * GIL too. */
void fibril__py_child_hold(void *arg, bool on);
int fibril__py_child_start(void *arg, const struct fibril_actor_opts *opts, uint64_t *ret_actor);

/* From now on passive actors are served. 0 or -ENOMEM. */
int fibril__py_workers_start(void);
/* Serves o until there is nothing to be done. With the GIL, on a worker. MAY PARK. */
void fibril__py_actor_serve(struct pyactor *o, struct pyfibril *p);
/* The pyactor that the caller acts as; NULL: none, of a class. */
struct pyactor *fibril__py_actor_self(void);
/* The exception that is set has ended the actor: reports it, and returns the reason. Takes the
 * exception; ret_exception, if not NULL, gets it. */
int fibril__py_actor_crashed(PyObject *who, PyObject *message, PyObject **ret_exception);
/* The function of every class actor: says to reports what it is. Never called. */
int fibril__py_actor_fn(void *arg);

#endif
