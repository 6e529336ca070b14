# SPDX-License-Identifier: MIT
"""What to make of a standstill: every fibril waits, and no operation, time or OS thread is left to wake one.

Most such programs are well: their main thread waits for a signal (``Event().wait()``, ``signal.pause()``), perhaps by
joining daemon threads, and workers wait for work. So a report is made only where that cannot be the story:

- fibrils wait for each other in a circle, through locks that one has taken and joins;
- the main thread waits for the end of a thread that is no daemon, and that stands still;
- the main thread waits on a channel;

the last two only if no Python function handles a signal: it could help. A semaphore, an event and a queue have nobody
who holds them; nor has a lock whose taker itself waits for it again (a condition's, a SimpleQueue's).
"""

import os
import sys
import threading

import _signal

from . import _fibril
from ._scope import Scope

CROWD = 10000  # no look into so many
SHOWN = 32
DEPTH = 20
ALL = 2**64 - 1  # what it joins: everything that is spawned and no daemon

_join_one = {code.__code__ for code in (threading.Thread.join, getattr(threading.Thread, "_wait_for_tstate_lock", None))
             if code is not None}
_join_all = threading._shutdown.__code__
_join_scope = Scope._join.__code__


class Waiter:
    """A parked fibril."""

    def __init__(self, row, frames):
        self.id, self.ident, name, daemon, self.what, self.seconds, self.holder, self.lock, self._joins = row
        self.frame = frames.get(self.ident)
        thread = threading._active.get(self.ident)
        self.name = name or (thread.name if thread else None)
        self.daemon = daemon if daemon is not None else thread is None or thread.daemon
        self.joins, self.ends_surely = set(), False

    def find_joins(self, waiters):
        """Fills in the numbers of those whose end it waits for, and whether they are meant to end."""
        code = self.frame.f_code if self.frame else None
        if self._joins == ALL or code is _join_all:
            self.joins = {other.id for other in waiters if not other.daemon and other is not self}
        elif self._joins:
            self.joins, self.ends_surely = {self._joins}, code is _join_scope
        elif code in _join_one:
            ident = self.frame.f_locals["self"].ident
            self.joins = {other.id for other in waiters if other.ident == ident}

    def waits_for(self, by_id):
        """The fibrils that must go on before this one can."""
        holder = by_id.get(self.holder)
        held = holder and holder is not self and not (self.lock and holder.lock == self.lock)
        return [by_id[each] for each in self.joins if each in by_id] or ([holder] if held else [])

    def __str__(self):
        return f'fibril {self.id} "{self.name}"' if self.name else f"fibril {self.id}"

    def write(self, lines, by_id):
        """Adds its part of the report."""
        others = self.waits_for(by_id)
        if others and self.joins:
            what = f"for the end of {others[0]}" + (f" and {len(others) - 1} more" if len(others) > 1 else "")
        else:
            what = f"for a lock that {others[0]} has taken" if others else f"on a {self.what}"
        lines.append(f"{self} waits {what}, for {self.seconds:.1f} s")
        frame, depth = self.frame, 0
        while frame and depth < DEPTH:
            lines.append(f'  File "{frame.f_code.co_filename}", line {frame.f_lineno} in {frame.f_code.co_name}')
            frame, depth = frame.f_back, depth + 1


def _signals_may_help():
    return any(callable(handler) and handler is not _signal.default_int_handler
               for handler in map(_signal.getsignal, _signal.valid_signals()))


def _circle(waiters, by_id):
    """Fibrils each of which waits for the next, the last for the first; [] if there are none."""
    done = set()
    for first in waiters:
        path, branches = [first], [iter(first.waits_for(by_id))]
        while path:
            step = next(branches[-1], None)
            if step in path:
                return path[path.index(step):]
            if step is None:
                done.add(path.pop())
                branches.pop()
            elif step not in done:
                path.append(step)
                branches.append(iter(step.waits_for(by_id)))
    return []


def _stuck(main, by_id):
    """The main fibril and those it waits for down to the first that should end and cannot; [] if there is none."""
    if main.what.startswith(("channel", "select")):
        return [main]
    seen, paths = {main}, [[main]]
    for path in paths:
        for other in path[-1].waits_for(by_id) if path[-1].joins else ():
            if path[-1].ends_surely or not other.daemon:
                return [*path, other]
            if other not in seen:
                seen.add(other)
                paths.append([*path, other])
    return []


def find(rows, frames, main_ident):
    """The fibrils that make the standstill a deadlock ([]: it is none), and all of them by number."""
    waiters = [Waiter(row, frames) for row in rows]
    by_id = {each.id: each for each in waiters}
    for each in waiters:
        each.find_joins(waiters)
    main = next((each for each in waiters if each.ident == main_ident), None)
    found = _circle(waiters, by_id)
    if not found and main and not _signals_may_help():
        found = _stuck(main, by_id)
    return found, by_id


def look():
    """Reports a deadlock on standard error; returns whether there is one."""
    rows = _fibril._waits()
    if not rows or len(rows) > CROWD:
        return False
    found, by_id = find(rows, sys._current_frames(), threading.main_thread().ident)
    if not found:
        return False
    lines = ["fibril: deadlock: no fibril can go on, and nothing is left that could wake one"]
    others = [each for each in by_id.values() if each not in found]
    for each in (found + others)[:SHOWN]:
        each.write(lines, by_id)
    if len(by_id) > SHOWN:
        lines.append(f"and {len(by_id) - SHOWN} more; fibril.dump() shows all")
    text = ("\n".join(lines) + "\n").encode(errors="backslashreplace")
    while text:
        text = text[os.write(2, text):]
    return True
