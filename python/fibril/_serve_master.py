# SPDX-License-Identifier: MIT
"""The main process: owns the listening sockets, starts workers, replaces them, ends them.

It never imports the application. Each worker has a slot with listening sockets of its own (SO_REUSEPORT), which
outlive it: what waits to be accepted is accepted by its successor. A successor is started first and takes over when
it is ready; then the old one is told to retire.

    slot: current  a worker that serves, or None
          next     its successor while it starts, or None
"""

import mmap
import os
import select
import signal
import socket
import struct
import sys
import time

from . import _serve_options, _serve_worker

BACKLOG = 4096
QUICK_S = 10.0  # a worker that dies younger has its successor wait
PATIENCE_S = 5.0  # beyond --drain, then a worker is killed


def say(text):
    print(f"fibril serve: {text}", file=sys.stderr, flush=True)


# ---- sockets ---------------------------------------------------------------------------------------------------------


def _listen_unix(path):
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    name = "\0" + path[1:] if path.startswith("@") else path
    try:
        listener.bind(name)
    except OSError as error:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if error.errno != 98 or probe.connect_ex(name) != 111:
                raise
        os.unlink(path)  # a file that nobody answers on
        listener.bind(name)
    return listener


def _resolve(host, port):
    host = None if host == "*" else host
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    return found[0][0], found[0][4]


def _bind_tcp(family, where, shared):
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listener.bind(where)
        return listener
    except OSError:
        listener.close()
        raise


def listen(address, workers):
    """A listening socket for each worker; the same one where it cannot be shared out."""
    if address[0] == "unix":
        listeners = [_listen_unix(address[1])] * workers
    else:
        family, where = _resolve(address[1], address[2])
        first = _bind_tcp(family, where, shared=False)  # fails if anybody else has it, also one that shares
        listeners = [first]
        if workers > 1:
            where = first.getsockname()
            first.close()
            listeners = [_bind_tcp(family, where, shared=True) for _ in range(workers)]
    for listener in set(listeners):
        listener.setblocking(False)
        listener.listen(BACKLOG)
    return listeners


def handed_over(workers):
    """Sockets of a service manager (LISTEN_FDS), or []."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return []
    count = int(os.environ.get("LISTEN_FDS", "0"))
    return [[socket.socket(fileno=fd)] * workers for fd in range(3, 3 + count)]


def shown(address):
    kind, *rest = address
    if kind == "unix":
        return "unix:" + rest[0]
    host, port = rest
    return f"http://[{host}]:{port}/" if ":" in host else f"http://{host}:{port}/"


def bound(listener):
    name = listener.getsockname()
    if listener.family == socket.AF_UNIX:
        return ("unix", name.decode().replace("\0", "@") if isinstance(name, bytes) else name)
    return ("tcp", name[0], name[1])


def notify(text):
    """Tells a service manager, if there is one (sd_notify)."""
    path = os.environ.get("NOTIFY_SOCKET")
    if path:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
            s.sendto(text.encode(), "\0" + path[1:] if path.startswith("@") else path)


# ---- processes -------------------------------------------------------------------------------------------------------


class Child:
    def __init__(self, slot, pid, pipe, pulse):
        self.slot, self.pid, self.pipe, self.pulse = slot, pid, pipe, pulse
        self.born = time.monotonic()
        self.kill_at = None  # when it has been told to end
        self.waiting = False  # could not load the application and waits for a change of its files

    def signal(self, signum):
        try:
            os.kill(self.pid, signum)
        except ProcessLookupError:
            pass


class Slot:
    def __init__(self, number):
        self.number = number
        self.current = self.next = None
        self.renew = False  # wants a successor
        self.failures = 0
        self.not_before = 0.0

    def put_off(self):
        """After a failure: the first successor at once, later ones later and later."""
        self.failures += 1
        self.not_before = time.monotonic() + (0 if self.failures == 1 else min(30, 0.1 * 2**self.failures))


class Master:
    def __init__(self, options, given):
        self.options, self.given = options, given
        self.pid = os.getpid()
        self.slots = [Slot(i) for i in range(options.workers)]
        self.children = {}  # pid: Child
        self.sockets = []
        self.log_fd = 1
        self.stopping = 0
        self.stopped = float("-inf")
        self.status = None  # exit status, once it is known
        self.serving = False  # a worker has been ready

    # ---- beginning ----

    def open_logs(self):
        o = self.options
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT
        try:
            if o.access_log not in (None, "-"):
                path = o.access_log
                self.log_fd = os.open(path, flags, 0o644)
            if o.error_log:
                path = o.error_log
                os.dup2(os.open(path, flags, 0o644), 2)
        except OSError as error:
            _serve_options.die(f"cannot open log '{path}': {error.strerror}")

    def open_sockets(self):
        self.sockets = handed_over(self.options.workers)
        if self.sockets:
            return
        for address in self.options.bind:
            try:
                self.sockets.append(listen(address, self.options.workers))
            except OSError as error:
                text = shown(address).removeprefix("http://").rstrip("/")
                _serve_options.die(f"cannot listen on {text}: {error.strerror or error}")

    def set_signals(self):
        self.near, far = socket.socketpair()
        self.near.setblocking(False)
        far.setblocking(False)
        self.far = far
        signal.set_wakeup_fd(far.fileno(), warn_on_full_buffer=False)
        self.signals = []
        for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGCHLD):
            signal.signal(signum, lambda signum, frame: self.signals.append(signum))

    def write_pid(self):
        if self.options.pid_file:
            try:
                with open(self.options.pid_file, "w", encoding="ascii") as file:
                    file.write(f"{self.pid}\n")
            except OSError as error:
                _serve_options.die(f"cannot write '{self.options.pid_file}': {error.strerror}")

    # ---- children ----

    def start_child(self, slot):
        near, far = os.pipe()
        os.set_blocking(near, False)
        pulse = mmap.mmap(-1, mmap.PAGESIZE)
        struct.pack_into("d", pulse, 0, time.monotonic())
        pid = os.fork()
        if pid == 0:
            self.become_worker(slot, near, far, pulse)
        os.close(far)
        slot.next = self.children[pid] = Child(slot, pid, near, pulse)

    def become_worker(self, slot, near, far, pulse):
        signal.set_wakeup_fd(-1)
        self.near.close()
        self.far.close()
        os.close(near)
        for child in self.children.values():
            os.close(child.pipe)
        fds = [each[slot.number].fileno() for each in self.sockets]
        worker = _serve_worker.Worker(self.options, fds, far, pulse, self.pid, self.log_fd)
        raise SystemExit(worker.run(alone=slot.current is None))

    def hear(self, child):
        try:
            letters = os.read(child.pipe, 64)
        except OSError:
            return
        slot = child.slot
        if b"R" in letters and slot.next is child:
            old, slot.current, slot.next = slot.current, child, None
            if old:
                self.end_child(old, signal.SIGHUP)
            self.first_ready()
        if b"M" in letters and slot.current is child:
            slot.renew = True
        if b"C" in letters:
            self.renew_all()
        child.waiting |= b"W" in letters

    def first_ready(self):
        if not self.serving and all(slot.current for slot in self.slots):
            self.serving = True
            for listeners in self.sockets:
                print(f"listening on {shown(bound(listeners[0]))}")
            n = self.options.workers
            print(f"serving {self.options.app}, {n} worker{'s' if n > 1 else ''}", flush=True)
            notify("READY=1")

    def end_child(self, child, signum):
        child.signal(signum)
        if child.kill_at is None:
            drain = self.options.drain
            child.kill_at = float("inf") if drain is None else time.monotonic() + drain + PATIENCE_S

    def reap(self):
        while self.children:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            child = self.children.pop(pid, None)
            if child:
                self.hear(child)
                os.close(child.pipe)
                child.pulse.close()
                self.bury(child, os.waitstatus_to_exitcode(status))

    def bury(self, child, status):
        slot = child.slot
        how = f"was ended by signal {-status}" if status < 0 else f"ended with status {status}"
        if slot.next is child:
            slot.next = None
            if self.stopping or child.kill_at is not None:
                return
            if not self.serving and not child.waiting:
                self.status = 2
                self.stop()
            elif slot.current:
                say(f"the new worker {how}; the old one goes on")
                for each in self.slots:
                    each.renew = False
            elif not child.waiting:
                slot.put_off()
        elif slot.current is child:
            slot.current = None
            if not self.stopping and child.kill_at is None:
                say(f"worker {child.pid} {how}: starting another")
                if time.monotonic() - child.born > QUICK_S:
                    slot.failures = 0
                slot.put_off()

    # ---- turning ----

    def renew_all(self):
        if self.given.config:
            try:
                fresh = _serve_options.resolve(self.given)
            except _serve_options.Wrong as error:
                say(f"not reloaded: {error}")
                return
            fresh.workers, fresh.bind = self.options.workers, self.options.bind  # the sockets stay as they are
            self.options = fresh
        for slot in self.slots:
            slot.renew, slot.failures, slot.not_before = True, 0, 0.0
            if slot.next:
                self.end_child(slot.next, signal.SIGKILL)

    def stop(self):
        """Once: finish what is in flight. Twice: cut it off. Three times: kill. The same signal right behind the first
        came of a group of processes being signalled."""
        now = time.monotonic()
        if now - self.stopped < 0.5:
            return
        self.stopped = now
        self.stopping += 1
        signum = {1: signal.SIGTERM, 2: signal.SIGUSR2}.get(self.stopping, signal.SIGKILL)
        for child in self.children.values():
            self.end_child(child, signum)

    def start_missing(self):
        """One successor at a time; all at once where nobody serves."""
        now = time.monotonic()
        for slot in self.slots:
            if slot.next or now < slot.not_before:
                continue
            if slot.current is None and (self.serving or slot is self.slots[0] or self.slots[0].current):
                self.start_child(slot)
            elif slot.current and slot.renew and not any(each.next for each in self.slots):
                slot.renew = False
                self.start_child(slot)

    def watch(self):
        now = time.monotonic()
        for child in self.children.values():
            if child.kill_at is not None and now > child.kill_at:
                child.signal(signal.SIGKILL)
            silent = now - struct.unpack_from("d", child.pulse)[0]
            if self.options.timeout and child.slot.current is child and silent > self.options.timeout:
                say(f"worker {child.pid} has not answered for {silent:.1f} s: ending it")
                child.signal(signal.SIGQUIT)  # shows where every fibril is
                time.sleep(0.2)
                child.signal(signal.SIGKILL)
                struct.pack_into("d", child.pulse, 0, now)

    def wait(self):
        pipes = {child.pipe: child for child in self.children.values()}
        ready, _, _ = select.select([self.near, *pipes], [], [], self.patience())
        for each in ready:
            if each in pipes:
                self.hear(pipes[each])
                if pipes[each].pid not in self.children:
                    continue
        try:
            self.near.recv(4096)
        except BlockingIOError:
            pass

    def patience(self):
        late = [slot.not_before - time.monotonic() for slot in self.slots if not slot.current and not slot.next]
        return max(0.01, min(1.0, *late, 1.0)) if late else 1.0

    def take_signals(self):
        while self.signals:
            signum = self.signals.pop(0)
            if signum == signal.SIGHUP and not self.stopping:
                say("reloading")
                self.renew_all()
            elif signum in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
                notify("STOPPING=1")
                self.stop()

    def run(self):
        self.open_logs()
        self.open_sockets()
        self.write_pid()
        self.set_signals()
        while not self.stopping or self.children:
            self.take_signals()
            self.reap()
            if not self.stopping:
                self.start_missing()
            elif not self.children:
                break
            self.watch()
            self.wait()
        self.clean_up()
        return self.status or 0

    def clean_up(self):
        for listeners in self.sockets:
            kind, path, *_ = bound(listeners[0])
            if kind == "unix" and not path.startswith("@") and os.path.exists(path):
                os.unlink(path)
        if self.options.pid_file and os.path.exists(self.options.pid_file):
            os.unlink(self.options.pid_file)
