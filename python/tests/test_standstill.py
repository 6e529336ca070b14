# SPDX-License-Identifier: MIT
"""Reports of deadlocks: said where nothing can go on, and never where a program just waits.

A program that is well gets a signal, or an alarm of the system's, after more time than a look takes to come.
"""

import threading

import pytest

import helpers

HEAD = """if True:
    import fibril, os, queue, signal, sys, _thread, threading, time
    lock, other, rlock, condition = threading.Lock(), threading.Lock(), threading.RLock(), threading.Condition()
    event, q, simple, barrier = threading.Event(), queue.Queue(), queue.SimpleQueue(), threading.Barrier(2)
    def start(function, *args, daemon=False):
        t = threading.Thread(target=function, args=args, name=function.__name__, daemon=daemon)
        t.start()
        return t
    def one():
        with lock:
            time.sleep(0.01)
            with other: pass
    def two():
        with other:
            time.sleep(0.01)
            with lock: pass
    def stop_soon(*unused):
        os.kill(os.getpid(), signal.SIGTERM)
    _report, _write = fibril._standstill.look, os.write
    def look():
        if _report():
            print("reported", flush=True)
            os._exit(7)
        print("looked", flush=True)
        return False
    fibril._fibril._on_standstill(look, 0.03)
"""
SAID = "fibril: deadlock: no fibril can go on"


def run(code, seconds=30):
    """The program is ended by the report; one that is well looked at twice is."""
    text = HEAD + "".join("    " + line + "\n" for line in code.strip().splitlines())
    return helpers.python("-m", "fibril", "-c", text, seconds=seconds)


# From 3.14 on, and in later 3.13s, a lock is a byte in its object, taken without the C library, and nobody knows who
# has it. Before, the object refers to a semaphore.
KNOWS_TAKERS = type(threading.Lock()).__basicsize__ > 24

DEADLOCKS = {
    "two locks, joined": "for t in [start(one), start(two)]: t.join()",
    "two locks, at the end": "start(one); start(two)",
    "a queue that nobody fills": "start(q.get).join()",
    "a lock of the joiner": "lock.acquire()\nt = start(lock.acquire)\nt.join()",
    "joining each other": "t = []\nt += [start(lambda: (time.sleep(0.01), t[1].join())), start(lambda: (time.sleep(0.01), t[0].join()))]\n"
                          "t[0].join()",
    "spawned": "f = fibril.spawn(fibril.Channel().recv, name='reader')\nf.join()",
    "spawned, at the end": "fibril.spawn(lambda: event.wait())",
    "a scope": "with fibril.Scope() as s: s.spawn(event.wait)",
    "a channel": "fibril.Channel().recv()",
    "a channel beside workers": "for _ in range(3): start(q.get, daemon=True)\nfibril.Channel(1).recv()",
    "through two threads": "t = start(event.wait)\nstart(lambda: t.join(), daemon=True).join()",
    "a barrier": "start(barrier.wait).join()",
}
CIRCLES = {
    "two locks beside a main that waits for a signal": "start(one, daemon=True); start(two, daemon=True); event.wait()",
    "two locks and a handler": "signal.signal(signal.SIGUSR1, stop_soon)\nfor t in [start(one), start(two)]: t.join()",
    "a lock of the joiner, a daemon's": "lock.acquire()\nt = start(lock.acquire, daemon=True)\nt.join()",
    "rlocks": "rlock.acquire()\ndef three():\n    with lock, rlock: pass\nstart(three); time.sleep(0.01)\nlock.acquire()",
}


@pytest.mark.parametrize("name", [*DEADLOCKS, *CIRCLES])
def test_a_deadlock_is_reported(name):
    if name in CIRCLES and not KNOWS_TAKERS:
        pytest.skip("this version's locks do not tell who has taken them")
    done = run({**DEADLOCKS, **CIRCLES}[name])
    assert (done.returncode, done.stdout) == (7, "reported\n"), done.stderr
    assert done.stderr.startswith(SAID) and done.stderr.count(SAID) == 1
    assert 'fibril 1 "MainThread" waits' in done.stderr and '  File "<string>", line ' in done.stderr


# Each is ended by an alarm, which runs no Python, after two looks.
WELL = {
    "an event, for a signal": "event.wait()",
    "pause": "signal.pause()",
    "a lock as an event": "lock.acquire(); lock.acquire()",
    "idle workers": "for _ in range(3): start(q.get, daemon=True); start(simple.get, daemon=True)\nevent.wait()",
    "joining idle daemons": "for t in [start(q.get, daemon=True) for _ in range(3)]: t.join()",
    "joining daemons in a pool": "for t in [start(simple.get, daemon=True) for _ in range(3)]: t.join()",
    "a condition": "with condition: condition.wait()",
    "a handler that may help": "signal.signal(signal.SIGUSR1, lambda *_: q.put(1))\nstart(q.get).join()",
    "idle fibrils": "fibril.spawn(fibril.Channel().recv, daemon=True); fibril.spawn(event.wait, daemon=True)\nevent.wait()",
    "a pool": "import concurrent.futures as c\nwith c.ThreadPoolExecutor(3) as pool:\n    list(pool.map(int, '123'))\n"
              "    event.wait()",
}


@pytest.mark.parametrize("name", WELL)
def test_waiting_is_no_deadlock(name):
    done = run("signal.setitimer(signal.ITIMER_REAL, 0.5)\n" + WELL[name])
    assert done.stderr == "" and done.stdout.startswith("looked\nlooked\n"), done


# Something is left that may wake them: nobody looks.
MOVING = {
    "sigwait": "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1]); signal.sigwait([signal.SIGUSR1])",
    "an OS thread": "fibril.os_thread(time.sleep, 1000, daemon=True); start(q.get).join()",
    "a time": "start(q.get, True, 1000).join()",
    "a socket": "import socket\na, b = socket.socketpair()\nstart(a.recv, 1, daemon=True); start(q.get).join()",
    "a child": "import subprocess\nstart(subprocess.call, ['sleep', '4'], daemon=True); start(q.get).join()",
}


@pytest.mark.parametrize("name", MOVING)
def test_where_something_may_come_there_is_no_look(name):
    done = run("signal.setitimer(signal.ITIMER_REAL, 0.3)\n" + MOVING[name])
    assert (done.stdout, done.stderr) == ("", ""), done


def test_a_report_names_who_has_the_lock_and_where():
    if not KNOWS_TAKERS:
        pytest.skip("this version's locks do not tell who has taken them")
    said = run(DEADLOCKS["two locks, joined"]).stderr
    lines = said.splitlines()
    assert 'fibril 3 "one" waits for a lock that fibril 4 "two" has taken, for' in said, said
    assert 'fibril 4 "two" waits for a lock that fibril 3 "one" has taken, for' in said
    assert 'fibril 1 "MainThread" waits for the end of fibril 3 "one", for' in said
    assert any(line.endswith(" in two") for line in lines) and any(line.endswith(" in join") for line in lines)


def test_the_report_does_not_end_the_program_and_comes_once():
    done = helpers.python("-m", "fibril", "-c", """if True:
        import os, queue, signal, threading
        t = threading.Thread(target=queue.Queue().get)
        t.start()
        signal.setitimer(signal.ITIMER_REAL, 2.5)
        t.join()
        """)
    assert done.returncode == -14 and done.stderr.count(SAID) == 1 and done.stderr.startswith(SAID)


def test_it_can_be_turned_off():
    done = helpers.python("-c", """if True:
        import fibril, queue, signal, threading
        fibril.enable(deadlocks=False)
        t = threading.Thread(target=queue.Queue().get)
        t.start()
        signal.setitimer(signal.ITIMER_REAL, 2)
        t.join()
        """)
    assert (done.returncode, done.stderr) == (-14, "")


def test_a_crowd_is_looked_at_quickly():
    done = run("""
def work(i):
    event.wait()
threads = [threading.Thread(target=work, args=(i,)) for i in range(2000)]
for t in threads: t.start()
threads[0].join()
""")
    assert done.returncode == 7 and "and 1969 more" in done.stderr, done.stderr
