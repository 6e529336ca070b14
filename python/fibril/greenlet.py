# SPDX-License-Identifier: MIT
"""Greenlets: the interface of the greenlet package on fibril's contexts.

    from fibril import greenlet                 # fibril.greenlet.greenlet, .getcurrent, ...
    fibril.greenlet.install()                   # from now on `import greenlet` finds this module

It works in any thread, with or without fibril.enable(). A greenlet is a context within the thread, or fibril, that
made it: when it waits for I/O, that whole thread or fibril waits. See docs/greenlet.md.
"""

import importlib.machinery as _machinery
import os as _os
import sys as _sys

from . import _fibril

try:
    _greenlet = _fibril._greenlet
except AttributeError:
    raise ImportError("this build of fibril uses CPython's public interface only, which has no place for greenlets") \
        from None

from_c = ("_C_API", "CLOCKS_PER_SEC", "GREENLET_USE_CONTEXT_VARS", "GREENLET_USE_GC", "GREENLET_USE_TRACING",
          "GreenletExit", "enable_optional_cleanup", "error", "get_clocks_used_doing_optional_cleanup", "getcurrent",
          "gettrace", "greenlet", "own_stacks", "settrace")
for _name in from_c:
    globals()[_name] = getattr(_greenlet, _name)
del from_c, _name

__version__ = "3.5.6"  # of the greenlet package whose interface this is

__all__ = ["__version__", "_C_API", "GreenletExit", "error", "getcurrent", "greenlet", "gettrace", "settrace",
           "own_stacks", "install", "get_include"]


class _Finder:
    """Finds greenlet and greenlet._greenlet: nothing is imported under these names before somebody asks for it."""

    modules = {"greenlet": _sys.modules[__name__], "greenlet._greenlet": _greenlet}

    def find_spec(self, name, path=None, target=None):
        return _machinery.ModuleSpec(name, self, is_package=name == "greenlet") if name in self.modules else None

    def create_module(self, spec):
        module = self.modules[spec.name]
        spec.loader_state = getattr(module, "__spec__", None)
        return module

    def exec_module(self, module):
        module.__spec__ = module.__spec__.loader_state  # it stays what it was


_finder = _Finder()


def install():
    """Makes `import greenlet` and `import greenlet._greenlet` find fibril's greenlets, in this process.

    Call it before anything imports greenlet: raises RuntimeError when the greenlet package itself has been imported.
    Calling it again does nothing.
    """
    present = _sys.modules.get("greenlet")
    if present is not None and present is not _sys.modules[__name__]:
        raise RuntimeError("the greenlet package has been imported already: install fibril's greenlets first")
    if _finder not in _sys.meta_path:
        _sys.meta_path.insert(0, _finder)


def get_include():
    """The folder of greenlet.h, for extensions that use the C interface."""
    here = _os.path.dirname(_os.path.abspath(__file__))
    installed = _os.path.join(here, "include")
    return installed if _os.path.isdir(installed) else here


__path__ = []  # so that `import greenlet._greenlet` looks in sys.modules
