# SPDX-License-Identifier: MIT
"""Suspended tasklets as data: what their frames mean. See docs/stackless-pickling.md.

A suspended tasklet becomes a call of resume(), whose argument has for each of its Python frames the function, the
place in its code, the variables and the entries of its value stack. Code goes by reference (module, qualified name and
a digest), never by value. The extension reads and writes the frames (python/ext/pystate_resume.c); which entries of a
frame's stack are in use while C code runs, and where it goes on after that, follows from the code alone
(_stackless_code.py).
"""

import builtins
import functools
import gc
import io
import pickle
import sys
import types

from . import _fibril
from ._stackless_code import check_version, digest, following, heights, instructions, preceding
from ._stackless_values import stand_for

_channel, _tasklet = _fibril._stackless_channel, _fibril._stackless_tasklet

# C functions which do nothing any more once the tasklet goes on but return what it goes on with.
_METHODS = {_channel: {"send", "receive", "send_exception", "send_throw"},
            _tasklet: {"run", "switch", "throw", "raise_exception", "kill"}}
_KNOWN = [_fibril._stackless_schedule, _fibril._stackless_schedule_remove,
          *(cls.__dict__[name] for cls, names in _METHODS.items() for name in names)]


class Null:
    """Stands for a variable without a value, or an empty place on a value stack."""

    def __reduce__(self):
        return "NULL"


NULL = Null()


# ---- frames -----------------------------------------------------------------------------------------------------


class _Obstacle(Exception):
    """Why a tasklet cannot be pickled."""


def _names(code):
    """The variables of a frame: local ones, cells, free ones."""
    return code.co_varnames + tuple(c for c in code.co_cellvars if c not in code.co_varnames) + code.co_freevars


def _where(code):
    return f"{code.co_qualname} ({code.co_filename}:{code.co_firstlineno})"


def _name(value):
    """Of something that is called."""
    if isinstance(value, (types.BuiltinFunctionType, types.MethodDescriptorType, types.MethodWrapperType)):
        return getattr(value, "__qualname__", None) or value.__name__
    return repr(value)


_CALLS = {"CALL", "CALL_KW", "CALL_FUNCTION_EX"}
_METHOD_FIRST = sys.version_info < (3, 13)  # a method or nothing lies below what is called


class _Call:
    """The instruction of a frame that is calling C code: where it is, the height of the stack without its result."""

    def __init__(self, code, instr):
        offset = 2 * instr
        i = instructions(code).get(offset)
        if i and i.opname == "PRECALL":
            offset = following(code)[offset]
            i = instructions(code)[offset]
        self.opname = i.opname if i else "that it began with"
        if self.opname not in _CALLS | {"FOR_ITER", "BEFORE_WITH", "WITH_EXCEPT_START"}:
            raise _Obstacle(f"{_where(code)} waits inside the instruction {self.opname}, not in a call")
        self.instr, self.height = offset // 2, heights(code)[offset]
        self.kept = heights(code)[following(code)[offset]] - 1
        self.call = self.opname in _CALLS
        self.enters = self.opname == "BEFORE_WITH"


def _find(address, likely):
    """The object there: one of those that are likely, or any that the garbage collector knows; None: gone, or another.

    C code may have dropped what it was called with, and a signal's handler may run when it is done; so what stands
    there may have been freed.
    """
    for values in ((NULL, *likely), _KNOWN, vars(builtins).values()):
        for value in values:
            if id(value) == address or (value is NULL and address == 0):
                return value
    return next((value for value in gc.get_objects() if id(value) == address), None)


def _is_plain(call, callee, values):
    """Whether the C code does nothing any more but return."""
    if not call.call:
        return call.opname == "FOR_ITER" and getattr(type(values[-1]), "__next__", None) is _channel.__next__
    if any(callee is known for known in _KNOWN):
        return True
    if isinstance(callee, types.BuiltinMethodType):
        return any(isinstance(callee.__self__, cls) and callee.__name__ in names for cls, names in _METHODS.items())
    return False


def _function_of(callee):
    """The Python function that a call of it runs, and nothing else."""
    while True:
        if isinstance(callee, types.MethodType):
            callee = callee.__func__
        elif type(callee) is functools.partial:
            callee = callee.func
        else:
            return callee if isinstance(callee, types.FunctionType) else None


def _first_argument(frame):
    value = frame.values[0] if frame.values else NULL
    return value.cell_contents if isinstance(value, types.CellType) and value != types.CellType() else value


def _runs(call, callee, values, inner):
    """Whether the instruction calls the function of `inner`, with nothing that is lost in between.

    While a bound method runs, CPython has its object in its place: that is how `with` calls __exit__.
    """
    if call.call:
        return callee is not None and (
            _function_of(callee) is inner.function or (call.below and callee is _first_argument(inner)))
    if call.enters:
        return type(values[-1].__self__).__enter__ is inner.function if hasattr(values[-1], "__self__") else False
    if call.opname == "WITH_EXCEPT_START":
        return _function_of(values[-4 if sys.version_info < (3, 14) else -5]) is inner.function
    return False


def _exit_of(manager):
    """What `with` will call in the end: its bound method, looked up as the interpreter does."""
    for cls in type(manager).__mro__:
        if "__exit__" in vars(cls):
            found = vars(cls)["__exit__"]
            known = isinstance(found, (types.FunctionType, types.MethodDescriptorType, staticmethod, classmethod))
            return found.__get__(manager, type(manager)) if known else None
    return None


_TYPES = ((types.GeneratorType, "a generator"), (types.CoroutineType, "a coroutine"),
          (types.AsyncGeneratorType, "an asynchronous generator"), (types.FrameType, "a frame"),
          (io.IOBase, "an open file"))


def _check_value(code, index, value):
    """pickle would refuse it, without a word about where it is."""
    for cls, text in _TYPES:
        if isinstance(value, cls) and not (cls is io.IOBase and isinstance(value, (io.BytesIO, io.StringIO))):
            names = _names(code)
            what = f"its variable {names[index]}" if index < len(names) else "what it is using"
            raise _Obstacle(f"{_where(code)}: {what} is {text}")


class Frame:
    """One frame: its function, the code unit of its call, its variables and stack entries."""

    __slots__ = ("function", "instr", "values")

    def __init__(self, function, instr, values):
        self.function, self.instr, self.values = function, instr, values

    def __reduce__(self):
        code = self.function.__code__
        return make_frame, (stand_for(self.function), digest(code), self.instr,
                            instructions(code)[2 * self.instr].opname, tuple(map(stand_for, self.values)))

    def record(self):
        """For the extension, which does not know what is on stacks."""
        if 2 * self.instr not in following(self.function.__code__) or not _fits(self.function.__code__, self.instr, self.values):
            raise ValueError("no frame of that function")
        return self.function, self.instr, following(self.function.__code__)[2 * self.instr] // 2, self.values


def make_frame(function, wanted, instr, opname, values):
    check_version(wanted)
    name = f"{getattr(function, '__module__', '?')}.{getattr(function, '__qualname__', function)}"
    if not isinstance(function, types.FunctionType) or digest(function.__code__) != wanted:
        raise pickle.UnpicklingError(f"the code of {name} has changed since it was pickled")
    code = function.__code__
    i = instructions(code).get(2 * instr)
    if i is None or i.opname != opname or not _fits(code, instr, values):
        raise pickle.UnpicklingError(f"{name} has no {opname} with such a stack at {2 * instr}")
    return Frame(function, instr, values)


def _fits(code, instr, values):
    """Whether so many values are there once the instruction has taken its own, before its result."""
    after = following(code)[2 * instr]
    return heights(code).get(after, -1) - 1 + len(_names(code)) == len(values)


def _place(code, instr, after):
    """The instruction of a frame that has called a Python function, which the interpreter may know by its end."""
    offset = preceding(code).get(2 * after)
    if offset is None or not offset <= 2 * instr < 2 * after:
        raise _Obstacle(f"{_where(code)} waits for something that is no function")
    return offset // 2


def _callee(t, n, base, call, likely):
    """What the frame calls; None: who knows."""
    if not call.call:
        return None
    lower, upper = (_find(_fibril._tasklet_address(t, n, base + call.kept + i), likely) for i in (0, 1))
    call.below = lower is not NULL
    return upper if _METHOD_FIRST and lower is NULL else lower


def _values(t, n, base, call, inner):
    """The variables and what stays on the stack while frame n calls C code."""
    if not call.enters or sys.version_info < (3, 12):
        return _fibril._tasklet_values(t, n, base + call.kept, NULL)
    # The object of `with` is still in its place, but its reference is gone; the method for the end is in C's hands.
    manager = _first_argument(inner) if inner else NULL
    exit_ = _exit_of(manager) if id(manager) == _fibril._tasklet_address(t, n, base + call.kept - 1) else None
    return (*_fibril._tasklet_values(t, n, base + call.kept - 1, NULL), exit_)


def _calls_c(t, n, code, instr, used, inner):
    """(code unit of the instruction, values, what it made) of frame n, which calls C code; that called `inner`."""
    call, base = _Call(code, instr), len(_names(code))
    if used >= 0 and (sys.version_info < (3, 14) or used != base + call.height):
        raise _Obstacle(f"{_where(code)} was interrupted, or is being traced")
    values = _values(t, n, base, call, inner)
    callee = _callee(t, n, base, call, (inner.function, _first_argument(inner)) if inner else ())
    if inner and _makes(call, callee, inner):
        return call.instr, values, _first_argument(inner)
    if not (_runs(call, callee, values, inner) if inner else _is_plain(call, callee, values)):
        what = f"the instruction {call.opname}" if not call.call else "something" if callee is None else _name(callee)
        raise _Obstacle(f"{_where(code)} called {what}, and C code is under way there")
    return call.instr, values, NULL


def _read(t):
    """([Frame ...], the outermost first; the exception that is handled) of a suspended tasklet."""
    try:
        entry, handled, found = _fibril._tasklet_frames(t)
    except ValueError as error:
        raise _Obstacle(str(error)) from None
    frames, inner = [], None
    for n, (function, code, instr, after, used, _, plain) in enumerate(found):
        if code is resume.__code__:
            break
        if function is None:
            frames.append(_init_frame(_fibril._tasklet_values(t, n, 1, NULL)[0]))
            continue
        if not plain:
            raise _Obstacle(f"{_where(code)} is a generator, a class body or a module")
        if function.__code__ is not code:
            raise _Obstacle(f"{_where(code)}: its function has been given other code")
        if n and not found[n - 1][5]:
            place, values = _place(code, instr, after), _fibril._tasklet_values(t, n, used, NULL)
        else:
            place, values, made = _calls_c(t, n, code, instr, used, inner)
            if made is not NULL:
                frames.append(_init_frame(made))
        for index, value in enumerate(values):
            _check_value(code, index, value)
        inner = Frame(function, place, values)
        frames.append(inner)
    else:
        if inner is None:
            raise _Obstacle(f"it runs C code: {_name(entry)}")
        if _function_of(entry) is not inner.function:
            raise _Obstacle(f"C code is under way: {_name(entry)}")
    return frames[::-1], handled


# ---- __init__ that waits: 3.11 goes through C there, later versions sometimes, with a frame of their own -----------


def init_result(made, init):
    """What remains to be done for a class that was called, once its __init__ has returned."""
    result = init(made)
    if result is not None:
        raise TypeError(f"__init__() should return None, not '{type(result).__name__}'")
    return made


_INIT_CALL = next(offset // 2 for offset, i in instructions(init_result.__code__).items() if i.opname == "CALL")


def _init_frame(made):
    return Frame(init_result, _INIT_CALL, (made, NULL, NULL))


def _makes(call, callee, inner):
    """Whether the instruction calls a class, and that the __init__ which is the function of `inner`."""
    made = _first_argument(inner)
    plain = call.call and isinstance(callee, type) and type(callee).__call__ is type.__call__
    return (plain and callee.__new__ is object.__new__ and type(made) is callee
            and callee.__init__ is inner.function)


class Frames:
    """All that a suspended tasklet goes on with."""

    __slots__ = ("frames", "handled")

    def __init__(self, frames, handled):
        self.frames, self.handled = frames, handled

    def records(self):
        """What the extension makes them of."""
        return [f.record() for f in self.frames]

    def take(self):
        """What is handled in them; from now on only the frames hold what they are made of."""
        handled, self.frames, self.handled = self.handled, [], None
        return handled

    def again(self):
        """Where the instruction begins by which the innermost frame waits for the next value of a loop; else -1."""
        code, offset = self.frames[-1].function.__code__, 2 * self.frames[-1].instr
        if instructions(code)[offset].opname != "FOR_ITER":
            return -1
        while instructions(code)[preceding(code)[offset]].opname == "EXTENDED_ARG":
            offset = preceding(code)[offset]
        return offset // 2

    def __reduce__(self):
        return Frames, (self.frames, self.handled)


# ---- what the extension calls -----------------------------------------------------------------------------------


def obstacle(t):
    """Why the suspended tasklet cannot be pickled, as a text; None if it can, as far as its frames go."""
    if not possible:
        return "it has begun, and this build uses public API only"
    try:
        _read(t)
    except _Obstacle as error:
        return str(error)
    return None


def unstarted(value, call):
    """(value, call) of a tasklet that has not begun, or has ended, as pickle may have them."""
    if call is not None:
        function, args, kwargs = call
        call = stand_for(function), tuple(map(stand_for, args)), kwargs
    return stand_for(value), call


def suspended(t, value):
    """The same of one that is suspended, whose call becomes one of resume()."""
    if not possible:
        raise pickle.PicklingError("a tasklet that has begun cannot be pickled by a build that uses public API only")
    try:
        return stand_for(value), (resume, (Frames(*_read(t)),), None)
    except _Obstacle as error:
        raise pickle.PicklingError(f"the tasklet cannot be pickled: {error}") from None


def resume(it, _link=_fibril._frames_link, _drop=_fibril._frames_drop, _push=_fibril._frames_push):
    """What a loaded tasklet runs: its frames go on between this function and link()."""
    memory = _fibril._frames_new()
    try:
        _push(memory, it.records(), NULL)
        again = it.again()
        return link(_link, memory, it.take(), again)  # 3.11 calls f(*args) by way of C
    except BaseException:
        _drop(memory)
        raise


def link(function, memory, handled, again):
    """Returns to the innermost of the frames."""
    return function(memory, handled, again)


possible = _fibril._frames_resume(resume)
