# SPDX-License-Identifier: MIT
"""Dining philosophers: a fork is a channel that holds one token; the last philosopher picks up the other way round."""

import time

from fibril import stackless

COUNT, MEALS = 5, 3


def lay(fork):
    fork.send(None)


def take(fork):
    fork.receive()


def put(fork):
    stackless.tasklet(lay)(fork)


def philosopher(name, left, right, eaten):
    for _ in range(MEALS):
        time.sleep(0.001)  # thinks; the others go on
        take(left)
        take(right)
        eaten[name] += 1
        put(left)
        put(right)


def main():
    forks = [stackless.channel() for _ in range(COUNT)]
    eaten = [0] * COUNT
    for fork in forks:
        put(fork)
    for i in range(COUNT):
        pair = [forks[i], forks[(i + 1) % COUNT]]
        if i == COUNT - 1:
            pair.reverse()
        stackless.tasklet(philosopher)(i, *pair, eaten)
    stackless.run()
    print(eaten)


if __name__ == "__main__":
    main()
