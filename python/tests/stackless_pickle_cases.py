# SPDX-License-Identifier: MIT
"""Suspended tasklets as data: each program of stackless_programs.py is pickled wherever it stops, and each pickle goes
on in another process to the same end. Then what is refused, and what it says."""

import gc
import os
import pickle
import random
import subprocess
import sys
import threading
import time
import types
import weakref

import pytest
import stackless_programs as programs
from fibril import _stackless_code, _stackless_pickle, stackless

HERE = os.path.dirname(os.path.abspath(__file__))


@pytest.fixture(autouse=True)
def clean():
    """Each test begins and ends with main alone."""
    yield
    programs.clear()
    assert stackless.getruncount() == 1


def snapshots(ch, t, log):
    """The pickle of each stop, until the end."""
    result, number = [], 0
    while t.alive:
        assert t.restorable
        result.append(pickle.dumps((ch, t, log, number), protocol=number % 4 + 2))
        programs.advance(ch, t, number)
        number += 1
    return result


def elsewhere(tmp_path, pickles, script="stackless_programs.py"):
    """The logs with which they end in a process of their own."""
    file = tmp_path / "pickles"
    file.write_bytes(pickle.dumps(pickles))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([*sys.path])}
    done = subprocess.run(
        [sys.executable, os.path.join(HERE, script), str(file)], capture_output=True, timeout=60, env=env, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return pickle.loads(done.stdout)


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_wherever_it_stops_it_goes_on_in_another_process(tmp_path, name):
    ch, t, log = programs.start(name)
    pickles = snapshots(ch, t, log)
    assert len(pickles) > 2
    assert elsewhere(tmp_path, pickles) == [log] * len(pickles)


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_one_that_went_on_is_pickled_again(name):
    """At each stop the tasklet is replaced by its own pickle's."""
    expected = programs.finish(*programs.start(name), 0)
    programs.clear()
    (ch, t, log), number = programs.start(name), 0
    while t.alive:
        data = pickle.dumps((ch, t, log))
        programs.clear()
        ch, t, log = pickle.loads(data)
        if number % 3 == 0:
            ch, t, log = pickle.loads(pickle.dumps((ch, t, log)))
        programs.advance(ch, t, number)
        number += 1
    assert log == expected


# ---- random programs ---------------------------------------------------------------------------------------------


class Writer:
    """Writes a random function: loops, exceptions, calls and stops, nested."""

    def __init__(self, seed):
        self.random, self.lines, self.names = random.Random(seed), [], 0

    def line(self, depth, text):
        self.lines.append("    " * depth + text)

    def expression(self):
        n = self.random.randrange(9)
        return [f"step(log, {n})", f"len([step(log, i) for i in range({n % 3})])", "v + 1", f"ch.receive() + {n}",
                f"(v, step(log, v))[{n % 2}]", f"helper({n % 3}, ch, log)", "int(f'{step(log, v)}')",
                f"sum({{step(log, k) for k in ({n}, 1)}})", "f()"][n]

    def block(self, depth, left):
        for _ in range(self.random.randrange(1, 4)):
            self.statement(depth, left)

    def statement(self, depth, left):
        kind = self.random.choice(["assign", "assign", "for", "try", "with", "if"]) if left else "assign"
        if kind == "assign":
            self.line(depth, f"v = ({self.expression()}) % 1000")
            self.line(depth, "log.append(v)")
            return
        self.names += 1
        x = f"x{self.names}"
        if kind == "for":
            self.line(depth, f"for {x} in " + self.random.choice(["range(2)", "[5, 6]", "{'a': 1, 'b': 2}", "'pq'"]) + ":")
            self.block(depth + 1, left - 1)
            self.line(depth + 1, f"if len(str({x})) > {self.random.randrange(3)}: " +
                      self.random.choice(["continue", "break", "v += 1"]))
        elif kind == "if":
            self.line(depth, f"if ({self.expression()}) % 2:")
            self.block(depth + 1, left - 1)
            self.line(depth, "else:")
            self.block(depth + 1, left - 1)
        elif kind == "with":
            self.line(depth, f"with Manager(log) as {x}:")
            self.block(depth + 1, left - 1)
            self.line(depth + 1, self.random.choice(["pass", "raise KeyError(v)"]))
        else:
            self.line(depth, "try:")
            self.block(depth + 1, left - 1)
            self.line(depth + 1, self.random.choice(["pass", "raise ValueError(v)", "raise KeyError(v)"]))
            self.line(depth, f"except (ValueError, KeyError) as {x}:")
            self.block(depth + 1, left - 1)
            self.line(depth + 1, f"log.append(repr({x}))")
            if self.random.randrange(2):
                self.line(depth, "finally:")
                self.block(depth + 1, left - 1)

    def source(self):
        self.line(0, "from stackless_programs import *")
        self.line(0, "def helper(n, ch, log):")
        self.line(1, "return step(log, n) if n < 2 else helper(n - 1, ch, log) + helper(n - 2, ch, log)")
        self.line(0, "def main(ch, log):")
        self.line(1, "v = 1")
        self.line(1, "def f():")
        self.line(2, "nonlocal v")
        self.line(2, "v += step(log, 1)")
        self.line(2, "return v")
        self.block(1, 3)
        self.block(1, 3)
        return "\n".join(self.lines) + "\n"


@pytest.mark.parametrize("seed", range(12))
def test_random_programs_go_on(tmp_path, monkeypatch, seed):
    source = Writer(seed).source()
    (tmp_path / f"random_{seed}.py").write_text(source)
    monkeypatch.syspath_prepend(str(tmp_path))
    main = __import__(f"random_{seed}").main
    ch, log = stackless.channel(), []
    pickles = snapshots(ch, stackless.tasklet(main)(ch, log), log)
    if len(pickles) > 40:
        pickles = random.Random(seed).sample(pickles, 40)
    assert elsewhere(tmp_path, pickles) == [log] * len(pickles), source


# ---- what goes along ---------------------------------------------------------------------------------------------


def waiter(ch, log, name):
    try:
        log.append((name, ch.receive()))
    except ValueError as error:
        log.append((name, str(error)))
    finally:
        log.append((name, "finally"))


def test_those_that_wait_in_a_channel_go_along_in_their_order():
    ch, log = stackless.channel(), []
    for name in "abc":
        stackless.tasklet(waiter)(ch, log, name)
    stackless.run()
    again, log2 = pickle.loads(pickle.dumps((ch, log)))
    assert again.balance == -3 and again.queue.blocked and again.queue.restorable
    for n in range(3):
        again.send(n)
    stackless.run()
    assert log2 == [("a", 0), ("a", "finally"), ("b", 1), ("b", "finally"), ("c", 2), ("c", "finally")]
    assert log == [] and ch.balance == -3


def test_one_that_waits_brings_its_channel_and_the_others():
    ch, log = stackless.channel(), []
    first, second = (stackless.tasklet(waiter)(ch, log, name) for name in "ab")
    stackless.run()
    one = pickle.loads(pickle.dumps(second))
    assert one.blocked and one._channel.balance == -2 and one._channel.queue.next is one
    ch.send_exception(ValueError, "x")
    assert log[0] == ("a", "x") and first


def test_those_that_send_keep_what_they_send():
    ch, got = stackless.channel(), []
    stackless.tasklet(ch.receive)()
    stackless.tasklet(sender)(ch, {"key": [1]}, got)
    stackless.tasklet(sender)(ch, (2,), got)
    stackless.run()
    assert got == ["sent"] and ch.balance == 1
    again = pickle.loads(pickle.dumps(ch))
    assert again.receive() == (2,)
    ch.receive()


def sender(ch, value, log):
    ch.send(value)
    log.append("sent")


def test_exceptions_reach_one_that_was_loaded():
    ch, log = stackless.channel(), []
    t = stackless.tasklet(waiter)(ch, log, "t")
    stackless.run()
    for how in ("kill", "raise", "send"):
        t2, ch2, log2 = pickle.loads(pickle.dumps((t, ch, log)))
        if how == "kill":
            t2.kill()
        elif how == "raise":
            t2.raise_exception(ValueError, "raised")
        else:
            ch2.send_exception(ValueError, "sent")
        stackless.run()
        assert not t2.alive and log2[-1] == ("t", "finally")
        assert len(log2) == 1 or log2[0] == ("t", "raised" if how == "raise" else "sent")
    t.kill()


def iterates(ch, log):
    for value in (log, ch.receive()):
        log.append(len(value))
    for value in ch:
        log.append(value)
    log.append("end")


def iterates_far(ch, log):
    """So that the loop's end is far away: the instruction has a prefix."""
    for value in ch:
        log.append((value, log[-1:], len(log), 0))
        log.append((value, log[-1:], len(log), 1))
        log.append((value, log[-1:], len(log), 2))
        log.append((value, log[-1:], len(log), 3))
        log.append((value, log[-1:], len(log), 4))
        log.append((value, log[-1:], len(log), 5))
        log.append((value, log[-1:], len(log), 6))
        log.append((value, log[-1:], len(log), 7))
        log.append((value, log[-1:], len(log), 8))
        log.append((value, log[-1:], len(log), 9))
        log.append((value, log[-1:], len(log), 10))
        log.append((value, log[-1:], len(log), 11))
        log.append((value, log[-1:], len(log), 12))
        log.append((value, log[-1:], len(log), 13))
        log.append((value, log[-1:], len(log), 14))
        log.append((value, log[-1:], len(log), 15))
        log.append((value, log[-1:], len(log), 16))
        log.append((value, log[-1:], len(log), 17))
        log.append((value, log[-1:], len(log), 18))
        log.append((value, log[-1:], len(log), 19))
        log.append((value, log[-1:], len(log), 20))
        log.append((value, log[-1:], len(log), 21))
        log.append((value, log[-1:], len(log), 22))
        log.append((value, log[-1:], len(log), 23))
    log.append("end")


@pytest.mark.parametrize("function", [iterates, iterates_far])
def test_a_loop_over_a_channel_ends_where_it_was_loaded(function):
    ch, log = stackless.channel(), []
    t = stackless.tasklet(function)(ch, log)
    stackless.run()
    if function is iterates:
        ch.send("abc")
    ch.send(1)
    t2, ch2, log2 = pickle.loads(pickle.dumps((t, ch, log)))
    for channel in (ch, ch2):
        channel.send(2)
        channel.send_exception(StopIteration)
    assert log == log2 and log[-1] == "end" and not t.alive and not t2.alive


def test_flags_and_what_it_is_about_to_get_go_along():
    log = []
    t = stackless.tasklet(returns)(log)
    stackless.schedule()
    t.set_atomic(True)
    t.block_trap = True
    t.tempval = "given"
    t2, log2 = pickle.loads(pickle.dumps((t, log)))
    assert t2.atomic and t2.block_trap and t2.scheduled and t2.alive and not t2.paused
    stackless.run()
    assert log == log2 == ["given"]


def returns(log):
    log.append(stackless.schedule())


def test_one_that_was_removed_stays_paused():
    log = []
    t = stackless.tasklet(removed)(log)
    stackless.run()
    t2, log2 = pickle.loads(pickle.dumps((t, log)))
    assert t2.paused and t.paused and log2 == []
    t2.run()
    assert log2 == [None] and log == []
    t.kill()


def removed(log):
    stackless.schedule_remove(log)
    log.append(None)


def test_shared_closures_stay_shared():
    out = []
    a, b, out2 = pickle.loads(pickle.dumps((*pair(out), out)))
    stackless.run()
    assert out == out2 and out[-1] == 6


def pair(out):
    count = 0

    def adds():
        nonlocal count
        for _ in range(3):
            count += 1
            stackless.schedule()
            out.append(count)

    tasklets = stackless.tasklet(adds)(), stackless.tasklet(adds)()
    stackless.schedule()
    return tasklets


def test_its_frames_hold_their_variables_alone():
    """Once it goes on, what it was loaded from is gone."""
    ch, gone = stackless.channel(), []
    stackless.tasklet(holds)(ch, gone)
    stackless.run()
    again, gone2 = pickle.loads(pickle.dumps((ch, gone)))
    again.send("drop")
    assert gone2 == [True]
    ch.send("drop")
    stackless.run()


class Thing:
    pass


def holds(ch, gone):
    thing = Thing()
    ch.receive()
    ref = weakref.ref(thing)
    del thing
    gc.collect()
    gone.append(ref() is None)


def test_frames_of_loaded_ones_are_seen_and_collected():
    first = stackless.tasklet(holds_itself)()
    stackless.run()
    t = pickle.loads(pickle.dumps(first))
    t.run()
    names, frame = [], t.frame
    while frame:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    assert names == ["holds_itself", "resume"]
    ref = weakref.ref(t)
    del t, frame
    gc.collect()
    assert ref() is None
    first.kill()


def holds_itself():
    me = stackless.getcurrent()
    while me:
        stackless.schedule_remove(None)


def test_many_go_on_without_leaks():
    ch, log = stackless.channel(), []
    stackless.tasklet(waiter)(ch, log, "t")
    stackless.run()
    data = pickle.dumps((ch, log))

    def round_of(n):
        for _ in range(n):
            again, got = pickle.loads(data)
            again.send(1)
            assert got[-1] == ("t", "finally")

    round_of(200)
    gc.collect()
    before = sys.getallocatedblocks()
    round_of(2000)
    gc.collect()
    assert sys.getallocatedblocks() - before < 500
    ch.send(0)


@pytest.mark.parametrize("name", programs.PROGRAMS)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_no_program_leaks(name):
    """Each of its stops goes on to the end, over and over, and leaves not one block behind."""
    ch, t, log = programs.start(name)
    pickles = snapshots(ch, t, log)
    programs.clear()
    counts = []
    for _ in range(6):
        for data in pickles * (1 + 40 // len(pickles)):
            programs.finish(*pickle.loads(data))
            programs.clear()
        gc.collect()
        sys._clear_type_cache()  # it keeps names
        counts.append(sys.getallocatedblocks())
    assert counts[-1] - counts[2] < 20, counts


def test_lambdas_in_containers_go_by_the_pickler_of_stackless():
    log = []
    t = stackless.tasklet(with_lambdas)(log)
    stackless.schedule()
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps((t, log))
    import io

    file = io.BytesIO()
    stackless.Pickler(file).dump((t, log))
    t2, log2 = pickle.loads(file.getvalue())
    stackless.run()
    assert log == log2 == [8, "stackless_programs"] and not t2.alive


def with_lambdas(log):
    n = 7
    table = {"f": lambda x: x + n, "m": [programs]}
    stackless.schedule()
    log.extend([table["f"](1), table["m"][0].__name__])


# ---- what is refused ---------------------------------------------------------------------------------------------


def refused(function, *args, match):
    t = stackless.tasklet(function)(*args)
    stackless.schedule()
    assert t.alive and not t.restorable
    with pytest.raises(pickle.PicklingError, match=match):
        pickle.dumps(t)
    if t.scheduled and t.blocked:
        t.kill()
    stackless.run()


def key(x):
    stackless.schedule()
    return x


def sorts():
    return sorted([2, 1], key=key)


def makes():
    return Maker()


class Kind(type):
    def __call__(cls):
        return super().__call__()


class Maker(metaclass=Kind):
    def __init__(self):
        stackless.schedule()


def generates():
    def numbers():
        stackless.schedule()
        yield 1

    return list(numbers())


def has_generator():
    squares = (x * x for x in range(3))
    stackless.schedule()
    return list(squares)


def has_file():
    with open(os.devnull, encoding="ascii") as file:
        stackless.schedule()
        return file.name


def sequence(ch):
    ch.send_sequence([1, 2])


def runs_inside():
    exec("import fibril.stackless; fibril.stackless.schedule()")


def test_c_code_in_between_is_named():
    refused(sorts, match=r"sorts \(.*py:\d+\) called sorted, and C code is under way")
    refused(makes, match="Kind.__call__ .* called .*, and C code is under way")
    refused(runs_inside, match="class body or a module")


def test_what_frames_hold_is_named():
    refused(has_generator, match=r"has_generator .*: its variable squares is a generator")
    refused(has_file, match=r"has_file .*: its variable file is an open file")
    refused(generates, match="numbers .* is a generator")


class Waits:
    def __del__(self):
        stackless.schedule()


def drops():
    for n in range(3):
        len((n, Waits(), n))


def stops(log):
    for n in range(3):
        log.append(repr(Waits()) and n)


def test_what_c_code_has_dropped_is_not_touched():
    """Its arguments may be gone when the last one's __del__ waits."""
    refused(drops, match="drops")
    refused(stops, [], match="stops")


def test_what_waits_outside_is_refused():
    t = stackless.tasklet(time.sleep)(0.02)
    stackless.schedule()
    with pytest.raises(pickle.PicklingError, match="outside"):
        pickle.dumps(t)
    stackless.run()


def test_c_functions_that_have_more_to_do_are_refused():
    ch = stackless.channel()
    refused(sequence, ch, match="called channel.send_sequence")
    assert not ch.balance or ch.receive() is not None


def test_one_interrupted_by_the_watchdog_is_refused():
    def spins(stop):
        while not stop:
            pass

    stop = []
    t = stackless.tasklet(spins)(stop)
    assert stackless.run(1000) is t
    assert not t.restorable
    with pytest.raises(pickle.PicklingError):
        pickle.dumps(t)
    stop.append(1)
    t.run()


def test_the_current_one_and_main_are_not_restorable():
    assert not stackless.getcurrent().restorable
    with pytest.raises(RuntimeError, match="current"):
        pickle.dumps(stackless.getmain())


def test_changed_code_is_refused(tmp_path, monkeypatch):
    """Also of a function that has no name, and not for other line numbers."""
    monkeypatch.syspath_prepend(str(tmp_path))
    text = "from fibril.stackless import schedule\n%s\ndef outer(log):\n    def inner(n):\n        schedule()\n" \
           "        return n + %d\n    log.append(inner(1))\n"
    (tmp_path / "changing.py").write_text(text % ("", 1))
    import changing

    log = []
    t = stackless.tasklet(changing.outer)(log)
    stackless.schedule()
    data = pickle.dumps((t, log))
    stackless.run()
    reload(changing, tmp_path, text % ("# a comment\n", 1))
    t, log = pickle.loads(data)
    stackless.run()
    assert log == [2]
    reload(changing, tmp_path, text % ("", 7))
    with pytest.raises(pickle.UnpicklingError, match="the code of changing.outer.* has changed"):
        pickle.loads(data)
    reload(changing, tmp_path, "x = 1\n")
    with pytest.raises((pickle.UnpicklingError, AttributeError), match="outer"):
        pickle.loads(data)


def reload(module, path, text):
    (path / "changing.py").write_text(text)
    for name in list(vars(module)):
        if not name.startswith("__"):
            delattr(module, name)
    exec(compile(text, str(path / "changing.py"), "exec"), vars(module))
    module.__loader__ = None
    _stackless_code._found.clear()


def test_code_of_nowhere_is_refused():
    space = {"schedule": stackless.schedule, "__name__": __name__}
    exec("def f():\n    schedule()\n", space)
    t = stackless.tasklet(space["f"])()
    stackless.schedule()
    with pytest.raises(pickle.PicklingError, match="f does not belong to a module"):
        pickle.dumps(t)
    stackless.run()


def test_another_pythons_frames_are_refused():
    ch, log = stackless.channel(), []
    t = stackless.tasklet(waiter)(ch, log, "t")
    stackless.run()
    tag = sys.implementation.cache_tag.encode()
    data = pickle.dumps(t).replace(tag, tag[:-2] + b"99")  # the length stays
    with pytest.raises(pickle.UnpicklingError, match=f"cpython-399 cannot go on in {sys.implementation.cache_tag}"):
        pickle.loads(data)
    t.kill()


def test_frames_that_do_not_fit_their_function_are_refused():
    frame = _stackless_pickle.Frame(removed, 10**6, ())
    t = stackless.tasklet(_stackless_pickle.resume)(_stackless_pickle.Frames([frame], None))
    with pytest.raises(ValueError, match="no frame of that function"):
        stackless.run()
    assert not t.alive


def test_what_another_thread_runs_is_refused():
    box, go = [], threading.Event()

    def thread():
        box.append(stackless.getcurrent())
        go.wait()

    t = threading.Thread(target=thread)
    t.start()
    while not box:
        time.sleep(0.001)
    with pytest.raises((RuntimeError, pickle.PicklingError)):
        pickle.dumps(box[0])
    go.set()
    t.join()


# ---- the heights of value stacks ----------------------------------------------------------------------------------


def codes_of(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from codes_of(constant)


@pytest.mark.parametrize("name", ["argparse", "ast", "dataclasses", "inspect", "pickle", "tarfile", "typing"])
def test_heights_stay_within_the_stack(name):
    import importlib

    module = importlib.import_module(name)
    count = 0
    for code in codes_of(module.__loader__.get_code(module.__name__)):
        if not code.co_flags & 0x2A0:  # generators begin otherwise
            heights = _stackless_code.heights(code)
            assert min(heights.values()) >= 0 and max(heights.values()) <= code.co_stacksize
            count += 1
    assert count > 20
