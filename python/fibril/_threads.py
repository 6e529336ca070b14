# SPDX-License-Identifier: MIT
"""Threads that stay real: os_thread."""

from . import _fibril


class OSThread:
    """A function that runs on an OS thread of its own, where blocking calls block. ``os_thread`` makes them."""

    def __init__(self, function, args, kwargs, name, daemon):
        self.name = name or getattr(function, "__name__", "os_thread")
        self.daemon = daemon
        self._call = (function, args, kwargs)
        self._ended = _fibril.Event()
        self._result = self._exception = None

    def __repr__(self):
        return f"<OSThread {self.name!r} {'alive' if self.alive else 'ended'}>"

    def _run(self):
        function, args, kwargs = self._call
        try:
            self._result = function(*args, **kwargs)
        except BaseException as exception:  # handed to whoever joins
            self._exception = exception
        finally:
            self._call = None
            self._ended.set()

    @property
    def alive(self):
        """Whether it has not ended (bool)."""
        return not self._ended.is_set()

    def join(self, timeout=None):
        """Wait for its end; return what the function returned or raise what it raised.

        timeout: seconds. Raises TimeoutError when it passes.
        """
        if not self._ended.wait(timeout):
            raise TimeoutError("timed out")
        if self._exception is not None:
            raise self._exception
        return self._result


def os_thread(function, /, *args, name=None, daemon=False, **kwargs):
    """Call function(*args, **kwargs) on a new OS thread; return an OSThread.

    For code that must not share an OS thread: other event loops, libraries with thread-local state. The process
    waits for it at exit unless it is a daemon. Raises RuntimeError before enable() and when the system refuses.
    """
    if not callable(function):
        raise TypeError("os_thread needs something to call")
    if not _fibril.enabled():
        raise RuntimeError("call fibril.enable() first")
    thread = OSThread(function, args, kwargs, name, daemon)
    _fibril._start_os_thread(thread._run, daemon)
    return thread
