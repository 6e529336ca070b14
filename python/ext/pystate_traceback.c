/* SPDX-License-Identifier: MIT */
/*
 * Python stacks for people, written where nothing may be allocated, no lock be taken and nobody has
 * the GIL: in signal handlers and before an abort. The interpreter has such a writer of its own,
 * but exports it up to 3.12 only; it is left to the portable build, where there is none of ours.
 *
 * The frames may be those of a thread that was interrupted anywhere, so a frame without code is the
 * end, and there is a bound.
 */
#include "pyframe.h"

#include <dlfcn.h>
#include <string.h>
#include <unistd.h>

#if FIBRIL_PY_PORTABLE

static void (*find_writer(void))(int fd, const PyThreadState *ts)
{
    static void (*writer)(int fd, const PyThreadState *ts);
    static bool looked;
    if (!looked) {
        void *symbol = dlsym(RTLD_DEFAULT, "_Py_DumpTraceback");
        memcpy(&writer, &symbol, sizeof symbol);
        looked = true;
    }
    return writer;
}

bool fibril__pystate_write_frames(const PyThreadState *ts, int fd)
{
    void (*writer)(int fd, const PyThreadState *ts) = find_writer();
    if (writer) {
        writer(fd, ts);
    }
    return writer != NULL;
}

const char *fibril__pystate_frames_source(void)
{
    return find_writer() ? "written by the interpreter" : "not available";
}

#else

enum { MOST_FRAMES = 100, MOST_CHARACTERS = 500 };

/* A line is put together here, so that it comes out in one piece. */
struct line {
    char text[2048];
    size_t len;
};

static void put(struct line *l, const char *text, size_t len)
{
    size_t room = sizeof l->text - l->len;
    len = len < room ? len : room;
    memcpy(l->text + l->len, text, len);
    l->len += len;
}

static void put_text(struct line *l, const char *text)
{
    put(l, text, strlen(text));
}

static void put_number(struct line *l, unsigned n, unsigned base, size_t digits)
{
    char text[12];
    size_t at = sizeof text;
    do {
        text[--at] = "0123456789abcdef"[n % base];
        n /= base;
    } while (n > 0 || sizeof text - at < digits);
    put(l, text + at, sizeof text - at);
}

/* What is not ASCII comes as escapes, as in the interpreter's own writer. */
static void put_character(struct line *l, Py_UCS4 c)
{
    char ascii = (char)c;
    if (c >= 0x20 && c < 0x7f) {
        put(l, &ascii, 1);
    } else if (c < 0x10000) {
        put_text(l, "\\u");
        put_number(l, c, 16, 4);
    } else {
        put_text(l, "\\U");
        put_number(l, c, 16, 8);
    }
}

static void put_string(struct line *l, PyObject *s)
{
    if (!s || !PyUnicode_Check(s)) {
        put_text(l, "?");
        return;
    }
    Py_ssize_t len = PyUnicode_GET_LENGTH(s);
    for (Py_ssize_t i = 0; i < len && i < MOST_CHARACTERS; i++) {
        put_character(l, PyUnicode_READ(PyUnicode_KIND(s), PyUnicode_DATA(s), i));
    }
    put_text(l, len > MOST_CHARACTERS ? "..." : "");
}

static void write_line(int fd, struct line *l)
{
    put_text(l, "\n");
    (void)!write(fd, l->text, l->len);
    l->len = 0;
}

static void write_frame(int fd, struct line *l, const struct fibril__pyframe *f, PyCodeObject *code)
{
    ptrdiff_t at = (const char *)f->instr - code->co_code_adaptive;
    int number = PyCode_Addr2Line(code, (int)at);
    put_text(l, "  File \"");
    put_string(l, code->co_filename);
    put_text(l, "\", line ");
    if (number >= 0) {
        put_number(l, (unsigned)number, 10, 1);
    } else {
        put_text(l, "?");
    }
    put_text(l, " in ");
    put_string(l, code->co_name);
    write_line(fd, l);
}

bool fibril__pystate_write_frames(const PyThreadState *ts, int fd)
{
    struct line l = {.len = 0};
    int written = 0;
    for (const struct fibril__pyframe *f = fibril__pyframe_top(ts); f; f = f->previous) {
        PyCodeObject *code = fibril__pyframe_of_python(f) ? fibril__pyframe_code(f) : NULL;
        if (code && PyCode_Check((PyObject *)code)) {
            if (written == 0) {
                put_text(&l, "Stack (most recent call first):");
                write_line(fd, &l);
            }
            if (written++ == MOST_FRAMES) {
                put_text(&l, "  ...");
                write_line(fd, &l);
                break;
            }
            write_frame(fd, &l, f, code);
        }
    }
    return true;
}

const char *fibril__pystate_frames_source(void)
{
    return "written by fibril";
}

#endif
