# SPDX-License-Identifier: MIT
"""Event buses: handlers come, go and fail, and the others go on."""

import logging

import fibril
import helpers
from fibril import actors
from fibril.actors import Bus

ISOLATED = True

logging.getLogger("fibril.actors").addHandler(logging.NullHandler())
logging.getLogger("fibril.actors").propagate = False


class Keeper:
    """Keeps events, and does not like some."""

    def __init__(self, log, name="keeper"):
        self.log = log
        self.name = name
        if name == "bad":
            raise OSError("cannot begin")

    def on_event(self, event):
        if event == "fail " + self.name:
            raise ValueError(event)
        if event == "go " + self.name:
            return Bus.REMOVE
        self.log.append((self.name, event))
        return None

    def on_count(self, factor=1):
        return len(self.log) * factor

    def on_refuse(self):
        raise actors.Refuse(KeyError("no"))

    def on_fail(self):
        raise ZeroDivisionError

    def terminate(self, reason):
        self.log.append((self.name, "end", reason if isinstance(reason, str) else type(reason).__name__))


def test_events_reach_all_handlers_in_order():
    bus, log = Bus.start(name="bus"), []
    bus.add("a", Keeper, log, "a")
    bus.add("f", lambda event, more: log.append((more, event)), "f")
    bus.notify(1)
    bus.send(2)
    actors.send_after(0, bus, 3)
    while len(log) < 6:
        fibril.sleep(0.001)
    assert log == [("a", 1), ("f", 1), ("a", 2), ("f", 2), ("a", 3), ("f", 3)]
    assert bus.handlers() == ["a", "f"] and bus.ask("a", "count", factor=2) == 12
    bus.remove("a")
    assert bus.handlers() == ["f"] and log[-1] == ("a", "end", "normal")
    assert actors.BusHandle(actors.whereis("bus").id).handlers() == ["f"]


def test_a_handler_that_fails_is_removed_reported_and_its_owner_told():
    bus, log, records = Bus.start(), [], []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("fibril.actors").addHandler(handler)
    for name in "abc":
        bus.add(name, Keeper, log, name, owned=name == "b")
    bus.notify("fail b")
    assert bus.handlers() == ["a", "c"]
    assert log == [("a", "fail b"), ("b", "end", "ValueError"), ("c", "fail b")]
    ended = fibril.receive(actors.HandlerEnded, 5)
    assert (ended.bus, ended.id, type(ended.reason)) == (bus, "b", ValueError)
    text = records[0].getMessage()
    assert "'b'" in text and "fail b" in text and "on_event" in text and "'name': 'b'" in text
    with helpers.raises(fibril.ActorFailed) as caught:
        bus.ask("a", "fail")
    assert isinstance(caught.value.__cause__, ZeroDivisionError) and bus.handlers() == ["c"]
    bus.notify("go c")
    assert bus.handlers() == []


def test_a_handler_goes_with_its_owner():
    bus, log = Bus.start(), []

    def own():
        bus.add("owned", Keeper, log, owned=True)
        fibril.receive()

    owner = actors.spawn(own)
    while bus.handlers() != ["owned"]:
        fibril.yield_()
    owner.kill()
    while bus.handlers():
        fibril.sleep(0.001)
    assert log == [("keeper", "end", "killed")]


def test_mistakes_are_told():
    bus = Bus.start()
    bus.add("a", Keeper, [])
    for error, what in ((ValueError, lambda: bus.add("a", print)), (OSError, lambda: bus.add("b", Keeper, [], "bad")),
                        (LookupError, lambda: bus.remove("b")), (LookupError, lambda: bus.ask("b", "count")),
                        (AttributeError, lambda: bus.ask("a", "nothing")), (KeyError, lambda: bus.ask("a", "refuse"))):
        with helpers.raises(error):
            what()
    assert bus.handlers() == ["a"]


def test_the_end_of_a_bus_ends_its_handlers_and_tells_owners():
    bus, log = Bus.start(), []
    bus.add("a", Keeper, log, owned=True)
    bus.add("b", Keeper, log, "b")
    bus.stop()
    assert log == [("keeper", "end", "normal"), ("b", "end", "normal")]
    assert fibril.receive(actors.HandlerEnded, 5).reason == "normal"
