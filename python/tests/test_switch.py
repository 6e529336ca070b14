# SPDX-License-Identifier: MIT
"""Switches that keep the GIL: what CPython does for a thread that takes it must not be missed."""

import subprocess
import sys
import threading
import time

import fibril

ISOLATED = True


def start(*functions):
    for h in [fibril.spawn(f) for f in functions]:
        h.join()


def test_this_version_keeps_it():
    out = subprocess.run([sys.executable, "-m", "fibril", "doctor"], stdout=subprocess.PIPE, text=True, check=True).stdout
    lent = "first frames on the fibril's stack" in out  # not in the portable build
    assert ("swapped with the GIL held" in out) == lent, out


def test_tracing_of_one_does_not_stop_the_others():
    seen = []

    def traced():
        return 1

    def tracer():
        for _ in range(3):
            sys.settrace(lambda *_: seen.append(1))
            traced()
            fibril.yield_()
            sys.settrace(None)
            fibril.yield_()

    def other():
        for _ in range(20):
            traced()
            fibril.yield_()

    start(tracer, other, other)
    assert len(seen) == 3


def test_monitoring_of_one_reaches_the_others():
    if not hasattr(sys, "monitoring"):
        print("sys.monitoring is of 3.12 and later")
        sys.exit(77)
    seen = set()
    tool, event = sys.monitoring.PROFILER_ID, sys.monitoring.events.PY_START

    def called():
        seen.add(fibril.current().name)

    def note(code, _offset):
        if code is called.__code__:
            seen.add("event in " + fibril.current().name)

    def watcher():
        fibril.yield_()
        sys.monitoring.use_tool_id(tool, "test")
        sys.monitoring.register_callback(tool, event, note)
        sys.monitoring.set_events(tool, event)
        fibril.yield_()
        sys.monitoring.set_events(tool, 0)

    def worker():
        fibril.yield_()
        called()

    first, second = fibril.spawn(watcher, name="a"), fibril.spawn(worker, name="b")
    first.join()
    second.join()
    assert seen == {"b", "event in b"}


def test_os_threads_that_want_the_gil_get_it():
    sys.setswitchinterval(1e-5)
    turns, stop = [0, 0], False

    def real(i):
        while not stop:
            turns[i] += 1

    def computing():
        while min(turns) < 100:
            for _ in range(50):
                pass
            fibril.yield_()

    threads = [fibril.os_thread(real, i) for i in range(2)]
    start(*[computing] * 5)
    stop = True
    for t in threads:
        t.join()


def test_a_request_that_came_late_stops_nobody():
    """It was made of a fibril that had parked already; who grants it when nobody wants the GIL waits for ever."""
    sys.setswitchinterval(1e-6)
    done = threading.Event()

    def real():
        for _ in range(2000):
            sum(range(10))
            time.sleep(0)
        done.set()

    def parking():
        data = list(range(2000))
        while not done.is_set():
            sorted(data)  # sees no request
            fibril.yield_()

    t = fibril.os_thread(real)
    start(*[parking] * 3)
    start(*[lambda: [sum(range(100)) and fibril.yield_() for _ in range(100)]] * 3)
    t.join()


def test_the_threads_own_state_is_known_to_libraries():
    """PyGILState_Ensure finds the state of the fibril that calls it, also after switches that kept the GIL."""
    import ctypes
    if not hasattr(ctypes.pythonapi, "PyGILState_Check"):
        print("no such function")
        sys.exit(77)
    seen = []

    def check():
        for _ in range(5):
            seen.append(ctypes.pythonapi.PyGILState_Check())
            fibril.yield_()

    check()
    start(check, check, check)
    check()
    assert seen == [1] * 25


def test_asynchronous_exceptions_arrive_after_a_switch():
    import ctypes
    raised = []

    def victim():
        try:
            for _ in range(1000):
                fibril.yield_()
        except KeyError:
            raised.append(1)

    threads = [threading.Thread(target=victim) for _ in range(3)]
    for t in threads:
        t.start()
    fibril.yield_()
    for t in threads:
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(t.ident), ctypes.py_object(KeyError)) == 1
    for t in threads:
        t.join()
    assert len(raised) == 3


def test_tracing_of_memory_while_fibrils_begin_and_end():
    import tracemalloc
    tracemalloc.start()
    start(*[fibril.yield_] * 3)
    start(*[int] * 5)
