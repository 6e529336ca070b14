# SPDX-License-Identifier: MIT
"""fibril.greenlet in a plain process: what it costs, where that must not grow or be paid again and again."""

import gc
import os
import resource
import threading
import tracemalloc

import helpers
import pytest

helpers.need_frames()
from fibril.greenlet import getcurrent, greenlet  # noqa: E402

ISOLATED = True
pytestmark = pytest.mark.plain


def leave(value=None):
    return getcurrent().parent.switch(value)


def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def resident():
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


def mappings():
    with open("/proc/self/maps", encoding="ascii") as maps:
        return len(maps.readlines())


def guards_cost_nothing():
    """Whether Linux has guard pages that are no mappings (6.13)."""
    return tuple(int(n) for n in os.uname().release.split("-")[0].split(".")[:2]) >= (6, 13)


def test_calls_at_the_edge_of_a_greenlet_s_frames_map_nothing():
    """At some depth the frame of a call does not fit; the chunk that it gets has to come from the pool."""
    def wide(a, b, c, d, e, f, g, h):
        i = j = k = l = m = n = o = p = q = r = s = t = u = v = w = x = y = z = a
        return b, c, d, e, f, g, h, i, j, k, l, m, n, o, p, q, r, s, t, u, v, w, x, y, z

    def below(depth):
        if depth:
            below(depth - 1)
        for _ in range(1000):
            wide(1, 2, 3, 4, 5, 6, 7, 8)

    greenlet(below).switch(12)
    before = faults()
    greenlet(below).switch(12)
    assert faults() - before < 500


def test_a_million_switches_leave_nothing():
    def run():
        while True:
            try:
                leave([])
            except KeyError:
                pass

    def round_of(n):
        several = [greenlet(run) for _ in range(20)]
        for _ in range(n):
            for g in several:
                g.switch()
            several[0].throw(KeyError)
        for _ in range(n):
            greenlet(lambda: leave([])).switch()

    round_of(500)
    gc.collect()
    objects, before = len(gc.get_objects()), resident()
    round_of(25000)
    gc.collect()
    assert len(gc.get_objects()) - objects < 50
    assert resident() - before < 4 << 20


def test_threads_give_their_stacks_back():
    """Each thread that has greenlets has run stacks of its own, which are mappings."""
    def run():
        g = greenlet(leave)
        g.switch()
        g.switch()

    def threads(n):
        for _ in range(n):
            thread = threading.Thread(target=run)
            thread.start()
            thread.join()

    threads(10)
    before = mappings()
    threads(300)
    assert mappings() - before < 50


def test_many_threads_with_greenlets_fit_the_mappings_of_a_process():
    """vm.max_map_count allows 65,530 by default. Before Linux 6.13 each guard page costs two mappings."""
    n, entered, done = 500, threading.Semaphore(0), threading.Event()

    def run():
        g = greenlet(leave)
        g.switch()
        entered.release()
        done.wait()
        g.switch()

    before = mappings()
    threads = [threading.Thread(target=run) for _ in range(n)]
    for thread in threads:
        thread.start()
    for _ in range(n):
        entered.acquire()
    used = mappings() - before
    done.set()
    for thread in threads:
        thread.join()
    assert used < 30 * n, used


def test_thousands_of_fibrils_have_greenlets_at_once():
    """More than fit with two mappings for each of nine guard pages."""
    import fibril
    fibril.enable()
    n = 5000 if guards_cost_nothing() else 500
    began, leave_all = fibril.Semaphore(0), fibril.Event()

    def run():
        g = greenlet(leave)
        g.switch(1)
        began.release()
        leave_all.wait()
        return g.switch(2)

    fibrils = [fibril.spawn(run) for _ in range(n)]
    for _ in range(n):
        began.acquire()
    leave_all.set()
    assert [f.join() for f in fibrils] == [2] * n


def test_objects_of_ended_greenlets_are_freed():
    def run(size):
        data = bytes(size)
        leave()
        return len(data)

    tracemalloc.start()
    for _ in range(200):
        g = greenlet(run)
        g.switch(100000)
        g.switch()
        h = greenlet(run)
        h.switch(100000)
        del h
    del g
    gc.collect()
    assert tracemalloc.get_traced_memory()[0] < 2000000
