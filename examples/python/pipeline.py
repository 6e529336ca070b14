# SPDX-License-Identifier: MIT
"""Channels: three stages that run beside each other, and a time limit around all of it.

    python3 examples/python/pipeline.py
"""

import fibril


def produce(out, n):
    for i in range(n):
        out.send(i)  # parks until a stage further on has room
    out.close()


def square(numbers, out):
    for i in numbers:  # ends when the channel is closed and empty
        out.send(i * i)
    out.close()


def main():
    fibril.enable()
    numbers, squares = fibril.Channel(), fibril.Channel(capacity=8)
    fibril.spawn(produce, numbers, 1000)
    fibril.spawn(square, numbers, squares)
    with fibril.timeout(10):
        print("sum of squares:", sum(squares))


if __name__ == "__main__":
    main()
