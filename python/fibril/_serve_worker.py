# SPDX-License-Identifier: MIT
"""A worker: imports the application, serves it, tells the main process how it goes.

The main thread only waits: for signals, whose Python handlers run here, and once a second to look at the clock, at
its memory and, with --reload, at the application's files. What it writes to the main process is one letter each:
R ready, M replace me, C files changed.
"""

import gc
import importlib
import os
import random
import resource
import signal
import socket
import struct
import sys
import time
import traceback

FAILED = 3  # exit status: the application could not be had


class AppError(Exception):
    """What is wrong with the application, in one line."""


# ---- the application -------------------------------------------------------------------------------------------------


def load(spec):
    """The application that module:app names. Raises AppError, or what importing it raised."""
    module_name, _, path = spec.partition(":")
    calls = path.endswith("()")
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and (module_name + ".").startswith(error.name + "."):
            raise AppError(f"there is no module '{error.name}' (in {os.getcwd()} or on the path)") from None
        raise
    app = module
    for name in path.removesuffix("()").split("."):
        try:
            app = getattr(app, name)
        except AttributeError:
            raise AppError(f"module '{module_name}' has no '{path}'") from None
    if calls:
        app = app()
    if not callable(app):
        raise AppError(f"'{spec}' is not callable: {type(app).__name__}")
    return app


def report_failure(spec, error):
    """Shows an exception of the application's once, without our own frames and those of the import system."""
    if isinstance(error, AppError):
        print(f"fibril serve: {error}", file=sys.stderr, flush=True)
        return
    tb = error.__traceback__
    ours = (__file__, importlib.__file__)
    while tb and (tb.tb_frame.f_code.co_filename in ours or
                  tb.tb_frame.f_code.co_filename.startswith("<frozen importlib")):
        tb = tb.tb_next
    text = "".join(traceback.format_exception(type(error), error, tb))
    sys.stderr.write(f"{text}fibril serve: cannot load '{spec}'\n")
    sys.stderr.flush()


# ---- files -----------------------------------------------------------------------------------------------------------


class Files:
    """The files of all modules, and when they were last written."""

    def __init__(self, more=()):
        self.more = list(more)
        self.seen = {}
        self.changed()

    def paths(self):
        yield from self.more
        for module in list(sys.modules.values()):
            path = getattr(module, "__file__", None)
            if path and path.endswith((".py", ".so")):
                yield path

    def changed(self):
        """The path of a file that has changed since it was last looked at, or None."""
        found = None
        for path in self.paths():
            try:
                stamp = os.stat(path).st_mtime_ns
            except OSError:
                continue  # being replaced, perhaps
            if self.seen.setdefault(path, stamp) != stamp:
                self.seen[path] = stamp
                found = path
        return found


def files_of(error):
    """The files that an exception passed through, a syntax error's own included."""
    paths = [getattr(error, "filename", None)]
    tb = error.__traceback__
    while tb:
        paths.append(tb.tb_frame.f_code.co_filename)
        tb = tb.tb_next
    return [path for path in paths if isinstance(path, str) and os.path.exists(path)]


# ---- the worker ------------------------------------------------------------------------------------------------------


def resident_bytes():
    with open("/proc/self/statm", "rb") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


class Worker:
    """One worker process. `fds` are its listening sockets, `pipe` and `pulse` lead to the main process."""

    def __init__(self, options, fds, pipe, pulse, master, log_fd):
        self.options, self.fds, self.pipe, self.pulse = options, fds, pipe, pulse
        self.master, self.log_fd = master, log_fd
        self.server = None
        self.stopping = False
        self.asked = set()

    def tell(self, letter):
        self.asked.add(letter)
        try:
            os.write(self.pipe, letter)
        except OSError:
            pass  # it has gone, which the next tick sees

    # ---- signals ----

    def on_stop(self, signum=None, frame=None):
        """Once or more: whoever ends a whole group of processes signals us beside the main process."""
        if not self.server:
            raise SystemExit(0)
        if not self.stopping:
            self.stopping = True
            self.server.stop(self.options.drain)

    def on_end(self, signum=None, frame=None):
        self.stopping = True
        if self.server:
            self.server.stop(0)

    def on_retire(self, signum=None, frame=None):
        if self.server and not self.stopping:
            self.server.retire(self.options.drain)

    def set_signals(self):
        near, far = socket.socketpair()
        near.setblocking(False)
        far.setblocking(False)
        self.wakeup = (near, far)
        signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self.on_stop)
        signal.signal(signal.SIGUSR2, self.on_end)
        signal.signal(signal.SIGHUP, self.on_retire)
        signal.signal(signal.SIGINT, lambda *_: None)  # a terminal sends it to all: the main process decides
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    # ---- once a second ----

    def tick(self):
        struct.pack_into("d", self.pulse, 0, time.monotonic())
        if os.getppid() != self.master and not self.stopping:
            self.on_stop()
        if self.max_requests and self.server.requests >= self.max_requests and b"M" not in self.asked:
            self.tell(b"M")
        if self.options.memory_limit and b"M" not in self.asked and resident_bytes() > self.options.memory_limit:
            print(f"fibril serve: worker {os.getpid()} has {resident_bytes() >> 20} MiB: to be replaced",
                  file=sys.stderr, flush=True)
            self.tell(b"M")
        path = self.files.changed() if self.files else None
        if path:
            print(f"fibril serve: {path} has changed", file=sys.stderr, flush=True)
            self.tell(b"C")

    # ---- life ----

    def enable(self):
        import fibril
        fibril.enable(poller=self.options.poller)

    def make_server(self, app):
        from . import _fibril
        o = self.options
        self.max_requests = o.max_requests and o.max_requests + random.randint(0, o.max_requests_jitter)
        forms = {"off": 0, "combined": 1, "json": 2}
        form = o.log or ("combined" if o.access_log else "off")
        self.server = _fibril.WSGIServer(
            app, self.fds, limits=o.limits, script_name=o.script_name, errors=sys.stderr, scheme=o.scheme,
            trusted=o.trusted_proxies, stack_bytes=o.stack or 256 << 10, requests_max=self.max_requests,
            access_log=forms[form], access_log_fd=self.log_fd, multiprocess=o.workers > 1,
            wakeup_fd=self.wakeup[0].fileno())

    def run(self, alone):
        """Serves until it is told to end; returns an exit status. `alone`: nobody else serves meanwhile."""
        self.set_signals()
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # one for each connection
        self.enable()
        sys.path.insert(0, os.getcwd())
        try:
            app = load(self.options.app)
        except SystemExit:
            raise
        except BaseException as error:
            report_failure(self.options.app, error)
            if self.options.reload and alone:
                self.wait_for_change(error)
            return FAILED
        gc.collect()
        gc.freeze()  # what the import left will stay: later collections need not look at it
        self.make_server(app)
        self.files = Files() if self.options.reload else None
        self.server.start()
        self.tell(b"R")
        while not self.server.wait(1.0):
            self.tick()
        return 0 if self.server.result == 0 else 1

    def wait_for_change(self, error):
        files = Files(files_of(error))
        self.tell(b"W")
        while not files.changed() and os.getppid() == self.master:
            struct.pack_into("d", self.pulse, 0, time.monotonic())
            time.sleep(0.5)


