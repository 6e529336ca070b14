# SPDX-License-Identifier: MIT
"""Suspended tasklets as data: what their frames mean. See docs/stackless-pickling.md.

A suspended tasklet becomes a call of resume(), whose argument has for each of its Python frames the function, the
place in its code, the variables and the entries of its value stack. Code goes by reference (module, qualified name and
a digest), never by value. The extension reads and writes the frames (python/ext/pystate_resume.c); which entries of a
frame's stack are in use while C code runs, and where it goes on after that, follows from the code alone: code.py's
compiler gives every instruction one height of the stack.
"""

import copyreg
import dis
import functools
import hashlib
import importlib
import io
import opcode
import pickle
import sys
import types
import weakref

from . import _fibril

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


# ---- code: by reference -----------------------------------------------------------------------------------------


def _constant(value):
    """The same text in each process for the same constant."""
    if isinstance(value, types.CodeType):
        return digest(value)
    if isinstance(value, (tuple, frozenset)):
        items = [_constant(item) for item in value]
        return f"{type(value).__name__}{sorted(items) if isinstance(value, frozenset) else items}"
    return f"{type(value).__name__} {value!r}"


@functools.lru_cache(4096)
def digest(code):
    """Of all that decides what the code does; not of line numbers and file names."""
    parts = (sys.implementation.cache_tag, code.co_code, code.co_exceptiontable, code.co_names, code.co_varnames,
             code.co_cellvars, code.co_freevars, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
             code.co_flags, code.co_stacksize, [_constant(c) for c in code.co_consts])
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _codes_in(value, namespace, seen):
    """The code objects of a value of a module, with those inside them."""
    if id(value) in seen:
        return
    seen[id(value)] = value
    if isinstance(value, types.CodeType):
        yield value
        inside = value.co_consts
    elif isinstance(value, types.FunctionType):
        inside = [value.__wrapped__] if hasattr(value, "__wrapped__") else []
        if value.__globals__ is namespace:
            inside.append(value.__code__)
            for cell in value.__closure__ or ():
                inside += [cell.cell_contents] if cell != types.CellType() else []
    elif isinstance(value, type):
        inside = list(vars(value).values()) if value.__module__ == namespace.get("__name__") else []
    elif isinstance(value, (staticmethod, classmethod)):
        inside = [value.__func__]
    elif isinstance(value, property):
        inside = [value.fget, value.fset, value.fdel]
    else:
        inside = [value.__wrapped__] if isinstance(value, functools._lru_cache_wrapper) else []
    for item in inside:
        if isinstance(item, (types.CodeType, types.FunctionType, type, staticmethod, classmethod, property)):
            yield from _codes_in(item, namespace, seen)


def _codes(module):
    """First what can be reached in the module, then what its file holds."""
    seen = {}
    for value in list(vars(module).values()):
        yield from _codes_in(value, vars(module), seen)
    loader = getattr(module, "__loader__", None)
    if hasattr(loader, "get_code"):
        try:
            code = loader.get_code(module.__name__)
        except (ImportError, OSError, SyntaxError):
            code = None
        if code:
            yield from _codes_in(code, vars(module), seen)


_found = {}  # (module, qualified name, digest): code


def find_code(module_name, qualname, wanted):
    """The code that was pickled; UnpicklingError if this process has none like it."""
    key = module_name, qualname, wanted
    if key in _found:
        return _found[key]
    module = sys.modules.get(module_name) or importlib.import_module(module_name)
    changed = False
    for code in _codes(module):
        if code.co_qualname == qualname:
            if digest(code) == wanted:
                _found[key] = code
                return code
            changed = True
    raise pickle.UnpicklingError(
        f"the code of {module_name}.{qualname} has changed since it was pickled, or another Python compiled it"
        if changed else f"module {module_name} has no function {qualname}")


# ---- functions, cells, modules ------------------------------------------------------------------------------------


def _importable(function):
    """Whether pickle can save it by its name."""
    try:
        found = sys.modules[function.__module__]
        for name in function.__qualname__.split("."):
            found = getattr(found, name)
    except (AttributeError, KeyError):
        return False
    return found is function


def make_function(module_name, qualname, wanted, closure):
    module = sys.modules.get(module_name) or importlib.import_module(module_name)
    return types.FunctionType(find_code(module_name, qualname, wanted), vars(module), None, None, closure)


def set_function(function, state):
    (function.__name__, function.__qualname__, function.__module__, function.__defaults__, function.__kwdefaults__,
     names) = state
    function.__dict__.update(names)


def reduce_function(function):
    """A function that has no name of its own in its module: a closure, a lambda, one that was decorated."""
    code, home = function.__code__, function.__globals__.get("__name__")
    name = f"{home}.{function.__qualname__}"
    if getattr(sys.modules.get(home), "__dict__", None) is not function.__globals__:
        raise pickle.PicklingError(f"{name} does not belong to a module that can be imported")
    try:
        find_code(home, code.co_qualname, digest(code))
    except pickle.UnpicklingError:
        raise pickle.PicklingError(f"the code of {name} cannot be found again in its module") from None
    state = (function.__name__, function.__qualname__, function.__module__, function.__defaults__,
             function.__kwdefaults__, dict(vars(function)))
    return make_function, (home, code.co_qualname, digest(code), function.__closure__), state, None, None, set_function


class _Stand:
    """Stands, while it is pickled, for a value that pickle would not take; loading gives the value itself."""

    __slots__ = ("value", "__weakref__")

    def __init__(self, value):
        self.value = value

    def __reduce__(self):
        if isinstance(self.value, types.ModuleType):
            return importlib.import_module, (self.value.__name__,)
        return reduce_function(self.value)


_stands = weakref.WeakValueDictionary()  # one for each function: while pickle remembers it, it is the same


def stand_for(value):
    """The value, or what is to be pickled for it. Exceptions lose their tracebacks in pickles, so variables do."""
    if isinstance(value, types.TracebackType):
        return None
    plain = not isinstance(value, (types.FunctionType, types.ModuleType))
    if plain or (isinstance(value, types.FunctionType) and _importable(value)):
        return value
    stand = _stands.get(id(value))
    if stand is None:
        stand = _stands[id(value)] = _Stand(value)
    return stand


def make_cell():
    return types.CellType()


def set_cell(cell, state):
    cell.cell_contents = state[0]


def _reduce_cell(cell):
    try:
        contents = (stand_for(cell.cell_contents),)
    except ValueError:
        return make_cell, ()
    return make_cell, (), contents, None, None, set_cell


copyreg.pickle(types.CellType, _reduce_cell)


class Pickler(pickle.Pickler):
    """pickle.Pickler which takes closures, lambdas and modules wherever they are."""

    def reducer_override(self, value):
        if isinstance(value, types.ModuleType) or (isinstance(value, types.FunctionType) and not _importable(value)):
            return _Stand(value).__reduce__()
        return NotImplemented


# ---- frames -----------------------------------------------------------------------------------------------------


@functools.lru_cache(1024)
def heights(code):
    """The height of the value stack before each instruction that can be reached: {offset: entries}."""
    bytecode = dis.Bytecode(code)
    instructions = {i.offset: i for i in bytecode}
    result, work = {}, [(0, 0)]
    handlers = bytecode.exception_entries

    def follow(offset, height):
        while offset not in result:
            result[offset] = height
            for entry in handlers:
                if entry.start <= offset < entry.end:
                    work.append((entry.target, entry.depth + entry.lasti + 1))
            i = instructions[offset]
            argument = i.arg if i.opcode >= opcode.HAVE_ARGUMENT else None
            if i.opcode in opcode.hasjrel or i.opcode in opcode.hasjabs:
                work.append((i.argval, height + dis.stack_effect(i.opcode, argument, jump=True)))
            if i.opname in ("RETURN_VALUE", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD",
                            "JUMP_BACKWARD_NO_INTERRUPT"):
                return
            height += dis.stack_effect(i.opcode, argument, jump=False)
            offset = _after(i)

    while work:
        follow(*work.pop())
    return result


def _after(i):
    return i.offset + 2 + 2 * opcode._inline_cache_entries[i.opcode]


@functools.lru_cache(1024)
def _instructions(code):
    return {i.offset: i for i in dis.get_instructions(code)}


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


class _Call:
    """The instruction of a frame that is calling C code: (height of the stack, offset to go on at)."""

    def __init__(self, code, instr):
        i = _instructions(code)[2 * instr]
        self.opname, offset = i.opname, _after(i)
        if i.opname == "PRECALL":
            i = _instructions(code)[offset]
            offset = _after(i)
        if i.opname not in ("CALL", "CALL_FUNCTION_EX", "FOR_ITER", "BEFORE_WITH", "WITH_EXCEPT_START"):
            raise _Obstacle(f"{_where(code)} waits inside the instruction {i.opname}, not in a call")
        self.kept = heights(code)[offset] - 1  # without the result
        self.next = offset // 2
        self.seen = self.kept + {"CALL_FUNCTION_EX": 2, "CALL": 2}.get(i.opname, 0)
        self.call = i.opname in ("CALL", "CALL_FUNCTION_EX")

    def callee(self, values):
        """What is called; None: what the instruction means."""
        if self.call:
            return values[self.kept] if values[self.kept] is not NULL else values[self.kept + 1]
        return None


def _is_plain(call, callee, values):
    """Whether the C code does nothing any more but return."""
    if callee is None:
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


def _runs(call, callee, values, frame):
    """Whether the instruction calls the function of `frame`, with nothing that is lost in between.

    While a bound method runs, CPython has its object in its place: that is how `with` calls __exit__.
    """
    inner = frame.function
    if call.call:
        return _function_of(callee) is inner or (callee is values[call.kept] and callee is _first_argument(frame))
    if call.opname == "BEFORE_WITH":
        manager = getattr(values[-1], "__self__", None)
        return getattr(type(manager), "__enter__", None) is inner
    if call.opname == "WITH_EXCEPT_START":
        return _function_of(values[-4]) is inner
    return False


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
    """One frame: its function, the code unit before the next one, its variables and stack entries."""

    __slots__ = ("function", "instr", "values")

    def __init__(self, function, instr, values):
        self.function, self.instr, self.values = function, instr, values

    def __reduce__(self):
        return make_frame, (stand_for(self.function), digest(self.function.__code__), self.instr,
                            tuple(stand_for(value) for value in self.values))


def make_frame(function, wanted, instr, values):
    if not isinstance(function, types.FunctionType) or digest(function.__code__) != wanted:
        name = getattr(function, "__qualname__", function)
        raise pickle.UnpicklingError(f"the code of {getattr(function, '__module__', '?')}.{name} has changed since it "
                                     "was pickled, or another Python compiled it")
    return Frame(function, instr, values)


def _read(t):
    """([Frame ...], the outermost first; the exception that is handled) of a suspended tasklet."""
    try:
        entry, handled, found = _fibril._tasklet_frames(t)
    except ValueError as error:
        raise _Obstacle(str(error)) from None
    frames, inner = [], None
    for n, (function, code, instr, used, by_c, plain) in enumerate(found):
        if code is resume.__code__:
            break
        if not plain:
            raise _Obstacle(f"{_where(code)} is a generator, a class body or a module")
        if function.__code__ is not code:
            raise _Obstacle(f"{_where(code)}: its function has been given other code")
        if n and not found[n - 1][4]:
            next_instr, kept = instr, used
        elif used >= 0:
            raise _Obstacle(f"{_where(code)} was interrupted by run(), or is being traced")
        else:
            call = _Call(code, instr)
            base = len(_names(code))
            seen = _fibril._tasklet_values(t, n, base + call.seen, NULL)[base:]
            callee = call.callee(seen)
            if not (_runs(call, callee, seen, inner) if n else _is_plain(call, callee, seen)):
                what = f"{_name(callee)}" if callee is not None else f"the instruction {call.opname}"
                raise _Obstacle(f"{_where(code)} called {what}, and C code is under way there")
            next_instr, kept = call.next - 1, base + call.kept
        values = _fibril._tasklet_values(t, n, kept, NULL)
        for index, value in enumerate(values):
            _check_value(code, index, value)
        frames.append(Frame(function, next_instr, values))
        inner = frames[-1]
    else:
        if inner is None:
            raise _Obstacle(f"it runs C code: {_name(entry)}")
        if _function_of(entry) is not inner.function:
            raise _Obstacle(f"C code is under way: {_name(entry)}")
    return frames[::-1], handled




class Frames:
    """All that a suspended tasklet goes on with."""

    __slots__ = ("frames", "handled")

    def __init__(self, frames, handled):
        self.frames, self.handled = frames, handled

    def take(self):
        """What the frames are made of; from now on only they hold it."""
        frames, self.frames = self.frames, []
        return [(f.function, f.instr, f.values) for f in frames]

    def take_handled(self):
        handled, self.handled = self.handled, None
        return handled

    def __reduce__(self):
        return make_frames, (sys.implementation.cache_tag, self.frames, self.handled)


def make_frames(version, frames, handled):
    if version != sys.implementation.cache_tag:
        raise pickle.UnpicklingError(f"a suspended tasklet of {version} cannot go on in {sys.implementation.cache_tag}")
    return Frames(frames, handled)


# ---- what the extension calls -----------------------------------------------------------------------------------


def obstacle(t):
    """Why the suspended tasklet cannot be pickled, as a text; None if it can, as far as its frames go."""
    if not possible:
        return "this version of Python keeps frames in a way that is not known here"
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


def unstarted(value, call):
    """(value, call) of a tasklet that has not begun, or has ended, as pickle may have them."""
    if call is not None:
        function, args, kwargs = call
        call = stand_for(function), tuple(map(stand_for, args)), kwargs
    return stand_for(value), call


def suspended(t, value):
    """The same of one that is suspended, whose call becomes one of resume()."""
    if not possible:
        raise pickle.PicklingError("a tasklet that has begun cannot be pickled on this version of Python")
    try:
        return stand_for(value), (resume, (Frames(*_read(t)),), None)
    except _Obstacle as error:
        raise pickle.PicklingError(f"the tasklet cannot be pickled: {error}") from None


def resume(it, _link=_fibril._frames_link, _drop=_fibril._frames_drop, _push=_fibril._frames_push):
    """What a loaded tasklet runs: its frames go on between this function and link()."""
    memory = _fibril._frames_new()
    try:
        _push(memory, it.take(), NULL)
        return link(_link, memory, it.take_handled())
    except BaseException:
        _drop(memory)
        raise


def link(function, memory, handled):
    """Returns to the innermost of the frames."""
    return function(memory, handled)


possible = _fibril._frames_resume(resume)
