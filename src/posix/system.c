/* SPDX-License-Identifier: MIT */
/*
 * system and pclose. system is a posix_spawn and a wait that parks. It ignores SIGINT and SIGQUIT
 * meanwhile, by a count of the calls under way, as they belong to the process. SIGCHLD is not
 * blocked: the mask belongs to the OS thread, and so to all its fibrils. (A process with threads
 * had better not rely on that anyway: another thread would get the signal.)
 *
 * pclose waits inside libc, which alone knows the child of a stream: by a thread of the pool.
 */
#include "posix/process_calls.h"

#include "base/alloc.h"

#include <spawn.h>
#include <string.h>

extern char **environ;

/* ---- system ---- */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* held for a few system calls */
static unsigned running;
static struct sigaction saved_int, saved_quit;

static void ignore_keys(void)
{
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigemptyset(&ignore.sa_mask);
    pthread_mutex_lock(&lock);
    if (running++ == 0) {
        sigaction(SIGINT, &ignore, &saved_int);
        sigaction(SIGQUIT, &ignore, &saved_quit);
    }
    pthread_mutex_unlock(&lock);
}

static void heed_keys(void)
{
    pthread_mutex_lock(&lock);
    if (--running == 0) {
        sigaction(SIGINT, &saved_int, NULL);
        sigaction(SIGQUIT, &saved_quit, NULL);
    }
    pthread_mutex_unlock(&lock);
}

/* What the child has the default action of: what the program did not ignore. */
static int describe(posix_spawnattr_t *attr)
{
    sigset_t defaults, mask;
    sigemptyset(&defaults);
    if (saved_int.sa_handler != SIG_IGN) {
        sigaddset(&defaults, SIGINT);
    }
    if (saved_quit.sa_handler != SIG_IGN) {
        sigaddset(&defaults, SIGQUIT);
    }
    pthread_sigmask(SIG_BLOCK, NULL, &mask);
    int rc = posix_spawnattr_setsigdefault(attr, &defaults);
    rc = rc ? rc : posix_spawnattr_setsigmask(attr, &mask);
    return rc ? rc : posix_spawnattr_setflags(attr, POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK);
}

static int start(const char *command, pid_t *ret_pid)
{
    const char *const argv[] = {"sh", "-c", "--", command, NULL};
    posix_spawnattr_t attr;
    int rc = posix_spawnattr_init(&attr);
    if (rc) {
        return -rc;
    }
    rc = describe(&attr);
    rc = rc ? rc
            : posix_spawn(ret_pid, "/bin/sh", NULL, &attr, (char *const *)(uintptr_t)argv, environ);
    posix_spawnattr_destroy(&attr);
    return -rc;
}

/* Without a shell the status is that of one that could not run the command. */
int fibril_posix_system(const char *command)
{
    if (!command || !fibril__on_loop()) {
        return system(command);
    }
    int saved = errno, status = W_EXITCODE(127, 0);
    pid_t pid = -1;
    ignore_keys();
    int rc = start(command, &pid);
    if (rc == 0) {
        rc = fibril__child_wait(pid, &status);
    } else if (rc != -ENOMEM && rc != -EAGAIN) {
        rc = 0;
    }
    heed_keys();
    return rc < 0 ? (int)fibril__posix_result(rc, saved) : status;
}

/* ---- pclose ---- */

struct closing {
    FILE *stream;
    int result, error;
};

static int run_pclose(void *arg)
{
    struct closing *c = arg;
    c->result = pclose(c->stream);
    c->error = errno;
    return 0;
}

/* The stream is lost to its owner as soon as this is called: so it is closed whatever happens. */
int fibril_posix_pclose(FILE *stream)
{
    if (!fibril__on_loop()) {
        return pclose(stream);
    }
    int saved = errno;
    struct closing *c = fibril__alloc_zero(sizeof *c);
    if (!c) {
        return pclose(stream);
    }
    c->stream = stream;
    fibril_shield_begin();
    if (fibril_offload(run_pclose, c, FIBRIL_FOREVER) < 0) {
        run_pclose(c);
    }
    fibril_shield_end();
    int result = c->result;
    errno = result < 0 ? c->error : saved;
    fibril__free(c);
    return result;
}
