# SPDX-License-Identifier: MIT
"""fibril.stackless: random programs against a model in pure Python, I/O, threads, leaks, order."""

import contextvars
import gc
import os
import pickle
import queue
import random
import select
import socket
import subprocess
import sys
import threading
import time
import weakref

import fibril
import pytest
from fibril import stackless


# AddressSanitizer keeps freed memory from being used again.
measures_memory = pytest.mark.skipif("libasan" in os.environ.get("LD_PRELOAD", ""), reason="memory is not given back")


@pytest.fixture(autouse=True)
def clean():
    """Each test begins and ends with main alone."""
    yield
    stackless.run()
    assert stackless.getruncount() == 1
    assert stackless.getcurrent() is stackless.getmain()


# ---- the model: generators that yield what they want of the scheduler ------------------------------------------


class Model:
    """Stackless's rules for schedule, send, receive, kill and errors, over generators."""

    def __init__(self):
        self.ring, self.log, self.tasks = [], [], []
        self.queues = {}  # channel number: (tasklets that wait, direction)

    def add(self, number, steps):
        self.tasks.append([number, iter(steps), False])  # the last one: has begun
        self.ring.append(self.tasks[-1])

    def run(self):
        while self.ring:
            task = self.ring[0]
            task[2] = True
            step = next(task[1], None)
            if step is None:
                self.end(task, "end")
                continue
            self.log.append((task[0], step))
            getattr(self, step[0])(task, *step[1:])

    def end(self, task, word):
        self.ring.remove(task)
        self.tasks[task[0]] = None
        if task[2]:
            self.log.append((task[0], word))

    def schedule(self, task):
        self.ring.append(self.ring.pop(0))

    def fail(self, task):
        self.end(task, "failed")
        self.log.append(("main", task[0]))

    def kill(self, task, number):
        """It runs at once, and after it whoever stands behind it."""
        other = self.tasks[number] if number < len(self.tasks) else None
        if other is None:
            return
        if other not in self.ring:
            next(w for w, _ in self.queues.values() if other in w).remove(other)
            self.ring.append(other)
        at = self.ring.index(other)
        self.ring = self.ring[at:] + self.ring[:at]
        self.end(other, "killed")

    def meet(self, channel, direction):
        waiting, of = self.queues.setdefault(channel, ([], 0))
        if waiting and of == -direction:
            return waiting.pop(0)
        return None

    def wait(self, channel, direction):
        waiting, _ = self.queues[channel]
        waiting.append(self.ring.pop(0))
        self.queues[channel] = (waiting, direction)

    def send(self, task, channel, preference):
        other = self.meet(channel, 1)
        if other is None:
            self.wait(channel, 1)
        elif preference == -1:  # the receiver goes on, right before the sender's old place
            self.ring.insert(1, other)
            self.ring.append(self.ring.pop(0))
        else:
            self.ring.append(other)

    def receive(self, task, channel, preference):
        other = self.meet(channel, -1)
        if other is None:
            self.wait(channel, -1)
        elif preference == 1:
            self.ring.insert(1, other)
            self.ring.append(self.ring.pop(0))
        else:
            self.ring.append(other)


def script(seed):
    r = random.Random(seed)
    preferences = [r.choice((-1, 0, 1)) for _ in range(3)]
    programs = []
    for _ in range(r.randrange(1, 9)):
        program = []
        for _ in range(r.randrange(0, 12)):
            what = r.random()
            if what < 0.3:
                program.append(("schedule",))
            elif what < 0.34:
                program.append(("kill", r.randrange(9)))
            elif what < 0.36:
                program.append(("fail",))
            else:
                channel = r.randrange(3)
                program.append((r.choice(("send", "receive")), channel, preferences[channel]))
        programs.append(program)
    return preferences, programs


def play(seed):
    preferences, programs = script(seed)
    channels = [stackless.channel() for _ in preferences]
    for channel, preference in zip(channels, preferences):
        channel.preference = preference
    log = []

    def carry_out(number, program):
        for step in program:
            log.append((number, step))
            if step[0] == "schedule":
                stackless.schedule()
            elif step[0] == "kill":
                if step[1] < len(tasklets):
                    tasklets[step[1]].kill()
            elif step[0] == "fail":
                raise KeyError(number)
            elif step[0] == "send":
                channels[step[1]].send(number)
            else:
                assert isinstance(channels[step[1]].receive(), int)

    def body(number, program):
        word = "end"
        try:
            carry_out(number, program)
        except stackless.TaskletExit:
            word = "killed"
            raise
        except KeyError:
            word = "failed"
            raise
        finally:
            log.append((number, word))

    tasklets = [stackless.tasklet(body)(i, p) for i, p in enumerate(programs)]
    while True:
        try:
            stackless.run()
            break
        except KeyError as error:
            log.append(("main", error.args[0]))
    balances, result = [c.balance for c in channels], list(log)
    for t in tasklets:
        t.kill()
    return result, balances


@pytest.mark.parametrize("block", range(10))
def test_random_programs_do_what_the_model_does(block):
    for seed in range(block * 50, block * 50 + 50):
        _, programs = script(seed)
        model = Model()
        for i, program in enumerate(programs):
            model.add(i, program)
        model.run()
        log, balances = play(seed)
        assert log == model.log, seed
        waiting = [model.queues.get(i, ([], 0)) for i in range(3)]
        assert balances == [len(w) * d if w else 0 for w, d in waiting], seed


def test_the_same_program_runs_in_the_same_order():
    assert play(12345) == play(12345)


def churn(seed):
    """Spawns, switches, throws and kills; returns what happened."""
    r, log, alive = random.Random(seed), [], []

    def body(n):
        try:
            while True:
                log.append(n)
                what = r.random()
                if what < 0.5:
                    stackless.schedule()
                elif what < 0.6:
                    stackless.schedule_remove()
                elif what < 0.7:
                    return
                elif what < 0.8:
                    for t in alive:
                        if t.paused:
                            t.insert()
                            break
                elif alive:
                    t = r.choice(alive)
                    if t.alive and not t.is_current:
                        t.throw(ValueError, "thrown")
        except ValueError:
            log.append((n, "thrown"))
        except RuntimeError:
            log.append((n, "refused"))
        finally:
            log.append((n, "out"))

    for n in range(20):
        alive.append(stackless.tasklet(body)(n))
    for _ in range(50):
        try:
            stackless.run()
        except ValueError:  # one had not begun
            log.append((-1, "main"))
        for t in alive:
            if t.paused and r.random() < 0.5:
                t.insert()
    for t in list(alive):
        t.kill()
        assert not t.alive
    return log


@pytest.mark.parametrize("seed", range(30))
def test_churn_is_deterministic_and_runs_every_finally(seed):
    log = churn(seed)
    assert log == churn(seed)
    assert {n for n, *rest in (x for x in log if isinstance(x, tuple)) if rest == ["out"]} == {
        x for x in log if isinstance(x, int)
    }


# ---- tasklets --------------------------------------------------------------------------------------------------


def test_ring_is_visible_and_in_order():
    a, b = [stackless.tasklet(lambda: None)() for _ in range(2)]
    main = stackless.getcurrent()
    assert (main.next, a.next, b.next, main.prev) == (a, b, main, b)
    b.remove()
    assert b.paused and a.next is main
    b.insert()
    stackless.run()
    assert not a.alive and not b.alive


def test_switch_pauses_the_caller():
    main = stackless.getcurrent()
    seen = []

    def body():
        seen.append(main.paused)
        main.insert()

    stackless.tasklet(body)().switch()
    assert seen == [True]


def test_arguments_without_inserting():
    seen = []
    t = stackless.tasklet(seen.append, ("x",))
    assert t.alive and t.paused
    t.insert()
    stackless.run()
    assert seen == ["x"]


def test_an_exception_goes_to_main():
    def body():
        raise KeyError("k")

    stackless.tasklet(body)()
    with pytest.raises(KeyError):
        stackless.run()


def test_error_handler_gets_it_instead():
    seen = []
    before = stackless.set_error_handler(lambda *e: seen.append(e[0]))
    try:
        stackless.tasklet(lambda: 1 / 0)()
        stackless.run()
    finally:
        stackless.set_error_handler(before)
    assert seen == [ZeroDivisionError]


def test_kill_runs_finally_clauses():
    seen = []

    def body():
        try:
            stackless.schedule_remove()
        finally:
            seen.append("finally")

    t = stackless.tasklet(body)()
    stackless.run()
    t.kill()
    assert seen == ["finally"] and not t.alive


def test_last_reference_to_a_suspended_one_kills_it():
    seen = []

    def body():
        try:
            stackless.schedule_remove()
        finally:
            seen.append("finally")

    t = stackless.tasklet(body)()
    stackless.run()
    del t
    gc.collect()
    assert seen == ["finally"]


def test_switch_trap_and_block_trap():
    stackless.tasklet(lambda: None)()
    stackless.switch_trap(1)
    try:
        with pytest.raises(RuntimeError, match="switch_trap"):
            stackless.schedule()
    finally:
        stackless.switch_trap(-1)
    stackless.getcurrent().block_trap = True
    try:
        with pytest.raises(RuntimeError, match="not like to be blocked"):
            stackless.channel().receive()
    finally:
        stackless.getcurrent().block_trap = False


def test_deadlock_of_main_is_an_error():
    with pytest.raises(RuntimeError, match="Deadlock"):
        stackless.channel().receive()


def test_bombs_and_closing():
    ch = stackless.channel()

    def body():
        ch.send_exception(ValueError, 1)
        ch.send_throw(KeyError, 2)
        ch.send_sequence([1, 2])
        ch.close()

    ch.preference = 1  # so that it is closed before the last value has been looked at
    stackless.tasklet(body)()
    with pytest.raises(ValueError):
        ch.receive()
    with pytest.raises(KeyError):
        ch.receive()
    assert list(iter(ch)) == [1, 2]
    assert ch.closed and ch.closing
    with pytest.raises(ValueError):
        ch.receive()


def test_the_collector_finds_those_that_have_left_the_ring():
    class Own(stackless.tasklet):
        pass

    def make(leave):
        t = Own(lambda: t.ended.append(leave))()
        t.ended = []
        leave(t)
        return weakref.ref(t)

    def block(t):
        ch = stackless.channel()
        t.remove().bind(ch.receive)
        t.setup().run()

    assert not gc.is_tracked(Own(int)())
    refs = [make(leave) for leave in (Own.remove, Own.kill, block, lambda t: None)]
    gc.collect()
    assert [ref() is None for ref in refs] == [True, True, True, False]
    stackless.run()
    gc.collect()
    assert refs[3]() is None


def test_callbacks_see_every_switch_and_operation():
    switches, operations = [], []
    ch = stackless.channel()
    before = stackless.set_schedule_callback(lambda p, n: switches.append((p, n)))
    stackless.set_channel_callback(lambda c, t, sending, block: operations.append((sending, block)))
    try:
        stackless.tasklet(ch.receive)()
        stackless.run()
        ch.send(1)
    finally:
        stackless.set_channel_callback(None)
        stackless.set_schedule_callback(before)
    assert operations == [(0, 1), (1, 0)]
    assert len(switches) >= 3


def test_context_variables_belong_to_the_tasklet():
    var = contextvars.ContextVar("var", default=0)
    seen = []

    def body(n):
        var.set(n)
        stackless.schedule()
        seen.append(var.get())

    for n in (1, 2, 3):
        stackless.tasklet(body)(n)
    stackless.run()
    assert seen == [1, 2, 3] and var.get() == 0


def test_exceptions_being_handled_belong_to_the_tasklet():
    seen = []

    def body(n):
        try:
            raise ValueError(n)
        except ValueError:
            stackless.schedule()
            seen.append(sys.exc_info()[1].args[0])

    for n in range(4):
        stackless.tasklet(body)(n)
    stackless.run()
    assert seen == [0, 1, 2, 3] and sys.exc_info() == (None, None, None)


def test_c_calls_on_the_stack_switch_too():
    out = []

    def key(x):
        stackless.schedule()
        return -x

    def body():
        out.append(sorted(range(5), key=key))

    for _ in range(3):
        stackless.tasklet(body)()
    stackless.run()
    assert out == [[4, 3, 2, 1, 0]] * 3


def test_nesting_level_counts_the_calls_of_python_by_c():
    seen = []

    def leaf(suspend):
        seen.append(stackless.getcurrent().nesting_level)
        if suspend:
            stackless.schedule()

    def through_sorted(levels, suspend):
        if levels:
            sorted([0], key=lambda _: through_sorted(levels - 1, suspend))
        else:
            leaf(suspend)

    def straight(levels, suspend):
        if levels:
            straight(levels - 1, suspend)
        else:
            leaf(suspend)

    main = stackless.getcurrent().nesting_level
    for call, levels, expected in [(straight, 0, 0), (straight, 30, 0), (through_sorted, 1, 1), (through_sorted, 7, 7)]:
        t = stackless.tasklet(call)(levels, True)
        assert t.nesting_level == 0
        stackless.schedule()
        assert t.alive and seen == [expected] == [t.nesting_level]
        copies = [stackless.tasklet(call)(levels, True) for _ in range(20)]
        stackless.schedule()
        assert {c.nesting_level for c in copies} == {expected}
        stackless.run()
        assert t.nesting_level == 0 and not t.alive
        seen.clear()
    through_sorted(3, False)
    assert seen == [main + 3] and stackless.getcurrent().nesting_level == main


def test_nesting_level_of_main_while_another_runs():
    seen = []
    sorted([0], key=lambda _: stackless.tasklet(lambda: seen.append(stackless.getmain().nesting_level))() and stackless.run())
    assert seen == [stackless.getmain().nesting_level + 1]


def test_deep_recursion_in_many():
    def deep(n):
        if n:
            return deep(n - 1) + 1
        stackless.schedule()
        return 0

    out = []
    for _ in range(20):
        stackless.tasklet(lambda: out.append(deep(200)))()
    stackless.run()
    assert out == [200] * 20


# ---- the watchdog ----------------------------------------------------------------------------------------------


def test_run_with_a_timeout_interrupts():
    def spin():
        while True:
            pass

    t = stackless.tasklet(spin)()
    assert stackless.run(1000) is t
    assert t.alive and t.paused
    t.insert()
    assert stackless.run(1000) is t
    t.kill()


def test_run_soft_waits_for_a_switch():
    count = [0]

    def body():
        for _ in range(1000):
            count[0] += 1
        stackless.schedule()
        count[0] = -1

    t = stackless.tasklet(body)()
    stackless.tasklet(lambda: None)()
    assert stackless.run(100, soft=True) is None
    assert count == [1000] and t.alive
    stackless.run()
    assert count == [-1]


def test_atomic_is_not_interrupted():
    done = []

    def body():
        with stackless.atomic():
            for _ in range(2000):
                pass
            done.append(1)

    stackless.tasklet(body)()
    assert stackless.run(100) is None or done
    stackless.run()
    assert done == [1]


def test_those_suspended_are_interrupted_where_they_go_on():
    """Their code is in the middle of a loop when counting begins."""

    def body():
        stackless.schedule_remove()
        while True:
            pass

    tasklets = [stackless.tasklet(body)() for _ in range(3)]
    stackless.run()
    for t in tasklets:
        t.insert()
    for _ in range(3):
        assert stackless.run(500) in tasklets
    for t in tasklets:
        t.kill()


def test_a_trace_function_stays_from_3_12_on():
    """3.11 counts by the trace function, which is gone afterwards."""
    stackless.tasklet(lambda: None)()
    before = sys.gettrace()
    sys.settrace(lambda *event: None)
    try:
        mine = sys.gettrace()
        stackless.run(1000)
        assert (sys.gettrace() is mine) == (sys.version_info >= (3, 12))
    finally:
        sys.settrace(before)


def test_a_timeout_interrupts_after_a_thread_ended_while_one_of_its_own_slept():
    """Its end threw to the sleeping one from outside, which 3.11 must not remember for ever."""
    test_tasklets_of_a_thread_that_ends_are_killed("sleep")

    def spin(stop):
        while not stop:
            pass

    stop = []
    t = stackless.tasklet(spin)(stop)
    assert stackless.run(1000) is t
    stop.append(1)
    t.run()


def test_runs_inside_runs_wake_from_the_inside():
    log = []

    def runner(depth):
        if depth:
            stackless.tasklet(runner)(depth - 1)
        stackless.run()
        log.append(depth)

    stackless.tasklet(runner)(4)
    stackless.run()
    assert log == [0, 1, 2, 3, 4]


def test_an_interruption_wakes_who_asked_for_it_and_those_inside():
    log = []

    def spin():
        while True:
            pass

    def inner():
        stackless.run()
        log.append("inner")

    t = stackless.tasklet(spin)()
    stackless.tasklet(inner)()
    assert stackless.run(2000) is t
    log.append("outer")
    stackless.run()
    assert log == ["outer", "inner"]
    t.kill()


# ---- I/O -------------------------------------------------------------------------------------------------------


def test_sleeps_park_alone_and_come_back_in_order():
    log = []

    def sleeper(n):
        time.sleep(0.01 * n)
        log.append(n)

    began = time.monotonic()
    for n in (5, 3, 1, 4, 2):
        stackless.tasklet(sleeper)(n)
    stackless.run()
    assert log == [1, 2, 3, 4, 5]
    assert time.monotonic() - began < 0.14


def test_others_go_on_while_one_sleeps():
    log, stop = [], []

    def sleeper():
        time.sleep(0.02)
        stop.append(1)

    def spinner():
        while not stop:
            log.append(1)
            stackless.schedule()

    stackless.tasklet(sleeper)()
    stackless.tasklet(spinner)()
    stackless.run()
    assert len(log) > 100


def test_sockets_between_tasklets():
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    server.listen(50)
    got = []

    def serve(connection):
        with connection:
            while data := connection.recv(100):
                connection.sendall(data)

    def accept():
        for _ in range(20):
            stackless.tasklet(serve)(server.accept()[0])

    def client(n):
        with socket.create_connection(server.getsockname()) as s:
            for i in range(5):
                s.sendall(b"%d-%d" % (n, i))
                got.append(s.recv(100) == b"%d-%d" % (n, i))

    stackless.tasklet(accept)()
    for n in range(20):
        stackless.tasklet(client)(n)
    stackless.run()
    server.close()
    assert got == [True] * 100


def test_channels_between_tasklets_in_io():
    ch, out = stackless.channel(), []

    def produce(n):
        time.sleep(0.001 * (n % 3))
        ch.send(n)

    def consume():
        for _ in range(30):
            out.append(ch.receive())

    stackless.tasklet(consume)()
    for n in range(30):
        stackless.tasklet(produce)(n)
    stackless.run()
    assert sorted(out) == list(range(30))


def blocking_calls():
    """Things that wait for ever, by name."""
    lock, pair = threading.Lock(), socket.socketpair()
    lock.acquire()
    return {
        "sleep": lambda: time.sleep(30),
        "lock": lock.acquire,
        "event": threading.Event().wait,
        "queue": queue.Queue().get,
        "recv": lambda: pair[0].recv(1),
        "select": lambda: select.select([pair[0]], [], []),
        "fibril.sleep": lambda: fibril.sleep(30),
        "fibril.chan": fibril.Channel().recv,
    }


@pytest.mark.parametrize("name", blocking_calls())
def test_one_that_waits_outside_is_killed(name):
    log = []

    def body(call):
        try:
            call()
        except stackless.TaskletExit:
            log.append("exit")
            raise
        finally:
            time.sleep(0.001)  # it can wait again
            log.append("finally")

    t = stackless.tasklet(body)(blocking_calls()[name])
    stackless.schedule()
    assert t.scheduled and not t.blocked
    t.kill()
    for _ in range(100):  # at once, but while it is on its way into its wait
        if not log:
            time.sleep(0.001)
    assert log[:1] == ["exit"]
    stackless.run()
    assert log == ["exit", "finally"] and not t.alive


def test_one_that_waits_outside_gets_what_is_thrown():
    log = []

    def body():
        for _ in range(3):
            try:
                time.sleep(30)
            except ValueError as error:
                log.append(error)

    t = stackless.tasklet(body)()
    stackless.schedule()
    errors = [ValueError(i) for i in range(3)]
    t.throw(errors[0])
    t.throw(errors[1], pending=True)
    stackless.schedule()
    t.raise_exception(ValueError, 2)
    assert log[:2] == errors[:2] and log[2].args == (2,)
    assert not t.alive


def test_what_is_thrown_when_the_wait_is_over_arrives_too():
    log = []

    def body():
        try:
            time.sleep(0.001)
            log.append("not reached")
        except KeyError as error:
            log.append(error.args)

    t = stackless.tasklet(body)()
    stackless.schedule()
    began = time.monotonic()
    while time.monotonic() < began + 0.01:  # it is ready, and not back
        pass
    t.throw(KeyError("late"))
    assert log == [("late",)] and not t.alive


def test_an_exception_ends_the_wait_of_main():
    def body():
        time.sleep(0.001)
        raise KeyError("k")

    stackless.tasklet(body)()
    with pytest.raises(KeyError):
        time.sleep(30)


def test_waits_of_fibrils_own_park_alone():
    log, ch = [], fibril.Channel()

    def waiter():
        log.append(ch.recv())

    def other():
        for _ in range(5):
            log.append("other")
            stackless.schedule()

    def partner():
        for _ in range(20):
            fibril.yield_()
        ch.send("sent")

    stackless.tasklet(waiter)()
    stackless.tasklet(other)()
    f = fibril.spawn(partner)
    stackless.run()
    f.join()
    assert log == ["other"] * 5 + ["sent"]


PREEMPTED = """
import fibril, threading, time
fibril.enable(preempt_ms=1)
from fibril import stackless

inside, stop, log = [], [], []

def busy():
    while not stop:
        log.append(None)

def body(n):
    inside.append(n)
    end = time.monotonic() + 0.05
    while time.monotonic() < end:
        with open(__file__, "rb") as file:
            file.read()
    log.append(n)
    assert inside == [n]
    inside.pop()

thread = threading.Thread(target=busy)
thread.start()
for n in range(3):
    stackless.tasklet(body)(n)
stackless.run()
stop.append(1)
thread.join()
print([n for n in log if n is not None], None in log)
"""


def test_reading_files_and_losing_the_gil_are_no_switches(tmp_path):
    """Other threads run meanwhile, the tasklets of this one do not."""
    (tmp_path / "preempted.py").write_text(PREEMPTED)
    result = subprocess.run(
        [sys.executable, str(tmp_path / "preempted.py")], capture_output=True, text=True, timeout=60, check=False
    )
    assert (result.stdout, result.stderr) == ("[0, 1, 2] True\n", "")


def test_a_callback_may_wait_and_the_others_wait_for_it():
    log, before = [], stackless.get_schedule_callback()

    def callback(prev, next):
        log.append("(")
        time.sleep(0.001)
        log.append(")")

    def body():
        log.append("body")
        stackless.schedule()

    stackless.tasklet(body)()
    stackless.tasklet(body)()
    stackless.set_schedule_callback(callback)
    try:
        stackless.run()
    finally:
        stackless.set_schedule_callback(before)
    assert "".join(log).replace("body", "") == "()" * (len(log) // 2 - 1) and log.count("body") == 2


# ---- threads ---------------------------------------------------------------------------------------------------


def test_each_thread_has_its_own_main():
    seen = []

    def thread():
        seen.append(stackless.getmain() is not main)
        stackless.tasklet(seen.append)("tasklet")
        stackless.run()

    main = stackless.getmain()
    t = threading.Thread(target=thread)
    t.start()
    t.join()
    assert seen == [True, "tasklet"]


def test_channels_between_threads():
    there, back, got = stackless.channel(), stackless.channel(), []

    def thread():
        for _ in range(50):
            back.send(there.receive() + 1)

    t = threading.Thread(target=thread)
    t.start()
    for n in range(50):
        there.send(n)
        got.append(back.receive())
    t.join()
    assert got == list(range(1, 51))


def test_a_tasklet_knows_its_thread():
    ids = []
    stackless.tasklet(lambda: ids.append(threading.get_ident()))()
    stackless.run()
    assert ids == [threading.get_ident()]
    assert stackless.getcurrent().thread_id == threading.get_ident()


def left_behind(log, how):
    """A tasklet that waits in its own way, for the end of its thread."""

    def body():
        try:
            how()
        except BaseException as error:  # pylint: disable=broad-except
            log.append(type(error).__name__)
            raise
        finally:
            stackless.schedule()
            log.append("finally")

    t = stackless.tasklet(body)()
    stackless.schedule()
    return t


@pytest.mark.parametrize("name", ["schedule_remove", "receive", "sleep", "schedule"])
def test_tasklets_of_a_thread_that_ends_are_killed(name):
    log, tasklets = [], []
    how = {
        "schedule_remove": stackless.schedule_remove,
        "receive": stackless.channel().receive,
        "sleep": lambda: time.sleep(30),
        "schedule": lambda: [stackless.schedule() for _ in range(1000)],
    }[name]
    thread = threading.Thread(target=lambda: tasklets.append(left_behind(log, how)))
    thread.start()
    thread.join()
    assert log == ["TaskletExit", "finally"]
    assert not tasklets[0].alive and tasklets[0].thread_id == -1


def test_one_that_refuses_to_end_with_its_thread_is_let_go():
    tasklets = []

    def body():
        while True:
            try:
                stackless.schedule_remove()
            except stackless.TaskletExit:
                pass

    def thread():
        tasklets.append(stackless.tasklet(body)())
        stackless.schedule()

    t = threading.Thread(target=thread)
    t.start()
    t.join()
    assert not tasklets[0].alive
    with pytest.raises(RuntimeError, match="no thread"):
        tasklets[0].throw(ValueError)
    tasklets[0].kill()


def test_those_that_never_began_go_with_their_thread():
    tasklets = []

    def thread():
        t = stackless.tasklet(lambda: None)()
        tasklets.append(weakref.ref(t))

    t = threading.Thread(target=thread)
    t.start()
    t.join()
    gc.collect()
    assert tasklets[0]() is None


def test_the_last_reference_dropped_in_another_thread_kills_it_in_its_own():
    log, tasklets, ready, go = [], [], threading.Event(), threading.Event()

    def body():
        try:
            stackless.schedule_remove()
        finally:
            log.append(threading.get_ident())

    def thread():
        tasklets.append(stackless.tasklet(body)())
        stackless.schedule()
        ready.set()
        go.wait()
        stackless.run()

    t = threading.Thread(target=thread)
    t.start()
    ready.wait()
    ident = t.ident
    tasklets.clear()
    gc.collect()
    go.set()
    t.join()
    assert log == [ident]


AT_EXIT = """
from fibril import stackless
import time

def body(how):
    try:
        how()
    finally:
        time.sleep(0.001)
        print("finally")

hows = (stackless.schedule_remove, stackless.channel().receive, lambda: time.sleep(30))
tasklets = [stackless.tasklet(body)(how) for how in hows]
stackless.schedule()
print("end")
"""


def test_finally_clauses_run_at_the_end_of_the_process():
    result = subprocess.run([sys.executable, "-c", AT_EXIT], capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout, result.stderr) == (0, "end\n" + "finally\n" * 3, "")


def test_f_back_of_suspended_ones_leads_to_their_callers():
    def names(frame):
        while frame:
            yield frame.f_code.co_name
            frame = frame.f_back

    def inner(x):
        stackless.schedule_remove()
        return x

    def middle():
        return sorted([2, 1], key=inner)

    def outer():
        middle()

    tasklets = [stackless.tasklet(outer)() for _ in range(20)]
    stackless.run()
    for t in tasklets:
        assert list(names(t.frame)) == ["inner", "middle", "outer"]
    for t in tasklets:
        t.insert()
    stackless.run()
    assert [list(names(t.frame)) for t in tasklets] == [["inner", "middle", "outer"]] * 20
    for t in tasklets:
        t.kill()


@pytest.mark.parametrize("seed", range(3))
def test_threads_waits_kills_and_the_collector(seed):
    script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "stackless_stress.py")
    result = subprocess.run(
        [sys.executable, script, str(seed)], capture_output=True, text=True, timeout=100, check=False
    )
    assert (result.returncode, result.stdout) == (0, "ok\n"), result.stderr


# ---- leaks -----------------------------------------------------------------------------------------------------


def resident():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGESIZE")


@measures_memory
def test_nothing_is_left_of_those_that_ended():
    ch = stackless.channel()

    def receiver():
        ch.receive()

    def round_of(n):
        for _ in range(n):
            stackless.tasklet(receiver)()
        stackless.run()
        for _ in range(n):
            ch.send(None)
        stackless.run()

    round_of(2000)
    references = [weakref.ref(stackless.tasklet(lambda: None)()) for _ in range(10)]
    stackless.run()
    gc.collect()
    assert [r() for r in references] == [None] * 10
    before = resident()
    for _ in range(10):
        round_of(2000)
    assert resident() - before < 2_000_000


@measures_memory
def test_a_million_switches_leave_nothing():
    def loop(n):
        for _ in range(n):
            stackless.schedule()

    for _ in range(2):
        stackless.tasklet(loop)(1000)
    stackless.run()
    blocks, before = sys.getallocatedblocks(), resident()
    for _ in range(10):
        stackless.tasklet(loop)(50000)
    stackless.run()
    assert sys.getallocatedblocks() - blocks < 200
    assert resident() - before < 1_000_000


# ---- the module ------------------------------------------------------------------------------------------------


def shell(*arguments):
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, check=False, env={**os.environ}
    )


def test_the_command_makes_programs_find_it():
    code = "import stackless; stackless.tasklet(print)(TaskletExit.__name__); stackless.run(); print(stackless.__name__)"
    done = shell("-m", "fibril", "--stackless", "-c", code)
    assert (done.stdout, done.stderr) == ("TaskletExit\nfibril.stackless\n", "")


def test_install_refuses_when_another_is_there():
    code = "import sys, types; sys.modules['stackless'] = types.ModuleType('s'); from fibril import stackless\n"
    done = shell("-c", code + "stackless.install()")
    assert "RuntimeError: another stackless module has been imported already" in done.stderr


def test_the_stubs_name_what_there_is():
    """Each public name of the module and its types, and no other."""
    import ast

    with open(stackless.__file__ + "i", encoding="utf-8") as file:
        tree = ast.parse(file.read())
    stubs = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            stubs[node.name] = {name for item in node.body for name in bound(item)}
        elif not isinstance(node, ast.ImportFrom):
            stubs.update(dict.fromkeys(bound(node)))
    public = {n for n in stubs if n[0] != "_"} - {"Pickler"} - {n for n in stubs if n.startswith("PICKLEFLAGS")}
    assert public == set(stackless.__all__)
    for cls in (stackless.tasklet, stackless.channel, stackless.bomb):
        there = {n for n in vars(cls) if n[0] != "_"}
        assert {n for n in stubs[cls.__name__] if n[0] != "_"} == there
        assert all(getattr(cls, name).__doc__ for name in there)
    assert all(getattr(stackless, name).__doc__ for name in stackless.__all__ if callable(getattr(stackless, name)))


def bound(node):
    """The names that a statement of a stub gives."""
    import ast

    if isinstance(node, ast.AnnAssign):
        return [node.target.id]
    if isinstance(node, ast.Assign):
        return [target.id for target in node.targets]
    return [node.name] if isinstance(node, (ast.FunctionDef, ast.ClassDef)) else []


# ---- pickling --------------------------------------------------------------------------------------------------


def double(out, n):
    out.append(2 * n)


def test_unstarted_and_dead_tasklets_and_channels_are_data():
    out = [1]
    t = pickle.loads(pickle.dumps(stackless.tasklet(double, (out, 4))))
    assert t.alive and not t.scheduled
    t.run()
    assert not t.alive
    dead = stackless.tasklet(double)(out, 1)
    stackless.run()
    assert not pickle.loads(pickle.dumps(dead)).alive
    ch = stackless.channel()
    ch.preference = 1
    ch.close()
    again = pickle.loads(pickle.dumps(ch))
    assert (again.preference, again.closing, again.balance) == (1, True, 0)


def test_one_that_runs_c_code_says_that_it_cannot_be_pickled():
    t = stackless.tasklet(stackless.schedule_remove)()
    stackless.run()
    with pytest.raises(pickle.PicklingError, match="C code|this version"):
        pickle.dumps(t)
    t.kill()


# ---- the examples ----------------------------------------------------------------------------------------------

EXAMPLES = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "examples", "stackless")


@pytest.mark.parametrize(
    "name, expected",
    [
        ("chain.py", "100000"),
        ("philosophers.py", "[3, 3, 3, 3, 3]"),
        ("factory.py", "body 2 + wheel 8 + wheel 9 + wheel 10 + wheel 11"),
        ("ticks.py", "12000 6000 4000"),
    ],
)
def test_examples_do_what_they_say(name, expected):
    result = subprocess.run(
        [sys.executable, os.path.join(EXAMPLES, name)], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines()[-1] == expected
