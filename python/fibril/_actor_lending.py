# SPDX-License-Identifier: MIT
"""What borrowers have of a pool: its handle, and the block that has a worker.

Whatever happens while one waits, the pool hears of it: who gives up says so with a message that is shielded from being
cancelled, and who ends without a word is watched by the pool.
"""

import itertools
import time
from dataclasses import dataclass

from . import _fibril
from ._actor import ActorHandle
from ._actor_reports import ActorEnded, MailboxFull
from ._scope import shield

_numbers = itertools.count(1)


@dataclass(frozen=True)
class PoolStatus:
    """How a pool is. idle, lent, starting, ending: workers; waiting: callers (int).

    started, died, failed, discarded: workers, ever: that have begun; that ended by themselves after it; whose start
    failed; that borrowers and checks had ended. last_error: why one failed: an exception or a reason; None: never.
    """

    idle: int
    lent: int
    starting: int
    ending: int
    waiting: int
    started: int = 0
    died: int = 0
    failed: int = 0
    discarded: int = 0
    last_error: object = None


class Lent:
    """What PoolHandle.worker() returns: a context manager, whose block has the worker."""

    __slots__ = ("_borrower", "_handle", "_idle_longest", "_pool", "_timeout")

    def __init__(self, pool, timeout, idle_longest=False):
        self._pool = pool
        self._timeout = timeout
        self._idle_longest = idle_longest
        self._handle = None

    def __enter__(self):
        number, self._borrower = next(_numbers), _fibril._actor_self()
        try:
            self._handle = ActorHandle.call(self._pool, "checkout", number, self._borrower, self._idle_longest,
                                            timeout=self._timeout)
        except (MailboxFull, ActorEnded):
            raise
        except BaseException:  # it may have been lent in this moment
            self._pool._tell("cancel", number)
            raise
        return self._handle

    def __exit__(self, kind, value, traceback):
        doubtful = kind is not None and issubclass(kind, (TimeoutError, _fibril.Cancelled))
        self._pool._tell("discard" if doubtful else "checkin", self._handle, self._borrower)
        return False


class PoolHandle(ActorHandle):
    """A running pool. PoolHandle(id) makes one of the id of any handle, as of whereis() and of a supervisor's child."""

    __slots__ = ()

    def worker(self, timeout=None):
        """``with pool.worker() as handle:`` lends a worker to the block; callers are served in their order.

        timeout: seconds to wait for one. It comes back at the end of the block, and when the borrower ends. If the
        block ends by TimeoutError or Cancelled another one takes its place, for nobody knows what it is doing. Raises
        TimeoutError, MailboxFull (as many wait as may), ActorEnded, Cancelled: nothing is borrowed then.
        """
        return Lent(self, timeout)

    def call(self, handler, /, *args, timeout=None, **kwargs):
        """Call a worker: borrows one, calls it, gives it back. timeout: seconds for all of it. Errors as of both."""
        until = None if timeout is None else time.monotonic() + timeout
        with Lent(self, timeout) as handle:
            left = None if until is None else max(0, until - time.monotonic())
            return handle.call(handler, *args, timeout=left, **kwargs)

    def checkin(self, handle):
        """Give a worker back before the end of the block. Of others than one's own nothing happens."""
        self._tell("checkin", handle, _fibril._actor_self())

    def discard(self, handle):
        """The same with one that is no good any more: it is ended, and another one takes its place."""
        self._tell("discard", handle, _fibril._actor_self())

    def counts(self, timeout=None):
        """How it is, as PoolStatus. Errors as of call."""
        return ActorHandle.call(self, "counts", timeout=timeout)

    def _tell(self, what, *args):
        with shield():  # the pool takes its messages whatever happens, so this ends
            ActorHandle.cast(self, what, *args)
