# SPDX-License-Identifier: MIT
"""Event buses: an actor that hands each message it gets to handlers that can be added and removed, after Erlang's
gen_event and fibril's bus.h. For a message to many actors that nobody handles in between there are topics.

Handlers run on the bus, one after the other, in the order in which they were added. One that raises is removed and
reported, and the others go on.
"""

import reprlib
import traceback
from dataclasses import dataclass

from . import _fibril
from ._actor import Actor, ActorHandle
from ._actor_reports import Refuse, log, raised


@dataclass(frozen=True)
class HandlerEnded:
    """A handler of a bus has ended otherwise than by remove(), for its owner. reason: an exception, or a word."""

    bus: ActorHandle
    id: str
    reason: object


class _Handler:
    __slots__ = ("id", "object", "on_event", "owner", "ref")

    def __init__(self, id, what, args, kwargs, owner):
        self.id = id
        self.owner = owner
        self.ref = None
        if isinstance(what, type):
            self.object = what(*args, **kwargs)
            self.on_event = self.object.on_event
        else:
            self.object = what
            self.on_event = (lambda event: what(event, *args, **kwargs)) if args or kwargs else what


class _BusActor(Actor):
    """The actor that has the handlers."""

    def __init__(self):
        self.handlers = {}
        self.by_ref = {}

    def on_add(self, id, what, args, kwargs, owner):
        """A new handler. What its class raises is for the caller."""
        if id in self.handlers:
            raise Refuse(ValueError(f"there is a handler {id!r} already"))
        try:
            handler = _Handler(id, what, args, kwargs, owner)
        except _fibril.Cancelled:
            raise
        except BaseException as error:
            raise Refuse(error) from None
        if owner is not None:
            handler.ref = owner.monitor()
            self.by_ref[handler.ref] = handler
        self.handlers[id] = handler

    def on_remove(self, id):
        """The end of a handler, by order."""
        self._end(self._find(id), "normal")

    def on_notify(self, event):
        """An event whose sender wants to know that all have had it."""
        self._happen(event)

    def on_ask(self, id, name, args, kwargs):
        """A call of one handler's method."""
        handler = self._find(id)
        method = getattr(handler.object, "on_" + name, None)
        if method is None:
            raise Refuse(AttributeError(f"the handler {id!r} has no on_{name}"))
        try:
            return method(*args, **kwargs)
        except (Refuse, _fibril.Cancelled):
            raise
        except BaseException as error:
            self._failed(handler, error, name)
            raise Refuse(raised(self.me, "on_" + name, error)) from None

    def on_handlers(self):
        """The ids, in order."""
        return list(self.handlers)

    def on_message(self, event):
        """An event."""
        self._happen(event)

    def on_down(self, down):
        """An owner has ended, and takes its handler along; any other is an event."""
        handler = self.by_ref.get(down.ref)
        if handler is not None:
            self._end(handler, down.reason)
        else:
            self._happen(down)

    def terminate(self, reason):
        """All handlers end with the bus."""
        for handler in list(self.handlers.values()):
            self._tell(handler, reason)
            self._end(handler, reason)

    def describe(self):
        """The ids of the handlers, as text."""
        return f"handlers: {', '.join(self.handlers) or 'none'}"

    def _find(self, id):
        try:
            return self.handlers[id]
        except KeyError:
            raise Refuse(LookupError(f"there is no handler {id!r}")) from None

    def _happen(self, event):
        for handler in list(self.handlers.values()):
            if self.handlers.get(handler.id) is not handler:
                continue
            try:
                result = handler.on_event(event)
            except _fibril.Cancelled:
                raise
            except BaseException as error:
                self._failed(handler, error, event)
            else:
                if result is Bus.REMOVE:
                    self._tell(handler, "normal")
                    self._end(handler, "normal")

    def _failed(self, handler, error, event):
        trace = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        log.error("%r: handler %r removed: %s: %s\n    event: %s\n    state: %s\n%s", self.me, handler.id,
                  type(error).__name__, error, reprlib.repr(event), reprlib.repr(getattr(handler.object, "__dict__", "")),
                  trace.rstrip())
        error.__traceback__ = None  # it would hold the bus
        self._tell(handler, error)
        self._end(handler, error)

    def _tell(self, handler, reason):
        """The owner hears of it, if it has room."""
        if handler.owner is not None:
            try:
                handler.owner.send(HandlerEnded(self.me, handler.id, reason), timeout=0)
            except (TimeoutError, RuntimeError):
                log.warning("%r has no room for the end of handler %r", handler.owner, handler.id)

    def _end(self, handler, reason):
        del self.handlers[handler.id]
        if handler.ref is not None:
            _fibril._actor_demonitor(handler.ref)
            del self.by_ref[handler.ref]
        terminate = getattr(handler.object, "terminate", None)
        if terminate is None:
            return
        try:
            terminate(reason)
        except _fibril.Cancelled:
            raise
        except BaseException as error:
            log.error("%r: terminate of handler %r raised %s: %s", self.me, handler.id, type(error).__name__, error)


class BusHandle(ActorHandle):
    """A running bus. send(event), timers and topics bring it events. BusHandle(id) makes one of any handle's id.

    timeout: seconds. All raise TimeoutError (it may still be done), ActorEnded, Cancelled.
    """

    __slots__ = ()

    def add(self, id, what, /, *args, owned=False, timeout=None, **kwargs):
        """Add a handler under an id (str), which must be free: else ValueError.

        what: a class, of which the bus makes an object by these arguments: its on_event(event) is called for each
        event, others of its on_NAME by ask(), terminate(reason), if it has that, at its end; or a function of the
        event and the arguments. What the class raises is raised here. owned: it goes with the caller, who gets a
        HandlerEnded if it ends before.
        """
        owner = _fibril._actor_self() if owned else None
        self.call("add", id, what, args, kwargs, owner, timeout=timeout)

    def remove(self, id, timeout=None):
        """Remove a handler; its terminate("normal") has been called then. Raises LookupError."""
        self.call("remove", id, timeout=timeout)

    def notify(self, event, timeout=None):
        """Send an event, and wait until all handlers have had it."""
        self.call("notify", event, timeout=timeout)

    def ask(self, id, name, /, *args, timeout=None, **kwargs):
        """Call on_NAME of one handler, and return what that returned.

        Raises LookupError, AttributeError, ActorFailed if it raised something, which has removed it.
        """
        return self.call("ask", id, name, args, kwargs, timeout=timeout)

    def handlers(self, timeout=None):
        """The ids of its handlers in the order of adding (list of str)."""
        return self.call("handlers", timeout=timeout)


class Bus:
    """Starts event buses. REMOVE: what a handler returns to be removed."""

    REMOVE = type("Remove", (), {"__repr__": lambda self: "Bus.REMOVE"})()

    @staticmethod
    def start(**options):
        """Start a bus without handlers; returns its BusHandle. The options are those of Actor.start."""
        return BusHandle(_BusActor.start(**options).id)
