# SPDX-License-Identifier: MIT
"""Which method of a state machine is for which event in which state, as decorators say it."""

import inspect


class state:
    """Says what a method of a StateMachine is for: a decorator's beginning.

    ``@state("locked").on("push")``: it handles the event push in the state locked; ``@state("open").enter``: it is
    called with the old state (str) when open is entered; ``@state("open").leave``: with the new one, before. Several
    states may be named; none means all: ``@state().enter``. What names the state goes before what does not.
    """

    def __init__(self, *names):
        self.names = names or (None,)

    def on(self, event):
        """The method handles this event (str), in calls, casts, events of the machine's own, and timeouts."""
        if not isinstance(event, str) or not event.isidentifier():
            raise TypeError(f"an event has a name (str), not {event!r}")

        def decorate(function):
            _mark(function, "on", event, self.names)
            function.__name__ = "on_" + event  # so that a call can name it: door.call(Door.unlock, code)
            return function

        return decorate

    def enter(self, function):
        """The method is called with the old state when one of these is entered."""
        return _mark(function, "enter", None, self.names)

    def leave(self, function):
        """The method is called with the new state before one of these is left."""
        return _mark(function, "leave", None, self.names)


def _mark(function, what, event, names):
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"{function.__qualname__} is async, which an actor needs not: write def, and call what blocks")
    function.__dict__.setdefault("_fibril_states", []).append((what, event, names))
    return function


def table_of(cls):
    """Which method is for what: (what, event, state or None) to its name. The last class that has one says it.

    What a base has for states that the class has not is left out: new code may have other states.
    """
    table = {}
    for each in reversed(cls.__mro__):
        for name, function in vars(each).items():
            marks = getattr(function, "_fibril_states", ())
            if marks:
                for key in [key for key, value in table.items() if value == name]:
                    del table[key]
            for what, event, names in marks:
                if name.startswith("on_"):
                    raise TypeError(f"{each.__qualname__}.{name} handles {name[3:]} in any state: name it otherwise")
                for state_name in names:
                    if state_name is not None and cls.states and each is cls:
                        cls._check_state(state_name, TypeError, f"{each.__qualname__}.{name}: ")
                    table[what, event, state_name] = name
    return {key: name for key, name in table.items() if key[2] is None or not cls.states or key[2] in cls.states}
