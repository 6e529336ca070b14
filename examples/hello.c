/* SPDX-License-Identifier: MIT */
/* Two fibrils and a channel: one counts, the other listens. */
#include <fibril/fibril.h>
#include <stdio.h>

static int count(void *channel)
{
    for (int i = 1; i <= 3; i++) {
        fibril_chan_send(channel, &i, FIBRIL_FOREVER); /* parks until somebody receives */
    }
    return fibril_chan_close(channel);
}

static int listen_to_it(void *unused)
{
    struct fibril_chan *numbers;
    int number, rc = fibril_chan_new(sizeof(number), 0, 0, &numbers);
    if (rc == 0 && (rc = fibril_spawn(count, numbers, NULL, NULL)) == 0) {
        while (fibril_chan_recv(numbers, &number, FIBRIL_FOREVER) == 0) {
            printf("heard %d\n", number);
        }
        fibril_chan_free(numbers);
    }
    return rc;
}

int main(void)
{
    return fibril_run(NULL, listen_to_it, NULL) < 0;
}
