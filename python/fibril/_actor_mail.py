# SPDX-License-Identifier: MIT
"""What arrives at actors, and whom they reply to."""

import reprlib
from dataclasses import dataclass

from . import _fibril


@dataclass(frozen=True)
class Down:
    """A monitored actor has ended, or had. ref: what monitor() returned. reason: a word, a number or Crashed."""

    actor: "ActorHandle"
    ref: int
    reason: object


@dataclass(frozen=True)
class Exit:
    """A linked actor has ended, or one has told us to, while we trap exits. reason: as of Down."""

    actor: "ActorHandle | None"
    reason: object


@dataclass(frozen=True)
class DeadLetter:
    """A message that reached nobody, for whoever asked by dead_letters_to()."""

    to: "ActorHandle"
    message: object


class Caller:
    """Who waits for a reply that comes later: what Actor.defer() returns. May be handed on to any actor or thread."""

    __slots__ = ("_from",)

    def __init__(self, from_):
        self._from = from_

    def reply(self, value=None):
        """Return value from the call. If the caller waits no longer it is dropped, and counted."""
        _fibril._actor_reply(*self._from, value, False)

    def fail(self, error):
        """Raise error, an exception, from the call."""
        if not isinstance(error, BaseException):
            raise TypeError(f"not an exception: {error!r}")
        _fibril._actor_reply(*self._from, error, True)

    def give(self, value):
        """One more value of a stream. Parks while the reader is behind; returns whether somebody still reads."""
        return _fibril._actor_give(*self._from, value, False)

    def end(self):
        """The stream has no more values."""
        return _fibril._actor_give(*self._from, None, True)


class Request:
    """A call or cast that a function which is an actor receives: ``case Request("add", (n,))``.

    name: without on_ (str). args (tuple), kwargs (dict). kind: "call", "cast" or "stream". caller: a Caller, None for
    a cast.
    """

    __slots__ = ("args", "caller", "kind", "kwargs", "name")
    __match_args__ = ("name", "args", "kwargs")

    def __init__(self, kind, name, args, kwargs, caller):
        self.kind = kind
        self.name = name[3:]
        self.args = args
        self.kwargs = kwargs
        self.caller = None if caller is None else Caller(caller)

    def reply(self, value=None):
        """Return value from the call; nothing for a cast."""
        if self.caller is not None:
            self.caller.reply(value)

    def fail(self, error):
        """Raise error from the call; nothing for a cast."""
        if self.caller is not None:
            self.caller.fail(error)

    def __repr__(self):
        arguments = [reprlib.repr(each) for each in self.args]
        arguments += [f"{name}={reprlib.repr(value)}" for name, value in self.kwargs.items()]
        return f"{self.kind} {self.name}({', '.join(arguments)})"


class Foreign:
    """A message of an actor in C. tag (int), data (bytes). reply(data): if it is a call."""

    __slots__ = ("_from", "data", "tag")
    __match_args__ = ("tag", "data")

    def __init__(self, tag, data, caller):
        self.tag = tag
        self.data = data
        self._from = caller

    def reply(self, data=b""):
        """Reply with bytes."""
        if self._from is not None:
            _fibril._actor_reply_bytes(*self._from, data)

    def __repr__(self):
        return f"Foreign({self.tag}, {reprlib.repr(self.data)})"
