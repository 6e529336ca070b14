# SPDX-License-Identifier: MIT
"""Handles and classes of actors, how they start, and how their code is replaced."""

import functools
import importlib
import inspect

from . import _fibril
from ._actor_mail import Caller
from ._actor_options import bound, policy_of
from ._actor_reports import ActorEnded, number_of


class ActorHandle(_fibril._Handle):
    """An actor, as others have it: to keep, compare, send on. It does not keep the actor alive."""

    __slots__ = ()

    def stop(self, reason="normal", timeout=None):
        """Have it end after the messages that were sent before, with its terminate(), and wait for that.

        Returns False if it had ended before. A function is told to end at once, as by exit("shutdown"). timeout:
        seconds. Raises TimeoutError (it may still end), Deadlock for itself, Cancelled.
        """
        if _fibril._actor_is_class(self.id):
            return _fibril._actor_stop(self.id, number_of(reason), timeout)
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
        _fibril._actor_exit(self.id, number_of(reason))

    def kill(self):
        """Tell it to end, which cannot be trapped; those who watch see the reason "killed"."""
        _fibril._actor_exit(self.id, number_of("kill"))

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
        check_class(new_class)
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

    def __reduce_ex__(self, protocol):
        raise TypeError("a handle means something in its own process only; messages carry it to others (fibril.nodes)")

    def __repr__(self):
        name = self.name
        return f"<{type(self).__name__} {self.id}{f' {name!r}' if name else ''}{'' if self.alive else ' ended'}>"


# ---- actors ------------------------------------------------------------------------------------------

def check_class(cls):
    """Raises TypeError if it is no class of actors."""
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

    _is_actor = True

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        for name, value in vars(cls).items():
            if not name.startswith("on_") and name not in ("__init__", "terminate", "describe"):
                continue
            value = getattr(value, "__func__", value)
            if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
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
        _fibril._actor_stop_self(number_of(reason))

    def defer(self):
        """Reply to the call that is being handled later: returns its Caller, None if it is no call."""
        from_ = _fibril._actor_defer()
        return None if from_ is None else Caller(from_)

    def set_idle(self, seconds):
        """From now on on_idle() is called whenever nothing has come for so long. None ends it."""
        _fibril._actor_set_idle(seconds)


def _start(passive, function, args, kwargs, name, link, monitor, trap_exits, mailbox, mailbox_bytes, policy, timeout):
    return _fibril._actor_start(passive, function, args, kwargs, name, link, monitor, trap_exits,
                                bound(mailbox, "mailbox"), bound(mailbox_bytes, "mailbox_bytes"), policy_of(policy),
                                timeout)


def spawn(function, /, *args, name=None, link=False, monitor=False, trap_exits=False, mailbox=0, mailbox_bytes=0,
          policy="park", **kwargs):
    """Start function(*args, **kwargs) as an actor, which receives by receive(); returns its ActorHandle.

    It has a fibril of its own and does not keep the process alive. What it raises is reported, and is its reason;
    otherwise that is "normal". The options are those of Actor.start.
    """
    return _start(False, function, args, kwargs, name, link, monitor, trap_exits, mailbox, mailbox_bytes, policy,
                  None)[0]


class ActorFunction:
    """What the decorator actor() makes of a function: start() starts an actor that runs it, a call just calls it."""

    def __init__(self, function, options):
        functools.update_wrapper(self, function)
        self._options = options

    def start(self, /, *args, **kwargs):
        """Start function(*args, **kwargs) as an actor, as spawn does; returns its ActorHandle."""
        return _start(False, self.__wrapped__, args, kwargs, **self._options)[0]

    def __call__(self, /, *args, **kwargs):
        return self.__wrapped__(*args, **kwargs)

    def __get__(self, instance, owner=None):
        return self if instance is None else ActorFunction(self.__wrapped__.__get__(instance, owner), self._options)


def actor(function=None, /, *, name=None, link=False, monitor=False, trap_exits=False, mailbox=0, mailbox_bytes=0,
          policy="park"):
    """A decorator: ``@fibril.actor``, or with options of Actor.start, for functions that are actors.

        @fibril.actor(mailbox=100)
        def printer(prefix):
            while True:
                print(prefix, fibril.receive())

        printer.start("> ").send("hello")

    Raises TypeError for what is no function, ValueError for options.
    """
    options = {"name": name, "link": link, "monitor": monitor, "trap_exits": trap_exits, "mailbox": mailbox,
               "mailbox_bytes": mailbox_bytes, "policy": policy, "timeout": None}
    bound(mailbox, "mailbox"), bound(mailbox_bytes, "mailbox_bytes"), policy_of(policy)

    def decorate(function):
        if not callable(function) or isinstance(function, type):
            raise TypeError(f"actor() decorates functions, not {function!r}: a class derives from fibril.Actor")
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            raise TypeError(f"{function.__qualname__} is async, which an actor needs not: write def, and call what blocks")
        return ActorFunction(function, options)

    return decorate if function is None else decorate(function)


def change(actor, new):
    """Has an actor go on as another class."""
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
    new = importlib.reload(module)
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
