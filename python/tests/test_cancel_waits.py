# SPDX-License-Identifier: MIT
"""A cancellation comes out of whatever CPython waits in as one exception, Cancelled, and only once."""

import concurrent.futures
import fcntl
import multiprocessing
import os
import queue
import select
import socket
import subprocess
import sys
import tempfile
import threading
import time

import pytest

import fibril
import helpers

ISOLATED = True


def held(lock):
    lock.acquire()
    return lock


def with_lock(lock):
    with lock:
        raise AssertionError("entered without the lock")


def other_thread_holds(lock):
    threading.Thread(target=lambda: (lock.acquire(), time.sleep(1000)), daemon=True).start()
    time.sleep(0.001)
    return lock


def condition_wait(timeout=None):
    condition = threading.Condition()
    with condition:
        try:
            condition.wait(timeout)
        finally:
            assert condition._is_owned()  # pylint: disable=protected-access


def full(sock):
    sock.setblocking(False)
    try:
        while True:
            sock.send(bytes(1 << 16))
    except BlockingIOError:
        sock.setblocking(True)
    return sock


def pair():
    a, b = socket.socketpair()
    pair.keep.append(b)
    return a


pair.keep = []


def timed_pair():
    a = pair()
    a.settimeout(100)
    return a


def listening(kind=socket.SOCK_STREAM):
    s = socket.socket(socket.AF_INET, kind)
    s.bind(("127.0.0.1", 0))
    if kind == socket.SOCK_STREAM:
        s.listen()
    return s


def pipe():
    r, w = os.pipe()
    pair.keep.append(w)
    return r


def full_pipe():
    r, w = os.pipe()
    os.set_blocking(w, False)
    try:
        while True:
            os.write(w, bytes(1 << 12))
    except BlockingIOError:
        os.set_blocking(w, True)
    pair.keep.append(r)
    return w


def poll():
    p = select.poll()
    p.register(pipe(), select.POLLIN)
    return p.poll()


def epoll():
    p = select.epoll()
    p.register(pipe(), select.EPOLLIN)
    return p.poll()


def full_queue():
    q = queue.Queue(1)
    q.put(1)
    return q


def child():
    p = subprocess.Popen(["sleep", "1000"])  # pylint: disable=consider-using-with
    pair.keep.append(p)
    return p


def fifo():
    path = tempfile.mktemp(prefix="fibril-test-")
    os.mkfifo(path)
    pair.paths.append(path)
    return path


pair.paths = []


def locked_file():
    """A file that another opening of it has locked."""
    one = tempfile.NamedTemporaryFile()  # pylint: disable=consider-using-with
    fcntl.flock(one, fcntl.LOCK_EX)
    pair.keep += [one, open(one.name, "wb")]
    return pair.keep[-1]


def file_locked_elsewhere():
    """The same by another process."""
    file = tempfile.NamedTemporaryFile()  # pylint: disable=consider-using-with
    code = f"import fcntl, time; f = open({file.name!r}, 'w'); fcntl.lockf(f, fcntl.LOCK_EX); print(1, flush=True)"
    holder = subprocess.Popen([sys.executable, "-c", code + "; time.sleep(1000)"], stdout=subprocess.PIPE)
    pair.keep += [file, holder]
    assert holder.stdout.readline()
    return file


def with_patience(wait):
    """What has to start a process first: that is no part of the wait."""
    with fibril.shield():
        subject = file_locked_elsewhere()
    return wait(subject)


LOCKS = {
    "acquire": lambda: held(threading.Lock()).acquire(),
    "acquire with timeout": lambda: held(threading.Lock()).acquire(timeout=1000),
    "with": lambda: with_lock(held(threading.Lock())),
    "rlock": lambda: other_thread_holds(threading.RLock()).acquire(),
    "with rlock": lambda: with_lock(other_thread_holds(threading.RLock())),
    "condition": condition_wait, "condition with timeout": lambda: condition_wait(1000),
    "event": lambda: threading.Event().wait(), "event with timeout": lambda: threading.Event().wait(1000),
    "semaphore": lambda: threading.Semaphore(0).acquire(), "barrier": lambda: threading.Barrier(2).wait(),
    "queue get": lambda: queue.Queue().get(), "queue put": lambda: full_queue().put(2),
    "simple queue": lambda: queue.SimpleQueue().get(), "simple queue with timeout":
        lambda: queue.SimpleQueue().get(timeout=1000),
    "join": lambda: other_thread_holds(threading.Lock()) and threading.enumerate()[-1].join(),
    "future": lambda: concurrent.futures.Future().result(),
    "semaphore of multiprocessing": lambda: multiprocessing.Semaphore(0).acquire(),
}
CALLS = {
    "sleep": lambda: time.sleep(1000), "recv": lambda: pair().recv(1), "recv with timeout": lambda:
        timed_pair().recv(1), "recv_into": lambda: pair().recv_into(bytearray(1)), "recvmsg": lambda:
        pair().recvmsg(1), "recvfrom": lambda: listening(socket.SOCK_DGRAM).recvfrom(1),
    "send": lambda: full(pair()).send(b"x"), "sendall": lambda: full(pair()).sendall(bytes(1 << 20)),
    "accept": lambda: listening().accept(), "makefile": lambda: pair().makefile("rb").read(1),
    "makefile readline": lambda: pair().makefile("r").readline(), "select": lambda: select.select([pipe()], [], []),
    "poll": poll, "epoll": epoll, "os.read": lambda: os.read(pipe(), 1), "os.write": lambda:
        os.write(full_pipe(), bytes(4096)), "file": lambda: open(pipe(), "rb").read(1), "raw file": lambda:
        open(pipe(), "rb", 0).read(1),
    "waitpid": lambda: os.waitpid(child().pid, 0), "subprocess": lambda: child().wait(),
    "fifo to read": lambda: open(fifo(), "rb"), "fifo to write": lambda: os.open(fifo(), os.O_WRONLY),
    "flock": lambda: fcntl.flock(locked_file(), fcntl.LOCK_EX),
    "lockf": lambda: with_patience(lambda file: fcntl.lockf(file, fcntl.LOCK_EX)),
    "fibril.sleep": lambda: fibril.sleep(1000), "channel": lambda: fibril.Channel().recv(),
}
WAITS = {**LOCKS, **CALLS}


def attempt(wait):
    """How the wait ends, and that the fibril can wait again afterwards."""
    try:
        WAITS[wait]()
    except BaseException as error:  # pylint: disable=broad-exception-caught
        outcome = [type(error), error.__context__]
    else:
        outcome = ["returned"]
    try:
        assert not fibril.cancelled()
        for _ in range(3):
            time.sleep(0.0005)
            fibril.sleep(0)
        with threading.Lock():
            assert not queue.SimpleQueue().qsize()
    except BaseException as error:  # pylint: disable=broad-exception-caught
        outcome.append(error)
    return outcome


def waits_now(f):
    time.sleep(0.02)
    assert f.alive


def end():
    for each in pair.keep:
        if isinstance(each, subprocess.Popen):
            each.kill()
    for path in pair.paths:
        os.unlink(path)
    os._exit(0)


@pytest.mark.parametrize("wait", list(WAITS))
def test_a_spawned_fibril_that_is_cancelled_raises_cancelled_once(wait):
    f = fibril.spawn(attempt, wait)
    waits_now(f)
    assert f.cancel()
    assert f.join(20) == [fibril.Cancelled, None]
    end()


@pytest.mark.parametrize("wait", list(WAITS))
def test_a_thread_that_is_cancelled_raises_cancelled_once(wait):
    outcomes, handles = [], []

    def run():
        handles.append(fibril.current())
        outcomes.append(attempt(wait))

    t = threading.Thread(target=run, daemon=True)
    t.start()
    time.sleep(0.02)
    assert handles[0].cancel()
    t.join(20)
    assert outcomes == [[fibril.Cancelled, None]]
    end()


@pytest.mark.parametrize("wait", list(WAITS))
def test_a_timeout_ends_the_wait(wait):
    def body():
        try:
            with fibril.timeout(0.02):
                WAITS[wait]()
        except TimeoutError:
            time.sleep(0.001)
            return "timed out"

    assert fibril.spawn(body).join(20) == "timed out"
    with pytest.raises(TimeoutError), fibril.timeout(0.02):
        WAITS[wait]()
    end()


@pytest.mark.outside
def test_a_cancelled_wait_for_a_lock_says_nothing_and_leaves_the_lock_alone():
    done = helpers.python("-m", "fibril", "-c", """if True:
        import fibril, threading, time
        lock, entered = threading.Lock(), []
        def work():
            with lock:
                entered.append(1)
        lock.acquire()
        each = [fibril.spawn(work) for _ in range(100)]
        time.sleep(0.01)
        for f in each[::2]:
            f.cancel()
        time.sleep(0.01)
        assert lock.locked() and not entered
        lock.release()
        outcomes = []
        for f in each:
            try:
                outcomes.append(f.join(10))
            except fibril.Cancelled:
                outcomes.append("cancelled")
        assert outcomes == ["cancelled", None] * 50, outcomes
        assert len(entered) == 50 and not lock.locked()
        print("good")
        """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "good\n", "")


def test_who_a_thread_is_stays_the_same_when_a_wait_for_a_lock_is_cancelled():
    def body():
        before = threading.get_ident()
        try:
            held(threading.Lock()).acquire()
        except fibril.Cancelled:
            return before == threading.get_ident() != threading.main_thread().ident
        return None

    for _ in range(20):
        f = fibril.spawn(body)
        time.sleep(0.001)
        f.cancel()
        assert f.join() is True


def test_a_shield_holds_it_back_from_locks_and_calls():
    lock, (a, b) = held(threading.Lock()), socket.socketpair()

    def body():
        seen = []
        try:
            with fibril.shield():
                seen.append(lock.acquire())
                seen.append(a.recv(1))
            fibril.sleep(1000)
        except fibril.Cancelled:
            seen.append("cancelled")
        return seen

    f = fibril.spawn(body)
    waits_now(f)
    f.cancel()
    waits_now(f)
    lock.release()
    waits_now(f)
    b.send(b"x")
    assert f.join(10) == [True, b"x", "cancelled"]


@pytest.mark.plain
def test_os_errors_of_classes_made_before_are_what_they_were():
    class Told(OSError):
        def __init__(self, why, *, answer=None):
            super().__init__(7, why)
            self.answer = answer

    fibril.enable()
    error = Told("no", answer=3)
    assert (error.args, error.errno, error.answer) == ((7, "no"), 7, 3)


def test_os_errors_are_what_they_were():
    def body():
        error = OSError(125, "mine")
        assert (type(error), error.errno, error.strerror) == (OSError, 125, "mine")
        assert type(OSError(2, "x")) is FileNotFoundError
        assert type(OSError.__new__(FileNotFoundError, 2, "x")) is FileNotFoundError
        assert OSError(10 ** 40, "x").args == (10 ** 40, "x") and OSError().args == ()

        class Mine(ConnectionError):
            def __new__(cls, *args):
                return super().__new__(cls, *args)

        assert Mine(1, "y").errno == 1

        class Told(OSError):
            """As those of requests and others: its own arguments, some by keyword."""

            def __init__(self, why, *, answer=None):
                super().__init__(7, why)
                self.answer = answer

        class Inherits(Told):
            pass

        class MakesToo(Told):
            def __new__(cls, *args, **kwargs):
                return super().__new__(cls)

        for each in (Told, Inherits):
            error = each("no", answer=3)
            assert (error.args, error.errno, error.strerror, error.answer) == ((7, "no"), 7, "no", 3)
        assert MakesToo("no", answer=3).answer == 3
        return True

    assert body() and fibril.spawn(body).join()
