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


@fibril.actor
def echo():
    """Sends back."""
    for _ in range(2):
        request = fibril.receive(actors.Request)
        request.reply(request.args)


@fibril.actor(mailbox=2, policy="fail", name="small")
def sleeper(seconds):
    time.sleep(seconds)


def test_a_decorator_makes_a_function_an_actor():
    started = echo.start()
    assert started.call("this", 1) == (1,) and (echo.__name__, echo.__doc__) == ("echo", "Sends back.")
    small = sleeper.start(1000)
    assert small == actors.whereis("small")
    small.send(1)
    small.send(2)
    with helpers.raises(actors.MailboxFull):
        small.send(3)
    assert sleeper(0) is None  # a plain call
    fibril.Supervisor([fibril.Child(echo, name="kept")]).start()
    assert actors.whereis("kept").call("that") == ()
    for wrong in (Counter, 42):
        with helpers.raises(TypeError):
            fibril.actor(wrong)
    with helpers.raises(ValueError):
        fibril.actor(policy="lose")


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


# ---- watching each other -----------------------------------------------------------------------------


class Idler(fibril.Actor):
    """Does nothing; says what it gets."""

    def __init__(self, got=None):
        self.got = got if got is not None else []

    def on_link(self, other):
        other.link()

    def on_down(self, down):
        self.got.append(("down", down.reason))

    def on_exit(self, exit):
        self.got.append(("exit", exit.reason))

    def on_message(self, message):
        self.got.append(message)

    def on_idle(self):
        self.got.append("idle")
        self.set_idle(None)

    def on_set_idle(self, seconds):
        self.set_idle(seconds)

    def on_block(self, seconds=1000):
        try:
            time.sleep(seconds)
        except fibril.Cancelled:
            self.got.append("cancelled")
            raise

    def terminate(self, reason):
        self.got.append(("end", reason))


def settle():
    for _ in range(100):
        fibril.yield_()


def test_a_link_takes_the_other_along_unless_the_end_is_normal():
    first, second, third = Idler.start(), Idler.start(), Idler.start()
    first.call("link", second)
    first.call("link", third)
    second.stop()
    settle()
    assert first.alive
    third.kill()
    settle()
    assert not first.alive


def test_one_that_traps_exits_gets_them_as_messages():
    got = []
    first, second = Idler.start(got, trap_exits=True), Idler.start()
    first.call("link", second)
    second.exit("shutdown")
    settle()
    assert first.alive and got == [("exit", "shutdown")]
    first.kill()
    settle()
    assert got[1:] == [("end", "killed")]


def test_an_exit_signal_overtakes_messages_and_ends_a_wait():
    got = []
    idler = Idler.start(got)
    idler.cast("block")
    for i in range(10):
        idler.send(i)
    settle()
    idler.exit("shutdown")
    idler.join(5)
    assert got == ["cancelled", ("end", "shutdown")]
    assert actors.counts()["dead_letters"] == 10


def test_a_monitor_of_one_that_has_ended_says_so():
    idler = Idler.start()
    idler.stop()
    ref = idler.monitor()
    down = fibril.receive(timeout=5)
    assert (down.ref, down.reason) == (ref, "noproc")
    assert not actors.demonitor(ref)
    other = Idler.start()
    ref = other.monitor()
    other.kill()
    settle()
    assert actors.demonitor(ref) and actors.waiting() == 0


def test_started_linked_or_monitored_it_is_so_from_the_first():
    actors.trap_exits()
    linked = Idler.start(link=True)
    linked.exit("shutdown")
    assert fibril.receive(actors.Exit, 5).actor == linked
    watched = Idler.start(monitor=True)
    watched.kill()
    assert fibril.receive(actors.Down, 5).reason == "killed"


def test_reasons_of_the_program_are_numbers():
    idler = Idler.start(monitor=True)
    idler.stop(42)
    assert fibril.receive(timeout=5).reason == 42
    for wrong in ("tired", 1 << 40, None):
        with helpers.raises((ValueError, TypeError)):
            idler.exit(wrong)


# ---- mailboxes -----------------------------------------------------------------------------------------


def test_a_full_mailbox_makes_senders_wait():
    got = []
    idler = Idler.start(got, mailbox=4)
    idler.cast("block", 0.05)
    settle()
    with helpers.raises(TimeoutError):
        for i in range(100):
            idler.send(i, timeout=0.001)
    sent = i
    fibril.spawn(lambda: [idler.send(i) for i in range(sent, 100)]).join()
    idler.status()
    assert got == list(range(100))


def test_a_full_mailbox_refuses_or_drops():
    for policy, expected in (("fail", [0, 1, 2, 3]), ("drop_newest", [0, 1, 2, 3]), ("drop_oldest", [6, 7, 8, 9])):
        got = []
        idler = Idler.start(got, mailbox=4, policy=policy)
        idler.cast("block", 0.02)
        settle()
        for i in range(10):
            if policy == "fail" and i >= 4:
                with helpers.raises(actors.MailboxFull):
                    idler.send(i)
            else:
                idler.send(i)
        time.sleep(0.05)
        settle()
        assert got == expected, policy
    assert actors.counts()["dropped"] == 12


def test_control_signals_come_through_a_flood():
    idler = Idler.start(mailbox=2, policy="drop_newest")
    idler.cast("block", 1000)
    for i in range(1000):
        idler.send(i)
    idler.monitor()
    idler.kill()
    assert fibril.receive(actors.Down, 5).reason == "killed"


# ---- receiving -------------------------------------------------------------------------------------------


def test_receive_takes_what_is_wanted_and_leaves_the_rest_in_order():
    me = actors.me()
    for message in (1, "a", 2.5, "b", 3):
        me.send(message)
    assert fibril.receive(str) == "a"
    assert fibril.receive((float, bytes)) == 2.5
    assert fibril.receive(lambda m: m == 3) == 3
    with helpers.raises(TimeoutError):
        fibril.receive(bytes, timeout=0)
    assert [fibril.receive(), fibril.receive()] == [1, "b"]


def test_a_pattern_does_not_look_twice_at_what_it_did_not_want():
    looked = []
    pattern = actors.Pattern(lambda m: looked.append(m) or m == "yes")
    me = actors.me()
    for i in range(100):
        me.send(i)
    for _ in range(10):
        with helpers.raises(TimeoutError):
            fibril.receive(pattern, timeout=0)
    assert looked == list(range(100))
    me.send("yes")
    assert fibril.receive(pattern) == "yes" and len(looked) == 101


def test_what_a_predicate_raises_comes_out_and_nothing_is_lost():
    me = actors.me()
    for i in range(3):
        me.send(i)
    pattern = actors.Pattern(lambda m: m == 2 or 1 // m)
    for _ in range(2):
        with helpers.raises(ZeroDivisionError):
            fibril.receive(pattern)
    assert [fibril.receive() for _ in range(3)] == [0, 1, 2]


# ---- time, names, topics ------------------------------------------------------------------------------------


def test_timers_send_once_or_again_and_again():
    me = actors.me()
    actors.send_after(0.02, me, "late")
    timer = actors.send_every(0.005, me, "tick")
    got = [fibril.receive(timeout=5) for _ in range(3)]
    assert timer.cancel() and not timer.cancel()
    assert got.count("tick") >= 2
    assert actors.send_after(1000, me, "never").cancel()


def test_idleness_is_noticed():
    got = []
    idler = Idler.start(got)
    idler.call("set_idle", 0.01)
    for _ in range(2000):
        if got:
            break
        time.sleep(0.01)
    assert got == ["idle"]


def test_names_are_lost_at_the_end():
    idler = Idler.start(name="idle")
    assert actors.whereis("idle") == idler and idler.name == "idle"
    with helpers.raises(ValueError):
        Idler.start(name="idle")
    idler.stop()
    assert actors.whereis("idle") is None
    again = Idler.start()
    actors.register(again, "idle")
    assert actors.forget_name("idle") and not actors.forget_name("idle")


def test_what_is_published_reaches_every_member():
    got = [[], [], []]
    idlers = [Idler.start(each) for each in got]
    for idler in idlers:
        actors.join_topic("news", idler)
    assert set(actors.members("news")) == set(idlers)
    assert actors.publish("news", ["one object"]) == 3
    settle()
    assert got[0] == [["one object"]] and got[0][0] is got[1][0]
    assert actors.leave_topic("news", idlers[0]) and not actors.leave_topic("news", idlers[0])
    idlers[1].stop()
    assert actors.members("news") == [idlers[2]]


def test_dead_letters_can_be_had():
    idler = Idler.start()
    idler.stop()
    actors.dead_letters_to(actors.me())
    idler.send("lost")
    letter = fibril.receive(actors.DeadLetter, 5)
    assert (letter.to, letter.message) == (idler, "lost")
    actors.dead_letters_to(None)


# ---- replies that come later, streams, new code ------------------------------------------------------------


class Later(fibril.Actor):
    """Replies when told to."""

    def __init__(self):
        self.callers = []

    def on_ask(self):
        self.callers.append(self.defer())

    def on_answer(self, value):
        self.callers.pop(0).reply(value)

    def on_fail(self):
        self.callers.pop(0).fail(LookupError("not there"))

    def on_endless(self):
        number = 0
        while True:
            yield number
            number += 1


def test_a_reply_can_come_later_from_elsewhere():
    later = Later.start()
    asking = [fibril.spawn(later.call, "ask") for _ in range(3)]
    settle()
    later.cast("answer", "first")
    assert asking[0].join() == "first"
    fibril.os_thread(later.call, "answer", "second").join()
    assert asking[1].join() == "second"
    later.cast("fail")
    with helpers.raises(LookupError):
        asking[2].join()


def test_the_end_of_an_actor_ends_the_calls_it_owes():
    later = Later.start()
    asking = fibril.spawn(later.call, "ask")
    settle()
    later.kill()
    with helpers.raises(fibril.ActorEnded):
        asking.join()


def test_a_slow_reader_of_a_stream_holds_the_giver_back_and_a_gone_one_ends_it():
    later = Later.start()

    def read():
        actors.set_mailbox(messages=8)
        stream = later.stream("endless")
        return [next(stream) for _ in range(100)]

    assert fibril.spawn(read).join() == list(range(100))
    asking = fibril.spawn(later.call, "ask", timeout=5)
    settle()
    later.cast("answer", 1)
    assert asking.join() == 1


class Old(fibril.Actor):
    """Version 1."""

    def __init__(self):
        self.number = 5

    def on_version(self):
        return 1, self.number


class New(fibril.Actor):
    """Version 2."""

    def on_change(self, old):
        self.number *= 10
        assert old is Old or old is New

    def on_version(self):
        return 2, self.number


class Bad(fibril.Actor):
    """Cannot take over."""

    def on_change(self, old):
        self.number = 0
        raise ValueError("no")


def test_code_is_replaced_and_the_state_stays():
    actor = Old.start()
    assert actor.call("version") == (1, 5)
    actor.replace(New)
    assert actor.call("version") == (2, 50)
    with helpers.raises(ValueError):
        actor.replace(Bad)
    assert actor.call("version") == (2, 50)
    with helpers.raises(TypeError):
        actor.replace(dict)


# ---- other threads, forks, what is refused --------------------------------------------------------------------


def test_os_threads_call_too():
    counter = Counter.start()
    threads = [fibril.os_thread(lambda: [counter.call("add", 1) for _ in range(100)]) for _ in range(4)]
    for thread in threads:
        thread.join()
    assert counter.call("add", 0) == 400


def test_an_actor_cannot_call_itself():
    class Selfish(fibril.Actor):
        def on_ask(self):
            return self.me.call("ask", timeout=5)

    with helpers.raises(fibril.ActorFailed) as caught:
        Selfish.start().call("ask")
    assert isinstance(caught.value.__cause__, fibril.Deadlock)


def test_async_handlers_are_refused_with_a_reason():
    with helpers.raises(TypeError) as caught:
        class Wrong(fibril.Actor):
            async def on_ask(self):
                pass
    assert "Wrong.on_ask" in str(caught.value) and "async" in str(caught.value)


def test_a_handler_that_blocks_keeps_nobody_else_waiting():
    blocked = [Idler.start() for _ in range(100)]
    for each in blocked:
        each.cast("block")
    counter = Counter.start()
    assert counter.call("add", 1, timeout=5) == 1
    for each in blocked:
        each.kill()


def test_in_the_child_of_a_fork_actors_can_be_started():
    import os

    idlers = [Idler.start() for _ in range(10)]
    for each in idlers:
        each.call("set_idle", None)
    child = os.fork()
    if child == 0:
        status = 1
        try:
            status = 0 if Counter.start(2).call("add", 3, timeout=5) == 5 else 2
        finally:
            os._exit(status)
    assert os.waitpid(child, 0)[1] == 0
    assert all(each.alive for each in idlers)


def test_a_hundred_thousand_idle_actors_take_little():
    import resource

    n = 100_000 // int(float(__import__("os").environ.get("FIBRIL_TEST_TIMEOUT_MULTIPLIER", "1")))
    Counter.start()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    counters = [Counter.start() for _ in range(n)]
    each = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 / n
    assert counters[n // 2].call("add", 1) == 1
    assert each < 3500 or n < 100_000, each


def test_the_stubs_name_what_there_is():
    import ast

    with open(actors.__file__ + "i", encoding="utf-8") as file:
        tree = ast.parse(file.read())
    stubs = {node.name: node for node in tree.body if isinstance(node, (ast.ClassDef, ast.FunctionDef))}
    assert set(stubs) - {"Stream"} == set(actors.__all__)
    for name in actors.__all__:
        there = getattr(actors, name)
        assert there.__doc__, name
        if isinstance(there, type) and not issubclass(there, (BaseException, tuple)):
            stub = {n.name for n in stubs[name].body if isinstance(n, ast.FunctionDef) and n.name[0] != "_"}
            public = {n for c in there.__mro__[:-1] for n, value in vars(c).items()
                      if n[0] != "_" and (callable(value) or isinstance(value, (property, classmethod)))}
            inherited = {n.name for base in stubs[name].bases if getattr(base, "id", "") in stubs
                         for n in stubs[base.id].body if isinstance(n, ast.FunctionDef)}
            assert public <= stub | inherited and stub <= set(dir(there)), name
