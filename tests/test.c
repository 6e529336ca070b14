/* SPDX-License-Identifier: MIT */
/*
 * The harness behind test.h: a list of tests, one forked process each, TAP on stdout.
 *
 * Invariants: only the parent writes to the real stdout (a test's stdout is sent to stderr, where
 * Meson keeps it for the log); a test's process leads a process group, and the whole group is
 * killed before its number is released, so nothing a test started outlives it; a test that passes
 * leaves by exit(), so that leak checkers get their say and a leak is a failure.
 *
 * A test over its limit gets SIGQUIT first (fibril answers with a dump of all fibrils), then
 * SIGKILL.
 */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#ifdef FIBRIL_HAVE_VALGRIND
#include <valgrind/valgrind.h>
#endif

enum { EXIT_SKIP = 77, REASON_BYTES = 256, OUTPUT_BYTES = 64 * 1024, GRACE_SECONDS = 1 };

static struct test_case *first_test;
static char *reason; /* why skipped or failed; shared between the test's process and its parent */
static bool in_process; /* run by name: let failures stop in the debugger */

void test_register(struct test_case *test)
{
    /* Kept in the order of the source, whatever the order in which constructors run. */
    struct test_case **at = &first_test;
    while (*at && (strcmp((*at)->file, test->file) < 0 ||
                   (strcmp((*at)->file, test->file) == 0 && (*at)->line < test->line))) {
        at = &(*at)->next;
    }
    test->next = *at;
    *at = test;
}

static bool environment_is_set(const char *name)
{
    const char *value = getenv(name);
    return value && *value && strcmp(value, "0") != 0;
}

bool test_is_long(void)
{
    return environment_is_set("FIBRIL_TEST_LONG");
}

static double timeout_multiplier(void)
{
    const char *value = getenv("FIBRIL_TEST_TIMEOUT_MULTIPLIER");
    double factor = value ? atof(value) : 1;
    return factor > 0 ? factor : 1;
}

bool test_is_valgrind(void)
{
#ifdef FIBRIL_HAVE_VALGRIND
    return RUNNING_ON_VALGRIND;
#else
    return false;
#endif
}

bool test_is_slow(void)
{
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return true;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
    return true;
#endif
#endif
    return test_is_valgrind() || timeout_multiplier() > 1;
}

#if defined(__SANITIZE_ADDRESS__)
/* What every run of an address-sanitized test wants; ASAN_OPTIONS still overrides it. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "detect_stack_use_after_return=1";
}
#endif

/* ---- failing and skipping -------------------------------------------------------------------- */

static void keep_reason(const char *text)
{
    if (reason && !*reason) {
        snprintf(reason, REASON_BYTES, "%s", text);
        for (char *c = reason; *c; c++) {
            *c = *c == '\n' || *c == '#' ? ' ' : *c; /* one TAP line, no directive by accident */
        }
    }
}

_Noreturn void test_fail(const char *file, int line, const char *format, ...)
{
    char what[REASON_BYTES];
    char text[REASON_BYTES + 128];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    snprintf(text, sizeof(text), "%s:%d: %s", file, line, what);
    fprintf(stderr, "%s\n", text);
    keep_reason(text);
    fflush(NULL);
    if (in_process) {
        abort();
    }
    _exit(EXIT_FAILURE);
}

_Noreturn void test_skip(const char *why)
{
    keep_reason(why);
    fflush(NULL);
    if (in_process) {
        printf("ok # SKIP %s\n", why);
        fflush(stdout);
    }
    _exit(EXIT_SKIP);
}

void test_assert_str(const char *file, int line, const char *expression_a, const char *expression_b,
                     const char *a, const char *b)
{
    if (!a || !b ? a != b : strcmp(a, b) != 0) {
        test_fail(file, line, "%s is %s: \"%s\", \"%s\"", expression_a, expression_b,
                  a ? a : "(null)", b ? b : "(null)");
    }
}

void test_assert_mem(const char *file, int line, const char *expression_a, const char *expression_b,
                     const void *a, const void *b, size_t bytes)
{
    const unsigned char *left = a, *right = b;
    for (size_t i = 0; i < bytes; i++) {
        if (left[i] != right[i]) {
            test_fail(file, line, "%s is %s: byte %zu of %zu is 0x%02x, 0x%02x", expression_a,
                      expression_b, i, bytes, left[i], right[i]);
        }
    }
}

void test_assert_ok(const char *file, int line, const char *expression, long long rc)
{
    if (rc < 0) {
        test_fail(file, line, "%s: %lld (%s)", expression, rc, strerror((int)-rc));
    }
}

void test_assert_err(const char *file, int line, const char *expression, long long rc, int error)
{
    if (rc != error) {
        test_fail(file, line, "%s: %lld (%s), expected %d (%s)", expression, rc,
                  rc < 0 ? strerror((int)-rc) : "success", error, strerror(-error));
    }
}

/* ---- deaths that are expected ---------------------------------------------------------------- */

bool test_death_begin(struct test_death *death)
{
    int ends[2];
    fflush(NULL);
    if (pipe(ends) != 0) {
        test_fail(__FILE__, __LINE__, "pipe: %s", strerror(errno));
    }
    death->pid = fork();
    if (death->pid < 0) {
        test_fail(__FILE__, __LINE__, "fork: %s", strerror(errno));
    }
    if (death->pid == 0) {
        setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        dup2(ends[1], STDERR_FILENO);
        close(ends[0]);
        close(ends[1]);
        return true;
    }
    close(ends[1]);
    death->stderr_read = ends[0];
    return false;
}

_Noreturn void test_death_survived(void)
{
    fflush(NULL);
    _exit(EXIT_SUCCESS);
}

/* Reads to the end of file, keeps what fits. */
static void read_all(int fd, char *buffer, size_t bytes)
{
    size_t used = 0;
    char spill[512];
    for (;;) {
        bool full = used == bytes - 1;
        ssize_t got =
            full ? read(fd, spill, sizeof(spill)) : read(fd, buffer + used, bytes - 1 - used);
        if (got <= 0 && !(got < 0 && errno == EINTR)) {
            break;
        }
        used += got > 0 && !full ? (size_t)got : 0;
    }
    buffer[used] = '\0';
}

static int wait_for(pid_t pid)
{
    int status = 0;
    while (waitpid(pid, &status, 0) < 0) {
        if (errno != EINTR) {
            test_fail(__FILE__, __LINE__, "waitpid: %s", strerror(errno));
        }
    }
    return status;
}

void test_death_check(struct test_death *death, const char *file, int line, const char *statement,
                      const char *text)
{
    static char output[OUTPUT_BYTES];
    read_all(death->stderr_read, output, sizeof(output));
    close(death->stderr_read);
    int status = wait_for(death->pid);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGABRT) {
        fprintf(stderr, "%s", output);
        test_fail(file, line, "%s: did not abort: %s %d", statement,
                  WIFSIGNALED(status) ? "signal" : "exit status",
                  WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    }
    if (!strstr(output, text)) {
        fprintf(stderr, "%s", output);
        test_fail(file, line, "%s: aborted without saying \"%s\"", statement, text);
    }
}

/* ---- the runner ------------------------------------------------------------------------------ */

/* Waits until the child can be reaped, without reaping it; false when the time is up. */
static bool ended_within(pid_t pid, double seconds)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double end = (double)now.tv_sec + (double)now.tv_nsec / 1e9 + seconds;
    sigset_t child_signal;
    sigemptyset(&child_signal);
    sigaddset(&child_signal, SIGCHLD);
    for (;;) {
        siginfo_t info = {.si_pid = 0};
        if (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
            info.si_pid == pid) {
            return true;
        }
        clock_gettime(CLOCK_MONOTONIC, &now);
        double left = end - ((double)now.tv_sec + (double)now.tv_nsec / 1e9);
        if (left <= 0) {
            return false;
        }
        /* At most a second at a time: whatever happens to the signal, the limit holds. */
        double nap = left < 1 ? left : 1;
        struct timespec most = {.tv_sec = (time_t)nap,
                                .tv_nsec = (long)((nap - (double)(time_t)nap) * 1e9)};
        sigtimedwait(&child_signal, NULL, &most);
    }
}

_Noreturn static void child(const struct test_case *test, const sigset_t *signals)
{
    /* A shell starts what it runs in the background with these ignored. */
    signal(SIGINT, SIG_DFL);
    signal(SIGQUIT, SIG_DFL);
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    setpgid(0, 0);
    sigprocmask(SIG_SETMASK, signals, NULL);
    dup2(STDERR_FILENO, STDOUT_FILENO);
    test->body();
    exit(EXIT_SUCCESS);
}

/* Returns the wait status; *ret_late says that the limit struck. */
static int run_forked(const struct test_case *test, bool *ret_late)
{
    double limit = test->limit_seconds * timeout_multiplier();
    sigset_t chld, before;
    sigemptyset(&chld);
    sigaddset(&chld, SIGCHLD);
    sigprocmask(SIG_BLOCK, &chld, &before);
    *reason = '\0';
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0) {
        fprintf(stderr, "fork: %s\n", strerror(errno));
        exit(EXIT_FAILURE);
    }
    if (pid == 0) {
        child(test, &before);
    }
    setpgid(pid, pid); /* here too: whoever comes first */
    *ret_late = !ended_within(pid, limit);
    if (*ret_late) {
        fprintf(stderr, "%s: still running after %.0f s\n", test->name, limit);
        kill(pid, SIGQUIT);
        ended_within(pid, GRACE_SECONDS);
    }
    kill(-pid, SIGKILL);
    return wait_for(pid);
}

/* One TAP line; returns whether the test may be counted as good. */
static bool report(int number, const struct test_case *test, int status, bool late)
{
    if (!late && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SUCCESS) {
        printf("ok %d - %s\n", number, test->name);
        return true;
    }
    if (!late && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_SKIP) {
        printf("ok %d - %s # SKIP %s\n", number, test->name, reason);
        return true;
    }
    printf("not ok %d - %s\n", number, test->name);
    if (*reason) {
        printf("# %s\n", reason);
    }
    if (late) {
        printf("# time limit (%d s x %g)\n", test->limit_seconds, timeout_multiplier());
    } else if (WIFSIGNALED(status)) {
        printf("# killed by signal %d (%s)\n", WTERMSIG(status), strsignal(WTERMSIG(status)));
    } else if (!*reason) {
        printf("# exit status %d\n", WEXITSTATUS(status));
    }
    return false;
}

static int run_all(void)
{
    int count = 0, failed = 0, number = 0;
    for (struct test_case *test = first_test; test; test = test->next) {
        count++;
    }
    printf("1..%d\n", count);
    for (struct test_case *test = first_test; test; test = test->next) {
        bool late;
        int status = run_forked(test, &late);
        failed += !report(++number, test, status, late);
        fflush(stdout);
    }
    return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}

static int run_named(const char *name)
{
    for (struct test_case *test = first_test; test; test = test->next) {
        if (strcmp(test->name, name) == 0) {
            in_process = true;
            test->body();
            printf("ok - %s\n", name);
            return EXIT_SUCCESS;
        }
    }
    fprintf(stderr, "no test is named %s; --list shows the names\n", name);
    return 2;
}

int main(int argc, char **argv)
{
    void *page =
        mmap(NULL, REASON_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        fprintf(stderr, "mmap: %s\n", strerror(errno));
        return EXIT_FAILURE;
    }
    reason = page;
    if (argc == 1) {
        return run_all();
    }
    if (argc == 2 && strcmp(argv[1], "--list") == 0) {
        for (struct test_case *test = first_test; test; test = test->next) {
            puts(test->name);
        }
        return EXIT_SUCCESS;
    }
    if (argc == 2) {
        return run_named(argv[1]);
    }
    fprintf(stderr, "usage: %s [--list | NAME]\n", argv[0]);
    return 2;
}
