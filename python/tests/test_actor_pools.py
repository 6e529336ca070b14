# SPDX-License-Identifier: MIT
"""Pools: who is lent what, and that nothing is lost."""

import logging
import time

import fibril
import helpers
from fibril import actors
from fibril.actors import Pool, PoolHandle

ISOLATED = True

logging.getLogger("fibril.actors").addHandler(logging.NullHandler())
logging.getLogger("fibril.actors").propagate = False


class Worker(fibril.Actor):
    """Has a number."""

    made = 0
    fails = 0
    blocks = None

    def __init__(self, base=0):
        if Worker.blocks is not None:
            Worker.blocks.wait()
        if Worker.fails:
            Worker.fails -= 1
            raise OSError("cannot begin")
        Worker.made += 1
        self.number = base + Worker.made

    def on_number(self):
        return self.number

    def on_sleep(self, seconds):
        time.sleep(seconds)

    def on_fail(self):
        raise ValueError("asked to")


def settle():
    for _ in range(200):
        fibril.yield_()


def until(true):
    for _ in range(3000):
        if true():
            return
        time.sleep(0.005)
    raise AssertionError("never")


def counted(pool, **expected):
    """The pool gets there, and so is it."""
    until(lambda: all(getattr(pool.counts(), name) == value for name, value in expected.items()))


def test_a_worker_is_lent_to_a_block_and_comes_back():
    pool = Pool(Worker, 100, size=2).start()
    with pool.worker() as first, pool.worker() as second:
        assert {first.call("number"), second.call("number")} == {101, 102}
        assert (pool.counts().idle, pool.counts().lent) == (0, 2)
        with helpers.raises(TimeoutError), pool.worker(timeout=0.01):
            pass
    assert (pool.counts().idle, pool.counts().lent, pool.counts().waiting) == (2, 0, 0)
    assert pool.call("number") in (101, 102) and pool.call(Worker.on_number, timeout=5) in (101, 102)
    assert "idle 2" in pool.status()


def test_who_waits_is_served_in_order():
    pool, order = Pool(Worker).start(), []

    def borrow(number):
        with pool.worker():
            order.append(number)

    with pool.worker():
        waiting = []
        for number in range(20):
            waiting.append(fibril.spawn(borrow, number))
            settle()
        assert order == [] and pool.counts().waiting == 20
    for each in waiting:
        each.join()
    assert order == list(range(20))


def test_more_are_started_while_somebody_waits_and_ended_when_nobody_does():
    pool = Pool(Worker, size=1, overflow=2).start()
    with pool.worker(), pool.worker(timeout=5), pool.worker(timeout=5):
        assert pool.counts().lent == 3
        with helpers.raises(TimeoutError), pool.worker(timeout=0.01):
            pass
    counted(pool, idle=1, lent=0, ending=0)
    assert pool.counts().started == 3 and pool.counts().died == 0


def test_no_more_wait_than_may():
    pool = Pool(Worker, waiting=1).start()
    with pool.worker():
        waiting = fibril.spawn(lambda: pool.call("number"))
        settle()
        with helpers.raises(actors.MailboxFull), pool.worker():
            pass
    waiting.join()
    counted(pool, idle=1)


def test_a_worker_comes_back_when_its_borrower_ends():
    pool = Pool(Worker).start()

    def borrow():
        pool.worker().__enter__()
        fibril.receive()

    borrower = actors.spawn(borrow)
    counted(pool, lent=1)
    borrower.kill()
    assert pool.call("number", timeout=5) == 1
    borrower = actors.spawn(borrow)
    counted(pool, lent=1)
    borrower.send("end")
    assert pool.call("number", timeout=5) == 1


def test_what_was_lent_to_one_who_gave_up_is_not_lost():
    pool = Pool(Worker).start()
    for _ in range(50):
        with pool.worker():
            waiting = fibril.spawn(pool.call, "number")
            settle()
        waiting.cancel()  # it is being lent just now
        try:
            assert waiting.join() == 1  # it was faster
        except fibril.Cancelled:
            pass
    counted(pool, idle=1, lent=0, waiting=0)


def test_a_worker_that_ends_is_replaced():
    pool = Pool(Worker, size=2, pause=0.001).start()
    with helpers.raises(fibril.ActorFailed):
        pool.call("fail")
    counted(pool, idle=2, died=1)
    assert pool.counts().last_error.type is ValueError
    with pool.worker() as handle:
        handle.kill()
        handle.join()
        counted(pool, idle=2, lent=0)
        with helpers.raises(fibril.ActorEnded):
            handle.call("number")
    counted(pool, idle=2, lent=0, died=2)


def test_what_cannot_begin_is_tried_again_after_pauses():
    pool = Pool(Worker, pause=0.001, pause_max=0.004).start()
    Worker.fails = 5
    with helpers.raises(fibril.ActorFailed):
        pool.call("fail")
    assert pool.call("number", timeout=30) == 2
    counts = pool.counts()
    assert (counts.failed, counts.started, counts.died) == (5, 2, 1) and isinstance(counts.last_error, OSError)


def test_a_slow_beginning_delays_nobody_else():
    pool = Pool(Worker, size=1, overflow=1).start()
    Worker.blocks = fibril.Event()
    with pool.worker() as first:
        waiting = fibril.spawn(pool.call, "number")
        counted(pool, starting=1, waiting=1)
        assert first.call("number") == 1
    assert waiting.join() == 1  # by the one that came back
    assert pool.call("number", timeout=5) == 1
    Worker.blocks.set()
    counted(pool, starting=0, idle=1, ending=0)


def test_start_raises_what_a_worker_raised_and_leaves_none():
    Worker.fails = 1
    before = actors.counts()
    with helpers.raises(OSError):
        Pool(Worker, size=3).start()
    until(lambda: actors.counts()["spawned"] - actors.counts()["ended"] <= 1 + before["spawned"] - before["ended"])


def test_a_call_that_takes_too_long_ends_its_worker():
    pool = Pool(Worker, size=1).start()
    with helpers.raises(TimeoutError):
        pool.call("sleep", 1000, timeout=0.02)
    assert pool.call("number", timeout=30) == 2
    assert pool.counts().discarded == 1


def test_a_worker_that_does_not_end_is_killed():
    class Stubborn(Worker):
        def on_block(self):
            with fibril.shield():
                time.sleep(0.2)

    pool = Pool(Stubborn, shutdown=0.02).start()
    with pool.worker() as handle:
        handle.cast("block")
        settle()
        pool.discard(handle)
        counted(pool, discarded=1, idle=1)
    counted(pool, ending=0, died=0)
    assert not handle.alive


def test_newest_first_lends_the_one_that_came_last():
    for newest, expected in ((True, [3, 3, 3]), (False, [3, 1, 2])):
        Worker.made = 0
        pool = Pool(Worker, size=3, newest_first=newest).start()
        lent = [pool.worker() for _ in range(3)]
        by_number = {handle.call("number"): handle for handle in [each.__enter__() for each in lent]}
        for number in (3, 1, 2) if not newest else (1, 2, 3):
            pool.checkin(by_number[number])
        assert [pool.call("number") for _ in range(3)] == expected


def test_idle_workers_are_checked():
    bad = {2}
    pool = Pool(Worker, size=3, check=lambda handle: handle.call("number") not in bad, check_seconds=0.01).start()
    counted(pool, discarded=1, idle=3)
    bad.clear()
    raising = Pool(Worker, check=lambda handle: handle.call("fail"), check_seconds=0.01, pause=0.001).start()
    until(lambda: raising.counts().died >= 3)


def test_functions_are_workers_too():
    def echo(prefix):
        while True:
            match fibril.receive():
                case actors.Request("say", (text,)) as request:
                    request.reply(prefix + text)

    pool = Pool(echo, ">", size=2).start(name="echoes")
    assert pool.call("say", "x") == ">x"
    assert PoolHandle(actors.whereis("echoes").id).call("say", "y") == ">y"


def test_the_end_of_a_pool_ends_its_workers_and_tells_those_who_wait():
    for end in (lambda pool: pool.stop(), lambda pool: pool.exit(), lambda pool: pool.kill()):
        pool = Pool(Worker, size=2, check=lambda handle: True).start()
        with pool.worker() as one, pool.worker() as two:
            waiting = fibril.spawn(pool.call, "number")
            settle()
            end(pool)
            with helpers.raises(fibril.ActorEnded):
                waiting.join()
            one.join(5)
            two.join(5)
        with helpers.raises(fibril.ActorEnded):
            pool.call("number")


def test_a_pool_that_is_killed_while_a_worker_begins_leaves_none():
    pool = Pool(Worker, size=1, overflow=3, shutdown=0.05).start()
    Worker.blocks = fibril.Event()
    with pool.worker():
        waiting = [fibril.spawn(pool.call, "number") for _ in range(3)]
        counted(pool, starting=3)
        pool.kill()
        pool.join(30)
    for each in waiting:
        with helpers.raises(fibril.ActorEnded):
            each.join()
    Worker.blocks.set()
    until(lambda: actors.counts()["spawned"] - actors.counts()["ended"] <= 5)
    assert Worker.made == 1


def test_a_pool_is_a_child_of_a_supervisor():
    supervisor = actors.Supervisor([Pool(Worker, size=2).child(id="workers", name="workers")]).start()
    pool = PoolHandle(supervisor["workers"].id)
    assert pool.call("number") == 1
    pool.kill()
    pool.join(5)
    until(lambda: actors.whereis("workers") not in (None, pool))
    assert PoolHandle(actors.whereis("workers").id).counts(timeout=5).idle == 2


def test_os_threads_borrow_too():
    pool = Pool(Worker, size=2).start()
    threads = [fibril.os_thread(lambda: [pool.call("number") for _ in range(50)]) for _ in range(4)]
    for thread in threads:
        thread.join()
    counted(pool, idle=2, lent=0, waiting=0)


def test_what_makes_no_sense_is_refused():
    for options in ({"size": 0}, {"overflow": -1}, {"waiting": "many"}, {"pause": 0}, {"policy": "hope"}):
        with helpers.raises(ValueError):
            Pool(Worker, **options)
    for what in (int, "Worker", None):
        with helpers.raises(TypeError):
            Pool(what)
