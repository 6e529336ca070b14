/* SPDX-License-Identifier: MIT */
/*
 * For tools/gdb_fibril.py: with this table it reads the Python stack of a fibril, live or in a core
 * file, without debug information of CPython, which is seldom installed. Nothing here calls it.
 *
 * Rejected: numbers per version in the script. The headers know them, and a build of CPython with
 * other options has others.
 */
#include "pyframe.h"

#define FRAME(field) offsetof(struct fibril__pyframe, field)
#define CODE(field) offsetof(PyCodeObject, field)
#define STATE(field) offsetof(PyThreadState, field)

const struct fibril__pylayout fibril__pystate_layout = {
#if PY_VERSION_HEX < 0x030f0000
    .version = PY_VERSION_HEX,
    .ts_prev = STATE(prev),
    .ts_next = STATE(next),
    .ts_thread_id = STATE(thread_id),
#if FIBRIL__HAS_CFRAME
    .ts_frame = STATE(cframe),
    .cframe_frame = offsetof(_PyCFrame, current_frame),
#else
    .ts_frame = STATE(current_frame),
    .cframe_frame = -1,
#endif
    .frame_code = FRAME(code),
    .frame_previous = FRAME(previous),
    .frame_instr = FRAME(instr),
    .frame_owner = FRAME(owner),
    .code_name = CODE(co_qualname),
    .code_file = CODE(co_filename),
    .code_line = CODE(co_firstlineno),
    .code_table = CODE(co_linetable),
    .code_traceable = CODE(_co_firsttraceable),
    .code_instr = CODE(co_code_adaptive),
    .bytes_len = offsetof(PyVarObject, ob_size),
    .bytes = offsetof(PyBytesObject, ob_sval),
    .str_len = offsetof(PyASCIIObject, length),
    .str_bits = offsetof(PyASCIIObject, state),
    .str_kind_shift = 2, /* a bit-field: no expression tells */
    .str_ascii_shift = 6,
    .str_ascii = sizeof(PyASCIIObject),
    .str = sizeof(PyCompactUnicodeObject),
#endif
};
