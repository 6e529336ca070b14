# SPDX-License-Identifier: MIT
"""Supervisors of Python actors, functions and processes."""

import gc
import logging
import time
import weakref

import pytest

import fibril
import helpers
from fibril import Child, Supervisor, actors

ISOLATED = True

logging.getLogger("fibril.actors").addHandler(logging.NullHandler())
logging.getLogger("fibril.actors").propagate = False


class Worker(fibril.Actor):
    """Writes down its beginnings and ends."""

    events = []

    def __init__(self, tag, fails=None):
        if fails and fails.pop():
            raise OSError(f"{tag} cannot")
        self.tag = tag
        self.events.append("+" + tag)

    def on_tag(self):
        return self.tag

    def on_fail(self):
        raise ValueError(self.tag)

    def terminate(self, reason):
        self.events.append("-" + self.tag)


def settle():
    for _ in range(100):
        fibril.yield_()


def until(true):
    for _ in range(2000):
        if true():
            return
        time.sleep(0.01)
    raise AssertionError("never")


def abc(strategy, **options):
    supervisor = Supervisor([Child(Worker, tag, id=tag, name=tag) for tag in "abc"], strategy, **options).start()
    assert Worker.events == ["+a", "+b", "+c"]
    del Worker.events[:]
    return supervisor


@pytest.mark.parametrize("strategy, events", [
    ("one_for_one", "-b +b"), ("one_for_all", "-b -c -a +a +b +c"), ("rest_for_one", "-b -c +b +c")])
def test_a_strategy_says_who_is_started_again(strategy, events):
    supervisor = abc(strategy)
    supervisor["b"].cast("fail")
    settle()
    assert " ".join(Worker.events) == events
    assert supervisor["b"].call("tag") == "b"
    assert [child.id for child in supervisor.children()] == ["a", "b", "c"]


def test_it_gives_up_after_too_many_restarts():
    supervisor = abc("one_for_one", intensity=2, period=60)
    supervisor.monitor()
    for _ in range(3):
        actors.whereis("a").cast("fail")
        settle()
    assert fibril.receive(actors.Down, timeout=5).reason == "shutdown"
    assert actors.whereis("b") is None
    assert Worker.events[-2:] == ["-c", "-b"]


def test_a_child_whose_init_raises_fails_the_start_and_leaves_nothing():
    with helpers.raises(OSError) as caught:
        Supervisor([Child(Worker, "a"), Child(Worker, "b", [True], id="b")]).start()
    assert "b cannot" in str(caught.value)
    settle()
    assert Worker.events == ["+a", "-a"]


def test_a_restart_that_fails_is_tried_again():
    fails = [True, True, False]
    supervisor = Supervisor([Child(Worker, "a", fails, id="a")], intensity=5).start()
    supervisor["a"].cast("fail")
    until(lambda: supervisor["a"] is not None and not fails)
    assert supervisor["a"].call("tag") == "a"


def test_children_are_added_ended_restarted_and_removed():
    supervisor = abc("one_for_one")
    added = supervisor.add(Child(Worker, "d", id="d"))
    assert added.call("tag") == "d"
    with helpers.raises(ValueError):
        supervisor.add(Child(Worker, "d", id="d"))
    with helpers.raises(RuntimeError):
        supervisor.remove("d")
    supervisor.end("d")
    assert supervisor["d"] is None
    assert supervisor.restart("d").call("tag") == "d"
    supervisor.end("d")
    supervisor.remove("d")
    with helpers.raises(KeyError):
        supervisor["d"]
    with helpers.raises(LookupError):
        supervisor.end("d")


def test_a_simple_supervisor_starts_any_number_of_its_pattern():
    supervisor = Supervisor([Child(Worker)], "simple", intensity=None).start()
    children = [supervisor.add(str(number)) for number in range(100)]
    assert [child.call("tag") for child in children] == [str(number) for number in range(100)]
    for child in children[:50]:
        child.cast("fail")
    settle()
    again = supervisor.children()
    assert len(again) == 100 and sum(child.restarts for child in again) == 50
    for child in again:
        supervisor.end(child.actor)
    assert supervisor.children() == []


def test_what_a_forgotten_child_was_started_with_is_freed():
    class Tag(str):
        pass

    supervisor = Supervisor([Child(Worker)], "simple", intensity=None).start()
    tag = Tag("x")
    gone = weakref.ref(tag)
    child = supervisor.add(tag)
    supervisor.end(child)
    Worker.events.clear()
    del tag
    settle()
    gc.collect()
    assert gone() is None


def test_a_tree_in_a_tree_is_restarted_whole():
    inner = Supervisor([Child(Worker, "x", id="x"), Child(Worker, "y", id="y")], intensity=1, name="inner")
    Supervisor([inner, Child(Worker, "z")], intensity=3, name="top").start()
    actors.whereis("inner").kill()
    settle()
    again = actors.SupervisorHandle(actors.whereis("inner").id)
    assert again["x"].call("tag") == "x" and Worker.events.count("+y") == 2


def test_a_function_is_a_child():
    def echo():
        while True:
            request = fibril.receive(actors.Request)
            request.reply(request.args)

    supervisor = Supervisor([Child(echo, name="echo")]).start()
    assert actors.whereis("echo").call("this", 1) == (1,)
    supervisor["echo"].kill()
    settle()
    assert actors.whereis("echo").call("this", 2) == (2,)


def test_an_os_process_is_a_child_and_ends_with_its_supervisor():
    supervisor = Supervisor([Child(["sleep", "1000"], id="sleeper"), Child(["false"], restart="temporary")]).start()
    until(lambda: len(supervisor.children()) == 1)  # the second has ended, and is forgotten
    sleeper = supervisor["sleeper"]
    supervisor.exit()
    supervisor.join(timeout=20)
    assert not sleeper.alive


def test_a_child_that_hangs_is_killed_after_its_time():
    def hang():
        with fibril.shield():
            fibril.sleep(0.2)

    supervisor = Supervisor([Child(hang, shutdown=0.01, id="hang")]).start()
    settle()
    supervisor.exit()
    supervisor.join(timeout=20)


@pytest.mark.outside
def test_at_exit_trees_end_in_order_and_lone_actors_too():
    code = """
import fibril
class A(fibril.Actor):
    def __init__(self, tag): self.tag = tag
    def terminate(self, reason): print(self.tag, reason)
fibril.enable()
lone = A.start("lone")
fibril.Supervisor([fibril.Child(A, tag, id=tag) for tag in "ab"]).start()
print("end")
"""
    result = helpers.python("-c", code)
    assert (result.stdout.split("\n"), result.stderr) == (["end", "b shutdown", "a shutdown", "lone shutdown", ""], "")


@pytest.mark.outside
def test_an_interrupt_ends_the_start_of_an_actor_that_hangs():
    code = """
import fibril, os, signal, threading, time
class A(fibril.Actor):
    def __init__(self):
        threading.Thread(target=lambda: (time.sleep(0.05), os.kill(os.getpid(), signal.SIGINT))).start()
        time.sleep(1000)
signal.signal(signal.SIGINT, signal.default_int_handler)  # whoever ran this may ignore it
fibril.enable()
try:
    A.start()
except KeyboardInterrupt:
    print("interrupted", fibril.actors.counts()["spawned"] - fibril.actors.counts()["ended"])
"""
    result = helpers.python("-c", code)
    assert result.stdout == "interrupted 1\n" and "ended: killed" in result.stderr


def test_wrong_descriptions_are_refused_with_what_was_wrong():
    for wrong, word in [
            (lambda: Child(42), "42"), (lambda: Child([]), "[]"), (lambda: Child(int), "int"),
            (lambda: Child(["ls"], 1), "ls"), (lambda: Child(Worker, restart="often"), "often"),
            (lambda: Child(Worker, shutdown=-1), "-1"), (lambda: Child(Worker, policy="lose"), "lose"),
            (lambda: Supervisor(strategy="all"), "all"), (lambda: Supervisor(strategy="simple"), "simple"),
            (lambda: Supervisor(intensity=0), "0"), (lambda: Supervisor(period="x"), "x"),
            (lambda: Supervisor([Child(Worker, "a"), Child(Worker, "b")]).start(), "id")]:
        with helpers.raises((TypeError, ValueError)) as caught:
            wrong()
        assert word in str(caught.value)
