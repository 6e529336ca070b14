# SPDX-License-Identifier: MIT
"""Micro benchmarks of greenlets: fibril's beside the greenlet package's, the same code on both.

    greenlets.py BENCH WHO [N]

BENCH: switch, spawn, parked, deep. WHO: fibril, fibril-own (stacks of their own), greenlet. As micro.py otherwise.
"""
import sys

from micro import row, rows_parked, skip, timed


def load(who):
    try:
        if who == "greenlet":
            import greenlet as module
        else:
            from fibril import greenlet as module
            module.own_stacks(who == "fibril-own")
    except ImportError as e:
        skip(str(e))
    return module


def echo(module):
    back = module.getcurrent().parent.switch
    while True:
        back(1)


def bench_switch(module, n):
    """One greenlet and the main one, and then a hundred in turn."""
    for case, count in (("a switch", 1), ("a switch, of 100", 100)):
        others = [module.greenlet(echo) for _ in range(count)]
        for g in others:
            g.switch(module)
        calls = [g.switch for g in others]

        def work(n):
            for _ in range(n // count):
                for call in calls:
                    call(1)
        row(case, "ns", timed(work, n or 400000) / 2)


def bench_spawn(module, n):
    def run():
        pass

    def work(n):
        greenlet = module.greenlet
        for _ in range(n):
            greenlet(run).switch()
    row("spawn, run and end", "ns", timed(work, n or 100000))


def bench_parked(module, n):
    main = module.getcurrent()

    def innermost():
        main.switch()

    def middle():
        innermost()

    def run():
        middle()

    kept = []

    def start_and_park(n):
        for _ in range(n):
            g = module.greenlet(run)
            g.switch()
            kept.append(g)
    rows_parked(start_and_park, n or 100000)


def bench_deep(module, n):
    """A switch under 200 Python calls, against one under a single call."""
    main = module.getcurrent()

    def below(depth):
        if depth:
            below(depth - 1)
        back = main.switch
        while True:
            back(1)

    times = []
    for depth in (1, 200):
        others = [module.greenlet(below) for _ in range(40)]
        for g in others:
            g.switch(depth)
        calls = [g.switch for g in others]

        def work(n):
            for _ in range(n // 40):
                for call in calls:
                    call(1)
        times.append(timed(work, n or 400000) / 2)
    row("a switch, 200 calls deep", "ns", times[1])
    row("deep / shallow", "times", times[1] / times[0])


if __name__ == "__main__":
    globals()["bench_" + sys.argv[1]](load(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else None)
