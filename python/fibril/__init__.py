# SPDX-License-Identifier: MIT
"""Threads that cost no OS thread.

After ``fibril.enable()``, or under ``python3 -m fibril app.py``, ``threading.Thread`` starts fibrils: green threads
of the main OS thread. A call that blocks, in Python or in a C library, blocks one fibril and never the process.

The rest of this package is for programs that know about fibrils: ``spawn``, ``Scope``, ``timeout``, ``Channel``,
``select`` and so on. Times are seconds (int or float); None means for ever.
"""

import sys as _sys
from importlib import import_module as _import_module

from . import _fibril, _shutdown_locks, _standstill
from ._bridge import to_async, wait_for
from ._fibril import (Cancelled, Channel, ChannelClosed, Deadlock, Event, Fibril, Lock, Semaphore, __version__,
                      cancelled, current, deadline, disable, enabled, metrics, offload, select, sleep, spawn, timeout,
                      yield_)
from ._scope import Scope, shield
from ._threads import OSThread, os_thread

__all__ = ["Actor", "ActorEnded", "ActorFailed", "ActorHandle", "Cancelled", "Channel", "ChannelClosed", "Child",
           "Deadlock", "Event", "Fibril", "Lock", "OSThread", "Scope", "Semaphore", "Supervisor", "actor", "actors",
           "cancelled", "current", "deadline", "disable", "dump", "enable", "enabled", "metrics", "observe",
           "offload", "os_thread", "receive", "select", "shield", "sleep", "spawn", "timeout", "to_async", "wait_for",
           "yield_"]


_OF_ACTORS = ("Actor", "actor", "ActorEnded", "ActorFailed", "ActorHandle", "Child", "Supervisor", "receive")


def __getattr__(name):
    if name != "actors" and name not in _OF_ACTORS:  # imported when first asked for: most programs have none
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    actors = _import_module(".actors", __name__)
    found = actors if name == "actors" else getattr(actors, name)
    globals()[name] = found
    return found


def enable(preempt_ms=0, poller=None, stack_bytes=0, thread_stack_bytes=0, deadlocks=None):
    """Make the threads of ``threading`` fibrils of the calling main thread, and blocking calls park.

    preempt_ms: a fibril that computes longer than so many milliseconds (int or float) lets the others run; 0: never.
    Then another fibril may run between any two bytecodes, as with OS threads.
    poller: "uring", "epoll" or "auto"; None is $FIBRIL_POLLER, else "auto".
    stack_bytes, thread_stack_bytes: address space for each stack of ``spawn`` (0: 256 KiB) and of ``threading``
    (0: 1 MiB); only touched pages cost memory.

    deadlocks: None: when fibrils wait for each other, or the main thread for one that cannot end, and nothing else is
    left that could wake them, who waits for whom is written to standard error, once. True: when no fibril that uses
    fibril's own objects can ever run again, Deadlock is raised in the main fibril too. For programs in which no other
    OS thread and no signal may come to help. False: neither.

    Returns True, or False when it was in force already (the options are then those of the first call). Raises
    RuntimeError outside the main thread, ValueError for an unknown poller or an impossible number, OSError for a
    poller that the kernel refuses.
    """
    new = _fibril._enable(poller, stack_bytes, thread_stack_bytes, bool(deadlocks))
    _shutdown_locks.install()
    if new and deadlocks is not False:
        _fibril._on_standstill(_standstill.look, 1)
    if new and preempt_ms:
        _fibril._preempt(preempt_ms)
    return new


class observe:
    """Serve a page, for people and for `fibril observe`, on which the program is seen from inside; see docs/debugging.md.

    On port (int; 0: the kernel chooses) of host (a literal address); `url` (str) says where. It ends with close(), at
    the end of a with block, or with the program. There is no password: keep it on loopback. Raises RuntimeError (it is
    observed already, or before enable()), ValueError, OSError (the port is taken).
    """

    def __init__(self, port=0, host="127.0.0.1"):
        if not isinstance(port, int) or not 0 <= port < 65536:
            raise ValueError(f"a port is a number from 0 to 65535, not {port!r}")
        self.url = f"http://{_fibril._observe(f'[{host}]:{port}' if ':' in host else f'{host}:{port}')}/"

    def close(self):
        """End it, and wait until it has ended."""
        _fibril._observe_stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def dump(file=None):
    """Write every fibril, what it waits for and for how long, and its Python and C stack, to file.

    file: something with fileno(), or a descriptor (int); None is sys.stderr. Raises RuntimeError before enable().
    """
    if file is None:
        file = _sys.stderr
    if isinstance(file, int):
        _fibril._dump(file)
        return
    file.flush()
    _fibril._dump(file.fileno())
