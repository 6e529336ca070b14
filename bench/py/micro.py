# SPDX-License-Identifier: MIT
"""The Python micro benchmarks, one program for all who are compared: the same work, written as each of them wants it.

    micro.py BENCH WHO [N]

BENCH: switch, spawn, queue, parked, sleepers. WHO: threads (the code of every threaded program; under `-m fibril` its
threads are fibrils), fibril (its own API), greenlet, gevent, eventlet, asyncio, uvloop. Prints one JSON line. Times are
processor time of the whole process, the median of ROUNDS; memory is resident pages plus page tables. Exit status 77
means that WHO is not installed, or has nothing to compare in BENCH.
"""
import gc
import json
import os
import random
import statistics
import sys
import time

ROUNDS = 5
SLEEP_FROM, SLEEP_TO = 0.5, 1.5


def skip(why):
    print(why, file=sys.stderr)
    sys.exit(77)


def row(case, metric, value):
    print(json.dumps({"case": case, "metric": metric, "value": value}), flush=True)


def timed(work, n):
    """ns of processor time for one of n pieces of work, in the best known middle of some rounds."""
    times = []
    for _ in range(ROUNDS + 1):  # the first one is for warming up
        gc.collect()
        begun = time.process_time_ns()
        work(n)
        times.append((time.process_time_ns() - begun) / n)
    return statistics.median(times[1:])


def memory():
    with open("/proc/self/status") as status:
        return 1024 * sum(int(line.split()[1]) for line in status if line.startswith(("VmRSS", "VmPTE")))


def rows_parked(start_and_park, n):
    """What each of n parked ones costs; start_and_park(n) returns when all are."""
    start_and_park(n // 20 + 1)
    gc.collect()
    before = memory()
    start_and_park(n)
    row("a parked thread", "bytes", (memory() - before) / n)
    os._exit(0)  # nobody waits for them to end


def rows_sleepers(run, n):
    """run(seconds list) starts that many sleepers and returns when all have woken."""
    random.seed(1)
    seconds = [random.uniform(SLEEP_FROM, SLEEP_TO) for _ in range(n)]
    begun = time.process_time_ns()
    run(seconds)
    row("%d sleepers" % n, "ms", (time.process_time_ns() - begun) / 1e6)


# ---- threads, as everybody writes them ---------------------------------------------------------------


class Threads:
    """threading and queue."""

    sizes = {"switch": 20000, "spawn": 3000, "queue": 5000}

    def __init__(self):
        import queue
        import threading
        self.t, self.queue = threading, queue

    def switch(self, n):
        """Two threads hand the turn to each other: the only way to switch that both kinds of thread have."""
        a, b = self.t.Lock(), self.t.Lock()
        a.acquire()
        b.acquire()

        def player(mine, other):
            for _ in range(n // 2):
                mine.acquire()
                other.release()

        two = [self.t.Thread(target=player, args=p) for p in ((a, b), (b, a))]
        for t in two:
            t.start()
        a.release()
        for t in two:
            t.join()

    def spawn(self, n):
        for _ in range(n):
            t = self.t.Thread(target=int)
            t.start()
            t.join()

    def queue_trip(self, n):
        there, back = self.queue.Queue(), self.queue.Queue()

        def echo():
            for _ in range(n):
                back.put(there.get())

        t = self.t.Thread(target=echo)
        t.start()
        for i in range(n):
            there.put(i)
            back.get()
        t.join()

    def park(self, n):
        gate, here = self.t.Event(), self.t.Semaphore(0)

        def a():
            b()

        def b():
            here.release()
            gate.wait()

        for _ in range(n):
            self.t.Thread(target=a, daemon=True).start()
        for _ in range(n):
            here.acquire()

    def sleepers(self, seconds):
        # As daemons: of all others CPython 3.11 goes through a set at each start, which is its time and not ours.
        threads = [self.t.Thread(target=time.sleep, args=(s,), daemon=True) for s in seconds]
        for t in threads:
            t.start()
        for t in threads:
            t.join()


# ---- fibril's own API --------------------------------------------------------------------------------


class Fibril:
    sizes = {"switch": 400000, "spawn": 100000, "queue": 100000}

    def __init__(self):
        import fibril
        self.f = fibril

    def switch(self, n):
        yield_ = self.f.yield_

        def player():
            for _ in range(n // 2):
                yield_()

        two = [self.f.spawn(player) for _ in range(2)]
        for h in two:
            h.join()

    def spawn(self, n):
        for _ in range(n):
            self.f.spawn(int).join()

    def queue_trip(self, n):
        there, back = self.f.Channel(), self.f.Channel()

        def echo():
            for _ in range(n):
                back.send(there.recv())

        h = self.f.spawn(echo)
        for i in range(n):
            there.send(i)
            back.recv()
        h.join()

    def park(self, n):
        gate, parked = self.f.Channel(), []

        def a():
            b()

        def b():
            parked.append(None)
            gate.recv()

        for _ in range(n):
            self.f.spawn(a)
        while len(parked) < n:
            self.f.yield_()

    def sleepers(self, seconds):
        handles = [self.f.spawn(self.f.sleep, s) for s in seconds]
        for h in handles:
            h.join()


# ---- the peers ---------------------------------------------------------------------------------------


class Greenlet:
    """Only what greenlet itself has: no scheduler, so the switch is the bare one."""

    sizes = {"switch": 400000, "spawn": 50000}

    def __init__(self):
        import greenlet
        self.g, self.getcurrent = greenlet.greenlet, greenlet.getcurrent

    def switch(self, n):
        def player(i):
            other = two[1 - i]
            for _ in range(n // 2):
                other.switch(1 - i)

        two = [self.g(player), self.g(player)]
        two[0].switch(0)

    def spawn(self, n):
        for _ in range(n):
            self.g(int).switch()

    def park(self, n):
        here = self.getcurrent()

        def a():
            b()

        def b():
            here.switch()

        kept.append([self.g(a) for _ in range(n)])
        for g in kept[-1]:
            g.switch()


class Gevent:
    sizes = {"switch": 100000, "spawn": 20000, "queue": 20000}

    def __init__(self):
        import gevent
        import gevent.event
        import gevent.queue
        self.g = gevent

    def switch(self, n):
        def player():
            for _ in range(n // 2):
                self.g.sleep(0)

        self.g.joinall([self.g.spawn(player) for _ in range(2)])

    def spawn(self, n):
        for _ in range(n):
            self.g.spawn(int).join()

    def queue_trip(self, n):
        there, back = self.g.queue.Queue(), self.g.queue.Queue()

        def echo():
            for _ in range(n):
                back.put(there.get())

        g = self.g.spawn(echo)
        for i in range(n):
            there.put(i)
            back.get()
        g.join()

    def park(self, n):
        gate, parked = self.g.event.Event(), []

        def a():
            b()

        def b():
            parked.append(None)
            gate.wait()

        kept.append([self.g.spawn(a) for _ in range(n)])
        while len(parked) < n:
            self.g.sleep(0)

    def sleepers(self, seconds):
        self.g.joinall([self.g.spawn(self.g.sleep, s) for s in seconds])


class Eventlet:
    sizes = {"switch": 50000, "spawn": 20000, "queue": 10000}

    def __init__(self):
        import eventlet
        import eventlet.event
        import eventlet.queue
        self.e = eventlet

    def switch(self, n):
        def player():
            for _ in range(n // 2):
                self.e.sleep(0)

        for g in [self.e.spawn(player) for _ in range(2)]:
            g.wait()

    def spawn(self, n):
        for _ in range(n):
            self.e.spawn(int).wait()

    def queue_trip(self, n):
        there, back = self.e.queue.Queue(), self.e.queue.Queue()

        def echo():
            for _ in range(n):
                back.put(there.get())

        g = self.e.spawn(echo)
        for i in range(n):
            there.put(i)
            back.get()
        g.wait()

    def park(self, n):
        gate, parked = self.e.event.Event(), []

        def a():
            b()

        def b():
            parked.append(None)
            gate.wait()

        kept.append([self.e.spawn(a) for _ in range(n)])
        while len(parked) < n:
            self.e.sleep(0)

    def sleepers(self, seconds):
        for g in [self.e.spawn(self.e.sleep, s) for s in seconds]:
            g.wait()


class Asyncio:
    sizes = {"switch": 100000, "spawn": 50000, "queue": 20000}

    def __init__(self):
        import asyncio
        self.a = asyncio
        self.run = asyncio.run

    def switch(self, n):
        async def player():
            for _ in range(n // 2):
                await self.a.sleep(0)

        async def main():
            await self.a.gather(player(), player())

        self.run(main())

    def spawn(self, n):
        async def nothing():
            return 0

        async def main():
            for _ in range(n):
                await self.a.create_task(nothing())

        self.run(main())

    def queue_trip(self, n):
        async def main():
            there, back = self.a.Queue(), self.a.Queue()

            async def echo():
                for _ in range(n):
                    await back.put(await there.get())

            t = self.a.create_task(echo())
            for i in range(n):
                await there.put(i)
                await back.get()
            await t

        self.run(main())

    def park_rows(self, n):
        async def main():
            gate, parked = self.a.Event(), []

            async def a():
                await b()

            async def b():
                parked.append(None)
                await gate.wait()

            async def park(m):
                target = len(parked) + m
                kept.append([self.a.create_task(a()) for _ in range(m)])
                while len(parked) < target:
                    await self.a.sleep(0)

            await park(n // 20 + 1)
            gc.collect()
            before = memory()
            await park(n)
            row("a parked thread", "bytes", (memory() - before) / n)
            os._exit(0)

        self.run(main())

    def sleepers(self, seconds):
        async def main():
            await self.a.gather(*[self.a.create_task(self.a.sleep(s)) for s in seconds])

        self.run(main())


class Uvloop(Asyncio):
    def __init__(self):
        super().__init__()
        import uvloop
        uvloop.install()


kept = []
WHO = {"threads": Threads, "fibril": Fibril, "greenlet": Greenlet, "gevent": Gevent, "eventlet": Eventlet,
       "asyncio": Asyncio, "uvloop": Uvloop}


def main():
    bench, who = sys.argv[1:3]
    try:
        one = WHO[who]()
    except ImportError as e:
        skip(str(e))
    if bench in ("switch", "spawn", "queue"):
        work = getattr(one, "queue_trip" if bench == "queue" else bench, None) or skip("has none")
        n = int(sys.argv[3]) if len(sys.argv) > 3 else one.sizes[bench]
        row({"switch": "a switch", "spawn": "spawn and join", "queue": "round trip"}[bench], "ns", timed(work, n))
    elif bench == "parked" and hasattr(one, "park_rows"):
        one.park_rows(int(sys.argv[3]))
    elif bench == "parked":
        rows_parked(one.park, int(sys.argv[3]))
    else:
        rows_sleepers(getattr(one, "sleepers", None) or skip("has none"), int(sys.argv[3]))


if __name__ == "__main__":
    main()
