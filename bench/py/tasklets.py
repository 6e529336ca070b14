# SPDX-License-Identifier: MIT
"""Micro benchmarks of tasklets: fibril.stackless, and what its users would take instead, in the same terms.

    tasklets.py BENCH WHO [N]

BENCH: schedule, channel, spawn, parked, million. WHO: fibril, greenlet (each switches to the next one; no channels),
gevent (sleep(0), gevent.queue.Channel). As micro.py otherwise. Stackless itself needs an interpreter of its own: its
figures are the targets (61 ns to schedule, 264 ns for a round trip through channels, 1,815 bytes).
"""
import gc
import os
import sys
import time

from micro import memory, row, rows_parked, skip, timed

MILLION = 1000000


class Tasklets:
    """fibril.stackless."""

    def __init__(self):
        from fibril import stackless
        self.s, self.gate = stackless, stackless.channel()

    def schedule(self, count, n):
        def loop(n, schedule=self.s.schedule):
            for _ in range(n):
                schedule()
        for _ in range(count):
            self.s.tasklet(loop)(n // count)
        self.s.run()

    def channel(self, n):
        there, back = self.s.channel(), self.s.channel()

        def echo(n):
            receive, send = there.receive, back.send
            for _ in range(n):
                send(receive())

        def ask(n):
            receive, send = back.receive, there.send
            for i in range(n):
                send(i)
                receive()
        self.s.tasklet(echo)(n)
        self.s.tasklet(ask)(n)
        self.s.run()

    def spawn(self, n):
        tasklet, run = self.s.tasklet, self.s.run
        for _ in range(n):
            tasklet(int)()
            run()

    def park(self, function, n):
        tasklet = self.s.tasklet
        for _ in range(n):
            tasklet(function)()
        self.s.run()

    def wait(self):
        return self.gate.receive


class Greenlets:
    """greenlet: whoever switches says to whom."""

    def __init__(self):
        import greenlet
        self.g, self.kept = greenlet, []

    def schedule(self, count, n):
        """Each goes to the next one, and the first to end to the main one."""
        ring, main = [], self.g.getcurrent()

        def loop(me, n):
            main.switch()
            switch = ring[(me + 1) % count].switch
            for _ in range(n):
                switch()
        ring += [self.g.greenlet(loop) for _ in range(count)]
        for me, g in enumerate(ring):
            g.switch(me, n // count)
        ring[0].switch()

    def spawn(self, n):
        greenlet = self.g.greenlet
        for _ in range(n):
            greenlet(int).switch()

    def park(self, function, n):
        greenlet, kept = self.g.greenlet, self.kept
        for _ in range(n):
            g = greenlet(function)
            g.switch()
            kept.append(g)

    def wait(self):
        return self.g.getcurrent().switch


class Gevent:
    """gevent: a hub, and callbacks."""

    def __init__(self):
        import gevent
        import gevent.event
        import gevent.queue
        self.g, self.kept, self.event = gevent, [], gevent.event.Event()

    def schedule(self, count, n):
        def loop(n, sleep=self.g.sleep):
            for _ in range(n):
                sleep(0)
        self.g.joinall([self.g.spawn(loop, n // count) for _ in range(count)])

    def channel(self, n):
        there, back = self.g.queue.Channel(), self.g.queue.Channel()

        def echo(n):
            for _ in range(n):
                back.put(there.get())

        def ask(n):
            for i in range(n):
                there.put(i)
                back.get()
        self.g.joinall([self.g.spawn(echo, n), self.g.spawn(ask, n)])

    def spawn(self, n):
        for _ in range(n):
            self.g.spawn(int).join()

    def park(self, function, n):
        self.kept += [self.g.spawn(function) for _ in range(n)]
        self.g.sleep(0)

    def wait(self):
        return self.event.wait


WHO = {"fibril": Tasklets, "greenlet": Greenlets, "gevent": Gevent}


def three_deep(wait):
    """A function that waits two calls deeper."""
    name, owner = wait.__name__, wait.__self__
    source = "def innermost(): owner.%s()\ndef middle(): innermost()\ndef outermost(): middle()" % name
    names = {"owner": owner}
    exec(source, names)
    return names["outermost"]


def bench_schedule(who, n):
    for count in (2, 100):
        row("schedule, of %d" % count, "ns", timed(lambda n: who.schedule(count, n), n or 400000))


def bench_channel(who, n):
    if not hasattr(who, "channel"):
        skip("has no channels")
    row("round trip", "ns", timed(who.channel, n or 100000))


def bench_spawn(who, n):
    row("spawn, run and end", "ns", timed(who.spawn, n or 100000))


def bench_parked(who, n):
    function = three_deep(who.wait())
    rows_parked(lambda n: who.park(function, n), n or 100000)


def bench_million(who, n):
    """Memory and processor time of a million suspended ones, three calls deep."""
    n = n or MILLION
    function = three_deep(who.wait())
    who.park(function, 100)
    gc.collect()
    before, begun = memory(), time.process_time_ns()
    who.park(function, n)
    row("processor time of %d" % n, "ms", (time.process_time_ns() - begun) / 1e6)
    row("memory of %d" % n, "bytes", memory() - before)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    try:
        chosen = WHO[sys.argv[2]]()
    except ImportError as e:
        skip(str(e))
    globals()["bench_" + sys.argv[1]](chosen, int(sys.argv[3]) if len(sys.argv) > 3 else None)
