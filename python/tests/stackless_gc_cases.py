# SPDX-License-Identifier: MIT
"""What suspended tasklets hold, as the garbage collector sees it: all of it where that is certain, and never more."""

import collections
import contextlib
import functools
import gc
import os
import sys
import threading
import types
import weakref

import pytest

from fibril import stackless

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import stackless_programs as programs  # noqa: E402

seen = []


@pytest.fixture(autouse=True)
def clean():
    threshold = gc.get_threshold()
    gc.collect()
    gc.freeze()  # what was there before need not be looked at again and again
    seen.clear()
    yield
    gc.unfreeze()
    gc.set_threshold(*threshold)
    gc.enable()
    programs.clear()
    assert stackless.getruncount() == 1


def note(function):
    """Notes how it ends."""

    def noting():
        try:
            function()
        except stackless.TaskletExit:
            seen.append(function.__name__)
            raise

    return noting


# ---- cycles that only a suspended one's frames close -------------------------------------------------------------


def on_the_stack_alone():
    stackless.channel().receive()


def in_a_variable():
    ch = stackless.channel()
    ch.receive()


def by_a_bound_method():
    receive = stackless.channel().receive
    receive()


def sending():
    ch = stackless.channel()
    ch.send(ch)


def sending_its_own_method():
    ch = stackless.channel()
    ch.send(ch.send)


def in_the_middle_of_an_expression():
    ch = stackless.channel()
    print([ch, (ch, ch), {1: ch.receive()}])


def below_calls():
    def middle(ch):
        return 1 + innermost([ch])

    def innermost(of):
        return [of, of[0].receive()]

    ch = stackless.channel()
    print(ch, middle(ch))


def in_loops_and_blocks():
    ch = stackless.channel()
    for same in [ch, ch]:
        with ch_as_manager(ch) as managed:
            try:
                raise KeyError(managed)
            except KeyError:
                same.receive()


def removed_by_itself():
    me = stackless.getcurrent()
    print(me, stackless.schedule_remove(me))


class ch_as_manager:
    def __init__(self, ch):
        self.ch = ch

    def __enter__(self):
        return self.ch

    def __exit__(self, *error):
        pass


CYCLES = [on_the_stack_alone, in_a_variable, by_a_bound_method, sending, sending_its_own_method,
          in_the_middle_of_an_expression, below_calls, in_loops_and_blocks, removed_by_itself]


@pytest.mark.parametrize("function", CYCLES)
def test_one_that_only_itself_can_reach_is_killed(function):
    for _ in range(10):  # so that the interpreter specialises it
        refs = [weakref.ref(stackless.tasklet(note(function))()) for _ in range(3)]
        stackless.run()
        gc.collect()
        assert seen == [function.__name__] * 3
        assert [ref() for ref in refs] == [None] * 3
        seen.clear()


def test_two_that_wait_for_each_other_are_killed():
    def wait(mine, other):
        try:
            mine.receive()
            other.send(1)
        finally:
            seen.append("end")

    a, b = stackless.channel(), stackless.channel()
    refs = [weakref.ref(stackless.tasklet(wait)(*channels)) for channels in ((a, b), (b, a))]
    stackless.run()
    del a, b
    gc.collect()
    assert seen == ["end"] * 2 and [ref() for ref in refs] == [None] * 2


def test_one_that_can_be_reached_is_left_alone():
    ch = stackless.channel()

    def wait(kept):
        seen.append((kept.receive(), len(kept.queue.frame.f_code.co_name) if kept.queue else 0))

    for _ in range(3):
        stackless.tasklet(wait)(ch)
    stackless.run()
    for n in range(3):
        gc.collect()
        ch.send(n)
    stackless.run()
    assert [n for n, _ in seen] == [0, 1, 2]


def test_one_that_refuses_to_end_goes_on():
    out = stackless.channel()

    def stubborn():
        try:
            stackless.channel().receive()
        except stackless.TaskletExit:
            seen.append(out.receive())

    stackless.tasklet(stubborn)()
    stackless.run()
    for _ in range(3):
        gc.collect()
        assert out.balance == -1 and out.queue.blocked
    out.send("more")
    stackless.run()
    assert seen == ["more"]


def test_one_of_another_thread_ends_there():
    ended, go, done = [], threading.Event(), threading.Event()

    def wait():
        try:
            stackless.channel().receive()
        except stackless.TaskletExit:
            ended.append(threading.get_ident())
            raise

    def thread():
        stackless.tasklet(wait)()
        stackless.run()
        go.set()
        done.wait(30)
        stackless.run()
        ended.append(threading.get_ident())

    t = threading.Thread(target=thread)
    t.start()
    go.wait(30)
    gc.collect()
    done.set()
    t.join()
    assert len(ended) == 2 and ended[0] == ended[1]


# ---- never more than there is ------------------------------------------------------------------------------------


def excess(*tasklets):
    """Objects to which more references are shown than there are."""
    probe = []
    everything, shown = gc.get_objects(), collections.Counter()
    for o in everything + [t for t in tasklets if not gc.is_tracked(t)]:
        shown.update(map(id, gc.get_referents(o)))
    del o
    others = next(sys.getrefcount(o) for o in everything if o is probe) - 1
    return [o for o in everything if shown[id(o)] > sys.getrefcount(o) - others and o is not shown]


@pytest.mark.parametrize("name", programs.PROGRAMS)
def test_no_reference_is_shown_that_is_not_there(name):
    gc.disable()
    assert excess() == []
    (ch, t, log), number = programs.start(name), 0
    while t.alive:
        assert excess(t) == []
        programs.advance(ch, t, number)
        number += 1


def through_partial(ch):
    functools.partial(ch.send)(ch)


def through_a_method(ch):
    types.MethodType(ch.send, ch)()


def through_a_method_of_a_method(ch):
    types.MethodType(types.MethodType(ch.send, ch), ch)


def with_a_tuple(ch):
    ch.send(*[ch])


def by_the_type(ch):
    stackless.channel.send(ch, ch)


def in_a_key(ch):
    sorted([ch, ch], key=ch.send)


def in_map(ch):
    list(map(ch.send, [ch, ch, ch]))


def by_iteration(ch):
    for value in ch:
        seen.append(value)


def with_a_name(ch):
    stackless.schedule(retval=ch)


def with_a_value(ch):
    print(ch, stackless.schedule(ch))


class Getter:
    def __getattr__(self, name):
        return self.ch.receive()

    def __add__(self, other):
        return other.receive()

    def __del__(self):
        with contextlib.suppress(stackless.TaskletExit):
            self.ch.receive()


def in_an_operator(ch):
    g = Getter()
    g.ch = ch
    print(g + ch, g.other, [ch, g + ch])


def in_a_finalizer(ch):
    g = Getter()
    g.ch = ch
    del g


def in_a_generator(ch):
    def generate():
        yield ch.receive()
        yield from (ch.receive() for _ in "ab")

    print(list(generate()), [x for x in generate()])


WAYS = [through_partial, through_a_method, through_a_method_of_a_method, with_a_tuple, by_the_type, in_a_key, in_map,
        by_iteration, with_a_name, with_a_value, in_an_operator, in_a_finalizer, in_a_generator]


@pytest.mark.parametrize("function", WAYS)
def test_other_ways_to_wait_show_no_more_than_there_is(function):
    """Whether they are collected or not: nothing is shown twice, and what can be reached stays."""
    gc.disable()
    for _ in range(12):
        ch = stackless.channel()
        ts = [stackless.tasklet(function)(ch) for _ in range(3)]
        stackless.schedule()
        assert excess(*ts) == []
        gc.collect()
        assert all(t.alive or not t.blocked for t in ts)
        for t in ts:
            t.kill()
        stackless.run()


def test_programs_do_the_same_while_the_collector_runs_all_the_time():
    def outcomes():
        result = []
        for name in programs.PROGRAMS:
            result.append(programs.finish(*programs.start(name), 0))
            programs.clear()
        return result

    gc.disable()
    expected = outcomes()
    gc.enable()
    gc.set_threshold(5, 2, 2)
    assert outcomes() == expected


def test_churn_of_cycles_leaves_nothing():
    def one_round():
        for function in CYCLES:
            for _ in range(5):
                stackless.tasklet(function)()
        stackless.run()
        gc.collect()

    for _ in range(5):
        one_round()
    before = len(gc.get_objects()), sys.getallocatedblocks()
    for _ in range(40):
        one_round()
    after = len(gc.get_objects()), sys.getallocatedblocks()
    assert after[0] <= before[0] + 5 and after[1] <= before[1] + 100
