# SPDX-License-Identifier: MIT
"""What the programs of this folder share: a crowd of threads, and one line of JSON as the result.

Ordinary threaded Python: nothing here knows of fibril.
"""
import json
import os
import sys
import threading
import time


def count():
    """How many threads the program was asked for."""
    return int(sys.argv[1])


def os_threads():
    return len(os.listdir("/proc/self/task"))


class Crowd:
    """Runs fn(i) in n threads at once; a barrier lets none begin before all are there."""

    def __init__(self, n, fn):
        self.results, self.errors, self.most_os_threads = [None] * n, [], 0
        self.fn = fn
        self.barrier = threading.Barrier(n + 1)
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(n)]
        self.idents = set()

    def run(self, i):
        self.idents.add(threading.get_ident())
        self.barrier.wait()
        try:
            self.results[i] = self.fn(i)
        except Exception as e:  # each is reported, none is hidden
            self.errors.append("%d: %s: %s" % (i, type(e).__name__, e))

    def go(self):
        for t in self.threads:
            t.start()
        self.barrier.wait()
        begun = time.monotonic()
        self.most_os_threads = os_threads()
        for t in self.threads:
            t.join()
        self.seconds = time.monotonic() - begun
        return self

    def report(self, **more):
        report(n=len(self.threads), errors=len(self.errors), first_errors=self.errors[:5],
               distinct_idents=len(self.idents), os_threads=self.most_os_threads, seconds=round(self.seconds, 3),
               left=threading.active_count() - 1, **more)


def crowd(n, fn):
    return Crowd(n, fn).go()


def report(**values):
    print("RESULT " + json.dumps(values), flush=True)
