/* SPDX-License-Identifier: MIT */
/*
 * Channels and select: numbers flow from a source through squaring workers to a sum, with a second
 * source that only ticks. select waits for whichever comes first; closing a channel says that no
 * more will.
 */
#include <fibril/fibril.h>

#include <errno.h>
#include <stdio.h>

#define MS 1000000LL
enum { NUMBERS = 1000, WORKERS = 4 };

struct pipeline {
    struct fibril_chan *numbers, *squares, *ticks;
    struct fibril_group *working;
};

static int source(void *arg)
{
    struct pipeline *line = arg;

    for (int i = 1; i <= NUMBERS; i++) {
        int rc = fibril_chan_send(line->numbers, &i, FIBRIL_FOREVER);
        if (rc < 0) {
            return rc;
        }
    }
    return fibril_chan_close(line->numbers);
}

static int square(void *arg)
{
    struct pipeline *line = arg;
    int number, rc = 0;

    while (rc == 0 && fibril_chan_recv(line->numbers, &number, FIBRIL_FOREVER) == 0) {
        number *= number;
        rc = fibril_chan_send(line->squares, &number, FIBRIL_FOREVER);
    }
    fibril_group_done(line->working);
    return rc;
}

/* Closes the squares when the last worker has ended. */
static int close_squares(void *arg)
{
    struct pipeline *line = arg;

    fibril_group_wait(line->working, FIBRIL_FOREVER);
    return fibril_chan_close(line->squares);
}

static int tick(void *arg)
{
    struct pipeline *line = arg;

    while (fibril_chan_send(line->ticks, NULL, FIBRIL_FOREVER) == 0 && fibril_sleep(1 * MS) == 0) {}
    return 0;
}

static int64_t sum_up(struct pipeline *line)
{
    int square_of = 0;
    int64_t sum = 0;
    unsigned ticks = 0;
    struct fibril_case cases[] = {
        {.op = FIBRIL_CASE_RECV, .chan = line->squares, .elem = &square_of},
        {.op = FIBRIL_CASE_RECV, .chan = line->ticks},
    };

    for (;;) {
        int which = fibril_select(cases, 2, FIBRIL_FOREVER);
        if (which < 0 || cases[which].result < 0) {
            break; /* the squares are over; nobody closes the ticks */
        }
        if (which == 0) {
            sum += square_of;
        } else {
            ticks++;
        }
    }
    printf("%s ticks meanwhile\n", ticks ? "some" : "no");
    return sum;
}

static int start(struct pipeline *line, struct fibril_scope *scope)
{
    int rc = fibril_group_add(line->working, WORKERS);

    for (int i = 0; rc == 0 && i < WORKERS; i++) {
        rc = fibril_scope_spawn(scope, square, line, NULL);
    }
    if (rc == 0) {
        rc = fibril_scope_spawn(scope, source, line, NULL);
    }
    if (rc == 0) {
        rc = fibril_scope_spawn(scope, close_squares, line, NULL);
    }
    return rc;
}

/* Everything that uses the channels has ended when this returns. */
static int flow(struct pipeline *line, int64_t *ret_sum)
{
    struct fibril_scope *scope;
    struct fibril *ticker;
    int rc = fibril_spawn(tick, line, NULL, &ticker);

    if (rc < 0) {
        return rc;
    }
    rc = fibril_scope_open(&scope);
    if (rc == 0) {
        rc = start(line, scope);
        if (rc == 0) {
            *ret_sum = sum_up(line);
        } else {
            fibril_scope_cancel(scope);
        }
        int ended = fibril_scope_close(scope, FIBRIL_FOREVER);
        rc = rc < 0 ? rc : ended;
    }
    fibril_cancel(ticker);
    fibril_join(ticker, FIBRIL_FOREVER, NULL);
    return rc;
}

static int run(void *arg)
{
    struct pipeline line = {0};
    const int64_t expected = (int64_t)NUMBERS * (NUMBERS + 1) * (2 * NUMBERS + 1) / 6;
    int64_t sum = 0;
    int rc = -ENOMEM;

    (void)arg;
    if (fibril_chan_new(sizeof(int), 0, 0, &line.numbers) == 0 &&
        fibril_chan_new(sizeof(int), 16, 0, &line.squares) == 0 &&
        fibril_chan_new(0, 0, 0, &line.ticks) == 0 && fibril_group_new(0, &line.working) == 0) {
        rc = flow(&line, &sum);
        printf("sum of the squares up to %d: %lld\n", NUMBERS, (long long)sum);
    }
    fibril_chan_free(line.numbers);
    fibril_chan_free(line.squares);
    fibril_chan_free(line.ticks);
    fibril_group_free(line.working);
    return rc < 0 ? rc : sum == expected ? 0 : -EPROTO;
}

int main(void)
{
    return fibril_run(NULL, run, NULL) < 0;
}
