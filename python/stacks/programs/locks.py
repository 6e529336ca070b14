# SPDX-License-Identifier: MIT
"""The primitives of threading under a crowd: locks, Condition, Semaphore, Event, local, Timer, queues."""
import queue
import threading

from common import count, crowd

n = count()
lock, rlock, condition, semaphore = threading.Lock(), threading.RLock(), threading.Condition(), threading.Semaphore(5)
local, inside, most, total, turn = threading.local(), 0, 0, 0, 0
jobs, answers = queue.Queue(maxsize=10), queue.SimpleQueue()
fired = threading.Semaphore(0)


def serve():
    while (job := jobs.get()) is not None:
        answers.put(job * 2)
        jobs.task_done()
    jobs.task_done()


def take_turn(i):
    """In the order of the numbers, however the threads come."""
    global turn
    with condition:
        condition.wait_for(lambda: turn == i, timeout=100)
        right = turn == i
        turn += 1
        condition.notify_all()
    return right


def work(i):
    global inside, most, total
    local.me = i
    with lock:
        total += 1
    with rlock, rlock:
        total += 1
    with semaphore:
        inside += 1
        most = max(most, inside)
        threading.Event().wait(0.001)
        inside -= 1
    in_turn = i >= 100 or take_turn(i)
    jobs.put(i)
    answer = answers.get(timeout=60)
    if i % 50 == 0:
        threading.Timer(0.01, fired.release).start()
        fired.acquire(timeout=60)
    timed_out = not threading.Event().wait(0.01) and not threading.Lock().locked()
    return local.me == i and answer % 2 == 0 and in_turn and timed_out


server = threading.Thread(target=serve)
server.start()
c = crowd(n, work)
jobs.put(None)
jobs.join()
server.join()
c.report(right=sum(map(bool, c.results)), total=total, most_inside=most)
