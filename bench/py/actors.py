# SPDX-License-Identifier: MIT
"""Micro benchmarks of actors in Python: the same actor as each library wants it written.

    actors.py BENCH WHO [N]

BENCH: call, idle, spawn. WHO: fibril (under `-m fibril`), pykka (ask and tell, its least costly way), pykka-proxy
(method calls through its proxy, as its users write them), thespian (the base it takes unless told otherwise: all in one
process, nothing at a time), thespian-tcp (its actors as processes). As micro.py otherwise. Processor time is that of
all processes: those of thespian-tcp are found by BENCH_ID in their environment, to which it starts them.
"""
import gc
import os
import statistics
import sys
import time

from micro import ROUNDS, memory, row, skip, timed


class Fibril:
    sizes = {"call": 200000, "cast": 200000, "spawn": 50000}

    def __init__(self):
        import fibril

        class Counter(fibril.Actor):
            def __init__(self):
                self.n = 0

            def on_add(self, n):
                self.n += n
                return self.n

        self.start = Counter.start

    def call(self, n):
        actor = self.start()
        for _ in range(n):
            actor.call("add", 1)
        actor.stop()

    def cast(self, n):
        actor = self.start()
        for _ in range(n):
            actor.cast("add", 1)
        assert actor.call("add", 0) == n
        actor.stop()

    def spawn(self, n):
        for _ in range(n):
            self.start().stop()


class Pykka:
    """A thread and a queue for each actor; a reply is a future."""

    sizes = {"call": 10000, "cast": 30000, "spawn": 2000}

    def __init__(self):
        import pykka

        class Counter(pykka.ThreadingActor):
            use_daemon_thread = True  # so that os._exit is no surprise to it

            def __init__(self):
                super().__init__()
                self.n = 0

            def on_receive(self, message):
                self.n += message
                return self.n

            def add(self, n):
                self.n += n
                return self.n

        self.start = Counter.start

    def call(self, n):
        actor = self.start()
        for _ in range(n):
            actor.ask(1)
        actor.stop()

    def cast(self, n):
        actor = self.start()
        for _ in range(n):
            actor.tell(1)
        assert actor.ask(0) == n
        actor.stop()

    def spawn(self, n):
        for _ in range(n):
            self.start().stop()


class PykkaProxy(Pykka):
    def call(self, n):
        actor = self.start()
        proxy = actor.proxy()
        for _ in range(n):
            proxy.add(1).get()
        actor.stop()

    def cast(self, n):
        actor = self.start()
        add = actor.proxy().add
        for _ in range(n):
            add.defer(1)
        assert actor.ask(0) == n
        actor.stop()

    spawn = None


try:
    from thespian.actors import Actor as ThespianActor
except ImportError:
    ThespianActor = object


class ThespianCounter(ThespianActor):
    """Where its processes find it by name."""

    def __init__(self):
        self.n = 0

    def receiveMessage(self, message, sender):  # the name is Thespian's
        if type(message) is tuple:  # a cast
            self.n += message[0]
        elif type(message) is int:
            self.n += message
            self.send(sender, self.n)


class Thespian:
    sizes = {"call": 20000, "cast": 30000, "spawn": 10000}
    base = "simpleSystemBase"

    def __init__(self):
        from thespian.actors import ActorExitRequest, ActorSystem
        self.exit, self.system = ActorExitRequest, ActorSystem(self.base)

    def start(self):
        return self.system.createActor(ThespianCounter)

    def ask(self, actor, n):
        answer = self.system.ask(actor, n, 30)
        if answer is None:
            raise RuntimeError("no answer")
        return answer

    def call(self, n):
        actor = self.start()
        for _ in range(n):
            self.ask(actor, 1)
        self.system.tell(actor, self.exit())

    def cast(self, n):
        actor = self.start()
        for _ in range(n):
            self.system.tell(actor, (1,))
        assert self.ask(actor, 0) == n
        self.system.tell(actor, self.exit())

    def spawn(self, n):
        for _ in range(n):
            self.system.tell(self.start(), self.exit())


class ThespianTcp(Thespian):
    sizes = {"call": 500, "cast": 500}
    base = "multiprocTCPBase"
    spawn = None  # the processes end when they like

    @staticmethod
    def clock():
        return family_ns()


def family_ns():
    """ns of processor time of all processes that have our BENCH_ID, as far as they live."""
    mark = b"BENCH_ID=" + os.environb[b"BENCH_ID"] + b"\0"
    ticks = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open("/proc/%s/environ" % pid, "rb") as environ, open("/proc/%s/stat" % pid) as stat:
                if mark in environ.read():
                    ticks += sum(int(word) for word in stat.read().rpartition(")")[2].split()[11:13])
        except OSError:  # it has just ended, or is not ours
            continue
    return ticks * 1000000000 // os.sysconf("SC_CLK_TCK")


WHO = {"fibril": Fibril, "pykka": Pykka, "pykka-proxy": PykkaProxy, "thespian": Thespian, "thespian-tcp": ThespianTcp}


def timed_by(clock, work, n):
    """As timed(), by another clock, whose ticks are long: fewer rounds, one after the other."""
    work(n // 10)
    times = []
    for _ in range(ROUNDS // 2 + 1):
        begun = clock()
        work(n)
        times.append((clock() - begun) / n)
    return statistics.median(times)


def bench_times(who, names, n):
    for name, case in names:
        work = getattr(who, name) or skip("has none")
        clock, many = getattr(who, "clock", None), n or who.sizes[name]
        row(case, "ns", timed_by(clock, work, many) if clock else timed(work, many))


def bench_idle(who, n):
    """What each of n actors costs that have begun and wait, with what refers to it."""
    kept = [who.start() for _ in range(n // 20 + 1)]
    gc.collect()
    before = memory()
    kept += [who.start() for _ in range(n)]
    gc.collect()
    row(str(n), "bytes", (memory() - before) / n)
    os._exit(0)  # nobody waits for them to end


def main():
    bench, name = sys.argv[1:3]
    n = int(sys.argv[3]) if len(sys.argv) > 3 else 0
    try:
        who = WHO[name]()
    except ImportError as e:
        skip(str(e))
    try:
        if bench == "idle":
            bench_idle(who, n or 10000)
        elif bench == "call":
            bench_times(who, (("call", "round trip"), ("cast", "cast")), n)
        else:
            bench_times(who, (("spawn", "start and stop"),), n)
    finally:
        if name.startswith("thespian"):
            who.system.shutdown()


if __name__ == "__main__":
    main()
