# SPDX-License-Identifier: MIT
"""Supervisors: trees of actors, functions and OS processes, described in data."""

from typing import NamedTuple

from . import _fibril
from ._actor import Actor, ActorHandle
from ._actor_options import bound, policy_of

_STRATEGIES = {"one_for_one": 0, "one_for_all": 1, "rest_for_one": 2, "simple": 3}
_RESTARTS = {"permanent": 0, "transient": 1, "temporary": 2}
_CLASS, _FUNCTION, _PROCESS, _TREE = range(4)
_NO_LIMIT = (1 << 32) - 1


def _one_of(words, value, what):
    try:
        return words[value]
    except (KeyError, TypeError):
        raise ValueError(f"{what} is one of {', '.join(map(repr, words))}, not {value!r}") from None


def _ns(seconds, what):
    if not isinstance(seconds, (int, float)) or not 0 <= seconds < 9e9:
        raise ValueError(f"{what} is a number of seconds from 0, not {seconds!r}")
    return int(seconds * 1e9)


def _shutdown_ns(shutdown):
    if shutdown is None:
        return 0
    return -1 if shutdown == "kill" else max(1, _ns(shutdown, "shutdown"))


class Child:
    """What a supervisor starts, and starts again.

    what: a class of actors, whose __init__ the supervisor waits for; a function, which gets a fibril of its own and
    may receive(); a list of str, the command of an OS process; or a Supervisor. args, kwargs: what the first two are
    started with, each time anew.

    id: unique in its supervisor (str); None: the name of the class or function. restart: "permanent" (always),
    "transient" (unless it ended as "normal" or "shutdown", a process with status 0), "temporary" (never). shutdown:
    how long it may take to end before it is killed, in seconds; "kill": not at all; None: 5 s, supervisors for ever.
    name, trap_exits, mailbox, mailbox_bytes, policy: as of Actor.start. Raises ValueError, TypeError.
    """

    def __init__(self, what, /, *args, id=None, restart="permanent", shutdown=None, name=None, trap_exits=False,
                 mailbox=0, mailbox_bytes=0, policy="park", **kwargs):
        self.what = what
        self.args = args
        self.kwargs = kwargs
        self.id = id if id is not None else _id_of(what)
        self._kind = _kind_of(what)
        if self._kind in (_PROCESS, _TREE) and (args or kwargs):
            raise TypeError(f"{self.id}: only classes and functions take arguments")
        self._options = (_one_of(_RESTARTS, restart, "restart"), _shutdown_ns(shutdown), name, trap_exits,
                         bound(mailbox, "mailbox"), bound(mailbox_bytes, "mailbox_bytes"), policy_of(policy))

    def _spec(self, args=(), kwargs=None, named=True):
        what = tuple(self.what) if self._kind == _PROCESS else self.what
        if self._kind == _TREE:
            what = what._spec()
        return (self.id if named else None, self._kind, what, self.args + args, {**self.kwargs, **(kwargs or {})}, *self._options)

    def __repr__(self):
        return f"Child({self.what!r}, id={self.id!r})"


def _kind_of(what):
    if isinstance(what, type) and issubclass(what, Actor):
        return _CLASS
    if isinstance(what, Supervisor):
        return _TREE
    if isinstance(what, (list, tuple)) and what and all(isinstance(word, str) for word in what):
        return _PROCESS
    if callable(what) and not isinstance(what, type):
        return _FUNCTION
    raise TypeError(f"a child is a class of actors, a function, a command (list of str) or a Supervisor, not {what!r}")


def _id_of(what):
    if isinstance(what, Supervisor):
        return what.name or "supervisor"
    if isinstance(what, (list, tuple)):
        return str(what[0])[-63:] if what else "process"
    return getattr(what, "__name__", type(what).__name__)[:63]


class Supervisor:
    """The description of a supervisor, which start() starts; may be a child of another.

    children: of Child, or anything that Child takes alone; started in this order, ended in the reverse one. strategy,
    when one has failed: "one_for_one" starts that one again, "one_for_all" all, "rest_for_one" it and those started
    after it; "simple": the one child is a pattern, of which add(*args) starts any number, without ids.

    intensity restarts (int) within period seconds are allowed (None: any number); at one more it gives up: ends its
    children and itself, which the supervisor above it sees. backoff: seconds of pause before the first restart of a
    series, doubled for each further one up to backoff_max. name: registered under it. Raises ValueError, TypeError.
    """

    def __init__(self, children=(), strategy="one_for_one", *, intensity=1, period=5, backoff=0, backoff_max=30,
                 name=None):
        self.children = [child if isinstance(child, Child) else Child(child) for child in children]
        self.strategy = strategy
        self.name = name
        if intensity is not None and (not isinstance(intensity, int) or not 1 <= intensity < _NO_LIMIT):
            raise ValueError(f"intensity is a number of restarts from 1, or None, not {intensity!r}")
        if strategy == "simple" and len(self.children) != 1:
            raise ValueError(f"a simple supervisor has one child as a pattern, not {len(self.children)}")
        self._options = (name, _one_of(_STRATEGIES, strategy, "strategy"), _NO_LIMIT if intensity is None else intensity,
                         _ns(period, "period"), _ns(backoff, "backoff"), _ns(backoff_max, "backoff_max"))

    def start(self, link=False):
        """Start it and its children; returns its SupervisorHandle when all have begun.

        link: to the caller. Raises what a child's __init__ raised (nothing is left running then), ValueError (an id or
        name twice), RuntimeError before fibril.enable(). At the program's end it is told to end, and waited for.
        """
        handle = SupervisorHandle(_fibril._supervisor_start(self._spec(), link).id)
        handle._pattern = self.children[0] if self.strategy == "simple" else None
        _started.append(handle)
        if len(_started) > 2 * len(running()) + 16:
            _started[:] = running()
        return handle

    def _spec(self):
        return (*self._options, tuple(child._spec(named=self.strategy != "simple") for child in self.children))


_started = []


def running():
    """The supervisors that Python has started and that have not ended."""
    return [handle for handle in _started if handle.alive]


class ChildInfo(NamedTuple):
    """A child as its supervisor sees it. actor: its handle, None while it does not run. restarts: so far (int)."""

    id: str
    actor: ActorHandle | None
    restarts: int
    is_supervisor: bool


class SupervisorHandle(ActorHandle):
    """A running supervisor. Its requests wait until they are done; timeout is in seconds.

    They raise ActorEnded, TimeoutError (it may still be done), LookupError (no such child), Cancelled.
    """

    __slots__ = ("_pattern",)

    def add(self, *args, timeout=None, **kwargs):
        """Start one more child and return its handle: a Child, or under "simple" these arguments after the pattern's.

        Raises what its __init__ raised, ValueError (the id is taken).
        """
        pattern = getattr(self, "_pattern", None)
        if pattern is not None:
            return _fibril._supervisor_add(self.id, pattern._spec(args, kwargs, named=False), True, timeout)
        if len(args) != 1 or kwargs:
            raise TypeError("add() takes one Child")
        child = args[0] if isinstance(args[0], Child) else Child(args[0])
        return _fibril._supervisor_add(self.id, child._spec(), False, timeout)

    def end(self, child, timeout=None):
        """End a child, by its id (str) or handle, and do not start it again by itself.

        Its description is kept for restart(), unless it is temporary or was named by its handle.
        """
        name, number = (child, 0) if isinstance(child, str) else (None, child.id)
        _fibril._supervisor_request(1, self.id, name, number, timeout)

    def restart(self, id, timeout=None):
        """Start a child again that has ended; returns its handle. Raises RuntimeError if it is running."""
        return _fibril._supervisor_request(2, self.id, id, 0, timeout)

    def remove(self, id, timeout=None):
        """Forget a child that has ended. Raises RuntimeError if it is running."""
        _fibril._supervisor_request(3, self.id, id, 0, timeout)

    def children(self, timeout=None):
        """Its children in the order of starting: a list of ChildInfo."""
        return [ChildInfo(*child) for child in _fibril._supervisor_children(self.id, timeout)]

    def __getitem__(self, id):
        """The handle of the child with this id, None while it does not run. Raises KeyError."""
        for child in self.children():
            if child.id == id:
                return child.actor
        raise KeyError(id)
