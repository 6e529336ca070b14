/* SPDX-License-Identifier: MIT */
/*
 * Child processes: three commands side by side, each watched by a fibril that reads its output line
 * by line and waits for its end; and a fourth that is given input, and a fifth that takes too long.
 */
#include <fibril/io.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define MS 1000000LL

/* Prints every line that comes from the pipe. */
static int print_lines(const char *name, int fd)
{
    struct fibril_reader *reader;
    const char *line;
    ssize_t n;
    int rc = fibril_reader_new(fd, 4096, &reader);

    if (rc < 0) {
        return rc;
    }
    while ((n = fibril_read_until(reader, "\n", 1, &line, FIBRIL_FOREVER)) > 0) {
        printf("%s: %.*s", name, (int)n, line);
    }
    fibril_reader_free(reader);
    return n < 0 ? (int)n : 0;
}

static int run_shell(void *arg)
{
    const char *script = arg;
    const char *const argv[] = {"sh", "-c", script, NULL};
    struct fibril_process_opts opts = {.argv = argv, .pipe_stdout = true};
    struct fibril_process *process;
    int status = 0, rc = fibril_process_start(&opts, &process);

    if (rc < 0) {
        return rc;
    }
    rc = print_lines(script, fibril_process_pipe(process, 1));
    if (rc == 0) {
        rc = fibril_process_wait(process, FIBRIL_FOREVER, &status);
        printf("%s: exit status %d\n", script, WEXITSTATUS(status));
    }
    fibril_process_free(process);
    return rc;
}

/* The scope waits for all three; none waits for another. */
static int side_by_side(void)
{
    static char *const scripts[] = {"echo one", "sleep 0.02; echo two", "exit 3"};
    struct fibril_scope *scope;
    int rc = fibril_scope_open(&scope);

    for (int i = 0; rc == 0 && i < 3; i++) {
        rc = fibril_scope_spawn(scope, run_shell, scripts[i], NULL);
    }
    return rc < 0 ? rc : fibril_scope_close(scope, FIBRIL_FOREVER);
}

static int with_input(void)
{
    const char *const argv[] = {"sort", NULL};
    const char words[] = "pear\napple\nfig\n";
    struct fibril_process_opts opts = {.argv = argv, .pipe_stdin = true, .pipe_stdout = true};
    struct fibril_process *process;
    int status = 0, rc = fibril_process_start(&opts, &process);

    if (rc < 0) {
        return rc;
    }
    fibril_write_all(fibril_process_pipe(process, 0), words, sizeof(words) - 1, FIBRIL_FOREVER);
    fibril_process_close_pipe(process, 0);
    rc = print_lines("sort", fibril_process_pipe(process, 1));
    if (rc == 0) {
        rc = fibril_process_wait(process, FIBRIL_FOREVER, &status);
    }
    fibril_process_free(process);
    return rc < 0 ? rc : status == 0 ? 0 : -EPROTO;
}

static int too_long(void)
{
    const char *const argv[] = {"sleep", "3600", NULL};
    struct fibril_process *process;
    int status = 0;
    int rc = fibril_process_start(&(struct fibril_process_opts){.argv = argv}, &process);

    if (rc < 0) {
        return rc;
    }
    rc = fibril_process_wait(process, fibril_after(20 * MS), &status);
    if (rc == -ETIMEDOUT) {
        fibril_process_kill(process, SIGTERM);
        rc = fibril_process_wait(process, FIBRIL_FOREVER, &status);
        printf("sleep: ended by signal %d\n", WTERMSIG(status));
    }
    fibril_process_free(process);
    return rc < 0 ? rc : WIFSIGNALED(status) ? 0 : -EPROTO;
}

static int run(void *arg)
{
    const char *const argv[] = {"no-such-command-anywhere", NULL};
    struct fibril_process *process;

    (void)arg;
    int rc = side_by_side();
    if (rc == 0) {
        rc = with_input();
    }
    if (rc == 0) {
        rc = too_long();
    }
    if (rc == 0) {
        rc = fibril_process_start(&(struct fibril_process_opts){.argv = argv}, &process);
        printf("%s: %s\n", argv[0], strerror(-rc));
        rc = rc == -ENOENT ? 0 : -EPROTO;
    }
    return rc;
}

int main(void)
{
    int rc = fibril_run(NULL, run, NULL);

    if (rc < 0) {
        fprintf(stderr, "run_commands: %s\n", strerror(-rc));
    }
    return rc < 0;
}
