# SPDX-License-Identifier: MIT
"""Actors: objects that run on their own, are reached by messages, watch each other, and are started again.

``class Counter(fibril.Actor)`` with methods ``on_NAME``; ``Counter.start()`` returns an ActorHandle, whose ``call`` has
the actor call ``on_NAME`` and waits for the result, while ``cast`` does not wait. An actor does one thing at a time, so
it needs no locks; its handlers may block, which parks the actor and nobody else. A Supervisor starts actors, and starts
them again when they fail. The rules are Erlang's, and those of fibril's actors in C, with which these share everything.
Times are seconds (int or float); None means for ever.
"""

import itertools as _itertools
import time as _time

from . import _actor_reports, _fibril
from ._actor import Actor, ActorFunction, ActorHandle, actor, reload, spawn
from ._actor import change as _change
from ._actor_bus import Bus, BusHandle, HandlerEnded
from ._actor_events import WrongState
from ._actor_lending import PoolHandle, PoolStatus
from ._actor_machine import StateMachine
from ._actor_mail import Caller, DeadLetter, Down, Exit, Foreign, Request
from ._actor_options import bound as _bound
from ._actor_options import policy_of as _policy_of
from ._actor_pool import Pool
from ._actor_reports import ActorEnded, ActorFailed, Crashed, MailboxFull, Refuse
from ._actor_states import state
from ._actor_supervisor import Child, ChildInfo, Supervisor, SupervisorHandle
from ._actor_supervisor import running as _supervisors

__all__ = ["Actor", "ActorEnded", "ActorFailed", "ActorFunction", "ActorHandle", "Bus", "BusHandle", "Caller",
           "Child", "ChildInfo", "Crashed", "DeadLetter", "Down", "Exit", "Foreign", "HandlerEnded", "MailboxFull",
           "Pattern", "Pool", "PoolHandle", "PoolStatus", "Refuse", "Request", "StateMachine", "Supervisor",
           "SupervisorHandle", "Timer", "WrongState", "actor", "counts", "dead_letters_to", "demonitor",
           "forget_name", "join_topic", "leave_topic", "link", "me", "members", "monitor", "publish", "receive",
           "register", "reload", "send_after", "send_every", "set_mailbox", "spawn", "state", "trap_exits", "unlink",
           "waiting", "whereis"]


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
    _fibril._actor_set_mailbox(_bound(messages, "messages"), _bound(bytes, "bytes"), _policy_of(policy))


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


_END_SECONDS = 5


def _end(handles, until):
    """Tells them to end, and waits for that; returns how many have not."""
    for handle in handles:
        handle.exit("shutdown")
    late = 0
    for handle in handles:
        try:
            handle.join(max(0, until - _time.monotonic()))
        except TimeoutError:
            late += 1
    return late


def _end_all():
    """At exit: supervisors end their trees, then all others are told to end; each has its terminate() called."""
    until = _time.monotonic() + _END_SECONDS
    late = _end(_supervisors(), until) + _end([handle for handle, _ in _fibril._actor_list()], until)
    if late:
        _actor_reports.log.error("%d actors did not end within %d s of the program's end", late, _END_SECONDS)


_fibril._actor_setup((ActorHandle, Down, Exit, DeadLetter, Request, Foreign, _actor_reports.reason_of,
                      _actor_reports.crashed, _actor_reports.raised, _actor_reports.ended, MailboxFull, Refuse,
                      _actor_reports.describe, _change, _end_all))
