# SPDX-License-Identifier: MIT
"""Recursion without end: RecursionError in the fibril it happens in, and the process lives."""

import json
import subprocess
import sys

import pytest

import fibril
import helpers
import recursions
from wsgi_server import Server

helpers.need_frames()  # by public interface alone a full C stack ends the process, with a report
ISOLATED = True


def outcome_of(kind):
    try:
        recursions.KINDS[kind]()
    except RecursionError:
        return "recursion"
    except MemoryError as e:  # what the parser of 3.14 says where the C stack is full
        return "recursion" if "Parser stack overflowed" in str(e) else "out of memory"
    return "returned"


@pytest.mark.parametrize("kind", list(recursions.KINDS))
def test_a_spawned_fibril_gets_recursion_error(kind):
    others = [fibril.spawn(fibril.sleep, 0.001) for _ in range(10)]
    for _ in range(3):
        assert fibril.spawn(outcome_of, kind).join() == "recursion"
    for each in others:
        each.join()


def test_all_kinds_in_one_fibril_which_never_parks():
    def all_kinds():
        return {outcome_of(kind) for kind in recursions.KINDS for _ in range(2)}

    assert fibril.spawn(all_kinds).join() == {"recursion"}


def test_all_kinds_in_one_fibril_which_parks_between_them():
    def all_kinds():
        for _ in range(2):
            for kind in recursions.KINDS:
                assert outcome_of(kind) == "recursion", kind
                fibril.yield_()
        return "done"

    assert fibril.spawn(all_kinds).join() == "done"


def levels(n):
    return 0 if n == 0 else 1 + levels(n - 1)


def test_the_limit_is_the_old_one_after_the_next_wait():
    def body():
        assert outcome_of("getattr") == "recursion"
        fibril.yield_()
        fibril.yield_()
        return levels(sys.getrecursionlimit() - 50)

    assert fibril.spawn(body).join() == sys.getrecursionlimit() - 50


def test_the_exception_may_be_handled_deep_inside_and_waited_in():
    def dig(depth):
        class Deep:
            def __getattr__(self, name):
                try:
                    return getattr(self, name + "x")
                except RecursionError:
                    if len(name) > 30:
                        raise
                    fibril.sleep(0)
                    return depth

        return Deep().a

    for i in range(20):
        assert fibril.spawn(dig, i).join() == i


def test_a_thousand_fibrils_fill_their_stacks_and_the_next_ones_have_whole_ones():
    for _ in range(10):
        each = [fibril.spawn(outcome_of, kind) for kind in ("getattr", "sort", "repr", "property") for _ in range(25)]
        assert {f.join() for f in each} == {"recursion"}


GREEDY = """
int greedy(int n)
{
    volatile char room[40000];
    for (unsigned i = 0; i < sizeof room; i += 512) room[i] = (char)n;
    return room[1024];
}
"""


@pytest.mark.outside
def test_c_code_that_takes_much_at_once_near_the_end_of_the_stack(tmp_path):
    source, library = tmp_path / "greedy.c", tmp_path / "greedy.so"
    source.write_text(GREEDY)
    try:
        subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source)], check=True)
    except FileNotFoundError:
        pytest.skip("no C compiler")
    done = helpers.python("-m", "fibril", "-c", f"""if True:
        import ctypes, fibril
        greedy = ctypes.CDLL({str(library)!r}).greedy
        class Deep:
            @property
            def deep(self):
                assert greedy(7) == 7
                return self.deep
        def dig():
            try:
                Deep().deep
            except RecursionError:
                return "recursion"
        for _ in range(5):
            assert fibril.spawn(dig).join() == "recursion"
        """)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.outside
@pytest.mark.parametrize("mprotect", [False, True])
def test_a_request_that_recurses_is_answered_500_and_the_server_lives(mprotect):
    with Server("wsgi_apps:recursing", env={"FIBRIL_GUARD_MPROTECT": "1"} if mprotect else None) as server:
        for kind in recursions.KINDS:
            status, _, _ = server.get("/" + kind.replace(" ", "%20"))
            assert status == 500, (kind, server.errors())
        assert server.get("/none")[0] == 200
        said = server.errors()
        assert said.count("RecursionError") + said.count("Parser stack overflowed") >= len(recursions.KINDS)
        assert json.loads(server.get("/none")[2]) == "fine"
