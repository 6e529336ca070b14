# SPDX-License-Identifier: MIT
"""Actors: objects that run on their own, are reached by messages, watch each other, and are started again.

``class Counter(fibril.Actor)`` with methods ``on_NAME``; ``Counter.start()`` returns an ActorHandle, whose ``call`` has
the actor call ``on_NAME`` and waits for the result, while ``cast`` does not wait. An actor does one thing at a time, so
it needs no locks; its handlers may block, which parks the actor and nobody else. The rules are Erlang's, and those of
fibril's actors in C, with which these share everything. Times are seconds (int or float); None means for ever.
"""

import importlib as _importlib
import inspect as _inspect
import itertools as _itertools
import logging as _logging
import reprlib as _reprlib
import traceback as _traceback
from dataclasses import dataclass as _dataclass

from . import _fibril

__all__ = ["Actor", "ActorEnded", "ActorFailed", "ActorHandle", "Caller", "Crashed", "DeadLetter", "Down", "Exit",
           "Foreign", "MailboxFull", "Pattern", "Refuse", "Request", "Timer", "counts", "dead_letters_to", "demonitor",
           "forget_name", "join_topic", "leave_topic", "link", "me", "members", "monitor", "publish", "receive",
           "register", "reload", "send_after", "send_every", "set_mailbox", "spawn", "trap_exits", "unlink",
           "waiting", "whereis"]

_log = _logging.getLogger("fibril.actors")

# ---- reasons -----------------------------------------------------------------------------------------

_REASONS = {"normal": 0, "shutdown": -10001, "kill": -10002, "killed": -10003, "noproc": -10004}
_WORDS = {number: word for word, number in _REASONS.items()}
_CRASHES = 0x50000000  # the numbers of what Python's actors raised; the last KEPT of them are known
_KEPT = 256
_crashes = {}
_crash_numbers = _itertools.count()


class Crashed(Exception):
    """Why an actor ended that raised something: what Down and Exit have as their reason.

    type: the class of the exception. message: its text (str). traceback: as it was printed (str). It holds nothing of
    the actor. number: what C sees.
    """

    def __init__(self, error, traceback, number):
        super().__init__(f"{type(error).__name__}: {error}")
        self.type = type(error)
        self.message = str(error)
        self.traceback = traceback
        self.number = number


def _reason(number):
    """What Python says for a reason: a word, what was raised, or a number of the program's own."""
    known = _WORDS.get(number)
    return known if known is not None else _crashes.get(number, number)


def _number(reason):
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


def _raised(handle, method, error):
    name = getattr(method, "__name__", method)
    failure = ActorFailed(handle, f"{handle!r} failed in {name}: {type(error).__name__}: {error}")
    failure.__cause__ = error
    return failure


def _ended(handle, errno):
    if errno == 38:
        return ActorEnded(handle, f"{handle!r} does not take such calls")
    if errno == 71:
        return ActorEnded(handle, f"{handle!r} answered with what is no bytes")
    return ActorEnded(handle, f"{handle!r} has ended" + (" without a reply" if errno == 32 else ""))


def _describe(actor):
    """The state of an actor as text: what its describe() says, else its attributes."""
    describe = getattr(actor, "describe", None)
    try:
        text = describe() if describe is not None else _reprlib.repr(getattr(actor, "__dict__", actor))
    except Exception as error:  # a report must come out whatever the state is in
        text = f"<describe raised {type(error).__name__}: {error}>"
    return str(text)


def _crashed(handle, who, error, message):
    """Reports what ended an actor; returns the number of the reason."""
    trace = "".join(_traceback.format_exception(type(error), error, error.__traceback__))
    number = _CRASHES | next(_crash_numbers) & 0xfffff
    _crashes[number] = Crashed(error, trace, number)
    if len(_crashes) > _KEPT:
        del _crashes[next(iter(_crashes))]
    is_actor = isinstance(who, Actor)
    what = type(who).__qualname__ if is_actor else getattr(who, "__qualname__", repr(who))
    lines = [f"actor {getattr(handle, 'id', 0)} {getattr(handle, 'name', None) or ''}({what}) ended: "
             f"{type(error).__name__}: {error}"]
    if message is not None:
        lines.append(f"    last message: {_reprlib.repr(message)}")
    if is_actor:
        lines.append(f"    state: {_describe(who)}")
    _log.error("%s\n%s", "\n".join(lines), trace.rstrip())
    return number


# ---- what arrives ------------------------------------------------------------------------------------

@_dataclass(frozen=True)
class Down:
    """A monitored actor has ended, or had. ref: what monitor() returned. reason: a word, a number or Crashed."""

    actor: "ActorHandle"
    ref: int
    reason: object


@_dataclass(frozen=True)
class Exit:
    """A linked actor has ended, or one has told us to, while we trap exits. reason: as of Down."""

    actor: "ActorHandle | None"
    reason: object


@_dataclass(frozen=True)
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
        arguments = [_reprlib.repr(each) for each in self.args]
        arguments += [f"{name}={_reprlib.repr(value)}" for name, value in self.kwargs.items()]
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
        return f"Foreign({self.tag}, {_reprlib.repr(self.data)})"


# ---- handles -----------------------------------------------------------------------------------------

class ActorHandle(_fibril._Handle):
    """An actor, as others have it: to keep, compare, send on. It does not keep the actor alive."""

    __slots__ = ()

    def stop(self, reason="normal", timeout=None):
        """Have it end after the messages that were sent before, with its terminate(), and wait for that.

        Returns False if it had ended before. A function is told to end at once, as by exit("shutdown"). timeout:
        seconds. Raises TimeoutError (it may still end), Deadlock for itself, Cancelled.
        """
        if _fibril._actor_is_class(self.id):
            return _fibril._actor_stop(self.id, _number(reason), timeout)
        alive = self.alive
        self.exit("shutdown" if reason == "normal" else reason)
        self.join(timeout)
        return alive

    def join(self, timeout=None):
        """Wait until it has ended. timeout: seconds. Raises TimeoutError, Deadlock for itself, Cancelled."""
        _fibril._actor_join(self.id, timeout)

    def exit(self, reason="shutdown"):
        """Tell it to end: its present wait raises Cancelled, and terminate() is called. Overtakes messages.

        One that traps exits gets Exit instead; the reason "normal" tells it nothing then, and otherwise does nothing.
        """
        _fibril._actor_exit(self.id, _number(reason))

    def kill(self):
        """Tell it to end, which cannot be trapped; those who watch see the reason "killed"."""
        _fibril._actor_exit(self.id, _REASONS["kill"])

    def link(self):
        """Tie it and the caller: who fails takes the other along. See fibril.actors.link."""
        _fibril._actor_link(self.id, True)

    def unlink(self):
        """End the link."""
        _fibril._actor_link(self.id, False)

    def monitor(self):
        """The caller gets Down when it ends, or has; returns the ref (int), for demonitor()."""
        return _fibril._actor_monitor(self.id)

    def replace(self, new_class, timeout=None):
        """Have it go on as new_class, a class of actors, with the state it has, between two messages.

        If new_class has a method on_change(self, old_class), that is called first; if it raises, all is as before and
        the exception is raised here. Mailbox, links and timers stay.
        """
        _check_class(new_class)
        self._replace(new_class, timeout)

    def status(self, timeout=None):
        """Its state, as text: what its describe() says. Errors as of call."""
        return _fibril._actor_status(self.id, timeout)

    def call_bytes(self, tag, data=b"", timeout=None):
        """Call an actor in C with a message of this tag (int) and bytes; returns the reply's bytes."""
        return self._foreign(2, tag, data, timeout)

    def send_bytes(self, tag, data=b"", timeout=None):
        """Send a message of this tag and bytes to an actor in C."""
        self._foreign(0, tag, data, timeout)

    def cast_bytes(self, tag, data=b"", timeout=None):
        """The same as a cast, for servers in C."""
        self._foreign(1, tag, data, timeout)

    def __repr__(self):
        name = self.name
        return f"<{type(self).__name__} {self.id}{f' {name!r}' if name else ''}{'' if self.alive else ' ended'}>"


# ---- actors ------------------------------------------------------------------------------------------

_POLICIES = {"park": 0, "fail": 1, "drop_oldest": 2, "drop_newest": 3}


def _policy(policy):
    try:
        return _POLICIES[policy]
    except KeyError:
        raise ValueError(f"a policy is one of {', '.join(map(repr, _POLICIES))}, not {policy!r}") from None


def _bound(value, what):
    if not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ValueError(f"{what} is a number from 0 (the default) to 2**31 - 1, not {value!r}")
    return value


def _check_class(cls):
    if not isinstance(cls, type) or not issubclass(cls, Actor):
        raise TypeError(f"not a class of actors: {cls!r}")


class Actor:
    """The base of classes of actors.

    ``on_NAME(self, ...)`` handles calls and casts of NAME; a call returns what it returns, and ``stream`` what it
    yields. ``__init__`` runs in the actor: start waits for it. These are called if they are there:

    on_message(message): what was sent by send, timers and topics; on_down(down), on_exit(exit); on_idle() after as
    many seconds without a message as set_idle said; terminate(reason) at the end, always; describe(): its state as
    text, for reports; on_change(old_class): see ActorHandle.replace.

    What a handler raises ends the actor: it is reported to the log "fibril.actors" with the state, the last message
    and the traceback; the caller gets ActorFailed; links and monitors see Crashed. A call of what has no handler
    raises AttributeError in the caller, and such a cast is a dead letter.

    Names without on_ are the program's own, but for me, stop, defer, set_idle, start, terminate and describe.
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if not name.startswith("on_") and name not in ("__init__", "terminate", "describe"):
                continue
            value = getattr(value, "__func__", value)
            if _inspect.iscoroutinefunction(value) or _inspect.isasyncgenfunction(value):
                raise TypeError(f"{cls.__qualname__}.{name} is async, which an actor needs not: write def, and call "
                                "what blocks; that parks this actor and nobody else (fibril.wait_for runs a coroutine)")

    @classmethod
    def start(cls, /, *args, name=None, link=False, monitor=False, trap_exits=False, mailbox=0, mailbox_bytes=0,
              policy="park", timeout=None, **kwargs):
        """Start an actor and return its ActorHandle when __init__(*args, **kwargs) has returned.

        name: registered under it. link, monitor: to and by the caller, from the first. trap_exits: exit signals become
        on_exit. mailbox: at most so many messages wait (0: 65,536), and mailbox_bytes bytes of references (0: 64 MiB);
        policy, for more: "park" (the sender waits), "fail" (it gets MailboxFull), "drop_oldest", "drop_newest".
        timeout: seconds for __init__; then the actor is ended, and waited for.

        Raises what __init__ raised, ValueError (name taken), TimeoutError, ActorEnded (told to end before it began),
        RuntimeError before fibril.enable(). __init__ may have arguments of these names: as keywords of functools.
        """
        return _start(True, cls, args, kwargs, name, link, monitor, trap_exits, mailbox, mailbox_bytes, policy,
                      timeout)[0]

    @property
    def me(self):
        """The handle of the actor that calls."""
        return _fibril._actor_self()

    def stop(self, reason="normal"):
        """End after this handler, whose result its caller still gets."""
        _fibril._actor_stop_self(_number(reason))

    def defer(self):
        """Reply to the call that is being handled later: returns its Caller, None if it is no call."""
        from_ = _fibril._actor_defer()
        return None if from_ is None else Caller(from_)

    def set_idle(self, seconds):
        """From now on on_idle() is called whenever nothing has come for so long. None ends it."""
        _fibril._actor_set_idle(seconds)


def _start(passive, function, args, kwargs, name, link, monitor, trap_exits, mailbox, mailbox_bytes, policy, timeout):
    return _fibril._actor_start(passive, function, args, kwargs, name, link, monitor, trap_exits,
                                _bound(mailbox, "mailbox"), _bound(mailbox_bytes, "mailbox_bytes"), _policy(policy),
                                timeout)


def spawn(function, /, *args, name=None, link=False, monitor=False, trap_exits=False, mailbox=0, mailbox_bytes=0,
          policy="park", **kwargs):
    """Start function(*args, **kwargs) as an actor, which receives by receive(); returns its ActorHandle.

    It has a fibril of its own and does not keep the process alive. What it raises is reported, and is its reason;
    otherwise that is "normal". The options are those of Actor.start.
    """
    return _start(False, function, args, kwargs, name, link, monitor, trap_exits, mailbox, mailbox_bytes, policy,
                  None)[0]


def _change(actor, new):
    old, state = type(actor), dict(vars(actor))
    actor.__class__ = new
    try:
        change = getattr(actor, "on_change", None)
        if change is not None:
            change(old)
    except BaseException:
        actor.__class__ = old
        vars(actor).clear()
        vars(actor).update(state)
        raise
    return True


def reload(module):
    """Load a module again, and have every actor of its classes go on with the new code; returns how many did.

    Classes are found by their names. An actor that is busy changes between two messages; this waits for it. Raises
    what the module, or an on_change, raises: actors that had been changed before remain so.
    """
    old = {cls for _, cls in _fibril._actor_list() if cls.__module__ == module.__name__}
    new = _importlib.reload(module)
    changed = 0
    for handle, cls in _fibril._actor_list():
        found = new
        for part in cls.__qualname__.split("."):
            found = getattr(found, part, None)
        if cls in old and found is not cls and isinstance(found, type) and issubclass(found, Actor):
            try:
                handle.replace(found)
            except ActorEnded:
                continue
            changed += 1
    return changed


# ---- what every actor can do -------------------------------------------------------------------------

def me():
    """The handle of the calling actor. Any fibril becomes one by this, main included."""
    return _fibril._actor_self()


class Pattern:
    """A predicate to receive by, again and again: what was looked at and not wanted is not looked at again.

    wanted(message): whether to take it; says the same of the same message each time, and does not wait.
    """

    __slots__ = ("_serial", "wanted")
    _serials = _itertools.count(1)

    def __init__(self, wanted):
        if not callable(wanted):
            raise TypeError(f"not callable: {wanted!r}")
        self.wanted = wanted
        self._serial = next(self._serials)


_by_class = {}


def _pattern_of(classes):
    found = _by_class.get(classes)
    if found is None:
        if len(_by_class) >= 256:
            _by_class.clear()
        found = _by_class[classes] = Pattern(lambda message: isinstance(message, classes))
    return found


def receive(wanted=None, timeout=None):
    """Take the oldest message that is wanted, and leave the others; signals come first.

    wanted: None for any, a class or a tuple of classes, a function of the message, or a Pattern, by which choosing
    among many messages again and again costs no more than among few. timeout: seconds.

    For functions: a handler of an Actor can use it too, and takes messages from before its other handlers then. Calls
    and casts arrive as Request. Raises TimeoutError, Cancelled (also when told to end), and what wanted raises.
    """
    if wanted is None:
        return _fibril._actor_receive(None, 0, timeout)
    if isinstance(wanted, (type, tuple)):
        wanted = _pattern_of(wanted)
    if not isinstance(wanted, Pattern):
        return _fibril._actor_receive(wanted, 0, timeout)
    serial = wanted._serial
    wanted._serial = None
    try:
        got = _fibril._actor_receive(wanted.wanted, serial or 0, timeout)
    except TimeoutError:
        wanted._serial = serial
        raise
    except BaseException:  # not all was looked at: what was seen must be seen again
        wanted._serial = next(Pattern._serials)
        raise
    wanted._serial = serial
    return got


def waiting():
    """How many messages wait for the caller, signals included."""
    return _fibril._actor_waiting()


def link(actor):
    """Tie the caller and actor: if one fails the other is told to end too, or gets Exit if it traps exits."""
    actor.link()


def unlink(actor):
    """End the link; no signal comes through it afterwards."""
    actor.unlink()


def monitor(actor):
    """Have Down sent to the caller when actor ends, or has; returns the ref (int)."""
    return actor.monitor()


def demonitor(ref):
    """End a monitor; a Down that waits already is taken back. Returns False if there was none."""
    return _fibril._actor_demonitor(ref)


def trap_exits(on=True):
    """Whether exit signals become messages Exit for the caller. Returns what it was."""
    return _fibril._actor_trap(on)


def set_mailbox(messages=0, bytes=0, policy="park"):
    """Bound the caller's mailbox; see Actor.start."""
    _fibril._actor_set_mailbox(_bound(messages, "messages"), _bound(bytes, "bytes"), _policy(policy))


class Timer:
    """What send_after and send_every return."""

    __slots__ = ("_number",)

    def __init__(self, number):
        self._number = number

    def cancel(self):
        """End it. Returns whether it had not sent its last message yet."""
        return _fibril._actor_cancel_timer(self._number)


def send_after(seconds, actor, message):
    """Send message to actor after so many seconds; returns a Timer. A full mailbox drops it, and counts."""
    return Timer(_fibril._actor_send_at(actor.id, message, seconds, 0.0))


def send_every(seconds, actor, message):
    """Send message to actor each so many seconds, until it ends; returns a Timer."""
    if not seconds > 0:
        raise ValueError("an interval is above 0 seconds")
    return Timer(_fibril._actor_send_at(actor.id, message, seconds, float(seconds)))


def register(actor, name):
    """Give actor a name, which it loses when it ends. Raises ValueError if it is taken, ActorEnded."""
    _fibril._actor_register(actor.id, name)


def forget_name(name):
    """Take a name away. Returns False if nobody had it."""
    return _fibril._actor_unregister(name)


def whereis(name):
    """The ActorHandle of who has the name, or None."""
    return _fibril._actor_whereis(name)


def join_topic(topic, actor=None):
    """Have actor (None: the caller) get what is published on topic (str). Raises ActorEnded."""
    _fibril._actor_topic(topic, (actor or me()).id, True)


def leave_topic(topic, actor=None):
    """End that. Returns False if it was no member."""
    return _fibril._actor_topic(topic, (actor or me()).id, False)


def members(topic):
    """The ActorHandles of a topic's members (list)."""
    return _fibril._actor_members(topic)


def publish(topic, message, timeout=None):
    """Send message to each member of topic, as send does; returns how many took it."""
    return _fibril._actor_publish(topic, message, timeout)


def dead_letters_to(actor):
    """Send the process's dead letters to actor, as DeadLetter; None ends it."""
    _fibril._actor_dead_letters_to(0 if actor is None else actor.id)


def counts():
    """Sums since the process began (dict): spawned, ended, crashed, dead_letters, dropped, late_replies."""
    return _fibril._actor_counts()


_fibril._actor_setup((ActorHandle, Down, Exit, DeadLetter, Request, Foreign, _reason, _crashed, _raised, _ended,
                      MailboxFull, Refuse, _describe, _change))
