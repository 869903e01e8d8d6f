"""How a method of both clients is written once: as a generator that yields what has to be done.

A *flow* yields effects (send a request, pause, …), is resumed with the result of each, and returns its result. It does
no input or output itself. `Client` runs the effects one after the other, `AsyncClient` awaits them; see `transports`.
"""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, Generic, ParamSpec, TypeVar, overload

if TYPE_CHECKING:
    from tfserve_client.jobs import AsyncJob, Job

P = ParamSpec("P")
T = TypeVar("T")

Headers = Mapping[str, str]


@dataclass(frozen=True)
class Request:
    """An effect: send a request. Its result is the response, with any status."""

    method: str
    path: str
    params: Mapping[str, Any] = field(default_factory=dict)
    content: bytes | Path | None = None
    """The body; a file is streamed."""
    files: tuple[tuple[str, tuple[str, bytes, str]], ...] = ()
    """The files of a form: (field, (name, content, type))."""
    headers: Headers = field(default_factory=dict)
    wait_s: float | None = 0.0
    """Seconds that the server may take in addition to the timeout of the client. None: forever."""
    limit_s: float | None = None
    """Seconds without a byte after which a streamed response fails, instead of the timeout plus `wait_s`."""
    idempotent: bool = False
    """Whether sending it twice has the same effect as once."""
    streamed: bool = False
    """Whether the body of a successful response is read by `Chunk` effects."""


@dataclass(frozen=True)
class Chunk:
    """An effect: read on in the streamed response. Its result is bytes, empty at the end."""


@dataclass(frozen=True)
class Pause:
    """An effect: wait."""

    seconds: float


@dataclass(frozen=True)
class Work:
    """An effect: run a function that blocks, such as reading a file. Its result is the result."""

    function: Callable[[], Any]


@dataclass(frozen=True)
class Emit(Generic[T]):
    """An effect of a stream: give a value to its reader."""

    value: T


Flow = Generator[Request | Chunk | Pause | Work, Any, T]
Stream = Generator[Request | Chunk | Pause | Work | Emit[T], Any, None]


class Runs:
    """Runs flows in the calling thread."""

    def _run(self, flow: Flow[T]) -> T:
        raise NotImplementedError

    def _iterate(self, stream: Stream[T]) -> Iterator[T]:
        raise NotImplementedError


class RunsAsync:
    """Runs flows in an event loop."""

    async def _run(self, flow: Flow[T]) -> T:
        raise NotImplementedError

    def _iterate(self, stream: Stream[T]) -> AsyncIterator[T]:
        raise NotImplementedError


class _Method(Generic[P, T]):
    """A descriptor. On a class it is the function, for `help` and `inspect`."""

    def __init__(self, function: Callable[Concatenate[Any, P], T]) -> None:
        self._function = function
        self.__doc__ = function.__doc__

    def _bound(self, instance: Any, run: Callable[[Any], Any]) -> Any:
        if instance is None:
            return self._function

        @functools.wraps(self._function)
        def method(*arguments: P.args, **named: P.kwargs) -> Any:
            return run(self._function(instance, *arguments, **named))

        return method


class operation(_Method[P, Flow[T]]):  # noqa: N801 (a decorator)
    """Makes a method of a flow: it returns the result, or with `AsyncClient` a coroutine of the result."""

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Flow[T]]: ...
    @overload
    def __get__(self, instance: Runs, owner: type) -> Callable[P, T]: ...
    @overload
    def __get__(self, instance: RunsAsync, owner: type) -> Callable[P, Coroutine[Any, Any, T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self._bound(instance, lambda flow: instance._run(flow))


class submission(_Method[P, Flow[Any]]):  # noqa: N801
    """Makes a method of a flow that submits a job: it returns a `Job`, or a coroutine of an `AsyncJob`."""

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Flow[Any]]: ...
    @overload
    def __get__(self, instance: Runs, owner: type) -> Callable[P, Job]: ...
    @overload
    def __get__(self, instance: RunsAsync, owner: type) -> Callable[P, Coroutine[Any, Any, AsyncJob]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self._bound(instance, lambda flow: instance._run(flow))


class stream(_Method[P, Stream[T]]):  # noqa: N801
    """Makes a method of a stream: it returns an iterator, or an asynchronous iterator."""

    @overload
    def __get__(self, instance: None, owner: type) -> Callable[Concatenate[Any, P], Stream[T]]: ...
    @overload
    def __get__(self, instance: Runs, owner: type) -> Callable[P, Iterator[T]]: ...
    @overload
    def __get__(self, instance: RunsAsync, owner: type) -> Callable[P, AsyncIterator[T]]: ...
    def __get__(self, instance: Any, owner: type) -> Any:
        return self._bound(instance, lambda flow: instance._iterate(flow))
