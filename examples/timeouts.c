/* SPDX-License-Identifier: MIT */
/*
 * Time: every wait takes an absolute deadline, so one deadline covers a whole conversation however
 * many waits it has; and a fibril that is cancelled finds out at its next wait, cleans up and ends.
 */
#include <fibril/io.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MS 1000000LL

/* A peer that sends a byte now and then and never finishes. */
static int drip(void *arg)
{
    int fd = *(const int *)arg;

    while (fibril_write(fd, ".", 1, FIBRIL_FOREVER) == 1 && fibril_sleep(5 * MS) == 0) {}
    return 0;
}

/* Wants 1,000 bytes within 50 ms altogether. A timeout per read would wait for 5 seconds here. */
static int one_deadline_for_all(int fd)
{
    char all[1000];
    int64_t began = fibril_now();
    ssize_t n = fibril_read_all(fd, all, sizeof(all), fibril_after(50 * MS));

    printf("reading: %s, %s\n", n < 0 ? strerror((int)-n) : "all came",
           fibril_now() - began < 5000 * MS ? "in good time" : "too late");
    return n == -ETIMEDOUT ? 0 : -EPROTO;
}

static int wait_forever(void *arg)
{
    const char **ret_end = arg;
    int rc = fibril_sleep_until(FIBRIL_FOREVER);

    /* The cancellation stays until it is dealt with: cleaning up may have to wait again. */
    fibril_cancel_clear();
    fibril_sleep(1 * MS);
    *ret_end = rc == -ECANCELED ? "was cancelled and has cleaned up" : "woke by itself";
    return rc;
}

static int cancel_it(void)
{
    const char *end = "never ran";
    struct fibril *waiter;
    int result = 0, rc = fibril_spawn(wait_forever, &end, NULL, &waiter);

    if (rc < 0) {
        return rc;
    }
    rc = fibril_join(waiter, fibril_after(20 * MS), NULL);
    printf("joining: %s\n", rc < 0 ? strerror(-rc) : "it ended");
    fibril_cancel(waiter);
    rc = fibril_join(waiter, FIBRIL_FOREVER, &result);
    printf("waiter: %s\n", end);
    return rc < 0 ? rc : result == -ECANCELED ? 0 : -EPROTO;
}

static int show(void *arg)
{
    int fds[2], rc = fibril_pipe(fds);
    struct fibril *dripper;

    (void)arg;
    if (rc < 0) {
        return rc;
    }
    rc = fibril_spawn(drip, &fds[1], NULL, &dripper);
    if (rc == 0) {
        rc = one_deadline_for_all(fds[0]);
        fibril_cancel(dripper);
        fibril_join(dripper, FIBRIL_FOREVER, NULL);
    }
    fibril_close(fds[0]);
    fibril_close(fds[1]);
    return rc < 0 ? rc : cancel_it();
}

int main(void)
{
    return fibril_run(NULL, show, NULL) < 0;
}
