# SPDX-License-Identifier: MIT
"""The native API: fibrils, scopes, time, channels, locks, other threads."""

import gc
import io
import os
import sys
import threading
import time
import tracemalloc
import weakref

import pytest

import fibril
from helpers import raises

ISOLATED = True


# ---- spawn and join ----------------------------------------------------------------------------------


def test_join_returns_what_the_function_returned():
    assert fibril.spawn(lambda a, b=0: a + b, 2, b=3).join() == 5


def test_join_raises_what_the_function_raised():
    def fail():
        raise KeyError("here")

    child = fibril.spawn(fail)
    with raises(KeyError) as caught:
        child.join()
    assert caught.value is child.exception
    assert "fail" in [frame.name for frame in __import__("traceback").extract_tb(caught.value.__traceback__)]


def test_join_may_be_repeated_and_by_many():
    child = fibril.spawn(lambda: fibril.sleep(0.01) or "x")
    joiners = [fibril.spawn(child.join) for _ in range(10)]
    assert [each.join() for each in joiners] == ["x"] * 10
    assert child.join() == child.join() == child.result == "x"


def test_join_times_out_and_can_be_repeated():
    child = fibril.spawn(fibril.sleep, 0.05)
    with raises(TimeoutError):
        child.join(timeout=0.001)
    assert child.join() is None


def test_joining_oneself_is_a_deadlock():
    with raises(fibril.Deadlock):
        fibril.current().join()


def test_spawn_does_not_run_before_the_caller_parks():
    seen = []
    fibril.spawn(seen.append, 1)
    assert seen == []
    fibril.yield_()
    assert seen == [1]


def test_fibrils_run_first_in_first_out():
    seen = []
    for i in range(10):
        fibril.spawn(seen.append, i)
    fibril.yield_()
    assert seen == list(range(10))


def test_identity():
    child = fibril.spawn(fibril.current, name="carl")
    assert child.join() is child
    assert child.name == "carl" and child.id != fibril.current().id
    assert "carl" in repr(child)
    child.name = "other"
    assert child.name == "other"
    assert fibril.spawn(int).name.startswith("fibril-")


def test_alive_and_done():
    child = fibril.spawn(fibril.sleep, 0)
    assert child.alive and not child.done
    child.join()
    assert child.done and not child.alive
    with raises(RuntimeError):
        fibril.current().result


def test_spawn_refuses_what_cannot_be_called():
    for arguments in ((), (3,), ("x",)):
        with raises(TypeError):
            fibril.spawn(*arguments)
    with raises(TypeError):
        fibril.spawn(int, name=3)


@pytest.mark.plain
def test_nothing_works_before_enable():
    assert not fibril.enabled()
    for call in (lambda: fibril.spawn(int), lambda: fibril.sleep(0), fibril.metrics, lambda: fibril.dump(),
                 lambda: fibril.Channel().send(1), lambda: fibril.os_thread(int)):
        with raises(RuntimeError):
            call()
    assert fibril.current() is None


def test_stack_shows_where_it_waits():
    def inner():
        fibril.sleep(10)

    def outer():
        inner()

    child = fibril.spawn(outer, daemon=True)
    assert len(child.stack()) == 0
    fibril.yield_()
    assert [frame.name for frame in child.stack()] == ["outer", "inner"]
    assert child.frame.f_code.co_name == "inner"
    child.cancel()
    child.wait()
    assert len(child.stack()) == 0 and child.frame is None


def test_done_callbacks():
    seen = []
    child = fibril.spawn(lambda: 3)
    child.add_done_callback(lambda c: seen.append(c.result))
    child.join()
    child.add_done_callback(lambda c: seen.append("late"))
    assert seen == [3, "late"]


def test_deep_recursion_in_a_fibril():
    def down(n):
        return n and 1 + down(n - 1)

    assert fibril.spawn(down, 900).join() == 900

    def bottomless():
        return bottomless()

    with raises(RecursionError):
        fibril.spawn(bottomless).join()


def test_recursion_through_c_in_a_fibril():
    class Deep:
        def __init__(self, n):
            self.n = n

        def __repr__(self):
            return repr(Deep(self.n - 1)) if self.n else "bottom"

    assert fibril.spawn(repr, Deep(150)).join() == "bottom"


def test_each_fibril_has_its_own_context_and_exceptions():
    import contextvars

    variable = contextvars.ContextVar("variable", default=0)

    def work(i):
        variable.set(i)
        try:
            raise ValueError(i)
        except ValueError:
            for _ in range(3):
                fibril.yield_()
                assert variable.get() == i
                assert sys.exc_info()[1].args == (i,)
        return variable.get()

    children = [fibril.spawn(work, i) for i in range(1, 20)]
    assert [c.join() for c in children] == list(range(1, 20))
    assert variable.get() == 0


def test_ten_thousand_fibrils():
    gate = fibril.Event()
    children = [fibril.spawn(gate.wait) for _ in range(10000)]
    fibril.yield_()
    gate.set()
    assert all(c.join() for c in children)


# ---- cancellation ------------------------------------------------------------------------------------


def test_cancel_ends_a_wait_once():
    seen = []

    def work():
        try:
            fibril.sleep(10)
        except fibril.Cancelled:
            fibril.sleep(0.001)
            seen.append("cleaned up")
            raise

    child = fibril.spawn(work)
    fibril.yield_()
    assert child.cancel()
    with raises(fibril.Cancelled):
        child.join()
    assert seen == ["cleaned up"]
    assert not child.cancel()


def test_cancel_before_the_beginning():
    seen = []
    child = fibril.spawn(seen.append, 1)
    child.cancel()
    with raises(fibril.Cancelled):
        child.join()
    assert seen == []


def test_cancel_is_a_base_exception():
    def work():
        try:
            fibril.sleep(10)
        except Exception:
            return "swallowed"

    child = fibril.spawn(work)
    fibril.yield_()
    child.cancel()
    child.wait()
    assert isinstance(child.exception, fibril.Cancelled)


WAITS = {
    "sleep": lambda: fibril.sleep(10),
    "recv": lambda: fibril.Channel().recv(),
    "send": lambda: fibril.Channel().send(1),
    "select": lambda: fibril.select(fibril.Channel()),
    "semaphore": lambda: fibril.Semaphore(0).acquire(),
    "event": lambda: fibril.Event().wait(),
    "join": lambda: fibril.spawn(fibril.sleep, 10, daemon=True).join(),
}


@pytest.mark.parametrize("wait", sorted(WAITS))
def test_every_wait_can_be_cancelled(wait):
    child = fibril.spawn(WAITS[wait])
    fibril.yield_()
    child.cancel()
    with raises(fibril.Cancelled):
        child.join(5)


@pytest.mark.parametrize("wait", sorted(WAITS))
def test_every_wait_can_time_out(wait):
    with raises(TimeoutError):
        with fibril.timeout(0.01):
            WAITS[wait]()
    fibril.sleep(0.001)


def test_shield_holds_back():
    seen = []

    def work():
        with fibril.shield():
            with fibril.shield():
                fibril.sleep(0.01)
            fibril.sleep(0.01)
            seen.append("whole")
        fibril.sleep(10)

    child = fibril.spawn(work)
    fibril.yield_()
    child.cancel()
    with raises(fibril.Cancelled):
        child.join(5)
    assert seen == ["whole"]


def test_cancelled_says_what_is_to_come():
    child = fibril.current()
    assert not fibril.cancelled()
    child.cancel()
    assert fibril.cancelled()
    with raises(fibril.Cancelled):
        fibril.sleep(1)
    assert not fibril.cancelled()


# ---- timeouts ----------------------------------------------------------------------------------------


def test_a_timeout_that_does_not_pass():
    with fibril.timeout(5) as t:
        fibril.sleep(0.001)
    assert not t.expired
    with fibril.timeout(None):
        fibril.sleep(0.001)


def test_nested_timeouts_raise_at_the_right_block():
    with raises(TimeoutError):
        with fibril.timeout(0.01) as outer:
            with fibril.timeout(5) as inner:
                fibril.sleep(5)
    assert outer.expired and not inner.expired
    with fibril.timeout(5) as outer:
        with raises(TimeoutError):
            with fibril.timeout(0.01) as inner:
                fibril.sleep(5)
        fibril.sleep(0.001)
    assert inner.expired and not outer.expired


def test_a_deadline_is_monotonic_time():
    with raises(TimeoutError):
        with fibril.deadline(time.monotonic() + 0.01):
            fibril.sleep(5)
    with raises(TimeoutError):
        with fibril.deadline(0):
            fibril.sleep(5)


def test_many_timeouts():
    def work(i):
        try:
            with fibril.timeout(0.001 * (i % 20)):
                fibril.sleep(1 if i % 2 else 0)
        except TimeoutError:
            return "late"
        return "done"

    children = [fibril.spawn(work, i) for i in range(500)]
    said = [c.join() for c in children]
    assert all(s == "late" for s in said[1::2])


def test_a_timeout_that_passes_without_a_wait_is_forgotten():
    with fibril.timeout(0.001):
        end = time.monotonic() + 0.005
        while time.monotonic() < end:
            pass
    fibril.sleep(0.001)


def test_times_are_checked():
    with raises(TypeError):
        fibril.sleep("long")
    with raises(ValueError):
        fibril.sleep(float("nan"))
    with raises(TypeError):
        fibril.timeout("x")
    fibril.sleep(-1)
    fibril.sleep(0)


def test_sleepers_wake_in_order():
    seen = []

    def work(i):
        fibril.sleep(0.002 * i)
        seen.append(i)

    children = [fibril.spawn(work, i) for i in (5, 1, 4, 2, 3)]
    for c in children:
        c.join()
    assert seen == [1, 2, 3, 4, 5]


# ---- scopes ------------------------------------------------------------------------------------------


def test_a_scope_waits_for_its_fibrils():
    with fibril.Scope() as scope:
        children = [scope.spawn(fibril.sleep, 0.01) for _ in range(5)]
    assert all(c.done for c in children)
    with raises(RuntimeError):
        scope.spawn(int)


def test_the_first_failure_cancels_the_siblings():
    def fail():
        fibril.sleep(0.001)
        raise ValueError("first")

    with raises(ValueError):
        with fibril.Scope() as scope:
            scope.spawn(fail)
            sibling = scope.spawn(fibril.sleep, 10)
    assert isinstance(sibling.exception, fibril.Cancelled)


def test_an_exception_of_the_block_cancels_all():
    with raises(KeyError):
        with fibril.Scope() as scope:
            child = scope.spawn(fibril.sleep, 10)
            raise KeyError
    assert isinstance(child.exception, fibril.Cancelled)


def test_a_cancelled_owner_cancels_and_still_waits():
    seen = []

    def child():
        try:
            fibril.sleep(10)
        finally:
            fibril.sleep(0.005)
            seen.append("ended")

    def owner():
        with fibril.Scope() as scope:
            scope.spawn(child)

    h = fibril.spawn(owner)
    fibril.sleep(0.005)
    h.cancel()
    with raises(fibril.Cancelled):
        h.join()
    assert seen == ["ended"]


def test_a_timeout_around_a_scope():
    with raises(TimeoutError):
        with fibril.timeout(0.01):
            with fibril.Scope() as scope:
                child = scope.spawn(fibril.sleep, 10)
    assert child.done


# ---- channels ----------------------------------------------------------------------------------------


def test_a_channel_keeps_order():
    channel = fibril.Channel(3)

    def produce():
        for i in range(100):
            channel.send(i)
        channel.close()

    fibril.spawn(produce)
    assert list(channel) == list(range(100))
    assert channel.closed and channel.capacity == 3


def test_without_capacity_sends_meet_receives():
    channel = fibril.Channel()
    assert not channel.try_send(1) and channel.try_recv("none") == "none"
    child = fibril.spawn(channel.recv)
    fibril.yield_()
    assert channel.try_send("x")
    assert child.join() == "x"


def test_a_closed_channel():
    channel = fibril.Channel(2)
    channel.send(1)
    channel.close()
    channel.close()
    with raises(fibril.ChannelClosed):
        channel.send(2)
    assert channel.recv() == 1
    with raises(fibril.ChannelClosed):
        channel.recv()
    with raises(fibril.ChannelClosed):
        channel.try_recv()


def test_closing_wakes_those_who_wait():
    channel = fibril.Channel()
    children = [fibril.spawn(channel.recv) for _ in range(3)]
    fibril.yield_()
    channel.close()
    for c in children:
        with raises(fibril.ChannelClosed):
            c.join()


def test_channel_arguments():
    for wrong in (-1, 1 << 40):
        with raises(ValueError):
            fibril.Channel(wrong)
    channel = fibril.Channel(1)
    assert len(channel) == 0 and bool(channel)
    for call in (lambda: channel.send(), lambda: channel.send(1, 2, 3), lambda: channel.send(1, when=2),
                 lambda: channel.recv(1, 2), lambda: channel.recv(timeout="x")):
        with raises(TypeError):
            call()
    with raises(TimeoutError):
        channel.recv(timeout=0.001)
    channel.send(1, timeout=1)
    with raises(TimeoutError):
        channel.send(1, 0.001)


def test_references_of_channels():
    class Thing:
        pass

    channel = fibril.Channel(4)
    things = [Thing() for _ in range(3)]
    watch = [weakref.ref(t) for t in things]
    for t in things:
        channel.send(t)
    full = fibril.Channel()
    with raises(TimeoutError):
        full.send(things[0], timeout=0.001)
    del things, t
    assert channel.recv() is watch[0]()
    assert watch[0]() is None and watch[1]() is not None
    del channel
    assert [w() for w in watch] == [None] * 3


def test_select():
    a, b = fibril.Channel(1), fibril.Channel(1)
    with raises(TimeoutError):
        fibril.select(a, b, timeout=0.001)
    b.send("b")
    assert fibril.select(a, b) == (1, "b")
    assert fibril.select((a, "sent")) == (0, None)
    assert a.recv() == "sent"
    a.close()
    with raises(fibril.ChannelClosed):
        fibril.select(a)
    for wrong in (3, (a,), (1, 2, 3), ("x", 1)):
        with raises(TypeError):
            fibril.select(wrong)


def test_select_on_a_descriptor():
    import select

    r, w = os.pipe()
    fibril.spawn(os.write, w, b"x")
    assert fibril.select((r, select.POLLIN), fibril.Channel()) == (0, select.POLLIN)
    with raises(ValueError):
        fibril.select((-1, 1))


def test_select_takes_and_gives_references():
    class Thing:
        pass

    channel, thing = fibril.Channel(1), Thing()
    watch = weakref.ref(thing)
    fibril.select((channel, thing), (fibril.Channel(), thing))
    before = sys.getrefcount(thing)
    with raises(TimeoutError):
        fibril.select((channel, thing), timeout=0.001)
    assert sys.getrefcount(thing) == before
    index, got = fibril.select(channel)
    del thing, got
    assert watch() is None


# ---- locks -------------------------------------------------------------------------------------------


def test_a_lock_excludes():
    lock, inside, most = fibril.Lock(), 0, 0

    def work():
        nonlocal inside, most
        with lock:
            inside += 1
            most = max(most, inside)
            fibril.sleep(0.0005)
            inside -= 1

    with fibril.Scope() as scope:
        for _ in range(20):
            scope.spawn(work)
    assert most == 1 and not lock.locked()
    with raises(RuntimeError):
        lock.release()


def test_a_semaphore_counts():
    s = fibril.Semaphore(2)
    assert s.acquire() and s.acquire()
    assert not s.acquire(timeout=0.001) and not s.acquire(blocking=False)
    waiter = fibril.spawn(s.acquire)
    fibril.yield_()
    s.release()
    assert waiter.join() is True
    with raises(ValueError):
        fibril.Semaphore(-1)


def test_an_event_stays_set():
    e = fibril.Event()
    assert not e.wait(0.001)
    fibril.spawn(e.set)
    assert e.wait() and e.is_set() and e.wait(0)
    e.clear()
    assert not e.is_set()


# ---- other threads -----------------------------------------------------------------------------------


def test_objects_work_across_os_threads():
    channel, back, lock, event = fibril.Channel(), fibril.Channel(4), fibril.Lock(), fibril.Event()

    def real():
        event.wait()
        for x in channel:
            with lock:
                back.send(x * 2)
        fibril.sleep(0.001)
        child = fibril.spawn(lambda: "from there")
        assert fibril.current() is None
        return child.join()

    thread = fibril.os_thread(real)
    event.set()

    def feed():
        for i in range(50):
            channel.send(i)
        channel.close()

    fibril.spawn(feed)
    assert [back.recv() for _ in range(50)] == [i * 2 for i in range(50)]
    assert thread.join() == "from there" and not thread.alive


def test_an_os_thread_is_real():
    import _thread

    ident = fibril.os_thread(_thread.get_native_id).join()
    assert ident != _thread.get_native_id()
    failing = fibril.os_thread(lambda: 1 / 0)
    with raises(ZeroDivisionError):
        failing.join()
    with raises(TimeoutError):
        fibril.os_thread(time.sleep, 0.2, daemon=True).join(0.01)


def test_offload():
    import _thread

    here = _thread.get_native_id()
    children = [fibril.spawn(fibril.offload, _thread.get_native_id) for _ in range(5)]
    assert here not in [c.join() for c in children]
    with raises(ZeroDivisionError):
        fibril.offload(divmod, 1, 0)
    assert fibril.offload(int, "ff", base=16) == 255
    with raises(TypeError):
        fibril.offload()


def test_others_run_during_offload():
    ticks = []

    def tick():
        while True:
            ticks.append(1)
            fibril.sleep(0.001)

    fibril.spawn(tick, daemon=True)
    fibril.offload(time.sleep, 0.05)
    assert len(ticks) > 5


# ---- seeing inside -----------------------------------------------------------------------------------


def test_dump_shows_python_stacks():
    def where_it_waits():
        fibril.sleep(10)

    fibril.spawn(where_it_waits, name="somebody", daemon=True)
    fibril.yield_()
    r, w = os.pipe()
    fibril.dump(w)
    text = os.read(r, 65536).decode()
    assert '"somebody"' in text and "where_it_waits" in text and "sleep" in text
    with raises((AttributeError, io.UnsupportedOperation)):
        fibril.dump(io.StringIO())


def test_metrics():
    before = fibril.metrics()
    fibril.spawn(int).join()
    after = fibril.metrics()
    assert after["spawned"] == before["spawned"] + 1
    assert after["poller"] in ("uring", "epoll")


def test_unseen_exceptions_are_reported():
    seen = []
    sys.unraisablehook = lambda report: seen.append(report.exc_type)
    fibril.spawn(lambda: 1 / 0)
    fibril.yield_()
    fibril.yield_()
    assert seen == [ZeroDivisionError]
    looked_at = fibril.spawn(lambda: 1 / 0)
    looked_at.wait()
    looked_at.exception
    del looked_at
    fibril.spawn(sys.exit)
    fibril.yield_()
    assert seen == [ZeroDivisionError]


# ---- leaks -------------------------------------------------------------------------------------------


def leaks(work, rounds=10):
    """Bytes that Python holds more per round after some rounds to warm up; a pool that grows once is none."""
    for _ in range(5):
        work()
    gc.collect()
    tracemalloc.start()
    work()
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(rounds):
        work()
    gc.collect()
    return (tracemalloc.get_traced_memory()[0] - before) / rounds


def lifecycle():
    def fail():
        raise ValueError

    channel = fibril.Channel(2)
    for i in range(100):
        fibril.spawn(channel.send, i)
        channel.recv()
        fibril.spawn(lambda a: a, i, name="x").join()
        child = fibril.spawn(fail)
        with raises(ValueError):
            child.join()
        child = fibril.spawn(fibril.sleep, 10)
        child.cancel()
        with raises(fibril.Cancelled):
            child.join()
        with raises(TimeoutError):
            with fibril.timeout(0):
                fibril.sleep(1)
        fibril.select(channel, (channel, 1))
        channel.recv()
        with fibril.Scope() as scope:
            scope.spawn(int)
        fibril.spawn(fibril.current).join()


def test_nothing_leaks():
    # What leaks does so each time; tables that grow once (3.13's) do not.
    assert min(leaks(lifecycle), leaks(lifecycle)) < 500


def test_references_of_arguments_and_results():
    class Thing:
        pass

    thing = Thing()
    before = sys.getrefcount(thing)
    for _ in range(100):
        assert fibril.spawn(lambda x: x, thing).join() is thing
        fibril.spawn(lambda x=None: x, x=thing).join()
    assert sys.getrefcount(thing) == before


def test_a_cycle_through_a_handle_is_collected():
    class Thing:
        pass

    thing = Thing()
    thing.child = fibril.spawn(lambda x: x, thing)
    thing.child.join()
    watch = weakref.ref(thing)
    del thing
    gc.collect()
    assert watch() is None


# ---- asyncio -----------------------------------------------------------------------------------------


def test_wait_for_a_coroutine():
    import asyncio

    async def double(x):
        await asyncio.sleep(0.001)
        return x * 2

    children = [fibril.spawn(fibril.wait_for, double(i)) for i in range(20)]
    assert [c.join() for c in children] == [i * 2 for i in range(20)]
    with raises(TimeoutError):
        fibril.wait_for(asyncio.sleep(10), timeout=0.01)

    async def fail():
        raise KeyError

    with raises(KeyError):
        fibril.wait_for(fail())


def test_await_a_fibril():
    import asyncio

    def fail():
        raise KeyError

    async def main():
        assert await fibril.to_async(fibril.spawn(lambda: 5)) == 5
        try:
            await fibril.to_async(fibril.spawn(fail))
        except KeyError:
            pass
        else:
            raise AssertionError
        sleeper = fibril.spawn(fibril.sleep, 10)
        try:
            await asyncio.wait_for(fibril.to_async(sleeper), 0.01)
        except asyncio.TimeoutError:
            pass
        await asyncio.sleep(0.01)
        assert sleeper.done

    asyncio.run(main())


def test_an_adopted_thread_has_a_handle():
    seen = []

    def work():
        seen.append(fibril.current())
        assert fibril.current() is seen[0] and seen[0].alive

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen[0].wait(5) and seen[0] is not fibril.current()
