# SPDX-License-Identifier: MIT
"""Stackless Python's tasklets and channels on fibril.

``from fibril import stackless``, or ``fibril.stackless.install()`` and then ``import stackless``. A tasklet that
waits for a socket, a sleep or a lock parks alone; the others of its thread go on. See docs/stackless.md.
"""

import atexit
import builtins
import importlib
import sys
import threading
import types

from . import _fibril, enable

_PREFIX = "_stackless_"
for _name in dir(_fibril):
    if _name.startswith(_PREFIX):
        globals()[_name[len(_PREFIX) :]] = getattr(_fibril, _name)
_NAMES = [_name for _name in list(globals()) if hasattr(_fibril, _PREFIX + _name) and _name[0] != "_"]
for _name in ("tasklet", "channel", "bomb", "TaskletExit"):
    globals()[_name].__module__ = "stackless" if _name == "TaskletExit" else __name__

__all__ = sorted(
    [*_NAMES, "atomic", "current", "main", "runcount", "threads", "install", "enable_softswitch"]
    + ["debug", "getdebug", "uncollectables", "getuncollectables"]
)

PICKLEFLAGS_PRESERVE_TRACING_STATE = 1
PICKLEFLAGS_PRESERVE_AG_FINALIZER = 2
PICKLEFLAGS_RESET_AG_FINALIZER = 4
PICKLEFLAGS_PICKLE_CONTEXT = 8


class atomic:
    """with atomic(): run() does not interrupt the running tasklet."""

    def __enter__(self):
        self._before = getcurrent().set_atomic(True)

    def __exit__(self, *exception):
        getcurrent().set_atomic(self._before)


_soft = True


def enable_softswitch(flag):
    """Remembers the flag and returns the old one; there is one way to switch here, so that is all."""
    global _soft
    before = _soft
    if flag is not None:
        _soft = bool(flag)
    return before


def getdebug():
    """Whether the interpreter is a debug build."""
    return hasattr(sys, "gettotalrefcount")


def getuncollectables():
    """The tasklets that the garbage collector could not end: there are none, it ends all."""
    return []


def _pickler():
    """pickle.Pickler that takes closures, lambdas and modules wherever they are; loaded when it is asked for."""
    from ._stackless_values import Pickler

    return Pickler


def install():
    """From now on ``import stackless`` finds this module, and TaskletExit is a builtin, as in Stackless.

    Raises RuntimeError when another module of that name has been imported. Calling it again does nothing.
    """
    if sys.modules.get("stackless", sys.modules[__name__]) is not sys.modules[__name__]:
        raise RuntimeError("another stackless module has been imported already: install fibril's first")
    builtins.TaskletExit = TaskletExit
    sys.modules["stackless"] = sys.modules[__name__]


class _Module(types.ModuleType):
    """The attributes that Stackless computes when they are asked for."""

    current = property(lambda self: getcurrent())
    main = property(lambda self: getmain())
    runcount = property(lambda self: getruncount())
    threads = property(lambda self: getthreads())
    debug = property(lambda self: getdebug())
    uncollectables = property(lambda self: getuncollectables())
    Pickler = property(lambda self: _pickler())

    def __reduce__(self):
        return importlib.import_module, (self.__name__,)


sys.modules[__name__].__class__ = _Module
if threading.current_thread() is threading.main_thread():
    enable()
atexit.register(_end)  # after enable(), so that it comes before the end of that
