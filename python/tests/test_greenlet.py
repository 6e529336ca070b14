# SPDX-License-Identifier: MIT
"""fibril.greenlet in a plain process: switching, stacks, exceptions, threads, the end."""

import contextvars
import functools
import gc
import os
import re
import subprocess
import sys
import sysconfig
import threading
import weakref

import pytest

import helpers

helpers.need_frames()
from fibril import greenlet as module  # noqa: E402
from fibril.greenlet import GreenletExit, getcurrent, greenlet  # noqa: E402
from greenlet_model import Model, Real  # noqa: E402

ISOLATED = True
pytestmark = pytest.mark.plain


def leave(value=None):
    return getcurrent().parent.switch(value)


def directly(fn, wish):
    return fn(wish)


def sorting(fn, wish):
    """From inside sorted(), that is from C code with Python below and above it."""
    came = []
    sorted([0], key=lambda _: came.append(fn(wish)) or 0)
    return came[0]


def substituting(fn, wish):
    came = []
    re.sub("x", lambda _: came.append(fn(wish)) or "y", "x")
    return came[0]


WAYS = {"directly": directly, "sorting": sorting, "substituting": substituting}


@pytest.mark.parametrize("stack", ["copied", "own"])
@pytest.mark.parametrize("way", list(WAYS))
def test_random_programs_do_what_the_model_says(stack, way):
    for seed in range(60):
        want = Model(seed).run()
        got = Real(seed, module, stack, WAYS[way]).run()
        assert got == want, (seed, next(i for i, pair in enumerate(zip(got + [None], want + [None])) if pair[0] != pair[1]))
        gc.collect()


def test_arguments_and_results_go_both_ways():
    def run(a, b=2, *, c=3):
        assert (a, b, c) == (1, 2, 4)
        assert leave() == (5, 6)
        assert leave() == {"k": 7}
        assert leave() == ((8,), {"k": 9})
        assert leave() == ()
        return leave((1,))

    g = greenlet(run)
    g.switch(1, c=4)
    g.switch(5, 6)
    g.switch(k=7)
    g.switch(8, k=9)
    assert g.switch() == (1,)
    assert g.switch("end") == "end" and g.dead and not g
    assert g.switch("to the parent") == "to the parent"


def test_exceptions_go_to_the_parent_and_exit_is_a_result():
    def fails():
        raise LookupError("here")

    with helpers.raises(LookupError):
        greenlet(fails).switch()
    g = greenlet(leave)
    g.switch()
    assert isinstance(g.throw(), GreenletExit) and g.dead
    with helpers.raises(ValueError) as caught:
        greenlet(leave).throw(ValueError, "v")
    assert caught.value.args == ("v",)
    for wrong in ((3,), (ValueError("a"), "b"), (ValueError, "a", 5)):
        with helpers.raises(TypeError):
            greenlet(leave).throw(*wrong)


def test_each_has_its_own_exception_being_handled():
    def run(name):
        try:
            raise KeyError(name)
        except KeyError:
            leave()
            assert sys.exc_info()[1].args == (name,)
            try:
                raise ValueError(name)
            except ValueError as inner:
                leave()
                assert inner.__context__.args == (name,)
                assert sys.exc_info()[1] is inner
        return sys.exc_info()[1]

    several = [greenlet(run) for _ in range(20)]
    for i, g in enumerate(several):
        g.switch(i)
    for _ in range(2):
        assert sys.exc_info()[1] is None
        results = [g.switch() for g in several]
    assert results == [None] * 20


def test_c_code_in_the_middle_of_many_stacks():
    def compare(a, b):
        leave()
        return a - b

    def run(items):
        ordered = sorted(items, key=functools.cmp_to_key(compare))
        words = re.sub(r"\d+", lambda found: leave() or str(int(found.group()) + 1), "1 22 333")
        return ordered, words, max([3, 1, 2], key=lambda x: leave() or -x), [*map(lambda x: leave() or x, "abc")]

    several = [greenlet(run) for _ in range(50)]
    for i, g in enumerate(several):
        g.switch([3, i % 7, 1, 2])
    while not all(g.dead for g in several):
        for g in several:
            result = g.switch()
            if g.dead and result is not None and result != ():
                assert result[1:] == ("2 23 334", 1, ["a", "b", "c"])
    assert not several[0]


def test_recursion_through_c_keeps_each_stack():
    def deep(n):
        if n == 0:
            return leave() or 0
        return max([n], key=lambda _: deep(n - 1)) + 0

    def run():
        return deep(60)

    several = [greenlet(run) for _ in range(12)]
    for g in several:
        g.switch()
    assert max(g._stack_saved for g in several) > 10000
    assert [g.switch() for g in several] == [60] * 12


def test_the_recursion_limit_holds_inside():
    def endless():
        return endless()

    def through_c():
        return max([1], key=lambda _: through_c())

    for fn in (endless, through_c):
        with helpers.raises(RecursionError):
            greenlet(fn).switch()


def test_switching_from_finalizers():
    log = []

    class Leaves:
        def __del__(self):
            log.append("del")
            leave("from del")
            log.append("back")

    def run():
        x = Leaves()
        del x
        return "end"

    g = greenlet(run)
    assert g.switch() == "from del" and g.switch() == "end" and log == ["del", "back"]


def test_generators_run_in_who_asks_and_with_blocks_unwind():
    log = []

    class Block:
        def __enter__(self):
            leave("enter")

        def __exit__(self, kind, value, traceback):
            leave(kind)
            log.append(kind)

    def numbers():
        with Block():
            for i in range(3):
                yield leave(i)

    def run():
        return list(numbers())

    g = greenlet(run)
    assert [g.switch(x) if i else g.switch() for i, x in enumerate("xabcd")] == ["enter", 0, 1, 2, None]
    assert g.switch() == ["b", "c", "d"]
    g = greenlet(run)
    g.switch()
    g.switch()
    assert g.throw(ZeroDivisionError) is ZeroDivisionError
    with helpers.raises(ZeroDivisionError):
        g.switch()
    assert log == [None, ZeroDivisionError]


def test_contexts_of_contextvars_are_apart():
    var = contextvars.ContextVar("var", default="none")

    def run(value):
        assert var.get() == "none"
        var.set(value)
        leave()
        return var.get()

    var.set("main")
    several = [greenlet(run) for _ in range(10)]
    for i, g in enumerate(several):
        g.switch(i)
        assert var.get() == "main"
    assert [g.gr_context[var] for g in several] == list(range(10))
    assert [g.switch() for g in several] == list(range(10))
    shared = greenlet(lambda: var.get())
    shared.gr_context = contextvars.copy_context()
    assert shared.switch() == "main"
    with helpers.raises(TypeError):
        shared.gr_context = 3


def test_frames_of_suspended_ones_can_be_walked():
    kept = []

    def innermost():
        kept.append(sys._getframe())
        leave()

    def in_the_middle(x):
        innermost()
        return x

    def outermost():
        sorted([3, 1], key=in_the_middle)

    several = [greenlet(outermost) for _ in range(30)]
    for g in several:
        g.switch()
    for frame in kept + [g.gr_frame for g in several]:
        names = []
        while frame:
            names.append(frame.f_code.co_name)
            frame = frame.f_back
        assert names[-3:] == ["innermost", "in_the_middle", "outermost"] and names[:-3] in ([], ["leave"])
    assert getcurrent().gr_frame is None
    for g in several:
        g.throw()
        assert g.gr_frame is None
    assert [f.f_back.f_code.co_name for f in kept] == ["in_the_middle"] * 30


def test_deep_python_stacks_get_more_room():
    def deep(n):
        return deep(n - 1) + 1 if n else leave() or 0

    several = [greenlet(deep) for _ in range(40)]
    for i, g in enumerate(several):
        g.switch(i * 20)
    assert [g.switch() for g in several] == [i * 20 for i in range(40)]


def test_the_last_reference_kills_and_cycles_are_collected():
    log = []

    def run(name, keep):
        mine = getcurrent() if keep else None
        try:
            leave()
        finally:
            log.append(name)
        return mine

    g = greenlet(run)
    g.switch("dropped", False)
    del g
    assert log == ["dropped"]
    for i in range(5):
        greenlet(run).switch(i, True)
    gc.collect()
    assert log[1:] == list(range(5))


def test_one_that_survives_its_killing_lives_on():
    kept = []

    def run():
        try:
            leave()
        except GreenletExit:
            kept.append(getcurrent())
            leave("stays")
        return "end"

    g = greenlet(run)
    g.switch()
    gone = weakref.ref(g)
    del g
    assert gone() is kept[0] and kept[0].switch() == "end"


def test_parents():
    main = getcurrent()
    a = greenlet(leave)
    b = greenlet(leave, a)
    assert a.parent is main and b.parent is a
    with helpers.raises(ValueError):
        a.parent = b
    with helpers.raises(TypeError):
        a.parent = 3
    with helpers.raises(AttributeError):
        main.parent = a
    with helpers.raises(AttributeError):
        del a.parent
    b.parent = main
    a.switch()
    with helpers.raises(AttributeError):
        a.run = leave
    order = []
    inner = greenlet(lambda: order.append("inner") or 1, greenlet(lambda got: order.append(got) or 2))
    assert inner.switch() == 2 and order == ["inner", 1]


def test_subclasses():
    class Task(greenlet):
        def __init__(self, n):
            super().__init__()
            self.n = n

        def run(self, *args):
            return self.n, args

    assert Task(3).switch(4) == (3, (4,))
    with helpers.raises(AttributeError):
        greenlet().switch()


def test_tracing_sees_every_switch():
    events = []

    def trace(event, args):
        events.append((event, args))

    main = getcurrent()
    assert module.settrace(trace) is None and module.gettrace() is trace
    g = greenlet(leave)
    g.switch()
    with helpers.raises(KeyError):
        g.throw(KeyError)
    assert module.settrace(None) is trace
    g = None
    assert [e for e, _ in events] == ["switch", "switch", "throw", "throw"]
    assert [a[1] is main for _, a in events] == [False, True, False, True]


def test_profiling_goes_on_across_switches():
    seen = []

    def called():
        pass

    def run():
        called()
        leave()
        called()

    g = greenlet(run)
    sys.setprofile(lambda frame, event, arg: seen.append(frame.f_code.co_name) if event == "call" else None)
    g.switch()
    called()
    g.switch()
    sys.setprofile(None)
    assert seen.count("called") == 3


def test_threads_have_mains_of_their_own():
    main, found, g = getcurrent(), [], greenlet(leave)
    g.switch()
    killed = []

    def run():
        try:
            leave()
        finally:
            killed.append(threading.get_ident())

    mine = greenlet(run)
    mine.switch()

    def other():
        found.append(getcurrent())
        try:
            g.switch()
        except module.error as error:
            found.append(str(error))
        nonlocal mine
        mine = None  # the last reference, from a thread that cannot kill it
        left = greenlet(leave)
        left.switch()
        found.append(left)

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found[0] is not main and found[0].parent is None and "different thread" in found[1]
    getcurrent()
    assert killed == [threading.get_ident()]
    assert found[2].dead
    with helpers.raises(module.error):
        found[2].switch()


def test_many_threads_with_many_greenlets():
    failures = []

    def work(seed):
        for i in range(3):
            if Real(seed * 10 + i, module, "copied", sorting).run() != Model(seed * 10 + i).run():
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.outside
@pytest.mark.parametrize("end", ["pass", "g.switch()", "sys.exit(3)", "raise KeyError", "import threading; "
                                 "threading.Thread(target=g2, daemon=True).start()"])
def test_the_interpreter_ends_with_suspended_ones(end):
    code = ("import sys, time\n"
            "from fibril.greenlet import greenlet, getcurrent\n"
            "def leave():\n"
            "    try: getcurrent().parent.switch()\n"
            "    finally: getcurrent()\n"
            "def g2():\n"
            "    h = greenlet(leave); h.switch(); time.sleep(9)\n"
            "gs = [greenlet(leave) for _ in range(20)]\n"
            "for g in gs: g.switch()\n" + end)
    result = helpers.python("-c", code)
    assert result.returncode == {"sys.exit(3)": 3, "raise KeyError": 1}.get(end, 0), result.stderr


@pytest.mark.outside
def test_installed_it_is_not_imported_before_somebody_asks():
    code = ("import sys, fibril.greenlet as m\nm.install()\nassert 'greenlet' not in sys.modules\n"
            "import greenlet._greenlet\nassert greenlet is m and greenlet._greenlet is m._greenlet\n"
            "assert m.__spec__.name == 'fibril.greenlet' and m.__name__ == 'fibril.greenlet'\n"
            "del sys.modules['greenlet'], sys.modules['greenlet._greenlet']\nm.install()\n"
            "from greenlet import greenlet as g\nassert g is m.greenlet\nprint('fine')")
    done = helpers.python("-c", code)
    assert (done.stdout, done.stderr) == ("fine\n", "")


@pytest.mark.outside
def test_installed_it_is_what_others_import():
    code = ("import fibril.greenlet\nfibril.greenlet.install(); fibril.greenlet.install()\n"
            "import greenlet, greenlet._greenlet\nfrom greenlet import greenlet as g, getcurrent\n"
            "assert g is fibril.greenlet.greenlet and greenlet._greenlet.greenlet is g\n"
            "assert g.getcurrent is getcurrent and g.GreenletExit is greenlet.GreenletExit\n"
            "print(greenlet._C_API)")
    result = helpers.python("-c", code)
    assert result.returncode == 0 and '"greenlet._C_API"' in result.stdout, result.stderr
    result = helpers.python("-m", "fibril", "--greenlet", "-c", "import greenlet; print(greenlet.__name__)")
    assert result.stdout == "fibril.greenlet\n", result.stderr


EXTENSION = """
#include <greenlet.h>
static PyObject *test(PyObject *self, PyObject *run)
{
    PyGreenlet_Import();
    PyGreenlet *now = PyGreenlet_GetCurrent(), *g = PyGreenlet_New(run, NULL);
    if (!g || !PyGreenlet_MAIN(now) || PyGreenlet_STARTED(g) || !PyGreenlet_Check(g)) return NULL;
    PyObject *args = Py_BuildValue("(ii)", 1, 2), *a = PyGreenlet_Switch(g, args, NULL);
    if (!a || !PyGreenlet_ACTIVE(g) || PyGreenlet_GetParent(g) != now) return NULL;
    PyObject *b = PyGreenlet_Throw(g, PyExc_KeyError, args, NULL);
    return b ? Py_BuildValue("(OOi)", a, b, PyGreenlet_ACTIVE(g)) : NULL;
}
static PyMethodDef methods[] = {{"test", test, METH_O, 0}, {0, 0, 0, 0}};
static struct PyModuleDef definition = {PyModuleDef_HEAD_INIT, "uses_greenlet", 0, -1, methods, 0, 0, 0, 0};
PyMODINIT_FUNC PyInit_uses_greenlet(void) { return PyModule_Create(&definition); }
"""


@pytest.mark.outside
def test_extensions_use_the_c_interface(tmp_path):
    compiler = os.environ.get("CC", "cc").split()[0]
    header = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "ext")
    source = tmp_path / "uses_greenlet.c"
    source.write_text(EXTENSION)
    target = tmp_path / "uses_greenlet.so"
    try:
        subprocess.run([compiler, "-shared", "-fPIC", "-I" + sysconfig.get_path("include"), "-I" + header, "-o",
                        str(target), str(source)], check=True)
    except OSError:
        pytest.skip("no compiler")
    code = ("import sys, fibril.greenlet as m\nm.install()\n"
            f"sys.path.insert(0, {str(tmp_path)!r})\nimport uses_greenlet\n"
            "def run(a, b):\n"
            "    try: m.getcurrent().parent.switch(a + b)\n"
            "    except KeyError as e: return e.args\n"
            "print(uses_greenlet.test(run))")
    result = helpers.python("-c", code)
    assert result.stdout == "(3, (1, 2), 0)\n", result.stderr
