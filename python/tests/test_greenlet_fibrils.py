# SPDX-License-Identifier: MIT
"""Greenlets inside fibrils: a greenlet that waits parks its whole fibril, in the greenlet, and only that one."""

import gc
import socket
import threading
import time

import fibril
import helpers

helpers.need_frames()
from fibril import greenlet as module  # noqa: E402
from fibril.greenlet import getcurrent, greenlet  # noqa: E402
from greenlet_model import Model, Real  # noqa: E402

ISOLATED = True


def directly(fn, wish):
    return fn(wish)


def test_each_fibril_has_a_main_greenlet():
    mains = {getcurrent()}

    def run():
        mains.add(getcurrent())
        assert getcurrent().parent is None

    handles = [fibril.spawn(run) for _ in range(5)]
    for handle in handles:
        handle.join()
    assert len(mains) == 6


def test_waiting_parks_the_fibril_in_the_greenlet():
    order = []

    def waits(name, seconds):
        order.append((name, "waits"))
        time.sleep(seconds)
        order.append((name, "goes on"))
        return name

    def run(name, seconds):
        inner = greenlet(waits)
        assert inner.switch(name, seconds) == name
        order.append((name, "ends"))

    handles = [fibril.spawn(run, "slow", 0.2), fibril.spawn(run, "quick", 0.05)]
    for handle in handles:
        handle.join()
    assert order == [("slow", "waits"), ("quick", "waits"), ("quick", "goes on"), ("quick", "ends"),
                     ("slow", "goes on"), ("slow", "ends")]


def test_greenlets_of_many_fibrils_do_not_disturb_each_other():
    """Every wish is followed by a yield to the other fibrils, on whatever stack that is."""
    failures = []

    def yielding(fn, wish):
        came = fn(wish)
        fibril.yield_()
        return came

    def work(seed):
        if Real(seed, module, "copied", yielding).run() != Model(seed).run():
            failures.append(seed)

    handles = [fibril.spawn(work, seed) for seed in range(20)]
    for handle in handles:
        handle.join()
    assert not failures


def test_threads_of_threading_too():
    gc.disable()  # the model knows nothing of when a circle of greenlets is found
    results = []

    def work(seed):
        results.append(Real(seed, module, "own", directly).run() == Model(seed).run())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [True] * 10


def test_sockets_inside_greenlets():
    a, b = socket.socketpair()

    def reader():
        got = [b.recv(10)]
        getcurrent().parent.switch(got[0])
        got.append(b.recv(10))
        return got

    def run():
        g = greenlet(reader)
        first = g.switch()
        return first, g.switch()

    handle = fibril.spawn(run)
    fibril.yield_()
    a.send(b"one")
    fibril.sleep(0.01)
    a.send(b"two")
    assert handle.join() == (b"one", [b"one", b"two"])


def test_a_cancelled_wait_ends_in_the_greenlet():
    log = []

    def waits():
        try:
            fibril.sleep(10)
        except fibril.Cancelled:
            log.append(getcurrent().parent is not None)
            raise

    def run():
        greenlet(waits).switch()

    handle = fibril.spawn(run)
    fibril.yield_()
    handle.cancel()
    try:
        handle.join()
    except fibril.Cancelled:
        log.append("cancelled")
    assert log == [True, "cancelled"]


def test_a_fibril_that_ends_lets_its_greenlets_go():
    kept = []

    def run():
        g = greenlet(lambda: getcurrent().parent.switch(1))
        g.switch()
        kept.append(g)

    for _ in range(30):
        fibril.spawn(run).join()
    assert all(g.dead for g in kept)
