# SPDX-License-Identifier: MIT
"""What CCP's scheduler tests call _scheduler, on fibril.stackless: for stackless_tests.py.

What its module has beside Stackless's is counted here, or there is one of it: run_n_tasklets lets so many go on, a
channel is active while somebody waits in it, and how tasklets nest cannot be chosen.
"""

import weakref

from fibril import stackless
from fibril.stackless import *  # noqa: F403
from fibril.stackless import getcurrent, getruncount, run, schedule, tasklet  # noqa: F401

_channels = weakref.WeakSet()
_nested = True


class channel(stackless.channel):
    def __init__(self, *unused):
        _channels.add(self)

    def clear(self):
        while self.queue is not None:
            self.queue.kill()

    def unblock(self):
        self.clear()


def get_number_of_active_channels():
    return sum(ch.balance != 0 for ch in _channels)


def unblock_all_channels():
    count = get_number_of_active_channels()
    for ch in list(_channels):
        ch.clear()
    return count


def calculateruncount():
    count, t = 1, getcurrent().next
    while t is not None and t is not getcurrent():
        count, t = count + 1, t.next
    return count


def run_n_tasklets(n):
    """Lets the next n go on, each until it switches."""
    me, left = getcurrent(), n

    def callback(prev, next):
        nonlocal left
        left -= next is not me

    before = stackless.set_schedule_callback(callback)
    try:
        while left > 0 and getruncount() > 1:
            schedule()
    finally:
        stackless.set_schedule_callback(before)


def get_schedule_manager():
    return get_schedule_manager.one


get_schedule_manager.one = object()


def get_number_of_active_schedule_managers():
    return len(stackless.threads)


def set_use_nested_tasklets(flag):
    global _nested
    _nested = flag


def get_use_nested_tasklets():
    return _nested


def test_cstate(function):
    return function()


def __getattr__(name):
    if name in ("current", "main"):
        return getattr(stackless, name)
    raise AttributeError(name)
