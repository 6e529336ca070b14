/* SPDX-License-Identifier: MIT */
/*
 * Waiting for children: results and errors are those of the real calls, and nobody is held up.
 */
#include "process_rig.h"

#include <fibril/io.h>

#include <string.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void expect_well(int status)
{
    ASSERT(WIFEXITED(status));
    ASSERT_EQ(WEXITSTATUS(status), PROCESS_WELL);
}

PROCESS_TEST(waitpid_parks_until_its_child_ends)
{
    (void)arg;
    struct process_clock clock;
    int status = 0;
    pid_t pid = process_child(30);
    process_clock_start(&clock);
    errno = 12345;
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, 0), pid);
    ASSERT_EQ(errno, 12345);
    expect_well(status);
    ASSERT_GT(process_clock_stop(&clock), 0);
    ASSERT_ERRNO(fibril_posix_waitpid(pid, &status, 0), ECHILD);
    return 0;
}

PROCESS_TEST(wait_takes_any_child)
{
    (void)arg;
    struct process_clock clock;
    int status = 0;
    pid_t a = process_child(200), b = process_child(60000);
    process_clock_start(&clock);
    ASSERT_EQ(fibril_posix_wait(&status), a);
    expect_well(status);
    ASSERT_EQ(kill(b, SIGKILL), 0);
    ASSERT_EQ(fibril_posix_wait(NULL), b);
    ASSERT_GT(process_clock_stop(&clock), 0);
    ASSERT_ERRNO(fibril_posix_wait(&status), ECHILD);
    return 0;
}

PROCESS_TEST(options_and_errors_are_the_real_ones)
{
    (void)arg;
    int status;
    siginfo_t info;
    ASSERT_ERRNO(fibril_posix_waitpid(-1, &status, 0), ECHILD);
    ASSERT_ERRNO(fibril_posix_waitpid(1, &status, 0), ECHILD);
    ASSERT_ERRNO(fibril_posix_waitpid(-1, &status, 0x4000), EINVAL);
    ASSERT_ERRNO(fibril_posix_waitid(P_PID, 1, &info, WEXITED), ECHILD);
    ASSERT_ERRNO(fibril_posix_waitid(P_PID, 1, &info, 0), EINVAL);
    ASSERT_ERRNO(fibril_posix_waitid(P_PIDFD, 99, &info, WEXITED), EBADF);
    pid_t pid = process_child(60000);
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, WNOHANG), 0);
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, 0), pid);
    return 0;
}

PROCESS_TEST(wait4_and_wait3_tell_the_usage)
{
    (void)arg;
    struct rusage usage;
    int status;
    memset(&usage, 0xff, sizeof usage);
    pid_t pid = process_child(200);
    ASSERT_EQ(fibril_posix_wait4(pid, &status, 0, &usage), pid);
    ASSERT_GE(usage.ru_maxrss, 1);
    ASSERT_GE(usage.ru_utime.tv_sec, 0);
    memset(&usage, 0xff, sizeof usage);
    pid = process_child(200);
    ASSERT_EQ(fibril_posix_wait3(&status, 0, &usage), pid);
    ASSERT_GE(usage.ru_maxrss, 1);
    return 0;
}

PROCESS_TEST(waitid_by_pid_pidfd_and_any)
{
    (void)arg;
    siginfo_t info;
    pid_t pid = process_child(200);
    ASSERT_EQ(fibril_posix_waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
    ASSERT_EQ(info.si_pid, pid);
    ASSERT_EQ(info.si_code, CLD_EXITED);
    ASSERT_EQ(info.si_status, PROCESS_WELL);
    ASSERT_EQ(fibril_posix_waitid(P_PID, (id_t)pid, NULL, WEXITED), 0);
    pid = process_child(200);
    int pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    ASSERT_OK(pidfd);
    ASSERT_EQ(fibril_posix_waitid(P_PIDFD, (id_t)pidfd, &info, WEXITED), 0);
    ASSERT_EQ(info.si_pid, pid);
    ASSERT_OK(fibril_close(pidfd));
    pid = process_child(200);
    ASSERT_EQ(fibril_posix_waitid(P_ALL, 0, &info, WEXITED), 0);
    ASSERT_EQ(info.si_pid, pid);
    return 0;
}

static pid_t stopper(void)
{
    pid_t pid = fork();
    if (pid == 0) {
        usleep(5000);
        raise(SIGSTOP);
        sleep(60); /* an end would hide that it went on */
        _exit(PROCESS_WELL);
    }
    return pid;
}

PROCESS_TEST(stops_and_continues_are_told)
{
    (void)arg;
    int status;
    pid_t pid = stopper();
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, WUNTRACED), pid);
    ASSERT(WIFSTOPPED(status));
    ASSERT_EQ(kill(pid, SIGCONT), 0);
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, WCONTINUED), pid);
    ASSERT(WIFCONTINUED(status));
    ASSERT_EQ(kill(pid, SIGTERM), 0);
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, 0), pid);
    ASSERT(WIFSIGNALED(status));
    return 0;
}

/* ---- many, and ends of waits ---- */

static int waits_for(void *arg)
{
    int status;
    pid_t pid = *(pid_t *)arg;
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, 0), pid);
    expect_well(status);
    return 0;
}

PROCESS_TEST(fifty_wait_side_by_side)
{
    enum { N = 50 };
    static pid_t pids[N];
    struct fibril *f[N];
    (void)arg;
    for (int i = 0; i < N; i++) {
        pids[i] = process_child(10 + i % 7);
        f[i] = process_start(waits_for, &pids[i]);
    }
    for (int i = 0; i < N; i++) {
        ASSERT_OK(fibril_join(f[i], FIBRIL_FOREVER, NULL));
    }
    return 0;
}

struct ending {
    pid_t pid;
    int rc, error;
};

static int waits_in_vain(void *arg)
{
    struct ending *e = arg;
    e->rc = fibril_posix_waitpid(e->pid, NULL, 0);
    e->error = errno;
    return 0;
}

static void end_wait(pid_t pid, bool by_cancel, int error)
{
    static struct ending e;
    e = (struct ending){.pid = pid, .rc = -2};
    struct fibril *f = process_start(waits_in_vain, &e);
    fibril_sleep(3000000);
    if (by_cancel) {
        ASSERT_OK(fibril_cancel(f));
    } else {
        while (!fibril_embed_interrupt(f) && e.rc == -2) { /* it may be looking just now */
            fibril_yield();
        }
    }
    ASSERT_OK(fibril_join(f, FIBRIL_FOREVER, NULL));
    ASSERT_EQ(e.rc, -1);
    ASSERT_EQ(e.error, error);
}

PROCESS_TEST(cancel_and_interrupt_end_the_wait)
{
    (void)arg;
    pid_t pid = process_child(60000);
    end_wait(pid, /* by_cancel= */ true, ECANCELED);
    end_wait(-1, /* by_cancel= */ true, ECANCELED);
    end_wait(pid, /* by_cancel= */ false, EINTR);
    end_wait(-1, /* by_cancel= */ false, EINTR);
    ASSERT_EQ(kill(pid, SIGKILL), 0);
    int status;
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, 0), pid);
    ASSERT(WIFSIGNALED(status));
    return 0;
}

PROCESS_TEST(ignored_children_end_with_ECHILD)
{
    (void)arg;
    ASSERT_NE(fibril_posix_signal(SIGCHLD, SIG_IGN), SIG_ERR);
    pid_t pid = process_child(200);
    ASSERT_ERRNO(fibril_posix_waitpid(pid, NULL, 0), ECHILD);
    pid = process_child(200);
    ASSERT_ERRNO(fibril_posix_wait(NULL), ECHILD);
    return 0;
}

/* ---- system, popen ---- */

PROCESS_TEST(system_parks_and_returns_the_status)
{
    (void)arg;
    struct process_clock clock;
    struct sigaction before, after;
    ASSERT_EQ(sigaction(SIGINT, NULL, &before), 0);
    process_clock_start(&clock);
    int status = fibril_posix_system("sleep 0.03; exit 42");
    ASSERT_GT(process_clock_stop(&clock), 0);
    expect_well(status);
    ASSERT_EQ(sigaction(SIGINT, NULL, &after), 0);
    ASSERT_EQ(before.sa_handler, after.sa_handler);
    ASSERT_EQ(WTERMSIG(fibril_posix_system("kill -INT $$")), SIGINT);
    ASSERT_EQ(WEXITSTATUS(fibril_posix_system("no-such-command-here 2>/dev/null")), 127);
    ASSERT_NE(fibril_posix_system(NULL), 0);
    return 0;
}

PROCESS_TEST(pclose_parks_and_returns_the_status)
{
    (void)arg;
    struct process_clock clock;
    FILE *stream = popen("cat >/dev/null; sleep 0.03; exit 42", "w");
    ASSERT_NE(stream, NULL);
    process_clock_start(&clock);
    int status = fibril_posix_pclose(stream);
    ASSERT_GT(process_clock_stop(&clock), 0);
    expect_well(status);
    return 0;
}

/* ---- children of the library's own ---- */

PROCESS_TEST(children_given_up_are_reaped_and_not_missed)
{
    (void)arg;
    const char *const argv[] = {"sh", "-c", "sleep 0.02", NULL};
    struct fibril_process_opts opts = {.argv = argv};
    struct fibril_process *p;
    ASSERT_OK(fibril_process_start(&opts, &p));
    fibril_process_free(p);
    pid_t pid = process_child(40);
    int status;
    ASSERT_EQ(fibril_posix_waitpid(pid, &status, 0), pid);
    expect_well(status);
    return 0;
}
