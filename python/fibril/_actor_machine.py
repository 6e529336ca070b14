# SPDX-License-Identifier: MIT
"""State machines: actors whose handlers depend on a state, after Erlang's gen_statem and fibril's machine.h.

The actor's own dispatch calls ``on_NAME``; here that is a dispatcher, which finds the handler of the present state. So
a machine is an actor like others, with all that handles can do. What a handler asks for (another state, postponing,
timeouts, events of its own) is done when it has returned. If there is more to do then, as with postponed events that
come again, the call that led to it is answered first.
"""

import functools
import inspect
import reprlib

from . import _actor_events as _events
from . import _fibril
from ._actor import Actor
from ._actor_events import MAIL, OWN, SIGNALS, TIMEOUT, WAKE, Event, Waiting, WrongState
from ._actor_reports import Refuse
from ._actor_states import table_of

_STATE = object()  # the key of the state timeout
_TURNS = 64  # events after which others may run


# ---- classes -----------------------------------------------------------------------------------------

def _dispatcher(event, function=None):
    """What C finds as on_EVENT. A handler that calls it itself gets the function of any state."""
    def dispatch(self, *args, **kwargs):
        machine = self._machine
        if machine.busy is None:
            if event == "message" and args and args[0] is WAKE:
                return machine.wake(self)
            return machine.dispatch(self, Event(event, args, kwargs, MAIL))
        if function is None:
            raise AttributeError(f"{type(self).__qualname__} has no on_{event} of any state")
        return function(self, *args, **kwargs)

    if function is not None:
        functools.update_wrapper(dispatch, function)
    return dispatch


def _ending(terminate):
    @functools.wraps(terminate)
    def wrapper(self, reason):
        try:
            return terminate(self, reason)
        finally:
            self._machine.waiting.clear()

    return wrapper


def _changing(on_change):
    @functools.wraps(on_change)
    def wrapper(self, old_class):
        machine = self._machine
        before = machine.state, machine.busy
        machine.busy = "on_change"
        try:
            result = on_change(self, old_class)
            type(self)._check_state(machine.state)
        except BaseException:
            machine.state = before[0]
            raise
        finally:
            machine.busy = before[1]
        return result

    return wrapper


class _Type(type):
    """Enters the first state when __init__ has returned."""

    def __call__(cls, *args, **kwargs):
        if not cls.states:
            raise TypeError(f"{cls.__qualname__}.states is to name its states, the first one first")
        actor = super().__call__(*args, **kwargs)
        actor._machine.begin(actor)
        return actor


# ---- what a machine does -----------------------------------------------------------------------------

class _Machine:
    """The state of a StateMachine, apart from the program's attributes."""

    __slots__ = ("again", "asked", "busy", "event", "keeps_timeout", "postpones", "state", "stopping", "waiting")

    def __init__(self, first):
        self.state = self.asked = first
        self.waiting = Waiting()
        self.busy = "__init__"  # which callback runs, None: none
        self.event = None
        self.stopping = self.again = self.postpones = self.keeps_timeout = False

    def __repr__(self):
        return f"<in {self.state!r}, {len(self.waiting.postponed)} postponed>"

    def begin(self, actor):
        self.state = self.asked
        self.waiting.take_own()
        self.hook(actor, "enter", self.state)  # what is coming comes when start() has returned
        self.busy = None
        self.waiting.arm(actor.me.id)

    def hook(self, actor, what, argument):
        """Calls the method for entering or leaving the state."""
        table = type(actor)._table
        name = table.get((what, None, self.state)) or table.get((what, None, None))
        if name is not None:
            self.busy = what
            try:
                getattr(actor, name)(argument)
            finally:
                self.busy = None

    def find(self, actor, event):
        cls = type(actor)
        name = cls._table.get(("on", event, self.state)) or cls._table.get(("on", event, None))
        if name is None and hasattr(getattr(cls, "on_" + event, None), "__wrapped__"):
            name = "on_" + event
        return None if name is None else getattr(actor, name)

    def handle(self, actor, event):
        """Calls the handler of the event; returns its result, or the Refuse that it raised."""
        self.waiting.quiet = None
        self.event = event
        self.busy = "on_" + event.name
        try:
            handler = self.find(actor, event.name)
            if handler is not None:
                result = handler(*event.args, **event.kwargs)
            else:
                text = f"{type(actor).__qualname__} handles no {event.name!r} in the state {self.state!r}"
                event.unhandled(WrongState(text, self.state, event.name))
                result = None
        except Refuse as refusal:
            self.postpones = False
            result = refusal.with_traceback(None)
        finally:
            self.busy = self.event = None
        return result

    def finish(self, actor, event):
        """Does what the handler has asked for; returns whether the event was postponed."""
        old, postponed, again = self.state, self.postpones, self.again
        keeps, self.keeps_timeout = self.keeps_timeout, False
        self.postpones = self.again = False
        waiting = self.waiting
        if postponed:
            waiting.postpone(event, type(actor).postponed_max)
        if self.asked != old:
            self.hook(actor, "leave", self.asked)
            self.state = self.asked
            if not keeps:
                waiting.timeouts.cancel(_STATE)
            waiting.again()
        waiting.take_own()
        if self.state != old or again:
            self.hook(actor, "enter", old)
        return postponed

    def handle_held(self, actor, event):
        """An event that is not the message at hand: its caller, if there is one, is answered here."""
        event.direct = False
        try:
            result = self.handle(actor, event)
            if not self.finish(actor, event):
                if isinstance(result, Refuse):
                    event.fail(result.error)
                else:
                    event.reply(result)
        except BaseException as error:
            event.crash(actor, error)
            error.add_note(f"while {actor.me!r} handled {event!r}, which had waited")
            raise

    def settle(self, actor):
        """All that comes before any message."""
        turns = 0
        while not self.stopping:
            event = self.waiting.next()
            if event is None:
                return
            self.handle_held(actor, event)
            turns += 1
            if turns % _TURNS == 0:
                _fibril.yield_()
                if _fibril.cancelled():
                    _fibril.sleep(0)  # raises it: this may never wait by itself

    def dispatch(self, actor, event):
        """The message at hand; returns what its caller gets."""
        try:
            self.settle(actor)
        except BaseException:
            event.take_caller()  # it has no part in this, and gets what all others get that wait
            raise
        if self.stopping:
            event.take_caller()
            event.lost()
            return None
        result = self.handle(actor, event)
        postponed = self.finish(actor, event)
        deadline = self.waiting.deadline()
        if not self.stopping and not postponed and deadline is not None and deadline <= _events.now():
            event.take_caller()
            if isinstance(result, Refuse):
                event.fail(result.error)
            else:
                event.reply(result)
            result = None
        self.settle(actor)
        self.waiting.arm(actor.me.id)
        if isinstance(result, Refuse):
            raise result
        return result

    def wake(self, actor):
        self.waiting.disarm()
        self.settle(actor)
        event = None if self.stopping else self.waiting.take_quiet()
        if event is not None:
            self.handle_held(actor, event)
            self.settle(actor)
        self.waiting.arm(actor.me.id)


class StateMachine(Actor, metaclass=_Type):
    """The base of classes of actors that have states.

    states: their names (tuple of str), the first one first. ``@state("locked").on("push")`` marks a method that
    handles push in that state, and ``on_NAME`` handles NAME in those states that have nothing of their own for it;
    what send() brings is the event message, and down, exit and idle are events too. A call of what the present state
    does not handle raises WrongState in the caller; such a cast, and such a message, is a dead letter.

    Calls return what their handlers return, when the new state has been entered. What a handler raises ends the
    actor. Events that postponed ones, timeouts and happen() lead to come before any message, and in this order: what
    happen() said, what was postponed, timeouts that are due.

    postponed_max: how many events may be postponed (int); beyond, calls raise MailboxFull and others are dead letters.
    The methods below are for handlers; they raise RuntimeError elsewhere.
    """

    states = ()
    postponed_max = 65536
    _table = {}

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if not isinstance(cls.states, tuple) or not all(isinstance(name, str) for name in cls.states):
            raise TypeError(f"{cls.__qualname__}.states is a tuple of names (str), not {cls.states!r}")
        for name, value in list(vars(cls).items()):
            if name == "on_change":
                setattr(cls, name, _changing(value))
            elif name == "terminate":
                setattr(cls, name, _ending(value))
            elif name.startswith("on_") and inspect.isfunction(value) and not hasattr(value, "_fibril_states"):
                setattr(cls, name, _dispatcher(name[3:], value))
        cls._table = table_of(cls)
        for event in SIGNALS:  # the core asks the class whether it has these
            if any(key[:2] == ("on", event) for key in cls._table) and not hasattr(cls, "on_" + event):
                setattr(cls, "on_" + event, _dispatcher(event))

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self._machine = _Machine(cls.states[0])
        return self

    def __getattr__(self, name):
        if name.startswith("on_") and name != "on_change" and self._machine.busy is None:
            return functools.partial(_dispatcher(name[3:]), self)
        raise AttributeError(f"{type(self).__qualname__!r} object has no attribute {name!r}")

    on_message = _dispatcher("message")

    @_ending
    def terminate(self, reason):
        """Called at the end, as of every Actor."""

    @_changing
    def on_change(self, old_class):
        """New code takes over: as of every Actor. go() names the state in it, if it has another name in the new code.

        No state is entered by that; timeouts and what was postponed stay. A state that the new class does not have
        makes the change fail.
        """

    @classmethod
    def _check_state(cls, name, error=ValueError, who=""):
        if name not in cls.states:
            raise error(f"{who}{cls.__qualname__} has no state {name!r}, but {', '.join(map(repr, cls.states))}")

    def _in(self, what, *where_not):
        busy = self._machine.busy
        if busy is None or busy in where_not:
            raise RuntimeError(f"{what}() is for handlers" + (f", not {busy}" if busy else ""))
        return self._machine

    @property
    def state(self):
        """The present state (str). While a handler runs that has said go() it is still the old one."""
        return self._machine.state

    def go(self, state):
        """Go to a state (str) when this handler has returned. In __init__: the first state.

        If that is the present one nothing changes. Raises ValueError; RuntimeError while a state is entered or left.
        """
        machine = self._in("go", "enter", "leave")
        self._check_state(state)
        machine.asked = state
        if machine.busy == "on_change":
            machine.state = state

    def enter_again(self):
        """Have the present state entered anew when this handler has returned; nothing else happens by that."""
        self._in("enter_again", "enter", "leave", "__init__", "on_change").again = True

    def postpone(self):
        """Have the event that is being handled come again after the next change of state; its caller waits on.

        What the handler returns means nothing then. Raises RuntimeError for timeouts.
        """
        machine = self._in("postpone", "enter", "leave", "__init__", "on_change")
        if machine.event.kind is TIMEOUT:
            raise RuntimeError("a timeout cannot be postponed")
        machine.postpones = True

    def happen(self, event, /, *args, **kwargs):
        """Have an event (str or method) of the machine's own handled before all that waits, in the order of saying."""
        machine = self._in("happen", "enter", "leave", "on_change")
        machine.waiting.own.append(self._event_of(event, args, kwargs, OWN))

    def state_timeout(self, seconds, event=None, /, *args, **kwargs):
        """After so many seconds (int or float) in this state, or in the one that it is going to, event happens.

        A change of state cancels it, None too. 0: before any message that waits.
        """
        machine = self._in("state_timeout", "leave")
        machine.keeps_timeout = machine.event is not None  # otherwise it is of the present state anyway
        self._set(_STATE, seconds, event, args, kwargs)

    def event_timeout(self, seconds, event=None, /, *args, **kwargs):
        """If nothing else happens for so many seconds, event does. Whatever happens cancels it, None too."""
        waiting = self._in("event_timeout", "leave").waiting
        waiting.quiet = None
        if seconds is not None:
            deadline = self._deadline(seconds)
            waiting.quiet = deadline, self._event_of(event, args, kwargs, TIMEOUT), seconds == 0

    def named_timeout(self, name, seconds, event=None, /, *args, **kwargs):
        """After so many seconds event happens, in whatever state. None cancels it.

        name: anything that can be a key: a new timeout of the same name takes the place of the old one.
        """
        self._in("named_timeout")
        self._set(("named", name), seconds, event, args, kwargs)

    def _set(self, key, seconds, event, args, kwargs):
        timeouts = self._machine.waiting.timeouts
        if seconds is None:
            timeouts.cancel(key)
        else:
            timeouts.set(key, self._deadline(seconds), self._event_of(event, args, kwargs, TIMEOUT))

    @staticmethod
    def _deadline(seconds):
        if not isinstance(seconds, (int, float)) or not 0 <= seconds < 9e9:
            raise ValueError(f"a timeout is a number of seconds from 0, not {seconds!r}")
        return _events.now() + seconds

    def _event_of(self, event, args, kwargs, kind):
        name = event if isinstance(event, str) else getattr(event, "__name__", "")[3:]
        has = hasattr(getattr(type(self), "on_" + name, None), "__wrapped__")
        if not has and not any(key[:2] == ("on", name) for key in self._table):
            raise ValueError(f"{type(self).__qualname__} handles {event!r} in no state")
        return Event(name, args, kwargs, kind)

    def stop(self, reason="normal"):
        """End after this handler, as of every Actor: what waits is not handled any more."""
        super().stop(reason)
        self._machine.stopping = True

    def defer(self):
        """Reply to the call that is being handled later: returns its Caller, None if it is no call."""
        event = self._in("defer").event
        if event is None:
            return None
        caller = event.take_caller()
        event.owed = False
        return caller

    def describe(self):
        """The state and the attributes, as text."""
        attributes = {name: value for name, value in vars(self).items() if name != "_machine"}
        return f"{self.state}: {reprlib.repr(attributes)}"
