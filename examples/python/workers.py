# SPDX-License-Identifier: MIT
"""A worker process under a supervisor: it counts for us, is killed in the middle, and is replaced.

    python3 examples/python/workers.py

The program starts itself as its worker. Who calls learns of the loss from the call, asks for the name again, and goes
on with the new process.
"""

import os
import signal
import sys

import fibril
from fibril import nodes

WORKER = [sys.executable, __file__, "--worker"]


# ---- the worker ----

class Counter(fibril.Actor):
    """Adds up what it is given."""

    def __init__(self):
        self.sum = 0

    def on_add(self, number):
        self.sum += number
        return self.sum

    def on_die(self):
        os.kill(os.getpid(), signal.SIGKILL)


def work():
    Counter.start(name="counter")
    nodes.join_starter().join()  # until it is not needed any more


# ---- who uses it ----

def find():
    """The counter of the worker that there is now."""
    while True:
        node = nodes.named("worker")
        try:
            counter = None if node is None else node.whereis("counter", timeout=10)
            if counter is not None:
                return counter
        except fibril.ActorEnded:  # just now
            pass
        fibril.sleep(0.01)


def count():
    counter = find()
    return [counter.call("add", number, timeout=10) for number in range(101)][-1]


def main():
    fibril.enable()
    if "--worker" in sys.argv:
        work()
        return
    top = fibril.Supervisor([fibril.Child(nodes.run_worker, WORKER, register="worker")]).start()
    with fibril.timeout(60):
        print("sum:", count())
        try:
            find().call("die")
        except fibril.ActorEnded:
            print("the worker was killed")
        print("sum:", count())
    top.stop()


if __name__ == "__main__":
    main()
