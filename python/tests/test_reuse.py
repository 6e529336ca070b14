# SPDX-License-Identifier: MIT
"""Thread states are used again, and threading's shutdown locks swept now and then: neither may show."""

import contextvars
import ctypes
import decimal
import os
import sys
import threading

import fibril
from helpers import python, raises

ISOLATED = True

MANY = 100  # more than are kept


def in_turn(function, times=MANY):
    return [fibril.spawn(function).join() for _ in range(times)]


# ---- thread states -----------------------------------------------------------------------------------


def test_context_variables_start_anew():
    variable = contextvars.ContextVar("variable", default="none")

    def look_and_set():
        seen = variable.get()
        variable.set("mine")
        return seen, variable.get()

    assert set(in_turn(look_and_set)) == {("none", "mine")}


def test_thread_locals_start_anew():
    local = threading.local()

    def look_and_set():
        seen = getattr(local, "value", None)
        local.value = seen or 1
        return seen

    assert set(in_turn(look_and_set)) == {None}


def test_decimal_contexts_start_anew():
    usual = decimal.getcontext().prec

    def look_and_set():
        seen = decimal.getcontext().prec
        decimal.getcontext().prec = 7
        return seen

    assert set(in_turn(look_and_set)) == {usual}


def test_a_handled_exception_does_not_reach_the_next():
    def handle():
        before = sys.exc_info()[1]
        try:
            raise KeyError
        except KeyError:
            fibril.yield_()
        return before

    assert set(in_turn(handle)) == {None}

    def fail():
        raise ValueError

    for _ in range(MANY):
        with raises(ValueError):
            fibril.spawn(fail).join()
    assert fibril.spawn(sys.exc_info).join() == (None, None, None)


def test_trace_functions_do_not_reach_the_next():
    def tracer(frame, event, arg):
        return tracer

    def look_and_set():
        seen = sys.gettrace(), sys.getprofile()
        sys.settrace(tracer)
        sys.setprofile(lambda *_: None)
        return seen

    assert set(in_turn(look_and_set)) == {(None, None)}


def test_recursion_has_its_whole_depth_and_heeds_a_new_limit():
    def dive(n):
        return dive(n - 1) if n else True

    def too_deep():
        with raises(RecursionError):
            dive(10**6)
        return dive(sys.getrecursionlimit() - 100)

    assert set(in_turn(too_deep, 20)) == {True}
    sys.setrecursionlimit(300)
    assert fibril.spawn(too_deep).join()
    with raises(RecursionError):
        fibril.spawn(dive, 400).join()


def test_c_code_finds_the_thread_state():
    def callback_ident():
        function = ctypes.CFUNCTYPE(ctypes.c_ulong)(threading.get_ident)
        return function() == threading.get_ident()  # by PyGILState_Ensure

    assert set(in_turn(callback_ident)) == {True}


def test_identities_of_those_alive_differ_and_have_frames():
    in_turn(int)
    idents = []

    def tell():
        idents.append(threading.get_ident())
        fibril.sleep(0.05)

    children = [fibril.spawn(tell) for _ in range(MANY)]
    fibril.sleep(0.01)
    assert len(set(idents)) == MANY
    frames = sys._current_frames()
    assert set(idents) < set(frames) and all(ident > 0 for ident in frames)
    for child in children:
        child.join()
    assert not set(idents) & set(sys._current_frames())


def test_exceptions_from_outside_reach_only_whom_they_name():
    idents = in_turn(threading.get_ident, 20)
    for ident in set(idents):
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(ident), ctypes.py_object(KeyError)) == 0
    assert in_turn(lambda: sum(range(100)), 20) == [4950] * 20


def test_the_child_of_a_fork_makes_new_ones():
    children = [fibril.spawn(fibril.sleep, 0.01) for _ in range(MANY)]
    for child in children:
        child.join()
    for _ in range(3):
        pid = os.fork()
        if pid == 0:
            os._exit(0 if in_turn(lambda: 7) == [7] * MANY else 1)
        assert os.waitpid(pid, 0)[1] == 0
    assert in_turn(lambda: 7) == [7] * MANY


def test_threads_and_fibrils_take_turns():
    def both():
        thread = threading.Thread(target=in_turn, args=(int, 3))
        thread.start()
        thread.join()
        return threading.current_thread().ident == threading.get_ident()

    assert set(in_turn(both, 30)) == {True}


# ---- shutdown locks ----------------------------------------------------------------------------------


def locks():
    return getattr(threading, "_shutdown_locks", None)


def test_few_threads_leave_no_lock():
    if locks() is None:
        return
    before = set(locks())  # the main thread's
    for _ in range(50):
        thread = threading.Thread(target=int)
        thread.start()
        thread.join()
    assert locks() == before


def test_many_threads_are_swept_now_and_then():
    if locks() is None or not hasattr(threading, "_maintain_shutdown_locks"):
        return
    gate, looks = threading.Event(), 0

    class Counted(set):
        def __iter__(self):
            nonlocal looks
            looks += len(self)
            return super().__iter__()

    threading._shutdown_locks = Counted()
    threads = [threading.Thread(target=gate.wait) for _ in range(1000)]
    for thread in threads:
        thread.start()
    assert len(locks()) == 1000
    gate.set()
    for thread in threads:
        thread.join()
    assert looks < 20 * 1000  # of a million
    assert len(locks()) <= 64


def test_the_end_waits_for_a_thousand_threads():
    code = ("import fibril, threading, time; fibril.enable()\n"
            "def f(): time.sleep(0.2); print('x', end='')\n"
            "for _ in range(1000): threading.Thread(target=f).start()\n")
    result = python("-c", code)
    assert (result.returncode, result.stdout) == (0, "x" * 1000), result.stderr
