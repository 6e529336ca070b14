/* SPDX-License-Identifier: MIT */
/*
 * The only door to what differs between versions of CPython: which thread state is current, and
 * where a thread state keeps its Python frames. See pystate.c.
 */
#ifndef FIBRIL_PY_PYSTATE_H
#define FIBRIL_PY_PYSTATE_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdbool.h>

/* ---- the current thread state (pystate_swap.c) ---- */

/* Finds out whether the current thread state can be exchanged while the GIL stays held, here and
 * now. Call with the GIL, on the main thread, before any other fibril runs. May let other OS
 * threads have the GIL for a moment. */
bool fibril__pystate_init(void);

/* What it found. */
bool fibril__pystate_can_swap(void);

/* Makes ts the current thread state of the OS thread, which keeps the GIL. */
void fibril__pystate_swap(PyThreadState *ts);

/* The running fibril parks and the GIL stays held, in the name of nobody, until a swap. */
void fibril__pystate_keep(void);

/* While the running fibril hands over to another that shares its thread state, which stays the
 * current one, the OS thread must not say so where each fibril has thread-locals of its own: hidden
 * before, shown again after. Only where can_swap() says so, on the loop's OS thread. */
void fibril__pystate_hide_words(void);
void fibril__pystate_show_words(PyThreadState *ts);

static inline void fibril__pystate_hide(void)
{
#if PY_VERSION_HEX >= 0x030c0000
    fibril__pystate_hide_words();
#endif
}

static inline void fibril__pystate_show(PyThreadState *ts)
{
#if PY_VERSION_HEX >= 0x030c0000
    fibril__pystate_show_words(ts);
#else
    (void)ts;
#endif
}

/* Releases the GIL after a keep. */
void fibril__pystate_release(void);

/* Deletes ts, the current thread state. Returns whether the GIL is kept like the above; where that
 * would be unsafe it is released. */
bool fibril__pystate_delete(PyThreadState *ts);

/* A thread state for the calling fibril, as good as new; NULL: one has to be made
 * (pystate_reuse.c). With the GIL or before it is taken, on the loop's OS thread. */
PyThreadState *fibril__pystate_reuse(void);

/* Keeps ts, the current thread state, which has been cleared and has no frames, for the next
 * fibril; the GIL stays held. Returns false where it has to be deleted. */
bool fibril__pystate_retire(PyThreadState *ts);

/* Whether a new thread state must take the GIL itself before a swap may make it the current one:
 * 3.14 notes the bounds of the C stack then. */
#define FIBRIL__PYSTATE_FIRST_TAKES_GIL (PY_VERSION_HEX >= 0x030e0000)

/* The current thread state, NULL if there is none. */
PyThreadState *fibril__pystate_current(void);

/* The thread-locals of the calling OS thread in which CPython (3.12 and later) notes that a thread
 * state is current there. A fibril that parks with the GIL, in a C library that does not release
 * it, leaves them set; the next one must find them empty, or 3.13 gives up. They are found by what
 * they hold, not by name: no version exports one. With the GIL, on a loop. Returns how many. */
enum { FIBRIL__PYSTATE_WORDS = 4 };
unsigned fibril__pystate_words(void **ret_words[FIBRIL__PYSTATE_WORDS]);

/* Gives ts, which has run nothing yet, `memory` for its first Python frames; CPython adds chunks of
 * its own when they do not fit. Returns false if ts has frames already, and on the portable path.
 */
bool fibril__pystate_lend_frames(PyThreadState *ts, void *memory, size_t bytes);

/* The memory that ts was lent, if it was lent that many bytes; NULL otherwise. */
void *fibril__pystate_lent_frames(const PyThreadState *ts, size_t bytes);

/* Takes them back from ts, which has no frame any more. */
void fibril__pystate_return_frames(PyThreadState *ts);

/* Keeps the 16 KiB chunks that CPython maps and unmaps for deeper frames for reuse. With the GIL.
 */
void fibril__pystate_pool_chunks(void);

/* Whether the interpreter is being finalised, or has been: who asks for the GIL then, and is not
 * the thread that does it, is ended by CPython (3.14: stopped). With or without the GIL. */
bool fibril__pystate_is_gone(void);

/* Whether the code at `address` is CPython's own: in the object that holds its core. */
bool fibril__pystate_is_code(const void *address);

/* Whether the object at `address` is a part of CPython's own state: the GIL, for one, and what goes
 * with it. */
bool fibril__pystate_is_runtime(const void *address);

/* Between the end by EINTR of a wait for a lock and the exception of a pending call CPython asks so
 * many times, to no purpose of ours, whether the calling thread is the main one. */
#define FIBRIL__PYSTATE_ASKED_BEFORE (PY_VERSION_HEX < 0x030c0000 ? 1 : 0)

/* Whether an exception set by PyThreadState_SetAsyncExc has not been raised in ts yet. */
bool fibril__pystate_async_pending(PyThreadState *ts);

/* Makes the next check of the depth of recursion in ts fail with RecursionError, as if it had got
 * so many levels deeper. Returns false where this version does not count levels. The caller may
 * have interrupted ts anywhere. Async-signal-safe. */
/* (3.14 raises by itself; there only the answer is of use.) */
bool fibril__pystate_exhaust(PyThreadState *ts, int *ret_levels);
/* Takes levels back. */
void fibril__pystate_replenish(PyThreadState *ts, int levels);

/* Writes the Python frames of ts, innermost first, to descriptor fd. Async-signal-safe. Returns
 * false where this interpreter offers no way. */
bool fibril__pystate_write_frames(const PyThreadState *ts, int fd);
/* Says how, for people. */
const char *fibril__pystate_frames_source(void);

/* The contextvars' context of ts, NULL while it has none. Borrowed. */
PyObject *fibril__pystate_context(const PyThreadState *ts);

/* ---- slices (pystate_slice.c, pystate_frames.c) ---- */

/* Whether this version counts calls of C. */
#define FIBRIL__HAS_C_DEPTH (PY_VERSION_HEX >= 0x030c0000 && PY_VERSION_HEX < 0x030e0000)

/* The part of a thread state that belongs to one of several contexts which share it: what greenlets
 * and tasklets exchange at a switch. The running context's slice is stale; what it last held is in
 * the thread state. */
struct fibril__pyslice {
    struct _PyInterpreterFrame *frame; /* the innermost one, while the context does not run */
    void *cframe;                      /* 3.11, 3.12: where the interpreter keeps that, in the
                                          C stack of the context */
    _PyStackChunk *chunk;              /* Python's frames */
    PyObject **top, **limit;
    _PyErr_StackItem *exc_info; /* exceptions being handled: the innermost */
    _PyErr_StackItem exc;       /* the outermost; that of a thread's first context is in the thread
                                   state */
    PyObject *context;          /* of contextvars, or NULL; may be set while it does not run */
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *later; /* chain of objects to be freed */
#endif
#if PY_VERSION_HEX >= 0x030e0000
    void *executor;
    uintptr_t c_stack[3]; /* the bounds that CPython checks the stack pointer against */
#endif
    int depth; /* calls under way */
#if FIBRIL__HAS_C_DEPTH
    int c_depth;
#endif
    int16_t trash, tracing; /* small numbers: CPython puts objects off beyond 50 levels */
};

/* A context that has not begun counts its calls from nothing, those of C from c_depth on. */
static inline void fibril__pyslice_count_from(struct fibril__pyslice *s, int c_depth)
{
    s->depth = 0;
#if FIBRIL__HAS_C_DEPTH
    s->c_depth = c_depth;
#else
    (void)c_depth;
#endif
}

/* Whether this build can have several contexts in a thread state. */
extern const bool fibril__pyslice_possible;

/* Moves what belongs to the running context from ts to s. Python must not run until another slice
 * has been loaded, or a fresh state made. */
void fibril__pyslice_save(struct fibril__pyslice *s, PyThreadState *ts);

/* Both at once: `from` is the running context, and `to` the one that runs next. */
void fibril__pyslice_exchange(struct fibril__pyslice *from, struct fibril__pyslice *to,
                              PyThreadState *ts);

/* Calls under way in the running context: of Python, and of C where this version counts them. */
int fibril__pyslice_depth(const PyThreadState *ts);
int fibril__pyslice_c_depth(const PyThreadState *ts);

/* Moves it back, once the C stack of the context is in place. */
void fibril__pyslice_load(struct fibril__pyslice *s, PyThreadState *ts);

/* Gives ts the state of a context that begins, which is that of s but for s->context. s must stay
 * in place until the context has ended. Its first Python frames go to `memory`; CPython adds chunks
 * of its own, and frees them, when they do not fit. The first FIBRIL__PYSLICE_HEAD bytes are lost
 * to bookkeeping. Calls under way are counted from those of ts on. */
enum { FIBRIL__PYSLICE_HEAD = 56 };
void fibril__pyslice_fresh(struct fibril__pyslice *s, PyThreadState *ts, void *memory,
                           size_t bytes);

/* Tells ts on which C stack the context runs that has just been made fresh; so many bytes at its
 * low end are left for C code between two checks, where a version checks. */
enum { FIBRIL__PYSLICE_STACK_LEFT = 2 * 2048 * sizeof(void *) };
void fibril__pyslice_on_stack(PyThreadState *ts, const void *low, size_t bytes);

/* Takes what is left from ts, in which the context of s has ended, so that another slice may be
 * loaded. Runs no Python: what it held (the contextvars' context) is returned in s->context. */
void fibril__pyslice_ended(struct fibril__pyslice *s, PyThreadState *ts);

/* Where the byte at p of the C stack of a context that does not run is now. On 3.12 and later some
 * of its frames lie there; NULL: the stack is where it was. */
typedef void *fibril__pyslice_at(void *arg, void *p);

/* The same for a context that does not run and never will again. Its frames are abandoned, with all
 * they hold; chunks of CPython's are freed. Returns false and leaves all as it is when frame
 * objects refer to them: then the lent memory must stay, too. */
bool fibril__pyslice_abandon(struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg);

/* Bytes that the Python frames take beyond the memory that was lent, of a context that does not
 * run. */
size_t fibril__pyslice_beyond(const struct fibril__pyslice *s);

/* The innermost frame of a context that does not run, a new reference; NULL without an exception
 * if it has none. */
PyObject *fibril__pyslice_frame(struct fibril__pyslice *s, PyThreadState *ts);

/* On 3.12 and later a frame may be linked to the next by way of the C stack, and following that
 * link is only safe while that stack is in place. So whoever moves stacks puts itself before
 * CPython's own getter of f_back, which is returned: NULL where there is no need. */
getter fibril__pyframe_on_back(getter fn);

/* Whether the frame is one of the running context of ts. */
bool fibril__pyframe_runs(PyObject *frame, const PyThreadState *ts);

/* What a frame object is linked to: an address to be looked at, not followed. */
const void *fibril__pyframe_below(PyObject *frame);

/* Whether the frame is one of s, a context that does not run; ret_back: a new reference to the next
 * one or None; NULL with an exception. */
bool fibril__pyslice_back(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                          PyObject *frame, PyThreadState *ts, PyObject **ret_back);

/* Calls fn with the code of each frame of s, a context that does not run, the innermost first,
 * until it returns something else than 0; returns that. */
int fibril__pyslice_codes(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *at_arg,
                          int (*fn)(PyObject *code, void *arg), void *arg);

/* Loops of the interpreter that C code has started within the outermost one, and that are under
 * way: of s, a context that does not run, and of the running one of ts. */
int fibril__pyslice_nesting(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg);
int fibril__pystate_nesting(const PyThreadState *ts);

/* How deep the deallocation of objects nests in ts, before 3.13; -1 later. */
int fibril__pystate_trash(const PyThreadState *ts);

/* The C function in which a context has stopped, a METH_FASTCALL one of ours: what it is a method
 * of, and where its arguments end, which is kept small. */
struct fibril__pycall {
    PyObject *self;
    uint32_t end; /* see below; 0: not known */
};

static inline uint32_t fibril__pycall_end(const void *args, Py_ssize_t n)
{
    return (uint32_t)((uintptr_t)args / sizeof(PyObject *) + (uintptr_t)n);
}

/* For the garbage collector: visits what s and its frames hold, their value stacks as far as it is
 * certain how high they are, and drops what s does; of a context that does not run. `call`: that of
 * the innermost frame; NULL: another, or not known. */
int fibril__pyslice_traverse(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *at_arg,
                             const struct fibril__pycall *call, visitproc visit, void *arg);
void fibril__pyslice_clear(struct fibril__pyslice *s);

/* ---- layout (pystate_layout.c) ---- */

/* Where a debugger finds the Python stack of a thread state: offsets in bytes, for the version of
 * CPython that this has been compiled for. */
struct fibril__pylayout {
    unsigned version;           /* PY_VERSION_HEX; 0: not known */
    unsigned ts_prev, ts_next;  /* PyThreadState: the list of the interpreter's */
    unsigned ts_thread_id;      /* the thread's identity */
    unsigned ts_frame;          /* the innermost frame, or the cframe that leads to it: */
    int cframe_frame;           /* -1: there is none */
    unsigned frame_code;        /* the code object; in 3.14 with two bits of its own */
    unsigned frame_previous;    /* the frame that called it */
    unsigned frame_instr;       /* the address of the instruction */
    unsigned frame_owner;       /* char; frames of owners above 1 are not Python's */
    unsigned code_name;         /* code: str, with the class */
    unsigned code_file;         /* str */
    unsigned code_line;         /* int: the first */
    unsigned code_table;        /* bytes: the lines of the instructions */
    unsigned code_traceable;    /* int: the instruction before which the frame is not complete */
    unsigned code_instr;        /* the instructions */
    unsigned bytes_len, bytes;  /* bytes object: Py_ssize_t; the bytes */
    unsigned str_len, str_bits; /* str: Py_ssize_t; 32 bits, of which: */
    unsigned str_kind_shift;    /* three: the size of a character */
    unsigned str_ascii_shift;   /* one */
    unsigned str_ascii, str;    /* the characters, if it is set and otherwise */
};
extern const struct fibril__pylayout fibril__pystate_layout;

/* ---- frames as data (pystate_resume.c) ---- */

/* Whether this build can read the frames of a context that does not run, and continue copies of
 * them in another one. */
extern const bool fibril__pyframes_possible;

struct fibril__pyframe_info {
    PyObject *func, *code; /* borrowed */
    int instr;             /* the code unit of the instruction that it is in; up to 3.12, of one
                              that calls a Python function, the last unit */
    int next;              /* where such a one goes on */
    int used;              /* variables and stack entries in use; -1: only the code can tell */
    bool entry;            /* C code called it */
    bool plain;            /* a function's: no generator, class body or module */
};

/* Frame number n of s, which does not run, counted from the innermost. Returns false if there is
 * none. */
bool fibril__pyslice_describe(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                              unsigned n, struct fibril__pyframe_info *ret_frame);

/* A tuple of its first `count` variables and stack entries, with `null` for what is unset, and
 * (null, number) for what is a number and no object. */
PyObject *fibril__pyslice_values(const struct fibril__pyslice *s, fibril__pyslice_at *at, void *arg,
                                 unsigned n, int count, PyObject *null);

/* The address of what stands at place i. Not to be followed: C code that a frame calls may have
 * dropped what it was called with. */
uintptr_t fibril__pyslice_address(const struct fibril__pyslice *s, fibril__pyslice_at *at,
                                  void *arg, unsigned n, int i);

struct fibril__pyframe; /* pyframe.h */

/* Frames on their way to being continued. First they are pushed, on top of those of the running
 * function F; then F calls a function G in Python, and G's call of link() puts them between F and
 * G: what G returns or raises is what the innermost of them goes on with, and what the outermost
 * returns or raises is what F's call of G does. So the interpreter itself enters and leaves them.
 */
struct fibril__pyframes {
    struct fibril__pyframe *base, *first, *last; /* F's; of those pushed, the outermost and the
                                                    innermost */
    int count;
    bool linked;
    _PyStackChunk *chunk; /* where the data stack was before */
    PyObject **top, **limit;
};

/* frames: a list of (function, code unit of the call, of the next instruction, values), the
 * outermost first. -1 with an exception. */
int fibril__pyframes_push(struct fibril__pyframes *p, PyThreadState *ts, PyObject *frames,
                          PyObject *null);
/* Takes over `handled`, the exception that is being handled in them, or NULL. */
int fibril__pyframes_link(struct fibril__pyframes *p, PyThreadState *ts, PyObject *handled);
/* Once linked: the innermost of them, which waits for the next value of a loop, is made to execute
 * that instruction again, at code unit `again`, on an iterator that has no more. Returns what G is
 * to return; NULL with an exception. */
PyObject *fibril__pyframes_leave_loop(struct fibril__pyframes *p, int again);
/* Called by F, when G did not come to linking them; does nothing else. */
void fibril__pyframes_drop(struct fibril__pyframes *p, PyThreadState *ts);

/* What doctor says of the paths taken. */
const char *fibril__pystate_describe(void);

#endif
