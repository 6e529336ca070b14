# SPDX-License-Identifier: MIT
"""Code of Python for the pickles of tasklets: it goes by reference (module, qualified name and a digest), never by
value. And what follows from it alone: how high the value stack is before each instruction, since the compiler gives
every one of them one height.
"""

import dis
import functools
import hashlib
import importlib
import pickle
import sys
import types

_VERSION = sys.implementation.cache_tag  # every minor version of Python has other code


# ---- by reference ---------------------------------------------------------------------------------------------------


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
    parts = (code.co_code, code.co_exceptiontable, code.co_names, code.co_varnames,
             code.co_cellvars, code.co_freevars, code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount,
             code.co_flags, code.co_stacksize, [_constant(c) for c in code.co_consts])
    return _VERSION + " " + hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def check_version(wanted):
    """Of a digest that was pickled."""
    version = wanted.partition(" ")[0]
    if version != _VERSION:
        raise pickle.UnpicklingError(f"a suspended tasklet of {version} cannot go on in {_VERSION}: "
                                     "the two compile the same function to other code")


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
    check_version(wanted)
    module = sys.modules.get(module_name) or importlib.import_module(module_name)
    changed = False
    for code in _codes(module):
        if code.co_qualname == qualname:
            if digest(code) == wanted:
                _found[key] = code
                return code
            changed = True
    raise pickle.UnpicklingError(
        f"the code of {module_name}.{qualname} has changed since it was pickled"
        if changed else f"module {module_name} has no function {qualname}")


# ---- instructions ---------------------------------------------------------------------------------------------------


_LEAVES = {"RETURN_VALUE", "RETURN_CONST", "RAISE_VARARGS", "RERAISE", "JUMP_FORWARD", "JUMP_BACKWARD",
           "JUMP_BACKWARD_NO_INTERRUPT"}
_JUMPS = {*dis.hasjrel, *dis.hasjabs}


@functools.lru_cache(1024)
def instructions(code):
    """Those of the code as it was compiled, whatever the interpreter has made of them since: {offset: instruction}."""
    return {i.offset: i for i in dis.get_instructions(code)}


@functools.lru_cache(1024)
def following(code):
    """{offset of an instruction: that of the next}, which says how many cache entries lie between."""
    offsets = [*instructions(code), len(code.co_code)]
    return dict(zip(offsets, offsets[1:]))


@functools.lru_cache(1024)
def preceding(code):
    return {after: offset for offset, after in following(code).items()}


@functools.lru_cache(1024)
def heights(code):
    """The height of the value stack before each instruction that can be reached: {offset: entries}."""
    found, after = instructions(code), following(code)
    result, work = {}, [(0, 0)]
    handlers = dis.Bytecode(code).exception_entries

    def follow(offset, height):
        while offset not in result:
            result[offset] = height
            for entry in handlers:
                if entry.start <= offset < entry.end:
                    work.append((entry.target, entry.depth + entry.lasti + 1))
            i = found[offset]
            if i.opcode in _JUMPS:
                work.append((i.argval, height + dis.stack_effect(i.opcode, i.arg, jump=True)))
            if i.opname in _LEAVES:
                return
            height += dis.stack_effect(i.opcode, i.arg, jump=False)
            offset = after[offset]

    while work:
        follow(*work.pop())
    return result
