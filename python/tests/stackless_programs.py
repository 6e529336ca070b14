# SPDX-License-Identifier: MIT
"""Programs for the tests of pickled tasklets: each runs as one tasklet, given a channel and a log.

As a script it takes a file of pickled (channel, tasklet, log, step), continues each to its end, and writes the logs to
standard output as a list.
"""

import collections
import functools
import os
import pickle
import sys

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

from fibril import stackless  # noqa: E402

PROGRAMS = []


def program(function):
    PROGRAMS.append(function.__name__)
    return function


def step(log, value):
    """Lets others run in the middle of an expression."""
    stackless.schedule()
    log.append(value)
    return value


@program
def locals_and_loops(ch, log):
    total, text = 0, "x"
    for i in range(3):
        for c in [1, 2]:
            total += i * c + step(log, c)
            text += str(total)
    while total < 30:
        total += ch.receive()
        log.append((total, text))


@program
def iterators(ch, log):
    unset: int
    for key in {"a": 1, "b": 2}:
        log.append((key, ch.receive()))
    for pair in {"a": 1}.items():
        step(log, pair)
    for n, value in enumerate(zip("abc", (1, 2, 3)), 5):
        step(log, (n, value))
    for value in map(str, reversed([1, 2])):
        step(log, value)
    log.append([step(log, x) for x in "pq"])
    log.append({step(log, x): ch.receive() for x in range(2)})


@program
def nested_calls(ch, log):
    def fact(n):
        stackless.schedule()
        return 1 if n == 0 else n * fact(n - 1)

    log.append(fact(6) + fact(3))
    log.append(max(step(log, 1), step(log, 2), key=lambda x: -x))
    log.append(step(log, *[step(log, 7)], **{}))


def fact_of(n, ch):
    return ch.receive() if n == 0 else n + fact_of(n - 1, ch=ch)


@program
def deep(ch, log):
    log.append(fact_of(60, ch))
    log.append(fact_of(*(3,), **{"ch": ch}))


@program
def closures(ch, log):
    count = 0

    def add(n, *, more=5, names=()):
        nonlocal count
        count += n + more
        stackless.schedule()
        return count

    adds = [add(n) for n in range(3)]
    log.append((adds, add(1, more=0), count))
    later = add
    stackless.schedule()
    log.append((later(100), count))


@program
def exceptions(ch, log):
    try:
        for i in range(3):
            try:
                stackless.schedule()
                if i == 1:
                    raise KeyError(step(log, "raised"))
            except KeyError as error:
                log.append(repr(error))
                try:
                    raise ValueError(ch.receive())
                except ValueError as other:
                    stackless.schedule()
                    log.append(repr(other))
                    log.append(repr(sys.exc_info()[1]))
                log.append(repr(sys.exc_info()[1]))
            finally:
                step(log, ("finally", i))
            log.append(sys.exc_info()[1])
        raise RuntimeError("at the end")
    except (TypeError, RuntimeError) as error:
        step(log, str(error))
    finally:
        step(log, "outer finally")


class Manager:
    """Its methods let others run; it swallows LookupError."""

    def __init__(self, log):
        self.log = log

    def __enter__(self):
        step(self.log, "enter")
        return self

    def __exit__(self, kind, value, traceback):
        step(self.log, ("exit", repr(value)))
        del traceback
        return kind is not None and issubclass(kind, LookupError)


@program
def with_blocks(ch, log):
    with Manager(log) as a, Manager(log):
        log.append((a is not None, ch.receive()))
    with Manager(log):
        step(log, {}[ch.receive()])
    try:
        with Manager(log):
            raise OSError(step(log, 5))
    except OSError as error:
        step(log, error.args)


def decorated(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        stackless.schedule()
        return function(*args, **kwargs), "decorated"

    return wrapper


class Worker:
    log = None

    @decorated
    def work(self, n):
        return step(self.log, n)

    @classmethod
    def of(cls, log):
        worker = cls()
        worker.log = log
        step(log, "of")
        return worker

    @staticmethod
    @decorated
    def twice(n):
        stackless.schedule()
        return 2 * n

    @property
    def plain(self):
        return len(self.log)

    def __eq__(self, other):
        return NotImplemented

    __hash__ = None


@program
def methods(ch, log):
    worker = Worker.of(log)
    log.append((worker.work(3), Worker.twice(4), worker.plain, worker.work(n=9)))
    log.extend([x * 2 for x in worker.work(1)[:1]])


@program
def channel_as_iterator(ch, log):
    for n, value in zip(range(2), [1, 2]):
        log.append((n, value))
    for value in ch:
        log.append(value)
        if value > 4:
            break


@program
def sends(ch, log):
    out = stackless.channel()
    me = stackless.getcurrent()

    def reader():
        while True:
            log.append(("read", out.receive()))

    kept = stackless.tasklet(reader)()
    stackless.schedule()
    for i in range(3):
        out.send(collections.OrderedDict(i=i))
        log.append(me is stackless.getcurrent())
        assert stackless.schedule("value") == "value"
        assert stackless.schedule() is me
    step(log, (out.balance, kept.blocked))
    kept.kill()


class Made:
    """Waits while it is made; `fails` says what __init__ does wrong."""

    def __init__(self, log, n, fails=None):
        self.n = step(log, n)
        if fails:
            raise fails(n)
        self.log = log

    def __getitem__(self, index):
        return step(self.log, index + self.n)

    @property
    def waits(self):
        return step(self.log, ("property", self.n))


class Derived(Made):
    def __init__(self, log, *, n=7):
        super().__init__(log, n)
        step(log, "derived")


class Wrong:
    def __init__(self, log):
        self.made = [Made(log, n).n for n in range(2)]
        return step(log, "not None")


@program
def classes(ch, log):
    made = [Made(log, n) for n in range(3)]
    log.append([m.n for m in made] + [Derived(log).n, Derived(n=ch.receive(), log=log).n])
    for wrong, args in ((Wrong, (log,)), (Made, (log, 5, ValueError)), (Made, (log, 6, KeyError))):
        try:
            wrong(*args) if step(log, 0) else wrong(log) if len(args) == 1 else wrong(log, args[1], fails=args[2])
        except (TypeError, ValueError, KeyError) as error:
            log.append(repr(error))


@program
def comprehensions(ch, log):
    """From 3.12 on they are part of the function, and what they hide waits on its stack."""
    x = "outer"
    log.append([step(log, x) for x in range(2)] + [x])
    log.append([[step(log, (x, y)) for y in range(x)] for x in range(3) if x != ch.receive()])
    log.append({x: [step(log, z) for z in "ab"] for x in (1, 2)})
    (f,) = [lambda: (x, step(log, x)) for x in (step(log, 1),)]
    log.append((x, f()))
    try:
        log.append([step(log, 1 // y) for y in (1, 0)])
    except ZeroDivisionError as error:
        log.append((repr(error), x, "y" in locals()))
    log.append([step(log, unset) for unset in (1, 2)])
    try:
        log.append(unset)  # noqa: F821
    except NameError as error:
        log.append(type(error).__name__)


@program
def suppressed(ch, log):
    """Blocks inside blocks, left in every way while others run."""
    for i in range(4):
        with Manager(log) as a:
            try:
                with Manager(log):
                    if step(log, i) == 1:
                        continue
                    if i == 2:
                        raise KeyError(ch.receive())
                    if i == 3:
                        break
            finally:
                step(log, ("inner", i))
                log.append((a.log is log, repr(sys.exc_info()[0])))
    log.append(first_of(log, ch))


def first_of(log, ch):
    for n in (1, 2, 3):
        with Manager(log):
            try:
                return step(log, n), ch.receive()
            finally:
                step(log, "returning")


@program
def matches(ch, log):
    for value in ({"a": 1, "b": [2, 3]}, (4, 5), Made(log, 9), "other"):
        match value:
            case {"a": n, **rest}:
                log.append((n, step(log, rest)))
            case (n, *more) if step(log, n) == 4:
                log.append((more, ch.receive()))
            case Made(n=n):
                log.append(step(log, n))
            case _:
                log.append(f"{step(log, 1)!r:>{step(log, 5)}}{ch.receive()}")
    a, *b = step(log, (1, 2, 3))
    assert (c := step(log, 1)) and a < step(log, 2) <= ch.receive() + 9 and not b == c
    log.append((a, b, c, log[step(log, 1) : 2], locals().keys() - {"ch", "log", "value"}))


@program
def groups(ch, log):
    try:
        try:
            raise ExceptionGroup("g", [KeyError(1), ValueError(2), OSError(3)])
        except* KeyError as error:
            step(log, repr(error.exceptions))
        except* ValueError:
            log.append(repr(sys.exc_info()[1]))
            step(log, ch.receive())
    except BaseExceptionGroup as rest:
        if rest.subgroup(stackless.TaskletExit):
            return
        step(log, len(rest.exceptions))
        log.append(repr(rest.exceptions))


def wide(*args):
    """Many variables, some unset, on a chunk of its own."""
    a0 = a1 = a2 = a3 = a4 = a5 = a6 = a7 = a8 = a9 = b0 = b1 = b2 = b3 = b4 = b5 = b6 = b7 = b8 = b9 = args
    if not args:
        unset = 1
    stackless.schedule()
    try:
        return unset
    except UnboundLocalError:
        return (a0, a1, a2, a3, a4, a5, a6, a7, a8, a9, b0, b1, b2, b3, b4, b5, b6, b7, b8, b9).count(args)


@program
def big_frames(ch, log):
    log.append([wide(n, wide(n)) for n in range(3)])
    log.append(wide())
    import json as module

    stackless.schedule()
    log.append(module.dumps(ch.receive()))


# ---- running and continuing ------------------------------------------------------------------------------------


def start(name):
    """(channel, tasklet, log) of the program."""
    ch, log = stackless.channel(), []
    return ch, stackless.tasklet(globals()[name])(ch, log), log


def advance(ch, t, number):
    """Lets it run to its next stop."""
    if t.blocked and t._channel is ch:
        ch.send(number)
    else:
        stackless.schedule()


def finish(ch, t, log, number):
    while t.alive:
        advance(ch, t, number)
        number += 1
        assert number < 1000, "it does not end"
    return log


def clear():
    """Ends those that are left, and lets them go."""
    t = stackless.getcurrent().next
    while t is not stackless.getmain():
        t.kill()
        t = stackless.getcurrent().next


if __name__ == "__main__":
    logs = []
    with open(sys.argv[1], "rb") as file:
        for snapshot in pickle.load(file):
            logs.append(finish(*pickle.loads(snapshot)))
            clear()
    sys.stdout.buffer.write(pickle.dumps(logs))
