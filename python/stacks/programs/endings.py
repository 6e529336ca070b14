# SPDX-License-Identifier: MIT
"""Ways for a process to end or to multiply while many threads are parked. The second argument names the way."""
import atexit
import multiprocessing
import os
import signal
import sys
import threading
import time

from common import count, report

n, way = count(), sys.argv[2]
there, never = threading.Semaphore(0), threading.Event()


def park():
    there.release()
    never.wait()


def crowd(daemon):
    for _ in range(n):
        threading.Thread(target=park, daemon=daemon).start()
    for _ in range(n):
        there.acquire()


def double(x):
    return 2 * x


def daemons():
    """Daemon threads are parked when the interpreter ends."""
    atexit.register(report, errors=0, os_threads=0, way=way)
    crowd(True)


def interrupted():
    """KeyboardInterrupt reaches the main thread while everything is parked."""
    crowd(True)
    threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        never.wait(60)
    except KeyboardInterrupt:
        report(errors=0, os_threads=0, way=way)


def alarmed():
    """A handler runs in the main thread while it is parked, and its exception comes out of the call."""
    crowd(True)

    def handler(number, frame):
        raise TimeoutError(threading.current_thread() is threading.main_thread())

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    try:
        time.sleep(60)
    except TimeoutError as e:
        report(errors=0 if e.args[0] else 1, os_threads=0, way=way)


def forked():
    """The child of a thread has that thread only, and can start more."""
    crowd(True)
    statuses = []

    def fork():
        pid = os.fork()
        if pid == 0:
            alone = threading.active_count() == 1
            t = threading.Thread(target=time.sleep, args=(0.05,))
            t.start()
            t.join()
            os._exit(0 if alone and not t.is_alive() else 1)
        statuses.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))

    threads = [threading.Thread(target=fork) for _ in range(5)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    report(errors=sum(map(bool, statuses)), os_threads=0, way=way, children=len(statuses))


def pools():
    """multiprocessing from threads, with the start methods that Linux has."""
    crowd(True)
    results = []

    def pool(method):
        with multiprocessing.get_context(method).Pool(2) as p:
            results.append(p.map(double, range(20)))

    threads = [threading.Thread(target=pool, args=(m,)) for m in ("fork", "spawn", "forkserver")]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    right = sum(r == [2 * x for x in range(20)] for r in results)
    report(errors=3 - right, os_threads=0, way=way)


def raised():
    """An exception in a thread is reported by threading.excepthook, and the process goes on."""
    seen = []
    threading.excepthook = lambda args: seen.append(args.exc_type)
    threads = [threading.Thread(target=lambda: 1 // 0) for _ in range(n)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    report(errors=n - seen.count(ZeroDivisionError), os_threads=0, way=way)


if __name__ == "__main__":
    globals()[way]()
