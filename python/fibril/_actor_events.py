# SPDX-License-Identifier: MIT
"""The events of a state machine: what waits to be handled, in which order, and until when.

There are three queues. `own` is what the handler that runs has asked for itself; `coming` is what is to be handled
before anything in the mailbox; `postponed` waits for the next change of state. Timeouts are deadlines that are looked
at before each message, and a timer only wakes the actor for them: a wake-up that found the mailbox full loses nothing,
and is repeated besides. Rejected: one timer with a message for each timeout, which would have its place behind
what waits, and would still be found there after it was cancelled.
"""

import heapq
import itertools
import time
from collections import deque

from . import _fibril
from ._actor_mail import Caller, Foreign, Request
from ._actor_reports import MailboxFull, Refuse, raised

now = time.monotonic
WAKE = type("Wake", (), {"__repr__": lambda self: "a timeout's wake-up"})()
_AGAIN = 1.0  # seconds until a wake-up that may have been lost is repeated
_ENOSYS, _EPROTO, _EAGAIN = 38, 71, 11

MAIL, OWN, TIMEOUT = "mail", "own", "timeout"
SIGNALS = ("down", "exit", "idle")  # what nobody misses if it is not handled


class WrongState(AttributeError):
    """A call that the state machine does not handle in its present state.

    state, event: their names (str).
    """

    def __init__(self, text, state=None, event=None):
        super().__init__(text)
        self.state = state
        self.event = event


class Event:
    """Something that happens. direct: the message of it is the one that the actor is handling."""

    __slots__ = ("args", "caller", "direct", "kind", "kwargs", "name", "owed")

    def __init__(self, name, args, kwargs, kind):
        self.name = name
        self.args = args
        self.kwargs = kwargs
        self.kind = kind
        self.direct = kind is MAIL
        self.caller = None
        self.owed = False  # whether caller waits for what the handler returns

    def __repr__(self):
        return f"{self.kind} {Request('', 'on_' + self.name, self.args, self.kwargs, None)!r}".replace("  ", " ")

    def take_caller(self):
        """Whoever waits for the result is told it by us, later; the handler may have taken that on itself."""
        if self.direct and self.caller is None:
            from_ = _fibril._actor_defer()
            self.caller = None if from_ is None else Caller(from_)
            self.owed = self.caller is not None
        return self.caller

    def _foreign(self):
        return self.name == "message" and bool(self.args) and isinstance(self.args[0], Foreign)

    def reply(self, result):
        """Return result from the call, if it is one that is owed."""
        if not self.owed:
            return
        self.owed = False
        if self._foreign():
            try:
                self.args[0].reply(b"" if result is None else result)
            except TypeError:
                _fibril._actor_refuse(*self.caller._from, _EPROTO)
        elif hasattr(result, "send") and hasattr(result, "gi_frame"):  # a stream
            self._stream(result)
        else:
            self.caller.reply(result)

    def _stream(self, values):
        try:
            for value in values:
                if not self.caller.give(value):
                    return
            self.caller.end()
        except Refuse as refusal:
            self.caller.fail(refusal.error)

    def fail(self, error, errno=_EPROTO):
        """Raise error from the call, if it is one that is owed. errno: what callers in C get."""
        if not self.owed:
            return
        self.owed = False
        if self._foreign():
            _fibril._actor_refuse(*self.caller._from, errno)
        else:
            self.caller.fail(error)

    def crash(self, actor, error):
        """The handler has raised error, which ends the actor: the caller gets what callers get then."""
        if not isinstance(error, _fibril.Cancelled):
            self.fail(raised(actor.me, "on_" + self.name, error))

    def unhandled(self, error):
        """Nobody has handled it: calls are refused with error, timeouts and signals forgotten, others dead letters."""
        if self.take_caller() is not None:
            self.fail(error, _ENOSYS)
        else:
            self.lost()

    def lost(self):
        """It reaches nobody. A call ends with its actor."""
        if self.kind is TIMEOUT or self.name in SIGNALS or self.owed:
            return
        if self.name == "message" and self.args:
            _fibril._actor_dead_letter(self.args[0])
        else:
            _fibril._actor_dead_letter(Request("cast", "on_" + self.name, self.args, self.kwargs, None))


class Timeouts:
    """Deadlines by key, each with an event. A new one takes the place of the old one."""

    __slots__ = ("_events", "_heap", "_serials")

    def __init__(self):
        self._events = {}  # of key: (deadline, serial, event)
        self._heap = []
        self._serials = itertools.count()

    def set(self, key, deadline, event):
        """Put a deadline in place."""
        entry = deadline, next(self._serials), event
        self._events[key] = entry
        heapq.heappush(self._heap, (*entry[:2], key))
        if len(self._heap) > 2 * len(self._events) + 16:
            self._heap = [(*each[:2], key) for key, each in self._events.items()]
            heapq.heapify(self._heap)

    def cancel(self, key):
        """End one, if there is one; returns whether there was."""
        return self._events.pop(key, None) is not None

    def get(self, key):
        """(deadline, serial, event), or None."""
        return self._events.get(key)

    def first(self):
        """The earliest deadline with its key, or None. Of equal ones the one that was set first."""
        while self._heap:
            deadline, serial, key = self._heap[0]
            entry = self._events.get(key)
            if entry is not None and entry[1] == serial:
                return deadline, key
            heapq.heappop(self._heap)
        return None

    def take(self, time):
        """The event of the earliest deadline that is not after time, which is over then, or None."""
        first = self.first()
        if first is None or first[0] > time:
            return None
        heapq.heappop(self._heap)
        return self._events.pop(first[1])[2]


class Waiting:
    """What waits for a machine: events that come, postponed ones, timeouts."""

    __slots__ = ("_timer", "_wakes_at", "coming", "own", "postponed", "quiet", "timeouts")

    def __init__(self):
        self.coming = deque()
        self.own = []
        self.postponed = []
        self.timeouts = Timeouts()
        self.quiet = None  # (deadline, event, whether it comes before any message)
        self._timer = None
        self._wakes_at = None

    def postpone(self, event, most):
        """Keep event for the next state, unless as many wait there already."""
        event.take_caller()
        event.direct = False
        if len(self.postponed) < most:
            self.postponed.append(event)
        elif event.owed:
            event.fail(MailboxFull(f"{most} events are postponed"), _EAGAIN)
        else:
            event.lost()

    def again(self):
        """The state changes: what was postponed comes, before what is coming."""
        self.coming.extendleft(reversed(self.postponed))
        self.postponed.clear()

    def take_own(self):
        """What a handler had happen comes first of all."""
        self.coming.extendleft(reversed(self.own))
        self.own.clear()

    def next(self):
        """The event that is to come before any message, or None."""
        if self.coming:
            return self.coming.popleft()
        event = self.timeouts.take(now()) if self.timeouts._heap else None
        if event is None and self.quiet is not None and self.quiet[2]:
            event, self.quiet = self.quiet[1], None
        return event

    def take_quiet(self):
        """The event of the quiet timeout if that is due, and no message waits that would end it."""
        quiet = self.quiet
        if quiet is None or quiet[0] > now() or _fibril._actor_waiting() > 0:
            return None
        self.quiet = None
        return quiet[1]

    def deadline(self):
        """When something is to be done without a message; None: never."""
        if self.coming:
            return 0.0
        first = self.timeouts.first()
        if self.quiet is None:
            return None if first is None else first[0]
        return self.quiet[0] if first is None else min(first[0], self.quiet[0])

    def arm(self, actor_id):
        """Be woken when the first timeout is due. A timer that is too early is left: it sets the next one."""
        deadline = self.deadline()
        if deadline is None or (self._timer is not None and self._wakes_at <= deadline):
            return
        self.disarm()
        self._timer = _fibril._actor_send_at(actor_id, WAKE, max(0.0, deadline - now()), _AGAIN)
        self._wakes_at = deadline

    def disarm(self):
        """No wake-up any more."""
        if self._timer is not None:
            _fibril._actor_cancel_timer(self._timer)
            self._timer = None

    def clear(self):
        """The machine has ended: what waited for it reaches nobody."""
        self.disarm()
        events = [*self.own, *self.coming, *self.postponed]
        self.__init__()
        for event in events:
            event.lost()
