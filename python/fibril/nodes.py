# SPDX-License-Identifier: MIT
"""Actors of other processes of this machine.

Two processes are joined over a UNIX socket: one calls ``listen(path)`` and the other ``connect(path)``; or one starts
the other by ``start_worker([...])``, and that one calls ``join_starter()``. Each then has a Node, by which it asks for
actors by name. Their handles work like those of its own: call, cast, send, stream, link, monitor, exit; so do handles
that arrive in messages. The rules are those of docs/actors.md, "Other processes".

Messages are pickled: what is sent arrives as a copy, and its classes must be importable on both sides. A pickle can
make the process that reads it do anything, so only processes of the same user are let in, as the kernel says who they
are (SO_PEERCRED); connect to nobody you would not run. Times are seconds (int or float); None means for ever.
"""

import atexit as _atexit
import logging as _logging
import os as _os
import select as _select
import socket as _socket
import stat as _stat
import time as _time

from . import _fibril, _node_messages
from ._node_messages import MessageError, RemoteError, RemoteTraceback
from ._scope import shield as _shield
from .actors import (ActorEnded as _ActorEnded, ActorHandle as _ActorHandle, Down as _Down, receive as _receive,
                     whereis as _whereis)

__all__ = ["Listener", "MessageError", "Node", "RemoteError", "RemoteTraceback", "connect", "join_starter", "listen",
           "named", "node_of", "run_worker", "start_worker"]

_log = _logging.getLogger("fibril.nodes")
_SILENCE = 30.0  # seconds
_GREETINGS = 64  # that a listener waits for at the same time


class Node(_ActorHandle):
    """A connection to another process: an actor, so that it can be monitored, linked and named.

    When it ends, all actors of the other process have ended, for the reason "noconnection". A new connection brings
    new handles; the old ones stay dead. ``join()`` waits for the end.
    """

    __slots__ = ()

    def whereis(self, name, timeout=None):
        """Ask the other process who has a name there: an ActorHandle, or None.

        timeout: seconds. Raises TimeoutError, ActorEnded if the connection has ended, ValueError for an impossible
        name, Cancelled.
        """
        return _fibril._node_whereis(self.id, name, timeout)

    def leave(self):
        """End the connection in good order: what was sent before goes out, for a second at most. The reason is
        "shutdown", on both sides."""
        _fibril._node_leave(self.id)

    def info(self):
        """What there is to be known (dict), None after the end.

        name, pid: of the other process, as it says. actors: of it that are known here; known: of this process that are
        known there. held: messages that came for full mailboxes. backlog: bytes of signals and replies that are to go
        out. frames_in, frames_out, bytes_in, bytes_out.
        """
        return _fibril._node_info(self.id)

    def __repr__(self):
        info = self.info()
        return f"<Node {self.id} ended>" if info is None else f"<Node {self.id} {info['name']!r} pid {info['pid']}>"


def named(name):
    """The Node that is registered here under a name; None: nobody, or no Node."""
    found = _whereis(name)
    return None if found is None or _fibril._node_info(found.id) is None else Node(found.id)


def node_of(actor):
    """The Node that an actor of another process belongs to; None for those of this one, and those that have ended."""
    number = _fibril._node_of(actor.id)
    return Node(number) if number else None


# ---- connections -----------------------------------------------------------------------------------------

_joined = set()  # the Nodes that were alive when the last one came


def _node(number):
    node = Node(number)
    _joined.difference_update([each for each in _joined if not each.alive])
    _joined.add(node)
    return node


def _leave_all():
    """At exit: what was sent goes out, and the others see an end in good order."""
    left = [node for node in _joined if node.alive]
    for node in left:
        node.leave()
    for node in left:
        node.join(2.0)


def connect(path, *, name=None, timeout=10.0, wait=False, silence=_SILENCE):
    """Join the process that listens at a path; returns its Node.

    name: of this process, for the other (str, at most 255 bytes). timeout: seconds for all of it. wait: while nobody
    listens there, try again until then. silence: the connection ends when nothing was heard for so many seconds.

    Raises FileNotFoundError or ConnectionRefusedError (nobody listens), ConnectionError (what listens is no node, or
    goes away), PermissionError (of another user), TimeoutError, Cancelled.
    """
    end = None if timeout is None else _time.monotonic() + timeout
    while True:
        left = None if end is None else max(0.0, end - _time.monotonic())
        socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        try:
            socket.connect(_os.fspath(path))
            return _node(_fibril._node_join(socket.detach(), name, silence, left))
        except (FileNotFoundError, ConnectionRefusedError, ConnectionResetError):
            if not wait or left == 0:
                raise
            _fibril.sleep(0.01)
        finally:
            socket.close()  # unless it was joined


class Listener:
    """What listen() returns: takes in processes until it is closed. A context manager.

    path (str). nodes: the Nodes that have come and are alive (list).
    """

    def __init__(self, path, name, on_join, timeout, silence):
        self.path = _os.fspath(path)
        self._name, self._on_join, self._timeout, self._silence = name, on_join, timeout, silence
        self._nodes = {}
        self._greetings = _fibril.Semaphore(_GREETINGS)
        self._socket = _bind(self.path)
        self._identity = _identity(self.path)
        self._fibril = _fibril.spawn(self._accept_all, name=f"listener at {self.path}", daemon=True)

    @property
    def nodes(self):
        self._nodes = {number: node for number, node in self._nodes.items() if node.alive}
        return list(self._nodes.values())

    def _accept_all(self):
        while True:
            self._greetings.acquire()
            try:
                socket, _ = self._socket.accept()
            except OSError as error:
                self._greetings.release()
                if self._socket.fileno() < 0:
                    return
                _log.warning("%s: %s", self.path, error)  # too many descriptors, or the peer has left already
                _fibril.sleep(0.1)
                continue
            _fibril.spawn(self._greet, socket, name="greets a node", daemon=True)

    def _greet(self, socket):
        try:
            node = _node(_fibril._node_join(socket.detach(), self._name, self._silence, self._timeout))
        except (OSError, ValueError) as error:
            _log.warning("%s: a process was not let in: %s", self.path, error)
            return
        finally:
            self._greetings.release()
        for number in [number for number, each in self._nodes.items() if not each.alive]:
            del self._nodes[number]
        self._nodes[node.id] = node
        if self._on_join is not None:
            try:
                self._on_join(node)
            except Exception:
                _log.exception("%s: on_join failed for %r", self.path, node)

    def close(self):
        """Take in nobody any more, and remove the path. Nodes that have come stay."""
        if self._socket.fileno() >= 0:
            self._fibril.cancel()
            with _shield():
                self._fibril.wait()
            self._socket.close()
            if _identity(self.path) == self._identity:
                _os.unlink(self.path)

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.close()
        return False

    def __repr__(self):
        return f"<Listener {self.path!r}{' closed' if self._socket.fileno() < 0 else ''}>"


def _identity(path):
    """Which socket lies at a path; None: none."""
    try:
        found = _os.lstat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino) if _stat.S_ISSOCK(found.st_mode) else None


def _is_left_over(path):
    """Whether the socket at path is one that nobody listens at. That of a process that was killed may last a little
    longer than the process: who connects is hung up on."""
    end = _time.monotonic() + 1.0
    while _identity(path) is not None and _time.monotonic() < end:
        with _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM) as probe:
            probe.settimeout(1.0)
            try:
                probe.connect(path)
                if probe.recv(1):
                    return False
            except ConnectionRefusedError:
                return True
            except ConnectionResetError:
                pass
            except OSError:
                return False
        _fibril.sleep(0.01)
    return False


def _bind(path):
    socket = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        _os.fchmod(socket.fileno(), 0o600)  # Linux makes the path with the mode of the socket
        try:
            socket.bind(path)
        except OSError:
            if not _is_left_over(path):
                raise
            _os.unlink(path)
            socket.bind(path)
        socket.listen(128)
    except BaseException:
        socket.close()
        raise
    return socket


def listen(path, *, name=None, on_join=None, timeout=10.0, silence=_SILENCE):
    """Let processes of the same user join this one, at a path that is made with mode 0600; returns a Listener.

    What a process that has ended left at the path is replaced. name: of this process, for the others. on_join(node):
    called for each, in a fibril of its own. timeout: seconds that one has to greet. silence: as of connect.

    Raises OSError (somebody listens there, or the path cannot be made), RuntimeError before fibril.enable(). Who is not
    let in is reported to the log "fibril.nodes".
    """
    if not _fibril.enabled():
        raise RuntimeError("nodes need fibril.enable()")
    return Listener(path, name, on_join, timeout, silence)


# ---- workers ---------------------------------------------------------------------------------------------

def start_worker(argv, *, register=None, name=None, env=None, cwd=None, timeout=10.0, shutdown=5.0, silence=_SILENCE):
    """Start a process that is joined from the first; returns its Node. The process calls join_starter().

    argv: the program and its arguments, such as [sys.executable, "worker.py"]; looked up in PATH.
    register: a name for the Node, see named(). name: of this process, for the worker. env (dict), cwd: None: ours.
    timeout: seconds for the start; shutdown: seconds that it has to end after its node has, before it is killed.
    silence: as of connect.

    When its node ends, so does the process, and when it ends, so does its node: leave() ends both. Raises what starting
    a program raises (FileNotFoundError), TimeoutError, ConnectionResetError (it ended before it had joined), ValueError
    (name taken), Cancelled.
    """
    words = tuple(_os.fsencode(word) for word in argv)
    if not words:
        raise ValueError("argv is empty")
    variables = _os.environ if env is None else env
    lines = tuple(b"%b=%b" % (_os.fsencode(key), _os.fsencode(value)) for key, value in variables.items())
    return _node(_fibril._worker_start(words, lines, None if cwd is None else _os.fspath(cwd), register, name,
                                       silence, shutdown, timeout))


def _process_of(node):
    """A descriptor that tells of the end of the process, as long as there is one."""
    info = node.info()
    try:
        return None if info is None else _os.pidfd_open(info["pid"])
    except ProcessLookupError:
        return None


def run_worker(argv, **options):
    """Start a worker as start_worker does and wait until it has ended: what a supervisor's child can be.

    Raises ActorEnded when the process has ended, or was lost, and returns when leave() has ended it; when the caller is
    told to end, so is the process. options: those of start_worker.
    """
    node = start_worker(argv, **options)
    process = _process_of(node)
    ref = node.monitor()
    try:
        down = _receive(lambda message: isinstance(message, _Down) and message.ref == ref)
    finally:
        node.leave()
        with _shield():
            node.join()
            if process is not None:  # it is killed when it takes too long
                _fibril.select((process, _select.POLLIN))
                _os.close(process)
    if down.reason not in ("normal", "shutdown"):
        raise _ActorEnded(node, f"the worker {' '.join(map(str, argv))} has ended: {down.reason}")


def join_starter(*, name=None, timeout=10.0, silence=_SILENCE):
    """In a process that start_worker() has started: join the process that did; returns its Node.

    What it may ask for by name must be registered before. ``join_starter().join()`` keeps the worker until it is not
    needed any more. name, silence: as of connect. Raises RuntimeError if this process was not started as a worker, or
    has joined already, and as connect.
    """
    return _node(_fibril._node_join(-1, name, silence, timeout))


_atexit.register(_leave_all)
_node_messages._HANDLES.append(Node)
_fibril._node_setup((_node_messages.pack, _node_messages.unpack, _node_messages.broken, MessageError))
