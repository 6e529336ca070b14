# SPDX-License-Identifier: MIT
"""A scope: whatever is started in it has ended when it is left, and the first failure cancels the others.

    python3 examples/python/scopes.py
"""

import time

import fibril


def count_to(name, n, done):
    try:
        for _ in range(n):
            time.sleep(0.02)  # parks this fibril only
        done.append(name)
    except fibril.Cancelled:
        done.append(name + " cancelled")
        raise


def fail():
    time.sleep(0.05)
    raise ValueError("no such luck")


def main():
    fibril.enable()
    done = []
    with fibril.Scope() as scope:
        for name, n in (("short", 1), ("long", 4)):
            scope.spawn(count_to, name, n, done)
    print("all have ended:", ", ".join(done))

    done.clear()
    try:
        with fibril.Scope() as scope:
            scope.spawn(count_to, "patient", 1000, done)
            scope.spawn(fail)
    except ValueError as error:
        print("one failed:", error, "-", ", ".join(done))


if __name__ == "__main__":
    main()
