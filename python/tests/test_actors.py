# SPDX-License-Identifier: MIT
"""Actors of classes and of functions: calls, casts, streams, failure, watching, names, time."""

import gc
import logging
import time
import weakref

import fibril
import helpers
from fibril import actors

ISOLATED = True


class Counter(fibril.Actor):
    """Has a number."""

    def __init__(self, number=0, log=None):
        self.number = number
        self.log = log

    def on_add(self, number, *, twice=False):
        self.number += number * (2 if twice else 1)
        return self.number

    def on_count_to(self, number):
        yield from range(number)

    def on_fail(self):
        raise ValueError("asked to")

    def on_refuse(self):
        raise actors.Refuse(KeyError("refused"))

    def on_sleep(self, seconds):
        time.sleep(seconds)
        return seconds

    def on_message(self, message):
        self.number += message

    def terminate(self, reason):
        if self.log is not None:
            self.log.append(reason)


def test_a_call_returns_what_the_handler_returned():
    counter = Counter.start(5)
    assert counter.call("add", 3) == 8
    assert counter.call("add", 1, twice=True) == 10
    assert counter.call(Counter.on_add, 1) == 11


def test_messages_of_one_sender_keep_their_order():
    seen = []

    class Keeper(fibril.Actor):
        def on_see(self, what):
            seen.append(what)

        def on_message(self, what):
            seen.append(what)

    keeper = Keeper.start()
    for i in range(0, 300, 3):
        keeper.cast("see", i)
        keeper.send(i + 1)
        keeper.call("see", i + 2)
    assert seen == list(range(300))


def test_a_stream_gives_what_the_handler_yields():
    counter = Counter.start()
    assert list(counter.stream("count_to", 1000)) == list(range(1000))


def test_a_deadline_ends_a_call_and_the_late_reply_is_dropped():
    counter = Counter.start()
    with helpers.raises(TimeoutError):
        counter.call("sleep", 0.05, timeout=0.01)
    assert counter.call("add", 1) == 1
    assert actors.counts()["late_replies"] == 1


def test_an_unknown_handler_is_told_to_the_caller_and_harms_nobody():
    counter = Counter.start()
    with helpers.raises(AttributeError):
        counter.call("nothing")
    counter.cast("nothing")
    assert counter.call("add", 1) == 1
    assert actors.counts()["dead_letters"] == 1


def test_handlers_are_named_by_any_number_of_strings():
    counter = Counter.start()
    for i in range(5000):  # more than are kept
        with helpers.raises(AttributeError):
            counter.call(f"nothing_{i}")
    assert [counter.call(name, 1) for name in ("add", "".join(["a", "dd"]), Counter.on_add)] == [1, 2, 3]


def test_send_takes_a_message_and_a_timeout():
    counter = Counter.start()
    for arguments, keywords in (((), {}), ((1, 2, 3), {}), ((), {"message": 1}), ((1,), {"times": 2}),
                                ((1, 2), {"timeout": 3})):
        with helpers.raises(TypeError):
            counter.send(*arguments, **keywords)
    counter.send(1)
    counter.send(2, 1.0)
    counter.send(3, timeout=None)
    assert counter.call("add", 0) == 6


def test_what_a_handler_raises_ends_the_actor_and_reaches_caller_monitor_and_log():
    ended, records = [], []
    handler = logging.Handler()
    handler.emit = records.append
    logging.getLogger("fibril.actors").addHandler(handler)
    counter = Counter.start(1, ended)
    ref = counter.monitor()
    with helpers.raises(fibril.ActorFailed) as caught:
        counter.call("fail")
    assert isinstance(caught.value.__cause__, ValueError)
    down = fibril.receive(timeout=5)
    assert (down.actor, down.ref, down.reason.type) == (counter, ref, ValueError)
    assert [reason.type for reason in ended] == [ValueError]
    text = records[0].getMessage()
    assert "asked to" in text and "call fail()" in text and "'number': 1" in text and "on_fail" in text
    with helpers.raises(fibril.ActorEnded):
        counter.call("add", 1)


def test_a_refusal_is_the_callers_exception_and_the_actor_lives():
    counter = Counter.start()
    with helpers.raises(KeyError):
        counter.call("refuse")
    assert counter.call("add", 1) == 1


def test_what_init_raises_comes_out_of_start():
    class Bad(fibril.Actor):
        def __init__(self):
            raise OSError("no disk")

    with helpers.raises(OSError):
        Bad.start()
    assert actors.counts()["spawned"] - actors.counts()["ended"] == 1  # this fibril became one by waiting


def test_a_function_is_an_actor_that_receives():
    def adder(base):
        while True:
            match fibril.receive():
                case actors.Request("add", (number,)) as request:
                    request.reply(base + number)
                case "stop":
                    return

    adding = actors.spawn(adder, 7, monitor=True)
    assert adding.call("add", 3) == 10
    adding.send("stop")
    assert fibril.receive(actors.Down, timeout=5).reason == "normal"


def test_an_actor_that_has_ended_is_freed():
    class Big:
        pass

    held = Big()
    gone = weakref.ref(held)
    counter = Counter.start(held)
    del held
    counter.stop()
    gc.collect()
    assert gone() is None
