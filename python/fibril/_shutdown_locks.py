# SPDX-License-Identifier: MIT
"""threading's bookkeeping of locks at the interpreter's end, without going through all of it at each start.

Up to CPython 3.12 threading keeps a set of one lock per thread that is no daemon, and at each start and each end goes
through the whole set for those that were released: 10,000 threads take 10,000 x 10,000 looks. Here the same sweep is
made when as many calls have come as a quarter of the set has members, so each start pays for four looks. Small sets
are swept each time, as ever. What is left in between are released locks, for which the interpreter's end does not
wait; once all threads have ended, no more than SMALL of them.
"""

import threading

SMALL = 64


def install():
    """Put the sweep in the place of threading's own, where this version has one."""
    own = getattr(threading, "_maintain_shutdown_locks", None)
    if own is None or getattr(own, "fibril", False):
        return
    calls = 0

    def maintain():
        """Called with threading._shutdown_locks_lock held."""
        nonlocal calls
        calls += 1
        size = len(threading._shutdown_locks)  # a fork's child has another set
        if size <= SMALL or calls * 4 >= size:
            calls = 0
            own()

    maintain.fibril = True
    threading._maintain_shutdown_locks = maintain
