# SPDX-License-Identifier: MIT
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any, Generic, Literal, NamedTuple, ParamSpec, TypeVar, overload

P = ParamSpec("P")
T = TypeVar("T")

Policy = Literal["park", "fail", "drop_oldest", "drop_newest"]
Reason = str | int | Crashed

class Crashed(Exception):
    type: type[BaseException] | None
    message: str
    traceback: str
    number: int

class ActorEnded(RuntimeError):
    actor: ActorHandle

class ActorFailed(RuntimeError):
    actor: ActorHandle

class MailboxFull(RuntimeError): ...

class Refuse(Exception):
    error: BaseException
    def __init__(self, error: BaseException) -> None: ...

class Down:
    actor: ActorHandle
    ref: int
    reason: Reason

class Exit:
    actor: ActorHandle | None
    reason: Reason

class DeadLetter:
    to: ActorHandle
    message: Any

class Caller:
    def reply(self, value: Any = None) -> None: ...
    def fail(self, error: BaseException) -> None: ...
    def give(self, value: Any) -> bool: ...
    def end(self) -> bool: ...

class Request:
    __match_args__ = ("name", "args", "kwargs")
    kind: Literal["call", "cast", "stream"]
    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    caller: Caller | None
    def reply(self, value: Any = None) -> None: ...
    def fail(self, error: BaseException) -> None: ...

class Foreign:
    __match_args__ = ("tag", "data")
    tag: int
    data: bytes
    def reply(self, data: bytes = b"") -> None: ...

class Stream(Iterator[T]):
    def __next__(self) -> T: ...
    def close(self) -> None: ...

# A handler is named by a str, or by the method itself (Counter.on_add): then its result is known.
class ActorHandle:
    @property
    def id(self) -> int: ...
    @property
    def alive(self) -> bool: ...
    @property
    def name(self) -> str | None: ...
    @overload
    def call(self, handler: str, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any: ...
    @overload
    def call(self, handler: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any) -> T: ...
    def cast(
        self, handler: str | Callable[..., Any], /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> None: ...
    @overload
    def stream(self, handler: str, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Stream[Any]: ...
    @overload
    def stream(
        self, handler: Callable[..., Iterator[T]], /, *args: Any, timeout: float | None = None, **kwargs: Any
    ) -> Stream[T]: ...
    def send(self, message: Any, /, timeout: float | None = None) -> None: ...
    def stop(self, reason: Reason = "normal", timeout: float | None = None) -> bool: ...
    def join(self, timeout: float | None = None) -> None: ...
    def exit(self, reason: Reason = "shutdown") -> None: ...
    def kill(self) -> None: ...
    def link(self) -> None: ...
    def unlink(self) -> None: ...
    def monitor(self) -> int: ...
    def replace(self, new_class: type[Actor], timeout: float | None = None) -> None: ...
    def status(self, timeout: float | None = None) -> str: ...
    def call_bytes(self, tag: int, data: bytes = b"", timeout: float | None = None) -> bytes: ...
    def send_bytes(self, tag: int, data: bytes = b"", timeout: float | None = None) -> None: ...
    def cast_bytes(self, tag: int, data: bytes = b"", timeout: float | None = None) -> None: ...

class Actor:
    @classmethod
    def start(
        cls,
        /,
        *args: Any,
        name: str | None = None,
        link: bool = False,
        monitor: bool = False,
        trap_exits: bool = False,
        mailbox: int = 0,
        mailbox_bytes: int = 0,
        policy: Policy = "park",
        timeout: float | None = None,
        **kwargs: Any,
    ) -> ActorHandle: ...
    @property
    def me(self) -> ActorHandle: ...
    def stop(self, reason: Reason = "normal") -> None: ...
    def defer(self) -> Caller | None: ...
    def set_idle(self, seconds: float | None) -> None: ...

class WrongState(AttributeError):
    state: str | None
    event: str | None

F = TypeVar("F", bound=Callable[..., Any])

class state:
    def __init__(self, *names: str) -> None: ...
    def on(self, event: str) -> Callable[[F], F]: ...
    def enter(self, function: F) -> F: ...
    def leave(self, function: F) -> F: ...

class StateMachine(Actor):
    states: tuple[str, ...]
    postponed_max: int
    @property
    def state(self) -> str: ...
    def go(self, state: str) -> None: ...
    def enter_again(self) -> None: ...
    def postpone(self) -> None: ...
    def happen(self, event: str | Callable[..., Any], /, *args: Any, **kwargs: Any) -> None: ...
    def state_timeout(
        self, seconds: float | None, event: str | Callable[..., Any] | None = None, /, *args: Any, **kwargs: Any
    ) -> None: ...
    def event_timeout(
        self, seconds: float | None, event: str | Callable[..., Any] | None = None, /, *args: Any, **kwargs: Any
    ) -> None: ...
    def named_timeout(
        self,
        name: Any,
        seconds: float | None,
        event: str | Callable[..., Any] | None = None,
        /,
        *args: Any,
        **kwargs: Any,
    ) -> None: ...
    def on_message(self, message: Any, /) -> Any: ...
    def on_change(self, old_class: Any, /) -> Any: ...
    def terminate(self, reason: Any, /) -> Any: ...
    def describe(self) -> str: ...

class PoolStatus:
    idle: int
    lent: int
    starting: int
    ending: int
    waiting: int
    started: int
    died: int
    failed: int
    discarded: int
    last_error: Any

class PoolHandle(ActorHandle):
    def worker(self, timeout: float | None = None) -> AbstractContextManager[ActorHandle]: ...
    @overload
    def call(self, handler: str, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any: ...
    @overload
    def call(self, handler: Callable[..., T], /, *args: Any, timeout: float | None = None, **kwargs: Any) -> T: ...
    def checkin(self, handle: ActorHandle) -> None: ...
    def discard(self, handle: ActorHandle) -> None: ...
    def counts(self, timeout: float | None = None) -> PoolStatus: ...

class Pool:
    def __init__(
        self,
        what: type[Actor] | Callable[..., Any],
        /,
        *args: Any,
        size: int = 1,
        overflow: int = 0,
        waiting: int = 65536,
        newest_first: bool = False,
        shutdown: float = 5,
        pause: float = 0.01,
        pause_max: float = 5,
        check: Callable[[ActorHandle], Any] | None = None,
        check_seconds: float = 10,
        mailbox: int = 0,
        mailbox_bytes: int = 0,
        policy: Policy = "park",
        **kwargs: Any,
    ) -> None: ...
    def start(
        self, name: str | None = None, link: bool = False, monitor: bool = False, timeout: float | None = None
    ) -> PoolHandle: ...
    def child(
        self,
        id: str = "pool",
        *,
        restart: Literal["permanent", "transient", "temporary"] = "permanent",
        shutdown: float | Literal["kill"] | None = None,
        name: str | None = None,
    ) -> Child: ...

class HandlerEnded:
    bus: ActorHandle
    id: str
    reason: Any

class BusHandle(ActorHandle):
    def add(
        self, id: str, what: Any, /, *args: Any, owned: bool = False, timeout: float | None = None, **kwargs: Any
    ) -> None: ...
    def remove(self, id: str, timeout: float | None = None) -> None: ...
    def notify(self, event: Any, timeout: float | None = None) -> None: ...
    def ask(self, id: str, name: str, /, *args: Any, timeout: float | None = None, **kwargs: Any) -> Any: ...
    def handlers(self, timeout: float | None = None) -> list[str]: ...

class Bus:
    REMOVE: Any
    @staticmethod
    def start(
        *,
        name: str | None = None,
        link: bool = False,
        monitor: bool = False,
        trap_exits: bool = False,
        mailbox: int = 0,
        mailbox_bytes: int = 0,
        policy: Policy = "park",
        timeout: float | None = None,
    ) -> BusHandle: ...

def spawn(
    function: Callable[..., Any],
    /,
    *args: Any,
    name: str | None = None,
    link: bool = False,
    monitor: bool = False,
    trap_exits: bool = False,
    mailbox: int = 0,
    mailbox_bytes: int = 0,
    policy: Policy = "park",
    **kwargs: Any,
) -> ActorHandle: ...
class ActorFunction(Generic[P, T]):
    def start(self, /, *args: P.args, **kwargs: P.kwargs) -> ActorHandle: ...
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> T: ...

@overload
def actor(function: Callable[P, T], /) -> ActorFunction[P, T]: ...
@overload
def actor(
    *,
    name: str | None = None,
    link: bool = False,
    monitor: bool = False,
    trap_exits: bool = False,
    mailbox: int = 0,
    mailbox_bytes: int = 0,
    policy: Policy = "park",
) -> Callable[[Callable[P, T]], ActorFunction[P, T]]: ...
def reload(module: ModuleType) -> int: ...
def me() -> ActorHandle: ...

class Pattern(Generic[T]):
    wanted: Callable[[Any], bool]
    def __init__(self, wanted: Callable[[Any], bool]) -> None: ...

@overload
def receive(wanted: type[T], timeout: float | None = None) -> T: ...
@overload
def receive(
    wanted: None | tuple[type, ...] | Callable[[Any], bool] | Pattern[Any] = None, timeout: float | None = None
) -> Any: ...
def waiting() -> int: ...
def link(actor: ActorHandle) -> None: ...
def unlink(actor: ActorHandle) -> None: ...
def monitor(actor: ActorHandle) -> int: ...
def demonitor(ref: int) -> bool: ...
def trap_exits(on: bool = True) -> bool: ...
def set_mailbox(messages: int = 0, bytes: int = 0, policy: Policy = "park") -> None: ...

class Timer:
    def cancel(self) -> bool: ...

def send_after(seconds: float, actor: ActorHandle, message: Any) -> Timer: ...
def send_every(seconds: float, actor: ActorHandle, message: Any) -> Timer: ...
def register(actor: ActorHandle, name: str) -> None: ...
def forget_name(name: str) -> bool: ...
def whereis(name: str) -> ActorHandle | None: ...
def join_topic(topic: str, actor: ActorHandle | None = None) -> None: ...
def leave_topic(topic: str, actor: ActorHandle | None = None) -> bool: ...
def members(topic: str) -> list[ActorHandle]: ...
def publish(topic: str, message: Any, timeout: float | None = None) -> int: ...
def dead_letters_to(actor: ActorHandle | None) -> None: ...
def counts() -> dict[str, int]: ...

class Child:
    what: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]
    id: str
    def __init__(
        self,
        what: type[Actor] | Callable[..., Any] | list[str] | tuple[str, ...] | Supervisor,
        /,
        *args: Any,
        id: str | None = None,
        restart: Literal["permanent", "transient", "temporary"] = "permanent",
        shutdown: float | Literal["kill"] | None = None,
        name: str | None = None,
        trap_exits: bool = False,
        mailbox: int = 0,
        mailbox_bytes: int = 0,
        policy: Policy = "park",
        **kwargs: Any,
    ) -> None: ...

class Supervisor:
    children: list[Child]
    strategy: str
    name: str | None
    def __init__(
        self,
        children: list[Any] | tuple[Any, ...] = (),
        strategy: Literal["one_for_one", "one_for_all", "rest_for_one", "simple"] = "one_for_one",
        *,
        intensity: int | None = 1,
        period: float = 5,
        backoff: float = 0,
        backoff_max: float = 30,
        name: str | None = None,
    ) -> None: ...
    def start(self, link: bool = False) -> SupervisorHandle: ...

class ChildInfo(NamedTuple):
    id: str
    actor: ActorHandle | None
    restarts: int
    is_supervisor: bool

class SupervisorHandle(ActorHandle):
    def add(self, *args: Any, timeout: float | None = None, **kwargs: Any) -> ActorHandle: ...
    def end(self, child: str | ActorHandle, timeout: float | None = None) -> None: ...
    def restart(self, id: str, timeout: float | None = None) -> ActorHandle: ...
    def remove(self, id: str, timeout: float | None = None) -> None: ...
    def children(self, timeout: float | None = None) -> list[ChildInfo]: ...
    def __getitem__(self, id: str) -> ActorHandle | None: ...
