# SPDX-License-Identifier: MIT
"""Structured concurrency: Scope and shield.

A scope knows its fibrils by handle; what ends first and badly cancels the others. That needs no lock: nobody else
runs between two lines here that do not wait (and under preemption a list's append and pop are atomic).
"""

from . import _fibril


class shield:
    """A block in which the calling fibril is not cancelled: ``with fibril.shield():``.

    A cancellation that comes meanwhile is delivered at the first wait after the block. Shields nest.
    """

    __slots__ = ()

    def __enter__(self):
        _fibril._shield_begin()
        return self

    def __exit__(self, *exc_info):
        _fibril._shield_end()
        return False


class Scope:
    """Fibrils that end before the block does.

    ``with fibril.Scope() as s: s.spawn(f, x)``. At its end the block waits for all of them. The first that raises
    cancels the others and its exception is raised there; an exception of the block itself cancels all and goes on.
    When the waiting fibril is cancelled or its timeout passes, they are cancelled and waited for all the same.
    """

    def __init__(self):
        self._alive = {}
        self._failure = None
        self._cancelled = False
        self._closed = False

    def spawn(self, function, /, *args, name=None, **kwargs):
        """Start function(*args, **kwargs) as a fibril of the scope; return its Fibril.

        Raises RuntimeError when the block has ended.
        """
        if self._closed:
            raise RuntimeError("the scope is closed")
        child = _fibril.spawn(function, *args, name=name, daemon=True, **kwargs)
        self._alive[child.id] = child
        child.add_done_callback(self._ended)
        if self._cancelled:
            child.cancel()
        return child

    def cancel(self):
        """Cancel every fibril of the scope, those spawned later included."""
        self._cancelled = True
        for child in list(self._alive.values()):
            child.cancel()

    def _ended(self, child):
        self._alive.pop(child.id, None)
        failure = child.exception
        if failure is not None and not isinstance(failure, _fibril.Cancelled) and self._failure is None:
            self._failure = failure
            self.cancel()

    def _join(self):
        while self._alive:
            next(iter(self._alive.values())).wait()

    def __enter__(self):
        return self

    def __exit__(self, kind, value, traceback):
        if kind is not None:
            self.cancel()
        try:
            self._join()
        except BaseException:
            self.cancel()
            with shield():
                self._join()
            raise
        finally:
            self._closed = True
        if kind is None and self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        return False
