# SPDX-License-Identifier: MIT
"""concurrent.futures with as many workers as jobs, all asleep at once; results, exceptions, map, cancellation."""
import concurrent.futures
import threading
import time

from common import count, os_threads, report

n = count()
gate, here = threading.Event(), threading.Semaphore(0)


def job(i):
    here.release()
    gate.wait()
    time.sleep(0.1)
    if i % 100 == 7:
        raise ValueError(i)
    return i * i


begun = time.monotonic()
with concurrent.futures.ThreadPoolExecutor(n) as pool:
    futures = [pool.submit(job, i) for i in range(n)]
    for _ in range(n):
        here.acquire()
    most = os_threads()
    late = [pool.submit(job, 0) for _ in range(10)]
    cancelled = sum(f.cancel() for f in late)
    gate.set()
    done = {f: i for i, f in enumerate(futures)}
    right = raised = 0
    for f in concurrent.futures.as_completed(futures, timeout=120):
        if f.exception():
            raised += f.exception().args == (done[f],)
        else:
            right += f.result() == done[f] ** 2
    mapped = sum(pool.map(lambda x: x + 1, range(1000)))
report(n=n, right=right, raised=raised, cancelled=cancelled, mapped=mapped, os_threads=most, errors=0,
       left=threading.active_count() - 1, seconds=round(time.monotonic() - begun, 3))
