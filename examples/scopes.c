/* SPDX-License-Identifier: MIT */
/*
 * Structured concurrency: fibrils started in a scope end before the scope does. Nothing outlives
 * the function that started it, and the first failure cancels the others and comes back to the
 * caller.
 */
#include <fibril/fibril.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MS 1000000LL

struct job {
    const char *name;
    int64_t takes_ns;
    int result;
    const char *end;
};

static int work(void *arg)
{
    struct job *job = arg;
    int rc = fibril_sleep(job->takes_ns);

    if (rc == 0) {
        rc = job->result;
    }
    job->end = rc == 0 ? "done" : rc == -ECANCELED ? "cancelled" : "failed";
    return rc;
}

/* Runs all jobs side by side. Returns 0, or what the first that failed returned. */
static int run_jobs(struct job *jobs, int count, int64_t deadline_ns)
{
    struct fibril_scope *scope;
    int rc = fibril_scope_open(&scope);

    if (rc < 0) {
        return rc;
    }
    for (int i = 0; rc == 0 && i < count; i++) {
        rc = fibril_scope_spawn(scope, work, &jobs[i], NULL);
    }
    int ended = fibril_scope_close(scope, deadline_ns);
    for (int i = 0; i < count; i++) {
        printf("  %-9s %s\n", jobs[i].name, jobs[i].end);
    }
    return rc < 0 ? rc : ended;
}

static int tell(const char *what, struct job *jobs, int64_t deadline_ns, int expected)
{
    printf("%s\n", what);
    int rc = run_jobs(jobs, 3, deadline_ns);
    printf("  the scope: %s\n", rc < 0 ? strerror(-rc) : "fine");
    return rc == expected ? 0 : -EPROTO;
}

static int show(void *arg)
{
    struct job fine[] = {
        {"stock", 3 * MS, 0, ""}, {"price", 1 * MS, 0, ""}, {"rating", 2 * MS, 0, ""}};
    struct job one_fails[] = {{"stock", 3600000 * MS, 0, ""},
                              {"price", 1 * MS, -ENOENT, ""},
                              {"rating", 3600000 * MS, 0, ""}};
    struct job too_slow[] = {
        {"stock", 0, 0, ""}, {"price", 3600000 * MS, 0, ""}, {"rating", 3600000 * MS, 0, ""}};

    (void)arg;
    int rc = tell("all succeed", fine, FIBRIL_FOREVER, 0);
    if (rc == 0) {
        rc = tell("one fails", one_fails, FIBRIL_FOREVER, -ENOENT);
    }
    if (rc == 0) {
        rc = tell("a deadline for all", too_slow, fibril_after(20 * MS), -ETIMEDOUT);
    }
    return rc;
}

int main(void)
{
    return fibril_run(NULL, show, NULL) < 0;
}
