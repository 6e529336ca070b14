/* SPDX-License-Identifier: MIT */
/*
 * Child processes: pipes, status, signals, failures to start, and children that are left alone.
 */
#include "io_test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static struct fibril_process *start(const struct fibril_process_opts *opts)
{
    struct fibril_process *p;
    io_need_call(SYS_pidfd_open);
    ASSERT_OK(fibril_process_start(opts, &p));
    return p;
}

static struct fibril_process *start_shell(const char *script)
{
    const char *const argv[] = {"sh", "-c", script, NULL};
    return start(&(struct fibril_process_opts){
        .argv = argv, .pipe_stdin = true, .pipe_stdout = true, .pipe_stderr = true});
}

/* All that comes from the pipe, as text. */
static void read_text(struct fibril_process *p, int which, char *ret_text, size_t size)
{
    size_t at = 0;
    ssize_t n;
    while ((n = fibril_read(fibril_process_pipe(p, which), ret_text + at, size - 1 - at,
                            FIBRIL_FOREVER)) > 0) {
        at += (size_t)n;
    }
    ASSERT_EQ(n, 0);
    ret_text[at] = '\0';
}

EACH_STACK(pipes_carry_input_output_and_errors)
{
    char text[64];
    int status;
    int before = io_count_fds();
    struct fibril_process *p = start_shell("read x; echo got $x; echo bad >&2; exit 5");
    ASSERT_EQ(fibril_write_all(fibril_process_pipe(p, 0), "word\n", 5, FIBRIL_FOREVER), 5);
    read_text(p, 1, text, sizeof(text));
    ASSERT_STR(text, "got word\n");
    read_text(p, 2, text, sizeof(text));
    ASSERT_STR(text, "bad\n");
    ASSERT_OK(fibril_process_wait(p, FIBRIL_FOREVER, &status));
    ASSERT(WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), 5);
    status = 0;
    ASSERT_OK(fibril_process_wait(p, 0, &status)); /* again */
    ASSERT_EQ(WEXITSTATUS(status), 5);
    ASSERT_ERR(fibril_process_kill(p, SIGTERM), -ESRCH);
    ASSERT_EQ(fibril_process_pipe(p, 3), -1);
    fibril_process_free(p);
    ASSERT_LE(io_count_fds(), before + 4); /* the poller may have grown one */
    return 0;
}

EACH_STACK(a_closed_pipe_ends_the_childs_input)
{
    char text[64];
    struct fibril_process *p = start_shell("cat; echo end");
    ASSERT_EQ(fibril_write_all(fibril_process_pipe(p, 0), "abc", 3, FIBRIL_FOREVER), 3);
    fibril_process_close_pipe(p, 0);
    ASSERT_EQ(fibril_process_pipe(p, 0), -1);
    fibril_process_close_pipe(p, 0);
    read_text(p, 1, text, sizeof(text));
    ASSERT_STR(text, "abcend\n");
    fibril_process_free(p);
    return 0;
}

static int wait_for_child(void *arg)
{
    int status;
    int rc = fibril_process_wait(arg, FIBRIL_FOREVER, &status);
    return rc < 0 ? rc : WIFSIGNALED(status) ? WTERMSIG(status) : 1000;
}

EACH_STACK(a_wait_times_out_is_cancelled_and_sees_the_signal)
{
    struct fibril_process *p = start_shell("exec sleep 1000");
    int status = 77;
    ASSERT_ERR(fibril_process_wait(p, io_in(5), &status), -ETIMEDOUT);
    ASSERT_EQ(status, 77);
    struct fibril *f = io_start(wait_for_child, p);
    io_settle();
    ASSERT_OK(fibril_cancel(f));
    ASSERT_ERR(io_end(f), -ECANCELED);
    struct fibril *a = io_start(wait_for_child, p), *b = io_start(wait_for_child, p);
    io_settle();
    ASSERT_OK(fibril_process_kill(p, SIGKILL));
    ASSERT_EQ(io_end(a), SIGKILL);
    ASSERT_EQ(io_end(b), SIGKILL);
    ASSERT_ERR(fibril_process_kill(p, SIGKILL), -ESRCH);
    fibril_process_free(p);
    return 0;
}

EACH_STACK(what_cannot_start_says_why_and_leaves_nothing)
{
    struct fibril_process *p = NULL;
    const char *const none[] = {"/no/such/program", NULL}, *const folder[] = {"/tmp", NULL};
    const char *const fine[] = {"true", NULL}, *const empty[] = {NULL};
    io_need_call(SYS_pidfd_open);
    int before = io_count_fds();
    struct fibril_process_opts opts = {.argv = none, .pipe_stdin = true, .pipe_stdout = true};
    ASSERT_ERR(fibril_process_start(&opts, &p), -ENOENT);
    opts.argv = folder;
    ASSERT_ERR(fibril_process_start(&opts, &p), -EACCES);
    opts.argv = empty;
    ASSERT_ERR(fibril_process_start(&opts, &p), -EINVAL);
    opts.argv = fine;
    opts.cwd = "/no/such/folder";
    ASSERT_ERR(fibril_process_start(&opts, &p), -ENOENT);
    ASSERT(!p);
    ASSERT_EQ(io_count_fds(), before);
    ASSERT_ERR(waitpid(-1, NULL, WNOHANG), -1);
    ASSERT_EQ(errno, ECHILD);
    return 0;
}

EACH_STACK(folder_environment_and_signal_mask_are_the_childs_own)
{
    const char *const argv[] = {"sh", "-c", "pwd; echo $WORD; kill -TERM $$; echo alive", NULL};
    const char *const envp[] = {"WORD=hello", "PATH=/usr/bin:/bin", NULL};
    struct fibril_process_opts opts = {
        .argv = argv, .envp = envp, .cwd = "/usr", .pipe_stdout = true};
    char text[64];
    int status;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    struct fibril_process *p = start(&opts);
    read_text(p, 1, text, sizeof(text));
    ASSERT_STR(text, "/usr\nhello\n");
    ASSERT_OK(fibril_process_wait(p, FIBRIL_FOREVER, &status));
    ASSERT(WIFSIGNALED(status) && WTERMSIG(status) == SIGTERM);
    ASSERT_EQ(fibril_process_pipe(p, 0), -1);
    fibril_process_free(p);
    return 0;
}

IO_TEST(standard_descriptors_that_are_closed_here_do_no_harm)
{
    char text[64];
    fibril_close(0);
    fibril_close(1);
    struct fibril_process *p = start_shell("read x; echo out $x; echo err $x >&2");
    ASSERT_GT(fibril_process_pipe(p, 0), 2);
    ASSERT_EQ(fibril_write_all(fibril_process_pipe(p, 0), "y\n", 2, FIBRIL_FOREVER), 2);
    read_text(p, 1, text, sizeof(text));
    ASSERT_STR(text, "out y\n");
    read_text(p, 2, text, sizeof(text));
    ASSERT_STR(text, "err y\n");
    fibril_process_free(p);
    return 0;
}

EACH_STACK(a_megabyte_goes_through_a_child)
{
    size_t len = test_is_slow() ? 100000 : 1000000, at = 0;
    char *bytes = malloc(len);
    const char *const argv[] = {"head", "-c", "1000000", "/dev/zero", NULL};
    struct fibril_process_opts opts = {.argv = argv, .pipe_stdout = true};
    struct fibril_process *p = start(&opts);
    while (at < len) {
        ssize_t n = fibril_read(fibril_process_pipe(p, 1), bytes, len - at, FIBRIL_FOREVER);
        ASSERT_GT(n, 0);
        at += (size_t)n;
    }
    fibril_process_free(p); /* it may still write: that is its problem */
    free(bytes);
    return 0;
}

/* ---- left alone ------------------------------------------------------------------------------ */

/* Whether pid is gone without a trace; a zombie is not. */
static bool is_gone(pid_t pid)
{
    return kill(pid, 0) != 0 && errno == ESRCH;
}

EACH_STACK(children_that_are_freed_while_they_run_are_reaped_later)
{
    pid_t pids[5];
    for (int i = 0; i < 5; i++) {
        struct fibril_process *p = start_shell("read x");
        int keep = dup(fibril_process_pipe(p, 0));
        pids[i] = fibril_process_pid(p);
        fibril_process_free(p);
        ASSERT(!is_gone(pids[i])); /* it waits for its input */
        if (i < 4) {
            close(keep);
        } else {
            ASSERT_EQ(kill(pids[i], SIGKILL), 0);
            close(keep);
        }
    }
    for (int i = 0; i < 5; i++) {
        while (!is_gone(pids[i])) {
            ASSERT_OK(fibril_sleep(1000000));
        }
    }
    fibril_process_free(NULL);
    return 0;
}

static pid_t left_over;

static int leave_child(void *arg)
{
    (void)arg;
    struct fibril_process *p = start_shell("exec sleep 1000");
    left_over = fibril_process_pid(p);
    fibril_process_free(p);
    return 0;
}

TEST(a_child_may_outlive_its_loop)
{
    io_run(leave_child, FIBRIL_STACK_OWN);
    ASSERT(!is_gone(left_over));
    ASSERT_EQ(kill(left_over, SIGKILL), 0);
    while (!is_gone(left_over)) {
        usleep(1000);
    }
}
