/* SPDX-License-Identifier: MIT */
/*
 * The extension module fibril._fibril: its definition and the list of what adds itself to it,
 * nothing else. One interpreter, one loop: state is process-wide, and subinterpreters are refused.
 */
#include "fibril_py.h"
#if FIBRIL_PY_WSGI
#include "wsgi.h"
#endif

static int (*const areas[])(PyObject *module) = {
    fibril__py_errors_init,       fibril__py_fibril_init,       fibril__py_wait_init,
    fibril__py_enable_init,       fibril__py_chan_init,         fibril__py_sync_init,
    fibril__py_cancel_init,       fibril__py_timeout_init,      fibril__py_offload_init,
    fibril__py_dump_init,         fibril__py_preempt_init,      fibril__py_stackless_init,
    fibril__py_greenlet_init,     fibril__py_standstill_init,   fibril__py_actor_start_init,
    fibril__py_actor_handle_init, fibril__py_actor_stream_init, fibril__py_actor_receive_init,
    fibril__py_actor_life_init,   fibril__py_actor_later_init,  fibril__py_supervisor_init,
    fibril__py_observe_init,      fibril__py_actor_pickle_init, fibril__py_actor_node_init,
#if FIBRIL_PY_WSGI
    fibril__py_wsgi_init,
#endif
};

void fibril__py_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    if (type->tp_weaklistoffset > 0) {
        PyObject_ClearWeakRefs(self);
    }
    type->tp_clear(self);
    type->tp_free(self);
    Py_DECREF(type);
}

int fibril__py_add_types(PyObject *module, PyType_Spec *specs, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        PyObject *type = PyType_FromModuleAndSpec(module, &specs[i], NULL);
        int rc = type ? PyModule_AddType(module, (PyTypeObject *)type) : -1;
        Py_XDECREF(type);
        if (rc < 0) {
            return -1;
        }
    }
    return 0;
}

static int exec_module(PyObject *module)
{
    if (PyInterpreterState_Get() != PyInterpreterState_Main()) {
        PyErr_SetString(PyExc_ImportError, "fibril does not work in subinterpreters");
        return -1;
    }
    for (size_t i = 0; i < sizeof areas / sizeof *areas; i++) {
        if (areas[i](module) < 0) {
            return -1;
        }
    }
    return PyModule_AddStringConstant(module, "__version__", fibril_version());
}

static PyModuleDef_Slot slots[] = {
    {Py_mod_exec, exec_module},
#if PY_VERSION_HEX >= 0x030c0000
    {Py_mod_multiple_interpreters, Py_MOD_MULTIPLE_INTERPRETERS_NOT_SUPPORTED},
#endif
#if PY_VERSION_HEX >= 0x030d0000
    {Py_mod_gil, Py_MOD_GIL_USED},
#endif
    {0, NULL}};

PyDoc_STRVAR(module_doc, "Green threads: the part of fibril in C. Use the package fibril.");

static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, .m_name = "fibril._fibril",
                                        .m_doc = module_doc, .m_slots = slots};

PyMODINIT_FUNC PyInit__fibril(void);
PyMODINIT_FUNC PyInit__fibril(void)
{
    return PyModuleDef_Init(&definition);
}
