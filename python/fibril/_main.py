# SPDX-License-Identifier: MIT
"""``python3 -m fibril``: enables fibril and becomes the program that is named.

The program sees what it would see under plain Python: sys.argv, sys.path[0], a fresh __main__. runpy.run_path is
not used for scripts: it takes __main__ away again while threads of the program may still run.
"""

import importlib
import os
import sys
import types

from . import __version__, dump, enable, enabled, metrics
from . import _fibril

USAGE = """\
usage: python3 -m fibril [OPTION ...] SCRIPT [ARGUMENT ...]
       python3 -m fibril [OPTION ...] -m MODULE [ARGUMENT ...]
       python3 -m fibril [OPTION ...] -c CODE [ARGUMENT ...]
       python3 -m fibril serve ...     an application server: see python3 -m fibril serve --help
       python3 -m fibril doctor        what is covered in this process and what would still block

Runs a Python program whose threads are fibrils: they cost no OS thread, and blocking calls park them.

  --poller NAME     uring, epoll or auto (default: $FIBRIL_POLLER, else auto)
  --stack SIZE      address space for the stack of each thread: bytes, or with K or M (default 1M);
                    only touched pages cost memory
  --preempt MS      let others run when a thread computes longer than MS milliseconds (default: never)
  --greenlet        make `import greenlet` find fibril's greenlets
  --stackless       make `import stackless` find fibril's tasklets and channels
  --observe ADDRESS serve a page that shows the program from inside on PORT (of 127.0.0.1) or HOST:PORT;
                    `fibril observe ADDRESS` shows it in a terminal
  --dump-on-exit    write every fibril that is left and its stacks to standard error at exit
  --version         print the version and exit
  --help            print this and exit
"""


class Usage(Exception):
    """A mistake on the command line, said in one line."""


def parse_size(text):
    """Bytes of "64K" or "1M" or "65536"."""
    units = {"K": 1 << 10, "M": 1 << 20}
    number, unit = (text[:-1], units[text[-1].upper()]) if text[-1:].upper() in units else (text, 1)
    if not number.isascii() or not number.isdigit() or int(number) == 0:
        raise Usage(f"--stack wants bytes, such as 262144 or 256K, not {text!r}")
    return int(number) * unit


def parse_ms(text):
    """A positive number of milliseconds."""
    try:
        ms = float(text)
    except ValueError:
        ms = -1
    if not 0 < ms <= 60000:
        raise Usage(f"--preempt wants milliseconds between 0 and 60000, not {text!r}")
    return ms


def parse(arguments):
    """Splits the command line: options as a dict, and what is left, the program first."""
    options = {"poller": None, "stack": 0, "preempt": 0, "dump_on_exit": False, "greenlet": False, "stackless": False,
               "observe": None}
    valued = {"--poller": str, "--stack": parse_size, "--preempt": parse_ms, "--observe": str}
    rest = list(arguments)
    while rest and rest[0].startswith("-") and rest[0] not in ("-m", "-c", "-"):
        name, equals, value = rest.pop(0).partition("=")
        if name in valued:
            if not equals:
                if not rest:
                    raise Usage(f"{name} wants a value")
                value = rest.pop(0)
            options[name[2:]] = valued[name](value)
        elif name in ("--dump-on-exit", "--greenlet", "--stackless") and not equals:
            options[name[2:].replace("-", "_")] = True
        elif name in ("--version", "-V"):
            options["version"] = True
        elif name in ("--help", "-h"):
            options["help"] = True
        elif name == "--":
            break
        else:
            raise Usage(f"unknown option {name} (see --help)")
    return options, rest


# ---- becoming the program ----------------------------------------------------------------------------


def fresh_main(**attributes):
    """A new __main__, in the place of the one that started us."""
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=sys.modules["builtins"], **attributes)
    sys.modules["__main__"] = main
    return main


def set_path(first):
    """sys.path[0] is where the program lies, unless Python was told to leave it out (-P, -I)."""
    if not getattr(sys.flags, "safe_path", False):
        sys.path[0] = first


def run_file(script, arguments):
    import io
    from importlib.machinery import SourceFileLoader

    sys.argv[:] = [script, *arguments]
    if os.path.isdir(script) or script.endswith((".zip", ".pyz")):
        import runpy

        where = os.path.abspath(script)
        if getattr(sys.flags, "safe_path", False):
            sys.path.insert(0, where)
        else:
            sys.path[0] = where
        fresh_main()
        runpy._run_module_as_main("__main__", alter_argv=False)
        return
    try:
        with io.open_code(os.path.abspath(script)) as file:
            source = file.read()
    except OSError as error:
        raise Usage(f"can't open file {script!r}: {error.strerror}") from None
    set_path(os.path.dirname(os.path.realpath(script)))
    main = fresh_main(__file__=script, __cached__=None)
    main.__loader__ = SourceFileLoader("__main__", script)
    exec(compile(source, script, "exec", dont_inherit=True), main.__dict__)


def run_module(name, arguments):
    import runpy

    sys.argv[:] = ["-m", *arguments]
    set_path(os.getcwd())
    fresh_main()
    runpy._run_module_as_main(name)


def run_code(code, arguments):
    sys.argv[:] = ["-c", *arguments]
    set_path("")
    main = fresh_main()
    exec(compile(code, "<string>", "exec", dont_inherit=True), main.__dict__)


def run_program(rest):
    if rest[0] in ("-m", "-c"):
        if len(rest) < 2:
            raise Usage(f"{rest[0]} wants an argument")
        return (run_module if rest[0] == "-m" else run_code)(rest[1], rest[2:])
    if rest[0] == "-":
        return run_code(sys.stdin.read(), rest[1:])
    return run_file(rest[0], rest[1:])


# ---- doctor ------------------------------------------------------------------------------------------


def doctor():
    """Says what this Python, this kernel and this process allow."""
    print(f"fibril {__version__}")
    print(f"Python {sys.version.split()[0]} ({sys.executable})")
    print(f"extension {_fibril.__file__}")
    print(f"poller {metrics()['poller']}")
    print(f"interpreter: {_fibril._paths()}", flush=True)
    blocking = _fibril._report(sys.stdout.fileno())
    if blocking < 0:
        print("POSIX layer: not part of this build; threads and blocking calls stay as they are")
    return 0


# ---- the command -------------------------------------------------------------------------------------


def start(options):
    """enable, with one line for what may go wrong."""
    try:
        enable(preempt_ms=options["preempt"], poller=options["poller"], thread_stack_bytes=options["stack"])
    except (ValueError, OSError, RuntimeError, MemoryError) as error:
        raise Usage(str(error) or type(error).__name__) from None
    if options["observe"] is not None:
        try:
            where = _fibril._observe(options["observe"])
        except (ValueError, OSError, RuntimeError) as error:
            raise Usage(f"--observe {options['observe']}: {error}") from None
        print(f"fibril: process {os.getpid()} is observed at http://{where}/", file=sys.stderr)
    for name in ("greenlet", "stackless"):
        if options[name]:
            try:
                importlib.import_module("fibril." + name).install()
            except ImportError as error:
                raise Usage(f"--{name}: {error}") from None
    if options["dump_on_exit"]:
        import atexit

        atexit.register(lambda: enabled() and dump(2))


def main(arguments=None):
    """The command line. Returns the exit status when it was no program that ran."""
    try:
        options, rest = parse(sys.argv[1:] if arguments is None else arguments)
        if options.get("help"):
            print(USAGE, end="")
            return 0
        if options.get("version"):
            print(f"fibril {__version__} (Python {sys.version.split()[0]})")
            return 0
        if not rest:
            raise Usage("what shall run? (see --help)")
        if rest[0] == "serve":
            from . import serve

            return serve.main(rest[1:])
        start(options)
        if rest[0] == "doctor":
            return doctor()
        return run_program(rest)
    except Usage as error:
        print(f"fibril: {error}", file=sys.stderr)
        return 2
