# SPDX-License-Identifier: MIT
"""What the debuggers and profilers of test_tools.py look at: threads that meet, compute a little, and park."""
import threading

from common import count, os_threads, report

n = count()
gate, there, results = threading.Event(), threading.Semaphore(0), []


def square(i):
    value = i * i
    return value


def parked_here():
    there.release()
    gate.wait()


def worker(i):
    parked_here()
    results.append(square(i))


def main():
    threads = [threading.Thread(target=worker, args=(i,)) for i in range(n)]
    for t in threads:
        t.start()
    for _ in threads:
        there.acquire()
    most = os_threads()
    gate.set()
    for t in threads:
        t.join()
    report(errors=0, os_threads=most, total=sum(results))


if __name__ == "__main__":
    main()
