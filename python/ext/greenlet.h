/* SPDX-License-Identifier: MIT */
/*
 * The C interface of greenlet, as fibril provides it: for extensions that make greenlets or switch
 * between them. Binary compatible, both ways, with the header of the greenlet package: the order of
 * the capsule's entries and the layout of the object are that package's.
 *
 *     #include <greenlet.h>
 *     ...
 *     PyGreenlet_Import();          once, in the module's initialisation; sets an exception or not
 *
 * The capsule is taken from the module `greenlet`, which is fibril's after
 * fibril.greenlet.install() and the greenlet package's otherwise.
 */
#ifndef Py_GREENLETOBJECT_H
#define Py_GREENLETOBJECT_H

#include <Python.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GREENLET_VERSION "1.0.0" /* of this interface: it does not change */

typedef struct _greenlet {
    PyObject_HEAD PyObject *weakreflist;
    PyObject *dict;
    void *pimpl; /* private */
} PyGreenlet;

/* What the capsule holds, by position. */
enum {
    PyGreenlet_Type_NUM = 0,
    PyExc_GreenletError_NUM = 1,
    PyExc_GreenletExit_NUM = 2,
    PyGreenlet_New_NUM = 3,
    PyGreenlet_GetCurrent_NUM = 4,
    PyGreenlet_Throw_NUM = 5,
    PyGreenlet_Switch_NUM = 6,
    PyGreenlet_SetParent_NUM = 7,
    PyGreenlet_MAIN_NUM = 8,
    PyGreenlet_STARTED_NUM = 9,
    PyGreenlet_ACTIVE_NUM = 10,
    PyGreenlet_GET_PARENT_NUM = 11,
    PyGreenlet_API_pointers = 12
};

#ifndef GREENLET_MODULE

static void **_PyGreenlet_API = NULL;

#define PyGreenlet_Import()                                                                        \
    ((void)(_PyGreenlet_API = (void **)PyCapsule_Import("greenlet._C_API", 0)))

#define PyGreenlet_Type (*(PyTypeObject *)_PyGreenlet_API[PyGreenlet_Type_NUM])
#define PyExc_GreenletError ((PyObject *)_PyGreenlet_API[PyExc_GreenletError_NUM])
#define PyExc_GreenletExit ((PyObject *)_PyGreenlet_API[PyExc_GreenletExit_NUM])
#define PyGreenlet_Check(op) ((op) && PyObject_TypeCheck(op, &PyGreenlet_Type))

/* A new greenlet; run and parent may be NULL. New reference, or NULL with an exception. */
#define PyGreenlet_New                                                                             \
    (*(PyGreenlet * (*)(PyObject * run, PyGreenlet * parent)) _PyGreenlet_API[PyGreenlet_New_NUM])

/* The current greenlet of the calling thread, a new reference. */
#define PyGreenlet_GetCurrent (*(PyGreenlet * (*)(void)) _PyGreenlet_API[PyGreenlet_GetCurrent_NUM])

/* Switches to g and raises an exception there. As g.throw(type, value, traceback). */
#define PyGreenlet_Throw                                                                           \
    (*(PyObject * (*)(PyGreenlet * g, PyObject * type, PyObject * value, PyObject * traceback))    \
         _PyGreenlet_API[PyGreenlet_Throw_NUM])

/* As g.switch(*args, **kwargs); both may be NULL. New reference, or NULL with an exception. */
#define PyGreenlet_Switch                                                                          \
    (*(PyObject * (*)(PyGreenlet * g, PyObject * args, PyObject * kwargs))                         \
         _PyGreenlet_API[PyGreenlet_Switch_NUM])

/* As g.parent = parent. 0, or -1 with an exception. */
#define PyGreenlet_SetParent                                                                       \
    (*(int (*)(PyGreenlet * g, PyGreenlet * parent)) _PyGreenlet_API[PyGreenlet_SetParent_NUM])

/* New reference, or NULL: no exception is set then. */
#define PyGreenlet_GetParent                                                                       \
    (*(PyGreenlet * (*)(PyGreenlet *)) _PyGreenlet_API[PyGreenlet_GET_PARENT_NUM])
#define PyGreenlet_GET_PARENT PyGreenlet_GetParent

/* Whether it is a thread's main one, has ever begun, has begun and not ended. */
#define PyGreenlet_MAIN (*(int (*)(PyGreenlet *))_PyGreenlet_API[PyGreenlet_MAIN_NUM])
#define PyGreenlet_STARTED (*(int (*)(PyGreenlet *))_PyGreenlet_API[PyGreenlet_STARTED_NUM])
#define PyGreenlet_ACTIVE (*(int (*)(PyGreenlet *))_PyGreenlet_API[PyGreenlet_ACTIVE_NUM])

#endif

#ifdef __cplusplus
}
#endif

#endif
