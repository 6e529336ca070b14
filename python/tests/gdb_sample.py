# SPDX-License-Identifier: MIT
"""What gdb_stacks.py looks at: fibrils in Python functions of known names, and then os.abort().

    gdb_sample.py fibrils|unmodified|tasklets

The lines that a fibril stands in end with the word HERE and its name.
"""

import os
import sys
import threading
import time

TASKLETS = 12  # more than there are run stacks: some are not in place


class Holder:
    def method(self, park):
        return [
            len("some"),
            park(),  # HERE method
        ]


def through_c(park):
    """C code that calls Python: the frames are linked by way of the C stack."""
    return sorted([1], key=lambda one: park())  # HERE through_c


def générateur(park):
    yield 1
    yield park()  # HERE générateur


def deep(depth, park):
    return deep(depth - 1, park) if depth else Holder().method(park)


def fibrils():
    import fibril
    fibril.enable()
    event, lock = threading.Event(), threading.Lock()
    lock.acquire()

    def in_thread():
        lock.acquire()  # HERE in_thread

    def in_event():
        event.wait()  # HERE in_event

    def sleeper():
        through_c(lambda: fibril.sleep(3600))

    def 観察者():
        list(générateur(lambda: fibril.sleep(3600)))

    def aborter():
        os.abort()  # HERE aborter

    threading.Thread(target=in_thread, daemon=True).start()
    threading.Thread(target=in_event, daemon=True).start()
    for function in (sleeper, 観察者):
        fibril.spawn(function)
    fibril.spawn(lambda: deep(200, lambda: fibril.sleep(3600)))
    fibril.sleep(0.01)
    fibril.spawn(aborter)
    fibril.sleep(3600)  # HERE main


def unmodified():
    """No fibril calls anything of fibril's."""
    import fibril
    fibril.enable()

    def stopper():
        time.sleep(0.01)
        os.abort()  # HERE stopper

    threading.Thread(target=stopper).start()
    time.sleep(3600)  # HERE unmodified main


def tasklets():
    import fibril.stackless as stackless
    channel = stackless.channel()

    def receiver(number):
        through_c(channel.receive)

    for number in range(TASKLETS):
        stackless.tasklet(receiver)(number)
    stackless.run()

    def last():
        os.abort()  # HERE last tasklet

    stackless.tasklet(last)()
    stackless.run()  # HERE run


if __name__ == "__main__":
    globals()[sys.argv[1]]()  # HERE program
