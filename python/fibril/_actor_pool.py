# SPDX-License-Identifier: MIT
"""Pools: a bounded number of actors that are lent to whoever asks, in the order of asking. The rules are those of
fibril's pools in C (pool.h).

The pool is an actor that never waits: a worker is started by a fibril of its own (a starter), to which it is linked
until the pool is, so that a pool that is killed leaves nobody behind, whenever that is. A request is watched from the
moment of asking, so a worker comes back when its borrower ends; who gives up waiting says so, and a worker that was
lent in that very moment is taken back.
"""

import time
from collections import deque

from . import _fibril
from ._actor import Actor, spawn
from ._actor_lending import Lent, PoolHandle, PoolStatus
from ._actor_mail import Exit
from ._actor_options import bound, policy_of
from ._actor_reports import ActorEnded, MailboxFull, Refuse, log
from ._actor_supervisor import Child
from ._scope import shield

STARTING, IDLE, LENT, ENDING = "starting", "idle", "lent", "ending"


class _Begun:
    """A starter says that its worker has begun, or what kept it from that."""

    __slots__ = ("error", "handle", "starter", "worker")

    def __init__(self, worker, handle, starter, error=None):
        self.worker = worker
        self.handle = handle
        self.starter = starter
        self.error = error


class _Worker:
    __slots__ = ("handle", "request", "starter", "state", "was_lent")

    def __init__(self):
        self.handle = self.starter = self.request = None
        self.state = None  # nowhere counted
        self.was_lent = False


class _Request:
    __slots__ = ("borrower", "caller", "number", "ref", "worker")

    def __init__(self, number, borrower, caller):
        self.number = number
        self.borrower = borrower
        self.caller = caller
        self.ref = None if borrower is None else borrower.monitor()
        self.worker = None


def _starter(pool, worker, spec):
    """The starter: waits for the worker's __init__, hands it over to the pool, and ends."""
    me = _fibril._actor_self()
    try:
        handle = spec._start_worker()
    except _fibril.Cancelled:
        raise
    except BaseException as error:  # __init__ may raise anything
        error.__traceback__ = None
        pool.send(_Begun(worker, None, me, error))
        return
    pool.send(_Begun(worker, handle, me))
    _fibril._actor_receive(None, 0, None)  # the pool is linked to it
    handle.unlink()


def _is_fine(handle, spec):
    try:
        return spec.check(handle) is not False
    except _fibril.Cancelled:
        raise
    except Exception as error:
        log.warning("the check of %r raised %s: %s", handle, type(error).__name__, error)
        return False


def _check_idle(pool, spec):
    """Looks after workers that nobody uses. One that comes back meanwhile has been of use just so."""
    try:
        while True:
            _fibril.sleep(spec.check_seconds)
            for _ in range(pool.counts().idle):
                try:
                    handle = Lent(pool, None, idle_longest=True).__enter__()
                except MailboxFull:
                    break
                (pool.checkin if _is_fine(handle, spec) else pool.discard)(handle)
    except ActorEnded:
        return


class _PoolActor(Actor):
    """The actor that lends. What it is told by casts and messages it does at once."""

    def __init__(self, spec):
        _fibril._actor_trap(True)
        self.spec = spec
        self.number = dict.fromkeys((STARTING, IDLE, LENT, ENDING), 0)
        self.ending = {}  # to when they are killed: the first to be killed first
        self.by_handle = {}
        self.by_starter = {}
        self.idle = deque()  # the longest first
        self.requests = {}  # of number
        self.by_ref = {}
        self.waiting = {}  # of number: an ordered set
        self.started = self.died = self.failed = self.discarded = 0
        self.last_error = None
        self.pause = 0
        self.retry_at = 0
        self.checker = None
        self._begin()
        if spec.check is not None:
            self.checker = spawn(_check_idle, PoolHandle(self.me.id), spec, link=True)
        self._tend()

    # ---- workers ----

    def _set(self, worker, state):
        if worker.state is not None:
            self.number[worker.state] -= 1
        if state is not None:
            self.number[state] += 1
        worker.state = state

    def _alive(self):
        return self.number[STARTING] + self.number[IDLE] + self.number[LENT]

    def _start(self):
        worker = _Worker()
        worker.starter = spawn(_starter, self.me, worker, self.spec, link=True)
        self.by_starter[worker.starter] = worker
        self._set(worker, STARTING)

    def _begun(self, begun):
        worker = begun.worker
        if self.by_starter.pop(worker.starter, None) is None:  # its starter has ended, which was faster
            if begun.handle is not None:
                begun.handle.exit("shutdown")
        elif begun.error is not None:
            self._start_failed(worker, begun.error)
        else:
            worker.handle = begun.handle
            self.by_handle[worker.handle] = worker
            worker.handle.link()
            begun.starter.unlink()  # if the worker ends now, so does the starter: that is no order to the pool
            begun.starter.send(None)
            self.started += 1
            self._ready(worker)

    def _start_failed(self, worker, error):
        self._set(worker, None)
        self.failed += 1
        self.last_error = error
        self._pause()

    def _pause(self):
        self.pause = min(self.pause * 2 or self.spec.pause, self.spec.pause_max)
        self.retry_at = time.monotonic() + self.pause

    def _ready(self, worker):
        """A worker is of use: to who waits, among the idle, or not at all if there are too many.

        Those that are starting do not count: they may take long, and are ended then if they are too many.
        """
        if self.waiting:
            number = next(iter(self.waiting))
            del self.waiting[number]
            self._lend(worker, self.requests[number])
        elif self.number[IDLE] + self.number[LENT] - (worker.state is LENT) >= self.spec.size:
            self._end(worker)
        else:
            self._set(worker, IDLE)
            self.idle.append(worker)

    def _lend(self, worker, request):
        self._set(worker, LENT)
        worker.request, worker.was_lent = request, True
        request.worker = worker
        request.caller.reply(worker.handle)

    def _end(self, worker):
        self._set(worker, ENDING)
        self.ending[worker] = time.monotonic() + self.spec.shutdown
        worker.handle.exit("shutdown")

    def _ended(self, worker, reason):
        state = worker.state
        self._set(worker, None)
        self.ending.pop(worker, None)
        del self.by_handle[worker.handle]
        if state is ENDING:
            return
        if state is IDLE:
            self.idle.remove(worker)
        if worker.request is not None:
            self._forget(worker.request)
        self.died += 1
        if reason not in ("normal", "shutdown"):
            self.last_error = reason
        if not worker.was_lent:
            self._pause()

    def _wants_more(self):
        alive = self._alive()
        return alive < self.spec.size or (alive < self.spec.size + self.spec.overflow and
                                          self.number[STARTING] < len(self.waiting))

    def _tend(self):
        """After each message: too few workers, too many that end, and when to look again."""
        now, next_at = time.monotonic(), None
        while now >= self.retry_at and self._wants_more():
            self._start()
        if self._wants_more():
            next_at = self.retry_at
        while self.ending:
            worker, kill_at = next(iter(self.ending.items()))
            if kill_at > now:
                next_at = kill_at if next_at is None else min(next_at, kill_at)
                break
            del self.ending[worker]
            worker.handle.kill()
        self.set_idle(None if next_at is None else max(0.001, next_at - now))

    # ---- requests ----

    def _forget(self, request):
        del self.requests[request.number]
        self.waiting.pop(request.number, None)
        if request.ref is not None:
            _fibril._actor_demonitor(request.ref)
            del self.by_ref[request.ref]
        if request.worker is not None:
            request.worker.request = None

    def _over(self, request, discard=False):
        """The loan or the wait is over; a worker that was lent is of use again."""
        if request is None:
            return
        worker = request.worker
        self._forget(request)
        if worker is not None and discard:
            self.discarded += 1
            self._end(worker)
        elif worker is not None:
            self._ready(worker)

    def _loan(self, handle, borrower):
        worker = self.by_handle.get(handle)
        request = None if worker is None else worker.request
        return request if request is not None and request.borrower == borrower else None

    # ---- what it is told ----

    def on_checkout(self, number, borrower, idle_longest):
        """Lends a worker, now or later. idle_longest: only now, the one that nobody has used for longest."""
        if not self.idle and (idle_longest or len(self.waiting) >= self.spec.waiting_max):
            raise Refuse(MailboxFull("nobody is idle" if idle_longest else
                                     f"{len(self.waiting)} callers wait for a worker"))
        request = _Request(number, borrower, self.defer())
        self.requests[number] = request
        if request.ref is not None:
            self.by_ref[request.ref] = request
        if self.idle:
            newest = self.spec.newest_first and not idle_longest
            self._lend(self.idle.pop() if newest else self.idle.popleft(), request)
        else:
            self.waiting[number] = None
        self._tend()

    def on_checkin(self, handle, borrower):
        """A borrower gives one back."""
        self.pause = 0  # they are of use
        self._over(self._loan(handle, borrower))
        self._tend()

    def on_discard(self, handle, borrower):
        """A borrower says that one is no good."""
        self._over(self._loan(handle, borrower), discard=True)
        self._tend()

    def on_cancel(self, number):
        """A caller has given up, maybe when it had been lent one already."""
        self._over(self.requests.get(number))
        self._tend()

    def on_down(self, down):
        """A borrower, or one who waits, has ended."""
        self._over(self.by_ref.get(down.ref))
        self._tend()

    def on_exit(self, exit):
        """A worker has ended, or a starter. From others that is an order to end, unless all is well with them."""
        if exit.actor in self.by_handle:
            self._ended(self.by_handle[exit.actor], exit.reason)
        elif exit.reason == "normal":
            return  # a starter's, say, whose message is on its way
        elif exit.actor in self.by_starter:
            self._start_failed(self.by_starter.pop(exit.actor), exit.reason)
        else:
            self.stop(exit.reason)
            return
        self._tend()

    def on_message(self, message):
        """A starter has an answer."""
        if isinstance(message, _Begun):
            self._begun(message)
            self._tend()

    def on_idle(self):
        """It is time to start one again, or to kill one."""
        self._tend()

    def on_counts(self):
        """How it is."""
        return PoolStatus(self.number[IDLE], self.number[LENT], self.number[STARTING], self.number[ENDING],
                          len(self.waiting), self.started, self.died, self.failed, self.discarded, self.last_error)

    def describe(self):
        """How it is, as text."""
        now = self.on_counts()
        return (f"idle {now.idle}, lent {now.lent}, starting {now.starting}, ending {now.ending}; "
                f"waiting {now.waiting}; died {now.died}")

    # ---- all of them ----

    def _begin(self):
        """Starts the first ones and waits until they have begun."""
        for _ in range(self.spec.size):
            self._start()
        try:
            while self.number[STARTING]:
                self._await(None)
                if self.failed:
                    raise self.last_error if isinstance(self.last_error, BaseException) else RuntimeError(
                        f"a worker did not begin: {self.last_error}")
        except BaseException:
            self._end_all()
            raise

    def _await(self, until):
        message = _fibril._actor_receive(lambda m: isinstance(m, (_Begun, Exit)), 0,
                                         None if until is None else max(0, until - time.monotonic()))
        if isinstance(message, _Begun):
            self._begun(message)
        elif message.actor in self.by_handle:
            self._ended(self.by_handle[message.actor], message.reason)
        elif message.reason == "normal":
            return
        elif message.actor in self.by_starter:
            self._start_failed(self.by_starter.pop(message.actor), message.reason)
        else:
            raise ActorEnded(self.me, f"told to end: {message.reason}")

    def _end_all(self):
        """Ends all workers, those that are starting too, and waits for that; kills what takes too long."""
        everyone = [*self.by_starter, *self.by_handle]
        if self.checker is not None:
            everyone.append(self.checker)
        until = time.monotonic() + self.spec.shutdown
        with shield():
            for handle in everyone:
                handle.exit("shutdown")
            for handle in everyone:
                try:
                    handle.join(max(0, until - time.monotonic()))
                except TimeoutError:
                    handle.kill()

    def terminate(self, reason):
        """The end: whoever waits gets ActorEnded."""
        self._end_all()


class Pool:
    """The description of a pool, which start() starts.

    what: a class of actors, or a function, which gets a fibril of its own and receives; args, kwargs: what each worker
    is started with. size: workers that are there always (int). overflow: how many more, as long as all are lent and
    somebody waits. waiting: callers that may wait. newest_first: lend the one that came back last, else the one that
    has been idle for longest. shutdown: seconds that a worker may take to end before it is killed. pause: seconds
    before one is replaced that did not begin, or ended without having been lent; doubled each time up to pause_max.
    check(handle) is called every check_seconds for each one that is idle; where it raises, or returns False, the worker
    is replaced. mailbox, mailbox_bytes, policy: of each worker, as of Actor.start. Raises ValueError, TypeError.
    """

    def __init__(self, what, /, *args, size=1, overflow=0, waiting=65536, newest_first=False, shutdown=5, pause=0.01,
                 pause_max=5, check=None, check_seconds=10, mailbox=0, mailbox_bytes=0, policy="park", **kwargs):
        is_class = isinstance(what, type) and issubclass(what, Actor)
        if not is_class and (isinstance(what, type) or not callable(what)):
            raise TypeError(f"workers are of a class of actors, or a function, not {what!r}")
        for name, value, least in (("size", size, 1), ("overflow", overflow, 0), ("waiting", waiting, 0)):
            if not isinstance(value, int) or value < least:
                raise ValueError(f"{name} is a number from {least}, not {value!r}")
        for name, value in (("shutdown", shutdown), ("pause", pause), ("pause_max", pause_max),
                            ("check_seconds", check_seconds)):
            if not isinstance(value, (int, float)) or not 0 < value < 9e9:
                raise ValueError(f"{name} is a number of seconds above 0, not {value!r}")
        bound(mailbox, "mailbox")
        bound(mailbox_bytes, "mailbox_bytes")
        policy_of(policy)
        self.what, self.args, self.kwargs = what, args, kwargs
        self.size, self.overflow, self.waiting_max, self.newest_first = size, overflow, waiting, newest_first
        self.shutdown, self.pause, self.pause_max = shutdown, pause, pause_max
        self.check, self.check_seconds = check, check_seconds
        self._options = {"mailbox": mailbox, "mailbox_bytes": mailbox_bytes, "policy": policy}

    def start(self, name=None, link=False, monitor=False, timeout=None):
        """Start it and return its PoolHandle when its workers have begun.

        The options are those of Actor.start. Raises what a worker's __init__ raised: then none is left running.
        """
        handle = _PoolActor.start(self, name=name, link=link, monitor=monitor, timeout=timeout)
        return PoolHandle(handle.id)

    def child(self, id="pool", **options):
        """The Child for a Supervisor, with its options."""
        return Child(_PoolActor, self, id=id, **options)

    def _start_worker(self):
        """Start one worker, linked to the caller, which waits until it has begun; returns its handle."""
        start = self.what.start if isinstance(self.what, type) else lambda *args, **kw: spawn(self.what, *args, **kw)
        return start(*self.args, link=True, **self._options, **self.kwargs)
