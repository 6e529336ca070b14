# SPDX-License-Identifier: MIT
"""Functions that have no name of their own, cells and modules for the pickles of tasklets: pickle takes them where they
are variables of a frame, or in another closure; everywhere with Pickler."""

import copyreg
import importlib
import pickle
import sys
import types
import weakref

from ._stackless_code import digest, find_code


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
