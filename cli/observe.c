/* SPDX-License-Identifier: MIT */
/*
 * fibril observe. The program that is looked at sorts, cuts pages and writes the lines
 * (src/observe/table.c); this paints them, and asks again when a key was pressed.
 */
#include "observe.h"

#include "options.h"
#include "say.h"
#include "watch.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

enum { FRAME_MAX = 1 << 18, HEAD_LINES = 8, COUNT_MAX = 500, ROWS_USUAL = 40 };

struct options {
    struct watch watch;
    bool once, json;
    int view, sort;
    unsigned count;
};

static const char *const view_words[] = {"actors", "fibrils", "tree", NULL};
static const char *const sort_words[] = {"id",       "waiting", "bytes", "oldest", "rate",
                                         "received", "cpu",     "since", NULL};
enum { BY_CPU = 6 };

static const struct option options[] = {
    {"--view", "WHAT", option_choice, offsetof(struct options, view), 0, 0, view_words,
     "actors (the default), fibrils or tree: who supervises whom"},
    {"--sort", "BY", option_choice, offsetof(struct options, sort), 0, 0, sort_words,
     "id, waiting, bytes, oldest, rate, received, cpu (the default) or since; fibrils by id,\n"
     "cpu or since"},
    {"--count", "N", option_number, offsetof(struct options, count), 1, COUNT_MAX, NULL,
     "rows (40, or as many as the terminal has)"},
    {"--once", NULL, option_flag, offsetof(struct options, once), 0, 0, NULL,
     "print once and end; so it is too where standard output is no terminal"},
    {"--json", NULL, option_flag, offsetof(struct options, json), 0, 0, NULL,
     "print the same as JSON, once"},
    {NULL, NULL, NULL, 0, 0, 0, NULL, NULL}};

static const struct command command = {
    .name = "observe",
    .summary =
        "usage: fibril observe [OPTION]... TARGET\n"
        "\n"
        "Shows the loops, fibrils and actors of a running program, and what each waits for.\n"
        "TARGET is where that serves its observer: PORT, HOST:PORT or http://HOST:PORT/. A\n"
        "program does so when it runs with FIBRIL_OBSERVE=PORT in its environment, or calls\n"
        "fibril_observe_serve (C) or fibril.observe (Python).\n",
    .notes =
        "Keys: a actors, f fibrils, t tree; sort by w messages waiting, b their bytes, o age of\n"
        "the oldest, m messages per second, r messages received, c processor time, s since,\n"
        "i number; d turns the order; space or n, p and 0: next, previous, first page; q ends.\n",
    .operand = "TARGET",
    .operand_offset = offsetof(struct options, watch.target),
    .options = options};

/* ---- once ---- */

static int print_once(const struct watch *w, const char *what)
{
    char bytes[1 << 14];
    size_t len = 0;
    const char *wrong;
    int fd = watch_open(w, what, /* live= */ false, bytes, sizeof bytes, &len, &wrong);
    if (fd < 0) {
        return say_wrong("observe", "%s %s", w->target, wrong);
    }
    ssize_t n = (ssize_t)len;
    do {
        fwrite(bytes, 1, (size_t)n, stdout);
    } while ((n = read(fd, bytes, sizeof bytes)) > 0);
    close(fd);
    return n < 0 || fflush(stdout) ? EXIT_LOST : EXIT_FINE;
}

/* ---- the terminal ---- */

static struct termios before;
static volatile sig_atomic_t ended, resized;

static void on_signal(int number)
{
    if (number == SIGWINCH) {
        resized = 1;
    } else {
        ended = 1;
    }
}

static void say_to_terminal(const char *text)
{
    fputs(text, stdout);
    fflush(stdout);
}

static void take_terminal(void)
{
    struct termios raw;
    const int numbers[] = {SIGINT, SIGTERM, SIGHUP, SIGWINCH};
    struct sigaction action = {.sa_handler = on_signal};
    for (unsigned i = 0; i < sizeof numbers / sizeof *numbers; i++) {
        sigaction(numbers[i], &action, NULL);
    }
    tcgetattr(STDIN_FILENO, &before);
    raw = before;
    raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
    tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    say_to_terminal("\033[?1049h\033[?25l"); /* the other screen, no cursor */
}

static void give_terminal_back(void)
{
    say_to_terminal("\033[?25h\033[?1049l");
    tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static void measure(unsigned *ret_lines, unsigned *ret_columns)
{
    struct winsize size = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_row > 0;
    *ret_lines = known ? size.ws_row : 24;
    *ret_columns = known ? size.ws_col : 80;
}

static void paint(const struct watch *w, const char *frame)
{
    unsigned lines, columns, line = 1;
    measure(&lines, &columns);
    printf("\033[H");
    for (const char *at = frame; *at && line < lines; line++) {
        size_t len = strcspn(at, "\n");
        printf("%.*s\033[K\r\n", (int)(len < columns ? len : columns), at);
        at += len + (at[len] == '\n');
    }
    printf("\033[J\033[%u;1H\033[7m%s  %s by %s from row %u  a f t  sort: w b o m r c s i d  "
           "page: n p  end: q\033[0m\033[K",
           lines, w->target, view_words[w->view], *w->sort ? w->sort : "id", w->skip);
    fflush(stdout);
}

/* ---- keys ---- */

static void set_sort(struct watch *w, const char *sort)
{
    w->sort = sort;
    w->ascending = strcmp(sort, "id") == 0;
    w->skip = 0;
}

static void set_view(struct watch *w, enum watch_view view)
{
    w->view = view;
    set_sort(w, "cpu");
}

/* Returns false if the key means nothing here. */
static bool on_key(struct watch *w, char key)
{
    static const char keys[] = "iwbomrcs"; /* in the order of sort_words */
    static const char fibrils_keys[] = "ics";
    const char *found = strchr(keys, key);
    switch (key) {
    case 'q': ended = 1; return true;
    case 'a': set_view(w, WATCH_ACTORS); return true;
    case 'f': set_view(w, WATCH_FIBRILS); return true;
    case 't': set_view(w, WATCH_TREE); return true;
    case 'd': w->ascending = !w->ascending; return true;
    case ' ':
    case 'n': w->skip += w->count; return true;
    case 'p': w->skip -= w->skip < w->count ? w->skip : w->count; return true;
    case '0': w->skip = 0; return true;
    default: break;
    }
    if (!found || !key || w->view == WATCH_TREE ||
        (w->view == WATCH_FIBRILS && !strchr(fibrils_keys, key))) {
        return false;
    }
    set_sort(w, sort_words[found - keys]);
    return true;
}

/* ---- live ---- */

static char frame[FRAME_MAX + 1];
static size_t frame_len;

/* Paints each whole frame that has come. */
static void take_bytes(const struct watch *w, size_t n)
{
    frame_len += n;
    frame[frame_len] = '\0';
    char *end;
    while ((end = strchr(frame, '\f')) != NULL) {
        *end = '\0';
        paint(w, frame);
        frame_len -= (size_t)(end + 1 - frame);
        memmove(frame, end + 1, frame_len + 1);
    }
    if (frame_len == FRAME_MAX) { /* no observer of ours writes so much */
        frame_len = 0;
    }
}

/* Watches until a key changes what is looked at. Returns false when the program has gone. */
static bool watch(struct watch *w, int fd)
{
    bool same = true;
    while (same && !ended && !resized) {
        struct pollfd polled[] = {{.fd = fd, .events = POLLIN},
                                  {.fd = STDIN_FILENO, .events = POLLIN}};
        char key;
        if (poll(polled, 2, -1) < 0) {
            continue;
        }
        if (polled[1].revents) {
            if (read(STDIN_FILENO, &key, 1) == 1) {
                same = !on_key(w, key);
            } else {
                ended = 1;
            }
        }
        if (polled[0].revents) {
            ssize_t n = read(fd, frame + frame_len, FRAME_MAX - frame_len);
            if (n <= 0) {
                return false;
            }
            take_bytes(w, (size_t)n);
        }
    }
    return true;
}

static int watch_live(struct watch *w, bool count_given)
{
    const char *wrong = "has ended";
    bool there = true;
    take_terminal();
    while (there && !ended) {
        unsigned lines, columns;
        resized = 0;
        measure(&lines, &columns);
        if (!count_given) {
            w->count = lines > HEAD_LINES ? lines - HEAD_LINES : 1;
            w->count = w->count < COUNT_MAX ? w->count : COUNT_MAX;
        }
        int fd = watch_open(w, "text", /* live= */ true, frame, FRAME_MAX, &frame_len, &wrong);
        there = fd >= 0;
        if (there) {
            wrong = "has ended";
            take_bytes(w, 0);
            there = watch(w, fd);
            close(fd);
        }
    }
    give_terminal_back();
    return there || ended ? EXIT_FINE
                          : (say_wrong("observe", "%s %s", w->target, wrong), EXIT_LOST);
}

int observe_main(int argc, char **argv)
{
    struct options o = {.view = WATCH_ACTORS, .sort = BY_CPU};
    int status;
    if (options_read(&command, argc, argv, &o, &status) < 0) {
        return status;
    }
    if (!o.watch.target) {
        return say_wrong("observe", "TARGET is missing: PORT, HOST:PORT or http://HOST:PORT/");
    }
    o.watch.view = (enum watch_view)o.view;
    set_sort(&o.watch, sort_words[o.sort]);
    o.watch.count = o.count ? o.count : ROWS_USUAL;
    if (o.once || o.json || !isatty(STDOUT_FILENO) || !isatty(STDIN_FILENO)) {
        return print_once(&o.watch, o.json ? "json" : "text");
    }
    return watch_live(&o.watch, o.count > 0);
}
