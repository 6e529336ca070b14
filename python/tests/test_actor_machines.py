# SPDX-License-Identifier: MIT
"""State machines: states, what is postponed, timeouts, events of their own, and new code."""

import logging

import fibril
import helpers
from fibril import actors
from fibril import _actor_events as events
from fibril.actors import StateMachine, WrongState, state

ISOLATED = True

logging.getLogger("fibril.actors").addHandler(logging.NullHandler())
logging.getLogger("fibril.actors").propagate = False


class Clock:
    """Time that stands still, for machines that are woken by hand."""

    def __init__(self):
        self.now = 1000.0
        events.now = lambda: self.now
        events.Waiting.arm = lambda waiting, actor_id: None

    def pass_by(self, seconds, *machines):
        self.now += seconds
        for machine in machines:
            machine.send(events.WAKE)
            machine.status()


def settle():
    for _ in range(100):
        fibril.yield_()


class Door(StateMachine):
    """Opens by a code, for a while."""

    states = ("locked", "open")

    def __init__(self, code, log=None):
        self.code = code
        self.log = log if log is not None else []

    @state("locked").on("code")
    def check(self, code):
        if code == self.code:
            self.go("open")
        return code == self.code

    @state("open").on("walk")
    def pass_through(self, who):
        return f"{who} is in"

    @state("locked").on("walk")
    def wait(self, who):
        self.postpone()

    @state("open").on("close")
    def lock(self):
        self.go("locked")

    @state("open").enter
    def opened(self, old):
        self.log.append(f"open after {old}")
        self.state_timeout(10, "close")

    @state("open").leave
    def closing(self, new):
        self.log.append(f"to be {new}")

    @state().enter
    def entered(self, old):
        self.log.append(f"{self.state} after {old}")

    def on_where(self):
        return self.state


def test_what_happens_depends_on_the_state():
    clock, log = Clock(), []
    door = Door.start(1234, log)
    assert door.call("code", 1) is False and door.call("where") == "locked"
    assert door.call(Door.check, 1234) is True and door.call("where") == "open"
    assert door.call("walk", "A") == "A is in"
    clock.pass_by(9, door)
    assert door.call("where") == "open"
    clock.pass_by(1, door)
    assert door.call("where") == "locked"
    assert log == ["locked after locked", "open after locked", "to be locked", "locked after open"]


def test_what_the_state_does_not_handle_is_told_to_the_caller():
    door = Door.start(1)
    for event in ("close", "nothing"):
        with helpers.raises(WrongState) as caught:
            door.call(event)
        assert (caught.value.state, caught.value.event) == ("locked", event)
        assert "Door" in str(caught.value) and event in str(caught.value) and "locked" in str(caught.value)
    door.cast("close")
    door.cast("nothing")
    door.send("nobody takes messages")
    door.status()
    assert actors.counts()["dead_letters"] == 3


def test_what_was_postponed_is_answered_in_order_in_the_next_state():
    door, answers = Door.start(1), []
    asking = [fibril.spawn(lambda who=who: answers.append(door.call("walk", who))) for who in "ABC"]
    settle()
    assert answers == [] and "3 postponed" not in door.status()
    door.call("code", 1)
    for each in asking:
        each.join()
    assert answers == ["A is in", "B is in", "C is in"]


def test_a_call_that_changes_the_state_is_answered_before_what_was_postponed():
    gate = fibril.Event()

    class Slow(StateMachine):
        states = ("one", "two")

        @state("one").on("work")
        def later(self):
            self.postpone()

        @state("two").on("work")
        def work(self):
            gate.wait()
            return "done"

        @state("one").on("next")
        def next(self):
            self.go("two")
            return "gone"

    slow = Slow.start()
    working = fibril.spawn(slow.call, "work")
    settle()
    assert slow.call("next", timeout=5) == "gone"
    gate.set()
    assert working.join() == "done"


class Script(StateMachine):
    """Does what it is told."""

    states = ("a", "b", "c")
    postponed_max = 3

    def __init__(self, log=None, first=None, own=()):
        self.log = log if log is not None else []
        if first:
            self.go(first)
        for each in own:
            self.happen("do", each)

    def on_do(self, name, *steps):
        self.log.append(name)
        for step in steps:
            getattr(self, step[0])(*step[1:])
        return name

    @state("c").on("late")
    def late_in_c(self, name="late"):
        self.log.append(f"{name} in c")
        return f"{name} in c"

    @state("b").on("late")
    def late_in_b(self, name="late"):
        self.postpone()

    @state("a").on("late")
    def late_in_a(self, name="late"):
        self.postpone()

    def on_wait(self):
        self.waiting = self.defer()

    def on_answer(self, value):
        self.waiting.reply(value)

    def on_refuse(self, to):
        self.go(to)
        raise actors.Refuse(KeyError(to))

    def on_fail(self):
        raise ValueError("asked to")

    def on_count(self, number):
        yield from range(number)

    def on_message(self, message):
        self.log.append(message)

    @state("b").on("down")
    def saw(self, down):
        self.log.append(down.reason)

    def on_watch(self, other):
        other.monitor()


def test_postponed_over_several_states_calls_wait():
    log = []
    script = Script.start(log)
    asking = fibril.spawn(script.call, "late")
    settle()
    script.call("do", "to b", ["go", "b"])
    settle()
    assert log == ["to b"]
    script.call("do", "to c", ["go", "c"])
    assert asking.join() == "late in c"
    assert log == ["to b", "to c", "late in c"]


def test_events_of_its_own_come_before_what_was_postponed_and_that_before_the_mailbox():
    log = []
    script = Script.start(log)
    script.cast("late", "first")
    script.cast("late", "second")
    script.cast("do", "x", ["go", "c"], ["happen", "do", "own 1"], ["happen", "do", "own 2", ["happen", "do", "own 3"]])
    script.cast("do", "from the mailbox")
    script.status()
    assert log == ["x", "own 1", "own 2", "own 3", "first in c", "second in c", "from the mailbox"]


def test_own_events_of_init_come_when_start_has_returned_and_before_messages():
    log = []
    script = Script.start(log, own=("own 1", "own 2"))
    assert log == []
    script.call("do", "called")
    assert log == ["own 1", "own 2", "called"]
    alone = []
    Script.start(alone, own=("own",))
    settle()
    assert alone == ["own"]


def test_init_says_the_first_state():
    assert "b: " in Script.start(first="b").status()
    with helpers.raises(ValueError):
        Script.start(first="nowhere")


def test_timeouts_come_in_the_order_of_their_deadlines():
    clock, log = Clock(), []
    script = Script.start(log)
    script.call("do", "set", ["named_timeout", 1, 3, "do", "three"], ["named_timeout", 2, 1, "do", "one"],
                ["named_timeout", 3, 2, "do", "two"], ["named_timeout", 4, 2, "do", "never"],
                ["named_timeout", 4, 3, "do", "three again"], ["named_timeout", 5, 1, "do", "cancelled"],
                ["named_timeout", 5, None])
    clock.pass_by(10, script)
    assert log == ["set", "one", "two", "three", "three again"]


def test_a_timeout_that_is_due_comes_before_a_message_that_waits():
    clock, log = Clock(), []
    script = Script.start(log)
    script.call("do", "set", ["named_timeout", 1, 3, "do", "timeout"])
    clock.now += 3
    script.cast("do", "cast")
    script.status()
    assert log == ["set", "timeout", "cast"]


def test_the_state_timeout_ends_with_the_state_but_one_for_the_next_state_stays():
    clock, log = Clock(), []
    script = Script.start(log)
    script.call("do", "1", ["state_timeout", 5, "do", "never"])
    script.call("do", "2", ["go", "b"], ["named_timeout", "n", 5, "do", "named stays"])
    clock.pass_by(5, script)
    script.call("do", "3", ["state_timeout", 5, "do", "in c"], ["go", "c"])
    clock.pass_by(5, script)
    assert log == ["1", "2", "named stays", "3", "in c"]


def test_the_event_timeout_ends_with_any_event():
    clock, log = Clock(), []
    script = Script.start(log)
    script.call("do", "1", ["event_timeout", 5, "do", "never"])
    clock.pass_by(4, script)
    script.call("do", "2")
    clock.pass_by(4, script)
    script.call("do", "3", ["event_timeout", 5, "do", "quiet"])
    clock.pass_by(5, script)
    assert log == ["1", "2", "3", "quiet"]


def test_timeouts_of_no_time_come_before_messages_that_wait():
    log = []
    script = Script.start(log)
    script.cast("do", "1", ["state_timeout", 0, "do", "state"], ["named_timeout", 1, 0, "do", "named"])
    script.cast("do", "2", ["event_timeout", 0, "do", "event"])
    script.cast("do", "3")
    script.status()
    assert log == ["1", "state", "named", "2", "event", "3"]


def test_real_time_passes_too():
    me = actors.me()

    class Teller(StateMachine):
        states = ("only",)

        def __init__(self):
            self.state_timeout(0.03, "tell", "state")
            self.named_timeout("x", 0.02, "tell", "named")
            self.event_timeout(0.01, "tell", "event")

        def on_tell(self, what):
            me.send(what)

    Teller.start()
    assert [fibril.receive(timeout=30) for _ in range(3)] == ["event", "named", "state"]


def test_a_full_mailbox_loses_no_timeout():
    log, gate = [], fibril.Event()

    class Busy(Script):
        def on_block(self):
            gate.wait()

    busy = Busy.start(log, mailbox=2, policy="drop_newest")
    busy.call("do", "set", ["named_timeout", 1, 0.01, "do", "timeout"])
    busy.cast("block")
    settle()
    for i in range(10):
        busy.send(i)
    fibril.sleep(0.05)
    gate.set()
    busy.status()
    assert log == ["set", "timeout", 0, 1]


def test_a_refusal_is_an_answer_and_the_state_changes():
    script = Script.start()
    with helpers.raises(KeyError):
        script.call("refuse", "b")
    assert "b: " in script.status()


def test_a_reply_can_come_later():
    script = Script.start()
    asking = fibril.spawn(script.call, "wait")
    settle()
    script.cast("answer", 7)
    assert asking.join() == 7


def test_a_stream_is_what_a_handler_yields():
    assert list(Script.start().stream("count", 5)) == [0, 1, 2, 3, 4]


def test_a_postponed_event_can_be_deferred_refused_and_streamed():
    class Later(StateMachine):
        states = ("closed", "open")

        @state("closed").on("defer")
        @state("closed").on("refuse")
        @state("closed").on("stream")
        def not_yet(self):
            self.postpone()

        @state("open").on("defer")
        def keep(self):
            self.kept = self.defer()

        @state("open").on("refuse")
        def refuse(self):
            raise actors.Refuse(KeyError("no"))

        @state("open").on("stream")
        def stream(self):
            yield 1
            yield 2

        def on_open(self):
            self.go("open")

        def on_answer(self):
            self.kept.reply("later")

    later = Later.start()
    asking = [fibril.spawn(later.call, "defer"), fibril.spawn(later.call, "refuse"),
              fibril.spawn(lambda: list(later.stream("stream")))]
    settle()
    later.call("open")
    settle()
    later.cast("answer")
    assert asking[0].join() == "later"
    with helpers.raises(KeyError):
        asking[1].join()
    assert asking[2].join() == [1, 2]


def test_what_a_postponed_event_raises_is_for_its_own_caller():
    log = []

    class Failing(Script):
        @state("b").on("late")
        def late_in_b(self, name="late"):
            raise ValueError("postponed")

    failing = Failing.start(log)
    asking = fibril.spawn(failing.call, "late")
    other = fibril.spawn(failing.call, "wait")
    settle()
    assert failing.call("do", "x", ["go", "b"]) == "x"
    with helpers.raises(fibril.ActorFailed) as caught:
        asking.join()
    assert isinstance(caught.value.__cause__, ValueError)
    with helpers.raises(fibril.ActorEnded):
        other.join()


def test_the_end_ends_postponed_calls_and_postponed_casts_are_dead_letters():
    script = Script.start()
    asking = fibril.spawn(script.call, "late")
    script.cast("late")
    settle()
    script.stop()
    with helpers.raises(fibril.ActorEnded):
        asking.join()
    assert actors.counts()["dead_letters"] == 1


def test_stop_in_a_handler_leaves_what_waits():
    log = []
    script = Script.start(log)
    script.cast("late")
    script.cast("do", "x", ["go", "c"], ["happen", "do", "never"], ["stop"])
    script.join(5)
    assert log == ["x"]


def test_too_many_postponed_are_refused():
    script = Script.start()
    for _ in range(3):
        script.cast("late")
    with helpers.raises(actors.MailboxFull):
        script.call("late")
    script.cast("late")
    script.status()
    assert actors.counts()["dead_letters"] == 1


def test_an_exception_of_a_hook_ends_the_machine():
    class Bad(Script):
        @state("b").enter
        def fails(self, old):
            raise ValueError("cannot enter")

        @state("c").enter
        def goes(self, old):
            self.go("a")

    bad = Bad.start()
    with helpers.raises(fibril.ActorFailed):
        bad.call("do", "x", ["go", "b"])
    with helpers.raises(fibril.ActorFailed) as caught:
        Bad.start().call("do", "x", ["go", "c"])
    assert isinstance(caught.value.__cause__, RuntimeError)
    with helpers.raises(ValueError):
        Bad.start(first="b")


def test_messages_and_signals_are_events_too():
    log = []
    script, other, another = Script.start(log), Script.start(), Script.start()
    script.send("sent")
    script.call("watch", other)
    other.kill()
    settle()
    script.call("do", "to b", ["go", "b"])
    script.call("watch", another)
    another.kill()
    settle()
    assert log == ["sent", "to b", "killed"]


def test_a_handler_calls_those_of_its_base():
    class More(Script):
        def on_do(self, name, *steps):
            return "more " + super().on_do(name, *steps)

        @state("a").on("twice")
        def twice(self):
            return self.on_do("x") + self.late_in_c()

    log = []
    more = More.start(log)
    assert more.call("do", "y") == "more y"
    assert more.call("twice") == "more xlate in c"
    assert log == ["y", "x", "late in c"]


def test_enter_again_calls_the_hook_alone():
    clock, log = Clock(), []
    door = Door.start(1, log)

    class Again(Door):
        def on_again(self):
            self.enter_again()

    door.replace(Again)
    door.call("again")
    assert log == ["locked after locked", "locked after locked"]


class Renamed(Script):
    """The second version: a is called d."""

    states = ("d", "b", "c")

    def on_change(self, old):
        if self.state == "a":
            self.go("d")

    @state("d").on("late")
    def late_in_d(self, name="late"):
        return "late in d"

    @state("b").on("late")
    def late_in_b(self, name="late"):
        return "new late in b"


class Other(StateMachine):
    """Has none of these states."""

    states = ("x",)


def test_new_code_keeps_state_timeouts_and_what_was_postponed():
    clock, log = Clock(), []
    script = Script.start(log)
    asking = fibril.spawn(script.call, "late")
    settle()
    script.call("do", "1", ["state_timeout", 5, "do", "timeout"])
    with helpers.raises(ValueError):
        script.replace(Other)
    assert script.status().startswith("a: ")
    script.replace(Renamed)
    assert script.status().startswith("d: ")
    clock.pass_by(5, script)
    script.call("do", "2", ["go", "b"])
    assert asking.join() == "new late in b"
    assert log == ["1", "timeout", "2"]


def test_mistakes_are_told():
    with helpers.raises(TypeError):
        class Typo(StateMachine):
            states = ("a",)

            @state("b").on("x")
            def x(self):
                pass
    with helpers.raises(TypeError):
        class Named(StateMachine):
            states = ("a",)

            @state("a").on("x")
            def on_x(self):
                pass
    with helpers.raises(TypeError):
        class Async(StateMachine):
            states = ("a",)

            @state("a").on("x")
            async def x(self):
                pass

    class Without(StateMachine):
        pass

    with helpers.raises(TypeError):
        Without.start()
    for steps in (["go", "nowhere"], ["state_timeout", 1, "nothing"], ["state_timeout", -1, "do"], ["happen", "none"]):
        with helpers.raises(fibril.ActorFailed) as caught:
            Script.start().call("do", "x", steps)
        assert isinstance(caught.value.__cause__, ValueError), steps
    with helpers.raises(fibril.ActorFailed) as caught:
        Script.start().call("do", "x", ["_check_state", "no"])

    class Outside(Script):
        def on_self(self):
            me = self
            return fibril.spawn(lambda: me).join()

    outside = Outside.start().call("self")
    with helpers.raises(RuntimeError):
        outside.go("b")


def test_a_timeout_cannot_be_postponed():
    clock, script = Clock(), Script.start(monitor=True)
    script.call("do", "x", ["state_timeout", 1, "late"])
    clock.now += 1
    script.send(events.WAKE)
    assert fibril.receive(actors.Down, 5).reason.type is RuntimeError


def test_an_exit_signal_ends_an_endless_chain_of_own_events():
    class Endless(StateMachine):
        states = ("only",)

        def on_again(self):
            self.happen("again")

    endless = Endless.start()
    endless.cast("again")
    settle()
    endless.exit("shutdown")
    endless.join(30)


def test_messages_of_actors_in_c_are_answered_refused_and_postponed():
    class Bytes(StateMachine):
        states = ("deaf", "later", "open")

        @state("later").on("message")
        def wait(self, message):
            self.postpone()

        @state("open").on("message")
        def answer(self, message):
            if message.data == b"refuse":
                raise actors.Refuse(KeyError("no"))
            return 5 if message.data == b"wrong" else message.data + b"!"

        def on_go(self, where):
            self.go(where)

    machine = Bytes.start()
    with helpers.raises(fibril.ActorEnded) as caught:
        machine.call_bytes(7, b"x", timeout=5)
    assert "does not take such calls" in str(caught.value)
    machine.call("go", "later")
    asking = [fibril.spawn(machine.call_bytes, 7, data, timeout=5) for data in (b"a", b"refuse", b"wrong", b"b")]
    settle()
    machine.call("go", "open")
    assert (asking[0].join(), asking[3].join()) == (b"a!", b"b!")
    for each in asking[1:3]:
        with helpers.raises(fibril.ActorEnded):
            each.join()
    assert machine.call_bytes(7, b"c", timeout=5) == b"c!"
