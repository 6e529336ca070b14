# SPDX-License-Identifier: MIT
from collections.abc import Awaitable, Callable, Coroutine
from types import TracebackType
from typing import IO, Any, Generic, ParamSpec, TypeVar

from . import actors as actors
from ._fibril import (
    Cancelled as Cancelled,
    Channel as Channel,
    ChannelClosed as ChannelClosed,
    Deadlock as Deadlock,
    Event as Event,
    Fibril as Fibril,
    Lock as Lock,
    Semaphore as Semaphore,
    __version__ as __version__,
    cancelled as cancelled,
    current as current,
    deadline as deadline,
    disable as disable,
    enabled as enabled,
    metrics as metrics,
    offload as offload,
    select as select,
    sleep as sleep,
    spawn as spawn,
    timeout as timeout,
    yield_ as yield_,
)
from .actors import (
    Actor as Actor,
    ActorEnded as ActorEnded,
    ActorFailed as ActorFailed,
    ActorHandle as ActorHandle,
    Child as Child,
    Supervisor as Supervisor,
    actor as actor,
    receive as receive,
)

P = ParamSpec("P")
T = TypeVar("T")

def enable(
    preempt_ms: float = 0,
    poller: str | None = None,
    stack_bytes: int = 0,
    thread_stack_bytes: int = 0,
    deadlocks: bool | None = None,
) -> bool: ...
class observe:
    url: str
    def __init__(self, port: int = 0, host: str = "127.0.0.1") -> None: ...
    def close(self) -> None: ...
    def __enter__(self) -> observe: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None: ...

def dump(file: IO[Any] | int | None = None) -> None: ...
def wait_for(coroutine: Coroutine[Any, Any, T], timeout: float | None = None) -> T: ...
def to_async(fibril: Fibril[T]) -> Awaitable[T]: ...

class shield:
    def __enter__(self) -> shield: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool: ...

class Scope:
    def spawn(self, function: Callable[..., T], /, *args: Any, name: str | None = None, **kwargs: Any) -> Fibril[T]: ...
    def cancel(self) -> None: ...
    def __enter__(self) -> Scope: ...
    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> bool: ...

class OSThread(Generic[T]):
    name: str
    daemon: bool
    @property
    def alive(self) -> bool: ...
    def join(self, timeout: float | None = None) -> T: ...

def os_thread(
    function: Callable[..., T], /, *args: Any, name: str | None = None, daemon: bool = False, **kwargs: Any
) -> OSThread[T]: ...
