# SPDX-License-Identifier: MIT
"""Threads that cost no OS thread.

After ``fibril.enable()``, or under ``python3 -m fibril app.py``, ``threading.Thread`` starts fibrils: green threads
of the main OS thread. A call that blocks, in Python or in a C library, blocks one fibril and never the process.

The rest of this package is for programs that know about fibrils: ``spawn``, ``Scope``, ``timeout``, ``Channel``,
``select`` and so on. Times are seconds (int or float); None means for ever.
"""

from ._fibril import (Cancelled, ChannelClosed, Deadlock, Fibril, __version__, current, disable, enabled, sleep, spawn,
                      yield_)
from . import _fibril

__all__ = ["Cancelled", "ChannelClosed", "Deadlock", "Fibril", "current", "disable", "enable", "enabled", "sleep",
           "spawn", "yield_"]


def enable(preempt_ms=0, poller=None, stack_bytes=0, thread_stack_bytes=0):
    """Make the calling main thread's ``threading`` threads fibrils and blocking calls park.

    poller: "uring", "epoll" or "auto"; None is $FIBRIL_POLLER, else "auto".
    stack_bytes, thread_stack_bytes: address space for each stack of ``spawn`` (0: 256 KiB) and of ``threading``
    (0: 512 KiB); only touched pages cost memory.

    Returns True, or False when it was in force already. Raises RuntimeError outside the main thread, ValueError for
    an unknown poller, OSError for one that the kernel refuses.
    """
    return _fibril._enable(poller, stack_bytes, thread_stack_bytes)
