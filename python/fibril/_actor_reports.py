# SPDX-License-Identifier: MIT
"""Why actors end: reasons as Python and as C say them, the exceptions that tell of them, the log of crashes."""

import itertools
import logging
import os
import reprlib
import traceback

log = logging.getLogger("fibril.actors")

_REASONS = {"normal": 0, "shutdown": -10001, "kill": -10002, "killed": -10003, "noproc": -10004,
            "noconnection": -10005}
_WORDS = {number: word for word, number in _REASONS.items()}
_CRASHES = 0x50000000  # and 28 bits: the numbers of what Python's actors raised; the last KEPT of them are known
_KEPT = 256
_crashes = {}
_crash_numbers = itertools.count(int.from_bytes(os.urandom(4), "little"))  # other processes have others


class Crashed(Exception):
    """Why an actor ended that raised something: what Down and Exit have as their reason.

    type: the class of the exception. message: its text (str). traceback: as it was printed (str). It holds nothing of
    the actor. number: what C sees. Of an actor of another process only the number is known: type is None, and the
    report of the crash is there.
    """

    def __init__(self, kind, message, traceback, number):
        super().__init__(message if kind is None else f"{kind.__name__}: {message}")
        self.type = kind
        self.message = message
        self.traceback = traceback
        self.number = number


def reason_of(number):
    """What Python says for a reason: a word, what was raised, or a number of the program's own."""
    known = _WORDS.get(number)
    if known is None:
        known = _crashes.get(number)
    if known is None and number & ~0xfffffff == _CRASHES:
        return Crashed(None, "it raised something in another process, or long ago", "", number)
    return number if known is None else known


def number_of(reason):
    """What C says for a reason. Raises ValueError, TypeError."""
    if isinstance(reason, Crashed):
        return reason.number
    if isinstance(reason, str):
        try:
            return _REASONS[reason]
        except KeyError:
            raise ValueError(f"a reason is {', '.join(map(repr, _REASONS))} or an int, not {reason!r}") from None
    if isinstance(reason, int) and -(1 << 31) <= reason < 1 << 31:
        return int(reason)
    raise TypeError(f"a reason is a str or an int of 32 bits, not {reason!r}")


# ---- what goes wrong ---------------------------------------------------------------------------------

class ActorEnded(RuntimeError):
    """The actor has ended, or did before it replied. actor: its handle."""

    def __init__(self, actor, text):
        super().__init__(text)
        self.actor = actor


class ActorFailed(RuntimeError):
    """The handler that was called raised something, which ended its actor: the cause (``__cause__``).

    actor: its handle.
    """

    def __init__(self, actor, text):
        super().__init__(text)
        self.actor = actor


class MailboxFull(RuntimeError):
    """The mailbox is full, and its policy is "fail"."""


class Refuse(Exception):
    """Raised by a handler to answer a call with an exception, which the caller gets as it is. The actor lives on.

    error: that exception.
    """

    def __init__(self, error):
        super().__init__(error)
        self.error = error


def raised(handle, method, error):
    """What the caller gets of a handler that raised."""
    name = getattr(method, "__name__", method)
    failure = ActorFailed(handle, f"{handle!r} failed in {name}: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def ended(handle, errno):
    """What the caller gets where there is no reply."""
    if errno == 38:
        return ActorEnded(handle, f"{handle!r} does not take such calls")
    if errno == 71:
        return ActorEnded(handle, f"{handle!r} answered with what is no bytes")
    return ActorEnded(handle, f"{handle!r} has ended" + (" without a reply" if errno == 32 else ""))


def describe(actor):
    """The state of an actor as text: what its describe() says, else its attributes."""
    describe = getattr(actor, "describe", None)
    try:
        text = describe() if describe is not None else reprlib.repr(getattr(actor, "__dict__", actor))
    except Exception as error:  # a report must come out whatever the state is in
        text = f"<describe raised {type(error).__name__}: {error}>"
    return str(text)


def crashed(handle, who, error, message):
    """Reports what ended an actor; returns the number of the reason."""
    trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    number = _CRASHES | next(_crash_numbers) & 0xfffffff
    _crashes[number] = Crashed(type(error), str(error), trace, number)
    if len(_crashes) > _KEPT:
        del _crashes[next(iter(_crashes))]
    is_actor = getattr(type(who), "_is_actor", False)
    what = type(who).__qualname__ if is_actor else getattr(who, "__qualname__", repr(who))
    lines = [f"actor {getattr(handle, 'id', 0)} {getattr(handle, 'name', None) or ''}({what}) ended: "
             f"{type(error).__name__}: {error}"]
    if message is not None:
        lines.append(f"    last message: {reprlib.repr(message)}")
    if is_actor:
        lines.append(f"    state: {describe(who)}")
    log.error("%s\n%s", "\n".join(lines), trace.rstrip())
    return number
