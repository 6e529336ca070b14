# SPDX-License-Identifier: MIT
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from types import TracebackType
from typing import Any

from .actors import ActorHandle

__all__ = ["Listener", "MessageError", "Node", "RemoteError", "RemoteTraceback", "connect", "join_starter", "listen",
           "named", "node_of", "run_worker", "start_worker"]

class MessageError(RuntimeError): ...

class RemoteError(RuntimeError):
    type_name: str
    def __init__(self, type_name: str, text: str) -> None: ...

class RemoteTraceback(Exception):
    text: str
    def __init__(self, text: str) -> None: ...

class Node(ActorHandle):
    def whereis(self, name: str, timeout: float | None = None) -> ActorHandle | None: ...
    def leave(self) -> None: ...
    def info(self) -> dict[str, Any] | None: ...

class Listener:
    path: str
    @property
    def nodes(self) -> list[Node]: ...
    def close(self) -> None: ...
    def __enter__(self) -> Listener: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool: ...

def named(name: str) -> Node | None: ...
def node_of(actor: ActorHandle) -> Node | None: ...
def connect(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    timeout: float | None = 10.0,
    wait: bool = False,
    silence: float | None = 30.0,
) -> Node: ...
def listen(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    on_join: Callable[[Node], object] | None = None,
    timeout: float | None = 10.0,
    silence: float | None = 30.0,
) -> Listener: ...
def start_worker(
    argv: Iterable[str | PathLike[str]],
    *,
    register: str | None = None,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | PathLike[str] | None = None,
    timeout: float | None = 10.0,
    shutdown: float | None = 5.0,
    silence: float | None = 30.0,
) -> Node: ...
def run_worker(
    argv: Iterable[str | PathLike[str]],
    *,
    register: str | None = None,
    name: str | None = None,
    env: Mapping[str, str] | None = None,
    cwd: str | PathLike[str] | None = None,
    timeout: float | None = 10.0,
    shutdown: float | None = 5.0,
    silence: float | None = 30.0,
) -> None: ...
def join_starter(
    *, name: str | None = None, timeout: float | None = 10.0, silence: float | None = 30.0
) -> Node: ...
