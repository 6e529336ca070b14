/* SPDX-License-Identifier: MIT */
/*
 * The harness under its own harness: runs the sample program, whose tests pass, fail, skip, crash,
 * hang and die in known ways, and checks every line of its TAP. A harness that loses a failure
 * would make every other test worthless.
 */
#include "test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct outcome {
    char text[16 * 1024]; /* what it printed */
    int status;           /* its exit status */
};

/* Runs the sample with one argument or none. Skips where one program cannot start another. */
static void run_sample(const char *argument, struct outcome *ret_outcome)
{
    const char *path = getenv("HARNESS_SAMPLE");
    int ends[2];
    if (!path) {
        SKIP("HARNESS_SAMPLE is not set; run by meson test");
    }
    ASSERT_EQ(pipe(ends), 0);
    pid_t pid = fork();
    ASSERT_GE(pid, 0);
    if (pid == 0) {
        dup2(ends[1], STDOUT_FILENO);
        close(ends[0]);
        close(ends[1]);
        execl(path, path, argument, (char *)NULL);
        _exit(errno == ENOEXEC ? 126 : 127);
    }
    close(ends[1]);
    size_t used = 0;
    ssize_t got;
    while ((got = read(ends[0], ret_outcome->text + used, sizeof(ret_outcome->text) - 1 - used)) >
           0) {
        used += (size_t)got;
    }
    ret_outcome->text[used] = '\0';
    close(ends[0]);
    int status;
    ASSERT_EQ(waitpid(pid, &status, 0), pid);
    ret_outcome->status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    if (ret_outcome->status == 126) {
        SKIP("programs of this architecture are emulated here and cannot start each other");
    }
}

static struct outcome outcome;

static void expect_line(const char *line)
{
    char wanted[256];
    snprintf(wanted, sizeof(wanted), "\n%s\n", line);
    if (!strstr(outcome.text, wanted)) {
        test_fail(__FILE__, __LINE__, "missing from the TAP: %s", line);
    }
}

TEST(every_outcome_is_reported_as_what_it_is_and_why)
{
    run_sample(NULL, &outcome);
    ASSERT_EQ(strncmp(outcome.text, "1..13\n", 6), 0);
    expect_line("ok 1 - passes");
    expect_line("not ok 2 - compares");
    expect_line("not ok 3 - compares_text");
    expect_line("not ok 4 - wants_success");
    expect_line("not ok 5 - wants_an_error");
    expect_line("ok 6 - skips # SKIP no such   kernel");
    expect_line("not ok 7 - crashes");
    expect_line("not ok 8 - exits");
    expect_line("not ok 9 - hangs");
    expect_line("ok 10 - dies_as_expected");
    expect_line("not ok 11 - dies_saying_something_else");
    expect_line("not ok 12 - lives_on");
    expect_line("ok 13 - says_a_lot_and_dies");
    ASSERT_EQ(outcome.status, 1);

    ASSERT(strstr(outcome.text, "1 + 1 == 3: 2, 3"));
    ASSERT(strstr(outcome.text, "\"one\", \"two\""));
    ASSERT(strstr(outcome.text, "-12 (Cannot allocate memory)"));
    ASSERT(strstr(outcome.text, "expected -110"));
    ASSERT(strstr(outcome.text, "# killed by signal 9"));
    ASSERT(strstr(outcome.text, "# exit status 3"));
    ASSERT(strstr(outcome.text, "# time limit (1 s"));
    ASSERT(strstr(outcome.text, "without saying \"overflow\""));
    ASSERT(strstr(outcome.text, "did not abort"));

    /* A test's own output stays out of the TAP. */
    ASSERT(!strstr(outcome.text, "must not appear"));
}

TEST(list_names_the_tests_in_source_order)
{
    run_sample("--list", &outcome);
    ASSERT_EQ(strncmp(outcome.text, "passes\ncompares\ncompares_text\n", 30), 0);
    ASSERT_EQ(outcome.status, 0);
}

TEST(one_test_by_name_runs_in_the_process_itself)
{
    run_sample("exits", &outcome);
    ASSERT_EQ(outcome.status, 3);
    run_sample("passes", &outcome);
    ASSERT_EQ(outcome.status, 0);
    run_sample("compares", &outcome);
    ASSERT_EQ(outcome.status, -SIGABRT);
    run_sample("nosuch", &outcome);
    ASSERT_EQ(outcome.status, 2);
}
