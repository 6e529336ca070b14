# SPDX-License-Identifier: MIT
"""A chain of tasklets: a number travels through all of them, and each adds one."""

import sys

from fibril import stackless


def link(source, target):
    target.send(source.receive() + 1)


def main(length):
    first = source = stackless.channel()
    for _ in range(length):
        target = stackless.channel()
        stackless.tasklet(link)(source, target)
        source = target
    stackless.tasklet(first.send)(0)
    print(source.receive())


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000)
