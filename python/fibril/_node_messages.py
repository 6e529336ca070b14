# SPDX-License-Identifier: MIT
"""Messages between processes, as pickles: what fibril's C calls to write and to read one.

A handle is written as an index into a list of numbers that travels beside the pickle, since each process has numbers
of its own. The list is what the connection translates.
"""

import copyreg as _copyreg
import io as _io
import pickle as _pickle
import reprlib as _reprlib
import sys as _sys
import traceback as _traceback

from . import _actor_reports, actors as _actors

_METHOD, _STREAM, _OBJECT, _VALUE, _ERROR, _REFUSED, _REPLACE = 1, 2, 3, 5, 6, 7, 9
_CALLS = (_METHOD, _STREAM, _OBJECT, _REPLACE)
_MENTIONS = 1024  # of actors, in a message
_BYTES = (64 << 20) - 8192  # of a message; what is mentioned comes on top


class MessageError(RuntimeError):
    """A message cannot go to another process: it cannot be pickled here, or not be read there.

    The cause (``__cause__``) is what pickle raised, where that happened here.
    """


class RemoteError(RuntimeError):
    """Stands for an exception of another process that cannot be made here: its class is unknown, or did not let itself
    be pickled. type_name: of the class (str)."""

    def __init__(self, type_name, text):
        super().__init__(f"{type_name}: {text}")
        self.type_name = type_name
        self._text = text

    def __reduce__(self):
        return RemoteError, (self.type_name, self._text)


class RemoteTraceback(Exception):
    """The cause of an exception that came from another process: where it was raised there, as it was printed."""

    def __init__(self, text):
        super().__init__(text)
        self.text = text

    def __str__(self):
        return f'\n"""\n{self.text}"""'


# ---- what is not pickled as it is ----------------------------------------------------------------------

def _handle(index):
    raise _pickle.UnpicklingError("a handle outside of a message")


def _nothing_elsewhere(thing):
    raise TypeError(f"a {type(thing).__name__} means nothing in another process")


def _reduce_caller(caller):
    actor, ref = caller._from
    return _make_caller, (_actors.ActorHandle(actor), ref)


def _make_caller(handle, ref):
    return _actors.Caller((handle.id, ref))


def _reduce_crashed(crashed):
    kind = crashed.type
    return _make_crashed, (getattr(kind, "__module__", None), getattr(kind, "__qualname__", None), crashed.message,
                           crashed.traceback, crashed.number)


def _make_crashed(module, name, message, traceback, number):
    found = _sys.modules.get(module)
    for part in (name or "").split("."):
        found = getattr(found, part, None)
    kind = found if isinstance(found, type) and issubclass(found, BaseException) else None
    return _actors.Crashed(kind, message, traceback, number)


def _reduce_ended(error):
    return type(error), (error.actor, str(error))


_REDUCE = {_actors.Caller: _reduce_caller, _actors.Crashed: _reduce_crashed, _actors.ActorEnded: _reduce_ended,
           _actors.ActorFailed: _reduce_ended, _actors.Timer: _nothing_elsewhere, _actors.Foreign: _nothing_elsewhere}
_HANDLES = [_actors.ActorHandle, _actors.SupervisorHandle]  # all arrive as the first


def _dumps(value):
    """The pickle, and the numbers of the handles in it."""
    numbers = {}

    def reduce_handle(handle):
        return _handle, (numbers.setdefault(handle.id, len(numbers)),)

    buffer = _io.BytesIO()
    pickler = _pickle.Pickler(buffer, 5)
    table = _copyreg.dispatch_table | _REDUCE
    for kind in _HANDLES:
        table[kind] = reduce_handle
    pickler.dispatch_table = table
    pickler.dump(value)
    data = buffer.getvalue()
    if len(data) > _BYTES:
        raise ValueError(f"it has {len(data):,} bytes, and a message at most 64 MiB")
    if len(numbers) > _MENTIONS:
        raise ValueError(f"it mentions {len(numbers):,} actors, and a message at most {_MENTIONS:,}")
    return data, tuple(numbers)


class _Unpickler(_pickle.Unpickler):
    def __init__(self, data, numbers):
        super().__init__(_io.BytesIO(data))
        self._numbers = numbers

    def _handle(self, index):
        return _actors.ActorHandle(self._numbers[index])

    def find_class(self, module, name):
        if name == "_handle" and module == __name__:
            return self._handle
        return super().find_class(module, name)


def _loads(data, numbers):
    return _Unpickler(data, numbers).load() if numbers else _pickle.loads(data)


# ---- writing -------------------------------------------------------------------------------------------

def _fails(value):
    try:
        _dumps(value)
    except Exception as error:
        return error
    return None


def _name_culprit(kind, payload):
    """What of a message cannot be pickled, in words."""
    if kind not in _CALLS:
        return f"the reply {_reprlib.repr(payload)}"
    name, names, args = payload
    if name is None:
        return f"the message {_reprlib.repr(args[0])}"
    named = len(args) - len(names or ())
    for i, arg in enumerate(args):
        if _fails(arg) is not None:
            which = f"argument {i + 1}" if i < named else f"argument {names[i - named]}"
            return f"{which} of {name}, {_reprlib.repr(arg)},"
    return f"the arguments of {name}"


def _pack_error(error):
    kind = type(error)
    try:
        text = str(error)
    except Exception:
        text = "(without a text)"
    trace = "".join(_traceback.format_exception(kind, error, error.__traceback__))
    try:
        data, numbers = _dumps(error)
        _loads(data, numbers)  # many an exception can be written and not be read
    except Exception:
        data, numbers = None, ()
    return _pickle.dumps((f"{kind.__module__}.{kind.__qualname__}", text, trace, data), 5), numbers


def pack(kind, to, payload):
    """The pickle of a message to an actor, and the numbers that it mentions."""
    if kind in (_ERROR, _REFUSED):
        return _pack_error(payload)
    try:
        return _dumps(payload)
    except Exception as error:
        what = _name_culprit(kind, payload)
        raise MessageError(f"{what} cannot be sent to {to!r}: {type(error).__name__}: {error}") from error


# ---- reading -------------------------------------------------------------------------------------------

def _unpack_error(data, numbers):
    type_name, text, trace, inner = _pickle.loads(data)
    try:
        error = _loads(inner, numbers)
        if not isinstance(error, BaseException):
            raise TypeError("that is no exception")
    except Exception:
        error = RemoteError(type_name, text)
    error.__cause__ = RemoteTraceback(trace)
    return error


def _check_call(kind, payload):
    """What another process says is not taken for granted: C lays it out as arguments of a call."""
    name, names, args = payload
    good = type(args) is tuple and (names is None or (
        type(names) is tuple and len(names) <= len(args) and all(type(each) is str for each in names)))
    if kind in (_METHOD, _STREAM):
        good = good and type(name) is str and name.startswith("on_")
    else:
        good = good and name is None and names is None and len(args) == 1
    if not good:
        raise ValueError("it is no message of an actor")
    return (name if name is None else _sys.intern(name)), names, args


def unpack(kind, data, numbers):
    """What was packed."""
    try:
        if kind in (_ERROR, _REFUSED):
            return _unpack_error(data, numbers)
        payload = _loads(data, numbers)
        return _check_call(kind, payload) if kind in _CALLS else payload
    except Exception as error:
        raise MessageError(f"a message from another process cannot be read in this one: {type(error).__name__}: "
                           f"{error}") from error


def broken(handle, error):
    """Reports a message that cannot be read, and is lost."""
    _actor_reports.log.error("actor %s %s: %s", handle.id, handle.name or "", error, exc_info=error.__cause__)
